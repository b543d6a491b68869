"""WordNet: from words to ImageNet classes, and the rules for class names."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
