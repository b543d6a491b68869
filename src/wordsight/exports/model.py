"""Give a model to other tools: ONNX, OpenVINO or torch.export, with its preprocessing and its
class names inside.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import logging
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..backbones.preprocessing import STRIDE
from ..backbones.runtime import Encoding, import_openvino, open_runtime
from ..classification.classifier import Classifier, load
from ..classification.model_folder import DEFAULT_THRESHOLD
from ..core.home import expand, writing
from ..core.progress import Progress, or_notebook
from ..core.result_folder import ResultFolder, building
from ..core.threads import interrupted_with, uninterrupted
from ..errors import InvalidArgument, WordsightError
from ..heatmaps.one_pass import class_heatmap
from .quantization import Price, Run, Trial, compare, quantize, trial_images

log = logging.getLogger("wordsight")
EXPORT_FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch.export": ".pt2"}
EXPORT_DTYPES = ("f32", "int8")
# Of an exported model's answers from our own: the largest difference, and of strangers the share
# that differs.
TOLERANCES = {"probabilities": 1e-3, "heatmap": 1e-2, "stranger": 0.02, "box": 1e-3}
ROOM = 4  # times the size of its weights: what an export may take while it is made
MARK = b"wordsight_version"


@dataclass(frozen=True)
class ExportedModel:
    """A model as other tools run it.

    Attributes:
        path: the file to load; OpenVINO's weights lie beside it, in a .bin.
        format: "onnx", "openvino" or "torch.export".
        dtype: "f32" or "int8".
        outputs: their names, in order.
        size_bytes: of all its files.
        images: how many it was tried on; made up where none were given.
        largest_difference: of a probability on them from wordsight's own.
        price: for int8, what it costs and gains beside f32, else None.
        unreadable: (file name, reason) of each image given that can't be read.
    """

    path: Path
    format: str
    dtype: str
    outputs: tuple[str, ...]
    size_bytes: int
    images: int
    largest_difference: float
    price: Price | None
    unreadable: list[tuple[str, str]]

    def as_json(self) -> dict:
        """Return everything, ready for JSON."""
        record = {**asdict(self), "path": str(self.path)}
        return {"pictures" if key == "images" else key: value for key, value in record.items()}


def export(
    model: str | os.PathLike | Classifier,
    format: str = "onnx",
    output: str | os.PathLike | None = None,
    dtype: str = "f32",
    data: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> ExportedModel:
    """Write a model as one network that other tools run without wordsight, and try it beside the
    original.

    Its input `pixels` is (n, height, width, 3) uint8, RGB: upright images already resized, as
    `docs/export.md` shows; scaling is inside. Its outputs are `probabilities` (n, classes) float32,
    calibrated, and, where the model has them, `heatmap` (n, classes, h, w) float32, 0–1, `stranger`
    (n,) bool and `box` (n, 4) float32, `xyxy` as shares of the image. Class names, threshold and
    what resizing is due are in the file's metadata.

    Args:
        model: model folder or classifier.
        format: "onnx", "openvino" or "torch.export".
        output: file to write; default: the model's name (for int8 with -int8) and the format's
            ending, here.
        dtype: "f32", or "int8": weights and activations quantised after training, smaller and
            faster, slightly less exact.
        data: images to try it on, labelled or not; int8 is calibrated on a part of them and needs
            some.
        progress: called with (done, total, what).

    Raises:
        NotFound, InvalidModel, InvalidArgument: no such model, format, dtype or images, a package
            is missing, or the output is something else.
        OutputError: it can't be written.
        WordsightError: the exported model says something else than the original.
    """
    progress = or_notebook(progress)
    if format not in EXPORT_FORMATS:
        raise InvalidArgument(
            f"Unknown format '{format}'. Choose one of: {', '.join(EXPORT_FORMATS)}."
        )
    if dtype not in EXPORT_DTYPES:
        raise InvalidArgument(
            f"Unknown dtype '{dtype}'. Choose one of: {', '.join(EXPORT_DTYPES)}."
        )
    if dtype == "int8" and format == "torch.export":
        raise InvalidArgument(
            "int8 is made for onnx and openvino only. Choose one of these, or leave --dtype out."
        )
    if dtype == "int8" and data is None:
        raise InvalidArgument(
            "int8 needs pictures to be calibrated on: give some hundred like those it will "
            "see, with --data."
        )
    classifier = model if isinstance(model, Classifier) else load(model)
    target = _target(classifier, format, dtype, output)
    _need(format, dtype)
    tried = trial_images(classifier, data, dtype == "int8")
    with (
        building(target) as hidden,
        interrupted_with("Interrupted. Nothing was written: the same command begins anew."),
    ):
        return _export(classifier, format, dtype, tried, hidden, target, progress)


def _export(
    model: Classifier,
    format: str,
    dtype: str,
    tried: Trial,
    building: Path,
    target: Path,
    progress: Progress | None,
) -> ExportedModel:
    from .network import ExportedNetwork

    log.info("Exporting as %s: up to a minute.", format)
    network = ExportedNetwork(model).eval()
    outputs = tuple(network.outputs)
    whole = building / f"f32{EXPORT_FORMATS[format]}"
    with writing(target):
        # before, because a full disk makes torch abort the process
        if shutil.disk_usage(building).free < ROOM * _weights_size(model):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with _converting(model, format, building), warnings.catch_warnings():
            # tracing warns of constants that are constant on purpose, and of its own ways
            warnings.simplefilter("ignore")
            _WRITERS[format](network, model, whole)
        run = open_exported(whole, format)
        far, written, price = differences(model, run, outputs, tried.pixels), whole, None
        for name, difference in far.items():
            if not difference <= TOLERANCES[name]:
                raise WordsightError(
                    f"The exported model's {name} differs from wordsight's by {difference:.2g}, "
                    "so it is not kept."
                )
        if dtype == "int8":
            written = building / f"int8{EXPORT_FORMATS[format]}"
            with _converting(model, f"{format} in int8", building):
                quantize(whole, written, format, tried.calibration, progress)
            quantized = open_exported(written, format)
            far = differences(model, quantized, outputs, tried.pixels)
            threshold = about(model)["threshold"]
            price = compare(
                run,
                quantized,
                outputs,
                math.inf if threshold is None else threshold,
                tried,
                progress,
            )
        files = {
            target.with_suffix(path.suffix): path
            for path in sorted(building.glob(f"{written.stem}.*"), key=lambda path: path.suffix)
        }
        size = sum(path.stat().st_size for path in files.values())
        with uninterrupted():
            target.unlink(missing_ok=True)
            # .bin before .xml, whose presence says that both are whole
            for final, path in files.items():
                os.replace(path, final)
    return ExportedModel(
        target,
        format,
        dtype,
        outputs,
        size,
        len(tried.pixels),
        far["probabilities"],
        price,
        tried.unreadable,
    )


@contextlib.contextmanager
def _converting(model: Classifier, what: str, building: Path) -> Iterator[None]:
    """Turn what converters raise into one sentence.

    Raises:
        OSError: the disk is full.
        WordsightError: the network can't be converted.
    """
    try:
        yield
    except Exception as error:
        # converters raise whatever they like, and their own words of a full disk name none
        if shutil.disk_usage(building).free < _weights_size(model):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        said = " ".join(str(error).split())[:160]
        raise WordsightError(
            f"The network '{model.backbone.architecture}' can't be written as {what}: {said}. "
            "Try another --format."
        ) from error


def _weights_size(model: Classifier) -> int:
    return (model.backbone.folder / "model.safetensors").stat().st_size


def about(model: Classifier) -> dict[str, Any]:
    """Return what a file says of its model: JSON-ready, by key."""
    preprocessing = model.backbone.preprocessing
    return {
        "wordsight_version": __version__,
        "class_names": model.class_names,
        "threshold": model.info.get("threshold", DEFAULT_THRESHOLD),
        "preprocessing": {
            "image_size": list(preprocessing.image_size),
            "fit": preprocessing.fit,
            "multiple_of": STRIDE,
            "interpolation": preprocessing.interpolation,
        },
    }


def open_exported(path: Path, format: str) -> Run:
    """Load an exported file as others would, and return what answers (n, height, width, 3)
    uint8 pixels with its outputs, in order.
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


