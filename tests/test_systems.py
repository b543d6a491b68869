"""What Windows and macOS do differently, as far as it can be shown on another system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

import wordsight
from wordsight.cleaning import setting_aside
from wordsight.core import home, names
from wordsight.core.names import (
    folder_names,
    is_device,
    is_relative,
    on_foreign_share,
    portable,
    safe_name,
)
from wordsight.core.tables import TableWriter
from wordsight.datasets import labelled
from wordsight.gathering.request import folder_name
from wordsight.images import finding


@pytest.mark.parametrize(
    ("name", "posix", "windows"),
    [
        ("cat/1.jpg", True, True),
        ("../1.jpg", False, False),
        ("/etc/passwd", False, False),
        ("C:x", True, False),
        ("C:\\x", True, False),
        ("\\x", True, False),
        ("\\\\host\\share\\x", True, False),
        ("a\\..\\..\\x", True, False),
    ],
)
def test_a_name_stays_below_its_folder_by_the_rules_of_each_system(name, posix, windows):
    assert is_relative(name, PurePosixPath) is posix
    assert is_relative(name, PureWindowsPath) is windows
    assert is_relative(name) is (windows if os.name == "nt" else posix)


def test_undo_takes_no_name_that_leads_outside(tmp_path):
    manifest = {"moved": ["a.jpg", "../b.jpg", "/c.jpg"], "metadata_sha": None}
    (tmp_path / setting_aside.MANIFEST).write_text(json.dumps(manifest))
    assert setting_aside._read_manifest(tmp_path).moved == ["a.jpg"]


@pytest.mark.parametrize(
    ("path", "foreign"),
    [
        (r"\\host\share\1.jpg", True),
        ("//host/share/1.jpg", True),
        (r"\\own\data\1.jpg", False),
        (r"\\OWN\Data\1.jpg", False),
        (r"C:\photos\1.jpg", False),
        (r"photos\1.jpg", False),
    ],
)
def test_shares_of_other_computers_are_told_apart(path, foreign):
    roots = [PureWindowsPath(r"\\own\data\set"), PureWindowsPath(r"C:\photos")]
    assert on_foreign_share(PureWindowsPath(path), roots) is foreign


def test_annotations_never_ask_another_computer_for_a_photo(tmp_path, monkeypatch):
    """Whatever is said to be on a foreign share is not looked up on the disk."""
    asked = []
    is_file, resolve = Path.is_file, Path.resolve
    monkeypatch.setattr(Path, "is_file", lambda self: asked.append(self) or is_file(self))
    monkeypatch.setattr(
        Path, "resolve", lambda self, **how: asked.append(self) or resolve(self, **how)
    )
    for module in (finding, labelled, names):
        monkeypatch.setattr(module, "on_foreign_share", lambda path, _: "host" in str(path))
    there = tmp_path / "host" / "share.jpg"
    assert finding.Pictures((tmp_path,)).find((there,), bare=True) is None
    assert not names.lies_inside(there, tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,label\nhost/share.jpg,cat\n")
    with pytest.raises(wordsight.errors.InvalidArgument, match="outside its folder"):
        labelled._read_csv(tmp_path / "metadata.csv")
    assert asked and not [path for path in asked if "host" in str(path)]


def test_absolute_paths_in_a_table_become_names_below_its_folder(shapes, tmp_path):
    rows = [f"{shapes / kind / '000.jpg'},{kind}" for kind in ("disc", "square")]
    (shapes / "listed.csv").write_text("\n".join(["file_name,label", *rows]))
    try:
        assert [image.name for image in labelled._read_csv(shapes / "listed.csv")[0]] == [
            "disc/000.jpg",
            "square/000.jpg",
        ]
    finally:
        (shapes / "listed.csv").unlink()


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("aux", "aux_"),
        ("CON.jpg", "CON_.jpg"),
        ("nul.tar.gz", "nul_.tar.gz"),
        ("com1", "com1_"),
        ("con .txt", "con_.txt"),
        ("cat.", "cat_"),
        ("cat ", "cat_"),
        ("console", "console"),
        ("com10", "com10"),
        ("cat.jpg", "cat.jpg"),
    ],
)
def test_names_that_windows_keeps_for_itself_are_changed(name, written):
    assert portable(name) == written and portable(written) == written
    assert safe_name(f"a/../{name}/b") == f"a/{written}/b"
    assert not is_device(written)


def test_folders_of_classes_can_be_made_everywhere():
    folders = folder_names(["aux", "a:b", "A_b", "cat."])
    assert len({folder.casefold() for folder in folders.values()}) == 4
    assert folders["aux"] == "aux_" and folders["cat."] == "cat"
    assert folder_name("aux") == "+aux+" and folder_name("auxiliary") == "auxiliary"


def test_drawings_differ_by_more_than_case_or_accents(tmp_path):
    tables = TableWriter(
        tmp_path / "r", "t", ["a"], ["images"], marker=".wordsight-results", images_of=lambda _: []
    )
    try:
        names = ["images/A.jpg", "images/a.jpg", "images/\u00e9.jpg", "images/e\u0301.jpg"]
        reserved = [tables.reserve(name, ".jpg") for name in names]
    finally:
        tables.close()
    assert reserved[0] == names[0] and reserved[2] == names[2]
    assert reserved[1] not in names and reserved[3] not in names


@pytest.mark.parametrize("closed_after", [0, 3, 100])
def test_an_open_file_is_replaced_once_it_is_closed(tmp_path, monkeypatch, closed_after):
    """Windows refuses to replace a file that somebody has open, such as a virus scanner."""
    replace, tries = os.replace, []

    def refuses(source, target):
        tries.append(target)
        if len(tries) <= closed_after:
            raise PermissionError(13, "The process cannot access the file", str(target))
        replace(source, target)

    monkeypatch.setattr(home.sys, "platform", "win32")
    monkeypatch.setattr(home, "RETRIES_S", (0.001,) * 6)
    monkeypatch.setattr(os, "replace", refuses)
    (tmp_path / "a").write_bytes(b"old")
    if closed_after < 7:
        home.write_atomic(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"new"
    else:
        with pytest.raises(PermissionError):
            home.write_atomic(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_a_legacy_console_shows_what_it_can(tmp_path, encoding):
    missing = tmp_path / "Łódź ✓ é"
    done = subprocess.run(
        [sys.executable, "-m", "wordsight", "predict", str(missing), "-m", str(tmp_path / "m")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    said = done.stderr.decode(encoding)
    assert done.returncode == 2 and "Traceback" not in said and "No such" in said
    assert b"\xe2\x9c\x93" not in done.stderr  # bytes of another encoding
