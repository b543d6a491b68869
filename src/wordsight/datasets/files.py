"""Find image files. Looks at names and first bytes only; decodes nothing."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..core.home import expand
from ..core.names import is_passed_over
from ..core.records import drawn_names
from ..core.regular import open_regular
from ..errors import InvalidArgument, NotFound
from ..images.signatures import archive_kind, looks_like_image

log = logging.getLogger("wordsight")
SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
UNREAD = "a folder that can't be read"
RESULT_FOLDERS = ("images", "heatmaps", "masks")  # what a results folder holds beside its tables


@dataclass(frozen=True)
class ImageFile:
    """One image file.

    Attributes:
        path: where it is.
        name: path relative to the folder the caller gave, with `/` between parts.
        label: class name, or None.
        split: "train", "val" or "test" where a table says so, else None.
    """

    path: Path
    name: str
    label: str | None = None
    split: str | None = None


@dataclass
class Found:
    """Image files in order of name, the names of the files that are none, and (file, reason) of
    each folder that can't be read.
    """

    images: list[ImageFile] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unread: list[tuple[ImageFile, str]] = field(default_factory=list)


def find_images(sources: Iterable[str | os.PathLike], exclude: Path | None = None) -> Found:
    """Find the images in folders (with all below them), files and globs.

    Hidden files and folders are passed over, and so are drawings of earlier results; folders that
    link back to themselves are entered once. A folder that can't be read stands among the images,
    as one that can't be read.

    Args:
        sources: what to look through.
        exclude: a folder to pass over, such as the one results go to.

    Raises:
        NotFound: if a source does not exist, or a glob matches nothing.
        InvalidArgument: if no source contains an image.
    """
    found = Found()
    named = [os.fspath(source) for source in sources]
    roots = [
        (root, root != Path(source).expanduser()) for source in named for root in _expand(source)
    ]
    several = len(roots) > 1
    for root, by_pattern in roots:
        if root.is_dir():
            if not (
                by_pattern and exclude is not None and exclude.is_dir() and exclude.samefile(root)
            ):
                walk(root, root.resolve().name + "/" if several else "", found, exclude)
        elif by_pattern and not _is_image(root):
            found.skipped.append(root.name)
        else:
            found.images.append(ImageFile(root, root.name))  # named outright: always a row
    if found.unread:
        found.images += [file for file, _ in found.unread]
        found.images.sort(key=lambda image: image.name)
    found.images = _unique_names(found.images)
    if not found.images:
        what = (
            "no file at all"
            if not found.skipped
            else f"{len(found.skipped)} files, none of them a picture"
        )
        raise InvalidArgument(
            f"No pictures in {_quoted(named)}: {what}. Give a folder of photos, such as 'photos/'."
        )
    return found


def _expand(source: str) -> list[Path]:
    path = expand(source)
    if path.exists():
        return [path]
    if any(sign in source for sign in "*?["):
        matches = [
            Path(match) for match in sorted(glob.glob(os.path.expanduser(source), recursive=True))
        ]
        if matches:
            return matches
        raise NotFound(f"Nothing matches '{source}'. Check the pattern, or give a folder.")
    raise NotFound(f"No such file or folder: '{source}'.")


def walk(root: Path, prefix: str, found: Found, exclude: Path | None = None) -> None:
    """Add everything below `root`, in order of name."""
    visited: set[tuple[int, int]] = set()
    if exclude is not None and exclude.is_dir():
        ours = [exclude / name for name in RESULT_FOLDERS] if exclude.samefile(root) else [exclude]
        visited |= {
            (folder.stat().st_dev, folder.stat().st_ino) for folder in ours if folder.is_dir()
        }
    stack = [(root, prefix)]
    while stack:
        folder, prefix = stack.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue  # a link back to a folder already read
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            file = ImageFile(folder, prefix.rstrip("/") or folder.name)
            found.unread.append((file, f"{UNREAD}: {error.strerror or error}"))
            continue
        subfolders = []
        drawn = drawn_names(folder, (entry.name for entry in ordered))
        for entry in ordered:
            if is_passed_over(entry.name) or entry.name in drawn:
                continue
            if _is_dir(entry):
                subfolders.append((Path(entry.path), f"{prefix}{entry.name}/"))
            elif _is_image(Path(entry.path)):
                found.images.append(ImageFile(Path(entry.path), prefix + entry.name))
            else:
                found.skipped.append(prefix + entry.name)
        stack.extend(reversed(subfolders))


def names_in(folder: Path) -> list[str]:
    """Return what lies in a folder, in order, but for hidden things and those of systems.

    Raises:
        OSError: if it can't be read.
    """
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not is_passed_over(entry.name))


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that may not be entered
        return False


def _is_image(path: Path) -> bool:
    suffix = path.suffix
    if looks_like_image(suffix):
        return True
    try:
        with open_regular(path) as file:
            return looks_like_image(suffix, file.read(1024))
    except OSError:
        return False


def _unique_names(images: list[ImageFile]) -> list[ImageFile]:
    """Make names unique where two sources hold the same one, by the shortest run of parent
    folders that tells them apart.
    """
    by_path = {os.path.abspath(image.path): image for image in images}
    taken: dict[str, int] = {}
    for image in by_path.values():
        taken[image.name] = taken.get(image.name, 0) + 1
    if max(taken.values(), default=1) == 1:
        return list(by_path.values())
    return [
        image
        if taken[image.name] == 1
        else ImageFile(image.path, os.path.abspath(image.path).lstrip("/"), image.label)
        for image in by_path.values()
    ]


def _quoted(sources: list[str]) -> str:
    return ", ".join(f"'{source}'" for source in sources)


def data_root(data: str | os.PathLike) -> Path:
    """Return the folder that file names of a data set are relative to."""
    path = expand(data).resolve()
    return path if path.is_dir() else path.parent


def refuse_archive(path: Path) -> None:
    """Check that a path is no .zip, .tar or the like, by its first bytes, and no spreadsheet.

    Raises:
        InvalidArgument: if it is one.
    """
    if path.suffix.lower() in SPREADSHEETS and path.is_file():
        raise InvalidArgument(f"'{path}' is a spreadsheet. Save it as CSV, and give that.")
    kind = None
    with contextlib.suppress(OSError), open_regular(path) as file:  # of others, readers tell
        kind = archive_kind(file.read(512))
    if kind is not None:
        raise InvalidArgument(
            f"'{path}' is a {kind} archive. Unpack it, and give the folder that comes out."
        )


def refuse_photos_among_results(
    images: list[ImageFile], output: Path, names: Iterable[str]
) -> None:
    """Check that results won't overwrite the photos being read.

    Raises:
        InvalidArgument: if a photo lies in one of the folders `names` of `output`, where
            results would be drawn.
    """
    ours = [(output / name).resolve() for name in names]
    for folder in {image.path.parent for image in images}:
        if any(folder.resolve().is_relative_to(path) for path in ours):
            raise InvalidArgument(
                f"The photos in '{folder}' lie where results would be drawn. Choose another "
                "folder with -o."
            )
