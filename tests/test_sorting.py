"""Photos in a folder a class: where each goes, that nothing is lost, and what can be taken back."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

import wordsight
from conftest import NULL_IS_REFUSED, killed_before
from wordsight.core.tables import note_photos
from wordsight.datasets.decisions import ReviewBook
from wordsight.errors import InvalidArgument, NotFound
from wordsight.exports import undo_sort
from wordsight.exports.photos import journal as journals
from wordsight.exports.photos.photo_labels import read_photo_labels

SHARES = {"cat": 0.6, "dog": 0.3}
# killed at every third moment, or at every one
STEPS = (3, pytest.param(1, marks=pytest.mark.slow))


def row(name, status="labelled", labels=("cat",), top="cat", probability=0.995, error=None):
    """A row of predictions.jsonl."""
    given = [{"label": label, "probability": probability, "box_xyxy": None} for label in labels]
    return {
        "file_name": name,
        "status": status,
        "label": labels[0] if labels else None,
        "labels": given,
        "top_label": top,
        "probability": probability,
        "probabilities": SHARES if top else None,
        "box_xyxy": None,
        "heatmap": None,
        "mask": None,
        "error": error,
    }


def write_photo(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = f"2024:05:{number % 27 + 1:02d} 10:20:30"
    Image.new("RGB", (8, 8), (number % 256, number // 256, 9)).save(path, exif=exif)


def write_results(root, rows):
    """Write photos and results that speak of them; return the folder of results."""
    for number, one in enumerate(rows):
        write_photo(root / "photos" / one["file_name"], number)
    (root / "results").mkdir(exist_ok=True)
    lines = "".join(json.dumps(one) + "\n" for one in rows)
    (root / "results" / "predictions.jsonl").write_text(lines)
    note_photos(root / "results", "predictions", [str(root / "photos")])
    return root / "results"


ROWS = [
    row("a.jpg"),
    row("deep/a.jpg"),
    row("b.jpg", labels=("dog", "cat")),
    row("c.jpg", "unsure", (), "dog", 0.6),
    row("d.jpg", "none_of_these", (), None, None),
    row("e.jpg", labels=("not_cat",), top="not_cat"),
    row("f.jpg", labels=("a/b",)),
]
WHERE = {
    "a.jpg": "cat/a.jpg",
    "deep/a.jpg": "cat/a (2).jpg",
    "b.jpg": "dog/b.jpg",
    "c.jpg": "_check/dog/c.jpg",
    "d.jpg": "_none/d.jpg",
    "e.jpg": "_none/e.jpg",
    "f.jpg": "a_b/f.jpg",
}


@pytest.fixture
def results(tmp_path):
    folder = write_results(tmp_path, ROWS)
    (tmp_path / "photos" / "deep" / "a.xmp").write_text("mine")
    (tmp_path / "photos" / "deep" / "a.jpg.XMP").write_text("mine too")
    (tmp_path / "photos" / "c.aae").write_text("edits")
    (tmp_path / "photos" / "b.txt").write_text("stays")
    return folder


def tree(*folders):
    """Return every file, link and folder below, with what it holds."""
    return {
        path: os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else 0
        for folder in folders
        for path in sorted(folder.rglob("*"))
    }


def visible(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir() and not path.name.startswith(".")
    }


SIDECARS = {"cat/a (2).xmp", "cat/a (2).jpg.XMP", "_check/dog/c.aae"}


def test_photos_are_copied_into_a_folder_a_class(results, tmp_path):
    before = tree(tmp_path / "photos")
    done = wordsight.sort(results, tmp_path / "new" / "sorted")
    assert dict(done.files) == WHERE and done.complete
    assert done.counts == {"a_b": 1, "cat": 2, "dog": 1, "_check/dog": 1, "_none": 2}
    assert visible(tmp_path / "new" / "sorted") == {*WHERE.values(), *SIDECARS}
    for name, place in WHERE.items():
        photo, copy = tmp_path / "photos" / name, tmp_path / "new" / "sorted" / place
        assert copy.read_bytes() == photo.read_bytes()
        assert copy.stat().st_mtime_ns == photo.stat().st_mtime_ns
    assert tree(tmp_path / "photos") == before
    after = tree(tmp_path / "new")
    again = wordsight.sort(results, tmp_path / "new" / "sorted")
    assert again.files == done.files and again.copied_bytes == 0
    later = tree(tmp_path / "new")
    assert {path for path in later if path.name != journals.JOURNAL} == {
        path for path in after if path.name != journals.JOURNAL
    }
    undone = undo_sort(tmp_path / "new" / "sorted")
    assert len(undone.removed) == 10 and undone.complete
    assert tree(tmp_path / "photos") == before and not (tmp_path / "new").exists()


def test_links_are_relative_and_one_stands_in_each_label_s_folder(results, tmp_path):
    done = wordsight.sort(results, tmp_path / "sorted", how="link")
    assert ("b.jpg", "dog/b.jpg") in done.files and ("b.jpg", "cat/b.jpg") in done.files
    (tmp_path / "stick").mkdir()
    for name in ("photos", "sorted"):  # both go elsewhere together
        (tmp_path / name).rename(tmp_path / "stick" / name)
    for name, place in done.files:
        link = tmp_path / "stick" / "sorted" / place
        assert link.is_symlink() and not os.path.isabs(os.readlink(link))
        assert link.resolve() == tmp_path / "stick" / "photos" / name
    undo_sort(tmp_path / "stick" / "sorted")
    assert not (tmp_path / "stick" / "sorted").exists()
    assert (tmp_path / "stick" / "photos" / "a.jpg").exists()


def test_a_move_is_told_first_then_done_and_taken_back(results, tmp_path):
    before = tree(tmp_path)
    told = wordsight.sort(results, tmp_path / "sorted", how="move", dry_run=True)
    assert dict(told.files) == WHERE and tree(tmp_path) == before
    done = wordsight.sort(results, tmp_path / "sorted", how="move")
    assert dict(done.files) == WHERE
    assert visible(tmp_path / "sorted") == {*WHERE.values(), *SIDECARS}
    assert visible(tmp_path / "photos") == {"b.txt"}
    again = wordsight.sort(results, tmp_path / "sorted", how="move")
    assert sorted(again.files) == sorted(done.files) and again.complete
    undone = undo_sort(tmp_path / "sorted")
    assert len(undone.put_back) == 10 and tree(tmp_path) == before
    with pytest.raises(NotFound, match="Nothing was sorted"):
        undo_sort(tmp_path / "sorted")


def test_what_people_decided_counts_before_what_results_say(results, tmp_path):
    book = ReviewBook(tmp_path / "photos", ["cat", "dog"])
    wordsight.sort(results, tmp_path / "sorted")
    book.decide("c.jpg", "changed", "fox")
    book.decide("d.jpg", "accepted", "cat")
    book.decide("a.jpg", "rejected")
    done = dict(wordsight.sort(results, tmp_path / "sorted").files)
    assert done["c.jpg"] == "fox/c.jpg" and done["d.jpg"] == "cat/d.jpg"
    assert done["a.jpg"] == "_none/a.jpg" and done["deep/a.jpg"] == "cat/a (2).jpg"
    # what lay elsewhere has gone, sidecars too
    sidecars = {*(SIDECARS - {"_check/dog/c.aae"}), "fox/c.aae"}
    assert visible(tmp_path / "sorted") == {*done.values(), *sidecars}
    reviewed = dict(wordsight.sort(tmp_path / "photos", tmp_path / "reviewed").files)
    assert reviewed["c.jpg"] == "fox/c.jpg" and reviewed["b.jpg"] == "_check/b.jpg"
    undo_sort(tmp_path / "sorted")
    undo_sort(tmp_path / "reviewed")


def test_taught_photos_are_sorted_by_their_answers(tmp_path):
    for number, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        write_photo(tmp_path / "photos" / name, number)
    book = ReviewBook(tmp_path / "photos", ["roo", "cow"])
    words = json.dumps({"words": {"roo": True, "cow": True}, "why": "likely", "number": 1})
    told = {"wordsight_review": "changed", "wordsight_answers": words}
    book.note("a.jpg", {"label": "roo", **told})
    none = json.dumps({"words": {"roo": False, "cow": False}, "why": "likely", "number": 2})
    book.note("b.jpg", {"label": "none_of_these", **told, "wordsight_answers": none})
    done = wordsight.sort(tmp_path / "photos", tmp_path / "sorted", how="link")
    assert sorted(name for _, name in done.files) == [
        "_check/c.jpg",
        "_none/b.jpg",
        "cow/a.jpg",
        "roo/a.jpg",
    ]


def test_a_book_that_is_open_says_which_subfolders_are_classes(tmp_path):
    write_photo(tmp_path / "photos" / "2024-05" / "a.jpg", 1)
    write_photo(tmp_path / "photos" / "2024-05" / "b.jpg", 2)
    book = ReviewBook(tmp_path / "photos", ["cat", "dog"])
    book.decide("2024-05/a.jpg", "accepted", "cat")
    done = dict(wordsight.sort(book, tmp_path / "sorted").files)
    assert done == {"2024-05/a.jpg": "cat/a.jpg", "2024-05/b.jpg": "_check/b.jpg"}


def test_a_folder_within_the_photos_may_be_sorted_into(tmp_path):
    write_photo(tmp_path / "photos" / "cat" / "a.jpg", 1)
    write_photo(tmp_path / "photos" / "dog" / "a.jpg", 2)
    inside = tmp_path / "photos" / "sorted"
    for how in ("copy", "move"):
        for _ in range(2):
            done = wordsight.sort(tmp_path / "photos", inside, how=how)
            assert sorted(name for _, name in done.files) == ["cat/a.jpg", "dog/a.jpg"]
        undo_sort(inside)
        assert visible(tmp_path / "photos") == {"cat/a.jpg", "dog/a.jpg"}


def test_what_was_changed_since_stays_and_is_listed(results, tmp_path):
    wordsight.sort(results, tmp_path / "sorted")
    (tmp_path / "sorted" / "cat" / "a.jpg").write_bytes(b"edited")
    (tmp_path / "sorted" / "cat" / "mine.jpg").write_bytes(b"mine")
    undone = undo_sort(tmp_path / "sorted")
    assert undone.kept == [("cat/a.jpg", "changed since")] and not undone.complete
    assert visible(tmp_path / "sorted") == {"cat/a.jpg", "cat/mine.jpg"}
    (tmp_path / "sorted" / "cat" / "a.jpg").unlink()
    assert undo_sort(tmp_path / "sorted").complete
    shutil.rmtree(tmp_path / "sorted")
    wordsight.sort(results, tmp_path / "sorted", how="move")
    (tmp_path / "sorted" / "cat" / "a.jpg").write_bytes(b"edited")
    (tmp_path / "photos" / "b.jpg").write_bytes(b"another")
    kept = dict(undo_sort(tmp_path / "sorted").kept)
    assert kept["cat/a.jpg"] == "changed since" and "another file" in kept["dog/b.jpg"]
    assert (tmp_path / "sorted" / "cat" / "a.jpg").read_bytes() == b"edited"
    assert (tmp_path / "photos" / "b.jpg").read_bytes() == b"another"
    assert (tmp_path / "photos" / "c.jpg").exists()


def test_nothing_of_others_is_overwritten(results, tmp_path):
    (tmp_path / "sorted" / "cat").mkdir(parents=True)
    (tmp_path / "sorted" / "cat" / "a.jpg").write_bytes(b"theirs")
    before = tree(tmp_path)
    for how in ("copy", "link", "move"):
        done = dict(wordsight.sort(results, tmp_path / "sorted", how=how).files)
        assert done["a.jpg"] == "cat/a (2).jpg" and done["deep/a.jpg"] == "cat/a (3).jpg"
        assert (tmp_path / "sorted" / "cat" / "a.jpg").read_bytes() == b"theirs"
        assert undo_sort(tmp_path / "sorted").complete
        assert tree(tmp_path) == before


def test_one_bad_photo_does_not_stop_the_others(tmp_path, cli):
    rows = [*ROWS, row("broken.jpg", "unreadable", (), None, None, "cut off"), row("gone.jpg")]
    results = write_results(tmp_path, rows)
    (tmp_path / "photos" / "gone.jpg").unlink()
    process = cli("sort", results, "-o", tmp_path / "sorted")
    assert process.returncode == 1 and "Not sorted: broken.jpg: cut off" in process.stderr
    assert "Not sorted: gone.jpg: the photo is not there any more" in process.stderr
    assert len(visible(tmp_path / "sorted")) == len(ROWS)


@pytest.mark.parametrize("step", STEPS)
def test_a_move_to_another_disk_copies_first(step, results, tmp_path, monkeypatch):
    before, real = tree(tmp_path), os.rename

    def rename(source, target):
        if Path(source).suffix:
            raise OSError(errno.EXDEV, "another disk")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    for number in range(0, 1000, step):
        wordsight.sort(results, tmp_path / "sorted", how="move")
        assert visible(tmp_path / "sorted") == {*WHERE.values(), *SIDECARS}
        died = killed_before(number, lambda: undo_sort(tmp_path / "sorted"))
        undo_again(tmp_path / "sorted")
        assert tree(tmp_path) == before, number
        if not died:
            break
    assert number > 20


def undo_again(folder):
    """Take back what is left; a killed run may have taken back everything."""
    try:
        undo_sort(folder)
    except NotFound:
        assert not folder.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("how", ["copy", "link", "move"])
def test_killed_before_any_step_nothing_is_lost(how, step, results, tmp_path):
    before = tree(tmp_path)
    contents = [one for one in before.values() if one]
    whole = None
    for number in range(0, 1000, step):
        died = killed_before(number, lambda: wordsight.sort(results, tmp_path / "sorted", how=how))
        now = tree(tmp_path)
        left = [one for one in now.values() if isinstance(one, bytes)]
        assert all(left.count(one) >= contents.count(one) for one in contents), number
        if number % 2:  # the same command goes on
            done = wordsight.sort(results, tmp_path / "sorted", how=how)
            whole = whole or visible(tmp_path / "sorted")
            assert done.complete and visible(tmp_path / "sorted") == whole, number
        undo_again(tmp_path / "sorted")
        assert tree(tmp_path) == before, number
        if not died:
            break
    assert number > 20


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_undo_goes_on(step, results, tmp_path):
    before = tree(tmp_path)
    for number in range(0, 1000, step):
        wordsight.sort(results, tmp_path / "sorted", how="move")
        died = killed_before(number, lambda: undo_sort(tmp_path / "sorted"))
        undo_again(tmp_path / "sorted")
        assert tree(tmp_path) == before, number
        if not died:
            break
    assert number > 10


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["copy", "move"])
def test_killed_at_random_moments_500_files_stay(how, tmp_path):
    labels = ("cat", "dog", "fox", "a:b")
    rows = [row(f"{number % 9}/{number % 7}.jpg/{number}.jpg") for number in range(400)]
    for number, one in enumerate(rows):
        one["label"] = one["labels"][0]["label"] = labels[number % 4]
    results = write_results(tmp_path, rows)
    for number in range(0, 400, 4):
        photo = tmp_path / "photos" / rows[number]["file_name"]
        photo.with_suffix(".xmp").write_text(str(number))
    before = tree(tmp_path)
    line = [sys.executable, "-m", "wordsight", "sort", str(results), "-o", "sorted", f"--{how}"]
    line += ["--yes"] if how == "move" else []
    draw, killed = random.Random(7), 0
    began = time.monotonic()
    subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    whole, took = visible(tmp_path / "sorted"), time.monotonic() - began
    undo_sort(tmp_path / "sorted")
    assert tree(tmp_path) == before
    for _ in range(20):
        with subprocess.Popen(line, cwd=tmp_path, stdout=-3, stderr=-3) as process:
            time.sleep(took * draw.uniform(0.3, 1.0))
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
        if draw.random() < 0.5:
            undo_again(tmp_path / "sorted")
            assert tree(tmp_path) == before
    subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    assert visible(tmp_path / "sorted") == whole and len(whole) == 500 and killed >= 10
    undo_sort(tmp_path / "sorted")
    assert tree(tmp_path) == before


def test_the_command_says_what_it_would_do_and_does_it(results, tmp_path, cli):
    told = cli("sort", results, "-o", tmp_path / "sorted", "--move")
    assert told.returncode == 0 and "Nothing was moved. Add --yes" in told.stdout
    assert "_check/dog/c.jpg" in told.stdout and not (tmp_path / "sorted").exists()
    done = cli("sort", results, "-o", tmp_path / "sorted", "--move", "--yes", "--json")
    assert json.loads(done.stdout)["counts"]["_none"] == 2 and done.returncode == 0
    back = cli("sort", "--undo", "-o", tmp_path / "sorted")
    assert back.returncode == 0 and "Put back: 10 files." in back.stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("results", "-o", "s", "--copy", "--move"), "Leave out the others"),
        (("results", "-o", "s", "--yes"), "Leave out the others"),
        (("-o", "s"), "What is to be sorted is missing"),
        (("none", "-o", "s"), "No such folder"),
        (("empty", "-o", "s"), "holds neither results"),
        (("results", "-o", "photos"), "lie in 'photos' itself"),
        (("results", "-o", "file"), "is a file"),
        (("--undo", "-o", "s"), "Nothing was sorted"),
        (("results", "-o", "s", "--photos", "none"), "not where they were"),
    ],
)
def test_a_wrong_request_is_one_sentence(arguments, part, results, tmp_path, cli_here):
    (tmp_path / "empty").mkdir()
    write_photo(tmp_path / "empty" / "a.jpg", 1)
    (tmp_path / "file").write_text("")
    process = cli_here("sort", *arguments, cwd=tmp_path)
    assert process.returncode == 2 and part in process.stderr
    assert len(process.stderr.splitlines()) == 1 and not (tmp_path / "s").exists()


def test_a_stranger_s_journal_moves_and_removes_nothing(results, tmp_path, monkeypatch):
    wordsight.sort(results, tmp_path / "sorted", how="move")
    before = tree(tmp_path)
    own = os.environ["WORDSIGHT_HOME"]
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path.parent / "another-home"))
    with pytest.raises(InvalidArgument, match="not sorted by this user on this machine"):
        undo_sort(tmp_path / "sorted")
    with pytest.raises(InvalidArgument, match="not sorted by this user on this machine"):
        wordsight.sort(results, tmp_path / "sorted", how="move")
    assert tree(tmp_path) == before
    monkeypatch.setenv("WORDSIGHT_HOME", own)
    assert undo_sort(tmp_path / "sorted").complete
    # a folder that leads elsewhere
    wordsight.sort(results, tmp_path / "sorted")
    (tmp_path / "sorted" / "cat").rename(tmp_path / "elsewhere")
    (tmp_path / "sorted" / "cat").symlink_to(tmp_path / "elsewhere")
    assert {why for _, why in undo_sort(tmp_path / "sorted").kept} == {"changed since"}
    assert (tmp_path / "elsewhere" / "a.jpg").exists()


def test_another_way_into_the_same_folder_is_refused(results, tmp_path):
    wordsight.sort(results, tmp_path / "sorted")
    with pytest.raises(InvalidArgument, match="was sorted with --copy"):
        wordsight.sort(results, tmp_path / "sorted", how="move", dry_run=True)


def test_a_results_folder_that_says_nothing_of_places_needs_photos(results, tmp_path):
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(InvalidArgument, match="--photos"):
        wordsight.sort(results, tmp_path / "sorted")
    done = wordsight.sort(results, tmp_path / "sorted", photos=tmp_path / "elsewhere")
    assert dict(done.files) == WHERE


def sheet_of(path):
    """Return the cells of a workbook's first sheet as (type, text), row by row."""
    name = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(path) as file:
        texts = [
            "".join(one.text or "" for one in item.iter(f"{name}t"))
            for item in ElementTree.fromstring(file.read("xl/sharedStrings.xml"))
        ]
        sheet = ElementTree.fromstring(file.read("xl/worksheets/sheet1.xml"))
    assert not list(sheet.iter(f"{name}f"))  # no formula anywhere
    rows = []
    for line in sheet.iter(f"{name}row"):
        cells = {}
        for cell in line:
            value = cell.find(f"{name}v")
            if value is not None:
                column = "".join(sign for sign in cell.get("r") if sign.isalpha())
                cells[column] = (
                    texts[int(value.text)] if cell.get("t") == "s" else float(value.text)
                )
        rows.append(cells)
    return rows


