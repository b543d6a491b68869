"""The rule for folders that are written: whole or not at all, one run at a time, never over what
is not ours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import wordsight
from wordsight.core.result_folder import LOCK, ResultFolder, building, hold, swap
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
        ResultFolder(tmp_path / "r", MARKER).claim(["images"])
    with pytest.raises(InvalidArgument, match=r"^Not r!$"):
        ResultFolder(tmp_path / "r", is_file="Not {folder.name}!").claim()


def test_what_is_not_ours_is_refused_and_the_rest_left_alone(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    folder = ResultFolder(tmp_path, MARKER)
    folder.claim(["heatmaps"])
    with pytest.raises(InvalidArgument, match="images' was there before and is no result"):
        folder.claim(["heatmaps", "images"])
    folder.mark(["heatmaps"])
    with pytest.raises(InvalidArgument, match="images' was there before"):
        ResultFolder(tmp_path, MARKER).claim(["images"])
    folder.mark(["heatmaps", "images"])
    folder.claim(["heatmaps", "images"])
    with pytest.raises(InvalidArgument, match=r"notes\.txt' was there before"):
        ResultFolder(tmp_path, MARKER).claim(["images", "notes.txt"])
    (tmp_path / "masks").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidArgument, match="masks' was there before"):
        folder.claim(["masks"])


@pytest.mark.parametrize(
    ("lines", "ours"), [("heatmaps\nimages\n", True), ("", True), ("heatmaps\n", False)]
)
def test_folders_that_earlier_versions_marked_are_ours(tmp_path, lines, ours):
    (tmp_path / MARKER).write_text(lines)
    (tmp_path / "images").mkdir()
    folder = ResultFolder(tmp_path, MARKER)
    assert folder.is_ours("images") is folder.is_ours("images/cat/1.jpg") is ours


def test_a_folder_may_be_taken_as_a_whole_or_by_its_content(tmp_path):
    folder = ResultFolder(tmp_path, judge=lambda path: path.suffix == ".ours", not_ours="{name}!")
    folder.claim()
    (tmp_path / "a.ours").touch()
    (tmp_path / LOCK).touch()
    folder.claim()
    (tmp_path / "b.txt").touch()
    with pytest.raises(InvalidArgument, match=r"^b\.txt!$"):
        folder.claim()
    with pytest.raises(InvalidArgument, match=r"^b\.txt!$"):
        ResultFolder(tmp_path, "gone", judge=lambda _: False, not_ours="{name}!").claim(["b.txt"])


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
    assert set(seen(tmp_path)) == {MARKER, "images/a.jpg", "predictions.csv", "predictions.jsonl"}


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
    assert before.items() <= left.items() and ".predictions-drawing/images/new.jpg" in left
    run(tmp_path, "c")
    after = seen(tmp_path)
    assert set(after) == {MARKER, "images/c.jpg", "predictions.csv", "predictions.jsonl"}


def test_stale_files_go_and_those_of_others_stay(tmp_path):
    folder, outside = tmp_path / "r", tmp_path / "outside"
    outside.mkdir()
    (outside / "x.jpg").write_bytes(b"mine")
    run(folder, "a", "b")
    (folder / "images" / "mine.jpg").write_bytes(b"mine")
    (folder / "notes.jpg").write_bytes(b"mine")
    (folder / "images" / "link").symlink_to(outside)
    stray = ["images/../notes.jpg", "notes.jpg", "images/link/x.jpg", "../outside/x.jpg"]
    with open(folder / "predictions.jsonl", "a", encoding="utf-8") as table:
        table.writelines(json.dumps({"picture": path}) + "\n" for path in stray)
    run(folder, "b")
    assert not (folder / "images" / "a.jpg").exists()
    assert (folder / "images" / "b.jpg").read_bytes() == b"b"
    for path in ("images/mine.jpg", "notes.jpg", "images/link/x.jpg"):
        assert (folder / path).read_bytes() == b"mine"


def test_files_are_replaced_and_those_that_are_lacking_go(tmp_path):
    folder = ResultFolder(tmp_path, MARKER)
    folder.mark()
    folder.replace({"a.csv": b"1", "b.csv": b"1"}, ("a.csv", "b.csv"))
    (tmp_path / "c.csv").write_bytes(b"mine")
    folder.replace({"b.csv": b"2"}, ("a.csv", "b.csv"))
    assert seen(tmp_path) == {MARKER: b"", "b.csv": b"2", "c.csv": b"mine"}


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
    rename = os.rename

    def refuse(source, destination):
        if Path(source) == hidden:
            raise OSError("no")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="no"), building(target) as hidden:
        (hidden / "weights").write_bytes(b"3")
        swap(hidden, target)
    assert (target / "weights").read_bytes() == b"2"


def test_what_a_killed_run_was_building_is_cleared(tmp_path):
    (tmp_path / ".m-part").mkdir()
    (tmp_path / ".m-part" / "half").touch()
    with building(tmp_path / "m", ".m-part") as hidden:
        assert hidden == tmp_path / ".m-part" and not any(hidden.iterdir())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "rooms"),
    [
        ("filelock", {"core/result_folder.py"}),
        ("fcntl", set()),
        # a clip's sentences end otherwise
        ("was there before and is no result", {"core/result_folder.py", "videos/recorder.py"}),
    ],
)
def test_the_rule_lives_in_one_room(words, rooms):
    assert rooms == {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if words in path.read_text(encoding="utf-8")
    }
