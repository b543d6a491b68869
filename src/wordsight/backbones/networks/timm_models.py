"""Networks as torch modules, from timm and our own; what timm knows of their input and classes."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...core.plugins import load_extensions
from ...core.regular import read_text
from ...errors import InvalidArgument, InvalidModel
from ..backbone import EMBEDDED, EMBEDDED_SIZE, MAP_STRIDES, SMALL, Backbone
from ..devices import need_torch
from ..preprocessing import LARGEST_SIDE, STRIDE, Preprocessing
from .efficientnet_lite import MAPPED, VARIANTS, WIDENED

# timm may change weights while it loads them; a network may be so many times as large as its file
MOST_GROWTH = 2
SMALL_NETWORK = 1_000_000  # weights that do no harm, whatever the file holds


def imagenet_classes(count: int) -> list[tuple[str, str]] | None:
    """Return (WordNet id, names separated by commas) of each class of the ImageNet set with `count`
    classes, from timm's tables; None if there is no such set.
    """
    need_torch(f"The table of the {count} classes")
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": count})
    return (
        None
        if subset is None
        else [
            (wnid, info.index_to_description(i))
            for info in [ImageNetInfo(subset)]
            for i, wnid in enumerate(info.label_names())
        ]
    )


def build_module(backbone: Backbone):
    """Return the network as a torch module in evaluation mode.

    Raises:
        InvalidModel: if it is a network of the user's own, and the module that registers it was
            not imported.
    """
    need_torch(f"The network '{backbone.architecture}' as a torch module")
    timm = open_timm()
    if not timm.is_model(backbone.architecture):
        raise InvalidModel(
            f"The model's network '{backbone.architecture}' is none of timm's. Import the "
            "module that registers it first."
        )
    return open_folder(backbone.folder)


def folder_config(folder: Path) -> dict:
    """Return config.json of a folder as timm writes them.

    Raises:
        InvalidModel: if it is none, or changes the network that it names.
    """
    try:
        config = dict(json.loads(read_text(folder / "config.json")))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidModel(f"'{folder / 'config.json'}' can't be read ({error}).") from error
    if config.get("model_args"):
        raise InvalidModel(
            f"'{folder / 'config.json'}' has 'model_args', which change the network that "
            f"'{config.get('architecture')}' names; wordsight takes networks by name only. Remove "
            "them, or register the changed network under a name of its own."
        )
    return config


def open_folder(folder: Path):
    """Return the network in a folder as timm writes them, with its weights, in evaluation mode.

    It is first built without memory for its weights and compared with the file, because what
    config.json names may be of any size.

    Raises:
        InvalidModel: if config.json asks for another network than the weights are of.
    """
    import torch
    from safetensors import safe_open

    timm, name = open_timm(), f"local-dir:{folder}"
    config = folder_config(folder)
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False)
    wanted = sum(part.numel() for part in (*network.parameters(), *network.buffers()))
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        there = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118  # not a dict
    if wanted > MOST_GROWTH * there + SMALL_NETWORK:
        raise InvalidModel(
            f"'{folder}' has {there:,} weights, but its config.json names a network of {wanted:,} "
            f"('{config.get('architecture')}'). Both must be of the same network."
        )
    return timm.create_model(name, pretrained=True).eval()


def maps_of(network, architecture: str) -> Callable | None:
    """Return a function from a network's input (n, 3, height, width) to its last feature maps (n,
    C, h, w) at each of `MAP_STRIDES`, the coarsest last; None if it has none at one of them.

    EfficientNet-Lite gives a further one at stride 16, after the other: the same as the next block
    widens it. Boxes are learned better from both.
    """
    if architecture in VARIANTS:
        return functools.partial(_maps_of_lite, network)
    known = getattr(network, "feature_info", None)
    if known is None or not hasattr(network, "forward_intermediates"):
        return None
    strides = [stage["reduction"] for stage in (known if isinstance(known, list) else known.info)]
    finer = MAP_STRIDES[:-1]
    if not {*finer} <= {*strides}:
        return None
    chosen = [
        max(index for index, found in enumerate(strides) if found == stride) for stride in finer
    ]

    def maps(inputs):
        last, before = network.forward_intermediates(inputs, indices=chosen)
        return (*before, last)

    return maps


def _maps_of_lite(network, inputs):
    x, maps = network.bn1(network.conv_stem(inputs)), []
    for stage, blocks in enumerate(network.blocks):
        if stage == WIDENED:
            maps.append(blocks[0].bn1(blocks[0].conv_pw(x)))
        x = blocks(x)
        if stage in MAPPED:
            maps.append(x)
    return (*maps, network.bn2(network.conv_head(x)))


def untrained_module(name: str, outputs: int, image_size: int | None = None):
    """Return a network with random weights as a torch module, and its preprocessing.

    Args:
        name: one of `SMALL`, or any timm name.
        outputs: number of logits.
        image_size: side of a square input in pixels, if the network takes any size; by default its
            own size.

    Raises:
        InvalidArgument: if there is no such network, or it takes another size only.
    """
    timm = open_timm()
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        raise InvalidArgument(
            f"Unknown network '{name}'.{close_names(name)} Our own: {', '.join(SMALL)}; any "
            "name of timm's does."
        )
    module = timm.create_model(architecture, pretrained=False, num_classes=outputs)
    return module, with_image_size(preprocessing_of(module), image_size, name)


def with_image_size(
    preprocessing: Preprocessing, image_size: int | None, name: str
) -> Preprocessing:
    """Return a preprocessing for square inputs of `image_size`, or the same one for None.

    Raises:
        InvalidArgument: if the size is out of range, or the network takes another size only.
    """
    if image_size is None or preprocessing.image_size == (image_size, image_size):
        return preprocessing
    if preprocessing.fit == "squash":
        height, width = preprocessing.image_size
        raise InvalidArgument(
            f"'{name}' takes {height} × {width} pixels only, got --image-size {image_size}. "
            "Leave it out, or choose another network."
        )
    if not 32 <= image_size <= LARGEST_SIDE or image_size % STRIDE:
        raise InvalidArgument(
            f"The image size must be a multiple of {STRIDE} from 32 to {LARGEST_SIDE}, got "
            f"{image_size}."
        )
    return replace(preprocessing, image_size=(image_size, image_size))


def open_timm():
    """Return timm, with our own networks and those of extensions among its models.

    An extension registers its network with timm's `@register_model`, and its package names the
    module in the entry-point group `wordsight.backbones`.
    """
    import timm
    from timm.models import build_model_with_cfg, register_model

    for name in SMALL:
        if timm.is_model(name):
            continue
        from .small_networks import NETWORKS

        create, side, fit = NETWORKS[name]
        cfg = {
            "input_size": (3, side, side),
            "mean": (0.0,) * 3,
            "std": (1.0,) * 3,
            "interpolation": "bilinear",
            "classifier": "head",
        }

        def enter(
            pretrained=False,
            pretrained_cfg=None,
            name=name,
            create=create,
            cfg=cfg,
            fixed=fit == "squash",
            **options,
        ):
            chosen = pretrained_cfg or {**cfg, "fixed_input_size": fixed, "architecture": name}
            return build_model_with_cfg(
                create,
                name,
                pretrained,
                pretrained_cfg=chosen,
                kwargs_filter=("in_chans", "img_size"),  # type: ignore[arg-type]
                **options,
            )

        enter.__name__ = name
        register_model(enter)
    load_extensions("backbones")
    return timm


def preprocessing_of(module) -> Preprocessing:
    """Return how pixels become the input of a torch module of timm's."""
    # VGG's first dense layer is a convolution over the whole of a 7 × 7 map
    dense = getattr(module, "pre_logits", None)
    spans = dense is not None and any(
        max(getattr(layer, "kernel_size", (1,))) > 1 for layer in dense.modules()
    )
    cfg = module.pretrained_cfg
    return preprocessing_from(cfg, cfg["architecture"], spans)