def test_a_workbook_has_a_row_a_photo_and_a_column_a_class(tmp_path):
    pytest.importorskip("xlsxwriter")
    rows = [*ROWS, row("=1+1.jpg"), row("@x.jpg", labels=("+dog",))]
    results = write_results(tmp_path, rows)
    ReviewBook(tmp_path / "photos", ["cat"]).decide("c.jpg", "changed", "fox")
    done = wordsight.sort(results, tmp_path / "sorted", xlsx=True)
    assert done.spreadsheet == tmp_path / "sorted" / "photos.xlsx"
    sheet = sheet_of(done.spreadsheet)
    assert list(sheet[0].values()) == [
        *("file", "label", "best guess", "status", "chance that it is right"),
        *("time taken", "checked by", "cat", "dog"),
    ]
    by_name = {line["A"]: line for line in sheet[1:]}
    assert by_name["a.jpg"] == {
        **{"A": "a.jpg", "B": "cat", "D": "labelled", "E": 0.995},
        **{"F": pytest.approx(45413.43, abs=0.01), "H": 0.6, "I": 0.3},
    }
    assert by_name["c.jpg"]["B"] == "fox" and by_name["c.jpg"]["G"] == "review"
    assert "E" not in by_name["c.jpg"] and "H" not in by_name["c.jpg"]
    assert set(by_name["d.jpg"]) == {"A", "D", "F"} and by_name["d.jpg"]["D"] == "none_of_these"
    assert by_name["@x.jpg"]["B"] == "+dog" and "=1+1.jpg" in by_name
    first = done.spreadsheet.read_bytes()
    wordsight.sort(results, tmp_path / "sorted", xlsx=True)
    assert done.spreadsheet.read_bytes() == first
    done.spreadsheet.write_bytes(b"mine")
    again = wordsight.sort(results, tmp_path / "sorted", xlsx=True)
    assert again.spreadsheet.name == "photos (2).xlsx" and done.spreadsheet.read_bytes() == b"mine"
    assert undo_sort(tmp_path / "sorted").kept == [("photos.xlsx", "changed since")]


