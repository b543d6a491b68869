"""Files mutated at random, fed to whatever reads files of strangers: pictures, annotations, models,
clips, sidecars.

    make fuzz, or: python tests/fuzzing.py [--cases 100000] [--targets images annotations models
    clips sidecars] [--seed 0] [--only 17]

Case `n` of a target is made from the seed and `n` alone, so `--only n` repeats it. Cases run in
processes that may hold so much memory and no more, that may open files only below their own folder,
the picture folder and Python's, and that are ended when one case takes ten seconds. A case is at
fault when it ends the process, hangs, raises what is no error of ours, reaches outside, or leaves
files behind elsewhere; a target is at fault when its process grows from case to case.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import queue
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sidecars
from conftest import DATA, draw_shape, write_shapes
from raw_files import dng

SECONDS = 10.0
# bytes of addresses beyond those of the loaded libraries; a picture of 120 megapixels of 32 bits
# takes 1.5 GiB on its way to RGB
MEMORY = 4 << 30
GROWTH = 128  # MiB a process may grow by once it has warmed up
# of all cases
SHARES = {"images": 0.5, "annotations": 0.4, "models": 0.06, "clips": 0.02, "sidecars": 0.02}
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "TGA",
    "PCX",
    "ICO",
    "SGI",
    "DDS",
    "ICNS",
    "MPO",
    "IM",
    "SPIDER",
    "XBM",
)
# of tools whose formats are read and not written
LABELME = (
    b'{"shapes": [{"label": "a", "shape_type": "polygon", "points": [[1, 2], [30, 4], [9, 40]]}, '
    b'{"label": "b", "shape_type": "circle", "points": [[9, 9], [9, 20]]}], "imagePath": "a.jpg", '
    b'"imageHeight": 48, "imageWidth": 64}'
)
CVAT = (
    b'<annotations><image id="0" name="a.jpg" width="64" height="48"><box label="a" xtl="1" '
    b'ytl="2" xbr="30" ybr="40" rotation="30"/><polygon label="b" points="1,2;30,4;9,40"/>'
    b'<tag label="a"/></image></annotations>'
)
MEGADETECTOR = (
    b'{"images": [{"file": "a.jpg", "detections": [{"category": "1", "conf": 0.9, "bbox": '
    b'[0.1, 0.1, 0.5, 0.5]}]}], "detection_categories": {"1": "animal"}, "info": {}}'
)
# a brush that marks all of its picture
BRUSH = (
    b'[{"data": {"image": "/data/upload/1/1a2b3c4d-a.jpg"}, "annotations": [{"result": [{"type": '
    b'"brushlabels", "original_width": 64, "original_height": 48, "value": {"rle": '
    b'[0, 0, 48, 0, 57, 27, 255, 47, 255, 255], "brushlabels": ["a"]}}]}]}]'
)
INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    60000,
    1 << 24,
)
WORDS = (
    "NaN", "Infinity", "-1", "0", "1e999", "1e-320", "9" * 400, "null", "true", "{}", "[]", '""',
    '"\\u0000"', "../../../../etc/passwd", "/etc/passwd",
    "~root", "..", "\0", "\ud800", "é" * 300, "x" * 5000, "[" * 3000, '{"a":' * 2000,
    "!!python/object/apply:os.system [id]", "&a [*a]", "<!ENTITY a 'b'>",
    "%s%n", "=cmd()", "\x1b[2J", "\u202e", "-", "'", '"', ",", ";", "\n", "\r", "\t", "C:\\con",
    "file:///etc/passwd", "s3://bucket/x", "http://127.0.0.1/",
)  # fmt: skip


# --------------------------------------------------------------------------------------------------
# -------------- mutation


def mutated(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Return a file's bytes with a few mutations, now and then with a part of another's."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6, 20))):
        size = len(changed)
        at, length = rng.randrange(size + 1), min(rng.choice((1, 1, 2, 4, 4, 8, 64, 1024)), size)
        at = min(at, rng.choice((size, size, 64, 512)))  # headers matter most
        kind = rng.randrange(9)
        if kind == 0 and at < size:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at : at + length] = rng.randbytes(length)
        elif kind in (2, 3):
            number = _number(rng)
            changed[at : at + len(number)] = number
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = changed[at : at + length] * rng.choice((1, 2, 50))
        elif kind == 6 and rng.random() < 0.5:
            del changed[at:]
        elif kind == 7 and other:
            start = rng.randrange(len(other))
            changed[at : at + length] = other[start : start + length]
        else:
            changed[at : at + length] = bytes(length)
    return bytes(changed)


def _number(rng: random.Random) -> bytes:
    layout, value = rng.choice(("<I", ">I", "<H", ">H", "B")), rng.choice(INTERESTING)
    return struct.pack(layout, value % (1 << 8 * struct.calcsize(layout)))


def mutated_text(data: bytes, rng: random.Random) -> bytes:
    """Return a text with words, numbers and lines of it changed, or a value of its JSON."""
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.choice((1, 1, 2, 5))):
        kind = rng.randrange(6)
        tokens = list(re.finditer(r"-?[\d.]+(?:[eE][-+]?\d+)?|\w+|\"[^\"]*\"", text))
        lines = text.splitlines(keepends=True)
        if kind in (0, 1) and tokens:
            one = rng.choice(tokens)
            text = (
                text[: one.start()]
                + rng.choice(
                    (rng.choice(WORDS), str(rng.choice(INTERESTING)), rng.choice(tokens)[0])
                )
                + text[one.end() :]
            )
        elif kind == 2 and lines:
            one = rng.randrange(len(lines))
            lines[one : one + 1] = rng.choice(
                (
                    [],
                    [lines[one]] * 2,
                    [rng.choice(lines)],
                    [lines[one].rstrip("\n"), rng.choice(WORDS), "\n"],
                )
            )
            text = "".join(lines)
        elif kind == 3:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(WORDS) + text[at:]
        else:
            with contextlib.suppress(ValueError, RecursionError):
                text = json.dumps(_elsewhere(json.loads(text), rng))
    return text.encode("utf-8", "surrogatepass" if rng.random() < 0.5 else "replace")


def _elsewhere(value: object, rng: random.Random) -> object:
    """Return JSON with one value, at any depth, replaced by another kind of value, removed or
    repeated.
    """
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: one for name, one in value.items() if name != key}
        return {**value, key: _elsewhere(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [
            *value[:at],
            *(
                []
                if rng.random() < 0.1
                else [_elsewhere(value[at], rng)] * rng.choice((1, 1, 1, 2))
            ),
            *value[at + 1 :],
        ]
    odd: tuple = (
        None,
        True,
        -1,
        0,
        1e308,
        10**30,
        float("nan"),
        "",
        "\0",
        "../..",
        "/",
        "x" * 3000,
        [],
        {},
        [[]],
        {"": None},
    )
    return rng.choice((*odd, value, [value], {"a": value}))


# --------------------------------------------------------------------------------------------------
# --------------- targets


class Images:
    """Pictures: the odd files, photos, raw ones, and small ones in every format Pillow writes;
    through everything that opens one.
    """

    def __init__(self, folder: Path) -> None:
        import numpy as np

        from wordsight.images import decoding as images, signatures

        drawn = draw_shape("disc", 1, (48, 64))[0]
        self.seeds: list[bytes] = []
        for name in FORMATS:
            for mode in ("RGB", "L", "P", "RGBA", "CMYK", "I;16", "F", "1"):
                written = io.BytesIO()
                with contextlib.suppress(Exception):  # most formats do not take most modes
                    drawn.convert(mode).save(written, name)
                    self.seeds.append(written.getvalue())
        sensor = np.asarray(drawn).astype(np.uint16) << 8
        # twice as many as there would be of one format
        self.seeds += 8 * [dng(sensor), dng(sensor, 6, np.asarray(drawn)[::4, ::4].copy())]
        if DATA.is_dir():
            self.seeds += [
                file.read_bytes()
                for file in sorted((DATA / "odd_files").iterdir())
                if file.is_file() and file.stat().st_size < 1 << 20
            ]
            self.seeds += [
                file.read_bytes() for file in sorted((DATA / "imagenet_sample").glob("*"))[:20]
            ]
        self.readers: tuple[Callable[[bytes], object], ...] = (
            images.storable,
            images.frame_count,
            images.header,
            lambda data: images.to_jpeg(data, 512),
        )
        self.images, self.signatures = images, signatures

    def __call__(self, rng: random.Random, folder: Path) -> Callable[[], object]:
        data = mutated(rng.choice(self.seeds), rng, rng.choice(self.seeds))
        reader = rng.choice(self.readers) if rng.random() < 0.3 else self.images.decode

        def read() -> object:
            self.signatures.looks_like_image(rng.choice(("", ".jpg", ".tga")), data[:1024])
            return reader(data)

        return read


class Annotations:
    """Trees of annotated pictures in every format we read, some file of them mutated; boxes,
    labels and whole folders read.
    """

    def __init__(self, folder: Path) -> None:
        from wordsight.datasets import formats
        from wordsight.datasets.formats import Labelled, Region

        self.trees: list[dict[str, bytes]] = []
        images = []
        for number in range(4):
            buffer = io.BytesIO()
            draw_shape("disc", number, (48, 64))[0].save(
                buffer,
                "JPEG",
                exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
                if number == 3
                else b"",
            )
            images.append((f"{'ab'[number % 2]}/{number}.jpg", buffer.getvalue()))
        for format in [one for one in formats.list_formats() if one.writes]:
            tree = folder / format.key
            named = []
            for number, (name, data) in enumerate(images):
                target = tree / format.images / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                regions = [
                    Region("ab"[number % 2], (4.0, 5.0, 30.0, 40.0), 0.9),
                    Region("ab"[number % 2], (1.0, 1.0, 9.0, 9.0), 0.5),
                ]
                named.append(Labelled(name, (48, 64), "ab"[number % 2], 0.9, regions))
            (tree / "Annotations").mkdir(exist_ok=True) if format.key == "voc" else None
            format.write(
                named, ["a", "b"], tree, "somebody" if format.key == "voc" else "wordsight 0.1.0"
            )
            self.trees.append(
                {
                    file.relative_to(tree).as_posix(): file.read_bytes()
                    for file in sorted(tree.rglob("*"))
                    if file.is_file()
                }
            )
        picture = images[0][1]
        self.trees += [
            {"a.jpg": picture, "a.json": LABELME},
            {"a.jpg": picture, "annotations.xml": CVAT},
            {"a.jpg": picture, "annotations.json": MEGADETECTOR},
            {"a.jpg": picture, "tasks.json": BRUSH},
        ]
        rows = "".join(
            f"{name},{name[0]},{('train', 'val', 'test')[number % 3]},by,BY-4.0,http://a/b\n"
            for number, (name, _) in enumerate(images)
        )
        folders = dict(images) | {
            "metadata.csv": f"file_name,label,split,creator,license,page_url\n{rows}".encode()
        }
        self.trees += [folders, dict(images)]

    def __call__(self, rng: random.Random, folder: Path) -> Callable[[], object]:
        import wordsight

        tree = dict(rng.choice(self.trees))
        texts = [name for name in tree if not name.endswith(".jpg")] or list(tree)
        for name in rng.sample(texts, 1 if rng.random() < 0.8 else min(2, len(texts))):
            tree[name] = (
                mutated_text(tree[name], rng)
                if rng.random() < 0.7
                else mutated(tree[name], rng, rng.choice(list(tree.values())))
            )
        for name, data in tree.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        # folders of classes follow links
        if (
            "a.json" not in tree
            and rng.random() < 0.1
            and any(name.endswith((".xml", ".json", ".yaml", ".jsonl")) for name in tree)
        ):
            with contextlib.suppress(OSError):
                os.symlink(
                    rng.choice(("/etc", "..", ".", "/etc/passwd")),
                    folder
                    / rng.choice(
                        ("a/link", "images", "labels/images", "link.xml", "images/a/9.jpg")
                    ),
                )
        name = next((name for name in tree if not name.endswith(".jpg")), None)
        source = folder if name is None or rng.random() < 0.5 else folder / name
        way = rng.randrange(3)
        if way == 0:
            return lambda: wordsight.datasets.read_boxes(source)
        if way == 1:
            return lambda: wordsight.datasets.read_labels(source)
        return lambda: wordsight.datasets.read_boxes(source, folder)


class Models:
    """A model's folder, some file of it mutated: loaded, and asked."""

    def __init__(self, folder: Path) -> None:
        import wordsight

        shapes = write_shapes(folder / "shapes", 8)
        wordsight.train(shapes, folder / "model")
        self.model = {file.name: file for file in (folder / "model").iterdir() if file.is_file()}
        self.names = [
            name for name in self.model if name.endswith((".json", ".safetensors", ".csv"))
        ]
        self.photo = next(shapes.rglob("*.jpg"))

    def __call__(self, rng: random.Random, folder: Path) -> Callable[[], object]:
        import wordsight

        hit = rng.choice(self.names)
        for name, file in self.model.items():
            if name != hit:
                os.link(file, folder / name)
        data = self.model[hit].read_bytes()
        # 14 MB of weights, of which every one will do: what counts is the list before them
        if hit == "model.safetensors":
            length = 8 + struct.unpack("<Q", data[:8])[0]
            head = (
                mutated(data[:length], rng)
                if rng.random() < 0.5
                else data[:8] + mutated_text(data[8:length], rng)
            )
            data = (
                head
                + data[length : len(data) - (rng.randrange(1, 10**6) if rng.random() < 0.2 else 0)]
            )
        else:
            data = (
                mutated_text(data, rng)
                if rng.random() < 0.7 and not hit.endswith(".safetensors")
                else mutated(data, rng)
            )
        (folder / hit).write_bytes(data)
        return lambda: wordsight.load(folder).predict(self.photo)


