"""Read one image file into an upright RGB array, safely and no larger than needed. Images that are
too large are refused before any pixel is decoded.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.regular import read_regular
from ..errors import UnreadableImage
from .decoders.cut_off import may_end_early
from .decoders.deep import grey_to_eight_bits, load
from .decoders.extras import NEEDS_HEIC, NEEDS_RAW, is_heif, is_raw, open_raw, reads_heif, reads_raw
from .decoders.pages import is_animated, pages_remark, turn_to_whole_page
from .limits import MAX_PIXELS, BoundedFile, check_exif, check_work
from .signatures import REFUSED_FORMATS, archive_kind, identify

MAX_BYTES = 512 << 20  # larger files are not read
MAX_FRAMES = 1000  # that are counted
# what a PNG with an orientation holds: EXIF, as a part of its own or as text, or XMP
_PNG_EXIF = (b"eXIf", b"Raw profile type", b"tiff:Orientation")
# pixels on the longest side: images are decoded to at least the first and at most the second
MIN_LONGEST, MAX_LONGEST = 640, 1280
# larger images are decoded one at a time, so that memory stays bounded
LARGE_PIXELS = 12_000_000
# it warns about odd metadata; only exceptions matter
warnings.filterwarnings("ignore", module=r"PIL\.")
_INTERPOLATION = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> operation that makes the image upright
_large = threading.Lock()


@dataclass(frozen=True)
class Photo:
    """One decoded image.

    Attributes:
        image: RGB, upright; possibly smaller than the image in the file.
        size: (height, width) of the upright original in pixels.
        remark: what is to be said of it, such as that the file is cut off; "" for nothing.
    """

    image: Image.Image
    size: tuple[int, int]
    remark: str = ""


def decode(data: bytes, longest: tuple[int, int] = (MIN_LONGEST, MAX_LONGEST)) -> Photo:
    """Decode the bytes of an image file: first frame, upright, RGB, transparency on white.

    The result depends only on the bytes, so it may be cached by their hash. A JPEG is decoded at
    1/2, 1/4 or 1/8 of its size, a raw photo at 1/2, as long as 640 pixels remain, which is
    several times faster.

    Args:
        data: the bytes of the file.
        longest: least and greatest length of the longest side, in pixels. Smaller images stay as
            they are.

    Of a file that ends early, what is there counts if it is most of it; of 16 bits a channel, those
    in use; of a TIFF whose first page is a small copy, the large one.

    Raises:
        UnreadableImage: if it isn't an image, is broken, has more than 120 megapixels (a JPEG: once
            reduced), or takes far longer than its size explains.
    """
    with _reasons():
        return _decode(data, *longest)


def remark(data: bytes) -> str:
    """Return what is to be said of an image file: that it is cut off, or has several frames or
    pages of which one counts; "" for nothing. Decodes only what ends early.

    Raises:
        UnreadableImage: as in `decode`.
    """
    with _reasons(), _open(data, reduced=True) as image:
        if not may_end_early(image, data):
            return pages_remark(image)
    return decode(data).remark


def upright(image: Image.Image) -> Photo:
    """Return an open image as `decode` would return its file: upright, RGB, no side longer than
    1,280 pixels.

    Raises:
        UnreadableImage: if it can't be read.
    """
    try:
        turned_rgb, turned, _ = _upright_rgb(image, most=MAX_LONGEST)
    except Exception as error:  # pixels not decoded yet may be broken in any way
        raise UnreadableImage(_reason(error)) from None
    return Photo(turned_rgb, (image.width, image.height) if turned else (image.height, image.width))


def storable(data: bytes) -> tuple[bytes, str]:
    """Return an image in a form that every tool reads alike, and its suffix.

    JPEG, PNG and WebP of upright 8-bit RGB stay as they are, byte for byte. Anything else (rotated
    by EXIF, grey, CMYK, transparent, animated, another format) becomes an upright RGB JPEG of full
    size, quality 95.

    Raises:
        UnreadableImage: as in `decode`.
    """
    with _reasons(), _open(data) as image:
        suffix = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}.get(
            image.format or ""
        )
        several = image.format != "MPO" and is_animated(image)
        # 16 bits per channel, which Pillow reads as 8
        deep = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
        if (
            suffix
            and image.mode == "RGB"
            and not several
            and not deep
            and not image.has_transparency_data
            and _orientation(image) not in _TURNS
        ):
            return data, suffix
        with _large:
            upright, _, _ = _upright_rgb(image, data)
            written = io.BytesIO()
            upright.save(written, "JPEG", quality=95)
    return written.getvalue(), ".jpg"


def to_jpeg(data: bytes, max_side: int) -> bytes:
    """Return an image as an upright sRGB JPEG: first frame, colours converted by its profile,
    transparency on white.

    Raises:
        UnreadableImage: as in `decode`.
    """
    with _reasons():
        with _open(data) as image, _large:
            converted = _to_srgb(image)
            upright, _, _ = _upright_rgb(converted, data if converted is image else None)
        upright.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
        written = io.BytesIO()
        upright.save(written, "JPEG", quality=92)
    return written.getvalue()


def _to_srgb(image: Image.Image) -> Image.Image:
    """Return the image in sRGB, converted by its colour profile; unchanged without a usable one."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return image
    from PIL import ImageCms

    check_exif(image)
    exif = image.getexif()
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        turned = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        # a profile for another colour mode than the image's, or a broken one
        return image
    if turned is None:
        return image
    turned.info.pop("icc_profile", None)
    if 0x0112 in exif:
        turned.getexif()[0x0112] = exif[0x0112]
    return turned


