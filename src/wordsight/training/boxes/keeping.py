"""What a training of boxes keeps in the training's folder, so that the same command goes on from
it: samples, in parts of some seconds' work each, and heads that are learning.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ... import __version__
from ...backbones.embedder import Embedder
from ...core.home import first_process, writing
from ...core.progress import Progress
from ...core.result_folder import Build
from ...core.threads import parallel_map
from ...datasets.annotations import Annotated
from ...errors import OutputError
from ..work_folder import clear_boxes, work_folder

log = logging.getLogger("wordsight")
EVERY_S = 10.0  # of work that an interruption costs at most; what takes less is not kept
SPARE = 200 << 20  # bytes that are left free on the disk, for the model
NOTE = "note"
Arrays = dict[str, np.ndarray]
Unreadable = tuple[str, str]  # name and reason


class Keeper:
    """Keeps arrays with a note in a training's folder. Where the disk takes no more, it says so
    once, removes what it has kept, and the training goes on.

    Args:
        folder: the training's folder.
        key: names this training; only the same one goes on from what is kept.
        build: puts files there; None keeps nothing.
    """

    def __init__(self, folder: Path = Path(), key: str = "", build: Build | None = None) -> None:
        self.folder, self._key, self._build = folder, key, build
        self._since = time.monotonic()

    @property
    def keeps(self) -> bool:
        """Whether an interrupted training can go on."""
        return self._build is not None

    def is_due(self) -> bool:
        """Whether as much work as an interruption may cost has been done since it last kept
        something.
        """
        return self.keeps and time.monotonic() - self._since >= EVERY_S

    def has_room(self, needed: int) -> bool:
        """Whether so many bytes can be kept, and enough is free for the model afterwards."""
        with contextlib.suppress(OSError):
            return self.keeps and shutil.disk_usage(self.folder).free >= needed + SPARE
        return False

    def path(self, name: str) -> Path:
        """Return where something is kept."""
        return self.folder / f"boxes-{self._key}-{name}.safetensors"

    def save(self, name: str, arrays: Arrays, note: Any, needed: bool = False) -> None:
        """Keep arrays and a note, which JSON can hold, under a name.

        Args:
            name: letters, digits and "-".
            arrays: by name.
            note: a dict or list.
            needed: whether the training can't go on without.

        Raises:
            OutputError: if the arrays are needed and the disk takes no more.
        """
        if self._build is None:
            return
        held = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        try:
            with writing(self.folder):
                data = save(held, metadata={NOTE: json.dumps(note)})
                self._build.place(self.path(name).name, data, sync=True)
        except OutputError as error:
            if needed:
                raise
            self._stop(error)
        self._since = time.monotonic()

    def load(self, name: str) -> tuple[Arrays, Any] | None:
        """Return what is kept under a name, or None."""
        path = self.path(name)
        if self._build is None or not self._build.is_ours(path.name):
            return None
        try:
            with safe_open(path, framework="np") as file:
                note = json.loads((file.metadata() or {})[NOTE])
                return {key: file.get_tensor(key) for key in file.keys()}, note  # noqa: SIM118  # not a dict
        except (OSError, ValueError, KeyError, SafetensorError):
            return None

    def _stop(self, error: OutputError) -> None:
        assert self._build is not None
        build, self._build = self._build, None
        with contextlib.suppress(OSError):  # the model needs the room
            build.remove(path.name for path in self.folder.glob(f"boxes-{self._key}-*.safetensors"))
        log.warning(
            "%s Learning goes on, but can't be continued if it is interrupted.",
            str(error).partition(". ")[0] + ".",
        )


@dataclass(frozen=True)
class Circumstances:
    """What else decides how boxes are learned.

    Attributes:
        seed: same seed, same head.
        judges: names of the images to judge a first head on; None: a fifth of them.
        keeper: keeps what an interrupted training goes on from.
        progress: called with (done, total, what).
    """

    seed: int = 0
    judges: frozenset[str] | None = None
    keeper: Keeper = field(default_factory=Keeper)
    progress: Progress | None = None

    def split(self, images: Sequence[Annotated], held_out: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of images that judge a head, `held_out` or all of `judges`, and those of
        the others, which it learns from; both in order, neither empty.
        """
        chosen = [i for i, one in enumerate(images) if one.file.name in (self.judges or ())]
        order = np.random.default_rng(self.seed).permutation(len(images))
        held = np.array(chosen) if 0 < len(chosen) < len(images) else order[:held_out]
        return np.sort(held), np.setdiff1d(order, held)


@contextlib.contextmanager
def keeping(folder: Path, key: str, others: Sequence[str] = ()) -> Iterator[Keeper]:
    """Hold a training's folder while boxes are learned, and keep in it what an interrupted one
    goes on from; what further trainings of boxes left there is removed.

    Args:
        folder: the training's folder.
        key: of this training; see `identity`.
        others: keys of trainings that belong to it.

    Raises:
        InvalidArgument: if the folder is somebody else's, or another run uses it.
    """
    if not first_process():
        yield Keeper()
        return
    with contextlib.ExitStack() as held:
        try:
            clear_boxes(folder, but=tuple(f"boxes-{one}-" for one in (key, *others)))
            keeper = Keeper(folder, key, held.enter_context(work_folder(folder)))
        except OutputError as error:
            keeper = Keeper()
            log.warning("%s What is learned can't be continued if it is interrupted.", error)
        yield keeper


