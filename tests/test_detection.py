from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import wordsight
from composer import annotated_objects, compose
from conftest import draw_shape, unfinished
from wordsight import WindowSettings
from wordsight.errors import InvalidArgument
from wordsight.heatmaps.windows import (
    Level,
    pyramid,
    representatives,
    shares,
    suppress,
    window_means,
)
from wordsight.metrics.boxes import iou
from wordsight.metrics.detection import average_precision


def test_pyramid_covers_the_image_to_its_edges():
    levels = pyramid((756, 1008), (200, 200), (10, 10), 1.5, None)
    # the last ones flush with the edges, so a few more than 4,400
    assert len(levels[0].ys) * len(levels[0].xs) == 57 * 82
    assert [round(level.window[0]) for level in levels] == [200, 300, 450, 675]
    for level in levels:
        assert level.boxes()[0].tolist()[:2] == [0, 0] and level.boxes()[-1].tolist()[2:] == [
            1008,
            756,
        ]
    # a picture smaller than the window is one window
    assert len(pyramid((50, 60), (200, 200), (10, 10), 1.5, None)) == 1
    assert pyramid((50, 60), (200, 200), (10, 10), 1.5, None)[0].boxes().tolist() == [
        [0, 0, 60, 50]
    ]


def test_a_level_split_has_every_window_once():
    level = pyramid((756, 1008), (200, 150), (10, 20), 1.5, 1)[0]
    parts = list(level.split((400, 300), 50))
    assert len(parts) > 4
    assert sorted(map(tuple, np.concatenate([part.boxes() for part in parts]).tolist())) == sorted(
        map(tuple, level.boxes().tolist())
    )
    for part in parts:
        left, top, right, bottom = part.span
        assert right - left <= 300 + 1e-6 and bottom - top <= 400 + 1e-6 and len(part.boxes()) <= 50


def test_window_means_are_what_summing_cells_gives():
    values = np.random.default_rng(0).random((3, 6, 8)).astype(np.float32)
    # on a picture of 60 × 80, cells of 10 × 10
    level = Level((20, 30), np.array([0.0, 7.0, 40.0]), np.array([0.0, 12.0, 50.0]))
    rows, columns = shares(level.ys, 20, 0, 10, 6), shares(level.xs, 30, 0, 10, 8)
    means = window_means(values, rows, columns)
    fine = values.repeat(10, axis=1).repeat(10, axis=2)
    for a, y in enumerate(level.ys.astype(int)):
        for b, x in enumerate(level.xs.astype(int)):
            assert np.allclose(
                means[:, a, b], fine[:, y : y + 20, x : x + 30].mean(axis=(1, 2)), atol=1e-5
            )


def test_the_less_likely_of_two_boxes_over_one_thing_goes():
    boxes = np.array(
        [
            [0, 0, 100, 100],
            [10, 10, 60, 60],
            [0, 0, 100, 100],
            [200, 0, 300, 100],
            [90, 0, 190, 100],
        ],
        dtype=float,
    )
    labels, scores = np.array([0, 0, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.95, 0.5])
    assert suppress(boxes, labels, scores, 0.5).tolist() == [3, 0, 2, 4]
    assert suppress(boxes, labels, scores, 0.05).tolist() == [3, 0, 2]
    assert suppress(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), 0.5).tolist() == []
    boxes[4] = [5, 0, 105, 100]
    assert representatives(boxes, labels, scores, 0.7).tolist() == [0, 1, 2, 3, 0]


def texture(name: str) -> Image.Image:
    """A photo of a wall, a lawn or a path, 512 × 512."""
    pytest.importorskip("skimage")
    import skimage.data

    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def pieces(name: str, count: int, seed: int) -> list[Image.Image]:
    """Random squares of a texture."""
    rng, image = np.random.default_rng(seed), texture(name)
    corners = [
        (int(rng.integers(0, 512 - side)), int(rng.integers(0, 512 - side)), side)
        for side in rng.integers(100, 300, count).tolist()
    ]
    return [image.crop((x, y, x + side, y + side)) for x, y, side in corners]


