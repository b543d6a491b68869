"""Camera traps: what is in a detector's boxes, boxes that recur, and the files of other tools."""

from __future__ import annotations

import csv
import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import draw_shape
from wordsight.datasets.files import ImageFile
from wordsight.errors import InvalidArgument
from wordsight.traps import Box, Detected, DetectorBoxes, find_repeats, read_boxes
from wordsight.traps.crops import square_around
from wordsight.traps.repeats import repeats_of

SIZE = (480, 640)  # height, width
START = datetime(2024, 5, 1, 6)
SCHEMAS = Path(__file__).parent / "camtrap_dp"


def write_trap(path, kinds=(), taken=START, seed=0):
    """Write a photo with shapes in it; return its detections as MegaDetector writes them."""
    noise = np.random.default_rng(seed).integers(90, 150, (*SIZE, 3), dtype=np.uint8)
    scene, detections = Image.fromarray(noise), []
    for number, kind in enumerate(kinds):
        shape, (x0, y0, x1, y1) = draw_shape(kind, seed + number)
        left, top = 20 + 310 * number, 60
        scene.paste(shape.crop((x0, y0, x1 + 1, y1 + 1)), (left + x0, top + y0))
        sides = ((left + x0) / 640, (top + y0) / 480, (x1 - x0) / 640, (y1 - y0) / 480)
        detections.append({"category": "1", "conf": 0.9, "bbox": [round(v, 4) for v in sides]})
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = taken.strftime("%Y:%m:%d %H:%M:%S")
    path.parent.mkdir(parents=True, exist_ok=True)
    scene.save(path, quality=92, exif=exif)
    return detections


@pytest.fixture(scope="module")
def crops_model(tmp_path_factory):
    """A model that learned from crops of shapes, as boxes have them."""
    folder = tmp_path_factory.mktemp("crops")
    for kind in ("disc", "square"):
        (folder / "data" / kind).mkdir(parents=True)
        for number in range(20):
            scene = folder / f"{number}.jpg"
            (found,) = write_trap(scene, [kind], seed=number)
            with Image.open(scene) as image:
                crop = image.crop(square_around(Box(0, "animal", 1, found["bbox"]), SIZE))
            crop.save(folder / "data" / kind / f"{number}.jpg")
    wordsight.train(folder / "data", folder / "model")
    return folder / "model"


PERSON = {"category": "2", "conf": 0.8, "bbox": [0.7, 0.1, 0.1, 0.5]}
LOW = {"category": "1", "conf": 0.1, "bbox": [0.1, 0.1, 0.2, 0.2]}


@pytest.fixture
def trap(tmp_path):
    """Two cameras with photos of the same names, and what a detector on Windows says of them."""
    photos = {
        "cam1/100RECNX/A.JPG": ["disc"],
        "cam1/100RECNX/B.JPG": ["square", "disc"],
        "cam1/100RECNX/C.JPG": [],
        "cam2/A.JPG": ["square"],
        "cam2/B.JPG": [],
        "cam2/C.JPG": [],
        "cam2/D.JPG": ["disc"],
    }
    images = []
    for number, (name, kinds) in enumerate(photos.items()):
        found = write_trap(tmp_path / "photos" / name, kinds, START + timedelta(hours=number))
        images.append({"file": name.replace("/", "\\"), "detections": found, "mine": number})
    images[2]["detections"] = [LOW]
    images[3]["detections"].append(PERSON)
    images[4]["detections"] = [PERSON]
    images[5] = {"file": "cam2\\C.JPG", "failure": "image access failure", "detections": None}
    del images[6]  # cam2/D.JPG
    images.append({"file": "cam3\\A.JPG", "detections": []})
    content = {
        "info": {"format_version": "1.4", "detector": "md_v5a.0.0.pt", "mine": [1]},
        "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
        "images": images,
        "mine": {"kept": 0.1},
    }
    (tmp_path / "md.json").write_text(json.dumps(content))
    return tmp_path