def identity(images: Sequence[Annotated], embedder: Embedder, *more: object) -> str:
    """Return a hash of all that decides a training of boxes. That an image is the same is told by
    its size and time on the disk.
    """
    listed = []
    for image in images:
        status = None
        with contextlib.suppress(OSError):
            status = image.file.path.stat()
        told = (0, 0) if status is None else (status.st_size, status.st_mtime_ns)
        boxes = [(box.label, box.xyxy) for box in image.boxes]
        listed.append([str(image.file.path), *told, image.size, boxes])
    backbone = [embedder.key, repr(embedder.backbone.preprocessing)]
    note = json.dumps([__version__, backbone, listed, *more])
    return hashlib.sha256(note.encode("utf-8", "surrogateescape")).hexdigest()[:8]


class Packed(Protocol):
    """What can be kept in a part."""

    def arrays(self) -> Arrays:
        """Return all that is made of an image, by name."""


Sample = TypeVar("Sample", bound=Packed)


@dataclass
class Parts(Generic[Sample]):
    """Samples that are made once and kept in parts.

    Attributes:
        keeper: keeps the parts.
        count: how many samples there are.
        needed: bytes that all parts take, about.
        unpack: returns the sample of an image, by its number, that `arrays` came from.
        moved: called for a sample that is kept, with where its arrays are now: file, and what
            their names there begin with; None if samples stay in memory.
        read: how many samples were kept before.
    """

    keeper: Keeper
    count: int
    needed: int
    unpack: Callable[[int, Arrays], Sample]
    moved: Callable[[Sample, Path, str], None] | None = None
    read: int = 0

    def made(
        self, make: Callable[[int], Sample | Unreadable], threads: int
    ) -> Iterator[Sample | Unreadable]:
        """Yield for each number what `make` returns for it: from the parts as far as there are any,
        then made in threads.

        Raises:
            OutputError: if samples don't stay in memory and the disk is full.
        """
        while (part := self.keeper.load(_part(self.read))) is not None:
            some = list(self._unpacked(self.read, *part))
            self.read += len(some)
            yield from some
        waiting: list[Sample | Unreadable] = []
        left = range(self.read, self.count)
        for number, one in zip(left, parallel_map(make, left, threads), strict=True):
            waiting.append(one)
            last = self.moved is not None and number + 1 == self.count
            if self.keeper.is_due() or last:
                if self.has_room:
                    self._keep(number + 1 - len(waiting), waiting)
                waiting = []
            yield one

    @functools.cached_property
    def has_room(self) -> bool:
        """Whether all parts can be kept; says what happens."""
        if not self.keeper.keeps:
            return False
        room, folder = self.keeper.has_room(self.needed), self.keeper.folder
        told = (
            "So that the same command can go on from there if it is interrupted, '%s' keeps "
            "what the network made of the pictures (%s) until the model is saved."
            if room
            else "'%s' has no room for what the network makes of the pictures (%s): if learning "
            "is interrupted, the same command makes that anew."
        )
        log.info(told, folder, _size(self.needed))
        return room

    def _unpacked(self, start: int, arrays: Arrays, note: dict) -> Iterator[Sample | Unreadable]:
        of_each: dict[int, Arrays] = {number: {} for number in range(start, note["end"])}
        for key, value in arrays.items():
            whose, _, name = key.partition("/")
            of_each[int(whose)][name] = value
        for number, own in of_each.items():
            if str(number) in note["unreadable"]:
                file, reason = note["unreadable"][str(number)]
                yield file, reason
                continue
            sample = self.unpack(number, own)
            if self.moved is not None:
                self.moved(sample, self.keeper.path(_part(start)), f"{number}/")
            yield sample

    def _keep(self, start: int, samples: list[Sample | Unreadable]) -> None:
        numbered = list(enumerate(samples, start=start))
        unreadable = {str(number): one for number, one in numbered if isinstance(one, tuple)}
        made = [(number, one) for number, one in numbered if not isinstance(one, tuple)]
        arrays = {
            f"{number}/{name}": value
            for number, one in made
            for name, value in one.arrays().items()
        }
        note = {"end": start + len(samples), "unreadable": unreadable}
        self.keeper.save(_part(start), arrays, note, needed=self.moved is not None)
        if self.moved is not None:
            for number, one in made:
                self.moved(one, self.keeper.path(_part(start)), f"{number}/")


@dataclass(frozen=True)
class OnDisk:
    """An array in a part; numpy reads it as one."""

    path: Path
    name: str

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        with safe_open(self.path, framework="np") as file:
            array = file.get_tensor(self.name)
        return array if dtype is None else array.astype(dtype)


def _part(start: int) -> str:
    return f"views-{start:06d}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
