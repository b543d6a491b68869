"""Formats of annotated boxes: one small file each. They parse and write; `annotations` checks and
interprets the boxes.

To add one, write a module here with a subclass of `Format` under `@register_format`; nothing else
needs to change.
"""

from __future__ import annotations

from pathlib import Path

from ...core.plugins import import_all
from ...errors import InvalidArgument
from .base import Capture, Format, Labelled, RawBox, Region, list_formats, register_format

# The order in which they are tried, where a folder could be read in several ways; others follow.
import_all(
    __name__,
    list(__path__),
    first=(
        *("base", "labelme", "megadetector", "cvat"),  # told by their content
        *("coco", "yolo", "label_studio", "hugging_face", "voc", "table"),
    ),
)


def choose_format(path: Path) -> Format:
    """Return the format that a file or folder of annotations is in.

    Raises:
        InvalidArgument: if no format matches.
    """
    for format in list_formats():
        if format.knows(path):
            return format
    known = "; ".join(f"{format.name}: {format.described}" for format in list_formats())
    raise InvalidArgument(f"'{path}' holds no boxes in a known format. Known are {known}.")


def list_format_keys() -> list[str]:
    """Return what the command line calls each format that labels can be written in."""
    return [format.key for format in list_formats() if format.writes]


__all__ = [
    "Capture",
    "Format",
    "Labelled",
    "RawBox",
    "Region",
    "choose_format",
    "list_format_keys",
    "list_formats",
    "register_format",
]
