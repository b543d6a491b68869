"""The rule for folders that are written: whole or not at all, one run at a time, never over what
is not ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import wordsight
from wordsight.core.records import LOCK, RECORD
from wordsight.core.result_folder import ResultFolder, building, hold, restore, seal, swap
from wordsight.core.tables import TableWriter
from wordsight.datasets.files import find_images
from wordsight.errors import InvalidArgument, OutputError

SOURCE = Path(wordsight.__file__).parent
MARKER = ".wordsight-results"


def seen(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def writer(folder: Path) -> TableWriter:
    return TableWriter(
        folder, "predictions", ("file_name",), ("images",), MARKER, lambda row: [row["picture"]]
    )


def run(folder: Path, *names: str) -> None:
    """Write results about these images, as a whole run."""
    tables = writer(folder)
    try:
        for name in names:
            path = tables.reserve(f"images/{name}", ".jpg")
            tables.write(path, name.encode())
            tables.add({"picture": path}, [[name]])
        tables.finish()
    finally:
        tables.close()


@contextmanager
def another_process(code: str, folder: Path):
    """Run code with `folder` in a process of its own, until it prints a line."""
    begun = "import sys, time; from pathlib import Path; folder = Path(sys.argv[1])\n"
    with subprocess.Popen(
        [sys.executable, "-c", begun + code, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


HOLDS = """
from wordsight.core.result_folder import ResultFolder
with ResultFolder(folder).locked():
    print("ready", flush=True)
    time.sleep(60)
"""
BUILDS = """
from wordsight.core.result_folder import building
with building(folder) as new:
    (new / "half").touch()
    print("ready", flush=True)
    time.sleep(60)
"""
SWAPS = """
import os
from wordsight.core.result_folder import building, swap
print("ready", flush=True)
rename = os.replace
def killed(source, target):
    if os.path.basename(source) == "new":
        os._exit(9)
    rename(source, target)
os.replace = killed
with building(folder) as new:
    swap(new, folder)
"""
DRAWS = """
from wordsight.core.tables import TableWriter
tables = TableWriter(folder, "predictions", ("file_name",), ("images",), ".wordsight-results",
                     lambda row: [row["picture"]])
