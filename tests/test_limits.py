"""Work and memory per file are bounded, and only regular files are opened."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib

import pytest
from PIL import Image

from conftest import draw_shape, write_shapes
from wordsight.backbones.embedder import read
from wordsight.core.regular import open_regular, read_regular
from wordsight.datasets.files import ImageFile
from wordsight.errors import UnreadableImage
from wordsight.images import decoding, limits, signatures

TAGS = ((256, 3, 1), (257, 3, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
        (278, 3, 1), (279, 4, 1))  # fmt: skip
READERS = [decoding.decode, decoding.frame_count, decoding.storable, decoding.header,
           lambda data: decoding.to_jpeg(data, 320)]  # fmt: skip


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg_of_scans(count: int, size=(64, 64)) -> bytes:
    """Return a JPEG whose last scan comes `count` times more."""
    data = saved(Image.new("L", size, 90), "JPEG", progressive=True)
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * count + data[-2:]


def directory(entries, after: int) -> bytes:
    """Return a TIFF directory of (tag, kind, count, value)."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + rows + struct.pack("<I", after)


def tiff_of_pages(count: int) -> bytes:
    pages, size = [], len(directory([(*tag[:2], 1, tag[2]) for tag in TAGS], 0))
    for page in range(count):
        after = 10 + (page + 1) * size if page < count - 1 else 0
        pages.append(directory([(*tag[:2], 1, tag[2]) for tag in TAGS], after))
    return b"II*\0" + struct.pack("<I", 10) + b"\0\0" + b"".join(pages)


def overlapping(values: int, size: int, before=()) -> bytes:
    """Return a TIFF or EXIF whose values are all the same `size` bytes."""
    at = 8 + 6 + 12 * (len(before) + values)
    entries = [*before, *((1000 + i, 7, size, at) for i in range(values))]
    return b"II*\0" + struct.pack("<I", 8) + directory(entries, 0) + bytes(size)


def jpeg_with_exif(exif: bytes) -> bytes:
    data, parts = saved(Image.new("RGB", (32, 32)), "JPEG"), b""
    for start in range(0, len(exif), 65_000):
        part = b"Exif\0\0" + exif[start : start + 65_000]
        parts += b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part
    return data[:2] + parts + data[2:]


def png_with(kind: bytes, content: bytes) -> bytes:
    data = saved(Image.new("RGB", (32, 32)), "PNG")
    chunk = struct.pack(">I", len(content)) + kind + content
    return data[:33] + chunk + struct.pack(">I", zlib.crc32(kind + content)) + data[33:]


def raw_profile(exif: bytes) -> bytes:
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n"
    return b"Raw profile type exif\0\0" + zlib.compress(text.encode())


BOMBS = {
    "scans": lambda: jpeg_of_scans(20_000, (500, 500)),
    "tiff": lambda: overlapping(2000, 1 << 20, [(*tag[:2], 1, tag[2]) for tag in TAGS]),
    "jpeg exif": lambda: jpeg_with_exif(overlapping(9000, 150_000)),
    "png exif": lambda: png_with(b"eXIf", overlapping(9000, 150_000)),
    "png profile": lambda: png_with(b"zTXt", raw_profile(overlapping(9000, 150_000))),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_that_costs_much_is_refused_at_once(bomb):
    data = BOMBS[bomb]()
    signatures.image_formats()
    for reader in READERS:
        if bomb == "png profile" and reader is decoding.frame_count:
            continue  # it has no need of EXIF
        began = time.thread_time()
        tracemalloc.start()
        try:
            with pytest.raises(UnreadableImage, match=r"scans|lie over one another"):
                reader(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 64 << 20
        assert time.thread_time() - began < 3


def test_pages_of_a_tiff_are_counted_in_time_linear_in_their_number():
    def seconds(pages):
        data, began = tiff_of_pages(pages), time.thread_time()
        decoding.frame_count(data)
        return time.thread_time() - began

    assert decoding.frame_count(tiff_of_pages(1)) == 1
    assert decoding.frame_count(tiff_of_pages(12)) == 12
    assert decoding.frame_count(tiff_of_pages(40_000)) == decoding.MAX_FRAMES
    assert decoding.storable(tiff_of_pages(40_000))[1] == ".jpg"
    seconds(1)
    assert seconds(40_000) < 3 * seconds(2_000)  # the square would be 400 times


def test_a_file_is_given_up_when_its_time_is_over(monkeypatch):
    monkeypatch.setattr(limits, "BASE_S", 0.0)
    monkeypatch.setattr(limits, "MEGAPIXEL_S", 0.0)
    noise = saved(Image.effect_noise((2000, 2000), 90).convert("RGB"), "JPEG", quality=95)
    with pytest.raises(UnreadableImage, match="takes more than 0 s"):
        decoding.decode(noise)


def test_a_file_is_given_up_when_it_is_read_again_and_again(monkeypatch):
    file = limits.BoundedFile(bytes(1000))
    monkeypatch.setattr(file, "_left", 5000)
    with pytest.raises(limits.TooMuch, match="again and again"):
        for _ in range(6):
            file.seek(0)
            file.read()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(9)}])
def test_honest_jpegs_stay_within_the_limits(options):
    image = draw_shape("disc", 3)[0]
    data = saved(image, "JPEG", **options)
    # a film may follow a photo, and holds any bytes
    film = b"\xff\xd9" + b"\0ftypmp42" + b"\xff\xda\0\2" * 500
    for one in (data, data + film):
        assert decoding.decode(one).size == (image.height, image.width)
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, "a long description " * 2000
    turned = saved(image, "JPEG", exif=exif)
    assert decoding.decode(turned).size == (image.width, image.height)


