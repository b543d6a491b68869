"""int8, chosen by itself, beside f32: what is right, what changes, and how fast it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from common import (
    DATA,
    ROUNDS,
    TEST,
    TRAIN,
    forget,
    in_turn,
    ratio,
    section,
    spread,
    times,
    wordsight,
)

TYPES = ("f32", "int8")


@section("int8 by itself beside f32, nothing calibrated", ("scikit-learn",))
def precision(work: Path) -> list[str]:
    speed = _speed(work)
    rows = _accuracy(work)
    return [
        "| whole process, nothing cached | f32, s | int8, s | int8 is × as fast |",
        "|---|---|---|---|",
        *speed,
        "",
        "| measured on | f32 | int8 | difference |",
        "|---|---|---|---|",
        *rows,
    ]


def _speed(work: Path) -> list[str]:
    """Time whole commands in turn."""
    for dtype in TYPES:
        wordsight("train", TRAIN, "-o", work / dtype, "--dtype", dtype, "--no-clean", work=work)

    def predict(dtype: str) -> float:
        forget(work)
        return wordsight(
            "predict", TEST, "-m", work / dtype, "--dtype", dtype, "-o", work / "r", work=work
        )[0]

    def train(dtype: str) -> float:
        forget(work)
        out = work / f"again-{dtype}"
        return wordsight("train", TRAIN, "-o", out, "--dtype", dtype, "--no-clean", work=work)[0]

    rows = []
    for name, job in (
        ("`predict` of 300 photos, everything drawn", predict),
        ("`train` on 600 photos", train),
    ):
        took = in_turn({dtype: lambda d=dtype, j=job: j(d) for dtype in TYPES}, ROUNDS)
        f32, int8 = (took[dtype] for dtype in TYPES)
        rows.append(f"| {name} | {spread(f32)} | {spread(int8)} | {times(ratio(f32, int8))} |")
    return rows


def _accuracy(work: Path) -> list[str]:
    os.environ["WORDSIGHT_HOME"] = str(work / "home")
    told = {dtype: _measured(dtype, work) for dtype in TYPES}
    rows = []
    for name, value in told["f32"].items():
        other = told["int8"][name]
        rows.append(f"| {name} | {value:.4f} | {other:.4f} | {other - value:+.4f} |")
    changed = {
        name: np.mean([a == b for a, b in zip(*(_answers[d][name] for d in TYPES), strict=True)])
        for name in _answers["f32"]
    }
    rows += [f"| same answer: {name} | | {share:.4f} | |" for name, share in changed.items()]
    return rows


_answers: dict[str, dict[str, list]] = {dtype: {} for dtype in TYPES}


def _measured(dtype: str, work: Path) -> dict[str, float]:
    """Return figures by name; the answers go to `_answers`."""
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.datasets.files import find_images

    backbone = load_backbone(dtype=dtype)
    embedder = Embedder(backbone)

    def embed(folder: str) -> tuple[np.ndarray, list[str]]:
        items = [
            item
            for item in embedder.embed_all(find_images([DATA / folder]).images)
            if item.embedding is not None
        ]
        return np.stack([item.embedding for item in items]), [item.file.name for item in items]

    return {
        **_pets(dtype, work),
        **_clothing(*embed("clothing"), dtype),
        **_imagenet(*embed("imagenet_sample"), backbone, dtype),
        **_words(dtype, work),
        **_boxes(dtype, work),
    }


def _pets(dtype: str, work: Path) -> dict[str, float]:
    """Return how right the trained model is, and how well it tells strangers."""
    import wordsight as ours
    from wordsight.metrics.classification import separation

    model = ours.load(work / dtype, dtype=dtype)
    results = list(model.predict(TEST, threshold=0.99))
    truth = [Path(row.file_name).parts[0] for row in results]
    _answers[dtype]["cats and dogs, label or silence"] = [row.label for row in results]
    known, others = (
        np.array(
            [
                model.familiarity(item.embedding[None])[0]
                for item in model.embedder.embed_all(_images(folder))
                if item.embedding is not None
            ]
        )
        for folder in (TEST, DATA / "clothing" / "test")
    )
    return {
        "cats and dogs, right": float(
            np.mean([row.top_label == t for row, t in zip(results, truth, strict=True)])
        ),
        "cats and dogs, accepted at 0.99": float(
            np.mean([row.label is not None for row in results])
        ),
        "strangers beside them, AUROC": separation(known, others)[0],
    }


def _images(folder: Path) -> list:
    from wordsight.datasets.files import find_images

    return find_images([folder]).images


def _clothing(x: np.ndarray, names: list[str], dtype: str) -> dict[str, float]:
    from sklearn.model_selection import RepeatedStratifiedKFold

    from wordsight.heads.linear import fit_head

    _, y = np.unique([name.split("/")[-2] for name in names], return_inverse=True)
    scores, said = [], []
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=0)
    for train, test in folds.split(x, y):
        head, _ = fit_head(x[train], y[train], 10)
        answers = head.logits(x[test]).argmax(axis=1)
        scores.append((answers == y[test]).mean())
        said += answers.tolist()
    _answers[dtype]["clothing, likeliest of ten"] = said
    return {"clothing, five folds five times": float(np.mean(scores))}


def _imagenet(x: np.ndarray, names: list[str], backbone, dtype: str) -> dict[str, float]:
    from wordsight.words.vocabulary import synsets

    indices = {name: one.index for name, one in synsets().items() if one.index is not None}
    truth = [indices[Path(name).name.split("_")[0]] for name in names]
    weight, bias = backbone.imagenet_head()
    answers = (x @ weight.T + bias).argmax(axis=1)
    _answers[dtype]["ImageNet, likeliest of 1,000"] = answers.tolist()
    return {"200 ImageNet photos, likeliest of 1,000": float((answers == np.array(truth)).mean())}


def _words(dtype: str, work: Path) -> dict[str, float]:
    forget(work)
    words = ("run", "-c", "cat,dog", "-p", TEST, "--dtype", dtype, "--no-pictures")
    wordsight(*words, "-o", work / "r", work=work)
    lines = (work / "r" / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    _answers[dtype]["words alone, label or silence"] = [row["label"] for row in rows]
    right = [row["top_label"] == row["file_name"].split("/")[0] for row in rows]
    return {
        "words alone, right": float(np.mean(right)),
        "words alone, accepted at 0.99": float(np.mean([row["label"] is not None for row in rows])),
    }


def _boxes(dtype: str, work: Path) -> dict[str, float]:
    """Return how well boxes of heat maps overlap the true ones, of a model that saw no box."""
    import wordsight as ours
    from wordsight.backbones.registry import load_backbone
    from wordsight.datasets.labelled import LabelledSet
    from wordsight.training.recipes import train_labelled
    from wordsight.training.request import TrainingRequest

    known = ours.datasets.read_boxes(DATA / "boxes" / "annotations-train.csv")
    labelled = LabelledSet([image.file for image in known.images], known.class_names)
    backbone = load_backbone(dtype=dtype)
    model = train_labelled(TrainingRequest(labelled, work / f"boxes-{dtype}", backbone=backbone))
    found = ours.evaluation.evaluate_boxes(
        DATA / "boxes" / "annotations-test.csv", model, output=None, detections=False
    )
    return {"boxes from heat maps, mean IoU": float(found.kinds["predict"].mean_iou.value)}