path = tables.reserve("images/new", ".jpg")
tables.write(path, b"half a run")
tables.add({"picture": path}, [["new"]])
print("ready", flush=True)
time.sleep(60)
"""


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "r").write_text("mine")
    with pytest.raises(InvalidArgument, match=r"r' is a file; results need a folder"):
        ResultFolder(tmp_path / "r").claim(["images"])
    with pytest.raises(InvalidArgument, match=r"^Not r!$"):
        ResultFolder(tmp_path / "r", is_file="Not {folder.name}!").claim()


def test_what_is_not_ours_is_refused_and_the_rest_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    ResultFolder(tmp_path, "ours").write([("a.csv", b"1"), ("b/c.png", b"2")])
    ResultFolder(tmp_path, "ours").claim(["a.csv", "b/c.png", "new"])
    with pytest.raises(InvalidArgument, match=r"a\.csv' is the result of another command"):
        ResultFolder(tmp_path, "others").claim(["a.csv"])
    with pytest.raises(InvalidArgument, match=r"notes\.txt' was not written by wordsight"):
        ResultFolder(tmp_path, "ours").claim(["a.csv", "notes.txt"])
    (tmp_path / "a.csv").write_text("1, and a note")
    with pytest.raises(InvalidArgument, match=r"a\.csv' was not written by wordsight, or was cha"):
        ResultFolder(tmp_path, "ours").claim(["a.csv"])
    (tmp_path / "masks").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidArgument, match="masks' was not written"):
        ResultFolder(tmp_path).claim(["masks"])
    with pytest.raises(InvalidArgument, match=r"a\.csv' was not written"):
        ResultFolder(tmp_path, "ours").write([("a.csv", b"3")])
    assert seen(tmp_path).items() >= {"a.csv": b"1, and a note", "notes.txt": b"mine"}.items()


def test_only_a_folder_without_a_record_is_adopted(tmp_path):
    folder = ResultFolder(tmp_path, adopt=lambda path: path.suffix == ".ours", not_ours="{name}!")
    folder.claim()
    (tmp_path / "a.ours").write_text("1")
    (tmp_path / LOCK).touch()
    folder.claim()
    (tmp_path / "b.txt").touch()
    with pytest.raises(InvalidArgument, match=r"^b\.txt!$"):
        folder.claim()
    folder.write([("a.ours", b"2")])
    (tmp_path / "new.ours").touch()
    with pytest.raises(InvalidArgument, match=r"^new\.ours!$"):
        ResultFolder(tmp_path, adopt=lambda _: True, not_ours="{name}!").claim(["new.ours"])


@pytest.mark.parametrize(("lines", "ours"), [("heatmaps\nimages\n", True), ("heatmaps\n", False)])
def test_folders_that_0_1_0_marked_are_ours(tmp_path, lines, ours):
    (tmp_path / MARKER).write_text(lines)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "old.jpg").write_bytes(b"old")
    (tmp_path / "predictions.csv").write_bytes(b"file_name\nold\n")
    (tmp_path / "predictions.jsonl").write_text('{"picture": "images/old.jpg"}\n')
    if not ours:
        with pytest.raises(InvalidArgument, match="images' was not written"):
            run(tmp_path, "a")
        return
    run(tmp_path, "a")
    drawn = {name for name in seen(tmp_path) if name.startswith("images")}
    assert drawn == {"images/a.jpg"}


@pytest.mark.parametrize("name", [RECORD, LOCK])
def test_a_file_that_has_the_name_of_one_of_ours_stays(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InvalidArgument, match="is in the way and was not written by wordsight"):
        run(tmp_path, "a")
    assert seen(tmp_path) == {name: b"mine"}


def test_a_changed_image_stays_and_the_new_one_is_drawn_beside_it(tmp_path):
    run(tmp_path, "a", "b")
    (tmp_path / "images" / "a.jpg").write_bytes(b"cropped")
    (tmp_path / "images" / "c.jpg").write_bytes(b"mine")
    run(tmp_path, "a", "c")
    assert {n: c for n, c in seen(tmp_path).items() if n.startswith("images")} == {
        "images/a.jpg": b"cropped",
        "images/a~.jpg": b"a",
        "images/c.jpg": b"mine",
        "images/c~.jpg": b"c",
    }


def test_a_file_that_comes_while_a_run_goes_on_stays(tmp_path):
    tables = writer(tmp_path)
    path = tables.reserve("images/a", ".jpg")
    tables.write(path, b"ours")
    (tmp_path / "images").mkdir()
    (tmp_path / path).write_bytes(b"mine")
    with pytest.raises(InvalidArgument, match="was not written by wordsight"):
        tables.finish()
    tables.close()
    assert seen(tmp_path) == {path: b"mine"}


def test_a_second_process_is_refused_and_a_killed_one_lets_go(tmp_path):
    folder = tmp_path / "r"
    with another_process(HOLDS, folder) as process:
        said = f"^Another run is writing to '{folder}'. Wait for it, or choose another folder"
        with pytest.raises(InvalidArgument, match=said), ResultFolder(folder).locked():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert seen(folder) == {LOCK: b""}  # what a killed run leaves
    assert ResultFolder(folder).names() == []
    with ResultFolder(folder).locked():
        assert (folder / LOCK).exists()
    assert seen(folder) == {}


def test_a_second_run_of_the_same_process_is_refused_until_the_first_ends(tmp_path):
    tables = writer(tmp_path)
    with pytest.raises(InvalidArgument, match="Another run is writing"):
        writer(tmp_path)
    tables.close()
    run(tmp_path, "a")
    with pytest.raises(KeyboardInterrupt), hold(tmp_path):
        raise KeyboardInterrupt
    assert set(seen(tmp_path)) == {RECORD, "images/a.jpg", "predictions.csv", "predictions.jsonl"}


def test_where_no_lock_can_be_had_a_run_goes_on(tmp_path):
    (tmp_path / LOCK).mkdir()  # nothing here can be opened as a lock
    run(tmp_path, "a")
    assert (tmp_path / "images" / "a.jpg").read_bytes() == b"a"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="Can't write to"),
        ResultFolder(tmp_path / "file" / "r").locked(),
    ):
        pass


def test_the_lock_of_a_killed_run_is_no_data(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / LOCK).touch()
    found = find_images([tmp_path])
    assert [image.name for image in found.images] == ["a.png"] and not found.skipped


def test_an_interrupted_run_leaves_the_earlier_results_whole(tmp_path):
    run(tmp_path, "a", "b")
    before = seen(tmp_path)
    tables = writer(tmp_path)
    tables.write(tables.reserve("images/a", ".jpg"), b"other")
    tables.add({"picture": "images/a.jpg"}, [["a"]])
    tables.close()
    assert seen(tmp_path) == before


def test_a_killed_run_leaves_the_earlier_results_whole_and_the_next_one_clears_up(tmp_path):
    run(tmp_path, "a", "b")
    before = seen(tmp_path)
    with another_process(DRAWS, tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = seen(tmp_path)
    del before[RECORD]
    assert before.items() <= left.items() and any(name.endswith("/images/new.jpg") for name in left)
    run(tmp_path, "c")
    after = seen(tmp_path)
    assert set(after) == {RECORD, "images/c.jpg", "predictions.csv", "predictions.jsonl"}


def test_stale_files_go_and_those_of_others_stay(tmp_path):
    folder, outside = tmp_path / "r", tmp_path / "outside"
    outside.mkdir()
    (outside / "x.jpg").write_bytes(b"mine")
    run(folder, "a", "b")
    (folder / "images" / "mine.jpg").write_bytes(b"mine")
    (folder / "notes.jpg").write_bytes(b"mine")
    (folder / "images" / "link").symlink_to(outside)
    run(folder, "b")
    assert not (folder / "images" / "a.jpg").exists()
    assert (folder / "images" / "b.jpg").read_bytes() == b"b"
    for path in ("images/mine.jpg", "notes.jpg", "images/link/x.jpg"):
        assert (folder / path).read_bytes() == b"mine"


def test_files_are_replaced_and_those_that_are_lacking_go(tmp_path):
    ResultFolder(tmp_path, "one").write([("a.csv", b"1"), ("b.csv", b"1")])
    ResultFolder(tmp_path, "two").write([("d.csv", b"1")])
    (tmp_path / "c.csv").write_bytes(b"mine")
    ResultFolder(tmp_path, "one").write([("b.csv", b"2")])
    left = seen(tmp_path)
    del left[RECORD]
    assert left == {"b.csv": b"2", "c.csv": b"mine", "d.csv": b"1"}


def test_a_record_that_names_others_files_is_no_leave_to_remove_them(tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")
    folder = tmp_path / "r"
    ResultFolder(folder, "one").write([("a.csv", b"1")])
    sha = hashlib.sha256(b"mine").hexdigest()
    with open(folder / RECORD, "a", encoding="utf-8") as record:
        for line in ({"name": "../mine", "by": "one", "sha256": sha}, {"building": "../mine"}):
            record.write(json.dumps(line) + "\n")
        record.write('{"name": "a.csv", "cut sho')
    ResultFolder(folder, "one").write([("b.csv", b"2")])
    assert (tmp_path / "mine").read_bytes() == b"mine" and not (folder / "a.csv").exists()


def test_a_folder_is_swapped_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "m"
    for content in (b"1", b"2"):
        with building(target) as hidden:
            (hidden / "weights").write_bytes(content)
            swap(hidden, target)
        assert seen(tmp_path) == {"m/weights": content}
    with pytest.raises(KeyboardInterrupt), building(target) as hidden:
        (hidden / "weights").write_bytes(b"half")
        raise KeyboardInterrupt
    assert seen(tmp_path) == {"m/weights": b"2"} and len(list(tmp_path.iterdir())) == 1
    rename = os.replace

    def refuse(source, destination):
        if Path(source) == hidden:
            raise OSError("no")
        rename(source, destination)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"), building(target) as hidden:
        (hidden / "weights").write_bytes(b"3")
        swap(hidden, target)
    assert (target / "weights").read_bytes() == b"2"


def test_what_a_killed_run_was_building_is_cleared(tmp_path):
    target, hidden = tmp_path / "m", tmp_path / ".m.wordsight"
    with another_process(BUILDS, target) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (hidden / "new" / "half").exists()
    with building(target) as new:
        assert not any(new.iterdir())
    assert not any(tmp_path.iterdir())


def test_a_folder_that_a_kill_left_between_two_names_is_put_back(tmp_path):
    target = tmp_path / "m"
    target.mkdir()
    (target / "weights").write_bytes(b"1")
    with another_process(SWAPS, target) as process:
        process.wait()
    assert not target.exists()
    assert restore(target) and not restore(target)
    assert (target / "weights").read_bytes() == b"1"


def test_a_folder_of_somebody_else_is_not_built_in(tmp_path):
    hidden = tmp_path / ".m.wordsight"
    (hidden / "old").mkdir(parents=True)
    (hidden / "old" / "mine").write_bytes(b"mine")
    with (
        pytest.raises(InvalidArgument, match="is in the way and was not written"),
        building(tmp_path / "m"),
    ):
        pass
    assert not restore(tmp_path / "m") and seen(hidden) == {"old/mine": b"mine"}


def test_a_sealed_folder_is_ours_until_it_is_changed(tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.png").write_bytes(b"1")
    (tmp_path / "README.md").write_bytes(b"2")
    seal(tmp_path)
    ResultFolder(tmp_path).claim()
    (tmp_path / "README.md").write_bytes(b"my notes")
    with pytest.raises(InvalidArgument, match=r"README\.md' was not written"):
        ResultFolder(tmp_path).claim()


@pytest.mark.parametrize(
    ("words", "rooms"),
    [
        ("filelock", {"core/result_folder.py"}),
        ("fcntl", set()),
    ],
)
def test_the_rule_lives_in_one_room(words, rooms):
    assert rooms == {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if words in path.read_text(encoding="utf-8")
    }
