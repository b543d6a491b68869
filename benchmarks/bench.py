"""Measure, and write RESULTS.md: ratios first, because absolute times belong to one machine.

    python benchmarks/bench.py [NAME …]      those named, or all but the few that take longest;
    --list says which there are

Sides take turns and stand each in a process of its own; medians are given, with the smallest and
the largest in brackets. A run of some comparisons replaces their sections of RESULTS.md and leaves
the others. Needs what benchmarks/requirements.txt lists, and the folder of real pictures
(WORDSIGHT_TEST_DATA, or shared/data beside the checkout).
"""

from __future__ import annotations

import datetime
import re
import sys
import tempfile
import time
from pathlib import Path

import accuracy  # noqa: F401  # each registers its comparisons
import cifar  # noqa: F401
import classics  # noqa: F401
import cluster  # noqa: F401
import copies  # noqa: F401
import events  # noqa: F401
import gathering  # noqa: F401
import gpu  # noqa: F401
import growth  # noqa: F401
import heatmaps  # noqa: F401
import install  # noqa: F401
import int8  # noqa: F401
import neighbours  # noqa: F401
import objects  # noqa: F401
import page  # noqa: F401
import precision  # noqa: F401
import reading  # noqa: F401
import report  # noqa: F401
import roll  # noqa: F401
import roofline  # noqa: F401
import scenes  # noqa: F401
import startup  # noqa: F401
import streets  # noqa: F401
import teach  # noqa: F401
import towers  # noqa: F401
import training  # noqa: F401
import traps  # noqa: F401
import vehicles  # noqa: F401
import video  # noqa: F401
import windows  # noqa: F401
from common import DATA, SECTIONS, TEST, Section, machine, side, versions

# others follow
ORDER = (
    "train",
    "first",
    "predict",
    "windows",
    "duplicates",
    "gather",
    "growth",
    "growth_large",
    "roofline",
    "start",
    "accuracy",
)
TEST_PHOTOS = 300
RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# Results

Repeat all with `make bench`, one with `make bench ONLY=name`. Each section says where and with what
it was measured. Sides of a comparison take turns in one run, other tools each in a process of its
own; values are medians, with the smallest and the largest in brackets, and those without brackets
were measured once. Machines are shared and noisy: trust ratios, and compare seconds only within a
section.
"""


def written(text: str) -> dict[str, str]:
    """Return the sections of a RESULTS.md by name."""
    return {
        part.split(":", 1)[0]: f"## {part.strip()}\n"
        for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    }


def put(name: str, text: str) -> None:
    """Replace one section of RESULTS.md, in the order of comparisons; what is none follows."""
    parts = written(RESULTS.read_text()) if RESULTS.exists() else {}
    parts[name] = text
    order = [
        *(known for known in _in_order() if known in parts),
        *(other for other in parts if other not in SECTIONS),
    ]
    RESULTS.write_text("\n".join([HEAD, *(parts[known] for known in order)]))


def _in_order() -> list[str]:
    return [*ORDER, *(name for name in SECTIONS if name not in ORDER)]


def measured(one: Section, work: Path) -> str:
    """Run a comparison; return its section."""
    began = time.perf_counter()
    used = versions(one.uses)  # asked for before hours are spent
    lines = one.run(work)
    took = time.perf_counter() - began
    foot = (
        f"*{machine()}; {used}; {datetime.date.today()}; `make bench ONLY={one.name}`, "
        f"{took:.0f} s.*"
    )
    return "\n".join([f"## {one.name}: {one.title}", "", *lines, "", foot, ""])


def main() -> None:
    names = sys.argv[1:] or [name for name in _in_order() if SECTIONS[name].usual]
    if "--list" in names:
        print(
            "\n".join(
                f"{one.name:14}{'' if one.usual else '(by name only) '}{one.title}"
                for one in map(SECTIONS.__getitem__, _in_order())
            )
        )
        return
    unknown = set(names) - set(SECTIONS)
    if unknown:
        raise SystemExit(
            f"No such comparison: {', '.join(sorted(unknown))}. There are: {', '.join(SECTIONS)}."
        )
    if not DATA.is_dir():
        raise SystemExit(
            f"The folder of real pictures is not there: '{DATA}'. Set WORDSIGHT_TEST_DATA."
        )
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="wordsight-bench-") as folder:
            side("prepare.py", work=Path(folder))
            text = measured(SECTIONS[name], Path(folder))
        print(text, file=sys.stderr, flush=True)
        if len(list(TEST.glob("*/*.*"))) == TEST_PHOTOS:
            put(name, text)
        else:
            print(
                f"Not written to {RESULTS.name}: '{DATA}' is not the folder of pictures that "
                "its sections speak of.",
                file=sys.stderr,
            )


if __name__ == "__main__":
    main()
