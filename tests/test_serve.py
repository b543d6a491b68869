"""The backend for Label Studio: what is answered, what is learned, and what is never asked of whom.

`imitated_studio` stands for Label Studio; test_label_studio runs a real one.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest

import wordsight
from conftest import contents, draw_shape
from imitated_studio import ACCESS, LEGACY, PERSONAL, imitated_studio
from wordsight.errors import InvalidArgument, NotFound, SourceUnavailable, UnreadableImage
from wordsight.labelstudio import studio as studio_module
from wordsight.labelstudio.annotations import read_answers
from wordsight.labelstudio.backend import Backend
from wordsight.labelstudio.interface import read_interface
from wordsight.labelstudio.learning import Lesson, learn, missing
from wordsight.labelstudio.pictures import Picture, Pictures, Places
from wordsight.labelstudio.project import project_key
from wordsight.labelstudio.starting import start_with_model, start_with_words
from wordsight.labelstudio.studio import Studio
from wordsight.labelstudio.suggestions import suggest
from wordsight.metrics.boxes import iou

KEY = "3.1764275543"
CHOICES = """<View><Image name="img" value="$photo"/>
<Choices name="what" toName="img" choice="{choice}">
  <Choice value="Disc"/><Choice value="SQUARE"/><Choice value="bird"/>
</Choices></View>"""
ONE, SEVERAL = CHOICES.format(choice="single"), CHOICES.format(choice="multiple")
BOXES = """<View><Image name="img" value="$photo"/>
<RectangleLabels name="where" toName="img"><Label value="disc"/><Label value="square"/>
</RectangleLabels></View>"""


def jpeg(kind, seed, taken=""):
    """Return a drawn picture as a file's bytes."""
    from PIL import Image

    held, exif = io.BytesIO(), Image.Exif()
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    draw_shape(kind, seed)[0].save(held, "JPEG", quality=92, exif=exif)
    return held.getvalue()


@pytest.fixture
def studio():
    """Label Studio's imitation with eight tasks, discs and squares by turns."""
    with imitated_studio() as running:
        for number in range(1, 9):
            path = f"/data/upload/3/0000000{number}-{number}.jpg"
            running.files[path] = jpeg("disc" if number % 2 else "square", 7000 + number)
            task = {"id": number, "data": {"photo": path}, "annotations": []}
            running.tasks.append({**task, "predictions": [{"result": "not looked at"}]})
        yield running


@pytest.fixture(scope="module")
def start(shapes_model):
    return start_with_model(str(shapes_model))


def backend_of(studio, start, output, local=None, hosts=(), token=LEGACY):
    client = Studio(studio.url, token)
    pictures = Pictures(client, Places.of(local, hosts), start.embedder)
    return Backend(start, client, pictures, output)


def asked(studio, interface=ONE, tasks=None):
    return {
        "project": KEY,
        "label_config": interface,
        "tasks": [
            {"id": task["id"], "data": task["data"], "project": 3}
            for task in (studio.tasks if tasks is None else tasks)
        ],
    }


def annotate_all(studio, numbers=range(1, 9)):
    for number in numbers:
        studio.annotate(number, ["Disc" if number % 2 else "SQUARE"])


# the labeling interface


def test_names_keys_and_aliases_are_read_from_the_interface():
    interface = read_interface(
        """<View><Header value="x"/><Image name="pic" value="$url"/>
        <Choices name="mood" toName="pic"><Choice value="good"/></Choices>
        <Choices name="kind" toName="pic" choice="multiple">
          <Choice value="Kitty" alias="k" predicted_values="cat, tabby"/><Choice value="DOG"/>
        </Choices>
        <RectangleLabels name="box" toName="pic"><Label value="Traffic Light"/></RectangleLabels>
        </View>""",
        ["cat", "dog"],
    )
    assert interface.image_key == "url"
    choices, boxes = interface.choices, interface.rectangles
    assert (choices.from_name, choices.to_name, choices.several) == ("kind", "pic", True)
    assert [choices.label_of(name) for name in ("Tabby", "KITTY", "dog", "bird")] == [
        *("k", "k", "DOG"),
        None,
    ]
    assert boxes.label_of("traffic_light") == "Traffic Light" and boxes.kind == "rectanglelabels"


