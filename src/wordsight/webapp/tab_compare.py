"""The page's tab Compare: two models on one folder, disagreements first."""

from __future__ import annotations

import math

import gradio as gr
from gradio.components import Component
from PIL import Image

from ..classification.predictions import Prediction
from ..classification.report import percent
from ..words.class_names import fold
from .parts import plain, readable, refused, shown, telling
from .workspace import MOST_IMAGES, Workspace, find_one

SHOWN = 24  # images in the gallery
ROWS = 500  # of the table
MOST_CHANCE = 0.05  # of a difference that counts
Compared = tuple[str, Prediction, Prediction]  # file name, what each model says of it


def add_compare(workspace: Workspace) -> list[gr.Dropdown]:
    """Add the tab; return its lists of models."""
    if workspace.data is None:
        gr.Markdown(
            "### No folder to compare on yet\n\nHere two models look at the same photos, and you "
            "see where they differ and which is right more often. The folder is chosen when this "
            "page is started: close it, and start it with `wordsight app --data FOLDER`."
        )
        return []
    first, second, threshold, start = _build_inputs(workspace.models())
    outputs = _build_outputs()

    def compare(
        one: str | None, other: str | None, wanted: float, progress: gr.Progress = gr.Progress()
    ) -> tuple:
        if not one or not other:
            return _told("### Choose two models\n\nMake the first under **Train**.", [], [])
        progress(0, desc="looking at the pictures")
        with refused():
            rows = workspace.compare(one, other, wanted, telling(progress))
            verdict = _verdict(workspace, rows, one, other)
        told = f"{verdict}\n\n{_summary(workspace, rows, one, other)}"
        return _told(told, _gallery(workspace, rows), _table(workspace, rows))

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
    with gr.Row(elem_id="compare-inputs"):
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
        visible=False,
    )
    table = gr.Dataframe(
        headers=["file", "label in the folder", "first", "second"],
        interactive=False,
        wrap=True,
        column_widths=["28%", "16%", "28%", "28%"],
        elem_id="compare-table",
        visible=False,
    )
    return [summary, gallery, table]


def _told(text: str, pictures: list, rows: list) -> tuple:
    """Return what the page shows: the summary, and gallery and table where they hold anything."""
    return (
        text,
        gr.Gallery(value=pictures, visible=bool(pictures)),
        gr.Dataframe(value=rows, visible=bool(rows)),
    )


def _verdict(workspace: Workspace, rows: list[Compared], one: str, other: str) -> str:
    """Return which model's best guesses are right more often on labelled photos, or why that can't
    be told, as Markdown.
    """
    if one == other:
        return "### Choose two different models\n\nBoth lists show the same one."
    learned = [name for name in (one, other) if workspace.learned_from_folder(name)]
    if learned:
        return (
            f"### Can't tell which is better\n\n{plain(learned[0])} learned from this folder, so "
            "its answers here say nothing about other photos. Start the page with labelled photos "
            "that neither has seen."
        )
    book = workspace.book
    known = workspace.known_classes(one) & workspace.known_classes(other)
    truths = [
        (fold(label), a, b)
        for name, a, b in rows
        if (label := book.label(name)) and fold(label) in known
    ]
    right = [(_guess(a) == truth, _guess(b) == truth) for truth, a, b in truths]
    if not right:
        return (
            "### Can't tell which is better\n\nNo photo of the folder has a label that both "
            "know. Label some under **Review** first."
        )
    first, second = (sum(column) for column in zip(*right, strict=True))
    figures = (
        f"On {len(right)} photos with a label that both know, the best guess of {plain(one)} is "
        f"right {first} times, that of {plain(other)} {second} times."
    )
    only = sum(a and not b for a, b in right), sum(b and not a for a, b in right)
    chance = by_chance(*only)
    if chance > MOST_CHANCE:
        return (
            f"### Can't tell which is better\n\n{figures} Chance alone makes a difference of "
            f"this size in {_share(chance)} of cases. More labelled photos would tell."
        )
    better = one if first > second else other
    return (
        f"### {plain(better)} is better\n\n{figures} Chance alone makes a difference of this size "
        f"in {_share(chance)} of cases."
    )


def _share(chance: float) -> str:
    return "less than 0.1%" if chance < 0.001 else f"{chance:.1%}"


def by_chance(first: int, second: int) -> float:
    """Return how often two equally good models would differ at least so much (the exact test of
    McNemar), 0–1.

    Args:
        first: images that only the first model is right on.
        second: images that only the second is right on.
    """
    apart = first + second
    tail = sum(math.comb(apart, wins) for wins in range(min(first, second) + 1))
    return min(1.0, 2 * tail / 2**apart)


def _guess(prediction: Prediction) -> str | None:
    """Return the best guess, as labels are compared; None for what resembles no class."""
    if prediction.top_label is None or prediction.stranger:
        return None
    return fold(prediction.top_label)


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


def _table(workspace: Workspace, rows: list[Compared]) -> list[list]:
    """Return a row for each image: its name, its label, and both answers."""
    return [
        [readable(name), readable(workspace.book.label(name) or ""), _answer(a), _answer(b)]
        for name, a, b in rows[:ROWS]
    ]


def _answer(prediction: Prediction) -> str:
    """Return a model's answer, and why it gives no label where it gives none."""
    if prediction.stranger or prediction.probability is None:
        return "none of these: resembles no class"
    sure = percent(prediction.probability)
    if prediction.label is not None:
        return f"{readable(prediction.label)} {sure}"
    return f"not sure: {readable(prediction.top_label or '')} {sure}, below the threshold"
