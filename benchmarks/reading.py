"""Reading large annotations: seconds and memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from common import environment, section
from PIL import Image

PICTURES, BOXES, ROWS = 2_000, 200_000, 1_000_000
CODE = """
import resource, sys, time
from wordsight import datasets
start = time.perf_counter()
read = getattr(datasets, sys.argv[1])(sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(time.perf_counter() - start, peak, len(read.images))
"""


def _read(reader: str, source: Path, work: Path) -> tuple[float, float, int]:
    """Return seconds, peak memory in MiB, and how many pictures were read."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, reader, str(source)],
        env=environment(work),
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak, pictures = done.stdout.split()
    return float(seconds), int(peak) / 1024, int(pictures)


@section("large annotations: a COCO file of 200,000 boxes, a CSV of a million rows", usual=False)
def reading(work: Path) -> list[str]:
    rng = random.Random(0)
    names = [f"{number:05}.jpg" for number in range(PICTURES)]
    for name in names:
        Image.new("RGB", (640, 480)).save(work / name)
    images = [
        {"id": number, "file_name": name, "width": 640, "height": 480}
        for number, name in enumerate(names)
    ]
    boxes = [
        {
            "id": number,
            "image_id": rng.randrange(PICTURES),
            "category_id": rng.randrange(5),
            "bbox": [rng.randrange(500), rng.randrange(400), 80, 60],
        }
        for number in range(BOXES)
    ]
    categories = [{"id": number, "name": f"class {number}"} for number in range(5)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (work / "labels.json").write_text(json.dumps(content))
    with open(work / "labels.csv", "w", encoding="utf-8") as file:
        file.write("file_name,label\n")
        for number in range(ROWS):
            file.write(f"{names[number % PICTURES]},class {number % 5}\n")
    lines = ["| | seconds | peak MiB |", "|---|---|---|"]
    for what, reader, source in (
        (f"COCO, {BOXES:,} boxes on {PICTURES:,} pictures", "read_boxes", "labels.json"),
        (f"CSV, {ROWS:,} rows", "read_labels", "labels.csv"),
    ):
        seconds, peak, _ = _read(reader, work / source, work)
        lines.append(f"| {what} | {seconds:.1f} | {peak:,.0f} |")
    return lines
