"""More of what tools and people write: each example stands for a kind that was once read wrongly,
refused, or passed over without a word.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import struct

import numpy as np
import pytest
from PIL import Image

from test_foreign_files import BOX, CAT, SIZE, XYWH, boxes, coco, labels, mark, pictures, studio
from wordsight.datasets import read_boxes, read_labels
from wordsight.datasets.formats.shapes import box_of_brush
from wordsight.datasets.inspection import inspect
from wordsight.errors import InvalidArgument, UnreadableImage
from wordsight.images.decoding import decode, header

ROW = "0.375 0.375 0.5 0.5"
VOC = (
    "<annotation>{}<object><name>cat</name><bndbox><xmin>40</xmin><ymin>30</ymin><xmax>200</xmax>"
    "<ymax>150</ymax></bndbox></object></annotation>"
)


def write(folder, texts):
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


# names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "named"),
    [
        ("a.JPG", "a.jpg"),
        ("A.jpeg", "a"),
        ("a.b.jpg", "a.b"),
        ("a.jpg", "https://host/bucket/x/a.jpg?sign=1"),
        ("sub/a.jpg", "a.jpg"),
        ("a.jpg", "1a2b3c4d-a.jpg"),
    ],
    ids=["case", "no suffix", "a dot", "address", "bare", "upload"],
)
def test_a_picture_is_found_under_a_name_that_can_mean_only_it(tmp_path, there, named):
    pictures(tmp_path, there)
    file = coco(
        tmp_path,
        [{"image_id": 1, "category_id": 1, "bbox": XYWH}],
        [{"id": 1, "file_name": named}],
        info={"contributor": "Label Studio"},
    )
    assert boxes(file)[0] == {there: CAT["a.jpg"]}


def test_a_name_that_may_mean_two_pictures_is_not_guessed_at(tmp_path):
    pictures(tmp_path, "a.JPG", "A.jpg", "x/b.jpg", "y/b.jpg", "c.jpg")
    images = [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate("abc")]
    rows = [{"image_id": n, "category_id": 1, "bbox": XYWH} for n in range(3)]
    found, listed = boxes(coco(tmp_path, rows, images))
    assert list(found) == ["c.jpg"] and len(listed) == 2


def test_no_picture_of_the_folder_above_is_taken_for_one(tmp_path):
    pictures(tmp_path, "a.JPG", "data/b.jpg")
    file = coco(tmp_path / "data", [{"image_id": 1, "category_id": 1, "bbox": XYWH}])
    with pytest.raises(InvalidArgument, match=r"there is no picture 'a\.jpg'"):
        read_boxes(file)


# COCO and YOLO ----------------------------------------------------------------------------------


def test_coco_in_other_encodings_and_with_boxes_of_zero(tmp_path, caplog):
    pictures(tmp_path, "a.jpg")
    shape = [[40, 30, 200, 30, 200, 150]]
    row = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 0, 0], "segmentation": shape}
    file = coco(tmp_path, [row], categories=[{"id": 1, "name": "Kätzchen"}])
    text = json.dumps(json.loads(file.read_text()), ensure_ascii=False)
    with caplog.at_level(logging.INFO):
        for encoding in ("utf-16", "utf-8-sig", "cp1252"):
            file.write_bytes(text.encode(encoding))
            assert boxes(file)[0] == {"a.jpg": [("Kätzchen", BOX)]}
    assert caplog.text.count("read as windows-1252") == 1


@pytest.mark.parametrize(
    "more",
    [
        "train: /content/pets/images",
        r"train: C:\pets\images",
        "path: ../elsewhere\ntrain: images",
        "train: images\nnames_of: x",
    ],
)
@pytest.mark.parametrize("name", ["data.yaml", "custom.yaml"])
def test_yolo_folders_of_another_machine_and_data_files_of_any_name(tmp_path, more, name):
    pictures(tmp_path, "images/a.jpg")
    write(tmp_path, {"labels/a.txt": f"0 {ROW}", name: f"names: [cat]\n{more}\n"})
    assert boxes(tmp_path)[0] == {"images/a.jpg": CAT["a.jpg"]}


@pytest.mark.parametrize("name", ["_darknet.labels", "pets.names", "labels/classes.txt"])
def test_yolo_class_names_under_any_usual_name(tmp_path, name):
    pictures(tmp_path, "images/a.jpg")
    write(tmp_path, {"labels/1a2b3c4d-a.txt": f"1 {ROW}", name: "dog\ncat\n"})
    assert boxes(tmp_path)[0] == {"images/a.jpg": CAT["a.jpg"]}


def test_yolo_says_what_does_not_fit(tmp_path, caplog):
    pictures(tmp_path, "images/a.jpg")
    lines = {"labels/a.txt": f"0 {ROW}\ncat {ROW}\n", "labels/gone.txt": f"0 {ROW}"}
    write(tmp_path, {**lines, "data.yaml": "train: images\nnames: [cat]\nnc: 5\n"})
    found, listed = boxes(tmp_path)
    assert found == {"images/a.jpg": CAT["a.jpg"]}
    assert len(listed) == 2 and "begins with 'cat'" in listed[0]
    assert listed[1] == "gone.txt: there is no picture to it"
    assert "says nc: 5, and names 1 classes" in caplog.text
    assert inspect(tmp_path).said == [caplog.messages[0]]
    (tmp_path / "labels" / "a.txt").unlink()
    (tmp_path / "labels" / "gone.txt").unlink()
    with pytest.raises(InvalidArgument, match="it is read as YOLO, and none is marked"):
        read_boxes(tmp_path)


def test_a_yolo_polygon_at_the_edges_has_no_key_points(tmp_path):
    pictures(tmp_path, "images/a.jpg")
    row = "0 0.5 1 0.6 0.5 0.7 0.4 1 0.5 0.9 1"
    write(tmp_path, {"labels/a.txt": row, "data.yaml": "train: images\nnames: [cat]\n"})
    assert boxes(tmp_path)[0]["images/a.jpg"] == [("cat", (160.0, 96.0, 320.0, 240.0))]


# VOC, LabelMe, CVAT -----------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["<filename>old.jpg</filename>", r"<path>C:\x\a.jpg</path>"])
def test_voc_finds_its_picture_by_any_of_its_names(tmp_path, named):
    pictures(tmp_path, "a.jpg")
    write(tmp_path, {"a.XML": VOC.format(named)})
    assert boxes(tmp_path)[0] == boxes(tmp_path / "a.XML")[0] == CAT


def test_voc_of_splits(tmp_path):
    pictures(tmp_path, "train/a.jpg", "valid/a.jpg")
    text = VOC.format("<filename>a.jpg</filename>")
    write(tmp_path, {"train/a.xml": text, "valid/a.xml": text})
    found = read_boxes(tmp_path).images
    assert [(one.file.name, one.file.split) for one in found] == [
        ("train/a.jpg", "train"),
        ("valid/a.jpg", "val"),
    ]
    with pytest.raises(InvalidArgument, match="the splits train, valid, and no class folders"):
        read_labels(tmp_path)


@pytest.mark.parametrize("kind", ["voc", "labelme"])
def test_marks_of_a_renamed_picture_are_not_given_to_another(tmp_path, kind):
    pictures(tmp_path, "a.jpg", "b.jpg")
    shape = {"label": "cat", "shape_type": "rectangle", "points": [[40, 30], [200, 150]]}
    text = {
        "voc": VOC.format("<filename>a.jpg</filename>"),
        "labelme": json.dumps({"shapes": [shape], "imagePath": "a.jpg"}),
    }[kind]
    suffix = {"voc": "xml", "labelme": "json"}[kind]
    found, listed = boxes(write(tmp_path, {f"a.{suffix}": text, f"b.{suffix}": text}))
    assert found == CAT and len(listed) == 1 and "'b.jpg' is there, too" in listed[0]


def test_labelme_with_its_picture_within_flags_and_no_label(tmp_path):
    pictures(tmp_path, "a.jpg")
    shape = {"label": "cat", "shape_type": "polygon", "points": [[40, 30], [200, 150]] * 5000}
    content = {"flags": {"pet": True, "old": False}, "shapes": [shape, {**shape, "label": None}]}
    content |= {"imagePath": "a.jpg", "imageData": "A" * 200_000, "imageHeight": 240}
    write(tmp_path, {"0.json": "{}", "a.json": json.dumps(content)})
    found, listed = boxes(tmp_path)
    assert found == CAT and listed == ["a.json shape 2: names no class"]
    assert labels(tmp_path)[0] == {"a.jpg": "pet"}


def test_cvat_ellipses(tmp_path):
    pictures(tmp_path, "a.jpg")
    text = (
        '<annotations><image name="a.jpg"><ellipse label="cat" cx="120" cy="90" rx="80" ry="60"/>'
        "</image></annotations>"
    )
    assert boxes(write(tmp_path, {"annotations.xml": text}))[0] == CAT


# Label Studio -----------------------------------------------------------------------------------

RECTANGLE = {"x": 12.5, "y": 12.5, "width": 50, "height": 50}


def packed(mask):
    """Pack a mask as Label Studio's converter does: runs over the bytes of an RGBA picture."""
    flat = np.repeat(mask.reshape(-1), 4).astype(np.uint8) * 255
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]
    bits = f"{len(flat):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    for begin, end in itertools.pairwise(edges):
        while begin < end:
            length = min(end - begin, 1 << 16)
            bits += f"1{3:02b}{length - 1:016b}{flat[begin]:08b}"
            begin += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def test_a_brush_has_a_box():
    rng = np.random.default_rng(0)
    for _ in range(20):
        y, x = sorted(rng.choice(37, 2, False)), sorted(rng.choice(53, 2, False))
        mask = np.zeros((37, 53), bool)
        mask[y[0] : y[1], x[0] : x[1]] = True
        assert box_of_brush((37, 53), packed(mask)) == (x[0], y[0], x[1], y[1])
    # one literal run: bytes that are not packed
    literal = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}0{0:02b}{7:03b}" + f"{0:056b}{255:08b}"
    bytes_ = [int(literal[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(literal), 8)]
    assert box_of_brush((1, 2), bytes_) == (1, 0, 2, 1)
    for size, wrong in (((5, 5), packed(mask)), ((37, 53), packed(mask)[:9])):
        with pytest.raises(ValueError, match="a brush"):
            box_of_brush(size, wrong)
    with pytest.raises(ValueError, match="nothing is marked"):
        box_of_brush((37, 53), packed(np.zeros((37, 53), bool)))


def test_label_studio_marks_of_regions_are_boxes_and_no_labels_of_pictures(tmp_path, caplog):
    pictures(tmp_path, "a.jpg")
    mask = np.zeros(SIZE[::-1], bool)
    mask[30:150, 40:200] = True
    choice = {**mark("rectanglelabels"), "type": "choices", "id": "1"}
    choice["value"] = {**RECTANGLE, "choices": ["cat"]}
    tasks = [
        {"data": {"image": "a.jpg"}, "annotations": [{"result": [one]}]}
        for one in (mark("brushlabels", rle=packed(mask)), mark("labels", **RECTANGLE), choice)
    ]
    with caplog.at_level(logging.INFO):
        assert boxes(studio(tmp_path, tasks))[0] == {"a.jpg": CAT["a.jpg"] * 3}
    assert "1 polygons, brushes" in caplog.text
    old = {**choice, "value": {**choice["value"], "choices": ["old"]}}
    both = [{"data": {"image": "a.jpg"}, "annotations": [{"result": [
        {**mark("rectanglelabels", **RECTANGLE), "id": "1"}, old]}]}]  # fmt: skip
    assert labels(studio(tmp_path, both))[0] == {"a.jpg": "cat"}


def test_label_studio_of_several_pictures_skipped_and_other_lists(tmp_path):
    pictures(tmp_path, "a (1).jpg", "b.jpg")
    data = {"caption": "a cat", "one": "/data/upload/1/1a2b3c4d-a_1.jpg", "two": "b.jpg"}
    first, second = (
        {**mark("rectanglelabels", name, **RECTANGLE), "to_name": key}
        for name, key in (("cat", "one"), ("cup", "two"))
    )
    tasks = [
        {"data": data, "annotations": [{"result": [first, second]}]},
        {"data": data, "annotations": [{"result": [{**first, "to_name": "which"}]}]},
        {
            "data": {"image": "http://host/data/local-files/?d=x/b.jpg"},
            "annotations": [{"was_cancelled": True, "result": []}],
            "predictions": [{"result": [first]}],
        },
    ]
    found, listed = boxes(studio(tmp_path, tasks))
    assert found == {"a (1).jpg": CAT["a.jpg"], "b.jpg": [("cup", BOX)]}
    assert "one of several pictures" in listed[0] and "skipped by its annotator" in listed[1]
    tasks[2]["annotations"] = [{"result": [second]}]
    assert boxes(studio(tmp_path, tasks[2:]))[0] == {"b.jpg": [("cup", BOX)]}
    results = [{"image_id": 1, "category_id": 1, "bbox": XYWH, "score": 0.9}]
    with pytest.raises(InvalidArgument, match="results alone name no pictures"):
        read_boxes(studio(tmp_path, results))


# tables and folders -----------------------------------------------------------------------------

TWO = {"a.jpg": "cat", "b.jpg": "cup"}


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nfile_name;label\r\na.jpg;cat\r\nb.jpg;cup\r\n",
        "\n\nfile_name,label\na.jpg,cat\nb.jpg,cup\n",
        "image_id,label\na,cat\nB,cup\n",
        "file_name,label\na.jpg,cat\na.jpg,cat\nb.jpg,cup\n",
        "file_name\tlabel\na.jpg\tcat\nb.jpg\tcup\n".encode("utf-16-le"),
        "ImageID,LabelName,Confidence\na,cat,1\nb,cat,0\nb,cup,1\n",
        "image,cat,cup,\na.jpg,1.0,0.0,\nb.jpg,0.0,1.0,\n",
        "image,cat,cup\na.jpg,TRUE,FALSE\nb.jpg,FALSE,TRUE\n",
    ],
    ids=[
        *("separator", "blank lines", "no suffix", "twice", "UTF-16", "absent", "floats"),
        "truth values",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["", "images/"])
