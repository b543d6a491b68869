from .box_results import BoxEvaluation as BoxEvaluation
from .boxes import evaluate_boxes as evaluate_boxes
from .classification import evaluate as evaluate
from .results import Evaluation as Evaluation
