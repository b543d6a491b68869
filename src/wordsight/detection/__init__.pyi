from .detector import Detection as Detection
from .detector import Detections as Detections
from .detector import ImageDetections as ImageDetections
from .detector import WindowSettings as WindowSettings
from .detector import detect as detect
