from .classifier import Classifier as Classifier, load as load
from .events import Event as Event
from .photos import predict as predict
from .predictions import (
    Counts as Counts,
    Crop as Crop,
    Label as Label,
    Part as Part,
    Prediction as Prediction,
)
from .record import (
    BoxRecord as BoxRecord,
    ModelRecord as ModelRecord,
    ValidationLoss as ValidationLoss,
)
from .results import Results as Results
