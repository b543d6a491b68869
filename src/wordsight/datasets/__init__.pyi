from .annotations import (
    Box as Box,
    BoxSet as BoxSet,
    read_boxes as read_boxes,
    read_labels as read_labels,
)
from .conversion import convert as convert
from .formats import Format as Format, RawBox as RawBox, register_format as register_format
from .inspection import Inspection as Inspection, inspect as inspect