def differences(
    model: Classifier, run: Run, outputs: tuple[str, ...], pixels: list[np.ndarray]
) -> dict[str, float]:
    """Return by output how far an exported model is from wordsight itself on images (height,
    width, 3) uint8: at most; of strangers, the share.
    """
    runtime = open_runtime(model.backbone, "openvino")
    far: dict[str, list[float]] = {name: [] for name in outputs}
    for one in pixels:
        encoding = runtime.encode(one, feature_map=True)
        own = _own_answers(model, encoding)
        for name, said in zip(outputs, run(one[None]), strict=True):
            far[name].append(float(np.abs(said[0].astype(np.float64) - own[name]).max()))
    return {
        name: float(np.mean(values) if name == "stranger" else np.max(values))
        for name, values in far.items()
    }


def _own_answers(model: Classifier, encoding: Encoding) -> dict[str, np.ndarray]:
    """Return what the model itself says of an image, by output."""
    probabilities = model.head.probabilities(encoding.embedding[None])[0]
    answers = {
        "probabilities": probabilities,
        "stranger": model.is_stranger(encoding.embedding[None])[0]
        & (probabilities.argmax() != model.catch_all),
    }
    if encoding.feature_map is not None:
        answers["heatmap"] = np.stack(
            [class_heatmap(encoding.feature_map, row) for row in model.head.weight]
        )
        if model.box_head is not None:
            answers["box"] = model.box_head.box(encoding.feature_map)
    return answers


