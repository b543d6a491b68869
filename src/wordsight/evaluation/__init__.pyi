from .boxes import BoxEvaluation as BoxEvaluation
from .boxes import evaluate_boxes as evaluate_boxes
from .classification import Evaluation as Evaluation
from .classification import evaluate as evaluate
