"""Clips: reading them, following what they show, writing them labelled, and taking their frames
to learn from.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import draw_shape, unfinished
from wordsight.errors import InvalidArgument, UnreadableVideo
from wordsight.images.clips import Clip, ClipWriter, Frame
from wordsight.videos.recorder import Segment

FPS = 10.0
SIZE = (240, 320)


def write_clip(path, frames, fps=FPS, code="mp4v"):
    """Write RGB frames as a clip."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, (width, height)
    )
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def frames_of(kind, count):
    """A red disc or a striped square that stays, on noise that changes."""
    return [np.asarray(draw_shape(kind, seed)[0]) for seed in range(700, 700 + count)]


def read_clip(path):
    with Clip(path) as clip:
        return list(clip), clip.fps


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds of discs, then two of squares."""
    return write_clip(
        tmp_path_factory.mktemp("clip") / "shapes.mp4",
        [*frames_of("disc", 20), *frames_of("square", 20)],
    )


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A clip of 60 frames whose brightness says which they are, upper half lighter."""
    frames = [np.full((*SIZE, 3), 40 + 3 * number, dtype=np.uint8) for number in range(60)]
    for frame in frames:
        frame[: SIZE[0] // 2] += 20
    return write_clip(tmp_path_factory.mktemp("counted") / "counted.mp4", frames)


def boxes_of(data, path, start=0, end=None):
    """Yield (offset, size) of an MP4 box by its path, such as moov/trak/tkhd."""
    name, _, rest = path.partition("/")
    at, end = start, len(data) if end is None else end
    while at < end:
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == name.encode():
            if rest:
                yield from boxes_of(data, rest, at + 8, at + size)
            else:
                yield at, size
        at += size


def turned(path, target):
    """Copy a clip with the mark of a phone held upright: turn by 90 degrees when showing."""
    data = bytearray(path.read_bytes())
    ((at, _),) = boxes_of(data, "moov/trak/tkhd")
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    # of a version-0 box: 8 header, 4 version, 20 times and id, 8 reserved, 8 layer and volume
    data[at + 48 : at + 84] = matrix
    target.write_bytes(data)
    return target


def at_varying_rate(path, target, runs):
    """Copy a clip whose frames last as long as `runs` of (count, multiple of the usual time)
    say.
    """
    data = bytearray(path.read_bytes())
    ((at, size),) = boxes_of(data, "moov/trak/mdia/minf/stbl/stts")
    entries, count, delta = struct.unpack(">III", data[at + 12 : at + 24])
    assert entries == 1 and sum(n for n, _ in runs) == count
    table = b"".join(struct.pack(">II", n, round(multiple * delta)) for n, multiple in runs)
    new = struct.pack(">I4sII", 16 + len(table), b"stts", 0, len(runs)) + table
    parents = (
        "moov",
        "moov/trak",
        "moov/trak/mdia",
        "moov/trak/mdia/minf",
        "moov/trak/mdia/minf/stbl",
    )
    places = [next(boxes_of(data, parent)) for parent in parents]
    longer = sum(n * multiple for n, multiple in runs) / count
    for name, offset in (
        ("moov/mvhd", 24),
        ("moov/trak/mdia/mdhd", 24),
        ("moov/trak/edts/elst", 16),
    ):
        ((box, _),) = boxes_of(data, name)
        (duration,) = struct.unpack(">I", data[box + offset : box + offset + 4])
        data[box + offset : box + offset + 4] = struct.pack(">I", round(duration * longer))
    for box, length in places:
        data[box : box + 4] = struct.pack(">I", length + len(new) - size)
    data[at : at + size] = new  # the index stands after the frames, so that none of them moves
    assert data.find(b"mdat") < data.find(b"moov")
    target.write_bytes(data)
    return target


def test_frames_come_with_their_times(counted):
    frames, fps = read_clip(counted)
    assert fps == FPS and [f.index for f in frames] == [f.tick for f in frames] == list(range(60))
    assert np.allclose([f.time_s for f in frames], np.arange(60) / FPS, atol=1e-3)
    assert (
        all(abs(f.bgr[200, 50, 1].astype(int) - 40 - 3 * f.index) <= 3 for f in frames)
        and not frames[-1].bgr.shape[2] - 3
    )


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(5, range(0, 60, 2)), (1, range(0, 60, 10)), (4, [0, 2, 5, 7, 10, 12]), (50, range(60))],
)
def test_frames_are_taken_evenly(counted, fps, expected):
    with Clip(counted, fps) as clip:
        taken = [frame.index for frame in clip]
        assert (
            taken[: len(expected)] == list(expected)
            and clip.fps == min(fps, FPS)
            and abs(clip.count - len(taken)) <= 1
        )


