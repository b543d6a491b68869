"""Kinds of picture that an extra of wordsight reads: HEIC by libheif (`heic`), and cameras' raw
photos by LibRaw (`raw`). LibRaw can't be stopped midway, so what it may cost is bounded by the
pixels, which are counted before any is decoded.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile

from ...errors import UnreadableImage
from ..limits import MAX_PIXELS, BoundedFile
from .pages import directory

NEEDS_HEIC = "HEIC, which needs an extra: pip install 'wordsight[heic]'"
NEEDS_RAW = "a raw photo, which needs an extra: pip install 'wordsight[raw]'"
# brands of the first box of HEIF files; AVIF, of the same family, is Pillow's own
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
# first bytes of raw photos of Fujifilm, Olympus, Panasonic, Sigma and Minolta
_RAW_MARKS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
# TIFF's tags and values that tell a raw photo: DNG's version, pixels of one colour each, or a small
# copy with directories below it
_DNG_VERSION, _PHOTOMETRIC, _SUBFILE_TYPE, _BELOW = 50706, 262, 254, 330
_RAW_PHOTOMETRICS = {32803, 34892}
_EXIF_ORIENTATION = 0x0112
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's turns -> EXIF orientation


def is_heif(data: bytes) -> bool:
    """Whether a file's first bytes are those of HEIC; AVIF, of the same family, is Pillow's own."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


@functools.cache
def reads_heif() -> bool:
    """Whether HEIC can be read here, with the extra `heic`: libheif's decoder without encoders."""
    try:
        import pi_heif
    except ImportError:
        return False
    pi_heif.register_heif_opener(thumbnails=False)
    return True


def is_raw(data: bytes) -> bool:
    """Whether a file is a camera's raw photo, by its first bytes and TIFF directory."""
    if data.startswith(_RAW_MARKS) or data[4:12] == b"ftypcrx ":  # Canon's newer one
        return True
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return False
    if data[8:10] == b"CR":  # Canon's older one
        return True
    tags: dict[int, int] = {}
    with contextlib.suppress(struct.error):  # the file ends within it
        tags = directory(data, order, struct.unpack_from(f"{order}I", data, 4)[0])
    return (
        _DNG_VERSION in tags
        or tags.get(_PHOTOMETRIC) in _RAW_PHOTOMETRICS
        or (_BELOW in tags and tags.get(_SUBFILE_TYPE, 0) & 1 == 1)
    )


@functools.cache
def reads_raw() -> bool:
    """Whether raw photos can be read here, with the extra `raw`: LibRaw."""
    try:
        import rawpy  # noqa: F401
    except ImportError:
        return False
    return True


class _NotRaw(Exception):
    """LibRaw doesn't take a file for a raw photo."""


def open_raw(file: BoundedFile) -> Image.Image | None:
    """Open a raw photo without decoding it; None if LibRaw doesn't take it for one.

    Raises:
        UnreadableImage: if it is broken or too large.
    """
    try:
        return _RawPhoto(file)  # type: ignore[arg-type]
    except _NotRaw:
        file.seek(0)  # type: ignore[operator]
        return None


class _RawPhoto(ImageFile.ImageFile):
    """A raw photo: what the sensor saw, developed with the camera's white balance; never the
    preview that lies beside it. Its EXIF orientation is still to be applied, as in other formats.
    """

    format = "RAW"
    format_description = "Raw photo"

    def _open(self) -> None:
        import rawpy

        self._raw, self._half = rawpy.RawPy(), False
        with _libraw():
            try:
                self._raw.open_buffer(self.fp)  # type: ignore[arg-type]  # of any kind that reads
            except rawpy.LibRawFileUnsupportedError:
                raise _NotRaw from None
            sizes = self._raw.sizes
        if sizes.raw_width * sizes.raw_height > MAX_PIXELS:
            raise UnreadableImage(
                f"{sizes.raw_width}x{sizes.raw_height} pixels; at most {MAX_PIXELS // 1_000_000} "
                "megapixels are decoded"
            )
        self._mode, self._size = "RGB", (sizes.width, sizes.height)
        self.getexif()[_EXIF_ORIENTATION] = _ORIENTATIONS.get(sizes.flip, 1)

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> None:
        """Have it decoded at half of its size, a pixel for each four, if that is not too small."""
        if size and not self._half and min(self.width // size[0], self.height // size[1]) >= 2:
            self._half, self._size = True, ((self.width + 1) // 2, (self.height + 1) // 2)

    def load(self) -> Image.core.PixelAccess | None:
        """Decode it."""
        import rawpy

        if self._im is None:
            with _libraw():
                pixels = self._raw.postprocess(
                    half_size=self._half,
                    demosaic_algorithm=rawpy.DemosaicAlgorithm.LINEAR,  # the quickest
                    use_camera_wb=True,
                    user_flip=0,
                    output_bps=8,
                )
            self._raw.close()
            if pixels.shape[2] == 1:
                pixels = np.repeat(pixels, 3, axis=2)
            self.im = Image.fromarray(pixels).im
            self._size = self.im.size
        return Image.Image.load(self)


@contextlib.contextmanager
def _libraw() -> Iterator[None]:
    """Refuse a file that LibRaw can't read, in one sentence."""
    import rawpy

    try:
        yield
    except rawpy.LibRawError as error:
        told = error.args[0] if error.args else ""
        said = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
        raise UnreadableImage(
            f"a raw photo that can't be read ({said}); copy it again, or convert it to JPEG"
        ) from None
