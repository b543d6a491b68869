"""Where, side by side: heat maps beside pytorch-grad-cam, windows beside the original's loop and beside true crops, memory of large photos.

    python benchmarks/where.py DATA [--gradcam-python PYTHON] [--keras-python PYTHON]

`DATA` holds boxes/ (annotations-{train,test}.csv) and street/photos/. The two interpreters have pytorch-grad-cam (with torch and timm) and
TensorFlow; what is missing is left out, and said. Sides take turns; medians are printed, ratios first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

ROUNDS = 5
GRADCAM = """
import json, sys, time
import numpy as np, timm, torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
folder, pixels, out = sys.argv[1:4]
model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
given = np.load(pixels)
x = (torch.from_numpy(given).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
cam = GradCAM(model=model, target_layers=[model.bn2])
maps = []
for line in sys.stdin:
    label = int(line)
    start = time.perf_counter()
    maps = [cam(input_tensor=x[i : i + 1], targets=[ClassifierOutputTarget(label)])[0] for i in range(len(x))]
    print(json.dumps({"s": time.perf_counter() - start}), flush=True)
np.save(out, np.stack(maps))
"""
KERAS = """
import json, os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
from keras import layers
body = [layer for width in (16, 32, 64, 64, 64) for layer in (layers.Conv2D(width, 3, activation="relu"), layers.MaxPooling2D(2))]
model = keras.Sequential([keras.Input((200, 200, 3)), *body, layers.Flatten(), layers.Dense(512, activation="relu"), layers.Dense(1, activation="sigmoid")])
assert model.count_params() == 622753
picture = np.random.rand(756, 1008, 3).astype("float32")
model.predict(picture[None, :200, :200], verbose=0)
for line in sys.stdin:
    start = time.perf_counter()
    for step in range(40):
        model.predict(picture[None, step : step + 200, step : step + 200], verbose=0)
    print(json.dumps({"s": (time.perf_counter() - start) / 40}), flush=True)
"""
LARGE = """
import re, sys, wordsight
found = wordsight.detect(sys.argv[1], sys.argv[2], windows=wordsight.Windows((200, 200), 50.0, 1), output=sys.argv[3])
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]  # getrusage would count the process that started this one
print(peak, list(found)[0].windows, list(found)[0].error)
"""


def median(values: list[float]) -> str:
    """Return a median with its range, in milliseconds."""
    return f"{1000 * statistics.median(values):.1f} ms ({1000 * min(values):.1f}–{1000 * max(values):.1f})"


class Side:
    """Another tool in its own process: a line in, seconds out."""

    def __init__(self, python: str, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen([python, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def time(self, line: int = 0) -> float:
        """Run it once."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["s"]

    def end(self) -> None:
        """Let it finish."""
        self.process.stdin.close()
        self.process.wait()


