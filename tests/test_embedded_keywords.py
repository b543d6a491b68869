"""Keywords in photos' own files: the picture and all else stay, and every byte can be put back."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sidecars
from conftest import killed_before
from test_keywords import undo_again
from test_sorting import row, tree, write_results
from wordsight.core.home import keywords_folder
from wordsight.errors import InvalidArgument
from wordsight.exports import undo_keywords, write_keywords
from wordsight.exports.photos import photo_files
from wordsight.exports.photos.keyword_notes import BLOCK, Notes, pieces_of

PROGRAM = shutil.which("exiftool")
needs_exiftool = pytest.mark.skipif(PROGRAM is None, reason="exiftool is not installed")
XMP = sidecars.KINDS["lightroom"]
KINDS = ("plain.jpg", "rich.jpg", "two.jpg", "x.png", "xmp.png", "x.tif", "lzw.tif", "pages.tif")

# a drawn disc
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAZdtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA"
    "AAAAAAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAABuwABAAAAAAAAAMkAAgAAAAAChAABAAAAAAAAACwAAAA4aWlu"
    "ZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA"
    "1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAi"
    "QAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAA"
    "AAAAAAABAAEEgQIDBAAAABppcmVmAAAAAAAAAA5jZHNjAAIAAQABAAAA/W1kYXQAAADFKAGvGYCwuMcI6Pwic2DC"
    "JL/m3fvyvw4NNCJ3JuP3Xf/24R5laipyf7x//Oell5m49J7BNfgq6SDmVo7IhelSWdv00ZxUuu4G8PSqqU28a4Gh"
    "MiBXFtc2iCQh+P/UnBJnTSAV08W8smr3q584/nigXNjwQ6UOoAQFcHl+hdb35sibMs9lJIJ9ggWLdI9gRZ6fDYhH"
    "4AdFeb9USUAPxidAjvfoV62hkYr07Jctdf8Cv5L91l5a6ZjQLMsqaEtnf9Z5/wNhKVAAAAAGRXhpZgAATU0AKgAA"
    "AAgAAQEPAAIAAAAHAAAAGgAAAABDYW1lcmEAAA=="
)


def picture(seed, side=96):
    noise = np.random.default_rng(seed).normal(120, 40, (side, side, 3))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


def make(path):
    """Write a photo of the kind that its name says, two days old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image, kind = picture(len(path.stem)), path.name
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 10:20:30"
    if kind == "two.jpg":
        image.save(path, "MPO", save_all=True, append_images=[picture(5)])
    elif kind == "pages.tif":
        image.save(path, save_all=True, append_images=[picture(5)])
    elif kind == "lzw.tif":
        image.save(path, compression="tiff_lzw", exif=exif)
    elif kind == "deep.png":
        Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(path)
    else:
        image.save(path, exif=exif)
    if kind in ("rich.jpg", "xmp.png"):
        (path.parent / "xmp").write_bytes(XMP)
        write = ["-XMP<=xmp", "-IPTC:Keywords=iptc", "-Comment=mine"]
        exiftool(*write[: 3 if kind == "rich.jpg" else 1], "-overwrite_original", path)
        (path.parent / "xmp").unlink()
    os.utime(path, (1_700_000_000, 1_700_000_000.5))


def exiftool(*arguments):
    where = Path(arguments[-1]).parent
    line = [PROGRAM, "-config", "", *map(str, arguments)]
    return subprocess.run(line, check=True, capture_output=True, cwd=where).stdout


def found(path):
    """Return the keywords in a photo, as ExifTool reads them."""
    told = json.loads(exiftool("-j", "-XMP-dc:Subject", "-XMP-lr:HierarchicalSubject", path))[0]
    return [
        of if isinstance(of := told.get(name, []), list) else [of]
        for name in ("Subject", "HierarchicalSubject")
    ]


def library(root, names=KINDS, labels=("cat",)):
    """Write photos and results that speak of them."""
    folder = write_results(root, [])
    for name in names:
        if not os.path.lexists(root / "photos" / name):
            make(root / "photos" / name)
    return relabelled(folder, names, labels)


