"""The classic works that the tutorials retell, beside wordsight: those that no other comparison
has.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from common import DATA, forget, section, side, spread, times

EPOCHS, ROUNDS = 10, 1


@section(
    "what the tutorials retell: two outputs, class and box, beside Keras",
    ("tensorflow-cpu", "keras", "torch"),
    usual=False,
)
def classics(work: Path) -> list[str]:
    return [*_what_and_where(work)]


def _what_and_where(work: Path) -> list[str]:
    """A table of boxes, seven classes: learn from 259 pictures, say class and box of 112 others."""
    tables = [DATA / "boxes" / f"annotations-{part}.csv" for part in ("train", "test")]
    ours, theirs = [], []
    for number in range(ROUNDS):
        forget(work)
        ours.append(side("ours_boxes.py", *tables, work / f"boxes{number}", work=work))
        theirs.append(side("keras_boxes.py", DATA / "boxes", *tables, EPOCHS, work=work))
    rows = []
    for name, runs in (
        (f"Keras MobileNet, frozen, 224 pixels, {EPOCHS} epochs", theirs),
        ("wordsight, 320 pixels, 3 views of each", ours),
    ):
        said = runs[0][1]
        parts = " | ".join(
            f"{statistics.median(told[part] for _, told in runs):.1f}"
            for part in ("imports", "train", "predict")
        )
        good = (
            f"{said['mean_iou']['box head']:.3f} | {said['right']:.1%}"
            if "right" in said
            else "random weights | random weights"
        )
        rows.append(f"| {name} | {spread([seconds for seconds, _ in runs])} | {parts} | {good} |")
    known = ours[0][1]
    ratio = statistics.median(a[0] / b[0] for a, b in zip(ours, theirs, strict=True))
    return [
        f"**What and where**: wordsight takes {times(ratio)} times as long as the "
        "tutorial's network.",
        "",
        f"| class and box of {known['answered']} pictures | seconds, whole process | "
        "imports | train | answer | mean IoU | right |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "The median box of those learned from has a mean IoU of "
        f"{known['mean_iou']['median box']:.3f}. No pretrained weights of Keras can be had "
        "offline, so its network is random: its time is that of the real one, its answers "
        "mean nothing and are not given. Its network stays frozen and "
        "sees each picture once an epoch; wordsight's sees each picture and 3 random "
        "views of it once, and then trains two box heads, one to be judged "
        "and one to be kept.",
    ]