def test_what_was_corrected_in_a_report_counts_before_results(results, tmp_path):
    table = tmp_path / "photos" / "corrections.csv"
    rows = ("a.jpg,none_of_these,yes", "b.jpg,'=fox,yes", "c.jpg,owl,yes", "d.jpg,cat,")
    table.write_text("\n".join(["\ufefffile_name,label,checked", *rows]), encoding="utf-8")
    ReviewBook(tmp_path / "photos", ["cat"]).decide("c.jpg", "changed", "fox")
    labels, _ = read_photo_labels(results)
    by_name = {one.file_name: one for one in labels}
    assert by_name["a.jpg"].status == "none_of_these" and by_name["a.jpg"].checked_by == "report"
    assert by_name["b.jpg"].labels == ("=fox",)
    assert by_name["c.jpg"].labels == ("fox",) and by_name["c.jpg"].checked_by == "review"
    assert by_name["d.jpg"].checked_by == ""
    table.write_text("file_name,label,other\na.jpg,dog,yes\n")  # not a report's
    assert {one.file_name: one for one in read_photo_labels(results)[0]}["a.jpg"].labels == ("cat",)


def test_a_workbook_written_before_a_move_keeps_what_was_known(results, tmp_path):
    pytest.importorskip("xlsxwriter")
    book = ReviewBook(tmp_path / "photos", ["cat"])
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        book.decide(name, "changed", "fox")
    before = tree(tmp_path)
    for source in (results, tmp_path / "photos"):
        done = wordsight.sort(source, tmp_path / "sorted", how="move", xlsx=True)
        first = sheet_of(done.spreadsheet)
        again = wordsight.sort(source, tmp_path / "sorted", how="move", xlsx=True)
        assert sheet_of(again.spreadsheet) == first and len(first) == len(ROWS) + 1
        undo_sort(tmp_path / "sorted")
        assert tree(tmp_path) == before


