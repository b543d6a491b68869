"""Read labelled sets of images: a folder per class, a table, folders of splits."""

from __future__ import annotations

import functools
import logging
import os
import posixpath
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core.home import expand, is_file, is_folder, spelled
from ..core.names import on_foreign_share, spellings
from ..errors import InvalidArgument, NotFound, some_of
from ..images.finding import images_by_key, only_alike
from ..images.signatures import looks_like_image
from ..words.class_names import (
    NONE_OF_THESE,
    check_class_names,
    fold,
    split_none,
    with_catch_all,
)
from .files import Found, ImageFile, names_in, refuse_archive, walk
from .foreign_tables import TABLE_SUFFIXES, heading, numbered_rows, read_headings, read_table

# folders that stand for splits, as people name them
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "dev": "val",
}
log = logging.getLogger("wordsight")
# headings, as they are compared, of the image's name and of its class, the likeliest first
FILE_COLUMNS = (
    *("file_name", "filename", "file", "image", "image_name", "image_id", "imageid"),
    *("path", "file_path", "filepath", "image_path", "imagepath", "relative_path"),
)
# ways to write a column a class
ONE_HOT = {"1.0": "1", "0.0": "0", "true": "1", "false": "0"}
NO_LABEL, NO_PICTURE = "has no label", "names no picture"
ABSENT = "says that the class is not to be seen (confidence 0)"
LABEL_COLUMNS = ("label", "class", "class_name", "labelname", "label_name", "category", "species")


@dataclass(frozen=True)
class LabelledSet:
    """Labelled image files and their classes in order.

    Attributes:
        images: what to learn from.
        class_names: the classes.
        skipped: names of files that are no images.
        unused: (name, reason) of each listed image that can't be taken, and of each folder that
            can't be read.
    """

    images: list[ImageFile]
    class_names: list[str]
    skipped: list[str] = field(default_factory=list)
    unused: list[tuple[str, str]] = field(default_factory=list)


def read_labelled(source: str | os.PathLike, min_classes: int = 2) -> LabelledSet:
    """Read a labelled set: a folder with one subfolder per class, or a CSV with columns `file_name`
    and `label`.

    A folder that holds `metadata.csv` with a `label` column is read by that file.

    Raises:
        NotFound: if the source does not exist.
        InvalidArgument: for fewer than two classes, or names that differ by case or blanks only.
    """
    path = expand(source)
    if not path.exists():
        raise NotFound(
            f"No such training data: '{source}'. Give a folder with one subfolder a class, such "
            "as data/cat and data/dog."
        )
    refuse_archive(path)
    if path.is_dir():
        metadata = path / "metadata.csv"
        found = (
            _read_metadata(path)
            if metadata.is_file() and "label" in read_headings(metadata)
            else _read_folders(path)
        )
    elif path.suffix.lower() in TABLE_SUFFIXES:
        images, unused = _read_csv(path)
        found = LabelledSet(images, [], unused=unused)
    else:
        raise InvalidArgument(
            f"Training data must be a folder with one subfolder a class or a .csv, got '{source}'."
        )
    return with_classes(found, path, min_classes)


def with_classes(labelled: LabelledSet, source: Path, min_classes: int = 2) -> LabelledSet:
    """Return a set with its images' classes in order.

    Raises:
        InvalidArgument: if there are fewer than `min_classes`, or names differ only by case or
            blanks.
    """
    class_names = sorted({image.label for image in labelled.images if image.label is not None})
    if len(class_names) < min_classes:
        got = f"only '{some_of(class_names)}'" if class_names else "none"
        raise InvalidArgument(
            f"Training needs at least 2 classes, one subfolder each; '{source}' has {got}. "
            "To recognise one thing, add a folder of other pictures, such as 'not_brick'."
        )
    check_class_names(class_names)
    return replace(labelled, class_names=class_names)


def merge(sets: dict[str, LabelledSet]) -> LabelledSet:
    """Return several labelled sets as one; each image's name begins with the name of its set."""
    names = list(dict.fromkeys(name for one in sets.values() for name in one.class_names))
    return LabelledSet(
        [replace(i, name=f"{key}/{i.name}") for key, one in sets.items() for i in one.images],
        names,
        [f"{key}/{name}" for key, one in sets.items() for name in one.skipped],
        [(f"{key}/{name}", why) for key, one in sets.items() for name, why in one.unused],
    )


