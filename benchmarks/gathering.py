"""Gathering from a list of addresses, beside img2dataset; from a server on the same cores."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import ROOT, environment, ratio, section, side, spread, times

COUNTS, ROUNDS = (1_000, 10_000), 3


@section(
    "20 KB pictures from a list of addresses, a local server on the same cores, beside img2dataset",
    ("img2dataset", "httpx"),
)
def gather(work: Path) -> list[str]:
    from wordsight.core.threads import cores

    took: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with _server(work) as root:
        addresses = [f"{root}/pictures/cat/{number}.jpg" for number in range(COUNTS[-1])]
        sample_ms, size = _examine_ms(addresses)
        for count in COUNTS:
            listed = work / f"list{count}.csv"
            listed.write_text(
                "\n".join(["url,label", *(f"{address},cat" for address in addresses[:count])])
            )
            for _ in range(ROUNDS if count == COUNTS[0] else 1):
                for name in ("ours", "img2dataset"):
                    target = work / "gathered"
                    seconds, told = side(
                        "gather_list.py", name, listed, target, count, root, work=work
                    )
                    assert told["images"] == count, (name, told)
                    took.setdefault((name, count), []).append((seconds, told["peak"]))
                    shutil.rmtree(target)
    bound = 1000 / sample_ms * cores()
    rows = []
    for (name, count), values in took.items():
        seconds, peaks = zip(*values, strict=True)
        rates = [count / value for value in seconds]
        share = sorted(rates)[len(rates) // 2] / bound
        rows.append(
            f"| {'wordsight' if name == 'ours' else name} | {count:,} | {spread(rates, 0)} | "
            f"{share:.2f} | {max(peaks):.0f} MiB |"
        )
    factors = {
        count: ratio(
            [s for s, _ in took["img2dataset", count]], [s for s, _ in took["ours", count]]
        )
        for count in COUNTS
    }
    growth = took["ours", COUNTS[1]][0][1] / max(peak for _, peak in took["ours", COUNTS[0]])
    return [
        f"img2dataset takes {times(factors[COUNTS[0]])} times as long for 1,000 pictures "
        f"and {times(factors[COUNTS[1]])} for 10,000, once. It is "
        "told to fetch and store only; wordsight also decodes, hashes, drops copies, and "
        "keeps maker and licence of each.",
        "",
        f"| gathering, {size / 1000:.0f} KB a picture | pictures | pictures/s, whole "
        "process | share of the bound | peak memory, with all its processes |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"The bound: {sample_ms:.1f} core-ms to decode a picture, look at it and hash it. "
        "The server that sends the pictures takes its share of the same "
        f"cores. Ratio of wordsight's peaks: {times(growth)} for 10 times the pictures.",
    ]


@contextmanager
def _server(work: Path) -> Iterator[str]:
    command = [
        sys.executable,
        str(ROOT / "tests" / "imitation.py"),
        "--log",
        str(work / "log"),
        "--offered",
        str(COUNTS[-1]),
        "--quality",
        "97",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment(work)
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.kill()


def _examine_ms(addresses: list[str]) -> tuple[float, float]:
    """Fetch every picture once, so that the server has drawn it; return the ms that examining
    one takes, and the mean size in bytes.
    """
    from wordsight.gathering.screening import examine

    images = [urllib.request.urlopen(address).read() for address in addresses]
    start = time.perf_counter()
    for data in images[:500]:
        examine(data, 224)
    return (time.perf_counter() - start) * 2, sum(map(len, images)) / len(images)
