"""Copies and near copies, beside imagededup."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
from common import DATA, TRAIN, forget, in_turn, ratio, section, side, spread, times
from PIL import Image, ImageDraw, ImageOps

KINDS = {
    "half size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "JPEG quality 30": lambda image: image,
    "5 % crop": lambda image: image.crop(
        (image.width // 20, image.height // 20, image.width * 19 // 20, image.height * 19 // 20)
    ),
    "border": lambda image: ImageOps.expand(image, max(4, image.width // 20), "white"),
    "mirror": ImageOps.mirror,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "writing": lambda image: _written_on(image),
}
METHODS = {
    "ours": "wordsight",
    "hash": "PHash, 10 bits",
    "cnn": "CNN, cosine 0.9, the same network",
}


@section("copies of 200 photos, beside imagededup", ("imagededup", "timm", "torch"))
def duplicates(work: Path) -> list[str]:
    from wordsight.images.copies import hash_pairs

    weights = side("prepare.py", work=work)[1]["folder"]
    paths = sorted(TRAIN.glob("*/*"))[::6] + sorted((DATA / "imagenet_sample").glob("*"))[::2]
    rows = [
        "| copy | "
        + " | ".join(f"{name}: found | false pairs" for name in METHODS.values())
        + " |",
        "|---|" + "---|---|" * len(METHODS),
    ]
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for kind, change in KINDS.items():
        folder = work / kind / "set"
        folder.mkdir(parents=True)
        for number, path in enumerate(paths):
            image = Image.open(path).convert("RGB")
            image.save(folder / f"o{number:03d}.jpg", quality=92)
            change(image).save(
                folder / f"c{number:03d}.jpg", quality=30 if kind.startswith("JPEG") else 90
            )
        cells = []
        for name in METHODS:
            forget(work)  # the originals are the same in every row
            told = side("find_copies.py", name, folder, weights, work=work)[1]
            seconds[name].append(told["seconds"])
            right = sum(a[0] != b[0] and a[1:] == b[1:] for a, b in told["pairs"])
            cells.append(f"{right / len(paths):.1%} | {len(told['pairs']) - right}")
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    speed = ", ".join(
        f"{METHODS[name]} {times(ratio(seconds[name], seconds['ours']))}"
        for name in ("hash", "cnn")
    )
    rng = np.random.default_rng(0)

    def search(count: int) -> float:
        bits = rng.integers(0, 256, (count, 8), dtype=np.uint8)
        bits[count // 2 : count // 2 + count // 20] = bits[: count // 20]
        bits[:, 0] &= 127
        start = time.perf_counter()
        assert len(hash_pairs(bits)) >= count // 20
        return time.perf_counter() - start

    grown = in_turn(
        {str(count): lambda count=count: search(count) for count in (10_000, 100_000)},
        3,
        warm_up=False,
    )
    return [
        *rows,
        "",
        f"Seconds for the {2 * len(paths)} files of a row, from disk, without start-up: "
        f"wordsight {spread(seconds['ours'])}; "
        f"times as long: imagededup's {speed}. "
        "wordsight hashes and embeds; what it embeds, training and cleaning then find in "
        "the cache.",
        "",
        f"All pairs among 100,000 hashes: {spread(grown['100000'], 2)} s, "
        f"{times(statistics.median(grown['100000']) / statistics.median(grown['10000']))} "
        "times as long as among 10,000.",
    ]


def _written_on(image: Image.Image) -> Image.Image:
    written = image.copy()
    draw, height = ImageDraw.Draw(written), max(10, image.height // 12)
    draw.rectangle(
        (5, image.height - height - 5, 5 + image.width // 3, image.height - 5), fill="white"
    )
    draw.text((8, image.height - height - 3), "holiday 2026", fill="black")
    return written