def rows_of(folder):
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return {row["file_name"]: row for row in map(json.loads, lines)}


def test_photos_answer_by_their_surest_crop(trap, crops_model, cli_here, monkeypatch):
    from wordsight.backbones.cache import EmbeddingCache
    from wordsight.backbones.embedder import Embedder
    from wordsight.traps import crops

    monkeypatch.setattr(EmbeddingCache, "get", lambda *_: None)  # of another test's equal photos
    passes, decoded = [], []
    encode, decode = Embedder.encode, crops.decode
    monkeypatch.setattr(Embedder, "encode", lambda *a, **k: passes.append(1) or encode(*a, **k))
    monkeypatch.setattr(crops, "decode", lambda *a: decoded.append(1) or decode(*a))
    before = (trap / "md.json").read_bytes()
    command = ("predict", "photos", "-m", crops_model, "--boxes", "md.json", "-t", "0.5")
    done = cli_here(*command, "--no-pictures", "-o", "tables")
    assert done.returncode == 1 and "lists 1 image that is not among these photos" in done.stdout
    assert len(passes) == 4 and len(decoded) == 3  # crops, and photos that have some
    found = rows_of(trap / "tables")
    told = {
        name: (row["status"], [one["label"] for one in row["labels"]])
        for name, row in found.items()
    }
    assert told == {
        "cam1/100RECNX/A.JPG": ("labelled", ["disc"]),
        "cam1/100RECNX/B.JPG": ("labelled", told["cam1/100RECNX/B.JPG"][1]),
        "cam1/100RECNX/C.JPG": ("empty", []),
        "cam2/A.JPG": ("labelled", ["square", "person"]),
        "cam2/B.JPG": ("labelled", ["person"]),
        "cam2/C.JPG": ("unreadable", []),
        "cam2/D.JPG": ("unreadable", []),
    }
    assert sorted(told["cam1/100RECNX/B.JPG"][1]) == ["disc", "square"]
    assert "could not read it: image access failure" in found["cam2/C.JPG"]["error"]
    assert found["cam2/D.JPG"]["error"] == "md.json doesn't list it"
    both = found["cam1/100RECNX/B.JPG"]
    assert [crop["label"] for crop in both["crops"]] == ["square", "disc"]
    for label in both["labels"]:  # a label's box is the detector's
        own = next(crop for crop in both["crops"] if crop["label"] == label["label"])
        assert label["box_xyxy"] == own["box_xyxy"]
    assert found["cam2/B.JPG"]["probability"] == 0.8
    with open(trap / "tables" / "crops.csv", encoding="utf-8-sig") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [
            *("disc", "square", "disc", "square", "person", "person")
        ]
    assert (trap / "md.json").read_bytes() == before

    # drawn: crops come from the cache, heat maps lie in the photo, people are linked
    assert cli_here(*command, "-o", "results").returncode == 1
    assert rows_of(trap / "results")["cam2/A.JPG"]["crops"] == found["cam2/A.JPG"]["crops"]
    one = rows_of(trap / "results")["cam1/100RECNX/A.JPG"]
    with Image.open(trap / "results" / one["mask"]) as image:
        mask = np.array(image) > 0
    x0, y0, x1, y1 = (round(side) for side in one["box_xyxy"])
    assert mask.shape == SIZE and mask.any()
    assert mask[max(0, y0 - 40) : y1 + 40, max(0, x0 - 40) : x1 + 40].sum() > 0.95 * mask.sum()
    assert (trap / "results" / "images" / "person" / "cam2" / "B.JPG").is_file()
    results = wordsight.Results(threshold=0.5, class_names=[], counts=None, output=trap / "results")
    again = {one.file_name: one.status for one in results}
    assert again == {name: row["status"] for name, row in found.items()}

    assert cli_here("sort", "results", "-o", "sorted").returncode == 1
    assert (trap / "sorted" / "_empty" / "C.JPG").is_file()


