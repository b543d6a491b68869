"""What a reader of a report may correct, and where the corrections go: a table of file names and
labels beside the photos, which `run --data`, `train`, `teach --data`, `sort` and `keywords` read.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.work import Photos
from ..words.class_names import NONE_OF_THESE, is_catch_all

FILE = "corrections.csv"


@dataclass(frozen=True)
class Corrections:
    """What a page needs to take corrections.

    Attributes:
        key: by which a browser remembers them: one for a folder of results, its photos and its
            classes.
        classes: labels that may be given, beside "none of these".
        none: the label of "none of these".
        others: classes that mean it.
        folder: in which the table is to be saved, as it was given.
        commands: (what for, the command) of what may be done with the table.
        note: what else is to be said of learning from them, or "".
        places: name of a photo -> its path from that folder, where that is another.
    """

    key: str
    classes: list[str]
    none: str
    others: list[str]
    folder: str
    commands: list[tuple[str, str]]
    note: str = ""
    places: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self, number: int) -> dict[str, object]:
        """Return what the script of a page needs; pages count from 1."""
        file = FILE if number == 1 else FILE.replace(".", f"-{number}.")
        plain = {
            name: getattr(self, name) for name in ("key", "classes", "none", "others", "folder")
        }
        commands = [(what, file.join(said.rsplit(FILE, 1))) for what, said in self.commands]
        return {**plain, "file": file, "commands": commands, "note": self.note}


def corrections_of(
    photos: Photos, class_names: Sequence[str], learned_from_images: bool
) -> Corrections | None:
    """Return how the labels of a run are corrected, or None where no folder holds all its photos.

    Args:
        photos: of the run, with the folder of its results.
        class_names: the model's.
        learned_from_images: whether there is something else to learn from.
    """
    words = [name for name in class_names if not is_catch_all(name)]
    base = _folder_of(photos)
    if base is None or not words:
        return None
    folder, typed = base
    places = {}
    for image in photos.images:
        place = Path(os.path.relpath(os.path.abspath(image.path), folder)).as_posix()
        if place != image.name:
            places[image.name] = place
    file = os.path.join(typed, FILE)
    what = ["-c", ",".join(words)]
    commands = [
        ("Label the photos again with it", _quoted("run", typed, *what, "--data", file)),
        ("Or answer more questions first", _quoted("teach", *what, "-p", typed, "--data", file)),
    ]
    if photos.output is not None:
        sort = _quoted("sort", os.fspath(photos.output), "-o", "sorted")
        commands.append(("Or copy the photos into a folder a class, as you decided", sort))
    note = "Give what the model learned from so far with another --data."
    names = "\0".join([os.path.abspath(photos.output or ""), os.path.abspath(folder), *words])
    key = hashlib.sha256(names.encode("utf-8", "replace")).hexdigest()[:16]
    others = [name for name in class_names if is_catch_all(name)]
    return Corrections(
        key,
        words,
        NONE_OF_THESE,
        others,
        typed,
        commands,
        note if learned_from_images else "",
        places,
    )


def _folder_of(photos: Photos) -> tuple[str, str] | None:
    """Return the folder that holds all photos, absolute and as it is best typed."""
    sources = [os.fspath(source) for source in photos.sources]
    if len(sources) == 1 and os.path.isdir(os.path.expanduser(sources[0])):
        return os.path.abspath(os.path.expanduser(sources[0])), sources[0]
    try:
        folder = os.path.commonpath(
            {os.path.dirname(os.path.abspath(image.path)) for image in photos.images}
        )
        near = os.path.relpath(folder)
    except ValueError:  # on several drives, or no photo at all
        return None
    if os.path.dirname(folder) == folder:  # nobody saves a table in the root of a disk
        return None
    return folder, folder if near.startswith("..") else near


def _quoted(*words: str) -> str:
    """Return a command of wordsight as a shell of this system takes it."""
    command = ["wordsight", *words]
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)
