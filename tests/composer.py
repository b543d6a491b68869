"""Street scenes with objects whose boxes are known: annotated objects, cut out and pasted at
random size and place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (756, 1008)  # (height, width)
SIDES = (110, 380)  # pixels of an object's longer side; drawn evenly on a logarithmic scale
TRIES = 50


@dataclass
class Scene:
    """One composed picture.

    Attributes:
        image: RGB.
        labels: class name of each object.
        boxes: (n, 4) their `xyxy` boxes in pixels.
    """

    image: Image.Image
    labels: list[str]
    boxes: np.ndarray


def compose(
    objects: Sequence[tuple[str, Image.Image]],
    backgrounds: Sequence[Image.Image],
    count: int,
    seed: int,
    most: int = 4,
) -> list[Scene]:
    """Paste one to `most` objects on each of `count` backgrounds, none touching another.

    Args:
        objects: (class name, picture of the object, cut to its box).
        backgrounds: pictures without such objects; each is stretched to `SIZE`.
        count: how many scenes.
        seed: same seed, same scenes.
        most: objects a scene.
    """
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(count):
        image = (
            backgrounds[int(rng.integers(len(backgrounds)))]
            .convert("RGB")
            .resize(SIZE[::-1], Image.Resampling.BICUBIC)
        )
        labels: list[str] = []
        boxes: list[tuple[int, int, int, int]] = []
        for _ in range(int(rng.integers(1, most + 1))):
            label, cut = objects[int(rng.integers(len(objects)))]
            placed = _place(cut.size, boxes, rng)
            if placed is not None:
                image.paste(
                    cut.convert("RGB").resize(
                        (placed[2] - placed[0], placed[3] - placed[1]), Image.Resampling.BICUBIC
                    ),
                    placed[:2],
                )
                labels.append(label)
                boxes.append(placed)
        scenes.append(Scene(image, labels, np.array(boxes, dtype=np.float64).reshape(-1, 4)))
    return scenes


def annotated_objects(annotations: Path) -> list[tuple[str, Image.Image]]:
    """Return (class name, picture) of every annotated object, cut to its box."""
    import wordsight
    from wordsight.backbones.embedder import read
    from wordsight.images.decoding import decode

    objects = []
    for image in wordsight.datasets.read_boxes(annotations).images:
        photo = decode(read(image.file)[0])
        scale = photo.image.width / photo.size[1]
        for box in image.boxes:
            objects.append(
                (box.label, photo.image.crop(tuple(round(side * scale) for side in box.xyxy)))
            )
    return objects


def _place(
    size: tuple[int, int], taken: list[tuple[int, int, int, int]], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """Return an `xyxy` place for an object of (width, height) `size` that touches none of those
    taken, or None where none was found.
    """
    for _ in range(TRIES):
        scale = float(np.exp(rng.uniform(*np.log(SIDES)))) / max(size)
        width, height = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        x, y = int(rng.integers(0, SIZE[1] - width + 1)), int(rng.integers(0, SIZE[0] - height + 1))
        box = (x, y, x + width, y + height)
        if all(box[0] >= b[2] or b[0] >= box[2] or box[1] >= b[3] or b[1] >= box[3] for b in taken):
            return box
    return None
