"""wordsight: words in, sight out.

Type what you want to recognise, point at a folder of photos, and see what each shows and where.
Importing this package loads neither torch nor OpenVINO; each name is loaded when it is first used.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*__all__, "__version__"])