def test_run_looks_for_words_in_boxes(tmp_path, cli_here):
    from wordsight.cli.demo import _sources

    cat = Image.open(next(one for one in _sources() if one.stem == "chelsea")).convert("RGB")
    images = []
    for number in range(4):
        name = f"{number}.jpg"
        write_trap(tmp_path / "photos" / name)
        found = []
        if number % 2:
            scene = Image.open(tmp_path / "photos" / name)
            scene.paste(cat.resize((160, 107)), (300, 250))
            scene.save(tmp_path / "photos" / name)
            found = [{"category": "1", "conf": 0.5, "bbox": [300 / 640, 250 / 480, 0.25, 0.223]}]
        images.append({"file": f"/home/else/photos/{name}", "detections": found})
    content = {"detection_categories": {"1": "animal"}, "images": images}
    (tmp_path / "md.json").write_text(json.dumps(content))
    command = ("run", "-c", "cat,dog", "-p", "photos", "--no-pictures", "-t", "0.9")
    assert cli_here(*command, "--boxes", "md.json").returncode == 0
    statuses = [(row["status"], row["label"]) for row in rows_of(tmp_path / "results").values()]
    assert statuses == [("empty", None), ("labelled", "cat")] * 2


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("cam1/A.jpg", {"cam1/A.jpg"}),
        ("CAM1\\a.JPG", {"cam1/A.jpg"}),
        ("C:\\Users\\me\\2024\\photos\\cam1\\A.jpg", {"cam1/A.jpg"}),
        ("photos/cam1/A.jpg", {"cam1/A.jpg"}),  # run one folder higher
        ("cam3/A.jpg", set()),
        ("../cam2/A.jpg", {"cam2/A.jpg"}),
        ("A.jpg", set()),
    ],
)
def test_images_are_found_by_the_ends_of_their_paths(name, match, tmp_path):
    photos = [
        ImageFile(tmp_path / "photos" / one, one) for one in ("cam1/A.jpg", "cam2/A.jpg", "B.jpg")
    ]
    images = [{"file": name, "detections": []}, {"file": "B.jpg", "detections": []}]
    content = {"detection_categories": {"1": "animal"}, "images": images}
    (tmp_path / "md.json").write_text(json.dumps(content))
    told = read_boxes(tmp_path / "md.json", photos, [tmp_path / "photos"])
    assert set(told.images) - {"B.jpg"} == match


def test_what_boxes_cannot_be_used_is_said(tmp_path):
    photos = [ImageFile(tmp_path / name, name) for name in ("a.jpg", "b.jpg", "c.jpg")]

    def read(images, categories=("animal",), **options):
        named = {str(number): name for number, name in enumerate(categories, start=1)}
        content = {"detection_categories": named, "images": images}
        (tmp_path / "md.json").write_text(json.dumps(content))
        return read_boxes(tmp_path / "md.json", photos, [tmp_path], **options)

    with pytest.raises(InvalidArgument, match=r"lists none of the 3 photos, but x/y\.jpg"):
        read([{"file": "x/y.jpg", "detections": []}])
    with pytest.raises(InvalidArgument, match="no category 'animal', only car"):
        read([{"file": "a.jpg", "detections": []}], ("car",))
    with pytest.raises(InvalidArgument, match="between 0 and 1; got 2"):
        read([{"file": "a.jpg", "detections": []}], confidence=2)
    for bad in (
        {"conf": 0.9},
        {**LOW, "bbox": [0, 0, float("nan"), 1]},
        {**LOW, "bbox": [1e9] * 4},
    ):
        told = read([{"file": "a.jpg", "detections": [bad]}, 7, {"file": 3}])
        assert told.problems["a.jpg"] == "detection 1 is not written as it should be (in md.json)"
    told = read([{"file": "a.jpg", "detections": 7}])
    assert told.problems["a.jpg"] == "its detections are no list (in md.json)"
    twice = [{"file": "b.jpg", "detections": []}, {"file": "C:\\x\\b.jpg", "detections": [LOW]}]
    told = read([{"file": "a.jpg", "detections": [LOW]}, *twice], confidence=0.05)
    assert "lists it twice" in told.problems["b.jpg"] and "b.jpg" not in told.images
    assert [box.confidence for box in told.images["a.jpg"].boxes] == [0.1]


