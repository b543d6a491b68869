"""Make an exported model int8 by post-training quantisation, and measure its accuracy and speed
against f32.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..backbones.embedder import input_pixels, open_photo
from ..backbones.openvino_engine import import_openvino, without_telemetry
from ..classification.classifier import Classifier
from ..core.home import expand
from ..core.progress import Progress
from ..datasets.annotations import annotation_file, read_labels
from ..datasets.files import ImageFile, find_images
from ..datasets.labelled import relabel
from ..errors import InvalidArgument, UnreadableImage
from ..words.class_names import fold

log = logging.getLogger("wordsight")
CALIBRATED_ON = 300  # images
TRIED_ON = 300
FEWEST = 30  # images, of which two thirds calibrate
# (height, width) of images made up where none are given
MADE_SIZES = ((240, 320), (320, 240), (300, 300), (200, 500))
Run = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Trial:
    """Images to try an exported model on, as a network takes them: (height, width, 3) uint8.

    Attributes:
        pixels: the images to try it on.
        labels: class index of each of them, or None if they have no labels.
        calibration: other images, to calibrate int8 on.
        held_out: whether `pixels` are marked "test", so that the model has not learned from them.
        unreadable: (file name, reason) of images that can't be read.
    """

    pixels: list[np.ndarray]
    labels: list[int] | None
    calibration: list[np.ndarray]
    held_out: bool = False
    unreadable: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Price:
    """What int8 costs and gains, on images it was not calibrated on.

    Attributes:
        images: how many images.
        same_answer: share of images with the same answer as f32, the same label or none, 0–1.
        mean_difference: mean absolute difference of the probabilities.
        accuracy_f32, accuracy_int8: shares of right top labels, or None if no labels were given.
        held_out: whether the images are marked "test"; else the model may have learned from them.
        speed: images per second, as a multiple of f32's, one image at a time.
    """

    images: int
    same_answer: float
    mean_difference: float
    accuracy_f32: float | None
    accuracy_int8: float | None
    held_out: bool
    speed: float


def trial_images(
    model: Classifier, data: str | os.PathLike | None, calibrate: bool, seed: int = 0
) -> Trial:
    """Choose images to try a model on: those marked "test" if there are any, else random ones.
    Without data, make a few up.

    Args:
        model: the model to export.
        data: labelled images of its classes, or any photos.
        calibrate: whether to keep images to calibrate on: two thirds, or all that are not marked
            "test", at most 300.
        seed: decides the choice.

    Raises:
        NotFound: if there are no such images.
        InvalidArgument: if there are too few, or too few can be read.
    """
    if data is None:
        return _made_up_trial(model)
    files, labelled = _files(model, data)
    files = [files[index] for index in np.random.default_rng(seed).permutation(len(files))]
    held_out = any(file.split == "test" for file in files)
    to_calibrate, to_try = _divide(files, calibrate, data)
    unreadable: list[tuple[str, str]] = []
    calibration = _read_pixels(model, to_calibrate, unreadable)
    tried = _read_pixels(model, to_try, unreadable)
    if not tried or len(calibration) < min(len(to_calibrate), FEWEST // 2):
        raise InvalidArgument(
            f"Too few of the pictures in '{data}' can be read; the first that can't: "
            f"'{unreadable[0][0]}': {unreadable[0][1]}."
        )
    labels = [model.class_names.index(str(file.label)) for file, _ in tried] if labelled else None
    return Trial(
        [pixels for _, pixels in tried],
        labels,
        [pixels for _, pixels in calibration],
        held_out,
        unreadable,
    )


def _made_up_trial(model: Classifier) -> Trial:
    """Return a trial of made-up images."""
    photos = [open_photo(_made_up(size, number)) for number, size in enumerate(MADE_SIZES)]
    pixels = [input_pixels(photo, model.backbone.preprocessing) for photo in photos]
    return Trial(pixels, None, [])


def _divide(
    files: list[ImageFile], calibrate: bool, data: str | os.PathLike
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Return the files to calibrate on (none unless asked for) and those to try the model on.

    Raises:
        InvalidArgument: if there are too few to calibrate on.
    """
    if calibrate and len(files) < FEWEST:
        raise InvalidArgument(
            f"int8 needs at least {FEWEST} pictures to be calibrated and tried on; '{data}' has "
            f"{len(files)}."
        )
    held_out = [file for file in files if file.split == "test"]
    first = [file for file in files if file.split != "test"] if held_out else files
    if calibrate and len(first) < FEWEST // 2:
        raise InvalidArgument(
            f"int8 is calibrated on pictures that are not marked test, at least {FEWEST // 2}; "
            f"'{data}' has {len(first)}."
        )
    kept = min(CALIBRATED_ON, len(first) if held_out else 2 * len(files) // 3) if calibrate else 0
    return first[:kept], (held_out or files[kept:])[:TRIED_ON]


def _read_pixels(
    model: Classifier, files: list[ImageFile], unreadable: list[tuple[str, str]]
) -> list[tuple[ImageFile, np.ndarray]]:
    """Return each file with its pixels; append (name, reason) of the others to `unreadable`."""
    done = []
    for file in files:
        try:
            done.append((file, input_pixels(open_photo(file.path), model.backbone.preprocessing)))
        except UnreadableImage as error:
            unreadable.append((file.name, str(error)))
    return done


def quantize(
    source: Path,
    target: Path,
    format: str,
    calibration: list[np.ndarray],
    progress: Progress | None = None,
) -> None:
    """Write an exported file ("onnx" or "openvino") as int8, calibrated on images."""

    def inputs(number: int) -> dict[str, np.ndarray]:
        if progress:
            progress(number + 1, len(calibration), "calibration pictures")
        return {"pixels": calibration[number][None]}

    # The libraries draw bars of their own on standard output, where others may read our answer, and
    # warn of things that nobody can change.
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            (_quantize_onnx if format == "onnx" else _quantize_openvino)(
                source, target, inputs, len(calibration)
            )
    finally:
        logging.disable(level)


def _quantize_openvino(
    source: Path, target: Path, inputs: Callable[[int], dict[str, np.ndarray]], count: int
) -> None:
    with without_telemetry():
        import nncf
    ov = import_openvino()
    quantized = nncf.quantize(
        ov.Core().read_model(source), nncf.Dataset(range(count), inputs), subset_size=count
    )
    ov.save_model(quantized, target, compress_to_fp16=False)


def _quantize_onnx(
    source: Path, target: Path, inputs: Callable[[int], dict[str, np.ndarray]], count: int
) -> None:
    """Quantise with ONNX Runtime's own tool, whose files run at 1.3 times the speed of f32 there;
    those of NNCF ran at 0.4 times.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = map(inputs, range(count))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.images, None)

    # Unsigned activations and seven-bit weights: processors without VNNI add those up without
    # overflow.
    kinds = {
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "per_channel": True,
        "reduce_range": True,
    }
    quantize_static(source, target, Reader(), quant_format=QuantFormat.QDQ, **kinds)


def compare(
    exact: Run,
    quantized: Run,
    outputs: tuple[str, ...],
    threshold: float,
    trial: Trial,
    progress: Progress | None = None,
) -> Price:
    """Run the exact and the quantised model on every image of a trial, in turn.

    Args:
        exact, quantized: the exported model in f32 and in int8.
        outputs: names of their outputs, in order.
        threshold: probability from which a label is given, 0–1, or infinity if none is ever given.
        trial: the images.
        progress: called with (done, total, what).
    """
    answers: dict[Run, list[np.ndarray]] = {exact: [], quantized: []}
    silent: dict[Run, list[bool]] = {exact: [], quantized: []}
    seconds: dict[Run, list[float]] = {exact: [], quantized: []}
    for run in answers:
        run(trial.pixels[0][None])  # the first is slow
    for number, one in enumerate(trial.pixels, start=1):
        for run in answers:
            start = time.perf_counter()
            answer = dict(zip(outputs, run(one[None]), strict=True))
            seconds[run].append(time.perf_counter() - start)
            answers[run].append(answer["probabilities"][0])
            silent[run].append(
                bool(
                    answer["probabilities"].max() < threshold
                    or ("stranger" in answer and answer["stranger"][0])
                )
            )
        if progress:
            progress(number, len(trial.pixels), "pictures tried in f32 and int8")
    before, after = np.stack(answers[exact]), np.stack(answers[quantized])
    labels = [
        np.where(silent[run], -1, np.argmax(answers[run], axis=1)) for run in (exact, quantized)
    ]
    truth = None if trial.labels is None else np.array(trial.labels)
    return Price(
        len(trial.pixels),
        float((labels[0] == labels[1]).mean()),
        float(np.abs(before - after).mean()),
        None if truth is None else float((before.argmax(axis=1) == truth).mean()),
        None if truth is None else float((after.argmax(axis=1) == truth).mean()),
        trial.held_out,
        float(np.median(seconds[exact]) / np.median(seconds[quantized])),
    )


def _files(model: Classifier, data: str | os.PathLike) -> tuple[list[ImageFile], bool]:
    """Return the images whose labels the model knows, and whether they have labels.

    A folder without labels, in which no subfolder is named for a class of the model, gives all its
    images.

    Raises:
        NotFound: if there are no such images.
        InvalidArgument: if the labels can't be read, or the model knows none of them.
    """
    path, known = expand(data), {fold(name) for name in model.class_names}
    tables = path.is_dir() and (
        annotation_file(path) is not None
        or (path / "metadata.csv").is_file()
        or (path / "Annotations").is_dir()
    )
    named = path.is_dir() and any(
        entry.is_dir() and fold(entry.name) in known for entry in path.iterdir()
    )
    if path.is_dir() and not tables and not named:
        return find_images([path]).images, False
    if path.is_file() and path.suffix.lower() not in (".csv", ".json", ".jsonl", ".yaml", ".yml"):
        return find_images([path]).images, False
    labelled = read_labels(data, min_classes=1)
    chosen = relabel(labelled, model.class_names).images
    if not chosen:
        raise InvalidArgument(
            f"The model knows no class of '{data}'; it knows: {', '.join(model.class_names)}."
        )
    if len(chosen) < len(labelled.images):
        log.info(
            "%d pictures of classes that the model doesn't know are left out.",
            len(labelled.images) - len(chosen),
        )
    return chosen, True


def _made_up(size: tuple[int, int], seed: int) -> np.ndarray:
    """Return an image (height, width, 3) uint8 of soft random colours."""
    from PIL import Image

    rough = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize(size[::-1], Image.Resampling.BICUBIC))
