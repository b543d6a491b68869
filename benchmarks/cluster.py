"""Workers on Ray beside one process with as many threads, on the same cores."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

from common import TRAIN, forget, section, side, spread, times, wordsight
from growth import many_photos

COUNTS, ROUNDS = (1_000, 3_000), 3


@section(
    "predict with tables: Ray workers of one core each, beside one process with a thread a core",
    ("ray", "pyarrow"),
    usual=False,
)
def cluster(work: Path) -> list[str]:
    from wordsight.core.threads import cores

    wordsight("train", TRAIN, "-o", work / "m", work=work)
    for count in COUNTS:
        many_photos(work / str(count), count)
    took: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for count in COUNTS:
            for name in ("one", "ray"):
                forget(work)
                told = side(
                    "predict_many.py",
                    name,
                    work / "m",
                    work / str(count),
                    work / "r",
                    cores(),
                    work=work,
                )[1]
                assert told["photos"] == count, told
                took.setdefault((name, count), []).append(told["seconds"])
                shutil.rmtree(work / "r")
    few, many = COUNTS
    rates = {
        name: [
            (many - few) / (b - a) for a, b in zip(took[name, few], took[name, many], strict=True)
        ]
        for name in ("one", "ray")
    }
    share = [a / b for a, b in zip(rates["ray"], rates["one"], strict=True)]
    starts = {
        name: statistics.median(
            a - few / rate for a, rate in zip(took[name, few], rates[name], strict=True)
        )
        for name in rates
    }
    return [
        f"{cores()} workers reach **{spread(share, 2)}** of one process's rate; starting "
        f"Ray and its workers takes {starts['ray'] - starts['one']:.0f} s more.",
        "",
        f"| | photos/s, from {few:,} to {many:,} | s for {few:,} | s for {many:,} | times "
        f"as long, {many:,} |",
        "|---|---|---|---|---|",
        *[
            f"| {said} | {spread(rates[name])} | {spread(took[name, few])} | "
            f"{spread(took[name, many])} | "
            f"{times(statistics.median(took[name, many]) / statistics.median(took['one', many]))} |"
            for name, said in (("one", "one process"), ("ray", "Ray on this machine"))
        ],
    ]
