"""What the comparisons share: the pictures, the clock, processes that take turns, and how
figures are written.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DATA = Path(os.environ.get("WORDSIGHT_TEST_DATA", ROOT.parent / "shared" / "data"))
TRAIN, TEST = DATA / "catdog" / "train", DATA / "catdog" / "test"
ROUNDS = 5


@dataclass(frozen=True)
class Section:
    """One comparison.

    Attributes:
        name: what `make bench ONLY=name` calls it.
        title: its heading.
        run: takes a folder to work in, returns lines of Markdown, ratios first.
        uses: packages whose versions stand beside the figures.
        usual: whether `make bench` runs it when no name is given.
    """

    name: str
    title: str
    run: Callable[[Path], list[str]]
    uses: tuple[str, ...]
    usual: bool


SECTIONS: dict[str, Section] = {}


def section(title: str, uses: Sequence[str] = (), usual: bool = True) -> Callable:
    """Register a comparison under its function's name."""

    def register(function: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
        SECTIONS[function.__name__] = Section(
            function.__name__, title, function, tuple(uses), usual
        )
        return function

    return register


def environment(work: Path) -> dict[str, str]:
    """Return the environment of a process that keeps what it makes in `work`."""
    return {
        **os.environ,
        "WORDSIGHT_HOME": str(work / "home"),
        "WORDSIGHT_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }


def wordsight(*arguments: object, work: Path) -> tuple[float, dict]:
    """Run the command line; return the seconds of the whole process, and its JSON."""
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "wordsight", *map(str, arguments), "--json"],
        env=environment(work),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if process.returncode > 1:
        raise SystemExit(process.stderr)
    return seconds, json.loads(process.stdout)


def side(name: str, *arguments: object, work: Path) -> tuple[float, dict]:
    """Run a script of `sides` that works once; return the seconds of the whole process, and
    what it said.
    """
    command, log = (
        [sys.executable, str(HERE / "sides" / name), *map(str, arguments)],
        work / f"{name}.log",
    )
    start = time.perf_counter()
    with open(log, "w") as errors:
        process = subprocess.run(
            command,
            env=environment(work),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{log.read_text()[-3000:]}")
    return seconds, json.loads(process.stdout.splitlines()[-1])


class Side:
    """A script of `sides` in a process of its own, that works each time it is told to."""

    def __init__(self, name: str, *arguments: object, work: Path) -> None:
        self._name, self._log = name, work / f"{name}.log"
        with open(self._log, "a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "sides" / name), *map(str, arguments)],
                env=environment(work),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._answer()

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._name} ended:\n{self._log.read_text()[-3000:]}")
        return json.loads(line)

    def __call__(self, **values: object) -> dict:
        """Let it work once; return what it said, `seconds` among it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(values) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def sides(**opened: Callable[[], Side]) -> Iterator[dict[str, Side]]:
    """Open sides, and end them all whatever happens."""
    made: dict[str, Side] = {}
    try:
        for name, make in opened.items():
            made[name] = make()
        yield made
    finally:
        for one in made.values():
            one.end()


def in_turn(
    jobs: dict[str, Callable[[], float]], rounds: int = ROUNDS, warm_up: bool = True
) -> dict[str, list[float]]:
    """Let jobs take turns; return the seconds each said it took, a round a value, the warming
    up left out.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + warm_up):
        for name, job in jobs.items():
            seconds = job()
            if number >= warm_up:
                times[name].append(seconds)
    return times


def forget(work: Path) -> None:
    """Drop embeddings and the models `run` made, and keep the compiled backbone."""
    shutil.rmtree(work / "home" / "models", ignore_errors=True)
    for file in (work / "home" / "cache").glob("embeddings*"):
        file.unlink()


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Return how many times as long one side took, the median over rounds that took turns."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def times(value: float) -> str:
    """Write a ratio."""
    return (
        f"**{value:,.0f}**"
        if value >= 30
        else f"**{value:.1f}**"
        if value >= 3
        else f"**{value:.2f}**"
    )


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Write a median with its range."""
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    return (
        f"{statistics.median(values):,.{digits}f} "
        f"({min(values):,.{digits}f}–{max(values):,.{digits}f})"
    )


def machine() -> str:
    """Describe the machine in one line."""
    from wordsight.core.threads import cores

    said = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = re.findall(r"model name\s*: (.+)", said)
    known = {"amx_tile": "AMX", "avx512_vnni": "VNNI", "avx512f": "AVX-512", "avx2": "AVX2"}
    features = [name for flag, name in known.items() if re.search(rf"\b{flag}\b", said)]
    return (
        f"{names[0].strip() if names else platform.machine()}, {cores()} "
        f"cores{', ' + features[0] if features else ''}, {platform.system()}"
    )


def versions(names: Sequence[str]) -> str:
    """Return packages with their versions."""
    return ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in dict.fromkeys(("wordsight", "openvino", *names))
    )
