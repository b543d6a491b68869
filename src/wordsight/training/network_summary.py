"""A network as people like to see it: a table of its layers with shapes and parameters, and a
drawing of their order.
"""

from __future__ import annotations

import os
from typing import Any

from ..backbones.devices import need_torch
from ..backbones.networks.timm_models import build_module
from ..classification.classifier import load
from ..classification.model_folder import model_files
from ..core.home import expand, writing

MOST_BOXES = 60
FINEST = 3  # levels of nesting that a box may lie deep


def draw_network(model: str | os.PathLike) -> str:
    """Write `plots/layers.txt` and `plots/network.png` into a model folder, and return the table.

    The drawing has a box for each layer or block, in the order in which an image passes through
    them, with the shape it comes out in. Blocks are opened as far as the drawing stays readable;
    what branches inside one (a residual connection) is not drawn.

    Raises:
        NotFound, InvalidModel: if there is no such model.
        InvalidArgument: if torchinfo is not installed, or one of the files is there and is
            somebody else's.
        OutputError: if the files can't be written.
    """
    need_torch("A drawing of the network", "torchinfo")
    classifier = load(model)
    height, width = classifier.backbone.preprocessing.image_size
    module = build_module(classifier.backbone)
    module.reset_classifier(len(classifier.class_names))
    summary = _summarise(module, (1, 3, height, width))
    table = f"{classifier.backbone.architecture}, input {height} × {width}\n{summary}\n"
    from ..reports import figures as plots
    from ..reports.canvas import png

    drawing = plots.network(
        classifier.backbone.architecture, [("input", (1, 3, height, width), 0), *_boxes(summary)]
    )
    folder = expand(model)
    with writing(folder), model_files(folder).build() as build:
        build.adopt()
        build.write("plots/layers.txt", table.encode())
        build.write("plots/network.png", png(drawing))
        build.commit(keep=True)
    return table


def _summarise(module: Any, size: tuple[int, ...]) -> Any:
    import torch
    import torchinfo

    with torch.inference_mode():
        names = ("kernel_size", "output_size", "num_params")
        return torchinfo.summary(
            module,
            input_size=size,
            depth=FINEST,
            col_names=names,
            row_settings=("var_names", "depth"),
            verbose=0,
            device="cpu",
        )


def _boxes(summary: Any) -> list[tuple[str, tuple[int, ...], int]]:
    """Return (name, output shape, parameters) of the blocks in order, as finely as fits."""
    for depth in range(FINEST, 0, -1):
        chosen = _opened(summary.summary_list[0], depth)
        if len(chosen) <= MOST_BOXES:
            break
    names = [
        layer.class_name if layer.var_name.isdigit() else f"{layer.var_name}: {layer.class_name}"
        for layer in chosen
    ]
    return [
        (name, tuple(layer.output_size), int(layer.num_params))
        for name, layer in zip(names, chosen, strict=True)
    ]


def _opened(layer: Any, depth: int) -> list[Any]:
    """Return what a layer consists of, down to a depth; one with parameters of its own, beside
    its parts', stays whole.
    """
    parts = [part for part in layer.children if part.depth == layer.depth + 1]
    own = layer.num_params - sum(part.num_params for part in parts)
    if layer.depth == depth or not parts or (own and layer.depth > 0):
        return [layer]
    return [box for part in parts for box in _opened(part, depth)]
