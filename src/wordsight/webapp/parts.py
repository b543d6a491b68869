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
DIGITS = "1234567890"
LETTERS = "bcdefghijklmnopqstvwxyz"  # a, r and u accept, reject and undo
CLASS_KEYS = DIGITS + LETTERS

HEAD = """
<style>
.gradio-container .caption-label {
  white-space: normal !important; overflow: visible !important; max-width: 100% !important;
}
.review-class, #review-accept { white-space: normal; overflow-wrap: anywhere; }
.review-class { flex: 1 1 auto !important; width: auto; max-width: 100%; }
#review-bar:not(:has(button)) { display: none; }
@media (max-width: 640px) {
  #compare-inputs { flex-direction: column; }
  #compare-start { max-width: none; }
  #compare-table .table-wrap > * { min-width: 560px; }
  #compare-table .table-wrap { overflow-x: auto; }
  #try-gallery .grid-container, #train-shown .grid-container, #compare-gallery .grid-container {
    grid-template-columns: repeat(2, minmax(0, 1fr)) !important;
  }
  #review-picture { height: 46vh !important; }
  #review-bar {
    position: fixed; left: 0; right: 0; bottom: 0; z-index: 20; gap: 6px;
    padding: 8px 12px calc(8px + env(safe-area-inset-bottom));
    background: var(--body-background-fill); border-top: 1px solid var(--border-color-primary);
  }
  #review-bar .row { flex-wrap: nowrap; gap: 8px; }
  #review-bar button { min-width: 0 !important; padding: 10px 6px; max-height: 30vh; }
  #review-page { padding-bottom: 150px; }
}
</style>
<script>
// Gradio gives this button no name for people who listen to the page
new MutationObserver(() => {
  for (const one of document.querySelectorAll("#review-picture button:not([aria-label])"))
    one.setAttribute("aria-label", "The picture");
}).observe(document, { childList: true, subtree: true });
document.addEventListener("keydown", (event) => {
  const target = event.target;
  const typing = target.closest("input, textarea, select, [contenteditable], [role=listbox]");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  const keys = { a: "accept", r: "reject", u: "undo", ArrowRight: "next", ArrowLeft: "back" };
  const own = /^[0-9b-z]$/.test(event.key) ? `class-${event.key}` : null;
  const id = keys[event.key] || own;
  const element = id && document.getElementById(`review-${id}`);
  if (!element || element.offsetParent === null) return;
  event.preventDefault();
  (element.matches("button") ? element : element.querySelector("button")).click();
});
</script>
"""


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


def chosen(names: list[str], lists: int) -> list[Any]:
    """Return updates of the lists of models for a page that is opened: the first shows the first
    model, and so does the second; the third, which is compared with it, another.
    """
    values = [names[0], names[0], names[min(1, len(names) - 1)]] if names else [None] * 3
    return [gr.Dropdown(choices=names, value=value) for value in values[:lists]]


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


def shown(path: Path, side: int = SHOWN_SIDE) -> Image.Image | None:
    """Return a reduced image, or None if it can't be read."""
    try:
        image = decode(read(ImageFile(path, path.name))[0]).image.copy()
    except UnreadableImage:
        return None
    image.thumbnail((side, side))
    return image


def readable(name: str) -> str:
    """Return a file's name as text, whatever bytes it holds."""
    return name.encode("utf-8", "replace").decode()


def plain(text: str) -> str:
    """Return text escaped for Markdown."""
    return "".join(f"&#{ord(c)};" if c in "<>&*_`[]()|\\#!~" else c for c in readable(text))
