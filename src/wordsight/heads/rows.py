"""Rows of numbers for as many images as there are: in memory while they are few, in a nameless file
in the cache folder when they are many.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..core.home import cache_folder, writing
from ..core.threads import cores, parallel_map

FEW = 20_000  # rows that stay in memory
STEP = 1024  # rows that are worked on at once
BAND = 100_000  # rows of a file that are in memory to be multiplied with those of another band
FULL = 32_767  # stands for 1 in rows of unit length


def gather(chunks: Iterable[np.ndarray], unit: bool = False) -> np.ndarray:
    """Return rows (n, C) one below the other, for `read`; more than 20,000 are mapped from a file,
    which is gone with them.

    Args:
        chunks: (n, C) float32 each.
        unit: whether all numbers lie within -1 and 1; of many rows they are kept to 1 / 32,767, as
            int16.

    Raises:
        OutputError: if there is no space for the file.
    """
    held: list[np.ndarray] = []
    count, left = 0, iter(chunks)
    for chunk in left:
        held.append(chunk)
        count += len(chunk)
        if count > FEW:
            break
    else:
        return np.concatenate(held) if held else np.zeros((0, 0), dtype=np.float32)
    folder, width, kept = cache_folder(), held[0].shape[1], np.int16 if unit else np.float32
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            while held:
                rows = np.concatenate(held)
                file.write(np.rint(rows * FULL).astype(kept).data if unit else rows.data)
                held = [chunk for chunk in [next(left, None)] if chunk is not None]
                count += sum(map(len, held))
            file.flush()
            return np.memmap(file, kept, "r", shape=(count, width))


def read(rows: np.ndarray, which: slice | np.ndarray = slice(None)) -> np.ndarray:
    """Return some of the rows, float32."""
    some = _copied(rows, which)
    if some.dtype == np.int16:
        return np.multiply(some, np.float32(1 / FULL), dtype=np.float32)
    return some


def parts(which: np.ndarray) -> list[np.ndarray]:
    """Return indices of rows in parts, each of which is worked on at once."""
    return np.array_split(which, len(which) // STEP + 1)


def read_in_parts(rows: np.ndarray, which: np.ndarray) -> Iterator[np.ndarray]:
    """Yield some of the rows, float32, a part at a time."""
    for part in parts(which):
        yield read(rows, part)


def products(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the inner product (n,) of each of the pairs (n, 2) of rows. Of a file, two bands of
    rows are in memory at once.
    """
    found = np.empty(len(pairs), dtype=np.float32)
    scale = np.float32(1 / FULL**2 if rows.dtype == np.int16 else 1)
    band = BAND if isinstance(rows, np.memmap) else max(1, len(rows))
    bands = -(-len(rows) // band)
    number = pairs[:, 0] // band * bands + pairs[:, 1] // band  # of the two bands
    order = np.argsort(number, kind="stable")
    ends = np.searchsorted(number[order], np.arange(bands**2), side="right")
    first, left = -1, rows
    for both, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if begin == end:
            continue
        a, b = divmod(both, bands)
        if a != first:
            first, left = a, _copied(rows, slice(a * band, (a + 1) * band))
        right = left if a == b else _copied(rows, slice(b * band, (b + 1) * band))

        def multiply(top: int, end: int = end, left: Any = left, right: Any = right) -> None:
            which = order[top : min(top + STEP, end)]
            mine, theirs = (pairs[which] % band).T
            one = left[mine].astype(np.float32, copy=False)
            other = right[theirs].astype(np.float32, copy=False)
            found[which] = np.einsum("ij,ij->i", one, other) * scale

        for _ in parallel_map(multiply, range(begin, end, STEP), cores()):
            pass
    return found


def _copied(rows: np.ndarray, which: slice | np.ndarray) -> np.ndarray:
    """Return some of the rows as they are kept, and give back the memory that reading them from
    their file took.
    """
    if not isinstance(rows, np.memmap):
        return rows[which]
    some = np.array(rows[which])
    if hasattr(mmap, "MADV_DONTNEED"):  # the system may keep the pages, and reads them if need be
        rows._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
    return some
