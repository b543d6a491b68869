"""Accuracy: what was right, what was left without a label, and what was labelled though it is
none of the words.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
from common import DATA, TEST, TRAIN, forget, section, wordsight


@section("what users care for", ("scikit-learn",))
def accuracy(work: Path) -> list[str]:
    rows: list[str] = []

    def judge(name: str, *arguments, others: bool = False) -> None:
        wordsight(*arguments, "-o", work / "r", "--no-pictures", work=work)
        lines = [
            json.loads(line) for line in (work / "r" / "predictions.jsonl").read_text().splitlines()
        ]
        truth = [
            next((part for part in row["file_name"].split("/") if part in ("cat", "dog")), None)
            for row in lines
        ]
        known = [(row, t) for row, t in zip(lines, truth, strict=True) if t]
        accepted = [(row, t) for row, t in zip(lines, truth, strict=True) if row["label"]]
        right = np.mean([row["top_label"] == t for row, t in known]) if known else float("nan")
        selective = (
            np.mean([row["label"] == t for row, t in accepted]) if accepted else float("nan")
        )
        coverage = sum(1 for row, t in known if row["label"]) / max(len(known), 1)
        figures = " | ".join(
            "–" if np.isnan(value) else f"{value:.2%}" for value in (right, coverage, selective)
        )
        rows.append(
            f"| {name} | {len(lines)} | {figures} | {sum(1 for _, t in accepted if t is None)} |"
        )

    test, strangers = TEST, [DATA / "clothing" / "test", DATA / "street" / "photos"]
    few = work / "few"
    shutil.copytree(test / "dog", few / "dog", dirs_exist_ok=True)
    (few / "cat").mkdir(exist_ok=True)
    for photo in sorted((test / "cat").iterdir())[:8]:
        shutil.copy(photo, few / "cat")
    forget(work)
    words = ("run", "-c", "cat,dog")
    judge("words alone", *words, "-p", test)
    judge("words alone, 150 dogs and 8 cats", *words, "-p", few)
    judge(
        "words alone, mixed with other photos",
        *words,
        "-p",
        test,
        "-p",
        strangers[0],
        "-p",
        strangers[1],
    )
    wordsight("train", TRAIN, "-o", work / "m", work=work)
    judge("trained on 600 photos", "predict", test, "-m", work / "m")
    judge("trained, only other photos", "predict", *strangers, "-m", work / "m")
    wordsight("train", TRAIN, "-o", work / "m16", "--dtype", "bf16", work=work)
    judge(
        "trained on 600 photos, `--dtype bf16`",
        "predict",
        test,
        "-m",
        work / "m16",
        "--dtype",
        "bf16",
    )
    return [
        "| cats and dogs | photos | right | accepted at 0.99 | of the accepted right | "
        "others accepted |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "Ten kinds of clothing, five folds repeated five times over all 520: "
        f"**{_clothing(work):.2%}** right. Settings were chosen on other cat, dog and "
        "clothing photos; the street photos and the 520 of clothing were seen before.",
    ]


def _clothing(work: Path) -> float:
    os.environ["WORDSIGHT_HOME"] = str(work / "home")
    from sklearn.model_selection import RepeatedStratifiedKFold

    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.datasets.files import find_images
    from wordsight.heads.linear import fit_head

    embedder = Embedder(load_backbone())
    items = list(embedder.embed_all(find_images([DATA / "clothing"]).images))
    embedder.cache.close()
    x = np.stack([item.embedding for item in items])
    _, y = np.unique([item.file.name.split("/")[-2] for item in items], return_inverse=True)
    scores = []
    for train_rows, test_rows in RepeatedStratifiedKFold(
        n_splits=5, n_repeats=5, random_state=0
    ).split(x, y):
        head, _ = fit_head(x[train_rows], y[train_rows], 10)
        scores.append((head.logits(x[test_rows]).argmax(axis=1) == y[test_rows]).mean())
    return float(np.mean(scores))
