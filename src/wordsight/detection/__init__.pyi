from .detections import (
    Detection as Detection,
    Detections as Detections,
    ImageDetections as ImageDetections,
)
from .detector import WindowSettings as WindowSettings, detect as detect