def test_crops_are_squares_within_the_photo():
    assert square_around(Box(0, "animal", 1, (0.4, 0.4, 0.1, 0.2)), (100, 200)) == (78, 38, 101, 61)
    assert square_around(Box(0, "animal", 1, (0, 0, 0.1, 0.2)), (100, 200)) == (0, 0, 23, 23)
    assert square_around(Box(0, "animal", 1, (0, 0.2, 1, 0.4)), (100, 200)) == (0, 0, 200, 100)


# boxes that recur -------------------------------------------------------------------------------


def survey(days, seed=0, timeless=False):
    """A camera with a stone on every second photo, animals elsewhere, and one that sleeps."""
    rng, images = np.random.default_rng(seed), {}

    def add(name, boxes, time):
        told = tuple(Box(n, "animal", 0.5, box) for n, box in enumerate(boxes))
        images[f"cam/{name}.jpg"] = Detected(
            name, told, "" if timeless else f"{time:%Y:%m:%d %H:%M:%S}"
        )

    for day in range(days):
        for shot in range(6):
            x, y, side = rng.uniform(0, 0.6), rng.uniform(0.3, 0.6), rng.uniform(0.05, 0.3)
            boxes = [(x, y, side, side)]
            if shot % 2:
                boxes.append(tuple(rng.normal((0.8, 0.1, 0.1, 0.15), 0.002)))
            add(f"{day:02}-{shot}", boxes, START + timedelta(days=day, hours=2 * shot))
    for shot in range(40):
        box = tuple(rng.normal((0.1, 0.05, 0.2, 0.2), 0.002))
        add(f"z{shot:02}", [box], START + timedelta(hours=14, minutes=10 * shot))
    return DetectorBoxes(Path("md.json"), 0.2, [], images)


STONE, ASLEEP = (
    Box(0, "animal", 0.5, (0.8, 0.1, 0.1, 0.15)),
    Box(0, "animal", 0.5, (0.1, 0.05, 0.2, 0.2)),
)


def photos_of(told):
    return [ImageFile(Path(name), name) for name in told.images]


def test_what_recurs_on_many_days_is_set_aside_and_a_sleeper_is_not():
    told = survey(days=8)
    found = find_repeats(told, photos_of(told))
    stone, asleep = sorted(found.places, key=lambda one: -one.days)
    assert stone.set_aside and stone.days == stone.of_days == 8 and len(stone.photos) == 24
    assert stone.chance < 1e-9 and stone.first == START + timedelta(hours=2)
    assert not asleep.set_aside and len(asleep.photos) == 40 and asleep.days <= 2
    assert found.has("cam/00-1.jpg", STONE) and not found.has("cam/z00.jpg", ASLEEP)
    assert not found.has("other/00-1.jpg", STONE)  # of another camera
    aside = [(n, b) for n, one in told.images.items() for b in one.boxes if found.has(n, b)]
    assert len(aside) == 24  # no animal among them


def test_three_days_or_no_times_set_nothing_aside():
    told = survey(days=3)
    assert not any(one.set_aside for one in find_repeats(told, photos_of(told)).places)
    told = survey(days=8, timeless=True)
    found = find_repeats(told, photos_of(told))
    assert len(found.places) == 2 and not any(one.set_aside for one in found.places)
    assert "don't say when they were taken" in found.notes(None)[0]


