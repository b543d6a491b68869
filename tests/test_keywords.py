"""Keywords in sidecars: what is written, that all else stays to the byte, and what can be taken
back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import sidecars
from conftest import killed_before
from test_sorting import STEPS, row, tree, write_photo, write_results
from wordsight.core.tables import note_photos
from wordsight.datasets.decisions import ReviewBook
from wordsight.errors import InvalidArgument, NotFound, OutputError
from wordsight.exports import undo_keywords, write_keywords
from wordsight.exports.photos import keyword_notes, sidecars as placing, xmp, xmp_edit
from wordsight.exports.photos.xmp import UnusableXmp, read_xmp

CAT = xmp_edit.lists_of(["cat"], ["wordsight"])
ROWS = [
    row("new.jpg"),
    row("dark.jpg"),
    row("deep/light.cr2", labels=("dog", "cat")),
    row("digi.jpg", labels=("dog",)),
    row("unsure.jpg", "unsure", (), "cat", 0.6),
    row("none.jpg", "none_of_these", (), None, None),
]


@pytest.fixture
def photos(tmp_path, fresh_home):
    """A library with sidecars of three programs, and results that speak of it."""
    results(tmp_path, ROWS)
    folder = tmp_path / "photos"
    (folder / "dark.jpg.xmp").write_bytes(sidecars.KINDS["darktable"])
    (folder / "deep" / "light.xmp").write_bytes(sidecars.KINDS["lightroom"])
    (folder / "digi.jpg.xmp").write_bytes(sidecars.KINDS["digikam"])
    (folder / "unsure.jpg.xmp").write_bytes(sidecars.KINDS["digikam"])
    return folder


def results(root, rows):
    """Write photos, a raw one under its own suffix, and results that speak of them."""
    plain = [one | {"file_name": one["file_name"].replace(".cr2", ".jpg")} for one in rows]
    folder = write_results(root, plain)
    for one in rows:
        if one["file_name"].endswith(".cr2"):
            raw = root / "photos" / one["file_name"]
            raw.with_suffix(".jpg").rename(raw)
    lines = "".join(json.dumps(one) + "\n" for one in rows)
    (folder / "predictions.jsonl").write_text(lines)
    return folder


def relabelled(root, **labels):
    """Write results with other labels."""
    rows = []
    for one in ROWS:
        stem = Path(one["file_name"]).stem
        rows.append(row(one["file_name"], labels=labels[stem]) if stem in labels else one)
    (root / "results" / "predictions.jsonl").write_text(
        "".join(json.dumps(one) + "\n" for one in rows)
    )


def written(photos):
    return {one.relative_to(photos).as_posix() for one in photos.rglob("*.xmp")}


def test_labels_are_added_to_each_program_s_sidecars_and_taken_back(photos, tmp_path):
    before = tree(photos)
    done = write_keywords(tmp_path / "results")
    assert done.complete and done.sidecars == {"new": 1, "extended": 3} and done.unlabelled == 2
    assert done.counts == {"cat": 3, "dog": 2}
    now = {name: sidecars.keywords((photos / name).read_bytes()) for name in written(photos)}
    assert now["new.jpg.xmp"] == {
        **{"subject": ["cat"], "hierarchy": ["wordsight|cat"], "tags": [], "last": []}
    }
    assert now["dark.jpg.xmp"]["subject"] == ["holiday", "Sweden", "cat"]
    assert now["dark.jpg.xmp"]["hierarchy"] == ["holiday", "places|Sweden", "wordsight|cat"]
    # darktable reads the hierarchy alone where there is one, so the flat ones are in a new one, too
    light = now["deep/light.xmp"]
    assert light["subject"] == ["R&D <day>", "Zoë", "dog", "cat"]
    assert light["hierarchy"] == ["R&D <day>", "Zoë", "wordsight|dog", "wordsight|cat"]
    # digiKam reads the first of its lists that holds anything
    digi = now["digi.jpg.xmp"]
    assert digi["tags"] == digi["last"] == ["people/Ann", "holiday", "wordsight/dog"]
    for name in ("dark.jpg.xmp", "deep/light.xmp", "digi.jpg.xmp"):
        former = before[photos / name]
        assert sidecars.others((photos / name).read_bytes()) == sidecars.others(former)
    after = tree(photos)
    assert {path for path in after if after[path] != before.get(path)} == {
        photos / name for name in written(photos) - {"unsure.jpg.xmp"}
    }
    again = write_keywords(tmp_path / "results")
    assert again.sidecars == {"unchanged": 4} and tree(photos) == after
    undone = undo_keywords(tmp_path / "results")
    assert len(undone.removed) == 1 and len(undone.restored) == 3 and undone.complete
    assert tree(photos) == before and not list(keyword_notes.keywords_folder().iterdir())
    with pytest.raises(NotFound, match="There is nothing to take back"):
        undo_keywords(tmp_path / "results")


def test_other_labels_replace_ours_and_the_user_s_own_stay(photos, tmp_path):
    before = tree(photos)
    write_keywords(tmp_path / "results")
    relabelled(tmp_path, dark=("sea",), new=("sea",), digi=())
    done = write_keywords(tmp_path / "results")
    assert done.sidecars == {"replaced": 2, "unchanged": 1, "cleared": 1}
    dark = sidecars.keywords((photos / "dark.jpg.xmp").read_bytes())
    assert dark["subject"] == ["holiday", "Sweden", "sea"]
    assert dark["hierarchy"][-1] == "wordsight|sea" and "wordsight|cat" not in dark["hierarchy"]
    assert (photos / "digi.jpg.xmp").read_bytes() == before[photos / "digi.jpg.xmp"]
    # results elsewhere speak of the same photos
    shutil.copytree(tmp_path / "results", tmp_path / "later")
    note_photos(tmp_path / "later", "predictions", [str(photos)])
    (tmp_path / "later" / "predictions.jsonl").write_text(json.dumps(row("new.jpg", labels=("x",))))
    write_keywords(tmp_path / "later", prefix="Animals|found")
    new = sidecars.keywords((photos / "new.jpg.xmp").read_bytes())
    assert (new["subject"], new["hierarchy"]) == (["x"], ["Animals|found|x"])
    undo_keywords(tmp_path / "later")
    shutil.rmtree(tmp_path / "results")  # what is noted is not there
    assert undo_keywords(tmp_path / "results").complete
    assert tree(photos) == before


def test_what_people_decided_counts_first(photos, tmp_path):
    book = ReviewBook(photos, ["cat", "dog"])
    book.decide("unsure.jpg", "accepted", "cat")
    book.decide("dark.jpg", "changed", "boat")
    done = write_keywords(tmp_path / "results", prefix="")
    assert {Path(path).name: words for _, path, words, _ in done.files}["dark.jpg.xmp"] == ("boat",)
    found = sidecars.keywords((photos / "unsure.jpg.xmp").read_bytes())
    assert found["hierarchy"][-1] == "cat" and found["tags"][-1] == "cat"
    reviewed = write_keywords(photos)
    assert reviewed.counts == {"boat": 1, "cat": 1}


def test_sidecars_that_others_changed_lose_our_keywords_alone(photos, tmp_path):
    before = tree(photos)
    write_keywords(tmp_path / "results")
    for name in ("new.jpg.xmp", "dark.jpg.xmp", "digi.jpg.xmp"):
        text = (photos / name).read_text(encoding="utf-8")
        text = text.replace("</rdf:Bag>", "<rdf:li>mine</rdf:li></rdf:Bag>", 1)
        (photos / name).write_text(text, encoding="utf-8")
    changed = tree(photos)
    assert write_keywords(tmp_path / "results").sidecars == {"unchanged": 4}
    assert tree(photos) == changed
    relabelled(tmp_path, digi=("boat",))
    assert write_keywords(tmp_path / "results").sidecars == {"replaced": 1, "unchanged": 3}
    digi = sidecars.keywords((photos / "digi.jpg.xmp").read_bytes())
    assert digi["subject"] == ["Ann", "holiday", "boat"] and "wordsight/dog" not in digi["last"]
    undone = undo_keywords(tmp_path / "results")
    assert undone.complete and len(undone.cleaned) == 2
    assert (photos / "deep" / "light.xmp").read_bytes() == before[photos / "deep" / "light.xmp"]
    new = (photos / "new.jpg.xmp").read_bytes()
    assert sidecars.keywords(new)["subject"] == ["mine"] and b"wordsight|" not in new
    dark = sidecars.keywords((photos / "dark.jpg.xmp").read_bytes())
    assert dark["subject"] == ["holiday", "Sweden", "mine"]


def test_a_new_sidecar_says_what_the_photo_s_file_says(tmp_path, fresh_home):
    """Programs that find a sidecar take from it alone what both may say."""
    names = ("digi", "iptc", "flat", "odd", "form")
    folder = results(tmp_path, [row(f"{name}.jpg") for name in names])
    photos = tmp_path / "photos"
    flat = re.sub(r"<lr:h.*</lr:\w+>", "", sidecars.DARKTABLE, flags=re.DOTALL)
    form = sidecars.DARKTABLE.replace("exif:Date", "dc:subject='a' exif:Date")
    packets = {"digi": sidecars.DIGIKAM, "flat": flat, "odd": "<x", "form": form}
    for name, text in packets.items():
        with Image.open(photos / f"{name}.jpg") as image:
            image.save(photos / f"{name}.jpg", xmp=text.encode())
    data = (photos / "iptc.jpg").read_bytes()
    words = b"".join(
        b"\x1c\x02\x19" + len(one).to_bytes(2, "big") + one for one in (b"beach", b"Z\xfcrich")
    )
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(words).to_bytes(4, "big") + words
    segment = b"\xff\xed" + (len(block) + 3).to_bytes(2, "big") + block + b"\0"
    (photos / "iptc.jpg").write_bytes(data[:2] + segment + data[2:])
    before = tree(photos)
    done = write_keywords(folder)
    assert done.complete and done.sidecars == {"new": 5}
    found = {name: sidecars.keywords((photos / f"{name}.jpg.xmp").read_bytes()) for name in names}
    assert found["digi"] == {
        "subject": ["Ann", "holiday", "cat"],
        "hierarchy": ["people|Ann", "holiday", "wordsight|cat"],
        "tags": ["people/Ann", "holiday", "wordsight/cat"],
        "last": ["people/Ann", "holiday", "wordsight/cat"],
    }
    # titles, ratings and the like come along
    digi = (photos / "digi.jpg.xmp").read_bytes()
    assert sidecars.others(digi) == sidecars.others(sidecars.KINDS["digikam"])
    assert found["iptc"]["subject"] == ["beach", "Zürich", "cat"]
    assert found["iptc"]["hierarchy"] == ["beach", "Zürich", "wordsight|cat"]
    assert found["flat"]["hierarchy"] == ["holiday", "Sweden", "wordsight|cat"]
    assert found["odd"]["subject"] == found["form"]["subject"] == ["cat"]
    assert write_keywords(folder).sidecars == {"unchanged": 5}
    assert undo_keywords(folder).complete and tree(photos) == before


def test_photos_that_were_moved_with_their_sidecars_are_known(photos, tmp_path):
    before = {path.relative_to(photos): data for path, data in tree(photos).items()}
    write_keywords(tmp_path / "results")
    photos.rename(tmp_path / "elsewhere")
    photos.mkdir()
    undone = undo_keywords(tmp_path / "results")
    assert len(undone.kept) == 4 and undone.kept[0][1].startswith("is not there, and neither is")
    relabelled(tmp_path, dark=("fox",))
    moved = tmp_path / "elsewhere"
    done = write_keywords(tmp_path / "results", photos=moved)
    assert done.sidecars == {"replaced": 1, "unchanged": 3}
    dark = sidecars.keywords((moved / "dark.jpg.xmp").read_bytes())
    assert dark["subject"] == ["holiday", "Sweden", "fox"]
    moved.rename(tmp_path / "third")
    undone = undo_keywords(tmp_path / "results", photos=tmp_path / "third")
    assert undone.complete and len(undone.restored) == 3
    third = tmp_path / "third"
    assert {path.relative_to(third): data for path, data in tree(third).items()} == before


def test_the_flat_keywords_that_darktable_makes_of_a_hierarchy_go_with_ours(photos, tmp_path):
    write_keywords(tmp_path / "results")
    for name in ("new.jpg.xmp", "dark.jpg.xmp"):
        text = (photos / name).read_text(encoding="utf-8")
        text = text.replace("<rdf:li>cat<", "<rdf:li>wordsight</rdf:li><rdf:li>cat<", 1)
        (photos / name).write_text(text, encoding="utf-8")
    text = (photos / "dark.jpg.xmp").read_text(encoding="utf-8")
    mine = text.replace("<rdf:li>places|Sweden<", "<rdf:li>wordsight|mine<")
    (photos / "dark.jpg.xmp").write_text(mine, encoding="utf-8")
    assert write_keywords(tmp_path / "results").sidecars == {"unchanged": 4}
    assert len(undo_keywords(tmp_path / "results").cleaned) == 2
    assert sidecars.keywords((photos / "new.jpg.xmp").read_bytes())["subject"] == []
    dark = sidecars.keywords((photos / "dark.jpg.xmp").read_bytes())
    assert dark["subject"] == ["holiday", "Sweden", "wordsight"]
    assert dark["hierarchy"] == ["holiday", "wordsight|mine"]


def test_a_keyword_that_is_there_is_not_ours(photos, tmp_path):
    mine = sidecars.DARKTABLE.replace("Sweden", "Cat").replace("places|Cat", "wordsight|CAT")
    (photos / "dark.jpg.xmp").write_text(mine)
    assert write_keywords(tmp_path / "results").sidecars["unchanged"] == 1
    relabelled(tmp_path, dark=("dog",))
    write_keywords(tmp_path / "results")
    assert sidecars.keywords((photos / "dark.jpg.xmp").read_bytes())["subject"] == [
        *("holiday", "Cat", "dog")
    ]
    undo_keywords(tmp_path / "results")
    assert (photos / "dark.jpg.xmp").read_text() == mine


@pytest.mark.parametrize(
    ("there", "goes_to"),
    [
        ({"x.jpg": ""}, ["x.jpg.xmp"]),
        ({"x.jpg": "", "y.jpg": "", "y.xmp": ""}, ["x.xmp"]),  # as the folder's others
        ({"x.jpg": "", "y.jpg": "", "y.xmp": "", "y.jpg.xmp": ""}, ["x.jpg.xmp"]),
        ({"x.jpg": "", "x.xmp": ""}, ["x.xmp"]),
        ({"x.jpg": "", "x.XMP": ""}, ["x.XMP"]),
        ({"x.jpg": "", "x.xmp": "", "x.jpg.xmp": ""}, ["x.jpg.xmp", "x.xmp"]),
        ({"x.jpg": "", "x.cr2": "", "x.xmp": ""}, ["x.jpg.xmp"]),  # it is the raw photo's
        ({"x.jpg": "", "x.cr2": "", "x.xmp": "jpg"}, ["x.xmp"]),
        ({"x.jpg": "", "x.xmp": "CR2"}, ["x.jpg.xmp"]),  # whose photo is elsewhere
        ({"x.jpg": "", "x.png": "", "x.xmp": ""}, []),
        ({"x.jpg": "", "x.png": "", "x.xmp": "", "x.jpg.xmp": ""}, ["x.jpg.xmp"]),
    ],
)
def test_whose_a_sidecar_is(there, goes_to, tmp_path, fresh_home):
    folder = results(tmp_path, [row("x.jpg")])
    for name, extension in there.items():
        if name.lower().endswith(".xmp"):
            said = f'x="{extension}"'.replace("x=", "photoshop:SidecarForExtension=")
            text = sidecars.LIGHTROOM.replace('photoshop:SidecarForExtension="CR2"', 
                                              said if extension else "")  # fmt: skip
            (tmp_path / "photos" / name).write_text(text, encoding="utf-8")
        elif name != "x.jpg":
            (tmp_path / "photos" / name).write_bytes(b"")
    done = write_keywords(folder)
    assert sorted(path.name for _, path, *_ in done.files) == goes_to
    if not goes_to:
        assert done.skipped == [
            ("x.jpg", "the photo shares 'x.xmp' with 'x.png'; it can't be told whose that is")
        ]


def test_what_can_not_be_extended_is_listed_and_left_alone(photos, tmp_path, cli):
    bad = {
        "damaged": "<x:xmpmeta><rdf:RDF>",
        "cut": sidecars.DARKTABLE[:900],
        "entity": "<!DOCTYPE a [<!ENTITY b 'c'>]>" + sidecars.LIGHTROOM,
        "plain": "<a/>",
        "empty": "",
        "attribute": sidecars.DARKTABLE.replace("exif:Date", "dc:subject='a' exif:Date"),
    }
    rows = [row(f"{name}.jpg") for name in (*bad, "link", "locked", "pipe", "a", "gone")]
    folder = results(tmp_path / "more", [*rows, row("torn.jpg", "unreadable", error="cut off")])
    home = tmp_path / "more" / "photos"
    for name, text in bad.items():
        (home / f"{name}.jpg.xmp").write_text(text, encoding="utf-8")
    (home / "link.jpg.xmp").symlink_to(photos / "dark.jpg.xmp")
    (home / "locked.jpg.xmp").write_bytes(sidecars.KINDS["darktable"])
    (home / "locked.jpg.xmp").chmod(0o444)
    os.mkfifo(home / "pipe.jpg.xmp")
    (home / "gone.jpg").unlink()
    before = {path: path.lstat().st_mtime_ns for path in home.iterdir()}
    process = cli("keywords", folder, "--yes", "--json")
    told = json.loads(process.stdout)
    assert process.returncode == 1 and told["sidecars"] == {"new": 1}
    why = {one["file_name"]: one["reason"] for one in told["skipped"]}
    assert why == {
        "damaged.jpg": "'damaged.jpg.xmp' is damaged (line 1: unbound prefix)",
        "cut.jpg": "'cut.jpg.xmp' is damaged (line 23: unclosed token)",
        "entity.jpg": "'entity.jpg.xmp' has a document type, which XMP never has",
        "plain.jpg": "'plain.jpg.xmp' is no XMP: there is no rdf:RDF in it",
        "empty.jpg": "'empty.jpg.xmp' is empty",
        "attribute.jpg": "'attribute.jpg.xmp' keeps dc:subject in a form that takes no more "
        "keywords",
        "link.jpg": "'link.jpg.xmp' is a link, which is left alone",
        "locked.jpg": "'locked.jpg.xmp' is read-only",
        "pipe.jpg": "'pipe.jpg.xmp' can't be read: not a regular file",
        "gone.jpg": "the photo is not there any more",
        "torn.jpg": "cut off",
    }
    assert {path: path.lstat().st_mtime_ns for path in before} == before
    assert set(home.iterdir()) - set(before) == {home / "a.jpg.xmp"}
    assert sidecars.KINDS["darktable"] == (photos / "dark.jpg.xmp").read_bytes()


def test_permissions_stay_and_a_change_meanwhile_counts(photos, tmp_path, monkeypatch):
    path = photos / "dark.jpg.xmp"
    path.chmod(0o640)
    os.utime(path, (1, 1))
    write_keywords(tmp_path / "results")
    assert path.stat().st_mode & 0o777 == 0o640 and path.stat().st_mtime > 1e9
    undo_keywords(tmp_path / "results")
    real = placing.build

    def build(built, data, like):
        real(built, data, like)
        if like == path:
            path.write_text("other")

    monkeypatch.setattr(placing, "build", build)
    done = write_keywords(tmp_path / "results")
    assert done.skipped == [
        ("dark.jpg", "'dark.jpg.xmp' was changed meanwhile; run the same command again")
    ]
    assert path.read_text() == "other"
    monkeypatch.setattr(placing, "build", real)
    path.write_bytes(sidecars.KINDS["darktable"])
    assert undo_keywords(tmp_path / "results").complete
    assert path.read_bytes() == sidecars.KINDS["darktable"]
    assert not list(photos.rglob(".wordsight-*"))


def test_a_folder_that_can_not_be_written_to_is_listed(photos, tmp_path, monkeypatch):
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "deep" and real(path, mode)
    )
    done = write_keywords(tmp_path / "results")
    assert done.skipped == [
        ("deep/light.cr2", "'light.xmp' can't be written: its folder is read-only")
    ]
    monkeypatch.setattr(os, "access", real)
    (keyword_notes.keywords_folder() / keyword_notes.NOTES).write_text("somebody's")
    with pytest.raises(InvalidArgument, match="is damaged"):
        write_keywords(tmp_path / "results")
    shutil.rmtree(keyword_notes.keywords_folder())
    keyword_notes.keywords_folder().write_text("in the way")
    with pytest.raises(OutputError, match="Set WORDSIGHT_HOME"):
        write_keywords(tmp_path / "results")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", STEPS)
def test_killed_before_any_step_nothing_is_lost(step, photos, tmp_path):
    before = tree(photos)
    whole = None
    for number in range(0, 1000, step):
        died = killed_before(number, lambda: write_keywords(tmp_path / "results"))
        for path, data in before.items():
            assert path.is_dir() or path.read_bytes() == data or path.suffix == ".xmp", number
        if number % 2:  # the same command goes on
            assert write_keywords(tmp_path / "results").complete
            whole = whole or tree(photos)
            assert tree(photos) == whole, number
        undo_again(tmp_path / "results")
        assert tree(photos) == before, number
        if not died:
            break
    assert number > 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", STEPS)
def test_a_killed_change_or_undo_goes_on(step, photos, tmp_path):
    before = tree(photos)
    for number in range(0, 1000, step):
        relabelled(tmp_path)
        write_keywords(tmp_path / "results")
        relabelled(tmp_path, new=("fox",), dark=("fox",), digi=())
        died = killed_before(number, lambda: write_keywords(tmp_path / "results"))
        died |= killed_before(number, lambda: undo_keywords(tmp_path / "results"))
        undo_again(tmp_path / "results")
        assert tree(photos) == before, number
        if not died:
            break
    assert number > 10


def undo_again(folder):
    """Take back what is left; a killed run may have taken back everything, or written nothing."""
    try:
        assert undo_keywords(folder).complete
    except NotFound:
        write_keywords(folder)  # which removes half files
        undo_keywords(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments_400_sidecars_stay(tmp_path, fresh_home):
    rows = [row(f"{number % 7}/{number}.jpg") for number in range(400)]
    folder = results(tmp_path, rows)
    photos = tmp_path / "photos"
    kinds = [sidecars.KINDS[name] for name in ("darktable", "lightroom", "digikam")]
    for number in range(0, 400, 2):
        data = kinds[number % 3].replace(b"CR2", b"JPG")
        (photos / rows[number]["file_name"]).with_suffix(".xmp").write_bytes(data)
    before = tree(photos)
    line = [sys.executable, "-m", "wordsight", "keywords", str(folder), "--yes"]
    began = time.monotonic()
    subprocess.run(line, check=True, capture_output=True)
    whole, took = tree(photos), time.monotonic() - began
    undo_keywords(folder)
    assert tree(photos) == before
    draw, killed = random.Random(7), 0
    for _ in range(20):
        with subprocess.Popen(line, stdout=-3, stderr=-3) as process:
            time.sleep(took * draw.uniform(0.3, 1.0))
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
        if draw.random() < 0.5:
            undo_again(folder)
            assert tree(photos) == before
    subprocess.run(line, check=True, capture_output=True)
    assert tree(photos) == whole and killed >= 10
    undo_keywords(folder)
    assert tree(photos) == before


def test_the_command_says_what_it_would_do_and_does_it(photos, tmp_path, cli):
    before = tree(photos)
    told = cli("keywords", tmp_path / "results")
    assert told.returncode == 0 and "Nothing was written. Add --yes" in told.stdout
    assert "3 extended" in told.stdout and tree(photos) == before
    done = cli("keywords", tmp_path / "results", "--yes", "--json")
    assert json.loads(done.stdout)["sidecars"] == {"new": 1, "extended": 3}
    back = cli("keywords", tmp_path / "results", "--undo")
    assert back.returncode == 0 and "Sidecars removed: 1. Put back: 3." in back.stdout
    assert tree(photos) == before


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("results", "--undo", "--yes"), "Leave out --yes, --embed and --prefix"),
        (("results", "--undo"), "There is nothing to take back for"),
        (("none",), "No such folder"),
        (("empty",), "holds neither results"),
        (("results", "--prefix", "a\x07b"), "holds a control character"),
        (("results", "--photos", "empty"), "None of the 6 photos"),
    ],
)
def test_a_wrong_request_is_one_sentence(arguments, part, photos, tmp_path, cli_here):
    write_photo(tmp_path / "empty" / "other.jpg", 1)
    process = cli_here("keywords", *arguments, cwd=tmp_path)
    assert process.returncode == 2 and part in process.stderr, process.stderr
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", sidecars.KINDS)
def test_only_keywords_are_inserted(kind):
    data = sidecars.KINDS[kind]
    assert sidecars.check(data)
    edited = xmp_edit.with_keywords(data, CAT)
    at = now = 0
    for one in edited.edits:
        untouched = data[at : one.place]
        assert edited.data[now : now + len(untouched)] == untouched
        at, now = one.place + len(one.old), now + len(untouched) + len(one.new)
        assert b"<" in one.new and re.fullmatch(rb"|/>", one.old)
    assert edited.data[now:] == data[at:] and edited.edits


def test_the_new_lines_look_like_the_others():
    text = xmp_edit.with_keywords(sidecars.DARKTABLE.replace("\n", "\r\n").encode(), CAT).data
    assert (
        b"\r\n     <rdf:li>Sweden</rdf:li>\r\n     <rdf:li>cat</rdf:li>\r\n    </rdf:Bag>" in text
    )
    assert b"\n" not in text.replace(b"\r\n", b"")
    single = xmp_edit.with_keywords(sidecars.KINDS["single"], CAT).data.decode()
    assert "xmp:Label='a > b' >\n  <lr:hierarchicalSubject xmlns:lr=" in single
    assert "  <d:subject>\n   <rdf:Bag>\n    <rdf:li>cat</rdf:li>\n   </rdf:Bag>" in single
    tabs = xmp_edit.with_keywords(sidecars.KINDS["plain"], CAT).data.decode()
    assert "<li>sea</li><li>cat</li></Bag><Bag/>" in tabs
    assert '\r\n\t\t<lr:hierarchicalSubject xmlns:lr="' in tabs


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-be", "iso-8859-1"])
def test_encodings_stay(codec):
    text = sidecars.LIGHTROOM if codec == "iso-8859-1" else sidecars.DIGIKAM
    label = "utf-16" if "16" in codec else codec.removesuffix("-sig")
    whole = f'<?xml version="1.0" encoding="{label}"?>\n{text}'.encode(codec)
    wanted = xmp_edit.lists_of(["Käfer", "猫"], [])
    edited = xmp_edit.with_keywords(whole, wanted)
    assert sidecars.keywords(edited.data)["subject"][-2:] == ["Käfer", "猫"]
    assert sidecars.others(edited.data) == sidecars.others(whole)
    assert xmp_edit.former(edited.data, edited.edits) == whole
    assert sidecars.check(whole)


def test_hostile_xml_is_refused_at_once(monkeypatch):
    for data, why in (
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (b"\0" * 100, "damaged"),
        (b" " * (1 << 25), "larger than 16 MiB"),
        (b"<?xml version='1.0' encoding='utf-7'?><a/>", "is in 'utf-7'"),
        (b"<?xml version='1.0' encoding='utf-16'?><a/>", "not in the encoding that it names"),
        (b"\xff\xfe\0\0<\0\0\0", "UTF-32"),
        (sidecars.KINDS["darktable"].replace(b"Sweden", b"\xff"), "not in the encoding"),
    ):
        with pytest.raises(UnusableXmp, match=why):
            read_xmp(data)
    monkeypatch.setattr(xmp, "MOST_KEYWORDS", 1000)
    monkeypatch.setattr(xmp, "MOST_ELEMENTS", 2000)
    with pytest.raises(UnusableXmp, match="more than 2,000 elements"):
        read_xmp(b"<a>" * 2001)
    many = b"<rdf:Bag>" + b"<rdf:li/>" * 1001
    with pytest.raises(UnusableXmp, match="more than 1,000 keywords"):
        read_xmp(sidecars.KINDS["darktable"].replace(b"<rdf:Bag>", many, 1))
    with pytest.raises(UnusableXmp, match="has a label that no sidecar can hold"):
        xmp_edit.lists_of(["a\x01"], [])


@pytest.mark.parametrize("kind", ["darktable", "lightroom", "digikam", "new"])
def test_exiftool_reads_the_same_and_the_keywords(kind, tmp_path):
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed")
    data = xmp_edit.EMPTY if kind == "new" else sidecars.KINDS[kind]
    read = []
    for number, one in enumerate((data, xmp_edit.with_keywords(data, CAT).data)):
        path = tmp_path / f"{number}.xmp"
        path.write_bytes(one)
        line = [program, "-XMP:all", "-struct", "-j", "-G1", "-a", "-b", str(path)]
        told = subprocess.run(line, capture_output=True, text=True, check=True)
        read.append(json.loads(told.stdout)[0])
        assert not told.stderr
    names = ("XMP-dc:Subject", "XMP-lr:HierarchicalSubject", "XMP-digiKam:TagsList",
             "XMP-microsoft:LastKeywordXMP", "SourceFile")  # fmt: skip
    kept, now = ({key: one for key, one in of.items() if key not in names} for of in read)
    assert kept == now
    subject = read[1]["XMP-dc:Subject"]
    assert subject[-1] == "cat" or subject == "cat" or subject == ["cat"]
    assert "wordsight|cat" in read[1]["XMP-lr:HierarchicalSubject"]


def test_darktable_finds_the_keywords_and_all_it_found_before(tmp_path, fresh_home):
    program = shutil.which("darktable-cli")
    if program is None:
        pytest.skip("darktable is not installed")
    folder = results(tmp_path, [row("dark.jpg"), row("file.jpg")])
    photos = tmp_path / "photos"
    (photos / "dark.jpg.xmp").write_bytes(sidecars.KINDS["darktable"])
    with Image.open(photos / "file.jpg") as image:
        image.save(photos / "file.jpg", xmp=sidecars.KINDS["lightroom"])

    def seen(name):
        at = tmp_path / "dt"
        shutil.rmtree(at, ignore_errors=True)
        line = [program, str(photos / name), str(at / "out.jpg"), "--core", "--disable-opencl"]
        line += ["--configdir", str(at / "conf"), "--cachedir", str(at / "cache")]
        at.mkdir()
        subprocess.run(
            [*line, "--library", str(at / "library.db")], capture_output=True, check=True
        )
        with contextlib.closing(sqlite3.connect(at / "conf" / "data.db")) as base:
            names = dict(base.execute("select id, name from tags"))
        with contextlib.closing(sqlite3.connect(at / "library.db")) as base:
            tags = {names[one] for (one,) in base.execute("select tagid from tagged_images")}
            told = sorted(base.execute("select key, value from meta_data"))
            stars = base.execute("select flags & 7 from images").fetchall()
        return {one for one in tags if not one.startswith("darktable|")}, told, stars

    before = {name: seen(name) for name in ("dark.jpg", "file.jpg")}
    assert before["dark.jpg"][0] == {"holiday", "places|Sweden"} and before["file.jpg"][1]
    write_keywords(folder)
    for name, (tags, *others) in before.items():
        assert seen(name) == (tags | {"wordsight|cat"}, *others)


def test_notes_of_others_reach_no_other_file(photos, tmp_path):
    """A line that names a file that is no sidecar is passed over."""
    write_keywords(tmp_path / "results")
    notes = keyword_notes.keywords_folder() / keyword_notes.NOTES
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    line = json.loads(notes.read_text().splitlines()[1])
    told = hashlib.sha256(b"mine").hexdigest()
    line |= {"sidecar": str(victim), "after": told, "before": None}
    with open(notes, "a") as file:
        file.write(json.dumps(line) + "\n")
    undo_keywords(tmp_path / "results")
    assert victim.read_text() == "mine"
