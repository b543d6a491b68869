"""Set files of a data set aside, and put them back. Files are moved, and none is deleted.

A manifest names what will be moved before anything is, so from wherever a run was killed the same
command goes on, and `undo` finds everything.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core import cells
from ..core.home import writing
from ..core.names import is_relative
from ..core.records import LOCK
from ..core.regular import read_regular, read_text
from ..core.result_folder import Build, ResultFolder
from ..datasets.files import data_root
from ..errors import InvalidArgument, NotFound

MANIFEST = ".wordsight-clean.json"
BEFORE = ".metadata-before.csv"


def set_aside(root: Path, files: Iterable[str]) -> tuple[list[str], Path]:
    """Move files of a data set to the folder beside it; return their names, and that folder.

    Args:
        root: folder of the data set.
        files: names, relative to it.

    Raises:
        InvalidArgument: if the folder holds other files, or a file of the same name.
        OutputError: if a file can't be moved.
    """
    names = sorted({name for name in files if (root / name).is_file()})
    target = _rejected(root)
    rejected = target.path
    with writing(rejected):
        _check_rejected(target)
    with writing(rejected), target.build() as build:
        taken = [name for name in names if os.path.lexists(rejected / name)]
        if taken:
            raise InvalidArgument(
                f"'{rejected / taken[0]}' is there already, so nothing was moved. Put back "
                "what was set aside (--undo) first."
            )
        _note_moves(root, build, names, rejected)
        for name in names:
            (rejected / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(root / name, rejected / name)
        _note(build, replace(_read_manifest(rejected) or _Manifest(), pending=[]))
    return names, rejected


def undo_unfinished(root: Path) -> None:
    """Put back what a run that was killed had begun to set aside, so that it can begin anew.

    Raises:
        InvalidArgument: if another file has taken a place meanwhile.
        OutputError: if a file can't be moved.
    """
    target = _rejected(root)
    manifest = _read_manifest(target.path)
    if manifest is not None and manifest.pending:
        with writing(root), target.build() as build:
            _put_back(root, target.path, manifest.pending)
            _restore_metadata(root, build, target.path, manifest, manifest.pending)
            _remove_empty(target.path, manifest.pending)
            left = [name for name in manifest.moved if name not in manifest.pending]
            if left:
                _note(build, replace(manifest, moved=left, pending=[]))
            else:
                build.commit((MANIFEST, BEFORE))
        _remove_if_empty(target.path)


def undo(data: str | os.PathLike) -> list[str]:
    """Put everything that `clean(apply=True)` set aside back exactly where it was; return the
    names.

    Raises:
        NotFound: if nothing was set aside.
        InvalidArgument: if another file has taken a place meanwhile. Then nothing is moved.
        OutputError: if a file can't be moved.
    """
    root = data_root(data)
    target = _rejected(root)
    rejected = target.path
    manifest = _read_manifest(rejected)
    if manifest is None:
        if target.record is not None or _is_left(rejected):  # a killed run had put everything back
            with target.build():
                pass
            _remove_if_empty(rejected)
        raise NotFound(
            f"Nothing was set aside from '{root}': there is no '{rejected}' of wordsight's."
        )
    with writing(root), target.build() as build:
        names = _put_back(root, rejected, manifest.moved)
        _restore_metadata(root, build, rejected, manifest, manifest.moved)
        _remove_empty(rejected, manifest.moved)
        build.commit((MANIFEST, BEFORE))  # the manifest goes last
    _remove_if_empty(rejected)
    return names


def _is_left(rejected: Path) -> bool:
    """Whether a folder holds nothing but the lock of a run that was killed."""
    try:
        return {path.name for path in rejected.iterdir()} == {LOCK}
    except OSError:
        return False


def _put_back(root: Path, rejected: Path, moved: Iterable[str]) -> list[str]:
    """Move those of the files back that are set aside; return their names.

    Raises:
        InvalidArgument: if another file has taken a place. Then nothing is moved.
    """
    names = [name for name in moved if (rejected / name).is_file()]
    taken = [name for name in names if os.path.lexists(root / name)]
    if taken:
        raise InvalidArgument(
            f"'{root / taken[0]}' is there again, so nothing was put back. Move it away first."
        )
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        os.rename(rejected / name, root / name)
    return names


def _rejected(root: Path) -> ResultFolder:
    """Return the folder of what is set aside from a data set."""
    rejected = root.with_name(f"{root.name}-rejected")
    return ResultFolder(
        rejected,
        "clean",
        adopt=lambda path: path.name in (MANIFEST, BEFORE) and _read_manifest(rejected) is not None,
        is_file="'{folder}' is a file. Move it away first.",
        not_ours="'{folder}' holds files that were not set aside by wordsight. Move it away first.",
    )


def _check_rejected(target: ResultFolder) -> None:
    """Refuse a folder for what is set aside that holds other files.

    Raises:
        InvalidArgument: if it does.
    """
    target.claim((MANIFEST, BEFORE))
    if target.record is None and _read_manifest(target.path) is None:
        target.claim()


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds other files
        folder.rmdir()


def _remove_empty(rejected: Path, names: Iterable[str]) -> None:
    """Remove the folders that were made for files that are back."""
    made = {
        path
        for name in names
        for path in (rejected / name).parents
        if path.is_relative_to(rejected) and path != rejected and path.is_dir()
    }
    for folder in sorted(made, reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


@dataclass
class _Manifest:
    """What was set aside.

    Attributes:
        moved: names of files.
        tables: digests of metadata.csv as it was and as we left it; one that differs from all of
            them was changed by somebody else.
        pending: those of `moved` that a run has not finished moving.
    """

    moved: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)

    def encode(self) -> bytes:
        fields = {"moved": self.moved, "metadata_sha": self.tables, "pending": self.pending}
        text = json.dumps(fields, indent=1, ensure_ascii=False)
        return text.encode("utf-8", "surrogateescape")


def _read_manifest(rejected: Path) -> _Manifest | None:
    try:
        manifest = json.loads(read_text(rejected / MANIFEST, errors="surrogateescape"))
        moved, pending = (
            [name for name in manifest.get(key, ()) if is_relative(name)]
            for key in ("moved", "pending")
        )
        tables = manifest["metadata_sha"] or []
        return _Manifest(
            moved, [tables] if isinstance(tables, str) else [*map(str, tables)], pending
        )
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return None


def _note_moves(root: Path, build: Build, names: list[str], rejected: Path) -> None:
    """Write what will be moved into the manifest, and then remove the rows of these files from
    metadata.csv. The table as it was is kept beside the files.
    """
    manifest = _read_manifest(rejected) or _Manifest()
    manifest.moved, manifest.pending = sorted({*manifest.moved, *names}), names
    table = root / "metadata.csv"
    before = read_regular(table) if table.is_file() else b""
    after = _without(before, set(names))
    if after != before:
        known = (rejected / BEFORE).exists()
        if not known:
            manifest.tables = [_sha(before), _sha(after)]
        elif _sha(before) in manifest.tables:
            manifest.tables.append(_sha(after))
        else:
            manifest.tables = []  # somebody changed it since, so it can't go back to what it was
        if not known:
            build.write(BEFORE, before)
    _note(build, manifest)
    if after != before:
        build.rewrite(table, after)


def _note(build: Build, manifest: _Manifest) -> None:
    """Put a manifest in place, and the table as it was, if that is built."""
    build.write(MANIFEST, manifest.encode())
    build.commit(last=(BEFORE,), keep=True)


def _without(table: bytes, names: set[str]) -> bytes:
    """Return a table without the rows of these files; the others stay to the byte."""
    rows = list(_rows(table))
    at = rows[0][0].index("file_name") if rows and "file_name" in rows[0][0] else None
    if at is None:
        return table
    return b"".join(
        raw for row, raw in rows if len(row) <= at or cells.unguard(row[at]) not in names
    )


def _restore_metadata(
    root: Path, build: Build, rejected: Path, manifest: _Manifest, names: Iterable[str]
) -> None:
    """Put metadata.csv back as it was before these files were set aside; or, if somebody changed it
    since, add the rows of those that are back at its end.
    """
    table, before = root / "metadata.csv", rejected / BEFORE
    if not before.is_file() or not table.is_file():
        return
    now, then = read_regular(table), read_regular(before)
    if now == then:
        return
    if _sha(now) in manifest.tables:
        then = _without(then, {*manifest.moved}.difference(names))
    else:
        then = _with_rows(now, then, {name for name in names if (root / name).exists()})
    if now != then:
        build.rewrite(table, then)


def _with_rows(now: bytes, then: bytes, names: set[str]) -> bytes:
    """Return a table with the rows of these files from an earlier one at its end; what is there
    stays to the byte.
    """
    rows, old = [row for row, _ in _rows(now)], [row for row, _ in _rows(then)]
    columns, known = rows[0] if rows else [], old[0]
    if "file_name" not in columns:
        return now
    at = columns.index("file_name")
    gone = names - {cells.unguard(row[at]) for row in rows if len(row) > at}
    told = (dict(zip(known, row, strict=False)) for row in old[1:])
    back = [row for row in told if cells.unguard(row.get("file_name", "")) in gone]
    if not back:
        return now
    text = io.StringIO(newline="")
    csv.writer(text).writerows([row.get(name, "") for name in columns] for row in back)
    gap = "" if now.endswith(b"\n") else "\r\n"
    return now + f"{gap}{text.getvalue()}".encode("utf-8", "surrogateescape")


def _rows(table: bytes) -> Iterator[tuple[list[str], bytes]]:
    """Yield the cells of each row of a table, and its bytes."""
    text = table.decode("utf-8", "surrogateescape")
    mark = cells.MARK * text.startswith(cells.MARK)
    lines = io.StringIO(text[len(mark) :], newline="").readlines()
    reader, begin = csv.reader(lines), 0
    for row in reader:
        raw = mark + "".join(lines[begin : reader.line_num])
        yield row, raw.encode("utf-8", "surrogateescape")
        mark, begin = "", reader.line_num


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
