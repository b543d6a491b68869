"""Text–image towers: networks that tell how well any phrase fits a photo."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
