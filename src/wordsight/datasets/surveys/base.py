"""What is known of the photos of a survey by camera traps, and what every format of it gives."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path

from ...core.plugins import load_extensions

# cameras begin a new folder every 999 or 9,999 photos: DCIM, 100RECNX, 101_BTCF
_OF_CARD = re.compile(r"dcim|\d{3}[0-9a-z_]{5}", re.IGNORECASE)
HUMAN, VEHICLE = ("human", "person", "people"), ("vehicle",)  # as detectors call them


def camera_of(name: str) -> str:
    """Return the folder that stands for a photo's camera: its own, without those that cameras make
    on their cards; "." for the folder given.
    """
    parts = name.split("/")[:-1]
    while parts and _OF_CARD.fullmatch(parts[-1]):
        parts.pop()
    return "/".join(parts) or "."


@dataclass(frozen=True)
class Sighting:
    """One box of a detector that counts.

    Attributes:
        detection: its place in the detector's list for its image, from 0.
        category: the detector's, such as "animal".
        confidence: the detector's, 0–1.
        bbox: (x_min, y_min, width, height) in fractions of the upright image's sides.
        label: class name, or None.
        probability: of the label, 0–1, or None.
        set_aside: whether it recurs at one place and doesn't count.
    """

    detection: int
    category: str
    confidence: float
    bbox: tuple[float, float, float, float]
    label: str | None = None
    probability: float | None = None
    set_aside: bool = False


@dataclass(frozen=True)
class SurveyPhoto:
    """One photo.

    Attributes:
        file_name: path relative to the folder of photos.
        status: "labelled", "unsure", "none_of_these" or "empty".
        labels: (class name, probability), the surest first.
        taken: when, by the camera's clock, or None.
        event: what the photos taken together share, or None.
        sightings: boxes of a detector; None where none was asked.
        detected_as: what the detector's file calls the image, or None.
    """

    file_name: str
    status: str
    labels: tuple[tuple[str, float | None], ...] = ()
    taken: datetime | None = None
    event: str | None = None
    sightings: tuple[Sighting, ...] | None = None
    detected_as: str | None = None

    @property
    def camera(self) -> str:
        """The folder of its camera."""
        return camera_of(self.file_name)

    @property
    def counted(self) -> tuple[Sighting, ...]:
        """Its boxes but for those set aside."""
        return tuple(one for one in self.sightings or () if not one.set_aside)


@dataclass(frozen=True)
class Survey:
    """All that is written.

    Attributes:
        photos: in order of name.
        class_names: sorted.
        made_by: such as "wordsight 0.2.0".
        made_at: when the results were made, with a time zone.
        detector: the detector's file, or None.
        deployments: a CSV with a row a camera, or None.
        project: JSON with what only its owner knows of a project, or None.
        timezone: of the cameras' clocks, or None.
        skipped: (file name, reason) of photos that can't be told of; formats add to it.
    """

    photos: Sequence[SurveyPhoto]
    class_names: list[str]
    made_by: str
    made_at: datetime
    detector: Path | None = None
    deployments: Path | None = None
    project: Path | None = None
    timezone: tzinfo | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)


class SurveyFormat(ABC):
    """One way to tell of a survey.

    Attributes:
        name: what people call it.
        key: what the command line calls it.
        needs_times: whether it tells when photos were taken.
        next_step: a sentence on how a tool takes it.
    """

    name: str
    key: str
    needs_times = True
    next_step = ""

    @abstractmethod
    def write(self, survey: Survey, folder: Path) -> list[str]:
        """Write a survey into an empty folder; return sentences on what it lacks.

        Raises:
            InvalidArgument: if it lacks what the format can't do without.
        """


_registry: dict[str, SurveyFormat] = {}


def register_survey(cls: type[SurveyFormat]) -> type[SurveyFormat]:
    """Register a format (a decorator). One of the same key is replaced.

    A package of your own names its module in the entry-point group `wordsight.formats`.
    """
    _registry[cls.key] = cls()
    return cls


def find_survey(key: str) -> SurveyFormat | None:
    """Return the format of this key, or None."""
    load_extensions("formats")
    return _registry.get(key)


def list_survey_keys() -> list[str]:
    """Return what the command line calls each."""
    load_extensions("formats")
    return list(_registry)
