"""Train, predict, save, load: the promises of a model and of a results folder."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import contents, draw_shape, killed_before, small_model, unfinished
from wordsight.classification.predictions import FIELDS
from wordsight.core import cells
from wordsight.core.result_folder import ResultFolder
from wordsight.errors import InvalidArgument, InvalidModel, NotFound, UnreadableImage


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@pytest.fixture(scope="module")
def results(shapes_model, other_shapes, tmp_path_factory):
    return wordsight.load(shapes_model).predict(
        other_shapes, threshold=0.8, output=tmp_path_factory.mktemp("results") / "r"
    )


def test_predict_is_right_on_new_images(results):
    assert len(results) == 12
    assert all(p.top_label == p.file_name.split("/")[0] for p in results)
    assert sum(results.counts.accepted.values()) >= 9


def test_tables_hold_every_field(results):
    lines = (results.output / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(tuple(row) == FIELDS for row in rows)
    with open(results.output / "predictions.csv", newline="", encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    assert [row["file_name"] for row in table] == [row["file_name"] for row in rows]
    for row, record in zip(table, rows, strict=True):
        assert row["label"] == (record["label"] or "")
        assert json.loads(row["probabilities"]) == record["probabilities"]
        assert abs(sum(record["probabilities"].values()) - 1) < 1e-4


def test_tables_say_what_became_of_every_image(shapes_model, other_shapes, tmp_path):
    photos = shutil.copytree(other_shapes, tmp_path / "photos")
    Image.effect_noise((320, 240), 90).convert("RGB").save(photos / "noise.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    model = wordsight.load(shapes_model)
    kept = list(model.predict(photos, threshold=0.9999))
    results = model.predict(photos, threshold=0.9999, output=tmp_path / "r", draw=False)
    written = list(results)
    assert [(p.file_name, p.status) for p in written] == [(p.file_name, p.status) for p in kept]
    assert {"none_of_these", "unreadable"} < {p.status for p in written}
    assert sum(p.stranger for p in written) == results.counts.strangers > 0
    assert sum(p.status == "unsure" for p in written) == results.counts.unsure
    with open(tmp_path / "r" / "predictions.csv", newline="", encoding="utf-8-sig") as file:
        assert [row["status"] for row in csv.DictReader(file)] == [p.status for p in written]


def test_results_without_a_status_are_read_too(results, tmp_path):
    table = results.output / "predictions.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    old = tmp_path / "old"
    old.mkdir()
    for row in rows:
        del row["status"]
    (old / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = replace(results, output=old)
    assert [(p.file_name, p.label) for p in read] == [(p.file_name, p.label) for p in results]
    assert not any(p.stranger for p in read)


def test_accepted_images_are_drawn_and_rejected_are_not(results, other_shapes):
    for p in results:
        assert (p.label is None) == (p.heatmap is None) == (p.mask is None)
        if p.label:
            original = results.output / "images" / p.label / p.file_name
            assert original.resolve() == (other_shapes / p.file_name).resolve()
            with (
                Image.open(results.output / p.heatmap) as heatmap,
                Image.open(results.output / p.mask) as mask,
            ):
                assert heatmap.size == mask.size == (320, 240)
                assert set(np.unique(np.asarray(mask.convert("L")))) == {0, 255}


def test_boxes_find_the_drawn_shape(results):
    overlaps = []
    for p in results:
        if p.box_xyxy:
            kind, name = p.file_name.split("/")
            truth = draw_shape(kind, 500 + (1000 if kind == "square" else 0) + int(name[:3]))[1]
            overlaps.append(iou(p.box_xyxy, truth))
    assert len(overlaps) >= 9 and np.mean(overlaps) > 0.3


def test_boxes_are_in_pixels_of_the_upright_original(shapes_model, tmp_path):
    small, corners = draw_shape("disc", 502)
    image, truth = (
        small.resize((1280, 960), Image.Resampling.NEAREST),
        [4 * value for value in corners],
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    (prediction,) = wordsight.load(shapes_model).predict(tmp_path, threshold=0)
    assert prediction.label == "disc"
    assert iou(prediction.box_xyxy, truth) > 0.2
    assert prediction.box_xyxy[2] <= 1280 and prediction.box_xyxy[3] <= 960


def test_same_seed_same_model(shapes, shapes_model, tmp_path):
    wordsight.train(shapes, tmp_path / "again")
    for name in ("model.safetensors", "wordsight.json", "strangers.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (shapes_model / name).read_bytes()


def test_save_load_equal_predictions(shapes, other_shapes, tmp_path):
    model = wordsight.train(shapes, tmp_path / "m")
    before = [p.to_dict() for p in model.predict(other_shapes)]
    assert [p.to_dict() for p in wordsight.load(tmp_path / "m").predict(other_shapes)] == before


def test_warm_and_cold_predictions_are_equal(shapes_model, other_shapes, fresh_home):
    model = wordsight.load(shapes_model)
    cold = [p.to_dict() for p in model.predict(other_shapes, threshold=0.5)]
    assert [p.to_dict() for p in model.predict(other_shapes, threshold=0.5)] == cold


def test_a_second_training_decodes_nothing(shapes, tmp_path, fresh_home, monkeypatch):
    wordsight.train(shapes, tmp_path / "m")

    def refuse(data):
        raise AssertionError("decoded again")

    monkeypatch.setattr("wordsight.backbones.embedder.decode", refuse)
    wordsight.train(shapes, tmp_path / "m")


def test_a_second_predict_decodes_only_what_it_draws(
    shapes_model, other_shapes, tmp_path, monkeypatch
):
    from wordsight.backbones import embedder

    photos = shutil.copytree(other_shapes, tmp_path / "photos")
    for i in range(3):  # nothing like a shape, so never accepted
        Image.new("RGB", (300, 200), (10 * i, 250, 10 * i)).save(photos / f"green{i}.png")
    model = wordsight.load(shapes_model)
    model.predict(photos)
    decoded = []
    real = embedder.decode
    monkeypatch.setattr(embedder, "decode", lambda data: decoded.append(1) or real(data))
    results = model.predict(photos, threshold=0.5, output=tmp_path / "r", draw=False)
    assert 9 <= len(decoded) == sum(results.counts.accepted.values()) <= 12
    assert results.counts.strangers >= 3


def test_timm_loads_the_model_and_gives_the_same_logits(shapes_model, other_shapes):
    torch = pytest.importorskip("torch")
    import timm

    from wordsight.backbones.embedder import Embedder
    from wordsight.datasets.files import find_images
    from wordsight.images.decoding import decode, resize

    model = wordsight.load(shapes_model, dtype="f32")
    network = timm.create_model(f"local-dir:{shapes_model}", pretrained=True).eval()
    assert network.num_classes == 2
    assert json.loads((shapes_model / "config.json").read_text())["label_names"] == [
        "disc",
        "square",
    ]
    photo = decode(find_images([other_shapes]).images[0].path.read_bytes())
    pixels = resize(photo.image, model.backbone.preprocessing.input_size(photo.size), "bicubic")
    with torch.inference_mode():
        theirs = network(
            (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
        )[0].numpy()
    ours = model.head.logits(Embedder(model.backbone).encode(photo).embedding[None])[0]
    assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_bad_images_are_listed_and_stop_nothing(shapes_model, other_shapes, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(other_shapes, photos)
    (photos / "broken.jpg").write_bytes((photos / "disc" / "000.jpg").read_bytes()[:500])
    (photos / "empty.png").write_bytes(b"")
    (photos / "notes.txt").write_text("no picture")
    (photos / "gone.jpg").symlink_to(tmp_path / "nowhere")
    results = wordsight.load(shapes_model).predict(photos, output=tmp_path / "r")
    errors = {p.file_name: p.error for p in results if p.error}
    assert set(errors) == {"broken.jpg", "empty.png", "gone.jpg"} and all(errors.values())
    assert results.counts.total == 15 and results.counts.skipped == ["notes.txt"]
    listed = (tmp_path / "r" / "skipped.csv").read_text("utf-8-sig")
    assert listed.split() == ["file_name", "notes.txt"]
    # one mark, at the very beginning, by which Excel knows UTF-8; none in what programs read
    for name in ("predictions.csv", "skipped.csv"):
        data = (tmp_path / "r" / name).read_bytes()
        assert data.startswith(b"\xef\xbb\xbf") and data.count(b"\xef\xbb\xbf") == 1
    assert (tmp_path / "r" / "predictions.jsonl").read_bytes().startswith(b"{")


def test_strange_names_come_through(shapes_model, other_shapes, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    names = [
        "a b.jpg",
        "-dash.jpg",
        "new\nline.jpg",
        "emoji 🐱.jpg",
        "ü" * 120 + ".jpg",
        "'quote\".jpg",
        "no-suffix",
    ]
    for name in names:
        shutil.copyfile(other_shapes / "disc" / "000.jpg", photos / name)
    results = wordsight.load(shapes_model).predict(photos, threshold=0, output=tmp_path / "r")
    assert sorted(p.file_name for p in results) == sorted(names)
    for p in results:
        assert p.label == "disc" and (results.output / p.heatmap).is_file()
    with open(tmp_path / "r" / "predictions.csv", newline="", encoding="utf-8-sig") as file:
        assert sorted(row["file_name"] for row in cells.DictReader(file)) == sorted(names)


def test_photos_are_left_as_they_are(shapes_model, other_shapes, tmp_path):
    def state():
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(other_shapes.rglob("*.jpg"))
        }

    before = state()
    wordsight.load(shapes_model).predict(other_shapes, threshold=0, output=tmp_path / "r")
    assert state() == before


def test_a_second_run_replaces_what_the_first_drew_and_nothing_else(
    shapes_model, other_shapes, tmp_path
):
    model = wordsight.load(shapes_model)
    model.predict(other_shapes, threshold=0.5, output=tmp_path)
    (tmp_path / "heatmaps" / "mine.jpg").write_text("a file of the user's")
    results = model.predict(other_shapes, threshold=1.0, output=tmp_path)
    drawn = [
        path
        for kind in ("heatmaps", "masks", "images")
        for path in (tmp_path / kind).rglob("*.*")
        if path.is_file()
    ]
    assert len(drawn) == 3 * sum(results.counts.accepted.values()) + 1
    assert not unfinished(tmp_path)


def test_results_inside_the_photos_are_not_read_as_photos(shapes_model, other_shapes, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(other_shapes, photos)
    model = wordsight.load(shapes_model)
    for _ in range(2):
        assert len(model.predict(photos, threshold=0, output=photos / "results")) == 12


def test_no_images_writes_tables_only(shapes_model, other_shapes, tmp_path):
    wordsight.load(shapes_model).predict(
        other_shapes, threshold=0, output=tmp_path / "r", draw=False
    )
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [
        ".wordsight-files",
        "predictions.csv",
        "predictions.jsonl",
    ]


@pytest.mark.parametrize("threshold", [40, -0.1, float("nan")])
def test_threshold_outside_its_range_is_refused(shapes_model, other_shapes, threshold):
    with pytest.raises(InvalidArgument, match="between 0 and 1, got"):
        wordsight.load(shapes_model).predict(other_shapes, threshold=threshold)


def test_a_missing_model_is_named():
    with pytest.raises(NotFound, match="No such model: 'nowhere'"):
        wordsight.load("nowhere")


@pytest.mark.parametrize("missing", ["wordsight.json", "config.json", "model.safetensors"])
def test_a_half_written_model_is_refused(shapes_model, tmp_path, missing):
    folder = shutil.copytree(shapes_model, tmp_path / "m")
    (folder / missing).unlink()
    with pytest.raises(InvalidModel, match=f"{missing} is missing"):
        wordsight.load(folder)


@pytest.mark.parametrize(
    ("format", "by", "said"),
    [(99, "9.9", "format 99 by wordsight 9.9;"), ("x" * 9000, "9\n" * 9000, "by wordsight 9 9 9")],
)
def test_a_model_of_another_version_is_refused(shapes_model, tmp_path, format, by, said):
    folder = shutil.copytree(shapes_model, tmp_path / "m")
    record = json.loads((folder / "wordsight.json").read_text())
    (folder / "wordsight.json").write_text(
        json.dumps({**record, "format": format, "wordsight_version": by})
    )
    with pytest.raises(InvalidModel, match=said) as refused:
        wordsight.load(folder)
    assert len(str(refused.value)) < 500 and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["model.safetensors", "strangers.safetensors", "wordsight.json"])
def test_damaged_model_files_are_refused(shapes_model, tmp_path, name):
    folder = shutil.copytree(shapes_model, tmp_path / "m")
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidModel, match="can't be loaded"):
        wordsight.load(folder)


def test_a_model_loads_where_its_backbone_was_never_prepared(
    shapes_model, other_shapes, tmp_path, monkeypatch
):
    expected = [p.to_dict() for p in wordsight.load(shapes_model).predict(other_shapes)]
    folder = shutil.copytree(shapes_model, tmp_path / "m")
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    # so the folder's own weights must do
    monkeypatch.setattr("wordsight.classification.model_folder.embedded_backbones", list)
    again = [p.to_dict() for p in wordsight.load(folder).predict(other_shapes)]
    assert [p["label"] for p in again] == [p["label"] for p in expected]
    assert all(
        abs(a["probability"] - b["probability"]) < 1e-4
        for a, b in zip(again, expected, strict=True)
    )


def test_saving_never_overwrites_foreign_files(shapes, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.doc").write_text("three years of work")
    with pytest.raises(InvalidArgument, match="other files in it"):
        wordsight.train(shapes, tmp_path / "m")
    assert (tmp_path / "m" / "thesis.doc").read_text() == "three years of work"


def test_training_leaves_out_what_cannot_be_read(shapes, tmp_path):
    folder = shutil.copytree(shapes, tmp_path / "data")
    (folder / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
    model = wordsight.train(folder, tmp_path / "m")
    assert model.record.images == {"disc": 12, "square": 12}
    assert [name for name, _ in model.record.unreadable] == ["disc/broken.jpg"]


def test_training_refuses_a_class_without_readable_images(shapes, tmp_path):
    folder = shutil.copytree(shapes, tmp_path / "data")
    (folder / "triangle").mkdir()
    (folder / "triangle" / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
    with pytest.raises(InvalidArgument, match="Class 'triangle' has 0 readable pictures"):
        wordsight.train(folder, tmp_path / "m")


def test_a_not_class_means_anything_else(shapes, other_shapes, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(shapes / "disc", folder / "disc")
    shutil.copytree(shapes / "square", folder / "not_disc")
    model = wordsight.train(folder, tmp_path / "m")
    assert model.class_names[model.catch_all] == "not_disc"
    assert not any(p.stranger for p in model.predict(other_shapes) if p.top_label == "not_disc")


def test_unreadable_image_is_a_value_error():
    assert issubclass(UnreadableImage, ValueError) and issubclass(NotFound, FileNotFoundError)


@pytest.mark.slow  # a measurement
def test_cat_and_dog_figures(data, tmp_path):
    model = wordsight.train(data / "catdog" / "train", tmp_path / "pets")
    results = list(model.predict(data / "catdog" / "test"))
    truth = [Path(p.file_name).parts[0] for p in results]
    accepted = [(p, t) for p, t in zip(results, truth, strict=True) if p.label]
    assert np.mean([p.top_label == t for p, t in zip(results, truth, strict=True)]) >= 0.99
    assert len(accepted) >= 0.95 * len(results)
    assert np.mean([p.label == t for p, t in accepted]) >= 0.995
    others = model.predict([data / "clothing" / "test", data / "street" / "photos"])
    assert sum(others.counts.accepted.values()) <= 0.01 * len(others)


def test_two_runs_do_not_write_into_one_folder(shapes_model, other_shapes, tmp_path):
    with (
        ResultFolder(tmp_path / "r").locked(),
        pytest.raises(InvalidArgument, match="Another run is writing"),
    ):
        wordsight.load(shapes_model).predict(other_shapes, output=tmp_path / "r")
    assert len(wordsight.load(shapes_model).predict(other_shapes, output=tmp_path / "r")) == 12


def test_originals_are_copied_where_links_are_not_to_be_had(
    shapes_model, other_shapes, tmp_path, monkeypatch
):
    def refuse(self, target):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    results = wordsight.load(shapes_model).predict(
        other_shapes, threshold=0.5, output=tmp_path / "r"
    )
    copies = list((tmp_path / "r" / "images").rglob("*.jpg"))
    assert copies and not any(path.is_symlink() for path in copies)
    assert results.copied_bytes == sum(path.stat().st_size for path in copies)


def test_photos_among_the_results_are_never_drawn_over(shapes_model, other_shapes, tmp_path):
    photos = shutil.copytree(other_shapes / "disc", tmp_path / "images" / "disc")
    model = wordsight.load(shapes_model)
    with pytest.raises(InvalidArgument, match="lie where results would be drawn"):
        model.predict(photos, threshold=0, output=tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(InvalidArgument, match="was not written by wordsight"):
        model.predict(other_shapes, threshold=0, output=tmp_path)
    assert all(not p.is_symlink() and p.stat().st_size > 1000 for p in photos.iterdir())


def test_a_model_never_replaces_the_photos_beside_it(shapes, tmp_path):
    wordsight.train(shapes, tmp_path / "m")
    shutil.copytree(shapes, tmp_path / "m" / "photos")
    with pytest.raises(InvalidArgument, match="'photos/disc/"):
        wordsight.train(tmp_path / "m" / "photos", tmp_path / "m")
    assert len(list((tmp_path / "m" / "photos").rglob("*.jpg"))) == 24
    shutil.rmtree(tmp_path / "m" / "photos")
    wordsight.train(shapes, tmp_path / "m")


def test_results_in_the_photo_folder_itself_do_not_grow(shapes_model, other_shapes, tmp_path):
    photos = shutil.copytree(other_shapes, tmp_path / "photos")
    model = wordsight.load(shapes_model)
    assert [len(model.predict(photos, threshold=0, output=photos)) for _ in range(3)] == [
        12,
        12,
        12,
    ]


def test_images_named_alike_are_drawn_apart(shapes_model, other_shapes, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.jpg", "a.jpg.png", "a.png", "a.png.jpg"):
        shutil.copyfile(other_shapes / "disc" / "000.jpg", photos / name)
    results = list(wordsight.load(shapes_model).predict(photos, threshold=0, output=tmp_path / "r"))
    assert len({p.heatmap for p in results}) == len({p.mask for p in results}) == 4


def test_training_from_a_model_does_not_spoil_its_backbone(
    shapes, shapes_model, tmp_path, monkeypatch
):
    from wordsight.backbones.registry import load_backbone

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    wordsight.train(shapes, tmp_path / "m", backbone=f"local-dir:{shapes_model}")
    weight, _ = load_backbone().imagenet_head()
    assert weight.shape == (1000, 1280)


@pytest.mark.parametrize(
    "change",
    [
        {"neighbourhood": {"k": 0}},
        {"neighbourhood": {"limit": float("nan")}},
        {"neighbourhood": {"scales": [[0.0, 0.0], [0.0, 1.0]]}},
        {"catch_all": 7},
    ],
)
def test_numbers_out_of_range_are_refused(shapes_model, tmp_path, change):
    folder = shutil.copytree(shapes_model, tmp_path / "m")
    record = json.loads((folder / "wordsight.json").read_text())
    for name, value in change.items():
        record[name] = {**record[name], **value} if isinstance(value, dict) else value
    (folder / "wordsight.json").write_text(json.dumps(record))
    with pytest.raises(InvalidModel, match="out of range"):
        wordsight.load(folder)


@pytest.mark.parametrize(
    "name", ["README.md", "history.csv", "plots/figure.png", "model.safetensors", "config.json"]
)
def test_a_folder_of_somebody_elses_is_no_model_to_replace(name, shapes_model, tmp_path):
    path = tmp_path / "m" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(InvalidArgument, match=f"other files in it.*'{name}'"):
        wordsight.load(shapes_model).save(tmp_path / "m")
    assert contents(tmp_path) == {f"m/{name}": b"mine"}


@pytest.mark.parametrize("name", ["README.md", "held_out.csv", "wordsight.json", "notes.txt"])
def test_a_model_that_somebody_worked_on_is_not_replaced(name, shapes_model, tmp_path):
    model = wordsight.load(shapes_model)
    folder = model.save(tmp_path / "m")
    model.save(folder)  # as it was written
    with open(folder / name, "ab") as file:
        file.write(b"\n")
    before = contents(tmp_path)
    with pytest.raises(InvalidArgument, match=f"'{name}'"):
        model.save(folder)
    assert contents(tmp_path) == before


def test_a_model_is_replaced_where_a_link_leads(shapes_model, tmp_path):
    model = wordsight.load(shapes_model)
    model.save(tmp_path / "disk" / "m")
    (tmp_path / "m").symlink_to(tmp_path / "disk" / "m")
    model.save(tmp_path / "m")
    assert (tmp_path / "m").is_symlink() and len(list(tmp_path.iterdir())) == 2
    assert wordsight.load(tmp_path / "disk" / "m").class_names == model.class_names


def test_writing_a_model_may_be_cut_off_anywhere(tmp_path, caplog):
    caplog.set_level("INFO", "wordsight")
    model = small_model("cifar_cnn")
    expected = contents(model.save(tmp_path / "m"))
    number, killed = 0, True
    while killed:
        killed = killed_before(number, lambda: model.save(tmp_path / "m"))
        assert wordsight.load(tmp_path / "m").class_names == model.class_names
        assert contents(tmp_path / "m") == expected
        number += 1
    assert number > 10 and sum("was put back" in line for line in caplog.messages) == 1
    model.save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
