"""CIFAR-10 from scratch: ten classes, 32 × 32 pixels, and what the same time can buy.

    python docs/tutorials/cifar.py [--data FOLDER] [-o OUTPUT]

Without --data, ten shapes are drawn on pieces of photos. With it, FOLDER/cifar10.zip holds cifar10/train and cifar10/test, one folder a class.
"""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import numpy as np
from composing import arguments, photo, pieces, save_all, sheet
from PIL import Image, ImageDraw

import wordsight

GROUNDS = ("grass", "gravel", "chelsea", "coffee", "astronaut")


# region pictures
# name -> how it is drawn: pen, middle, radius, colour
SHAPES = {
    "triangle": lambda pen, x, y, r, colour: pen.regular_polygon((x, y, r), 3, fill=colour),
    "square": lambda pen, x, y, r, colour: pen.rectangle((x - r, y - r, x + r, y + r), fill=colour),
    "frame": lambda pen, x, y, r, colour: pen.rectangle(
        (x - r, y - r, x + r, y + r), outline=colour, width=r // 3
    ),
    "disc": lambda pen, x, y, r, colour: pen.circle((x, y), r, fill=colour),
    "ring": lambda pen, x, y, r, colour: pen.circle((x, y), r, outline=colour, width=r // 3),
    "half": lambda pen, x, y, r, colour: pen.pieslice(
        (x - r, y - r, x + r, y + r), 180, 360, fill=colour
    ),
    "plus": lambda pen, x, y, r, colour: [
        pen.line(line, fill=colour, width=r // 2)
        for line in ((x - r, y, x + r, y), (x, y - r, x, y + r))
    ],
    "cross": lambda pen, x, y, r, colour: [
        pen.line((x - r, y - s * r, x + r, y + s * r), fill=colour, width=r // 2) for s in (-1, 1)
    ],
    "bars": lambda pen, x, y, r, colour: [
        pen.line((x - r, y + d, x + r, y + d), fill=colour, width=r // 3) for d in (-r, 0, r)
    ],
    "dots": lambda pen, x, y, r, colour: [
        pen.circle((x + a * r, y + b * r), r // 2, fill=colour) for a in (-1, 1) for b in (-1, 1)
    ],
}


def draw(kind: str, ground: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Draw a shape of random size, place and colour on a dark piece of a photo; drawn large, then scaled to 32 × 32."""
    image, r = ground.resize((128, 128)).point(lambda level: level // 2), int(rng.integers(26, 44))
    x, y = (int(at) for at in rng.integers(r, 128 - r, 2))
    SHAPES[kind](ImageDraw.Draw(image), x, y, r, tuple(rng.integers(130, 256, 3).tolist()))
    return image.resize((32, 32), Image.Resampling.BOX)


def compose(folder: Path, count: int, seed: int) -> None:
    """Draw `count` images of each of the ten shapes, one folder a class."""
    rng = np.random.default_rng(seed)
    grounds = [piece for name in GROUNDS for piece in pieces(photo(name), 40, seed, (60, 200))]
    for kind in SHAPES:
        save_all(
            [draw(kind, grounds[int(rng.integers(len(grounds)))], rng) for _ in range(count)],
            folder / kind,
            kind,
        )


# endregion pictures


# region train
def train(data: Path, model: Path, **how: object) -> float:
    """Train and print the history; return the seconds it took."""
    began = time.perf_counter()
    trained = wordsight.train(data, model, **how)
    for row in trained.history[1:] if "recipe" in how else ():
        print(
            f"  epoch {row['epoch']}: loss {row['loss']:.3f}, of held-out pictures {row['val_loss']:.3f}, right {row['val_accuracy']:.1%}"
        )
    return time.perf_counter() - began


# endregion train


# region draw
def summarise(model: Path) -> None:
    """Print the table of a model's layers and draw it."""
    print(wordsight.training.draw_network(model))


# endregion draw


# region judge
def judge(name: str, data: Path, model: Path, seconds: float) -> None:
    """Print how often a model is right on unseen images, at any probability."""
    found = wordsight.evaluate(data, model, output=None)
    right = found.total_accuracy
    print(
        f"{name}: {right.value:.1%} of {found.total:,} right ({right.low:.1%}–{right.high:.1%}), trained in {seconds:.0f} s"
    )


# endregion judge


def show(data: Path, path: Path) -> None:
    """Write two images of each class on one sheet, enlarged."""
    cells = []
    for number in range(2):
        for folder in sorted(folder for folder in data.iterdir() if folder.is_dir()):
            image = Image.open(sorted(folder.iterdir())[number])
            cells.append((image.resize((128, 128), Image.Resampling.NEAREST), folder.name))
    print(f"See {sheet(cells, path, 10, 96)}")


# region compare
def compare(images: Path, models: Path, batch_size: int, epochs: int, probe_size: int) -> None:
    """Train the tutorial's network for four epochs, a better one for about as long, and a head on a pretrained one."""
    recipes = {
        "cifar_cnn": {
            "recipe": "scratch",
            "backbone": "cifar_cnn",
            "settings": wordsight.TrainingSettings(epochs=4, batch_size=batch_size, clean=False),
        },
        "small_resnet": {
            "recipe": "scratch",
            "settings": wordsight.TrainingSettings(epochs=epochs, augment=False, clean=False),
        },
        "probe": {"settings": wordsight.TrainingSettings(image_size=probe_size, clean=False)},
    }
    for name, how in recipes.items():
        seconds = train(images / "train", models / name, **how)
        judge(name, images / "test", models / name, seconds)


# endregion compare


def main() -> None:
    """Run the tutorial."""
    chosen = arguments(__doc__, "cifar")
    images, models = chosen.output / "pictures", chosen.output / "models"
    if chosen.data is None:
        compose(images / "train", 100, seed=1)
        compose(images / "test", 30, seed=2)
        settings = {"batch_size": 8, "epochs": 5, "probe_size": 64}
    else:
        with zipfile.ZipFile(chosen.data / "cifar10.zip") as packed:
            packed.extractall(images)
        images, settings = images / "cifar10", {"batch_size": 32, "epochs": 5, "probe_size": 96}
    show(images / "train", chosen.output / "cifar-pictures.png")
    compare(images, models, **settings)
    summarise(models / "cifar_cnn")
    print(f"See {models / 'cifar_cnn' / 'plots'}: network.png, loss.png, accuracy.png")


if __name__ == "__main__":
    main()
