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
    "any word by a text–image model: ten words on the mixed roll, by made-up models of a known "
    "zero-shot accuracy; WORDSIGHT_WORDS_MODEL=siglip2 adds a real one",
    usual=False,
)
def towers(work: Path) -> list[str]:
    os.environ.setdefault("WORDSIGHT_HOME", str(work / "home"))
    sys.path.insert(0, str(ROOT / "tests"))
    from made_up_tower import MadeUpTower
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.datasets.files import ImageFile
    from wordsight.towers.evidence import learn_words, weigh
    from wordsight.towers.prompts import NOTHING, rivals
    from wordsight.towers.tower import open_tower

    with open(DATA / "roll.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [[word for word in row["words"].split("|") if word] for row in rows]
    truth = np.array([[word in some for word in WORDS] for some in shown])
    files = [ImageFile(DATA / row["file_name"], row["file_name"]) for row in rows]
    items = Embedder(load_backbone()).embed_all(files)
    embeddings = np.stack([item.embedding for item in items])
    names = [file.name for file in files]
    asked = {
        f"made up, {accuracy}": MadeUpTower(names, shown, embeddings, accuracy)
        for accuracy in (0.6, 0.75, 0.9)
    }
    real = os.environ.get("WORDSIGHT_WORDS_MODEL")
    if real:
        asked[real] = open_tower(real)
    lines = [
        "| model | labelled at 0.99 | right | found of 452 | found by arg-max with the best flat "
        "cut-off of 98 % right | calibration error | labels of five absent words |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, tower in asked.items():
        vectors = tower.embed_photos(files)

        def cosines(
            words: list[str], tower=tower, vectors=vectors
        ) -> tuple[np.ndarray, np.ndarray]:
            beside = tower.embed_phrases([*rivals(tuple(words)), *NOTHING], several=False)
            return vectors @ tower.embed_phrases(words).T, vectors @ beside.T

        told = cosines(WORDS)
        found = learn_words(embeddings, weigh(*told)).probabilities
        labelled, right = _counts(found, truth, 0.99)
        absent = [learn_words(embeddings, weigh(*cosines([word]))) for word in ABSENT]
        wrong = sum(int((one.probabilities >= 0.99).sum()) for one in absent)
        lines.append(
            f"| {name} | {labelled} | {right / max(labelled, 1):.1%} | {right / truth.sum():.1%} | "
            f"{_flat(*told, truth):.1%} | {_calibration_error(found, truth):.3f} | {wrong} |"
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