@pytest.fixture(scope="module")
def yes_or_no(tmp_path_factory):
    """A model of brick against lawn and gravel: its folder."""
    folder = tmp_path_factory.mktemp("one")
    for kind, names in (("brick", ("brick",)), ("not_brick", ("grass", "gravel"))):
        (folder / "data" / kind).mkdir(parents=True)
        for name in names:
            for number, piece in enumerate(pieces(name, 24, 1)):
                piece.save(folder / "data" / kind / f"{name}{number}.png")
    wordsight.train(folder / "data", folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Two pieces of wall on a lawn: folder and boxes."""
    folder = tmp_path_factory.mktemp("scene")
    canvas = Image.new("RGB", (640, 480))
    lawn, wall = texture("grass"), texture("brick")
    canvas.paste(lawn, (0, 0))
    canvas.paste(lawn, (512, 0))
    boxes = [(40, 30, 200, 190), (370, 250, 590, 430)]
    for x_min, y_min, x_max, y_max in boxes:
        canvas.paste(wall.crop((0, 0, x_max - x_min, y_max - y_min)), (x_min, y_min))
    canvas.save(folder / "scene.png")
    return folder, np.array(boxes, dtype=float)


@pytest.mark.parametrize("exact", [False, True])
def test_things_are_found_where_they_are(exact, yes_or_no, scene):
    folder, boxes = scene
    found = wordsight.detect(
        folder,
        yes_or_no,
        threshold=0.9,
        windows=WindowSettings((140, 140), 35.0),
        exact=exact,
        output=None,
    )
    (image,) = found
    # what means anything else is no detection
    assert {d.label for d in image.detections} == {"brick"}
    overlaps = iou(np.array([d.xyxy for d in image.detections]), boxes)
    # a wall is many windows wide
    assert (
        (overlaps.max(axis=0) > 0.3).all()
        and (overlaps.max(axis=1) > 0.1).all()
        and len(image.detections) <= 8
    )
    assert (np.diff([d.probability for d in image.detections]) <= 0).all()
    assert image.map.max() <= 1 and image.map.shape == (96, 128) and found.exact == exact
    x, y = ((boxes[0, :2] + boxes[0, 2:]) / 2 / 5).astype(int)
    assert image.map[y, x] > 3 * image.map[-5, 5]


def test_one_pass_and_crops_agree_on_windows(yes_or_no, scene):
    from wordsight.backbones.embedder import Embedder
    from wordsight.detection.scanner import _decide
    from wordsight.heatmaps.window_features import look_through
    from wordsight.images.decoding import decode

    model = wordsight.load(yes_or_no, dtype="f32")
    image = decode((scene[0] / "scene.png").read_bytes()).image
    embedder = Embedder(model.backbone)
    levels = pyramid((480, 640), (160, 160), (80, 80), 1.5, 1)
    maps = []
    for exact in (False, True):
        views = look_through(image, (480, 640), embedder, levels, 2, exact)
        maps.append(
            np.concatenate([_decide(part, view, model, 0.5)[0].ravel() for _, part, view in views])
        )
    assert np.corrcoef(*maps)[0, 1] > 0.7 and np.abs(maps[0] - maps[1]).mean() < 0.2


def test_tiles_give_the_same_map_as_one_pass(yes_or_no, scene, monkeypatch):
    from wordsight.backbones.embedder import Embedder
    from wordsight.heatmaps import window_features as views
    from wordsight.images.decoding import decode

    model = wordsight.load(yes_or_no)
    image = decode((scene[0] / "scene.png").read_bytes()).image
    level = pyramid((480, 640), (160, 160), (40, 40), 1.5, 1)[0]
    features = []
    for cells in (100_000, 300):
        monkeypatch.setattr(views, "TILE_CELLS", cells)
        look = views.Dense(image, (480, 640), Embedder(model.backbone), 2)
        (part,) = look.parts(level)
        tiles = list(look.pieces(part))
        assert (len(tiles) > 1) == (cells == 300)
        features.append(look.join(part, map(look.piece, tiles)).features)
    whole, joined = features
    # tiles as small as none are in use
    assert whole.shape == joined.shape and np.corrcoef(whole.ravel(), joined.ravel())[0, 1] > 0.9


def test_the_command_writes_tables_and_images(yes_or_no, scene, tmp_path, cli_here):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b\nc.png"):
        (tmp_path / "photos" / name).write_bytes((scene[0] / "scene.png").read_bytes())
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    options = ["--window", "140x150", "--step", 35, "-t", 0.9, "-o", "out"]
    done = cli_here("detect", "photos", "-m", yes_or_no, *options, "--json")
    assert done.returncode == 1 and "broken.jpg" in done.stderr
    summary = json.loads(done.stdout)
    assert (
        summary["pictures"] == 3
        and summary["pictures_with_detections"] == 2
        and list(summary["detections"]) == ["brick"]
    )
    rows = [
        json.loads(line)
        for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()
    ]
    assert [row["error"] is None for row in rows] == [True, True, False] and rows[0]["width"] == 640
    assert rows[0]["detections"] == rows[1]["detections"] and set(rows[0]["detections"][0]) == {
        "label",
        "probability",
        "xyxy",
    }
    with open(tmp_path / "out" / "detections.csv", newline="", encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * len(rows[0]["detections"]) + 1 and table[-1]["error"]
    for row in rows[:2]:
        for key in ("picture", "heatmap"):
            with Image.open(tmp_path / "out" / row[key]) as image:
                assert image.size == (640, 480)
    assert not unfinished(tmp_path / "out")
    # fewer: what the first run drew of the others goes
    again = cli_here("detect", "photos/a.png", "-m", yes_or_no, *options)
    assert again.returncode == 0 and "brick" in again.stdout
    assert [path.name for path in sorted((tmp_path / "out" / "detections").iterdir())] == [
        "a.png.jpg"
    ]
    taken = cli_here("detect", "out/detections", "-m", yes_or_no, *options)
    assert taken.returncode == 2 and "lie where results would be drawn" in taken.stderr
    foreign = tmp_path / "mine" / "scores"
    foreign.mkdir(parents=True)
    (foreign / "a.jpg").write_text("mine")
    assert (
        "was not written by wordsight"
        in cli_here("detect", "photos", "-m", yes_or_no, "-o", "mine").stderr
    )
    assert (tmp_path / "photos" / "a.png").read_bytes() == (scene[0] / "scene.png").read_bytes()


def test_drawings_have_names_of_their_own(yes_or_no, scene, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "a.png.jpg", "x" * 250 + ".png"):
        (tmp_path / "photos" / name).write_bytes((scene[0] / "scene.png").read_bytes())
    found = list(
        wordsight.detect(
            tmp_path / "photos",
            yes_or_no,
            output=tmp_path / "out",
            windows=WindowSettings((200, 200), 100.0, 1),
        )
    )
    assert len({image.drawing for image in found}) == 3
    assert all(
        (tmp_path / "out" / path).is_file()
        for image in found
        for path in (image.drawing, image.heatmap)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "5"], "at least 16 pixels"),
        (["--window", "big"], "WIDTHxHEIGHT"),
        (["--step", "0"], "at least 1 pixel"),
        (["--step", "nan"], "at least 1 pixel"),
        (["--levels", "0"], "between 1 and 20"),
        (["--factor", "1"], "between 1.1 and 4"),
        (["--overlap", "2"], "between 0 and 1"),
        (["-t", "99"], "For 99 % write 0.99"),
    ],
)
def test_wrong_options_are_one_sentence(options, message, yes_or_no, scene, cli_here):
    done = cli_here("detect", scene[0], "-m", yes_or_no, *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_networks_without_a_mean_give_each_window_its_crop(tmp_path, scene):
    """The small brick network has dense layers, so windows can't share a pass."""
    rng = np.random.default_rng(0)
    for kind in ("disc", "not_disc"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for i in range(6):
            image = (
                draw_shape("disc", i)[0]
                if kind == "disc"
                else Image.fromarray(rng.integers(90, 150, (200, 200, 3), dtype=np.uint8))
            )
            image.save(tmp_path / "data" / kind / f"{i}.png")
    tuning = wordsight.TrainingSettings(epochs=1)
    model = wordsight.train(
        tmp_path / "data",
        tmp_path / "model",
        recipe="scratch",
        backbone="brick_cnn",
        settings=tuning,
        positive="disc",
    )
    found = wordsight.detect(
        scene[0], model, threshold=0.0, windows=WindowSettings((200, 200), 100.0, 1), output=None
    )
    # rows 0, 100, 200, 280; columns 0 … 400, 440
    assert found.exact and found.images == 1 and next(iter(found)).windows == 4 * 6


def test_average_precision_by_hand():
    one = [("a", (0, 0, 50, 50))]
    two = [*one, ("a", (50, 50, 100, 100))]
    perfect = [
        (one, [("a", 0.9, (0, 0, 50, 50))]),
        (two, [("a", 0.8, (0, 0, 50, 50)), ("a", 0.7, (50, 50, 100, 100))]),
    ]
    assert average_precision(perfect, ["a"]) == {"0.3": 1.0, "0.5": 1.0, "0.5:0.95": 1.0}
    half = [(one, [("a", 0.9, (0, 0, 50, 20))]), (two, [])]  # IoU 0.4 with one of three
    found = average_precision(half, ["a"])
    assert found["0.3"] == pytest.approx(1 / 3, abs=0.01) and found["0.5"] == 0
    assert average_precision([(one, [])], ["a"]) == {"0.3": 0.0, "0.5": 0.0, "0.5:0.95": 0.0}
    assert average_precision([(one, [])], ["b"]) == {}


@pytest.mark.slow  # a measurement
def test_objects_on_streets(data, tmp_path):
    """Composed scenes: found where they were pasted, and well above windows left as they are."""
    from wordsight.datasets.labelled import LabelledSet
    from wordsight.images.decoding import decode
    from wordsight.training.recipes import train_labelled
    from wordsight.training.request import TrainingRequest

    known = wordsight.datasets.read_boxes(data / "boxes" / "annotations-train.csv")
    model = train_labelled(
        TrainingRequest(
            LabelledSet([image.file for image in known.images], known.class_names),
            tmp_path / "model",
        )
    )
    streets = [
        decode(path.read_bytes()).image for path in sorted((data / "street" / "photos").iterdir())
    ]
    scenes = compose(annotated_objects(data / "boxes" / "annotations-test.csv"), streets, 8, seed=0)
    images = []
    for number, scene in enumerate(scenes):
        scene.image.save(tmp_path / f"{number}.png")
        (found,) = wordsight.detect(tmp_path / f"{number}.png", model, threshold=0.05, output=None)
        truth = list(zip(scene.labels, scene.boxes.tolist(), strict=True))
        images.append((truth, [(d.label, d.probability, d.xyxy) for d in found.detections]))
    found = average_precision(images, known.class_names)
    assert found["0.3"] > 0.7 and found["0.5"] > 0.5


def test_nothing_of_the_users_is_removed_or_drawn_over(yes_or_no, scene, tmp_path):
    out = tmp_path / "out"
    (out / "detections").mkdir(parents=True)
    (out / "only-copy.jpg").write_text("mine")
    (out / "detections" / "scene.png.jpg").write_text("mine")
    (out / "detections.jsonl").write_text(
        json.dumps({"picture": "only-copy.jpg", "heatmap": 5}) + "\n"
    )
    with pytest.raises(InvalidArgument, match=r"detections\.jsonl' was not written by wordsight"):
        wordsight.detect(scene[0], yes_or_no, output=out)
    (out / "detections.jsonl").unlink()
    with pytest.raises(InvalidArgument, match="detections' was not written by wordsight"):
        wordsight.detect(scene[0], yes_or_no, output=out)
    # tables only: the folders don't matter
    wordsight.detect(scene[0], yes_or_no, output=out, draw=False)
    assert (
        (out / "only-copy.jpg").read_text()
        == (out / "detections" / "scene.png.jpg").read_text()
        == "mine"
    )


def test_a_run_that_is_cut_off_leaves_the_earlier_one_whole(
    yes_or_no, scene, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    wordsight.detect(scene[0], yes_or_no, output=out)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}

    def stop(done, total, what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wordsight.detect(scene[0], yes_or_no, output=out, threshold=0.1, progress=stop)
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before


def test_drawings_of_earlier_results_are_no_photos(yes_or_no, scene, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copyfile(scene[0] / "scene.png", photos / "scene.png")
    wordsight.detect(photos, yes_or_no, output=photos / "results")
    wordsight.recognize(photos, output=photos / "known", quadrants=True)
    assert [p.file_name for p in wordsight.detect(photos, yes_or_no, output=None)] == ["scene.png"]
