"""wordsight's torch engine and fine-tuning, and plain loops beside them.   python
torch_speed.py MODEL PHOTOS TRAIN TUNED
"""

import csv
import sys
import time
from pathlib import Path

import torch
import turns

import wordsight
from wordsight.backbones.cache import EmbeddingCache
from wordsight.backbones.devices import torch_device
from wordsight.backbones.embedder import input_pixels, read
from wordsight.backbones.networks.timm_models import build_module, untrained_module
from wordsight.backbones.torch_engine import GPU_CALLERS, TorchRuntime
from wordsight.core.threads import cores, parallel_map
from wordsight.datasets.files import find_images
from wordsight.images.decoding import decode

model_path, photos, train, tuned = sys.argv[1:]
device, batch = torch_device(), 64
model, files = wordsight.load(model_path), find_images([photos]).images
preprocessing = model.backbone.preprocessing
repeats = 20 if device != "cpu" else 1


def rate(count: int, job) -> float:
    """Return how many a second, after one time to warm up."""
    job()
    start = time.perf_counter()
    job()
    return count / (time.perf_counter() - start)


def wait() -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def memory() -> float:
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return peak


def plain(dtype: str) -> float:
    """A loop over one batch that is on the device already."""
    module = build_module(model.backbone).to(device, memory_format=torch.channels_last)
    given = torch.rand(batch, 3, 320, 320, device=device).contiguous(
        memory_format=torch.channels_last
    )

    def job() -> None:
        with (
            torch.inference_mode(),
            torch.autocast(device, torch.bfloat16, enabled=dtype == "bf16"),
        ):
            for _ in range(repeats):
                module(given)
        wait()

    return rate(batch * repeats, job)


def plain_training() -> float:
    """Steps of AdamW on one batch that is on the device already."""
    module = (
        untrained_module("tf_efficientnet_lite0", 2, 320)[0]
        .to(device, memory_format=torch.channels_last)
        .train()
    )
    given, truth = (
        torch.rand(batch, 3, 320, 320, device=device).contiguous(memory_format=torch.channels_last),
        torch.zeros(batch, dtype=torch.long, device=device),
    )
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)

    def job() -> None:
        for _ in range(repeats):
            with torch.autocast(device, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(module(given), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        wait()

    return rate(batch * repeats, job)


def from_files() -> None:
    cache = EmbeddingCache()
    cache.clear()
    cache.close()
    wordsight.load(sys.argv[1], engine="torch", dtype="bf16").predict(photos)


images = [input_pixels(decode(read(file)[0]), preprocessing) for file in files]
found = {
    "decode": rate(
        len(files),
        lambda: list(
            parallel_map(
                lambda file: input_pixels(decode(read(file)[0]), preprocessing), files, cores()
            )
        ),
    )
}
for dtype in ("f32", "bf16"):
    runtime = TorchRuntime(model.backbone, dtype)
    found[f"ours_{dtype}"] = rate(
        len(files),
        lambda runtime=runtime: list(
            parallel_map(lambda pixels: runtime.encode(pixels, True), images, GPU_CALLERS)
        ),
    )
found["memory_embedding"] = memory()
for dtype in ("f32", "bf16"):
    found[f"timm_{dtype}"] = plain(dtype)
found["files"] = rate(len(files), from_files)
found["timm_train"] = plain_training()
memory()
wordsight.train(train, tuned, recipe="finetune", settings=wordsight.TrainingSettings(epochs=2))
found["memory_training"] = memory()
with open(Path(tuned) / "history.csv", encoding="utf-8-sig") as history:
    epochs = [row for row in csv.DictReader(history) if row.get("seconds")]
learned = len(find_images([train]).images)
found["finetune"] = learned / float(epochs[-1]["seconds"])
turns.report(**found)
