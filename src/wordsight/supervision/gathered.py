"""A classifier from images gathered for the words, without what cleaning finds among them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from ..classification.classifier import Classifier
from ..cleaning.cleaner import clean
from ..core.home import images_folder
from ..datasets.labelled import LabelledSet, read_labelled, select_classes
from ..errors import NothingGathered
from ..gathering.collector import gather as gather_images
from ..training.recipes import default_model_path
from ..words.class_names import fold, is_catch_all, with_catch_all
from .request import ClassifierRequest

GATHERED = "gathered pictures"
GATHER_LIMIT = 600  # images a class
TOO_FEW = 10


def from_gathered(request: ClassifierRequest) -> Classifier:
    """Gather images, and train on them."""
    words, say = request.words, request.say
    # as the folder is named, whatever the case they are typed in
    wanted = [fold(word) for word in words]
    names = with_catch_all(wanted)
    folder = images_folder() / default_model_path(names).name
    say(f"Gathering pictures of {', '.join(words)} into '{folder}'.")
    gathered = gather_images(
        wanted,
        folder,
        limit=GATHER_LIMIT,
        negatives=0 if len(words) > 1 else GATHER_LIMIT,
        progress=request.progress,
        say=say,
    )
    for name in names:
        if gathered.kept[name] < TOO_FEW:
            cause = next(cause for cause in gathered.causes if cause.startswith(f"{name}:"))
            raise NothingGathered(f"Too few pictures came to learn from. {cause}")
    say(
        "Gathered "
        + ", ".join(f"{count} of {name}" for name, count in gathered.kept.items())
        + f"; who made them is in '{folder / 'ATTRIBUTION.md'}'."
    )
    labelled, cleaned = _without_junk(folder, names, request)
    return request.train(select_classes(labelled, words), GATHERED, cleaned, [folder])


def _without_junk(
    folder: Path, names: list[str], request: ClassifierRequest
) -> tuple[LabelledSet, dict[str, int]]:
    """Return what was gathered without what cleaning finds, and that by reason; nothing is
    moved, and a report says what and why.
    """
    cleaned = clean(folder, backbone=request.backbone, progress=request.progress)
    found = [
        finding
        for finding in cleaned.findings
        # a catch-all has no outliers
        if not (is_catch_all(finding.label) and finding.reason == "outlier")
    ]
    junk = {finding.file_name for finding in found}
    labelled = read_labelled(folder)
    left = [image for image in labelled.images if image.name not in junk]
    counts = Counter(image.label for image in left)
    if min(counts[name] for name in names) < TOO_FEW:
        return labelled, {}  # so little is better learned from as it is
    if junk:
        request.say(
            f"Left out {len(labelled.images) - len(left)} that look like junk; see "
            f"'{cleaned.output}'."
        )
    return replace(labelled, images=left), dict(
        Counter(finding.reason for finding in found if finding.reason != "not_a_picture")
    )
