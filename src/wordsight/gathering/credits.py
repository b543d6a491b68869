"""Who made the images of a gathered set, and under which licence: `metadata.csv` and
`ATTRIBUTION.md`.
"""

from __future__ import annotations

import csv
import logging
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ..core import cells
from ..core.home import replace_file, sync_file
from ..core.result_folder import Build
from ..datasets.licenses import count_text, license_name

COLUMNS = (
    "file_name", "label", "sha256", "width", "height", "source", "source_url", "page_url",
    "creator",
    "license", "license_url", "attribution", "query", "fetched_at",
)  # fmt: skip


def metadata_row(kept: dict) -> dict[str, str]:
    """Return the row of one kept image (as `Ledger.kept` yields it), by column."""
    offer = kept["offer"]
    title = offer.title or "untitled"
    attribution = (
        offer.attribution
        or f'"{title}" by {offer.creator or "an unknown maker"}, {license_name(offer.license)}'
    )
    values = (
        kept["name"], kept["label"], kept["sha"], kept["width"], kept["height"], kept["source"],
        offer.url, offer.page_url, offer.creator,
        offer.license, offer.license_url, attribution, kept["text"], kept["fetched_at"],
    )  # fmt: skip
    return {
        column: " ".join(str(value).split()) if column != "file_name" else str(value)
        for column, value in zip(COLUMNS, values, strict=True)
    }


def write_credits(
    folder: Path, build: Build, ours: Callable[[], Iterator[dict[str, str]]], removed: set[str]
) -> None:
    """Write `metadata.csv` and `ATTRIBUTION.md`, keeping what a person changed or added in the
    table since.

    Args:
        folder: the data set.
        build: puts files into it.
        ours: yields one row (`metadata_row`) for each kept image that is there, by class and
            name; called several times, so that the rows of a large set need not be held.
        removed: names of kept images that are no longer there; their rows go.
    """
    path = folder / "metadata.csv"
    columns, theirs = _changes(path, ours, removed)
    own = [
        theirs[name]
        for name in sorted(
            theirs.keys() - {row["file_name"] for row in ours() if row["file_name"] in theirs}
        )
    ]

    def every() -> Iterator[dict[str, str]]:
        for row in ours():
            yield {
                **row,
                **{
                    name: value for name, value in theirs.get(row["file_name"], {}).items() if value
                },
            }
        yield from own

    with cells.create_table(build.path / path.name) as file:
        writer = cells.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(every())
    sync_file(build.path / path.name)
    replace_file(build.path / path.name, path)  # what others wrote in it is in the new one
    page = build.path / "ATTRIBUTION.md"
    with open(page, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(_attribution(every))
    build.put("ATTRIBUTION.md")


def _changes(
    path: Path, ours: Callable[[], Iterator[dict[str, str]]], removed: set[str]
) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the columns of the table, and those of its rows that are not as we wrote them, by file
    name.

    A table that is no longer one (another separator, another encoding) is put aside, not
    overwritten.
    """
    columns: list[str] = list(COLUMNS)
    theirs: dict[str, dict[str, str]] = {}
    if not path.is_file():
        return columns, theirs
    written = {row["file_name"]: hash(tuple(row.values())) for row in ours()}
    try:
        with cells.open_table(path, "strict") as file:
            reader = cells.DictReader(file, strict=True)
            if "file_name" not in (reader.fieldnames or []):
                raise csv.Error("no column file_name")
            columns += [name for name in reader.fieldnames or [] if name and name not in columns]
            for row in reader:
                name = row.get("file_name") or ""
                as_ours = tuple(row.get(column) for column in COLUMNS)
                if (
                    name
                    and name not in removed
                    and (len(columns) > len(COLUMNS) or written.get(name) != hash(as_ours))
                ):
                    theirs[name] = row
    except (csv.Error, ValueError) as error:
        aside = path.with_name(f"metadata.{secrets.token_hex(3)}.unread.csv")
        os.replace(path, aside)
        logging.getLogger("wordsight").warning(
            "'%s' can't be read as CSV with commas in UTF-8 (%s): it is now '%s'.",
            path,
            error,
            aside.name,
        )
        return list(COLUMNS), {}
    return columns, theirs


def _attribution(rows: Callable[[], Iterator[dict[str, str]]]) -> Iterator[str]:
    licences = Counter(row.get("license") or "unknown" for row in rows())
    yield (
        f"# Attribution\n\n{sum(licences.values())} pictures: "
        f"{count_text(sorted(licences.items()))}.\n"
    )
    label = None
    for row in rows():
        if row.get("label") != label:
            label = row.get("label")
            yield f"\n## {_plain(label or 'no label')}\n\n"
        credit = (
            row.get("attribution") or f"licence {license_name(row.get('license') or 'unknown')}"
        )
        addresses = [_address(row.get(column) or "") for column in ("license_url", "page_url")]
        links = "".join(
            f" <{address}>" for address in addresses if address and address not in credit
        )
        yield f"- `{row['file_name'].replace('`', '')}`: {_plain(credit)}{links}\n"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))


def _address(url: str) -> str:
    """Return an address that can stand in Markdown, or "" for one that is not of the web."""
    return (
        re.sub(r"[\s<>()\"]", lambda sign: f"%{ord(sign[0]):02X}", url)
        if url.startswith(("http://", "https://"))
        else ""
    )
