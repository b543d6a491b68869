"""What may be wrong with an image in a data set: one small registered function for each reason.
They find; nothing here moves a file.

A check gets all images at once (`Material`) and yields a `Finding` for each that should go. Its
decorator holds the threshold. `list_checks()` names all reasons, in the order of the checks below.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.plugins import load_extensions
from ..datasets.files import ImageFile
from ..errors import InvalidArgument
from ..heads.linear import second_opinion
from ..heads.rows import gather, read_in_parts
from ..images.copies import groups
from ..images.measures import Measures
from .copies import find_copies
from .outliers import strangeness

MIN_FOR_CLASS = 5  # images that a class needs for a search of outliers and mislabelled ones


@dataclass(frozen=True)
class Finding:
    """One thing found about one file.

    Attributes:
        file_name: relative to the data set.
        label: its class, "" if it has none.
        reason: name of the check.
        score: how clear it is, 0–1; comparable within a reason, not between reasons.
        suggested_label: the class it probably belongs to, for `mislabelled`.
        evidence: what shows it, such as the file that a duplicate is a copy of.
    """

    file_name: str
    label: str
    reason: str
    score: float
    suggested_label: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class Material:
    """What checks look at. Every list has one entry for each image, in the same order.

    Attributes:
        images: the files, in order of name.
        class_names: the classes.
        labels: (n,) int, index of each image's class.
        shas: hash of each file, None if it could not be read.
        errors: why an image could not be decoded, else None.
        measures: what was measured, None if the image could not be decoded.
        embeddings: (n, C) float32, a row of zeros for an image that could not be decoded.
        imagenet: weight (1000, C) and bias (1000,) of the backbone's own ImageNet head, None if it
            has none.
        others: names of files that are no images.
        min_size: shortest side wanted, pixels.
    """

    images: list[ImageFile]
    class_names: list[str]
    labels: np.ndarray
    shas: list[str | None]
    errors: list[str | None]
    measures: Sequence[Measures | None]
    embeddings: np.ndarray
    imagenet: tuple[np.ndarray, np.ndarray] | None
    others: list[str]
    min_size: int

    @functools.cached_property
    def good(self) -> np.ndarray:
        """Indices of the images that could be decoded."""
        return np.array([i for i, error in enumerate(self.errors) if error is None], dtype=int)

    @functools.cached_property
    def copies(self) -> dict[tuple[int, int], float]:
        """Pairs of images that show the same, with how alike they are, 0–1; searched for once."""
        return find_copies(self.good, self.labels, self.shas, self.measures, self.embeddings)

    def finding(
        self, index: int, reason: str, score: float, suggested_label: str = "", evidence: str = ""
    ) -> Finding:
        """Return a finding about one image."""
        file = self.images[index]
        return Finding(
            file.name,
            file.label or "",
            reason,
            round(min(1.0, max(0.0, float(score))), 4),
            suggested_label,
            evidence,
        )

    def better(self, a: int, b: int) -> bool:
        """Whether `a` is the copy to keep of `a` and `b`: the larger one, or of equals the first by
        name.
        """
        sizes = [
            (-m.width * m.height if m else 0, self.images[i].name)
            for i, m in ((a, self.measures[a]), (b, self.measures[b]))
        ]
        return sizes[0] <= sizes[1]


CheckFunction = Callable[[Material, float], Iterator[Finding]]
_registry: dict[str, tuple[CheckFunction, float]] = {}


def register_check(threshold: float) -> Callable[[CheckFunction], CheckFunction]:
    """Register a check under its function's name, with its threshold (a decorator). People read the
    first paragraph of its docstring.

    A package of your own names its module in the entry-point group `wordsight.checks`. Then the
    command line knows the check, too.
    """

    def register(function: CheckFunction) -> CheckFunction:
        there = _registry.get(function.__name__)
        if there is not None and there[0].__module__ != function.__module__:
            raise InvalidArgument(
                f"There is a check '{function.__name__}' already, of '{there[0].__module__}'. "
                "Give yours another name."
            )
        _registry[function.__name__] = (function, threshold)
        return function

    return register


def list_checks() -> dict[str, str]:
    """Return every reason and what it means, in the order of the checks."""
    load_extensions("checks")
    found = {
        name: " ".join((function.__doc__ or "").partition("\n\n")[0].split())
        for name, (function, _) in _registry.items()
    }
    return {
        **found,
        "redundant": "Only with --balance: like another one, in a class larger than the smallest.",
    }


def run_checks(material: Material) -> list[Finding]:
    """Return every finding, ordered by reason and falling score."""
    load_extensions("checks")
    order = list(_registry)
    found = [finding for name in order for finding in _run_check(name, material)]
    return sorted(
        found, key=lambda finding: (order.index(finding.reason), -finding.score, finding.file_name)
    )


def _run_check(name: str, material: Material) -> list[Finding]:
    """Return what one check finds.

    Raises:
        InvalidArgument: if a check of another package fails, or gives a reason other than its own.
    """
    function, threshold = _registry[name]
    try:
        found = list(function(material, threshold))
    except Exception as error:
        # somebody else's code: whatever goes wrong in it is reported with its name
        if function.__module__ == __name__:
            raise
        raise InvalidArgument(
            f"The check '{name}' of '{function.__module__}' failed: {type(error).__name__}: "
            f"{error}. Leave it out, or mend it."
        ) from error
    strange = next((finding.reason for finding in found if finding.reason != name), None)
    if strange is not None:
        raise InvalidArgument(
            f"The check '{name}' of '{function.__module__}' gives the reason '{strange}'; a "
            "check's reason is its own name."
        )
    return found


@register_check(0)
def not_a_picture(material: Material, threshold: float) -> Iterator[Finding]:
    """A file that is no image at all, such as a list of addresses."""
    for name in material.others:
        if "/" not in name or name.endswith(" (gone)"):
            continue  # beside the classes, such as a README; or deleted since the table was written
        yield Finding(name, name.rpartition("/")[0], "not_a_picture", 1.0)


@register_check(0)
def undecodable(material: Material, threshold: float) -> Iterator[Finding]:
    """An image that is broken, empty or of a kind that can't be read."""
    for i, error in enumerate(material.errors):
        if error is not None:
            yield material.finding(i, "undecodable", 1.0, evidence=error)


