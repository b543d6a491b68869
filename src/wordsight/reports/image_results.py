"""What the results of many images have in common, whatever was done to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, overload

from ..core.summary import Problems, Table, as_html, as_text, text_of, unreadable_as_dicts
from .notebook_gallery import gallery

T = TypeVar("T")


@dataclass(kw_only=True)
class ImageResults(Generic[T]):
    """Results of many images; iterates over them, in order of file name.

    Attributes:
        threshold: probability from which something counts, or None where nothing may.
        skipped: names of files that are no images.
        unreadable: (file name, reason) of each image that could not be read.
        output: folder of the results, or None.
    """

    TABLE: ClassVar[str] = ""  # file in `output` that lists everything

    threshold: float | None
    skipped: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    output: Path | None = None
    _kept: list[T] = field(default_factory=list, repr=False)

    def __iter__(self) -> Iterator[T]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        """Return one of them, or a list; results on disk are read from the first on each time."""
        if isinstance(index, int) and index >= 0:
            for one in islice(self, index, None):
                return one
            raise IndexError(f"These are {len(self)} results, counted from 0; got {index}.")
        return list(self)[index]

    @property
    def complete(self) -> bool:
        """Whether every image could be read, and something may count at all."""
        return not self.unreadable and self.threshold is not None

    def problems(self) -> list[Problems]:
        """Return the images that could not be read."""
        return [Problems("Unreadable", self.unreadable, self.TABLE)]

    def title(self) -> str:
        """Return one line on how much there is."""
        return f"{len(self):,} photos"

    def tables(self) -> list[Table]:
        """Return the tables that sum it up."""
        return []

    def notes(self) -> list[str]:
        """Return the sentences that stand below the tables."""
        return []

    def drawn(self) -> Iterable[tuple[str, Path]]:
        """Yield (caption, path) of the images that were drawn."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Return what all of them say, ready for JSON."""
        return {
            "unreadable": unreadable_as_dicts(self.unreadable),
            "skipped": self.skipped,
            "output": text_of(self.output),
        }

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self.title(), self, gallery(self.drawn()))