def test_what_means_anything_else_is_called_as_the_interface_calls_it():
    text = ONE.replace("bird", "none")
    assert read_interface(text).choices.label_of("not_disc") == "none"
    assert read_interface(ONE).choices.label_of("not_disc") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no labeling interface yet"),
        ("", "no labeling interface yet"),
        ("<View></View>", "answers Choices and RectangleLabels on an Image"),
        (
            '<View><Text name="t" value="$t"/><Choices name="c" toName="t">'
            '<Choice value="a"/></Choices></View>',
            "it has Choice, Choices, Text",
        ),
        (ONE.replace('"$photo"', '"photo.jpg"'), "answers Choices"),
        (ONE.replace('toName="img"', 'toName="img" perRegion="true"'), "answers Choices"),
        ("<View>", "can't be read as XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View/>', "declares entities"),
    ],
)
def test_an_interface_that_can_not_be_answered_is_one_sentence(text, said):
    with pytest.raises(InvalidArgument, match=said):
        read_interface(text)


def test_requests_and_webhooks_name_the_same_project():
    assert project_key({"id": 3, "created_at": "2025-11-27T20:32:23.123456Z"}) == KEY
    assert project_key({"id": 3, "created_at": "2025-11-27T22:32:23+02:00"}) == project_key(KEY)
    for told in (None, 3, "", "x", "../1", "1.2.3", {"id": "a"}, {"id": 3}, {"created_at": 1}):
        with pytest.raises(InvalidArgument, match="names no project"):
            project_key(told)


# annotations


def test_truth_goes_first_skipped_ones_do_not_count_and_disagreement_is_listed(studio):
    studio.annotate(1, ["Disc"])
    studio.annotate(1, ["SQUARE"], ground_truth=True)
    studio.annotate(2, ["SQUARE"], was_cancelled=True)
    studio.annotate(3, ["Disc"])
    studio.annotate(3, ["SQUARE"])
    studio.annotate(4, ["Disc", "SQUARE"])
    studio.annotate(5, [])
    studio.annotate(6, ["SQUARE"])
    studio.tasks[6]["annotations"] = [{"result": "broken"}]
    found = read_answers(studio.tasks, read_interface(ONE))
    assert {one.task: set(one.labels) for one in found.answers} == {1: {"SQUARE"}, 6: {"SQUARE"}}
    assert dict(found.unused) == {
        "task 3": "its annotators disagree: Disc and SQUARE",
        "task 4": "is given several choices: Disc, SQUARE",
        "task 5": "is given none of the choices",
        "task 7": "is not written as Label Studio's tasks are",
    }
    several = read_answers(studio.tasks, read_interface(SEVERAL))
    assert {one.task: set(one.labels) for one in several.answers}[4] == {"Disc", "SQUARE"}


def test_pictures_without_boxes_are_learned_from_too(studio):
    def box(*labels):
        value = {"x": 1, "y": 2, "width": 3, "height": 4}
        about = {"from_name": "where", "to_name": "img", "type": "rectanglelabels"}
        results = [{**about, "value": {**value, "rectanglelabels": [one]}} for one in labels]
        other = {**about, "from_name": "another", "value": {"rectanglelabels": ["square"]}}
        return [{"result": [*results, other], "was_cancelled": False}]

    studio.tasks[0]["annotations"] = box("disc", "disc", "square")
    studio.tasks[1]["annotations"] = box()
    studio.tasks[2]["annotations"] = box("no label of the interface")
    found = read_answers(studio.tasks, read_interface(BOXES))
    assert [set(one.labels) for one in found.answers] == [{"disc", "square"}, set(), set()]
    assert not found.unused


# suggestions


