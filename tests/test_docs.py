"""Every command and snippet of README.md and docs/ is run, page by page and in order, in a folder
that holds what they speak of.

Blocks marked `sh` and `python` are run; anything else (`text`, `toml`, output) is not. A command
that would need another machine, a network or an hour is checked instead: `PARSED` says which,
`INSTEAD` what is changed. Tutorials' scripts and the files of extend.md have tests of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

import wordsight
from conftest import draw_shape, made_once, run_folder, write_shapes
from wordsight.cli import demo
from wordsight.exports import model as exporting
from wordsight.heatmaps import gradients
from wordsight.training.boxes import (
    fit as box_training,
    learner,
    objects as object_training,
    samples as object_samples,
)
from wordsight.training.cutouts import scenes
from wordsight.training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[1]
_shown = runpy.run_path(str(ROOT / "scripts" / "show_code.py"))
SHOWN, filled = _shown["SHOWN"], _shown["filled"]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
)
# with the output that follows, if any
BLOCK = re.compile(
    r"^```(sh|python)\n(.*?)^```$\n?(?:\n```\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)
# only looked at: do the command and its options exist?
PARSED = (
    *("--words-model", "--prepare", "--ray", "s3://", "torchrun", "--tensorboard"),
    *("wordsight app", "wordsight teach", "wordsight serve"),
)
# added where the page says nothing of it, for speed
INSTEAD = {
    "gather": ["--limit", "4", "--negatives", "2"],
    "--recipe": ["--epochs", "1"],
    "finetune": ["--image-size", "64"],
    "auto": ["--image-size", "64"],
}
# of the photos that came along, enough for most pages
FEW = ("chelsea", "camera", "china")
# whose Python is run there, beside what it needs
ELSEWHERE = {"docs/export.md": "test_export.py", "docs/app.md": "test_page.py"}
SECTIONS = [page for page in PAGES if BLOCK.search((ROOT / page).read_text(encoding="utf-8"))]


@pytest.fixture(scope="module", autouse=True)
def _quick(tmp_path_factory):
    """Boxes are learned too little to be right, which test_boxes asks for; a model that several
    pages export is converted once.
    """
    written = run_folder(tmp_path_factory) / "written"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "EPOCHS", 1)
        patch.setattr(learner, "LEAST_STEPS", 10)
        patch.setattr(scenes, "SCENES", 8)
        patch.setattr(scenes, "OF_A_CLASS", 1)
        for name, value in {"JUDGED_STEPS": 4, "STEPS": 8, "EPOCHS": 0, "BATCH": 4}.items():
            patch.setattr(object_training, name, value)
        for name in ("FEWEST_VIEWS", "MOST_VIEWS"):
            patch.setattr(box_training, name, 1)
            patch.setattr(object_samples, name, 1)
        for format, write in exporting.WRITERS.items():
            patch.setitem(exporting.WRITERS, format, _once(write, written / format))
        yield


def _once(write, kept):
    """Return a writer of exports that copies what was written of the same model before, by any
    process of this test run.
    """

    def written(model, path):
        same = kept / hashlib.sha256(model.head.weight.tobytes()).hexdigest()
        kept.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{same}.lock"):
            if not same.exists():
                write(model, path)
                (half := same.with_suffix(".half")).mkdir()
                for file in path.parent.glob(f"{path.stem}.*"):
                    shutil.copy(file, half)
                half.rename(same)
        for file in same.iterdir():
            shutil.copy(file, path.parent)

    return written


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder that the pages speak of."""
    return made_once(tmp_path_factory, "world", _prepare)


