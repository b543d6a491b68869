"""Any word by a text–image model: made-up ones of known accuracy, and a real one where it is."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
from common import DATA, ROOT, section
from roll import WORDS, _calibration_error, _counts

ABSENT = ["giraffe", "submarine", "violin", "kangaroo", "graffiti"]


@section(
    "any word by a text–image model: mixed roll, clothing, cats and dogs, by made-up models of a "
    "known zero-shot accuracy; WORDSIGHT_WORDS_MODEL=siglip2 adds a real one",
    usual=False,
)
def towers(work: Path) -> list[str]:
    """Ask models about all words of a set at once, and about words that nothing shows."""
    os.environ.setdefault("WORDSIGHT_HOME", str(work / "home"))
    real = os.environ.get("WORDSIGHT_WORDS_MODEL")
    lines = [
        "| photos | model | labelled at 0.99 | right | found | found by arg-max with the best flat "
        "cut-off of 98 % right | calibration error | right of what the taught head alone labels "
        "| labels of five absent words |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (files, shown) in _sets().items():
        lines += _rows(name, files, shown, real)
    return [
        *lines,
        "",
        "The made-up models' vectors carry the truth and noise, so that their figures tell of the "
        "statistics, not of a real model. *Found*: of the photos that show one of the words; the "
        "cut-off was chosen by the truth. The taught head saw the same photos; a word asked alone, "
        "in a folder full of things like it that no other word names, is less often right.",
    ]


def _sets() -> dict[str, tuple[list, list[list[str]]]]:
    """Return, by name, the photos of each set, and the words that each photo shows."""
    from wordsight.datasets.files import ImageFile

    with open(DATA / "roll.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    sets = {
        f"roll, {len(WORDS)} words": (
            [ImageFile(DATA / row["file_name"], row["file_name"]) for row in rows],
            [[word for word in row["words"].split("|") if word] for row in rows],
        )
    }
    for name in ("clothing", "catdog"):
        paths = sorted((DATA / name).glob("*/*/*.*"))
        words = {path.parent.name for path in paths}
        sets[f"{name}, {len(words)} words"] = (
            [ImageFile(path, str(path.relative_to(DATA))) for path in paths],
            [[path.parent.name] for path in paths],
        )
    return sets


def _rows(photos: str, files: list, shown: list[list[str]], real: str | None) -> list[str]:
    """Return a set's lines of the table."""
    sys.path.insert(0, str(ROOT / "tests"))
    from made_up_tower import MadeUpTower
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.heads.logistic import sigmoid
    from wordsight.teaching.by_tower import things
    from wordsight.towers.evidence import learn_words, weigh
    from wordsight.towers.prompts import NOTHING, rivals
    from wordsight.towers.tower import open_tower

    backbone = load_backbone()
    embeddings = np.stack([item.embedding for item in Embedder(backbone).embed_all(files)])
    words, there = sorted({word for some in shown for word in some}), things(embeddings, backbone)
    truth = np.array([[word in some for word in words] for some in shown])
    names = [file.name for file in files]
    asked = {
        f"made up, {accuracy}": MadeUpTower(names, shown, embeddings, accuracy)
        for accuracy in (0.6, 0.75, 0.9)
    }
    if real:
        asked[real] = open_tower(real)
    lines = []
    for name, tower in asked.items():
        vectors = tower.embed_photos(files)

        def cosines(
            words: list[str], tower=tower, vectors=vectors
        ) -> tuple[np.ndarray, np.ndarray]:
            others = [*rivals(tuple(words), there), *NOTHING]
            beside = tower.embed_phrases(others, several=False)
            return vectors @ tower.embed_phrases(words).T, vectors @ beside.T

        told = cosines(words)
        learned = learn_words(embeddings, weigh(*told))
        found = learned.probabilities
        labelled, right = _counts(found, truth, 0.99)
        alone = _counts(sigmoid(embeddings @ learned.weight.T + learned.bias), truth, 0.99)
        absent = [learn_words(embeddings, weigh(*cosines([word]))) for word in ABSENT]
        wrong = sum(int((one.probabilities >= 0.99).sum()) for one in absent)
        lines.append(
            f"| {photos} | {name} | {labelled} | {right / max(labelled, 1):.1%} | "
            f"{right / truth.sum():.1%} | {_flat(*told, truth):.1%} | "
            f"{_calibration_error(found, truth):.3f} | {alone[1]} of {alone[0]} | {wrong} |"
        )
    return lines


def _flat(words: np.ndarray, beside: np.ndarray, truth: np.ndarray) -> float:
    """Return what arg-max over words and rivals finds above the flat cut-off, chosen by the truth
    itself, that leaves 98 % right.
    """
    whole = np.concatenate([words, beside], axis=1)
    top = whole.argmax(axis=1)
    named = np.flatnonzero(top < words.shape[1])
    named = named[np.argsort(-whole.max(axis=1)[named])]
    right = np.cumsum(truth[named, top[named]])
    enough = np.flatnonzero(right / np.arange(1, len(named) + 1) >= 0.98)
    return float(right[enough[-1]] / truth.sum()) if len(enough) else 0.0
