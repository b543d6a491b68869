"""Composed scenes: what one dense pass finds beside true crops; and the memory that very large
photos take.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import DATA, ROOT, environment, section
from PIL import Image

SCENES = 10
LARGE = """
import re, sys, wordsight
windows = wordsight.WindowSettings((200, 200), 50.0, 1)
found = wordsight.detect(sys.argv[1], sys.argv[2], windows=windows, output=sys.argv[3])
# getrusage would count the process that started this one
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(peak, list(found)[0].windows, list(found)[0].error)
"""


def model_of_boxes(work: Path):
    """Train a model on the pictures of boxes/, and load it."""
    os.environ.update(WORDSIGHT_HOME=str(work / "home"))
    import wordsight
    from wordsight.datasets.labelled import LabelledSet
    from wordsight.training.recipes import train_labelled
    from wordsight.training.request import TrainingRequest

    known = wordsight.datasets.read_boxes(DATA / "boxes" / "annotations-train.csv")
    train_labelled(
        TrainingRequest(
            LabelledSet([image.file for image in known.images], known.class_names),
            work / "m",
        )
    )
    return wordsight.load(work / "m")


@section(
    f"{SCENES} composed scenes, default windows: average precision of one pass beside true crops",
    usual=False,
)
def scenes(work: Path) -> list[str]:
    model = model_of_boxes(work)
    sys.path.insert(0, str(ROOT / "tests"))
    from composer import annotated_objects, compose
    from wordsight import WindowSettings
    from wordsight.detection.detector import detect_image
    from wordsight.images.decoding import decode
    from wordsight.metrics.detection import average_precision

    streets = [
        decode(path.read_bytes()).image for path in sorted((DATA / "street" / "photos").iterdir())
    ]
    made = compose(
        annotated_objects(DATA / "boxes" / "annotations-test.csv"), streets, SCENES, seed=0
    )
    found: dict[bool, list] = {False: [], True: []}
    for scene in made:
        scene.image.save(work / "scene.png")
        for exact, rows in found.items():
            seen = detect_image(
                (work / "scene.png").read_bytes(),
                model,
                0.05,
                WindowSettings(step=None),
                exact,
            )
            truth = list(zip(scene.labels, scene.boxes.tolist(), strict=True))
            rows.append((truth, [(d.label, d.probability, d.xyxy) for d in seen.detections]))
    precisions = {
        exact: average_precision(rows, model.class_names) for exact, rows in found.items()
    }
    names = list(precisions[False])
    return [
        f"| {SCENES} scenes, {sum(len(scene.labels) for scene in made)} objects | "
        f"{' | '.join(f'AP at IoU {name}' for name in names)} |",
        "|---|" + "---|" * len(names),
        *[
            f"| {'true crops' if exact else 'one pass'} | "
            f"{' | '.join(f'{precision[name]:.3f}' for name in names)} |"
            for exact, precision in precisions.items()
        ],
    ]


@section("a photo of 50 megapixels through windows of 200: peak memory", usual=False)
def large(work: Path) -> list[str]:
    model_of_boxes(work)
    rng = np.random.default_rng(0)
    tile = Image.fromarray(rng.integers(0, 256, (512, 512, 3), dtype=np.uint8))
    image = Image.new("RGB", (8192, 6144))
    for y in range(0, 6144, 512):
        for x in range(0, 8192, 512):
            image.paste(tile, (x, y))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(work / "large.jpg", quality=85, exif=exif)
    image.save(work / "large.png", compress_level=1)
    del image
    lines = ["| file | peak memory | windows | seconds | error |", "|---|---|---|---|---|"]
    for name in ("large.jpg", "large.png"):
        start = time.perf_counter()
        command = [
            sys.executable,
            "-c",
            LARGE,
            str(work / name),
            str(work / "m"),
            str(work / "out"),
        ]
        done = subprocess.run(
            command, env=environment(work), capture_output=True, text=True, check=True
        )
        peak, count, error = done.stdout.split()
        turned = ", turned by EXIF" if name.endswith("jpg") else ""
        lines.append(
            f"| {name}{turned} | **{int(peak) / 1024**2:.2f} GiB** | {int(count):,} | "
            f"{time.perf_counter() - start:.0f} | {error} |"
        )
    return lines
