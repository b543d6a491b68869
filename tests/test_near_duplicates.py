"""Copies are found, and pictures that only resemble each other are not taken for copies."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from conftest import draw_shape
from wordsight.images.decoding import decode
from wordsight.images.fingerprints import NearDuplicates, look


def compressed(image, quality=40):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


CHANGES = {
    "compressed": compressed,
    "smaller": lambda image: image.resize((image.width // 3, image.height // 3)),
    "larger": lambda image: image.resize((image.width * 2, image.height * 2)),
    "lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.15),
}


@pytest.fixture(scope="module")
def photos():
    from skimage import data

    return [
        Image.fromarray(np.asarray(image)).convert("RGB")
        for image in (
            data.chelsea(),
            data.coffee(),
            data.astronaut(),
            data.rocket(),
            data.brick(),
        )
    ]


@pytest.mark.parametrize("change", CHANGES)
def test_find_finds_copies(photos, change):
    index = NearDuplicates()
    for number, photo in enumerate(photos):
        index.add(number, look(photo))
    assert [index.find(look(CHANGES[change](photo))) for photo in photos] == [0, 1, 2, 3, 4]


def test_find_tells_different_images_apart(photos):
    index, taken = NearDuplicates(), 0
    for number, image in enumerate(
        [
            *photos,
            *(draw_shape(kind, seed)[0] for kind in ("disc", "square") for seed in range(200)),
        ]
    ):
        taken += index.find(look(image)) is not None
        index.add(number, look(image))
    # of two hundred discs on noise, a few lie in nearly the same place
    assert len(index) == 405 and taken <= 12


def test_flat_images_are_told_apart_by_colour():
    index = NearDuplicates()
    index.add(0, look(Image.new("RGB", (300, 300), (200, 40, 40))))
    assert index.find(look(Image.new("RGB", (90, 70), (200, 40, 41)))) == 0
    assert index.find(look(Image.new("RGB", (300, 300), (190, 60, 40)))) is None


def test_real_photos_are_rarely_taken_for_one_another(data):
    index, found = NearDuplicates(), []
    paths = sorted((data / "catdog" / "train").glob("*/*")) + sorted(
        (data / "imagenet_sample").glob("*")
    )
    for number, path in enumerate(paths):
        appearance = look(decode(path.read_bytes()).image)
        if index.find(appearance) is not None:
            found.append(path.name)
        index.add(number, appearance)
    assert len(paths) == 800 and not found