def relabelled(folder, names, labels):
    lines = [json.dumps(row(name, labels=labels)) + "\n" for name in names]
    (folder / "predictions.jsonl").write_text("".join(lines))
    return folder


def state(folder):
    """Return what each photo holds, and when it was changed."""
    return {
        path.relative_to(folder): (hashlib.sha256(path.read_bytes()).digest(), os.stat(path)[8:9])
        for path in folder.rglob("*")
        if path.is_file()
    }


def pixels(path):
    with Image.open(path) as image:
        return [
            (image.seek(number), image.tobytes())[1]
            for number in range(getattr(image, "n_frames", 1))
        ]


@needs_exiftool
def test_each_kind_takes_keywords_and_gets_every_byte_back(tmp_path, fresh_home):
    folder, photos = library(tmp_path, (*KINDS, "deep.png")), tmp_path / "photos"
    before, shown = state(photos), {path: pixels(path) for path in photos.iterdir()}
    preview = write_keywords(folder, embed=True, dry_run=True)
    assert preview.sidecars == {"new": 7, "extended": 2} and state(photos) == before
    assert "Nothing was written" in preview.notes()[-1] and not keywords_folder().exists()
    done = write_keywords(folder, embed=True)
    assert done.complete and done.sidecars == preview.sidecars
    written = state(photos)
    assert {name: of[1] for name, of in written.items()} == {
        name: of[1] for name, of in before.items()
    }, "another time"
    assert all(written[name][0] != before[name][0] for name in before)
    assert {path: pixels(path) for path in photos.iterdir()} == shown
    assert found(photos / "plain.jpg") == [["cat"], ["wordsight|cat"]]
    subject, hierarchy = found(photos / "rich.jpg")
    assert subject == ["R&D <day>", "Zoë", "cat"] and hierarchy[-1] == "wordsight|cat"
    told = exiftool("-s3", "-Comment", "-IPTC:Keywords", photos / "rich.jpg")
    assert told.decode().split() == ["mine", "iptc"]
    kept = sum(path.stat().st_size for path in (keywords_folder() / "kept").iterdir())
    assert done.kept_bytes == kept > 0 and f"{kept / 1024:,.0f} KiB" in done.notes()[1]
    again = write_keywords(folder, embed=True)
    assert again.sidecars == {"unchanged": 9} and state(photos) == written
    undone = undo_keywords(folder)
    assert undone.complete and len(undone.photos) == 9 and not undone.cleaned
    assert state(photos) == before and not list(keywords_folder().iterdir())


@needs_exiftool
def test_a_phone_s_xmp_has_no_frame_and_what_lies_behind_a_picture_is_not_lost(
    tmp_path, fresh_home, monkeypatch
):
    folder, photos = library(tmp_path, ("plain.jpg", "two.jpg")), tmp_path / "photos"
    phone = XMP[XMP.index(b"<x:xmpmeta") :].rstrip()
    picture(3).save(photos / "plain.jpg", xmp=phone)
    before = state(photos)
    assert write_keywords(folder, embed=True).complete
    assert found(photos / "plain.jpg")[0][-1] == "cat"
    undo_keywords(folder)
    assert state(photos) == before
    real = photo_files.ExifTool.with_packet
    monkeypatch.setattr(
        photo_files.ExifTool,
        "with_packet",
        lambda *given: real(*given)[: -3000 if given[1].name == "two.jpg" else None],
    )
    monkeypatch.setattr(photo_files, "TABLES", 1000)
    done = write_keywords(folder, embed=True)
    assert [name for name, _ in done.skipped] == ["two.jpg"]
    assert state(photos)[Path("two.jpg")] == before[Path("two.jpg")]


