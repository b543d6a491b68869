"""Sets of images on disk: find them, read labels and boxes, convert formats, keep licences."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
