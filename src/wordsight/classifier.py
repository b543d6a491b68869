"""The classifier: a backbone, a head and a sense of what is foreign to it. Predicts pictures, saves and loads itself."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from . import __version__
from .backbones import Backbone, Preprocessing, embedded_backbones, find_prepared, fingerprint_weights, load_backbone
from .dataset import RESULT_FOLDERS, PictureFile, find_pictures
from .embed import Embedder, parallel_map, read
from .errors import BackboneUnavailable, InvalidArgument, InvalidModel, NotFound, OutputError, UnreadableImage
from .head import LinearHead, Neighbourhood
from .home import expand, writing
from .images import decode
from .localize import class_heatmap, heatmap_box
from .results import Counts, Prediction, Results, ResultsWriter
from .runtime import callers
from .words_head import Gate

FORMAT = 1
DEFAULT_THRESHOLD = 0.99
MODEL_FILES = ("wordsight.json", "config.json", "model.safetensors")
OTHER_MODEL_FILES = ("strangers.safetensors", "README.md", "history.csv")

Progress = Callable[[int, int, str], None]  # done, total, what is counted


@dataclass
class Classifier:
    """A trained classifier.

    Attributes:
        class_names: in the head's order.
        head: linear head on the backbone's embedding.
        backbone: prepared backbone.
        neighbourhood: where the training pictures lie, or None.
        gate: for heads made from words, how much of the backbone's own probability the words hold, else None.
        catch_all: index of a class that means "anything else" (of a yes/no question), or None. Nothing is foreign to it.
        info: recipe, supervision, counts, metrics; kept in wordsight.json.
    """

    class_names: list[str]
    head: LinearHead
    backbone: Backbone
    neighbourhood: Neighbourhood | None = None
    gate: Gate | None = None
    catch_all: int | None = None
    info: dict = field(default_factory=dict)

    def is_stranger(self, embeddings: np.ndarray) -> np.ndarray:
        """Tell for embeddings (n, C) whether each lies outside what the model learned from, (n,) bool."""
        stranger = np.zeros(len(embeddings), dtype=bool)
        if self.neighbourhood is not None:
            stranger |= self.neighbourhood.similarity(embeddings) < self.neighbourhood.limit
        if self.gate is not None:
            stranger |= self.gate.turns_away(embeddings)
        return stranger

    def familiarity(self, embeddings: np.ndarray) -> np.ndarray:
        """Return how near embeddings (n, C) lie to what the model learned from, (n,); larger is more familiar.

        Raises:
            InvalidArgument: the model keeps nothing to compare with.
        """
        if self.neighbourhood is None:
            raise InvalidArgument("This model can't say how familiar a picture is: it keeps no picture it learned from. Train one with 'wordsight train'.")
        return self.neighbourhood.similarity(embeddings)

    def decide(self, name: str, embedding: np.ndarray, threshold: float) -> Prediction:
        """Return the prediction for one embedding (C,): label only if sure enough and no stranger."""
        probabilities = self.head.probabilities(embedding[None])[0]
        top = int(probabilities.argmax())
        stranger = top != self.catch_all and bool(self.is_stranger(embedding[None])[0])
        accepted = bool(probabilities[top] >= threshold) and not stranger
        return Prediction(
            file_name=name,
            label=self.class_names[top] if accepted else None,
            top_label=self.class_names[top],
            probability=round(float(probabilities[top]), 6),
            probabilities={c: round(float(p), 6) for c, p in zip(self.class_names, probabilities, strict=True)},
            stranger=stranger,
        )

    def predict(
        self,
        photos: str | os.PathLike | Iterable[str | os.PathLike],
        threshold: float | None = None,
        output: str | os.PathLike | None = None,
        pictures: bool = True,
        engine: str = "auto",
        dtype: str = "f32",
        progress: Progress | None = None,
    ) -> Results:
        """Say what each photo shows, or nothing where that isn't sure.

        Args:
            photos: folders, files or globs.
            threshold: calibrated probability from which a label is given, 0–1; default: the model's, 0.99.
            output: folder for tables, originals, heat maps and masks; None writes nothing.
            pictures: False writes tables only.
            engine: "auto", "openvino" or "torch".
            dtype: "f32" or "bf16".
            progress: called with (done, total, "photos").

        Raises:
            NotFound, InvalidArgument: nothing to predict, or a threshold outside 0–1.
            OutputError: the results can't be written.
        """
        threshold = check_threshold(self.info.get("threshold", DEFAULT_THRESHOLD) if threshold is None else threshold)
        sources = [photos] if isinstance(photos, str | os.PathLike) else list(photos)
        folder = None if output is None else expand(output)
        found = find_pictures(sources, exclude=folder)
        if folder is not None:
            _refuse_photos_among_results(found.pictures, folder)
        counts, kept = Counts(skipped=found.skipped), []
        embedder = Embedder(self.backbone, engine, dtype)
        writer = None if folder is None else ResultsWriter(folder, self.class_names, pictures)

        def job(file: PictureFile) -> Prediction:
            return self._predict_one(file, embedder, threshold, writer)

        try:
            for prediction in parallel_map(job, found.pictures, callers(embedder.engine)):
                counts.add(prediction)
                if writer is None:
                    kept.append(prediction)
                else:
                    writer.add(prediction)
                if progress:
                    progress(counts.total, len(found.pictures), "photos")
            if writer is not None:
                writer.finish(counts)
        except BaseException:  # Ctrl-C too: an unfinished table must not stand as a finished one
            if writer is not None:
                writer.abandon()
            raise
        finally:
            embedder.cache.close()
        copied = None if writer is None else writer.copied_bytes
        return Results(self.class_names, threshold, counts, folder, copied, kept)

    def _predict_one(self, file: PictureFile, embedder: Embedder, threshold: float, writer: ResultsWriter | None) -> Prediction:
        try:
            data, sha = read(file)
            embedding, photo, feature_map = embedder.cache.get(sha, embedder.key), None, None
            if embedding is None:
                photo = decode(data)
                encoding = embedder.encode(photo, feature_map=True)
                embedding, feature_map = encoding.embedding, encoding.feature_map
                embedder.cache.put(sha, embedder.key, embedding)
            prediction = self.decide(file.name, embedding, threshold)
            if prediction.label is None or not self.backbone.pooled:
                return prediction
            if photo is None:  # the embedding was cached; only what is drawn is decoded again
                photo = decode(data)
                feature_map = embedder.encode(photo, feature_map=True).feature_map
        except UnreadableImage as error:
            return Prediction(file.name, error=str(error))
        assert feature_map is not None and photo is not None
        label = self.class_names.index(prediction.label)
        prediction.map = class_heatmap(feature_map, self.head.weight[label])
        prediction.box_xyxy = heatmap_box(prediction.map, photo.size)
        if writer is not None:
            writer.draw(prediction, file, photo.image, photo.size)
            prediction.map = None
        return prediction

    def save(self, path: str | os.PathLike) -> Path:
        """Write the model folder whole or not at all; timm loads it as `local-dir:PATH`.

        Raises:
            InvalidArgument: the folder exists and is no model.
            OutputError: it can't be written.
        """
        from safetensors.numpy import save_file

        target = expand(path)
        check_model_target(target)
        weights = self.backbone.weights()
        weights[f"{self.backbone.head_name}.weight"] = self.head.weight
        weights[f"{self.backbone.head_name}.bias"] = self.head.bias
        arrays: dict[str, np.ndarray] = {}
        if self.neighbourhood is not None:
            arrays |= {"references": self.neighbourhood.references.astype(np.float16), "center": self.neighbourhood.center}
        if self.gate is not None:
            arrays |= {"gate_weight": self.gate.weight, "gate_bias": self.gate.bias}
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(dir=target.parent, prefix=".building-"))
            try:
                save_file(weights, building / "model.safetensors")
                if arrays:
                    save_file(arrays, building / "strangers.safetensors")
                (building / "config.json").write_text(json.dumps(self._timm_config(), indent=2))
                (building / "wordsight.json").write_text(json.dumps(self._record(), indent=2))
                (building / "README.md").write_text(model_card(self), encoding="utf-8", errors="surrogateescape")
                if self.info.get("candidates"):
                    rows = ["method,regularisation,accuracy,log_loss"] + [",".join(map(str, row)) for row in self.info["candidates"]]
                    (building / "history.csv").write_text("\n".join(rows) + "\n")
                building.chmod(0o755)
                for file in building.iterdir():
                    file.chmod(0o644)
                _swap(building, target)
            finally:
                shutil.rmtree(building, ignore_errors=True)
        return target

    def _timm_config(self) -> dict:
        cfg = dict(self.backbone.pretrained_cfg)
        height, width = self.backbone.preprocessing.image_size
        cfg |= {"num_classes": len(self.class_names), "input_size": [3, height, width], "crop_pct": 1.0, "crop_mode": "squash"}
        return {
            "architecture": self.backbone.architecture,
            "num_classes": len(self.class_names),
            "num_features": self.backbone.num_features,
            "label_names": self.class_names,
            "pretrained_cfg": cfg,
        }

    def _record(self) -> dict:
        near, gate = self.neighbourhood, self.gate
        return {
            "format": FORMAT,
            "wordsight_version": __version__,
            "class_names": self.class_names,
            "catch_all": self.catch_all,
            "temperature": self.head.temperature,
            "threshold": self.info.get("threshold", DEFAULT_THRESHOLD),
            "neighbourhood": None if near is None else {"k": near.k, "limit": near.limit},
            "gate": None if gate is None else {"groups": [list(group) for group in gate.groups], "limit": gate.limit},
            "backbone": {
                "name": self.backbone.name,
                "fingerprint": self.backbone.fingerprint,
                "head_name": self.backbone.head_name,
                "preprocessing": asdict(self.backbone.preprocessing),
            },
            "info": {key: value for key, value in self.info.items() if key != "threshold"},
        }


def load(path: str | os.PathLike) -> Classifier:
    """Load a model folder.

    Raises:
        NotFound: no such folder.
        InvalidModel: half written, foreign, damaged or of another version.
        BackboneUnavailable: its network can't be built here.
    """
    folder = expand(path)
    if not folder.is_dir():
        raise NotFound(f"No such model: '{path}'. List models with 'wordsight models', or make one with 'wordsight train DATA -o MODEL'.")
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise InvalidModel(f"'{path}' is no complete wordsight model: {', '.join(missing)} is missing. Train it again with 'wordsight train'.")
    try:
        record = json.loads((folder / "wordsight.json").read_text(encoding="utf-8"))
        version = record["format"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InvalidModel(f"'{path}' can't be loaded: wordsight.json is damaged ({type(error).__name__}). Train it again.") from error
    if version != FORMAT:
        raise InvalidModel(
            f"'{path}' was written in format {version!r} by wordsight {record.get('wordsight_version', 'of unknown version')}; "
            f"this is {__version__}, which reads format {FORMAT}. Update wordsight, or train the model again."
        )
    try:
        return _load(folder, record)
    except (BackboneUnavailable, OutputError):
        raise
    except Exception as error:  # files from strangers may be wrong in any way; none of it is executed
        raise InvalidModel(f"'{path}' can't be loaded: {' '.join(str(error).split())[:160]}. Train it again.") from error


def _load(folder: Path, record: dict) -> Classifier:
    from safetensors.numpy import load_file

    class_names = [str(name) for name in record["class_names"]]
    about = record["backbone"]
    head_name = str(about["head_name"])
    weights = load_file(folder / "model.safetensors")
    weight, bias = weights[f"{head_name}.weight"], weights[f"{head_name}.bias"]
    if weight.ndim != 2 or len(weight) != len(class_names) or bias.shape != (len(class_names),) or len(set(class_names)) != len(class_names):
        raise ValueError("the head does not fit the class names")
    preprocessing = Preprocessing.from_dict(about["preprocessing"])
    backbone = _backbone_of(folder, str(about["name"]), fingerprint_weights(weights, head_name), preprocessing)
    temperature = float(record["temperature"])
    if not temperature > 0 or weight.shape[1] != backbone.num_features:
        raise ValueError("temperature or head out of range")
    arrays = load_file(folder / "strangers.safetensors") if (folder / "strangers.safetensors").is_file() else {}
    near, gate = record.get("neighbourhood"), record.get("gate")
    catch_all = record.get("catch_all")
    if catch_all is not None and catch_all not in range(len(class_names)):
        raise ValueError("catch_all out of range")
    if near is not None and not (int(near["k"]) >= 1 and -1.0 <= float(near["limit"]) <= 1.0):
        raise ValueError("neighbourhood out of range")
    if gate is not None and not 0.0 <= float(gate["limit"]) <= 1.0:
        raise ValueError("gate out of range")
    widths = {arrays[name].shape[-1] for name in ("references", "center", "gate_weight") if name in arrays}
    if widths - {backbone.num_features}:
        raise ValueError("strangers.safetensors does not fit the backbone")
    return Classifier(
        class_names,
        LinearHead(weight.astype(np.float32), bias.astype(np.float32), temperature),
        backbone,
        None if near is None else Neighbourhood(arrays["references"].astype(np.float32), arrays["center"], int(near["k"]), float(near["limit"])),
        None if gate is None else Gate(arrays["gate_weight"], arrays["gate_bias"], tuple(tuple(map(int, g)) for g in gate["groups"]), float(gate["limit"])),
        None if catch_all is None else int(catch_all),
        {**record.get("info", {}), "threshold": check_threshold(record["threshold"])},
    )


def _backbone_of(folder: Path, name: str, fingerprint: str, preprocessing: Preprocessing) -> Backbone:
    """Find the prepared backbone with the model's weights and preprocessing, or prepare one from the model folder itself."""
    backbone = find_prepared(fingerprint, name, preprocessing)
    if backbone is None and name in embedded_backbones():
        backbone = load_backbone(name)
    if backbone is None or backbone.fingerprint != fingerprint:
        backbone = load_backbone(f"local-dir:{folder}")
    if backbone.fingerprint != fingerprint or not backbone.preprocessing.same_network(preprocessing):
        raise ValueError("weights, network and preprocessing do not fit each other")
    return replace(backbone, name=name, preprocessing=preprocessing)


