"""The report of a cleaning: every image that should go, with the reason, and where the images came
from.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from ..backbones.embedder import read
from ..core.cells import open_table
from ..core.threads import parallel_map
from ..datasets.files import ImageFile
from ..datasets.training_set import gathered
from ..errors import UnreadableImage
from ..images.decoding import decode
from ..reports.gallery import Card, Gallery
from ..reports.page import Report, Section, pages
from ..reports.sections import funnel_section, licence_section
from .checks import Finding, list_checks

THREADS = 4


def report_pages(
    result: Any, apply: bool, progress: Callable[[int, int, str], None] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each page of the report of a `Cleaning`. This reads the images, so
    it comes before any is moved.

    Args:
        result: what was found.
        apply: whether the files will be set aside.
        progress: called with (done, total, "findings").
    """
    order = {reason: number for number, reason in enumerate(list_checks())}
    gallery = Gallery(result.output)
    try:
        shown = parallel_map(lambda finding: _card(finding, result.data), result.findings, THREADS)
        for done, (finding, card) in enumerate(zip(result.findings, shown, strict=True), start=1):
            gallery.add(card, (order[finding.reason], -finding.score))
            if progress:
                progress(done, len(result.findings), "findings")
        report = Report(
            f"{result.data.name}: what should not be in it",
            _summary(result, apply),
            "Made by wordsight.",
            _sections(result),
        )
        report.groups = [
            (f"group:{reason}", f"{reason.replace('_', ' ')} ({count})")
            for reason, count in result.counts.items()
        ]
        report.images_heading = "What was found, the clearest first"
        yield from pages(report, gallery)
    finally:
        gallery.close()


def _card(finding: Finding, root: Path) -> Card:
    said = finding.reason.replace("_", " ") + (
        f": {finding.label} or {finding.suggested_label}?" if finding.suggested_label else ""
    )
    note = " · ".join(
        part
        for part in (
            f"in {finding.label}" if finding.label else "",
            f"{finding.score:.3f}",
            finding.evidence,
        )
        if part
    )
    image: Image.Image | None = None
    if finding.reason != "not_a_picture":
        try:
            image = decode(read(ImageFile(root / finding.file_name, finding.file_name))[0]).image
        except UnreadableImage:
            image = None  # often, that is what was found
    return Card(finding.file_name, finding.reason, said, note).with_image(image)


def _summary(result: Any, apply: bool) -> list[str]:
    images, files = (
        sum(result.classes.values()),
        len({finding.file_name for finding in result.findings}),
    )
    told = [f"{images} pictures looked at, in {len(result.classes)} classes."]
    if not result.findings:
        return [*told, "Nothing was found that should not be there."]
    found = ", ".join(
        f"{count} {reason.replace('_', ' ')}" for reason, count in result.counts.items()
    )
    aside = (
        f"They are set aside in '{result.data.name}-rejected' beside the data; 'wordsight clean "
        "DATA --undo' puts them back."
    )
    left = (
        "Nothing was moved. 'wordsight clean DATA --apply' sets them aside beside the data, "
        "'--undo' puts them back."
    )
    return [
        *told,
        f"{files} files should {'' if apply else 'perhaps '}go: {found}.",
        aside if apply else left,
    ]


def _sections(result: Any) -> list[Section]:
    gone = Counter(
        label for _, label in {(finding.file_name, finding.label) for finding in result.findings}
    )
    rows = [[name, count, gone[name], count - gone[name]] for name, count in result.classes.items()]
    found = [
        Section("By class", (), ("class", "pictures", "with findings", "without"), rows, first=True)
    ]
    funnels = gathered(result.data)
    if funnels:
        found.append(funnel_section(funnels))
    licences = _licences(result.data)
    return [*found, licence_section(licences)] if licences else found


def _licences(root: Path) -> dict[str, int]:
    """Return how often each licence stands in a set's metadata.csv; nothing if it records none."""
    try:
        with open_table(root / "metadata.csv") as file:
            rows = csv.DictReader(file)
            return (
                dict(Counter(row["license"] or "not recorded" for row in rows))
                if "license" in (rows.fieldnames or [])
                else {}
            )
    except (OSError, ValueError, csv.Error):
        return {}
