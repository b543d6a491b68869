"""Formats in which people keep annotated boxes: one small file each. They parse and write; what a box means is decided in `annotations`.

To add one, write a module with a subclass of `Format`, and name it in `FORMATS`.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidArgument
from .base import Format, Labelled, Mark, Region
from .coco import Coco
from .hugging_face import HuggingFace
from .label_studio import LabelStudio
from .table import Table
from .voc import Voc
from .yolo import Yolo

FORMATS: tuple[Format, ...] = (Coco(), Yolo(), LabelStudio(), HuggingFace(), Voc(), Table())


def choose_format(path: Path) -> Format:
    """Return the format that a file or folder of annotations is in.

    Raises:
        InvalidArgument: none knows it.
    """
    for format in FORMATS:
        if format.knows(path):
            return format
    known = "; ".join(f"{format.name}: {format.described}" for format in FORMATS)
    raise InvalidArgument(f"'{path}' holds no boxes in a known format. Known are {known}.")


__all__ = ["FORMATS", "Format", "Labelled", "Mark", "Region", "choose_format"]