def _refuse_photos_among_results(pictures: list[PictureFile], output: Path) -> None:
    """Refuse to draw over the very photos that are read.

    Raises:
        InvalidArgument: a photo lies where results would be drawn.
    """
    ours = [(output / name).resolve() for name in RESULT_FOLDERS]
    for folder in {picture.path.parent for picture in pictures}:
        if any(folder.resolve().is_relative_to(path) for path in ours):
            raise InvalidArgument(f"The photos in '{folder}' lie where results would be drawn. Choose another folder with -o.")


def check_threshold(threshold: float) -> float:
    """Return a threshold if it lies in 0–1.

    Raises:
        InvalidArgument: it does not.
    """
    if not 0.0 <= threshold <= 1.0:
        hint = f" For {threshold:g} % write {threshold / 100:g}." if 1 < threshold <= 100 else ""
        raise InvalidArgument(f"The threshold must lie between 0 and 1, got {threshold:g}.{hint}")
    return float(threshold)


def check_model_target(target: Path) -> None:
    """Refuse to write a model over something that is none.

    Raises:
        InvalidArgument: the path is a file, or a folder with other things in it.
    """
    if target.exists() and not target.is_dir():
        raise InvalidArgument(f"'{target}' is a file; a model needs a folder. Choose another with -o.")
    if target.is_dir():
        foreign = sorted(path.name for path in target.iterdir() if path.name not in (*MODEL_FILES, *OTHER_MODEL_FILES))
        if foreign:
            raise InvalidArgument(f"'{target}' is a folder with other files in it ('{foreign[0]}'), which a model would replace. Choose a new one with -o.")


