"""Write made-up embeddings with planted copies and outliers.

    make_embeddings.py COUNT FOLDER     rows.f32 (count, 1280), copies.npy (pairs, 2), outliers.npy

Rows lie around 3,000 middles in 64 directions, with noise in all 1,280, and none is negative, as in
a network that ends in ReLU. A copy differs from its original by a little of that noise. An outlier
is near no middle.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

WIDTH, DIRECTIONS, MIDDLES, STEP = 1280, 64, 3000, 20_000
SHARE = 100  # one row in so many is a copy, and one in ten times so many an outlier

count, folder = int(sys.argv[1]), Path(sys.argv[2])
rng = np.random.default_rng(0)
mixed = rng.standard_normal((DIRECTIONS, WIDTH), dtype=np.float32) / 8
middles = rng.standard_normal((MIDDLES, DIRECTIONS), dtype=np.float32)
places = rng.permutation(count)
copied = places[: count // SHARE]
copies = np.stack([copied, places[count // SHARE : 2 * (count // SHARE)]], axis=1)
outliers = np.sort(places[-(count // SHARE // 10) :])
inner = middles[rng.integers(MIDDLES, size=count)]
inner += 0.7 * rng.standard_normal((count, DIRECTIONS), dtype=np.float32)
inner[outliers] = 1.6 * rng.standard_normal((len(outliers), DIRECTIONS), dtype=np.float32)
inner[copies[:, 1]] = inner[copies[:, 0]]
inner[copies[:, 1]] += 0.15 * rng.standard_normal((len(copies), DIRECTIONS), dtype=np.float32)
with open(folder / "rows.f32", "wb") as file:
    for top in range(0, count, STEP):
        rows = inner[top : top + STEP] @ mixed
        rows += 0.3 * rng.standard_normal(rows.shape, dtype=np.float32)
        np.maximum(rows, 0, out=rows).tofile(file)
np.save(folder / "copies.npy", np.sort(copies, axis=1))
np.save(folder / "outliers.npy", outliers)
print(json.dumps({"count": count, "width": WIDTH}))