def test_animals_at_bait_are_not_set_aside():
    """Their boxes fall together more often than elsewhere, and the camera's own boxes say so."""
    rng = np.random.default_rng(1)
    images = {}
    for number in range(400):
        width, height = 0.2 * np.exp(rng.normal(0, 0.08, 2))
        x, y = rng.normal(0.4, 0.02) - width / 2, rng.normal(0.5, 0.02) - height / 2
        time = START + timedelta(hours=number)
        box = Box(0, "animal", 0.9, (x, y, width, height))
        images[f"cam/{number:03}.jpg"] = Detected("", (box,), f"{time:%Y:%m:%d %H:%M:%S}")
    told = DetectorBoxes(Path("md.json"), 0.2, [], images)
    assert not any(one.set_aside for one in find_repeats(told, photos_of(told)).places)


def test_people_decide_what_is_set_aside(tmp_path):
    told = survey(days=8)
    assert not repeats_of(told, photos_of(told), "keep").places
    columns = "Camera;Category;x_min;y_min;width;height;set_aside"
    table = tmp_path / "mine.csv"
    table.write_text(f"{columns}\ncam;animal;0,8;0,1;0,1;0,15;no\ncam;animal;0,1;0,05;0,2;0,2;\n")
    found = repeats_of(told, photos_of(told), table)
    assert found.has("cam/z00.jpg", ASLEEP) and not found.has("cam/00-1.jpg", STONE)
    table.write_text(f"{columns}\ncam;animal;x;0,1;0,1;0,15;no\n")
    with pytest.raises(InvalidArgument, match="line 2"):
        repeats_of(told, photos_of(told), table)
    table.write_text("camera,box\n")
    with pytest.raises(InvalidArgument, match="no column category, x_min"):
        repeats_of(told, photos_of(told), table)


def test_repeats_are_shown_and_photos_answer_without_them(tmp_path, crops_model, cli_here):
    stone, images = [0.05, 0.05, 0.1, 0.1], []
    for day in range(6):
        name = f"cam/{day}.jpg"
        found = write_trap(
            tmp_path / "photos" / name, ["disc"] * (day == 2), START + timedelta(day)
        )
        found.append({"category": "1", "conf": 0.3, "bbox": stone})
        images.append({"file": name, "detections": found})
    content = {"info": {"format_version": "1.4"}, "detection_categories": {"1": "animal"}}
    (tmp_path / "md.json").write_text(json.dumps({**content, "images": images}))
    command = ("predict", "photos", "-m", crops_model, "--boxes", "md.json", "-t", "0.5")
    done = cli_here(*command)
    assert done.returncode == 0 and "'--repeats keep' counts them again" in done.stdout
    listed = json.loads(cli_here(*command, "--json").stdout)["files"]
    assert {"crops.csv", "repeats.csv", "repeats.png"} < {*listed}
    there = [path.name for path in (tmp_path / "results").glob("[!.]*") if path.is_file()]
    assert sorted(listed) == sorted(there)
    statuses = [row["status"] for row in rows_of(tmp_path / "results").values()]
    assert statuses == ["empty", "empty", "labelled", "empty", "empty", "empty"]
    with Image.open(tmp_path / "results" / "repeats.png") as sheet:
        assert sheet.width > 400
    with open(tmp_path / "results" / "repeats.csv", encoding="utf-8-sig") as file:
        (row,) = csv.DictReader(file)
    assert (row["camera"], row["days"], row["set_aside"]) == ("cam", "6", "yes")
    # given back to MegaDetector's tools, no threshold shows it
    assert cli_here("prelabel", "results", "--format", "megadetector").returncode == 0
    written = json.loads((tmp_path / "results/prelabels/megadetector/md.json").read_text())
    assert all(one["detections"][-1]["conf"] == -0.3 for one in written["images"])
    assert cli_here(*command, "--repeats", "keep", "-o", "kept").returncode == 0
    assert "empty" not in [row["status"] for row in rows_of(tmp_path / "kept").values()]
    assert not (tmp_path / "kept" / "repeats.csv").exists()


# for other tools --------------------------------------------------------------------------------