def test_suggestions_follow_the_interface_and_doubtful_ones_have_a_low_score(
    studio, start, tmp_path
):
    studio.files[studio.tasks[2]["data"]["photo"]] = jpeg("disc", 1)[:500]  # broken
    rng = np.random.default_rng(0)
    noise, held = rng.integers(0, 255, (200, 300, 3), dtype=np.uint8), io.BytesIO()
    from PIL import Image

    Image.fromarray(noise).save(held, "PNG")
    studio.files[studio.tasks[3]["data"]["photo"]] = held.getvalue()  # unlike what was learned
    told = backend_of(studio, start, tmp_path).predict(asked(studio))
    results = told["results"]
    assert len(results) == 8
    assert {one["model_version"] for one in results} == {told["model_version"]} == {start.version}
    assert results[2]["result"] == results[3]["result"] == []
    assert results[2]["score"] == results[3]["score"] == 0
    for at, one in enumerate(results):
        if at in (2, 3):
            continue
        (result,) = one["result"]
        assert result["value"] == {"choices": ["SQUARE" if at % 2 else "Disc"]}
        assert (result["from_name"], result["to_name"]) == ("what", "img")
        assert one["score"] == result["score"] > 0.9


def test_a_picture_that_can_not_be_had_now_is_asked_for_again(studio, start, tmp_path, caplog):
    caplog.set_level("INFO", "wordsight")
    del studio.files[studio.tasks[0]["data"]["photo"]]
    results = backend_of(studio, start, tmp_path).predict(asked(studio))["results"]
    assert results[0] == [] and len(results[1]["result"]) == 1
    assert "No suggestion for task 1: Label Studio answered 404" in caplog.text


def test_boxes_come_from_heat_maps_in_percent_of_the_upright_picture(studio, start, tmp_path):
    results = backend_of(studio, start, tmp_path).predict(asked(studio, BOXES))["results"]
    overlaps = []
    for number, one in enumerate(results, start=1):
        (result,) = one["result"]
        kind = "disc" if number % 2 else "square"
        assert result["type"] == "rectanglelabels"
        assert result["value"]["rectanglelabels"] == [kind]
        assert (result["original_width"], result["original_height"]) == (320, 240)
        value = result["value"]
        box = [
            *(value["x"] * 3.2, value["y"] * 2.4),
            *((value["x"] + value["width"]) * 3.2, (value["y"] + value["height"]) * 2.4),
        ]
        true = np.array([draw_shape(kind, 7000 + number)[1]], float)
        overlaps.append(float(iou(np.array([box]), true).max()))
    assert np.median(overlaps) > 0.5


def test_unknown_labels_are_said_once(studio, start, tmp_path, caplog):
    caplog.set_level("INFO", "wordsight")
    backend = backend_of(studio, start, tmp_path)
    for _ in range(2):
        backend.predict(asked(studio))
        backend.setup({"project": KEY, "schema": ONE})
    assert caplog.text.count("The model doesn't know bird") == 1
    backend.close()


# learning


def test_a_head_is_learned_kept_apart_and_found_again(studio, start, shapes_model, tmp_path):
    before = contents(shapes_model)
    annotate_all(studio)
    backend = backend_of(studio, start, tmp_path / "out")
    told = backend.train({"project": KEY, "label_config": ONE})
    version = told["model_version"]
    assert version.startswith(f"{start.version}+8.")
    results = backend.predict(asked(studio))["results"]
    assert {one["model_version"] for one in results} == {version}
    assert [one["result"][0]["value"]["choices"] for one in results if one["result"]]
    # fetched once for learning, once for each request
    assert backend.train({"project": KEY, "label_config": ONE})["status"].startswith("Nothing has")
    again = backend_of(studio, start, tmp_path / "out")
    assert again.setup({"project": KEY, "schema": ONE})["model_version"] == version
    assert again.predict(asked(studio))["results"] == results
    assert contents(shapes_model) == before
    kept = wordsight.load(tmp_path / "out" / f"project-{KEY}")
    assert sorted(kept.class_names) == ["Disc", "SQUARE"]
    again.close()


def test_pictures_that_were_read_before_are_not_fetched_again_to_learn(studio, start, tmp_path):
    backend = backend_of(studio, start, tmp_path)
    backend.predict(asked(studio))
    annotate_all(studio)
    studio.asked.clear()
    backend_of(studio, start, tmp_path).train({"project": KEY, "label_config": ONE})
    assert [path.partition("?")[0] for path, _ in studio.asked] == ["/api/tasks"]


