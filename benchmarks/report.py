"""What report.html costs: the same predict with and without it, its size, and the same beyond one page.

python benchmarks/report.py MODEL PHOTOS
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import wordsight
from wordsight import classifier
from wordsight.cache import EmbeddingCache

ROUNDS = 5


def no_report(*_: object) -> None:
    """Make no report, so that what only it needs is not done either."""


def main(model_path: str, photos: str) -> None:
    """Measure, and print a table."""
    model, real = wordsight.load(model_path), classifier.ResultsReport
    times: dict[tuple[str, str], list[float]] = {}
    written: list[float] = []

    class Timed(real):  # type: ignore[misc, valid-type]
        """The real one, its writing timed."""

        def write(self, *arguments: object) -> Path:
            began = time.perf_counter()
            try:
                return super().write(*arguments)
            finally:
                written.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for name, kind in (("with", Timed), ("without", no_report)):
                classifier.ResultsReport = kind  # type: ignore[misc, assignment]
                for cache in ("cold", "warm"):
                    if cache == "cold":
                        EmbeddingCache().clear()
                    began = time.perf_counter()
                    results = model.predict(photos, output=Path(folder) / name)
                    times.setdefault((cache, name), []).append(time.perf_counter() - began)
        size = (Path(folder) / "with" / "report.html").stat().st_size
    print(f"{len(results)} photos: report.html {size / 1e6:.2f} MB, {size / len(results) / 1e3:.1f} kB a photo; written in {statistics.median(written):.2f} s")
    print("| predict with heat maps | with report, s | without, s | ratio |\n|---|---|---|---|")
    for cache in ("cold", "warm"):
        first, second = (statistics.median(times[cache, name]) for name in ("with", "without"))
        print(f"| {cache} | {first:.2f} | {second:.2f} | **{first / second:.2f}** |")


if __name__ == "__main__":
    main(*sys.argv[1:3])
