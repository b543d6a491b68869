"""Bursts made of real photos: one answer an event, and what a promise rests on."""

from __future__ import annotations

import csv
import json
import random
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from common import DATA, forget, section, wordsight
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

BURST, SEED, REPEATS = 5, 3, 100
PRECISION, STRICT = 0.9, 0.98  # at which events and photos are compared; the first is promised
WIDTH = 256  # random directions that promises learn from, out of an embedding's 1,280
START = datetime(2024, 5, 1, 6)
EXIF_IFD, TAKEN = 0x8769, 0x9003
NIGHT = 3  # every third event is grey, as at night
CAMERAS = ("bergen-norway-streets_11921_600x450", "norway_streets", "oslo-city")
EMPTY = 20  # events of a camera in which nothing stands but its false alarm
ALARM = 0.4  # share of their photos in which that shows


@section(
    "bursts of five photos, one of them clear: events beside photos, promises with and without"
)
def events(work: Path) -> list[str]:
    rng = random.Random(SEED)
    photos, learned, output = work / "bursts", work / "learn", work / "answers"
    truth = _bursts(photos, rng)
    forget(work)
    _learn(learned)
    wordsight("train", learned, "-o", work / "model", work=work)
    wordsight(
        *("predict", photos, "-m", work / "model", "-o", output, "--no-pictures"),
        *("--events", "60s"),
        work=work,
    )
    with open(output / "predictions.jsonl", encoding="utf-8") as lines:
        seen = [
            (float(row["probability"]), row["top_label"] == truth[row["file_name"]])
            for row in map(json.loads, lines)
            if row["status"] != "none_of_these"
        ]
    with open(output / "events.csv", encoding="utf-8-sig", newline="") as file:
        told = [
            (float(row["probability"]), row["top_label"] == truth[row["best_photo"]])
            for row in csv.DictReader(file)
            if row["best_photo"]
        ]
    shown = sum(label is not None for label in truth.values())
    empty = EMPTY * len(CAMERAS)
    kept, bursts, clothes = _promises(work)
    return [
        f"{shown // BURST} events of {BURST} photos: one is clear, the others are blurred, dark "
        "and a third to more than half out of the picture, and every third event is grey. "
        f"Between them {empty} events of an empty street at {len(CAMERAS)} cameras, in "
        f"{ALARM:.0%} of whose photos the same false alarm stands at the same place; any label is "
        "wrong there. Seven classes, learned from "
        f"{len(list(learned.glob('*/*')))} other photos, no burst among them. Share of all photos, "
        "and of all events, that show a class and get the right label, at the threshold where so "
        "many of the labels given are right:",
        "",
        f"| | {PRECISION:g} of labels right | {STRICT:g} of labels right |",
        "|---|---|---|",
        *(
            f"| {name} | {bold}{_recall(found, count, PRECISION):.1%}{bold} | "
            f"{bold}{_recall(found, count, STRICT):.1%}{bold} |"
            for name, found, count, bold in (
                ("photos", seen, shown, ""),
                ("events", told, shown // BURST, "**"),
            )
        ),
        "",
        "One photo in five is clear, so of photos hardly more than a fifth can be told.",
        "",
        f"A promise of {PRECISION:g} (`train --precision {PRECISION:g}`), {REPEATS} times: learned "
        f"from the bursts of a random half of {bursts} photos of clothes (ten classes, bursts of "
        f"one to four, {clothes:,} photos in all), and checked on the other half, where of "
        f"each burst one photo counts. The promise is kept if {PRECISION:g} or more of the labels "
        "are right:",
        "",
        "| bursts are | promise kept | share of labels right, median and least |",
        "|---|---|---|",
        *(_promise_row(name, *kept[name]) for name in kept),
        "",
        f"The halves overlap, so the {REPEATS} are not independent. Heads learn from {WIDTH} "
        "random directions of the embeddings, so that they are fitted in minutes.",
    ]


def _learn(folder: Path) -> None:
    """Link the photos to learn from into a folder a class."""
    with open(DATA / "boxes" / "annotations-train.csv", newline="") as file:
        for row in csv.DictReader(file):
            target = folder / row["label"] / Path(row["file_name"]).name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(DATA / "boxes" / row["file_name"])


def _bursts(folder: Path, rng: random.Random) -> dict[str, str | None]:
    """Write bursts of photos at several cameras; return the class of each photo by its name, None
    where nothing is.
    """
    truth: dict[str, str | None] = {}
    with open(DATA / "boxes" / "annotations-test.csv", newline="") as file:
        rows: list[dict | None] = [*csv.DictReader(file)]
    rows += [None] * EMPTY * len(CAMERAS)
    rng.shuffle(rows)
    scenes, time = [_scene(name, rng) for name in CAMERAS], START
    for number, row in enumerate(rows):
        camera, time = number % len(CAMERAS), time + timedelta(seconds=rng.randrange(200, 5000))
        shots = _empty(*scenes[camera], rng) if row is None else _burst(row["file_name"], rng)
        for place, shot in enumerate(shots):
            name = f"camera{camera}/{number:04}_{place}.jpg"
            truth[name] = row and row["label"]
            shot = shot.convert("L").convert("RGB") if number % NIGHT == 0 else shot
            _write(folder / name, shot, time + timedelta(seconds=2 * place))
    return truth


def _burst(name: str, rng: random.Random) -> list[Image.Image]:
    """Return one photo as a burst, in which it is clear once."""
    image = Image.open(DATA / "boxes" / name).convert("RGB")
    image.thumbnail((640, 640))
    clear = rng.randrange(BURST)
    return [image if place == clear else _unclear(image, rng) for place in range(BURST)]


def _unclear(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return an image blurred, dark and moved by a third to more than half of its width."""
    shown = image.filter(ImageFilter.GaussianBlur(rng.uniform(4, 12)))
    shown = ImageEnhance.Brightness(shown).enhance(rng.uniform(0.2, 0.6))
    shift = rng.choice([-1, 1]) * int(image.width * rng.uniform(0.3, 0.6))
    return shown.transform(
        shown.size, Image.Transform.AFFINE, (1, 0, shift, 0, 1, 0), fillcolor=(60, 70, 60)
    )


def _scene(name: str, rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """Return the street before a camera, and the same with its false alarm: a blurred raccoon of
    those that are learned from, half as high as the picture.
    """
    street = Image.open(next((DATA / "street" / "photos").glob(f"{name}.*"))).convert("RGB")
    street.thumbnail((640, 640))
    like = rng.choice(sorted((DATA / "boxes" / "images" / "raccoon").iterdir()))
    side = street.height // 2
    alarm = Image.open(like).convert("RGB").resize((side, side))
    alarm = alarm.filter(ImageFilter.GaussianBlur(3))
    mask = Image.new("L", alarm.size, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    stands = street.copy()
    place = (rng.randrange(street.width - side), street.height - side)
    stands.paste(alarm, place, mask.filter(ImageFilter.GaussianBlur(4)))
    return street, stands


def _empty(street: Image.Image, stands: Image.Image, rng: random.Random) -> list[Image.Image]:
    """Return a burst of a camera's street in changing light, sometimes with its false alarm."""
    return [
        ImageEnhance.Brightness(stands if rng.random() < ALARM else street).enhance(
            rng.uniform(0.6, 1.2)
        )
        for _ in range(BURST)
    ]


def _write(path: Path, image: Image.Image, taken: datetime) -> None:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[TAKEN] = taken.strftime("%Y:%m:%d %H:%M:%S")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif, quality=88)


def _recall(told: list[tuple[float, bool]], count: int, precision: float) -> float:
    """Return the share of `count` that gets a right label, at the lowest threshold at which this
    share of labels is right.
    """
    told = sorted(told, reverse=True)
    right = np.cumsum([good for _, good in told])
    enough = np.flatnonzero(right / np.arange(1, len(told) + 1) >= precision)
    return right[enough[-1]] / count if len(enough) else 0.0


def _promise_row(name: str, given: list[float], refused: int) -> str:
    kept = sum(right >= PRECISION for right in given)
    without = f" ({refused} times none was given)" if refused else ""
    spread = f"{np.median(given):.3f}, {min(given):.3f}" if given else "–"
    return f"| {name} | **{kept} of {len(given)}**{without} | {spread} |"


def _promises(work: Path) -> tuple[dict[str, tuple[list[float], int]], int, int]:
    """Return, with and without grouping, the share of right labels under each promise that was
    given and how often none was; and how many bursts and photos there are.
    """
    embeddings, labels, bursts = _clothes(work)
    rng = np.random.default_rng(SEED)
    directions = np.linalg.qr(rng.normal(size=(embeddings.shape[1], WIDTH)))[0]
    embeddings = (embeddings @ directions).astype(np.float32)
    shares: dict[str, list[float | None]] = {"held out together": [], "not known": []}
    for _ in range(REPEATS):
        learned = np.isin(bursts, rng.permutation(bursts.max() + 1)[: bursts.max() // 2])
        for (_, found), together in zip(shares.items(), (bursts, None), strict=True):
            found.append(_share_right(embeddings, labels, bursts, learned, together))
    kept = {
        name: ([share for share in found if share is not None], found.count(None))
        for name, found in shares.items()
    }
    return kept, int(bursts.max()) + 1, len(bursts)


def _share_right(embeddings, labels, bursts, learned, together) -> float | None:
    """Return the share of right labels on bursts that were not learned from, at the threshold that
    the promise gives, where one random photo of each burst counts; None where it gives none.
    """
    from wordsight.heads.guarantee import HeldOut, keep_promise
    from wordsight.heads.linear import fit_head

    known = None if together is None else together[learned]
    head, report = fit_head(
        embeddings[learned], labels[learned], int(labels.max()) + 1, together=known
    )
    held_out = HeldOut(
        [""] * int(learned.sum()),
        [str(label) for label in labels[learned]],
        [str(label) for label in report.probabilities.argmax(axis=1)],
        report.probabilities.max(axis=1),
        np.zeros(int(learned.sum()), dtype=bool),
        known,
    )
    threshold = keep_promise(held_out, PRECISION).threshold
    if threshold is None:
        return None
    probabilities = head.probabilities(embeddings[~learned])
    sure = probabilities.max(axis=1) >= threshold
    right = probabilities.argmax(axis=1) == labels[~learned]
    weight = sure / np.bincount(bursts)[bursts[~learned]]  # the chance to be the photo that counts
    return float(weight @ right / weight.sum()) if sure.any() else None


def _clothes(work: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings (n, C), classes (n,) and bursts (n,) of photos of clothes, each of which
    becomes a burst of one to four photos, moved a little and in other light.
    """
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.datasets.files import ImageFile

    embedder, rng = Embedder(load_backbone()), random.Random(SEED)
    photos = sorted((DATA / "clothing").glob("*/*/*.jpg"))
    names = sorted({photo.parent.name for photo in photos})
    files, labels, bursts = [], [], []
    for number, photo in enumerate(photos):
        image = Image.open(photo)
        image.draft("RGB", (480, 480))
        image = image.convert("RGB")
        image.thumbnail((320, 320))
        for place in range(rng.randint(1, 4)):
            edge = [rng.randint(0, side // 12) for side in image.size]
            shown = image.crop((*edge, image.width - edge[1] // 2, image.height - edge[0] // 2))
            path = work / "clothes" / f"{number}_{place}.jpg"
            _write(path, ImageEnhance.Brightness(shown).enhance(rng.uniform(0.8, 1.2)), START)
            files.append(ImageFile(path, path.name))
            labels.append(names.index(photo.parent.name))
            bursts.append(number)
    rows = [one.embedding for one in embedder.embed_all(files)]
    return np.stack(rows), np.array(labels), np.array(bursts)
