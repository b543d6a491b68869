"""The page's tab Try, and the calls that programs use.

Images go in; labels, probabilities, heat maps and boxes come out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ..backbones.runtime import callers
from ..classification.model_folder import check_threshold
from ..classification.predictions import Prediction
from ..classification.report import percent
from ..core.threads import parallel_map
from ..errors import UnreadableImage, WordsightError
from .parts import MODEL_HINT, PICTURES, refused, uploaded
from .turns import Call, Turns
from .workspace import Seen, Viewer, Workspace

MOST = 64  # images at once
CALLS = 32  # at once; how many images are looked at is settled by turns
FORGET_AFTER_S = 3600  # after that, a visitor's images are forgotten
INVITATION = "Drop pictures, and see what they show and where."
FIRST = (
    "### There is no model yet\n\n1. Open the tab **Train**.\n2. Name a thing, such as *cat*, and "
    "add pictures of it; then another thing, such as *dog*.\n3. Press **Train**. It takes "
    "seconds. Then come back here, and drop pictures that it has not seen.\n\nWithout pictures to "
    "learn from, open **From words instead** there."
)


@dataclass(frozen=True)
class _Inputs:
    """What a visitor gives: a model, files or a photo of the camera, and a threshold."""

    model: gr.Dropdown
    files: gr.File
    camera: gr.Image
    threshold: gr.Slider


@dataclass(frozen=True)
class _Outputs:
    """What a visitor sees: a summary, the images, and the probabilities of the one chosen."""

    summary: gr.Markdown
    gallery: gr.Gallery
    label: gr.Label


NONE = 1.0  # the end of the slider, at which nothing gets a label


def add_try(workspace: Workspace, turns: Turns) -> gr.Dropdown:
    """Add the tab; return its list of models."""
    names = workspace.models()
    viewer = workspace.viewer(None) if names else None
    with gr.Row():
        with gr.Column(scale=1):
            inputs = _build_inputs(names, _start(viewer))
        with gr.Column(scale=2):
            outputs = _build_outputs(bool(names))
    _connect(workspace, inputs, outputs, turns)
    return inputs.model


def _build_inputs(names: list[str], threshold: float) -> _Inputs:
    model = gr.Dropdown(
        names,
        value=names[0] if names else None,
        label="Model",
        info=MODEL_HINT,
        elem_id="try-model",
    )
    files = gr.File(
        label="Pictures",
        file_count="multiple",
        file_types=PICTURES,
        elem_id="try-files",
        height=160,
    )
    camera = gr.Image(
        label="Or take one",
        sources=["webcam"],
        type="filepath",
        elem_id="try-camera",
        height=220,
    )
    slider = gr.Slider(
        0,
        1,
        threshold,
        step=0.001,
        label="Threshold",
        info="From which probability a label is given; at 1 none is",
        elem_id="try-threshold",
    )
    return _Inputs(model, files, camera, slider)


def _build_outputs(ready: bool) -> _Outputs:
    summary = gr.Markdown(INVITATION if ready else FIRST, elem_id="try-told")
    gallery = gr.Gallery(
        label="Heat maps",
        columns=4,
        object_fit="contain",
        height=420,
        elem_id="try-gallery",
        format="jpeg",
        buttons=["fullscreen"],
    )
    label = gr.Label(
        label="Probabilities", num_top_classes=5, elem_id="try-label", show_heading=False
    )
    return _Outputs(summary, gallery, label)


def _connect(workspace: Workspace, inputs: _Inputs, outputs: _Outputs, turns: Turns) -> None:
    """Connect inputs and outputs. The images looked at stay with the visitor, so that another
    threshold needs no second look.
    """
    seen = gr.State([], time_to_live=FORGET_AFTER_S)
    chosen = gr.State(0)  # index of the image whose probabilities are shown

    def look(paths: Any, name: str | None, wanted: float) -> tuple:
        if not workspace.models():
            return [], 0, FIRST, [], None
        found = _look(workspace, _paths(paths), name, wanted, Call(turns))
        return (found, 0, *_shown(found, wanted, 0))

    def choose(event: gr.SelectData, found: list) -> tuple:
        at = int(event.index) if isinstance(event.index, int) else 0
        return at, _probabilities(found, at)

    shown = [outputs.summary, outputs.gallery, outputs.label]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
    for event, source in (
        (inputs.files.change, inputs.files),
        (inputs.camera.change, inputs.camera),
        (inputs.model.input, inputs.files),
    ):
        event(
            look,
            [source, inputs.model, inputs.threshold],
            [seen, chosen, *shown],
            concurrency_limit=CALLS,
            concurrency_id="look",
            **quiet,
        )
    inputs.threshold.change(_shown, [seen, inputs.threshold, chosen], shown, queue=False, **quiet)
    outputs.gallery.select(choose, [seen], [chosen, outputs.label], queue=False, **quiet)


def add_calls(workspace: Workspace, turns: Turns) -> None:
    """Add the calls for programs: `/predict`, `/heatmap` and `/models`."""
    files = gr.File(visible=False, file_count="multiple")
    file = gr.File(visible=False)
    threshold = gr.Number(-1, visible=False)  # -1: the model's own
    model = gr.Textbox("", visible=False)
    class_name = gr.Textbox("", visible=False)
    answer = gr.JSON(visible=False)
    image = gr.Image(visible=False, format="jpeg")

    def predict(images: Any, wanted: float, name: str) -> list[dict]:
        return _predicted(_viewer(workspace, name), _paths(images), wanted, Call(turns))

    def heatmap(path: str, class_name: str, name: str) -> np.ndarray:
        paths = uploaded(path)
        if len(paths) != 1:
            raise gr.Error(
                "A heat map is made of one picture; upload it first.", print_exception=False
            )
        one = paths[0]
        with refused(), Call(turns).turn():
            return _viewer(workspace, name).heatmap(one, one.name, class_name or None)

    def models() -> list[str]:
        return workspace.models()

    gr.Button(visible=False).click(
        predict,
        [files, threshold, model],
        answer,
        api_name="predict",
        concurrency_limit=CALLS,
        concurrency_id="look",
    )
    gr.Button(visible=False).click(
        heatmap,
        [file, class_name, model],
        image,
        api_name="heatmap",
        concurrency_limit=CALLS,
        concurrency_id="look",
    )
    gr.Button(visible=False).click(models, [], answer, api_name="models", queue=False)


def _predicted(viewer: Viewer, paths: list[Path], wanted: float, call: Call) -> list[dict]:
    """Return what the call `/predict` answers."""
    if not isinstance(wanted, int | float):
        raise gr.Error(
            "The threshold is a number from 0 to 1, or -1 for the model's own.",
            print_exception=False,
        )
    with refused():
        chosen = viewer.threshold if wanted < 0 else check_threshold(wanted)

    def decide(path: Path) -> Prediction:
        with call.turn():
            return _decided(viewer, path, chosen)

    # A single image is not worth a pool of threads; other requests keep the cores busy.
    threads = callers(viewer.embedder.engine)
    decided = map(decide, paths) if len(paths) < 2 else parallel_map(decide, paths, threads)
    return [prediction.to_dict() for prediction in decided]


def _paths(value: Any) -> list[Path]:
    paths = uploaded(value)
    if len(paths) > MOST:
        raise gr.Error(
            f"At most {MOST} pictures at once; got {len(paths)}. For a folder, use 'wordsight "
            "predict'.",
            print_exception=False,
        )
    return paths


def _viewer(workspace: Workspace, name: str | None) -> Viewer:
    with refused():
        return workspace.viewer(name)


def _decided(viewer: Viewer, path: Path, threshold: float | None) -> Prediction:
    try:
        return viewer.decide(path, path.name, threshold)
    except UnreadableImage as error:
        return Prediction(path.name, error=str(error))


def _look(
    workspace: Workspace, paths: list[Path], name: str | None, slider: float, call: Call
) -> list[Seen | Prediction]:
    if not paths:
        return []
    viewer = _viewer(workspace, name)

    def one(path: Path) -> Seen | Prediction:
        try:
            with call.turn():
                return viewer.look(path, path.name, _threshold(slider))
        except WordsightError as error:
            return Prediction(path.name, error=str(error))

    return list(parallel_map(one, paths, callers(viewer.embedder.engine)))


def _start(viewer: Viewer | None) -> float:
    """Return where the slider stands at first."""
    if viewer is None:
        return 0.99
    return NONE if viewer.threshold is None else viewer.threshold


def _threshold(slider: float) -> float | None:
    """Return the threshold that the slider stands for; at its end nothing gets a label."""
    return None if slider >= NONE else slider


def _shown(found: list[Seen | Prediction], slider: float, at: int) -> tuple:
    """Return summary, gallery and probabilities at a threshold."""
    threshold = _threshold(slider)
    seen = [item for item in found if isinstance(item, Seen)]
    if not found:
        return INVITATION, [], None
    pairs = [(item.drawn(threshold), _caption(item, threshold)) for item in seen]
    labelled = sum(item.label_at(threshold) is not None for item in seen)
    text = (
        "**No picture** gets a label: the threshold stands at its end. Move it to see what a "
        "lower one would label."
        if threshold is None
        else f"**{labelled} of {len(seen)}** pictures get a label from a probability of "
        f"{threshold:g} on."
    )
    broken = [item for item in found if isinstance(item, Prediction)]
    if broken:
        text += f" {len(broken)} can’t be read: " + "; ".join(
            f"`{item.file_name[-60:]}`: {item.error}" for item in broken[:5]
        )
    return text, pairs, _probabilities(found, at)


def _caption(item: Seen, threshold: float | None) -> str:
    """Return what an image is, and how many of what were found in it where that was asked."""
    if item.objects is None:
        return _answer(item, threshold)
    counts = Counter(one.label for one in item.objects)
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{_answer(item, threshold)}; {told or 'no object'} found"


def _answer(item: Seen, threshold: float | None) -> str:
    prediction, probability = item.prediction, float(item.prediction.probability or 0)
    label = item.label_at(threshold)
    if label is not None:
        return f"{label} {percent(probability)}"
    if _is_none(prediction):
        return "none of these"
    return f"not sure: {prediction.top_label} {percent(probability)}?"


def _is_none(prediction: Prediction) -> bool:
    """Whether an image resembles none of the classes, so that a probability would mean nothing."""
    return prediction.stranger or prediction.probability is None


def _probabilities(found: list[Seen | Prediction], at: int) -> dict | None:
    seen = [item for item in found if isinstance(item, Seen)]
    if not 0 <= at < len(seen) or _is_none(seen[at].prediction):
        return None
    return seen[at].prediction.probabilities
