"""What a run over shards comes to. It does no work, and knows nothing of Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.summary import Problems, Table, as_html, as_text


@dataclass(frozen=True)
class Sharded:
    """The outcome of a run over shards.

    Attributes:
        output: address of the folder of parts.
        images: how many in all.
        shards: how many parts.
        resumed: how many of the parts were there already.
        counts: what became of the images: always "unreadable"; of predictions also "accepted" by
            class, "unsure" and "strangers".
        threshold: of predictions, the probability from which a label was given, infinite if none
            was; else None.
        note: what the threshold rests on if it keeps a promise, or why none can be kept; else None.
    """

    output: str
    images: int
    shards: int
    resumed: int
    counts: dict
    threshold: float | None = None
    note: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every image could be read and a label was possible."""
        return not self.counts["unreadable"] and (self.threshold is not None or not self._labelled)

    @property
    def _labelled(self) -> bool:
        return "accepted" in self.counts

    def tables(self) -> list[Table]:
        """Return what became of the images."""
        rows = dict(sorted(self.counts["accepted"].items())) if self._labelled else {}
        states = ("unsure", "strangers", "unreadable")
        rows |= {state: self.counts[state] for state in states if state in self.counts}
        rows["total"] = self.images
        heading = "label" if self._labelled else ""
        return [Table([heading, "photos"], [[name, f"{n:,}"] for name, n in rows.items()])]

    def notes(self) -> list[str]:
        """Return what stands behind the threshold, and where the parts are."""
        parts = f"{self.shards:,}, {self.resumed:,} of them made before"
        where = f"Results: {self.output}/part-*.parquet ({parts}), summary.json"
        return [self.note, where] if self.note else [where]

    def problems(self) -> list[Problems]:
        """Return nothing: the parts name each image that could not be read."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        return {
            "output": self.output,
            "pictures": self.images,
            "shards": self.shards,
            "resumed": self.resumed,
            "counts": self.counts,
        }

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(f"{self.images:,} photos in {self.shards:,} parts", self)
