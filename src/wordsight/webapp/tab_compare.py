"""The page's tab Compare: two models on one folder, what they disagree on first."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..classification.predictions import Prediction
from .parts import plain, readable, refused, shown, telling
from .workspace import MOST_IMAGES, Workspace, find_one

SHOWN = 24  # images in the gallery
ROWS = 500  # of the table


def add_compare(workspace: Workspace) -> list[gr.Dropdown]:
    """Add the tab; return its lists of models."""
    names = workspace.models()
    if workspace.data is None:
        gr.Markdown("Start with a folder to compare on: `wordsight app --data FOLDER`.")
        return []
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
    told = gr.Markdown(elem_id="compare-told")
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

    def compare(
        one: str | None, other: str | None, wanted: float, progress: gr.Progress = gr.Progress()
    ) -> tuple:
        if not one or not other:
            raise gr.Error("Choose two models; make one under Train first.", print_exception=False)
        progress(0, desc="looking at the pictures")
        with refused():
            rows = workspace.compare(one, other, wanted, telling(progress))
        left = len(workspace.book.images) - MOST_IMAGES
        apart = [row for row in rows if row[1].label != row[2].label]
        best = sum(a.top_label == b.top_label for _, a, b in rows)
        told = (
            f"Of **{len(rows)}** pictures both say the same of **{len(rows) - len(apart)}**, "
            f"and have the same best guess on {best}. "
        )
        given = [
            sum(prediction.label is not None for prediction in side)
            for side in zip(*[(a, b) for _, a, b in rows], strict=True)
        ] or [0, 0]
        told += f"Labels given: {given[0]} by {plain(one)}, {given[1]} by {plain(other)}."
        told += f" {left} further pictures of the folder were not looked at." if left > 0 else ""
        images = [
            (image, f"{_said(a)} | {_said(b)}")
            for name, a, b in apart[:SHOWN]
            if (image := shown(find_one(workspace.book, name))) is not None
        ]
        return (
            told,
            images,
            [
                [readable(name), _said(a), a.probability, _said(b), b.probability]
                for name, a, b in rows[:ROWS]
            ],
        )

    private: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_limit": 1,
        "concurrency_id": "train",
    }
    start.click(compare, [first, second, threshold], [told, gallery, table], **private)
    return [first, second]


def _said(prediction: Prediction) -> str:
    return (
        readable(prediction.label)
        if prediction.label is not None
        else f"no label (best guess {prediction.top_label})"
    )
