from .annotations import Box as Box
from .annotations import BoxSet as BoxSet
from .annotations import read_boxes as read_boxes
from .annotations import read_labels as read_labels
from .conversion import convert as convert
from .formats import Format as Format
from .formats import RawBox as RawBox
from .formats import register_format as register_format
