"""The page's tab Compare: two models on one folder, disagreements first."""

from __future__ import annotations

import gradio as gr
from gradio.components import Component
from PIL import Image

from ..classification.predictions import Prediction
from .parts import plain, readable, refused, shown, telling
from .workspace import MOST_IMAGES, Workspace, find_one

SHOWN = 24  # images in the gallery
ROWS = 500  # of the table
Compared = tuple[str, Prediction, Prediction]  # file name, what each model says of it


def add_compare(workspace: Workspace) -> list[gr.Dropdown]:
    """Add the tab; return its lists of models."""
    if workspace.data is None:
        gr.Markdown("Start with a folder to compare on: `wordsight app --data FOLDER`.")
        return []
    first, second, threshold, start = _build_inputs(workspace.models())
    outputs = _build_outputs()

    def compare(
        one: str | None, other: str | None, wanted: float, progress: gr.Progress = gr.Progress()
    ) -> tuple:
        if not one or not other:
            raise gr.Error("Choose two models; make one under Train first.", print_exception=False)
        progress(0, desc="looking at the pictures")
        with refused():
            rows = workspace.compare(one, other, wanted, telling(progress))
        return _summary(workspace, rows, one, other), _gallery(workspace, rows), _table(rows)

    start.click(
        compare,
        [first, second, threshold],
        outputs,
        api_visibility="private",
        concurrency_limit=1,
        concurrency_id="train",
    )
    return [first, second]


def _build_inputs(names: list[str]) -> tuple[gr.Dropdown, gr.Dropdown, gr.Slider, gr.Button]:
    """Lay out both lists of models, the threshold and the button, in one row."""
    with gr.Row():
        first = gr.Dropdown(
            names, value=names[0] if names else None, label="First model", elem_id="compare-first"
        )
        second = gr.Dropdown(
            names,
            value=names[1] if len(names) > 1 else names[0] if names else None,
            label="Second model",
            elem_id="compare-second",
        )
        threshold = gr.Slider(
            0, 1, 0.99, step=0.001, label="Threshold", elem_id="compare-threshold"
        )
        start = gr.Button("Compare", variant="primary", elem_id="compare-start")
    return first, second, threshold, start


def _build_outputs() -> list[Component]:
    """Lay out the summary, the gallery and the table."""
    summary = gr.Markdown(elem_id="compare-told")
    gallery = gr.Gallery(
        label="Where they differ",
        columns=6,
        object_fit="contain",
        height=360,
        elem_id="compare-gallery",
        format="jpeg",
        buttons=["fullscreen"],
    )
    table = gr.Dataframe(
        headers=["file", "first", "probability", "second", "probability "],
        interactive=False,
        wrap=True,
        elem_id="compare-table",
    )
    return [summary, gallery, table]


def _summary(workspace: Workspace, rows: list[Compared], one: str, other: str) -> str:
    """Return how far two models agree, as Markdown."""
    left = len(workspace.book.images) - MOST_IMAGES
    same = sum(a.label == b.label for _, a, b in rows)
    best = sum(a.top_label == b.top_label for _, a, b in rows)
    given = [
        sum(a.label is not None for _, a, _ in rows),
        sum(b.label is not None for _, _, b in rows),
    ]
    text = (
        f"Of **{len(rows)}** pictures both say the same of **{same}**, "
        f"and have the same best guess on {best}. "
        f"Labels given: {given[0]} by {plain(one)}, {given[1]} by {plain(other)}."
    )
    text += f" {left} further pictures of the folder were not looked at." if left > 0 else ""
    return text


def _gallery(workspace: Workspace, rows: list[Compared]) -> list[tuple[Image.Image, str]]:
    """Return the first images that two models label differently, with both answers."""
    apart = [row for row in rows if row[1].label != row[2].label]
    return [
        (image, f"{_answer(a)} | {_answer(b)}")
        for name, a, b in apart[:SHOWN]
        if (image := shown(find_one(workspace.book, name))) is not None
    ]


def _table(rows: list[Compared]) -> list[list]:
    """Return a row for each image: its name, and both answers with their probabilities."""
    return [
        [readable(name), _answer(a), a.probability, _answer(b), b.probability]
        for name, a, b in rows[:ROWS]
    ]


def _answer(prediction: Prediction) -> str:
    return (
        readable(prediction.label)
        if prediction.label is not None
        else "none of these"
        if prediction.probability is None
        else f"no label (best guess {prediction.top_label})"
    )
