"""Many objects learned without a drawn box: what is cut out, composed, learned and found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

import wordsight
from test_objects import THINGS, _settings, learn_in_fewer_steps, write_scenes
from wordsight.backbones.embedder import open_photo
from wordsight.datasets.labelled import read_labelled
from wordsight.detection.scanner import Scan
from wordsight.detection.whole import with_whole
from wordsight.errors import InvalidArgument
from wordsight.images.decoding import decode
from wordsight.metrics.boxes import covered, iou
from wordsight.metrics.detection import average_precision
from wordsight.training.cutouts import scenes as making
from wordsight.training.cutouts.composing import SEEN, compose
from wordsight.training.cutouts.cutting import Cutout, cut_out
from wordsight.training.cutouts.scenes import compose_scenes


def write_labelled(folder, count, seed=0):
    """Write photos of one cat or piece of wall each on a lawn, a folder a class; return the true
    boxes by path.
    """
    pytest.importorskip("skimage")
    import skimage.data

    lawn = Image.fromarray(skimage.data.grass()).convert("RGB")
    looks = [
        Image.fromarray(skimage.data.chelsea()).crop((60, 0, 360, 300)),
        Image.fromarray(skimage.data.brick()).convert("RGB"),
    ]
    boxes = {}
    for kind, name in enumerate(THINGS):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng([seed, kind, number])
            side = int(rng.integers(110, 210))
            x, y = int(rng.integers(5, 395 - side)), int(rng.integers(5, 295 - side))
            left, top = rng.integers(0, 110), rng.integers(0, 210)
            photo = lawn.crop((left, top, left + 400, top + 300))
            photo.paste(looks[kind].resize((side, side)), (x, y))
            photo.save(folder / name / f"{number}.jpg", quality=92)
            boxes[folder / name / f"{number}.jpg"] = (x, y, x + side, y + side)
    return boxes


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Labelled photos of one object each: the folder, and the boxes that nothing learns from."""
    folder = tmp_path_factory.mktemp("labelled") / "data"
    return folder, write_labelled(folder, 16)


@pytest.fixture(scope="module")
def classifier(labelled, tmp_path_factory):
    """A model that learned nothing but classes from them."""
    return wordsight.train(labelled[0], tmp_path_factory.mktemp("plain") / "model")


def learn_quickly(patch):
    learn_in_fewer_steps(patch, 10, 120)
    patch.setattr(making, "SCENES", 80)


def found_in(model, annotations):
    """Return the average precision of what a model detects in annotated scenes."""
    known = wordsight.datasets.read_boxes(annotations)
    found = wordsight.detect(annotations.parent, model, output=None, threshold=0.05)
    by_name = {one.file_name: one.detections for one in found}
    pairs = [
        (
            [(box.label, box.xyxy) for box in one.boxes],
            [(d.label, d.probability, d.xyxy) for d in by_name[one.file.name]],
        )
        for one in known.images
    ]
    return average_precision(pairs, THINGS)


@pytest.mark.slow
def test_many_are_found_by_a_model_that_saw_one_a_photo_and_no_box(
    labelled, classifier, tmp_path, monkeypatch
):
    learn_quickly(monkeypatch)
    others = write_scenes(tmp_path / "others", 10, seed=70)
    windows = found_in(classifier, others)
    model = wordsight.train(
        labelled[0],
        tmp_path / "many",
        settings=_settings(from_model=classifier.record.path, objects="many"),
    )
    objects = found_in(model, others)
    assert objects["0.3"] > 0.7 and objects["0.5"] > 0.5
    assert objects["0.5"] > windows["0.5"] + 0.1
    about = model.record.objects
    assert about.cutouts == 2 * 8 and about.held_out == 16  # of each class the more solid half
    assert "without a drawn box from 80 scenes composed of 16 cutouts" in about.sentence()
    assert wordsight.load(tmp_path / "many").record.objects == about
    # class answers stay
    answers = [
        [(p.top_label, p.probability) for p in one.predict(others.parent, output=None)]
        for one in (classifier, model)
    ]
    assert answers[0] == answers[1]


