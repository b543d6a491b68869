"""Who made the pictures of a gathered set, and under which licence: `metadata.csv` and `ATTRIBUTION.md`."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path

from .home import write_atomic
from .licenses import count_text, license_name

COLUMNS = (
    "file_name", "label", "sha256", "width", "height", "source", "source_url", "page_url", "creator",
    "license", "license_url", "attribution", "query", "fetched_at",
)  # fmt: skip


def metadata_row(kept: dict) -> dict[str, str]:
    """Return the row of one kept picture (as `Ledger.kept` yields it), by column."""
    offer = kept["offer"]
    title = offer.title or "untitled"
    attribution = offer.attribution or f'"{title}" by {offer.creator or "an unknown maker"}, {license_name(offer.license)}'
    values = (
        kept["name"], kept["label"], kept["sha"], kept["width"], kept["height"], kept["source"], offer.url, offer.page_url, offer.creator,
        offer.license, offer.license_url, attribution, kept["text"], kept["fetched_at"],
    )  # fmt: skip
    return {column: " ".join(str(value).split()) if column != "file_name" else str(value) for column, value in zip(COLUMNS, values, strict=True)}


def write_metadata(folder: Path, rows: list[dict[str, str]], removed: set[str]) -> list[dict[str, str]]:
    """Write `metadata.csv`, keeping what a person changed or added in it since, and return its rows.

    Args:
        folder: the data set.
        rows: one row a kept picture.
        removed: names of pictures that are no longer there; their rows go.
    """
    path = folder / "metadata.csv"
    columns, before = list(COLUMNS), {}
    if path.is_file():
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            columns += [name for name in reader.fieldnames or [] if name and name not in columns]
            before = {row["file_name"]: row for row in reader if row.get("file_name")}
    merged = {row["file_name"]: {**row, **{name: value for name, value in before.get(row["file_name"], {}).items() if value}} for row in rows}
    own = {name: row for name, row in before.items() if name not in merged and name not in removed}
    every = [row for _, row in sorted({**merged, **own}.items())]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(every)
    write_atomic(path, text.getvalue().encode("utf-8", "surrogateescape"))
    return every


def write_attribution(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write `ATTRIBUTION.md`: every picture with its maker, licence and page."""
    licences = Counter(row.get("license") or "unknown" for row in rows)
    lines = ["# Attribution", "", f"{len(rows)} pictures: {count_text(sorted(licences.items()))}.", ""]
    label = None
    for row in sorted(rows, key=lambda row: (row.get("label") or "", row["file_name"])):
        if row.get("label") != label:
            label = row.get("label")
            lines += [f"## {_plain(label or 'no label')}", ""]
        credit = row.get("attribution") or f"licence {license_name(row.get('license') or 'unknown')}"
        addresses = [_address(row.get(column) or "") for column in ("license_url", "page_url")]
        links = "".join(f" <{address}>" for address in addresses if address and address not in credit)
        lines.append(f"- `{row['file_name'].replace('`', '')}`: {_plain(credit)}{links}")
    write_atomic(folder / "ATTRIBUTION.md", ("\n".join(lines) + "\n").encode("utf-8", "replace"))


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))


def _address(url: str) -> str:
    """Return an address that can stand in Markdown, or "" for one that is not of the web."""
    return re.sub(r"[\s<>()\"]", lambda sign: f"%{ord(sign[0]):02X}", url) if url.startswith(("http://", "https://")) else ""
