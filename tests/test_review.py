"""Going through doubtful pictures: what is doubtful, and that every decision is on disk at
once, can be taken back and is learned from.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil

import pytest
from PIL import Image

import wordsight
from conftest import draw_shape, write_shapes
from wordsight.core.home import sources_folder
from wordsight.datasets.decisions import REVIEW, ReviewBook
from wordsight.datasets.labelled import read_labelled
from wordsight.errors import InvalidArgument
from wordsight.webapp.review import find_doubts
from wordsight.webapp.workspace import Workspace


def rows(root) -> dict[str, dict]:
    with open(root / "metadata.csv", newline="", encoding="utf-8-sig") as file:
        return {row["file_name"]: row for row in csv.DictReader(file)}


@pytest.fixture
def labelled(tmp_path):
    """Eight discs, eight squares, and a disc among the squares."""
    root = write_shapes(tmp_path / "set", 8)
    draw_shape("disc", 77)[0].save(root / "square" / "wrong.jpg")
    return root


def test_a_wrong_label_is_found_corrected_on_disk_and_learned_from(labelled, tmp_path):
    book = ReviewBook(labelled)
    before = {path: path.read_bytes() for path in labelled.rglob("*.jpg")}
    doubts = find_doubts(book, None, 0.99)
    (wrong,) = [doubt for doubt in doubts if doubt.file_name == "square/wrong.jpg"]
    assert (wrong.kind, wrong.label, wrong.suggestion) == (
        "suspicious",
        "square",
        "disc",
    ) and "mislabelled" in wrong.why
    book.decide("square/wrong.jpg", "changed", "disc")
    table = rows(labelled)
    assert table["square/wrong.jpg"] == {
        "file_name": "square/wrong.jpg",
        "label": "disc",
        REVIEW: "changed",
    }
    # from now on the table says it of every picture
    assert len(table) == 17 and table["disc/000.jpg"]["label"] == "disc"
    assert {image.name: image.label for image in read_labelled(labelled).images}[
        "square/wrong.jpg"
    ] == "disc"
    model = wordsight.train(labelled, tmp_path / "m")
    assert model.record.images == {"disc": 9, "square": 8}
    assert {path: path.read_bytes() for path in labelled.rglob("*.jpg")} == before
    # reviewed, also after a restart
    assert "square/wrong.jpg" not in [
        doubt.file_name for doubt in find_doubts(ReviewBook(labelled), None, 0.99)
    ]


def test_a_rejected_image_is_no_training_image_though_it_lies_in_a_class_folder(labelled, tmp_path):
    book = ReviewBook(labelled)
    book.decide("square/wrong.jpg", "rejected")
    assert (
        rows(labelled)["square/wrong.jpg"]["label"] == "" and book.label("square/wrong.jpg") is None
    )
    assert "square/wrong.jpg" not in {image.name for image in read_labelled(labelled).images}
    draw_shape("disc", 78)[0].save(labelled / "disc" / "new.jpg")  # one added later still counts
    assert "disc/new.jpg" in {image.name for image in read_labelled(labelled).images}
    assert ReviewBook(labelled).label("disc/new.jpg") == "disc"


def test_undo_takes_decisions_back_one_by_one(labelled):
    book = ReviewBook(labelled)
    first = book.decide("square/wrong.jpg", "changed", "disc")
    second = book.decide("square/wrong.jpg", "rejected")
    book.undo(second)
    assert rows(labelled)["square/wrong.jpg"]["label"] == "disc"
    book.undo(first)
    assert rows(labelled)["square/wrong.jpg"] == {
        "file_name": "square/wrong.jpg",
        "label": "square",
        REVIEW: "",
    }
    assert book.counts == {"accepted": 0, "changed": 0, "rejected": 0}
    with pytest.raises(wordsight.errors.InvalidArgument, match="changed again"):
        book.undo(first)


def test_two_people_never_decide_over_one_another(labelled):
    book = ReviewBook(labelled)
    seen = book.state("disc/000.jpg")
    theirs = book.decide("disc/000.jpg", "changed", "square")
    with pytest.raises(wordsight.errors.InvalidArgument, match="Somebody has decided"):
        book.decide("disc/000.jpg", "accepted", "disc", seen)
    assert book.label("disc/000.jpg") == "square"
    text = (
        (labelled / "metadata.csv")
        .read_text()
        .replace("disc/000.jpg,square", "disc/000.jpg,triangle")
    )
    (labelled / "metadata.csv").write_text(text)
    with pytest.raises(wordsight.errors.InvalidArgument, match="changed again"):
        book.undo(theirs)
    assert rows(labelled)["disc/000.jpg"]["label"] == "triangle"


def test_images_without_a_label_are_proposed_one_the_rejected_first(
    shapes_model, other_shapes, tmp_path
):
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(3):
        shutil.copy(other_shapes / "disc" / f"00{i}.jpg", root / f"d{i}.jpg")
    Image.new("RGB", (300, 200), (10, 250, 10)).save(root / "green.png")
    (root / "broken.jpg").write_bytes(b"\xff\xd8")
    model = wordsight.load(shapes_model)
    book = ReviewBook(root, model.class_names)
    doubts = find_doubts(book, model, 0.5)
    assert [doubt.kind for doubt in doubts] == [
        "rejected",
        "pre-labelled",
        "pre-labelled",
        "pre-labelled",
    ] and doubts[0].file_name == "green.png"
    assert [doubt.probability for doubt in doubts[1:]] == sorted(
        doubt.probability for doubt in doubts[1:]
    )
    book.decide("d0.jpg", "accepted", "disc")
    assert rows(root) == {"d0.jpg": {"file_name": "d0.jpg", "label": "disc", REVIEW: "accepted"}}
    assert len(find_doubts(book, model, 0.5)) == 3


def test_columns_of_a_gathered_set_stay_and_changes_by_others_are_not_lost(labelled):
    table = labelled / "metadata.csv"
    lines = "".join(
        f'{k}/{i:03d}.jpg,{k},by,"a, b"\n' for k in ("disc", "square") for i in range(8)
    )
    table.write_text(f"file_name,label,license,creator\n{lines}", encoding="utf-8")
    book = ReviewBook(labelled)
    book.decide("disc/000.jpg", "changed", "square")
    assert rows(labelled)["disc/000.jpg"] == {
        "file_name": "disc/000.jpg",
        "label": "square",
        "license": "by",
        "creator": "a, b",
        REVIEW: "changed",
    }
    table.write_text(
        table.read_text().replace("disc/001.jpg,disc,by", "disc/001.jpg,disc,cc0"), encoding="utf-8"
    )
    os.utime(table, ns=(1, 1))
    book.decide("disc/002.jpg", "accepted", "disc")
    assert (
        rows(labelled)["disc/001.jpg"]["license"] == "cc0"
        and rows(labelled)["disc/000.jpg"]["label"] == "square"
    )


def test_a_disk_that_refuses_leaves_everything_as_it_was(labelled, monkeypatch):
    book = ReviewBook(labelled)
    first = book.decide("disc/000.jpg", "accepted", "disc")
    before = (labelled / "metadata.csv").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wordsight.core.home.os.replace", full)
    with pytest.raises(wordsight.errors.OutputError, match="No space left"):
        book.decide("disc/001.jpg", "changed", "square")
    monkeypatch.undo()
    assert (labelled / "metadata.csv").read_bytes() == before and book.label(
        "disc/001.jpg"
    ) == "disc"
    assert not [path for path in labelled.iterdir() if path.name.endswith(".part")]
    book.undo(first)
    first = book.decide("disc/000.jpg", "rejected")
    before = (labelled / "metadata.csv").read_bytes()
    monkeypatch.setattr("wordsight.core.home.os.replace", full)
    with pytest.raises(wordsight.errors.OutputError, match="No space left"):
        book.undo(first)
    monkeypatch.undo()
    assert (labelled / "metadata.csv").read_bytes() == before and book.label("disc/000.jpg") is None
    book.undo(first)
    assert book.label("disc/000.jpg") == "disc"


@pytest.mark.parametrize(
    ("name", "action", "label"),
    [("../secret.jpg", "accepted", "disc"), ("/etc/passwd", "rejected", None), ("disc/000.jpg",
    "deleted", "disc"), ("disc/000.jpg", "changed", " "),
     ("disc/000.jpg", "changed", "a\nb"), ("disc/000.jpg", "changed", "x" * 101),
     ("disc/000.jpg", "changed", "../secret"), ("disc/000.jpg", "changed", ".."), ("disc/000.jpg",
     "changed", "/etc")],
)  # fmt: skip
def test_nothing_but_decisions_on_images_of_the_folder_is_written(labelled, name, action, label):
    with pytest.raises(wordsight.errors.InvalidArgument):
        ReviewBook(labelled).decide(name, action, label)
    assert not (labelled / "metadata.csv").exists()


def test_links_out_of_the_folder_are_neither_shown_nor_written(labelled, tmp_path):
    secret = tmp_path / "secret.jpg"
    draw_shape("disc", 5)[0].save(secret)
    (labelled / "disc" / "link.jpg").symlink_to(secret)
    assert "disc/link.jpg" not in ReviewBook(labelled).images
    outside = tmp_path / "elsewhere.csv"
    outside.write_text("file_name,label\n")
    (labelled / "metadata.csv").symlink_to(outside)
    with pytest.raises(wordsight.errors.InvalidArgument, match="leads to another folder"):
        ReviewBook(labelled)


@pytest.mark.parametrize(
    "text",
    [
        "label\ndisc\n",
        "file_name,label\n" + "x" * 200_000 + "\n",
        "file_name,label,label\na,b,c\n",
        "file_name,label\na.jpg,x\n./a.jpg,y\n",
    ],
)
def test_a_table_that_is_none_is_refused_and_kept(labelled, text):
    (labelled / "metadata.csv").write_text(text)
    with pytest.raises(wordsight.errors.InvalidArgument, match="Mend it"):
        ReviewBook(labelled)
    assert (labelled / "metadata.csv").read_text() == text


def test_a_folder_of_photos_in_subfolders_is_no_set_of_classes_to_a_model(shapes_model, tmp_path):
    root = tmp_path / "photos"
    (root / "2024").mkdir(parents=True)
    shutil.copytree(write_shapes(tmp_path / "s", 2) / "disc", root / "disc")
    draw_shape("disc", 1)[0].save(root / "2024" / "a.jpg")
    known = wordsight.load(shapes_model).class_names
    assert ReviewBook(root, known).label("disc/000.jpg") == "disc"
    shutil.rmtree(root / "disc")
    assert (
        ReviewBook(root, known).label("2024/a.jpg") is None
        and ReviewBook(root).label("2024/a.jpg") == "2024"
    )


def test_everything_else_in_the_table_stays(labelled):
    table = labelled / "metadata.csv"
    lines = [
        "file_name,license,note,note,review",
        "disc/000.jpg,by,a,b,lovely",
        "gone.jpg,by,,,",
        ",,,,no name",
        ",,,,neither",
    ]
    table.write_text("\n".join(lines) + "\n")
    table.chmod(0o600)
    book = ReviewBook(labelled)
    # a column of the user's own; labels from folders
    assert book.reviewed("disc/000.jpg") is None and book.label("disc/000.jpg") == "disc"
    book.decide("disc/001.jpg", "changed", "square")
    with open(table, newline="") as file:
        found = list(csv.reader(file))
    assert found[0] == ["file_name", "license", "note", "note", "review", "label", REVIEW]
    assert (
        found[1][:5] == ["disc/000.jpg", "by", "a", "b", "lovely"]
        and found[1][5] in ("disc", "more")
        and found[3][4] == "no name"
        and found[4][4] == "neither"
    )
    assert table.stat().st_mode & 0o777 == 0o600
    labels = {image.name: image.label for image in read_labelled(labelled).images}
    assert (
        len(labels) == 17
        and labels["disc/001.jpg"] == "square"
        and labels["square/000.jpg"] == "square"
    )


def test_a_table_by_a_link_within_the_folder_stays_one(labelled):
    (labelled / "real.csv").write_text(
        "file_name,label\ndisc/000.jpg,disc\nsquare/000.jpg,square\n"
    )
    (labelled / "metadata.csv").symlink_to("real.csv")
    ReviewBook(labelled).decide("disc/000.jpg", "rejected")
    assert (labelled / "metadata.csv").is_symlink() and rows(labelled)["disc/000.jpg"][
        "label"
    ] == ""


def test_classes_that_a_model_does_not_know_are_not_lost(labelled):
    book = ReviewBook(labelled, ["disc", "bird"])
    book.decide("disc/000.jpg", "accepted", "disc")
    assert read_labelled(labelled).class_names == ["disc", "square"] and book.class_names == [
        "bird",
        "disc",
        "square",
    ]


def test_names_are_the_same_however_they_are_written(labelled):
    (labelled / "metadata.csv").write_text(
        "file_name,label\n./disc/000.jpg,disc\n./square/000.jpg,square\n"
    )
    ReviewBook(labelled).decide("disc/000.jpg", "changed", "square")
    assert rows(labelled)["./disc/000.jpg"]["label"] == "square" and "disc/000.jpg" not in rows(
        labelled
    )


def test_a_label_never_leads_out_of_the_folder(labelled, tmp_path):
    write_shapes(tmp_path / "secret", 3)
    lines = [
        "file_name,label",
        "disc/000.jpg,..",
        "disc/001.jpg,../secret",
        "disc/002.jpg,.",
        "disc/003.jpg,disc",
        f"disc/004.jpg,{tmp_path / 'secret'}",
    ]
    (labelled / "metadata.csv").write_text("\n".join(lines) + "\n")
    inside = labelled.resolve()
    assert all(
        image.path.resolve().is_relative_to(inside) for image in read_labelled(labelled).images
    )
    assert len(read_labelled(labelled).images) == 5 + 3  # those listed, and the other discs


def test_what_is_listed_without_a_label_is_told(labelled, caplog):
    ReviewBook(labelled).decide("square/wrong.jpg", "rejected")
    with caplog.at_level("INFO", "wordsight"):
        read_labelled(labelled)
    assert "Left out: 1 pictures that 'metadata.csv' lists without a label." in caplog.text


@pytest.fixture
def photos(tmp_path):
    """Photos without labels: discs and squares."""
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(4):
        draw_shape("disc", 900 + number)[0].save(root / f"d{number}.jpg")
        draw_shape("square", 950 + number)[0].save(root / f"s{number}.jpg")
    return root


def test_retraining_remembers_a_class_without_any_correction(shapes, photos, tmp_path, fresh_home):
    model = wordsight.train(shapes, tmp_path / "model").record.path
    page = Workspace(model, photos)
    for number in range(3):
        page.book.decide(f"d{number}.jpg", "changed", "disc")
    page.book.decide("s0.jpg", "rejected")
    name, sentence = page.retrain()
    new = page.viewer(name).model
    assert new.class_names == ["disc", "square"]
    assert new.record.images == {"disc": 15, "square": 12}
    assert "The new model is kept: on 27 pictures" in sentence and "% right" in sentence
    again, _ = page.retrain(name)
    assert page.viewer(again).model.record.images == {"disc": 15, "square": 12}


def test_a_correction_replaces_the_label_learned_from(labelled, tmp_path, fresh_home):
    page = Workspace(wordsight.train(labelled, tmp_path / "model").record.path, labelled)
    page.book.decide("square/wrong.jpg", "changed", "disc")
    name, sentence = page.retrain()
    assert page.viewer(name).model.record.images == {"disc": 9, "square": 8}
    assert "on 17 pictures" in sentence


def test_a_worse_model_is_not_kept(shapes, photos, tmp_path, fresh_home):
    model = wordsight.train(shapes, tmp_path / "model").record.path
    more = write_shapes(tmp_path / "more", 6, seed=300)
    page = Workspace(model, more)
    for number, name in enumerate(page.book.images):  # at random, so that nothing can be learned
        page.book.decide(name, "changed", ("disc", "square")[number // 2 % 2])
    name, sentence = page.retrain()
    before = float(sentence.split("instead of ")[1].split("%")[0])
    after = float(sentence.split("% right")[0].split()[-1])
    assert "The old model stays" in sentence and after < before
    assert page.viewer(name).model.record.path.resolve() == model.resolve()


@pytest.mark.parametrize("noted", [True, False])
def test_without_the_old_pictures_nothing_is_forgotten(noted, shapes, photos, tmp_path, fresh_home):
    data = shutil.copytree(shapes, tmp_path / "data")
    wordsight.train(data, tmp_path / "model")
    if noted:
        shutil.rmtree(data)
    else:  # a model of somebody else, or of an earlier version
        shutil.rmtree(sources_folder())
    page = Workspace(tmp_path / "model", photos)
    page.book.decide("d0.jpg", "changed", "disc")
    before = page.models()
    with pytest.raises(InvalidArgument, match="would make it forget them"):
        page.retrain()
    assert page.models() == before


def test_a_model_that_is_given_away_tells_nothing_of_its_makers_folders(
    shapes, photos, tmp_path, fresh_home
):
    data = shutil.copytree(shapes, tmp_path / "my-secret-folder")
    wordsight.train(data, tmp_path / "model")
    for file in (tmp_path / "model").rglob("*"):
        assert file.is_dir() or b"my-secret-folder" not in file.read_bytes(), file
    assert (tmp_path / "model").rename(tmp_path / "elsewhere")  # and is still known here
    page = Workspace(tmp_path / "elsewhere", photos)
    page.book.decide("d0.jpg", "changed", "disc")
    name, _ = page.retrain()
    assert page.viewer(name).model.record.images == {"disc": 13, "square": 12}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_decisions_keep_the_mark_of_a_table_or_its_lack(labelled, mark):
    table = labelled / "metadata.csv"
    table.write_bytes(mark + b"file_name,label\r\ndisc/000.jpg,disc\r\n")
    for name in ("disc/000.jpg", "disc/001.jpg"):
        ReviewBook(labelled).decide(name, "changed", "square")
    assert table.read_bytes().startswith(mark + b"file_name,label,")
    assert table.read_bytes().count(b"\xef\xbb\xbf") == len(mark) // 3
    table.unlink()
    ReviewBook(labelled).decide("disc/000.jpg", "accepted", "disc")
    assert table.read_bytes().startswith(b"\xef\xbb\xbffile_name,")


def _decide(root, names, label):
    book = ReviewBook(root)
    for name in names:
        book.decide(name, "changed", label)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_lose_none_of_each_others_decisions(tmp_path):
    root = write_shapes(tmp_path / "set", 40)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
    fork = multiprocessing.get_context("fork")
    halves = [(names[::2], "even"), (names[1::2], "odd")]
    workers = [fork.Process(target=_decide, args=(root, *half)) for half in halves]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    given = {name: row["label"] for name, row in rows(root).items() if row[REVIEW]}
    assert given == {name: label for some, label in halves for name in some}
    assert not list(root.glob(".*"))


def test_a_decision_of_another_is_seen_within_one_tick_of_the_disk(labelled):
    first, second = ReviewBook(labelled), ReviewBook(labelled)
    first.decide("disc/000.jpg", "changed", "aaaa")
    assert second.state("disc/000.jpg") == ("aaaa", "changed")
    told = os.stat(first.table)
    first.decide("disc/000.jpg", "changed", "bbbb")
    os.utime(first.table, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert second.state("disc/000.jpg") == ("bbbb", "changed")
