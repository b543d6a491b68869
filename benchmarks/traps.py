"""Camera traps made of real photos: animals set into street scenes at several cameras, by day and
in the grey of night, with a detector's boxes and a false alarm that recurs.
"""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

from common import DATA, TEST, TRAIN, forget, section, wordsight

CAMERAS, DAYS, SEED = 6, 14, 7
START, SLEPT = datetime(2024, 5, 1), 40  # photos of one animal that sleeps in one place for a night
WIDTH, HEIGHT = 2048, 1536
DRAWN = 20
DARK, BRIGHT = (0.45, 0.7), (0.8, 1.15)  # factors of brightness at night and by day
LEARNED = 150  # photos of cats and of dogs to learn from, whole ones
KINDS = ("cat", "dog", "raccoon")
SCENES = (
    *("bergen-norway-streets_11921_600x450", "eastern-europe-street-gr", "norway_streets"),
    *("roros-town-street_2015", "small7_main-street", "oslo-city"),
)


@section("six simulated cameras, two weeks: whole photos beside crops of a detector's boxes")
def traps(work: Path) -> list[str]:
    made = make_traps(work / "photos", random.Random(SEED))
    (work / "md.json").write_text(json.dumps(made["detector"]))
    _learn(work)
    sides = {
        "model, whole photos": ("predict", work / "photos", "-m", work / "model"),
        "words, whole photos": ("run", "-c", "cat,dog", "-p", work / "photos"),
    }
    boxes = ("--boxes", work / "md.json")
    sides |= {
        name.replace("whole photos", "crops of boxes"): (*command, *boxes)
        for name, command in list(sides.items())
    }
    truth, rows, told = made["truth"], [], {}
    for name, command in sides.items():
        output = work / name.replace(" ", "-").replace(",", "")
        forget(work)
        seconds, told[name] = wordsight(
            *command, "-o", output, "--no-pictures", "-t", 0.9, work=work
        )
        lines = (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        found = {row["file_name"]: row for row in map(json.loads, lines)}
        known = KINDS if name.startswith("model") else KINDS[:2]
        rows.append(_row(name, found, truth, known, len(truth) / seconds))
    aside = work / "model-crops-of-boxes" / "repeats.csv"
    counts = Counter(kind or "none" for kind in truth.values())
    said = ", ".join(f"{counts[kind]} {kind}" for kind in ("none", *KINDS, "other"))
    return [
        f"{len(truth)} photos of {WIDTH} x {HEIGHT} pixels, what they show: {said}. At a threshold "
        "of 0.9, the time of the whole command.",
        "",
        "| | labels right | animals found | no animal, no label | photos/s |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *_repeats(aside, made),
        "",
        f"Boxes alone, {DRAWN} cameras a row, 30 days, the false alarm at most once a day:",
        "",
        "| where animals stand, boxes a day | false alarms set aside | cameras with an animal set "
        "aside | of all boxes of animals |",
        "|---|---|---|---|",
        *(_alone(name, *how) for name, how in PLACES.items()),
    ]


# spread of the place, in lengths of the animal, across and down; of size and shape, by a factor;
# boxes a day; share of days on which a false alarm shows
PLACES = {
    "on a trail, 5": (3.0, 0.3, 0.3, 5, 0.5),
    "on a trail, 50": (3.0, 0.3, 0.3, 50, 0.5),
    "at bait, within a fifth of a length, 20": (0.2, 0.2, 0.2, 20, 0.5),
    "at bait, within a tenth of a length, 20": (0.1, 0.1, 0.1, 20, 0.5),
    "on a trail, 5; the false alarm on one day in five": (3.0, 0.3, 0.3, 5, 0.2),
}


def _alone(name: str, across: float, down: float, form: float, daily: int, share: float) -> str:
    """Tell what is set aside of boxes that need no photos: animals of one size at one place, and a
    false alarm elsewhere.
    """
    import numpy as np

    from wordsight.traps import Box, Detected, DetectorBoxes, find_repeats

    rng, found, hurt, lost, animals = np.random.default_rng(SEED), 0, 0, 0, 0
    for _ in range(DRAWN):
        images, ours = {}, set()
        for day in range(30):
            for number in range(int(rng.poisson(daily)) + 1):
                file = f"{day:02}-{number:03}.jpg"
                taken = f"2024:06:{day + 1:02} {rng.integers(24):02}:{rng.integers(60):02}:00"
                size, shape = 0.1 * np.exp(rng.normal(0, form, 2) * (1, 1))
                width, height = size * (shape / 0.1) ** 0.5, size / (shape / 0.1) ** 0.5
                x = np.clip(0.4 + 0.1 * across * rng.normal() - width / 2, 0, 1 - width)
                y = np.clip(0.5 + 0.1 * down * rng.normal() - height / 2, 0, 1 - height)
                boxes = [Box(0, "animal", 0.9, (float(x), float(y), float(width), float(height)))]
                ours.add((file, boxes[0]))
                if number == 0 and rng.random() < share:
                    spot = rng.normal((0.85, 0.85, 0.1, 0.1), 0.0015)
                    boxes.append(Box(1, "animal", 0.4, tuple(float(side) for side in spot)))
                images[file] = Detected(file, tuple(boxes), taken)
        told = find_repeats(DetectorBoxes(Path("md.json"), 0.2, [], images), _files(images))
        wrong = sum(told.has(*one) for one in ours)
        found += told.has("", Box(0, "animal", 0.4, (0.85, 0.85, 0.1, 0.1)))
        hurt, lost, animals = hurt + bool(wrong), lost + wrong, animals + len(ours)
    return f"| {name} | {found} | {hurt} | {lost / animals:.2%} |"


def _files(images: dict) -> list:
    from wordsight.datasets.files import ImageFile

    return [ImageFile(Path(name), name) for name in images]


def _row(name: str, found: dict, truth: dict, known: tuple[str, ...], speed: float) -> str:
    labelled = {file: row["label"] for file, row in found.items() if row["label"]}
    right = sum(truth[file] == label for file, label in labelled.items())
    sought = [file for file, kind in truth.items() if kind in known]
    hit = sum(labelled.get(file) == truth[file] for file in sought)
    bare = [file for file, kind in truth.items() if kind is None]
    silent = sum(file not in labelled for file in bare)
    return (
        f"| {name} | {right} of {len(labelled)}, {right / max(1, len(labelled)):.1%} | "
        f"{hit} of {len(sought)}, {hit / len(sought):.1%} | {silent} of {len(bare)} | {speed:.0f} |"
    )


def _repeats(table: Path, made: dict) -> list[str]:
    """Tell how many false alarms that recur were found, and how many animals set aside."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        aside = [row for row in csv.DictReader(file) if row["set_aside"] == "yes"]
    found = {row["camera"] for row in aside if made["stones"].get(row["camera"])}
    predictions = table.with_name("predictions.jsonl").read_text(encoding="utf-8").splitlines()
    fates = Counter(
        (made["boxes"][row["file_name"]][crop["detection"]], crop["status"] == "set_aside")
        for row in map(json.loads, predictions)
        for crop in row["crops"]
    )
    stones = fates["stone", True] + fates["stone", False]
    animals = fates["animal", True] + fates["animal", False]
    return [
        f"Of {len(made['stones'])} false alarms that recur, {len(found)} are set aside by "
        f"themselves: {fates['stone', True]} of their {stones} boxes. Of {animals} boxes of "
        f"animals {fates['animal', True]} are set aside; {SLEPT} photos show one that sleeps in "
        "one place for a night.",
    ]


def _learn(work: Path) -> None:
    """Train a model of whole photos, as the sets have them."""
    for kind in KINDS[:2]:
        (work / "data" / kind).mkdir(parents=True)
        for photo in sorted((TRAIN / kind).iterdir())[:LEARNED]:
            (work / "data" / kind / photo.name).symlink_to(photo)
    (work / "data" / "raccoon").mkdir()
    for row in _raccoons("train"):
        path = DATA / "boxes" / row["file_name"]
        link = work / "data" / "raccoon" / path.name
        if not link.exists():
            link.symlink_to(path)
    wordsight("train", work / "data", "-o", work / "model", work=work)


def _raccoons(split: str) -> list[dict]:
    with open(DATA / "boxes" / f"annotations-{split}.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["label"] == "raccoon"]


def make_traps(folder: Path, rng: random.Random) -> dict:
    """Write the photos; return what they show, by file name, the detector's JSON, what each of its
    boxes is, and the false alarms.
    """
    from PIL import Image

    animals = _animals(rng)
    made: dict = {"truth": {}, "boxes": {}, "stones": {}, "images": []}
    for camera in range(CAMERAS):
        name = f"camera{camera + 1}/100RECNX"
        (folder / name).mkdir(parents=True)
        place = next((DATA / "street" / "photos").glob(f"{SCENES[camera]}.*"))
        with Image.open(place) as image:
            scene = image.convert("RGB").resize((WIDTH, HEIGHT))
        stone = None
        if camera < 4:
            width = rng.uniform(0.04, 0.12)
            stone = (
                rng.uniform(0.1, 0.8),
                rng.uniform(0.5, 0.8),
                width,
                width * rng.uniform(0.8, 1.4),
            )
            made["stones"][f"camera{camera + 1}"] = stone
        number = 0
        for day in range(DAYS):
            for event in _events(day, camera, rng):
                number = _write_event(folder, name, number, event, scene, stone, animals, made, rng)
    made["detector"] = {
        "info": {"format_version": "1.4", "detector": "simulated"},
        "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
        "images": made.pop("images"),
    }
    return made


def _animals(rng: random.Random) -> list[tuple[str, Path, tuple[float, ...] | None]]:
    """Return (kind, photo, part of it) of animals that no model here has seen."""
    found: list = [
        (kind, photo, None) for kind in KINDS[:2] for photo in sorted((TEST / kind).iterdir())[:90]
    ]
    for row in _raccoons("test"):
        part = tuple(float(row[side]) for side in ("x_min", "y_min", "x_max", "y_max"))
        found.append(("raccoon", DATA / "boxes" / row["file_name"], part))
    strange = [path for path in (DATA / "imagenet_sample").iterdir() if path.name[:3] == "n01"]
    found += [("other", path, None) for path in sorted(strange)]  # birds, fish, snakes
    rng.shuffle(found)
    return found


def _events(day: int, camera: int, rng: random.Random) -> list[dict]:
    """Return what triggers a camera on a day: animals that pass, wind, one that sleeps."""
    events = [
        {
            "day": day,
            "hour": rng.uniform(0, 24),
            "photos": rng.randint(1, 3),
            "animal": rng.random() < 0.55,
        }
        for _ in range(rng.randint(2, 6))
    ]
    if (day, camera) == (5, 1):
        events.append({"day": day, "hour": 21.0, "photos": SLEPT, "animal": True, "sleeps": True})
    return sorted(events, key=lambda event: event["hour"])


def _write_event(folder, name, number, event, scene, stone, animals, made, rng) -> int:
    """Write the photos of one event; return the number of the last."""
    from PIL import Image, ImageEnhance

    kind, photo, part = (
        animals[len(made["images"]) % len(animals)] if event["animal"] else (None, None, None)
    )
    x, sleeps = rng.uniform(0.05, 0.6), event.get("sleeps", False)
    side, start = rng.uniform(0.12, 0.4), rng.uniform(0.45, 0.6)
    night = not 6 <= event["hour"] % 24 <= 20
    for shot in range(event["photos"]):
        image = scene.copy()
        detections, fates = [], []
        if kind is not None:
            if not sleeps:
                x += rng.uniform(-0.08, 0.08)
            box = _paste(image, photo, part, (x, start, side))
            if rng.random() < 0.95:
                detections.append(
                    _detection(box, rng.uniform(0.5, 0.97), rng, 0.01 if sleeps else 0.04)
                )
                fates.append("animal")
        if stone is not None and rng.random() < 0.45:
            detections.append(_detection(stone, rng.uniform(0.2, 0.6), rng, 0.015))
            fates.append("stone")
        if rng.random() < 0.05:
            box = (rng.uniform(0, 0.8), rng.uniform(0, 0.8), rng.uniform(0.03, 0.2), 0.15)
            detections.append(_detection(box, rng.uniform(0.05, 0.4), rng, 0))
            fates.append("other")
        number += 1
        file = f"{name}/RCNX{number:04}.JPG"
        light = image.convert("L").convert("RGB") if night else image
        light = ImageEnhance.Brightness(light).enhance(rng.uniform(*(DARK if night else BRIGHT)))
        time = START + timedelta(days=event["day"], hours=event["hour"])
        time += shot * (timedelta(minutes=10) if sleeps else timedelta(seconds=2))
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = time.strftime("%Y:%m:%d %H:%M:%S")
        light.save(folder / file, quality=85, exif=exif)
        made["truth"][file], made["boxes"][file] = kind, fates
        windows = file.replace("/", "\\")
        made["images"].append({"file": windows, "detections": detections})
    return number


def _paste(image, photo: Path, part, where: tuple[float, float, float]) -> tuple[float, ...]:
    """Set an animal into a scene with soft edges; return its box in fractions."""
    from PIL import Image, ImageDraw, ImageFilter

    x, y, side = where
    with Image.open(photo) as whole:
        animal = whole.convert("RGB")
    if part is not None:
        sides = (animal.width, animal.height) * 2
        animal = animal.crop(tuple(round(a * b) for a, b in zip(part, sides, strict=True)))
    height = round(side * HEIGHT)
    width = max(8, round(height * animal.width / animal.height))
    animal = animal.resize((width, height))
    mask = Image.new("L", animal.size, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, width - 1, height - 1), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(max(2, height // 30)))
    left = min(max(0, round(x * WIDTH)), WIDTH - min(width, WIDTH))
    top = min(round(y * HEIGHT), HEIGHT - height)
    image.paste(animal, (left, top), mask)
    return left / WIDTH, top / HEIGHT, min(1.0, width / WIDTH), height / HEIGHT


def _detection(
    box: tuple[float, ...], confidence: float, rng: random.Random, jitter: float
) -> dict:
    """Return a box as a detector finds it: not quite the same each time."""
    x, y, width, height = box
    low = (x + width * rng.gauss(0, jitter), y + height * rng.gauss(0, jitter))
    high = (x + width * (1 + rng.gauss(0, jitter)), y + height * (1 + rng.gauss(0, jitter)))
    (x0, y0), (x1, y1) = ((min(1, max(0, v)) for v in corner) for corner in (low, high))
    bbox = [round(v, 4) for v in (x0, y0, max(0.01, x1 - x0), max(0.01, y1 - y0))]
    bbox[2], bbox[3] = min(bbox[2], round(1 - bbox[0], 4)), min(bbox[3], round(1 - bbox[1], 4))
    return {"category": "1", "conf": round(confidence, 3), "bbox": bbox}