def header(source: Path | bytes) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Return (height, width) of an image file as stored and upright, and its EXIF orientation (1:
    upright). Decodes nothing.

    Raises:
        UnreadableImage: if it isn't an image.
    """
    with _reasons():
        data = source if isinstance(source, bytes) else read_regular(source, MAX_BYTES)
        with _open(data, reduced=True) as image:
            size, orientation = (image.height, image.width), _orientation(image, data)
            # of these formats, and no others, Pillow gives the upright size
            turned_already = image.format == "TIFF"
    if orientation not in _TURNS:
        orientation = 1
    other = size[::-1] if orientation in (5, 6, 7, 8) else size
    return (other, size, orientation) if turned_already else (size, other, orientation)


def frame_count(data: bytes) -> int:
    """Return how many frames or pages an image file has, of which at most 1,000 are counted; 1 for
    photos with embedded previews.

    Raises:
        UnreadableImage: as in `decode`.
    """
    with _reasons(), _open(data) as image:
        if image.format == "MPO" or not is_animated(image):
            return 1
        if image.format != "TIFF":
            return min(image.n_frames, MAX_FRAMES)  # type: ignore[attr-defined]
        pages = 1
        # Pillow's own count of pages takes time by the square of their number
        with contextlib.suppress(EOFError):
            while pages < MAX_FRAMES:
                image.seek(pages)
                pages += 1
        return pages


def _orientation(image: Image.Image, data: bytes | None = None) -> int:
    """Return an open image's EXIF orientation, 1 where it has none that can be read.

    Args:
        image: an open image.
        data: the bytes of its file, by which a PNG without EXIF is told without decoding it.
    """
    check_exif(image)
    if data is not None and image.format == "PNG" and not any(one in data for one in _PNG_EXIF):
        return 1
    with contextlib.suppress(ValueError, TypeError, OSError, SyntaxError):  # damaged EXIF
        return int(image.getexif().get(0x0112, 1))
    return 1


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever a decoder raises on a broken file into `UnreadableImage`: such a file is
    listed as unreadable.
    """
    try:
        yield
    except UnreadableImage:
        raise
    except Image.DecompressionBombError:
        raise UnreadableImage(
            f"too many pixels; at most {MAX_PIXELS // 1_000_000} megapixels are decoded"
        ) from None
    except MemoryError:
        raise UnreadableImage("needs more memory than there is") from None
    except Exception as error:  # a decoder may raise anything
        raise UnreadableImage(_reason(error)) from None


def _open(data: bytes, reduced: bool = False) -> Image.Image:
    """Open an image file without decoding it; decoding ends with `TooMuch` if it takes too long.

    Args:
        data: the bytes of the file.
        reduced: whether it is decoded at a part of its size, if at all, so that a JPEG may be
            large.

    Raises:
        UnreadableImage: if it is empty, not an image, too large, or made to take long.
    """
    if not data:
        raise UnreadableImage("empty file")
    check_work(data)
    if is_heif(data) and not reads_heif():
        raise UnreadableImage(NEEDS_HEIC)
    file = BoundedFile(data)
    image = _open_raw(file, data) or _identify(file, data)
    plain_jpeg = image.format == "JPEG" and not image.info.get("progressive")
    if image.width * image.height > MAX_PIXELS and not (reduced and plain_jpeg):
        image.close()
        raise UnreadableImage(
            f"{image.width}x{image.height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels "
            "are decoded"
        )
    file.allow(image)
    return image


