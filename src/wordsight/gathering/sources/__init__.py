"""Sources of images, and the only code that reaches the network. One small file each,
registered by being here.
"""

from __future__ import annotations

from ...core.plugins import import_all
from .base import Candidate, Query, SearchPage, Source, list_sources, open_source, register_source
from .fake import FakeSource
from .transport import REASONS, FetchError
from .web import Web, site

import_all(__name__, list(__path__))

DEFAULT_SOURCES: tuple[str, ...] = ("openverse", "commons")

__all__ = [
    "DEFAULT_SOURCES",
    "REASONS",
    "Candidate",
    "FakeSource",
    "FetchError",
    "Query",
    "SearchPage",
    "Source",
    "Web",
    "list_sources",
    "open_source",
    "register_source",
    "site",
]