def select_classes(labelled: LabelledSet, words: list[str]) -> LabelledSet:
    """Keep the images of the words asked for. All others become the catch-all: of one word its
    own, of several the class "none_of_these".

    Raises:
        InvalidArgument: if the data lacks a word, or no word asks for anything.
    """
    words, _ = split_none(words)
    known = {fold(name) for name in labelled.class_names}
    missing = [word for word in words if fold(word) not in known]
    if missing or not words:
        raise InvalidArgument(
            f"The labelled pictures have no class '{missing[0] if missing else 'to look for'}'; "
            f"they have: {some_of(labelled.class_names)}."
        )
    if len(words) == 1:
        names = with_catch_all(words)
        return relabel(labelled, names, names[-1])
    asked = {fold(word) for word in words}
    if all(fold(name) in asked for name in labelled.class_names):
        return relabel(labelled, words)
    return relabel(labelled, [*words, NONE_OF_THESE], NONE_OF_THESE)


def relabel(
    labelled: LabelledSet, class_names: list[str], catch_all: str | None = None
) -> LabelledSet:
    """Spell the images' classes as in `class_names`, whatever their case and blanks; images of
    other classes get the class `catch_all`, or go.
    """
    spelling = {fold(name): name for name in class_names}
    images = [
        replace(image, label=spelling.get(fold(image.label or ""), catch_all))
        for image in labelled.images
    ]
    return replace(
        labelled,
        images=[image for image in images if image.label is not None],
        class_names=class_names,
    )


def _read_folders(root: Path) -> LabelledSet:
    """Read a folder per class, or such folders within those of splits."""
    folders = [name for name in names_in(root) if (root / name).is_dir()]
    splits = [name for name in folders if name.casefold() in SPLIT_FOLDERS]
    if not folders or splits != folders:
        return _read_class_folders(root)
    with_classes = [name for name in splits if _has_folders(root / name)]
    if not with_classes and len(splits) > 1:
        raise InvalidArgument(
            f"'{root}' holds the splits {', '.join(splits)}, and no class folders in them. Put "
            "one subfolder a class into each, or give the file that names the classes."
        )
    if not with_classes:
        return _read_class_folders(root)
    sets = {name: _read_class_folders(root / name) for name in with_classes}
    for name in sorted({*splits} - {*with_classes}):
        log.info("'%s' holds no class folders, so it is left out.", root / name)
    marked = {
        name: replace(
            one, images=[replace(i, split=SPLIT_FOLDERS[name.casefold()]) for i in one.images]
        )
        for name, one in sets.items()
    }
    return merge(marked)


def _has_folders(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in names_in(folder))


def _read_class_folders(root: Path) -> LabelledSet:
    images: list[ImageFile] = []
    skipped: list[str] = []
    empty: list[str] = []
    unread: list[tuple[str, str]] = []
    loose: list[str] = []
    for name in names_in(root):
        if not (root / name).is_dir():
            (loose if looks_like_image(Path(name).suffix) else skipped).append(name)
            continue
        found = Found()
        walk(root / name, name + "/", found)
        label = unicodedata.normalize("NFC", name).strip()
        images += [ImageFile(image.path, image.name, label) for image in found.images]
        skipped += found.skipped
        unread += [(file.name, reason) for file, reason in found.unread]
        if not found.images and not found.unread:
            empty.append(name)
    if images and empty:
        log.warning(
            "Class folders of '%s' without a picture are left out: %s.", root, some_of(empty)
        )
    if not images:
        if loose:
            count = f"{len(loose):,} picture{' lies' if len(loose) == 1 else 's lie'}"
            raise InvalidArgument(
                f"{count} in '{root}' itself, so nothing says what they show. Put them into one "
                "subfolder a class, or teach a word by a few key presses: wordsight teach -c WORD "
                f"-p '{root}'."
            )
        why = f" '{unread[0][0]}' is {unread[0][1]}." if unread else ""
        raise InvalidArgument(
            f"No pictures in '{root}': it needs one subfolder a class, with pictures in each.{why}"
        )
    _say_where(root, images, loose)
    return LabelledSet(images, [], [*loose, *skipped], unread)


def _say_where(root: Path, images: list[ImageFile], loose: list[str]) -> None:
    """Log which images have no class folder, and which lie deeper than in one."""
    if loose:
        log.info(
            "%d pictures in '%s' lie outside the class folders and are left out: %s.",
            len(loose),
            root,
            some_of(loose),
        )
    deeper = sorted(
        {image.name.rpartition("/")[0] for image in images if image.name.count("/") > 1}
    )
    if deeper:
        log.info("Subfolders of class folders count for the class above them: %s.", some_of(deeper))


