"""From open_clip's model to OpenVINO's networks. The only importer of open_clip; needs torch."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones.openvino_engine import import_openvino, without_telemetry
from ..core.regular import read_text
from ..errors import InvalidArgument, InvalidModel
from .names import CONFIG, REFUSAL, REFUSED, WEIGHTS
from .tokenizing import TOKENIZER, clips_tokenizer, end_marks

SIZES = (16, 1024)  # pixels a side that an image tower may take
MOST_GROWTH = 1.05  # weights that a config may name beyond those in the file


@dataclass(frozen=True)
class Source:
    """A model in open_clip's format.

    Attributes:
        folder: where it lies.
        config: `model_cfg` of open_clip_config.json.
        image_size: (height, width).
        mean, std: of RGB, where a pixel is 0–1.
        interpolation, resize, tokens, cleaning: see `TowerRecord`.
    """

    folder: Path
    config: dict
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize: str
    tokens: int
    cleaning: str


def need_open_clip() -> None:
    """Refuse to prepare a tower where what it takes is not installed.

    Raises:
        InvalidArgument: if a package is missing.
    """
    wanted = ("torch", "timm", "open_clip", "tokenizers", "huggingface_hub")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidArgument(
            f"Preparing a text–image model needs {', '.join(missing)}, not installed here: pip "
            "install 'wordsight[words]'. The prepared folder needs none of them."
        )


def read_source(folder: Path) -> Source:
    """Read what a folder in open_clip's format says of its model.

    Raises:
        InvalidModel: if it is none, or one that can't be prepared.
        InvalidArgument: if its licence forbids its use.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        pickled = next(folder.glob("*.bin"), None) or next(folder.glob("*.pt"), None)
        raise InvalidModel(
            f"'{folder}' needs {CONFIG} and {WEIGHTS}, as open_clip writes them."
            + (f" '{pickled.name}' is not read: such files can run code." if pickled else "")
        )
    try:
        told = json.loads(read_text(folder / CONFIG))
        config = told["model_cfg"]
        pixels = told.get("preprocess_cfg") or {}
        size = pixels.get("size", config["vision_cfg"]["image_size"])
        size = (size, size) if isinstance(size, int | float) else size
        height, width = map(int, size)
        text = config["text_cfg"]
        source = Source(
            folder,
            config,
            (height, width),
            tuple(map(float, pixels.get("mean", (0.48145466, 0.4578275, 0.40821073)))),
            tuple(map(float, pixels.get("std", (0.26862954, 0.26130258, 0.27577711)))),
            str(pixels.get("interpolation", "bicubic")),
            str(pixels.get("resize_mode", "shortest")),
            int(text.get("context_length", 77)),
            str(
                (text.get("tokenizer_kwargs") or {}).get(
                    "clean", "whitespace" if text.get("hf_tokenizer_name") else "lower"
                )
            ),
        )
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InvalidModel(f"'{folder / CONFIG}' can't be read ({error!r}).") from error
    if REFUSED.search(folder.name) or "mci" in str(config["vision_cfg"].get("timm_model_name")):
        raise InvalidArgument(REFUSAL)
    _check(source)
    return source


def _check(source: Source) -> None:
    """Refuse what can't be prepared.

    Raises:
        InvalidModel: if so, with the reason.
    """
    text, vision = source.config["text_cfg"], source.config["vision_cfg"]
    if text.get("hf_model_name"):
        reason = f"its text tower '{text['hf_model_name']}' needs code that is not in open_clip"
    elif vision.get("timm_model_pretrained"):
        reason = "its image tower's weights are elsewhere"
    elif source.resize not in ("squash", "shortest"):
        reason = f"photos are resized as '{source.resize}'; known: squash, shortest"
    elif source.interpolation not in ("bicubic", "bilinear", "nearest"):
        reason = f"interpolation '{source.interpolation}'"
    elif not all(SIZES[0] <= side <= SIZES[1] for side in source.image_size):
        reason = f"it takes {source.image_size} pixels"
    elif (
        not len(source.mean) == len(source.std) == 3
        or not all(map(math.isfinite, (*source.mean, *source.std)))
        or min(source.std) <= 0
    ):
        reason = "its mean and std are not those of RGB"
    elif source.cleaning not in ("lower", "canonicalize", "whitespace"):
        reason = f"phrases are cleaned as '{source.cleaning}'"
    elif text.get("hf_tokenizer_name") and not (source.folder / TOKENIZER).is_file():
        reason = f"it has a tokenizer of its own, and {TOKENIZER} is missing"
    else:
        return
    raise InvalidModel(f"'{source.folder}' can't be prepared: {reason}.")


