from .classifier import Classifier as Classifier
from .classifier import load as load
from .predictions import Counts as Counts
from .predictions import Part as Part
from .predictions import Prediction as Prediction
from .predictions import Results as Results
