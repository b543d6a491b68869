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
    "Candidate": "sources",
    "Classifier": "classifier",
    "Cleaning": "cleaning",
    "Counts": "results",
    "EmbeddingCache": "cache",
    "Evaluation": "evaluation",
    "FakeSource": "sources",
    "Finding": "checks",
    "Gathered": "funnel",
    "InvalidArgument": "errors",
    "InvalidModel": "errors",
    "NotFound": "errors",
    "NothingGathered": "errors",
    "OutputError": "errors",
    "Page": "sources",
    "Prediction": "results",
    "Promise": "promise",
    "Query": "sources",
    "Results": "results",
    "Sense": "vocabulary",
    "Source": "sources",
    "SourceUnavailable": "errors",
    "Tuning": "tuning",
    "UnknownWord": "errors",
    "UnreadableImage": "errors",
    "WordsightError": "errors",
    "clean": "cleaning",
    "convert": "conversion",
    "draw_network": "drawing",
    "evaluate": "evaluation",
    "gather": "gathering",
    "list_backbones": "backbones",
    "list_checks": "checks",
    "list_models": "training",
    "list_sources": "sources",
    "load": "classifier",
    "load_backbone": "backbones",
    "read_boxes": "annotations",
    "register_source": "sources",
    "resolve": "vocabulary",
    "run": "routes",
    "senses": "vocabulary",
    "split": "splitting",
    "train": "training",
    "undo": "cleaning",
}

__all__ = [
    "BackboneUnavailable",
    "Candidate",
    "Classifier",
    "Cleaning",
    "Counts",
    "EmbeddingCache",
    "Evaluation",
    "FakeSource",
    "Finding",
    "Gathered",
    "InvalidArgument",
    "InvalidModel",
    "NotFound",
    "NothingGathered",
    "OutputError",
    "Page",
    "Prediction",
    "Promise",
    "Query",
    "Results",
    "Sense",
    "Source",
    "SourceUnavailable",
    "Tuning",
    "UnknownWord",
    "UnreadableImage",
    "WordsightError",
    "__version__",
    "clean",
    "convert",
    "draw_network",
    "evaluate",
    "gather",
    "list_backbones",
    "list_checks",
    "list_models",
    "list_sources",
    "load",
    "load_backbone",
    "read_boxes",
    "register_source",
    "resolve",
    "run",
    "senses",
    "split",
    "train",
    "undo",
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
    from .annotations import read_boxes
    from .backbones import list_backbones, load_backbone
    from .cache import EmbeddingCache
    from .checks import Finding, list_checks
    from .classifier import Classifier, load
    from .cleaning import Cleaning, clean, undo
    from .conversion import convert
    from .drawing import draw_network
    from .errors import (
        BackboneUnavailable,
        InvalidArgument,
        InvalidModel,
        NotFound,
        NothingGathered,
        OutputError,
        SourceUnavailable,
        UnknownWord,
        UnreadableImage,
        WordsightError,
    )
    from .evaluation import Evaluation, evaluate
    from .funnel import Gathered
    from .gathering import gather
    from .promise import Promise
    from .results import Counts, Prediction, Results
    from .routes import run
    from .sources import Candidate, FakeSource, Page, Query, Source, list_sources, register_source
    from .splitting import split
    from .training import list_models, train
    from .tuning import Tuning
    from .vocabulary import Sense, resolve, senses
