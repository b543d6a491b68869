"""Annotated boxes: read alike from every format, turned upright with their pictures, and listed
where they can't be used.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from wordsight.datasets.annotations import mirrored, read_boxes
from wordsight.errors import InvalidArgument
from wordsight.images.decoding import decode
from wordsight.metrics.boxes import box_accuracy, iou, max_box_acc, max_box_acc_v2, paired_iou


@pytest.fixture
def folder(tmp_path):
    """Two pictures of 200 × 100 pixels, one in a subfolder."""
    (tmp_path / "images" / "train").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (200, 100), "grey").save(tmp_path / "images" / "train" / name)
    return tmp_path


def write_csv(folder, rows, columns="file_name,label,x_min,y_min,x_max,y_max"):
    (folder / "boxes.csv").write_text("\n".join([columns, *rows]))
    return folder / "boxes.csv"


def write_yolo(folder):
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "labels" / "train" / "a.txt").write_text("0 0.25 0.5 0.5 1\n1 0.5 0.5 0.1 0.2\n")
    (folder / "labels" / "train" / "b.txt").write_text(
        "1 0.1 0.1 0.8 0.1 0.8 0.9\n7 0.5 0.5 0.1 0.1\n"
    )
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nnames: {0: cat, 1: dog}\n")
    return folder / "data.yaml"


def write_coco(folder):
    content = {
        "images": [
            {"id": 7, "file_name": "train/a.jpg", "width": 200, "height": 100},
            {"id": 8, "file_name": "train/b.jpg"},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 100, 100]},
            {"image_id": 7, "category_id": 3, "bbox": [90, 40, 20, 20]},
            {"image_id": 8, "category_id": 3, "bbox": [20, 10, 140, 80]},
            {"image_id": 9, "category_id": 3, "bbox": [20, 10, 140, 80]},
        ],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def write_voc(folder):
    (folder / "Annotations").mkdir()
    for stem, objects in (
        ("a", [("cat", 0, 0, 100, 100), ("dog", 90, 40, 110, 60)]),
        ("b", [("dog", 20, 10, 160, 90), ("", 1, 1, 9, 9)]),
    ):
        inside = ""
        for name, *sides in objects:
            written = "".join(
                f"<{side}>{value}</{side}>"
                for side, value in zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True)
            )
            inside += f"<object><name>{name}</name><bndbox>{written}</bndbox></object>"
        size = "<size><width>200</width><height>100</height></size>"
        (folder / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><filename>train/{stem}.jpg</filename>{size}{inside}</annotation>"
        )
    return folder


def write_table(folder):
    rows = [
        "a,cat,0,0,0.5,1,train",
        "a.jpg,dog,.45,.4,.55,.6,train",
        "b.jpg,dog,.1,.1,.8,.9,train",
        "b.jpg,,0,0,1,1,train",
    ]
    return write_csv(folder, rows, "image_id,class_name,x_min,y_min,x_max,y_max,folder")


@pytest.mark.parametrize(
    ("write", "name"),
    [(write_table, "CSV"), (write_coco, "COCO"), (write_voc, "Pascal VOC"), (write_yolo, "YOLO")],
)
def test_every_format_says_the_same(write, name, folder):
    found = read_boxes(write(folder), folder / "images")
    assert found.format == name and found.class_names == ["cat", "dog"] and len(found.skipped) == 1
    first, second = found.images
    assert [image.file.path.name for image in found.images] == ["a.jpg", "b.jpg"]
    assert first.file.label == "cat" and [box.label for box in first.boxes] == ["cat", "dog"]
    assert first.boxes[0].xyxy == pytest.approx((0, 0, 100, 100)) and first.boxes[
        1
    ].xyxy == pytest.approx((90, 40, 110, 60))
    assert second.boxes[0].xyxy == pytest.approx((20, 10, 160, 90)) and second.size == (100, 200)


def test_bad_boxes_are_listed_and_the_good_ones_kept(folder):
    bad = {
        "images/train/a.jpg,cat,150,0,100,50": "its corners are swapped",
        "images/train/a.jpg,cat,0,0,500,50": "it lies outside the picture",
        "images/train/a.jpg,cat,10,10,90,10": "it has no area",
        "images/train/a.jpg,cat,x,10,90,10": "its sides are no numbers",
        "images/train/a.jpg,cat,nan,10,90,10": "its sides are no numbers",
        "images/train/c.jpg,cat,0,0,9,9": "there is no picture 'c.jpg'",
        "../../etc/passwd,cat,0,0,9,9": "there is no picture 'passwd'",
        "images/train/a.jpg,,0,0,9,9": "names no class",
        ",cat,0,0,9,9": "names no picture",
        "/,cat,0,0,9,9": "there is no picture",
    }
    found = read_boxes(write_csv(folder, ["images/train/b.jpg,dog,0,0,200,100", *bad]))
    assert len(found.images) == 1 and len(found.skipped) == len(bad)
    reasons = dict(found.skipped)
    for line, reason in enumerate(bad.values(), start=3):
        assert any(
            where.split(" (")[0] == f"line {line}" and said.startswith(reason)
            for where, said in reasons.items()
        ), (line, reason)


def test_a_image_outside_the_folder_is_not_read(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.jpg"
    Image.new("RGB", (50, 50)).save(outside)
    (folder / "link.jpg").symlink_to(outside)
    with pytest.raises(InvalidArgument, match=r"No box in .* can be used \(2 were skipped"):
        read_boxes(write_csv(folder, ["link.jpg,cat,0,0,9,9", f"{outside},cat,0,0,9,9"]))


def test_a_name_of_any_length_leaves_the_message_a_sentence(tmp_path):
    tasks = [
        {
            "id": 1,
            "data": {"image": f"/{'x' * 9000}.jpg"},
            "annotations": [
                {
                    "result": [
                        {
                            "type": "rectanglelabels",
                            "value": {
                                **{"x": 10, "y": 10, "width": 20, "height": 20},
                                "rectanglelabels": ["cat"],
                            },
                        }
                    ]
                }
            ],
        }
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    with pytest.raises(InvalidArgument, match="there is no picture") as refused:
        read_boxes(tmp_path / "tasks.json")
    assert len(str(refused.value)) < 600 + len(str(tmp_path))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_turn_with_their_image(orientation, folder):
    pixels = np.zeros((100, 200, 3), dtype=np.uint8)
    pixels[10:40, 20:120] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(folder / "turned.png", exif=exif)
    source = write_csv(
        folder,
        ["turned.png,cat,20,10,120,40,200,100"],
        "file_name,label,x_min,y_min,x_max,y_max,width,height",
    )
    image = read_boxes(source).images[0]
    upright = np.asarray(decode((folder / "turned.png").read_bytes()).image)
    ys, xs = np.nonzero(upright[..., 0])
    assert image.size == upright.shape[:2] == (200, 100)
    assert image.boxes[0].xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    upright_source = write_csv(
        folder,
        ["turned.png,cat,5,10,60,90,100,200"],
        "file_name,label,x_min,y_min,x_max,y_max,width,height",
    )
    assert read_boxes(upright_source).images[0].boxes[0].xyxy == (5, 10, 60, 90)
    with pytest.raises(
        InvalidArgument, match="nothing says whether the box was drawn before or after"
    ):
        read_boxes(write_csv(folder, ["turned.png,cat,5,10,60,90"]))


def test_a_size_that_is_not_the_images_is_told(folder):
    (folder / "Annotations").mkdir()
    sides = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
    box = f"<object><name>cat</name><bndbox>{sides}</bndbox></object>"
    size = "<size><width>400</width><height>300</height></size>"
    text = f"<annotation><filename>train/a.jpg</filename>{size}{box}</annotation>"
    (folder / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(InvalidArgument, match="says 400 × 300 pixels, the picture has 200 × 100"):
        read_boxes(folder, folder / "images")


def test_files_that_try_something_are_refused(folder):
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "a.xml").write_text(
        '<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation>&b;</annotation>'
    )
    with pytest.raises(InvalidArgument, match="declares entities"):
        read_boxes(folder)
    for start in ("[", '{"images": '):
        (folder / "deep.json").write_text(start + "[" * 100_000)
        with pytest.raises(InvalidArgument, match=r"is no JSON \(RecursionError"):
            read_boxes(folder / "deep.json")
    (folder / "x.txt").write_text("")
    with pytest.raises(
        InvalidArgument, match=r"holds no boxes in a known format\. Known are .*COCO: "
    ):
        read_boxes(folder / "x.txt")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGE = "a: &a {k: v}\n" + "".join(
    f"{b}: &{b}\n  <<: [{', '.join([f'*{a}'] * 9)}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
TASK = {
    "data": {"image": "images/train/a.jpg"},
    "annotations": [
        {"result": [{"type": "rectanglelabels", "value": [1]}, {"type": "choices", "value": 5}]}
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("data.yaml", BOMB + "names: [*j]\ntrain: images\n", "by YAML aliases"),
        ("data.yaml", "names: {1.0e+999: cat}\ntrain: images\n", "it needs names and train"),
        ("data.yaml", "names: !!python/object/apply:os.system [id]\ntrain: images\n",
        "says by a YAML tag"),
        ("data.yaml", MERGE + "names: [cat]\ntrain: images\n", "by YAML aliases"),
        ("data.yaml", "names: [cat]\ntrain: /\n", "its folder lies outside"),
        ("data.yaml", "names: [cat]\ntrain: ../../..\n", "its folder lies outside"),
        ("data.yaml", "names: [cat]\npath: /etc\ntrain: .\n", "No box in"),
        ("data.yaml", "names: [cat]\ntrain: " + "[" * 5000 + "\n", "holds lists in lists"),
        ("annotations.json", '{"images": [{"id": 1, "file_name": "../../../etc/passwd"}], '
         '"categories": [{"id": 1, "name": "cat"}], '
         '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}]}',
         "there is no picture 'passwd'"),
        ("annotations.json", '{"images": [{"id": 1, "file_name": "images/train/a.jpg"}], '
         '"categories": [{"id": 1, "name": "cat"}], '
         '"annotations": [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 9, 9]}, '
             '{"image_id": 1, "category_id": 1, "bbox": [NaN, 0, 9, ' + "1" * 400 + "]}]}",
         "2 were skipped; the first: annotation 1: its category_id '7' is not in the file"),
        ("tasks.json", json.dumps([TASK]), "names no class"),
        ("tasks.json", json.dumps([{"data": []}]), "is not written as Label Studio's tasks are"),
        ("metadata.jsonl", '{"file_name": "/etc/passwd", "objects": {"bbox": [[0, 0, 9, 9]], '
         '"category": ["cat"]}}\n', "there is no picture 'passwd'"),
        ("metadata.jsonl", "[[[[\n{}\n",
         "2 were skipped; the first: line 1: is no row of pictures and objects"),
        ("metadata.jsonl", '{"a": [' + "[]," * 31_000_000 + "[]]}", "more than 30,000,000 lists"),
        ("Annotations/a.xml", "<a>" * 200_000, "No box in"),
        ("Annotations/a.xml", "<a>" * 3_000_000, "has 8 MiB, too much for one picture's boxes"),
        ("Annotations/a.xml", '<?xml version="1.0" encoding="utf-16"?>'
         '<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>'.encode("utf-16"), "No box in"),
    ],
)  # fmt: skip
def test_hostile_files_are_one_sentence(name, text, sentence, folder, cli_here):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = cli_here(
        "train", folder, "--boxes", path if path.suffix != ".xml" else folder, "-o", "model"
    )
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )
    labels = cli_here("train", path if path.suffix != ".xml" else folder, "-o", "model")
    assert labels.returncode == 2 and labels.stderr.count("\n") == 1, labels.stderr
    assert "has none" not in labels.stderr
    assert "root:" not in done.stderr + labels.stderr and not (folder / "model").exists()


@pytest.mark.parametrize("name", ["data.yaml", "Annotations"])
def test_labels_that_lead_out_of_the_folder_are_not_read(name, folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("outside") / "secret"
    secret.write_text("secret words 1 2 3\n")
    labels = folder / ("labels/train" if name == "data.yaml" else "Annotations")
    labels.mkdir(parents=True)
    (labels / ("a.txt" if name == "data.yaml" else "a.xml")).symlink_to(secret)
    (folder / "data.yaml").write_text("names: [cat]\ntrain: images/train\n")
    with pytest.raises(InvalidArgument, match="leads out of the folder") as raised:
        read_boxes(folder / name)
    assert "words" not in str(raised.value)


def test_too_many_brackets_cost_no_memory(folder, monkeypatch):
    monkeypatch.setattr("wordsight.datasets.formats.base.MAX_NODES", 1000)
    (folder / "annotations.json").write_text('{"images": [' + "[]," * 1000 + "[]]}")
    with pytest.raises(InvalidArgument, match="more than 1,000 lists and objects"):
        read_boxes(folder / "annotations.json")


def test_a_data_file_may_name_its_folders_as_seen_from_beside_it(folder):
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "labels" / "train" / "b.txt").write_text("0.7 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").write_text(
        "names: [2020-01-01]\ntrain: ../images/train\nval: ../images/val\n"
    )
    found = read_boxes(folder / "data.yaml")
    assert found.images[0].boxes[0].xyxy == (50, 25, 150, 75) and found.class_names == [
        "2020-01-01"
    ]
    # that there is no val yet is no fault
    assert found.skipped == [("b.txt line 1", "class 0.7 is not in the data file")]


def test_real_annotations_are_read_whole(data):
    table = read_boxes(data / "boxes" / "annotations-train.csv")
    assert len(table.images) == 259 and not table.skipped and len(table.class_names) == 7
    voc = read_boxes(data / "voc_raccoon")
    assert len(voc.images) == 40 and voc.class_names == ["raccoon"] and not voc.skipped


def test_overlap_and_accuracies():
    assert iou(
        np.array([[0, 0, 10, 10]]), np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]])
    )[0] == pytest.approx([1 / 3, 0, 1])
    assert iou(np.array([[5, 5, 5, 5]]), np.array([[5, 5, 5, 5]]))[0, 0] == 0
    overlaps = paired_iou(
        np.array([[0, 0, 10, 10], [0, 0, 10, 10]]), np.array([[0, 0, 10, 10], [0, 0, 10, 25]])
    )
    assert overlaps == pytest.approx([1.0, 0.4]) and box_accuracy(overlaps) == pytest.approx(
        (1 + 0.5 + 0.5) / 3
    )
    curves = [np.array([0.6, 0.2]), np.array([0.4, 0.4])]
    assert max_box_acc(curves) == (0.5, 0) and max_box_acc_v2(curves) == pytest.approx(
        (1.0 + 0.5 + 0.0) / 3
    )
    assert mirrored((10, 0, 30, 5), 100) == (70, 0, 90, 5)


def test_images_that_labels_leave_out_are_told(tmp_path, shapes, cli_here):
    images, boxes = [], []
    for number, path in enumerate(sorted(shapes.rglob("*.jpg"))):
        (tmp_path / "images").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "images" / f"{number}.jpg")
        images.append({"id": number, "file_name": f"images/{number}.jpg"})
        boxes.append(
            {
                "id": number,
                "image_id": number,
                "category_id": int(path.parent.name == "square"),
                "bbox": [1, 1, 20, 20],
            }
        )
    boxes.append({**boxes[0], "id": 1000, "category_id": 1 - boxes[0]["category_id"]})
    images.append({"id": 1001, "file_name": "images/gone.jpg"})
    boxes.append({**boxes[0], "id": 1001, "image_id": 1001})
    coco = {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 0, "name": "disc"}, {"id": 1, "name": "square"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(coco))
    done = cli_here("train", "annotations.json", "-o", "model")
    assert done.returncode == 1, done.stderr
    assert (
        "Not used: images/0.jpg: shows disc and square" in done.stderr
        and "its picture is not there" in done.stderr
    )
    checked = cli_here("evaluate", "annotations.json", "-m", "model", "-o", "report", "--json")
    assert checked.returncode == 1 and len(json.loads(checked.stdout)["unused"]) == 2


@pytest.mark.parametrize(
    ("there", "read_as"),
    [
        ("data.yaml annotations.csv", "yolo"),
        ("data.yaml metadata.jsonl", "yolo"),
        ("a.xml annotations.csv", "voc"),
    ],
)
def test_a_folder_that_could_be_read_in_several_ways_is_read_in_one(there, read_as, tmp_path):
    from wordsight.datasets.formats import choose_format

    for name in there.split():
        (tmp_path / name).write_text("<annotation/>" if name.endswith("xml") else "names: [a]")
    assert choose_format(tmp_path).key == read_as


def test_half_a_character_in_json_is_named_and_stray_bytes_are_kept(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    shape = {"label": "a\udcff", "shape_type": "rectangle", "points": [[1, 2], [30, 40]]}
    table = tmp_path / "a.json"
    table.write_text(json.dumps({"shapes": [shape], "imagePath": "a.jpg"}))
    assert read_boxes(table).class_names == ["a\udcff"]
    table.write_text(json.dumps({"shapes": [shape | {"label": "\ud800"}], "imagePath": "a.jpg"}))
    with pytest.raises(InvalidArgument, match="surrogates not allowed"):
        read_boxes(table)