def test_tables_as_spreadsheets_and_contests_have_them(tmp_path, text, place):
    pictures(tmp_path, f"{place}a.jpg", f"{place}b.jpg")
    for name in ("t.csv", "t.tsv"):
        found, listed = labels(write(tmp_path, {name: text}) / name)
        assert found == {place + key: name for key, name in TWO.items()}
        assert len(listed) == ("Confidence" in str(text))


def test_rows_that_say_nothing_or_two_things_are_listed(tmp_path):
    pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    text = 'file_name,label,note\na.jpg,cat,"two\nlines"\nb.jpg,\n,cup\nc.jpg,cat\nc.jpg,cup\n'
    found, listed = labels(write(tmp_path, {"t.csv": text}) / "t.csv")
    assert found == {"a.jpg": "cat"}
    assert listed == [
        ("line 4", "has no label"),
        ("line 5", "names no picture"),
        ("c.jpg", "is given several labels: cat, cup"),
    ]
    twice = write(tmp_path, {"t.csv": "file_name,label,label\na.jpg,cat,cup\n"}) / "t.csv"
    with pytest.raises(InvalidArgument, match="has the column label twice"):
        read_labels(twice)
    with pytest.raises(InvalidArgument, match="is a spreadsheet"):
        read_labels(write(tmp_path, {"t.xlsx": b"PK\3\4"}) / "t.xlsx")