@pytest.fixture
def labelled(trap, crops_model, cli_here):
    """Results in a detector's boxes, one event in them."""
    done = cli_here(
        *("predict", "photos", "-m", crops_model, "--boxes", "md.json", "-t", "0.5"),
        "--no-pictures",
    )
    assert done.returncode == 1
    table = trap / "results" / "predictions.jsonl"
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    for row in lines[:2]:
        row["event"] = "cam1-1"
    table.write_text("".join(json.dumps(row) + "\n" for row in lines))
    return trap


def test_megadetectors_file_gets_classes_and_keeps_the_rest(labelled, cli_here):
    done = cli_here("prelabel", "results", "--format", "megadetector")
    assert done.returncode == 1 and "md.json doesn't list it" in done.stderr
    before = json.loads((labelled / "md.json").read_text())
    after = json.loads((labelled / "results/prelabels/megadetector/md.json").read_text())
    assert after.pop("classification_categories") == {"1": "disc", "2": "square"}
    assert after["info"].pop("classifier").startswith("wordsight ")
    assert re.match(r"\d{4}-\d\d-\d\d ", after["info"].pop("classification_completion_time"))
    classes = [
        [one.pop("classifications", None) for one in image["detections"] or []]
        for image in after["images"]
    ]
    assert after == before  # unknown keys, too
    assert [[c and c[0][0] for c in of] for of in classes] == [
        *(["1"], ["2", "1"], [None], ["2", None], [None], [], [])
    ]
    assert all(0.5 <= c[0][1] <= 1 for of in classes for c in of if c)
    (labelled / "md.json").write_text(json.dumps({**before, "images": before["images"][1:]}))
    done = cli_here("prelabel", "results", "--format", "megadetector")
    assert done.returncode == 2 and "not the file that these results" in done.stderr