def _prepare(world):
    (world / "photos").mkdir()
    for source in demo._sources():
        shutil.copyfile(source, world / "photos" / source.name)
    sets = {
        "data/pets": "cat dog",
        "data/test": "cat dog",
        "data/walls": "brick grass",
        "labelled": "brick tile",
        "cifar10/train": "bird ship",
    }
    for seed, (folder, names) in enumerate(sets.items()):
        drawn = write_shapes(world / folder, 16, 100 * seed)  # enough to promise 0.9
        for kind, name in zip(("disc", "square"), names.split(), strict=True):
            (drawn / kind).rename(drawn / name)
    write_shapes(world / "drawn", 2, 1200)
    for folder in ("photos", "site", "street", "mine"):
        (world / folder).mkdir(exist_ok=True)
        for file in world.glob("drawn/*/*.jpg"):
            shutil.copyfile(file, world / folder / f"{file.parent.name}-{file.name}")
    _boxes(world)
    street = Image.open(world / "photos" / "china.jpg").convert("RGB")
    street.paste(
        Image.open(world / "photos" / "coffee.png").convert("RGB").resize((300, 200)),
        (20, 200),
    )
    for name in ("street.jpg", "site.jpg", "photo.jpg", "cat.jpg", "dog.jpg"):
        street.save(world / name)
    _traps(world)
    _clip(world / "traffic.mp4", street)
    for name in ("clip.mp4", "bus.mp4"):
        shutil.copyfile(world / "traffic.mp4", world / name)
    for name in ("pets", "cars"):
        wordsight.train(world / "data/pets", world / "models" / name)
    wordsight.train(world / "data/walls", world / "models" / "brick", positive="brick")
    for name, objects in (("fruit", "one"), ("bowls", "many")):
        wordsight.train(
            world / "fruit",
            world / "models" / name,
            boxes=world / "boxes.csv",
            settings=TrainingSettings(objects=objects),
        )


def _boxes(world):
    """Draw fruit whose boxes are known."""
    rows: dict[str, list[str]] = {"boxes.csv": [], "boxes-test.csv": [], "apples.csv": []}
    (world / "fruit").mkdir()
    for seed in range(20):
        kind, name = (("disc", "apple"), ("square", "plum"))[seed % 2]
        image, box = draw_shape(kind, 2000 + seed)
        image.save(world / "fruit" / f"{seed}.jpg")
        row = f"{seed}.jpg,{name},{','.join(map(str, box))}"
        rows["boxes.csv" if seed < 16 else "boxes-test.csv"].append(row)
        if name == "apple":
            rows["apples.csv"].append(row)
    for name, lines in rows.items():
        (world / name).write_text(
            "file_name,label,x_min,y_min,x_max,y_max\n" + "\n".join(lines) + "\n"
        )


def _traps(world):
    """Draw photos of two cameras, and say where things are as MegaDetector does."""
    images = []
    for number in range(14):
        name = f"cam{1 + number // 7}/IMG_{number}.JPG"
        (world / "traps" / name).parent.mkdir(parents=True, exist_ok=True)
        kind, first = (("disc", 0), ("square", 1000))[number % 2]
        scene = draw_shape(kind, first + number)[0]  # as in data/pets
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 {number:02}:00:00"
        scene.save(world / "traps" / name, exif=exif, quality=92)
        box = [0.02, 0.02, 0.96, 0.96]
        found = [{"category": "1", "conf": 0.9, "bbox": box}] * (number < 12)
        images.append({"file": name, "detections": found})
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    content = {"info": {"format_version": "1.4"}, "detection_categories": categories}
    (world / "md.json").write_text(json.dumps({**content, "images": images}))
    (world / "cameras.csv").write_text(
        "deploymentID,latitude,longitude\ncam1,52.1,4.3\ncam2,52.1,4.4\n"
    )
    page = (ROOT / "docs" / "how-to" / "camera-traps.md").read_text(encoding="utf-8")
    project = re.search(r"^```text\n(\{.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (world / "project.json").write_text(project[1])


def _clip(path, street):
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (480, 320))
    for left in range(0, 120, 10):
        frame = street.crop((left, 60, left + 480, 380))
        writer.write(np.asarray(frame)[:, :, ::-1].copy())
    writer.release()


