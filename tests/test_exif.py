"""Boxes on photos that EXIF turns, of annotations that don't tell what they were drawn on: the user
says it, and what annotations tell by themselves goes before.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from wordsight.datasets import inspect, read_boxes
from wordsight.errors import InvalidArgument
from wordsight.images.decoding import decode

# Stored, the photo is 200 wide and 100 high; orientation 6 turns it by 90 degrees clockwise, to
# 100 x 200: what is stored at (x, y) lies at (100 - y, x).
STORED = (20, 10, 80, 40)
TURNED = (60, 20, 90, 80)
MARK = {"file_name": "a.jpg", "width": 200, "height": 100}


def photo(path, orientation=6):
    pixels = np.zeros((100, 200, 3), dtype=np.uint8)
    x_min, y_min, x_max, y_max = STORED
    pixels[y_min:y_max, x_min:x_max] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=100)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "a.jpg")
    return tmp_path


def yolo(here):
    (here / "data.yaml").write_text("names: [cat]\ntrain: .\n")
    (here / "a.txt").write_text("0 0.25 0.25 0.3 0.3\n")
    return here / "data.yaml"


def table(here):
    (here / "boxes.csv").write_text(
        "file_name,label,x_min,y_min,x_max,y_max\na.jpg,cat,20,10,80,40\n"
    )
    return here / "boxes.csv"


def voc(here):
    sides = "<xmin>20</xmin><ymin>10</ymin><xmax>80</xmax><ymax>40</ymax>"
    (here / "Annotations").mkdir()
    (here / "Annotations" / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename>"
        f"<object><name>cat</name><bndbox>{sides}</bndbox></object></annotation>"
    )
    return here


def coco(here, **others):
    content = {
        "images": [{"id": 1, **MARK}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [20, 10, 60, 30]}],
        **others,
    }
    (here / "labels.json").write_text(json.dumps(content))
    return here / "labels.json"


def coco_of_label_studio(here):
    return coco(here, info={"contributor": "Label Studio"})


def label_studio(here, **sizes):
    sizes = sizes or {"original_width": 100, "original_height": 200}
    value = {"x": 10, "y": 10, "width": 30, "height": 30, "rectanglelabels": ["cat"]}
    result = [{"type": "rectanglelabels", "value": value, **sizes}]
    task = {"data": {"image": "a.jpg"}, "annotations": [{"result": result}]}
    (here / "tasks.json").write_text(json.dumps([task]))
    return here / "tasks.json"


def sides(source, exif=None):
    return tuple(round(side, 6) for side in read_boxes(source, exif=exif).images[0].boxes[0].xyxy)


@pytest.mark.parametrize(
    ("write", "upright"),
    [
        (yolo, (10, 20, 40, 80)),  # 0.1 to 0.4 of the width 100 and of the height 200
        (table, STORED),
        (voc, STORED),
    ],
)
def test_boxes_are_drawn_on_what_the_user_says(here, write, upright):
    source = write(here)
    assert sides(source, "upright") == upright
    assert sides(source, "stored") == TURNED
    with pytest.raises(InvalidArgument, match=r"--exif upright \(after\) or --exif stored"):
        read_boxes(source)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_stored_box_lies_where_the_pixels_are(here, orientation):
    photo(here / "a.jpg", orientation)
    source = table(here)
    upright = np.asarray(decode((here / "a.jpg").read_bytes()).image)
    ys, xs = np.nonzero(upright[..., 0] > 127)
    assert sides(source, "stored") == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    if orientation == 1:
        assert sides(source) == sides(source, "upright") == STORED


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_size_that_both_ways_have_tells_nothing(here, orientation):
    photo(here / "a.jpg", orientation)
    source = coco(here)
    assert sides(source, "upright") == STORED != sides(source, "stored")
    with pytest.raises(InvalidArgument, match="--exif upright"):
        read_boxes(source)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (coco, TURNED),  # its size is that of the stored picture
        (coco_of_label_studio, STORED),  # its sizes are stored, its boxes upright
        (label_studio, (10, 20, 40, 80)),  # its size is that of the upright picture
    ],
)
def test_what_annotations_tell_goes_before(here, write, expected):
    source = write(here)
    assert sides(source) == sides(source, "upright") == sides(source, "stored") == expected


def test_a_size_of_another_picture_is_told_whatever_the_user_says(here):
    source = label_studio(here, original_width=640, original_height=480)
    for exif in (None, "upright", "stored"):
        with pytest.raises(InvalidArgument, match="says 640 × 480 pixels, the picture has 200 × "):
            read_boxes(source, exif=exif)


def test_doctor_says_what_is_missing_and_takes_it(here, cli_here):
    yolo(here)
    asked = cli_here("doctor", "data.yaml")
    said = asked.stdout + asked.stderr
    assert asked.returncode == 1 and "--exif upright (after) or --exif" in said, said
    for exif in ("upright", "stored"):
        done = cli_here("doctor", "data.yaml", "--exif", exif, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["boxes"] == 1, done.stderr
    with pytest.raises(InvalidArgument, match=r"'a\.jpg' is no annotations \(picture\)"):
        inspect("a.jpg", exif="stored")


WRONG = "Unknown --exif 'turned'. Choose upright (boxes are drawn on pictures as EXIF turns"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train . --boxes boxes.csv -o model --exif turned", WRONG),
        ("evaluate . -m model --boxes boxes.csv --exif turned", WRONG),
        ("doctor boxes.csv --exif turned", WRONG),
        ("train . -o model --exif stored", "so it needs --boxes ANNOTATIONS"),
        ("evaluate . -m model --exif stored", "so it needs --boxes ANNOTATIONS"),
        ("doctor --exif stored", "so 'doctor' needs the annotations, too"),
        ("doctor a.jpg --exif stored", "is no annotations (picture). Leave --exif out"),
    ],
)
def test_a_wrong_use_is_one_sentence(here, cli_here, line, sentence):
    table(here)
    done = cli_here(*line.split())
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )
    assert not (here / "model").exists()


def test_train_and_evaluate_pass_it_on(here, monkeypatch):
    from wordsight import evaluation, training
    from wordsight.classification.classifier import Classifier

    given = []

    def note(source, images=None, exif=None):
        given.append(exif)
        raise InvalidArgument("seen")

    monkeypatch.setattr("wordsight.training.recipes.read_boxes", note)
    monkeypatch.setattr("wordsight.evaluation.boxes.read_boxes", note)
    pytest.importorskip("torch")
    with pytest.raises(InvalidArgument, match="seen"):
        training.recipes.train(".", "model", boxes="boxes.csv", exif="stored")
    with pytest.raises(InvalidArgument, match="seen"):
        evaluation.boxes.evaluate_boxes(
            "boxes.csv", Classifier.__new__(Classifier), output=None, exif="upright"
        )
    assert given == ["stored", "upright"]