def test_boxes_with_decimal_commas_and_pictures_without_any(tmp_path):
    pictures(tmp_path, "a.jpg", "b.jpg")
    text = "file_name;label;x_min;y_min;x_max;y_max\na.jpg;cat;0,125;0,125;0,625;0,625\n"
    assert boxes(write(tmp_path, {"t.csv": text}) / "t.csv")[0] == CAT
    text = "b.jpg,,,,,\na.jpg,40,30,200,150,cat\n"
    assert boxes(write(tmp_path, {"t.csv": text}) / "t.csv")[0] == CAT


def test_folders_of_contests_and_of_network_drives(tmp_path, caplog):
    pictures(tmp_path, "train/cat /1.jpg", "train/cup/1.jpg", "train/#recycle/9.jpg", "test/2.jpg")
    with caplog.at_level(logging.INFO):
        found = read_labels(tmp_path)
    assert found.class_names == ["cat", "cup"] and "holds no class folders" in caplog.text


def test_doctor_names_what_is_not_read(tmp_path):
    pictures(tmp_path, "a.jpg")
    texts = {
        "via.json": '{"_via_img_metadata": {"a.jpg1": {"regions": []}}}',
        "via.csv": "filename,region_shape_attributes\na.jpg,{}\n",
        "ml.json": '[{"image": "a.jpg", "annotations": [{"coordinates": {"x": 1}}]}]',
    }
    write(tmp_path, {**texts, "t.xlsx": b"PK\3\4"})
    for name in texts:
        wrong = inspect(tmp_path / name).wrong
        assert "export" in wrong[0][1] and "as COCO" in wrong[0][1], wrong
    assert inspect(tmp_path / "t.xlsx").next_step == "Save it as CSV, and give that."
    assert inspect(tmp_path).facts["may_be_labels"] == "ml.json, t.xlsx, via.csv, via.json"


