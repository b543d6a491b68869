"""Boxes that recur at one place of one camera: a stone, a branch, a shadow.

Why a count is too large for chance: animals come and go, so the boxes of different days are
independent. A box of an animal falls on one given box (85 % of their union in common) if it has its
place, its size and its shape: one in five thousand does on a trail, and one in five hundred where
animals stand within a fifth of their length of one point, as at bait. One in a thousand is granted,
or four times the mean of what this camera's other boxes do among themselves from day to day, if
that is more: the middle of a normal spread in place and size, four dimensions, is met four times as
often as its places in the mean. (Boxes on which more than one in twenty falls are left out of that
mean: they are other stones.)
On a day with m other boxes the place is then met with a probability of at most
1 - (1 - share)^(m + 1), and on how many of n days follows. A place is set aside if the probability
of as many days, times the number of photos that could have begun such a place, is below one in a
hundred, and if it was met on four days at least: an animal may sleep in one place for a night.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.home import expand
from ..core.progress import Progress
from ..core.threads import map_if_worth
from ..datasets.files import ImageFile
from ..datasets.foreign_tables import heading, read_table
from ..datasets.formats.base import numbers
from ..datasets.surveys.base import camera_of
from ..errors import InvalidArgument, NotFound
from ..images.taken import taken_at
from .boxes import Box, DetectorBoxes

if TYPE_CHECKING:
    from ..classification.results_writer import ResultsWriter

SAME = 0.85  # IoU from which two boxes are at one place
GRANTED = 0.001  # share of animals' boxes that may fall on one given box, at least
CROWDED = 4  # times the mean share of a camera's boxes, for the place that most fall on
CROWD = 0.05  # share of a camera's boxes beyond which no animal's place is met
SAMPLE = 300  # boxes from which that share is told
RARE = 0.01  # probability below which a count is no chance
FEWEST_DAYS = 4
FEWEST_PHOTOS = 4  # at one place, to be looked at at all
LISTED = 10  # photos at one place that are listed, though not set aside
Sides = tuple[float, float, float, float]
TABLE, SHEET = "repeats.csv", "repeats.png"
FIELDS = (
    *("camera", "category", "x_min", "y_min", "width", "height", "photos", "of_photos"),
    *("days", "of_days", "chance", "first", "last", "example", "set_aside"),
)
THREADS = 4
_TIME = re.compile(r"(\d{4})\D(\d\d)\D(\d\d)\D+(\d\d):(\d\d):(\d\d)")
_COLUMNS = 6  # of the sheet: three photos a place, two places a row
_PLACES = 24


@dataclass(frozen=True)
class Repeat:
    """One place of one camera at which boxes recur.

    Attributes:
        camera: folder, relative to the photos.
        category: the detector's.
        bbox: (x_min, y_min, width, height) of the median box, in fractions.
        photos: names of the photos, in order.
        of_photos: how many photos of the camera have a box of this category.
        days: on which it recurs; 0 where no photo says when it was taken.
        of_days: days on which the camera has such a box.
        chance: probability that animals' boxes of so many days fall on one place, all places of
            the camera taken together.
        first: when it was seen first.
        last: when it was seen last.
        set_aside: whether its boxes don't count.
    """

    camera: str
    category: str
    bbox: tuple[float, float, float, float]
    photos: tuple[str, ...]
    of_photos: int
    days: int = 0
    of_days: int = 0
    chance: float = 1.0
    first: datetime | None = None
    last: datetime | None = None
    set_aside: bool = False

    def row(self) -> list:
        """Return its cells in repeats.csv."""
        return [
            *(self.camera, self.category, *(round(side, 4) for side in self.bbox)),
            *(len(self.photos), self.of_photos, self.days, self.of_days, f"{self.chance:.1g}"),
            *(
                "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"
                for time in (self.first, self.last)
            ),
            *(self.photos[len(self.photos) // 2], "yes" if self.set_aside else "no"),
        ]


@dataclass
class Repeats:
    """The places of a run's cameras at which boxes recur.

    Attributes:
        places: those listed, the most frequent first of each camera.
        decided: whether a person's file says which are set aside.
    """

    places: list[Repeat] = field(default_factory=list)
    decided: bool = False

    def __post_init__(self) -> None:
        self._aside: dict[tuple[str, str], np.ndarray] = {}
        for key in {(one.camera, one.category) for one in self.places if one.set_aside}:
            boxes = [p.bbox for p in self.places if p.set_aside and (p.camera, p.category) == key]
            self._aside[key] = np.array(boxes)

    def has(self, name: str, box: Box) -> bool:
        """Whether a photo's box is set aside."""
        places = self._aside.get((camera_of(name), box.category))
        return places is not None and bool((_iou(np.array(box.bbox), places) >= SAME).any())

    def files(self) -> list[str]:
        """Return the names of the files that tell of them."""
        return [TABLE, SHEET] if self.places else []

    def notes(self, output: Path | None) -> list[str]:
        """Return what was set aside, and what could not be."""
        aside = [one for one in self.places if one.set_aside]
        listed = f" ({output / TABLE}, {SHEET})" if output is not None else ""
        told = []
        if aside:
            photos = len({name for one in aside for name in one.photos})
            why = "as your file says" if self.decided else "on more days than animals explain"
            several = "boxes recur" if len(aside) > 1 else "box recurs"
            told.append(
                f"{len(aside)} {several} at one place of a camera {why}, in {photos} photos: set "
                f"aside{listed}. '--repeats keep' counts them again."
            )
        timeless = [one for one in self.places if not one.set_aside and not one.of_days]
        if timeless and not self.decided:
            several = "boxes recur" if len(timeless) > 1 else "box recurs"
            told.append(
                f"{len(timeless)} {several} at one place of a camera, but the photos don't say "
                f"when they were taken: listed, and not set aside{listed}. To set them aside, "
                f"write yes into set_aside in a copy of {TABLE}, and give it with --repeats."
            )
        return told

    def write(self, writer: ResultsWriter, files: Mapping[str, ImageFile]) -> None:
        """Write the table, and the sheet that shows the first, middle and last photo of each."""
        if not self.places:
            return
        writer.write_table(TABLE, [FIELDS, *(one.row() for one in self.places)])
        sheet = _sheet(self.places, files)
        if sheet is not None:
            writer.write_file(SHEET, sheet)