def _swap(building: Path, target: Path) -> None:
    """Put a finished folder in place of what was there; a moment without either is a model missing, never half of one."""
    if target.exists():
        old = Path(tempfile.mkdtemp(dir=target.parent, prefix=".replaced-"))
        os.rename(target, old / "model")
        try:
            os.rename(building, target)
        except OSError:
            os.rename(old / "model", target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(building, target)


def model_card(model: Classifier) -> str:
    """Return the model's README: what it knows, how good it was, what it learned from."""
    info = model.info
    lines = ["---", "library_name: timm", "tags:", "- image-classification", "- timm", "- wordsight", "---", "", f"# {', '.join(model.class_names)}", ""]
    lines += [f"An image classifier made by wordsight {__version__}: `{model.backbone.architecture}` with a linear head.", ""]
    lines += ["| class | pictures it learned from |", "|---|---|"]
    lines += [f"| {name} | {info.get('pictures', {}).get(name, 0)} |" for name in model.class_names]
    lines += ["", f"Supervision: {info.get('supervision', 'unknown')}. Recipe: {info.get('recipe', 'unknown')}."]
    if "metrics" in info:
        lines += ["", "Measured out of fold, on pictures each fold had not seen:", "", "| figure | value |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in info["metrics"].items()]
    licences = info.get("licences") or {"not recorded": sum(info.get("pictures", {}).values())}
    lines += ["", "Licences of the pictures it learned from: " + ", ".join(f"{name} ({count})" for name, count in licences.items()) + "."]
    lines += ["", "```python", "import timm", 'model = timm.create_model("local-dir:PATH", pretrained=True)', "```", ""]
    lines += ["Its input is the whole picture, not a centre crop; `wordsight.json` has the exact preprocessing.", ""]
    return "\n".join(lines)
