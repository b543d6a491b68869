"""Pictures of more than eight bits a channel, by the bits that are in use: cameras and scanners
store ten or twelve bits in sixteen, which would be nearly black if all sixteen counted.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ...errors import UnreadableImage
from ..limits import BoundedFile
from . import cut_off

# TIFF's tags of the bits of a colour and of how the colours lie, and its value for apart
_BITS_PER_SAMPLE, _PLANES, _APART = 258, 284, 2
BITS = (8, 10, 12, 14, 16)


def bits_in_use(highest: float) -> int:
    """Return how many bits a channel uses, of those that devices use, by its highest value."""
    return next((bits for bits in BITS if highest < 1 << bits), BITS[-1])


def is_deep(image: Image.Image) -> bool:
    """Whether an open image has 16 bits a channel and Pillow would read the upper eight of them."""
    return image.mode in ("RGB", "RGBA") and any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )


def load(image: Image.Image, data: bytes | None) -> tuple[Image.Image, str]:
    """Return an open image decoded, 16 bits a channel by those in use, and what is to be said where
    its file ends early; see `cut_off.load`.

    Raises:
        UnreadableImage: if most of it is missing.
    """
    deep = data is not None and is_deep(image)
    if _lies_apart(image):
        raise UnreadableImage(
            "a TIFF whose colours of 16 bits lie apart, which can't be read; save it with the "
            "colours together (chunky), or as PNG"
        )
    loaded, remark = cut_off.load(image, data)
    if not deep:
        return loaded, remark
    assert data is not None
    lower = Image.open(BoundedFile(data), formats=[str(image.format)])  # type: ignore[arg-type]
    if lower.tell() != image.tell():
        lower.seek(image.tell())
    if with_low_bytes(lower):
        loaded = eight_bits(loaded, cut_off.load(lower, data)[0])
        loaded.info = image.info
    return loaded, remark


def _lies_apart(image: Image.Image) -> bool:
    """Whether an open image's colours lie apart, with more than eight bits each, which Pillow would
    read as if they had eight; compressed ones it reads as they are.
    """
    if image.format != "TIFF" or len(image.getbands()) == 1 or is_deep(image):
        return False
    tags = image.tag_v2  # type: ignore[attr-defined]  # of every TIFF
    bits = tags.get(_BITS_PER_SAMPLE, (8,))
    return tags.get(_PLANES) == _APART and max(bits if isinstance(bits, tuple) else (bits,)) > 8


def with_low_bytes(image: Image.Image) -> bool:
    """Make an open deep image, not loaded yet, decode the lower byte of each value instead of the
    upper one; return whether it can.
    """
    tiles = []
    for tile in image.tile:  # type: ignore[attr-defined]  # of images that are files
        text = isinstance(tile[3], str)
        mode = tile[3] if text else tile[3][0]
        other = {"B": "L", "L": "B"}.get(mode[-1])
        if other is None or ";16" not in mode:
            return False
        swapped = mode[:-1] + other
        tiles.append(tile._replace(args=swapped if text else (swapped, *tile[3][1:])))
    image.tile = tiles  # type: ignore[attr-defined]
    return True


def eight_bits(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Return an image of 16 bits a channel in eight, by the bits in use.

    Args:
        upper: RGB or RGBA, the upper bytes.
        lower: likewise, the lower ones.
    """
    high = np.asarray(upper)
    bits = 8 + int(high[..., :3].max()).bit_length()
    bits = next(one for one in BITS if bits <= one)
    if bits == BITS[-1]:
        return upper
    values = (high.astype(np.uint16) << 8 | np.asarray(lower)) >> (bits - 8)
    values = values.astype(np.uint8)
    if upper.mode == "RGBA":
        values[..., 3] = high[..., 3]
    return Image.fromarray(values, upper.mode)


def grey_to_eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 or 32 bits, or of floats, as RGB of eight: by the bits in use, or
    of floats and negative numbers by their range.
    """
    values = np.array(image, dtype=np.float32)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and high < 1 << 16):
        low, high = 0.0, float((1 << bits_in_use(high)) - 1)
    values -= low
    values *= 255.0 / max(high - low, 1e-12)
    return Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8)).convert("RGB")