def bind(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


SPECIAL = {
    "pipe": os.mkfifo if hasattr(os, "mkfifo") else None,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "socket": lambda path: bind(path),
}
needs_special = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")


@pytest.fixture
def alarm():
    """End a test that hangs."""

    def over(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@needs_special
@pytest.mark.parametrize("kind", SPECIAL)
def test_only_regular_files_are_opened(kind, tmp_path, alarm, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.jpg"
    SPECIAL[kind](path.relative_to(tmp_path) if kind == "socket" else path)
    for reader in (open_regular, read_regular):
        with pytest.raises(OSError, match="not a regular file"):
            reader(path)
    with pytest.raises(UnreadableImage, match="not a regular file"):
        read(ImageFile(path, path.name))
    with pytest.raises(UnreadableImage, match="not a regular file"):
        decoding.header(path)


def test_a_file_larger_than_may_be_read_is_refused(tmp_path):
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(5000)
    assert len(read_regular(path, 5000)) == 5000
    with pytest.raises(OSError, match="larger than 1 KiB"):
        read_regular(path, 1024)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


VOC = "<annotation><filename>{}</filename><object><name>cat</name><bndbox><xmin>1</xmin>"
VOC += "<ymin>1</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object></annotation>"


def voc(folder, bad):
    """Write a folder of VOC annotations, one of them `bad`."""
    (folder / "Annotations").mkdir(parents=True)
    for i in range(2):
        draw_shape("disc", i)[0].save(folder / f"{i}.jpg")
        (folder / "Annotations" / f"{i}.xml").write_text(VOC.format(f"{i}.jpg"))
    bad(folder / "Annotations" / "2.xml")
    return ["evaluate", folder, "--boxes", folder]


def data_of(name):
    def make(folder, bad):
        write_shapes(folder, 2)
        bad(folder / name)
        return ["convert", folder]

    return make


@pytest.fixture(params=["pipe", "device"])
def bad(request):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes")
    return SPECIAL[request.param]


def test_pipes_among_annotations_are_listed(tmp_path, bad, alarm):
    from wordsight.datasets.annotations import read_boxes

    voc(tmp_path / "voc", bad)
    found = read_boxes(tmp_path / "voc")
    assert len(found.images) == 2
    # a link out of the folder is none of its annotations, whatever it leads to
    reasons = ("not a regular file", "leads out of the folder")
    assert [where for where, _ in found.skipped] == ["2.xml"]
    assert any(reason in found.skipped[0][1] for reason in reasons)
    yolo = tmp_path / "yolo"
    for part in ("images", "labels"):
        (yolo / part).mkdir(parents=True)
    for i in range(2):
        draw_shape("disc", i)[0].save(yolo / "images" / f"{i}.jpg")
    (yolo / "labels" / "0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    bad(yolo / "labels" / "1.txt")
    (yolo / "data.yaml").write_text("train: images\nnames: [cat]\n")
    found = read_boxes(yolo / "data.yaml")
    assert len(found.images) == 1
    assert any(reason in found.skipped[0][1] for reason in reasons)


@pytest.mark.parametrize(
    "name", ["data.yaml", "annotations.json", "tasks.json", "metadata.jsonl", "metadata.csv",
             "table.csv", "coco.json", "labels.yaml", "rows.jsonl"],
)  # fmt: skip
def test_a_pipe_in_place_of_annotations_is_refused_or_passed_over(name, tmp_path, bad, alarm):
    from wordsight.datasets.annotations import read_boxes, read_labels
    from wordsight.errors import WordsightError

    data = write_shapes(tmp_path / "data", 2)
    bad(data / name)
    for source in (data, data / name):
        for reader in (read_labels, read_boxes):
            try:
                found = reader(source)
            except WordsightError as error:
                assert "data" in str(error)
            else:
                assert source == data
                assert len(found.images) == 4


def test_a_pipe_among_photos_stops_no_command(tmp_path, bad, alarm, shapes_model, cli_here):
    data = write_shapes(tmp_path / "data", 3)
    bad(data / "disc" / "pipe.jpg")
    bad(data / "disc" / "pipe")
    bad(data / "disc" / ".wordsight-results")  # where a list of our own drawings would lie
    done = cli_here("predict", data, "-m", shapes_model, "-o", "results", "--json", "--no-pictures")
    assert done.returncode == 1
    assert "not a regular file" in done.stdout
    assert json.loads(done.stdout)["skipped"] == ["data/disc/pipe"] or "pipe" in done.stdout
    done = cli_here("clean", data, "-o", "cleaning", "--convert", "copy")
    assert done.returncode in (0, 1), done.stderr
    assert "not a regular file" in done.stdout + done.stderr
    done = cli_here(
        "gather", "disc", "--negatives", "0", "--source", f"folder:{data}", "-o", "got", "-n", "3"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name",
    ["wordsight.json", "config.json", "model.safetensors", "history.csv", "strangers.safetensors"],
)
def test_a_pipe_in_a_model_folder_is_refused(name, tmp_path, bad, alarm, shapes_model):
    import shutil

    from wordsight import load
    from wordsight.errors import InvalidModel

    model = tmp_path / "model"
    shutil.copytree(shapes_model, model)
    (model / name).unlink(missing_ok=True)
    bad(model / name)
    with pytest.raises(InvalidModel, match=f"{name} is not a regular file"):
        load(model)


@pytest.mark.parametrize("module", ["typer", "wordsight.cli.learn"])
def test_an_interrupt_while_modules_load_ends_in_one_line(module, tmp_path):
    code = f"""
import importlib.abc, os, signal, sys
class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["wordsight", "doctor"]
from wordsight.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 130
    assert done.stderr == "Interrupted.\n"
