"""Names of any kind: in tables, on disk, in folders that can't be read."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import unicodedata

import pytest

import wordsight
from conftest import draw_shape, write_shapes
from wordsight.core import cells
from wordsight.core.names import legible
from wordsight.core.notebook import escape
from wordsight.core.summary import printable
from wordsight.core.tables import shortened
from wordsight.datasets.annotations import read_boxes, read_labels
from wordsight.datasets.files import find_images
from wordsight.errors import InvalidArgument

ODD = ["=1+1.jpg", "+a", "-a.jpg", "@a", "\ta", "\ra", "'=a", "''@a", "'a", "a\rb",
       "a\nb", "a\r\nb", "-1+cmd|a!b", "-2+3+cmd|' /C calc'!A0", "@SUM(1)", "=1+1",
       "-cmd", "-A1 - B2",
       'a"b', "a,b", "\x0b", "\x1f", "-3.5", "-", "é", "\udcff", ""]  # fmt: skip


def test_any_cell_comes_back_and_none_begins_a_formula():
    text = io.StringIO(newline="")
    cells.writer(text).writerows([[name, -3.5] for name in ODD])
    text.seek(0)
    assert [row[0] for row in cells.reader(text)] == ODD
    text.seek(0)
    plain = list(csv.reader(text))
    assert all(row[0][:1] not in tuple("=+@\t\r") for row in plain)
    # a plain name can do nothing, whatever a spreadsheet makes of it
    assert [row[0] for row in plain if row[0].startswith("-")] == ["-a.jpg", "-3.5"]
    assert {row[1] for row in plain} == {"-3.5"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_formulas_as_names_and_classes_come_through_and_begin_no_cell(tmp_path):
    data = write_shapes(tmp_path / "data", 6)
    for old, new in (("disc", "=1+1"), ("square", "@SUM(1)")):
        (data / old).rename(data / new)
    photos = tmp_path / "photos"
    names = ["-2+3+cmd|' /C calc'!A0.jpg", "=1+1.jpg", "+a.jpg", "@SUM(1).jpg", "\ta.jpg"]
    for name, photo in zip(names, sorted((data / "=1+1").iterdir()), strict=False):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, photos / name)
    (photos / "=cmd()").mkdir()
    (photos / "=cmd()" / "a.jpg").write_bytes(b"no picture")
    wordsight.train(data, tmp_path / "model")
    wordsight.predict(photos, tmp_path / "model", output=tmp_path / "results")
    wordsight.split(data, val=0, test=0.5)
    tables = [table for table in tmp_path.rglob("*.csv") if "cache" not in table.parts]
    assert {"predictions.csv", "metadata.csv", "held_out.csv"} <= {one.name for one in tables}
    for table in tables:
        with open(table, newline="", encoding="utf-8-sig") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                number = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell)
                assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), table
    with cells.open_table(tmp_path / "results" / "predictions.csv") as file:
        rows = list(cells.DictReader(file))
    assert {row["file_name"] for row in rows} == {*names, "=cmd()/a.jpg"}
    assert {row["top_label"] for row in rows} <= {"=1+1", "@SUM(1)", ""}
    found = wordsight.datasets.read_labels(data)
    assert found.class_names == ["=1+1", "@SUM(1)"] and len(found.images) == 12


def test_a_table_for_people_begins_with_one_mark_and_is_read_with_or_without_it(tmp_path):
    text = "file_name,label\r\nå.jpg,кошка\r\n"
    with cells.create_table(tmp_path / "new.csv") as file:
        file.write(text)
    (tmp_path / "bytes.csv").write_bytes(cells.table_bytes(text))
    (tmp_path / "plain.csv").write_bytes(text.encode())
    marked = b"\xef\xbb\xbf" + text.encode()
    assert (tmp_path / "new.csv").read_bytes() == (tmp_path / "bytes.csv").read_bytes() == marked
    for name, encoding in (("new", cells.ENCODING), ("plain", "utf-8"), ("none", cells.ENCODING)):
        assert cells.encoding_of(tmp_path / f"{name}.csv") == encoding
    for name in ("new.csv", "plain.csv"):
        with cells.open_table(tmp_path / name) as file:
            assert list(cells.DictReader(file)) == [{"file_name": "å.jpg", "label": "кошка"}]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_model_learned_from_odd_names_loads(tmp_path):
    data = write_shapes(tmp_path / "data", 6)
    for i, name in enumerate(["a\rb.jpg", "\r.jpg", "=1+1.jpg", "c\nd.jpg"]):
        (data / "disc" / f"{i:03d}.jpg").rename(data / "disc" / name)
    wordsight.train(data, tmp_path / "model")
    held_out = wordsight.load(tmp_path / "model").held_out
    assert {name for name in held_out.file_names if "\r" in name} == {
        "disc/a\rb.jpg",
        "disc/\r.jpg",
    }
    counts = wordsight.split(data, val=0, test=0.5)
    assert sum(sum(row.values()) for row in counts.values()) == 12
    with open(data / "metadata.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(cells.DictReader(file))
    assert len(rows) == 12
    assert all((data / row["file_name"]).is_file() for row in rows)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs another user's rights")
def test_a_folder_that_cannot_be_read_is_named(tmp_path, shapes_model, cli_here, monkeypatch):
    data = write_shapes(tmp_path / "data", 4)
    (data / "disc" / "locked").mkdir()
    real = os.scandir

    def scandir(path="."):
        if not isinstance(path, int) and os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for command in (
        ["predict", data, "-m", shapes_model, "-o", "p", "--no-pictures"],
        ["recognize", data, "-o", "r", "--no-pictures"],
        ["detect", data, "-m", shapes_model, "-o", "d", "--no-pictures"],
        ["find", "--like", data / "disc" / "000.jpg", "-p", data, "-o", "f"],
        ["clean", data, "-o", "c"],
        ["train", data, "-o", "t"],
        ["evaluate", data, "-m", shapes_model, "-o", "e"],
        ["split", data],
    ):
        done = cli_here(*command)
        said = done.stdout + done.stderr
        assert done.returncode == 1, (command, said)
        assert "disc/locked" in said and "a folder that can't be read: Permission denied" in said
    assert (data / "disc" / "locked").is_dir()


def test_a_path_too_long_for_results_is_shortened(tmp_path, monkeypatch, shapes, shapes_model):
    from wordsight.core import tables

    most = len(os.fsencode(tmp_path)) + 250
    monkeypatch.setattr(tables, "_longest_path", lambda: most)
    deep = tmp_path / "data" / ("f" * 60) / ("g" * 60)
    deep.mkdir(parents=True)
    places = [deep / f"{'n' * 60}0.jpg", deep / f"{'n' * 60}1.jpg", tmp_path / "data" / "short.jpg"]
    for i, place in enumerate(places):
        shutil.copy(shapes / "disc" / f"{i:03d}.jpg", place)
    output = tmp_path / "r"
    for _ in range(2):  # the second run replaces what the first has drawn
        results = wordsight.predict(tmp_path / "data", shapes_model, threshold=0, output=output)
        drawn = [path for path in output.rglob("*.*") if path.parent != output]
        assert len(drawn) == 9
        assert all(len(os.fsencode(path)) <= most for path in drawn)
        assert results.complete
    assert shortened(tmp_path, "heatmaps/disc/a.jpg") == "heatmaps/disc/a.jpg"


@pytest.mark.parametrize(("written", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_annotations_find_files_whatever_the_form_of_their_accents(written, stored, tmp_path):
    def name(form, stem="é"):
        return unicodedata.normalize(form, f"{stem}.jpg")

    draw_shape("disc", 1)[0].save(tmp_path / name(stored))
    boxes = tmp_path / "boxes.csv"
    line = "file_name,label,x_min,y_min,x_max,y_max\n"
    boxes.write_text(line + f"{name(written)},a,1,1,60,60\n", encoding="utf-8")
    assert read_boxes(boxes).images[0].file.path.name == name(stored)
    table = tmp_path / "labels.csv"
    table.write_text(f"file_name,label\n{name(written)},a\n", encoding="utf-8")
    assert read_labels(table, 1).images[0].path.name == name(stored)
    draw_shape("disc", 2)[0].save(tmp_path / name(written))  # now there are both
    if len(find_images([tmp_path]).images) == 2:  # not where the disk holds them for one
        assert read_boxes(boxes).images[0].file.path.name == name(written)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8", "cp1251"])
def test_the_encoding_that_an_xml_declares_holds(encoding, tmp_path):
    label = "жук" if encoding == "cp1251" else "café"
    draw_shape("disc", 1)[0].save(tmp_path / "a.jpg")
    xml = (
        f'<?xml version="1.0" encoding="{encoding}"?><annotation><filename>a.jpg</filename>'
        f"<object><name>{label}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>60</xmax>"
        "<ymax>60</ymax></bndbox></object></annotation>"
    )
    (tmp_path / "a.xml").write_bytes(xml.encode(encoding))
    assert read_boxes(tmp_path).images[0].boxes[0].label == label


@pytest.mark.parametrize("names", ["5", "cat", "cat dog", "'ab'"])
def test_names_that_are_no_list_are_refused(names, tmp_path):
    write_shapes(tmp_path / "images", 1, kinds=("disc",))
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: {names}\n")
    with pytest.raises(InvalidArgument, match="Names must be a list"):
        read_boxes(tmp_path / "data.yaml")


def test_the_page_takes_every_format_that_predict_reads(tmp_path):
    gradio = pytest.importorskip("gradio_client.utils")
    from PIL import Image

    from wordsight.images.signatures import looks_like_image
    from wordsight.webapp.guard import _is_image
    from wordsight.webapp.parts import PICTURES

    image = draw_shape("disc", 1)[0]
    for suffix in (".tga", ".qoi", ".ppm", ".dds", ".sgi", ".pcx", ".jpg", ".png"):
        image.save(tmp_path / f"a{suffix}")
        assert looks_like_image(suffix) and _is_image(tmp_path / f"a{suffix}")
    pcd = bytearray(4096)
    pcd[2048:2052] = b"PCD_"
    (tmp_path / "a.pcd").write_bytes(pcd)
    assert _is_image(tmp_path / "a.pcd")
    (tmp_path / "b.tga").write_bytes(b"<html>" + bytes(5000))
    assert not _is_image(tmp_path / "b.tga")
    Image.init()
    for suffix in (".tga", ".qoi", ".pcd", ".jpg"):
        assert gradio.is_valid_file(f"a{suffix}", PICTURES)


def test_whatever_a_name_holds_it_can_be_shown():
    replaced = "\N{REPLACEMENT CHARACTER}"
    assert (
        legible("caf\udcc3\udca9 \ud800 \udfff \udcff") == f"café {replaced} {replaced} {replaced}"
    )
    assert printable("\ud800\x1b[2J") == f"{replaced}{replaced}[2J"
    assert escape("<\ud800>") == f"&lt;{replaced}&gt;"
