"""Small images for a notebook."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.notebook import MAX_BYTES, MOST_IMAGES, SIDE, escape
from ..core.regular import read_regular
from ..errors import UnreadableImage

if TYPE_CHECKING:
    from PIL import Image


def gallery(images: Iterable[tuple[str, Path | Image.Image]]) -> str:
    """Return small images with a line below each, at most a dozen; those that can't be opened
    are left out.
    """
    drawn: list[str] = []
    for text, image in images:
        if len(drawn) == MOST_IMAGES:
            break
        data = thumbnail(image)
        if data:
            source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
            caption = (
                "<figcaption "
                f'style="font-size:85%;max-width:{SIDE}px;overflow-wrap:anywhere">{escape(text)}</figcaption>'
            )
            style = "display:inline-block;margin:4px;vertical-align:top"
            drawn.append(
                f'<figure style="{style}"><img src="{source}" '
                f'alt="{escape(text)}"/>{caption}</figure>'
            )
    return "".join(drawn)


def thumbnail(image: Path | Image.Image) -> bytes | None:
    """Return a small JPEG of an image, or None where it can't be opened."""
    from ..images.decoding import decode

    try:
        if not isinstance(image, Path):
            image = image.convert("RGB")
        else:
            image = decode(read_regular(image, MAX_BYTES), (SIDE, SIDE)).image
    except (OSError, UnreadableImage):  # gone, or no image any more
        return None
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()
