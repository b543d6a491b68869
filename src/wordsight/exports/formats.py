"""The formats of exported models: what each takes, how it is written, and how others load it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones.devices import need_torch
from ..backbones.openvino_engine import import_openvino
from ..backbones.preprocessing import STRIDE
from ..classification.classifier import Classifier
from ..errors import InvalidArgument
from .answers import about, answers_of
from .openvino_network import openvino_network
from .quantization import Run

EXPORT_FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch.export": ".pt2"}
EXPORT_DTYPES = ("f32", "int8")


def need_packages(format: str, dtype: str) -> None:
    """Refuse an export whose packages are not installed.

    Raises:
        InvalidArgument: if a package is missing.
    """
    if format != "openvino":
        extra = "train,export" if format == "onnx" else "train"
        instead = ", or choose --format openvino, which needs nothing more"
        need_torch(f"Exporting as {format}", extra=extra, instead=instead)
    needed = ("onnx", "onnxscript", "onnxruntime") * (format == "onnx") + ("nncf",) * (
        dtype == "int8" and format == "openvino"
    )
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidArgument(
            f"Exporting as {format}{' in int8' * (dtype == 'int8')} needs "
            f"{' and '.join(missing)}: pip install 'wordsight[export]'."
        )


def open_exported(path: Path, format: str) -> Run:
    """Load an exported file as other tools would.

    Returns:
        A function that maps pixels (n, height, width, 3) uint8 to the outputs, in order.
    """
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {"pixels": pixels})
    if format == "openvino":
        compiled = (
            import_openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        )
        return lambda pixels: list(compiled(pixels).to_tuple())
    import torch

    module = torch.export.load(path).module()

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [output.numpy() for output in module(torch.tensor(pixels))]

    return run


def _example(model: Classifier) -> tuple[Any, Any]:
    """Return pixels to trace with, and torch.export's description of which sides may vary."""
    import torch

    height, width = model.backbone.preprocessing.image_size
    varying: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=4096)}
    if model.backbone.preprocessing.fit == "area":
        width += STRIDE  # torch.export would take two equal sides for one
        varying |= {
            1: STRIDE * torch.export.Dim("rows", min=1, max=128),
            2: STRIDE * torch.export.Dim("columns", min=1, max=128),
        }
    return torch.zeros(2, height, width, 3, dtype=torch.uint8), (varying,)


def _traced(model: Classifier) -> Any:
    """Return the model as torch's exported program."""
    import torch

    from .network import ExportedNetwork

    network = ExportedNetwork(model).eval()
    pixels, varying = _example(model)
    with torch.no_grad():
        return torch.export.export(network, (pixels,), dynamic_shapes=varying)


def _write_torch(model: Classifier, path: Path) -> None:
    import torch

    torch.export.save(
        _traced(model), path, extra_files={"wordsight.json": json.dumps(about(model))}
    )


def _write_onnx(model: Classifier, path: Path) -> None:
    import onnx
    import torch

    program = torch.onnx.export(
        _traced(model),
        dynamo=True,
        input_names=["pixels"],
        output_names=list(answers_of(model)),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    del proto.graph.value_info[:]  # shapes of inner values, whose names mean nothing to others
    height, width = (
        ("height", "width") if model.backbone.preprocessing.fit == "area" else (None, None)
    )
    _name_sides(proto.graph.input[0], ("batch", height, width))
    for output in proto.graph.output:
        _name_sides(output, ("batch",))
    onnx.helper.set_model_props(
        proto, {key: json.dumps(value, ensure_ascii=False) for key, value in about(model).items()}
    )
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def _name_sides(tensor: Any, names: tuple[str | None, ...]) -> None:
    for side, name in zip(tensor.type.tensor_type.shape.dim, names, strict=False):
        if name is not None:
            side.dim_param = name


def _write_openvino(model: Classifier, path: Path) -> None:
    ov = import_openvino()
    network = openvino_network(ov, model)
    for key, value in about(model).items():
        network.set_rt_info(json.dumps(value, ensure_ascii=False), ["wordsight", key])
    ov.save_model(network, path, compress_to_fp16=False)


WRITERS: dict[str, Callable[[Classifier, Path], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch.export": _write_torch,
}