# pictures ---------------------------------------------------------------------------------------


def two_pages(kind=None, below=False):
    """A TIFF of a small black page and a large white one, behind it or below it."""
    data, link = bytearray(b"II*\0\0\0\0\0"), 4
    starts = []
    for width, height, fill in ((80, 60, 0), (320, 240, 255))[:: -1 if below else 1]:
        strip, tags = len(data), [] if kind is None or width > 80 else [(kind[0], 4, 1, kind[1])]
        data += bytes([fill]) * (width * height)
        tags += [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1)]
        tags += [(262, 3, 1, 1), (273, 4, 1, strip), (277, 3, 1, 1), (278, 4, 1, height)]
        tags += [(279, 4, 1, width * height)]
        tags += [(330, 4, 1, starts[0])] if below and starts else []
        starts.append(len(data))
        data[link : link + 4] = struct.pack("<I", len(data))
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags)
        link = 4 if below else len(data)
        data += bytes(4)
    return bytes(data)


@pytest.mark.parametrize("kind", [None, (254, 1), (255, 2)], ids=["untold", "told", "old way"])
def test_the_large_page_of_a_tiff_counts_whatever_calls_the_other_small(kind):
    photo = decode(two_pages(kind))
    assert photo.size == (240, 320) and photo.image.getpixel((5, 5)) == (255, 255, 255)
    assert photo.remark == "page 2 of several"


def test_a_small_copy_alone_is_refused():
    with pytest.raises(UnreadableImage, match="only a small preview"):
        decode(two_pages(below=True))


def test_deep_colours_that_lie_apart_are_refused():
    tifffile = pytest.importorskip("tifffile")
    written = io.BytesIO()
    colours = np.full((3, 24, 32), 40_000, np.uint16)
    tifffile.imwrite(written, colours, photometric="rgb", planarconfig="separate")
    with pytest.raises(UnreadableImage, match="lie apart"):
        decode(written.getvalue())


def test_a_damaged_orientation_is_none_and_a_cut_png_has_a_header():
    exif = Image.Exif()
    exif[0x0112] = 6
    written = io.BytesIO()
    Image.new("RGB", SIZE).save(written, "JPEG", exif=exif)
    data = written.getvalue()
    text = data.replace(b"\x01\x12\0\x03\0\0\0\x01\0\x06", b"\x01\x12\0\x02\0\0\0\x01\0\x06")
    assert text != data and decode(text).size == SIZE[::-1] and header(text)[2] == 1
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(noise).save(written, "PNG")
    cut = written.getvalue()[:-20_000]
    assert header(cut) == (SIZE[::-1], SIZE[::-1], 1) and "cut off" in decode(cut).remark
