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
    "Box": "annotations",
    "BoxEvaluation": "box_evaluation",
    "BoxSet": "annotations",
    "Candidate": "sources",
    "Classifier": "classifier",
    "Cleaning": "cleaning",
    "Closer": "quadrants",
    "Counts": "results",
    "Detected": "detecting",
    "Detection": "detecting",
    "Detections": "detecting",
    "EmbeddingCache": "cache",
    "Evaluation": "evaluation",
    "ExportedModel": "exporting",
    "Extraction": "extraction",
    "FakeSource": "sources",
    "Finding": "checks",
    "Gathered": "funnel",
    "Heatmap": "heatmaps",
    "InvalidArgument": "errors",
    "InvalidModel": "errors",
    "Looking": "heatmaps",
    "Material": "checks",
    "NotFound": "errors",
    "NothingGathered": "errors",
    "OutputError": "errors",
    "Page": "sources",
    "Part": "results",
    "Prediction": "results",
    "Prelabels": "prelabelling",
    "Promise": "promise",
    "Query": "sources",
    "Recognition": "recognition",
    "Recognitions": "recognition",
    "Results": "results",
    "Sense": "vocabulary",
    "Sharded": "parallel",
    "Source": "sources",
    "SourceUnavailable": "errors",
    "Tuning": "tuning",
    "UnknownWord": "errors",
    "UnreadableImage": "errors",
    "UnreadableVideo": "errors",
    "Video": "video_record",
    "Windows": "detecting",
    "WordsightError": "errors",
    "app": "page_server",
    "clean": "cleaning",
    "clean_dataset": "parallel",
    "convert": "conversion",
    "detect": "detecting",
    "draw_network": "drawing",
    "embed_dataset": "parallel",
    "evaluate": "evaluation",
    "evaluate_boxes": "box_evaluation",
    "export": "exporting",
    "extract": "extraction",
    "gather": "gathering",
    "heatmap": "looking",
    "list_backbones": "backbones",
    "list_checks": "checks",
    "list_heatmap_methods": "gradients",
    "list_models": "training",
    "list_sources": "sources",
    "load": "classifier",
    "load_backbone": "backbones",
    "predict_dataset": "parallel",
    "prelabel": "prelabelling",
    "read_boxes": "annotations",
    "read_labels": "annotations",
    "recognize": "recognition",
    "register_check": "checks",
    "register_format": "formats",
    "register_heatmap_method": "gradients",
    "register_source": "sources",
    "resolve": "vocabulary",
    "run": "routes",
    "senses": "vocabulary",
    "split": "splitting",
    "train": "training",
    "undo": "cleaning",
    "video": "videos",
}

__all__ = [
    "BackboneUnavailable",
    "Box",
    "BoxEvaluation",
    "BoxSet",
    "Candidate",
    "Classifier",
    "Cleaning",
    "Closer",
    "Counts",
    "Detected",
    "Detection",
    "Detections",
    "EmbeddingCache",
    "Evaluation",
    "ExportedModel",
    "Extraction",
    "FakeSource",
    "Finding",
    "Gathered",
    "Heatmap",
    "InvalidArgument",
    "InvalidModel",
    "Looking",
    "Material",
    "NotFound",
    "NothingGathered",
    "OutputError",
    "Page",
    "Part",
    "Prediction",
    "Prelabels",
    "Promise",
    "Query",
    "Recognition",
    "Recognitions",
    "Results",
    "Sense",
    "Sharded",
    "Source",
    "SourceUnavailable",
    "Tuning",
    "UnknownWord",
    "UnreadableImage",
    "UnreadableVideo",
    "Video",
    "Windows",
    "WordsightError",
    "__version__",
    "app",
    "clean",
    "clean_dataset",
    "convert",
    "detect",
    "draw_network",
    "embed_dataset",
    "evaluate",
    "evaluate_boxes",
    "export",
    "extract",
    "gather",
    "heatmap",
    "list_backbones",
    "list_checks",
    "list_heatmap_methods",
    "list_models",
    "list_sources",
    "load",
    "load_backbone",
    "predict_dataset",
    "prelabel",
    "read_boxes",
    "read_labels",
    "recognize",
    "register_check",
    "register_format",
    "register_heatmap_method",
    "register_source",
    "resolve",
    "run",
    "senses",
    "split",
    "train",
    "undo",
    "video",
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
    from .annotations import Box, BoxSet, read_boxes, read_labels
    from .backbones import list_backbones, load_backbone
    from .box_evaluation import BoxEvaluation, evaluate_boxes
    from .cache import EmbeddingCache
    from .checks import Finding, Material, list_checks, register_check
    from .classifier import Classifier, load
    from .cleaning import Cleaning, clean, undo
    from .conversion import convert
    from .detecting import Detected, Detection, Detections, Windows, detect
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
        UnreadableVideo,
        WordsightError,
    )
    from .evaluation import Evaluation, evaluate
    from .exporting import ExportedModel, export
    from .extraction import Extraction, extract
    from .formats import register_format
    from .funnel import Gathered
    from .gathering import gather
    from .gradients import list_heatmap_methods, register_heatmap_method
    from .heatmaps import Heatmap, Looking
    from .looking import heatmap
    from .page_server import app
    from .parallel import Sharded, clean_dataset, embed_dataset, predict_dataset
    from .prelabelling import Prelabels, prelabel
    from .promise import Promise
    from .quadrants import Closer
    from .recognition import Recognition, Recognitions, recognize
    from .results import Counts, Part, Prediction, Results
    from .routes import run
    from .sources import Candidate, FakeSource, Page, Query, Source, list_sources, register_source
    from .splitting import split
    from .training import list_models, train
    from .tuning import Tuning
    from .video_record import Video
    from .videos import video
    from .vocabulary import Sense, resolve, senses
