"""Where a network looked: maps, regions, windows, grids, and how they are drawn."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
