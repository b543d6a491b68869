"""Brick or not brick: a yes/no network and a sliding window.

    python docs/tutorials/brick.py [--data FOLDER] [-o OUTPUT]

Without --data, walls are cut out of a photo that comes with scikit-image. With it, FOLDER/fire has subfolders fire and not_fire.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from composing import arguments, copy_split, photo, pieces, save_all, sheet

import wordsight

# where the wall stands in the photo that is searched: x_min, y_min, x_max, y_max
WALL = (330, 190, 540, 400)
OTHERS = ("grass", "gravel", "chelsea", "coffee", "astronaut")  # to learn from
UNSEEN = ("flower", "rocket")  # to test on
SIDES = (110, 200)  # pixels of a piece

# region windows
ONE_SIZE = wordsight.WindowSettings(window=(120, 120), step=20, levels=1)  # the original's loop
# each level 1.5 times as large as the one before; steps of an eighth of the window
PYRAMID = wordsight.WindowSettings(window=(100, 100), factor=1.5)
# endregion windows


# region pictures
def compose(folder: Path) -> Path:
    """Cut walls and other things out of photos; return a photo to search, with an unseen piece of wall."""
    grey = {
        name: photo(name).convert("L").convert("RGB")
        for name in ("brick", *OTHERS, *UNSEEN, "china")
    }
    known, unseen = grey["brick"].crop((0, 0, 300, 512)), grey["brick"].crop((300, 0, 512, 512))
    save_all(pieces(known, 40, 1, SIDES), folder / "train" / "brick", "wall")
    save_all(pieces(unseen, 20, 2, SIDES), folder / "test" / "brick", "wall")
    for name in OTHERS:
        save_all(pieces(grey[name], 8, 3, SIDES), folder / "train" / "not_brick", name)
    for name in UNSEEN:
        save_all(pieces(grey[name], 10, 4, SIDES), folder / "test" / "not_brick", name)
    scene = grey["china"]
    scene.paste(unseen.crop((0, 0, WALL[2] - WALL[0], WALL[3] - WALL[1])), WALL[:2])
    scene.save(folder / "scene.png")
    return folder / "scene.png"


# endregion pictures


# region scratch
def train_scratch(data: Path, model: Path, word: str, epochs: int) -> None:
    """Train the original's network from random weights: 200 × 200 pixels, five convolutions, one sigmoid."""
    tuning = wordsight.TrainingSettings(epochs=epochs, batch_size=8, patience=epochs)
    trained = wordsight.train(
        data, model, recipe="scratch", backbone="brick_cnn", positive=word, settings=tuning
    )
    for row in trained.history[1:]:  # the first row is the network before it learned
        print(
            f"epoch {row['epoch']}: loss {row['loss']:.3f}, of held-out pictures {row['val_loss']:.3f}, right {row['val_accuracy']:.1%}"
        )


# endregion scratch


# region probe
def train_probe(data: Path, model: Path, word: str) -> None:
    """Fit a linear head on a pretrained network."""
    wordsight.train(data, model, positive=word)


# endregion probe


# region judge
def judge(name: str, data: Path, model: Path) -> None:
    """Print how often a model is right on unseen photos."""
    found = wordsight.evaluate(data, model, output=None)
    right, ranking = found.total_accuracy, found.positive_ranking
    print(
        f"{name}: {right.value:.1%} of {found.total} right ({right.low:.1%}–{right.high:.1%}), AUROC {ranking.auroc.value:.3f}"
    )


# endregion judge


# region search
def search(
    name: str, scene: Path, model: Path, output: Path, windows: wordsight.WindowSettings
) -> list[wordsight.Detection]:
    """Slide a window over a photo; write the photo with rectangles, and its score map."""
    began = time.perf_counter()
    (seen,) = found = wordsight.detect(scene, model, output=output, threshold=0.9, windows=windows)
    how = "a crop and a pass each" if found.exact else "one pass a level"
    print(
        f"{name}: {seen.windows:,} windows, {how}, {time.perf_counter() - began:.1f} s, {len(seen.detections)} rectangles"
    )
    return seen.detections


# endregion search


def around(detections: list[wordsight.Detection]) -> tuple[float, float, float, float]:
    """Return the box around all rectangles, because a wall is many windows wide."""
    boxes = np.array([detection.xyxy for detection in detections])
    return (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())


def compare_with_wall(name: str, detections: list[wordsight.Detection]) -> None:
    """Print how well the rectangles match the pasted wall."""
    if not detections:
        print(f"{name}: the wall is not found")
        return
    x_min, y_min, x_max, y_max = around(detections)
    shared = max(0, min(x_max, WALL[2]) - max(x_min, WALL[0])) * max(
        0, min(y_max, WALL[3]) - max(y_min, WALL[1])
    )
    whole = (x_max - x_min) * (y_max - y_min) + (WALL[2] - WALL[0]) * (WALL[3] - WALL[1]) - shared
    print(f"{name}: the box around its rectangles and the wall have an IoU of {shared / whole:.2f}")


def main() -> None:
    """Run the tutorial."""
    chosen = arguments(__doc__, "brick")
    images, models, results = (chosen.output / part for part in ("pictures", "models", "results"))
    if chosen.data is None:
        word, scene, epochs = "brick", compose(images), 8
    else:
        copy_split(chosen.data / "fire", images)
        word, epochs = "fire", 20
        scene = sorted((images / "test" / "fire").iterdir())[0]
    train_scratch(images / "train", models / "scratch", word, epochs)
    train_probe(images / "train", models / "probe", word)
    for name in ("scratch", "probe"):
        judge(name, images / "test", models / name)
    cells = []
    for name, windows in (("scratch", ONE_SIZE), ("probe", ONE_SIZE), ("probe, pyramid", PYRAMID)):
        output = results / name.replace(", ", "-")
        detections = search(name, scene, models / name.split(",")[0], output, windows)
        if chosen.data is None:
            compare_with_wall(name, detections)
        cells += [
            (path, f"{name}: {folder}")
            for folder in ("scores", "detections")
            for path in (output / folder).iterdir()
        ]
    print(f"See {sheet(cells[:2] + cells[4:], chosen.output / 'brick-search.jpg', 2, 440)}")
    print(f"See {models / 'scratch' / 'plots' / 'loss.png'}")


if __name__ == "__main__":
    main()
