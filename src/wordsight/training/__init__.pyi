from .network_summary import draw_network as draw_network
from .recipes import list_models as list_models, train as train
from .settings import TrainingSettings as TrainingSettings
