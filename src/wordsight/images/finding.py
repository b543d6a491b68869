"""Find the files that annotations and tables mean, where these are not named quite as they are: in
another case, without a suffix, with what Label Studio puts before an upload.
"""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core.home import spelled
from ..core.names import is_passed_over, lies_inside, on_foreign_share
from .signatures import USUAL_SUFFIXES, looks_like_image

UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an upload
MOST_BELOW = 200_000  # files below a folder among which one of a bare name is looked for


class Pictures:
    """Finds images, and no file outside the folders that are allowed: annotations from strangers
    must not reach others.

    Args:
        roots: the folders, resolved.
        listed: those of them, or within them, that may be looked through for names that are alike;
            by default all.
    """

    def __init__(self, roots: tuple[Path, ...], listed: tuple[Path, ...] | None = None) -> None:
        self._roots, self._through = roots, roots if listed is None else listed
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def find(self, places: Sequence[Path], bare: bool = False) -> Path | None:
        """Return an image's file: the first of the places that is there, or the only file beside
        one of them that its name may mean.

        Args:
            places: where it may lie, the likeliest first.
            bare: whether it was named without any folder, so that the only file of that name below
                the folders counts, too.
        """
        allowed = [
            place
            for place in places
            if "\0" not in str(place) and place.name and not on_foreign_share(place, self._roots)
        ]
        for place in allowed:
            for path in _with_suffixes(place):
                if (found := self._there(path)) is not None:
                    return found
        for place in dict.fromkeys(allowed):
            if self._may_list(place.parent):
                found = only_alike(self._folder(place.parent), place.name)
                if found is not None and self._there(found) is not None:
                    return found
        return self._below(allowed[0].name) if bare and allowed else None

    def _may_list(self, folder: Path) -> bool:
        return any(lies_inside(folder, root) for root in self._through)

    def _there(self, path: Path) -> Path | None:
        try:
            # how accents are stored is looked up in folders, which must not be others'
            if not str(path).isascii() and self._may_list(path.parent):
                path = spelled(path)
            inside = path.is_file() and any(
                path.resolve().is_relative_to(root) for root in self._roots
            )
        except OSError:  # a name too long, a loop of links
            return None
        return path if inside else None

    def _folder(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._listed:
            self._listed[folder] = images_by_key(folder)
        return self._listed[folder]

    def _below(self, name: str) -> Path | None:
        """Return the only file of a name below the folders."""
        found = {path.resolve() for path in self._everything.get(key(name), ())}
        return self._there(found.pop()) if len(found) == 1 else None

    @functools.cached_property
    def _everything(self) -> dict[str, list[Path]]:
        known: dict[str, list[Path]] = {}
        for number, path in enumerate(
            path for root in self._through for path in _files_below(root)
        ):
            if number == MOST_BELOW:
                return {}
            known.setdefault(key(path.name), []).append(path)
        return known


def _files_below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not is_passed_over(name)]
        yield from (Path(folder) / name for name in names if not is_passed_over(name))


def key(name: str) -> str:
    """Return what names share that people take for one: without case, and however accents are
    stored.
    """
    return unicodedata.normalize("NFC", name).casefold()


def images_by_key(folder: Path) -> dict[str, list[Path]]:
    """Return the images of a folder by their names' keys, with and without suffix; none if it can't
    be read.
    """
    found: dict[str, list[Path]] = {}
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not is_passed_over(entry.name)]
    except OSError:
        return {}
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        if looks_like_image(dot + suffix):
            for one in {key(name), key(stem)}:
                found.setdefault(one, []).append(folder / name)
    return found


def only_alike(images: dict[str, list[Path]], name: str) -> Path | None:
    """Return the only one of a folder's images that a name may mean, None if there is none or
    several.

    Args:
        images: see `images_by_key`.
        name: of a file, perhaps of an upload of Label Studio's.
    """
    for one in dict.fromkeys((name, UPLOADED.sub("", name, count=1))):
        found = images.get(key(one), [])
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _with_suffixes(place: Path) -> Iterator[Path]:
    """Yield a place, and it with every usual suffix where its own is none of an image's."""
    yield place
    if place.suffix.lower() not in USUAL_SUFFIXES:
        yield from (place.with_name(place.name + suffix) for suffix in sorted(USUAL_SUFFIXES))
