"""Training and answering, beside fastai and Keras."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

from common import TEST, TRAIN, forget, ratio, section, side, spread, times, wordsight

ROUNDS = 2


@section(
    "600 photos of cats and dogs to learn from, 300 to answer for, beside fastai and Keras",
    ("timm", "torch", "fastai", "tensorflow-cpu", "keras"),
)
def train(work: Path) -> list[str]:
    weights = side("prepare.py", work=work)[1]["folder"]
    whole: dict[str, list[float]] = {}
    inner: dict[str, list[dict]] = {}

    def add(name: str, took: tuple[float, dict]) -> None:
        whole.setdefault(name, []).append(took[0])
        inner.setdefault(name, []).append(took[1])

    for _ in range(ROUNDS):
        forget(work)
        add("commands", _commands(work))
        add("again", _commands(work))
        forget(work)
        add("words", _words(work))
        forget(work)
        add("ours", side("ours_train.py", TRAIN, TEST, work / "m", 320, work=work))
        forget(work)
        add("ours224", side("ours_train.py", TRAIN, TEST, work / "m224", 224, work=work))
        add("fastai", side("fastai_train.py", weights, TRAIN, TEST, 1, work=work))
    add("keras", side("keras_train.py", TRAIN, TEST, work=work))
    names = {
        "ours": "wordsight, one script",
        "ours224": "the same at 224 pixels, as the others",
        "commands": "wordsight, two commands (`train`, then `predict` with tables)",
        "again": "the same two again: nothing is decoded",
        "words": "wordsight, words alone (`run -c cat,dog`), no training picture",
        "fastai": "fastai, `fine_tune(1)`, the same weights",
        "keras": f"Keras, frozen ResNet50, {inner['keras'][0]['epochs']} epochs, once",
    }
    rows = []
    for name, said in names.items():
        parts = {
            part: statistics.median(found[part] for found in inner[name])
            for part in ("imports", "train", "predict")
            if part in inner[name][0]
        }
        split = " | ".join(
            f"{parts[part]:.1f}" if part in parts else ""
            for part in ("imports", "train", "predict")
        )
        right = (
            "random weights"
            if name == "keras"
            else f"{statistics.median(found['right'] for found in inner[name]):.2%}"
        )
        rows.append(f"| {said} | {spread(whole[name])} | {split} | {right} |")
    loops = {
        name: [found["train"] + found["predict"] for found in inner[name]]
        for name in ("ours", "ours224", "fastai")
    }
    keras = whole["keras"][0] / statistics.median(whole["ours"])
    return [
        f"fastai's `fine_tune(1)` takes {times(ratio(whole['fastai'], whole['ours']))} "
        "times as long as wordsight, process start included, and "
        f"{times(ratio(loops['fastai'], loops['ours']))} times in the inner loop; beside "
        f"words alone {times(ratio(whole['fastai'], whole['words']))}. "
        f"At 224 pixels on both sides {times(ratio(whole['fastai'], whole['ours224']))}, in "
        "the inner loop "
        f"{times(ratio(loops['fastai'], loops['ours224']))}. Keras takes {times(keras)} "
        "times as long as wordsight.",
        "",
        "| | seconds, whole process | imports | train | answer | right of 300 |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "wordsight starts with a compiled backbone and no embedding cached; it looks at "
        "320 × 320 pixels, the others at 224 × 224. fastai learns "
        "from all 600, with the defaults of its documentation, and is spared its "
        "validation passes. Keras as the recipe goes, with random weights "
        "(none can be had offline): they cost the same time. The work differs, as the "
        "tools do: wordsight passes every picture once through a network that "
        "stays as it is; `fine_tune(1)` is an epoch of the head and one of the whole "
        "network; the recipe's ResNet50 has ten times the arithmetic, twice.",
    ]


def _commands(work: Path) -> tuple[float, dict]:
    first, _ = wordsight("train", TRAIN, "-o", work / "m", work=work)
    second, _ = wordsight(
        "predict", TEST, "-m", work / "m", "-o", work / "r", "--no-pictures", work=work
    )
    return first + second, {"train": first, "predict": second, "right": _right(work / "r")}


def _words(work: Path) -> tuple[float, dict]:
    seconds, _ = wordsight(
        "run", "-c", "cat,dog", "-p", TEST, "-o", work / "w", "--no-pictures", work=work
    )
    return seconds, {"right": _right(work / "w")}


def _right(results: Path) -> float:
    rows = [json.loads(line) for line in (results / "predictions.jsonl").read_text().splitlines()]
    shutil.rmtree(results)
    return sum(row["top_label"] == row["file_name"].split("/")[-2] for row in rows) / len(rows)


@section("What the first use costs: preparing and compiling the backbone, once on a machine")
def first(work: Path) -> list[str]:
    cold, warm = [], []
    for _ in range(ROUNDS):
        shutil.rmtree(work / "home")
        cold.append(wordsight("train", TRAIN, "-o", work / "m", work=work)[0])
        forget(work)
        warm.append(wordsight("train", TRAIN, "-o", work / "m", work=work)[0])
    return [
        f"The first training takes {times(ratio(cold, warm))} times as long as any later "
        f"one: {spread(cold)} s beside {spread(warm)} s. "
        "The network is built then, compiled, and timed in both types."
    ]