class Clips:
    """Short clips, mutated: every frame read."""

    def __init__(self, folder: Path) -> None:
        import cv2
        import numpy as np

        self.seeds = []
        for name, codec in (
            ("a.mp4", "mp4v"),
            ("a.avi", "MJPG"),
            ("a.avi", "XVID"),
            ("a.webm", "VP80"),
            ("a.mkv", "mp4v"),
        ):
            writer = cv2.VideoWriter(
                str(folder / name), cv2.VideoWriter.fourcc(*codec), 10, (64, 48)
            )
            for number in range(12):
                writer.write(
                    np.ascontiguousarray(
                        np.asarray(draw_shape("disc", number, (48, 64))[0])[..., ::-1]
                    )
                )
            writer.release()
            if (folder / name).is_file():
                self.seeds.append((name, (folder / name).read_bytes()))

    def __call__(self, rng: random.Random, folder: Path) -> Callable[[], object]:
        from wordsight.images.clips import Clip

        name, data = rng.choice(self.seeds)
        (folder / name).write_bytes(mutated(data, rng, rng.choice(self.seeds)[1]))

        def read() -> object:
            with Clip(folder / name) as clip:
                return sum(1 for _ in clip)

        return read


class Sidecars:
    """Sidecars of several programs, written otherwise or mutated: keywords put in and taken out,
    with nothing else changed.
    """

    def __init__(self, folder: Path) -> None:
        self.seeds = list(sidecars.KINDS.values())

    def __call__(self, rng: random.Random, folder: Path) -> Callable[[], object]:
        from wordsight.errors import InvalidArgument

        data = rng.choice(self.seeds)
        data = mutated(data, rng) if rng.random() < 0.2 else sidecars.changed(data, rng)

        def read() -> None:
            if not sidecars.check(data):
                raise InvalidArgument("left alone")

        return read


