from .classifier import Classifier as Classifier, load as load
from .photos import predict as predict
from .predictions import (
    Counts as Counts,
    Part as Part,
    Prediction as Prediction,
    Results as Results,
)
from .record import (
    BoxRecord as BoxRecord,
    ModelRecord as ModelRecord,
    ValidationLoss as ValidationLoss,
)
