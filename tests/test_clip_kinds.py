"""Kinds of clip: AV1, HDR, and broken ones that make no noise."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wordsight
from test_videos import boxes_of, read_clip, turned, write_clip
from wordsight.errors import UnreadableVideo
from wordsight.images import clips
from wordsight.images.captures import AV1Capture
from wordsight.images.clips import Clip

PARENTS = ("moov", "trak", "mdia", "minf", "stbl", "stsd")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Twenty frames, left half red, right half green."""
    frame = np.zeros((240, 320, 3), np.uint8)
    frame[:, :160, 0] = 200
    frame[:, 160:, 1] = 160
    return write_clip(tmp_path_factory.mktemp("plain") / "plain.mp4", [frame] * 20)


def with_colours(path: Path, target: Path, box: bytes) -> Path:
    """Copy a clip whose only entry of the list of codecs gets another box within."""
    data = bytearray(path.read_bytes())
    ((at, _),) = boxes_of(data, "/".join(PARENTS))
    (entry,) = struct.unpack(">I", data[at + 16 : at + 20])
    places = [next(boxes_of(data, "/".join(PARENTS[:n])))[0] for n in range(1, len(PARENTS) + 1)]
    for place in [*places, at + 16]:
        (old,) = struct.unpack(">I", data[place : place + 4])
        data[place : place + 4] = struct.pack(">I", old + len(box))
    assert data.find(b"mdat") < data.find(b"moov")  # so that no frame moves
    data[at + 16 + entry : at + 16 + entry] = box
    target.write_bytes(data)
    return target


def colours(transfer: int, kind: bytes = b"nclx") -> bytes:
    body = kind + struct.pack(">HHHB", 9, transfer, 9, 0)[: 7 if kind == b"nclx" else 6]
    return struct.pack(">I4s", 8 + len(body), b"colr") + body


@pytest.mark.parametrize(
    ("box", "remark"),
    [
        (colours(16), "HDR (PQ): colours are approximate"),
        pytest.param(
            *(colours(18, b"nclc"), "HDR (HLG): colours are approximate"), marks=pytest.mark.slow
        ),
        (colours(1), ""),
        (struct.pack(">I4s", 20, b"colr") + b"prof" + bytes(8), ""),
        (colours(16)[:13], ""),
    ],
    ids=["pq", "hlg", "usual", "profile", "short"],
)
def test_an_hdr_clip_says_so(plain, box, remark, tmp_path):
    path = with_colours(plain, tmp_path / "hdr.mp4", box)
    with Clip(path) as clip:
        assert clip.remark == remark and len(list(clip)) == 20 and clip.note() is None


def test_results_of_an_hdr_clip_say_so_and_are_complete(plain, tmp_path, cli_here):
    path = with_colours(plain, tmp_path / "hdr.mp4", colours(16))
    said = "HDR (PQ): colours are approximate"
    taken = wordsight.videos.extract(path, tmp_path / "frames")
    assert taken.complete and taken.remarks == [(str(path), said)]
    assert f"{path}: {said}." in taken.notes()
    assert taken.to_dict()["remarks"] == [{"clip": str(path), "remark": said}]
    labelled = cli_here("video", "hdr.mp4", "--group", "vehicle", "--fps", "1", "--json")
    assert labelled.returncode == 0, labelled.stderr
    assert json.loads(labelled.stdout)["remark"] == said
    told = wordsight.datasets.inspect(path)
    assert told.wrong == [("hdr.mp4", said)]


def test_what_a_file_declares_is_looked_for_within_bounds(tmp_path, monkeypatch):
    path = tmp_path / "many.mp4"
    path.write_bytes(struct.pack(">I4s", 8, b"ftyp") + struct.pack(">I4s", 8, b"free") * 100_000)
    looked = []
    monkeypatch.setattr(clips, "MOST_BOXES", 50)
    monkeypatch.setattr(struct, "unpack", lambda *a, old=struct.unpack: looked.append(1) or old(*a))
    assert clips._declared(path) == (None, 2)
    assert len(looked) <= 2 * 50


def as_av1(path, target):
    """Copy a clip and call its frames AV1, which no decoder of AV1 can read."""
    data = path.read_bytes()
    assert data.count(b"mp4v") == 1
    # the second box names the codec once more
    target.write_bytes(data.replace(b"mp4v", b"av01").replace(b"esds", b"free"))
    return target


def test_av1_without_a_decoder_is_named(plain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    path = as_av1(plain, tmp_path / "a.mp4")
    with pytest.raises(
        UnreadableVideo, match=r"is an AV1 clip, .* Install PyAV \(pip install av\)"
    ):
        Clip(path)


@pytest.fixture(scope="module")
def av1(tmp_path_factory):
    """The same as AV1, written by PyAV."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("av1") / "a.mp4"
    frame = np.zeros((240, 320, 3), np.uint8)
    frame[:, :160, 0] = 200
    frame[:, 160:, 1] = 160
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libsvtav1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(20):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_av1_is_read_by_pyav(av1, plain, tmp_path):
    frames, fps = read_clip(av1)
    assert isinstance(Clip(av1)._capture, AV1Capture)
    assert (len(frames), fps, frames[-1].time_s) == (20, 10.0, pytest.approx(1.9))
    others, _ = read_clip(turned(plain, tmp_path / "plain.mp4"))
    upright, _ = read_clip(turned(av1, tmp_path / "av1.mp4"))
    for one, other in ((frames, read_clip(plain)[0]), (upright, others)):
        assert one[5].bgr.shape == other[5].bgr.shape
        assert np.abs(one[5].bgr.astype(int) - other[5].bgr).mean() < 8
    with Clip(av1, fps=2) as clip:
        assert len(list(clip)) == 4 and clip.note() is None


def test_a_damaged_av1_clip_is_read_as_far_as_it_goes(av1, plain, tmp_path):
    pytest.importorskip("av")
    with pytest.raises(UnreadableVideo, match="holds no frame"):
        Clip(as_av1(plain, tmp_path / "none.mp4"))
    data = bytearray(av1.read_bytes())
    ((begin, size),) = boxes_of(data, "mdat")
    middle = begin + size // 2
    data[middle : middle + 10] = bytes(10)
    (tmp_path / "a.mp4").write_bytes(data)
    with Clip(tmp_path / "a.mp4") as clip:
        assert 1 <= len(list(clip)) <= 20


SCRIPT = """
import sys
from wordsight.errors import WordsightError
from wordsight.images.clips import Clip
for name in sys.argv[1:]:
    try:
        with Clip(name) as clip:
            for frame in clip:
                pass
    except WordsightError as error:
        print(type(error).__name__)
"""


def test_broken_and_odd_clips_make_no_noise(plain, tmp_path):
    whole = plain.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    holed = bytearray(whole)
    begin = whole.find(b"mdat") + 8
    holed[begin + 60 : begin + 2000] = bytes(1940)
    (tmp_path / "holed.mp4").write_bytes(holed)
    (tmp_path / "text.mp4").write_text("no clip at all")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:4,\nhttp://127.0.0.1:9/a.ts\n")
    motion = write_clip(tmp_path / "m.avi", [np.zeros((48, 64, 3), np.uint8)] * 20, code="MJPG")
    (tmp_path / "cut.avi").write_bytes(motion.read_bytes()[:2000])
    as_av1(plain, tmp_path / "av1.mp4")
    names = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", SCRIPT, *names], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout.count("UnreadableVideo") >= 4
