"""Sources of pictures, and the only code that reaches the network. One small file each,
registered by being here.
"""

from __future__ import annotations

from ...core.plugins import import_all
from .base import Candidate, Page, Query, Source, list_sources, open_source, register_source
from .fake import FakeSource
from .transport import REASONS, FetchError
from .web import Web, site

import_all(__name__, list(__path__))

DEFAULT_SOURCES = ("openverse", "commons")

__all__ = [
    "DEFAULT_SOURCES",
    "REASONS",
    "Candidate",
    "FakeSource",
    "FetchError",
    "Page",
    "Query",
    "Source",
    "Web",
    "list_sources",
    "open_source",
    "register_source",
    "site",
]
