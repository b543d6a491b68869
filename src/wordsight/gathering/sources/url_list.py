"""A list of addresses: a text file with one a line, or CSV or Parquet with the columns `url`
and `label`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any

from ...core.home import expand
from ...core.regular import open_text, read_text
from ...datasets.licenses import UNKNOWN, license_code, license_from_url, strictest
from ...errors import InvalidArgument, NotFound
from .base import Candidate, Query, SearchPage, Source, register_source
from .web import Web

PAGE = 500  # addresses


@register_source
class UrlList(Source):
    """Addresses from a file. Columns `license`, `license_url`, `creator`, `title`, `page_url`,
    `attribution` are used where there are any.
    """

    name = "urls"
    argument = "FILE"
    widens = False

    def __init__(self, file: str) -> None:
        self.file = expand(file)
        # by label; "" where the list has none
        self._rows: dict[str, list[dict[str, str]]] | None = None

    def check(self, classes: Sequence[str]) -> None:
        """Read the list; it must serve one of the classes at least, and a list without labels
        one class only.
        """
        rows = self._read()
        if "" in rows and len(classes) > 1:
            raise InvalidArgument(
                f"'{self.file}' has no labels, so it can serve one class only; you asked "
                f"for {', '.join(classes)}. Use a CSV with url and label."
            )
        if "" not in rows and not any(name in rows for name in classes):
            raise InvalidArgument(
                f"'{self.file}' has no address for '{classes[0]}'; its labels are: "
                f"{', '.join(sorted(rows)[:10]) or 'none'}."
            )

    async def search(self, query: Query, cursor: str | None, web: Web) -> SearchPage:
        """Return the next 500 addresses of the class."""
        if query.text != query.label:
            return SearchPage([])
        rows, start = self._read(), int(cursor or 0)
        mine = rows.get(query.label, rows.get("", []))
        later = start + PAGE
        return SearchPage(
            [_candidate(row) for row in mine[start:later]],
            str(later) if later < len(mine) else None,
        )

    def _read(self) -> dict[str, list[dict[str, str]]]:
        if self._rows is None:
            if not self.file.is_file():
                raise NotFound(
                    f"No such file: '{self.file}'. Give a .txt with one address a line, or a "
                    ".csv or .parquet with url and label."
                )
            readers = {".csv": self._csv, ".parquet": self._parquet, ".txt": self._lines}
            reader = readers.get(self.file.suffix.lower())
            if reader is None:
                raise InvalidArgument(
                    f"A list of addresses must be .txt, .csv or .parquet; got '{self.file}'."
                )
            self._rows = {}
            try:
                for row in reader():
                    self._rows.setdefault(row.get("label", ""), []).append(row)
            except (OSError, ValueError, csv.Error) as error:
                if isinstance(error, InvalidArgument):
                    raise
                raise InvalidArgument(
                    f"'{self.file}' can't be read: {' '.join(str(error).split())[:200]}."
                ) from None
        return self._rows

    def _lines(self) -> Iterator[dict[str, str]]:
        for line in read_text(self.file, "utf-8-sig", "replace").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield {"url": line.strip()}

    def _csv(self) -> Iterator[dict[str, str]]:
        with open_text(self.file, "utf-8-sig", "replace", newline="") as file:
            reader = csv.DictReader(file)
            self._check_columns(reader.fieldnames or [])
            for row in reader:
                if row.get("url") and row.get("label"):
                    yield {
                        name: value
                        for name, value in row.items()
                        if name and isinstance(value, str)
                    }

    def _parquet(self) -> Iterator[dict[str, str]]:
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise InvalidArgument(
                "Reading Parquet needs pyarrow: pip install 'wordsight[parquet]'."
            ) from None
        with parquet.ParquetFile(self.file) as file:
            self._check_columns(file.schema_arrow.names)
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    if row.get("url") and row.get("label"):
                        yield {name: str(value) for name, value in row.items() if value is not None}

    def _check_columns(self, names: Sequence[str]) -> None:
        missing = {"url", "label"} - set(names)
        if missing:
            raise InvalidArgument(
                f"'{self.file}' needs the columns url and label; it has "
                f"{', '.join(names) or 'none'}."
            )


def _candidate(row: dict[str, Any]) -> Candidate:
    known = {
        name: row.get(name, "")
        for name in ("license_url", "creator", "title", "page_url", "attribution")
    }
    given = row.get("license", "")
    codes = [license_code(given), license_from_url(known["license_url"])]
    return Candidate(
        url=row["url"],
        license=UNKNOWN if given and codes[0] == UNKNOWN else strictest(codes),
        **known,
    )
