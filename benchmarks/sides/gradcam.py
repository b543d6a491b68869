"""pytorch-grad-cam on the same network: map values of the likeliest class.

python gradcam.py MODEL files PHOTOS SIDE       from files, one at a time
python gradcam.py MODEL pixels PIXELS.npy OUT.npy   from pixels (n, height, width, 3) uint8, class
1; keeps the maps
"""

import sys
from pathlib import Path

import numpy as np
import timm
import torch
import turns
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

folder, kind, source, last = sys.argv[1:]
model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
cam = GradCAM(model=model, target_layers=[model.bn2])


def as_input(pixels: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def from_files() -> dict:
    for path in images:
        image = (
            Image.open(path).convert("RGB").resize((int(last), int(last)), Image.Resampling.BICUBIC)
        )
        # the likeliest class
        cam(input_tensor=as_input(np.asarray(image)[None].copy()), targets=None)
    return {"photos": len(images)}


def from_pixels() -> None:
    np.save(
        last,
        np.stack(
            [
                cam(input_tensor=given[i : i + 1], targets=[ClassifierOutputTarget(1)])[0]
                for i in range(len(given))
            ]
        ),
    )


if kind == "files":
    # it takes long, and counts by the picture
    images = sorted(path for path in Path(source).rglob("*") if path.is_file())[::3]
    turns.serve(from_files)
else:
    given = as_input(np.load(source))
    turns.serve(from_pixels)
