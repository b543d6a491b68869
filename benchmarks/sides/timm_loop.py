"""timm as its examples use it: a loop over the photos of a folder, one at a time or 32; classes
only, no heat map.

python timm_loop.py WEIGHTS PHOTOS
"""

import sys
from pathlib import Path

import timm
import torch
import turns
from PIL import Image

weights, photos = sys.argv[1:]
model = timm.create_model(f"local-dir:{weights}", pretrained=True, num_classes=2).eval()
transform = timm.data.create_transform(
    input_size=(3, 224, 224), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0
)
# it takes long, and counts by the picture
images = sorted(path for path in Path(photos).rglob("*") if path.is_file())[::3]


def job(batch: int) -> dict:
    with torch.inference_mode():
        for first in range(0, len(images), batch):
            pixels = torch.stack(
                [
                    transform(Image.open(path).convert("RGB"))
                    for path in images[first : first + batch]
                ]
            )
            model(pixels).softmax(dim=1).tolist()
    return {"photos": len(images)}


turns.serve(job)
