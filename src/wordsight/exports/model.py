"""Export a model as ONNX, OpenVINO or torch.export, with preprocessing and class names inside."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..classification.classifier import Classifier, load
from ..core.home import expand, replace_file, writing
from ..core.progress import Progress, or_notebook
from ..core.result_folder import Build, ResultFolder
from ..core.summary import Problems, Table, as_html, as_text
from ..core.threads import interrupted_with
from ..errors import InvalidArgument, WordsightError
from .answers import TOLERANCES, about, answers_of, differences
from .formats import EXPORT_DTYPES, EXPORT_FORMATS, WRITERS, need_packages, open_exported
from .quantization import Price, Run, Trial, compare, quantize, trial_images

log = logging.getLogger("wordsight")
ROOM = 4  # times the size of the weights: the most disk space an export takes while it is made
# name and value, as ONNX, OpenVINO's XML and JSON have them
MARK = re.compile(rb"wordsight_version[^0-9]{1,20}0\.1\.0\b")


@dataclass(frozen=True)
class ExportedModel:
    """A model as other tools run it.

    Attributes:
        path: the file to load; OpenVINO's weights are in a .bin beside it.
        format: "onnx", "openvino" or "torch.export".
        dtype: "f32" or "int8".
        outputs: their names, in order.
        size_bytes: size of all its files.
        images: how many images it was tried on; made-up ones if none were given.
        largest_difference: largest difference of a probability from wordsight's own.
        price: for int8, what it costs and gains compared with f32, else None.
        unreadable: (file name, reason) of given images that can't be read.
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

    @property
    def complete(self) -> bool:
        """True: it was written and gives the original's answers; otherwise `export` raises."""
        return True

    def tables(self) -> list[Table]:
        """Return nothing: the notes hold it all."""
        return []

    def notes(self) -> list[str]:
        """Return what the model answers, and how near that is to the original."""
        notes = [
            f"Model: {self.path} ({self.format}, {self.dtype}, {self.size_bytes / 2**20:.1f} MiB)",
            f"Input: pixels. Outputs: {', '.join(self.outputs)}. docs/export.md shows how to run "
            "it.",
        ]
        if "heatmap" not in self.outputs:
            notes.append("It has no heat maps: this network can't make them in one pass.")
        if self.price is not None:
            return notes + _price_notes(self.price, self.largest_difference)
        return [
            *notes,
            f"Tried on {self.images} pictures: probabilities differ from wordsight's by "
            f"{self.largest_difference:.1g} at most.",
        ]

    def problems(self) -> list[Problems]:
        """Return the given images that could not be read."""
        return [Problems("Unreadable", self.unreadable, "--json's answer")]

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html("An exported model", self)

    def to_dict(self) -> dict:
        """Return everything, ready for JSON."""
        record = {**_on_disk(asdict(self)), "path": str(self.path)}
        return {**record, "price": record["price"] and _on_disk(record["price"])}


def _on_disk(record: dict) -> dict:
    """Return a record with the key that JSON has for the number of images."""
    return {"pictures" if key == "images" else key: value for key, value in record.items()}


def _price_notes(price: Price, largest_difference: float) -> list[str]:
    """Return what int8 costs and gains, in sentences."""
    notes = [
        f"int8 beside f32 on {price.images} pictures it was not calibrated on: the same "
        f"answer in {price.same_answer:.1%}, probabilities",
        f"{price.mean_difference:.2g} apart on average, {largest_difference:.2g} at "
        f"most; {price.speed:.2f} × as fast.",
    ]
    if price.accuracy_f32 is not None:
        learned = (
            ""
            if price.held_out
            else (
                " None is marked test: where the model learned from them, only the two beside "
                "each other say something."
            )
        )
        notes.append(f"Right: {price.accuracy_int8:.1%}; in f32 {price.accuracy_f32:.1%}.{learned}")
    return notes


