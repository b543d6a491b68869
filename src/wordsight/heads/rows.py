"""Rows of numbers for as many images as there are: in memory while they are few, in a nameless file
in the cache folder when they are many.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from ..core.home import cache_folder, writing

FEW = 20_000  # rows that stay in memory
STEP = 4096  # rows that are worked on at once


def gather(chunks: Iterable[np.ndarray], many: type = np.float32) -> np.ndarray:
    """Return rows (n, C) one below the other; more than 20,000 are mapped from a file, which is
    gone with them.

    Args:
        chunks: (n, C) float32 each.
        many: type in which many rows are kept, such as np.float16.

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
    folder, width = cache_folder(), held[0].shape[1]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            while held:
                file.write(np.concatenate(held).astype(many).tobytes())
                held = [chunk for chunk in [next(left, None)] if chunk is not None]
                count += sum(map(len, held))
            file.flush()
            return np.memmap(file, many, "r", shape=(count, width))


def read(rows: np.ndarray, which: slice | np.ndarray = slice(None)) -> np.ndarray:
    """Return some of the rows, float32, and give back the memory that reading them from their file
    took.
    """
    some = np.asarray(rows[which]).astype(np.float32, copy=False)
    if not isinstance(rows, np.memmap):
        return some
    some = np.array(some)
    if hasattr(mmap, "MADV_DONTNEED"):  # the system may keep the pages, and reads them if need be
        rows._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
    return some


def steps(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows, some at once."""
    for top in range(0, len(rows), STEP):
        yield read(rows, slice(top, top + STEP))