@pytest.fixture
def world(prepared, tmp_path, monkeypatch):
    """A copy of the folder, which the page may change; weights, which are never written to in
    place, are linked.
    """

    def copy(source, target):
        return (os.link if source.endswith(".safetensors") else shutil.copy2)(source, target)

    folder = shutil.copytree(prepared, tmp_path / "world", copy_function=copy)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("page", SECTIONS)
def test_page_runs_as_it_stands(page, world, imitation, capsys, monkeypatch):
    # what a page registers is gone after it
    monkeypatch.setattr(gradients, "_methods", dict(gradients._methods))
    for photo in (world / "photos").iterdir():
        drawn = photo.name.startswith(("disc-", "square-"))
        # README shows the output for all photos that came along
        if drawn if page == "README.md" else not drawn and photo.stem not in FEW:
            photo.unlink()
        elif page != "README.md" and not drawn:  # compressed again, shapes look strange
            with Image.open(photo) as image:
                image.convert("RGB").reduce(1 + (image.width > 320)).save(photo)
    if "wordsight gather" in (ROOT / page).read_text(encoding="utf-8"):
        imitation()
    pieces = {shown[3] for shown in SHOWN.findall((ROOT / page).read_text(encoding="utf-8"))}
    for language, code, output in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        # a piece of a script that has a test of its own
        if (page in ELSEWHERE and language == "python") or code in pieces:
            continue
        shown = _shell(code, capsys) if language == "sh" else _python(code)
        if output:
            _compare(shown, output)


def _python(code: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})
    return shown.getvalue()


def _shell(code: str, capsys) -> str:
    """Run the lines of a block and return what the last printed on standard output."""
    printed = ""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            capsys.readouterr()
            _run_line(words, line)
            printed = capsys.readouterr().out
    return printed


def _run_line(words: list[str], line: str) -> None:
    program, *rest = words
    if re.fullmatch(r"WORDSIGHT_\w+=\S+", program):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(*program.split("="))
            _run_line(rest, line)
    elif program == "pip":
        assert rest[0] == "install" and all(_installs(name) for name in rest[1:]), line
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    elif program == "export":
        name = rest[0].split("=")[0]
        assert any(
            name in path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")
        ), line
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), line
    elif program == "mkdir":
        Path(rest[-1]).mkdir(parents=True, exist_ok=True)
    else:
        assert "wordsight" in words, f"nobody knows how to try: {line}"
        _wordsight(words[words.index("wordsight") + 1 :], line)


def _wordsight(arguments: list[str], line: str) -> None:
    from typer.main import get_command

    from wordsight.cli.console import _run
    from wordsight.cli.main import app

    command = get_command(app)
    if any(part in line for part in PARSED):
        name, *options = arguments
        command.commands[name].make_context(name, options)
        return
    for sign, options in INSTEAD.items():
        if sign in arguments and (sign != "--recipe" or "probe" not in arguments):
            for option, value in zip(options[::2], options[1::2], strict=True):
                if option in arguments:
                    arguments[arguments.index(option) + 1] = value
                elif option != "--negatives":
                    arguments += [option, value]
    arguments = [
        part
        for argument in arguments
        for part in (sorted(map(str, Path().glob(argument))) if "*" in argument else [argument])
    ]
    before, sys.argv = sys.argv, ["wordsight", *arguments]
    try:
        code = _run(app)
    finally:
        sys.argv = before
    assert code == 0, f"{line}: exit code {code}"


def _installs(name: str) -> bool:
    extra = re.fullmatch(r"wordsight(?:\[([\w,]+)\])?", name)
    known = re.findall(
        r"^(\w+) = \[",
        (ROOT / "pyproject.toml")
        .read_text()
        .split("[project.optional-dependencies]")[1]
        .split("\n[")[0],
        re.MULTILINE,
    )
    return extra is not None and set((extra[1] or "app").split(",")) <= set(known)


