"""A report to look at: one HTML file that needs no network, its text escaped, its only script
pinned by hash. Knows no model.

`Report` says what stands in it, `pages` renders it with the cards of a `Gallery`; beyond a
thousand images there are further pages (report-2.html, …). Callers write them, and decide what
counts as wrong and what to say about a model.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..heads.decision import accepts
from .corrections import Corrections
from .gallery import Card, Gallery
from .parts import in_parts
from .svg import Axis, Curve, draw, frame

NAME = "report.html"
GENERATOR = b'<meta name="generator" content="wordsight'
SCRIPTS = ("page.js", "corrections.js", "gallery.js")  # in this order, one after another
SHADES = 64  # colours of heat maps
# of -log10(1 - threshold), as the slider
SURE = Axis("threshold", 0, 4, ((0, "0"), (1, "0.9"), (2, "0.99"), (3, "0.999"), (4, "0.9999")))


@dataclass(frozen=True)
class Link:
    """Text that leads to an address; only http and https addresses are followed.

    Attributes:
        text: what is read.
        href: the address, or "" where it may not be followed.
    """

    text: str
    href: str

    def __post_init__(self) -> None:
        if not self.href.lower().startswith(("https://", "http://")):
            object.__setattr__(self, "href", "")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Chart:
    """One drawing.

    Attributes:
        name: by which the script finds it.
        svg: the drawing itself.
        caption: a sentence below it.
        legend: names of the curves, in order.
    """

    name: str
    svg: str
    caption: str = ""
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        heading: its name.
        text: sentences.
        columns: headings of its table.
        rows: of the table; the first cell names the row and may be a `Link`.
        charts: drawings.
        shades: how strongly each cell is coloured, 0–1, by row, but for the first cell of each;
            none: no colours.
        first: whether it stands above the images.
    """

    heading: str
    text: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    charts: Sequence[Chart] = ()
    shades: Sequence[Sequence[float]] = ()
    first: bool = False


