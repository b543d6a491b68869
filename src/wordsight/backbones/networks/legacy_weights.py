"""Read weights from the files that torch wrote before version 1.6, without torch and without
running anything that is in them.

Such a file holds four pickles of description (a magic number, a version, the machine, the weights
by name), a pickle with the names of the storages, then the numbers of each storage. A pickle is a
program for a stack machine. This module has a machine of its own that knows only the steps that
weights need: it can build strings, numbers, lists, dicts and tensors, and call nothing.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.regular import read_regular

MAGIC = 0x1950A86A20F9469CFC6C
MOST_SHARING = 4  # tensors may share numbers, but are no more than so many times as large in all
TYPES: dict[str, np.dtype] = {
    "torch HalfStorage": np.dtype("<f2"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch LongStorage": np.dtype("<i8"),
}
DICT, TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
PUSHED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE")
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


def read_legacy_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the weights in a file that torch wrote in its old format, by name, in the file's
    order.

    Raises:
        OSError: if the file can't be read.
        ValueError: if it is no such file, is damaged, or asks for anything but plain tensors.
    """
    try:
        return _read(read_regular(path))
    except (TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"damaged: {error}") from error


def _read(data: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(data)
    if _run(file) != MAGIC:
        raise ValueError("not a file of torch's old format")
    _run(file), _run(file)  # torch's version and the machine's sizes
    tensors, keys = _run(file), _run(file)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in tensors.items()
    ):
        raise ValueError("it holds something other than tensors by name")
    types = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    storages = {key: _storage(data, file, types[key]) for key in keys}
    most = MOST_SHARING * sum(map(len, storages.values()))
    if sum(tensor.size for tensor in tensors.values()) > most:
        raise ValueError("its tensors are far larger than its storages")
    return {name: tensor.of(storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _storage(data: bytes, file: io.BytesIO, dtype: np.dtype) -> np.ndarray:
    """Return the next storage, whose length comes before its numbers."""
    length = int.from_bytes(file.read(8), "little", signed=True)
    start = file.tell()
    if not 0 <= length <= (len(data) - start) // dtype.itemsize:
        raise ValueError("a storage is cut off")
    file.seek(length * dtype.itemsize, os.SEEK_CUR)
    return np.frombuffer(data, dtype, length, start)


@dataclass(frozen=True)
class _Name:
    """A name that stands where a pickle would look up code."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Where a tensor's numbers lie."""

    key: str
    dtype: np.dtype


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        if not (
            isinstance(self.storage, _Storage)
            and len(self.shape) == len(self.strides) <= 8
            and all(type(n) is int and n >= 0 for n in (self.offset, *self.shape, *self.strides))
        ):
            raise ValueError("a tensor is described wrongly")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def of(self, storage: np.ndarray) -> np.ndarray:
        """Return the tensor as an array of its own."""
        if not self.size:
            return np.zeros(self.shape, storage.dtype)
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if self.offset + last >= len(storage):
            raise ValueError("a tensor reaches beyond its storage")
        strides = [step * storage.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(storage[self.offset :], self.shape, strides)
        return view.copy(order="C")


def _run(file: io.BytesIO) -> Any:
    """Return what the next pickle describes.

    Raises:
        ValueError: if it has a step that weights don't need.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for step, argument, _ in pickletools.genops(file):
        name = step.name
        if name == "STOP":
            return stack.pop()
        if name in NUMBERS:
            stack.append(argument)
        elif name in PUSHED:
            stack.append(PUSHED[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[int(str(argument))] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(argument))])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(_taken(stack, len(stack) - int(name[-1]))))
        elif name == "TUPLE":
            stack.append(tuple(_taken(stack, marks.pop())))
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            count = {"APPEND": 1, "SETITEM": 2}.get(name)
            _fill(stack, marks.pop() if count is None else len(stack) - count, name)
        elif name == "GLOBAL":
            stack.append(_Name(str(argument)))
        elif name == "BINPERSID":
            stack.append(_described_storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_built(stack.pop(), arguments))
        elif name == "BUILD":
            stack.pop()  # versions of torch's modules, which no weight depends on
        elif name != "PROTO":
            raise ValueError(f"it asks for '{name}', which weights don't need")
    raise ValueError("its description is cut off")


def _taken(stack: list[Any], start: int) -> list[Any]:
    """Remove what lies on the stack from `start` on, and return it."""
    if not 0 <= start <= len(stack):
        raise ValueError("its description is damaged")
    taken = stack[start:]
    del stack[start:]
    return taken


def _fill(stack: list[Any], start: int, step: str) -> None:
    """Put what lies on the stack from `start` on into the list or dict below."""
    values = _taken(stack, start)
    below = stack[-1]
    if step.startswith("APPEND") and isinstance(below, list):
        below.extend(values)
    elif step.startswith("SETITEM") and isinstance(below, dict):
        keys = values[::2]
        if len(values) % 2 or not all(isinstance(key, str | int) for key in keys):
            raise ValueError("a name is no text")
        below.update(zip(keys, values[1::2], strict=True))
    else:
        raise ValueError(f"it asks for '{step}' on something else")


def _described_storage(described: Any) -> _Storage:
    """Return the storage of ("storage", type, key, device, length, None)."""
    _, kind, key, *_ = described
    if not (isinstance(kind, _Name) and kind.name in TYPES and isinstance(key, str)):
        raise ValueError("a storage is of an unknown type")
    return _Storage(key, TYPES[kind.name])


def _built(called: Any, arguments: Any) -> Any:
    """Return what two functions would return that weights need; no function is called."""
    name = called.name if isinstance(called, _Name) else type(called).__name__
    if name == DICT and arguments == ():
        return {}
    if name == TENSOR and isinstance(arguments, tuple):
        return _Tensor(*arguments[:4])
    raise ValueError(f"it asks to call '{name[:80]}', which weights don't need")
