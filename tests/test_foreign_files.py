"""Annotations, tables and folders as other tools and people leave them: each kind is read as its
makers mean it, or refused with the reason. Nothing wrong is silent.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import unicodedata

import pytest
from PIL import Image

import wordsight
from wordsight.datasets import read_boxes, read_labels
from wordsight.datasets.formats.shapes import box_of_runs, unpack_runs
from wordsight.errors import InvalidArgument
from wordsight.images.clips import Clip

SIZE = (320, 240)  # width, height of every picture
BOX = (40.0, 30.0, 200.0, 150.0)
XYWH = [40, 30, 160, 120]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pictures(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, "grey").save(path)


def coco(folder, annotations, images=None, categories=None, **others):
    images = images or [{"id": 1, "file_name": "a.jpg", "width": 320, "height": 240}]
    categories = categories or [{"id": 1, "name": "cat"}, {"id": 2, "name": "cup"}]
    content = {"images": images, "annotations": annotations, "categories": categories, **others}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def boxes(source, images=None):
    """What is read, by file name, and the reasons of what is not."""
    found = read_boxes(source, images)
    by_name = {
        one.file.name: [
            (box.label, tuple(round(side, 1) for side in box.xyxy)) for box in one.boxes
        ]
        for one in found.images
    }
    return by_name, [f"{where}: {why}" for where, why in found.skipped]


CAT = {"a.jpg": [("cat", BOX)]}


# COCO ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        {"bbox": XYWH},
        {"segmentation": [[40, 30, 200, 30, 200, 150, 40, 150]]},
        {"bbox": [], "segmentation": [[40, 30, 120, 150], [200, 90, 60, 60]]},
        {"segmentation": {"size": [240, 320], "counts": [9630, *[120, 120] * 159, 120, 28890]}},
    ],
    ids=["box", "polygon", "two polygons", "run lengths"],
)  # fmt: skip
def test_coco_boxes_come_from_any_shape(here, shape):
    pictures(here, "a.jpg")
    assert boxes(coco(here, [{"image_id": "1", "category_id": 1.0, **shape}]))[0] == CAT


def test_packed_run_lengths_are_those_of_pycocotools():
    mask = pytest.importorskip("pycocotools.mask")
    import numpy as np

    rng = np.random.default_rng(0)
    for _ in range(20):
        pixels = np.zeros((37, 53), np.uint8, order="F")
        y, x = sorted(rng.integers(0, 37, 2)), sorted(rng.integers(0, 53, 2))
        pixels[y[0] : y[1] + 1, x[0] : x[1] + 1] = 1
        packed = mask.encode(pixels)["counts"].decode()
        assert box_of_runs((37, 53), packed) == (x[0], y[0], x[1] + 1, y[1] + 1)
    for wrong in ("~", "0o", "\x7f" * 9):
        with pytest.raises(ValueError, match="run lengths"):
            unpack_runs(wrong)
    with pytest.raises(ValueError, match="don't fit"):
        box_of_runs((10, 10), [3, 4])


def test_coco_ids_that_several_have_are_listed_and_not_guessed_at(here):
    pictures(here, "a.jpg", "b.jpg", "c.jpg")
    images = [
        {"id": number, "file_name": f"{name}.jpg"}
        for number, name in ((1, "a"), (1, "b"), (2, "c"))
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "cup"}]
    rows = [
        {"image_id": image, "category_id": kind, "bbox": XYWH}
        for image, kind in ((1, 2), (2, 1), (2, 2))
    ]
    found, listed = boxes(coco(here, rows, images, categories))
    assert found == {"c.jpg": [("cup", BOX)]}
    assert len(listed) == 2 and "several images have its id '1'" in listed[0]
    assert "several categories have its id '1'" in listed[1]


def test_coco_crowds_are_passed_over_and_boxes_are_cut_at_the_edge(here):
    pictures(here, "a.jpg")
    rows = [
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 320, 240], "iscrowd": 1},
        {"image_id": 1, "category_id": 1, "bbox": [-40, 30, 240, 120]},
        {"image_id": 1, "category_id": 2, "bbox": [300, 30, 100, 100]},
        {"image_id": 1, "category_id": 2, "iscrowd": 0},
    ]
    found, listed = boxes(coco(here, rows))
    assert found == {"a.jpg": [("cat", (0.0, 30.0, 200.0, 150.0))]}
    assert "most of it" in listed[1] and "neither box nor mask" in listed[0] and len(listed) == 2


def test_coco_of_whole_pictures_of_splits_and_of_windows(here):
    images = [{"id": f"I{n}", "file_name": f"cam\\{n}.jpg"} for n in range(4)]
    pictures(here, *(f"cam/{n}.jpg" for n in range(4)))
    rows = [{"id": n, "image_id": f"I{n}", "category_id": n % 2 + 1} for n in range(4)]
    labelled = read_labels(coco(here, rows, images))
    assert [image.label for image in labelled.images] == ["cat", "cup", "cat", "cup"]
    assert not labelled.unused
    for split in ("train", "valid", "test"):
        (here / "r" / split).mkdir(parents=True)
        pictures(here / "r" / split, "a.jpg")
        coco(here / "r" / split, [{"image_id": 1, "category_id": 1, "bbox": XYWH}])
    found = read_boxes(here / "r")
    assert {one.file.name: one.file.split for one in found.images} == {
        "train/a.jpg": "train", "valid/a.jpg": "val", "test/a.jpg": "test"
    }  # fmt: skip


def test_coco_of_label_studio_is_turned_once(here):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE, "grey").save(here / "a.jpg", exif=exif)  # upright 240 × 320
    rows = [{"image_id": 1, "category_id": 1, "bbox": [20, 30, 100, 200]}]
    file = coco(here, rows, info={"contributor": "Label Studio"})
    assert boxes(file)[0] == {"a.jpg": [("cat", (20.0, 30.0, 120.0, 230.0))]}


# YOLO ------------------------------------------------------------------------------------------

ROW = "0 0.375 0.375 0.5 0.5"


@pytest.mark.parametrize(
    ("row", "more"),
    [
        (ROW, ""),
        (f"{ROW} 0.87", ""),
        ("0 0.125 0.125 0.625 0.125 0.625 0.625 0.125 0.625", ""),
        ("0 0.125 0.125 0.625 0.125 0.625 0.625 0.125 0.625 0.9", ""),
        (f"{ROW} 0.2 0.3 2 0.4 0.4 1", ""),
        (f"{ROW} 0.2 0.3 0.4 0.4", "kpt_shape: [2, 2]"),
    ],
    ids=["box", "score", "polygon", "polygon with score", "key points", "key points of two"],
)
def test_yolo_rows(here, row, more):
    pictures(here, "images/a.jpg")
    (here / "labels").mkdir()
    (here / "labels" / "a.txt").write_text(row + "\n")
    (here / "data.yaml").write_text(f"train: images\nval: images\nnames: [cat, cup]\n{more}\n")
    assert boxes(here / "data.yaml")[0] == {"images/a.jpg": [("cat", BOX)]}


def test_yolo_of_tools_that_write_no_data_file(here):
    for folder, picture, text in (
        ("labelimg", "a.jpg", "a.txt"),
        ("studio", "images/a.jpg", "labels/a.txt"),
        ("cvat", "obj_train_data/a.jpg", "obj_train_data/a.txt"),
    ):
        pictures(here / folder, picture)
        (here / folder / text).parent.mkdir(exist_ok=True)
        (here / folder / text).write_text(ROW)
        name = "obj.names" if folder == "cvat" else "classes.txt"
        (here / folder / name).write_text("cat\ncup\n")
        (here / folder / "notes.json").write_text("{}")
        assert boxes(here / folder)[0] == {picture: [("cat", BOX)]}


def test_yolo_lists_of_pictures_of_another_machine(here):
    pictures(here, "images/a.jpg")
    (here / "images" / "a.txt").write_text(ROW)
    (here / "train.txt").write_text("C:\\data\\images\\a.jpg\n/home/x/images/gone.jpg\n")
    (here / "data.yaml").write_text("train: train.txt\nval: train.txt\nnames: [cat]\n")
    found, listed = boxes(here / "data.yaml")
    assert found == {"images/a.jpg": [("cat", BOX)]}
    assert listed == ["train.txt line 2: its picture is not there"]


# Label Studio ----------------------------------------------------------------------------------


def task(image, *results, **about):
    return {"data": {"image": image}, "annotations": [{"result": list(results), **about}]}


def choice(*names):
    return {"type": "choices", "value": {"choices": list(names)}}


def mark(kind, label="cat", **value):
    sizes = {"original_width": 320, "original_height": 240}
    return {"type": kind, **sizes, "value": {**value, kind: [label]}}


def studio(folder, tasks, name="tasks.json"):
    (folder / name).write_text(json.dumps(tasks))
    return folder / name


def labels(source):
    found = read_labels(source, min_classes=1)
    return {image.name: image.label for image in found.images}, found.unused


def test_label_studio_finds_pictures_by_the_end_of_their_path_and_never_two_on_one(here):
    pictures(here, "a/1.jpg", "IMG 1.jpg", "b.jpg", "2.jpg")
    local = "/data/local-files/?d=server/"
    tasks = [
        task(f"{local}a/1.jpg", choice("cat")),
        task("/data/upload/3/1a2b3c4d-IMG_1.jpg", choice("cup")),
        task("/data/upload/3/99887766-b.jpg", choice("cat")),
        task(f"{local}x/2.jpg", choice("cat")),
        task(f"{local}y/2.jpg", choice("cup")),
    ]
    found, listed = labels(studio(here, tasks))
    assert found == {"a/1.jpg": "cat", "IMG 1.jpg": "cup", "b.jpg": "cat"}
    assert len(listed) == 2 and all("different names" in why for _, why in listed)


def test_label_studio_short_exports(here):
    pictures(here, "0.jpg", "1.jpg")
    rows = [
        {"image": f"/data/upload/1/{n}.jpg", "id": n, "choice": name, "lead_time": 2.5}
        for n, name in enumerate(["cat", "cup"])
    ]  # fmt: skip
    assert labels(studio(here, rows, "min.json"))[0] == {"0.jpg": "cat", "1.jpg": "cup"}
    with open(here / "e.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["annotation_id", *rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    assert labels(here / "e.csv")[0] == {"0.jpg": "cat", "1.jpg": "cup"}


def test_label_studio_disagreement_and_several_choices_are_listed(here):
    pictures(here, *(f"{n}.jpg" for n in range(4)))
    first = task("0.jpg", choice("cup"))
    first["annotations"].append({"result": [choice("cat")], "ground_truth": True})
    apart = task("2.jpg", choice("cat"))
    apart["annotations"].append({"result": [choice("cup")]})
    tasks = [first, task("1.jpg", choice("cup")), apart, task("3.jpg", choice("cat", "cup"))]
    found, listed = labels(studio(here, tasks))
    assert found == {"0.jpg": "cat", "1.jpg": "cup"}
    assert [where for where, _ in listed] == ["task 3", "task 4"]
    assert "disagree: cat and cup" in listed[0][1] and "several classes" in listed[1][1]


def test_label_studio_shapes_have_boxes_or_are_listed(here, caplog):
    pictures(here, "a.jpg")
    points = [[12.5, 12.5], [62.5, 30], [40, 62.5]]
    results = [
        mark("polygonlabels", points=points),
        mark("rectanglelabels", "cup", x=50, y=50, width=25, height=25, rotation=90),
        mark("brushlabels", rle=[1, 2]),
    ]
    with caplog.at_level(logging.INFO):
        found, listed = boxes(studio(here, [task("a.jpg", *results)]))
    assert found["a.jpg"][0] == ("cat", BOX)
    assert found["a.jpg"][1] == ("cup", (100.0, 120.0, 160.0, 200.0))  # about its upper left
    assert len(listed) == 1 and "brush" in listed[0]
    assert "2 polygons, brushes, ellipses and turned rectangles" in caplog.text


# other tools -----------------------------------------------------------------------------------


def test_labelme_cvat_and_megadetector_are_read(here, caplog):
    for folder in ("labelme", "cvat", "mega"):
        pictures(here / folder, "a.jpg")
    shapes = [
        {"label": "cat", "shape_type": "rectangle", "points": [[200, 150], [40, 30]]},
        {"label": "cup", "shape_type": "circle", "points": [[100, 100], [100, 150]]},
        {"label": "cup", "shape_type": "point", "points": [[1, 1]]},
    ]
    content = {
        "version": "5",
        "shapes": shapes,
        "imagePath": "..\\x\\a.jpg",
        "imageHeight": 240,
        "imageWidth": 320,
    }
    (here / "labelme" / "a.json").write_text(json.dumps(content))
    found, listed = boxes(here / "labelme")
    assert found == {"a.jpg": [("cat", BOX), ("cup", (50.0, 50.0, 150.0, 150.0))]}
    assert len(listed) == 1 and "is a point" in listed[0]

    (here / "cvat" / "annotations.xml").write_text(
        '<annotations><image id="0" name="a.jpg" width="320" height="240" subset="Train">'
        '<box label="cat" xtl="40" ytl="30" xbr="200" ybr="150"/>'
        '<polygon label="cup" points="10,10;60,10;60,50"/><points label="cup" points="1,1"/>'
        '<tag label="pets"/></image></annotations>'
    )
    found, listed = boxes(here / "cvat")
    assert found == {"a.jpg": [("cat", BOX), ("cup", (10.0, 10.0, 60.0, 50.0))]}
    assert len(listed) == 1 and labels(here / "cvat" / "annotations.xml")[0] == {"a.jpg": "pets"}

    detections = [
        {"category": "1", "conf": conf, "bbox": [0.125, 0.125, 0.5, 0.5]} for conf in (0.9, 0.1)
    ]
    mega = {
        "images": [{"file": "a.jpg", "detections": detections}, {"file": "b.jpg", "failure": "no"}],
        "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
        "info": {"detector_metadata": {"typical_detection_threshold": 0.15}},
    }
    (here / "mega" / "md.json").write_text(json.dumps(mega))
    with caplog.at_level(logging.INFO):
        found, listed = boxes(here / "mega" / "md.json")
    assert found == {"a.jpg": [("animal", BOX)]} and listed == ["b.jpg: no"]
    assert "1 detections below 0.15" in caplog.text
    with pytest.raises(InvalidArgument, match="Unknown format 'cvat'"):
        wordsight.prelabel(here, "cvat")


# tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("file_name,label\nimg/0.jpg,Käfer\nimg/1.jpg,Kätzchen \n", "utf-8"),
        ("file_name,label\nimg/0.jpg,Käfer\nimg/1.jpg,Kätzchen\n", "utf-8-sig"),
        ("file_name;label\nimg/0.jpg;Käfer\nimg/1.jpg;Kätzchen\n", "cp1252"),
        ("file_name\tlabel\nimg/0.jpg\tKäfer\nimg/1.jpg\tKätzchen\n", "utf-16"),
        (" File Name ,LABEL,split\nimg\\0.jpg,Käfer,\nimg\\1.jpg,Kätzchen,\n", "utf-8"),
        ("Path,Class\nC:\\x\\img\\0.jpg,Käfer\nC:\\x\\img\\1.jpg,Kätzchen\n", "utf-8"),
    ],
)  # fmt: skip
def test_tables_of_labels_in_any_form(here, text, encoding, caplog):
    pictures(here, "img/0.jpg", "img/1.jpg")
    (here / "t.csv").write_bytes(text.encode(encoding))
    with caplog.at_level(logging.INFO):
        found = read_labels(here / "t.csv")
    assert {i.name: i.label for i in found.images} == {
        "img/0.jpg": "Käfer",
        "img/1.jpg": "Kätzchen",
    }
    assert ("windows-1252" in caplog.text) == (encoding == "cp1252")


def test_a_table_with_a_column_a_class(here):
    pictures(here, *(f"{n}.jpg" for n in range(4)))
    (here / "_classes.csv").write_text(
        "filename, cat, cup\n0.jpg,1,0\n1.jpg,0,1\n2.jpg,1,1\n3.jpg,0,0\n"
    )
    found, listed = labels(here / "_classes.csv")
    assert found == {"0.jpg": "cat", "1.jpg": "cup"}
    assert [why for _, why in listed] == ["shows cat and cup", "has no class"]


@pytest.mark.parametrize(
    "text",
    [
        "file_name,label,x_min,y_min,x_max,y_max\na.jpg,cat,40,30,200,150\n",
        "file_name;label;x_min;y_min;x_max;y_max\na.jpg;cat;40;30;200;150\n",
        "a.jpg,40,30,200,150,cat\n",
        "ImageID,Source,LabelName,XMin,XMax,YMin,YMax\na,x,cat,0.125,0.625,0.125,0.625\n",
        "Filename,Class,xmin,ymin,xmax,ymax\nz\\a.jpg,cat,0.125,0.125,0.625,0.625\n"
        "b.jpg,cup,0,0,1.004,0.5\n",
    ],
    ids=["plain", "semicolons", "retinanet", "open images", "a fraction above one"],
)
def test_tables_of_boxes_in_any_form(here, text):
    pictures(here, "a.jpg", "z/a.jpg", "b.jpg")
    (here / "t.csv").write_text(text)
    found, _ = boxes(here / "t.csv")
    assert found["z/a.jpg" if "z\\" in text else "a.jpg"] == [("cat", BOX)]
    if "1.004" in text:
        assert found["b.jpg"] == [("cup", (0.0, 0.0, 320.0, 120.0))]


# folders ---------------------------------------------------------------------------------------


def test_split_folders_are_no_classes_and_systems_files_no_pictures(here):
    pictures(here, *(f"{split}/{kind}/{n}.jpg" for split in ("train", "Valid", "test")
                     for kind in ("cat", "cup") for n in range(2)))  # fmt: skip
    pictures(here, "__MACOSX/train/cat/0.jpg", "train/cat/.ipynb_checkpoints/0.jpg")
    (here / "train" / "Thumbs.db").write_bytes(b"x")
    found = read_labels(here)
    assert found.class_names == ["cat", "cup"] and len(found.images) == 12
    assert {image.split for image in found.images} == {"train", "val", "test"}


def test_loose_and_deeper_pictures_are_said_and_accents_make_no_second_class(here, caplog):
    pictures(here, "cup/0.jpg", "cup/old/1.jpg", "loose.jpg")
    for form in ("NFC", "NFD"):
        pictures(here, f"{unicodedata.normalize(form, 'café')}/{form}.jpg")
    with caplog.at_level(logging.INFO):
        found = read_labels(here)
    assert found.class_names == ["café", "cup"] and len(found.images) == 4
    assert "1 pictures" in caplog.text and "loose.jpg" in caplog.text
    assert "Subfolders of class folders count for the class above them: cup/old" in caplog.text


def test_archives_are_called_archives(here, cli):
    import zipfile

    with zipfile.ZipFile(here / "photos.zip", "w") as file:
        file.writestr("a.jpg", b"x")
    archive = here / "photos.zip"
    for reader in (read_labels, wordsight.datasets.read_boxes, Clip):
        with pytest.raises(InvalidArgument, match=r"is a zip archive\. Unpack it, and give"):
            reader(archive)
    told = wordsight.datasets.inspect(archive)
    assert (told.kind, told.complete) == ("archive", False) and "Unpack it" in told.next_step
    with pytest.raises(InvalidArgument, match="a zip archive; unpack it"):
        wordsight.run("cat", here / "photos.zip", output=None)


# pictures --------------------------------------------------------------------------------------


def deep_png(bits, mode="RGB"):
    """A PNG of 16 bits a channel of which only the lowest are used, at half of their range."""
    import cv2
    import numpy as np

    value = (1 << bits) // 2
    shape = (48, 64, 3) if mode == "RGB" else (48, 64)
    pixels = np.full(shape, value, np.uint16)
    pixels[0, 0] = (1 << bits) - 1
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_sixteen_bits_are_read_by_those_in_use(bits, mode):
    from wordsight.images.decoding import decode

    assert abs(decode(deep_png(bits, mode)).image.getpixel((30, 20))[1] - 128) <= 1


def test_a_cut_jpeg_counts_if_most_of_it_is_there(data):
    from wordsight.errors import UnreadableImage
    from wordsight.images.decoding import decode, remark

    whole = sorted((data / "catdog" / "test" / "cat").iterdir())[0].read_bytes()
    image = decode(whole)
    assert image.remark == remark(whole) == ""
    assert remark(whole[:-2]) == "" and decode(whole[:-2]).image == image.image
    cut = whole[: int(len(whole) * 0.9)]
    assert decode(cut).remark == remark(cut) and "cut off: " in remark(cut)
    assert decode(cut).size == image.size
    for share in (0.1, 0.4):
        with pytest.raises(UnreadableImage, match="cut off: only"):
            decode(whole[: int(len(whole) * share)])


def test_the_large_page_counts_and_several_are_said(tmp_path):
    from wordsight.errors import UnreadableImage
    from wordsight.images.decoding import decode, header, remark

    small, large = Image.new("RGB", (56, 42), "red"), Image.new("RGB", (320, 240), "green")

    def tiff(first, *others):
        written = io.BytesIO()
        first.save(written, "TIFF", save_all=True, append_images=list(others), tiffinfo={254: 1})
        return written.getvalue()

    both = tiff(small, large)
    assert decode(both).size == header(both)[1] == (240, 320)
    assert decode(both).image.getpixel((5, 5)) == (0, 128, 0)
    assert remark(both) == decode(both).remark == "page 2 of several"
    with pytest.raises(UnreadableImage, match="only a small preview"):
        decode(tiff(small))
    written = io.BytesIO()
    small.save(written, "GIF", save_all=True, append_images=[Image.new("RGB", (56, 42), "blue")])
    assert remark(written.getvalue()) == "the first frame of several"


def test_one_transparent_colour_lies_on_white():
    from wordsight.images.decoding import decode

    written = io.BytesIO()
    Image.new("RGB", (40, 40), (255, 0, 0)).save(written, "PNG", transparency=(255, 0, 0))
    assert decode(written.getvalue()).image.getpixel((3, 3)) == (255, 255, 255)


def test_remarks_stand_in_a_table_and_in_the_closing_lines(shapes_model, tmp_path):
    frames = [Image.new("RGB", (80, 60), colour) for colour in ("red", "blue")]
    (tmp_path / "p").mkdir()
    frames[0].save(tmp_path / "p" / "a.gif", save_all=True, append_images=frames[1:])
    results = wordsight.predict(tmp_path / "p", shapes_model, output=tmp_path / "r")
    assert "a.gif: the first frame of several." in results.notes()
    with open(tmp_path / "r" / "remarks.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"file_name": "a.gif", "remark": "the first frame of several"}]
    assert results.to_dict()["remarks"] == rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_headings_are_read_from_the_beginning_alone(here, encoding, monkeypatch):
    from wordsight.datasets import foreign_tables

    pictures(here, "a.jpg", "b.jpg")
    text = "File Name;Länge;Label\n" + "a.jpg;1;Kätzchen\nb.jpg;2;cup\n" * 4000
    (here / "t.csv").write_text(text, encoding=encoding)
    whole = []
    monkeypatch.setattr(
        foreign_tables,
        "read_regular",
        lambda *a, old=foreign_tables.read_regular: whole.append(a) or old(*a),
    )
    assert foreign_tables.read_headings(here / "t.csv") == ["file_name", "länge", "label"]
    assert not whole
    assert read_labels(here / "t.csv").class_names == ["Kätzchen", "cup"] and len(whole) == 1


def test_a_heading_longer_than_the_beginning_is_read_whole(here):
    from wordsight.datasets import foreign_tables

    names = [f"class {number}" for number in range(20_000)]
    (here / "t.csv").write_text(",".join(["file_name", *names]) + "\na.jpg" + ",0" * len(names))
    assert len(foreign_tables.read_headings(here / "t.csv")) == len(names) + 1
