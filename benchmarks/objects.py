"""Many objects a picture: how good the object head is, how long it learns, and what detecting
costs beside predicting.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from common import DATA, ROUNDS, in_turn, section, side, spread, times, wordsight

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
