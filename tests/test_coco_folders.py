"""COCO in folders: the file is found by its content under any name, nothing else is taken for
it, and of several none is guessed.
"""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from wordsight.datasets import inspect, read_boxes, read_labels
from wordsight.datasets.formats import coco as coco_format
from wordsight.errors import InvalidArgument

NAMES = [
    *("_annotations.coco.json", "instances_default.json", "instances_train2017.json"),
    *("result.json", "annotations.json", "labels of mine.JSON", "annotations/instances_val.json"),
]


def write_coco(file, files=("a.jpg", "b.jpg"), **others):
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(files)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": n % 2, "bbox": [2, 2, 20, 10]}
            for n in range(len(files))
        ],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        **others,
    }
    file.write_text(json.dumps(content))


@pytest.fixture
def here(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (64, 48), "grey").save(tmp_path / name)
    return tmp_path


def labels(source):
    return {image.path.name: image.label for image in read_labels(source).images}


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_s_coco_file_is_found_by_any_name(here, name):
    write_coco(here / name)
    # none of these is COCO, whatever it looks like
    (here / "info.json").write_text('{"images": 2, "annotations": 2, "categories": 2}')
    (here / "captions.json").write_text('{"images": [], "annotations": []}')
    (here / "list.json").write_text('[{"images": [], "annotations": [], "categories": []}]')
    (here / "._result.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert labels(here) == {"a.jpg": "cat", "b.jpg": "dog"}
    found = read_boxes(here)
    assert found.format == "COCO" and len(found.images) == 2 and not found.skipped
    assert inspect(here).facts["boxes"] == 2


@pytest.mark.parametrize("name", ["_annotations.coco.json", "result.json"])
def test_labels_of_splits_are_found_in_each(tmp_path, name):
    for split in ("train", "valid", "test"):
        write_coco(tmp_path / split / name, (f"{split}0.jpg", f"{split}1.jpg"))
        for n in range(2):
            Image.new("RGB", (64, 48), "grey").save(tmp_path / split / f"{split}{n}.jpg")
    found = read_labels(tmp_path).images
    assert {image.path.name: (image.label, image.split) for image in found} == {
        f"{split}{n}.jpg": (label, marked)
        for split, marked in (("train", "train"), ("valid", "val"), ("test", "test"))
        for n, label in enumerate(("cat", "dog"))
    }


@pytest.mark.parametrize("place", [".", "annotations", "train"])
def test_of_several_none_is_guessed(here, place, cli_here):
    for name in ("instances_a.json", "other.json"):
        write_coco(here / place / name)
    prefix = "annotations/" if place == "annotations" else ""
    sentence = (
        f"holds 2 COCO files: '{prefix}instances_a.json', '{prefix}other.json'. Give the one to "
        "read instead of the folder."
    )
    for read in (read_boxes, read_labels):
        with pytest.raises(InvalidArgument) as raised:
            read(here)
        assert sentence in str(raised.value)
    done = cli_here("train", here, "-o", "model")
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1
    assert labels(here / place / "other.json") if place == "." else True


def test_many_are_counted_and_five_named(here):
    for number in range(8):
        write_coco(here / f"{number}.json")
    with pytest.raises(InvalidArgument, match=r"8 COCO files: '0\.json'.*'4\.json' and 3 more\."):
        read_labels(here)


def test_a_damaged_file_of_a_known_name_is_told(here):
    (here / "_annotations.coco.json").write_text('{"images": [')
    for read in (read_boxes, read_labels):
        with pytest.raises(InvalidArgument, match=r"_annotations\.coco\.json' is no JSON"):
            read(here)
    write_coco(here / "labels.json")  # told by its content, which is surer than a name
    assert len(labels(here)) == 2


def test_folders_of_classes_stay_so_beside_other_json(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 48), "grey").save(tmp_path / name / f"{name}.jpg")
    (tmp_path / "info.json").write_text('{"images": 2, "categories": ["cat", "dog"]}')
    (tmp_path / "result.json").write_text('{"images": [], "accuracy": 0.9}')
    os.mkfifo(tmp_path / "pipe.json")
    assert labels(tmp_path) == {"cat.jpg": "cat", "dog.jpg": "dog"}
    assert inspect(tmp_path).kind == "labelled pictures"


@pytest.mark.parametrize("beside", ["data.yaml", "metadata.csv"])
def test_what_was_read_before_stays(here, beside):
    write_coco(here / "result.json")
    if beside == "metadata.csv":
        (here / beside).write_text("file_name,label\na.jpg,cup\nb.jpg,pan\n")
    else:
        (here / beside).write_text("names: [cup, pan]\ntrain: .\n")
        (here / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        (here / "b.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    assert labels(here) == {"a.jpg": "cup", "b.jpg": "pan"}


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_lists_are_found_wherever_pieces_end(here, piece, monkeypatch):
    monkeypatch.setattr(coco_format, "PEEK", piece)
    monkeypatch.setattr("wordsight.datasets.formats.base.PEEK", 1 << 16)
    write_coco(here / "labels.json", info={"description": "x" * 500})
    assert len(labels(here)) == 2


def test_quantization_knows_that_such_a_folder_has_labels(here):
    from types import SimpleNamespace

    from wordsight.exports.quantization import _files

    write_coco(here / "result.json")
    images, labelled = _files(SimpleNamespace(class_names=["cat", "dog"]), here)
    assert labelled and [image.label for image in images] == ["cat", "dog"]