def _target(model: Classifier, format: str, dtype: str, output: str | os.PathLike | None) -> Path:
    """Return the file to write.

    Raises:
        InvalidArgument: it has another ending, or is something else already.
    """
    suffix = EXPORT_FORMATS[format]
    name = (
        Path(model.info.get("path", "model")).resolve().name
        + ("-int8" if dtype == "int8" else "")
        + suffix
    )
    target = Path(name) if output is None else expand(output)
    if target.is_dir():
        target = target / name
    if target.suffix != suffix:
        raise InvalidArgument(f"A model as {format} is a {suffix} file, got '{target}'.")
    ours = target.is_file() and MARK in target.read_bytes()
    ResultFolder(
        target.parent,
        judge=lambda path: ours and not path.is_symlink(),
        not_ours="'{path}' is there already and was not exported by wordsight, so it is not "
        "replaced. Choose another name with -o.",
    ).claim([target.name, *[target.with_suffix(".bin").name] * (format == "openvino")])
    return target


def _need(format: str, dtype: str) -> None:
    """Refuse what is not installed.

    Raises:
        InvalidArgument: a package is missing.
    """
    needed = ("onnx", "onnxscript", "onnxruntime") * (format == "onnx") + ("nncf",) * (
        dtype == "int8" and format == "openvino"
    )
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidArgument(
            f"Exporting as {format}{' in int8' * (dtype == 'int8')} needs "
            f"{' and '.join(missing)}: pip install 'wordsight[export]'."
        )


def _example(model: Classifier) -> tuple[Any, Any]:
    """Return pixels to trace with, and torch.export's description of which sides may vary."""
    import torch

    height, width = model.backbone.preprocessing.image_size
    varying: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=4096)}
    if model.backbone.preprocessing.fit == "area":
        width += STRIDE  # two sides that differ by chance would be taken for one
        varying |= {
            1: STRIDE * torch.export.Dim("rows", min=1, max=128),
            2: STRIDE * torch.export.Dim("columns", min=1, max=128),
        }
    return torch.zeros(2, height, width, 3, dtype=torch.uint8), (varying,)


def _traced(network: Any, model: Classifier) -> Any:
    """Return the network as torch's exported program."""
    import torch

    pixels, varying = _example(model)
    with torch.no_grad():
        return torch.export.export(network, (pixels,), dynamic_shapes=varying)


def _write_torch(network: Any, model: Classifier, path: Path) -> None:
    import torch

    torch.export.save(
        _traced(network, model), path, extra_files={"wordsight.json": json.dumps(about(model))}
    )


def _write_onnx(network: Any, model: Classifier, path: Path) -> None:
    import onnx
    import torch

    traced = _traced(network, model)
    program = torch.onnx.export(
        traced,
        dynamo=True,
        input_names=["pixels"],
        output_names=list(network.outputs),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    del proto.graph.value_info[:]  # shapes of what lies between, under names that nobody knows
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


def _write_openvino(network: Any, model: Classifier, path: Path) -> None:
    ov = import_openvino()
    pixels, _ = _example(model)
    sides = (
        (-1, -1)
        if model.backbone.preprocessing.fit == "area"
        else model.backbone.preprocessing.image_size
    )
    converted = ov.convert_model(
        network, example_input=pixels, input=[ov.PartialShape([-1, *sides, 3])]
    )
    converted.set_friendly_name("wordsight")
    converted.inputs[0].get_tensor().set_names({"pixels"})
    for port, name in zip(converted.outputs, network.outputs, strict=True):
        port.get_tensor().set_names({name})
    for key, value in about(model).items():
        converted.set_rt_info(json.dumps(value, ensure_ascii=False), ["wordsight", key])
    ov.save_model(converted, path, compress_to_fp16=False)


_WRITERS: dict[str, Callable[[Any, Classifier, Path], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch.export": _write_torch,
}