class Faulty:
    """What no reader should do, to show that it would be noticed: seven cases in turn, the
    seventh of which does no harm.
    """

    def __init__(self, folder: Path) -> None:
        pass

    def __call__(self, rng: random.Random, folder: Path) -> Callable[[], object]:
        import ctypes

        number = int(folder.name.removeprefix("case-"))
        home = Path(os.environ["WORDSIGHT_HOME"])
        return (
            lambda: 1 / 0,
            lambda: ctypes.string_at(0),
            lambda: time.sleep(3600),
            lambda: open("/etc/passwd").close(),
            lambda: bytearray(2 * MEMORY),
            lambda: (home.parent / "wordsight-fuzz-outside").open("a").close(),
            lambda: None,
        )[number % 7]


TARGETS: dict[str, Callable[[Path], Callable[[random.Random, Path], Callable[[], object]]]] = {
    "images": Images,
    "annotations": Annotations,
    "models": Models,
    "clips": Clips,
    "sidecars": Sidecars,
    "faulty": Faulty,
}


# --------------------------------------------------------------------------------------------------
# ---------------- worker


# what Python tells before it touches the disk: where among its arguments the paths stand, and the
# open folders that they are relative to
PATHS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "open": ((0, None),),
    "os.listdir": ((0, None),),
    "os.scandir": ((0, None),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "shutil.rmtree": ((0, 1),),
}


