"""Many objects a picture: how good the object head is, how long it learns, and what detecting
costs beside predicting.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import DATA, ROUNDS, environment, in_turn, section, side, spread, times, wordsight
from PIL import Image

SET = DATA / "fruit_many"
SEEDS = (0, 1, 2)  # each takes minutes


@section("many objects a picture: apples, bananas and oranges, 240 to learn from, 60 to test")
def objects(work: Path) -> list[str]:
    """Learn, measure on pictures it never saw, and time detecting."""
    tested = SET / "annotations-test.json"
    rows: dict[str, list[float]] = {}
    for seed in SEEDS:
        model = work / f"m{seed}"
        seconds, _ = wordsight(
            *("train", SET / "train", "--boxes", SET / "annotations-train.json"),
            *("-o", model, "--seed", seed),
            work=work,
        )
        rows.setdefault("seconds", []).append(seconds)
        _, told = wordsight(
            *("evaluate", SET / "test", "-m", model, "--boxes", tested),
            *("-o", work / f"report{seed}"),
            work=work,
        )
        for name in ("0.3", "0.5", "0.5:0.95"):
            rows.setdefault(name, []).append(told["average_precision"][name])
        rows.setdefault("count", []).append(told["count_errors"]["all"])
    limit = statistics.median(rows["seconds"])
    _, peer = side(
        *("ssdlite_boxes.py", SET / "annotations-train.json", SET / "train", tested, SET / "test"),
        round(limit),
        work=work,
    )
    detecting = _detecting(work / "m0")
    ratio = statistics.median(
        ours / plain for ours, plain in zip(detecting["detect"], detecting["predict"], strict=True)
    )
    cells = [spread(rows[name], 3) for name in ("0.3", "0.5", "0.5:0.95")]
    return [
        "| | AP at IoU 0.3 | AP at IoU 0.5 | "
        "AP over 0.5:0.95 | count wrong by | seconds to learn, whole process |",
        "|---|---|---|---|---|---|",
        f"| object head | {' | '.join(cells)} | {spread(rows['count'], 2)} | "
        f"{spread(rows['seconds'], 0)} |",
        "| torchvision's SSDLite320, from random weights | "
        + " | ".join(f"{peer['average_precision'][n]:.3f}" for n in ("0.3", "0.5", "0.5:0.95"))
        + f" | | {limit:.0f}: {peer['steps']} steps of 16 |",
        "",
        "| a picture, one process, nothing written | milliseconds | beside `predict` |",
        "|---|---|---|",
        f"| `predict`, with heat map and box | {spread([1e3 * s for s in detecting['predict']])} "
        "| 1 |",
        f"| `detect` | {spread([1e3 * s for s in detecting['detect']])} | {times(ratio)} |",
        "",
        f"Pictures: {SET.name}; 117 objects in the test; default settings; {len(SEEDS)} seed(s). "
        "SSDLite's pretrained weights come from the net only.",
    ]


@section(
    "many objects a picture without a box: learned from 221 labelled pictures of apples, bananas "
    "and oranges; 60 to test",
    usual=False,
)
def cutouts(work: Path) -> list[str]:
    """Learn from labels alone, with and without objects cut out of the pictures, and measure on
    pictures with boxes.
    """
    labelled, tested = _one_class_a_picture(work / "labelled"), SET / "annotations-test.json"
    rows: dict[str, dict[str, list[float]]] = {}
    for seed in SEEDS:
        for name, more in (("windows", ()), ("cutouts", ("--objects", "many"))):
            model, row = work / f"{name}{seed}", rows.setdefault(name, {})
            seconds, _ = wordsight(
                *("train", labelled, "-o", model, "--seed", seed, *more), work=work
            )
            _, told = wordsight(
                *("evaluate", SET / "test", "-m", model, "--boxes", tested),
                *("-o", work / f"report-{name}{seed}"),
                work=work,
            )
            row.setdefault("seconds", []).append(seconds)
            row.setdefault("count", []).append(told["count_errors"]["all"])
            for iou in ("0.3", "0.5", "0.5:0.95"):
                row.setdefault(iou, []).append(told["average_precision"][iou])
    names = {"windows": "labels alone, whole pictures and windows", "cutouts": "`--objects many`"}
    return [
        "| | AP at IoU 0.3 | AP at IoU 0.5 | AP over 0.5:0.95 | count wrong by | seconds to learn, "
        "whole process |",
        "|---|---|---|---|---|---|",
        *(
            f"| {names[name]} | "
            + " | ".join(spread(row[iou], 3) for iou in ("0.3", "0.5", "0.5:0.95"))
            + f" | {spread(row['count'], 2)} | {spread(row['seconds'], 0)} |"
            for name, row in rows.items()
        ),
        "",
        f"Pictures: {SET.name}, those of one class; 117 objects in the test; default settings; "
        f"{len(SEEDS)} seed(s).",
    ]


def _one_class_a_picture(folder: Path) -> Path:
    """Link the pictures to learn from that show one class into a folder a class; return it."""
    import wordsight as ours

    for image in ours.datasets.read_boxes(SET / "annotations-train.json", SET / "train").images:
        labels = {box.label for box in image.boxes}
        if len(labels) == 1:
            target = folder / labels.pop() / Path(image.file.name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(image.file.path).resolve())
    return folder


@section("one object a photo: a box learned from 259 photos, and one without any; 112 others")
def boxes(work: Path) -> list[str]:
    """Measure what `predict` gives, and what was learned or cut from the heat map alone."""
    from scenes import model_of_boxes

    without = model_of_boxes(work)
    import wordsight as ours

    tables = [DATA / "boxes" / f"annotations-{part}.csv" for part in ("train", "test")]
    learned = ours.train(DATA / "boxes", work / "boxed", boxes=tables[0])
    lines = ["| model | box | mean IoU | share at IoU 0.3, 0.5, 0.7, mean | MaxBoxAccV2 |"]
    lines.append("|---|---|---|---|---|")
    for name, model in (("with boxes", learned), ("without a box", without)):
        found = ours.evaluation.evaluate_boxes(tables[1], model, output=None, detections=False)
        for kind, figures in found.kinds.items():
            means = f"{figures.mean_iou.value:.3f} | {figures.box_accuracy.value:.3f}"
            lines.append(f"| {name} | {kind} | {means} | {figures.max_box_acc_v2:.3f} |")
    return lines


LARGE = """
import re, sys, wordsight
found = list(wordsight.detect(sys.argv[1], sys.argv[2], output=sys.argv[3]))[0]
# getrusage would count the process that started this one
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(peak, found.windows, len(found.detections), found.error)
"""


@section("a photo of 50 megapixels through an object head: peak memory", usual=False)
def large_objects(work: Path) -> list[str]:
    """Look at fruit by the hundred, in tiles, and read the peak memory of the whole process."""
    wordsight(
        *("train", SET / "train", "--boxes", SET / "annotations-train.json", "-o", work / "m"),
        work=work,
    )
    files = sorted((SET / "test").iterdir())
    image = Image.new("RGB", (8192, 6144))
    for number, (y, x) in enumerate(itertools.product(range(0, 6144, 512), range(0, 8192, 512))):
        part = Image.open(files[number % len(files)]).convert("RGB").resize((512, 512))
        image.paste(part, (x, y))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(work / "large.jpg", quality=88, exif=exif)
    image.save(work / "large.png", compress_level=1)
    lines = [
        "| file | peak memory | passes | objects | seconds | error |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("large.jpg", "large.png"):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", LARGE, *(str(work / one) for one in (name, "m", "out"))],
            env=environment(work),
            capture_output=True,
            text=True,
            check=True,
        )
        peak, passes, objects, error = done.stdout.split()
        turned = ", turned by EXIF" if name.endswith("jpg") else ""
        lines.append(
            f"| {name}{turned} | **{int(peak) / 1024**2:.2f} GiB** | {passes} | {objects} | "
            f"{time.perf_counter() - start:.0f} | {error} |"
        )
    return lines


def _detecting(path: Path) -> dict[str, list[float]]:
    """Return the seconds a picture that each takes, by turns."""
    import wordsight as ours
    from wordsight.detection.detector import WindowSettings, detect_image

    model, settings = ours.load(path), WindowSettings()
    photos = [file.read_bytes() for file in sorted((SET / "test").iterdir())]
    plain = ours.load(path)
    plain.object_head = None

    def predict() -> float:
        start = time.perf_counter()
        for data in photos:
            _predicted(plain, data)
        return (time.perf_counter() - start) / len(photos)

    def detect() -> float:
        start = time.perf_counter()
        for data in photos:
            detect_image(data, model, 0.5, settings)
        return (time.perf_counter() - start) / len(photos)

    return in_turn({"predict": predict, "detect": detect}, ROUNDS)


def _predicted(model, data: bytes) -> None:
    """Decode, classify and locate one picture, as `predict` does for a labelled one."""
    from wordsight.images.decoding import decode

    photo = decode(data)
    encoding = model.embedder.encode(photo, feature_map=True)
    prediction = model.decide("", encoding.embedding, 0.0)
    prediction.label = prediction.top_label
    model.localize(prediction, photo, encoding)
