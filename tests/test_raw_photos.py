"""Cameras' raw photos: what the sensor saw, by the extra `raw`, or a sentence that names it."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from raw_files import dng
from wordsight.errors import UnreadableImage
from wordsight.images import decoding
from wordsight.images.decoders.extras import is_raw
from wordsight.images.decoding import decode, header, remark, storable, to_jpeg

# left red, right blue, a bright edge above
SCENE = np.full((900, 1400, 3), 500, np.uint16)
SCENE[:, :700, 0] = SCENE[:, 700:, 2] = 40000
SCENE[:60] = 60000
SMALL = np.full((30, 40, 3), 128, np.uint8)


@pytest.fixture
def raw():
    return pytest.importorskip("rawpy")


@pytest.mark.parametrize("small", [None, SMALL], ids=["alone", "behind a small copy"])
def test_a_raw_photo_is_what_the_sensor_saw(raw, small):
    data = dng(SCENE, small=small)
    photo = decode(data)
    assert photo.size == (900, 1400) and photo.image.size == (700, 450)
    assert photo.remark == remark(data) == ""
    left, right = photo.image.getpixel((20, 300)), photo.image.getpixel((680, 300))
    assert left[0] > 200 > 90 > left[2] and right[2] > 200 > 90 > right[0]
    assert min(photo.image.getpixel((300, 5))) > 240


@pytest.mark.parametrize(
    "orientation, bright", [(1, (0.5, 0)), (3, (0.5, 1)), (6, (1, 0.5)), (8, (0, 0.5))]
)
def test_a_raw_photo_is_turned_once(raw, orientation, bright):
    data = dng(SCENE, orientation, SMALL)
    upright = (1400, 900) if orientation in (6, 8) else (900, 1400)
    assert header(data) == ((900, 1400), upright, orientation)
    stored, suffix = storable(data)
    assert suffix == ".jpg" and header(stored) == (upright, upright, 1)
    for image in (decode(data).image, decode(stored).image, decode(to_jpeg(data, 2000)).image):
        place = [round(share * (side - 1)) for share, side in zip(bright, image.size, strict=True)]
        assert min(image.getpixel(place)) > 230, image.size
        assert min(image.getpixel((image.width // 2, image.height // 2))) < 100
    assert decode(data).size == upright


def test_a_broken_raw_photo_is_one_sentence(raw):
    data = dng(SCENE, small=SMALL)
    for share in (0.3, 0.9):
        with pytest.raises(UnreadableImage, match="a raw photo that can't be read "):
            decode(data[: int(len(data) * share)])


def test_a_huge_raw_photo_is_refused_before_it_is_decoded(raw):
    data = dng(SCENE)
    for tag, side in ((256, 30_000), (257, 20_000)):
        entry = struct.pack("<HHI", tag, 4, 1)
        at = data.index(entry) + 8
        data = data[:at] + struct.pack("<I", side) + data[at + 4 :]
    with pytest.raises(UnreadableImage, match="30000x20000 pixels; at most 120 megapixels"):
        header(data)


def test_without_the_extra_a_raw_photo_names_it(monkeypatch):
    monkeypatch.setattr(decoding, "reads_raw", lambda: False)
    whole = dng(SCENE)
    canon = b"II*\0\x10\0\0\0CR\2\0" + bytes(60)
    newer = b"\0\0\0\x18ftypcrx " + bytes(60)
    for data in (whole, dng(SCENE, small=SMALL), canon, newer, b"FUJIFILMCCD-RAW 0201" + bytes(60)):
        assert is_raw(data)
        with pytest.raises(UnreadableImage) as told:
            decode(data)
        assert str(told.value) == (
            "a raw photo, which needs an extra: pip install 'wordsight[raw]'"
        )


def test_what_only_looks_like_a_raw_photo_is_read_as_ever(tmp_path):
    Image.new("RGB", (64, 48), "green").save(tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    assert not is_raw(data) and decode(data).image.getpixel((5, 5)) == (0, 128, 0)
    for cut in (4, 8, 9, 20):
        assert not is_raw(data[:cut])
