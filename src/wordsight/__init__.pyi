"""The public names, the only list of them: `__init__.py` reads it."""

from . import (
    backbones as backbones,
    cleaning as cleaning,
    datasets as datasets,
    distributed as distributed,
    errors as errors,
    evaluation as evaluation,
    gathering as gathering,
    heatmaps as heatmaps,
    retrieval as retrieval,
    teaching as teaching,
    towers as towers,
    traps as traps,
    videos as videos,
    words as words,
)
from .backbones.registry import list_backbones as list_backbones
from .classification.classifier import Classifier as Classifier, load as load
from .classification.photos import predict as predict
from .classification.predictions import Prediction as Prediction
from .classification.results import Results as Results
from .cleaning.cleaner import Cleaning as Cleaning, clean as clean
from .cleaning.splitting import split as split
from .detection.detections import Detection as Detection, Detections as Detections
from .detection.detector import WindowSettings as WindowSettings, detect as detect
from .errors import WordsightError as WordsightError
from .evaluation.classification import evaluate as evaluate
from .evaluation.results import Evaluation as Evaluation
from .exports.labels import prelabel as prelabel
from .exports.model import export as export
from .exports.photos.sorting import sort as sort
from .gathering.collector import gather as gather
from .heatmaps.heatmap import HeatmapSettings as HeatmapSettings
from .pipeline import run as run
from .recognition.class_heatmap import heatmap as heatmap
from .recognition.photos import recognize as recognize
from .retrieval.search import find as find
from .teaching.session import teach as teach
from .training.recipes import list_models as list_models, train as train
from .training.settings import TrainingSettings as TrainingSettings
from .videos.labelling import video as video
from .webapp.server import app as app

__version__: str
