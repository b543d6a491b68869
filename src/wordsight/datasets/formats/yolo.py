"""Boxes as YOLO's text files: class x_centre y_centre width height, as fractions, with class names
in a data.yaml, or in the classes.txt or obj.names of tools that write none.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.home import is_file, is_folder
from ...core.names import is_passed_over, lies_inside, spellings
from ...errors import InvalidArgument
from ...images.finding import UPLOADED
from ...images.signatures import looks_like_image
from .base import (
    Format,
    Labelled,
    RawBox,
    files_below,
    numbers,
    peek,
    read_text,
    register_format,
)
from .shapes import Sides, box_of_points, has_key_points

MAX_YAML = 1 << 20  # bytes: twenty thousand names
# thousands of nested lists take PyYAML minutes, and make libyaml end the process
MAX_DEPTH, MAX_BRACKETS = 20, 1000
SPLITS = ("train", "val", "test")
NAMES_FILES = ("obj.names", "classes.txt", "_darknet.labels")
DATA_FILES, DATA_SUFFIXES = ("data.yaml", "data.yml", "dataset.yaml"), (".yaml", ".yml")
# of a data file under another name
_NAMED = re.compile(r"(?=.*^names\s*:)(?=.*^(?:train|val)\s*:)", re.MULTILINE | re.DOTALL)
log = logging.getLogger("wordsight")


@register_format
class Yolo(Format):
    """A data.yaml, or the folder that holds it, which names classes and folders of images, or lists
    of images; labels lie beside each folder of images. Or a folder with classes.txt (labelImg,
    Label Studio) or obj.names (CVAT's YOLO 1.1).
    """

    name = "YOLO"
    key = "yolo"
    described = "a data.yaml with names and train, or a folder with classes.txt or obj.names"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        return _file(path) is not None or _names_file(path) is not None

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`."""
        file, named = _file(path), _names_file(path)
        if file is None:
            assert named is not None
            names = dict(enumerate(line.strip() for line in read_text(named).splitlines()))
            yield from _read_folder(root, names, None, (root, named.parent), False)
            return
        content, names, base = _parse(file)
        if not is_folder(base) or not lies_inside(base, root):
            base = file.parent  # written on another machine
        _say_count(file, content, names)
        roots, seen, missing = (root, file.parent), set(), []
        posed = "kpt_shape" in content
        for split in SPLITS:
            for name in _folder_names(content.get(split)):
                # many write ../train/images for the folder train/images beside the file, or the
                # path that it had on another machine
                ways = (
                    [name, name.removeprefix("../"), *spellings(name)]
                    if (isinstance(name, str))
                    else []
                )
                places = [base / way for way in dict.fromkeys(ways) if way]
                there = [place for place in places if is_folder(place)]
                folder = next(
                    (place for place in there if any(lies_inside(place, root) for root in roots)),
                    None,
                )
                listed = next(
                    (p for p in places if p.suffix == ".txt" and is_file(p) and _inside(p, roots)),
                    None,
                )
                if listed is not None:
                    if os.path.abspath(listed) in seen:
                        continue
                    seen.add(os.path.abspath(listed))
                    yield from _read_list(listed, names, split, roots, posed)
                elif folder is None and there:
                    yield _problem(
                        split,
                        f"its folder lies outside '{root}'; put {file.name} beside the pictures",
                    )
                elif folder is None:
                    missing.append(split)
                elif os.path.abspath(folder) not in seen:
                    # some use the same images for training and validation
                    seen.add(os.path.abspath(folder))
                    yield from _read_folder(folder, names, split, roots, posed)
        if not seen:
            yield from (_problem(split, "is no folder that is there") for split in missing)

    def write(
        self, images: list[Labelled], class_names: list[str], folder: Path, made_by: str
    ) -> None:
        """See `Format.write`. Scores are left out: a sixth number would be read as part of a
        polygon.
        """
        import yaml

        ids = {name: number for number, name in enumerate(class_names)}
        for image in images:
            height, width = image.size
            lines = []
            for region in image.regions:
                x_min, y_min, x_max, y_max = region.xyxy
                sides = (
                    (x_min + x_max) / 2 / width,
                    (y_min + y_max) / 2 / height,
                    (x_max - x_min) / width,
                    (y_max - y_min) / height,
                )
                lines.append(
                    f"{ids[region.label]} " + " ".join(f"{side:.8f}" for side in sides) + "\n"
                )
            target = (folder / "labels" / image.file_name).with_suffix(".txt")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(lines), encoding="utf-8")
        content = {
            "train": self.images,
            "val": self.images,
            "names": dict(enumerate(class_names)),
        }
        comment = (
            f"# Labels by {made_by}. 'val' is the same pictures as 'train', for the file must "
            "name some: split them before training.\n"
        )
        (folder / "data.yaml").write_text(
            comment + yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8"
        )


