"""Sliding windows, beside the original's loop and beside supervision's InferenceSlicer."""

from __future__ import annotations

import time
from pathlib import Path

from common import DATA, ROUNDS, Side, in_turn, section, sides, spread, times
from PIL import Image
from scenes import model_of_boxes

KERAS_WINDOWS = 40
SLICER_STEP = 100


@section(
    "4,674 windows of 200 × 200 over 1008 × 756 pixels, every 10 pixels",
    ("tensorflow-cpu", "keras", "supervision", "timm", "torch"),
)
def windows(work: Path) -> list[str]:
    model = model_of_boxes(work)
    import wordsight
    from wordsight.detection.detector import detect_image

    photo = work / "photo.jpg"
    Image.open(sorted((DATA / "street" / "photos").iterdir())[0]).convert("RGB").resize(
        (1008, 756)
    ).save(photo, quality=90)
    every = wordsight.WindowSettings((200, 200), 10.0, 1)
    usual = wordsight.WindowSettings((200, 200), 25.0, 4)
    counts: dict[str, int] = {}

    def look(name: str, which: wordsight.WindowSettings, exact: bool = False) -> float:
        start = time.perf_counter()
        counts[name] = detect_image(photo.read_bytes(), model, 0.99, which, exact).windows
        return time.perf_counter() - start

    def slice_up(these: dict[str, Side]) -> float:
        told = these["slicer"](step=SLICER_STEP)
        return told["seconds"] / told["windows"]

    opened = {
        "keras": lambda: Side("keras_windows.py", work=work),
        "slicer": lambda: Side("slicer.py", work / "m", photo, work=work),
    }
    with sides(**opened) as these:
        jobs = {
            "ours": lambda: look("ours", every),
            "levels": lambda: look("levels", usual),
            "keras": lambda: these["keras"](count=KERAS_WINDOWS)["seconds"] / KERAS_WINDOWS,
            "slicer": lambda: slice_up(these),
        }
        took = in_turn(jobs, ROUNDS)
    crops = [
        1000 * value / counts["levels"]
        for value in in_turn({"exact": lambda: look("exact", usual, True)}, 2, warm_up=False)[
            "exact"
        ]
    ]
    scaled = {
        name: [value * counts["ours"] for value in took[name]] for name in ("keras", "slicer")
    }
    rows = []
    for name, said in (
        ("keras", "the original's loop, Keras `predict` a window"),
        ("slicer", "supervision `InferenceSlicer`, the same network at 224"),
    ):
        factor = sorted(a / b for a, b in zip(scaled[name], took["ours"], strict=True))[ROUNDS // 2]
        rows.append(
            f"| {said} | {times(factor)} | {spread([1000 * value for value in took[name]])} |"
        )
    mine = [1000 * value / counts["ours"] for value in took["ours"]]
    return [
        "| | times as long | ms a window |",
        "|---|---|---|",
        *rows,
        "| wordsight, `--exact`: a crop and a pass for each window, as the others | "
        f"{times(sorted(crops)[0] / sorted(mine)[ROUNDS // 2])} | {spread(crops)} |",
        f"| wordsight, one dense pass, decoding included | 1 | {spread(mine, 3)} |",
        "",
        f"{counts['ours']:,} windows take wordsight "
        f"{spread([1000 * value for value in took['ours']], 0)} ms. "
        f"The original's loop was timed on {KERAS_WINDOWS} windows of noise, the slicer on "
        f"those of every {SLICER_STEP} pixels, "
        "`--exact` on four levels of the pyramid. "
        f"Four levels of the pyramid, {counts['levels']:,} windows: "
        f"{spread([1000 * value for value in took['levels']], 0)} ms. One pass is an "
        "approximation of true crops: `make bench ONLY=scenes` says what it costs.",
    ]