class Watch:
    """What Python does to the world outside for a case: files opened elsewhere, processes,
    connections, pickles. Libraries in C go unseen.
    """

    def __init__(self, roots: list[Path]) -> None:
        self.roots = tuple(str(root.resolve()) for root in roots)
        self.case: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._event)

    def _event(self, event: str, arguments: tuple) -> None:
        if self.case is None:
            return
        if event in PATHS:
            for at, folder_at in PATHS[event]:
                self._reached(event, arguments, at, folder_at)
        elif event in (
            "os.system",
            "os.exec",
            "os.posix_spawn",
            "subprocess.Popen",
            "socket.connect",
            "socket.getaddrinfo",
            "pickle.find_class",
            "os.fork",
        ):
            self.seen.append(f"{event} {arguments!r:.100}")

    def _reached(self, event: str, arguments: tuple, at: int, folder_at: int | None) -> None:
        """Note a path that lies outside; relative to an open folder, where one is given."""
        path = arguments[at]
        if isinstance(path, int) or path is None:
            return
        folder = -1 if folder_at is None or len(arguments) <= folder_at else arguments[folder_at]
        base = "" if folder in (-1, None) else f"/proc/self/fd/{folder}"
        try:
            name = os.path.realpath(os.path.join(base, os.fsdecode(path)))
        except (ValueError, TypeError):
            return
        changes = event != "open" and not event.startswith(("os.listdir", "os.scandir"))
        changes |= (
            event == "open"
            and len(arguments) > 2
            and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        )
        allowed = (self.case, *self.roots[:2]) if changes else (self.case, *self.roots)
        if not f"{name}/".startswith(tuple(f"{root.rstrip('/')}/" for root in allowed)):
            self.seen.append(f"{event} {name}")


