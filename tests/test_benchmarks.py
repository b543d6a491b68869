"""What RESULTS.md says can be repeated."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_every_section_of_the_results_is_a_comparison_that_can_be_run_by_its_name():
    listed = subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench.py"), "--list"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = {line.split()[0] for line in listed.splitlines()}
    results = (BENCHMARKS / "RESULTS.md").read_text()
    written = re.findall(r"^## (\w+):", results, flags=re.MULTILINE)
    assert written and set(written) <= known
    assert len(written) == results.count("\n## "), "a section without a comparison"
    assert all(f"`make bench ONLY={name}`" in results for name in written)


def test_an_unknown_comparison_is_said_to_be_one():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench.py"), "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "No such comparison: nothing. There are: " in done.stderr
