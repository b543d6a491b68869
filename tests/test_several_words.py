"""Several words in one photo, and classes that stand for none of these."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

import wordsight
from wordsight.heatmaps.two_places import together


def words_of_cells(embeddings):
    """Two words: how much of a window is 1 in the first channel, and in the second."""
    return np.clip(embeddings[:, :2], 0, 1)


def test_two_words_count_where_each_has_a_place_of_its_own():
    feature_map = np.zeros((2, 6, 14), np.float32)
    feature_map[0, :, :5] = 1
    assert together(words_of_cells, feature_map).max() == 0  # one alone counts for nothing
    feature_map[1, :, 9:] = 1
    assert together(words_of_cells, feature_map) == pytest.approx([1, 1])
    feature_map[1] = feature_map[0]  # both at one place
    assert together(words_of_cells, feature_map).max() < 0.3
    assert together(words_of_cells, np.ones((2, 2, 2), np.float32)).max() == 0  # only one window


@pytest.fixture(scope="module")
def pairs(data, tmp_path_factory):
    """Twelve cats beside bananas, and eight of each alone."""
    folder = tmp_path_factory.mktemp("pairs")
    cats = sorted((data / "catdog" / "test" / "cat").iterdir())[:20]
    with open(data / "roll.csv", newline="") as file:
        named = [row["file_name"] for row in csv.DictReader(file) if row["words"] == "banana"]
    bananas = [data / name for name in named[:20]]
    for number, (cat, banana) in enumerate(zip(cats[:12], bananas[:12], strict=True)):
        halves = [Image.open(path).convert("RGB").resize((320, 320)) for path in (cat, banana)]
        whole = Image.new("RGB", (640, 320))
        for place, half in enumerate(halves):
            whole.paste(half, (320 * place, 0))
        whole.save(folder / f"both-{number:02}.jpg", quality=92)
    for name, paths in (("one", cats[12:]), ("other", bananas[12:])):
        for number, path in enumerate(paths):
            Image.open(path).convert("RGB").save(folder / f"{name}-{number:02}.jpg")
    return folder


def test_a_cat_beside_a_banana_gets_both(pairs, tmp_path, fresh_home):
    results = wordsight.run("cat,banana,bus", pairs, output=tmp_path / "r")
    found = {one.file_name: one for one in results}
    both = [one for name, one in found.items() if name.startswith("both")]
    named = [one for one in both if {label.label for label in one.labels} == {"cat", "banana"}]
    assert len(named) >= 8  # of 12
    for one in named:
        assert one.label == one.labels[0].label and one.probability == one.labels[0].probability
        middle = {a.label: (a.box_xyxy[0] + a.box_xyxy[2]) / 2 for a in one.labels}
        assert middle["cat"] < 320 < middle["banana"]
        for label in one.labels:
            assert (results.output / label.heatmap).is_file()
            assert (results.output / "images" / label.label / one.file_name).is_file()
    alone = [one for name, one in found.items() if not name.startswith("both")]
    assert all(len(one.labels) <= 1 for one in alone)
    assert results.counts.labelled < sum(results.counts.accepted.values())
    assert "photos with a label (some have several)" in str(results.tables()[0].shown)
    rows = [json.loads(x) for x in (results.output / "predictions.jsonl").read_text().splitlines()]
    assert all(
        set(label) == {"label", "probability", "box_xyxy", "heatmap", "mask"}
        for row in rows
        for label in row["labels"]
    )
    again = wordsight.run("cat,banana,bus", pairs, output=tmp_path / "r", draw=False)
    assert [[label.label for label in one.labels] for one in again] == [
        [label.label for label in found[one.file_name].labels] for one in again
    ]
    assert not list((tmp_path / "r" / "heatmaps").rglob("*.jpg"))

    done = wordsight.prelabel(tmp_path / "r", "label-studio", output=tmp_path / "ls")
    tasks = json.loads((done.output / "tasks.json").read_text())
    choices = [
        result["value"]["choices"]
        for task in tasks
        for result in task["predictions"][0]["result"]
        if result["type"] == "choices"
    ]
    assert sum(len(chosen) == 2 for chosen in choices) == len(named)
    assert 'choice="multiple"' in (done.output / "config.xml").read_text()


def test_classes_that_were_not_asked_for_stand_for_none_of_these(
    shapes, other_shapes, rings, tmp_path, fresh_home
):
    data, photos = tmp_path / "data", tmp_path / "photos"
    for folder, source in ((data, shapes), (photos, other_shapes)):
        folder.mkdir()
        for name in ("disc", "square"):
            (folder / name).symlink_to(source / name)
    for folder, some in ((data, rings[:12]), (photos, rings[12:])):
        (folder / "ring").mkdir()
        for number, image in enumerate(some):
            image.save(folder / "ring" / f"{number}.png")
    results = wordsight.run("disc,square", photos, data=data, output=None, threshold=0.6)
    assert results.class_names == ["disc", "square", "none_of_these"]
    rings_found = [one for one in results if one.file_name.startswith("ring")]
    others = [one for one in results if not one.file_name.startswith("ring")]
    assert all(one.label is None for one in rings_found)
    assert sum(one.status == "none_of_these" for one in rings_found) >= 5
    assert sum(one.label == one.file_name.split("/")[0] for one in others) >= 10
    for one in rings_found:
        if one.status == "none_of_these":
            row = one.to_dict()
            assert (row["probability"], row["probabilities"], row["label"]) == (None,) * 3
    again = wordsight.run("square,disc", photos, output=None, threshold=0.6)  # finds that model
    assert again.class_names == results.class_names


@pytest.fixture
def rings():
    """Eighteen rings on noise."""
    from PIL import ImageDraw

    rng = np.random.default_rng(0)
    made = []
    for _ in range(18):
        image = Image.fromarray(rng.integers(60, 120, (240, 320, 3), dtype=np.uint8))
        x, y, radius = rng.integers(60, 200), rng.integers(60, 140), rng.integers(40, 60)
        box = (int(x - radius), int(y - radius), int(x + radius), int(y + radius))
        ImageDraw.Draw(image).arc(box, 0, 360, fill=(250, 250, 60), width=9)
        made.append(image)
    return made


def test_empty_means_none_of_these_for_words(data, tmp_path, caplog, fresh_home):
    photos = sorted((data / "catdog" / "test" / "cat").iterdir())[:4]
    with caplog.at_level("INFO"):
        results = wordsight.run("cat,dog,empty", photos, output=None)
    assert results.class_names == ["cat", "dog"] and "'empty' means none" in caplog.text
    with pytest.raises(wordsight.errors.InvalidArgument, match="there is no other"):
        wordsight.run("empty,none", photos, output=None)


def test_a_promise_takes_labelled_pictures(data, shapes, other_shapes, fresh_home):
    photos = sorted((data / "catdog" / "test" / "cat").iterdir())[:4]
    with pytest.raises(wordsight.errors.InvalidArgument, match="can promise no precision"):
        wordsight.run("cat,dog", photos, output=None, precision=0.9)
    results = wordsight.run("disc,square", other_shapes, data=shapes, output=None, precision=0.7)
    assert results.note is not None and "At least 70% of labels" in results.note
    with pytest.raises(wordsight.errors.InvalidArgument, match="not both"):
        wordsight.run("cat,dog", photos, output=None, precision=0.9, threshold=0.9)