@register_check(0)
def too_small(material: Material, threshold: float) -> Iterator[Finding]:
    """The shorter side is under the smallest size (--min-size)."""
    for i, m in _measured(material):
        if min(m.width, m.height) < material.min_size:
            yield material.finding(
                i,
                "too_small",
                1 - min(m.width, m.height) / material.min_size,
                evidence=f"{m.width}x{m.height} pixels",
            )


@register_check(1)
def animated(material: Material, threshold: float) -> Iterator[Finding]:
    """It moves, or has several pages."""
    for i, m in _measured(material):
        if m.frames > threshold:
            yield material.finding(i, "animated", 1.0, evidence=f"{m.frames} frames")


@register_check(6)
def single_colour(material: Material, threshold: float) -> Iterator[Finding]:
    """Nothing but one colour."""
    for i, m in _measured(material):
        if m.spread < threshold:
            yield material.finding(i, "single_colour", 1 - m.spread / threshold / 2)


@register_check(0.6)
def document(material: Material, threshold: float) -> Iterator[Finding]:
    """A page rather than a photo: one plain ground, something on it, hardly any colour."""
    for i, m in _measured(material):
        if m.plain >= threshold and m.coloured < 0.02 and m.spread >= 6:
            yield material.finding(
                i, "document", m.plain, evidence=f"{m.plain:.0%} of it is one colour"
            )


@register_check(48)
def too_dark(material: Material, threshold: float) -> Iterator[Finding]:
    """Even its bright parts are dark."""
    for i, m in _measured(material):
        if m.brightest < threshold and m.spread >= 6:
            yield material.finding(
                i,
                "too_dark",
                1 - m.brightest / threshold / 2,
                evidence=f"95 % of it is darker than {m.brightest:.0f} of 255",
            )


@register_check(215)
def too_bright(material: Material, threshold: float) -> Iterator[Finding]:
    """Even its dark parts are bright."""
    for i, m in _measured(material):
        if m.darkest > threshold and m.spread >= 6:
            score = 0.5 + (m.darkest - threshold) / (255 - threshold) / 2
            yield material.finding(
                i,
                "too_bright",
                score,
                evidence=f"95 % of it is brighter than {m.darkest:.0f} of 255",
            )


@register_check(0.22)
def blurry(material: Material, threshold: float) -> Iterator[Finding]:
    """No fine detail anywhere: out of focus, or blown up from something small."""
    for i, m in _measured(material):
        if m.sharpness < threshold and m.spread >= 6:
            yield material.finding(
                i,
                "blurry",
                1 - m.sharpness / threshold / 2,
                evidence=f"sharpness {m.sharpness:.2f}; photos have 0.26 and more",
            )


