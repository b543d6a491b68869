"""Train a classifier from labelled pictures, and find the models made before."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .backbones import DEFAULT_BACKBONE, load_backbone
from .classifier import DEFAULT_THRESHOLD, MODEL_FILES, Classifier, Progress, check_model_target
from .dataset import LabelledSet, PictureFile, read_labelled
from .embed import Embedded, Embedder
from .errors import InvalidArgument
from .head import FitReport, fit_head, fit_neighbourhood
from .home import expand, models_folder, write_atomic, writing
from .vocabulary import fold

RECIPES = ("probe",)
WORDS = "words alone"  # supervision of a head that run made for one folder of photos


def train(
    data: str | os.PathLike,
    output: str | os.PathLike | None = None,
    recipe: str = "probe",
    backbone: str = DEFAULT_BACKBONE,
    seed: int = 0,
    engine: str = "auto",
    dtype: str = "f32",
    progress: Progress | None = None,
    clean: bool = True,
) -> Classifier:
    """Train a classifier from labelled pictures and save it.

    Pictures that a `split` column gives to "test" are left out, and, unless `clean` is False, copies of the same file within
    a class and files that lie in two classes.

    Args:
        data: a folder with one subfolder a class, or a CSV with columns file_name and label.
        output: model folder; by default one named after the classes, among the models `run` finds.
        recipe: "probe": a linear head on the backbone's embeddings.
        backbone: embedded name, timm name, `hf-hub:` or `local-dir:`.
        seed: same seed, same model.
        engine: "auto", "openvino" or "torch".
        dtype: "f32" or "bf16".
        progress: called with (done, total, "pictures").
        clean: leave out what the cheap checks find.

    Raises:
        NotFound, InvalidArgument: the data can't be trained on.
        BackboneUnavailable: the backbone can't be had.
        OutputError: the model can't be written.
    """
    return train_labelled(read_labelled(data), output, recipe, Embedding(backbone, engine, dtype, progress), seed, clean=clean)


@dataclass
class Embedding:
    """How pictures become embeddings: backbone by name, engine, dtype, and whom to tell of progress."""

    backbone: str = DEFAULT_BACKBONE
    engine: str = "auto"
    dtype: str = "f32"
    progress: Progress | None = None

    def open(self) -> Embedder:
        """Return an embedder with the shared cache."""
        return Embedder(load_backbone(self.backbone), self.engine, self.dtype)

    def embed_all(self, embedder: Embedder, pictures: list[PictureFile], what: str) -> list[Embedded]:
        """Embed every picture, telling of progress."""
        done = []
        for item in embedder.embed_all(pictures):
            done.append(item)
            if self.progress:
                self.progress(len(done), len(pictures), what)
        return done


def train_labelled(
    data: LabelledSet,
    output: str | os.PathLike | None,
    recipe: str = "probe",
    how: Embedding | None = None,
    seed: int = 0,
    supervision: str = "labelled pictures",
    clean: bool = True,
) -> Classifier:
    """Train from a set already read; see `train`."""
    if recipe not in RECIPES:
        raise InvalidArgument(f"Unknown recipe '{recipe}'. Choose one of: {', '.join(RECIPES)}.")
    how = how or Embedding()
    target = default_model_path(data.class_names) if output is None else expand(output)
    check_model_target(target)
    embedder = how.open()
    try:
        every = how.embed_all(embedder, [picture for picture in data.pictures if picture.split != "test"], "pictures")
    finally:
        embedder.cache.close()
    readable, left_out = _usable([item for item in every if item.embedding is not None], clean)
    kept_for_test = sum(picture.split == "test" for picture in data.pictures)
    unreadable = [(item.file.name, item.error) for item in every if item.embedding is None]
    counts = Counter(item.file.label for item in readable)
    for name in data.class_names:
        if counts[name] < 2:
            raise InvalidArgument(f"Class '{name}' has {counts[name]} readable pictures; training needs at least 2 of each class, and 20 do well.")
    embeddings = np.stack([item.embedding for item in readable if item.embedding is not None])
    labels = np.array([data.class_names.index(str(item.file.label)) for item in readable])
    head, report = fit_head(embeddings, labels, len(data.class_names), seed)
    assert report is not None
    catch_all = _catch_all(data.class_names)
    near = labels != catch_all if catch_all is not None else np.ones(len(labels), dtype=bool)
    model = Classifier(
        data.class_names,
        head,
        embedder.backbone,
        fit_neighbourhood(embeddings[near], labels[near], seed),
        catch_all=catch_all,
        info={
            "recipe": recipe,
            "supervision": supervision,
            "seed": seed,
            "threshold": DEFAULT_THRESHOLD,
            "dtype": how.dtype,
            "pictures": {name: counts[name] for name in data.class_names},
            "unreadable": unreadable,
            "left_out": left_out,
            "kept_for_test": kept_for_test,
            "data_fingerprint": _data_fingerprint(readable),
            "licences": _licences(data.pictures),
            "metrics": _metrics(report, labels),
            "method": report.method,
            "regularisation": report.regularisation,
            "candidates": report.candidates,
        },
    )
    model.save(target)
    register(target)
    model.info["path"] = str(target)
    return model


def _usable(items: list[Embedded], clean: bool) -> tuple[list[Embedded], list[tuple[str, str]]]:
    """Return what to learn from, and (name, reason) of what the cheap checks leave out: files given twice, or in two classes."""
    labels: dict[str | None, set[str | None]] = {}
    for item in items:
        labels.setdefault(item.sha256, set()).add(item.file.label)
    kept: dict[str | None, Embedded] = {}
    usable, left_out = [], []
    for item in items:
        if clean and len(labels[item.sha256]) > 1:
            left_out.append((item.file.name, "in_two_classes"))
        elif clean and item.sha256 in kept:
            left_out.append((item.file.name, f"duplicate of {kept[item.sha256].file.name}"))
        else:
            kept[item.sha256] = item
            usable.append(item)
    return usable, left_out


def _metrics(report: FitReport, labels: np.ndarray) -> dict[str, float]:
    """Return out-of-fold figures, the last two at the default threshold."""
    accepted = report.probabilities.max(axis=1) >= DEFAULT_THRESHOLD
    right = report.probabilities.argmax(axis=1) == labels[report.rows]
    selective = float(right[accepted].mean()) if accepted.any() else 0.0
    return {
        "accuracy": report.accuracy,
        "log_loss": report.log_loss,
        "coverage": float(accepted.mean()),
        "selective_accuracy": selective,
    }


def _catch_all(class_names: list[str]) -> int | None:
    """Return the index of the class that means "anything else": `not_brick` beside `brick`."""
    if len(class_names) != 2:
        return None
    for index, name in enumerate(class_names):
        if name == f"not_{class_names[1 - index]}":
            return index
    return None


def _data_fingerprint(items: list[Embedded]) -> str:
    lines = sorted(f"{item.sha256} {item.file.label}" for item in items)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _licences(pictures: list[PictureFile]) -> dict[str, int]:
    """Count the licences that a metadata.csv beside the pictures records."""
    first = pictures[0]
    depth = first.name.count("/") + 1
    metadata = first.path.parents[depth - 1] / "metadata.csv" if len(first.path.parents) >= depth else None
    if metadata is None or not metadata.is_file():
        return {}
    with open(metadata, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        return dict(Counter(row.get("license") or "not recorded" for row in csv.DictReader(file)))


def default_model_path(class_names: Iterable[str]) -> Path:
    """Return the folder, among the models `run` finds, named after the classes."""
    names = sorted(fold(name) for name in class_names)
    readable = re.sub(r"[^\w-]+", "_", "-".join(names))[:60]
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return models_folder() / f"{readable}-{digest}"


def register(model: Path) -> None:
    """Note a model outside the models folder, so that `run` finds it again."""
    if model.parent.resolve() == models_folder().resolve():
        return
    path = os.fsencode(model.resolve())
    note = models_folder() / "registered" / hashlib.sha256(path).hexdigest()[:24]
    with writing(note):
        write_atomic(note, path)


def list_models() -> list[tuple[Path, list[str], str]]:
    """Return (folder, class names, supervision) of every model known on this machine, the newest first."""
    root = models_folder()
    folders = [path for path in root.glob("*") if path.name != "registered" and not path.name.startswith(".")]
    folders += [Path(os.fsdecode(note.read_bytes())) for note in (root / "registered").glob("*") if not note.name.startswith(".")]
    found = []
    for folder in folders:
        try:
            record = json.loads((folder / "wordsight.json").read_text(encoding="utf-8"))
            names = [str(name) for name in record["class_names"]]
            supervision = str(record["info"].get("supervision", ""))
            age = -(folder / "wordsight.json").stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # moved, deleted or damaged since
        if all((folder / name).is_file() for name in MODEL_FILES):
            found.append((age, folder, names, supervision))
    return [(folder, names, supervision) for _, folder, names, supervision in sorted(found, key=lambda item: item[0])]


def find_model(words: list[str]) -> Path | None:
    """Return the newest trained model for exactly these classes, in any order, or None."""
    wanted = {fold(word) for word in words}
    if len(words) == 1:
        wanted.add(f"not_{fold(words[0])}")
    for folder, names, supervision in list_models():
        if supervision != WORDS and {fold(name) for name in names} == wanted:
            return folder
    return None
