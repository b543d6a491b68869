"""Shared by the tabs of the page: show errors, report progress, pass images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ..backbones.embedder import read
from ..datasets.files import ImageFile
from ..errors import UnreadableImage, WordsightError
from ..images.decoding import decode
from ..images.signatures import image_suffixes

MODEL_HINT = "Models that were trained on this machine, the newest first"
# what an upload may be: whatever browsers call an image, and all else that predict reads
PICTURES = ["image", *image_suffixes()]
SHOWN_SIDE = 960  # pixels


def offered(names: list[str], new: str | None, lists: int) -> list[Any]:
    """Return updates of the lists of models: the first and the last show the new one, where
    there is one.
    """
    return [
        gr.Dropdown(choices=names, value=new)
        if new is not None and at in (0, lists - 1)
        else gr.Dropdown(choices=names)
        for at in range(lists)
    ]


@contextmanager
def refused() -> Iterator[None]:
    """Show the library's errors as one sentence on the page."""
    try:
        yield
    except WordsightError as error:
        raise gr.Error(readable(str(error)), print_exception=False) from None


def uploaded(value: Any) -> list[Path]:
    """Return the files of an upload component as paths.

    Raises:
        gr.Error: one of them lies elsewhere than in the folder of uploads, whoever named it.
    """
    paths = [Path(path) for path in ([value] if isinstance(value, str) else value or [])]
    root = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    if any(not path.resolve().is_relative_to(root) for path in paths):
        raise gr.Error("Only uploaded pictures can be looked at.", print_exception=False)
    return paths


def telling(progress: gr.Progress) -> Callable[[int, int, str], None]:
    """Return a function that reports progress to the page."""

    def tell(done: int, total: int, what: str) -> None:
        progress((done, total), desc=what)

    return tell


def shown(path: Path) -> Image.Image | None:
    """Return a reduced image of the data folder, or None if it can't be read."""
    try:
        image = decode(read(ImageFile(path, path.name))[0]).image.copy()
    except UnreadableImage:
        return None
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return image


def readable(name: str) -> str:
    """Return a file's name as text, whatever bytes it holds."""
    return name.encode("utf-8", "replace").decode()


def plain(text: str) -> str:
    """Return text escaped for Markdown."""
    return "".join(f"&#{ord(c)};" if c in "<>&*_`[]()|\\#!~" else c for c in readable(text))
