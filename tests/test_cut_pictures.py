"""Pictures whose file ends early: read as far as they go, or refused, by the rows that arrived."""

from __future__ import annotations

import gc
import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from wordsight.errors import UnreadableImage
from wordsight.images.decoding import decode, remark

HEIGHT, WIDTH = 200, 300
# rows by rows, of which the cut decides how many are there
BY_ROWS = {
    "png": ("PNG", "RGB", {"compress_level": 0}),
    "png of a palette": ("PNG", "P", {"compress_level": 0}),
    "png of 16 bits": ("PNG", "I;16", {"compress_level": 0}),
    "png of two values": ("PNG", "1", {"compress_level": 0}),
    "gif": ("GIF", "P", {}),
    "bmp": ("BMP", "RGB", {}),
    "ppm": ("PPM", "RGB", {}),
    "tga": ("TGA", "RGB", {}),
    "packed tga": ("TGA", "RGB", {"compression": "tga_rle"}),
    "pcx": ("PCX", "RGB", {}),
    "tiff": ("TIFF", "RGB", {}),
}
PACKED = ("gif", "pcx", "packed tga")


def noise(mode="RGB"):
    """A picture of noise whose lower half is as dark as pictures get, which says nothing of what
    arrived.
    """
    values = np.random.default_rng(0).integers(1, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    values[HEIGHT // 2 :] >>= 7
    image = Image.fromarray(values)
    return image.convert("L").convert(mode) if mode.startswith("I") else image.convert(mode)


def encoded(form):
    kind, mode, options = BY_ROWS[form]
    written = io.BytesIO()
    noise(mode).save(written, kind, **options)
    return written.getvalue()


def interlaced_png(pixels):
    """A PNG in Adam7's seven passes, unfiltered, of (height, width, 3) uint8."""
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    steps.append((1, 0, 2, 1))
    raw = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, across in steps
        for row in pixels[top::down, left::across]
    )

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(raw, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("form", BY_ROWS)
@pytest.mark.parametrize("share", [0.3, 0.75, 0.9])
def test_a_cut_picture_counts_by_the_rows_that_arrived(form, share):
    whole = encoded(form)
    expected = np.asarray(decode(whole).image)
    cut = whole[: int(len(whole) * share)]
    if share < 0.6:
        with pytest.raises(UnreadableImage, match=r"cut off: only \d+% of it is there"):
            decode(cut)
        return
    photo = decode(cut)
    assert photo.size == (HEIGHT, WIDTH) and photo.remark == remark(cut)
    rows = (np.asarray(photo.image) == expected).all(axis=(1, 2))
    percent = int(photo.remark.removeprefix("cut off: ").removesuffix("% of it is there"))
    assert percent / 100 - 0.001 <= rows.mean()
    if form not in PACKED:  # where dark rows take fewer bytes
        assert abs(percent - 100 * share) <= 3


@pytest.mark.parametrize("form", BY_ROWS)
def test_a_whole_picture_has_nothing_to_be_said(form):
    assert decode(encoded(form)).remark == remark(encoded(form)) == ""


def test_an_interlaced_picture_counts_by_whole_rows_and_has_no_gaps():
    pixels = np.repeat(np.arange(HEIGHT, dtype=np.uint8)[:, None, None] + 40, WIDTH, 1).repeat(3, 2)
    whole = interlaced_png(pixels)
    assert (np.asarray(decode(whole).image) == pixels).all()
    photo = decode(whole[: int(len(whole) * 0.8)])
    assert photo.remark == "cut off: 79% of it is there"
    # missing rows are like the one above; only the last has none below
    assert np.abs(np.asarray(photo.image)[:-1].astype(int) - pixels[:-1]).max() == 1
    for share in (0.2, 0.45, 0.55):
        with pytest.raises(UnreadableImage, match="cut off: only"):
            decode(whole[: int(len(whole) * share)])


def test_a_cut_picture_of_few_bits_is_as_bright_as_the_whole():
    import cv2

    pixels = np.random.default_rng(0).integers(0, 1 << 10, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    whole = cv2.imencode(".png", pixels)[1].tobytes()
    cut = decode(whole[: int(len(whole) * 0.8)])
    assert cut.remark.startswith("cut off: ")
    above = slice(0, HEIGHT // 2)
    assert (np.asarray(cut.image)[above] == np.asarray(decode(whole).image)[above]).all()


def test_a_cut_tiff_counts_by_its_strips():
    tifffile = pytest.importorskip("tifffile")
    written = io.BytesIO()
    tifffile.imwrite(
        written, np.asarray(noise()), photometric="rgb", compression="zlib", rowsperstrip=10
    )
    whole = written.getvalue()
    assert decode(whole).remark == remark(whole) == ""
    last = Image.open(io.BytesIO(whole)).tag_v2[273][15]  # of twenty strips
    assert (
        decode(whole[: last + 9]).remark
        == remark(whole[: last + 9])
        == ("cut off: 75% of it is there")
    )
    with pytest.raises(UnreadableImage, match="cut off: only"):
        decode(whole[: len(whole) // 3])


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_cut_picture_is_turned_once(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    written = io.BytesIO()
    options = {"compress_level": 0} if kind == "PNG" else {}
    noise().save(written, kind, exif=exif, **options)
    whole, cut = (
        decode(data) for data in (written.getvalue(), written.getvalue()[: -written.tell() // 4])
    )
    assert cut.remark.startswith("cut off: ")
    assert cut.size == whole.size and cut.image.size == whole.image.size
    # the rows stored first, wherever they are shown
    first = {1: np.s_[:80], 3: np.s_[-80:], 6: np.s_[:, -80:]}[orientation]
    assert (np.asarray(cut.image)[first] == np.asarray(whole.image)[first]).all()


def test_a_picture_that_ends_in_the_frames_behind_the_first_is_whole():
    written = io.BytesIO()
    noise("P").save(written, "GIF", save_all=True, append_images=[noise("L").convert("P")])
    cut = written.getvalue()[:-200]
    assert decode(cut).remark == remark(cut)
    assert "cut off" not in remark(cut)


def test_a_narrow_picture_of_many_rows_takes_no_longer_than_others():
    written = io.BytesIO()
    Image.new("RGB", (1, 2_000_000), "green").save(written, "BMP")
    began = time.thread_time()
    with pytest.raises(UnreadableImage, match="cut off: only 49% of it is there"):
        decode(written.getvalue()[: 4 * 1_000_000])
    assert time.thread_time() - began < 5


def test_cut_pictures_are_freed_at_once():
    whole = encoded("bmp")
    cut = whole[: int(len(whole) * 0.7)]
    gc.collect()
    gc.disable()
    try:
        before = _images()
        for _ in range(5):
            decode(cut)
            with pytest.raises(UnreadableImage):
                decode(whole[: len(whole) // 3])
        after = _images()
    finally:
        gc.enable()
    assert after <= before + 2


def _images() -> int:
    """Return how many images are in memory; by type, since some objects answer `isinstance` with a
    warning.
    """
    return sum(issubclass(type(one), Image.Image) for one in gc.get_objects())