def heatmaps(model, data: Path, python: str | None, work: Path, side: int) -> None:
    """Compare heat maps, one picture at a time, map values only."""
    from wordsight.dataset import find_pictures
    from wordsight.embed import Embedder
    from wordsight.images import decode, resize
    from wordsight.localize import class_heatmap
    from wordsight.runtime import callers
    from wordsight.threads import parallel_map

    files = find_pictures([str(data / "boxes" / "images")]).pictures[::6][:48]
    pixels = np.stack([resize(decode(file.path.read_bytes()).image, (side, side), "bicubic") for file in files])
    runtime = Embedder(model.backbone).runtime
    label = 1

    def one(picture):
        return class_heatmap(runtime.encode(picture, feature_map=True).feature_map, model.head.weight[label])

    list(parallel_map(one, pixels, callers("openvino")))
    theirs = None
    if python:
        np.save(work / "pixels.npy", pixels)
        theirs = Side(python, GRADCAM, model.info["path"], str(work / "pixels.npy"), str(work / "maps.npy"))
        theirs.time(label)
    ours_s, theirs_s, maps = [], [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        maps = list(parallel_map(one, pixels, callers("openvino")))
        ours_s.append((time.perf_counter() - start) / len(pixels))
        if theirs:
            theirs_s.append(theirs.time(label) / len(pixels))
    print(f"heat map, {side} pixels: one pass {median(ours_s)} a picture, {1 / statistics.median(ours_s):.0f} pictures/s")
    if theirs:
        theirs.end()
        import cv2

        drawn = np.load(work / "maps.npy")
        differences = []
        for own, other in zip(maps, drawn, strict=True):
            large = cv2.resize(own, (side, side))  # as pytorch-grad-cam enlarges its own
            low, high = large.min(), large.max()
            differences.append(float(np.abs((large - low) / max(high - low, 1e-7) - other).max()) if high > 0 else 0.0)
        print(f"pytorch-grad-cam: {median(theirs_s)}; ratio {statistics.median(theirs_s) / statistics.median(ours_s):.1f}")
        print(f"largest difference of any value of {len(maps)} maps: {max(differences):.1e}")


def windows(model, scene: Path, python: str | None) -> None:
    """Compare 1008 × 756 pixels, windows of 200, steps of 10, with the original's loop, and default windows with true crops."""
    from wordsight import Windows
    from wordsight.detecting import detect_picture
    from wordsight.embed import Embedder

    data, embedder = scene.read_bytes(), Embedder(model.backbone)
    original, usual = Windows((200, 200), 10.0, 1), Windows((200, 200), 25.0, 4)

    def look(which, exact=False) -> tuple[float, int]:
        start = time.perf_counter()
        found = detect_picture(data, model, embedder, 0.99, which, exact)
        return time.perf_counter() - start, found.windows

    look(original), look(usual)
    keras = Side(python, KERAS) if python else None
    dense, level, loop = [], [], []
    count = crops = 0
    for _ in range(ROUNDS):
        seconds, count = look(original)
        dense.append(seconds)
        seconds, crops = look(usual)
        level.append(seconds)
        if keras:
            loop.append(keras.time())
    exact = [look(usual, True)[0] for _ in range(2)]
    print(f"one level, {count} windows, decoding included: {median(dense)}")
    if keras:
        keras.end()
        ratio = statistics.median(loop) * count / statistics.median(dense)
        print(f"the original's loop: {median(loop)} a window; {ratio:.0f} times as long")
    print(f"four levels, {crops} windows: {median(level)}; true crops {median(exact)}: {statistics.median(exact) / statistics.median(level):.1f} times as long")


def scenes(model, data: Path, work: Path, count: int) -> None:
    """Compare average precision on composed scenes."""
    from composer import annotated_objects, compose
    from wordsight import Windows
    from wordsight.annotations import Annotated, Box
    from wordsight.box_evaluation import average_precision
    from wordsight.dataset import PictureFile
    from wordsight.detecting import detect_picture
    from wordsight.embed import Embedder
    from wordsight.images import decode

    streets = [decode(path.read_bytes()).image for path in sorted((data / "street" / "photos").iterdir())]
    made = compose(annotated_objects(data / "boxes" / "annotations-test.csv"), streets, count, seed=0)
    embedder = Embedder(model.backbone)
    found: dict[bool, list] = {False: [], True: []}
    for number, scene in enumerate(made):
        scene.image.save(work / "scene.png")
        for exact, rows in found.items():
            seen = detect_picture((work / "scene.png").read_bytes(), model, embedder, 0.05, Windows(step=None), exact)
            truth = [Box(label, tuple(box)) for label, box in zip(scene.labels, scene.boxes.tolist(), strict=True)]
            rows.append((Annotated(PictureFile(work, str(number)), seen.size, truth), [(d.label, d.probability, d.xyxy) for d in seen.detections]))
    for exact, rows in found.items():
        precision = average_precision(rows, model.class_names)
        said = ", ".join(f"{value:.3f} at IoU {name}" for name, value in precision.items())
        print(f"{count} scenes, {sum(len(scene.labels) for scene in made)} objects, {'true crops' if exact else 'one pass'}: AP {said}")


def large(model_path: str, work: Path) -> None:
    """Say the peak memory of a 50-megapixel photo, as JPEG turned by EXIF and as PNG."""
    rng = np.random.default_rng(0)
    tile = Image.fromarray(rng.integers(0, 256, (512, 512, 3), dtype=np.uint8))
    picture = Image.new("RGB", (8192, 6144))
    for y in range(0, 6144, 512):
        for x in range(0, 8192, 512):
            picture.paste(tile, (x, y))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(work / "large.jpg", quality=85, exif=exif)
    picture.save(work / "large.png", compress_level=1)
    del picture
    for name in ("large.jpg", "large.png"):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", LARGE, str(work / name), model_path, str(work / "out")], capture_output=True, text=True, check=True)
        peak, count, error = done.stdout.split()
        print(f"50.3 megapixels, {name}: peak {int(peak) / 1024**2:.2f} GiB, {count} windows of 200, {time.perf_counter() - start:.0f} s, error: {error}")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--gradcam-python")
    parser.add_argument("--keras-python")
    parser.add_argument("--scenes", type=int, default=24, help="composed scenes for the average precision; 0 leaves it out")
    parser.add_argument("--only", choices=("heatmaps", "windows", "scenes", "large"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["WORDSIGHT_HOME"], os.environ["WORDSIGHT_OFFLINE"] = str(work / "home"), "1"
        import wordsight
        from wordsight.dataset import LabelledSet
        from wordsight.training import train_labelled

        known = wordsight.read_boxes(options.data / "boxes" / "annotations-train.csv")
        train_labelled(LabelledSet([picture.file for picture in known.pictures], known.class_names), work / "model")
        model = wordsight.load(work / "model")
        Image.open(sorted((options.data / "street" / "photos").iterdir())[0]).convert("RGB").resize((1008, 756)).save(work / "photo.jpg", quality=90)
        jobs = {
            "heatmaps": lambda: [heatmaps(model, options.data, options.gradcam_python, work, side) for side in (224, 320)],
            "windows": lambda: windows(model, work / "photo.jpg", options.keras_python),
            "large": lambda: large(str(work / "model"), work),
            "scenes": lambda: scenes(model, options.data, work, options.scenes),
        }
        for name, job in jobs.items():
            if options.only in (None, name) and (name != "scenes" or options.scenes):
                print(f"\n{name}", flush=True)
                job()


if __name__ == "__main__":
    main()
