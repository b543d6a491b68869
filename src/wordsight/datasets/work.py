"""Do one thing to many images: find them, work in order, report progress, list the bad ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from ..core.home import expand
from ..core.progress import Progress
from ..core.threads import parallel_map
from ..errors import InvalidArgument
from .files import ImageFile, find_images, refuse_photos_among_results

S = TypeVar("S")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Sink(Protocol[T_contra]):
    """Takes the results of a run; what it writes appears only when the run is complete."""

    def add(self, one: T_contra) -> None:
        """Take one image's result."""

    def finish(self) -> None:
        """Put everything in place."""

    def close(self) -> None:
        """Drop what is unfinished, and let others write here."""


@dataclass(frozen=True)
class Photos:
    """The images of one run.

    Attributes:
        sources: folders, files and globs as they were given.
        images: the images found, in order of name.
        skipped: names of files that are no images.
        output: folder of the results, or None.
    """

    sources: list[str | os.PathLike]
    images: list[ImageFile]
    skipped: list[str]
    output: Path | None


def find_photos(
    photos: str | os.PathLike | Iterable[str | os.PathLike],
    output: str | os.PathLike | None,
    drawn_into: Iterable[str],
) -> Photos:
    """Find the images of a run.

    Args:
        photos: folders, files or globs.
        output: folder of the results, which is passed over; None writes nothing.
        drawn_into: folders in it that results are drawn into.

    Raises:
        NotFound: if there is no such source.
        InvalidArgument: if there is no image, or one lies where results would be drawn.
    """
    sources = [photos] if isinstance(photos, str | os.PathLike) else list(photos)
    folder = None if output is None else expand(output)
    found = find_images(sources, exclude=folder)
    if folder is not None:
        refuse_photos_among_results(found.images, folder, drawn_into)
    return Photos(sources, found.images, found.skipped, folder)


def over_images(
    work: Callable[[S], T],
    images: Sequence[S],
    sink: Sink[T],
    *,
    threads: int,
    progress: Progress | None = None,
    what: str = "photos",
) -> None:
    """Do `work` on every image in threads, and hand over what comes of each, in order.

    The sink finishes if all went well, and is closed in any case.

    Args:
        work: called with each image; for a file that can't be read it returns a result, too.
        images: files, or files with what is known of them, in the order of the results.
        sink: where results go.
        threads: how many images are worked on at once.
        progress: called with (done, total, what).
        what: the images in a word.
    """
    try:
        for done, one in enumerate(parallel_map(work, images, threads), start=1):
            sink.add(one)
            if progress:
                progress(done, len(images), what)
        sink.finish()
    finally:
        sink.close()


def refuse_none_readable(
    unreadable: Sequence[tuple[str, str]], total: int, output: Path | None = None
) -> None:
    """Refuse a run in which not one image could be read.

    Raises:
        InvalidArgument: if so; the first reason is named.
    """
    if total and len(unreadable) == total:
        name, reason = unreadable[0]
        listed = "" if output is None else f" All are listed in {output}."
        raise InvalidArgument(
            f"None of the {total} pictures can be read; the first: '{name}': {reason}.{listed}"
        )