def test_the_model_given_stays_if_it_is_better(studio, start, tmp_path):
    for number in range(1, 9):  # two of each, so that there is nothing to learn
        studio.annotate(number, ["Disc" if number < 5 else "SQUARE"])
    backend = backend_of(studio, start, tmp_path)
    told = backend.train({"project": KEY, "label_config": ONE})
    assert told["model_version"] == start.version
    assert told["status"].startswith("What answers now is still the model given: of 8 annotated")
    assert told["status"].endswith("right, the model given 4.")
    assert not (tmp_path / f"project-{KEY}").exists()


def test_the_model_given_stays_as_long_as_it_knows_more_labels(studio, start, tmp_path):
    for number in range(1, 9):
        studio.annotate(number, ["Disc" if number % 2 else "bird"])
    backend = backend_of(studio, start, tmp_path)
    told = backend.train({"project": KEY, "label_config": ONE})
    assert told["model_version"] == start.version
    assert "still the model given, which also knows SQUARE (too few pictures" in told["status"]


def test_too_few_annotations_and_unreadable_ones_are_told_apart(studio, start, tmp_path):
    studio.annotate(1, ["Disc"])
    backend = backend_of(studio, start, tmp_path)
    with pytest.raises(InvalidArgument, match=r"2 pictures each of two labels .* \(so far: Disc 1"):
        backend.train({"project": KEY, "label_config": ONE})
    studio.files.clear()
    studio.tasks[0]["annotations"] = []
    studio.annotate(2, ["Disc"])  # whose picture was never read
    with pytest.raises(SourceUnavailable, match="No annotated picture can be read: Label Studio"):
        backend.train({"project": KEY, "label_config": ONE})


def test_several_labels_a_picture_are_learned_and_written(start, tmp_path):
    """Discs, squares, both and neither."""
    rng = np.random.default_rng(0)
    labels, found = [], []
    pictures = Pictures(Studio(), Places.of(tmp_path, []), start.embedder)
    from PIL import Image

    for number in range(32):
        shown = frozenset(name for bit, name in enumerate(("Disc", "SQUARE")) if number >> bit & 1)
        image = Image.fromarray(rng.integers(90, 150, (240, 640, 3), dtype=np.uint8))
        for side, name in enumerate(("Disc", "SQUARE")):
            if name in shown:
                drawn = draw_shape("disc" if side == 0 else "square", 100 + number)[0]
                image.paste(drawn, (320 * side, 0))
        held = io.BytesIO()
        image.save(held, "PNG")
        (tmp_path / f"{number}.png").write_bytes(held.getvalue())
        one = Picture(pictures, f"/data/local-files/?d={number}.png")
        labels.append(shown)
        found.append(one)
    embeddings = np.stack([one.embedding for one in found])
    interface = read_interface(SEVERAL)
    lesson = Lesson(interface.choices, embeddings[:24], labels[:24], np.arange(24))
    assert missing(lesson) is None
    learned = learn(lesson, start.model, start.embedder)
    assert learned.kept and learned.right >= 20 > learned.before
    learned.model.save(tmp_path / "model")
    again = wordsight.load(tmp_path / "model")
    for model in (learned.model, again):
        right = 0
        for one, shown in zip(found[24:], labels[24:], strict=True):
            results, score = suggest(model, one, interface, 0.5)
            said = {name for result in results for name in result["value"]["choices"]}
            right += said == shown and score > 0.5  # also of a picture that shows neither
        assert right >= 7


