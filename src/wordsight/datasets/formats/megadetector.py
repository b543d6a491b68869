"""Boxes of MegaDetector: one JSON of many images, boxes [x, y, width, height] in fractions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.names import spellings
from ...errors import InvalidArgument
from .base import RawBox, ReadOnlyFormat, peek, read_json, register_format

log = logging.getLogger("wordsight")
SURE = 0.2  # what its makers advise where the file names no threshold


@dataclass(frozen=True)
class DetectorFile:
    """A file of MegaDetector's.

    Attributes:
        content: all that it holds.
        categories: class names by id.
        images: an object an image, as it is written.
        typical: confidence, 0–1, from which the file, or else its makers, say that a box counts.
    """

    content: dict[str, Any]
    categories: dict[str, str]
    images: list[Any]
    typical: float


def read_detector(path: Path) -> DetectorFile:
    """Read a file of MegaDetector's, of any version of its format.

    Raises:
        InvalidArgument: if it is none, or can't be read.
    """
    content = read_json(path)
    try:
        names = {str(key): str(name) for key, name in content["detection_categories"].items()}
        images = list(content["images"])
        about = (content.get("info") or {}).get("detector_metadata") or {}
        typical = float(about.get("typical_detection_threshold") or SURE)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"'{path}' is no file of MegaDetector's: it needs images and detection_categories "
            f"({type(error).__name__}: {error})."
        ) from None
    return DetectorFile(content, names, images, typical)


@register_format
class MegaDetector(ReadOnlyFormat):
    """One JSON. Its classes are animal, person and vehicle. Boxes below the threshold that the file
    calls typical are passed over, and counted.
    """

    name = "MegaDetector"
    key = "megadetector"
    described = "a .json with images and detection_categories"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        return (
            path.is_file()
            and path.suffix.lower() == ".json"
            and "detection_categories" in peek(path)
        )

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`."""
        detector = read_detector(path)
        names, sure = detector.categories, detector.typical
        passed_over = 0
        for number, image in enumerate(detector.images, start=1):
            try:
                ways = spellings(str(image["file"]))
                places = tuple(base / way for way in ways for base in (root, path.parent))
                detections = list(image.get("detections") or [])
                failure = image.get("failure")
            except (KeyError, TypeError, AttributeError):
                where = f"image {number}"
                yield RawBox(where, (), "", None, True, problem="is not written as it should be")
                continue
            if failure:
                yield RawBox(str(image["file"]), (), "", None, True, problem=str(failure))
            for place, found in enumerate(detections, start=1):
                where = f"{image['file']} detection {place}"
                try:
                    if float(found["conf"]) < sure:
                        passed_over += 1
                        continue
                    x, y, width, height = (float(side) for side in found["bbox"])
                    sides = (x, y, x + width, y + height)
                    label = names.get(str(found["category"]), "")
                except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                    yield RawBox(where, (), "", None, True, problem="is no detection")
                    continue
                yield RawBox(
                    where,
                    places,
                    label,
                    sides,
                    True,
                    problem=None if label else "is of a category that the file doesn't name",
                    source=str(image["file"]),
                )
        if passed_over:
            log.info("%d detections below %g are passed over.", passed_over, sure)