def open_model(source: Source) -> Any:
    """Return open_clip's model with its weights, in evaluation mode.

    It is first built without memory for its weights and compared with the file, because what the
    config names may be of any size.

    Raises:
        InvalidModel: if the weights are of another model.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    with _quiet():
        import open_clip
    kinds = {"custom_text": bool(source.config.get("custom_text"))}
    config = {key: value for key, value in source.config.items() if key != "custom_text"}
    kind = open_clip.model.CustomTextCLIP if kinds["custom_text"] else open_clip.model.CLIP
    try:
        with _quiet(), torch.device("meta"):
            model = kind(**config)
        wanted = sum(part.numel() for part in model.parameters())
        with safe_open(source.folder / WEIGHTS, framework="numpy") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118  # not a dict
            there = sum(map(math.prod, shapes))
        if wanted > MOST_GROWTH * there:
            raise InvalidModel(
                f"'{source.folder}' has {there:,} weights, but its config names a model of "
                f"{wanted:,}. Both must be of the same model."
            )
        with _quiet():
            model = kind(**config)
            model.load_state_dict(load_file(source.folder / WEIGHTS), strict=True)
    except InvalidModel:
        raise
    except Exception as error:  # a foreign config or file raises anything
        reason = " ".join(str(error).split())[:200]
        raise InvalidModel(f"'{source.folder}' can't be opened ({reason}).") from error
    return model.eval().float()


def grid_of(model: Any, source: Source) -> tuple[int, int] | None:
    """Return (rows, columns) of the image tower's patches, or None where they can't be pooled one
    by one.
    """
    trunk = getattr(model.visual, "trunk", None)
    grid = getattr(getattr(trunk, "patch_embed", None), "grid_size", None)
    pooled = hasattr(trunk, "forward_head") and hasattr(model.visual, "head")
    return tuple(grid) if grid is not None and pooled and source.resize == "squash" else None


def image_network(model: Any, source: Source) -> Any:
    """Return the image tower as OpenVINO's model: (n, height, width, 3) uint8 -> unit vectors (n,
    d) and, where there are any, those of the patches (n, patches, d).

    A patch's vector is what the tower's pooling makes of this patch alone, so that it lies in the
    space of the phrases (as Zhou et al. 2022, "Extract free dense labels from CLIP").
    """
    import torch

    grid = grid_of(model, source)
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) * 255.0 for values in (source.mean, source.std)
    )

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.register_buffer("mean", mean)
            self.register_buffer("std", std)

        def forward(self, pixels: Any) -> Any:
            inputs = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
            if grid is None:
                return torch.nn.functional.normalize(self.model.encode_image(inputs), dim=-1)
            visual = self.model.visual
            tokens = visual.trunk.forward_features(inputs)  # (n, prefix + patches, C)
            whole = visual.head(visual.trunk.forward_head(tokens))
            patches = tokens[:, tokens.shape[1] - grid[0] * grid[1] :]
            alone = patches.reshape(-1, 1, patches.shape[2])  # (n * patches, 1, C)
            each = visual.head(visual.trunk.forward_head(alone))
            each = each.reshape(-1, grid[0] * grid[1], each.shape[1])
            return tuple(torch.nn.functional.normalize(out, dim=-1) for out in (whole, each))

    height, width = source.image_size
    example = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    return _converted(ImageTower(), example, (1, height, width, 3))


def text_network(model: Any, source: Source) -> Any:
    """Return the text tower as OpenVINO's model: tokens (n, length) int64 -> unit vectors."""
    import torch

    class TextTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Any) -> Any:
            return torch.nn.functional.normalize(self.model.encode_text(tokens), dim=-1)

    example = torch.ones(2, source.tokens, dtype=torch.int64)
    return _converted(TextTower(), example, (-1, source.tokens))


