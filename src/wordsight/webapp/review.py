"""Which images a person should look at, the most doubtful first; and what is made of decisions."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from ..backbones.embedder import Embedder
from ..backbones.registry import load_backbone
from ..classification.classifier import Classifier
from ..cleaning.checks import Finding, run_checks
from ..cleaning.cleaner import MIN_SIZE
from ..cleaning.material import gather_material
from ..core.home import sorted_folder, write_atomic, writing
from ..core.progress import Progress
from ..core.tables import short_stem
from ..datasets.decisions import ReviewBook
from ..datasets.files import ImageFile
from ..datasets.labelled import LabelledSet
from ..exports.photos.photo_labels import read_photo_labels
from ..exports.photos.sorting import Sorted, sort
from ..exports.photos.spreadsheet import as_csv, as_xlsx, has_xlsx

SUSPICIOUS = (
    "in_two_classes",
    "mislabelled",
    "outlier",
    "near_duplicate",
    "duplicate",
    "document",
    "single_colour",
    "too_dark",
    "too_bright",
    "blurry",
)


@dataclass(frozen=True)
class Doubt:
    """An image that a person should look at.

    Attributes:
        file_name: relative to the folder.
        kind: "suspicious": labelled, and something speaks against it; "rejected": no label was
            given; "pre-labelled": a model gave one.
        label: its label now, or None.
        suggestion: the label that a model or a check proposes, or None.
        probability: of the suggestion, or None.
        why: in a few words.
    """

    file_name: str
    kind: str
    label: str | None
    suggestion: str | None
    probability: float | None
    why: str


def find_doubts(
    book: ReviewBook,
    model: Classifier | None,
    threshold: float | None,
    progress: Progress | None = None,
) -> list[Doubt]:
    """Return the images that a person should look at, the most doubtful first.

    Suspicious labels come first, then images without a label.

    Args:
        book: the folder; images reviewed before are left out.
        model: proposes labels for images without one; None leaves those out.
        threshold: probability from which an image counts as pre-labelled.
        progress: called with (done, total, what).
    """
    doubts = _suspicious(book, model, progress)
    if model is None:
        return doubts
    bare = [image for image in _waiting(book) if not book.label(image.name)]
    return doubts + _unlabelled(bare, model, threshold, progress)


def sort_reviewed(book: ReviewBook, progress: Progress | None = None) -> Sorted:
    """Copy a folder's images into a folder a class, among wordsight's own files.

    Raises:
        InvalidArgument: if no image has a label or a decision yet.
        OutputError: if they can't be written.
    """
    return sort(book, sorted_place(book.root), progress=progress)


def sorted_place(root: Path) -> Path:
    """Return where the images of a folder are sorted into, among wordsight's own files."""
    told = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    return sorted_folder() / f"{root.name}-{told}"


def write_spreadsheet(book: ReviewBook, folder: Path, progress: Progress | None = None) -> Path:
    """Write what is known of a folder's images to a new file; return where it is.

    Args:
        book: the folder.
        folder: to write into; a workbook, or CSV where XlsxWriter is missing.
        progress: called with (done, total, what).

    Raises:
        InvalidArgument: if no image has a label or a decision yet.
        OutputError: if it can't be written.
    """
    found, _ = read_photo_labels(book)
    write, suffix = (as_xlsx, ".xlsx") if has_xlsx() else (as_csv, ".csv")
    path = folder / secrets.token_hex(16) / f"{short_stem(book.root.name, 80)}{suffix}"
    with writing(path):
        write_atomic(path, write(found, progress))
    return path


def _waiting(book: ReviewBook) -> list[ImageFile]:
    """Return the images that were not reviewed yet."""
    return [image for name, image in book.images.items() if book.reviewed(name) is None]


def _suspicious(
    book: ReviewBook, model: Classifier | None, progress: Progress | None
) -> list[Doubt]:
    """Return the labelled images that were not reviewed and that a check speaks against, the
    gravest reason first; none for fewer than two classes.
    """
    labelled = [
        ImageFile(image.path, name, book.label(name))
        for name, image in book.images.items()
        if book.label(name)
    ]
    open_names = {image.name for image in _waiting(book) if book.label(image.name)}
    class_names = sorted({str(image.label) for image in labelled})
    if not open_names or len(class_names) < 2:
        return []
    backbone = load_backbone() if model is None else model.backbone
    material = gather_material(
        LabelledSet(labelled, class_names), MIN_SIZE, Embedder(backbone), progress
    )
    findings = [
        finding
        for finding in run_checks(material)
        if finding.reason in SUSPICIOUS and finding.file_name in open_names
    ]
    findings.sort(
        key=lambda finding: (SUSPICIOUS.index(finding.reason), -finding.score, finding.file_name)
    )
    gravest: dict[str, Finding] = {}
    for finding in findings:
        gravest.setdefault(finding.file_name, finding)
    return [_doubt(finding) for finding in gravest.values()]


def _doubt(finding: Finding) -> Doubt:
    """Return the doubt that a check's finding raises."""
    why = finding.reason.replace("_", " ")
    if finding.evidence:
        why += f": {finding.evidence}"
    return Doubt(
        finding.file_name,
        "suspicious",
        finding.label,
        finding.suggested_label or finding.label,
        None,
        why,
    )


def _unlabelled(
    images: list[ImageFile], model: Classifier, threshold: float | None, progress: Progress | None
) -> list[Doubt]:
    """Return the images without a label: first those that the model rejects, then those that it
    would label, the least sure first.
    """
    found = []
    embedder = model.embedder
    for done, item in enumerate(embedder.embed_all(images), start=1):
        if item.embedding is not None:
            decided = model.decide(item.file.name, item.embedding, threshold)
            kind = "rejected" if decided.label is None else "pre-labelled"
            why = (
                "resembles nothing the model learned from"
                if decided.stranger
                else "not sure enough"
                if decided.label is None
                else "labelled by the model"
            )
            # of what resembles no class, a probability would mean nothing
            sure = None if decided.stranger else decided.probability
            found.append(Doubt(decided.file_name, kind, None, decided.top_label, sure, why))
        if progress:
            progress(done, len(images), "pictures without a label")
    return sorted(
        found,
        key=lambda doubt: (doubt.kind != "rejected", doubt.probability or 0.0, doubt.file_name),
    )
