"""A known network's own classes, groups of them, and the closer look."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wordsight
from test_runtime import random_backbone
from wordsight.backbones.networks.timm_models import imagenet_classes
from wordsight.backbones.registry import load_backbone
from wordsight.classification.predictions import FIELDS
from wordsight.errors import InvalidArgument, UnknownWord
from wordsight.recognition.imagenet_classes import known_classes

skimage_data = pytest.importorskip("skimage.data")
# Of the photos named by their class in the street folder.
RIGHT = {
    **dict.fromkeys(
        (
            "n02701002",
            "n02930766",
            "n03417042",
            "n03769881",
            "n03977966",
            "n04146614",
            "n04335435",
            "n04487081",
        ),
        "vehicle",
    ),
    **dict.fromkeys(("n03032252", "n03877845", "n04081281"), "building"),
    **dict.fromkeys(("n06794110", "n06874185"), "sign"),
}


@pytest.fixture(scope="module")
def cat():
    return Image.fromarray(skimage_data.chelsea())


@pytest.fixture(scope="module")
def wall(cat, tmp_path_factory):
    """A small cat before a large brick wall, and the cat's box."""
    image = Image.fromarray(skimage_data.brick()).convert("RGB").resize((640, 480))
    image.paste(cat.crop((75, 0, 375, 300)).resize((150, 150)), (400, 220))
    path = tmp_path_factory.mktemp("wall") / "wall.jpg"
    image.save(path, quality=95)
    return path, (400, 220, 550, 370)


@pytest.fixture(scope="module")
def known():
    return known_classes(load_backbone())


def one(*arguments, **options):
    (only,) = wordsight.recognize(*arguments, **options)
    return only


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_classes_are_those_of_timm(known):
    theirs = imagenet_classes(1000)
    assert known.wnids == [wnid for wnid, _ in theirs]
    assert (
        sum(
            mine[0] in names.split(", ")
            for mine, (_, names) in zip(known.words, theirs, strict=True)
        )
        >= 995
    )


def test_a_bus_is_a_vehicle(known):
    names = {known.words[index][0] for index in known.group("vehicle")}
    assert {
        "school bus",
        "trolleybus",
        "minibus",
        "bullet train",
        "streetcar",
        "cab",
        "airliner",
    } <= names
    assert not {"mosque", "traffic light", "stretcher", "tabby"} & names


@pytest.mark.parametrize(
    ("word", "index"), [("tabby", 281), ("Tabby_Cat", 281), ("n02123045", 281), ("cab", 468)]
)
def test_one_class_goes_by_name_or_id(known, word, index):
    assert known.named(word) == (index,)


def test_words_of_several_classes_are_asked_back(known):
    with pytest.raises(
        UnknownWord,
        match=r"Several classes are called 'crane'. Choose one by its id: n02012849 .*n03126707",
    ):
        known.named("crane")
    assert known.named("crane#bird") != known.named("n03126707")
    with pytest.raises(UnknownWord, match="Did you mean 'vehicle'"):
        known.group("vehicl")


def test_top_classes_have_ids_names_and_probabilities(cat, tmp_path):
    cat.save(tmp_path / "cat.png")
    found = one(tmp_path / "cat.png", top=7)
    assert len(found.top) == 7 and found.top[0].wnid in ("n02123045", "n02123159", "n02124075")
    assert (np.diff([guess.probability for guess in found.top]) <= 0).all() and 0.99 < sum(
        guess.probability for guess in found.top
    ) <= 1.000001


def test_a_group_sums_its_classes_and_the_closer_look_finds_what_the_whole_does_not(wall):
    path, truth = wall
    found = one(path, groups="cat")
    (group,) = found.groups
    assert group.whole_probability < 0.3 and group.probability > 0.75 and group.found
    assert iou(group.box_xyxy, truth) > 0.6
    assert {guess.wnid for guess in group.classes} <= {
        "n02123045",
        "n02123159",
        "n02123394",
        "n02123597",
        "n02124075",
        "n02127052",
    }
    assert found.top[0].name in (
        "window screen",
        "stone wall",
        "chainlink fence",
        "honeycomb",
        "tile roof",
    )


def test_a_whole_that_is_sure_stays_the_answer(cat, tmp_path):
    cat.save(tmp_path / "cat.png")
    (group,) = one(tmp_path / "cat.png", groups=["cat"]).groups
    assert group.probability == group.whole_probability > 0.95 and group.box_xyxy is not None