def _read_metadata(root: Path) -> LabelledSet:
    """Read a folder by its metadata.csv. Images deleted since, and those listed without a
    label, are passed over; those added to a class's folder count.
    """
    listed, unused = _read_csv(root / "metadata.csv")
    unused = [one for one in unused if one[1] not in (NO_LABEL, NO_PICTURE)]
    present = [image for image in listed if is_file(image.path)]
    names = _listed_names(root / "metadata.csv")
    if len(names) > len({image.name for image in listed}):
        log.info(
            "Left out: %d pictures that 'metadata.csv' lists without a label.",
            len(names) - len({image.name for image in listed}),
        )
    if not present:
        return LabelledSet(listed, [])
    found = Found()
    for label in sorted({str(image.label) for image in listed}):
        # a folder of the set, no other
        if (
            label not in (".", "..")
            and "/" not in label
            and os.sep not in label
            and is_folder(root / label)
        ):
            walk(root / label, label + "/", found)
    listed_files = {spelled(root.resolve() / name) for name in names if not name.isascii()}
    added = [
        ImageFile(image.path, image.name, image.name.partition("/")[0])
        for image in found.images
        if image.name not in names and image.path not in listed_files
    ]
    there = {image.name for image in present}
    gone = [f"{image.name} (gone)" for image in listed if image.name not in there]
    return LabelledSet(
        sorted(present + added, key=lambda image: image.name),
        [],
        gone + found.skipped,
        [*unused, *((file.name, reason) for file, reason in found.unread)],
    )


def _listed_names(path: Path) -> set[str]:
    """Return all names that a table lists, with a label or, as a person rejected them, without."""
    rows = read_table(path)
    columns = [heading(name) for name in next(rows, [])]
    at = columns.index(next(name for name in FILE_COLUMNS if name in columns))
    return {posixpath.normpath(row[at]) for row in rows if len(row) > at and row[at]}


def _read_csv(path: Path) -> tuple[list[ImageFile], list[tuple[str, str]]]:
    """Return the labelled images of a CSV, and (line, reason) of the rows of several classes.

    Raises:
        InvalidArgument: if it lacks the columns, or names a file outside its folder.
    """
    rows = numbered_rows(path)
    headings = next(rows, (1, []))[1]
    columns = [heading(name) for name in headings]
    names = next((name for name in FILE_COLUMNS if name in columns), None)
    labels = next((name for name in LABEL_COLUMNS if name in columns), None)
    if names is not None and labels is None and len(columns) > 2:
        marked = _one_hot(path, headings, columns.index(names), rows)
        if marked is not None:
            return marked
    if names is None or labels is None:
        raise InvalidArgument(
            f"'{path}' needs the columns file_name and label; it has {some_of(columns)}."
        )
    check_headings(path, columns, names, labels)
    where = Inside(path.parent)
    images, unused = [], []
    for number, values in rows:
        row = dict(zip(columns, values, strict=False))
        name, label = row.get(names, "").strip(), row.get(labels, "").strip()
        if name and label and not _is_absent(row, labels):
            images.append(where.image(name, label, f"'{path}' line {number}", row.get("split")))
        elif any(value.strip() for value in values):
            reason = ABSENT if name and label else NO_LABEL if name else NO_PICTURE
            unused.append((f"line {number}", reason))
    if not images:
        raise InvalidArgument(f"'{path}' has no row with both file_name and label.")
    return _once(images, unused), unused


def check_headings(path: Path, columns: list[str], *used: str) -> None:
    """Check that no heading that counts stands over two columns.

    Raises:
        InvalidArgument: if one does.
    """
    twice = [name for name in used if columns.count(name) > 1]
    if twice:
        raise InvalidArgument(
            f"'{path}' has the column {twice[0]} twice, so nobody knows which counts. Take one "
            "away, or rename it."
        )


def _is_absent(row: dict[str, str], labels: str) -> bool:
    """Whether a row says that a class is not to be seen, as Open Images does."""
    return labels == "labelname" and row.get("confidence", "").strip() in ("0", "0.0")


def _once(images: list[ImageFile], unused: list[tuple[str, str]]) -> list[ImageFile]:
    """Return images each once; those with several labels are left out and added to `unused`."""
    labels: dict[Path, set[str]] = {}
    for image in images:
        labels.setdefault(image.path, set()).add(str(image.label))
    if len(labels) == len(images):
        return images
    first = {image.path: image for image in reversed(images)}
    unused += [
        (first[path].name, f"is given several labels: {some_of(sorted(names))}")
        for path, names in labels.items()
        if len(names) > 1
    ]
    return [first[path] for path, names in labels.items() if len(names) == 1]


