"""Results as labels that other tools load: every format through its own reader and through an
outside one.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import draw_shape
from wordsight.core.records import RECORD
from wordsight.core.tables import note_photos
from wordsight.datasets.annotations import read_labels
from wordsight.datasets.formats import list_formats
from wordsight.errors import InvalidArgument, NotFound

KEYS = [one.key for one in list_formats() if one.writes]
SIZES = [(240, 320), (320, 240), (101, 97)]


def write_results(folder, count=9, classes=("cat", "dog & co", "Ünï <x>"), seed=0):
    """Photos with results of `detect` as it writes them; the second photo of three is turned by
    EXIF. Returns the truth, by file name.
    """
    rng = np.random.default_rng(seed)
    photos, results, truth = folder / "photos", folder / "results", {}
    results.mkdir()
    lines = []
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        name = f"{'deep/' if number % 2 else ''}photo {number}.jpg"
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        image, exif = draw_shape("disc", number, (height, width))[0], Image.Exif()
        if number % 3 == 1:
            exif[0x0112], image = 6, image.transpose(Image.Transpose.ROTATE_90)
        image.save(photos / name, exif=exif)
        boxes = []
        for _ in range(int(rng.integers(1, 5))):
            x, y = rng.uniform(0, width * 0.6), rng.uniform(0, height * 0.6)
            sides = [
                round(float(side), 1)
                for side in (
                    x,
                    y,
                    x + rng.uniform(5, width * 0.4),
                    y + rng.uniform(5, height * 0.4),
                )
            ]
            boxes.append(
                {
                    "label": classes[int(rng.integers(len(classes)))],
                    "probability": round(float(rng.uniform(0.9, 1)), 6),
                    "xyxy": sides,
                }
            )
        truth[name.replace("/", "__")] = sorted((box["label"], *box["xyxy"]) for box in boxes)
        lines.append(
            {
                "file_name": name,
                "width": width,
                "height": height,
                "detections": boxes,
                "error": None,
            }
        )
    (results / "detections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    note_photos(results, "detections", [str(photos)])
    return results, truth


def stems(names):
    return {name.removeprefix("images/").removeprefix("JPEGImages/"): name for name in names}


def assert_same(found, truth):
    """Compare {file name: [(label, x_min, y_min, x_max, y_max)]}, boxes to half a pixel."""
    assert set(found) == set(truth)
    for name, boxes in truth.items():
        left = [(box[0], np.array(box[1:], dtype=float)) for box in found[name]]
        assert len(left) == len(boxes), name
        for label, *sides in boxes:
            far = [
                float(np.abs(other - np.array(sides)).max()) if own == label else np.inf
                for own, other in left
            ]
            assert min(far) <= 0.501, (name, label, sides)
            del left[int(np.argmin(far))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    """Every format: its folder."""
    root = tmp_path_factory.mktemp("exported")
    for key in KEYS:
        done = wordsight.prelabel(made[0], key, output=root / key)
        assert (
            done.images == 9
            and done.regions == sum(map(len, made[1].values()))
            and not done.skipped
        )
    return root


@pytest.mark.parametrize("key", KEYS)
def test_every_format_comes_back_through_its_own_reader(key, exported, made):
    source = {"coco": "annotations.json", "yolo": "data.yaml", "csv": "annotations.csv"}.get(
        key, ""
    )
    found = wordsight.datasets.read_boxes(exported / key / source)
    assert (
        found.format.lower()
        .replace(" ", "-")
        .startswith({"voc": "pascal", "hf": "hugging"}.get(key, key))
        and not found.skipped
    )
    assert found.class_names == sorted({label for boxes in made[1].values() for label, *_ in boxes})
    names = stems(image.file.name for image in found.images)
    by_name = {
        image.file.name: [(box.label, *box.xyxy) for box in image.boxes] for image in found.images
    }
    assert_same({short: by_name[name] for short, name in names.items()}, made[1])


@pytest.mark.parametrize("key", KEYS)
def test_images_are_upright_whatever_a_tool_makes_of_exif(key, exported, made):
    folder = exported / key / ("JPEGImages" if key == "voc" else "images")
    images = sorted(path for path in folder.rglob("*.jpg"))
    assert len(images) == 9
    for path in images:
        with Image.open(path) as image:
            assert image.getexif().get(0x0112, 1) == 1
            assert (image.height, image.width) == SIZES[int(path.stem.split()[-1]) % 3]


def test_coco_loads_in_pycocotools(exported, made, capsys):
    from pycocotools.coco import COCO

    coco = COCO(str(exported / "coco" / "annotations.json"))
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        boxes = [
            (coco.cats[a["category_id"]]["name"], *a["bbox"])
            for a in coco.loadAnns(coco.getAnnIds([image["id"]]))
        ]
        found[image["file_name"].removeprefix("images/")] = [
            (label, x, y, x + width, y + height) for label, x, y, width, height in boxes
        ]
    assert_same(found, made[1])
    assert min(coco.cats) == 1 and all(
        0.9 <= a["score"] <= 1 and a["iscrowd"] == 0 for a in coco.anns.values()
    )


@pytest.mark.parametrize("key", ["coco", "yolo", "voc"])
def test_boxes_load_in_supervision(key, exported, made):
    supervision = pytest.importorskip("supervision")
    root = exported / key
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if key == "coco":
            loaded = supervision.DetectionDataset.from_coco(
                str(root / "images"), str(root / "annotations.json")
            )
        elif key == "yolo":
            loaded = supervision.DetectionDataset.from_yolo(
                str(root / "images"), str(root / "labels"), str(root / "data.yaml")
            )
        else:
            loaded = supervision.DetectionDataset.from_pascal_voc(
                str(root / "JPEGImages"), str(root / "Annotations")
            )
        found = {}
        for path, _, detections in loaded:
            name = os.path.relpath(path, root / ("JPEGImages" if key == "voc" else "images"))
            found[name] = [
                (loaded.classes[c], *box)
                for c, box in zip(detections.class_id, detections.xyxy.tolist(), strict=True)
            ]
    assert_same(found, made[1])


def test_hugging_face_loads_it(exported, made, tmp_path):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(exported / "hf"), split="train", cache_dir=str(tmp_path)
    )
    assert len(loaded) == 9
    found = sorted(
        (label, x, y, x + w, y + h)
        for row in loaded
        for label, (x, y, w, h) in zip(
            row["objects"]["category"], row["objects"]["bbox"], strict=True
        )
    )
    truth = sorted(box for boxes in made[1].values() for box in boxes)
    assert_same({"all": found}, {"all": truth})
    assert {row["image"].size for row in loaded} == {(width, height) for height, width in SIZES}


def test_label_studio_gets_what_it_documents(exported, made):
    tasks = json.loads((exported / "label-studio" / "tasks.json").read_text())
    assert len(tasks) == 9 and len({task["id"] for task in tasks}) == 9
    for task in tasks:
        assert (
            task["data"]["image"].startswith("/data/local-files/?d=images/")
            and " " not in task["data"]["image"]
        )
        (prediction,) = task["predictions"]
        assert prediction["model_version"].startswith("wordsight ") and prediction["score"] == min(
            r["score"] for r in prediction["result"]
        )
        for result in prediction["result"]:
            assert (
                result["type"] == "rectanglelabels"
                and result["from_name"] == "box"
                and result["to_name"] == "image"
            )
            assert (
                all(0 <= result["value"][side] <= 100 for side in ("x", "y", "width", "height"))
                and result["value"]["rotation"] == 0
            )
            assert len(result["value"]["rectanglelabels"]) == 1
    ids = [result["id"] for task in tasks for result in task["predictions"][0]["result"]]
    assert len(set(ids)) == len(ids)
    view = ElementTree.fromstring((exported / "label-studio" / "config.xml").read_text())
    assert (
        view.find("Image").attrib == {"name": "image", "value": "$image"}
        and view.find("RectangleLabels").get("toName") == "image"
    )
    assert [label.get("value") for label in view.iter("Label")] == sorted(
        {label for boxes in made[1].values() for label, *_ in boxes}
    )


def test_predictions_are_labels_and_only_sure_ones_unless_asked(
    shapes, shapes_model, tmp_path, cli_here
):
    done = cli_here(
        "predict", shapes, "-m", shapes_model, "-t", 0.9, "-o", "results", "--no-pictures"
    )
    assert done.returncode == 0
    rows = [
        json.loads(line)
        for line in (tmp_path / "results" / "predictions.jsonl").read_text().splitlines()
    ]
    sure = {
        row["file_name"].replace("/", "__"): row["label"]
        for row in rows
        if row["label"] is not None
    }
    assert len(sure) > 0
    answer = json.loads(cli_here("prelabel", "results", "--format", "hf", "--json").stdout)
    assert (
        answer["pictures"] == len(sure)
        and answer["left_out"] == 24 - len(sure)
        and answer["output"] == "results/prelabels/hf"
    )
    read = read_labels(tmp_path / "results" / "prelabels" / "hf", min_classes=1)
    assert {p.name.removeprefix("images/"): p.label for p in read.images} == sure
    everything = wordsight.prelabel(tmp_path / "results", "label-studio", all=True)
    assert everything.images == 24 and everything.left_out == 0
    tasks = json.loads((everything.output / "tasks.json").read_text())
    assert all(task["predictions"][0]["result"][-1]["type"] == "choices" for task in tasks)


@pytest.mark.parametrize("key", KEYS)
def test_a_classifier_learns_from_every_format(key, shapes, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    rows = [
        (path.relative_to(shapes).as_posix(), path.parent.name)
        for path in sorted(shapes.rglob("*.jpg"))
    ]
    lines = [
        {
            "file_name": name,
            "label": label,
            "top_label": label,
            "probability": 1.0,
            "box_xyxy": [1, 1, 300, 200],
            "error": None,
        }
        for name, label in rows
    ]
    (results / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = wordsight.prelabel(results, key, photos=shapes).output
    source = out / {"coco": "annotations.json", "yolo": "data.yaml", "csv": "annotations.csv"}.get(
        key, ""
    )
    model = wordsight.train(source, tmp_path / "model")
    assert model.class_names == ["disc", "square"] and model.record.images == {
        "disc": 12,
        "square": 12,
    }
    assert (
        wordsight.train(
            out / ("annotations.csv" if key == "csv" else ""), tmp_path / "again"
        ).class_names
        == model.class_names
    )


def test_names_never_collide_climb_or_break(tmp_path):
    photos, results = tmp_path / "photos", tmp_path / "results"
    photos.mkdir()
    results.mkdir()
    names = ["a.jpg", "a.png", "A.jpg", "b\nc.jpg", "%41.jpg", "x" * 240 + ".jpg", "noend", "e.php"]
    for number, name in enumerate(names):
        draw_shape("disc", number)[0].save(photos / name, "PNG" if name.endswith("png") else "JPEG")
    lines = [
        {
            "file_name": name,
            "detections": [{"label": "cat", "probability": 1, "xyxy": [5, 5, 50, 60]}],
            "error": None,
        }
        for name in names
    ]
    (results / "detections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for key in KEYS:
        done = wordsight.prelabel(results, key, photos=photos)
        assert done.images == len(names)
        found = wordsight.datasets.read_boxes(
            done.output
            / {"coco": "annotations.json", "yolo": "data.yaml", "csv": "annotations.csv"}.get(
                key, ""
            )
        )
        assert len(found.images) == len(names) and not found.skipped


def test_what_is_not_there_is_listed_and_nothing_of_others_is_replaced(made, tmp_path, cli_here):
    results = tmp_path / "results"
    shutil.copytree(made[0], results)
    photos = tmp_path / "photos"
    shutil.copytree(made[0].parent / "photos", photos)
    (photos / "photo 0.jpg").unlink()
    (photos / "photo 2.jpg").write_bytes(b"\xff\xd8 broken")
    done = cli_here("prelabel", "results", "--format", "yolo", "--photos", "photos", "--json")
    answer = json.loads(done.stdout)
    assert (
        done.returncode == 1
        and answer["pictures"] == 7
        and {s["file_name"] for s in answer["skipped"]} == {"photo 0.jpg", "photo 2.jpg"}
    )
    again = cli_here("prelabel", "results", "--format", "yolo", "--photos", "photos")
    assert again.returncode == 1 and "7" in again.stdout
    (results / "prelabels" / "yolo" / "labels" / "photo 4.txt").write_text(
        "corrected by a person\n"
    )
    refused = cli_here("prelabel", "results", "--format", "yolo", "--photos", "photos")
    assert refused.returncode == 2 and "was changed since it was written" in refused.stderr
    assert (
        results / "prelabels" / "yolo" / "labels" / "photo 4.txt"
    ).read_text() == "corrected by a person\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    assert (
        "is no export of wordsight"
        in cli_here("prelabel", "results", "--photos", "photos", "-o", "mine").stderr
    )


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda r: r.joinpath("detections.jsonl").unlink(), InvalidArgument, "holds no results"),
        (
            lambda r: r.joinpath("detections.jsonl").write_text("[]\n"),
            InvalidArgument,
            "line 1 is no row of results",
        ),
        (
            lambda r: r.joinpath("detections.jsonl").write_text(
                json.dumps({"file_name": "a", "detections": [], "error": None}) + "\n"
            ),
            InvalidArgument,
            "nothing to write",
        ),
        (lambda r: None, InvalidArgument, "doesn't know where"),
        (
            lambda r: note_photos(r, "detections", ["/nowhere/at/all"]),
            InvalidArgument,
            "are not where they were",
        ),
        (lambda r: shutil.rmtree(r), NotFound, "No results in"),
    ],
)
def test_what_can_not_be_written_is_one_sentence(change, error, sentence, made, tmp_path):
    shutil.copytree(made[0], tmp_path / "results")
    change(tmp_path / "results")
    with pytest.raises(error, match=sentence):
        wordsight.prelabel(tmp_path / "results", "coco")
    assert not (tmp_path / "results" / "prelabels").exists() or not any(
        (tmp_path / "results" / "prelabels").iterdir()
    )


def test_an_unknown_format_names_the_known(made):
    with pytest.raises(
        InvalidArgument,
        match=r"Unknown format 'kitti'. Choose one of: coco, yolo, label-studio, hf, voc, csv",
    ):
        wordsight.prelabel(made[0], "kitti")


@pytest.mark.parametrize("key", KEYS)
def test_373_real_boxes_come_back(key, data, tmp_path):
    truth: dict = {}
    lines = []
    for half in ("train", "test"):
        for image in wordsight.datasets.read_boxes(
            data / "boxes" / f"annotations-{half}.csv", data / "boxes"
        ).images:
            boxes = [
                {"label": box.label, "probability": 1.0, "xyxy": list(box.xyxy)}
                for box in image.boxes
            ]
            name = image.file.path.relative_to(data / "boxes" / "images").as_posix()
            truth[name] = sorted((box.label, *box.xyxy) for box in image.boxes)
            lines.append({"file_name": name, "detections": boxes, "error": None})
    (tmp_path / "detections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = wordsight.prelabel(tmp_path, key, photos=data / "boxes" / "images")
    assert done.images == len(truth) >= 371 and not done.skipped
    source = {"coco": "annotations.json", "yolo": "data.yaml", "csv": "annotations.csv"}.get(
        key, ""
    )
    found = wordsight.datasets.read_boxes(done.output / source)
    assert not found.skipped
    by_name = {
        image.file.name.rpartition("/")[2].rpartition(".")[0]: [
            (box.label, *box.xyxy) for box in image.boxes
        ]
        for image in found.images
    }
    assert_same(
        by_name,
        {name.replace("/", "__").rpartition(".")[0]: boxes for name, boxes in truth.items()},
    )


def test_the_csv_says_who_is_how_sure(exported, made):
    with open(exported / "csv" / "annotations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(map(len, made[1].values())) and all(
        0.9 <= float(row["score"]) <= 1 for row in rows
    )


def test_labels_of_0_1_0_are_replaced_and_changed_ones_are_not(made, tmp_path):
    folder = tmp_path / "labels"

    def export():
        wordsight.prelabel(made[0], "yolo", output=folder)

    export()
    (folder / RECORD).unlink()  # 0.1.0 noted sizes and times instead
    files = [path for path in folder.rglob("*") if path.is_file()]
    noted = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, path.stat().st_mtime_ns]
        for path in files
    }
    (folder / ".wordsight-prelabels").write_text(json.dumps(noted))
    export()
    assert not (folder / ".wordsight-prelabels").exists()
    label = next(path for path in sorted(folder.rglob("*.txt")) if path.stat().st_size)
    before = label.stat()
    corrected = label.read_bytes()[::-1]
    label.write_bytes(corrected)
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))  # as some tools keep it
    with pytest.raises(InvalidArgument, match="was changed since it was written"):
        export()
    assert label.read_bytes() == corrected
    label.unlink()
    with pytest.raises(InvalidArgument, match="was changed since it was written"):
        export()


def test_labels_replace_labels_only(made, shapes_model, tmp_path):
    folder = wordsight.load(shapes_model).save(tmp_path / "m")
    with pytest.raises(InvalidArgument, match=r"was changed|is no export|another command"):
        wordsight.prelabel(made[0], "coco", output=folder)
    wordsight.load(folder)


@pytest.mark.parametrize("label", ["\ud800", "a\udcff"])
@pytest.mark.parametrize("key", KEYS)
def test_labels_that_are_no_text_are_one_sentence(key, label, tmp_path):
    results, _ = write_results(tmp_path, 2, ("cat", label))
    with pytest.raises(InvalidArgument, match="Labels for other tools must be text in UTF-8"):
        wordsight.prelabel(results, format=key)
    assert not list(results.glob("prelabels/*"))
