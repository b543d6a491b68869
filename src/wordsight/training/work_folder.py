"""The folder beside a model where its training keeps checkpoints, history and logs. Only what we
wrote there is ever replaced or removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..classification.model_tables import HISTORY_COLUMNS
from ..core.home import writing
from ..core.result_folder import Build, ResultFolder

HISTORY = "history.csv"
# to go on from, by the training's identity
_BOXES = re.compile(r"boxes-[0-9a-f]{8}-[a-z0-9-]+\.safetensors")
_RUNNING = re.compile(rf"(last|best)-[0-9a-f]{{8}}\.ckpt|{_BOXES.pattern}")
_EPOCH = re.compile(r"epoch-\d{3,}\.ckpt")
_EARLIER_PART = re.compile(r"\.(last|best)-[0-9a-f]{8}\.ckpt\.part|\.epoch-\d{3,}\.ckpt\.part")
_CHECKPOINT = b'{"__metadata__":{"checkpoint":'  # how the header begins, after its length
_LOG = b"brain.Event:"


def training_folder(target: Path) -> Path:
    """Return where the training of a model keeps its files: beside the model's folder."""
    return target.with_name(f"{target.name}-training")


def check_work_folder(path: Path) -> None:
    """Refuse to train in a folder of somebody else's.

    Raises:
        InvalidArgument: if it is there and no training of ours made it, or a file that training
            writes was changed.
    """
    folder = _folder(path)
    if folder.record is None:
        folder.claim()
    else:
        folder.claim(name for name in folder.names() if _is_known(name))


@contextmanager
def work_folder(path: Path) -> Iterator[Build]:
    """Make a training's folder if need be, hold it, and let checkpoints be put into it.

    Raises:
        InvalidArgument: if it is somebody else's, or another run uses it.
        OutputError: if it can't be made.
    """
    check_work_folder(path)
    with _folder(path).build() as build:
        with writing(path):
            build.adopt()
        yield build


def clear_work_folder(path: Path, keep: bool) -> None:
    """Remove what a training of ours wrote, and the folder if it is empty then.

    Args:
        path: the folder.
        keep: whether all but the checkpoints to go on from stays, so that the same command starts
            a new training.

    Raises:
        InvalidArgument: if another run uses it.
        OutputError: if nothing can be written there.
    """
    folder = _folder(path)
    with writing(path), folder.build() as build:
        build.adopt()
        names = [name for name in folder.names() if not keep or _RUNNING.fullmatch(name)]
        # while the last one is there, the same command goes on from it, and needs the best one
        build.remove(name for name in names if name.startswith("last-"))
        build.remove(names)
    with suppress(OSError):  # it holds something
        path.rmdir()


def clear_boxes(path: Path, but: tuple[str, ...]) -> None:
    """Remove what trainings of boxes wrote to go on from, unless its name begins with one of `but`.

    Raises:
        InvalidArgument: if another run uses the folder.
        OutputError: if nothing can be written there.
    """
    folder = _folder(path)
    names = [name for name in folder.names() if _BOXES.fullmatch(name) and not name.startswith(but)]
    if names:
        with writing(path), folder.build() as build:
            build.remove(names)


def _folder(path: Path) -> ResultFolder:
    return ResultFolder(
        path,
        "training",
        adopt=lambda file: _by_earlier_version(file, path),
        is_file="'{folder}' is a file, where the training's own folder would be. Move it away, or "
        "choose another model folder with -o.",
        not_ours="'{folder}' is where the training's own files would be, and holds '{name}', which "
        "no training wrote or which was changed since. Move it away, or choose another model "
        "folder with -o.",
    )


def _is_known(name: str) -> bool:
    return name == HISTORY or bool(_RUNNING.fullmatch(name) or _EPOCH.fullmatch(name))


def _by_earlier_version(path: Path, folder: Path) -> bool:
    """Whether 0.1.0, which kept no record, wrote a file: by its name and how it begins."""
    name = path.relative_to(folder).as_posix()
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        begin = file.read(200)
    if name == HISTORY:
        columns = begin.decode(errors="replace").partition("\n")[0].strip().split(",")
        return columns[:2] == ["stage", "epoch"] and set(columns) <= set(HISTORY_COLUMNS)
    if name.startswith("tensorboard/"):
        return _LOG in begin or (path.name == "hparams.yaml" and begin.strip() == b"{}")
    known = _is_known(name) or _EARLIER_PART.fullmatch(name)
    return bool(known) and begin[8 : 8 + len(_CHECKPOINT)] == _CHECKPOINT
