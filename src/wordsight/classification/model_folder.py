"""A model on disk: written whole or not at all, read without trusting it, and loaded by timm
without us.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import __version__
from ..backbones.backbone import Backbone
from ..backbones.networks.efficientnet_lite import middle_width
from ..backbones.preprocessing import Preprocessing
from ..backbones.registry import (
    embedded_backbones,
    find_prepared,
    fingerprint_weights,
    load_backbone,
)
from ..core.cells import table_bytes
from ..core.home import expand, models_folder, sync_file, writing
from ..core.regular import NOT_REGULAR, read_text
from ..core.result_folder import ResultFolder, building, restore, seal, swap
from ..errors import (
    BackboneUnavailable,
    InvalidArgument,
    InvalidModel,
    NotFound,
    OutputError,
    WordsightError,
    some_of,
)
from ..heads.boxes import BoxHead
from ..heads.linear import LinearHead
from ..heads.novelty import Neighbourhood
from ..heads.objects import ObjectHead
from ..heads.zero_shot import WordsHead, untaught
from .model_card import model_card
from .model_tables import (
    LARGEST,
    held_out_csv,
    history_csv,
    history_plots,
    read_held_out,
    read_history,
)
from .record import ModelRecord, typed

log = logging.getLogger("wordsight")
FORMAT = 2
# of a model made from words, arrays that it learned from a folder of photos
LEARNED = ("prior", "learned_weight", "learned_bias", "trust")
MODEL = "model"  # as the writer of a folder
MODEL_FILES = ("wordsight.json", "config.json", "model.safetensors")
OTHER_MODEL_FILES = (
    "strangers.safetensors",
    "boxes.safetensors",
    "objects.safetensors",
    "README.md",
    "history.csv",
    "held_out.csv",
)
PLOTS = tuple(
    f"plots/{name}.png"
    for name in (
        *("loss", "accuracy", "mean_iou", "boxes_batch", "boxes", "network"),
        *("ap50", "objects_batch", "objects"),
    )
)


def write_model(model: Any, target: Path, plots: dict[str, bytes] | None = None) -> Path:
    """Write a `Classifier` to a folder; see its `save`.

    Args:
        model: the classifier.
        target: the folder.
        plots: further PNGs for the folder's plots, by name.
    """
    check_model_target(target)
    with building(target) as folder, writing(target):
        for name, arrays in _arrays(model).items():
            _save(arrays, folder / name)
        for name, text in _texts(model).items():
            data = text.encode("utf-8", "surrogateescape")
            (folder / name).write_bytes(table_bytes(text) if name.endswith(".csv") else data)
        for name, png in {**history_plots(model), **(plots or {})}.items():
            (folder / "plots").mkdir(exist_ok=True)
            (folder / "plots" / name).write_bytes(png)
        seal(folder, MODEL)
        for file in [folder, *folder.rglob("*")]:
            file.chmod(0o755 if file.is_dir() else 0o644)
            if file.is_file():
                sync_file(file)
        check_model_target(target)  # somebody may have worked on it in the meantime
        swap(folder, target)
    return target


def _arrays(model: Any) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of a model's files, by file name."""
    weights = model.backbone.weights()
    weights[f"{model.backbone.head_name}.weight"] = model.head.weight
    weights[f"{model.backbone.head_name}.bias"] = model.head.bias
    files = {"model.safetensors": weights}
    strangers = _stranger_arrays(model)
    if strangers:
        files["strangers.safetensors"] = strangers
    if model.box_head is not None:
        files["boxes.safetensors"] = model.box_head.arrays()
    if model.object_head is not None:
        files["objects.safetensors"] = model.object_head.arrays()
    return files


