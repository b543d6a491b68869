"""What a gathering brought: how many images were found, how many were lost at each step, and
why, per class and per site.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.notebook import frame
from ..core.summary import Problems, Table, as_html, as_text
from ..reports.notebook_gallery import gallery
from .ledger import LICENSE, Ledger
from .request import Want
from .sources import REASONS

if TYPE_CHECKING:
    import pandas


STAGES = ("found", "licence", "downloaded", "decodes", "large enough", "unique", "kept")
UNTRIED = "not needed"
MOST_SITES = 20  # that are listed for people
_LOST_AT = {
    LICENSE: "licence",
    UNTRIED: "downloaded",
    "not read": "downloaded",
    **dict.fromkeys(REASONS, "downloaded"),
    "empty": "decodes",
    "web page": "decodes",
    "not a picture": "decodes",
    "broken picture": "decodes",
    "too small": "large enough",
    "duplicate": "unique",
    "near duplicate": "unique",
    "removed by you": "kept",
}  # reason -> the first stage a candidate did not reach


@dataclass
class Funnel:
    """What became of the candidates of one class, or of one site.

    Attributes:
        stages: stage -> how many reached it; each is at most the one before.
        reasons: why the others did not -> how many.
    """

    stages: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str | None, count: int) -> None:
        """Add candidates lost for a reason, or kept (None)."""
        lost_at = STAGES.index(_LOST_AT[reason]) if reason else len(STAGES)
        for stage in STAGES[:lost_at]:
            self.stages[stage] += count
        if reason:
            self.reasons[reason] += count


def _lost(kind: str, funnels: dict[str, Funnel]) -> Table:
    """Return a table of why candidates were left out."""
    rows = []
    for name, funnel in funnels.items():
        reasons = (f"{reason} {count}" for reason, count in funnel.reasons.most_common())
        stages = (str(funnel.stages[stage]) for stage in ("found", "kept"))
        rows.append([name, *stages, ", ".join(reasons)])
    return Table([kind, "found", "kept", "left out because"], rows)


def funnels(ledger: Ledger, by: str, removed: dict[str, int]) -> dict[str, Funnel]:
    """Return the funnel of every class, site or source (`by`: "label", "site", "source").

    Args:
        ledger: what became of each candidate.
        by: what to count by.
        removed: images kept once and deleted by the user since, by the same.
    """
    found: dict[str, Funnel] = {}
    for value, state, reason, count in ledger.counts(by):
        funnel = found.setdefault(value, Funnel())
        if state == "kept":
            gone = removed.get(value, 0)
            funnel.add(None, count - gone)
            if gone:
                funnel.add("removed by you", gone)
        else:
            funnel.add(reason if state == "failed" else UNTRIED, count)
    return found


@dataclass
class Gathered:
    """What a gathering brought.

    Attributes:
        output: the data set's folder.
        wanted: class name -> how many images were asked for.
        classes: class name -> its funnel; `classes["cat"].stages["kept"]` is how many there are.
        sites: "host:port" of the images -> its funnel.
        queries: (class, source, text, pages, images offered) of each query.
        other_size: class name -> images kept whose size is not what their source claimed.
        causes: why classes are short, one line each; empty if every class is full.
    """

    output: Path
    wanted: dict[str, int]
    classes: dict[str, Funnel]
    sites: dict[str, Funnel]
    queries: list[tuple[str, str, str, int, int]]
    other_size: dict[str, int] = field(default_factory=dict)
    causes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> dict[str, int]:
        """Return class name -> how many images there are."""
        return {
            name: self.classes[name].stages["kept"] if name in self.classes else 0
            for name in self.wanted
        }

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with a row a class: how many images reached each stage."""
        return frame(
            ({"class": name, **funnel.stages} for name, funnel in self.classes.items()),
            ["class", *STAGES],
        )

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        folders = (
            sorted(path for path in self.output.iterdir() if path.is_dir())
            if self.output.is_dir()
            else []
        )
        shown = (
            (path.parent.name, path)
            for folder in folders
            for path in sorted(folder.glob("[!.]*"))[:4]
        )
        return as_html(str(self.output), self, gallery(shown))

    @property
    def complete(self) -> bool:
        """Whether every class is full."""
        return not self.causes

    def tables(self) -> list[Table]:
        """Return how many images reached each stage, and why others did not: per class and for
        the sites that offered most.
        """
        shown = {name: self.classes[name] for name in self.wanted if name in self.classes}
        largest = sorted(self.sites.items(), key=lambda item: -item[1].stages["found"])
        rows = [
            [name, *(str(funnel.stages[stage]) for stage in STAGES)]
            for name, funnel in shown.items()
        ]
        return [
            Table(["class", *STAGES], rows),
            _lost("class", shown),
            _lost("host", dict(largest[:MOST_SITES])),
        ]

    def notes(self) -> list[str]:
        """Return where the data set is, if there is one."""
        if not any(self.kept.values()):
            return []
        return [
            "",
            f"Data set: {self.output}/ with metadata.csv, ATTRIBUTION.md (who made "
            "each picture) and funnel.json (all figures)",
        ]

    def problems(self) -> list[Problems]:
        """Return why classes are short; if not one image came, the error says it."""
        causes = self.causes if any(self.kept.values()) else []
        return [Problems("Short", [("", cause) for cause in causes], "funnel.json")]

    def to_dict(self) -> dict:
        """Return everything, ready for JSON."""

        def table(funnel: dict[str, Funnel]) -> dict:
            return {
                name: {"stages": f.stages, "reasons": dict(f.reasons.most_common())}
                for name, f in funnel.items()
            }

        names = ("class", "source", "query", "pages", "offered")
        return {
            "output": str(self.output),
            "wanted": self.wanted,
            "kept": self.kept,
            "classes": table(self.classes),
            "hosts": table(self.sites),
            "queries": [dict(zip(names, query, strict=True)) for query in self.queries],
            "other_size_than_claimed": self.other_size,
            "causes": self.causes,
        }


def cause(
    want: Want,
    funnel: Funnel,
    queries: int,
    sources: Iterable[str],
    problems: dict[str, str],
) -> str:
    """Return a sentence on why a class has too few images.

    Args:
        want: the class.
        funnel: what became of its candidates.
        queries: how many were asked for it.
        sources: names of those that were asked.
        problems: source -> its last message.
    """
    found, kept = funnel.stages["found"], funnel.stages["kept"]
    parts = [f"{want.label}: {kept} of {want.limit}."]
    if found:
        reasons = [
            (reason, count)
            for reason, count in funnel.reasons.most_common()
            if reason != "not needed"
        ]
        lost = ", ".join(f"{count} {reason}" for reason, count in reasons[:6])
        parts.append(
            f"{queries} {'query' if queries == 1 else 'queries'} found {found}"
            + (f"; lost: {lost}." if lost else ".")
        )
        if funnel.reasons[LICENSE] > found / 2:
            parts.append("Most have a licence you don't want: see --license.")
    elif queries:
        parts.append(
            f"{' and '.join(sources)} found nothing for '{want.texts[0]}'"
            + (f" nor for {queries - 1} related queries." if queries > 1 else ".")
        )
    parts += [
        f"{name}: {problem}" + ("" if problem.endswith(".") else ".")
        for name, problem in problems.items()
    ]
    return " ".join(parts)