def _compare(shown: str, output: str) -> None:
    """Hold what was printed against what the page says, to the letter; pixels, which stand in
    brackets, may differ by 3, for processors do.
    """
    plain, real = (
        [" ".join(line.split()) for line in text.strip().splitlines()] for text in (output, shown)
    )
    pixels = re.compile(r"\[[\d, ]+\]")
    assert [pixels.sub("[]", line) for line in real] == [pixels.sub("[]", line) for line in plain]
    for ours, theirs in zip(
        re.findall(pixels, "\n".join(real)), re.findall(pixels, "\n".join(plain)), strict=True
    ):
        assert (
            np.abs(np.array(json.loads(ours)) - np.array(json.loads(theirs))).max() <= 12
        ), (  # int8 moves a box a little
            ours,
            theirs,
        )


def test_figures_of_the_readme_stand_in_the_results():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    section = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .split("## Beside other tools")[1]
        .split("\n## ")[0]
    )
    figures = re.findall(r"\*\*([\d.,]+)\*\*", section)
    assert len(figures) >= 10 and all(f"**{figure}**" in results for figure in figures), figures


def test_readme_begins_with_what_it_is():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# wordsight" and "Words in, sight out" in lines[2]
    assert any("](docs/images/" in line for line in lines[:20])


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_what_is_not_run_is_looked_at():
    """Commands in the midst of sentences, tables and blocks that are not run exist with their
    options; Python is never in a block that is not run.
    """
    looked_at = 0
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        fences = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
        for language, body in fences:
            assert language in ("", "sh", "python", "text", "toml"), (
                f"{page}: a block marked {language}"
            )
            assert language in ("python", "toml") or not re.search(
                r"^(import|from \w+ import) ", body, re.MULTILINE
            ), f"{page}: {body[:80]}"
        others = [
            line
            for language, body in fences
            if language in ("", "text")
            for line in body.splitlines()
        ]
        spans = re.findall(
            r"(?<!`)`([^`\n]+)`(?!`)",
            re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL),
        )
        for line in [*others, *spans]:
            words = line.split()
            if (
                words[:1] == ["wordsight"]
                and "…" not in line
                and len(words) > 1
                and "COMMAND" not in words
            ):
                _exists(shlex.split(line, comments=True)[1:], f"{page}: {line}")
                looked_at += 1
            elif (
                words[:1] == ["python"]
                and len(words) > 1
                and words[1].startswith(("docs/", "benchmarks/", "scripts/"))
                and "NAME" not in line
            ):
                assert (ROOT / words[1]).is_file(), f"{page}: {line}"
    assert looked_at > 20


def _exists(arguments: list[str], where: str) -> None:
    from click.exceptions import UsageError
    from typer.main import get_command

    from wordsight.cli.main import app

    command = get_command(app)
    if arguments[0].startswith("-"):
        assert any(
            arguments[0] in parameter.opts
            for parameter in command.get_params(
                command.make_context("wordsight", [], resilient_parsing=True)
            )
        ), where
        return
    if arguments[0].endswith("/"):  # photos without a verb
        arguments = ["run", *arguments]
    assert arguments[0].rstrip(",") in command.commands, where
    if len(arguments) == 1:
        return  # the name of a command
    try:
        command.commands[arguments[0]].make_context(arguments[0], arguments[1:])
    except UsageError as error:
        # a sentence may speak of an option alone
        assert "Missing" in str(error.format_message()), f"{where}: {error.format_message()}"


def test_pages_show_the_code_that_is_run():
    """`python scripts/show_code.py` copies it anew."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert filled(text) == text, page


def test_what_is_run_elsewhere_is_run_there():
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (ROOT / "tests" / test).read_text(encoding="utf-8")
    tests = "".join(
        path.read_text(encoding="utf-8")
        for name in ("tutorials_*", "extend")
        for path in (ROOT / "tests").glob(f"test_{name}.py")
    )
    shown = {
        file
        for page in PAGES
        for _, file, _, _ in SHOWN.findall((ROOT / page).read_text(encoding="utf-8"))
        if file.startswith("docs/")
    }
    assert len(shown) >= 9
    for piece in shown:
        assert re.search(rf'"{Path(piece).stem}(\.py)?"', tests), f"nobody runs {piece}"