def test_phone_clips_come_upright(counted, tmp_path):
    frames, _ = read_clip(turned(counted, tmp_path / "phone.mp4"))
    assert frames[0].bgr.shape == (SIZE[1], SIZE[0], 3)
    # what was above is now on the right
    assert frames[0].bgr[:, -20:].mean() > frames[0].bgr[:, :20].mean() + 10


def test_frames_that_last_differently_keep_their_times(counted, tmp_path):
    path = at_varying_rate(counted, tmp_path / "vary.mp4", [(20, 1), (20, 3), (20, 0.5)])
    frames, fps = read_clip(path)
    assert np.allclose(
        [f.time_s for f in frames],
        np.concatenate(
            [np.arange(21) / 10, 2 + np.arange(1, 21) * 0.3, 8 + np.arange(1, 20) * 0.05]
        ),
        atol=2e-3,
    )
    writer = ClipWriter(tmp_path / "even.mp4", fps, SIZE, tmp_path / "part.mp4")
    for frame in frames:
        writer.write(frame, frame.bgr)
    writer.complete()
    writer.place()
    even, rate = read_clip(tmp_path / "even.mp4")
    assert abs(len(even) / rate - 9) < 0.35
    shown = even[round(5.0 * rate)].bgr[200, 50, 1]
    # after five seconds frame 30, in the one as in the other
    assert abs(int(shown) - 40 - 3 * 30) <= 6


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_written_clips_play_at_any_size(suffix, tmp_path):
    frames = [np.full((51, 67, 3), 100 + number, dtype=np.uint8) for number in range(5)]
    writer = ClipWriter(tmp_path / f"odd{suffix}", 12.5, (51, 67), tmp_path / f"part{suffix}")
    for number, frame in enumerate(frames):
        writer.write(Frame(number, number / 12.5, number, frame), frame)
    writer.complete()
    writer.place()
    read, fps = read_clip(tmp_path / f"odd{suffix}")
    assert (
        len(read) == 5
        and abs(fps - 12.5) < 0.01
        and read[0].bgr.shape == (50, 66, 3)
        and [path.name for path in tmp_path.iterdir()] == [f"odd{suffix}"]
    )


