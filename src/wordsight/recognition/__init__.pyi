from .class_heatmap import heatmap as heatmap
from .photos import recognize as recognize
from .recognitions import Recognition as Recognition, Recognitions as Recognitions