@needs_exiftool
def test_heic_takes_keywords_and_gets_every_byte_back(tmp_path, fresh_home, monkeypatch):
    pytest.importorskip("pi_heif")
    folder, path = library(tmp_path, ()), tmp_path / "photos" / "x.heic"
    path.parent.mkdir()
    path.write_bytes(HEIC)
    relabelled(folder, ["x.heic"], ("cat",))
    assert write_keywords(folder, embed=True).sidecars == {"new": 1}
    assert found(path) == [["cat"], ["wordsight|cat"]]
    relabelled(folder, ["x.heic"], ("dog",))
    assert write_keywords(folder, embed=True).sidecars == {"replaced": 1}
    undo_keywords(folder)
    assert path.read_bytes() == HEIC
    monkeypatch.setattr(photo_files, "TABLES", 10)
    ((_, why),) = write_keywords(folder, embed=True).skipped
    assert "would change in more than its XMP" in why and path.read_bytes() == HEIC


@needs_exiftool
def test_other_labels_replace_ours_and_the_first_bytes_are_still_kept(tmp_path, fresh_home):
    names = ("plain.jpg", "rich.jpg")
    folder, photos = library(tmp_path, names), tmp_path / "photos"
    before = state(photos)
    write_keywords(folder, embed=True)
    relabelled(folder, names, ("dog", "fox"))
    assert write_keywords(folder, embed=True, prefix="").sidecars == {"replaced": 2}
    assert found(photos / "plain.jpg") == [["dog", "fox"], ["dog", "fox"]]
    assert found(photos / "rich.jpg")[0] == ["R&D <day>", "Zoë", "dog", "fox"]
    (folder / "predictions.jsonl").write_text(
        json.dumps(row("plain.jpg", "unsure", ())) + "\n" + json.dumps(row("rich.jpg"))
    )
    assert write_keywords(folder, embed=True).sidecars == {"replaced": 1, "cleared": 1}
    assert state(photos)[Path("plain.jpg")] == before[Path("plain.jpg")]
    sidecar = write_keywords(folder)  # both ways at once, and both are taken back
    assert sidecar.sidecars == {"new": 1}
    undone = undo_keywords(folder)
    assert len(undone.photos) == 1 and len(undone.removed) == 1
    assert state(photos) == before


@needs_exiftool
def test_photos_that_others_changed_lose_our_keywords_alone(tmp_path, fresh_home, monkeypatch):
    names = ("plain.jpg", "rich.jpg", "x.png")
    folder, photos = library(tmp_path, names), tmp_path / "photos"
    write_keywords(folder, embed=True)
    exiftool("-XMP-dc:Title=new", "-overwrite_original", photos / "plain.jpg")
    exiftool("-XMP-dc:Subject+=sea", "-overwrite_original", photos / "rich.jpg")
    exiftool("-XMP:all=", "-overwrite_original", photos / "x.png")
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        kept = dict(undo_keywords(folder).kept)
    assert len(kept) == 3 and "ExifTool, which is not found here" in kept[str(photos / "x.png")]
    undone = undo_keywords(folder)
    assert undone.complete and len(undone.cleaned) == 2 and not undone.photos
    assert found(photos / "plain.jpg") == [[], []]
    assert exiftool("-s3", "-XMP-dc:Title", photos / "plain.jpg").strip() == b"new"
    assert found(photos / "rich.jpg")[0] == ["R&D <day>", "Zoë", "sea"]


