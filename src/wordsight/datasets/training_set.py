"""What a model learns from: the usable images of a labelled set, what is held out of them,
and what is noted of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from ..core import cells
from ..core.home import first_process
from ..core.regular import read_text
from ..errors import InvalidArgument
from ..heads.linear import owners
from ..images.copies import groups
from ..words.class_names import catch_all_name, fold
from .files import ImageFile, find_images
from .labelled import LabelledSet, select_classes

log = logging.getLogger("wordsight")
VAL_SHARE, MOST_OF_CLASS = 0.2, 0.4
MIN_HELD_OUT = 2  # images of a class
FEWEST_EVENTS = 5  # of a class, to judge a model on others than it learned from


class Hashed(Protocol):
    """An image that was read."""

    @property
    def file(self) -> ImageFile: ...  # noqa: D102

    @property
    def sha256(self) -> str | None: ...  # noqa: D102


Item = TypeVar("Item", bound=Hashed)


def against_catch_all(
    data: LabelledSet, positive: str, negatives: Path | None = None
) -> LabelledSet:
    """Return a set of two classes: `positive`, and its catch-all with the images of all other
    classes and those below `negatives`.

    Raises:
        InvalidArgument: if the set has no such class, or no other image.
        NotFound: if there is no such folder.
    """
    name = next((name for name in data.class_names if fold(name) == fold(positive)), positive)
    data, catch_all = select_classes(data, [name]), catch_all_name([name])
    images = list(data.images)
    if negatives is not None:
        found = find_images([negatives])
        images += [ImageFile(p.path, f"{negatives.name}/{p.name}", catch_all) for p in found.images]
    if not any(image.label == catch_all for image in images):
        raise InvalidArgument(
            f"There are only pictures of '{positive}'. Give others with --negatives FOLDER, "
            f"or gather both: wordsight gather {positive} --negatives 600 -o DATA."
        )
    return replace(data, images=images, class_names=[name, catch_all])


def usable(
    items: Sequence[Item], class_names: Sequence[str], clean: bool
) -> tuple[list[Item], list[tuple[str, str]]]:
    """Return the items to learn from, and (name, reason) of those left out: duplicate files, and
    files found in two classes.

    Raises:
        InvalidArgument: if a class has fewer than two images left.
    """
    labels: dict[str | None, set[str | None]] = {}
    for item in items:
        labels.setdefault(item.sha256, set()).add(item.file.label)
    kept: dict[str | None, Item] = {}
    good, left_out = [], []
    for item in items:
        if clean and len(labels[item.sha256]) > 1:
            left_out.append((item.file.name, "in_two_classes"))
        elif clean and item.sha256 in kept:
            left_out.append((item.file.name, f"duplicate of {kept[item.sha256].file.name}"))
        else:
            kept[item.sha256] = item
            good.append(item)
    counts = Counter(item.file.label for item in good)
    for name in class_names:
        if counts[name] < 2:
            raise InvalidArgument(
                f"Class '{name}' has {counts[name]} readable pictures; training needs at least "
                "2 of each class, and 20 do well."
            )
    return good, left_out


def scene_folder(image: ImageFile) -> Path:
    """Return the folder whose photos one camera took: that of an image, or the one around it where
    the folder is its class's.
    """
    folder = image.path.parent
    named = image.label is not None and fold(folder.name) == fold(image.label)
    return folder.parent if named else folder


def observations(events: np.ndarray, keys: Sequence[Hashable]) -> np.ndarray:
    """Return the events, (n,) int, of which those that share an equal file are one.

    Args:
        events: (n,) int, of each image.
        keys: what tells each file's content.
    """
    first: dict[Hashable, int] = {}
    pairs = [
        (first.setdefault(key, event), event)
        for key, event in zip(keys, events.tolist(), strict=True)
    ]
    lead = np.arange(events.max(initial=-1) + 1)
    unlike = [pair for pair in pairs if pair[0] != pair[1]]
    for group in groups(len(lead), np.array(unlike, dtype=int).reshape(-1, 2)):
        lead[group] = group[0]
    return lead[events]


def judged_on(events: np.ndarray, parted: np.ndarray, kind: str = "pictures") -> str:
    """Return in words on what a head was judged: all images, in folds.

    Args:
        events: (n,) int, of each image.
        parted: (n,) int, images of one number were held out together; see `apart`.
        kind: what the images are called.
    """
    count = len(np.unique(events))
    pictures = f"{len(events)} {kind}"
    if count == len(events):
        return f"{pictures}, cross-validated"
    whole = np.array_equal(events, parted)
    by = "cross-validated, events held out whole" if whole else "cross-validated"
    return f"{pictures} of {count} events, {by}"


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
        if owned[label] < min(FEWEST_EVENTS, int((labels == label).sum()))
    ]
    if few and first_process():
        log.warning(
            "These classes were photographed at fewer than %d occasions, a minute or more apart: "
            "%s. They are judged on photos like those learned from, so they look better than they "
            "are. Add photos of other occasions.",
            FEWEST_EVENTS,
            ", ".join(f"'{class_names[label]}'" for label in few),
        )
    parted = events.copy()
    single = np.isin(labels, few)
    parted[single] = events.max(initial=0) + 1 + np.arange(int(single.sum()))
    return parted


def hold_out(
    items: Sequence[Hashed], class_names: Sequence[str], seed: int, events: np.ndarray
) -> np.ndarray:
    """Return for each image whether it is held out to validate the network, (n,) bool.

    Images with the `split` "val" are held out; without any, a fifth of each class, drawn by `seed`.
    Equal files stay together, and so do images of one of the `events`, (n,) int, where a class has
    enough of them; see `apart`.

    Raises:
        InvalidArgument: if a class has too few images to hold some out.
    """
    held = np.array([item.file.split == "val" for item in items])
    labels = np.array([class_names.index(str(item.file.label)) for item in items])
    if not held.any():
        held = _drawn(items, labels, seed, apart(events, labels, class_names))
    for label, name in enumerate(class_names):
        inside = int((held & (labels == label)).sum())
        if inside < 1 or (labels == label).sum() - inside < 2:
            raise InvalidArgument(
                f"Class '{name}' has too few pictures to learn from and hold some out: "
                f"{(labels == label).sum()}, {inside} of them held out. "
                "Give at least 4 of each class, or use --recipe probe."
            )
    return held


def _drawn(
    items: Sequence[Hashed], labels: np.ndarray, seed: int, together: np.ndarray
) -> np.ndarray:
    """Return (n,) bool: a fifth of each class, or a little more, at random. What belongs together,
    (n,) int, comes as a whole, unless it is more than two fifths of a class.
    """
    first: dict[str | None, int] = {}
    unit = np.array(
        [
            first.setdefault(item.sha256, number)
            for item, number in zip(items, together.tolist(), strict=True)
        ]
    )
    owned: dict[int, list[int]] = {}
    for number, label in owners(labels, unit).items():
        owned.setdefault(label, []).append(number)
    sizes = Counter(unit.tolist())
    rng, chosen = np.random.default_rng(seed), []
    for _, numbers in sorted(owned.items()):
        total = sum(sizes[number] for number in numbers)
        wanted, taken = max(MIN_HELD_OUT, round(VAL_SHARE * total)), 0
        for number in (numbers[i] for i in rng.permutation(len(numbers))):
            if taken < wanted and sizes[number] <= max(MIN_HELD_OUT, MOST_OF_CLASS * total):
                chosen.append(number)
                taken += sizes[number]
    return np.isin(unit, chosen)


def fingerprint(items: Iterable[Hashed]) -> str:
    """Hash what was learned from: contents and labels."""
    lines = sorted(f"{item.sha256} {item.file.label}" for item in items)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def set_root(images: Sequence[ImageFile]) -> Path | None:
    """Return the folder that the names of a set's images are relative to, or None where there
    is none.
    """
    first = images[0]
    depth = first.name.count("/") + 1
    return first.path.parents[depth - 1] if len(first.path.parents) >= depth else None


def gathered(root: Path | None) -> dict | None:
    """Return how a set was gathered, as the funnel.json at its root notes it: "classes" by
    name, with "stages" and "reasons"; or None.
    """
    if root is None:
        return None
    try:
        noted = json.loads(read_text(root / "funnel.json", errors="surrogateescape"))["classes"]
        funnels = {
            str(name): {part: _counts(funnel[part]) for part in ("stages", "reasons")}
            for name, funnel in noted.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {"classes": funnels} if funnels else None


def _counts(noted: dict) -> dict[str, int]:
    return {str(name): int(count) for name, count in noted.items()}


def licences(images: Sequence[ImageFile]) -> dict[str, int]:
    """Count the images' licences, as a metadata.csv at the root of their data set records
    them; nothing where there is none.
    """
    root = set_root(images)
    metadata = None if root is None else root / "metadata.csv"
    if metadata is None or not metadata.is_file():
        return {}
    with cells.open_table(metadata) as file:
        recorded = {row.get("file_name"): row.get("license") for row in cells.DictReader(file)}
    return dict(Counter(recorded.get(image.name) or "not recorded" for image in images))
