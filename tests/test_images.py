from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from conftest import pillow_reads
from wordsight.errors import UnreadableImage
from wordsight.images.decoding import MAX_LONGEST, decode, resize
from wordsight.images.signatures import looks_like_image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners() -> Image.Image:
    """A picture, wider than high, whose top left quarter is red and whose rest is blue."""
    image = Image.new("RGB", (80, 40), "blue")
    image.paste("red", (0, 0, 40, 20))
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_turns_every_orientation_upright(orientation):
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    stored = corners()
    for step in undo.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode(encoded(stored, exif=exif))
    assert photo.size == (40, 80)
    assert np.array_equal(np.asarray(photo.image), np.asarray(corners()))


def test_decode_puts_transparency_on_white():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(decode(encoded(image)).image).min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_decode_reads_every_mode_as_rgb(mode):
    image = (
        Image.fromarray(np.full((6, 5), 40000, np.uint16))
        if mode == "I;16"
        else Image.new("RGB", (5, 6), (200, 200, 200)).convert(mode)
    )
    pixels = np.asarray(decode(encoded(image)).image)
    assert pixels.shape == (6, 5, 3)
    assert 130 < pixels.mean() <= 255  # 40000 of 65535 is 156 of 255: scaled, not cut off


def test_decode_reads_cmyk_jpeg():
    pixels = np.asarray(
        decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")).image
    )
    assert pixels[8, 8, 0] > 200 and pixels[8, 8, 2] < 60


def test_decode_keeps_the_original_size_of_a_reduced_jpeg():
    photo = decode(encoded(Image.new("RGB", (4000, 3000)), "JPEG"))
    assert photo.size == (3000, 4000)
    assert photo.image.size == (1000, 750)  # at a quarter, 640 pixels remain


def test_decode_bounds_the_longest_side():
    assert max(decode(encoded(Image.new("RGB", (3000, 100)))).image.size) == MAX_LONGEST


def test_decode_refuses_bombs_by_their_size_alone():
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = (50_000).to_bytes(4, "big") * 2  # width and height in the header
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    with pytest.raises(UnreadableImage, match="at most 120 megapixels"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello, no picture here", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript is a program"),
    ],
)
def test_decode_says_why_not(content, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(content)


def test_decode_refuses_truncated_files():
    whole = encoded(
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)),
        "JPEG",
    )
    with pytest.raises(UnreadableImage, match="cut off"):
        decode(whole[: len(whole) // 2])


def test_looks_like_image_by_suffix_or_first_bytes():
    jpeg = encoded(corners(), "JPEG")
    assert (
        looks_like_image(".jpg")
        and looks_like_image(".HEIC")
        and looks_like_image(".php", jpeg[:1024])
    )
    assert not looks_like_image(".txt", b"plain words, and enough of them to fill a header\n" * 10)
    assert not looks_like_image(".mpg") and not looks_like_image("", b"")


def test_resize_returns_the_size_asked_for():
    assert resize(corners(), (32, 64), "bicubic").shape == (32, 64, 3)


def test_decode_agrees_with_pillow_on_odd_files(data):
    from wordsight.datasets.files import find_images

    verdict = {path.name: pillow_reads(path) for path in (data / "odd_files").iterdir()}
    assert sum(verdict.values()) > 150
    found = find_images([data / "odd_files"])
    readable = set()
    for image in found.images:
        try:
            if not decode(image.path.read_bytes()).remark.startswith("cut off"):
                readable.add(image.name)
        except UnreadableImage as error:
            assert str(error)
    assert readable == {name for name, ok in verdict.items() if ok}
    assert len(found.images) + len(found.skipped) == len(verdict)


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG"])
def test_size_and_image_agree_for_turned_files_of_every_kind(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = decode(encoded(Image.new("RGB", (300, 200)), kind, exif=exif))
    assert photo.size == (300, 200) == photo.image.size[::-1]


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_a_header_says_what_decoding_gives(kind, tmp_path):
    from wordsight.images.decoding import header

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / f"turned.{kind}", exif=exif)
    stored, upright, orientation = header(tmp_path / f"turned.{kind}")
    assert (stored, upright, orientation) == ((40, 60), (60, 40), 6)
    assert decode((tmp_path / f"turned.{kind}").read_bytes()).size == upright
    with pytest.raises(UnreadableImage, match="empty file"):
        header(b"")
    with pytest.raises(UnreadableImage, match="not a picture"):
        header(b"neither this nor that")