def test_without_the_extra_one_sentence_names_it(results, tmp_path, monkeypatch):
    monkeypatch.setattr("wordsight.exports.photos.spreadsheet.has_xlsx", lambda: False)
    with pytest.raises(InvalidArgument, match=r"pip install 'wordsight\[xlsx\]'"):
        wordsight.sort(results, tmp_path / "sorted", xlsx=True)
    assert not (tmp_path / "sorted").exists()


def test_the_same_rows_as_csv_begin_no_formula(results, tmp_path):
    from wordsight.exports.photos.photo_labels import read_photo_labels
    from wordsight.exports.photos.spreadsheet import as_csv

    found, _ = read_photo_labels(results)
    rows = list(csv.DictReader(as_csv(found).decode("utf-8-sig").splitlines()))
    assert rows[0]["time taken"] == "2024-05-01 10:20:30" and rows[0]["cat"] == "0.6"
    assert len(rows) == len(ROWS)


@pytest.mark.parametrize("how", ["copy", "link", "move"])
def test_a_class_folder_that_leads_elsewhere_is_left_alone(how, results, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "cat").symlink_to(tmp_path / "elsewhere")
    done = wordsight.sort(results, tmp_path / "sorted", how=how)
    assert {name for name, why in done.skipped if "leads elsewhere" in why} >= {"a.jpg"}
    assert not list((tmp_path / "elsewhere").iterdir())
    assert "dog/b.jpg" in visible(tmp_path / "sorted")