@register_check(3)
def extreme_aspect(material: Material, threshold: float) -> Iterator[Finding]:
    """One side is more than three times the other."""
    for i, m in _measured(material):
        ratio = max(m.width, m.height) / max(1, min(m.width, m.height))
        if ratio > threshold:
            yield material.finding(
                i,
                "extreme_aspect",
                1 - threshold / ratio / 2,
                evidence=f"{m.width}x{m.height} pixels",
            )


@register_check(0)
def duplicate(material: Material, threshold: float) -> Iterator[Finding]:
    """The same file, byte for byte, as another of its class."""
    kept: dict[tuple[str, int], int] = {}
    for i, sha in enumerate(material.shas):
        if sha is not None:
            first = kept.setdefault((sha, int(material.labels[i])), i)
            if first != i:
                yield material.finding(i, "duplicate", 1.0, evidence=material.images[first].name)


@register_check(0)
def near_duplicate(material: Material, threshold: float) -> Iterator[Finding]:
    """The same image as another of its class: smaller, compressed, cropped, framed, mirrored,
    grey or written on.
    """
    same_class = {
        pair: score
        for pair, score in material.copies.items()
        if material.labels[pair[0]] == material.labels[pair[1]]
    }
    within = {
        (a, b): score
        for (a, b), score in same_class.items()
        if material.shas[a] != material.shas[b]
    }
    clearest: dict[int, float] = {}
    for pair, score in within.items():
        for i in pair:
            clearest[i] = max(clearest.get(i, score), score)
    for group in groups(len(material.images), np.array(list(within), dtype=int).reshape(-1, 2)):
        best = group[0]
        for i in group[1:]:
            best = best if material.better(best, i) else i
        for i in group:
            if i != best and material.shas[i] != material.shas[best]:
                yield material.finding(
                    i, "near_duplicate", clearest[i], evidence=material.images[best].name
                )


@register_check(0)
def in_two_classes(material: Material, threshold: float) -> Iterator[Finding]:
    """The same image lies in two classes; both are shown."""
    best: dict[int, tuple[float, int]] = {}
    for (a, b), score in material.copies.items():
        if material.labels[a] != material.labels[b]:
            for i, other in ((a, b), (b, a)):
                best[i] = max(best.get(i, (-1.0, -1)), (score, other))
    for i, (score, other) in sorted(best.items()):
        yield material.finding(
            i,
            "in_two_classes",
            score,
            material.images[other].label or "",
            material.images[other].name,
        )


@register_check(1.5)
def outlier(material: Material, threshold: float) -> Iterator[Finding]:
    """It looks like nothing else in its class."""
    good = material.good
    counts = np.bincount(material.labels[good], minlength=len(material.class_names))
    rows = good[counts[material.labels[good]] >= MIN_FOR_CLASS]
    if not len(rows):
        return
    far = strangeness(rows, material.labels, material.embeddings, material.imagenet)
    for i, deviations in zip(rows, far, strict=True):
        if deviations >= threshold:
            yield material.finding(
                i,
                "outlier",
                deviations / (deviations + threshold),
                evidence=f"{deviations:.1f} deviations from its class",
            )


@register_check(0.9)
def mislabelled(material: Material, threshold: float) -> Iterator[Finding]:
    """It probably belongs to another class, which is suggested.

    With more classes, the other one must be surer: 0.95 against its own class of two, 0.99 of ten.
    """
    good = material.good
    labels = material.labels[good]
    counts = np.bincount(labels, minlength=len(material.class_names))
    large = np.flatnonzero(counts >= MIN_FOR_CLASS)
    if len(large) < 2:
        return
    rows = good[np.isin(labels, large)]
    probabilities = second_opinion(
        gather(read_in_parts(material.embeddings, rows)),
        np.searchsorted(large, material.labels[rows]),
        len(large),
    )
    for i, row in zip(rows, probabilities, strict=True):
        own = int(np.searchsorted(large, material.labels[i]))
        other = int(np.argmax(np.where(np.arange(len(large)) == own, -1, row)))
        score = row[other] / max(row[other] + row[own], 1e-12)
        if score >= 1 - (1 - threshold) / len(large):
            name = material.class_names[large[other]]
            yield material.finding(
                i,
                "mislabelled",
                score,
                name,
                f"{name} {row[other]:.1%}, {material.images[i].label} {row[own]:.1%}",
            )


def _measured(material: Material) -> Iterator[tuple[int, Measures]]:
    for i, measures in enumerate(material.measures):
        if measures is not None:
            yield i, measures