def test_one_command_learns_classes_and_objects(labelled, tmp_path, monkeypatch):
    learn_in_fewer_steps(monkeypatch, 2, 3)
    monkeypatch.setattr(making, "SCENES", 20)
    monkeypatch.setattr(making, "OF_A_CLASS", 1)
    model = wordsight.train(labelled[0], tmp_path / "m", settings=_settings(objects="many"))
    assert model.object_head is not None and model.class_names == list(THINGS)
    assert (tmp_path / "m" / "plots" / "objects_batch.png").is_file()
    assert wordsight.load(tmp_path / "m").object_head is not None


def test_a_photo_of_anything_else_is_never_cut(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "SCENES", 20)
    monkeypatch.setattr(making, "OF_A_CLASS", 1)
    model = wordsight.train(labelled[0], tmp_path / "cats", positive="cat")
    files = [
        dataclasses.replace(file, label=file.label if file.label == "cat" else "not_cat")
        for file in read_labelled(labelled[0]).images
    ]
    scenes = compose_scenes(model, files, model.embedder, 0, None)
    assert {box.label for image in scenes.images for box in image.boxes} == {"cat"}


def test_a_head_is_judged_on_scenes_of_other_cutouts(labelled, classifier, monkeypatch):
    given = []
    monkeypatch.setattr(
        making,
        "compose",
        lambda cutouts, count, seed, what="scene": (
            given.append(cutouts) or compose(cutouts, 5, 0, what)
        ),
    )
    files = read_labelled(labelled[0]).images
    scenes = compose_scenes(classifier, files, classifier.embedder, 0, None)
    held, known = given
    assert held and known and not {id(one) for one in held} & {id(one) for one in known}
    assert {one.label for one in held} == {one.label for one in known} == {*THINGS}
    assert len(scenes.judging) == 5 and len(scenes.images) == 10


def test_a_cutout_holds_the_object_and_not_the_lawn(labelled, classifier):
    overlaps = []
    for path, box in labelled[1].items():
        photo = open_photo(path)
        encoding = classifier.embedder.encode(photo, feature_map=True)
        weight = classifier.head.weight[classifier.class_names.index(path.parent.name)]
        cutout = cut_out(photo.image, path.parent.name, weight, encoding)
        assert cutout is not None and cutout.pixels.shape[:2] == cutout.mask.shape
        assert cutout.background.shape == (288, 384, 3)
        # it is no larger than the object, and covers most of it
        scale = 384 / 400
        sides = (box[2] - box[0]) * scale, (box[3] - box[1]) * scale
        high, wide = cutout.mask.shape
        overlaps.append(float(iou(np.array([0, 0, wide, high]), np.array([0, 0, *sides]))[0, 0]))
    assert np.median(overlaps) > 0.75


def test_boxes_of_a_scene_hold_what_is_to_be_seen():
    colours = {"red": (250, 10, 10), "blue": (10, 10, 250)}
    cutouts = []
    for label, colour in colours.items():
        disc = np.hypot(*(np.mgrid[:80, :80] - 39.5)) < 38
        pixels = np.broadcast_to(np.array(colour, np.uint8), (80, 80, 3))
        background = np.full((200, 300, 3), 128, np.uint8)
        cutouts.append(Cutout(label, pixels, disc.astype(np.uint8) * 255, True, 1.0, background))
    scenes = compose(cutouts, 40, seed=3)
    again = compose(cutouts, 40, seed=3)
    assert [one.boxes for one in scenes] == [one.boxes for one in again]
    assert max(len(one.boxes) for one in scenes) > 3
    hidden = 0
    for scene in scenes:
        pixels = np.asarray(decode(scene.file.path.read_bytes(1 << 29)).image).astype(int)
        assert pixels.shape[:2] == scene.size
        for box in scene.boxes:
            left, top, right, bottom = map(int, box.xyxy)
            part = pixels[top:bottom, left:right]
            channel = 0 if box.label == "red" else 2
            own = part[..., channel] > part[..., 2 - channel] + 60
            # it reaches all four sides, but for the blur of the JPEG
            rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
            assert rows[0] <= 3 and len(own) - rows[-1] <= 4
            assert columns[0] <= 3 and own.shape[1] - columns[-1] <= 4
            hidden += own.mean() < 0.7  # a whole disc fills 0.785 of its box
            assert own.mean() > SEEN / 2
    assert hidden


