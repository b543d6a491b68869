"""wordsight taken apart: what each part of predict costs on one core, what all cores can do, and
what the whole does.

python parts.py MODEL PHOTOS SIZES.json       SIZES: FLOPs of the network by "height x width"
"""

import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import turns
from threadpoolctl import threadpool_limits

import wordsight
from wordsight.backbones import embedder as embedding
from wordsight.backbones.cache import EmbeddingCache
from wordsight.backbones.embedder import Embedder, input_pixels, read
from wordsight.backbones.encoding import Encoding
from wordsight.backbones.openvino_engine import convert, import_openvino
from wordsight.backbones.runtime import callers
from wordsight.classification import classifier
from wordsight.classification.photos import Run
from wordsight.core.threads import cores, parallel_map
from wordsight.datasets.files import RESULT_FOLDERS, find_images
from wordsight.datasets.work import find_photos
from wordsight.images.decoding import decode

model, photos = wordsight.load(sys.argv[1]), sys.argv[2]
files = find_images([photos]).images
preprocessing = model.backbone.preprocessing
ov = import_openvino()


class OneCore:
    """The network on one core, in the type that the model computes in here."""

    def __init__(self) -> None:
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": "1",
        }
        self.request = (
            ov.Core()
            .compile_model(convert(model.backbone, model.embedder.dtype), "CPU", options)
            .create_infer_request()
        )

    def encode(self, pixels, feature_map=False):
        self.request.infer({0: pixels[None]})
        return Encoding(
            *(self.request.get_output_tensor(i).data[0].astype(np.float32) for i in (0, 1))
        )


def peak_flops(threads: int) -> float:
    """Return the FLOP/s of a float32 matrix product on that many threads, the best of several."""
    side = 2048
    a, b = (np.random.default_rng(i).random((side, side), dtype=np.float32) for i in (0, 1))
    best = float("inf")
    with threadpool_limits(threads, user_api="blas"):
        for _ in range(6):
            start = time.perf_counter()
            a @ b
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def on_one_core() -> dict[str, float]:
    """Return core-ms a photo of each part, by doing all of predict's work in one thread;
    `other` is what no part covers.
    """
    spent: dict[str, float] = {}
    depth = [0.0]

    def timed(name, function):
        def call(*arguments, **named):
            outer, depth[0] = depth[0], 0.0
            start = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                took = time.thread_time() - start
                spent[name] = spent.get(name, 0.0) + took - depth[0]
                depth[0] = outer + took

        return call

    places = [
        (embedding, "read", "read and hash"),
        (embedding, "decode", "decode"),
        (classifier, "look", "heat map values"),
        (classifier, "heatmap_box", "box"),
    ]
    embedder, one = model.embedder, OneCore()
    cache = embedder.cache
    cache.clear()
    run, pixels = timed("inference", one.encode), timed("resize", input_pixels)
    folder = Path(tempfile.mkdtemp())
    work = Run(model, 0.99, photos=find_photos(photos, folder / "out", RESULT_FOLDERS), draw=True)
    places += [
        (cache, "get", "cache"),
        (cache, "put", "cache"),
        (model, "decide", "decide"),
        (work.writer, "draw", "overlay, mask, link"),
        (work.writer, "add", "tables"),
        (work.report, "keep", "report"),
    ]
    kept = [(place, name, getattr(place, name)) for place, name, _ in places]
    try:
        for place, name, part in places:
            setattr(place, name, timed(part, getattr(place, name)))
        embedder.encode = lambda photo, feature_map=False: run(
            pixels(photo, preprocessing), feature_map
        )
        with threadpool_limits(1, user_api="blas"):
            for file in files[:40]:
                work.predict(file)
            cache.clear()
            spent.clear()
            start = time.thread_time()
            for file in files:
                work.add(work.predict(file))
            whole = time.thread_time() - start
    finally:
        for place, name, function in kept:
            setattr(place, name, function)
        del embedder.encode
        work.close()
        shutil.rmtree(folder)
    spent["other"] = whole - sum(spent.values())
    return {name: 1000 * seconds / len(files) for name, seconds in spent.items()}


def alone(function, items, threads) -> float:
    """Return items a second with threads calling a function."""
    start = time.perf_counter()
    for _ in parallel_map(function, items, threads):
        pass
    return len(items) / (time.perf_counter() - start)


def whole() -> dict[str, float]:
    """Return what predict does with nothing cached: photos a second, and the share of the
    cores' time it used.
    """
    cache = EmbeddingCache()
    cache.clear()
    cache.close()
    folder = tempfile.mkdtemp()
    wall, used = time.perf_counter(), time.process_time()
    model.predict(photos, output=folder)
    wall, used = time.perf_counter() - wall, time.process_time() - used
    shutil.rmtree(folder)
    return {"rate": len(files) / wall, "busy": used / wall / cores(), "wall": wall}


given = [input_pixels(decode(read(file)[0]), preprocessing) for file in files]
flops_by_size = json.loads(Path(sys.argv[3]).read_text()) if Path(sys.argv[3]).exists() else None
if flops_by_size is None:  # asked for first: which sizes there are
    sizes: dict[str, int] = {}
    for pixels in given:
        name = f"{pixels.shape[0]}x{pixels.shape[1]}"
        sizes[name] = sizes.get(name, 0) + 1
    turns.report(sizes=sizes)
    sys.exit()
flops = sum(flops_by_size[f"{pixels.shape[0]}x{pixels.shape[1]}"] for pixels in given) / len(given)
runtime = Embedder(model.backbone).runtime
rounds = []
whole()
for _ in range(5):
    own = threading.local()
    rounds.append(
        {
            "peak_one": peak_flops(1),
            "peak_all": peak_flops(cores()),
            "network": alone(
                lambda pixels: runtime.encode(pixels, True), given, callers("openvino")
            ),
            "decode": alone(
                lambda file: input_pixels(decode(read(file)[0]), preprocessing), files, cores()
            ),
            "parts": on_one_core(),
            **whole(),
        }
    )
middle = {
    name: statistics.median(found[name] for found in rounds)
    for name in rounds[0]
    if name != "parts"
}
parts = {
    name: statistics.median(found["parts"][name] for found in rounds) for name in rounds[0]["parts"]
}
shares = [found["rate"] * sum(found["parts"].values()) / 1000 / cores() for found in rounds]
turns.report(
    **middle, parts=parts, flops=flops, shares=shares, cores=cores(), dtype=model.embedder.dtype
)
