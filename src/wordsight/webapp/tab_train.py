"""The page's tab Train: a model from images dropped into classes, or from words."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ..classification.classifier import Classifier
from .parts import PICTURES, offered, plain, readable, refused, shown, telling, uploaded
from .workspace import Workspace

MOST_CLASSES = 100
THUMBNAILS, THUMBNAIL_SIDE = 8, 160  # of a class; pixels


def add_train(workspace: Workspace, models: list[gr.Dropdown]) -> None:
    """Add the tab; `models` are the lists that a new model is added to."""
    gr.Markdown(
        "Name a class, drop pictures of it, add them; the same for every other class. Twenty "
        "pictures of each do well, a few are a start."
    )
    classes = _add_classes()
    with gr.Row():
        name = gr.Textbox(label="Name of the model", placeholder="pets", elem_id="train-name")
        train = gr.Button("Train", variant="primary", elem_id="train-start")
    with gr.Accordion("From words instead", open=False):
        gr.Markdown(
            "Give words and some of your photos, without labels: what the network knows of the "
            "words is adapted to them."
        )
        words, photos, gather = _build_words()
        from_words = gr.Button("Make a model from words", elem_id="train-words-start")
    result = gr.Markdown(elem_id="train-result")

    def start(known: dict, name: str, progress: gr.Progress = gr.Progress()) -> tuple:
        return _train_dropped(workspace, models, known, name, progress)

    def start_words(
        words: str, files: list[str] | None, gather: bool, progress: gr.Progress = gr.Progress()
    ) -> tuple:
        return _train_words(workspace, models, words, files, gather=gather, progress=progress)

    one_at_a_time: dict[str, Any] = {
        "concurrency_limit": 1,
        "concurrency_id": "train",
        "api_visibility": "private",
    }
    train.click(start, [classes, name], [result, *models], **one_at_a_time)
    from_words.click(start_words, [words, photos, gather], [result, *models], **one_at_a_time)


def _add_classes() -> gr.State:
    """Add the part where classes are named and filled; return the classes with their files."""
    with gr.Row():
        with gr.Column(scale=1):
            class_name = gr.Textbox(label="Class", placeholder="cat", elem_id="train-class")
            add = gr.Button("Add to this class", elem_id="train-add")
        images = gr.File(
            label="Pictures of it",
            file_count="multiple",
            file_types=PICTURES,
            elem_id="train-files",
            height=180,
            scale=2,
        )
        camera = gr.Image(
            label="Or take one",
            sources=["webcam"],
            type="filepath",
            elem_id="train-camera",
            height=180,
            scale=1,
        )
    listed = gr.Markdown(_list({}), elem_id="train-told")
    thumbnails = gr.Gallery(
        label="Pictures so far",
        columns=8,
        height=240,
        object_fit="contain",
        format="jpeg",
        elem_id="train-shown",
        buttons=[],
        visible=False,
    )
    with gr.Row(visible=False) as more:
        old = gr.Dropdown([], label="Class to remove", elem_id="train-old")
        remove = gr.Button("Remove this class", elem_id="train-remove")
        clear = gr.Button("Start over", elem_id="train-clear")
    classes = gr.State({})
    told = [classes, listed, thumbnails, old, more]
    private: dict[str, Any] = {"api_visibility": "private"}
    add.click(
        _add_files,
        [classes, class_name, images, camera],
        [*told, class_name, images],
        queue=False,
        **private,
    )
    remove.click(_remove, [classes, old], told, queue=False, **private)
    clear.click(lambda: _told({}), [], told, queue=False, **private)
    return classes


def _build_words() -> tuple[gr.Textbox, gr.File, gr.Checkbox]:
    """Lay out the words, the photos to adapt to, and whether to search the web."""
    with gr.Row():
        words = gr.Textbox(label="Words", placeholder="cat,dog", elem_id="train-words")
        photos = gr.File(
            label="Your photos",
            file_count="multiple",
            file_types=PICTURES,
            elem_id="train-photos",
            height=140,
        )
        gather = gr.Checkbox(
            label="Search pictures of the words on the web instead, and learn from those",
            elem_id="train-gather",
        )
    return words, photos, gather


def _add_files(known: dict, label: str, files: list[str] | None, photo: str | None = None) -> tuple:
    """Add files, and the camera's photo if it is a new one, to a class; return what the page shows
    of the classes, and two emptied inputs.

    Raises:
        gr.Error: if the name or the files are missing, or there are too many classes.
    """
    label, added = (label or "").strip(), list(files or ())
    if photo and not any(photo in given for given in known.values()):
        added.append(photo)
    if not label or not added:
        raise gr.Error("Name the class and drop pictures of it first.", print_exception=False)
    if len(known) >= MOST_CLASSES and label not in known:
        raise gr.Error(
            f"At most {MOST_CLASSES} classes can be made here. For more, use 'wordsight train'.",
            print_exception=False,
        )
    return *_told({**known, label: [*known.get(label, []), *added]}), "", None


def _remove(known: dict, label: str | None) -> tuple:
    """Remove a class with its files; return what the page shows of the others."""
    return _told({name: files for name, files in known.items() if name != label})


def _told(known: dict[str, list[str]]) -> tuple:
    """Return the classes, their list, their thumbnails, the list to remove from, and whether that
    is there.
    """
    pictures = [
        (image, readable(label))
        for label, files in known.items()
        for path in uploaded(files[:THUMBNAILS])
        if (image := _thumbnail(path)) is not None
    ]
    names = [readable(name) for name in known]
    return (
        known,
        _list(known),
        gr.Gallery(value=pictures, visible=bool(pictures)),
        gr.Dropdown(choices=names, value=names[-1] if names else None),
        gr.Row(visible=bool(known)),
    )


@functools.lru_cache(MOST_CLASSES * THUMBNAILS)
def _thumbnail(path: Path) -> Image.Image | None:
    return shown(path, THUMBNAIL_SIDE)


def _train_dropped(
    workspace: Workspace,
    models: list[gr.Dropdown],
    known: dict[str, list[str]],
    name: str,
    progress: gr.Progress,
) -> tuple:
    """Train on the files of each class; return a summary and updates of the lists of models."""
    progress(0, desc="reading the pictures")
    with refused():
        made = workspace.train_dropped(
            (name or "").strip(),
            {label: uploaded(files) for label, files in known.items()},
            telling(progress),
        )
    return _made(workspace, made, models)


def _train_words(
    workspace: Workspace,
    models: list[gr.Dropdown],
    words: str,
    files: list[str] | None,
    *,
    gather: bool,
    progress: gr.Progress,
) -> tuple:
    """Make a model from words; return a summary and updates of the lists of models.

    Raises:
        gr.Error: if words or photos are missing.
    """
    if not (words or "").strip() or not files:
        raise gr.Error(
            "Give words with commas between, and some photos to adapt to.",
            print_exception=False,
        )
    notes: list[str] = []
    with refused():
        made = workspace.train_words(
            words, uploaded(files), gather, telling(progress), notes.append
        )
    return _made(workspace, made, models, notes)


def summarise(model: Classifier, name: str) -> str:
    """Return what a new model can do, in Markdown."""
    record = model.record
    lines = [f"### Model `{name}` is ready", "", "| class | pictures |", "|---|---|"]
    lines += [f"| {plain(label)} | {count} |" for label, count in record.images.items()]
    metrics = record.metrics
    if {"accuracy", "coverage", "selective_accuracy"} <= metrics.keys():
        lines += ["", f"On {record.judged_on}: **{metrics['accuracy']:.1%} right**."]
        if record.threshold is not None:
            lines += [
                f"From {record.threshold:g} on, {metrics['coverage']:.1%} get a label, "
                f"{metrics['selective_accuracy']:.1%} of them the right one."
            ]
    for label, reason in [*record.left_out, *record.unreadable][:10]:
        lines.append(f"\nLeft out: `{label}`: {reason}")
    return "\n".join([*lines, "", "Try it under **Try**."])


def _made(
    workspace: Workspace, name: str, models: list[gr.Dropdown], notes: Sequence[str] = ()
) -> tuple:
    """Return a summary of a new model, below the notes, and updates of the lists of models."""
    names = workspace.models()
    with refused():
        text = summarise(workspace.viewer(name).model, name)
    return ("\n\n".join([*map(plain, notes), text]), *offered(names, name, len(models)))


def _list(known: dict[str, list[str]]) -> str:
    if not known:
        return "No class yet."
    return "Classes so far: " + ", ".join(
        f"**{plain(label)}** ({len(files)} pictures)" for label, files in known.items()
    )
