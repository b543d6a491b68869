"""Read the tables that `run`, `predict`, `detect` and `recognize` wrote, and find their photos."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ..core.regular import open_text
from ..core.tables import noted_photos
from ..datasets.files import ImageFile, find_images
from ..errors import InvalidArgument, NotFound, WordsightError

TABLES = ("predictions.jsonl", "detections.jsonl", "recognition.jsonl")
T = TypeVar("T")


def find_table(path: Path, tables: Sequence[str] = TABLES) -> Path:
    """Return the table of results at a path: the file itself, or the first table in the folder.

    Args:
        path: a folder of results, or a table in one.
        tables: names of the tables that will do, the best first.

    Raises:
        NotFound: if there is no such folder.
        InvalidArgument: if the folder holds no such table.
    """
    if path.is_file() and path.name in tables:
        return path
    if not path.is_dir():
        raise NotFound(
            f"No results in '{path}'. Give the folder that 'wordsight run' or 'wordsight predict' "
            "wrote."
        )
    for name in tables:
        if (path / name).is_file():
            return path / name
    raise InvalidArgument(
        f"'{path}' holds no results: none of {', '.join(tables)} is there. Give the folder that "
        "'wordsight predict' wrote."
    )


def read_rows(table: Path, convert: Callable[[dict], T]) -> Iterator[T]:
    """Yield what `convert` makes of each line of a table.

    Raises:
        InvalidArgument: if a line is no row of results.
    """
    done = 0
    try:
        with open_text(table) as lines:
            for line in lines:
                yield convert(json.loads(line))
                done += 1
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InvalidArgument(
            f"'{table}' line {done + 1} is no row of results ({type(error).__name__}: {error}). "
            "Make the results anew."
        ) from None


def sources_of(
    table: Path, photos: str | os.PathLike | Iterable[str | os.PathLike] | None
) -> list[str]:
    """Return the folders, files and globs in which the photos of a table lie.

    Args:
        table: of results.
        photos: where they are now; None: where they were.

    Raises:
        InvalidArgument: if that is not known.
    """
    if photos is not None:
        given = [photos] if isinstance(photos, str | os.PathLike) else photos
        return [os.fspath(photo) for photo in given]
    noted = noted_photos(table.parent, table.stem)
    if noted is None:
        raise InvalidArgument(
            f"This machine doesn't know where the photos of '{table.parent}' are. Give "
            "--photos DIR."
        )
    return noted


def photos_of(
    table: Path, photos: str | os.PathLike | Iterable[str | os.PathLike] | None
) -> dict[str, ImageFile]:
    """Return the photos of a table by their names in it; see `sources_of`.

    Raises:
        InvalidArgument: if the photos are not known or not found.
    """
    sources = sources_of(table, photos)
    try:
        return {image.name: image for image in find_images(sources, exclude=table.parent).images}
    except WordsightError as error:
        raise InvalidArgument(
            f"The photos of '{table.parent}' are not where they were ({error}) Say where they "
            "are with --photos."
        ) from None
