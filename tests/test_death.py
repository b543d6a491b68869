"""Killed at random moments: what lies there is whole, and the same command goes on to the same
result. `gather` has its own in test_gathering.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from conftest import draw_shape, write_shapes


@dataclass(frozen=True)
class Deed:
    """A command that is killed.

    Attributes:
        arguments: from the folder of shapes and the folder of other photos.
        result: what is compared, from the folder it ran in.
    """

    arguments: Callable[[Path, Path], list[object]]
    result: Callable[[Path], object]


def predictions(folder: Path) -> object:
    """Return what a results folder says, and the bytes of what was drawn."""
    rows = [
        json.loads(line) for line in (folder / "out" / "predictions.jsonl").read_text().splitlines()
    ]
    drawn = {
        path.relative_to(folder).as_posix(): digest(path)
        for kind in ("heatmaps", "masks")
        for path in sorted((folder / "out" / kind).rglob("*.*"))
    }
    assert len(rows) == 30 and len(drawn) > 20
    return rows, drawn


def weights(folder: Path) -> object:
    """Return a model's weights and what it says of itself, but for times."""
    record = json.loads((folder / "m" / "wordsight.json").read_text())
    kept = {
        name: record[name]
        for name in ("class_names", "temperature", "threshold", "neighbourhood", "backbone")
    }
    return digest(folder / "m" / "model.safetensors"), json.dumps(kept, sort_keys=True)


