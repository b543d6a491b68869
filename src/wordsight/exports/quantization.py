"""Make an exported model int8, by post-training quantisation, and say what that costs and gains
beside f32.
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
from ..backbones.runtime import import_openvino, without_telemetry
from ..classification.classifier import Classifier
from ..core.home import expand
from ..core.progress import Progress
from ..datasets.annotations import ANNOTATIONS, read_labels
from ..datasets.files import ImageFile, find_images, relabel
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
        pixels: what it is tried on.
        labels: index of the class of each, or None where the images have none.
        calibration: others, to calibrate int8 on.
        held_out: whether the first are marked "test", so that the model has not learned from them.
        unreadable: (file name, reason) of each that can't be read.
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
        images: how many.
        same_answer: share of them with the same answer as f32: the same label, or silence where it
            is not sure, 0–1.
        mean_difference: of their probabilities.
        accuracy_f32, accuracy_int8: shares of right top labels, or None where no labels were given.
        held_out: whether the images are marked "test"; else the model may have learned from them.
        speed: images a second, as a multiple of f32's, one image at a time.
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
    """Choose images to try a model on, at random, or those marked "test" where any are; without
    data, a few are made up.

    Args:
        model: what is exported.
        data: labelled images of its classes, or any photos.
        calibrate: keep two thirds (or all that are not marked), at most 300, to calibrate on.
        seed: decides the choice.

    Raises:
        NotFound, InvalidArgument: no such images, or too few.
    """
    preprocessing = model.backbone.preprocessing
    if data is None:
        return Trial(
            [
                input_pixels(open_photo(_made_up(size, number)), preprocessing)
                for number, size in enumerate(MADE_SIZES)
            ],
            None,
            [],
        )
    files, labelled = _files(model, data)
    files = [files[index] for index in np.random.default_rng(seed).permutation(len(files))]
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
    unreadable: list[tuple[str, str]] = []

    def read(files: list[ImageFile]) -> list[tuple[ImageFile, np.ndarray]]:
        done = []
        for file in files:
            try:
                done.append((file, input_pixels(open_photo(file.path), preprocessing)))
            except UnreadableImage as error:
                unreadable.append((file.name, str(error)))
        return done

    calibration, tried = read(first[:kept]), read((held_out or files[kept:])[:TRIED_ON])
    if not tried or len(calibration) < min(kept, FEWEST // 2):
        raise InvalidArgument(
            f"Too few of the pictures in '{data}' can be read; the first that can't: "
            f"'{unreadable[0][0]}': {unreadable[0][1]}."
        )
    labels = [model.class_names.index(str(file.label)) for file, _ in tried] if labelled else None
    return Trial(
        [pixels for _, pixels in tried],
        labels,
        [pixels for _, pixels in calibration],
        bool(held_out),
        unreadable,
    )


def quantize(
    source: Path,
    target: Path,
    format: str,
    calibration: list[np.ndarray],
    progress: Progress | None = None,
) -> None:
    """Write an exported file ("onnx" or "openvino") as int8, calibrated on images."""

    def told(number: int) -> dict[str, np.ndarray]:
        if progress:
            progress(number + 1, len(calibration), "calibration pictures")
        return {"pixels": calibration[number][None]}

    # The libraries draw bars of their own on standard output, where an answer may be awaited, and
    # warn of what can't be helped.
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            (_quantize_onnx if format == "onnx" else _quantize_openvino)(
                source, target, told, len(calibration)
            )
    finally:
        logging.disable(level)


def _quantize_openvino(
    source: Path, target: Path, told: Callable[[int], dict[str, np.ndarray]], count: int
) -> None:
    with without_telemetry():
        import nncf
    ov = import_openvino()
    quantized = nncf.quantize(
        ov.Core().read_model(source), nncf.Dataset(range(count), told), subset_size=count
    )
    ov.save_model(quantized, target, compress_to_fp16=False)


def _quantize_onnx(
    source: Path, target: Path, told: Callable[[int], dict[str, np.ndarray]], count: int
) -> None:
    """Quantise with ONNX Runtime's own tool: what NNCF writes as ONNX ran at 0.4 times the
    speed of f32 there, this at 1.3 times.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = map(told, range(count))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.images, None)

    # Unsigned activations, and weights of seven bits, which processors without VNNI add up without
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
    """Run both on every image of a trial, in turn.

    Args:
        exact, quantized: the exported model in f32 and in int8.
        outputs: names of what they give, in order.
        threshold: probability from which a label is given, 0–1, or infinite where nothing gets one.
        trial: images.
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
            said = dict(zip(outputs, run(one[None]), strict=True))
            seconds[run].append(time.perf_counter() - start)
            answers[run].append(said["probabilities"][0])
            silent[run].append(
                bool(
                    said["probabilities"].max() < threshold
                    or ("stranger" in said and said["stranger"][0])
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
    """Return the images of data whose labels the model knows, or, of a folder that names none of
    its classes, all images, and whether they have labels.

    Raises:
        NotFound, InvalidArgument: no such images, or labels that can't be read, or none that the
            model knows.
    """
    path, known = expand(data), {fold(name) for name in model.class_names}
    tables = (
        any((path / name).is_file() for name in (*ANNOTATIONS, "metadata.csv"))
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
