"""Lightning's checkpoints without code in them: tensors as safetensors, all else as JSON in the
same file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..core.home import sync_file, writing
from ..core.result_folder import Build
from ..errors import InvalidModel

KEY = "checkpoint"


class SafeCheckpoints(CheckpointIO):
    """Writes a checkpoint whole or not at all, and reads nothing that could run.

    Args:
        build: puts files into the training's folder; None only reads.
    """

    def __init__(self, build: Build | None = None) -> None:
        self._build = build

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write `checkpoint`, made of dicts, lists, numbers, text and tensors, to `path` in the
        training's folder.

        Raises:
            InvalidArgument: if somebody else's file is there.
            OutputError: if it can't be written.
        """
        assert self._build is not None
        tensors: dict[str, torch.Tensor] = {}
        text = json.dumps(_flatten(checkpoint, tensors))
        target = Path(path)
        with writing(target.parent):
            save_file(tensors, self._build.path / target.name, metadata={KEY: text})
            sync_file(self._build.path / target.name)
            self._build.put(target.name)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return what was saved, on the CPU.

        Raises:
            InvalidModel: if the file is no checkpoint of ours.
        """
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
                return _unflatten(json.loads(file.metadata()[KEY]), tensors)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            raise InvalidModel(
                f"The checkpoint '{path}' can't be read ({error}). Delete its folder to start anew."
            ) from error

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)


def _flatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return `value` as JSON can hold it; tensors go to `tensors`, and their names stand for
    them.
    """
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # a clone, since two may share memory
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {
            "dict": [
                [_flatten(key, tensors), _flatten(item, tensors)] for key, item in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        return {
            "tuple" if isinstance(value, tuple) else "list": [
                _flatten(item, tensors) for item in value
            ]
        }
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _unflatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_unflatten(key, tensors): _unflatten(item, tensors) for key, item in content}
    items = [_unflatten(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
