"""Shared by the tutorials: their two options, photos from installed packages, pieces of them, and contact sheets."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARKER = ".wordsight-tutorial"  # in an output folder: a tutorial made it and may replace it
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def arguments(doc: str, name: str) -> argparse.Namespace:
    """Read the two options of every tutorial, and empty the output folder; refuse one that a tutorial did not make."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="a folder of real pictures; without it, pictures are composed"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(f"tutorial-{name}"),
        help="where pictures, models and results go",
    )
    chosen = parser.parse_args()
    if chosen.data is None:
        os.environ["WORDSIGHT_OFFLINE"] = "1"  # without --data nothing may connect
    if (
        chosen.output.exists()
        and any(chosen.output.iterdir())
        and not (chosen.output / MARKER).exists()
    ):
        parser.error(f"'{chosen.output}' holds files of yours. Give a new or empty folder with -o.")
    shutil.rmtree(chosen.output, ignore_errors=True)
    for part in ("pictures", "models", "results"):
        (chosen.output / part).mkdir(parents=True)
    (chosen.output / MARKER).touch()
    return chosen


def photo(name: str) -> Image.Image:
    """Return a photo that comes with scikit-image or, for china and flower, with scikit-learn."""
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(f"{name}.jpg"))
    import skimage.data

    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def pieces(image: Image.Image, count: int, seed: int, sides: tuple[int, int]) -> list[Image.Image]:
    """Cut random squares out of a photo, with sides between two lengths, each in different light."""
    rng = np.random.default_rng(seed)
    cut = []
    for side in rng.integers(*sides, count).tolist():
        x, y = (
            int(rng.integers(0, image.width - side + 1)),
            int(rng.integers(0, image.height - side + 1)),
        )
        gain = rng.uniform(0.7, 1.3)
        cut.append(
            image.crop((x, y, x + side, y + side)).point(
                lambda level, gain=gain: min(255, int(level * gain))
            )
        )
    return cut


def save_all(images: list[Image.Image], folder: Path, name: str) -> None:
    """Write numbered images into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        image.save(folder / f"{name}{number:03d}.png")


def copy_split(source: Path, target: Path, every: int = 4) -> None:
    """Copy a folder with one subfolder a class into `train` and `test`: every fourth photo is kept for the test."""
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        for number, file in enumerate(files):
            part = target / ("test" if number % every == 0 else "train") / folder.name
            part.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, part / file.name)


def sheet(cells: list[tuple[Path | Image.Image, str]], path: Path, columns: int, side: int) -> Path:
    """Write images side by side, each with a line under it."""
    caption, gap, font = 24, 8, ImageFont.load_default(size=15)
    drawn = []
    for image, text in cells:
        image = (Image.open(image) if isinstance(image, Path) else image).convert("RGB")
        image = image.resize(
            (side, round(image.height * side / image.width)), Image.Resampling.BICUBIC
        )
        drawn.append((image, text))
    height = max(image.height for image, _ in drawn) + caption
    rows = -(-len(drawn) // columns)
    whole = Image.new("RGB", (columns * (side + gap) - gap, rows * (height + gap) - gap), "white")
    draw = ImageDraw.Draw(whole)
    for number, (image, text) in enumerate(drawn):
        x, y = number % columns * (side + gap), number // columns * (height + gap)
        whole.paste(image, (x, y))
        draw.text((x + 2, y + image.height + 3), text, fill="black", font=font)
    whole.save(path, quality=88)
    return path