def repeats_of(
    told: DetectorBoxes,
    photos: Sequence[ImageFile],
    how: str | os.PathLike,
    progress: Progress | None = None,
) -> Repeats:
    """Return the places at which boxes recur, as far as they are asked for.

    Args:
        told: the detector's boxes.
        photos: the photos of the run.
        how: "auto", "keep", or a file like repeats.csv whose rows say what is set aside.
        progress: called with (done, total, "times read").

    Raises:
        NotFound: if there is no such file.
        InvalidArgument: if it has no such columns, or a number in it is none.
    """
    if how == "keep":
        return Repeats()
    if how != "auto":
        return _decided(told, expand(how))
    return find_repeats(told, photos, progress)


def find_repeats(
    told: DetectorBoxes, photos: Sequence[ImageFile], progress: Progress | None = None
) -> Repeats:
    """Find the places of each camera at which boxes recur, and set aside those that recur on more
    days than animals can explain.

    Args:
        told: the detector's boxes.
        photos: the photos of the run, for when they were taken.
        progress: called with (done, total, "times read").
    """
    by_place = _by_camera(told)
    candidates = {key: _places([box for _, box in seen]) for key, seen in by_place.items()}
    candidates = {key: places for key, places in candidates.items() if places}
    needed = {name for key in candidates for name, _ in by_place[key]}
    times = _times(told, [one for one in photos if one.name in needed], progress)
    places = [
        _judged(key, bbox, there, by_place[key], times)
        for key, of_camera in sorted(candidates.items())
        for bbox, there in of_camera
    ]
    return Repeats([one for one in places if one.set_aside or len(one.photos) >= LISTED])


def _by_camera(told: DetectorBoxes) -> dict[tuple[str, str], list[tuple[str, Box]]]:
    """Return the boxes of each camera and category with the names of their photos, in order."""
    found: dict[tuple[str, str], list[tuple[str, Box]]] = defaultdict(list)
    for name in sorted(told.images):
        for box in told.images[name].boxes:
            found[camera_of(name), box.category].append((name, box))
    return found


