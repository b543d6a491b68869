"""Contact sheets: many images on one page, to see at a glance what they are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..core.regular import read_regular
from ..errors import UnreadableImage
from .decoding import decode

COLUMNS, ROWS = 8, 6
CELL, CAPTION = 160, 44  # pixels
MAX_BYTES = 64 << 20


def contact_sheet(
    root: Path,
    images: Sequence[tuple[str, str, str]],
    title: str,
    order: str = "the clearest first",
) -> bytes | None:
    """Return a PNG of the first 48 images, in order, or None if none can be shown.

    Args:
        root: folder that the file names are relative to.
        images: (file name, first line, second line) of each.
        title: heading; how many images are shown of how many is added.
        order: how the images are ordered, in words.
    """
    cells = []
    for name, first, second in images:
        shown = _thumbnail(root / name)
        if shown is not None:
            cells.append((shown, name, first, second))
        if len(cells) == COLUMNS * ROWS:
            break
    return (
        sheet(
            [(image, lines) for image, *lines in cells],
            f"{title}: {len(cells)} of {len(images)}, {order}",
        )
        if cells
        else None
    )


def sheet(
    cells: Sequence[tuple[Image.Image, Sequence[str]]],
    title: str,
    columns: int = COLUMNS,
    cell: int = CELL,
) -> bytes:
    """Return a PNG of small images in rows, each with up to three lines of text below it.

    Args:
        cells: image and lines of each cell; images are shrunk to fit.
        title: heading.
        columns: images per row.
        cell: side of a cell in pixels.
    """
    rows = -(-len(cells) // columns)
    page = Image.new(
        "RGB", (min(columns, len(cells)) * cell + 8, 30 + rows * (cell + CAPTION)), "white"
    )
    draw, font, small = ImageDraw.Draw(page), ImageFont.load_default(16), ImageFont.load_default(11)
    draw.text((8, 6), title, fill="black", font=font)
    for number, (shown, lines) in enumerate(cells):
        shown.thumbnail((cell - 8, cell - 8))
        x, y = 8 + number % columns * cell, 30 + number // columns * (cell + CAPTION)
        page.paste(shown, (x + (cell - 8 - shown.width) // 2, y + (cell - 8 - shown.height) // 2))
        for line, text in enumerate(lines):
            draw.text(
                (x, y + cell - 6 + 13 * line),
                _fitting(text, small, cell),
                fill="black" if line == 0 else "#555555",
                font=small,
            )
    out = io.BytesIO()
    page.save(out, "PNG")
    return out.getvalue()


def _thumbnail(path: Path) -> Image.Image | None:
    try:
        image = decode(read_regular(path, MAX_BYTES)).image
    except (OSError, UnreadableImage):
        return None
    image.thumbnail((CELL - 8, CELL - 8))
    return image


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, cell: int) -> str:
    """Return text, cut at the beginning if it is too long for a cell."""
    text = "".join(c if c.isprintable() else "?" for c in text.encode("utf-8", "replace").decode())
    while len(text) > 1 and font.getlength(text) > cell - 10:
        text = "…" + text[2:]
    return text
