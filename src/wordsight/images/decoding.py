"""Read one image file into an upright RGB array, safely and no larger than needed.

Pillow's own signatures decide what is an image. Images that are too large are refused before any
pixel is decoded.
"""

from __future__ import annotations

import contextlib
import functools
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
from .limits import BoundedFile, check_exif, check_work

MAX_PIXELS = 120_000_000
MAX_BYTES = 512 << 20  # larger files are not read
MAX_FRAMES = 1000  # that are counted
# pixels on the longest side: images are decoded to at least the first and at most the second
MIN_LONGEST, MAX_LONGEST = 640, 1280
# larger images are decoded one at a time, so that memory stays bounded
LARGE_PIXELS = 12_000_000
REFUSED_FORMATS = {
    "EPS": "PostScript is a program and is not run",
    "WMF": "Windows metafiles are drawing programs",
}
# films and weather data, which Pillow only knows by name
NOT_IMAGES = {"MPEG", "HDF5", "GRIB", "BUFR"}
USUAL_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
# formats with several frames that still count as photos
UNREADABLE_SUFFIXES = {".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
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
    """

    image: Image.Image
    size: tuple[int, int]


@functools.cache
def image_formats() -> tuple[str, ...]:
    """Return the names of the formats that may be opened, common ones first: all of Pillow's except
    those that run programs.

    Pillow tries them in order. Some are recognized only by reading a header, which takes as long as
    decoding a small image.
    """
    Image.init()
    allowed = [name for name in Image.ID if name not in REFUSED_FORMATS and name not in NOT_IMAGES]
    return tuple(sorted(allowed, key=lambda name: name not in ("JPEG", "PNG", "WEBP", "GIF")))


def looks_like_image(suffix: str, first_bytes: bytes = b"") -> bool:
    """Whether a file counts as an image, judged by its suffix (with dot) or its first bytes (1,024
    are enough).
    """
    suffix = suffix.lower()
    if suffix in USUAL_SUFFIXES:  # avoids loading all of Pillow's formats
        return True
    image_formats()
    if (
        suffix in UNREADABLE_SUFFIXES
        or Image.registered_extensions().get(suffix) in Image.OPEN.keys() - NOT_IMAGES
    ):
        return True
    if len(first_bytes) < 16:
        return False
    for name in Image.OPEN.keys() - NOT_IMAGES:
        accept = Image.OPEN[name][1]
        if accept is not None and accept(first_bytes[:16]) is True:
            return True
    without_signature = [
        name for name in image_formats() if Image.OPEN[name][1] is None and name != "TGA"
    ]
    try:  # the few formats that are recognized only by reading their header
        Image.open(io.BytesIO(first_bytes), formats=without_signature).close()
    except Exception:  # a header reader may raise anything on foreign bytes
        return False
    return True


def holds_image(suffix: str, first_bytes: bytes) -> bool:
    """Whether a file's first 4,096 bytes are those of an image, whatever it is called; the suffix
    (with dot) counts only for TGA, which has no other sign.
    """
    if looks_like_image("", first_bytes):
        return True
    if Image.registered_extensions().get(suffix.lower()) != "TGA":
        return False
    try:
        Image.open(io.BytesIO(first_bytes), formats=["TGA"]).close()
    except Exception:  # a header reader may raise anything on foreign bytes
        return False
    return True


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes (with dot) of all formats that may be opened, in order."""
    formats = set(image_formats())
    known = Image.registered_extensions().items()
    return tuple(sorted(suffix for suffix, name in known if name in formats))


def decode(data: bytes, longest: tuple[int, int] = (MIN_LONGEST, MAX_LONGEST)) -> Photo:
    """Decode the bytes of an image file: first frame, upright, RGB, transparency on white.

    The result depends only on the bytes, so it may be cached by their hash. A JPEG is decoded at
    1/2, 1/4 or 1/8 of its size as long as 640 pixels remain, which is several times faster.

    Args:
        data: the bytes of the file.
        longest: least and greatest length of the longest side, in pixels. Smaller images stay as
            they are.

    Raises:
        UnreadableImage: if it isn't an image, is broken, has more than 120 megapixels, or takes far
            longer than its size explains.
    """
    with _reasons():
        return _decode(data, *longest)


def upright(image: Image.Image) -> Photo:
    """Return an open image as `decode` would return its file: upright, RGB, no side longer than
    1,280 pixels.

    Raises:
        UnreadableImage: if it can't be read.
    """
    try:
        turned_rgb, turned = _upright_rgb(image, MAX_LONGEST)
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
        several = image.format != "MPO" and _is_animated(image)
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
            upright, _ = _upright_rgb(image)
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
            upright, _ = _upright_rgb(_to_srgb(image))
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
        with _open(data) as image:
            size, orientation = (image.height, image.width), int(_orientation(image))
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
        if image.format == "MPO" or not _is_animated(image):
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


def _is_animated(image: Image.Image) -> bool:
    known = getattr(image, "is_animated", None)
    return getattr(image, "n_frames", 1) > 1 if known is None else known


def _orientation(image: Image.Image) -> int:
    """Return an open image's EXIF orientation, 1 where it has none."""
    check_exif(image)
    return image.getexif().get(0x0112, 1)


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


def _open(data: bytes) -> Image.Image:
    """Open an image file without decoding it; decoding ends with `TooMuch` if it takes too long.

    Raises:
        UnreadableImage: if it is empty, not an image, too large, or made to take long.
    """
    if not data:
        raise UnreadableImage("empty file")
    check_work(data)
    file = BoundedFile(data)
    try:
        image = Image.open(file, formats=image_formats())  # type: ignore[arg-type]
    except Image.UnidentifiedImageError:
        if data[:4] in (b"%!PS", b"\xc5\xd0\xd3\xc6"):
            raise UnreadableImage(REFUSED_FORMATS["EPS"]) from None
        raise UnreadableImage(
            "not a picture, or of a kind that can't be read (convert it to JPEG)"
        ) from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise UnreadableImage(
            f"{image.width}x{image.height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels "
            "are decoded"
        )
    file.allow(image)
    return image


def _decode(data: bytes, least: int, most: int) -> Photo:
    with _open(data) as image:
        width, height = image.size
        if image.format == "JPEG":
            scale = min(1.0, least / max(image.size))
            image.draft("RGB", (max(1, round(width * scale)), max(1, round(height * scale))))
        if image.width * image.height > LARGE_PIXELS:
            with _large:
                upright, turned = _upright_rgb(image, most)
        else:
            upright, turned = _upright_rgb(image, most)
    return Photo(upright, (width, height) if turned else (height, width))


def _upright_rgb(image: Image.Image, most: int | None = None) -> tuple[Image.Image, bool]:
    """Return the image upright, no side longer than `most` pixels, and whether width and height
    were swapped.
    """
    image.load()  # for some formats this already rotates the image and removes the tag
    orientation = _orientation(image)
    image = _to_rgb(image)
    if most is not None and max(image.size) > most:
        scale = most / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    turn = _TURNS.get(orientation)
    return (image if turn is None else image.transpose(turn)), orientation in (5, 6, 7, 8)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    # 16- and 32-bit grey: map its range to 8 bits
    if image.mode.startswith("I") or image.mode == "F":
        values = np.array(image, dtype=np.float32)
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
        if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and high <= 65535):
            low, high = 0.0, 65535.0 if high > 255 else 255.0
        values -= low
        values *= 255.0 / max(high - low, 1e-12)
        return Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8)).convert("RGB")
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
