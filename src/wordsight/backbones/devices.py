"""Whether torch is there, what it can compute on here, and how. Whoever asks for torch or a GPU
asks this module, so a test can put another machine in its place.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable

from ..errors import InvalidArgument

EXTRA = "pip install 'wordsight[train]'"


def has_torch(*also: str) -> bool:
    """Whether torch, torchvision, timm and the packages in `also` are installed."""
    return not _missing(also)


def need_torch(what: str, *also: str, extra: str = "train", instead: str = "") -> None:
    """Refuse something that needs torch, torchvision and timm where they are not installed.

    Args:
        what: what needs them, as the subject of a sentence.
        also: packages that it needs, too.
        extra: the extras that bring them all.
        instead: what to do without them, as the end of the sentence.

    Raises:
        InvalidArgument: if one of the packages is missing.
    """
    missing = _missing(also)
    if missing:
        raise InvalidArgument(
            f"{what} needs {' and '.join(missing)}, not installed here: pip install "
            f"'wordsight[{extra}]'{instead}."
        )


def _missing(also: tuple[str, ...]) -> list[str]:
    return [
        name
        for name in ("torch", "torchvision", "timm", *also)
        if importlib.util.find_spec(name) is None
    ]


def gpu_likely() -> bool:
    """Guess whether there may be a GPU, without importing torch, which takes seconds."""
    return (
        os.path.exists("/dev/nvidia0")
        or shutil.which("nvidia-smi") is not None
        or sys.platform == "darwin"
    )


def torch_device() -> str:
    """Return "cuda", "mps" or "cpu": the best that torch has here. The processes that torchrun
    starts get a GPU each, such as "cuda:1".
    """
    import torch

    if torch.cuda.is_available():
        # without it cuBLAS adds up in an order of its own; it is read when cuBLAS starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        rank = os.environ.get("LOCAL_RANK")
        return "cuda" if rank is None else f"cuda:{int(rank) % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_bf16() -> bool:
    """Whether the GPU computes in bf16 itself; older ones (T4, V100) only imitate it, slowly."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bf16() -> bool:
    """Whether the processor computes in bf16 itself (AVX-512 BF16, AMX), as far as torch says."""
    import torch

    ask: Callable[[], dict] = getattr(torch.cpu, "get_capabilities", dict)  # not in torch 2.6
    told = ask()
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def numerics(engine: str, dtype: str) -> str:
    """Return a name of all that decides an embedding's digits besides network and pixels; "" for
    f32 in OpenVINO.

    On a GPU, f32 is not always f32: convolutions may round their inputs to 10 bits (TF32).
    """
    rounding = "" if dtype == "f32" else f"-{dtype}"
    if engine != "torch":
        return rounding
    import torch

    device = torch_device().partition(":")[0]
    tf32 = (
        device == "cuda"
        and torch.backends.cudnn.allow_tf32
        and torch.cuda.get_device_capability()[0] >= 8
    )
    return f"-torch-{device}{'-tf32' if tf32 else ''}{rounding}"


def out_of_memory(error: BaseException) -> bool:
    """Whether torch raised this because memory ran out, on whatever device."""
    text = str(error)
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def loader_workers(most: int, batch_bytes: int) -> int:
    """Return how many processes may prepare batches for a GPU: none without one, or where they
    can't be forked, and no more than shared memory has room for.

    Batches travel through /dev/shm, which has 64 MB in most containers; each process keeps two
    ready and one under way. Processes that are spawned (Windows, macOS) would each get a copy of
    all images in memory.
    """
    import torch

    if not torch.cuda.is_available() or sys.platform != "linux":
        return 0
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return 0
    return min(most, free // (3 * max(batch_bytes, 1)))
