"""Any word by a text–image model: made-up ones of known accuracy, and a real one where it is."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from common import DATA, ROOT, environment, section, times, wordsight
from PIL import Image
from roll import WORDS, _calibration_error, _counts

ABSENT = ["giraffe", "submarine", "violin", "kangaroo", "graffiti"]


@section(
    "any word by a text–image model: mixed roll, clothing, cats and dogs, by made-up models of a "
    "known zero-shot accuracy; WORDSIGHT_WORDS_MODEL=siglip2 adds a real one",
    usual=False,
)
def towers(work: Path) -> list[str]:
    """Ask models about all words of a set at once, and about words that nothing shows."""
    os.environ.setdefault("WORDSIGHT_HOME", str(work / "home"))
    real = os.environ.get("WORDSIGHT_WORDS_MODEL")
    lines = [
        "| photos | model | labelled at 0.99 | right | found | found by arg-max with the best flat "
        "cut-off of 98 % right | calibration error | right of what the taught head alone labels "
        "| labels of five absent words |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (files, shown) in _sets().items():
        lines += _rows(name, files, shown, real)
    return [
        *lines,
        "",
        "The made-up models' vectors carry the truth and noise, so that their figures tell of the "
        "statistics, not of a real model. *Found*: of the photos that show one of the words; the "
        "cut-off was chosen by the truth. The taught head saw the same photos; a word asked alone, "
        "in a folder full of things like it that no other word names, is less often right.",
    ]


def _sets() -> dict[str, tuple[list, list[list[str]]]]:
    """Return, by name, the photos of each set, and the words that each photo shows."""
    from wordsight.datasets.files import ImageFile

    with open(DATA / "roll.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    sets = {
        f"roll, {len(WORDS)} words": (
            [ImageFile(DATA / row["file_name"], row["file_name"]) for row in rows],
            [[word for word in row["words"].split("|") if word] for row in rows],
        )
    }
    for name in ("clothing", "catdog"):
        paths = sorted((DATA / name).glob("*/*/*.*"))
        words = {path.parent.name for path in paths}
        sets[f"{name}, {len(words)} words"] = (
            [ImageFile(path, str(path.relative_to(DATA))) for path in paths],
            [[path.parent.name] for path in paths],
        )
    return sets


def _rows(photos: str, files: list, shown: list[list[str]], real: str | None) -> list[str]:
    """Return a set's lines of the table."""
    sys.path.insert(0, str(ROOT / "tests"))
    from made_up_tower import MadeUpTower
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.heads.logistic import sigmoid
    from wordsight.teaching.by_tower import things
    from wordsight.towers.evidence import learn_words, weigh
    from wordsight.towers.prompts import NOTHING, rivals
    from wordsight.towers.tower import open_tower

    backbone = load_backbone()
    embeddings = np.stack([item.embedding for item in Embedder(backbone).embed_all(files)])
    words, there = sorted({word for some in shown for word in some}), things(embeddings, backbone)
    truth = np.array([[word in some for word in words] for some in shown])
    names = [file.name for file in files]
    asked = {
        f"made up, {accuracy}": MadeUpTower(names, shown, embeddings, accuracy)
        for accuracy in (0.6, 0.75, 0.9)
    }
    if real:
        asked[real] = open_tower(real)
    lines = []
    for name, tower in asked.items():
        vectors = tower.embed_photos(files)

        def cosines(
            words: list[str], tower=tower, vectors=vectors
        ) -> tuple[np.ndarray, np.ndarray]:
            others = [*rivals(tuple(words), there), *NOTHING]
            beside = tower.embed_phrases(others, several=False)
            return vectors @ tower.embed_phrases(words).T, vectors @ beside.T

        told = cosines(words)
        learned = learn_words(embeddings, weigh(*told))
        found = learned.probabilities
        labelled, right = _counts(found, truth, 0.99)
        alone = _counts(sigmoid(embeddings @ learned.weight.T + learned.bias), truth, 0.99)
        absent = [learn_words(embeddings, weigh(*cosines([word]))) for word in ABSENT]
        wrong = sum(int((one.probabilities >= 0.99).sum()) for one in absent)
        lines.append(
            f"| {photos} | {name} | {labelled} | {right / max(labelled, 1):.1%} | "
            f"{right / truth.sum():.1%} | {_flat(*told, truth):.1%} | "
            f"{_calibration_error(found, truth):.3f} | {alone[1]} of {alone[0]} | {wrong} |"
        )
    return lines


def _flat(words: np.ndarray, beside: np.ndarray, truth: np.ndarray) -> float:
    """Return what arg-max over words and rivals finds above the flat cut-off, chosen by the truth
    itself, that leaves 98 % right.
    """
    whole = np.concatenate([words, beside], axis=1)
    top = whole.argmax(axis=1)
    named = np.flatnonzero(top < words.shape[1])
    named = named[np.argsort(-whole.max(axis=1)[named])]
    right = np.cumsum(truth[named, top[named]])
    enough = np.flatnonzero(right / np.arange(1, len(named) + 1) >= 0.98)
    return float(right[enough[-1]] / truth.sum()) if len(enough) else 0.0


