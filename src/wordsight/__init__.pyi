"""The public names, the only list of them: `__init__.py` reads it."""

from . import (
    backbones as backbones,
)
from . import (
    cleaning as cleaning,
)
from . import (
    datasets as datasets,
)
from . import (
    distributed as distributed,
)
from . import (
    errors as errors,
)
from . import (
    evaluation as evaluation,
)
from . import (
    gathering as gathering,
)
from . import (
    heatmaps as heatmaps,
)
from . import (
    videos as videos,
)
from . import (
    words as words,
)
from .backbones.registry import list_backbones as list_backbones
from .classification.classifier import Classifier as Classifier
from .classification.classifier import load as load
from .classification.predictions import Prediction as Prediction
from .classification.predictions import Results as Results
from .cleaning.cleaner import Cleaning as Cleaning
from .cleaning.cleaner import clean as clean
from .cleaning.splitting import split as split
from .detection.detector import Detection as Detection
from .detection.detector import Detections as Detections
from .detection.detector import WindowSettings as WindowSettings
from .detection.detector import detect as detect
from .errors import WordsightError as WordsightError
from .evaluation.classification import Evaluation as Evaluation
from .evaluation.classification import evaluate as evaluate
from .exports.labels import prelabel as prelabel
from .exports.model import export as export
from .gathering.collector import gather as gather
from .heatmaps.heatmap import HeatmapSettings as HeatmapSettings
from .pipeline import run as run
from .recognition.class_heatmap import heatmap as heatmap
from .recognition.photos import recognize as recognize
from .training.recipes import list_models as list_models
from .training.recipes import train as train
from .training.settings import TrainingSettings as TrainingSettings
from .videos.labelling import video as video
from .webapp.server import app as app

__version__: str
