"""A text–image model of random weights, for tests and benchmarks, in open_clip's format."""

from __future__ import annotations

import json
from pathlib import Path

from wordsight.towers.names import CONFIG, WEIGHTS

SMALL = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "test_vit3",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": None,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    "custom_text": True,
}
PIXELS = {"size": 160, "mean": [0.5] * 3, "std": [0.4] * 3, "resize_mode": "squash"}


def write_model(folder: Path, config: dict, pixels: dict):
    """Write a model of random weights in open_clip's format; return open_clip's own."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    parts = {key: value for key, value in config.items() if key != "custom_text"}
    kind = open_clip.model.CustomTextCLIP if config.get("custom_text") else open_clip.model.CLIP
    model = kind(**parts).eval()
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, str(folder / WEIGHTS))
    (folder / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
    return model
