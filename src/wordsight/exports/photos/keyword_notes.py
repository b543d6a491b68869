"""What keywords we wrote into which sidecar, so that they can be replaced and taken back.

The notes are a record as in `core.records`, in wordsight's own folder of this user on this machine:
results come and go, and sidecars stay. A line says what a sidecar was and becomes, and is on the
disk before the sidecar changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.home import keywords_folder, write_atomic, writing
from ...core.records import HEAD, read_lines
from ...core.result_folder import hold
from ...errors import InvalidArgument
from .sidecars import SUFFIX, half_of
from .xmp import LISTS, Name
from .xmp_edit import Edit

NOTES = "sidecars.jsonl"
BEGUN: dict[str, Any] = {"begun": True}


@dataclass(frozen=True)
class State:
    """One way in which we left a sidecar.

    Attributes:
        before: digest of what it was without our keywords; None if we made it.
        after: digest of what we made of it.
        edits: by which our keywords came in.
    """

    before: str | None
    after: str
    edits: tuple[Edit, ...] = ()


@dataclass
class Noted:
    """What is known of a sidecar.

    Attributes:
        path: where it is.
        results: folder of the results that its keywords are of.
        photo: name of its photo in these results.
        states: how we left it, by digest; several after a kill.
        ours: keywords that we added, by list.
    """

    path: Path
    results: str
    photo: str
    states: dict[str, State] = field(default_factory=dict)
    ours: dict[Name, list[str]] = field(default_factory=dict)

    def add(self, state: State, ours: Mapping[Name, Sequence[str]]) -> None:
        """Add a state and the keywords that were added in it."""
        self.states[state.after] = state
        for name, values in ours.items():
            known = self.ours.setdefault(name, [])
            known += [one for one in values if one not in known]


def told_of(data: bytes) -> str:
    """Return the digest of a sidecar."""
    return hashlib.sha256(data).hexdigest()


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


def _line(one: Noted, state: State) -> dict:
    """Return a line of the notes."""
    ours = {str(LISTS.index(name)): list(values) for name, values in one.ours.items()}
    edits = [[of.place, of.old.decode(), of.new.decode()] for of in state.edits]
    told = {"before": state.before, "after": state.after, "edits": edits, "ours": ours}
    return {"sidecar": str(one.path), "results": one.results, "photo": one.photo, **told}


def _read(line: dict) -> tuple[Noted, State, dict[Name, list[str]]]:
    """Return what a line says.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if it is none of ours.
    """
    path = Path(line["sidecar"])
    if not path.is_absolute() or path.suffix.lower() != SUFFIX:
        raise ValueError("no sidecar")
    before, after = line["before"], line["after"]
    if not isinstance(after, str) or not isinstance(before, str | None):
        raise ValueError("no digest")
    edits = tuple(Edit(int(at), old.encode(), new.encode()) for at, old, new in line["edits"])
    ours = {LISTS[int(at)]: [str(one) for one in of] for at, of in line["ours"].items()}
    noted = Noted(path, str(line["results"]), str(line["photo"]))
    return noted, State(before, after, edits), ours
