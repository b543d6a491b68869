"""A spreadsheet of what is known of each photo, a column a class."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from ...core import cells
from ...core.progress import Progress
from ...core.threads import map_if_worth
from ...errors import InvalidArgument
from ...images.taken import taken_at
from .photo_labels import PhotoLabel

HEADINGS = (
    *("file", "label", "best guess", "status", "chance that it is right"),
    *("time taken", "checked by"),
)
NEEDS = "A spreadsheet needs XlsxWriter: pip install 'wordsight[xlsx]'."
MOST_ROWS = (1 << 20) - 1  # of a sheet, below the headings
MOST_COLUMNS = 1 << 14
MADE = datetime(2000, 1, 1)  # noted in every workbook, so that the same photos give the same bytes
THREADS = 4


def has_xlsx() -> bool:
    """Whether workbooks can be written here."""
    return importlib.util.find_spec("xlsxwriter") is not None


def check_xlsx() -> None:
    """Refuse to write a workbook where that can't be done.

    Raises:
        InvalidArgument: if the extra `xlsx` is missing.
    """
    if not has_xlsx():
        raise InvalidArgument(NEEDS)


def as_xlsx(found: list[PhotoLabel], progress: Progress | None = None) -> bytes:
    """Return a workbook with a row a photo. Text stays text, whatever it begins with.

    Args:
        found: what is known of each photo.
        progress: called with (done, total, "times read").

    Raises:
        InvalidArgument: if the extra `xlsx` is missing, or a sheet can't hold so many rows.
    """
    check_xlsx()
    import xlsxwriter

    headings = _headings(found)
    if len(found) > MOST_ROWS or len(headings) > MOST_COLUMNS:
        raise InvalidArgument(
            f"A sheet holds {MOST_ROWS:,} photos and {MOST_COLUMNS:,} columns at most; got "
            f"{len(found):,} and {len(headings):,}. predictions.csv of the results has them all."
        )
    written = io.BytesIO()
    with xlsxwriter.Workbook(written, {"in_memory": True}) as book:
        book.set_properties({"title": "wordsight", "created": MADE})
        sheet = book.add_worksheet("photos")
        bold = book.add_format({"bold": True})
        formats = {
            float: book.add_format({"num_format": "0.0%"}),
            datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        for column, heading in enumerate(headings):
            sheet.write_string(0, column, _text(heading), bold)
        for row, values in enumerate(_rows(found, headings, progress), start=1):
            for column, value in enumerate(values):
                if isinstance(value, str):
                    sheet.write_string(row, column, _text(value))
                elif isinstance(value, datetime):
                    sheet.write_datetime(row, column, value, formats[datetime])
                elif value is not None:
                    sheet.write_number(row, column, value, formats[float])
        sheet.freeze_panes(1, 1)
        sheet.autofilter(0, 0, max(len(found), 1), len(headings) - 1)
        sheet.set_column(0, 0, 40)
        sheet.set_column(1, len(headings) - 1, 18)
    return written.getvalue()


def as_csv(found: list[PhotoLabel], progress: Progress | None = None) -> bytes:
    """Return the same rows as CSV, whose cells begin no formula."""
    text = io.StringIO()
    headings = _headings(found)
    rows = cells.writer(text)
    rows.writerow(headings)
    rows.writerows(_rows(found, headings, progress))
    return cells.table_bytes(text.getvalue())


def _headings(found: list[PhotoLabel]) -> list[str]:
    """Return the headings: those of every spreadsheet, then the classes in order."""
    classes = dict.fromkeys(name for one in found for name in one.probabilities)
    return [*HEADINGS, *classes]


def _rows(
    found: list[PhotoLabel], headings: list[str], progress: Progress | None
) -> Iterator[list[Any]]:
    """Yield the cells of each photo; an empty one is None."""
    classes = headings[len(HEADINGS) :]
    times = map_if_worth(_taken, [one.path for one in found], THREADS)
    for done, (one, time) in enumerate(zip(found, times, strict=True), start=1):
        yield [
            one.file_name,
            ", ".join(one.labels) or None,
            one.guess,
            one.status,
            one.probability,
            time,
            one.checked_by or None,
            *(_share(one, name) for name in classes),
        ]
        if progress:
            progress(done, len(found), "times read")


def _share(one: PhotoLabel, name: str) -> float | None:
    """Return a class's probability; none of a photo that resembles no class, or that a person has
    decided on.
    """
    meant = one.status in ("labelled", "unsure") and not one.checked_by
    return one.probabilities.get(name) if meant else None


def _taken(path: Path | None) -> datetime | None:
    return None if path is None else taken_at(path)


def _text(value: str) -> str:
    """Return text that a workbook can hold."""
    return value.encode("utf-8", "replace").decode()[:32767]