def _texts(model: Any) -> dict[str, str]:
    """Return the text files of a model, by name."""
    files = {
        "config.json": json.dumps(_timm_config(model), indent=2),
        "wordsight.json": json.dumps(_record(model), indent=2),
        "README.md": model_card(model),
    }
    if model.history:
        files["history.csv"] = history_csv(model.history)
    if model.held_out is not None:
        files["held_out.csv"] = held_out_csv(model.held_out)
    return files


def _save(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Write arrays as safetensors, which takes memory as it lies, whatever an array's order."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def _find_named(name: str | os.PathLike) -> Path:
    """Return the model of a name among those that `wordsight models` lists, with or without its
    digest, or the only one whose name begins so.

    Raises:
        NotFound: if there is none, or several begin so.
    """
    near: list[Path] = []
    if os.fspath(name) and Path(name).name == os.fspath(name):
        with contextlib.suppress(OSError):
            here = [one for one in sorted(models_folder().iterdir()) if one.is_dir()]
            near = [one for one in here if f"{one.name}-".startswith(f"{name}-")]
    exact = [one for one in near if one.name == os.fspath(name)] or [
        one for one in near if re.fullmatch(r"[0-9a-f]{8}", one.name[len(os.fspath(name)) + 1 :])
    ]
    if len(exact or near) == 1:
        log.info("The model is '%s'.", (exact or near)[0])
        return (exact or near)[0]
    if near:
        raise NotFound(
            f"Several models' names begin with '{name}': {some_of([one.name for one in near])}. "
            "Give more of the name."
        )
    raise NotFound(
        f"No such model: '{name}'. List models with 'wordsight models', or make one with "
        "'wordsight train DATA -o MODEL'."
    )


def read_model(path: str | os.PathLike) -> dict[str, Any]:
    """Return the fields of the `Classifier` in a folder.

    Raises:
        NotFound: if there is no such folder.
        InvalidModel: if it is half written, foreign, damaged or of another version.
        BackboneUnavailable: if its network can't be built here.
    """
    folder = expand(path)
    if not folder.is_dir() and restore(folder):
        log.info("'%s' was put back: a run that was to replace it was cut off.", folder)
    if not folder.is_dir():
        folder = _find_named(path)
    for name in (*MODEL_FILES, *OTHER_MODEL_FILES):
        # a pipe would block, a device fill the memory
        if (folder / name).exists() and not (folder / name).is_file():
            raise InvalidModel(
                f"'{path}' can't be loaded: its {name} is {NOT_REGULAR}. Put the model's own file "
                "in its place."
            )
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise InvalidModel(
            f"'{path}' is no complete wordsight model: {', '.join(missing)} is missing. Train "
            "it again with 'wordsight train'."
        )
    try:
        record = json.loads(read_text(folder / "wordsight.json"))
        version = record["format"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise InvalidModel(
            f"'{path}' can't be loaded: wordsight.json is damaged ({type(error).__name__}). "
            "Train it again."
        ) from error
    if version != FORMAT:
        by = " ".join(str(record.get("wordsight_version", "of unknown version")).split())
        raise InvalidModel(
            f"'{path}' was written in format {repr(version)[:40]} by wordsight {by[:40]}; "
            f"this is {__version__}, which reads format {FORMAT}. Update wordsight, or "
            "train the model again."
        )
    try:
        return _read(folder, record)
    except (BackboneUnavailable, OutputError):
        raise
    except Exception as error:
        # files from strangers may be wrong in any way; none of it is executed
        said = (
            f"it lacks {error}"
            if isinstance(error, KeyError)
            else " ".join(str(error).split())[:160]
        )
        raise InvalidModel(f"'{path}' can't be loaded: {said}. Train it again.") from error


def check_threshold(threshold: float) -> float:
    """Return a threshold if it lies in 0–1.

    Raises:
        InvalidArgument: if it does not.
    """
    if not 0.0 <= threshold <= 1.0:
        hint = f" For {threshold:g} % write {threshold / 100:g}." if 1 < threshold <= 100 else ""
        raise InvalidArgument(f"The threshold must lie between 0 and 1, got {threshold:g}.{hint}")
    return float(threshold)


def check_model_target(target: Path) -> None:
    """Refuse to write a model over something that is none.

    Raises:
        InvalidArgument: if the path is a file, or a folder with other things in it.
    """
    model_files(target).claim()


def model_files(target: Path) -> ResultFolder:
    """Return a model's folder as one that files are written into."""
    return ResultFolder(
        target,
        MODEL,
        adopt=_Earlier(target).wrote,
        is_file="'{folder}' is a file; a model needs a folder. Choose another with -o.",
        not_ours="'{folder}' is a folder with other files in it, or with files that were changed "
        "('{name}'), which a model would replace. Choose a new one with -o.",
    )


class _Earlier:
    """A folder that may hold a model of 0.1.0, which kept no record of its files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @functools.cached_property
    def _model(self) -> SimpleNamespace | None:
        try:
            return SimpleNamespace(**read_model(self._folder))
        except WordsightError:
            return None  # none, or none that can be told from somebody else's

    @functools.cached_property
    def _texts(self) -> dict[str, str]:
        """The text files as 0.1.0 wrote them: as we do, but for its version."""
        version = json.loads((self._folder / "wordsight.json").read_text(encoding="utf-8"))
        before = str(version.get("wordsight_version"))
        return {
            name: text.replace(f"wordsight {__version__}", f"wordsight {before}").replace(
                f'"wordsight_version": "{__version__}"', f'"wordsight_version": "{before}"'
            )
            for name, text in _texts(self._model).items()
        }

    def wrote(self, path: Path) -> bool:
        """Whether a file is what 0.1.0 wrote for the model that lies there."""
        if path.is_symlink() or not path.is_file() or self._model is None:
            return False
        name = path.relative_to(self._folder).as_posix()
        if name in self._texts:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            return _same_text(text, self._texts[name])
        if name == "plots/layers.txt":
            first = f"{self._model.backbone.architecture}, input "
            return path.read_bytes().startswith(first.encode())
        if name in PLOTS:
            return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        return self._holds_our_arrays(path, name)

    def _holds_our_arrays(self, path: Path, name: str) -> bool:
        from safetensors.numpy import load_file

        ours = _arrays(self._model).get(name)
        if ours is None:
            return False
        theirs = load_file(path)
        return set(theirs) == set(ours) and all(
            np.array_equal(theirs[key], ours[key]) for key in ours
        )


def _same_text(a: str, b: str) -> bool:
    """Whether two texts are the same but for line ends, or the same JSON."""
    try:
        return a.replace("\r\n", "\n") == b.replace("\r\n", "\n") or json.loads(a) == json.loads(b)
    except (ValueError, RecursionError):
        return False


def _stranger_arrays(model: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    near = model.neighbourhood
    if near is not None:
        arrays["references"] = near.references.astype(np.float16)
        if near.concepts is not None:
            arrays |= {"concepts": near.concepts.astype(np.float16)}
            arrays |= {
                "concept_weight": near.concept_head[0].astype(np.float16),
                "concept_bias": near.concept_head[1],
            }
    if model.words is not None:
        arrays |= {"gate_weight": model.words.weight, "gate_bias": model.words.bias}
        arrays |= {f"words_{name}": getattr(model.words, name) for name in LEARNED}
    return arrays


def _timm_config(model: Any) -> dict:
    cfg = dict(model.backbone.pretrained_cfg)
    height, width = model.backbone.preprocessing.image_size
    cfg |= {
        "num_classes": len(model.class_names),
        "input_size": [3, height, width],
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }
    return {
        "architecture": model.backbone.architecture,
        "num_classes": len(model.class_names),
        "num_features": model.backbone.num_features,
        "label_names": model.class_names,
        "pretrained_cfg": cfg,
    }


def _record(model: Any) -> dict:
    near, words = model.neighbourhood, model.words
    return {
        "format": FORMAT,
        "wordsight_version": __version__,
        "class_names": model.class_names,
        "catch_all": model.catch_all,
        "temperature": model.head.temperature,
        "threshold": model.record.threshold,
        "neighbourhood": None
        if near is None
        else {"k": near.k, "limit": near.limit, "scales": near.scales},
        "gate": None if words is None else {"groups": [list(group) for group in words.groups]},
        "backbone": {
            "name": model.backbone.name,
            "fingerprint": model.backbone.fingerprint,
            "head_name": model.backbone.head_name,
            "preprocessing": asdict(model.backbone.preprocessing),
        },
        "info": {
            key: value
            for key, value in model.record.to_dict().items()
            if key not in ("threshold", "path")
        },
    }


def _read(folder: Path, record: dict) -> dict[str, Any]:
    from safetensors.numpy import load_file

    json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogateescape")  # half a character
    class_names = typed(list[str], record["class_names"], "class_names")
    about = typed(dict[str, Any], record["backbone"], "backbone")
    head_name = typed(str, about["head_name"], "head_name")
    weights = load_file(folder / "model.safetensors")
    weight, bias = weights[f"{head_name}.weight"], weights[f"{head_name}.bias"]
    if (
        weight.ndim != 2
        or len(weight) != len(class_names)
        or bias.shape != (len(class_names),)
        or len(set(class_names)) != len(class_names)
    ):
        raise ValueError("the head does not fit the class names")
    preprocessing = Preprocessing.from_dict(about["preprocessing"])
    backbone = _backbone_of(
        folder,
        typed(str, about["name"], "name"),
        fingerprint_weights(weights, head_name),
        preprocessing,
    )
    temperature = typed(float, record["temperature"], "temperature")
    if not 1 / LARGEST <= temperature <= LARGEST or weight.shape[1] != backbone.num_features:
        raise ValueError("temperature or head out of range")
    arrays = (
        load_file(folder / "strangers.safetensors")
        if (folder / "strangers.safetensors").is_file()
        else {}
    )
    catch_all = typed(int | None, record.get("catch_all"), "catch_all")
    if catch_all is not None and catch_all not in range(len(class_names)):
        raise ValueError("catch_all out of range")
    _check_numbers((weight, bias), arrays, backbone.num_features)
    threshold = typed(float | None, record["threshold"], "threshold")
    info = typed(dict[str, Any], record.get("info", {}), "info")
    about_it = ModelRecord.from_dict(
        {
            **info,
            "threshold": None if threshold is None else check_threshold(threshold),
            "path": folder,
        }
    )
    return {
        "class_names": class_names,
        "head": LinearHead(weight.astype(np.float32), bias.astype(np.float32), temperature),
        "backbone": backbone,
        "neighbourhood": _neighbourhood(record.get("neighbourhood"), arrays),
        "words": _words(record.get("gate"), arrays, class_names),
        "catch_all": catch_all,
        "record": about_it,
        "history": read_history(folder / "history.csv"),
        "held_out": read_held_out(folder / "held_out.csv", class_names),
        "box_head": _box_head(folder / "boxes.safetensors", backbone),
        "object_head": _object_head(folder / "objects.safetensors", about_it, backbone),
    }


def _check_numbers(
    head: Sequence[np.ndarray], strangers: dict[str, np.ndarray], width: int
) -> None:
    """Refuse weights that are no numbers, and those of strangers that don't fit the backbone."""
    if not all(np.isfinite(values).all() for values in (*head, *strangers.values())):
        raise ValueError("its weights hold what is no number")
    widths = {
        strangers[name].shape[-1]
        for name in ("references", "concept_weight", "gate_weight")
        if name in strangers
    }
    if widths - {width}:
        raise ValueError("strangers.safetensors does not fit the backbone")


def _box_head(path: Path, backbone: Backbone) -> BoxHead | None:
    from safetensors.numpy import load_file

    if not path.is_file():
        return None
    head = BoxHead.from_arrays(load_file(path))
    wanted = middle_width(backbone.architecture)
    fits = head.middle is None or len(head.middle[0]) == wanted
    if len(head.mean) != backbone.num_features or not fits:
        raise ValueError("boxes.safetensors does not fit the backbone")
    return head


def _object_head(path: Path, record: ModelRecord, backbone: Backbone) -> ObjectHead | None:
    from safetensors.numpy import load_file

    if not path.is_file() or record.objects is None:
        return None
    head = ObjectHead.from_arrays(load_file(path), tuple(record.objects.class_names))
    if len(head.projections[-1][0]) != backbone.num_features:
        raise ValueError("objects.safetensors does not fit the backbone")
    return head


def _neighbourhood(record: dict | None, arrays: dict[str, np.ndarray]) -> Neighbourhood | None:
    if record is None:
        return None
    scales = typed(list[tuple[float, float]], record["scales"], "scales")
    k, limit = typed(int, record["k"], "k"), typed(float, record["limit"], "limit")
    two = "concepts" in arrays
    if (
        not 1 <= k <= LARGEST
        or len(scales) != 1 + two
        or not all(
            abs(middle) <= LARGEST and 1 / LARGEST <= spread <= LARGEST for middle, spread in scales
        )
        or not abs(limit) <= LARGEST
    ):
        raise ValueError("neighbourhood out of range")
    if two and (
        len(arrays["concepts"]) != len(arrays["references"])
        or arrays["concepts"].shape[1] != len(arrays["concept_weight"])
    ):
        raise ValueError("strangers.safetensors does not fit itself")
    head = (arrays["concept_weight"].astype(np.float32), arrays["concept_bias"]) if two else None
    concepts = arrays["concepts"].astype(np.float32) if two else None
    return Neighbourhood(
        arrays["references"].astype(np.float32),
        k,
        limit,
        tuple(scales),
        concepts,
        head,
    )


def _words(
    record: dict | None, arrays: dict[str, np.ndarray], class_names: list[str]
) -> WordsHead | None:
    """Return what gives words their probabilities; of a model of 0.1.0, which knew nothing of a
    folder's frequencies, one that knows none.
    """
    if record is None:
        return None
    groups = typed(list[list[int]], record["groups"], "groups")
    weight, bias = arrays["gate_weight"], arrays["gate_bias"]
    if (
        bias.shape != (len(weight),)
        or not groups
        or len(class_names) != max(len(groups), 2)
        or not all(group and {*group} <= {*range(len(bias))} for group in groups)
    ):
        raise ValueError("words out of range")
    head = untaught(weight, bias, tuple(tuple(group) for group in groups))
    if "words_prior" not in arrays:
        return head
    known: dict[str, Any] = {name: arrays[f"words_{name}"].astype(np.float32) for name in LEARNED}
    if any(array.shape != getattr(head, name).shape for name, array in known.items()) or not all(
        ((known[name] >= 0) & (known[name] <= 1)).all() for name in ("prior", "trust")
    ):
        raise ValueError("words out of range")
    return replace(head, **known)


def _backbone_of(
    folder: Path, name: str, fingerprint: str, preprocessing: Preprocessing
) -> Backbone:
    """Find the prepared backbone with the model's weights and preprocessing, or prepare one
    from the model folder itself.
    """
    backbone = find_prepared(fingerprint, name, preprocessing)
    if backbone is None and name in embedded_backbones():
        backbone = load_backbone(name)
    if backbone is None or backbone.fingerprint != fingerprint:
        backbone = load_backbone(f"local-dir:{folder}")
    if backbone.fingerprint != fingerprint or not backbone.preprocessing.same_network(
        preprocessing
    ):
        raise ValueError("weights, network and preprocessing do not fit each other")
    return replace(backbone, name=name, preprocessing=preprocessing)