@pytest.mark.parametrize("interface", [ONE, SEVERAL])
def test_photos_of_one_event_are_held_out_together(interface, studio, start, tmp_path):
    studio.tasks.clear()
    root = tmp_path / "photos" / "cam 1"
    root.mkdir(parents=True)
    for number in range(1, 21):
        kind, event = "disc" if number % 2 else "square", (number - 1) // 4
        taken = f"2024:05:{event + 1:02} {10 + number % 2}:00:{number:02}"
        data, name = jpeg(kind, 7300 + number, taken), f"{number}.jpg"
        path = f"/data/upload/3/{name}" if number > 12 else f"/data/local-files/?d=cam%201/{name}"
        studio.files[path] = data
        (root / name).write_bytes(data)
        studio.tasks.append({"id": number, "data": {"photo": path}, "annotations": []})
    annotate_all(studio, range(1, 21))
    for number in range(2):  # the second time, by what the cache knows
        backend = backend_of(studio, start, tmp_path / str(number), local=root.parent)
        backend.train({"project": KEY, "label_config": interface})
        backend.predict(asked(studio, interface))
        learned = wordsight.load(tmp_path / str(number) / f"project-{KEY}")
        assert "20 annotated pictures of 10 events" in learned.record.judged_on
        backend.close()


def test_words_answer_before_anything_is_annotated_and_unknown_ones_wait(caplog):
    caplog.set_level("INFO", "wordsight")
    start = start_with_words("cat,wombat pouch,none")
    assert start.model.class_names == ["cat", "not_cat"]
    assert "'wombat pouch' is not known well enough" in caplog.text
    assert start_with_words("qwertz,asdf").model is None
    assert start_with_words("dog").version != start_with_words("cat").version


def test_without_a_known_word_nothing_is_suggested_until_it_was_learned(studio, tmp_path):
    start = start_with_words("qwertz,asdf")
    backend = backend_of(studio, start, tmp_path)
    results = backend.predict(asked(studio))["results"]
    assert all(one["result"] == [] and one["score"] == 0 for one in results)
    annotate_all(studio)
    backend.train({"project": KEY, "label_config": ONE})
    results = backend.predict(asked(studio))["results"]
    assert sum(one["score"] > 0.5 for one in results) >= 6


# where pictures come from


@pytest.fixture
def elsewhere():
    with imitated_studio() as running:
        running.accepted = {None}
        running.files["/cat.jpg"] = jpeg("disc", 1)
        yield running


def pictures_of(studio, start, local=None, hosts=(), token=LEGACY):
    return Pictures(Studio(studio.url, token), Places.of(local, hosts), start.embedder)


def test_pictures_of_label_studio_are_fetched_with_its_token(studio, start):
    pictures, data = pictures_of(studio, start), jpeg("disc", 2)
    studio.files |= {
        "/data/upload/3/a%20b.jpg": data,
        "/data/local-files/?d=far/away.jpg": data,
    }
    for address in (
        "/data/upload/3/a b.jpg",
        "data/upload/3/a%20b.jpg",
        f"{studio.url}/data/upload/3/a%20b.jpg",
        "/data/local-files/?d=far/away.jpg",
    ):
        assert pictures.open(address).data == data
    assert {given for _, given in studio.asked} == {f"Token {LEGACY}"}


def test_local_files_are_read_from_disk_and_never_from_outside(studio, start, tmp_path):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x y.jpg").write_bytes(b"one")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    os.mkfifo(root / "pipe.jpg")
    pictures = pictures_of(studio, start, root)
    assert pictures.open("/data/local-files/?d=a/x%20y.jpg").data == b"one"
    assert not studio.asked
    for name in ("../secret.jpg", "%2e%2e/secret.jpg", "link.jpg", "pipe.jpg", "a", ""):
        with pytest.raises(SourceUnavailable, match="404"):  # asked of Label Studio instead
            pictures.open(f"/data/local-files/?d={name}")
    with pytest.raises(NotFound, match="LOCAL_FILES_DOCUMENT_ROOT"):
        Places.of(tmp_path / "nowhere", [])


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("images/1.jpg", UnreadableImage, "neither a whole address nor a path"),
        ("/etc/passwd", UnreadableImage, "neither a whole address nor a path"),
        ("/data/../api/users", UnreadableImage, "neither a whole address nor a path"),
        ("/data/%2e%2e/api/users", UnreadableImage, "neither a whole address nor a path"),
        ("s3://bucket/a.jpg", SourceUnavailable, r"a cloud storage \(s3://\)"),
        ("gs://bucket/a.jpg", SourceUnavailable, "cloud storage"),
        ("file:///etc/passwd", UnreadableImage, "begins with file://"),
        ("http://169.254.169.254/latest", SourceUnavailable, "--allow-host 169.254.169.254"),
        ("http://localhost:1/a.jpg", SourceUnavailable, "--allow-host localhost"),
        ("http://[::1/a.jpg", UnreadableImage, "can't be read"),
        ("x" * 5000, UnreadableImage, "too long"),
    ],
)
def test_other_addresses_are_refused_without_a_connection(address, error, said, studio, start):
    with pytest.raises(error, match=said):
        pictures_of(studio, start).open(address)
    assert not studio.asked