def _problem(where: str, problem: str) -> RawBox:
    """Return a split that can't be used."""
    return RawBox(where, (), "", None, True, problem=problem)


def _folder_names(folders: Any) -> list:
    """Return the folders of a split, which is written as one text or as a list."""
    if isinstance(folders, str):
        return [folders]
    return folders if isinstance(folders, list) else []


def _parse(file: Path) -> tuple[dict, dict[int, str], Path]:
    """Return the content of a data file, the class names by number, and the folder that its paths
    are relative to.

    Raises:
        InvalidArgument: if it is not a YOLO data file.
    """
    import yaml

    try:
        content = _content(file)
        names = content["names"]
        if not isinstance(names, dict | list):
            raise InvalidArgument(
                f"'{file}' says names: {str(names)[:40]!r}. Names must be a list, or numbers with "
                "their names, such as 'names: [cat, dog]'."
            )
        names = {
            int(key): _scalar(name)
            for key, name in (names.items() if isinstance(names, dict) else enumerate(names))
        }
        return content, names, file.parent / _scalar(content.get("path") or "")
    except InvalidArgument:
        raise
    except (
        yaml.YAMLError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise InvalidArgument(
            f"'{file}' is no YOLO data file: it needs names and train ({type(error).__name__})."
        ) from None


def _content(file: Path) -> Any:
    """Return the content of a data file, unless it is made to take much time or memory.

    Raises:
        InvalidArgument: if it is too large, nested too deeply, or uses YAML aliases or tags.
    """
    import yaml

    text, depth = read_text(file, MAX_YAML + 1), 0
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    if len(text) > MAX_YAML:
        raise InvalidArgument(
            f"'{file}' has more than {MAX_YAML >> 10} KiB, the most of names and folders that is "
            "read."
        )
    nested = text.count("[") + text.count("{") > MAX_BRACKETS
    for event in () if nested else yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidArgument(
                f"'{file}' repeats parts of itself by YAML aliases, by which a few lines can "
                "stand for gigabytes. Write them out."
            )
        if getattr(event, "tag", None) is not None:
            raise InvalidArgument(
                f"'{file}' says by a YAML tag ({event.tag[:40]}) what a part of it is. Take the "
                "tag away: names and folders need none."
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        if depth > MAX_DEPTH:
            nested = True
            break
    if nested:
        raise InvalidArgument(
            f"'{file}' holds lists in lists beyond what names and folders need. Write it as "
            "names and train, as YOLO does."
        )
    # a base loader makes texts, lists and dictionaries only; numbers of base 60 would take minutes
    return yaml.load(text, loader)


def _scalar(value: object) -> str:
    if isinstance(value, list | dict | tuple | set):
        raise TypeError("a name is no text")
    return str(value)


def _say_count(file: Path, content: dict, names: dict[int, str]) -> None:
    """Log that a data file counts other classes than it names."""
    count = content.get("nc")
    if isinstance(count, str) and count.strip().isdecimal() and int(count[:9]) != len(names):
        log.warning("'%s' says nc: %s, and names %d classes.", file, count[:9], len(names))


def _read_folder(
    folder: Path, names: dict[int, str], split: str | None, roots: tuple[Path, ...], posed: bool
) -> Iterator[RawBox]:
    """Yield the boxes of all images below a folder; of those without a text, none. Texts that
    belong to no image are listed.
    """
    files, unread = files_below(folder, True, split)
    yield from unread
    texts = {image: _texts(image) for image in files if looks_like_image(image.suffix)}
    folders = {text.parent for two in texts.values() for text in two} or {_labels_of(folder)}
    used = {next((text for text in two if os.path.lexists(text)), None) for two in texts.values()}
    lone = [
        text
        for one in sorted(folders)
        if _inside(one, roots)
        for text in sorted(one.glob("*.txt"))
        if text not in used and not is_passed_over(text.name)
    ]
    by_stem = {UPLOADED.sub("", text.stem, count=1): text for text in lone}
    for image, two in texts.items():
        text = next((text for text in two if os.path.lexists(text)), None)
        text = text or by_stem.get(image.stem)
        used.add(text)
        if text is not None:
            yield from _read_labels(image, text, names, split, roots, posed)
    for text in lone:
        if text not in used and _inside(text, roots) and _holds_row(text):
            yield RawBox(
                text.name, (), "", None, True, split=split, problem="there is no picture to it"
            )


def _holds_row(text: Path) -> bool:
    """Whether a text begins with a row of YOLO's."""
    with contextlib.suppress(InvalidArgument):
        values = numbers(*read_text(text, 4096).strip().split("\n", 1)[0].split())
        return values is not None and len(values) > 4
    return False


def _texts(image: Path) -> tuple[Path, Path]:
    """Return where the text of an image may lie: in the folder `labels` for `images`, or beside."""
    return (_labels_of(image.parent) / image.name).with_suffix(".txt"), image.with_suffix(".txt")


def _labels_of(folder: Path) -> Path:
    """Return a folder of texts by YOLO's rule: the last `images` in the path becomes `labels`."""
    parts = list(folder.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def _read_list(
    file: Path, names: dict[int, str], split: str | None, roots: tuple[Path, ...], posed: bool
) -> Iterator[RawBox]:
    """Yield the boxes of the images that a text file lists, a path a line; where one is of another
    machine, the longest end of it that is there counts.
    """
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        parts = [part for part in line.strip().replace("\\", "/").split("/") if part != "."]
        ends = ["/".join(parts[begin:]) for begin in range(len(parts))]
        image = next(
            (
                base / end
                for end in ends
                for base in (file.parent, *roots)
                if "\0" not in end and end and is_file(base / end) and _inside(base / end, roots)
            ),
            None,
        )
        if image is None:
            yield _problem(f"{file.name} line {number}", "its picture is not there")
            continue
        text = next((text for text in _texts(image) if os.path.lexists(text)), None)
        if text is not None:  # else an image without objects
            yield from _read_labels(image, text, names, split, roots, posed)


def _read_labels(
    image: Path,
    text: Path,
    names: dict[int, str],
    split: str | None,
    roots: tuple[Path, ...],
    posed: bool,
) -> Iterator[RawBox]:
    """Yield the boxes of an image's text."""
    if not _inside(text, roots):
        yield RawBox(text.name, (), "", None, True, split=split, problem="leads out of the folder")
        return
    try:
        lines = read_text(text).splitlines()
    except InvalidArgument as error:
        yield RawBox(text.name, (), "", None, True, split=split, problem=str(error))
        return
    for number, line in enumerate(lines, start=1):
        where = f"{text.name} line {number}"
        if not line.strip():
            continue
        values = numbers(*line.split())
        box = None if values is None else _box(values, posed)
        if values is None or box is None:
            first = line.split()[0][:40]
            problem = (
                f"begins with {first!r}, and a row begins with the number of its class"
                if numbers(first) is None
                else "is not five numbers"
            )
            yield RawBox(where, (image,), "", None, True, split=split, problem=problem)
            continue
        whole = math.isfinite(values[0]) and values[0] == int(values[0])
        label = names.get(int(values[0])) if whole else None
        if not label:
            yield RawBox(
                where,
                (image,),
                "",
                None,
                True,
                split=split,
                problem=f"class {line.split()[0]} is not in the data file",
            )
            continue
        yield RawBox(where, (image,), label, box, True, split=split)


def _box(values: tuple[float, ...], posed: bool) -> Sides | None:
    """Return the `xyxy` box of a row, in fractions; None where it is no row of YOLO's.

    Five numbers are a box, a sixth is its score. Rows of a data file with `kpt_shape`, and those
    that can only be a box with points and their visibility, begin with the box. More numbers are a
    polygon's points, and, if one is left over, a score.

    Args:
        values: class and what follows.
        posed: whether the data file has `kpt_shape`.
    """
    rest = values[1:]
    if len(rest) in (4, 5) or (len(rest) > 5 and (posed or has_key_points(rest))):
        x, y, width, height = rest[:4]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(rest) < 6:
        return None
    corners = rest[: len(rest) // 2 * 2]
    return box_of_points(corners[0::2], corners[1::2])


def _inside(path: Path, roots: tuple[Path, ...]) -> bool:
    return any(lies_inside(path, root) for root in roots)


def _file(path: Path) -> Path | None:
    """Return the data file that is meant: the one given, or a folder's under a usual name, or its
    only one that names classes and images.
    """
    if path.is_file():
        return path if path.suffix.lower() in DATA_SUFFIXES else None
    usual = next((path / name for name in DATA_FILES if (path / name).is_file()), None)
    if usual is not None:
        return usual
    files = [one for suffix in DATA_SUFFIXES for one in path.glob(f"*{suffix}") if one.is_file()]
    own = [file for file in files if not is_passed_over(file.name) and _NAMED.search(peek(file))]
    return own[0] if len(own) == 1 else None


def _names_file(path: Path) -> Path | None:
    """Return the list of class names of tools that write no data.yaml: of the folder, or the one
    that is named itself.
    """
    if path.is_file():
        known = path.name in NAMES_FILES or path.suffix == ".names"
        return path if known else None
    names = [*NAMES_FILES, *(f"labels/{name}" for name in NAMES_FILES)]
    usual = next((path / name for name in names if (path / name).is_file()), None)
    others = sorted(path.glob("*.names"))
    return usual or (others[0] if len(others) == 1 else None)