@dataclass
class Outcomes:
    """What a threshold makes of every image; the slider counts these anew.

    Attributes:
        names: classes, in order.
        threshold: probability from which a label is given, or None where none is.
        judged: whether the truth is known.
        p: probability of the likeliest class of each image.
        top: its index.
        stranger: a byte each: refused whatever the probability.
        right: a byte each: the likeliest class is the true one, or, of a foreign image, does no
            harm.
        foreign: a byte each: shows none of the classes.
    """

    names: list[str]
    threshold: float | None
    judged: bool = False
    p: array = field(default_factory=lambda: array("d"))
    top: array = field(default_factory=lambda: array("l"))
    stranger: bytearray = field(default_factory=bytearray)
    right: bytearray = field(default_factory=bytearray)
    foreign: bytearray = field(default_factory=bytearray)

    def add(self, card: Card, index: int) -> None:
        """Add what was said of one image, in any order."""
        assert card.probability is not None
        self.p.append(card.probability)
        self.top.append(index)
        self.stranger.append(card.stranger)
        self.right.append(bool(card.right))
        self.foreign.append(card.foreign)

    def counts(self) -> np.ndarray:
        """Return, for each class, how many images of the classes are accepted, and how many
        of those are right, (classes, 2) int.
        """
        accepted = self._accepted() & ~self._flags(self.foreign)
        tops = np.array(self.top, dtype=int)
        columns = [
            np.bincount(tops[mask], minlength=len(self.names))
            for mask in (accepted, accepted & self._flags(self.right))
        ]
        return np.stack(columns, axis=1)

    def by_class(self) -> list[list[Any]]:
        """Return a row for each class: name, accepted, and where the truth is known right and
        wrong.
        """
        rows = zip(self.names, self.counts().tolist(), strict=True)
        return [
            [name, accepted, right, accepted - right] if self.judged else [name, accepted]
            for name, (accepted, right) in rows
        ]

    @property
    def sentence(self) -> str:
        """What a reader without a script sees of the counts."""
        accepted, right = self.counts().sum(axis=0).tolist()
        told = f"{accepted} pictures get a label"
        return f"{told}, {right} of them the right one." if self.judged else f"{told}."

    @property
    def charts(self) -> list[Chart]:
        """How much is labelled at every threshold, and where the truth is known how much of it
        is wrong.
        """
        ordered = np.sort(
            np.where(self._flags(self.stranger), -1.0, np.array(self.p))[~self._flags(self.foreign)]
        )
        if not len(ordered):
            return []
        x = np.linspace(0, 4, 201)
        share = 1 - np.searchsorted(ordered, 1 - 10**-x, side="left") / len(ordered)
        caption = (
            "How many pictures get a label, by the threshold. Those that match no class stay "
            "without one at every threshold."
        )
        drawn = [
            Chart(
                "coverage",
                draw(
                    [Curve("coverage", list(x), list(100 * share))],
                    SURE,
                    Axis("labelled, %", 0, 100),
                    caption,
                    "line",
                ),
                caption,
            )
        ]
        if self.judged:
            coverage, risk = self._risk_coverage()
            axes = self._risk_axes(risk)
            caption = "Risk and coverage: of the surest so many, how many labels are wrong."
            drawn.append(
                Chart(
                    "risk",
                    draw([Curve("risk", list(coverage), list(100 * risk))], *axes, caption, "dot"),
                    caption,
                )
            )
        return drawn

    def to_dict(self) -> dict[str, Any]:
        """Return what the script needs: a number or a letter an image, in an order that
        doesn't depend on who came first.
        """
        frames = {"coverage": frame(SURE, Axis("", 0, 100))}
        if self.judged:
            _, up = self._risk_axes(self._risk_coverage()[1])
            frames["risk"] = frame(Axis("", 0, 1), Axis("", 0, up.high / 100))
        order = sorted(
            range(len(self.p)),
            key=lambda i: (
                self.p[i],
                self.top[i],
                self.stranger[i],
                self.right[i],
                self.foreign[i],
            ),
        )
        flags = {
            name: "".join("1" if getattr(self, name)[i] else "0" for i in order)
            for name in ("stranger", "right", "foreign")
        }
        plain = {"names": self.names, "judged": self.judged, "others": sum(self.foreign)}
        plain |= {"p": [self.p[i] for i in order], "top": [self.top[i] for i in order]}
        return {**plain, **flags, "frames": frames}

    def _accepted(self) -> np.ndarray:
        return accepts(np.array(self.p), self._flags(self.stranger), self.threshold)

    def _risk_coverage(self) -> tuple[np.ndarray, np.ndarray]:
        """Return coverage and risk, (m,) each, 0–1, of the surest so many."""
        own = ~self._flags(self.foreign)
        confidence = np.where(self._flags(self.stranger), 0.0, np.array(self.p))[own]
        order = np.argsort(-confidence, kind="stable")
        wrong = ~self._flags(self.right)[own][order]
        # equal ones are let in together
        ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
        return (ends + 1) / len(order), np.cumsum(wrong)[ends] / (ends + 1)

    @staticmethod
    def _risk_axes(risk: np.ndarray) -> tuple[Axis, Axis]:
        ticks = tuple((share / 5, f"{20 * share}") for share in range(6))
        return Axis("labelled, %", 0, 1, ticks), Axis(
            "wrong of those, %", 0, max(1.0, 110 * float(risk.max(initial=0)))
        )

    @staticmethod
    def _flags(flags: bytearray) -> np.ndarray:
        return np.frombuffer(bytes(flags), dtype=np.uint8) > 0