def _places(seen: list[Box]) -> list[tuple[Sides, np.ndarray]]:
    """Return the places at which boxes recur, the most frequent first: the median box, and which
    of the boxes are there, (n,) bool.
    """
    boxes = np.array([box.bbox for box in seen])
    first = np.empty_like(boxes)  # the box that each place began with
    count, place = 0, np.empty(len(boxes), int)
    for number, box in enumerate(boxes):
        overlaps = _iou(box, first[:count])
        if count and overlaps.max() >= SAME:
            place[number] = int(overlaps.argmax())
        else:
            first[count], place[number] = box, count
            count += 1
    found: list[tuple[Sides, np.ndarray]] = []
    for number, photos in Counter(place.tolist()).most_common():
        if photos < FEWEST_PHOTOS:
            break
        middle = np.median(boxes[place == number], axis=0)
        there = _iou(middle, boxes) >= SAME
        known = any(_iou(middle, np.array([other])).max() >= SAME for other, _ in found)
        if there.sum() >= FEWEST_PHOTOS and not known:
            found.append((tuple(middle.tolist()), there))
    return found


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU, (n,), of a box (4,) and others (n, 4), each x, y, width, height."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    return common / (box[2:].prod() + others[:, 2:].prod(axis=1) - common)


def _times(
    told: DetectorBoxes, photos: list[ImageFile], progress: Progress | None
) -> dict[str, datetime]:
    """Return when photos were taken, as the detector's file or they themselves say."""

    def time_of(photo: ImageFile) -> datetime | None:
        return read_time(told.images[photo.name].taken) or taken_at(photo.path)

    times = {}
    for done, (photo, time) in enumerate(
        zip(photos, map_if_worth(time_of, photos, THREADS), strict=True), start=1
    ):
        if time is not None:
            times[photo.name] = time
        if progress:
            progress(done, len(photos), "times read")
    return times


def read_time(text: str) -> datetime | None:
    """Return a time that a file tells as year, month, day, hour, minute and second, or None."""
    found = _TIME.match(text)
    try:
        return datetime(*map(int, found.groups())) if found else None  # type: ignore[arg-type]
    except ValueError:
        return None


def _judged(
    key: tuple[str, str],
    bbox: Sides,
    there: np.ndarray,
    seen: list[tuple[str, Box]],
    times: Mapping[str, datetime],
) -> Repeat:
    """Return a place with how likely animals alone would make it.

    Args:
        key: camera and category.
        bbox: the place.
        there: which of the boxes are at it, (n,) bool.
        seen: the boxes of the camera, with the names of their photos.
        times: when photos were taken, as far as that is known.
    """
    names = tuple(dict.fromkeys(name for (name, _), at in zip(seen, there, strict=True) if at))
    everywhere = len({name for name, _ in seen})
    known = sorted(times[name] for name in names if name in times)
    timed = np.array([name in times for name, _ in seen])
    days = np.array([times[name].toordinal() if name in times else 0 for name, _ in seen])
    boxes = np.array([box.bbox for _, box in seen])
    met, others = len(np.unique(days[there & timed])), days[timed & ~there]
    counts = [int((others == day).sum()) for day in np.unique(days[timed])]
    chance = min(1.0, everywhere * _chance(met, counts, GRANTED)) if met else 1.0
    if met >= FEWEST_DAYS and chance < RARE:
        share = _share(boxes[timed & ~there], others)
        chance = min(1.0, everywhere * _chance(met, counts, share))
    return Repeat(
        *key,
        bbox,
        names,
        everywhere,
        met,
        len(np.unique(days[timed])),
        chance,
        known[0] if known else None,
        known[-1] if known else None,
        met >= FEWEST_DAYS and chance < RARE,
    )