def preprocessing_from(cfg: dict, architecture: str, fixed: bool = False) -> Preprocessing:
    """Return how pixels become a network's input, from timm's record of it.

    Args:
        cfg: the record.
        architecture: timm's name of the network.
        fixed: whether it takes inputs of its own size only, whatever the record says.

    Raises:
        InvalidModel: if its input is larger than any that is taken.
    """
    _, height, width = cfg["input_size"]
    if architecture in EMBEDDED:
        height = width = EMBEDDED_SIZE
    if max(height, width) > LARGEST_SIDE:
        raise InvalidModel(
            f"The network '{architecture}' is said to take an input of {height} × {width} "
            f"pixels; at most {LARGEST_SIDE} × {LARGEST_SIDE} are taken. Choose another."
        )
    values = {
        "image_size": (height, width),
        "mean": cfg["mean"],
        "std": cfg["std"],
        "interpolation": _known_interpolation(cfg),
        "fit": "squash" if fixed or cfg.get("fixed_input_size", False) else "area",
    }
    return Preprocessing.from_dict(values)


def _known_interpolation(cfg: dict) -> str:
    name = cfg.get("interpolation")
    # "random" is for training
    return name if name in ("bicubic", "bilinear", "lanczos", "nearest") else "bicubic"


def close_names(name: str) -> str:
    """Return a sentence with names close to one that timm doesn't know, or ""."""
    import difflib

    import timm

    close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
    return f" Close names: {', '.join(close)}." if close else ""