SEEN, MANY = 200, 10_000
SPEED = """
import json, sys, time
from pathlib import Path
import numpy as np
import wordsight
from wordsight.datasets.files import ImageFile
from wordsight.towers import open_tower
name, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
files = [ImageFile(path, path.name) for path in sorted(folder.iterdir())[:count]]
rates = {}
for dtype in ("f32", "int8"):
    tower = open_tower(name, dtype=dtype)
    tower.embed_photos(files[:8])
    began = time.perf_counter()
    tower.embed_photos(files[8:])
    rates[tower.dtype] = (len(files) - 8) / (time.perf_counter() - began)
print(json.dumps(rates))
"""


@section(
    f"a text–image model of SigLIP 2's size, random weights: {MANY:,} photos, 2,000 of them seen "
    "by the model, beside all of them",
    ("open_clip_torch", "nncf"),
    usual=False,
)
def towers_speed(work: Path) -> list[str]:
    """Prepare a model of random weights, compare it with open_clip's own, and time `run`."""
    sys.path.insert(0, str(ROOT / "tests"))
    os.environ["WORDSIGHT_HOME"] = str(work / "home")
    import open_clip

    from random_tower import write_model

    config = open_clip.get_model_config("ViT-B-32-SigLIP2-256")
    for key in ("hf_tokenizer_name", "tokenizer_kwargs"):  # not to be had offline; CLIP's instead
        del config["text_cfg"][key]
    pixels = {"size": 256, "mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    theirs = write_model(work / "b32", config, pixels)
    name = f"local-dir:{work / 'b32'}"
    preparing, _ = wordsight("words", "--prepare", name, work=work)
    parity = _parity(name, theirs)
    del theirs
    photos = work / "photos"
    photos.mkdir()
    with zipfile.ZipFile(DATA / "cifar10.zip") as packed:
        for number, one in enumerate(_jpegs(packed)[:MANY]):
            (photos / f"{number:05}.jpg").write_bytes(packed.read(one))
    command = [sys.executable, "-c", SPEED, name, str(photos), str(SEEN)]
    told = subprocess.run(
        command, env=environment(work), capture_output=True, text=True, check=True
    )
    rates = json.loads(told.stdout)
    asked = ("run", "-c", "wallaby rat", "-p", photos, "--no-pictures")
    seconds, _ = wordsight(*asked, "--words-model", name, "-o", work / "asked", work=work)
    quickest = max(rates.values())
    everything = MANY / quickest
    return [
        "| | seconds |",
        "|---|---|",
        f"| `run` on {MANY:,} photos, the model looking at 2,000, whole process | {seconds:.0f} |",
        f"| the model's image tower on all {MANY:,} | {everything:.0f} (calculated from {SEEN}) |",
        "",
        f"`run` takes {times(seconds / everything)} times as long. The image tower does "
        + ", ".join(f"{rate:.1f} photos a second in {dtype}" for dtype, rate in rates.items())
        + f". Preparing took {preparing:.0f} s, once. {parity} The photos are CIFAR-10's; all of "
        "them get the label of what is not the word, so each takes a second pass for its heat map.",
    ]


def _jpegs(packed: zipfile.ZipFile) -> list[str]:
    return [name for name in packed.namelist() if name.endswith(".jpg")]


def _parity(name: str, theirs) -> str:
    """Return by how much vectors differ from those of open_clip."""
    import torch

    from wordsight.datasets.files import ImageFile
    from wordsight.towers import open_tower

    tower = open_tower(name, dtype="f32")
    paths = sorted((DATA / "boxes").rglob("*.jpg"))[:24]
    # open_clip makes what is transparent black, and wordsight white
    paths = [path for path in paths if Image.open(path).mode == "RGB"][:16]
    files = [ImageFile(path, path.name) for path in paths]
    preprocess = open_clip_transform(256)
    phrases = ["a photo of a kangaroo", "red bicycle at the lake"]
    with torch.inference_mode():
        images = torch.stack([preprocess(Image.open(one.path).convert("RGB")) for one in files])
        seen = theirs.encode_image(images, normalize=True).numpy()
        tokens = torch.from_numpy(tower._tokenize(phrases))
        read = theirs.encode_text(tokens, normalize=True).numpy()
    image = float(np.abs(tower.embed_photos(files) - seen).max())
    text = float(np.abs(tower._texts(phrases) - read).max())
    return (
        f"Vectors differ from open_clip's by {image:.5f} (photos) and {text:.5f} (phrases) at most."
    )


def open_clip_transform(size: int):
    """Return open_clip's own preparation of a photo."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    values = {"size": size, "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}
    return image_transform_v2(PreprocessCfg(**values), is_train=False)
