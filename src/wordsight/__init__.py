"""wordsight: words in, sight out.

Type what you want to recognise, point at a folder of photos, and see what each shows and where.
Importing this package loads neither torch nor OpenVINO; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "BackboneUnavailable": "errors",
    "Classifier": "classifier",
    "Counts": "results",
    "EmbeddingCache": "cache",
    "InvalidArgument": "errors",
    "InvalidModel": "errors",
    "NotFound": "errors",
    "OutputError": "errors",
    "Prediction": "results",
    "Results": "results",
    "Sense": "vocabulary",
    "UnknownWord": "errors",
    "UnreadableImage": "errors",
    "WordsightError": "errors",
    "list_backbones": "backbones",
    "list_models": "training",
    "load": "classifier",
    "load_backbone": "backbones",
    "resolve": "vocabulary",
    "run": "routes",
    "senses": "vocabulary",
    "train": "training",
}

__all__ = [
    "BackboneUnavailable",
    "Classifier",
    "Counts",
    "EmbeddingCache",
    "InvalidArgument",
    "InvalidModel",
    "NotFound",
    "OutputError",
    "Prediction",
    "Results",
    "Sense",
    "UnknownWord",
    "UnreadableImage",
    "WordsightError",
    "__version__",
    "list_backbones",
    "list_models",
    "load",
    "load_backbone",
    "resolve",
    "run",
    "senses",
    "train",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'wordsight' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from .backbones import list_backbones, load_backbone
    from .cache import EmbeddingCache
    from .classifier import Classifier, load
    from .errors import (
        BackboneUnavailable,
        InvalidArgument,
        InvalidModel,
        NotFound,
        OutputError,
        UnknownWord,
        UnreadableImage,
        WordsightError,
    )
    from .results import Counts, Prediction, Results
    from .routes import run
    from .training import list_models, train
    from .vocabulary import Sense, resolve, senses
