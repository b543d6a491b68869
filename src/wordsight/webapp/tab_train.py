"""The page's tab Train: name classes and drop images into each, or give words; watch, and get
a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ..classification.classifier import Classifier
from .parts import offered, plain, refused, telling, uploaded
from .workspace import Workspace

MOST_CLASSES = 100


def add_train(workspace: Workspace, models: list[gr.Dropdown]) -> None:
    """Add the tab; `models` are the lists that a new model is added to."""
    gr.Markdown(
        "Name a class, drop pictures of it, add them; the same for every other class. Twenty "
        "pictures of each do well, a few are a start."
    )
    with gr.Row():
        class_name = gr.Textbox(label="Class", placeholder="cat", elem_id="train-class", scale=1)
        images = gr.File(
            label="Pictures of it",
            file_count="multiple",
            file_types=["image"],
            elem_id="train-files",
            height=140,
            scale=2,
        )
        with gr.Column(scale=1):
            add = gr.Button("Add to this class", elem_id="train-add")
            clear = gr.Button("Begin anew", elem_id="train-clear")
    told = gr.Markdown(_list({}), elem_id="train-told")
    classes = gr.State({})
    with gr.Row():
        name = gr.Textbox(label="Name of the model", placeholder="pets", elem_id="train-name")
        train = gr.Button("Train", variant="primary", elem_id="train-start")
    with gr.Accordion("From words instead", open=False):
        gr.Markdown(
            "Give words and some of your photos, without labels: what the network knows of the "
            "words is adapted to them."
        )
        with gr.Row():
            words = gr.Textbox(label="Words", placeholder="cat,dog", elem_id="train-words")
            photos = gr.File(
                label="Your photos",
                file_count="multiple",
                file_types=["image"],
                elem_id="train-photos",
                height=140,
            )
            gather = gr.Checkbox(
                label="Search pictures of the words on the web instead, and learn from those",
                elem_id="train-gather",
            )
        from_words = gr.Button("Make a model from words", elem_id="train-words-start")
    result = gr.Markdown(elem_id="train-result")

    def put(known: dict, label: str, files: list[str] | None) -> tuple:
        label = (label or "").strip()
        if not label or not files:
            raise gr.Error("Name the class and drop pictures of it first.", print_exception=False)
        if len(known) >= MOST_CLASSES and label not in known:
            raise gr.Error(
                f"At most {MOST_CLASSES} classes can be made here. For more, use 'wordsight "
                "train'.",
                print_exception=False,
            )
        known = {**known, label: [*known.get(label, []), *files]}
        return known, _list(known), "", None

    def start(known: dict, name: str, progress: gr.Progress = gr.Progress()) -> tuple:
        progress(0, desc="reading the pictures")
        with refused():
            made = workspace.train_dropped(
                (name or "").strip(),
                {label: uploaded(files) for label, files in known.items()},
                telling(progress),
            )
        return _made(workspace, made, models)

    def start_words(
        words: str, files: list[str] | None, gather: bool, progress: gr.Progress = gr.Progress()
    ) -> tuple:
        if not (words or "").strip() or not files:
            raise gr.Error(
                "Give words with commas between, and some photos to adapt to.",
                print_exception=False,
            )
        said: list[str] = []
        with refused():
            made = workspace.train_words(
                words, uploaded(files), gather, telling(progress), said.append
            )
        return _made(workspace, made, models, said)

    private: dict[str, Any] = {"api_visibility": "private"}
    add.click(
        put,
        [classes, class_name, images],
        [classes, told, class_name, images],
        queue=False,
        **private,
    )
    clear.click(
        lambda: ({}, _list({}), "", None),
        [],
        [classes, told, class_name, images],
        queue=False,
        **private,
    )
    train.click(
        start,
        [classes, name],
        [result, *models],
        concurrency_limit=1,
        concurrency_id="train",
        **private,
    )
    from_words.click(
        start_words,
        [words, photos, gather],
        [result, *models],
        concurrency_limit=1,
        concurrency_id="train",
        **private,
    )


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
    workspace: Workspace, name: str, models: list[gr.Dropdown], said: Sequence[str] = ()
) -> tuple:
    names = workspace.models()
    with refused():
        text = summarise(workspace.viewer(name).model, name)
    return ("\n\n".join([*map(plain, said), text]), *offered(names, name, len(models)))


def _list(known: dict[str, list[str]]) -> str:
    if not known:
        return "No class yet."
    return "Classes so far: " + ", ".join(
        f"**{plain(label)}** ({len(files)} pictures)" for label, files in known.items()
    )
