"""What a search found: photos in order of likeness, in tables for people and programs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import cells
from ..core.notebook import frame
from ..core.summary import Problems, Table, as_html, as_text, text_of, unreadable_as_dicts
from ..datasets.files import ImageFile
from ..reports.notebook_gallery import gallery

if TYPE_CHECKING:
    import pandas

TABLES = ("found.jsonl", "found.csv")
PAGE = "found.html"
SHOWN = 10  # rows in the terminal


@dataclass(frozen=True)
class Match:
    """One photo that was found.

    Attributes:
        rank: 1 for the most similar.
        file_name: path relative to the folder given.
        similarity: cosine to the example or the words, at most 1. It orders photos; it is no
            probability.
        taken_at, time_source: as in `Prediction`.
    """

    rank: int
    file_name: str
    similarity: float
    taken_at: str | None = None
    time_source: str | None = None


@dataclass(kw_only=True)
class Matches:
    """The photos most like an example; iterates over them, the most similar first.

    Attributes:
        like: the examples, as they were given.
        words: what was looked for instead, or "".
        photos: how many photos were searched, without those that could not be read.
        files: the files found, in the same order.
        skipped: names of files that are no images.
        unreadable: (file name, reason) of each image that could not be read.
        output: folder of the results, or None.
    """

    like: list[str]
    words: str = ""
    photos: int = 0
    files: list[ImageFile] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    output: Path | None = None
    found: list[Match] = field(default_factory=list)

    def __iter__(self) -> Iterator[Match]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, place: int) -> Match:
        return self.found[place]

    def __repr__(self) -> str:
        return as_text(self)

    @property
    def complete(self) -> bool:
        """Whether every image could be read."""
        return not self.unreadable

    def title(self) -> str:
        """Return one line on how much there is."""
        count = f"The {len(self):,} of {self.photos:,} photos" if self.photos > 1 else "The photo"
        if self.words:
            return f"{count} that '{self.words}' fits best"
        return f"{count} most like {' and '.join(self.like)}"

    def tables(self) -> list[Table]:
        """Return the first ten."""
        rows = [[str(one.rank), f"{one.similarity:.3f}", one.file_name] for one in self]
        where = "" if self.output is None else f", listed in {TABLES[1]}"
        more = "… and {count} more" + where + "."
        return [Table(["rank", "similarity", "photo"], rows, most=SHOWN, more=more)]

    def notes(self) -> list[str]:
        """Return how many were searched, and where the results are."""
        notes = [f"{self.title()}."]
        if self.output is not None:
            where = f"{self.output}/{PAGE} (open it in a browser), {TABLES[1]}, {TABLES[0]}"
            notes.append(f"Results: {where}")
        return notes

    def problems(self) -> list[Problems]:
        """Return the images that could not be read."""
        where = "'unreadable'" if self.output is None else TABLES[1]
        return [Problems("Unreadable", self.unreadable, where)]

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with one row for each photo found."""
        return frame((asdict(one) for one in self), [one.name for one in fields(Match)])

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "like": self.like,
            "words": self.words,
            "pictures": self.photos,
            "found": [_rounded(one) for one in self],
            "unreadable": unreadable_as_dicts(self.unreadable),
            "skipped": self.skipped,
            "output": text_of(self.output),
        }

    def written(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of both tables: the photos found, then those that could not be
        read.
        """
        rows = [{**_rounded(one), "error": None} for one in self]
        empty = dict.fromkeys(one.name for one in fields(Match))
        rows += [{**empty, "file_name": name, "error": reason} for name, reason in self.unreadable]
        yield TABLES[0], "".join(json.dumps(row) + "\n" for row in rows).encode()
        text = io.StringIO()
        table = cells.writer(text)
        table.writerow([*empty, "error"])
        table.writerows(row.values() for row in rows)
        yield TABLES[1], cells.table_bytes(text.getvalue())

    def _repr_html_(self) -> str:
        shown = (
            (f"{one.rank}. {one.similarity:.3f} {one.file_name}", file.path)
            for one, file in zip(self, self.files, strict=True)
        )
        return as_html(self.title(), self, gallery(shown))


def _rounded(one: Match) -> dict[str, Any]:
    return asdict(one) | {"similarity": round(one.similarity, 6)}
