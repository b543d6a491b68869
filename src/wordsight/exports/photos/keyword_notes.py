"""What keywords we wrote into which sidecar or photo, so that they can be replaced and taken back.

The notes are a record as in `core.records`, in wordsight's own folder of this user on this machine:
results come and go, and sidecars stay. A line says what the XMP of a file was and becomes, and is
on the disk before the file changes. Of a photo's own file, the bytes that are replaced are kept
beside the notes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...core.home import keywords_folder, write_atomic, writing
from ...core.records import HEAD, read_lines
from ...core.regular import read_regular
from ...core.result_folder import hold
from ...errors import InvalidArgument
from .sidecars import SUFFIX, half_of
from .xmp import LISTS, Name
from .xmp_edit import Edit

NOTES = "sidecars.jsonl"
KEPT = "kept"  # folder of bytes that were replaced in photos' own files
SIDECAR, EMBEDDED = "sidecar", "file_with_xmp"
SAMPLES = 16  # places at which it is looked up where a stretch of a file has gone
DIGEST = re.compile("[0-9a-f]{64}")
BLOCK, LONG = 64, 32  # bytes that are compared at once; blocks in a row that aren't kept
BEGUN: dict[str, Any] = {"begun": True}


@dataclass(frozen=True)
class Kept:
    """How a photo's file is put together again from what was made of it and from kept bytes.

    Attributes:
        before: digest of the file.
        after: digest of what was made of it, by which the kept bytes are called.
        pieces: (start, length) of each piece, in order; a start below 0 means the next of the kept
            bytes.
    """

    before: str
    after: str
    pieces: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return sum(length for start, length in self.pieces if start < 0)


@dataclass(frozen=True)
class State:
    """One way in which we left XMP.

    Attributes:
        before: digest of what it was without our keywords; None if we made it.
        after: digest of what we made of it.
        edits: by which our keywords came in.
        kept: how the photo's file that holds it is put back; None for a sidecar, and before the
            file was written.
    """

    before: str | None
    after: str
    edits: tuple[Edit, ...] = ()
    kept: Kept | None = None


@dataclass
class Noted:
    """What is known of a sidecar, or of a photo's own file.

    Attributes:
        path: where it is.
        results: folder of the results that its keywords are of.
        photo: name of its photo in these results.
        states: how we left its XMP, by digest; several after a kill.
        ours: keywords that we added, by list.
        embedded: whether it is a photo's own file.
    """

    path: Path
    results: str
    photo: str
    states: dict[str, State] = field(default_factory=dict)
    ours: dict[Name, list[str]] = field(default_factory=dict)
    embedded: bool = False

    @property
    def kept_bytes(self) -> int:
        """How many bytes are kept of a photo's own file."""
        return sum(one.kept.size for one in self.states.values() if one.kept is not None)

    def add(self, state: State, ours: Mapping[Name, Sequence[str]]) -> None:
        """Add a state and the keywords that were added in it."""
        self.states[state.after] = state
        for name, values in ours.items():
            known = self.ours.setdefault(name, [])
            known += [one for one in values if one not in known]


