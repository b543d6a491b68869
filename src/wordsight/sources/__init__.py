"""Sources of pictures, and the only code that reaches the network. One small file each; `list_sources()` names them."""

from __future__ import annotations

from . import commons, folder, openverse, url_list, web_search  # noqa: F401  # registers them
from .base import Candidate, Page, Query, Source, list_sources, open_source, register_source
from .fake import FakeSource
from .transport import REASONS, FetchError
from .web import Web, site

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