def tree(folder: Path) -> object:
    """Return every visible file's bytes of the data set and of what was set aside."""
    places = [folder / "data", folder / "data-rejected"]
    return {
        path.relative_to(folder).as_posix(): digest(path)
        for place in places
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


SMALL = ("--image-size", 64, "--batch-size", 8, "--patience", 99)
DEEDS = {
    "run": Deed(
        lambda shapes, photos: [
            "run",
            "-c",
            "disc,square",
            "-p",
            photos,
            "--data",
            shapes,
            "-o",
            "out",
        ],
        predictions,
    ),
    "predict": Deed(
        lambda shapes, photos: ["predict", photos, "-m", "../model", "-o", "out"], predictions
    ),
    "clean": Deed(
        lambda shapes, photos: [
            "clean",
            "data",
            "--apply",
            "--reasons",
            "duplicate,near_duplicate,undecodable",
        ],
        tree,
    ),
    "probe": Deed(
        lambda shapes, photos: ["train", shapes, "-o", "m", "--recipe", "probe"], weights
    ),
    "scratch": Deed(
        lambda shapes, photos: [
            "train",
            shapes,
            "-o",
            "m",
            "--recipe",
            "scratch",
            "--epochs",
            4,
            *SMALL,
        ],
        weights,
    ),
    "finetune": Deed(
        lambda shapes, photos: [
            "train",
            shapes,
            "-o",
            "m",
            "--recipe",
            "finetune",
            "--epochs",
            2,
            *SMALL,
        ],
        weights,
    ),
}
# and 20 of gather
KILLS = {"run": 40, "predict": 40, "clean": 40, "probe": 30, "scratch": 20, "finetune": 10}


def sound(folder: Path) -> None:
    """Assert that every visible file below is whole."""
    for path in folder.rglob("*"):
        if (
            not path.is_file()
            or path.name == "torn.jpg"
            or any(part.startswith(".") for part in path.relative_to(folder).parts)
        ):
            continue
        if path.suffix in (".jpg", ".png"):
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            assert [json.loads(line) for line in path.read_text().splitlines()]
        elif path.suffix == ".csv":
            assert list(csv.reader(io.StringIO(path.read_text(errors="surrogateescape"))))


def begin(where: Path, deed: str, shapes: Path) -> Path:
    """Make the folder that a deed is done in."""
    where.mkdir(parents=True)
    if deed == "clean":
        shutil.copytree(shapes, where / "data")
        for kind in ("disc", "square"):
            shutil.copy(where / "data" / kind / "000.jpg", where / "data" / kind / "copy.jpg")
            (where / "data" / kind / "torn.jpg").write_bytes(
                (where / "data" / kind / "001.jpg").read_bytes()[:900]
            )
    return where


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Thirty photos to predict."""
    return write_shapes(tmp_path_factory.mktemp("photos"), 15, seed=700)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("deed", "kills"),
    [pytest.param(name, kills, marks=pytest.mark.slow) for name, kills in KILLS.items()],
)
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(
    deed, kills, shapes, photos, shapes_model, tmp_path, cli_here
):
    (tmp_path / "model").symlink_to(shapes_model)
    arguments = [*map(str, DEEDS[deed].arguments(shapes, photos))]
    command = [sys.executable, "-m", "wordsight", *arguments]
    home = {"WORDSIGHT_HOME": str(tmp_path / "home")}
    env = {**os.environ, **home}
    shutil.copytree(
        Path(os.environ["WORDSIGHT_HOME"]) / "cache" / "backbones",
        tmp_path / "home" / "cache" / "backbones",
    )

    def forget():
        """Without it there would be nothing left to do but the first time."""
        for file in (tmp_path / "home" / "cache").glob("embeddings*"):
            file.unlink()

    whole = begin(tmp_path / "whole", deed, shapes)
    began = time.monotonic()
    done = subprocess.run(command, env=env, cwd=whole, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    expected = DEEDS[deed].result(whole)
    rng = random.Random(kills)
    killed = late = 0
    torn = begin(tmp_path / "torn0", deed, shapes)
    while killed < kills:
        if rng.random() < 0.3:
            forget()
        process = subprocess.Popen(
            command,
            env=env,
            cwd=torn,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(rng.uniform(0.2, 1.0) * took)
        ended = process.poll() is not None
        os.killpg(process.pid, signal.SIGKILL) if not ended else None
        process.wait()
        killed, late = killed + (not ended), late + ended
        took *= 0.9 if ended else 1.02  # the machine has become quicker, or slower, since
        assert late < 5 * kills + 10, "it is over before it can be killed"
        sound(torn)
        if ended:
            assert process.returncode in (0, 1)
        if (torn / "m").exists():
            assert weights(torn) == expected
        if (torn / "out" / "predictions.jsonl").exists():
            assert predictions(torn)[0] == expected[0]
        if ended or rng.random() < 0.3:  # another start; the others go on with what lies there
            again = cli_here(*arguments, env=home, cwd=torn)
            assert again.returncode == 0 and DEEDS[deed].result(torn) == expected, again.stderr
            torn = begin(tmp_path / f"torn{killed}-{late}", deed, shapes)
    end = cli_here(*arguments, env=home, cwd=torn)
    assert end.returncode == 0, end.stderr
    assert DEEDS[deed].result(torn) == expected


def test_a_photo_that_goes_or_changes_while_it_is_read_is_one_row(shapes_model, tmp_path):
    import wordsight

    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(40):
        draw_shape("disc", number)[0].save(photos / f"{number:03d}.jpg")

    def meddle(done, total, what):
        if done == 1:
            (photos / "037.jpg").unlink()
            (photos / "038.jpg").write_bytes(b"no picture any more")
            (photos / "039.jpg").unlink()
            (photos / "039.jpg").mkdir()

    found = wordsight.load(shapes_model).predict(photos, output=tmp_path / "out", progress=meddle)
    rows = {row.file_name: row for row in found}
    assert len(rows) == 40 and rows["036.jpg"].error is None
    assert (
        "gone" in rows["037.jpg"].error
        and rows["038.jpg"].error
        and "regular" in rows["039.jpg"].error
    )


def test_names_no_one_expects(shapes_model, tmp_path, cli):
    photos = tmp_path / "photos"
    photos.mkdir()
    drawn = tmp_path / "a.jpg"
    draw_shape("disc", 1)[0].save(drawn)
    names = [
        b"\xff\xfe.jpg",
        b"a" * 251 + b".jpg",
        "é\u202e.jpg".encode(),
        b"new\nline.jpg",
        b'"quoted".jpg',
        b"-o.jpg",
        b" .jpg",
        b"=1+1.jpg",
        b"%s.jpg",
    ]
    for name in names:
        shutil.copy(os.fsencode(drawn), os.fsencode(photos) + b"/" + name)
    os.symlink(photos, photos / "loop")
    os.symlink("nowhere", photos / "gone.jpg")
    done = cli("predict", photos, "-m", shapes_model, "-o", "out")
    # the link to nowhere
    assert "Traceback" not in done.stderr and done.returncode == 1, done.stderr
    with open(
        tmp_path / "out" / "predictions.csv",
        encoding="utf-8-sig",
        errors="surrogateescape",
        newline="",
    ) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(names) + 1 and [row["file_name"] for row in rows if row["error"]] == [
        "gone.jpg"
    ]


def test_two_runs_into_one_folder_and_a_clock_that_jumps(shapes_model, photos, tmp_path, cli_here):
    command = [
        sys.executable,
        "-m",
        "wordsight",
        "predict",
        str(photos),
        "-m",
        str(shapes_model),
        "-o",
        str(tmp_path / "out"),
        "--json",
    ]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert {0} <= {process.returncode for process in both} <= {0, 2} and not any(
        "Traceback" in errors for _, errors in said
    )
    assert all(
        "Another run is writing" in errors
        for process, (_, errors) in zip(both, said, strict=True)
        if process.returncode == 2
    )
    for when in (0, 4_000_000_000):  # files from 1970, and from 2096
        for path in [*photos.rglob("*.jpg"), *shapes_model.iterdir()]:
            os.utime(path, (when, when))
        again = cli_here(*command[3:])
        assert again.returncode == 0, again.stderr
    assert predictions(tmp_path)


@pytest.fixture
def disk(tmp_path):
    """Mount a disk of its own: `disk(size)`, or read-only."""
    mounted = []

    def mount(size, read_only=False):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        options = f"size={size}" + ",ro" * read_only
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
            capture_output=True,
            check=False,
        ).returncode:
            pytest.skip("this account may not mount a disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("size", "read_only", "said"),
    [("200k", False, "No space left on device"), ("1m", True, "Read-only file system")],
)
@pytest.mark.parametrize("deed", ["predict", "run", "clean", "gather", "train"])
def test_a_disk_that_takes_nothing_is_one_sentence(
    deed, size, read_only, said, disk, shapes, photos, shapes_model, imitation, cli_here
):
    target = disk("30k" if deed == "clean" and not read_only else size, read_only) / "out"
    env = {}
    if deed == "gather":
        env = imitation("--offered", 300).env
    arguments = {
        "predict": ["predict", photos, "-m", shapes_model],
        "run": ["run", "-c", "disc,square", "-p", photos, "--data", shapes],
        "clean": ["clean", shapes],
        "gather": ["gather", "cat", "--limit", 60],
        "train": ["train", shapes],
    }[deed]
    done = cli_here(*arguments, "-o", target, env=env)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error")]) == 1
    left = [
        path
        for path in target.rglob("*")
        if path.is_file() and path.suffix in (".jpg", ".png", ".json", ".jsonl", ".csv")
    ]
    for path in left:
        sound(path.parent)
