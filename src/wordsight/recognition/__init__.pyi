from .class_heatmap import heatmap as heatmap
from .photos import Recognition as Recognition
from .photos import Recognitions as Recognitions
from .photos import recognize as recognize