def test_photos_that_a_link_leads_back_to_are_not_lost(results, tmp_path):
    before = tree(tmp_path / "photos")
    wordsight.sort(results, tmp_path / "sorted", how="move")
    photo, moved = tmp_path / "photos" / "a.jpg", tmp_path / "sorted" / "cat"
    os.rename(moved / "a.jpg", photo)
    moved.rename(tmp_path / "kept")
    moved.symlink_to(tmp_path / "photos")
    wordsight.sort(results, tmp_path / "sorted", how="move")
    assert photo.read_bytes() == before[photo]


def test_a_name_whose_suffix_is_all_of_it_gets_a_number(tmp_path):
    name = "a." + "b" * 253
    results = write_results(tmp_path, [row("p/x.jpg"), row("q/x.jpg")])
    for folder in "pq":
        (tmp_path / "photos" / folder / "x.jpg").rename(tmp_path / "photos" / folder / name)
    lines = "".join(json.dumps(row(f"{folder}/{name}")) + "\n" for folder in "pq")
    (results / "predictions.jsonl").write_text(lines)
    done = wordsight.sort(results, tmp_path / "sorted")
    assert done.complete and len(visible(tmp_path / "sorted")) == 2


def test_a_full_disk_keeps_no_half_file(results, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EXDEV, "another disk")

    def fill(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = tree(tmp_path / "photos")
    with monkeypatch.context() as patch:
        patch.setattr(journals.os, "rename", refuse)
        patch.setattr(journals.shutil, "copyfile", fill)
        (tmp_path / "sorted").mkdir()
        done = wordsight.sort(results, tmp_path / "sorted", how="move")
    assert not done.files and "No space left" in done.skipped[0][1]
    left = [path.name for path in (tmp_path / "sorted").rglob("*") if path.is_file()]
    assert left == [journals.JOURNAL] and tree(tmp_path / "photos") == before


@pytest.mark.parametrize("first, second", [("move", "copy"), ("copy", "move"), ("move", "move")])
def test_a_run_that_another_overtook_is_refused(first, second, results, tmp_path, monkeypatch):
    before = tree(tmp_path / "photos")

    def overtaken(*given):
        monkeypatch.undo()
        read = read_photo_labels(*given)
        wordsight.sort(results, tmp_path / "sorted", how=first)
        return read

    monkeypatch.setattr("wordsight.exports.photos.sorting.read_photo_labels", overtaken)
    with pytest.raises(InvalidArgument, match="has sorted into"):
        wordsight.sort(results, tmp_path / "sorted", how=second)
    assert undo_sort(tmp_path / "sorted").complete
    assert tree(tmp_path / "photos") == before


def test_a_read_only_photo_is_on_the_disk_before_it_is_read_only(results, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EXDEV, "another disk")

    def sync(path):  # whoever runs this may write everything
        assert path.stat().st_mode & 0o200

    photo, moved = tmp_path / "photos" / "a.jpg", tmp_path / "moved.jpg"
    photo.chmod(0o444)
    monkeypatch.setattr(journals.os, "rename", refuse)
    monkeypatch.setattr(journals, "sync_file", sync)
    journals.rename(photo, moved)
    assert moved.stat().st_mode & 0o777 == 0o444 and not photo.exists()


def test_photos_on_several_drives_have_no_folder_in_common(results, tmp_path, monkeypatch):
    def refuse(paths):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr("wordsight.exports.photos.photo_labels.os.path.commonpath", refuse)
    assert wordsight.sort(results, tmp_path / "sorted").complete


def test_one_file_that_can_not_go_back_does_not_stop_the_others(results, tmp_path, monkeypatch):
    before = tree(tmp_path / "photos")
    wordsight.sort(results, tmp_path / "sorted", how="move")
    rename = os.rename

    def refuse(source, target):
        if Path(source).name == "b.jpg":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(journals.os, "rename", refuse)
        done = undo_sort(tmp_path / "sorted")
    assert done.kept == [("dog/b.jpg", "Permission denied")] and len(done.put_back) > 5
    assert undo_sort(tmp_path / "sorted").complete and tree(tmp_path / "photos") == before


@pytest.mark.parametrize(
    "line",
    [
        "x\0.jpg,dog,yes",
        *("yes", "a.jpg,,yes", "a.jpg", "/etc/passwd,dog,yes", "x" * 9000),
    ],
)
def test_odd_rows_of_corrections_stop_nothing(line, results, tmp_path):
    columns = "checked" if line == "yes" else "file_name,label,checked"
    table = f"{columns},file_name,label\n" if line == "yes" else f"{columns}\n"
    (tmp_path / "photos" / "corrections.csv").write_text(f"{table}{line}\n")
    if "\0" in line and NULL_IS_REFUSED:
        with pytest.raises(InvalidArgument, match=r"corrections\.csv' can't be read as CSV"):
            wordsight.sort(results, tmp_path / "sorted")
        return
    wordsight.sort(results, tmp_path / "sorted")
    assert visible(tmp_path / "sorted") == {*WHERE.values(), *SIDECARS}


def test_labels_that_are_no_text_and_numbers_beyond_all_bounds(tmp_path):
    results = write_results(tmp_path, [row("a.jpg", labels=("\ud800",))])
    assert wordsight.sort(results, tmp_path / "sorted").files == [("a.jpg", "_/a.jpg")]
    table = results / "predictions.jsonl"
    table.write_text(json.dumps({**row("a.jpg"), "probability": 10**400}) + "\n")
    with pytest.raises(InvalidArgument, match="no row of results"):
        wordsight.sort(results, tmp_path / "again")


def test_decisions_that_can_not_be_read_are_named(results, tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "photos" / "metadata.csv").write_text("file_name,label,wordsight_review\n")
    monkeypatch.setattr("wordsight.exports.photos.photo_labels.read_regular", refuse)
    with pytest.raises(InvalidArgument, match=r"metadata\.csv' can't be read as CSV: Permission"):
        wordsight.sort(results, tmp_path / "sorted")