@needs_exiftool
def test_what_is_left_alone_is_listed(tmp_path, fresh_home, monkeypatch):
    names = ("link.jpg", "twice.jpg", "locked.jpg", "x.webp", "cut.jpg", "long.jpg", "bad.jpg")
    names = (*names, "a\nb.jpg", "gone.jpg", "plain.jpg")
    folder, photos = library(tmp_path, names), tmp_path / "photos"
    (photos / "link.jpg").rename(tmp_path / "there.jpg")
    (photos / "link.jpg").symlink_to(tmp_path / "there.jpg")
    os.link(photos / "twice.jpg", tmp_path / "other.jpg")
    (photos / "locked.jpg").chmod(0o444)
    (photos / "cut.jpg").write_bytes((photos / "cut.jpg").read_bytes()[:-800])
    (photos / "text").write_text("many words " * 9000)
    exiftool("-XMP-dc:Description<=text", "-overwrite_original", photos / "long.jpg")
    picture(3).save(photos / "bad.jpg", xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>")
    for name in ("text", "gone.jpg"):
        (photos / name).unlink()
    before = tree(tmp_path)
    done = write_keywords(folder, embed=True)
    why = dict(done.skipped)
    assert set(why) == set(names) - {"plain.jpg"} and done.sidecars == {"new": 1}
    assert why["link.jpg"] == "'link.jpg' is a link, which is left alone"
    assert "has other names on this disk" in why["twice.jpg"]
    assert why["locked.jpg"] == "'locked.jpg' is read-only"
    assert "is of a kind that no keywords are written into" in why["x.webp"]
    assert "can't be checked" in why["cut.jpg"] or "ExifTool" in why["cut.jpg"]
    assert "would lose or change more than keywords (XMP-dc:Description)" in why["long.jpg"]
    assert "'bad.jpg' is damaged" in why["bad.jpg"]
    assert "has a line break in its path" in why["a\nb.jpg"]
    after = tree(tmp_path)
    assert {path for path in before if after.get(path) != before[path]} == {photos / "plain.jpg"}
    assert undo_keywords(folder).complete


@needs_exiftool
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda image, info: (image.rotate(180), info), "would change in its picture"),
        (lambda image, info: (image, info | {"exif": b""}), "would lose or change more"),
        (lambda image, info: (image, info | {"xmp": XMP}), "does not take the XMP as it is"),
    ],
)
def test_what_exiftool_makes_is_refused_if_anything_else_differs(
    spoil, why, tmp_path, fresh_home, monkeypatch
):
    folder, path = library(tmp_path, ("x.png",)), tmp_path / "photos" / "x.png"
    before = state(path.parent)
    real = photo_files.ExifTool.with_packet

    def spoiled(tool, photo, packet):
        made = tmp_path / "made.png"
        made.write_bytes(real(tool, photo, packet))
        with Image.open(made) as image:
            image, info = spoil(image, {"exif": image.info["exif"], "xmp": b""})
            image.save(made, exif=info["exif"])
        if info["xmp"]:
            packet = info["xmp"]
        return real(tool, made, packet)

    monkeypatch.setattr(photo_files.ExifTool, "with_packet", spoiled)
    ((_, said),) = write_keywords(folder, embed=True).skipped
    assert why in said and state(path.parent) == before
    assert {one.name for one in path.parent.iterdir()} == {"x.png"}


@needs_exiftool
def test_a_photo_that_changes_meanwhile_stays(tmp_path, fresh_home, monkeypatch):
    folder, path = library(tmp_path, ("plain.jpg",)), tmp_path / "photos" / "plain.jpg"
    real = photo_files.build

    def build(built, data, like, keep_times):
        real(built, data, like, keep_times)
        like.write_bytes(b"other")

    monkeypatch.setattr(photo_files, "build", build)
    (_, why) = write_keywords(folder, embed=True).skipped[0]
    assert "'plain.jpg' " in why and path.read_bytes() == b"other"
    assert [one.name for one in path.parent.iterdir()] == ["plain.jpg"]


@needs_exiftool
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_step_a_photo_is_as_before_or_whole(step, tmp_path, fresh_home):
    folder, photos = library(tmp_path, ("rich.jpg",)), tmp_path / "photos"
    before = tree(photos)
    write_keywords(folder, embed=True)
    whole = (photos / "rich.jpg").read_bytes()
    for number in range(0, 1000, step):
        undo_again(folder)
        assert tree(photos) == before, number
        died = killed_before(number, lambda: write_keywords(folder, embed=True))
        assert (photos / "rich.jpg").read_bytes() in (whole, before[photos / "rich.jpg"]), number
        if number % 3 == 0:  # the same command goes on
            assert write_keywords(folder, embed=True).complete
            assert (photos / "rich.jpg").read_bytes() == whole, number
        else:
            died |= killed_before(number, lambda: undo_again(folder))
        if not died:
            break
    assert number > 10


