"""Write the folder of results: tables, linked originals, heat maps and masks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from ..core.names import folder_names, safe_name
from ..core.tables import TableWriter, shortened
from ..datasets.files import RESULT_FOLDERS, ImageFile
from ..heatmaps.drawing import segmentation, superimpose, to_jpeg
from ..heatmaps.one_pass import MASK_THRESHOLD
from ..reports.page import pages_there
from .predictions import FIELDS, PART_FIELDS, Prediction

MARKER = ".wordsight-results"  # of 0.1.0
SKIPPED, PARTS, REMARKS = "skipped.csv", "parts.csv", "remarks.csv"


class ResultsWriter:
    """Writes a results folder. Tables appear under their names only when the run is complete.

    Args:
        output: the folder; made if need be. What an earlier run wrote there is replaced, other
            files are left alone.
        class_names: names that become folders.
        images: whether to write originals, heat maps and masks, or tables only.
        parts: whether parts of images are looked at, which get a table of their own.
        photos: folders, files and globs that are looked through.
        skipped: names of files that are no images, for skipped.csv.
        others: names of further files that the run writes.
    """

    def __init__(
        self,
        output: Path,
        class_names: list[str],
        draw: bool = True,
        parts: bool = False,
        photos: Iterable[str | os.PathLike] = (),
        skipped: Sequence[str] = (),
        others: Sequence[str] = (),
    ) -> None:
        self.output, self.images = output, draw
        self._folders = folder_names(class_names)
        self._copied: list[int] = []
        self._skipped = skipped
        self._tables = TableWriter(
            output,
            "predictions",
            FIELDS,
            RESULT_FOLDERS if draw else (),
            MARKER,
            lambda row: _drawn(row, output),
            photos,
            others=[
                *[SKIPPED] * bool(skipped),
                *[PARTS] * parts,
                REMARKS,
                *others,
                *(pages_there(output) if draw else ()),
            ],
        )
        self._remarks: list[list] = [["file_name", "remark"]]
        self._parts: list[list] | None = [list(PART_FIELDS)] if parts else None

    def draw(
        self,
        prediction: Prediction,
        file: ImageFile,
        image: Image.Image,
        size: tuple[int, int],
        mask_threshold: float = MASK_THRESHOLD,
    ) -> None:
        """Write one accepted image's original, heat map and mask under each of its labels, and note
        their paths. Safe from many threads.

        Args:
            prediction: with `labels` and their maps; `heatmap` and `mask` are set.
            file: the original.
            image: upright RGB, possibly reduced.
            size: (height, width) of the upright original.
            mask_threshold: of the peak, from which the mask is cut.
        """
        if not self.images:
            return
        name = safe_name(prediction.file_name)
        for label in prediction.labels:
            folder = self._folders[label.label]
            if label.map is None or label.reach is None:  # a detector's own category
                original = self._tables.reserve(f"images/{folder}/{name}")
                self._copied.append(self._tables.link(original, file.path))
                continue
            original = self._tables.reserve(f"images/{folder}/{name}")
            label.heatmap = self._tables.reserve(f"heatmaps/{folder}/{name}", ".jpg")
            label.mask = self._tables.reserve(f"masks/{folder}/{name}", ".png")
            drawn = superimpose(image, label.map, label.box_xyxy, size)
            self._tables.write(label.heatmap, to_jpeg(drawn))
            self._tables.write(label.mask, segmentation(label.reach, size, mask_threshold))
            self._copied.append(self._tables.link(original, file.path))
        if prediction.labels:
            prediction.heatmap, prediction.mask = (
                prediction.labels[0].heatmap,
                prediction.labels[0].mask,
            )

    @property
    def copied_bytes(self) -> int | None:
        """What the originals take: 0 where they are linked, None where none are written."""
        return sum(self._copied) if self.images else None

    def add(self, prediction: Prediction) -> None:
        """Write one row to both tables."""
        if prediction.remark:
            self._remarks.append([prediction.file_name, prediction.remark])
        record = prediction.to_dict()
        self._tables.add(record, [[record[name] for name in FIELDS]])
        if self._parts is not None:
            for number, part in enumerate(prediction.parts, start=1):
                answers = "true" if prediction.part == part.xyxy else "false"
                self._parts.append(
                    [
                        prediction.file_name,
                        number,
                        *part.xyxy,
                        part.label or "",
                        part.top_label,
                        round(part.probability, 6),
                        answers,
                    ]
                )

    def finish(self) -> None:
        """Put the tables in place and remove what an earlier run wrote and this one did not."""
        if self._skipped:
            rows = [["file_name"], *[[name] for name in self._skipped]]
            self._tables.write_table(SKIPPED, rows)
        if len(self._remarks) > 1:
            self._tables.write_table(REMARKS, self._remarks)
        if self._parts is not None:
            self._tables.write_table(PARTS, self._parts)
        self._tables.finish()

    def write_file(self, name: str, data: bytes) -> None:
        """Write one of `others`."""
        self._tables.write_file(name, data)

    def write_table(self, name: str, rows: Iterable[Sequence]) -> None:
        """Write one of `others`, a table of rows of cells."""
        self._tables.write_table(name, rows)

    def write_report(self, pages: Iterable[tuple[str, bytes]]) -> None:
        """Write the report's pages, given by name and content."""
        self._tables.write_pages(pages)

    def close(self) -> None:
        """Drop what is unfinished, and let others write here; an earlier run's tables stay as
        they were.
        """
        self._tables.close()


def _drawn(row: dict, output: Path) -> list[str]:
    """Return the paths, relative to the results folder, of what was drawn of a row of
    predictions.jsonl.
    """
    paths = []
    for one in row.get("labels") or [row]:
        if one.get("heatmap") and one.get("mask"):
            folder = one["heatmap"].split("/")[1]
            original = shortened(output, f"images/{folder}/{safe_name(row['file_name'])}")
            paths += [one["heatmap"], one["mask"], original]
    return paths
