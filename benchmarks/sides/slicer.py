"""supervision's InferenceSlicer over one picture, as SAHI slices: the same network looks at windows
of 200 × 200 in turn.

python slicer.py MODEL PICTURE
"""

import sys

import cv2
import numpy as np
import supervision
import timm
import torch
import turns

folder, source = sys.argv[1:]
model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
image = cv2.imread(source)
seen = 0
torch.set_num_threads(1)  # the slicer has a thread a core


def look(window: np.ndarray) -> supervision.Detections:
    global seen
    seen += 1
    resized = cv2.resize(window, (224, 224), interpolation=cv2.INTER_CUBIC)[:, :, ::-1]
    with torch.inference_mode():
        pixels = (torch.from_numpy(resized.copy()).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
        probability, label = model(pixels).softmax(dim=1)[0].max(dim=0)
    if probability < 0.99:
        return supervision.Detections.empty()
    height, width = window.shape[:2]
    return supervision.Detections(
        np.array([[0.0, 0.0, width, height]]),
        confidence=np.array([float(probability)]),
        class_id=np.array([int(label)]),
    )


def job(step: int) -> dict:
    global seen
    seen = 0
    supervision.InferenceSlicer(
        look, slice_wh=(200, 200), overlap_wh=(200 - step, 200 - step), thread_workers=2
    )(image)
    return {"windows": seen}


turns.serve(job)