def told_of(data: bytes) -> str:
    """Return the digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def pieces_of(before: bytes, after: bytes) -> list[tuple[int, int]]:
    """Return the pieces (see `Kept`) that put one file together from another: long stretches of it
    that are there as a whole, wherever that is.
    """
    shifts = dict.fromkeys([0, len(after) - len(before)])
    for part in range(1, SAMPLES):
        at = len(before) * part // SAMPLES
        found = after.find(before[at : at + BLOCK])
        shifts |= {found - at: None} if found >= 0 else {}
    where = np.full(-(-len(before) // BLOCK), -1)
    for number, shift in enumerate(shifts):
        where[(where < 0) & _same_blocks(before, after, shift)] = number
    begins = np.flatnonzero(np.diff(where, prepend=-2))
    pieces: list[tuple[int, int]] = []
    for begin, end in zip(begins, [*begins[1:], len(where)], strict=True):
        start = int(begin) * BLOCK
        length = min(int(end) * BLOCK, len(before)) - start
        if where[begin] >= 0 and end - begin >= LONG:
            pieces.append((start + [*shifts][where[begin]], length))
        elif pieces and pieces[-1][0] < 0:
            pieces[-1] = (-1, pieces[-1][1] + length)
        else:
            pieces.append((-1, length))
    return pieces


def _same_blocks(before: bytes, after: bytes, shift: int) -> np.ndarray:
    """Return whether each block of a file is the same in another, so many bytes further on."""
    same: np.ndarray = np.zeros(-(-len(before) // BLOCK) * BLOCK, dtype=bool)
    same[len(before) :] = True  # behind the end
    low, high = max(0, -shift), max(0, min(len(before), len(after) - shift))
    if low < high:
        one = np.frombuffer(before, np.uint8)[low:high]
        same[low:high] = one == np.frombuffer(after, np.uint8)[low + shift : high + shift]
    return np.all(same.reshape(-1, BLOCK), axis=1)


class Notes:
    """What was noted on this machine.

    Raises:
        InvalidArgument: if the notes are no record of ours.
    """

    def __init__(self) -> None:
        self.folder = keywords_folder()
        self._path = self.folder / NOTES
        self._load()

    def _load(self) -> None:
        self.noted: dict[Path, Noted] = {}
        self._moved: list[Noted] = []
        self._killed = False
        lines = read_lines(self._path)
        if lines is None and os.path.lexists(self._path):
            raise InvalidArgument(
                f"'{self._path}' says which keywords were written, and is damaged. Move it away: "
                "keywords that are written from then on can be taken back."
            )
        for line in lines or ():
            self._take(line)

    def _take(self, line: dict) -> None:
        if line == BEGUN:
            self._killed = True
            return
        try:
            read = _read(line)
        except (KeyError, TypeError, ValueError, AttributeError):
            return  # of another version, or cut short by a kill
        one, state, ours = read
        noted = self.noted.setdefault(one.path, one)
        noted.results, noted.photo = one.results, one.photo
        noted.add(state, ours)

    def of_results(self, results: str) -> list[Noted]:
        """Return all that is known of what was written for results."""
        return [one for one in self.noted.values() if one.results == results]

    def of(self, path: Path, results: str, photo: str) -> Noted | None:
        """Return what is known of a sidecar, or of the one that was noted for the same photo of the
        same results and is not there any more: photos are moved with their sidecars.
        """
        if path not in self.noted:
            old = self._places.get((results, photo, path.name))
            if old in self.noted and not os.path.lexists(old):
                one = self.noted[path] = self.noted.pop(old)
                one.path = path
                self._moved.append(one)
        return self.noted.get(path)

    @cached_property
    def _places(self) -> dict[tuple[str, str, str], Path]:
        """Where the sidecar of a name is, by its results and photo."""
        return {(one.results, one.photo, path.name): path for path, one in self.noted.items()}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the notes for this process.

        Raises:
            InvalidArgument: if another run holds them.
            OutputError: if they can't be written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(hold(self.folder))
            except InvalidArgument:
                raise InvalidArgument(
                    "Another 'wordsight keywords' is running. Wait for it, and run this again."
                ) from None
            self._load()  # others may have written since
            self.__dict__.pop("_places", None)
            with writing(self.folder):
                if self._killed:
                    self._tidy()
                self._append([BEGUN])
            yield
            with writing(self.folder):
                self._rewrite()

    def keep(self, before: bytes, after: bytes) -> Kept:
        """Keep what of a photo's file is not in what is made of it; it is on the disk when this
        returns.

        Raises:
            OutputError: if it can't be written.
        """
        pieces, at, left = pieces_of(before, after), 0, []
        for start, length in pieces:
            left += [before[at : at + length]] if start < 0 else []
            at += length
        kept = Kept(told_of(before), told_of(after), tuple(pieces))
        with writing(self.folder):
            write_atomic(self.folder / KEPT / kept.after, b"".join(left))
        return kept

    def put_together(self, kept: Kept, data: bytes) -> bytes | None:
        """Return a photo's file as it was before `data` was made of it; None if it is another file,
        or the kept bytes are not there any more.
        """
        if told_of(data) != kept.after:
            return None
        try:
            left = read_regular(self.folder / KEPT / kept.after)
        except OSError:
            return None
        found, at = [], 0
        for start, length in kept.pieces:
            if start < 0:
                found.append(left[at : at + length])
                at += length
            else:
                found.append(data[start : start + length])
        whole = b"".join(found)
        return whole if told_of(whole) == kept.before else None

    def _tidy(self) -> None:
        """Remove the half files that killed runs left."""
        for path in self.noted:
            with suppress(OSError):
                half_of(path).unlink(missing_ok=True)

    def note(self, changes: Iterable[tuple[Noted, State]]) -> None:
        """Note what sidecars are about to become; it is on the disk when this returns.

        Args:
            changes: what each sidecar's keywords are of and which are added, and its new state.

        Raises:
            OutputError: if it can't be written.
        """
        before = [(one, state) for one in self._moved for state in one.states.values()]
        self._moved.clear()
        lines = [_line(one, state) for one, state in (*before, *changes)]
        if lines:
            with writing(self.folder):
                self._append(lines)
        for line in lines:
            self._take(line)

    def settle(self, one: Noted, state: State) -> None:
        """Know of a sidecar nothing but a state that it has reached."""
        self.noted[one.path] = one
        one.states = {state.after: state}

    def forget(self, path: Path) -> None:
        """Know nothing of a sidecar any more."""
        self.noted.pop(path, None)

    def _append(self, lines: list[dict]) -> None:
        with open(self._path, "ab") as file:
            begin = json.dumps(HEAD) if file.tell() == 0 else ""
            text = "".join(json.dumps(line) + "\n" for line in lines)
            file.write(f"{begin}\n{text}".encode())
            file.flush()
            os.fsync(file.fileno())

    def _rewrite(self) -> None:
        """Leave in the notes what is known; empty notes go."""
        lines = [_line(one, state) for one in self.noted.values() for state in one.states.values()]
        if lines:
            text = "".join(json.dumps(line) + "\n" for line in [HEAD, *lines])
            write_atomic(self._path, text.encode())
        else:
            self._path.unlink(missing_ok=True)
        used = {
            state.kept.after
            for one in self.noted.values()
            for state in one.states.values()
            if state.kept is not None
        }
        with suppress(FileNotFoundError):
            for path in (self.folder / KEPT).iterdir():
                if path.name not in used:
                    path.unlink()
        with suppress(OSError):  # it still holds something, or was never made
            (self.folder / KEPT).rmdir()


def _line(one: Noted, state: State) -> dict:
    """Return a line of the notes."""
    ours = {str(LISTS.index(name)): list(values) for name, values in one.ours.items()}
    edits = [[of.place, of.old.decode(), of.new.decode()] for of in state.edits]
    told: dict[str, Any] = {
        "before": state.before,
        "after": state.after,
        "edits": edits,
        "ours": ours,
    }
    if state.kept is not None:
        told["file"] = vars(state.kept)
    place = {EMBEDDED if one.embedded else SIDECAR: str(one.path)}
    return {**place, "results": one.results, "photo": one.photo, **told}


def _read(line: dict) -> tuple[Noted, State, dict[Name, list[str]]]:
    """Return what a line says.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if it is none of ours.
    """
    embedded = EMBEDDED in line
    path = Path(line[EMBEDDED if embedded else SIDECAR])
    if not path.is_absolute() or (path.suffix.lower() == SUFFIX) == embedded:
        raise ValueError("no sidecar, and no photo")
    before, after = line["before"], line["after"]
    if not isinstance(after, str) or not isinstance(before, str | None):
        raise ValueError("no digest")
    edits = tuple(Edit(int(at), old.encode(), new.encode()) for at, old, new in line["edits"])
    ours = {LISTS[int(at)]: [str(one) for one in of] for at, of in line["ours"].items()}
    noted = Noted(path, str(line["results"]), str(line["photo"]), embedded=embedded)
    return noted, State(before, after, edits, _kept(line.get("file"))), ours


def _kept(told: dict | None) -> Kept | None:
    """Return what a line says of a photo's file.

    Raises:
        KeyError, TypeError, ValueError: if it is none of ours.
    """
    if told is None:
        return None
    if not re.fullmatch(DIGEST, told["after"]):
        raise ValueError("no digest")
    pieces = tuple((int(start), int(length)) for start, length in told["pieces"])
    return Kept(str(told["before"]), told["after"], pieces)