def test_a_model_follows_a_clip(clip, shapes_model, tmp_path):
    model = wordsight.load(shapes_model)
    model.neighbourhood = None  # noise as a video codec leaves it is foreign to it
    seen = wordsight.video(
        clip,
        output=tmp_path / "out.mp4",
        model=model,
        threshold=0.6,
        drawing=wordsight.videos.VideoDrawing(frames=True),
    )
    assert len(seen) == 40 and seen.fps == FPS and seen.note is None
    truth = ["disc"] * 20 + ["square"] * 20
    labels = [one.label for one in seen]
    assert (
        sum(a == b for a, b in zip(labels, truth, strict=True)) >= 34
        and {"disc": "square", "square": "disc"}[truth[0]] not in labels[:20]
    )
    assert seen.labelled == {name: labels.count(name) for name in ("disc", "square")}
    assert sum(s.end_s - s.start_s for s in seen.segments) == pytest.approx(
        len([x for x in labels if x]) / FPS, abs=0.01
    )
    for one in seen:
        assert (one.box_xyxy is not None) == (
            one.label is not None
        ) and one.time_s == pytest.approx(one.frame / FPS, abs=1e-3)
        assert (
            one.top_label == max(one.probabilities, key=one.probabilities.get)
            and one.probability == one.probabilities[one.top_label]
        )
    frames, fps = read_clip(tmp_path / "out.mp4")
    assert len(frames) == 40 and fps == FPS and frames[0].bgr.shape == (*SIZE, 3)
    tables = tmp_path / "out"
    with open(tables / "frames.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tables / "frames.jsonl").read_text().splitlines()]
    assert [float(row["time_s"]) for row in rows] == [line["time_s"] for line in lines] and list(
        rows[0]
    ) == list(lines[0])
    assert [json.loads(row["probabilities"]) for row in rows] == [
        line["probabilities"] for line in lines
    ]
    with Image.open(tables / "timeline.png") as image:
        assert image.width > 500
    drawn = np.asarray(Image.open(tables / lines[0]["picture"])).astype(int)
    plain = frames_of("disc", 1)[0].astype(int)
    # a box is drawn
    assert len(list((tables / "frames").iterdir())) == 40 and np.abs(drawn - plain).max() > 100


def test_a_group_is_followed_without_a_model_and_nothing_written(tmp_path):
    skimage_data = pytest.importorskip("skimage.data")
    cat = np.asarray(Image.fromarray(skimage_data.chelsea()).resize((320, 240)))
    coffee = np.asarray(Image.fromarray(skimage_data.coffee()).resize((320, 240)))
    path = write_clip(tmp_path / "cat.mp4", [cat] * 10 + [coffee] * 10 + [cat] * 5)
    before = sorted(tmp_path.rglob("*"))
    seen = wordsight.video(path, groups="cat,vehicle")
    assert seen.segments == [
        Segment("cat", 0.0, pytest.approx(1.0)),
        Segment("cat", pytest.approx(2.0), pytest.approx(2.5)),
    ]
    assert (
        seen.class_names == ["cat", "vehicle"]
        and max(one.probabilities["vehicle"] for one in seen) < 0.2
        and sorted(tmp_path.rglob("*")) == before
    )
    heat = wordsight.videos.VideoDrawing(heatmap=True)
    few = wordsight.video(path, groups="cat", fps=2, output=tmp_path / "few.webm", drawing=heat)
    assert [one.frame for one in few] == [0, 5, 10, 15, 20] and len(
        read_clip(tmp_path / "few.webm")[0]
    ) == 5


def test_smoothing_is_an_exponential_mean(clip, shapes_model):
    plain = [
        one.probabilities["disc"] for one in wordsight.video(clip, model=shapes_model, threshold=0)
    ]
    model = wordsight.load(shapes_model)
    model.neighbourhood = None  # else a stranger counts as 0
    smooth = [one.probabilities["disc"] for one in wordsight.video(clip, model=model, smooth_s=0.5)]
    expected, mean = [], plain[0]
    for number, value in enumerate(plain):
        mean = value if number == 0 else mean + (1 - np.exp(-0.1 / 0.5)) * (value - mean)
        expected.append(mean)
    assert np.allclose(smooth, expected, atol=2e-5)


def _cut(path, target, share):
    target.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return target


def test_a_clip_that_ends_early_is_told(cli_here, tmp_path):
    whole = write_clip(tmp_path / "whole.avi", frames_of("disc", 40), code="MJPG")
    _cut(whole, tmp_path / "cut.avi", 0.5)
    done = cli_here("video", "cut.avi", "--group", "vehicle", "-o", "out.mp4", "--json")
    answer = json.loads(done.stdout)
    assert (
        done.returncode == 1
        and "ends early" in answer["note"]
        and answer["note"] in done.stderr
        and 10 < answer["frames"] < 30
    )
    assert len(read_clip(tmp_path / "out.mp4")[0]) == answer["frames"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("empty.mp4", "is an empty file"),
        ("text.mp4", "can't be read as a clip"),
        ("cut.mp4", "can't be read as a clip"),
        ("sound.mp4", "can't be read as a clip"),
        ("list.m3u8", "can't be read as a clip"),
        ("photo.jpg", "is a picture, not a clip"),
        ("folder", "is no file"),
        ("nowhere.mp4", "No such clip"),
    ],
)
def test_what_is_no_clip_is_one_sentence(name, sentence, clip, tmp_path, cli_here):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no clip at all, whatever the name says")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:4,\nfile://{clip}\n")
    _cut(clip, tmp_path / "cut.mp4", 0.6)
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.jpg")
    sound = bytearray(clip.read_bytes())
    ((at, _),) = boxes_of(sound, "moov/trak/mdia/hdlr")
    sound[at + 16 : at + 20] = b"soun"
    (tmp_path / "sound.mp4").write_bytes(sound)
    done = cli_here("video", name, "--group", "vehicle", "-o", "out.mp4")
    assert (
        done.returncode == 2
        and sentence in done.stderr
        and done.stderr.count("\n") == 1
        and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "out.mp4").exists() and not (tmp_path / "out").exists()


