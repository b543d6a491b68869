"""Many objects a picture: what is learned, found, counted, drawn and kept."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import wordsight
from test_export import FORBID, PROGRAMS
from wordsight.backbones.backbone import DEFAULT_BACKBONE
from wordsight.backbones.embedder import Embedder, input_pixels, open_photo
from wordsight.backbones.networks.timm_models import untrained_module
from wordsight.backbones.preprocessing import Preprocessing
from wordsight.backbones.registry import keep_module, load_backbone
from wordsight.backbones.runtime import open_multiscale, open_runtime
from wordsight.detection.objects import find_objects, tile_of, tiles
from wordsight.errors import InvalidArgument, InvalidModel
from wordsight.exports.formats import EXPORT_FORMATS, open_exported
from wordsight.heads.objects import ObjectBoxes, ObjectHead, cell_centres, merge
from wordsight.images.decoding import decode
from wordsight.metrics.boxes import covered, iou
from wordsight.metrics.detection import average_precision, count_errors, matches
from wordsight.training.boxes import fit, learner, objects as learning, samples
from wordsight.training.boxes.augment import view_of_many

THINGS = ("cat", "wall")


def write_scenes(folder, count, seed=0):
    """Write lawns with one to four cats and pieces of wall that don't overlap, and COCO's
    annotations of them; return their path.
    """
    pytest.importorskip("skimage")
    import skimage.data

    lawn = Image.fromarray(skimage.data.grass()).convert("RGB")
    looks = [
        Image.fromarray(skimage.data.chelsea()).crop((60, 0, 360, 300)),
        Image.fromarray(skimage.data.brick()).convert("RGB"),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    images, boxes = [], []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        left, top = rng.integers(0, 110), rng.integers(0, 210)
        scene = lawn.crop((left, top, left + 400, top + 300))
        # each in a quarter of its own
        for quarter in rng.permutation(4)[: 1 + number % 4].tolist():
            side, kind = int(rng.integers(80, 140)), int(rng.integers(2))
            x = 200 * (quarter % 2) + int(rng.integers(0, 200 - side))
            y = 150 * (quarter // 2) + int(rng.integers(0, 150 - side))
            scene.paste(looks[kind].resize((side, side)), (x, y))
            boxes.append({"image_id": number, "category_id": kind, "bbox": [x, y, side, side]})
        scene.save(folder / f"{number}.jpg", quality=92)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 400, "height": 300})
    content = {
        "images": images,
        "annotations": [{"id": i, **box} for i, box in enumerate(boxes)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(THINGS)],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder / "boxes.json"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), 24)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("others"), 8, seed=70)


@pytest.fixture(scope="module")
def counting(scenes, tmp_path_factory):
    """A model that learned many objects a picture, in fewer steps than it would."""
    path = tmp_path_factory.mktemp("counting") / "model"
    with pytest.MonkeyPatch.context() as patch:
        learn_in_fewer_steps(patch, 60, 100)
        wordsight.train(scenes.parent, path, boxes=scenes)
    return path


def learn_in_fewer_steps(patch, judged, steps):
    for name, value in (
        *(("JUDGED_STEPS", judged), ("STEPS", steps), ("EPOCHS", 0), ("BATCH", 8), ("SIDE", 256)),
    ):
        patch.setattr(learning, name, value)
    for name, value in (("FEWEST_VIEWS", 3), ("MOST_VIEWS", 3), ("VIEW_SIDE", 256)):
        patch.setattr(samples, name, value)


def test_label_studio_gets_the_boxes_that_detect_finds(counting, others, tmp_path):
    from wordsight.errors import InvalidArgument
    from wordsight.labelstudio.backend import Backend
    from wordsight.labelstudio.pictures import Pictures, Places
    from wordsight.labelstudio.starting import start_with_model
    from wordsight.labelstudio.studio import Studio

    start, studio = start_with_model(str(counting)), Studio()
    pictures = Pictures(studio, Places.of(others.parent, []), start.embedder)
    backend = Backend(start, studio, pictures, tmp_path, 0.3)
    labels = "".join(f'<Label value="{name.upper()}"/>' for name in THINGS)
    config = f"""<View><Image name="i" value="$p"/>
    <RectangleLabels name="r" toName="i">{labels}</RectangleLabels></View>"""
    found = wordsight.detect(others.parent, counting, threshold=0.3, output=None)
    images = list(found)
    tasks = [
        {"id": number, "data": {"p": f"/data/local-files/?d={one.file_name}"}}
        for number, one in enumerate(images)
    ]
    asked = {"project": "1.2", "label_config": config, "tasks": tasks}
    answers = backend.predict(asked)["results"]
    assert sum(len(one.detections) for one in images) >= 8
    for one, answer in zip(images, answers, strict=True):
        told = [
            (
                result["value"]["rectanglelabels"],
                [result["value"][side] for side in ("x", "y", "width", "height")],
            )
            for result in answer["result"]
        ]
        for detection, (names, sides) in zip(one.detections, told, strict=True):
            x_min, y_min, x_max, y_max = detection.xyxy
            assert names == [detection.label.upper()]
            percent = [x_min / 4, y_min / 3, (x_max - x_min) / 4, (y_max - y_min) / 3]
            assert np.allclose(sides, percent, atol=0.05)
        assert 0.5 <= answer["score"] <= 1
    with pytest.raises(InvalidArgument, match="the model's own object head"):
        backend.train({"project": "1.2", "label_config": config})
    backend.close()


def test_every_object_of_pictures_it_never_saw_is_found_and_counted(
    counting, others, cli, tmp_path
):
    known = {image.file.name: image for image in wordsight.datasets.read_boxes(others).images}
    found = wordsight.detect(others.parent, counting, output=tmp_path / "found")
    pairs = [
        (
            [(box.label, box.xyxy) for box in known[one.file_name].boxes],
            [(d.label, d.probability, d.xyxy) for d in one.detections],
        )
        for one in found
    ]
    assert average_precision(pairs, THINGS)["0.5"] > 0.8
    assert count_errors(pairs, THINGS, 0.5)[""] < 0.5
    assert found.threshold == 0.5 and all(one.windows == 1 for one in found)
    with open(tmp_path / "found" / "counts.csv", newline="", encoding="utf-8-sig") as file:
        counts = {row["file_name"]: row for row in csv.DictReader(file)}
    lines = (tmp_path / "found" / "detections.jsonl").read_text().splitlines()
    for row in map(json.loads, lines):
        told = counts[row["file_name"]]
        assert {name: int(told[name]) for name in THINGS if int(told[name])} == row["counts"]
        assert (tmp_path / "found" / row["picture"]).is_file()
    assert sum(found.counts.values()) == sum(int(r[n]) for r in counts.values() for n in THINGS)

    assert cli("prelabel", tmp_path / "found/detections.jsonl", "--format", "coco").returncode == 0
    refused = cli("detect", others.parent, "-m", counting, "--levels", 2)
    assert refused.returncode == 2 and "without sliding windows" in refused.stderr


def test_the_model_says_how_good_it_is_and_keeps_it(counting, others, tmp_path):
    model = wordsight.load(counting)
    record = model.record.objects
    assert record.class_names == list(THINGS) and record.images == 24 and record.held_out == 4
    assert "AP" in record.sentence() and record.history[-1].keys() == {"step", "loss", "ap50"}
    for name in ("objects", "objects_batch", "ap50"):
        assert (counting / "plots" / f"{name}.png").is_file()
    assert record.sentence() in (counting / "README.md").read_text(encoding="utf-8")
    result = wordsight.evaluation.evaluate_boxes(others, model, output=tmp_path / "report")
    assert result.ap["0.5"] > 0.8 and set(result.count_errors) == {*THINGS, ""}
    assert "Counts per picture are wrong by" in " ".join(result.notes())
    again = wordsight.load(model.save(tmp_path / "again"))
    maps = tuple(
        np.random.default_rng(0).random((c, side, side), np.float32)
        for c, side in zip((40, 112, 672, 1280), (24, 12, 12, 6), strict=True)
    )
    before, after = (one.object_head.find(maps, 0.0) for one in (model, again))
    assert np.array_equal(before[0].xyxy, after[0].xyxy)
    with pytest.raises(InvalidModel, match="another network"):
        again.object_head.find(maps[:2] + maps[3:], 0.0)


def test_a_backbone_without_such_maps_is_refused_before_anything_is_trained(scenes, tmp_path):
    module, preprocessing = untrained_module("cifar_cnn", 2)
    small = keep_module(module.eval(), "cifar_cnn", preprocessing)
    with pytest.raises(InvalidArgument, match="feature map"):
        wordsight.train(scenes.parent, tmp_path / "m", boxes=scenes, backbone=small)
    assert not (tmp_path / "m").exists()


def test_views_that_do_not_fit_into_memory_teach_the_same(scenes, monkeypatch):
    images = wordsight.datasets.read_boxes(scenes).images
    embedder = Embedder(load_backbone(DEFAULT_BACKBONE))
    learn_in_fewer_steps(monkeypatch, 2, 3)
    layers = []
    for most in (samples.MOST_IN_ALL, 0):
        monkeypatch.setattr(samples, "MOST_IN_ALL", most)
        monkeypatch.setattr(samples, "MOST_VIEWS", 1)  # the limit would make fewer
        layers.append(learning.train_objects(images, embedder).head.layers)
    for name, (weight, bias) in layers[0].items():
        assert np.array_equal(weight, layers[1][name][0]) and np.array_equal(
            bias, layers[1][name][1]
        )


def test_torch_and_openvino_give_the_same_maps():
    pytest.importorskip("timm")
    photo = np.random.default_rng(0).integers(0, 256, (128, 96, 3), np.uint8)
    ours = load_backbone(DEFAULT_BACKBONE)
    module, preprocessing = untrained_module("resnet18", 3)
    other = keep_module(module.eval(), "resnet18", preprocessing)
    for backbone, channels in ((ours, [40, 112, 672, 1280]), (other, [128, 256, 512])):
        maps, same = (
            open_multiscale(backbone, engine, "f32").feature_maps(photo)
            for engine in ("openvino", "torch")
        )
        assert [len(one) for one in maps] == channels
        assert [one.shape for one in maps] == [one.shape for one in same]
        for one, other in zip(maps, same, strict=True):
            assert np.abs(one - other).max() < 1e-3 * max(1.0, np.abs(one).max())
        embedding = open_runtime(backbone, "openvino").encode(photo).embedding
        assert np.allclose(maps[-1].mean(axis=(1, 2)), embedding, atol=1e-3)


@pytest.mark.parametrize(
    "format",
    [
        pytest.param(name, marks=[] if name == "openvino" else pytest.mark.slow)
        for name in EXPORT_FORMATS
    ],
)
def test_exports_find_the_same_objects(format, counting, others, tmp_path):
    for needed in ("onnxruntime", "onnxscript") * (format == "onnx"):
        pytest.importorskip(needed)
    told = wordsight.export(counting, format, output=tmp_path / f"pets{EXPORT_FORMATS[format]}")
    assert told.outputs[-2:] == ("object_probabilities", "object_boxes")
    model, run = wordsight.load(counting, dtype="f32"), open_exported(told.path, format)
    head, photo = model.object_head, others.parent / "3.jpg"
    pixels = input_pixels(open_photo(photo), model.backbone.preprocessing.with_side(head.side))
    said = dict(zip(told.outputs, run(pixels[None]), strict=True))
    maps = open_multiscale(model.backbone, "openvino", "f32").feature_maps(pixels)
    logits, boxes = head.cells(head.reduce(maps))
    sides = [*pixels.shape[1::-1]] * 2
    assert np.abs(said["object_probabilities"][0] - head.calibrated(logits)).max() < 1e-3
    assert np.abs(said["object_boxes"][0] * sides - boxes).max() < 0.1
    assert said["object_probabilities"].max() > 0.5  # there is something to compare
    if format == "onnx":
        _run_decoding(tmp_path, photo, model)


def _run_decoding(folder, photo, model):
    """Run the documentation's program for many objects without wordsight, and compare."""
    (folder / "photo.jpg").write_bytes(photo.read_bytes())
    lines = PROGRAMS["objects"].splitlines()
    assert len(lines) <= 20
    done = subprocess.run(
        [sys.executable, "-c", FORBID + PROGRAMS["onnx"] + PROGRAMS["objects"]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = [line.split() for line in done.stdout.splitlines()[len(model.class_names) :]]
    (own,) = list(wordsight.detect([photo], model, output=None))
    assert len(own.detections) > 1
    assert sorted(line[0] for line in printed) == sorted(one.label for one in own.detections)
    xyxy = np.array([line[1:5] for line in printed], dtype=float)
    overlaps = iou(np.array([one.xyxy for one in own.detections]), xyxy)
    assert overlaps.max(axis=1).min() > 0.8


def test_the_page_shows_every_object(counting, others):
    from wordsight.webapp.tab_try import _caption
    from wordsight.webapp.workspace import Workspace

    viewer = Workspace(counting).viewer(None)
    photo = others.parent / "3.jpg"
    seen = viewer.look(photo, photo.name, viewer.threshold)
    found = wordsight.detect([photo], counting, output=None)
    (one,) = list(found)
    assert seen.objects == one.detections and len(seen.objects) > 1
    counts = one.counts
    told = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
    assert _caption(seen, viewer.threshold).endswith(f"; {told} found")
    without = dataclasses.replace(seen, objects=[])
    assert (seen.drawn(0.5) != without.drawn(0.5)).any()
    assert _caption(without, 0.5).endswith("no object found")


def test_class_answers_stay_and_boxes_can_be_added_later(
    counting, scenes, others, tmp_path, monkeypatch
):
    learn_in_fewer_steps(monkeypatch, 5, 7)
    for place, name in ((learner, "EPOCHS"), (learner, "LEAST_STEPS"), (fit, "VIEWS")):
        monkeypatch.setattr(place, name, 1)  # of the head for one object
    plain = wordsight.train(
        scenes.parent, tmp_path / "one", boxes=scenes, settings=_settings(objects="one")
    )
    assert plain.object_head is None and plain.box_head is not None
    both = wordsight.train(
        scenes.parent,
        tmp_path / "both",
        boxes=scenes,
        settings=_settings(from_model=tmp_path / "one"),
    )
    assert both.object_head is not None and both.box_head is not None
    answers = [
        [(p.top_label, p.probability) for p in model.predict(others.parent, output=None)]
        for model in (plain, both, wordsight.load(counting))
    ]
    assert answers[0] == answers[1] == answers[2]


@pytest.fixture
def cats(scenes, tmp_path):
    """Annotations of the cats alone, on the pictures that show one."""
    content = json.loads(scenes.read_text())
    content["annotations"] = [box for box in content["annotations"] if not box["category_id"]]
    (tmp_path / "cats.json").write_text(json.dumps(content))
    return tmp_path / "cats.json"


def test_boxes_of_one_class_alone_make_a_detector(
    cats, scenes, others, tmp_path, monkeypatch, caplog
):
    learn_in_fewer_steps(monkeypatch, 40, 80)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with caplog.at_level("INFO", "wordsight"):
        model = wordsight.train(scenes.parent, tmp_path / "m", boxes=cats)
    assert "All pictures show 'cat', so they are told from parts of them" in caplog.text
    assert model.class_names == ["cat", "not_cat"] and model.object_head.class_names == ("cat",)
    assert not list(tmp_path.glob("wordsight-*")) and not (tmp_path / "m-training").exists()
    truth = wordsight.datasets.read_boxes(others).images
    found = wordsight.detect(others.parent, model, output=None)
    cat_boxes = {
        one.file.name: [box.xyxy for box in one.boxes if box.label == "cat"] for one in truth
    }
    said = {row.file_name: [one.xyxy for one in row.detections] for row in found}
    hits = sum(
        int((iou(np.array(cat_boxes[name]), np.array(boxes)).max(axis=1) > 0.5).sum())
        for name, boxes in said.items()
        if boxes and cat_boxes[name]
    )
    assert hits >= 0.7 * sum(map(len, cat_boxes.values()))
    answers = {row.file_name: row for row in model.predict(others.parent, output=None)}
    with_cat = [answers[name].top_label for name, boxes in cat_boxes.items() if boxes]
    assert with_cat.count("cat") > len(with_cat) / 2


def test_one_class_that_fills_its_pictures_says_what_to_give(cats, scenes, tmp_path):
    content = json.loads(cats.read_text())
    for box in content["annotations"]:
        box["bbox"] = [0, 0, 400, 300]
    cats.write_text(json.dumps(content))
    with pytest.raises(InvalidArgument, match="Add --positive cat --negatives FOLDER, or --from"):
        wordsight.train(scenes.parent, tmp_path / "m", boxes=cats)
    assert not (tmp_path / "m").exists()


def _settings(**values):
    from wordsight.training.settings import TrainingSettings

    return TrainingSettings(**values)


@pytest.mark.parametrize(
    ("values", "boxes", "told"),
    [
        ({"objects": "two"}, True, "Unknown --objects 'two'"),
        ({"objects": "one"}, False, "so it needs --boxes ANNOTATIONS"),
    ],
)
def test_objects_are_refused_in_one_sentence(values, boxes, told, scenes, tmp_path):
    with pytest.raises(InvalidArgument, match=told):
        wordsight.train(
            scenes.parent,
            tmp_path / "m",
            boxes=scenes if boxes else None,
            settings=_settings(**values),
        )


def test_a_clip_has_the_objects_of_each_frame(counting, others, tmp_path):
    import cv2

    clip = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (400, 300)
    )
    for number in range(4):
        clip.write(cv2.imread(str(others.parent / f"{number}.jpg")))
    clip.release()
    seen = wordsight.video(tmp_path / "clip.avi", counting, output=tmp_path / "out.mp4")
    with open(seen.folder / "frames.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    found = [json.loads(row["objects"]) for row in rows]
    # the number of things in a scene is one more than its number, up to four
    assert sum(abs(len(some) - number - 1) for number, some in enumerate(found)) <= 2
    assert all({"label", "probability", "xyxy"} == one.keys() for some in found for one in some)


def test_large_pictures_are_looked_at_in_tiles(counting, others):
    model = wordsight.load(counting)
    small = decode((others.parent / "3.jpg").read_bytes()).image  # four things
    wide = Image.new("RGB", (small.width * 4, small.height * 4), (90, 120, 60))
    for x in range(2):
        for y in range(2):
            wide.paste(small, (small.width * 2 * x + 100, small.height * 2 * y + 100))
    size = (wide.height, wide.width)
    assert tile_of(size, model.object_head) is not None
    whole, _, once = find_objects(wide, size, model.object_head, model.embedder, size)
    found, _, passes = find_objects(wide, size, model.object_head, model.embedder)
    assert passes > once
    sure = found.probabilities >= 0.5
    assert 13 <= sure.sum() <= 19
    assert sure.sum() > (whole.probabilities >= 0.5).sum()


def test_tiles_cover_all_and_share_a_quarter():
    spans = list(tiles((1000, 3000), (800, 800)))
    assert min(s[0] for s in spans) == 0 and max(s[2] for s in spans) == 3000
    assert min(s[1] for s in spans) == 0 and max(s[3] for s in spans) == 1000
    lefts = sorted({s[0] for s in spans})
    assert max(np.diff(lefts)) <= 600
    assert list(tiles((300, 200), (800, 800))) == [(0.0, 0.0, 200.0, 300.0)]


def test_merging_by_hand():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    found = merge(
        ObjectBoxes(
            boxes.astype(np.float32),
            np.array([0, 0, 1, 0]),
            np.array([0.9, 0.6, 0.5, 0.95], np.float32),
        )
    )
    assert found.labels.tolist() == [0, 0, 1]
    assert found.probabilities.tolist() == pytest.approx([0.95, 0.9, 0.5])
    overlap = 90 / 110
    moved = 0.6 * overlap / (0.9 + 0.6 * overlap)
    assert found.xyxy[1] == pytest.approx([moved, 0, 10 + moved, 10])
    assert found.xyxy[0].tolist() == [50, 50, 60, 60]
    none = ObjectBoxes(np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, np.float32))
    assert len(merge(none).xyxy) == 0


def test_figures_by_hand():
    known = [("a", (0, 0, 10, 10)), ("a", (20, 0, 30, 10)), ("b", (0, 0, 10, 10))]
    found = [
        ("a", 0.6, (0, 0, 10, 10)),
        ("a", 0.9, (0, 0, 10, 9)),
        ("b", 0.4, (40, 0, 50, 10)),
        ("c", 0.9, (0, 0, 10, 10)),
    ]
    assert matches(known, found).tolist() == [False, True, False, False]
    errors = count_errors([(known, found), ([], [])], ["a", "b"], 0.5)
    assert errors == {"a": 0.0, "b": 0.5, "": 0.5}
    shares = covered(np.array([[0, 0, 10, 10], [0, 0, 0, 5]]), np.array([[5, 0, 20, 10]]))
    assert shares.tolist() == [[0.5], [0.0]]


def test_torch_and_numpy_find_the_same(counting):
    torch = pytest.importorskip("torch")
    head = wordsight.load(counting).object_head
    channels = sum(len(directions) for _, directions in head.projections)
    network = learning._Network(channels, len(head.class_names)).eval()
    with torch.no_grad():
        for name, (weight, bias) in head.layers.items():
            layer = getattr(network, name)
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    reduced = np.random.default_rng(0).normal(size=(channels, 10, 14)).astype(np.float32)
    with torch.no_grad():
        logits, boxes = (one[0].numpy() for one in network(torch.from_numpy(reduced)[None]))
    ours, edges = head.cells(reduced)
    limits = np.array([14, 10, 14, 10]) * 16
    assert np.abs(ours - logits).max() < 1e-4
    assert np.abs(edges - np.clip(boxes, 0, limits)).max() < 1e-2
    assert cell_centres(2, 3)[4].tolist() == [24, 24, 24, 24]


def test_views_of_many_show_most_of_each_box():
    image = Image.new("RGB", (400, 200))
    boxes = np.array([[0.1, 0.2, 0.3, 0.6], [0.6, 0.5, 0.9, 0.9]])
    preprocessing = Preprocessing((96, 96), (0.5,) * 3, (0.5,) * 3, "bilinear", "area")
    shown = set()
    for seed in range(20):
        pixels, moved, which = view_of_many(
            image, boxes, preprocessing, np.random.default_rng(seed)
        )
        assert pixels.shape == (96, 96, 3) and len(moved) == len(which)
        assert (moved >= 0).all() and (moved <= 1).all() and (moved[:, 2:] > moved[:, :2]).all()
        shown |= {*which.tolist()}
    assert shown == {0, 1}


def test_damaged_heads_are_refused(counting, tmp_path):
    import shutil

    from safetensors.numpy import load_file, save_file

    arrays = load_file(counting / "objects.safetensors")
    names = THINGS
    for key, value in (
        ("leave.weight", arrays["leave.weight"][:-1]),
        ("calibration", np.array([1.0, np.nan], np.float32)),
        ("sides", np.array([0.0, 384.0], np.float32)),
        ("0.directions", arrays["0.directions"][:, :-1]),
    ):
        with pytest.raises((ValueError, KeyError)):
            ObjectHead.from_arrays({**arrays, key: value}, names)
    with pytest.raises(ValueError, match="fit itself"):
        ObjectHead.from_arrays(arrays, (*names, "third"))
    shutil.copytree(counting, tmp_path / "damaged")
    save_file({"sides": arrays["sides"]}, tmp_path / "damaged" / "objects.safetensors")
    with pytest.raises(InvalidModel):
        wordsight.load(tmp_path / "damaged")