@pytest.mark.parametrize("data", [None, 7, [], {}, {"photo": None}, {"photo": 7}, {"photo": " "}])
def test_a_task_without_a_picture_is_told(data, studio, start):
    with pytest.raises(UnreadableImage, match="names no picture under 'photo'"):
        pictures_of(studio, start).of({"id": 1, "data": data}, "photo")


def test_another_server_is_asked_only_if_allowed_and_never_gets_the_token(studio, elsewhere, start):
    address = f"{elsewhere.url}/cat.jpg"
    with pytest.raises(SourceUnavailable, match="not Label Studio's own server"):
        pictures_of(studio, start).open(address)
    host = elsewhere.url.removeprefix("http://")
    assert pictures_of(studio, start, hosts=[host]).open(address).data == jpeg("disc", 1)
    assert [given for _, given in elsewhere.asked] == [None]


def test_a_redirect_stays_on_the_same_server(studio, elsewhere, start):
    studio.files |= {
        "/data/upload/3/1.jpg": "/data/upload/3/2.jpg",
        "/data/upload/3/2.jpg": b"two",
        "/data/upload/3/3.jpg": f"{elsewhere.url}/cat.jpg",
        "/data/upload/3/4.jpg": "/data/upload/3/4.jpg",
    }
    host = elsewhere.url.removeprefix("http://")
    pictures = pictures_of(studio, start, hosts=[host])
    assert pictures.open("/data/upload/3/1.jpg").data == b"two"
    with pytest.raises(SourceUnavailable, match="leads on to another server"):
        pictures.open("/data/upload/3/3.jpg")
    with pytest.raises(SourceUnavailable, match="leads on and on"):
        pictures.open("/data/upload/3/4.jpg")
    assert not elsewhere.asked


def test_pictures_are_bounded(studio, start, monkeypatch):
    from wordsight.labelstudio import pictures as module

    monkeypatch.setattr(module, "MAX_PICTURE", 1 << 20)
    studio.files["/data/upload/3/big.jpg"] = b"x" * ((1 << 20) + 1)
    with pytest.raises(SourceUnavailable, match="more than 1 MiB"):
        pictures_of(studio, start).open("/data/upload/3/big.jpg")


# tokens


def test_a_personal_access_token_is_exchanged_and_again_when_it_expires(studio, start):
    pictures = pictures_of(studio, start, token=PERSONAL)
    path = studio.tasks[0]["data"]["photo"]
    pictures.open(path)
    pictures.open(path)
    assert studio.refreshed == 1
    assert {given for _, given in studio.asked} == {None, f"Bearer {ACCESS}"}
    accepted, studio.accepted = studio.accepted, set()
    with pytest.raises(SourceUnavailable, match="refused the access token") as refused:
        pictures.open(path)
    assert studio.refreshed == 2 and PERSONAL not in str(refused.value)
    studio.accepted = accepted
    assert pictures.open(path).data


def test_a_refused_token_is_told_apart_by_whose_it_is(studio, start, tmp_path):
    client = Studio(studio.url)
    pictures = Pictures(client, Places(), start.embedder)
    path = studio.tasks[0]["data"]["photo"]
    with pytest.raises(SourceUnavailable, match="sent no access token, and none was given"):
        pictures.open(path)
    client.introduce(studio.url, "f" * 40)
    with pytest.raises(SourceUnavailable, match="that it sent itself, which new versions"):
        pictures.open(path)
    client.introduce(studio.url, LEGACY)
    assert pictures.open(path).data
    mine = pictures_of(studio, start, token="e" * 40)
    with pytest.raises(SourceUnavailable, match=r"refused the access token\. Make"):
        mine.open(path)