def test_what_is_not_there_is_not_found(cat, wall, tmp_path):
    Image.fromarray(skimage_data.coffee()).save(tmp_path / "coffee.png")
    cat.save(tmp_path / "cat.png")
    found = {
        Path(r.file_name).name: {g.name: g for g in r.groups}
        for r in wordsight.recognize(
            [tmp_path, wall[0]], groups=["vehicle,dog", "cat"], output=None
        )
    }
    assert {
        name: [g.name for g in groups.values() if g.found] for name, groups in found.items()
    } == {"cat.png": ["cat"], "coffee.png": [], "wall.jpg": ["cat"]}
    assert all(
        group.box_xyxy is None
        for groups in found.values()
        for group in groups.values()
        if not group.found
    )


def test_quadrants_are_seen_by_themselves(wall, tmp_path):
    found = one(wall[0], groups="cat", quadrants=True, output=tmp_path / "out")
    assert [part.xyxy for part in found.quadrants] == [
        (0, 0, 320, 240),
        (320, 0, 640, 240),
        (0, 240, 320, 480),
        (320, 240, 640, 480),
    ]
    shares = [part.groups["cat"] for part in found.quadrants]
    assert max(shares[0], shares[2]) < 0.2 < max(shares[1], shares[3])
    with Image.open(tmp_path / "out" / found.quadrants_drawing) as image:
        assert image.width > 600


def test_any_class_may_be_shown(wall, tmp_path):
    found = one(wall[0], class_name="streetcar", output=tmp_path / "out")
    assert found.asked.wnid == "n04335435" and found.asked.probability < 0.05
    with Image.open(tmp_path / "out" / found.drawing) as image:
        assert image.size == (640, 480) and not np.array_equal(
            np.asarray(image), np.asarray(Image.open(wall[0]).convert("RGB"))
        )