def _one_hot(
    path: Path, headings: list[str], at: int, rows: Iterator[tuple[int, list[str]]]
) -> tuple[list[ImageFile], list[tuple[str, str]]] | None:
    """Return the images of a table with a column a class, of 0 and 1 (Roboflow's _classes.csv), and
    (line, reason) of those of several classes or none; None if it is no such table.

    Args:
        path: the table.
        headings: of its columns.
        at: the column of names.
        rows: those behind the headings, with their lines.
    """
    headings = [name.strip() for name in headings]
    while headings and not headings[-1]:  # of spreadsheets that leave empty columns
        headings.pop()
    where = Inside(path.parent)
    images, unused = [], []
    for number, values in rows:
        if not any(value.strip() for value in values):
            continue
        marks = [ONE_HOT.get(value.strip().casefold(), value.strip()) for value in values]
        marks = marks[: len(headings)] if not any(marks[len(headings) :]) else marks
        if len(marks) != len(headings) or {*marks[:at], *marks[at + 1 :]} - {"0", "1"}:
            return None
        shown = [h for i, h in enumerate(headings) if i != at and marks[i] == "1"]
        if len(shown) == 1:
            images.append(where.image(marks[at], shown[0], f"'{path}' line {number}", None))
        else:
            reason = f"shows {' and '.join(shown)}" if shown else "has no class"
            unused.append((f"line {number} ({marks[at]})", reason))
    return (images, unused) if images else None


class Inside:
    """Finds the images that a table beside them names, and no file outside its folder.

    Args:
        folder: the table's.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()
        self._images_in = functools.cache(self._list)  # looks into a folder once
        # asks the disk once a folder
        self._is_inside = functools.cache(
            lambda folder: folder.resolve().is_relative_to(self._root)
        )

    def image(self, name: str, label: str, where: str, split: str | None) -> ImageFile:
        """Return the image of a row.

        Args:
            name: as it is written; backslashes and paths of another machine are understood.
            label: class name.
            where: the row, to name it by.
            split: as it is written, or None.

        Raises:
            InvalidArgument: if it lies outside the folder.
        """
        ways = spellings(name)
        own = name
        if len(ways) > 1:
            own = next((one for one in ways if self._may(one) and self._there(one)), name)
        if not os.path.isfile(f"{self._root}{os.sep}{own}"):
            own = self._alike(own) or own
        if not self._may(own):
            raise InvalidArgument(f"{where} names {name[:200]!r}, which is outside its folder.")
        path = self._root / own
        if os.path.isabs(own):  # results are named below their folder
            own = Path(os.path.relpath(path, self._root)).as_posix()
        return ImageFile(spelled(path), own, unicodedata.normalize("NFC", label), split or None)

    def _alike(self, name: str) -> str | None:
        """Return the only image that a name may mean that is not there: of other case or without
        its suffix, or, of a name without a folder, in `images`.
        """
        folder, base = posixpath.split(name)
        for one in (folder, *(("images",) if not folder else ())):
            images = self._images_in(one)
            found = only_alike(images, base) if images else None
            if found is not None and self._may(posixpath.join(one, found.name)):
                return posixpath.join(one, found.name)
        return None

    def _list(self, folder: str) -> dict[str, list[Path]]:
        path = self._root / folder
        try:
            if "\0" in folder or on_foreign_share(path, [self._root]) or not self._is_inside(path):
                return {}
        except (OSError, RuntimeError):  # a name that none can have, a loop of links
            return {}
        return images_by_key(path)

    def _there(self, name: str) -> bool:
        try:
            return is_file(spelled(self._root / name))
        except (OSError, ValueError):
            return False

    def _may(self, name: str) -> bool:
        path = self._root / name
        try:
            return (
                "\0" not in name
                and not on_foreign_share(path, [self._root])
                and self._is_inside(path.parent)
                and _stays_inside(path, self._root)
            )
        except (OSError, RuntimeError):  # a folder's name that none can have, a loop of links
            return False


def _stays_inside(path: Path, root: Path) -> bool:
    """Whether a file stays inside the root: neither `..` nor a link leads out."""
    try:
        return path.name != ".." and (not path.is_symlink() or path.resolve().is_relative_to(root))
    except OSError:  # a name no file can have, which is then not there
        return True
