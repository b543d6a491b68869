"""Where the images lie that a model learned from. It is noted on this machine, not in the model: a
model that is given away tells nothing of its maker's folders.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TypeAlias

from ..core.home import sources_folder, write_atomic, writing
from ..core.regular import read_text
from ..errors import OutputError

log = logging.getLogger("wordsight")
# (folder or table, class that all its images get, or None where they bring their own)
Sources: TypeAlias = list[tuple[str, str | None]]


def note_sources(fingerprint: str | None, sources: Sources) -> None:
    """Note where a training's images lie. Where that can't be written, say so and go on.

    Args:
        fingerprint: of the data (`ModelRecord.data_fingerprint`): what has the same learned from
            the same images.
        sources: the places.
    """
    if fingerprint is None or not sources:
        return
    note = _note(fingerprint)
    content = json.dumps(sources).encode("utf-8", "surrogateescape")
    try:
        with writing(note):
            write_atomic(note, content)
    except OutputError as error:
        log.warning("%s Until then, the model can't be trained again from corrections.", error)


def noted_sources(fingerprint: str | None) -> Sources:
    """Return what `note_sources` noted on this machine; nothing if there is no note."""
    if fingerprint is None:
        return []
    try:
        return [
            (str(place), None if label is None else str(label))
            for place, label in json.loads(read_text(_note(fingerprint), errors="surrogateescape"))
        ]
    except (OSError, ValueError, TypeError):
        return []


def _note(fingerprint: str) -> Path:
    return sources_folder() / f"{Path(fingerprint).name[:32]}.json"