def export(
    model: str | os.PathLike | Classifier,
    format: str = "onnx",
    *,
    output: str | os.PathLike | None = None,
    dtype: str = "f32",
    data: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> ExportedModel:
    """Write a model as one network that other tools run without wordsight, and compare its answers
    with the original's.

    Its input `pixels` is (n, height, width, 3) uint8, RGB: upright images already resized, as
    `docs/export.md` shows; scaling is inside. Its outputs are `probabilities` (n, classes) float32,
    calibrated, and, if the model has them, `heatmap` (n, classes, h, w) float32, 0–1, `stranger`
    (n,) bool, `box` (n, 4) float32, `xyxy` as shares of the image, and, of each cell,
    `object_probabilities` (n, cells, object classes) and `object_boxes` (n, cells, 4), which are
    still to be merged. The file's metadata holds class names, threshold and how to resize.

    Args:
        model: model folder or classifier.
        format: "onnx", "openvino" or "torch.export".
        output: file to write; default: in the current folder, the model's name (with -int8 for
            int8) and the format's suffix.
        dtype: "f32", or "int8": weights and activations quantised after training, smaller and
            faster, slightly less exact.
        data: images to try it on, labelled or not; int8 needs some, and is calibrated on a part of
            them.
        progress: called with (done, total, what).

    Raises:
        NotFound: if there is no such model, or no such images.
        InvalidModel: if the model can't be read.
        InvalidArgument: if format, dtype or images do not fit, a package is missing, or the output
            exists and is something else.
        OutputError: if it can't be written.
        WordsightError: if the exported model's answers differ from the original's.
    """
    progress = or_notebook(progress)
    _check(format, dtype, data)
    classifier = model if isinstance(model, Classifier) else load(model)
    target = _target(classifier, format, dtype, output)
    need_packages(format, dtype)
    trial = trial_images(classifier, data, dtype == "int8")
    with (
        _folder(target).build() as build,
        interrupted_with("Interrupted. Nothing was written: the same command begins anew."),
    ):
        job = _Job(classifier, format, trial, build, progress)
        return _export(job, dtype, target)


def _check(format: str, dtype: str, data: str | os.PathLike | None) -> None:
    """Refuse what can't be exported.

    Raises:
        InvalidArgument: if format or dtype is unknown, they do not go together, or int8 has no
            images.
    """
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


@dataclass(frozen=True)
class _Job:
    """An export under way.

    Attributes:
        model: the model to export.
        format: the format to write.
        trial: images to compare answers on.
        build: unfinished files, beside the target.
        progress: called with (done, total, what).
    """

    model: Classifier
    format: str
    trial: Trial
    build: Build
    progress: Progress | None


def _export(job: _Job, dtype: str, target: Path) -> ExportedModel:
    log.info("Exporting as %s: up to a minute.", job.format)
    outputs = answers_of(job.model)
    written = job.build.path / f"f32{EXPORT_FORMATS[job.format]}"
    price = None
    with writing(target):
        run = _write_exact(job, written)
        far = differences(job.model, run, outputs, job.trial.pixels)
        _check_differences(far)
        if dtype == "int8":
            written, quantized = _write_int8(job, written)
            far = differences(job.model, quantized, outputs, job.trial.pixels)
            price = _price(job, run, quantized, outputs)
        size = _put_in_place(job.build, written, target)
    return ExportedModel(
        target,
        job.format,
        dtype,
        outputs,
        size,
        len(job.trial.pixels),
        far["probabilities"],
        price,
        job.trial.unreadable,
    )


def _write_exact(job: _Job, path: Path) -> Run:
    """Write the model in f32, and load it as other tools would.

    Raises:
        OSError: if the disk has too little room.
        WordsightError: if the network can't be converted.
    """
    # checked before, because a full disk makes torch abort the process
    if shutil.disk_usage(job.build.path).free < ROOM * _weights_size(job.model):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with _converting(job.model, job.format, job.build.path), warnings.catch_warnings():
        # tracing warns of values that are constant on purpose, and of its own inner workings
        warnings.simplefilter("ignore")
        WRITERS[job.format](job.model, path)
    return open_exported(path, job.format)


def _write_int8(job: _Job, exact: Path) -> tuple[Path, Run]:
    """Write an exported f32 file as int8; return its path, and the file loaded.

    Raises:
        OSError: if the disk is full.
        WordsightError: if the network can't be quantised.
    """
    path = job.build.path / f"int8{EXPORT_FORMATS[job.format]}"
    with _converting(job.model, f"{job.format} in int8", job.build.path):
        quantize(exact, path, job.format, job.trial.calibration, job.progress)
    return path, open_exported(path, job.format)


def _check_differences(far: dict[str, float]) -> None:
    """Refuse an exported model whose answers differ from the original's.

    Raises:
        WordsightError: if an output differs by more than `TOLERANCES` allow.
    """
    for name, difference in far.items():
        if not difference <= TOLERANCES[name]:
            raise WordsightError(
                f"The exported model's {name} differs from wordsight's by {difference:.2g}, "
                "so it is not kept."
            )


def _price(job: _Job, exact: Run, quantized: Run, outputs: tuple[str, ...]) -> Price:
    """Return what int8 costs and gains at the model's threshold."""
    threshold = about(job.model)["threshold"]
    return compare(
        exact,
        quantized,
        outputs,
        math.inf if threshold is None else threshold,
        job.trial,
        job.progress,
    )


def _put_in_place(build: Build, written: Path, target: Path) -> int:
    """Put the finished files in place; return their size in bytes."""
    names = {
        path.name: target.with_suffix(path.suffix).name
        for path in sorted(build.path.glob(f"{written.stem}.*"), key=lambda path: path.suffix)
    }
    for name, final in names.items():
        replace_file(build.path / name, build.path / final)
        build.add(final)
    size = sum((build.path / final).stat().st_size for final in names.values())
    # the file to load comes last: it shows that its weights are complete
    build.commit(last=[target.name])
    return size


@contextlib.contextmanager
def _converting(model: Classifier, what: str, building: Path) -> Iterator[None]:
    """Turn any error of a converter into one sentence.

    Raises:
        OSError: if the disk is full.
        WordsightError: if the network can't be converted.
    """
    try:
        yield
    except Exception as error:
        # converters raise all kinds of errors, and for a full disk none that says so
        if shutil.disk_usage(building).free < _weights_size(model):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        reason = " ".join(str(error).split())[:160]
        raise WordsightError(
            f"The network '{model.backbone.architecture}' can't be written as {what}: {reason}. "
            "Try another --format."
        ) from error


def _weights_size(model: Classifier) -> int:
    return (model.backbone.folder / "model.safetensors").stat().st_size


def _target(model: Classifier, format: str, dtype: str, output: str | os.PathLike | None) -> Path:
    """Return the file to write.

    Raises:
        InvalidArgument: if it has another suffix, or exists and is something else.
    """
    suffix = EXPORT_FORMATS[format]
    name = (
        (model.record.path or Path("model")).resolve().name
        + ("-int8" if dtype == "int8" else "")
        + suffix
    )
    target = Path(name) if output is None else expand(output)
    if target.is_dir():
        target = target / name
    if target.suffix != suffix:
        raise InvalidArgument(f"A model as {format} is a {suffix} file, got '{target}'.")
    _folder(target).claim(
        [target.name, *[target.with_suffix(".bin").name] * (format == "openvino")]
    )
    return target


def _folder(target: Path) -> ResultFolder:
    """Return the folder that an export lies in, as one that files are written into."""
    return ResultFolder(
        target.parent,
        target.name,
        adopt=lambda path: not path.is_symlink() and _by_earlier_version(target),
        not_ours="'{path}' is there already and was not exported by wordsight, or was changed "
        "since, so it is not replaced. Choose another name with -o.",
    )


def _by_earlier_version(target: Path) -> bool:
    """Whether 0.1.0, which kept no record, exported a file: its metadata says so."""
    return target.is_file() and MARK.search(target.read_bytes()) is not None
