"""Parts that several reports show: how images were gathered, their licences, lists of what has
no image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..datasets.licenses import license_link, license_name
from .page import Link, Section

MOST_ROWS = 200  # of a table; a report of a thousand classes stays readable


def made_by(backbone: str, class_names: Sequence[str]) -> str:
    """Return a sentence that names the model, for the foot of a report."""
    return (
        f"Made by wordsight with {backbone}, for "
        f"{', '.join(class_names[:20])}{', …' if len(class_names) > 20 else ''}."
    )


def funnel_section(gathered: Mapping[str, Any]) -> Section:
    """Return how many images each class kept of those found, and why the others went.

    Args:
        gathered: "classes": class -> {"stages": stage -> how many reached it, "reasons": why others
            did not -> how many}.
    """
    classes = gathered["classes"]
    stages = list(next(iter(classes.values()))["stages"]) if classes else []
    rows = [
        [
            name,
            *[cell(funnel["stages"].get(stage)) for stage in stages],
            _counted(funnel["reasons"]),
        ]
        for name, funnel in classes.items()
    ]
    return Section(
        "Where the pictures came from",
        ["How many were found for each word, and how many reached each step."],
        ("class", *stages, "lost"),
        rows,
    )


def licence_section(licences: Mapping[str, int]) -> Section:
    """Return a table of licences and how many images are under each."""
    rows = [
        [Link(license_name(code), license_link(code)), count]
        for code, count in sorted(licences.items(), key=lambda item: -item[1])
    ]
    return Section(
        "Licences of the pictures",
        ["Pictures that ask for credit have it in their data set’s ATTRIBUTION.md."],
        ("licence", "pictures"),
        rows,
    )


def listed(
    heading: str, rows: Iterable[Sequence[Any]], columns: Sequence[str], text: str = ""
) -> Section | None:
    """Return a table of what has no image, such as unreadable files: the first 200 rows, and
    how many there are; None for none.
    """
    every = list(rows)
    if not every:
        return None
    more = f" The first {MOST_ROWS} of {len(every)}." if len(every) > MOST_ROWS else ""
    return Section(heading, [text + more] if text or more else [], columns, every[:MOST_ROWS])


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "–"


def cell(value: Any) -> str:
    """Return a value as a table shows it: four digits, and a dash for None."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
