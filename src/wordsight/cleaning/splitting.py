"""Divide a data set into train, val and test, without a copy of a training image in the others."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedder
from ..backbones.registry import load_backbone
from ..core import cells
from ..core.home import writing
from ..core.progress import Progress, or_notebook
from ..core.regular import read_regular
from ..core.result_folder import ResultFolder
from ..datasets.files import data_root
from ..datasets.labelled import read_labelled
from ..datasets.training_set import scene_folder
from ..errors import InvalidArgument
from ..images.copies import groups
from ..images.taken import events_of
from .checks import Material
from .material import gather_material

log = logging.getLogger("wordsight")
SPLITS = ("train", "val", "test")


class Split(dict[str, dict[str, int]]):
    """How many images each split has: split -> class name -> number.

    Attributes:
        unused: (name, reason) of each image and folder that could not be read.
    """

    unused: list[tuple[str, str]]


def split(
    data: str | os.PathLike,
    *,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    backbone: str | Backbone = DEFAULT_BACKBONE,
    events: bool = True,
    progress: Progress | None = None,
) -> Split:
    """Divide a data set, and note it in the column `split` of its metadata.csv, which is created if
    there is none.

    Every class is divided in the same proportions. Copies go to the same side, also cropped or
    mirrored ones and those in another class, so that no test image was learned from; so do photos
    of one event. Images that can't be read get no split.

    Args:
        data: a folder with one subfolder a class, one with metadata.csv, or a CSV with file_name
            and label.
        val: share for validation, 0–1.
        test: share for testing, 0–1; the rest is for training.
        seed: the same seed and images give the same split.
        backbone: the network whose embeddings find copies.
        events: whether photos of one folder that were taken within a minute of each other stay
            together.
        progress: called with (done, total, "pictures").

    Returns:
        split -> class name -> number of images; its `unused` names what could not be read.

    Raises:
        NotFound, InvalidArgument: if there is no such data set, or the shares leave nothing to
            train on.
        OutputError: if metadata.csv can't be written.
    """
    progress = or_notebook(progress)
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise InvalidArgument(
            f"The shares for val and test must be 0 to 1 and leave some for training, got {val} "
            f"and {test}."
        )
    labelled = read_labelled(data, min_classes=1)
    material = gather_material(labelled, 1, Embedder(load_backbone(backbone)), progress)
    assigned = _assign(material, val, test, seed, events)
    root = data_root(data)
    with writing(root):
        _note(
            root,
            {
                material.images[i].name: (material.images[i].label or "", name)
                for i, name in assigned.items()
            },
        )
    counts = Split({name: dict.fromkeys(labelled.class_names, 0) for name in SPLITS})
    counts.unused = [
        *labelled.unused,
        *(
            (image.name, error)
            for image, error in zip(material.images, material.errors, strict=True)
            if error is not None
        ),
    ]
    for i, name in assigned.items():
        counts[name][str(material.images[i].label)] += 1
    for name, share in (("val", val), ("test", test)):
        none = [label for label, count in counts[name].items() if share and not count]
        if none:
            log.warning(
                "No picture of %s is in '%s': all are copies of each other, of one event, or too "
                "few.",
                ", ".join(f"'{label}'" for label in none),
                name,
            )
    return counts


def _assign(material: Material, val: float, test: float, seed: int, events: bool) -> dict[int, str]:
    """Return the split of every readable image."""
    good = material.good.tolist()
    pairs = np.array(list(material.copies) or np.empty((0, 2)), dtype=int).reshape(-1, 2)
    same: dict[str, int] = {}
    equal = [(same.setdefault(str(material.shas[i]), i), i) for i in good]
    if events:
        images = [material.images[i] for i in good]
        taken = events_of(
            [image.path for image in images], folders=[scene_folder(image) for image in images]
        ).tolist()
        first: dict[int, int] = {}
        equal += [(first.setdefault(event, i), i) for event, i in zip(taken, good, strict=True)]
    pairs = np.concatenate(
        [pairs, np.array([pair for pair in equal if pair[0] != pair[1]], dtype=int).reshape(-1, 2)]
    )
    together = groups(len(material.images), pairs)
    grouped = {i for group in together for i in group}
    units = sorted([*together, *([i] for i in good if i not in grouped)])
    rng = np.random.default_rng(seed)
    wanted = {name: Counter(material.labels[good].tolist()) for name in ("test", "val")}
    for name, share in (("test", test), ("val", val)):
        wanted[name] = Counter(
            {label: round(count * share) for label, count in wanted[name].items()}
        )
    assigned: dict[int, str] = {}
    for position in rng.permutation(len(units)):
        unit = units[position]
        need = Counter(material.labels[unit].tolist())
        name = next(
            (
                name
                for name in ("test", "val")
                if all(wanted[name][label] >= count for label, count in need.items())
            ),
            "train",
        )
        if name != "train":
            wanted[name] -= need
        assigned.update(dict.fromkeys(unit, name))
    return assigned


def _note(root: Path, splits: dict[str, tuple[str, str]]) -> None:
    """Write the column `split` into metadata.csv, and leave every other cell as it is.

    Raises:
        InvalidArgument: if the table has no column file_name, or another run writes there.
        OutputError: if it can't be written.
    """
    table = root / "metadata.csv"
    text = cells.MARK
    if table.is_file():
        text = read_regular(table).decode("utf-8", "surrogateescape")
    mark = cells.MARK * text.startswith(cells.MARK)
    rows = list(csv.reader(io.StringIO(text[len(mark) :], newline=""))) or [["file_name", "label"]]
    if "file_name" not in rows[0]:
        raise InvalidArgument(
            f"'{table}' has no column file_name, so the split can't be noted in it. Move it "
            "away, or add the column."
        )
    known = len(rows[0])
    new = [name for name in ("label", "split") if name not in rows[0]]
    rows[0][known:known] = new
    columns = rows[0]
    name_at, split_at = columns.index("file_name"), columns.index("split")
    listed = set()
    for row in rows[1:]:
        if row:
            row += [""] * (known - len(row))
            row[known:known] = [""] * len(new)  # cells beyond the last column stay beyond it
            name = cells.unguard(row[name_at])
            listed.add(name)
            row[split_at] = splits.get(name, ("", ""))[1]
    for name, (label, split) in sorted(splits.items()):
        if name not in listed:
            told = {"file_name": cells.guard(name), "label": cells.guard(label), "split": split}
            rows.append([told.get(column, "") for column in columns])
    written = io.StringIO(newline="")
    ends = "\n" if "\n" in text and "\r\n" not in text else "\r\n"
    csv.writer(written, lineterminator=ends).writerows(rows)
    data = (mark + written.getvalue()).encode("utf-8", "surrogateescape")
    with writing(root), ResultFolder(root).build() as build:
        build.rewrite(table, data)