def test_a_playlist_reaches_no_server(tmp_path):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)

        def serve():
            try:
                server.accept()[0].close()
                asked.append(True)
            except OSError:
                pass

        waiting = threading.Thread(target=serve)
        waiting.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/part.ts"
        (tmp_path / "list.m3u8").write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{address}\n#EXT-X-ENDLIST\n"
        )
        (tmp_path / "ff.txt").write_text(f"ffconcat version 1.0\nfile {address}\n")
        for name in ("list.m3u8", "ff.txt"):
            with pytest.raises(UnreadableVideo):
                Clip(tmp_path / name)
        waiting.join()
    assert not asked and "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "Give either a model"),
        (["-m", "models", "--group", "vehicle"], "Give either a model"),
        (["--group", "vehicle", "-o", "out.gif"], "must end in .mp4 or .webm"),
        (["--group", "vehicle", "-o", "clip.mp4"], "is the clip itself"),
        (["--group", "vehicle", "-o", "mine.mp4"], "was there before"),
        (["--group", "vehicle", "-o", "folder.mp4"], "where the tables would go"),
        (["--group", "vehicle", "--fps", "0"], "between 0.01 and 240"),
        (["-m", "nowhere", "--backbone", "vgg16"], "--backbone goes with --group"),
        (["--group", "vehicle", "--smooth", "-1"], "between 0 and 3600"),
        (["--group", "vehicles of war", "-o", "out.mp4"], "doesn't know"),
        (["-m", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_one_sentence(options, sentence, clip, tmp_path, cli_here):
    shutil.copyfile(clip, tmp_path / "clip.mp4")
    (tmp_path / "mine.mp4").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "frames.csv").write_text("mine")
    done = cli_here("video", "clip.mp4", *options)
    assert (
        done.returncode == 2
        and sentence in done.stderr
        and done.stderr.count("\n") <= 2
        and "Traceback" not in done.stderr
    )
    assert (
        sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", "folder", "mine.mp4"]
        and (tmp_path / "folder" / "frames.csv").read_text() == "mine"
    )
    assert (tmp_path / "clip.mp4").read_bytes() == clip.read_bytes()


def test_the_same_command_writes_the_same_again(clip, shapes_model, tmp_path, cli_here):
    for images in (["--frames"], []):
        done = cli_here("video", clip, "-m", shapes_model, "-t", 0.6, "-o", "out.mp4", *images)
        assert (
            done.returncode == 0
            and "0:00.0" in done.stdout
            and "sound is not copied" in done.stdout
        )
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        ".wordsight-files",
        ".wordsight-video",
        "frames.csv",
        "frames.jsonl",
        "timeline.png",
    }
    assert len(read_clip(tmp_path / "out.mp4")[0]) == 40


def test_ctrl_c_leaves_a_clip_that_plays(tmp_path):
    path = write_clip(tmp_path / "long.mp4", frames_of("disc", 40) * 50)
    command = [
        sys.executable,
        "-m",
        "wordsight",
        "video",
        str(path),
        "--group",
        "vehicle",
        "-o",
        str(tmp_path / "out.mp4"),
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    until = time.monotonic() + 120
    while not any(
        p.stat().st_size > 20_000 for p in (tmp_path / "out").glob(".wordsight-*/clip.mp4")
    ):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and "holds them and plays" in messages
        and "Traceback" not in messages
    )
    frames, _ = read_clip(tmp_path / "out.mp4")
    lines = (tmp_path / "out" / "frames.jsonl").read_text().splitlines()
    assert 3 < len(frames) == len(lines) < 2000 and (tmp_path / "out" / "timeline.png").is_file()
    assert not unfinished(tmp_path)


def test_a_full_disk_is_one_sentence(clip, tmp_path, cli_here):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2200k", "tmpfs", disk],
        capture_output=True,
        check=False,
    ).returncode:
        pytest.skip("this account may not mount a small disk")
    try:
        done = cli_here("video", clip, "--group", "vehicle", "-o", disk / "out.mp4")
        assert (
            done.returncode == 2
            and "No space left on device" in done.stderr
            and "Traceback" not in done.stderr
        )
        assert not (disk / "out.mp4").exists() and not unfinished(disk)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_real_street_shows_vehicles_throughout(data):
    seen = wordsight.video(
        data / "street" / "traffic-mini.mp4", groups=["vehicle", "building"], fps=3
    )
    assert len(seen) == 18 and seen.labelled == {"vehicle": 18} and len(seen.segments) == 1


