"""Events: photos of one folder that were taken one soon after another. A burst shows one scene, so
it counts as one observation.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Hashable, Sequence
from datetime import datetime

import numpy as np

from ..core.threads import parallel_map
from ..heads.linear import owners
from ..images.taken import taken_at
from .files import ImageFile

log = logging.getLogger("wordsight")

GAP = 60.0  # seconds to the photo before, at most
THREADS = 4
FEWEST = 5  # events of a class, to judge a model on others than it learned from


def grouped(
    folders: Sequence[Hashable], times: Sequence[datetime | None], gap: float = GAP
) -> np.ndarray:
    """Return the event of each photo, (n,) int, counted from 0 in the order of the photos.

    Photos of one folder belong to an event as long as each was taken at most `gap` seconds after
    the one before. A photo of which the time is not known is an event of its own.

    Args:
        folders: where each photo lies.
        times: when each was taken, by one clock a folder.
        gap: seconds.
    """
    known: dict[Hashable, list[tuple[datetime, int]]] = {}
    for index, (folder, time) in enumerate(zip(folders, times, strict=True)):
        if time is not None:
            known.setdefault(folder, []).append((time, index))
    first = np.arange(len(times))
    for rows in known.values():
        rows.sort()
        for (before, last), (time, index) in itertools.pairwise(rows):
            if (time - before).total_seconds() <= gap:
                first[index] = first[last]
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(one, len(numbers)) for one in first.tolist()], dtype=int)


def events_of(images: Sequence[ImageFile], gap: float = GAP) -> np.ndarray:
    """Return the event of each image, (n,) int, by the camera's times; see `grouped`."""
    times = list(parallel_map(taken_at, [image.path for image in images], THREADS))
    return grouped([image.path.parent for image in images], times, gap)


def apart(events: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Return what may be parted when images are held out, (n,) int: events, but single images of
    classes with too few events to hold some out, which are named.

    Args:
        events: (n,) int, of each image.
        labels: (n,) int, its class.
        class_names: by number.
    """
    owned = Counter(owners(labels, events).values())
    few = [
        label
        for label in np.unique(labels).tolist()
        if owned[label] < min(FEWEST, int((labels == label).sum()))
    ]
    if few:
        named = ", ".join(f"'{class_names[label]}'" for label in few)
        log.warning(
            "Most photos of these classes were taken within a minute of each other, at fewer than "
            "%d occasions, so they are judged on photos like those learned from, and look better "
            "than they are: %s. Add photos of other occasions.",
            FEWEST,
            named,
        )
    parted = events.copy()
    single = np.isin(labels, few)
    parted[single] = events.max(initial=0) + 1 + np.arange(int(single.sum()))
    return parted
