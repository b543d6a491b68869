"""Whether files that were made once are still what was written. Their hashes lie beside them, in
the format of `sha256sum`, written last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..core.home import write_atomic
from ..core.regular import open_regular, read_text

CHUNK = 1 << 20
_whole: set[tuple] = set()  # files by path, size and time whose hash was right in this process


def seal(folder: Path, manifest: str, names: Iterable[str]) -> None:
    """Note the hashes of files in a folder in its file `manifest`."""
    lines = "".join(f"{sha256(folder / name)}  {name}\n" for name in sorted(names))
    write_atomic(folder / manifest, lines.encode(), sync=False)


def is_whole(folder: Path, manifest: str, names: Iterable[str]) -> bool | None:
    """Whether these files are as they were when `manifest` was written; None without a manifest.

    A cut, changed or missing file makes it False, and so does a damaged manifest.
    """
    try:
        lines = read_text(folder / manifest).splitlines()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return False
    noted = {line[66:]: line[:64] for line in lines}
    try:
        return all(name in noted and _matches(folder / name, noted[name]) for name in names)
    except OSError:
        return False


def _matches(path: Path, digest: str) -> bool:
    about = path.stat()
    key = (path, digest, about.st_size, about.st_mtime_ns)
    if key not in _whole:
        if sha256(path) != digest:
            return False
        _whole.add(key)
    return True


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