def test_frames_that_look_alike_are_taken_once(tmp_path, cli_here):
    images = [
        np.asarray(draw_shape(kind, seed)[0])
        for seed, kind in enumerate(["disc", "square", "disc"])
    ]
    noise = np.random.default_rng(0)
    frames = [
        np.clip(p + noise.integers(-4, 5, p.shape), 0, 255).astype(np.uint8)
        for p in images
        for _ in range(10)
    ]
    write_clip(tmp_path / "a.mp4", [*frames, *frames[:10]])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a-000010.jpg").write_text("mine")
    first = json.loads(cli_here("extract", "a.mp4", "-o", "out", "--fps", 10, "--json").stdout)
    assert first.pop("seconds") > 0
    assert first == {
        "looked_at": 40,
        "written": 3,
        "near_duplicates": 37,
        "unreadable": [],
        "remarks": [],
        "output": "out",
    }
    with open(tmp_path / "out" / "frames.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file_name"], row["frame"], row["time_s"]) for row in rows] == [
        ("a-000000.jpg", "0", "0.000000"), ("a-000010~.jpg", "10", "1.000000"), ("a-000020.jpg",
        "20", "2.000000"),
    ]  # fmt: skip
    assert (tmp_path / "out" / "a-000010.jpg").read_text() == "mine"
    with Image.open(tmp_path / "out" / "a-000020.jpg") as image:
        assert np.abs(np.asarray(image).astype(int) - images[2]).mean() < 15
    shutil.copyfile(tmp_path / "a.mp4", tmp_path / "b.mp4")
    _cut(tmp_path / "a.mp4", tmp_path / "cut.mp4", 0.6)
    again = cli_here("extract", "a.mp4", "b.mp4", "cut.mp4", "-o", "out", "--fps", 10, "--json")
    second = json.loads(again.stdout)
    assert (
        again.returncode == 1
        and (second["written"], second["near_duplicates"], second["looked_at"]) == (0, 80, 80)
        and "cut.mp4" in again.stderr
    )
    assert cli_here("extract", "cut.mp4", "-o", "other").returncode == 2


def test_a_killed_extraction_goes_on(tmp_path):
    path = write_clip(
        tmp_path / "a.mp4",
        [np.asarray(draw_shape(kind, seed)[0]) for seed in range(8) for kind in ("disc", "square")],
    )
    whole = wordsight.videos.extract(path, tmp_path / "whole", fps=10)
    files = sorted(p.name for p in (tmp_path / "whole").glob("*.jpg"))
    assert whole.written == len(files) > 8
    (tmp_path / "cut").mkdir()
    # written, and its row was not
    shutil.copyfile(tmp_path / "whole" / files[1], tmp_path / "cut" / files[1])
    wordsight.videos.extract(path, tmp_path / "cut", fps=10)
    assert sorted(p.name for p in (tmp_path / "cut").glob("*.jpg")) == files
    assert (tmp_path / "cut" / "frames.csv").read_text() == (
        tmp_path / "whole" / "frames.csv"
    ).read_text()


def test_extracted_frames_are_a_class_to_learn_from(tmp_path):
    for kind in ("disc", "square"):
        path = write_clip(tmp_path / f"{kind}.mp4", frames_of(kind, 12))
        wordsight.videos.extract(path, tmp_path / "data" / kind, fps=10)
    model = wordsight.train(tmp_path / "data", tmp_path / "model")
    assert model.class_names == ["disc", "square"] and all(
        count >= 4 for count in model.record.images.values()
    )


def with_gap(path, target, at, seconds):
    """Copy a clip whose times jump after a frame."""
    return at_varying_rate(path, target, [(at, 1), (1, seconds * FPS), (59 - at, 1)])


def test_a_jump_in_the_times_is_taken_out_and_told(counted, tmp_path):
    with Clip(with_gap(counted, tmp_path / "gap.mp4", 30, 3600)) as clip:
        frames = list(clip)
        assert len(frames) == 60 and frames[-1].time_s < 8 and frames[-1].tick <= 8 * clip.fps
        assert "jump by 3600 seconds" in clip.note() and "early" not in clip.note()


@pytest.mark.parametrize(
    ("fps", "written"), [(119.997, 120.0), (199.999, 200.0), (23.9766, 23.977)]
)
def test_any_rate_can_be_written(fps, written, tmp_path):
    path = write_clip(tmp_path / "source.avi", frames_of("disc", 6), fps, "MJPG")
    with Clip(path) as clip:
        assert clip.fps == pytest.approx(written, abs=0.003)
        writer = ClipWriter(tmp_path / "fast.mp4", clip.fps, SIZE, tmp_path / "part.mp4")
        for frame in clip:
            writer.write(frame, frame.bgr)
    writer.complete()
    writer.place()
    assert len(read_clip(tmp_path / "fast.mp4")[0]) == 6


