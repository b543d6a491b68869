"""GPUs, as far as a machine without one can show it: torch is told that there is one."""

from __future__ import annotations

import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from wordsight.backbones import devices, runtime
from wordsight.backbones.embedder import Embedder
from wordsight.backbones.networks.timm_models import untrained_module
from wordsight.backbones.registry import keep_module
from wordsight.errors import InvalidArgument
from wordsight.training import lightning_loop
from wordsight.training.settings import TrainingSettings


@pytest.fixture
def gpu(monkeypatch):
    """Two GPUs like a T4: no bf16 of their own, no TF32."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    return monkeypatch


@pytest.fixture
def backbone():
    module, preprocessing = untrained_module("small_resnet", 3)
    return keep_module(module.eval(), "small_resnet", preprocessing)


def test_each_process_of_torchrun_has_its_own_gpu(gpu):
    assert devices.torch_device() == "cuda"
    for rank, device in (("0", "cuda:0"), ("1", "cuda:1"), ("2", "cuda:0")):
        gpu.setenv("LOCAL_RANK", rank)
        assert devices.torch_device() == device


def test_bf16_that_is_imitated_is_not_used(gpu):
    assert not devices.has_bf16()
    gpu.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert devices.has_bf16()


def test_embeddings_of_another_precision_are_never_mixed(gpu, backbone):
    keys = [Embedder(backbone).key]
    for capability in ((7, 5), (8, 0)):
        gpu.setattr(torch.cuda, "get_device_capability", lambda *_, c=capability: c)
        for dtype in ("f32", "bf16"):
            keys.append(devices.numerics("torch", dtype))
    gpu.setattr(torch.cuda, "is_available", lambda: False)
    keys += [devices.numerics("torch", "f32"), devices.numerics("openvino", "bf16")]
    assert len(set(keys)) == len(keys)
    assert devices.numerics("openvino", "f32") == ""


@pytest.mark.parametrize(("bf16", "ranks"), [(False, 1), (True, 1), (True, 2)])
def test_one_gpu_without_torchrun_and_bf16_where_it_is_real(gpu, tmp_path, bf16, ranks):
    asked = {}
    gpu.setattr(lightning_loop, "has_bf16", lambda: bf16)
    gpu.setattr(lightning_loop.lightning, "Trainer", lambda **options: asked.update(options))
    gpu.setenv("WORLD_SIZE", str(ranks))
    gpu.setenv("LOCAL_WORLD_SIZE", str(ranks))
    job = types.SimpleNamespace(
        tuning=TrainingSettings(epochs=1), dtype="f32", folder=tmp_path, key="k", build=None
    )
    lightning_loop._trainer(job, [])
    assert asked["devices"] == ranks
    assert asked["precision"] == ("bf16-mixed" if bf16 else "32-true")
    assert asked["deterministic"] == "warn"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "Try --batch-size 8,"),
        (RuntimeError("MPS backend out of memory (MPS allocated"), "Try --batch-size 8,"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Try --batch-size 8,"),
    ],
)
def test_training_without_memory_is_one_sentence(monkeypatch, error, said):
    def fit(job):
        raise error

    monkeypatch.setattr(lightning_loop, "_fit", fit)
    job = types.SimpleNamespace(tuning=TrainingSettings(batch_size=16))
    with pytest.raises(InvalidArgument, match=said):
        lightning_loop.fit(job)
    error.args = ("a fault of ours",)
    if type(error) is RuntimeError:
        with pytest.raises(RuntimeError, match="a fault of ours"):
            lightning_loop.fit(job)


@pytest.mark.parametrize(
    ("free", "platform", "workers"),
    [(64 << 20, "linux", 2), (8 << 30, "linux", 8), (1 << 20, "linux", 0), (8 << 30, "win32", 0)],
)
def test_workers_fit_into_shared_memory(gpu, free, platform, workers):
    gpu.setattr(devices.sys, "platform", platform)
    gpu.setattr(devices.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
    assert devices.loader_workers(8, 32 * 320 * 320 * 3) == workers


def encode_all(engine, count=12):
    pixels = np.zeros((32, 32, 3), np.uint8)
    with ThreadPoolExecutor(count) as threads:
        answers = [threads.submit(engine.encode, pixels) for _ in range(count)]
        return [answer.exception(20) or answer.result() for answer in answers]


def test_batches_are_halved_until_they_fit(backbone, monkeypatch):
    engine = runtime.TorchRuntime(backbone, device="cpu")
    whole = engine._module

    def short_of_memory(pixels):
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(pixels)

    monkeypatch.setattr(engine, "_module", short_of_memory)
    assert all(answer.embedding.ndim == 1 for answer in encode_all(engine))
    monkeypatch.setattr(engine, "_module", lambda _: short_of_memory(range(3)))
    answers = encode_all(engine)
    assert all(isinstance(answer, InvalidArgument) for answer in answers)
    assert "too little free memory for one picture" in str(answers[0])


def test_an_error_in_the_engine_reaches_every_caller(backbone, monkeypatch):
    engine = runtime.TorchRuntime(backbone, device="cpu")
    whole = engine._module

    def broken(pixels):
        raise ValueError("a fault in the driver")

    monkeypatch.setattr(engine, "_module", broken)
    assert all(isinstance(answer, ValueError) for answer in encode_all(engine))
    monkeypatch.setattr(engine, "_module", lambda pixels: (whole(pixels)[0][:1],))
    answers = encode_all(engine)  # the embeddings of all but the first are missing
    assert any(isinstance(answer, IndexError) for answer in answers)
    monkeypatch.setattr(engine, "_module", whole)
    assert all(answer.embedding.ndim == 1 for answer in encode_all(engine))


def test_an_engine_that_ended_leaves_no_caller_waiting(backbone, monkeypatch):
    engine = runtime.TorchRuntime(backbone, device="cpu")

    def ends(_):
        raise SystemExit("the thread was ended")

    monkeypatch.setattr(engine, "_module", ends)
    for _ in range(2):  # the second time the thread is gone
        answers = encode_all(engine, 3)
        assert all(isinstance(answer, SystemExit) for answer in answers)