def test_timelapse_gets_a_row_a_photo(labelled, cli_here):
    assert cli_here("prelabel", "results", "--format", "timelapse").returncode == 1
    with open(labelled / "results/prelabels/timelapse/timelapse.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["File", "RelativePath", "DateTime"]
    first = rows[0]
    assert (first["File"], first["RelativePath"]) == ("A.JPG", "cam1\\100RECNX")
    assert (first["DateTime"], first["Species"]) == ("2024-05-01 06:00:00", "disc")
    assert (first["Count"], first["Event"]) == ("1", "cam1-1")
    assert [(row["Species"], row["Count"], row["Status"]) for row in rows[2:]] == [
        *(("", "0", "empty"), ("square", "1", "labelled"), ("person", "1", "labelled"))
    ]


def test_camtrap_dp_says_what_is_missing(labelled, cli_here):
    def refused(*more):
        done = cli_here("prelabel", "results", "--format", "camtrap-dp", *more)
        assert done.returncode == 2
        return done.stderr

    assert "deploymentID (the camera's folder: cam1, cam2)" in refused()
    (labelled / "places.csv").write_text("deploymentID,latitude,longitude\ncam1,52.1,4.3\n")
    given = ("--deployments", "places.csv")
    assert "--timezone" in refused(*given)
    assert "No time zone 'Mars'" in refused(*given, "--timezone", "Mars")
    assert "has no row for cam2" in refused(*given, "--timezone", "+01:00")
    with open(labelled / "places.csv", "a") as file:
        file.write("cam2,north,4.3\n")
    assert "no latitude" in refused(*given, "--timezone", "+01:00")
    assert not (labelled / "results" / "prelabels" / "camtrap-dp").exists()


PROJECT = {
    "contributors": [{"title": "A. Person", "role": "contact"}],
    "project": {
        "title": "Shapes",
        "samplingDesign": "opportunistic",
        "captureMethod": ["activityDetection"],
        "individualAnimals": False,
        "observationLevel": ["media"],
    },
    "taxonomic": [{"scientificName": "Discus rotundus", "vernacularNames": {"eng": "disc"}}],
}


def test_camtrap_dp_keeps_the_standards_tables(labelled, cli_here):
    (labelled / "places.csv").write_text(
        "DeploymentID;Latitude;Longitude;habitat\ncam1;52,1;4,3;wood\ncam2;52.2;4.4;\n"
    )
    (labelled / "project.json").write_text(json.dumps(PROJECT))
    given = ("--deployments", "places.csv", "--timezone", "Europe/Berlin")
    command = ("prelabel", "results", "--format", "camtrap-dp", *given)
    done = cli_here(*command)
    assert done.returncode == 1 and "lacks contributors and project" in done.stdout
    done = cli_here(*command, "--project", "project.json")
    assert "lacks" not in done.stdout
    folder = labelled / "results" / "prelabels" / "camtrap-dp"
    tables = {name: _by_schema(folder, name) for name in ("deployments", "media", "observations")}
    assert [row["deploymentStart"] for row in tables["deployments"]] == [
        *("2024-05-01T06:00:00+02:00", "2024-05-01T09:00:00+02:00")
    ]
    assert len(tables["media"]) == 5
    seen = [
        (row["observationType"], row["scientificName"], row["observationTags"], row["eventID"])
        for row in tables["observations"]
    ]
    assert seen == [
        ("animal", "Discus rotundus", "label:disc", "cam1-1"),
        ("animal", "", "label:square", "cam1-1"),
        ("animal", "Discus rotundus", "label:disc", "cam1-1"),
        ("blank", "", "", ""),
        ("animal", "", "label:square", ""),
        ("human", "", "", ""),
        ("human", "", "", ""),
    ]
    assert float(tables["observations"][-1]["bboxX"]) == 0.7
    package = json.loads((folder / "datapackage.json").read_text())
    assert package["temporal"] == {"start": "2024-05-01", "end": "2024-05-01"}
    assert package["spatial"]["bbox"] == [4.3, 52.1, 4.4, 52.2]
    assert {"profile", "created", "taxonomic", "contributors", "project"} <= set(package)
    frictionless = pytest.importorskip("frictionless")
    for resource in package["resources"]:
        resource["schema"] = json.loads(
            (SCHEMAS / f"{resource['name']}-table-schema.json").read_text()
        )
    whole = frictionless.Package({"resources": package["resources"]}, basepath=str(folder))
    assert whole.validate().valid


def _by_schema(folder, name):
    """Return a table's rows, each held against the standard's own schema."""
    fields = json.loads((SCHEMAS / f"{name}-table-schema.json").read_text())["fields"]
    with open(folder / f"{name}.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field["name"] for field in fields]
    for field in fields:
        rules, values = field.get("constraints", {}), [row[field["name"]] for row in rows]
        assert all(values) or not rules.get("required"), field["name"]
        assert len(set(values)) == len(values) or not rules.get("unique"), field["name"]
        for value in filter(None, values):
            assert value in rules.get("enum", [value]), (field["name"], value)
            assert re.match(rules.get("pattern", ""), value), (field["name"], value)
            if field["type"] in ("number", "integer"):
                assert rules.get("minimum", -1e9) <= float(value) <= rules.get("maximum", 1e9)
            if field["type"] == "datetime":
                assert datetime.strptime(value, field["format"])
    return rows


def test_coco_says_where_and_when(labelled, cli_here):
    assert cli_here("prelabel", "results", "--format", "coco").returncode == 0
    content = json.loads((labelled / "results/prelabels/coco/annotations.json").read_text())
    first, second, *others = content["images"]
    assert (first["location"], first["datetime"]) == ("cam1", "2024-05-01 06:00:00")
    assert (first["seq_id"], first["frame_num"], first["seq_num_frames"]) == ("cam1-1", 1, 2)
    assert second["frame_num"] == 2 and not any("seq_id" in one for one in others)
    assert len(content["annotations"]) == 6  # every box with a label
    assert cli_here("prelabel", "results", "--format", "coco", "--timezone", "Z").returncode == 2