def _open_raw(file: BoundedFile, data: bytes) -> Image.Image | None:
    """Open a raw photo; None if it is none, or a TIFF that only looks like one.

    Raises:
        UnreadableImage: if it can't be read here.
    """
    if not is_raw(data):
        return None
    if not reads_raw():
        raise UnreadableImage(NEEDS_RAW)
    return open_raw(file)


def _identify(file: BoundedFile, data: bytes) -> Image.Image:
    """Open an image at the page that shows all of it.

    Raises:
        UnreadableImage: if it is no image, or has no such page.
    """
    try:
        image = identify(file, data)
    except Image.UnidentifiedImageError:
        if data[:4] in (b"%!PS", b"\xc5\xd0\xd3\xc6"):
            raise UnreadableImage(REFUSED_FORMATS["EPS"]) from None
        kind = archive_kind(data[:512])
        raise UnreadableImage(
            "not a picture, or of a kind that can't be read (convert it to JPEG)"
            if kind is None
            else f"a {kind} archive; unpack it, and give the folder that comes out"
        ) from None
    turn_to_whole_page(image, data)
    return image


def read_anew(data: bytes) -> bool:
    """Whether a file is one of those that wordsight 0.1 decoded otherwise: of 16 bits a channel or
    with a transparent colour, or a TIFF.
    """
    if data[:4] in (b"II*\0", b"MM\0*"):
        return True
    return data.startswith(b"\x89PNG") and (data[24:25] == b"\x10" or b"tRNS" in data[:4096])


def _decode(data: bytes, least: int, most: int) -> Photo:
    with _open(data, reduced=True) as image:
        width, height = image.size
        remark = pages_remark(image)
        _draft(image, (width, height), least)
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImage(
                f"{width}x{height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are decoded"
            )
        if image.width * image.height > LARGE_PIXELS:
            with _large:
                upright, turned, cut = _upright_rgb(image, data, most)
        else:
            upright, turned, cut = _upright_rgb(image, data, most)
    return Photo(upright, (width, height) if turned else (height, width), cut or remark)


def _draft(image: Image.Image, size: tuple[int, int], least: int) -> None:
    """Have a JPEG or raw photo of (width, height) `size` decoded at a part of its size, as long as
    `least` pixels remain.
    """
    if image.format in ("JPEG", "RAW"):
        scale = min(1.0, least / max(size))
        image.draft("RGB", (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))


def _upright_rgb(
    image: Image.Image, data: bytes | None = None, most: int | None = None
) -> tuple[Image.Image, bool, str]:
    """Return the image upright, no side longer than `most` pixels, whether width and height were
    swapped, and what is to be said of it.

    Args:
        image: an open image.
        data: the bytes of its file, by which files that end early and deep ones are read; None for
            an image that was given open.
        most: longest side.
    """
    opened = image
    image, remark = load(opened, data)  # for some formats this already rotates the image
    orientation = _orientation(opened)
    image = _to_rgb(image)
    if most is not None and max(image.size) > most:
        scale = most / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    turn = _TURNS.get(orientation)
    upright = image if turn is None else image.transpose(turn)
    return upright, orientation in (5, 6, 7, 8), remark


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return grey_to_eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", rgba.size, "white")
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return flat
    return image.convert("RGB")


def resize(
    image: Image.Image,
    size: tuple[int, int],
    interpolation: str,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Return an image, or the part in an `xyxy` box, resized to (height, width) `size`, as (height,
    width, 3) uint8.
    """
    if box is not None:
        box = (
            max(0.0, box[0]),
            max(0.0, box[1]),
            min(float(image.width), box[2]),
            min(float(image.height), box[3]),
        )
    if box is not None or image.size != size[::-1]:
        image = image.resize(size[::-1], _INTERPOLATION[interpolation], box)
    return np.asarray(image)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