def test_label_studios_own_address_is_believed_on_this_machine_only(studio, elsewhere):
    client = Studio()
    with pytest.raises(InvalidArgument, match=r"--label-studio-url http://ls\.example"):
        client.introduce("http://ls.example.org", LEGACY)
    assert client.url is None and not client.has_token
    client.introduce(studio.url, LEGACY)
    assert client.url == httpx.URL(studio.url)
    given = Studio(studio.url, LEGACY)
    given.introduce(elsewhere.url, "other")  # what was given counts first
    assert given.url == httpx.URL(studio.url) and given._token == LEGACY
    with pytest.raises(InvalidArgument, match="--label-studio-url takes the address"):
        Studio("ftp://ls")
    with pytest.raises(InvalidArgument) as refused:
        Studio("http://me:secret@ls")
    assert "secret" not in str(refused.value)
    with pytest.raises(InvalidArgument, match="one word"):
        Studio(studio.url, "two words")


def test_tasks_come_in_pages_and_another_server_is_told_apart(studio, elsewhere, monkeypatch):
    monkeypatch.setattr(studio_module, "PAGE", 3)
    annotate_all(studio)
    found = Studio(studio.url, LEGACY).tasks(3)
    assert [task["id"] for task in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    elsewhere.accepted = {f"Token {LEGACY}"}
    monkeypatch.setattr(elsewhere, "answer", lambda *_: (200, b"<html>", {}))
    with pytest.raises(SourceUnavailable, match="is no Label Studio: its answer is no JSON"):
        list(Studio(elsewhere.url, LEGACY).tasks(3))
    with pytest.raises(SourceUnavailable, match="can't be reached"):
        list(Studio("http://127.0.0.1:1", LEGACY).tasks(3))


# the running command


@contextlib.contextmanager
def served(tmp_path, *options, env=None):
    """Run the command; yield its address and what it says so far, and end it by Ctrl-C."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "serve.log"
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from wordsight.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve", "--port", str(port), *map(str, options)]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stderr=file, cwd=tmp_path, env={**os.environ, **(env or {})}
        )
    root = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{root}/health")
                break
            time.sleep(0.1)
        yield root, log.read_text
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0 and log.read_text().endswith("Closed.\n")
    finally:
        process.kill()
        process.wait()


def waited(until, seconds=60):
    end = time.monotonic() + seconds
    while not (found := until()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_the_whole_protocol_with_a_webhook_and_a_restart(studio, shapes_model, cli_here, tmp_path):
    options = ("-m", shapes_model, "-o", tmp_path / "out")
    setup = {
        "project": KEY,
        "schema": ONE,
        "hostname": studio.url,
        "access_token": LEGACY,
        "extra_params": None,
    }
    made = "2025-11-27T20:32:23.123456Z"
    webhook = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 3, "created_at": made, "label_config": ONE},
    }
    with served(tmp_path, *options) as (root, said):
        with httpx.Client(base_url=root, timeout=60) as client:
            assert client.get("/health").json()["status"] == "UP"
            first = client.post("/setup", json=setup).json()["model_version"]
            results = client.post("/predict", json=asked(studio)).json()["results"]
            assert len(results) == 8 and results[0]["model_version"] == first
            assert first in client.get("/versions").json()["versions"]
            annotate_all(studio)
            assert client.post("/webhook", json=webhook).json() == {"status": "learning"}
            assert client.post("/webhook", json={"action": "PROJECT_UPDATED"}).status_code == 200
            again = waited(
                lambda: (
                    (now := client.post("/setup", json=setup).json()["model_version"]) != first
                    and now
                )
            )
            assert again and again.startswith(f"{first}+8.")
            bad = client.post("/setup", json={**setup, "schema": "<View/>"})
            assert bad.status_code == 422
            assert bad.reason_phrase.startswith("wordsight answers Choices and RectangleLabels")
            assert "x-wordsight-said" not in bad.headers
            assert client.post("/setup", content=b"[").status_code == 400
            assert client.post("/setup", json={"project": "../x"}).status_code == 422
            assert client.get("/etc/passwd").status_code == 404
            assert client.get("/health", headers={"Host": "evil.example"}).status_code == 421
            assert client.post("/predict", headers={"Origin": "http://evil"}).status_code == 403
        assert LEGACY not in said()
        taken = cli_here("serve", *options, "--port", root.rpartition(":")[2])
        assert taken.returncode == 2 and "Can't listen on 127.0.0.1, port" in taken.stderr
        held = cli_here("serve", *options, "--port", 9099)
        assert held.returncode == 2 and "Another run is writing to" in held.stderr
    with served(tmp_path, *options) as (root, _):
        assert httpx.post(f"{root}/setup", json=setup).json()["model_version"] == again


def test_beyond_this_machine_a_password_is_demanded(shapes_model, tmp_path):
    env = {"WORDSIGHT_TOKEN": "correct-horse"}
    with served(tmp_path, "-m", shapes_model, "--host", "0.0.0.0", env=env) as (root, said):
        assert "user wordsight, password correct-horse" in said()
        assert httpx.get(f"{root}/health").status_code == 401
        told = httpx.get(f"{root}/health", auth=("wordsight", "wrong-horse"))
        assert told.status_code == 401 and "Basic Authentication" in told.text
        assert httpx.get(f"{root}/health", auth=("wordsight", "correct-horse")).status_code == 200
        assert httpx.post(f"{root}/webhook", json={"action": "x"}).status_code == 200


def test_requests_are_bounded_and_nothing_takes_the_backend_down(
    studio, start, tmp_path, monkeypatch
):
    from starlette.testclient import TestClient

    from wordsight.labelstudio import server

    backend = backend_of(studio, start, tmp_path)
    guard = server.BackendGuard(
        server.application(backend), {"testserver"}, None, tmp_path, server.READ, server.WRITE
    )
    client = TestClient(guard)
    whole = client.post("/predict", json=asked(studio))
    assert whole.status_code == 200 and len(whole.json()["results"]) == 8
    for body in ({"tasks": 1}, {"tasks": [1]}, {}, {"project": {}}, {"project": [1]}):
        told = client.post("/predict", json={"project": KEY, "label_config": ONE, **body})
        assert told.status_code == 422, body
    assert client.post("/predict", content="[" * 100_000).status_code == 400
    monkeypatch.setattr(backend, "predict", lambda given: 1 / 0)
    broken = TestClient(
        server.BackendGuard(
            server.application(backend), {"testserver"}, None, tmp_path, server.READ, server.WRITE
        )
    )
    told = broken.post("/predict", json=asked(studio))
    assert told.status_code == 500 and "ZeroDivisionError" in told.json()["error"]
    monkeypatch.setattr(server, "MAX_REQUEST", 1 << 20)
    assert client.post("/predict", content=b" " * ((1 << 20) + 1)).status_code == 413
    backend.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Give either a model (-m models/pets) or words (-c cat,dog)"),
        (("-m", "MODEL", "-c", "cat"), "Give either a model"),
        (("-m", "nowhere"), "No such model: 'nowhere'"),
        (("-m", "MODEL", "-t", "99"), "between 0 and 1"),
        (("-m", "MODEL", "-o", "MODEL"), "is the model itself, which is never changed"),
        (("-m", "MODEL", "--port", "0"), "A port lies between 1 and 65535"),
        (("-m", "MODEL", "--local-files", "nowhere"), "No such folder: 'nowhere'"),
        (("-m", "MODEL", "--allow-host", "http://x"), "--allow-host takes the name of a server"),
        (("-m", "MODEL", "--label-studio-url", "x"), "--label-studio-url takes the address"),
    ],
)
def test_a_wrong_request_is_one_sentence(options, said, shapes_model, cli_here):
    done = cli_here("serve", *[shapes_model if one == "MODEL" else one for one in options])
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
