"""Parts of annotated images where nothing is marked: what the pictures of one class alone are told
from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...backbones.embedder import read
from ...core.home import writing
from ...datasets.annotations import Annotated
from ...errors import InvalidArgument, UnreadableImage
from ...images.decoding import decode

PARTS, TRIES = 4, 60  # of an image, at most; places that are tried
SIDES = (0.2, 0.6)  # of a part, in sides of the image
SHOWN = 0.05  # of a box, or of a part, that may lie in the other
SMALLEST = 32  # pixels
FEWEST = 5  # parts of all images together


@contextmanager
def backgrounds(images: list[Annotated], seed: int) -> Iterator[Path]:
    """Write parts of images that show none of the boxes as PNG, and yield their folder, which goes
    at the end.

    Raises:
        InvalidArgument: if there are too few.
        OutputError: if they can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="wordsight-", ignore_cleanup_errors=True) as root:
        folder = Path(root) / "background"
        count = 0
        with writing(folder):
            folder.mkdir()
            for number, image in enumerate(images):
                rng = np.random.default_rng([seed, number])
                try:
                    photo = decode(read(image.file)[0]).image
                except UnreadableImage:
                    continue
                for span in _free_parts(image, rng):
                    photo.crop(span).save(folder / f"{count:05d}.png", compress_level=1)
                    count += 1
        if count < FEWEST:
            name = images[0].boxes[0].label
            raise InvalidArgument(
                f"All pictures show '{name}', and too little else to tell it from. Add --positive "
                f"{name} --negatives FOLDER, or --from MODEL."
            )
        yield folder


def _free_parts(image: Annotated, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Return the `xyxy` of a few random parts of an image in which next to nothing is marked."""
    height, width = image.size
    boxes = np.array([box.xyxy for box in image.boxes])
    areas = np.array([box.area for box in image.boxes])
    found: list[tuple[int, int, int, int]] = []
    for _ in range(TRIES):
        sides = np.exp(rng.uniform(*np.log(SIDES))) * np.array([width, height])
        corner = rng.uniform(0, [width, height] - sides)
        part = np.concatenate([corner, corner + sides]).astype(int)
        low, high = np.maximum(boxes[:, :2], part[:2]), np.minimum(boxes[:, 2:], part[2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        area = (part[2:] - part[:2]).prod()
        if min(part[2:] - part[:2]) >= SMALLEST and (
            (shared / np.minimum(areas, area)).max() <= SHOWN
        ):
            left, top, right, bottom = part.tolist()
            found.append((left, top, right, bottom))
        if len(found) == PARTS:
            break
    return found