def rss() -> float:
    """Return resident MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _fault(error: BaseException) -> str:
    """Tell an error and where it was raised: the innermost lines of ours and of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = next(
        (frame for frame in reversed(frames) if "wordsight" in Path(frame.filename).parts),
        frames[-1],
    )
    places = dict.fromkeys(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in (ours, frames[-1])
    )
    return f"{type(error).__name__}: {str(error)[:100]!r} at {' < '.join(places)}"


def worker(target: str, seed: int, cases: Iterator[int], out: io.TextIOBase) -> None:
    """Run cases; say before each its number, and after each what came of it."""
    import logging

    from wordsight.errors import WordsightError

    logging.disable()
    os.environ |= {"WORDSIGHT_OFFLINE": "1"}
    home = Path(os.environ["WORDSIGHT_HOME"])
    with tempfile.TemporaryDirectory(prefix="wordsight-fuzz-") as made:
        base = Path(made)
        (base / "seeds").mkdir()
        one = TARGETS[target](base / "seeds")
        watch = Watch(
            [
                home,
                home / "cache",  # which may be a link to one that several processes share
                base / "seeds",
                Path(sys.prefix),
                Path(sys.base_prefix),
                Path(__file__).parents[1],
                *map(Path, ("/proc", "/sys", "/dev")),
                *map(Path, filter(None, sys.path)),
            ]
        )
        # libraries reserve more than they use
        limit = (
            MEMORY + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        )
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        say = lambda **what: print(json.dumps(what), file=out, flush=True)  # noqa: E731
        say(ready=True)
        for number in cases:
            folder = base / f"case-{number}"
            folder.mkdir()
            read = one(random.Random(f"{seed}/{target}/{number}"), folder)
            say(case=number)
            began, fault = time.perf_counter(), None
            watch.seen, watch.case = [], str(folder)
            try:
                read()
                came = "read"
            except WordsightError as error:
                came = "refused"
                if "\n" in str(error).strip() or len(str(error)) > 2000:
                    fault = f"a message that is no sentence: {str(error)[:200]!r}"
            except BaseException as error:
                came, fault = "fault", _fault(error)
            watch.case = None
            shutil.rmtree(folder, ignore_errors=True)
            if watch.seen:
                fault = f"reached outside: {watch.seen[:3]}"
            say(
                done=number,
                came=came,
                fault=fault,
                seconds=round(time.perf_counter() - began, 3),
                rss=round(rss(), 1),
            )


