"""MegaDetector's own file with what is in its boxes: `classifications` of detections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import InvalidArgument
from ..formats.megadetector import read_detector
from .base import Sighting, Survey, SurveyFormat, register_survey

ROUNDED = 2e-6  # by which a box may differ from that of the results
NO_BOXES = (
    "MegaDetector's format adds to MegaDetector's own file, and these results were made without "
    "one. Make them with --boxes: 'wordsight predict PHOTOS -m MODEL --boxes JSON'."
)


@register_survey
class MegaDetectorResults(SurveyFormat):
    """The detector's file under its own name: all of it is kept, detections with a label get
    `classifications`. A box that recurs at one place has its confidence negated, as MegaDetector's
    tools do, so that no threshold shows it.
    """

    name = "MegaDetector"
    key = "megadetector"
    needs_times = False
    next_step = "Timelapse opens it as recognitions."

    def write(self, survey: Survey, folder: Path) -> list[str]:
        """See `SurveyFormat.write`."""
        if survey.detector is None:
            raise InvalidArgument(NO_BOXES)
        told = read_detector(survey.detector)
        content = told.content
        images = {
            one["file"]: one
            for one in told.images
            if isinstance(one, dict) and isinstance(one.get("file"), str)
        }
        ids = _categories(content, survey.class_names)
        for photo in survey.photos:
            for one in photo.sightings or ():
                detection = _detection(images, str(photo.detected_as), one, survey.detector)
                if one.set_aside:
                    detection["conf"] = -abs(float(detection["conf"]))
                elif one.label is not None and one.category != one.label:
                    detection["classifications"] = [[ids[one.label], one.probability]]
        info = content.setdefault("info", {})
        if isinstance(info, dict):
            info["classifier"] = survey.made_by
            info["classification_completion_time"] = f"{survey.made_at:%Y-%m-%d %H:%M:%S}"
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / survey.detector.name).write_text(text, "utf-8", "surrogatepass")
        return []


def _categories(content: dict[str, Any], class_names: list[str]) -> dict[str, str]:
    """Add classes to those that the file has; return their ids."""
    known = content.get("classification_categories")
    if not isinstance(known, dict):
        known = content["classification_categories"] = {}
    ids = {str(name): str(key) for key, name in known.items()}
    number = max((int(key) for key in known if str(key).isdecimal() and len(key) < 10), default=0)
    for name in class_names:
        if name not in ids:
            number += 1
            ids[name] = str(number)
            known[str(number)] = name
    return ids


def _detection(images: dict[str, Any], name: str, one: Sighting, file: Path) -> dict[str, Any]:
    """Return the detection of a box.

    Raises:
        InvalidArgument: if the file has another one there.
    """
    try:
        found = images[name]["detections"][one.detection]
        sides = zip(found["bbox"], one.bbox, strict=True)
        if all(abs(float(a) - b) < ROUNDED + 0.01 * (not 0 <= float(a) <= 1) for a, b in sides):
            return found
    except (KeyError, IndexError, TypeError, ValueError):
        pass
    raise InvalidArgument(
        f"'{file}' is not the file that these results were made with: it has no such detection "
        f"{one.detection + 1} of '{name}'. Predict again with --boxes."
    )
