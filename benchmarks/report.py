"""What report.html costs: the same predict with and without it, and its size."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import ROUNDS, TEST, TRAIN, ratio, section, spread, times, wordsight


def _no_report(*_: object) -> None:
    """Make no report, so that what only it needs is not done either."""


@section("what report.html costs: the same predict with and without it, 300 photos", usual=False)
def report(work: Path) -> list[str]:
    wordsight("train", TRAIN, "-o", work / "m", work=work)
    os.environ.update(WORDSIGHT_HOME=str(work / "home"))
    from wordsight import load
    from wordsight.backbones.cache import EmbeddingCache
    from wordsight.classification import photos

    model, real = load(work / "m"), photos.ResultsReport
    took: dict[tuple[str, str], list[float]] = {}
    written: list[float] = []

    class Timed(real):  # type: ignore[misc, valid-type]
        """The real one, the making of its pages timed."""

        def pages(self, *arguments: Any) -> Iterator[tuple[str, bytes]]:
            began = time.perf_counter()
            pages = list(super().pages(*arguments))
            written.append(time.perf_counter() - began)
            return iter(pages)

    for _ in range(ROUNDS):
        for name, kind in (("with", Timed), ("without", _no_report)):
            photos.ResultsReport = kind  # type: ignore[misc, assignment]
            for cache in ("nothing cached", "embeddings cached"):
                if cache == "nothing cached":
                    EmbeddingCache().clear()
                began = time.perf_counter()
                results = model.predict(TEST, output=work / name)
                took.setdefault((cache, name), []).append(time.perf_counter() - began)
    photos.ResultsReport = real  # type: ignore[misc]
    size = (work / "with" / "report.html").stat().st_size
    return [
        "| predict with heat maps | times as long | with, s | without, s |",
        "|---|---|---|---|",
        *[
            f"| {cache} | {times(ratio(took[cache, 'with'], took[cache, 'without']))} | "
            f"{spread(took[cache, 'with'])} | {spread(took[cache, 'without'])} |"
            for cache in ("nothing cached", "embeddings cached")
        ],
        "",
        f"{size / 1e6:.2f} MB, {size / len(results) / 1e3:.1f} kB a photo; its pages are made in "
        f"{statistics.median(written):.2f} s.",
    ]
