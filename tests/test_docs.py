"""Every command and snippet of README.md and docs/ is run, page by page and in order, in a folder that holds what they speak of.

Blocks marked `sh` and `python` are run; anything else (`text`, `toml`, output) is not. A command that would need another machine, a network or an
hour is checked instead: `PARSED` says which, `INSTEAD` what is changed. Tutorials' scripts and the files of extend.md have tests of their own.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tomllib
from PIL import Image

import wordsight
from conftest import write_shapes
from wordsight import demo

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$\n?(?:\n```\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)  # with the output that follows, if any
PARSED = ("--ray", "s3://", "wordsight app", "torchrun", "--tensorboard")  # only looked at: do the command and its options exist?
INSTEAD = {"gather": ["--limit", "4", "--negatives", "2"], "--recipe": ["--epochs", "1"]}  # added where the page says nothing of it, for speed
ELSEWHERE = {"docs/export.md": "test_export.py", "docs/app.md": "test_page.py"}  # whose Python is run there, beside what it needs
SECTIONS = [page for page in PAGES if BLOCK.search((ROOT / page).read_text(encoding="utf-8"))]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """The folder that the pages speak of."""
    world = tmp_path_factory.mktemp("world")
    (world / "photos").mkdir()
    for source in demo._sources():
        shutil.copyfile(source, world / "photos" / source.name)
    sets = {"data/pets": "cat dog", "data/test": "cat dog", "data/walls": "brick grass", "labelled": "brick tile"}
    for seed, (folder, names) in enumerate(sets.items()):
        drawn = write_shapes(world / folder, 12, 100 * seed)
        for kind, name in zip(("disc", "square"), names.split(), strict=True):
            (drawn / kind).rename(drawn / name)
    write_shapes(world / "drawn", 3, 1200)
    for folder in ("photos", "site", "street", "mine"):
        (world / folder).mkdir(exist_ok=True)
        for file in world.glob("drawn/*/*.jpg"):
            shutil.copyfile(file, world / folder / f"{file.parent.name}-{file.name}")
    _boxes(world)
    street = Image.open(world / "photos" / "china.jpg").convert("RGB")
    street.paste(Image.open(world / "photos" / "motorcycle_left.png").convert("RGB").resize((300, 200)), (20, 200))
    for name in ("street.jpg", "site.jpg", "photo.jpg", "cat.jpg", "dog.jpg"):
        street.save(world / name)
    _clip(world / "traffic.mp4", street)
    for name in ("clip.mp4", "bus.mp4"):
        shutil.copyfile(world / "traffic.mp4", world / name)
    for name in ("pets", "cars"):
        wordsight.train(world / "data/pets", world / "models" / name)
    wordsight.train(world / "data/walls", world / "models" / "brick", positive="brick")
    wordsight.train(world / "fruit", world / "models" / "fruit", boxes=world / "boxes.csv")
    return world


def _boxes(world):
    """Draw fruit whose boxes are known."""
    from conftest import draw_shape

    rows = {"boxes.csv": [], "boxes-test.csv": []}
    (world / "fruit").mkdir()
    for seed in range(30):
        kind, name = (("disc", "apple"), ("square", "plum"))[seed % 2]
        image, box = draw_shape(kind, 2000 + seed)
        image.save(world / "fruit" / f"{seed}.jpg")
        rows["boxes.csv" if seed < 20 else "boxes-test.csv"].append(f"{seed}.jpg,{name},{','.join(map(str, box))}")
    for name, lines in rows.items():
        (world / name).write_text("file_name,label,x_min,y_min,x_max,y_max\n" + "\n".join(lines) + "\n")


def _clip(path, street):
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (480, 320))
    for left in range(0, 120, 10):
        frame = street.crop((left, 60, left + 480, 380))
        writer.write(np.asarray(frame)[:, :, ::-1].copy())
    writer.release()


@pytest.fixture
def world(prepared, tmp_path, monkeypatch):
    """A copy of the folder, which the page may change."""
    folder = shutil.copytree(prepared, tmp_path / "world")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("page", SECTIONS)
def test_page_runs_as_it_stands(page, world, imitation, capsys):
    if page == "README.md":  # its output is that of the photos that came along, alone
        for drawn in [*world.glob("photos/disc-*"), *world.glob("photos/square-*")]:
            drawn.unlink()
    if "wordsight gather" in (ROOT / page).read_text(encoding="utf-8"):
        imitation()
    for language, code, output in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if (page in ELSEWHERE and language == "python") or code.startswith("--8<--"):  # a piece of a script that has a test of its own
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
    if program == "pip":
        assert rest[0] == "install" and all(_installs(name) for name in rest[1:]), line
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    elif program == "export":
        name = rest[0].split("=")[0]
        assert any(name in path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")), line
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), line
    elif program == "mkdir":
        Path(rest[-1]).mkdir(parents=True, exist_ok=True)
    else:
        assert "wordsight" in words, f"nobody knows how to try: {line}"
        _wordsight(words[words.index("wordsight") + 1 :], line)


def _wordsight(arguments: list[str], line: str) -> None:
    from typer.main import get_command

    from wordsight.cli import app
    from wordsight.console import _run

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
    arguments = [part for argument in arguments for part in (sorted(map(str, Path().glob(argument))) if "*" in argument else [argument])]
    before, sys.argv = sys.argv, ["wordsight", *arguments]
    try:
        code = _run(app)
    finally:
        sys.argv = before
    assert code == (1 if "--precision" in arguments else 0), f"{line}: exit code {code}"  # two dozen pictures are too few for a promise


def _installs(name: str) -> bool:
    extra = re.fullmatch(r"wordsight(?:\[([\w,]+)\])?", name)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"] if sys.version_info >= (3, 11) else None
    return extra is not None and (known is None or set((extra[1] or "app").split(",")) <= set(known))


def _compare(shown: str, output: str) -> None:
    """Hold what was printed against what the page says: words to the letter, numbers to 3 of the last digit, for processors differ."""
    number = re.compile(r"\d+(?:\.\d+)?")
    plain = [" ".join(line.split()) for line in output.strip().splitlines()]
    real = [" ".join(line.split()) for line in shown.strip().splitlines()][: len(plain)]
    assert [number.sub("#", line) for line in real] == [number.sub("#", line) for line in plain]
    for ours, theirs in zip(number.findall("\n".join(real)), number.findall("\n".join(plain)), strict=True):
        assert abs(float(ours) - float(theirs)) <= 3 * 10.0 ** -len(theirs.partition(".")[2]), (ours, theirs)


def test_figures_of_the_readme_stand_in_the_results():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Beside other tools")[1].split("\n## ")[0]
    figures = re.findall(r"\*\*([\d.,]+)\*\*", section)
    assert len(figures) >= 10 and all(f"**{figure}**" in results for figure in figures), figures


def test_readme_begins_with_what_it_is():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# wordsight" and "Words in, sight out" in lines[2]
    assert any("](docs/images/" in line for line in lines[:20])


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_nothing_is_hidden_from_being_run():
    """A command in a block that is not run would go stale."""
    for page in PAGES:
        for language, body in re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            if language in ("bash", "shell", "console"):
                pytest.fail(f"{page}: a block marked {language}; use sh")
            assert not (language == "" and re.search(r"^(wordsight|python|import) ", body, re.MULTILINE)), f"{page}: {body[:80]}"


def test_what_is_run_elsewhere_is_run_there():
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (ROOT / "tests" / test).read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    pieces = {piece for page in PAGES for piece in re.findall(r'^--8<-- "(docs/[^":]+\.py)', (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)}
    assert len(pieces) >= 9
    for piece in pieces:
        assert re.search(rf'"{Path(piece).stem}(\.py)?"', tests), f"nobody runs {piece}"
