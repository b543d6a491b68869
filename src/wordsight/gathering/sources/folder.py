"""A folder with one subfolder a class: images you already have, gathered beside those of the
web.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes

from ...core.home import expand
from ...core.regular import read_regular
from ...datasets.files import find_images
from ...errors import InvalidArgument, NotFound
from ...images.decoding import MAX_BYTES
from .base import Candidate, Query, SearchPage, Source, register_source
from .web import Web


@register_source
class Folder(Source):
    """Images below `FOLDER/<class>/`; their licence is unknown."""

    name = "folder"
    argument = "FOLDER"
    needs_network = False
    widens = False

    def __init__(self, folder: str) -> None:
        self.folder = expand(folder)

    def check(self, classes: Sequence[str]) -> None:
        """Look whether the folder is there, and has a subfolder for one class at least."""
        if not self.folder.is_dir():
            raise NotFound(f"No such folder: '{self.folder}'. Give one with a subfolder a class.")
        if not any((self.folder / name).is_dir() for name in classes):
            raise InvalidArgument(
                f"'{self.folder}' has no subfolder '{classes[0]}'; it needs one a class."
            )

    async def search(self, query: Query, cursor: str | None, web: Web) -> SearchPage:
        """Return all pictures of the class, in order of name."""
        place = self.folder / query.label
        if not place.is_dir() or query.text != query.label:
            return SearchPage([])
        try:
            found = find_images([place])
        except InvalidArgument:  # no image in it
            return SearchPage([])
        return SearchPage(
            [
                Candidate(url=f"folder:{quote(os.fsencode(f'{query.label}/{image.name}'))}")
                for image in found.images
            ]
        )

    def read(self, candidate: Candidate) -> bytes | None:
        """Return the file's bytes."""
        path = self.folder / os.fsdecode(unquote_to_bytes(candidate.url.removeprefix("folder:")))
        return read_regular(path, MAX_BYTES)
