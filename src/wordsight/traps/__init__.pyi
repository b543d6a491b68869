from .boxes import (
    Box as Box,
    Detected as Detected,
    DetectorBoxes as DetectorBoxes,
    read_boxes as read_boxes,
)
from .photos import predict_boxes as predict_boxes
from .repeats import Repeat as Repeat, Repeats as Repeats, find_repeats as find_repeats
