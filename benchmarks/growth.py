"""Growth: ten times the photos, how much more time and memory."""

from __future__ import annotations

import math
import shutil
from itertools import pairwise
from pathlib import Path

from common import DATA, TRAIN, forget, section, side, wordsight


@section(
    "predict with everything drawn, more and more photos, each with bytes of its own so that "
    "no cache helps"
)
def growth(work: Path) -> list[str]:
    return _grow(work, 320, (100, 1_000, 10_000))


@section(
    "the same up to 100,000 photos, at 96 pixels, so that the network hides less of all the rest",
    usual=False,
)
def growth_large(work: Path) -> list[str]:
    return _grow(work, 96, (1_000, 10_000, 100_000))


def many_photos(target: Path, count: int) -> list[Path]:
    """Write real photos, each with bytes of its own after the end of its JPEG; return the real
    ones.
    """
    sources = sorted(
        path
        for folder in ("catdog", "clothing", "imagenet_sample")
        for path in (DATA / folder).rglob("*.[jJ]*")
    )
    for number in range(count):
        photo = target / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(
            sources[number * 7919 % len(sources)].read_bytes() + number.to_bytes(4, "big")
        )
    return sources


def _grow(work: Path, pixels: int, counts: tuple[int, ...]) -> list[str]:
    wordsight("train", TRAIN, "-o", work / "m", "--image-size", pixels, work=work)
    found: dict[int, tuple[float, float]] = {}
    for count in counts:
        photos = work / "photos"
        sources = many_photos(photos, count)
        forget(work)
        _, told = side("grow.py", work / "m", photos, work / "r", work=work)
        assert told["photos"] == count, told
        found[count] = told["seconds"], told["peak"]
        shutil.rmtree(photos)
        shutil.rmtree(work / "r")
    slopes = [
        math.log10(found[b][0] / found[a][0]) / math.log10(b / a) for a, b in pairwise(counts)
    ]
    steps = [
        f"**{slope:.2f}** from {a:,} to {b:,}"
        for slope, (a, b) in zip(slopes, pairwise(counts), strict=True)
    ]
    return [
        "Log–log slope of time: "
        f"{', '.join(steps)}. "
        f"Peak memory of {counts[-1]:,} beside {counts[0]:,}: "
        f"**{found[counts[-1]][1] / found[counts[0]][1]:.2f}**.",
        "",
        "| photos | seconds, inner loop | photos/s | peak memory |",
        "|---|---|---|---|",
        *[
            f"| {count:,} | {seconds:.1f} | {count / seconds:.0f} | {peak:.0f} MiB |"
            for count, (seconds, peak) in found.items()
        ],
        "",
        f"Made of {len(sources):,} real photos, "
        f"{sum(path.stat().st_size for path in sources) / len(sources) / 1000:.0f} kB on "
        "average.",
    ]
