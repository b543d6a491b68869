"""What a file that came must be to enter a data set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone

from ..errors import UnreadableImage
from ..images.decoding import decode, storable
from ..images.fingerprints import look
from .ledger import Fetched


@dataclass(frozen=True)
class Rejected:
    """Why a file that came is no usable image: a reason of the funnel, and what exactly."""

    reason: str
    detail: str = ""


def examine(data: bytes, min_size: int) -> tuple[Fetched, bytes] | Rejected:
    """Look whether a file that came is a usable image; return its measures and the bytes to
    keep, or why not.
    """
    if not data:
        return Rejected("empty")
    try:
        photo = decode(data)
        height, width = photo.size
        if min(height, width) < min_size:
            return Rejected("too small", f"{width}x{height}")
        kept, suffix = storable(data)
    except UnreadableImage as error:
        start = data[:512].lstrip().lower()
        if start.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"{")):
            return Rejected("web page", "text where a picture was promised")
        return Rejected(
            "not a picture" if "not a picture" in str(error) else "broken picture", str(error)
        )
    downloaded = hashlib.sha256(data).hexdigest()
    sha = downloaded if kept is data else hashlib.sha256(kept).hexdigest()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Fetched(downloaded, sha, suffix, len(kept), width, height, look(photo.image), now), kept
