"""What a photo's file says of its content: its XMP, and the keywords of IPTC."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from PIL import Image, IptcImagePlugin

from ..core.regular import open_regular
from .decoding import MAX_BYTES
from .limits import BoundedFile
from .signatures import identify

CHARACTERS, KEYWORDS = (1, 90), (2, 25)
UTF_8 = b"\x1b%G"
JPEG_HEAD = 1 << 21  # bytes of a JPEG within which its first segments end


def embedded_words(path: Path) -> tuple[bytes, list[str]]:
    """Return the XMP in a photo's file, b"" without one, and its keywords by IPTC; neither where it
    can't be read.
    """
    with suppress(Exception):  # a broken file may raise anything
        with open_regular(path) as file:
            data = file.read(JPEG_HEAD)
            if not data.startswith(b"\xff\xd8"):
                data += file.read(MAX_BYTES - JPEG_HEAD)
        with identify(BoundedFile(data), data) as image:
            packet = image.info.get("xmp") or b""
            packet = packet.encode() if isinstance(packet, str) else bytes(packet)
            return packet.strip(b"\0 \t\r\n"), _iptc(image)
    return b"", []


def _iptc(image: Image.Image) -> list[str]:
    with suppress(Exception):
        told = IptcImagePlugin.getiptcinfo(image) or {}  # type: ignore[arg-type]
        found = told.get(KEYWORDS, [])
        utf_8 = told.get(CHARACTERS) == UTF_8
        return [_text(one, utf_8) for one in (found if isinstance(found, list) else [found])]
    return []


def _text(raw: bytes, utf_8: bool) -> str:
    try:
        return raw.decode().strip("\0 ")
    except UnicodeDecodeError:
        return raw.decode("utf-8" if utf_8 else "latin-1", "replace").strip("\0 ")
