"""Many pictures on one sheet, so that a person sees in a minute what they are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .errors import UnreadableImage
from .images import decode

COLUMNS, ROWS = 8, 6
CELL, CAPTION = 160, 44  # pixels
MAX_BYTES = 64 << 20


def contact_sheet(root: Path, pictures: Sequence[tuple[str, str, str]], title: str, order: str = "the clearest first") -> bytes | None:
    """Return a PNG of the first 48 pictures, in order, or None where none can be shown.

    Args:
        root: folder that names are relative to.
        pictures: (file name, first line, second line) of each.
        title: stands above, with how many are shown of how many.
        order: what comes first, in words.
    """
    cells = []
    for name, first, second in pictures:
        shown = _thumbnail(root / name)
        if shown is not None:
            cells.append((shown, name, first, second))
        if len(cells) == COLUMNS * ROWS:
            break
    if not cells:
        return None
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (min(COLUMNS, len(cells)) * CELL + 8, 30 + rows * (CELL + CAPTION)), "white")
    draw, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(16), ImageFont.load_default(11)
    draw.text((8, 6), f"{title}: {len(cells)} of {len(pictures)}, {order}", fill="black", font=font)
    for number, (shown, name, first, second) in enumerate(cells):
        x, y = 8 + number % COLUMNS * CELL, 30 + number // COLUMNS * (CELL + CAPTION)
        sheet.paste(shown, (x + (CELL - 8 - shown.width) // 2, y + (CELL - 8 - shown.height) // 2))
        for line, text in enumerate((name, first, second)):
            draw.text((x, y + CELL - 6 + 13 * line), _fitting(text, small), fill="black" if line == 0 else "#555555", font=small)
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def _thumbnail(path: Path) -> Image.Image | None:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        image = decode(path.read_bytes()).image
    except (OSError, UnreadableImage):
        return None
    image.thumbnail((CELL - 8, CELL - 8))
    return image


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return text, its beginning left out where it is too long for a cell."""
    text = "".join(c if c.isprintable() else "?" for c in text.encode("utf-8", "replace").decode())
    while len(text) > 1 and font.getlength(text) > CELL - 10:
        text = "…" + text[2:]
    return text
