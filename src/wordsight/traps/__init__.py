"""Camera traps: a detector's boxes as the first stage, what is in them as the second."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
