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
    "Box": "datasets.annotations",
    "BoxEvaluation": "evaluation.boxes",
    "BoxSet": "datasets.annotations",
    "Candidate": "gathering.sources",
    "Classifier": "classification.classifier",
    "Cleaning": "cleaning.cleaner",
    "Closer": "heatmaps.grid",
    "Counts": "classification.predictions",
    "Detected": "detection.detector",
    "Detection": "detection.detector",
    "Detections": "detection.detector",
    "EmbeddingCache": "backbones.cache",
    "Evaluation": "evaluation.classification",
    "ExportedModel": "exports.model",
    "Extraction": "videos.frames",
    "FakeSource": "gathering.sources",
    "Finding": "cleaning.checks",
    "Gathered": "gathering.funnel",
    "Heatmap": "heatmaps.heatmap",
    "InvalidArgument": "errors",
    "InvalidModel": "errors",
    "Looking": "heatmaps.heatmap",
    "Material": "cleaning.checks",
    "NotFound": "errors",
    "NothingGathered": "errors",
    "OutputError": "errors",
    "Page": "gathering.sources",
    "Part": "classification.predictions",
    "Prediction": "classification.predictions",
    "Prelabels": "exports.labels",
    "Promise": "heads.guarantee",
    "Query": "gathering.sources",
    "Recognition": "recognition.photos",
    "Recognitions": "recognition.photos",
    "Results": "classification.predictions",
    "Sense": "words.vocabulary",
    "Sharded": "distributed.ray",
    "Source": "gathering.sources",
    "SourceUnavailable": "errors",
    "Tuning": "training.settings",
    "UnknownWord": "errors",
    "UnreadableImage": "errors",
    "UnreadableVideo": "errors",
    "Video": "videos.recorder",
    "Windows": "detection.detector",
    "WordsightError": "errors",
    "app": "webapp.server",
    "clean": "cleaning.cleaner",
    "clean_dataset": "distributed.ray",
    "convert": "datasets.conversion",
    "detect": "detection.detector",
    "draw_network": "training.network_summary",
    "embed_dataset": "distributed.ray",
    "evaluate": "evaluation.classification",
    "evaluate_boxes": "evaluation.boxes",
    "export": "exports.model",
    "extract": "videos.frames",
    "gather": "gathering.collector",
    "heatmap": "recognition.class_heatmap",
    "list_backbones": "backbones.registry",
    "list_checks": "cleaning.checks",
    "list_heatmap_methods": "heatmaps.gradients",
    "list_models": "training.recipes",
    "list_sources": "gathering.sources",
    "load": "classification.classifier",
    "load_backbone": "backbones.registry",
    "predict_dataset": "distributed.ray",
    "prelabel": "exports.labels",
    "read_boxes": "datasets.annotations",
    "read_labels": "datasets.annotations",
    "recognize": "recognition.photos",
    "register_check": "cleaning.checks",
    "register_format": "datasets.formats",
    "register_heatmap_method": "heatmaps.gradients",
    "register_source": "gathering.sources",
    "resolve": "words.vocabulary",
    "run": "pipeline",
    "senses": "words.vocabulary",
    "split": "cleaning.splitting",
    "train": "training.recipes",
    "undo": "cleaning.cleaner",
    "video": "videos.labelling",
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
    from .backbones.cache import EmbeddingCache
    from .backbones.registry import list_backbones, load_backbone
    from .classification.classifier import Classifier, load
    from .classification.predictions import Counts, Part, Prediction, Results
    from .cleaning.checks import Finding, Material, list_checks, register_check
    from .cleaning.cleaner import Cleaning, clean, undo
    from .cleaning.splitting import split
    from .datasets.annotations import Box, BoxSet, read_boxes, read_labels
    from .datasets.conversion import convert
    from .datasets.formats import register_format
    from .detection.detector import Detected, Detection, Detections, Windows, detect
    from .distributed.ray import Sharded, clean_dataset, embed_dataset, predict_dataset
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
    from .evaluation.boxes import BoxEvaluation, evaluate_boxes
    from .evaluation.classification import Evaluation, evaluate
    from .exports.labels import Prelabels, prelabel
    from .exports.model import ExportedModel, export
    from .gathering.collector import gather
    from .gathering.funnel import Gathered
    from .gathering.sources import (
        Candidate,
        FakeSource,
        Page,
        Query,
        Source,
        list_sources,
        register_source,
    )
    from .heads.guarantee import Promise
    from .heatmaps.gradients import list_heatmap_methods, register_heatmap_method
    from .heatmaps.grid import Closer
    from .heatmaps.heatmap import Heatmap, Looking
    from .pipeline import run
    from .recognition.class_heatmap import heatmap
    from .recognition.photos import Recognition, Recognitions, recognize
    from .training.network_summary import draw_network
    from .training.recipes import list_models, train
    from .training.settings import Tuning
    from .videos.frames import Extraction, extract
    from .videos.labelling import video
    from .videos.recorder import Video
    from .webapp.server import app
    from .words.vocabulary import Sense, resolve, senses
