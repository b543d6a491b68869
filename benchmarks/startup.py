"""Start-up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from common import TEST, TRAIN, environment, in_turn, section, spread, wordsight


@section("start-up, and what a warm predict of one photo takes")
def start(work: Path) -> list[str]:
    wordsight("train", TRAIN, "-o", work / "m", work=work)
    one_photo = [
        "-m",
        "wordsight",
        "predict",
        str(sorted((TEST / "cat").iterdir())[0]),
        "-m",
        str(work / "m"),
    ]
    three = [sorted((TEST / "dog").iterdir())[i] for i in range(3)]
    three_photos = [part for photo in three for part in ("-p", str(photo))]
    commands = {
        "bare Python": ["-c", "pass"],
        "`import wordsight`": ["-c", "import wordsight"],
        "`wordsight --help`": ["-m", "wordsight", "--help"],
        "`wordsight predict` of one photo, embedding cached": [
            *one_photo,
            "-o",
            str(work / "r"),
            "--no-pictures",
        ],
        "the same with all pictures and the report": [*one_photo, "-o", str(work / "r2")],
        "`wordsight run -c cat,dog` of three photos with all that": [
            *["-m", "wordsight", "run", "-c", "cat,dog", "-m", str(work / "m")],
            *["-o", str(work / "r3"), *three_photos],
        ],
    }

    def once(command: list[str]) -> float:
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, *command], env=environment(work), capture_output=True, check=True
        )
        return time.perf_counter() - begin

    took = in_turn(
        {name: lambda command=command: once(command) for name, command in commands.items()}, 9
    )
    bare = sorted(took["bare Python"])[4]
    return [
        "| whole process | seconds | × bare Python |",
        "|---|---|---|",
        *[
            f"| {name} | {spread(values, 2)} | {sorted(values)[4] / bare:.1f} |"
            for name, values in took.items()
        ],
    ]