def test_small_flat_and_large_images(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (
        ("tiny.png", (9, 7)),
        ("flat.png", (3000, 60)),
        ("tall.png", (40, 900)),
        ("large.jpg", (6000, 4000)),
    ):
        Image.fromarray(
            rng.integers(0, 255, (size[1] // 3 + 1, size[0] // 3 + 1, 3), dtype=np.uint8)
        ).resize(size).save(tmp_path / name)
    found = wordsight.recognize(tmp_path, groups="vehicle", quadrants=True, output=tmp_path / "out")
    assert [r.error for r in found] == [None] * 4 and all(len(r.quadrants) == 4 for r in found)


@pytest.mark.parametrize(
    ("name", "classes"), [("test_resnet", 21843), ("test_vit", 11821), ("test_resnet", 21841)]
)
def test_larger_sets_of_classes_have_groups_too(name, classes, wall, tmp_path):
    wnid = "n02958343"  # car
    backbone = random_backbone(name, tmp_path / "local", classes)
    known = known_classes(load_backbone(backbone))
    assert len(known) == classes and known.temperature == 1
    vehicles = {known.wnids[index] for index in known.group("vehicle")}
    assert wnid in vehicles and len(vehicles) > 300 and not {"n02084071", "n07679356"} & vehicles
    assert [known.wnids[index] for index in known.named(wnid)] == [wnid]
    assert len(known.group("oak")) > 10  # a word that the vocabulary of ImageNet-1k lacks
    found = one(wall[0], groups="vehicle", backbone=backbone, top=3, quadrants=True)
    assert len(found.top) == 3 and 0 < found.groups[0].whole_probability < 1


def test_heads_that_are_convolutions_are_read(tmp_path, wall):
    backbone = random_backbone("resnetv2_18", tmp_path / "local", 1000)
    assert load_backbone(backbone).imagenet_head()[0].shape == (1000, 512)
    assert len(one(wall[0], backbone=backbone).top) == 5


def test_networks_without_imagenet_classes_are_refused(shapes_model):
    with pytest.raises(InvalidArgument, match="has 2 classes, which are none of ImageNet's sets"):
        wordsight.recognize("photos", backbone=f"local-dir:{shapes_model}", output=None)


def test_the_named_street_photos_show_their_group(data):
    groups = {"vehicle": "vehicle", "building": "building", "sign": "n06791372,n06793231"}
    found = wordsight.recognize(
        str(data / "street" / "photos" / "n*.JPEG"), groups=[*groups.values()], output=None
    )
    assert len(found) == len(RIGHT) == 13
    for photo in found:
        right = RIGHT[photo.file_name.split("_")[0]]
        surest = photo.groups[0]
        assert surest.found and surest.name in groups[right].split(","), photo.file_name
        assert [g.name for g in photo.groups if g.found] == [surest.name], photo.file_name


def test_a_parked_car_is_found_by_looking_closer(data):
    (group,) = one(data / "street" / "photos" / "small7_main-street.jpg", groups="vehicle").groups
    assert group.whole_probability < 0.4 and group.probability > 0.9
    x_min, y_min, x_max, y_max = group.box_xyxy
    # the red car on the right
    assert (
        x_min < 345 < x_max
        and y_min < 215 < y_max
        and (x_max - x_min) * (y_max - y_min) < 0.3 * 413 * 275
    )


def test_the_command_writes_tables_and_images(cli_here, wall, cat, tmp_path):
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    cat.save(photos / "deep" / "cat.png")
    cat.save(photos / "deep" / "cat.png.jpg")
    (photos / "a\nb.jpg").write_bytes(wall[0].read_bytes())
    (photos / "broken.jpg").write_bytes(wall[0].read_bytes()[:300])
    (photos / "notes.txt").write_text("no picture")
    done = cli_here(
        "recognize",
        "photos",
        "--group",
        "cat",
        "--group",
        "vehicle",
        "--quadrants",
        "-o",
        "out",
        "--json",
    )
    assert done.returncode == 1 and "broken.jpg" in done.stderr
    answer = json.loads(done.stdout)
    assert (
        answer["pictures"] == 4
        and answer["found"] == {"cat": 3, "vehicle": 0}
        and answer["skipped"] == ["notes.txt"]
    )
    rows = [
        json.loads(line)
        for line in (tmp_path / "out" / "recognition.jsonl").read_text().splitlines()
    ]
    assert rows == answer["recognitions"]
    assert set(rows[0]) == {
        *FIELDS,
        "top",
        "groups",
        "asked",
        "quadrants",
        "picture",
        "quadrants_picture",
        "error",
    }
    drawn = [row[key] for row in rows for key in ("picture", "quadrants_picture") if row[key]]
    assert len(set(drawn)) == 6 and all((tmp_path / "out" / path).is_file() for path in drawn)
    with open(tmp_path / "out" / "recognition.csv", newline="", encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 4 and list(table[0]) == [*FIELDS, "name", "wnid", "name_probability"]
    assert [row["file_name"] for row in table if row["status"] == "unreadable"] == ["broken.jpg"]
    (found,) = (row for row in table if row["file_name"] == "deep/cat.png")
    assert found["label"] == "cat" and found["wnid"].startswith("n0212")
    shares = json.loads(found["probabilities"])
    assert shares["cat"] == float(found["probability"]) > 0.75 > shares["vehicle"]
    (label,) = json.loads(found["labels"])
    assert label["label"] == "cat" and label["box_xyxy"] == json.loads(found["box_xyxy"])
    again = cli_here("recognize", "photos/deep/cat.png", "-o", "out", "--no-pictures")
    # what is no more spoken of is gone
    assert (
        again.returncode == 0
        and "n0212" in again.stdout
        and not (tmp_path / "out" / drawn[0]).exists()
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["wall.jpg", "--top", 0], "can name 1 to 1000 classes"),
        (["wall.jpg", "--group", "cat,cat"], "Name each group once"),
        (["wall.jpg", "--group", "crane"], "'crane' has several meanings"),
        (["wall.jpg", "--class", "flugelhorn"], "flugelhorn"),
        (["wall.jpg", "-t", "50"], "between 0 and 1"),
        (["nowhere.jpg"], "No such file"),
        (["wall.jpg", "--backbone", "vgg16"], "--offline forbids it"),
    ],
)
def test_wrong_options_are_one_sentence(options, sentence, cli_here, wall, tmp_path):
    (tmp_path / "wall.jpg").write_bytes(wall[0].read_bytes())
    done = cli_here("recognize", *options)
    assert (
        done.returncode == 2
        and sentence in done.stderr
        and done.stderr.count("\n") <= 2
        and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "results").exists()
