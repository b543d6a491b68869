"""Neighbours among a million embeddings, and search by example."""

from __future__ import annotations

import csv
import os
import shutil
import statistics
import time
import zipfile
from pathlib import Path

import numpy as np
from common import DATA, environment, section, side, spread, wordsight

COUNT, ASKED = 1_000_000, 500
PHOTOS = 10_000


@section("all neighbours among a million made-up embeddings, beside comparing all")
def neighbours(work: Path) -> list[str]:
    made = side("make_embeddings.py", COUNT, work, work=work)[1]
    before = os.getloadavg()[0]
    brute = side("all_neighbours.py", "brute", work, made["width"], ASKED, work=work)[1]
    index = side("all_neighbours.py", "index", work, made["width"], work=work)[1]
    whole = brute["busy"] / ASKED * COUNT
    return [
        f"{COUNT:,} embeddings of {made['width']:,} numbers around 3,000 middles, read from disk; "
        f"{COUNT // 100:,} copies and {COUNT // 1000:,} outliers are planted. The six nearest of "
        "each, with a cosine of 0.74 or more between square roots, as `clean` asks for.",
        "",
        "| | index | comparing all |",
        "|---|---|---|",
        f"| seconds of one core | {index['busy']:,.0f} | {whole:,.0f} (calculated from {ASKED}) |",
        f"| peak memory, GiB | **{index['peak_gib']:.2f}** | – |",
        f"| planted copies found | **{index['copies']:.4f}** | 1 |",
        f"| of the nearest in all directions, found | {index['truth']:.3f} | 1 |",
        f"| outliers that have no neighbour | {index['outliers']:.3f} | – |",
        "",
        f"The index took "
        f"{index['seconds']:,.0f} s of the clock, {index['built']:,.0f} s of them to read and "
        f"store the rows; on a machine by itself, two cores would take about "
        f"{index['alone']:,.0f} s (the part that uses one core, and half of the rest). Load of "
        f"the machine before: {before:.1f}. It found {index['pairs']:,} pairs.",
    ]


@section("find --like: precision at 10, and how long a search takes")
def find(work: Path) -> list[str]:
    os.environ.update(environment(work))
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.datasets.files import ImageFile
    from wordsight.heads.neighbours import Neighbours
    from wordsight.retrieval.search import views

    embedder = Embedder(load_backbone())
    with open(DATA / "roll.csv", newline="") as file:
        roll = [(row["file_name"], set(row["words"].split("|"))) for row in csv.DictReader(file)]
    sets = {"roll": [(DATA / name, words - {""}) for name, words in roll]}
    for name in ("clothing", "catdog"):
        sets[name] = [(path, {path.parent.name}) for path in sorted((DATA / name).glob("*/*/*"))]
    rows = ["| photos | examples | precision at 10 | by chance |", "|---|---|---|---|"]
    for name in ("clothing", "catdog", "roll"):
        files = [ImageFile(path, path.name) for path, _ in sets[name]]
        seen = [one.embedding for one in embedder.embed_all(files)]
        told = [words for (_, words), one in zip(sets[name], seen, strict=True) if one is not None]
        looks = views(np.stack([one for one in seen if one is not None]), embedder.backbone)
        index, shares, chances = Neighbours([looks]), [], []
        for place, words in enumerate(told):
            near = [other for other in index.nearest(looks[place], 11)[0] if other != place][:10]
            for word in words:
                shares.append(statistics.mean(word in told[other] for other in near))
                chances.append((sum(word in one for one in told) - 1) / (len(told) - 1))
        chance = statistics.mean(chances)
        rows.append(
            f"| {name}, {len(told):,} | {len(shares)} | **{statistics.mean(shares):.3f}** | "
            f"{chance:.3f} |"
        )
    rng = np.random.default_rng(0)
    many = Neighbours([rng.random((1000, looks.shape[1]), np.float32) for _ in range(10)])
    milliseconds = []
    for _ in range(21):
        query = rng.random(looks.shape[1], np.float32)
        start = time.perf_counter()
        many.nearest(query, 50)
        milliseconds.append(1000 * (time.perf_counter() - start))
    photos, before = work / "photos", os.getloadavg()[0]
    with zipfile.ZipFile(DATA / "cifar10.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:PHOTOS]
        for number, name in enumerate(names):
            target = photos / str(number % 10) / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    example = next((DATA / "catdog" / "test" / "cat").glob("*.jpg"))
    command = ("find", "--like", example, "-p", photos, "-o", work / "found")
    first = wordsight(*command, work=work)[0]
    later = [wordsight(*command, work=work)[0] for _ in range(3)]
    shutil.rmtree(photos)
    return [
        *rows,
        "",
        "Each photo that shows something with a name is an example; of the ten found, those count "
        "that show it, too.",
        "",
        f"Among {PHOTOS:,} photos, the search itself takes **{spread(milliseconds)}** ms. The "
        f"whole command, with gallery and tables, takes {first:.0f} s when it sees the photos "
        f"(CIFAR-10's) for the first time, and {spread(later)} s later. Load of the machine "
        f"before: {before:.1f}.",
    ]
