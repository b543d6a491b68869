from .boxes import BoxEvaluation as BoxEvaluation, evaluate_boxes as evaluate_boxes
from .classification import Evaluation as Evaluation, evaluate as evaluate