def test_what_cannot_be_learned_is_refused_in_one_sentence(labelled, classifier, tmp_path):
    many = _settings(from_model=classifier.record.path, objects="many")
    with pytest.raises(InvalidArgument, match=r"are of another class: bird/0\.jpg"):
        (tmp_path / "bird" / "bird").mkdir(parents=True)
        Image.new("RGB", (60, 60)).save(tmp_path / "bird" / "bird" / "0.jpg")
        wordsight.train(tmp_path / "bird", tmp_path / "m", settings=many)
    few = tmp_path / "few" / "cat"
    few.mkdir(parents=True)
    for number in range(3):
        Image.open(labelled[0] / "cat" / f"{number}.jpg").save(few / f"{number}.jpg")
    with pytest.raises(InvalidArgument, match="cut out of 3 of 3 pictures, and it takes 5"):
        wordsight.train(few.parent, tmp_path / "m", settings=many)
    with pytest.raises(InvalidArgument, match="--boxes ANNOTATIONS or --objects many"):
        wordsight.train(
            labelled[0], tmp_path / "m", settings=_settings(from_model=classifier.record.path)
        )
    assert not (tmp_path / "m").exists()


def test_unreadable_photos_are_listed_and_the_others_learned_from(
    labelled, classifier, tmp_path, monkeypatch
):
    files = read_labelled(labelled[0]).images
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    files = [*files, dataclasses.replace(files[0], path=broken, name="cat/broken.jpg")]
    monkeypatch.setattr(making, "SCENES", 10)
    monkeypatch.setattr(making, "OF_A_CLASS", 1)
    scenes = compose_scenes(classifier, files, classifier.embedder, 0, None)
    ((name, reason),) = scenes.unreadable
    assert name == "cat/broken.jpg" and reason and len(scenes.images) >= 8


def lawn_with_cats(folder, *boxes):
    """Write a lawn of 512 x 300 with cats; return its path."""
    import skimage.data

    lawn = Image.fromarray(skimage.data.grass()).convert("RGB").crop((0, 0, 512, 300))
    cat = Image.fromarray(skimage.data.chelsea()).crop((60, 0, 360, 300))
    for x_min, y_min, x_max, y_max in boxes:
        lawn.paste(cat.resize((x_max - x_min, y_max - y_min)), (x_min, y_min))
    lawn.save(folder / "lawn.png")
    return folder / "lawn.png"


def test_what_a_whole_photo_shows_is_found_as_predict_draws_it(classifier, tmp_path):
    path = lawn_with_cats(tmp_path, (150, 40, 370, 260))
    (seen,) = wordsight.predict([path], classifier, output=None, threshold=0.5)
    assert seen.label == "cat" and seen.box_xyxy is not None
    (found,) = wordsight.detect([path], classifier, output=None, threshold=0.5)
    (whole,) = [d for d in found.detections if list(d.xyxy) == seen.box_xyxy]
    assert whole.label == "cat" and whole.probability == pytest.approx(seen.probability, abs=1e-5)
    # no window of its class lies in it
    rest = [d.xyxy for d in found.detections if d.label == "cat" and d is not whole]
    assert not (covered(np.array(rest).reshape(-1, 4), np.array([seen.box_xyxy])) > 0.5).any()
    # windows of a size that somebody chose are looked through alone
    chosen = wordsight.WindowSettings((140, 140), 35.0)
    (small,) = wordsight.detect([path], classifier, output=None, threshold=0.5, windows=chosen)
    assert not [d for d in small.detections if list(d.xyxy) == seen.box_xyxy]


def test_regions_that_the_heat_map_tells_apart_are_detections_of_their_own(classifier, tmp_path):
    boxes = [(15, 50, 195, 230), (320, 60, 500, 240)]
    path = lawn_with_cats(tmp_path, *boxes)
    # two cats are strange to what learned from one a photo; here they are not
    classifier = dataclasses.replace(classifier, neighbourhood=None)
    nothing = Scan(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, np.float32), 0, np.zeros((1, 1)))
    photo = open_photo(path)
    whole = with_whole(nothing, photo, classifier, 0.5, 0.5)
    assert (
        len(whole.boxes) == 2 and [classifier.class_names[i] for i in whole.labels] == ["cat"] * 2
    )
    assert (iou(whole.boxes, np.array(boxes)).max(axis=0) > 0.5).all()
    # without a threshold nothing gets a label
    assert with_whole(nothing, photo, classifier, None, 0.5) is nothing