# --------------------------------------------------------------------------------------------------
# ---------------- parent


@dataclass
class Found:
    """What came of a target's cases."""

    cases: int = 0
    came: collections.Counter = field(default_factory=collections.Counter)
    slowest: tuple[float, int] = (0.0, -1)
    growth: float = 0.0
    faults: list[tuple[int, str]] = field(default_factory=list)


def fuzz(target: str, numbers: list[int], seed: int = 0, a_process: int = 4000) -> Found:
    """Run cases of one target in processes of their own; start another where one ends, and go
    on behind the case it ended at.
    """
    found, left = Found(), collections.deque(numbers)
    while left:
        some = [left.popleft() for _ in range(min(a_process, len(left)))]
        done = _one_process(target, some, seed, found)
        left.extendleft(reversed(some[done:]))
    return found


def _each(stream: Iterable[str], lines: queue.SimpleQueue[str]) -> None:
    """Put every line of a stream into a queue, and an empty one at its end."""
    for line in stream:
        lines.put(line)
    lines.put("")


def _one_process(target: str, numbers: list[int], seed: int, found: Found) -> int:
    """Run cases in one process until they are done or it ends; return how many were begun."""
    command = [sys.executable, __file__, "--worker", target, "--seed", str(seed)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(numbers) + "\n")
        process.stdin.close()
        begun, current, sizes, waited = 0, None, [], 300.0  # until it is ready
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_each, args=(process.stdout, lines), daemon=True).start()
        while True:
            try:
                line, ready = lines.get(timeout=waited), True
            except queue.Empty:
                line, ready = "", False
            if not line:
                if not ready:
                    process.kill()
                code = process.wait()
                if current is not None:
                    errors.seek(0)
                    found.faults.append(
                        (
                            current,
                            "hangs"
                            if not ready
                            else f"ends the process ({code}): {errors.read()[-800:]}",
                        )
                    )
                elif begun < len(numbers):
                    errors.seek(0)
                    raise SystemExit(
                        f"{target}: the process did not start: {errors.read()[-2000:]}"
                    )
                break
            said = json.loads(line)
            waited = SECONDS
            if "case" in said:
                begun, current = begun + 1, said["case"]
            elif "done" in said:
                current = None
                found.cases += 1
                found.came[said["came"]] += 1
                found.slowest = max(found.slowest, (said["seconds"], said["done"]))
                sizes.append(said["rss"])
                if said["fault"]:
                    found.faults.append((said["done"], said["fault"]))
                if begun == len(numbers):
                    waited = 60.0
        if len(sizes) >= 1000:
            middle = len(sizes) // 2
            grown = min(sizes[-100:]) - min(sizes[middle - 100 : middle])
            found.growth = max(found.growth, grown)
            if grown > GROWTH:
                found.faults.append(
                    (numbers[0], f"grows by {grown:.0f} MiB in {len(sizes) - middle} cases")
                )
    return begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--targets", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one case, by its number")
    parser.add_argument("--worker", choices=list(TARGETS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        with os.fdopen(os.dup(1), "w") as out:
            os.dup2(2, 1)  # what libraries print is no answer
            worker(asked.worker, asked.seed, iter(json.loads(sys.stdin.readline())), out)
        return
    with tempfile.TemporaryDirectory(prefix="wordsight-fuzz-home-") as home:
        os.environ.setdefault("WORDSIGHT_HOME", home)
        total = sum(SHARES[target] for target in asked.targets)
        faults = 0
        for target in asked.targets:
            numbers = (
                list(range(round(asked.cases * SHARES[target] / total)))
                if asked.only is None
                else [asked.only]
            )
            began = time.perf_counter()
            found = fuzz(target, numbers, asked.seed)
            came = ", ".join(f"{count:,} {what}" for what, count in found.came.most_common())
            rest = (
                f"the slowest {found.slowest[0]:.1f} s (case {found.slowest[1]}); grown by "
                f"{found.growth:.0f} MiB; {len(found.faults)} faults"
            )
            print(
                f"{target}: {found.cases:,} cases in {time.perf_counter() - began:.0f} s: "
                f"{came}; {rest}",
                flush=True,
            )
            for number, fault in found.faults:
                print(f"  {target} case {number}: {fault}", flush=True)
            faults += len(found.faults)
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
