"""How each network is built: EfficientNet-Lite without torch, timm's and the small ones with it."""
