"""Find the neighbours of all rows that make_embeddings.py wrote, or of some by comparing them with
all.

    all_neighbours.py index FOLDER WIDTH        prints seconds, peak memory, and what was found
    all_neighbours.py brute FOLDER WIDTH SOME   prints what SOME rows took, writes truth.npy
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from wordsight.heads.linear import power_normalize
from wordsight.images.copies import NEIGHBOURS, PERHAPS_COSINE

STEP = 1024
way, folder, width = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])


def chunks():
    with open(folder / "rows.f32", "rb") as file:
        while len(read := np.fromfile(file, np.float32, STEP * width)):
            yield power_normalize(read.reshape(-1, width))


def keys(pairs: np.ndarray) -> np.ndarray:
    return pairs.min(axis=1).astype(np.int64) << 32 | pairs.max(axis=1)


if way == "brute":
    asked = np.random.default_rng(1).permutation((folder / "rows.f32").stat().st_size // 4 // width)
    asked = np.sort(asked[: int(sys.argv[4])])
    chosen = np.memmap(folder / "rows.f32", np.float32, "r").reshape(-1, width)[asked]
    chosen = power_normalize(np.array(chosen))
    busy, begin = 0.0, 0
    best = np.full((len(asked), NEIGHBOURS), -1.0, np.float32)
    where = np.zeros(best.shape, int)
    for rows in chunks():
        began = time.process_time()  # to read the rows takes as long for one as for all
        cosines = chosen @ rows.T
        inside = (asked >= begin) & (asked < begin + len(rows))
        cosines[inside, asked[inside] - begin] = -1  # itself
        both = np.hstack([best, cosines])
        places = np.hstack([where, np.tile(np.arange(begin, begin + len(rows)), (len(asked), 1))])
        order = np.argpartition(-both, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        best, where = (np.take_along_axis(of, order, axis=1) for of in (both, places))
        busy += time.process_time() - began
        begin += len(rows)
    left = np.repeat(asked, NEIGHBOURS)[(best >= PERHAPS_COSINE).ravel()]
    np.save(folder / "truth.npy", np.stack([left, where[best >= PERHAPS_COSINE]], axis=1))
    print(json.dumps({"busy": busy, "near": len(left) / len(asked)}))
else:
    from wordsight.heads.neighbours import Neighbours

    start = time.perf_counter()
    began = time.process_time()
    index = Neighbours(chunks())
    built, serial = time.perf_counter() - start, time.process_time() - began
    pairs, _ = index.pairs(NEIGHBOURS, PERHAPS_COSINE)
    seconds, busy = time.perf_counter() - start, time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    alone = serial + (busy - serial) / 2
    found, told = keys(pairs), {"seconds": seconds, "built": built, "busy": busy, "alone": alone}
    told["peak_gib"] = peak
    for name in ("copies", "truth"):
        told[name] = float(np.isin(keys(np.load(folder / f"{name}.npy")), found).mean())
    told["outliers"] = float((~np.isin(np.load(folder / "outliers.npy"), pairs)).mean())
    print(json.dumps(told | {"pairs": len(pairs)}))
