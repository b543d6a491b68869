"""Copy a data set as upright sRGB JPEGs of a bounded size, which all tools read the same way."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..core import cells
from ..core.home import expand, sync_file, writing
from ..core.progress import Progress, or_notebook
from ..core.regular import read_regular
from ..core.result_folder import ResultFolder, building, seal, swap
from ..core.tables import with_suffix
from ..errors import InvalidArgument, UnreadableImage
from ..images.decoding import MAX_BYTES, to_jpeg
from .files import ImageFile, data_root
from .labelled import read_labelled

MAX_SIDE = 320  # the input of the embedded backbone
THERE = "'{folder}' is there already. Choose a new folder."


def convert(
    data: str | os.PathLike,
    output: str | os.PathLike,
    *,
    max_side: int = MAX_SIDE,
    progress: Progress | None = None,
) -> list[tuple[str, str]]:
    """Copy every image as JPEG: the first frame, upright, converted to sRGB by its colour profile,
    on white where it is transparent, no side longer than `max_side`.

    Args:
        data: a folder with one subfolder per class, one with metadata.csv, or a CSV with file_name
            and label.
        output: a new or empty folder, or one that the same conversion wrote and nobody changed;
            gets one subfolder per class, and metadata.csv.
        max_side: in pixels; smaller images keep their size.
        progress: called with (done, total, "images").

    Returns:
        (file name, reason) of images that could not be read.

    Raises:
        NotFound: if there is no such data set.
        InvalidArgument: if it can't be read, or the output is in use or inside it.
        OutputError: if something can't be written.
    """
    progress = or_notebook(progress)
    if not 16 <= max_side <= 20_000:
        raise InvalidArgument(f"The longest side must be 16 to 20000 pixels, got {max_side}.")
    labelled = read_labelled(data, min_classes=1)
    target = expand(output)
    by = _name(data, max_side)
    _check_target(target, data, by)
    names = _names(labelled.images)

    def copy(file: ImageFile) -> str | None:
        return _copy(file, built / names[file.name], max_side)

    failed, rows = [], []
    with (
        building(target) as built,
        writing(target),
        ThreadPoolExecutor(os.cpu_count() or 1) as workers,
    ):
        for done, (file, reason) in enumerate(
            zip(labelled.images, workers.map(copy, labelled.images), strict=True), start=1
        ):
            if reason is None:
                rows.append((names[file.name], file.label))
            else:
                failed.append((file.name, reason))
            if progress:
                progress(done, len(labelled.images), "pictures")
        with cells.create_table(built / "metadata.csv") as text:
            cells.writer(text).writerows([("file_name", "label"), *sorted(rows)])
        seal(built, by)
        _check_target(target, data, by)  # somebody may have put something there in the meantime
        swap(built, target)
    return failed


def _check_target(target: Path, data: str | os.PathLike, by: str) -> None:
    """Refuse a folder that is not new, empty or as the same conversion left it, or that lies in
    the data set.

    Raises:
        InvalidArgument: if there is such a folder.
    """
    folder = ResultFolder(target, by, is_file=THERE, not_ours=THERE)
    folder.claim()
    if not folder.is_whole():
        raise InvalidArgument(THERE.format(folder=target))
    if target.resolve().is_relative_to(data_root(data)):
        raise InvalidArgument(f"'{target}' lies inside the data set. Choose a folder elsewhere.")


def _name(data: str | os.PathLike, max_side: int) -> str:
    """Return a name of the conversion: the same for the same data set and size."""
    whole = f"{expand(data).resolve()}|{max_side}".encode("utf-8", "surrogateescape")
    return f"conversion {hashlib.sha256(whole).hexdigest()[:16]}"


def _copy(file: ImageFile, target: Path, max_side: int) -> str | None:
    """Write an image as JPEG to `target`; return None, or why it can't be read.

    Raises:
        OSError: if the copy can't be written.
    """
    try:
        data = read_regular(file.path, MAX_BYTES)
    except OSError as error:
        return error.strerror or type(error).__name__
    try:
        written = to_jpeg(data, max_side)
    except UnreadableImage as error:
        return str(error)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(written)
    sync_file(target)
    return None


def _names(images: list[ImageFile]) -> dict[str, str]:
    """Return the new name of each image: its class, its stem, and .jpg; with a number if another
    image has that name.
    """
    taken: set[str] = set()
    names = {}
    for image in images:
        stem = f"{image.label}/{image.path.stem}"
        name = next(
            name
            for number in range(len(images) + 1)
            if (name := with_suffix(f"{stem}-{number}" if number else stem, ".jpg")).casefold()
            not in taken
        )
        taken.add(name.casefold())
        names[image.name] = name
    return names