def _converted(module: Any, example: Any, shape: tuple[int, ...]) -> Any:
    import torch

    ov = import_openvino()
    with warnings.catch_warnings(), torch.inference_mode(), _quiet():
        warnings.simplefilter("ignore")  # tracing warns of constants that are constant on purpose
        return ov.convert_model(
            module.eval(), example_input=example, input=[ov.PartialShape(list(shape))]
        )


def write_tokenizer(source: Source, path: Path) -> None:
    """Write the tokenizer of a model as `tokenizer.json`.

    Raises:
        InvalidModel: if its own can't be read.
    """
    if (source.folder / TOKENIZER).is_file():
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(source.folder / TOKENIZER))
            settings = source.folder / "tokenizer_config.json"
            end_marks(tokenizer, json.loads(read_text(settings)) if settings.is_file() else {})
        except Exception as error:  # the library raises plain Exception
            raise InvalidModel(f"'{source.folder / TOKENIZER}' can't be read ({error}).") from error
    else:
        with _quiet():
            from open_clip.tokenizer import SimpleTokenizer

            theirs = SimpleTokenizer()
        vocabulary = sorted(theirs.encoder, key=theirs.encoder.__getitem__)
        merges = sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.__getitem__)
        tokenizer = clips_tokenizer(vocabulary, merges)
    tokenizer.save(str(path))


def save(network: Any, path: Path) -> None:
    """Write OpenVINO's files of a network, weights in 16 bits.

    Raises:
        OSError: if they can't be written.
    """
    try:
        import_openvino().save_model(network, path, compress_to_fp16=True)
    except RuntimeError as error:
        raise OSError(" ".join(str(error).split())[:160]) from error


def has_nncf() -> bool:
    """Whether int8 can be made here."""
    return importlib.util.find_spec("nncf") is not None


def quantized(path: Path, pictures: Sequence[np.ndarray]) -> Any:
    """Return an image tower's vectors in int8, calibrated on pictures (height, width, 3) uint8.

    Nothing in such a network tells the ranges of its activations, as batch normalisation does in
    the embedded networks, so they are measured.
    """
    with without_telemetry():
        import nncf
    ov = import_openvino()
    network = ov.Core().read_model(path)
    for result in network.get_results()[1:]:
        network.remove_result(result)
    data = nncf.Dataset(list(pictures), lambda one: one[None])
    with _quiet(), contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            network, data, subset_size=len(pictures), model_type=nncf.ModelType.TRANSFORMER
        )


def compare(
    exact: Callable[[np.ndarray], list[np.ndarray]],
    quick: Callable[[np.ndarray], list[np.ndarray]],
    pictures: Sequence[np.ndarray],
) -> dict[str, float]:
    """Return how many times as fast the second network is, and the least cosine of both networks'
    vectors of a picture, less the mean: what all pictures share tells none from another.
    """
    vectors: list[list[np.ndarray]] = [[], []]
    seconds: list[list[float]] = [[], []]
    for run in (exact, quick):
        run(pictures[0][None])
    for picture in pictures:
        for place, run in enumerate((exact, quick)):
            began = time.perf_counter()
            vectors[place].append(run(picture[None])[0][0])
            seconds[place].append(time.perf_counter() - began)
    a, b = (np.stack(some) for some in vectors)
    a, b = a - a.mean(axis=0), b - a.mean(axis=0)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = float(((a * b).sum(axis=1) / np.maximum(lengths, 1e-12)).min())
    return {
        "speed": round(float(np.median(seconds[0]) / np.median(seconds[1])), 2),
        "cosine": round(cosine, 4),
    }


@contextlib.contextmanager
def _quiet():
    """Silence what the libraries log of themselves, warn of, or draw."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