@needs_exiftool
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments_no_photo_is_lost(tmp_path, fresh_home):
    folder, photos = library(tmp_path), tmp_path / "photos"
    before = tree(photos)
    line = [sys.executable, "-m", "wordsight", "keywords", str(folder), "--embed", "--yes"]
    began = time.monotonic()
    subprocess.run(line, check=True, capture_output=True)
    whole, took = tree(photos), time.monotonic() - began
    undo_keywords(folder)
    draw, killed = random.Random(7), 0
    for _ in range(8):
        with subprocess.Popen(line, stdout=-3, stderr=-3) as process:
            time.sleep(took * draw.uniform(0.2, 1.0))
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
        for path, data in before.items():
            assert path.is_dir() or path.read_bytes() in (data, whole[path])
        if draw.random() < 0.4:
            undo_again(folder)
            assert tree(photos) == before
    assert killed >= 4
    subprocess.run(line, check=True, capture_output=True)
    assert tree(photos) == whole
    undo_keywords(folder)
    assert tree(photos) == before


def test_without_exiftool_it_is_said_and_nothing_is_done(tmp_path, fresh_home, monkeypatch):
    folder = write_results(tmp_path, [row("a.jpg")])
    before = tree(tmp_path)
    monkeypatch.setenv("PATH", "")
    for dry_run in (True, False):
        with pytest.raises(InvalidArgument, match="written into photos by ExifTool, which is not"):
            write_keywords(folder, embed=True, dry_run=dry_run)
    assert tree(tmp_path) == before


@needs_exiftool
def test_what_was_embedded_is_put_back_without_exiftool(tmp_path, fresh_home, monkeypatch):
    folder, photos = library(tmp_path, ("plain.jpg",)), tmp_path / "photos"
    before = state(photos)
    write_keywords(folder, embed=True)
    monkeypatch.setenv("PATH", "")
    assert len(undo_keywords(folder).photos) == 1 and state(photos) == before


@needs_exiftool
def test_the_command_says_what_it_would_do_and_does_it(tmp_path, cli):
    folder, photos = library(tmp_path, ("plain.jpg",)), tmp_path / "photos"
    before = state(photos)
    told = cli("keywords", folder, "--embed")
    assert told.returncode == 0 and "Photos' own files that would be written: 1 new" in told.stdout
    assert state(photos) == before
    done = cli("keywords", folder, "--embed", "--yes")
    assert "Photos' own files: 1 new." in done.stdout and "byte for byte" in done.stdout
    back = cli("keywords", folder, "--undo")
    assert "Photos put back, byte for byte: 1." in back.stdout and state(photos) == before


def test_a_file_is_put_together_from_what_was_made_of_it(fresh_home):
    notes, draw = Notes(), random.Random(3)
    for number in range(200):
        parts = [draw.randbytes(draw.choice([0, 7, 3000, 9000])) for _ in range(4)]
        before, a, b = b"".join(parts), draw.randrange(10_000), draw.randrange(10_000)
        after = b"".join(draw.sample(parts, draw.choice([1, 3, 4])))
        after = after[:a] + draw.randbytes(draw.choice([0, 90])) + after[a:][:b] + after[a:][b:]
        kept = notes.keep(before, after)
        assert notes.put_together(kept, after) == before, number
        assert notes.put_together(kept, after + b"more") is None
        assert sum(length for _, length in kept.pieces) == len(before)
    long = draw.randbytes(1_000_000)
    inserted = long[:500_000] + b"xmp" * 999 + long[500_000:]
    assert sum(length for start, length in pieces_of(long, inserted) if start < 0) <= BLOCK
    (notes.folder / "kept" / kept.after).unlink()
    assert notes.put_together(kept, after) is None or kept.size == 0
