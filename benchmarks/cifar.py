"""CIFAR-10 side by side: the tutorial's network in Keras and here, and our own small network in about the same time.

    python benchmarks/cifar.py cifar10/ --keras-python path/to/python-with-tensorflow [--epochs 4] [--repeats 3]

`cifar10/` holds train/<class>/ and test/<class>/. Each side learns from all of train and is judged on test after every epoch.
Sides take turns; medians are printed, whole processes and epochs apart.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KERAS = """
import json, os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
from keras import layers
data, epochs, batch, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
keras.utils.set_random_seed(seed)
def load(part, shuffle):
    return keras.utils.image_dataset_from_directory(f"{data}/{part}", image_size=(32, 32), batch_size=None, shuffle=shuffle, verbose=0)
scale = lambda x, y: (x / 255.0, y)
train = load("train", False).map(scale).cache().shuffle(25000, seed=seed).batch(batch).prefetch(-1)
test = load("test", False).map(scale).cache().batch(256).prefetch(-1)
for part in (train, test):
    for _ in part: pass  # decoded and in memory before the clock of the epochs starts
model = keras.Sequential([
    keras.Input((32, 32, 3)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(64, 3, activation="relu"),
    layers.MaxPooling2D(), layers.Conv2D(64, 3, activation="relu"), layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10),
])
assert model.count_params() == 122570
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
start = time.perf_counter()
history = model.fit(train, validation_data=test, epochs=epochs, verbose=0).history
print(json.dumps({"epochs_s": time.perf_counter() - start, "accuracy": history["val_accuracy"][-1]}))
"""


def split_table(data: Path, folder: Path) -> Path:
    """Copy the pictures into one set whose metadata.csv gives test to validation, and return it."""
    target = folder / "set"
    target.mkdir()
    with open(target / "metadata.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file_name", "label", "split"))
        for part, split in (("train", "train"), ("test", "val")):
            shutil.copytree(data / part, target / part)
            for picture in sorted((data / part).glob("*/*.jpg")):
                rows.writerow((f"{part}/{picture.parent.name}/{picture.name}", picture.parent.name, split))
    return target


def ours(data: Path, folder: Path, *options: str) -> dict:
    """Train with the command line; return seconds of the whole, of the epochs, and the accuracies on test."""
    model = folder / "model"
    start = time.perf_counter()
    command = [sys.executable, "-m", "wordsight", "train", str(data), "-o", str(model), "--no-clean", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    whole = time.perf_counter() - start
    with open(model / "history.csv") as file:
        rows = [row for row in csv.DictReader(file) if row.get("seconds")]
    return {
        "whole_s": whole,
        "epochs_s": sum(float(row["seconds"]) for row in rows),
        "accuracy": float(rows[-1]["val_accuracy"]) if rows else None,
        "best": json.loads((model / "wordsight.json").read_text())["info"]["metrics"]["accuracy"],
    }


def keras(python: str, data: Path, epochs: int, batch: int, seed: int) -> dict:
    """Train the same network in Keras."""
    start = time.perf_counter()
    done = subprocess.run([python, "-c", KERAS, str(data), str(epochs), str(batch), str(seed)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return {"whole_s": time.perf_counter() - start, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    """Run all sides in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keras-python", required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["WORDSIGHT_OFFLINE"] = "1"
    runs: dict[str, list[dict]] = {"keras": [], "ours, same network": [], "ours, small_resnet": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("WORDSIGHT_HOME", str(folder / "home"))
        data = split_table(options.data, folder)
        same = ("--recipe", "scratch", "--backbone", "cifar_cnn", "--epochs", str(options.epochs), "--batch-size", str(options.batch), "--patience", "99")
        for seed in range(options.repeats):
            runs["keras"].append(keras(options.keras_python, options.data, options.epochs, options.batch, seed))
            runs["ours, same network"].append(ours(data, folder, *same, "--seed", str(seed)))
            small = ("--recipe", "scratch", "--epochs", "5", "--no-augment", "--seed", str(seed))
            runs["ours, small_resnet"].append(ours(data, folder, *small))
            print(json.dumps({side: figures[-1] for side, figures in runs.items()}), flush=True)
    middle = {side: {key: statistics.median(run[key] for run in figures) for key in figures[0]} for side, figures in runs.items()}
    print(json.dumps(middle, indent=1))
    first = middle.pop("keras")
    for side, second in middle.items():
        print(
            f"{side}: epochs take {second['epochs_s'] / first['epochs_s']:.2f} of Keras's time, the whole process {second['whole_s'] / first['whole_s']:.2f}; "
            f"accuracy {100 * (second['accuracy'] - first['accuracy']):+.1f} points"
        )


if __name__ == "__main__":
    main()