def test_damage_in_the_middle_costs_only_itself(tmp_path):
    data = bytearray(
        write_clip(tmp_path / "whole.avi", frames_of("disc", 40), code="MJPG").read_bytes()
    )
    places = [at for at in range(len(data)) if data[at : at + 4] == b"00dc"][15:17]
    # one frame, nothing but zeros
    data[places[0] + 8 : places[1]] = bytes(places[1] - places[0] - 8)
    (tmp_path / "hurt.avi").write_bytes(data)
    with Clip(tmp_path / "hurt.avi") as clip:
        frames = list(clip)
        assert (
            36 <= len(frames) <= 39
            and frames[-1].time_s == pytest.approx(3.9, abs=0.11)
            and "damaged in 1 places" in clip.note()
        )


def test_stretches_last_until_the_next_frame():
    from wordsight.videos.recorder import FrameSeen, Video

    seen = Video(["cat"], 0.5, 10.0)
    for number, (time_s, label) in enumerate(
        [(0.0, "cat"), (0.7, "cat"), (2.0, None), (3.0, "cat"), (3.5, "cat")]
    ):
        seen.add(FrameSeen(number, time_s, label, "cat", 0.9, {"cat": 0.9}))
    assert seen.segments == [Segment("cat", 0.0, 2.0), Segment("cat", 3.0, 3.6)]
    assert (
        seen.seconds_of("cat") == pytest.approx(2.6)
        and seen.seconds == 3.6
        and seen.labelled == {"cat": 4}
    )


def test_a_clip_of_the_users_own_is_never_replaced(clip, tmp_path, cli_here):
    assert (
        cli_here("video", clip, "--group", "vehicle", "--fps", 1, "-o", "talk.webm").returncode == 0
    )
    (tmp_path / "talk.mp4").write_text("mine")
    done = cli_here("video", clip, "--group", "vehicle", "--fps", 1, "-o", "talk.mp4")
    assert (
        done.returncode == 2
        and "was there before" in done.stderr
        and (tmp_path / "talk.mp4").read_text() == "mine"
    )
    (tmp_path / "talk" / "frames").mkdir()
    (tmp_path / "talk" / "frames" / "000000.jpg").write_text("mine")
    done = cli_here("video", clip, "--group", "vehicle", "--fps", 1, "-o", "talk.webm", "--frames")
    assert (
        done.returncode == 2 and (tmp_path / "talk" / "frames" / "000000.jpg").read_text() == "mine"
    )


def test_a_name_that_is_no_utf8_is_one_sentence(clip, tmp_path, cli_here):
    name = os.fsdecode(b"caf\xe9.mp4")
    shutil.copyfile(clip, tmp_path / name)
    for command in (
        ["video", name, "--group", "vehicle"],
        ["extract", name, "-o", "out"],
        ["video", clip, "--group", "vehicle", "-o", os.fsdecode(b"d\xe9/o.mp4")],
    ):
        done = cli_here(*command)
        assert (
            done.returncode == 2
            and "no valid UTF-8" in done.stderr
            and "Traceback" not in done.stderr
        )
    assert not unfinished(tmp_path)


def test_names_that_hide_or_are_too_long(clip, tmp_path):
    for name in (".hidden.mp4", "字" * 80 + ".mp4"):
        shutil.copyfile(clip, tmp_path / name)
        result = wordsight.videos.extract(tmp_path / name, tmp_path / "out" / name[:3], fps=1)
        assert result.written >= 1 and all(
            not p.name.startswith(".") for p in result.output.glob("*.jpg")
        )


def test_memory_is_bounded_by_frames_under_way(monkeypatch, clip):
    from wordsight.videos import labelling as videos

    made = []
    original = videos.parallel_map
    monkeypatch.setattr(
        videos,
        "parallel_map",
        lambda function, items, threads, most: (
            made.append((threads, most)) or original(function, items, threads, most)
        ),
    )
    monkeypatch.setattr(videos, "HELD_BYTES", 10 * np.prod((*SIZE, 3)))
    assert len(wordsight.video(clip, groups="vehicle", fps=2)) == 8
    assert made and all(most == 2 for _, most in made)


def test_a_foreign_table_is_left_alone(clip, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "frames.csv").write_text("mine\n1\n")
    with pytest.raises(InvalidArgument, match="is no table of frames"):
        wordsight.videos.extract(clip, tmp_path / "out")
    assert (tmp_path / "out" / "frames.csv").read_text() == "mine\n1\n" and [
        p.name for p in (tmp_path / "out").iterdir()
    ] == ["frames.csv"]
    assert Path(clip).is_file()