def _share(boxes: np.ndarray, days: np.ndarray) -> float:
    """Return the share of a camera's boxes, (n, 4), that may fall on one given box: what they do
    among themselves from one day, (n,), to others.
    """
    shares = []
    for index in range(0, len(boxes), max(1, len(boxes) // SAMPLE)):
        other = days != days[index]
        if other.any():
            shares.append(float((_iou(boxes[index], boxes[other]) >= SAME).mean()))
    usual = [share for share in shares if share <= CROWD]
    return max(GRANTED, CROWDED * float(np.mean(usual or [0.0])))


def _chance(met: int, others: Sequence[int], share: float) -> float:
    """Return the probability that animals' boxes meet a place on so many days or more.

    Args:
        met: days on which one did.
        others: for each day of the camera, how many other boxes it has.
        share: of boxes that fall on one place.
    """
    spread = np.array([1.0])  # probabilities of 0, 1, … days
    for count in others:
        meets = 1 - (1 - share) ** (count + 1)
        spread = np.convolve(spread, [1 - meets, meets])
    return float(spread[met:].sum())


def _decided(told: DetectorBoxes, file: Path) -> Repeats:
    """Return the places of a person's file, with the photos that have a box there."""
    if not file.is_file():
        raise NotFound(f"No such file: '{file}'. --repeats takes auto, keep or a repeats.csv.")
    table = read_table(file)
    headings = [heading(name) for name in next(table, [])]
    missing = [name for name in FIELDS[:6] if name not in headings]
    if missing:
        raise InvalidArgument(
            f"'{file}' has no column {', '.join(missing)}. --repeats takes a table with the "
            f"columns of {TABLE}."
        )
    by_place = _by_camera(told)
    places = []
    for number, cells in enumerate(table, start=2):
        row = dict(zip(headings, cells, strict=False))
        sides = numbers(*(row.get(name, "").replace(",", ".") for name in FIELDS[2:6]))
        if sides is None or not all(0 <= side <= 1 for side in sides):
            if any(cells):
                raise InvalidArgument(f"'{file}' line {number}: its box is not four numbers 0-1.")
            continue
        key = (row.get("camera", ""), row.get("category", ""))
        seen = by_place.get(key, [])
        boxes = np.array([box.bbox for _, box in seen]).reshape(-1, 4)
        hits = np.flatnonzero(_iou(np.array(sides), boxes) >= SAME)
        names = tuple(dict.fromkeys(seen[index][0] for index in hits))
        aside = row.get("set_aside", "").strip().casefold() not in ("no", "n", "false", "0")
        if names:
            everywhere = len({name for name, _ in seen})
            bbox = (sides[0], sides[1], sides[2], sides[3])
            place = Repeat(*key, bbox, names, everywhere, set_aside=aside)
            places.append(place)
    return Repeats(places, decided=True)


def _sheet(places: Iterable[Repeat], files: Mapping[str, ImageFile]) -> bytes | None:
    """Return a PNG of each place's surroundings in its first, middle and last photo."""
    from ..images.contact_sheet import sheet

    ordered = sorted(places, key=lambda one: (not one.set_aside, -len(one.photos)))
    cells = []
    for one in ordered[:_PLACES]:
        marks = [one.photos[0], one.photos[len(one.photos) // 2], one.photos[-1]]
        said = [
            f"{one.camera}: {len(one.photos)} photos",
            f"{one.days} of {one.of_days} days, {'set aside' if one.set_aside else 'counts'}",
        ]
        for name in marks:
            image = _surroundings(files[name], one.bbox)
            if image is not None:
                cells.append((image, [*said, name]))
    if not cells:
        return None
    shown = min(len(ordered), _PLACES)
    title = (
        f"Boxes that recur at one place: {shown} of {len(ordered)}, first, middle and last photo"
    )
    return sheet(cells, title, _COLUMNS)


def _surroundings(file: ImageFile, bbox: tuple[float, float, float, float]):
    """Return a box with as much again around it, and a frame; None if the photo can't be read."""
    from PIL import ImageDraw

    from ..backbones.embedder import read
    from ..errors import UnreadableImage
    from ..images.decoding import decode

    try:
        image = decode(read(file)[0]).image
    except UnreadableImage:
        return None
    x, y, width, height = bbox
    sides = [
        x * image.width,
        y * image.height,
        (x + width) * image.width,
        (y + height) * image.height,
    ]
    marked = image.copy()
    ImageDraw.Draw(marked).rectangle(sides, outline="red", width=max(2, image.width // 300))
    half = max(sides[2] - sides[0], sides[3] - sides[1])
    middle = ((sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2)
    return marked.crop(
        (
            max(0, round(middle[0] - half)),
            max(0, round(middle[1] - half)),
            min(image.width, round(middle[0] + half)),
            min(image.height, round(middle[1] + half)),
        )
    )
