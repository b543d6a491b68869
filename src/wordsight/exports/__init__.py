"""Labels and models for other tools."""

import os

import lazy_loader

# ONNX Runtime reports that it is used, unless this is set before anyone imports it
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