@dataclass
class Report:
    """What stands in a report, but for the images.

    Attributes:
        title: of the page.
        summary: what came out, in sentences.
        about: what it was made from and by, in a sentence, at the foot.
        sections: parts with tables and charts.
        groups: (value, text) of what the images can be filtered by: "group:NAME",
            "fate:mistakes", "fate:wrong-guess", "fate:silent".
        outcomes: what the threshold slider counts, or None for no slider.
        images_heading: stands above the images.
        in_parts: whether the images stand in parts: those that need eyes, those with a label, and
            strangers, which are folded away.
        part_texts: a sentence on each group of strangers, by its name.
        rest: classes that mean none of the others, whose images are folded away, too.
        corrections: how labels are corrected, or None where they can't be.
    """

    title: str
    summary: list[str]
    about: str
    sections: list[Section] = field(default_factory=list)
    groups: list[tuple[str, str]] = field(default_factory=list)
    outcomes: Outcomes | None = None
    images_heading: str = "Pictures"
    in_parts: bool = False
    part_texts: dict[str, str] = field(default_factory=dict)
    rest: Sequence[str] = ()
    corrections: Corrections | None = None


def pages_there(folder: Path) -> list[str]:
    """Return the names of the files in a folder that are named like pages of a report."""
    return sorted(path.name for path in folder.glob("report*.html") if _number(path.name))


def is_report(path: Path) -> bool:
    """Whether a file is a page of a report."""
    try:
        with open(path, "rb") as file:
            return GENERATOR in file.read(400)
    except OSError:
        return False


def pages(report: Report, gallery: Gallery) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each page of a report, the first one first."""
    numbers = gallery.pages()
    for number, page in enumerate(numbers, start=1):
        yield page_name(number), render(report, gallery.read(page), number, len(numbers))


def page_name(number: int) -> str:
    """Return a page's file name; pages count from 1."""
    return NAME if number == 1 else f"report-{number}.html"


def render(report: Report, cards: list[Card], number: int = 1, pages: int = 1) -> bytes:
    """Return one page."""
    templates = _templates()
    code = "".join((_folder() / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{code}}})();\n'
    outcomes = report.outcomes if number == 1 else None
    threshold = None if report.outcomes is None else report.outcomes.threshold
    corrections = None if report.corrections is None else report.corrections.to_dict(number)
    parts = in_parts(cards, threshold, report.part_texts, report.rest) if report.in_parts else []
    data = {
        "threshold": threshold,
        "outcomes": None if outcomes is None else outcomes.to_dict(),
        "colours": _colours(),
        "pages": pages,
        "corrections": corrections,
        "rest": list(report.rest),
    }
    text = templates.get_template("page.html").render(
        report=report,
        cards=cards,
        parts=parts,
        number=number,
        pages=pages,
        address=page_name,
        shown=lambda section: _marked(
            templates.get_template("section.html").render(section=section)
        ),
        fate=functools.partial(fate, threshold=threshold),
        heat=any(card.heat for card in cards),
        version=__version__,
        style=_marked((_folder() / "page.css").read_text(encoding="utf-8")),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    )
    return text.encode("utf-8", "replace")  # names of files may hold bytes that are no text


def fate(card: Card, threshold: float | None) -> tuple[str, str]:
    """Return what becomes of an image at a threshold, as the script names it and in words; as
    the script decides, too.
    """
    if card.probability is None:
        return "listed", ""
    if not accepts(card.probability, card.stranger, threshold):
        return "silent", "resembles none" if card.stranger else "not sure"
    if card.right is None:
        return "labelled", ""
    return ("right", "right") if card.right else ("wrong", "wrong")


def _number(name: str) -> int | None:
    """Return the number of a page's file, or None where it is none."""
    middle = "1" if name == NAME else name.removeprefix("report-").removesuffix(".html")
    return int(middle) if middle.isascii() and middle.isdigit() else None


def _folder() -> Path:
    return Path(__file__).with_name("templates")


@functools.cache
def _templates() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _marked(text: str) -> Any:
    """Mark a text as markup for the templates."""
    from markupsafe import Markup

    return Markup(text)


@functools.cache
def _colours() -> str:
    """Return the colours of heat maps, the coldest first, six hexadecimal digits each."""
    import cv2

    scale = np.linspace(0, 255, SHADES).round().astype(np.uint8)[:, None]
    return cv2.applyColorMap(scale, cv2.COLORMAP_TURBO)[:, 0, ::-1].tobytes().hex()
