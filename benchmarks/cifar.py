"""CIFAR-10: the tutorial's network in Keras and here, and our own small network in about the
same time.
"""

from __future__ import annotations

import csv
import shutil
import statistics
import zipfile
from pathlib import Path

from common import DATA, section, side, spread, times, wordsight

EPOCHS, BATCH, ROUNDS = 4, 32, 3


@section(
    "CIFAR-10, 25,000 pictures to learn from, 5,000 to be judged on, beside Keras",
    ("tensorflow-cpu", "keras", "torch", "lightning"),
    usual=False,
)
def cifar(work: Path) -> list[str]:
    with zipfile.ZipFile(DATA / "cifar10.zip") as packed:
        packed.extractall(work)
    data = _split_table(work / "cifar10", work)
    same = (
        "--recipe",
        "scratch",
        "--backbone",
        "cifar_cnn",
        "--epochs",
        EPOCHS,
        "--batch-size",
        BATCH,
        "--patience",
        99,
    )
    runs: dict[str, list[dict]] = {
        "Keras": [],
        "wordsight, the same network": [],
        "wordsight, small_resnet, 5 epochs": [],
    }
    for seed in range(ROUNDS):
        seconds, told = side("keras_cifar.py", work / "cifar10", EPOCHS, BATCH, seed, work=work)
        runs["Keras"].append({"whole_s": seconds, **told})
        runs["wordsight, the same network"].append(_ours(data, work, *same, "--seed", seed))
        runs["wordsight, small_resnet, 5 epochs"].append(
            _ours(data, work, "--recipe", "scratch", "--epochs", 5, "--no-augment", "--seed", seed)
        )
    rows = []
    for name, figures in runs.items():
        shares = [
            statistics.median(
                run[key] / other[key] for run, other in zip(figures, runs["Keras"], strict=True)
            )
            for key in ("epochs_s", "whole_s")
        ]
        accuracies = [100 * run["accuracy"] for run in figures]
        rows.append(
            f"| {name} | {times(shares[0])} | {times(shares[1])} | {spread(accuracies)} % | "
            f"{spread([run['epochs_s'] for run in figures])} | "
            f"{spread([run['whole_s'] for run in figures])} |"
        )
    return [
        f"| {EPOCHS} epochs, batches of {BATCH} | epochs, of Keras's time | whole process | "
        "right | epochs, s | whole, s |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _split_table(data: Path, folder: Path) -> Path:
    """Copy the pictures into one set whose metadata.csv gives test to validation, and return it."""
    target = folder / "set"
    target.mkdir()
    with open(target / "metadata.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file_name", "label", "split"))
        for part, split in (("train", "train"), ("test", "val")):
            shutil.copytree(data / part, target / part)
            for image in sorted((data / part).glob("*/*.jpg")):
                rows.writerow(
                    (f"{part}/{image.parent.name}/{image.name}", image.parent.name, split)
                )
    return target


def _ours(data: Path, work: Path, *options: object) -> dict:
    """Train with the command line; return seconds of the whole and of the epochs, and the
    accuracy on test after the last.
    """
    whole, _ = wordsight("train", data, "-o", work / "m", "--no-clean", *options, work=work)
    with open(work / "m" / "history.csv", encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if row.get("seconds")]
    shutil.rmtree(work / "m")
    return {
        "whole_s": whole,
        "epochs_s": sum(float(row["seconds"]) for row in rows),
        "accuracy": float(rows[-1]["val_accuracy"]),
    }
