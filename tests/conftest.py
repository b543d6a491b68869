"""Shared fixtures: a private home, drawn pictures whose class and box are known, and real
photos where there are any.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

DATA = Path(
    os.environ.get("WORDSIGHT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


# started in the background of a script: processes would never see a Ctrl-C
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more process than cores: those that wait for a page or a killed command use none."""
    from wordsight.core.threads import cores

    return cores() + 1


def run_folder(tmp_path_factory) -> Path:
    """Return the folder of this test run, the same for every process of it."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def made_once(tmp_path_factory, name: str, make) -> Path:
    """Return a folder that `make(folder)` fills, once for all processes of this test run."""
    from filelock import FileLock

    folder = run_folder(tmp_path_factory) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            shutil.rmtree(half := folder.with_name(f"{name}-half"), ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory):
    """Everything wordsight keeps goes to a folder of this test run; its cache of prepared backbones
    and embeddings, which take seconds to make, is one for all processes of the run.
    """
    home = tmp_path_factory.mktemp("home")
    shared = run_folder(tmp_path_factory) / "cache"
    shared.mkdir(exist_ok=True)
    (home / "cache").symlink_to(shared)
    os.environ["WORDSIGHT_HOME"] = str(home)
    os.environ["WORDSIGHT_OFFLINE"] = "1"


@pytest.fixture
def fresh_home(tmp_path, monkeypatch):
    """An empty home, but for the prepared backbones, which take seconds to make."""
    from wordsight.backbones.registry import load_backbone

    load_backbone()
    prepared = Path(os.environ["WORDSIGHT_HOME"]) / "cache" / "backbones"
    home = tmp_path / "home"
    # others may be making a network there meanwhile
    unfinished = shutil.ignore_patterns(".*")
    # whatever replaces a file there puts a new one in its place
    shutil.copytree(
        prepared, home / "cache" / "backbones", ignore=unfinished, copy_function=os.link
    )
    monkeypatch.setenv("WORDSIGHT_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def data():
    """The folder of real pictures."""
    if not DATA.is_dir():
        pytest.skip(
            f"needs the folder of real pictures (set WORDSIGHT_TEST_DATA); '{DATA}' is not there"
        )
    return DATA


def pillow_reads(path: Path) -> bool:
    """Tell whether this machine's Pillow, whose versions differ on broken files, reads a
    picture; HEIC with the extra.
    """
    from wordsight.images.decoders.extras import reads_heif

    reads_heif()
    try:
        with Image.open(path) as image:
            image.load()
    except Exception:  # broken files raise anything
        return False
    return image.format not in ("EPS", "WMF")


def draw_shape(
    kind: str, seed: int, size: tuple[int, int] = (240, 320)
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Draw a red disc or a blue striped square on noise; return the picture and the shape's
    xyxy box.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    image = Image.fromarray(rng.integers(90, 150, (height, width, 3), dtype=np.uint8))
    side = int(rng.integers(height // 3, height // 2))
    x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
    draw = ImageDraw.Draw(image)
    if kind == "disc":
        draw.ellipse((x, y, x + side, y + side), fill=(220, 30, 30))
    else:
        draw.rectangle((x, y, x + side, y + side), fill=(30, 60, 220))
        for offset in range(0, side, 12):
            draw.line((x, y + offset, x + side, y + offset), fill=(250, 250, 90), width=4)
    return image, (x, y, x + side, y + side)


def unfinished(folder: Path) -> list[Path]:
    """Return what runs that did not end left below a folder."""
    return [
        path
        for path in sorted(folder.rglob(".*"))
        if path.suffix in (".part", ".wordsight")
        or re.fullmatch(r"\.wordsight-[0-9a-f]{12}", path.name)
    ]


def write_shapes(folder: Path, count: int, seed: int = 0, kinds=("disc", "square")) -> Path:
    """Write a folder with `count` pictures a kind, one subfolder each."""
    for k, kind in enumerate(kinds):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            draw_shape(kind, seed + 1000 * k + i)[0].save(
                folder / kind / f"{i:03d}.jpg", quality=92
            )
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """Twelve discs and twelve squares, to train on."""
    return write_shapes(tmp_path_factory.mktemp("shapes"), 12)


@pytest.fixture(scope="session")
def other_shapes(tmp_path_factory):
    """Six discs and six squares that no model here was trained on."""
    return write_shapes(tmp_path_factory.mktemp("other"), 6, seed=500)


@pytest.fixture(scope="session")
def shapes_model(shapes, tmp_path_factory):
    """A model folder trained on `shapes`."""
    import wordsight

    path = tmp_path_factory.mktemp("models") / "shapes"
    wordsight.train(shapes, path)
    return path


def learn_boxes_from_fewer_views(patch: pytest.MonkeyPatch) -> None:
    """Let a box head learn what drawn pictures need, in a third of the time."""
    from wordsight.training.boxes import fit, learner

    patch.setattr(learner, "EPOCHS", 1)
    patch.setattr(learner, "LEAST_STEPS", 200)
    patch.setattr(fit, "MOST_VIEWS", 6)


@dataclass
class Service:
    """A running imitation of the picture services.

    Attributes:
        root: its address.
        log: file of its requests, one line each.
        env: what points wordsight at it.
    """

    root: str
    log: Path
    env: dict[str, str]

    def requests(self, part: str = "") -> list[str]:
        """Return the paths asked for so far that hold `part`."""
        return [
            line.split(" ")[1]
            for line in self.log.read_text().splitlines()
            if " " in line and part in line
        ]


@pytest.fixture
def imitation(tmp_path, monkeypatch):
    """Start imitations of Openverse and Wikimedia Commons; `imitation("--faulty")` returns the
    running `Service`.
    """
    with contextlib.ExitStack() as stack:

        def start(*options, name="service"):
            log = tmp_path / f"{name}.log"
            command = [
                sys.executable,
                str(Path(__file__).with_name("imitation.py")),
                "--log",
                str(log),
                *map(str, options),
            ]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            root = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
            env = {
                "WORDSIGHT_OPENVERSE_URL": root,
                "WORDSIGHT_COMMONS_URL": f"{root}/w/api.php",
                "WORDSIGHT_OFFLINE": "",
                "WORDSIGHT_CONTACT": "me@example.org",
            }
            for variable, value in env.items():
                monkeypatch.setenv(variable, value)
            return Service(root, log, env)

        yield start


@pytest.fixture
def cli(tmp_path):
    """Run the command line in its own process, in an empty folder; returns the finished process."""

    def run(*arguments, env=None, timeout=120, **options):
        command = [sys.executable, "-m", "wordsight", *map(str, arguments)]
        environment = {**os.environ, **(env or {})}
        options = {
            "cwd": tmp_path,
            "capture_output": True,
            "text": True,
            "errors": "surrogateescape",
            **options,
        }
        return subprocess.run(command, env=environment, timeout=timeout, check=False, **options)

    return run


@pytest.fixture
def cli_here(tmp_path, monkeypatch, capsys):
    """Run the command line within this process, in an empty folder: quick, for all that needs
    no process of its own.
    """

    def run(*arguments, env=None, cwd=tmp_path):
        from wordsight.cli.console import _run, _Sayer
        from wordsight.cli.main import app

        log, sayer = logging.getLogger("wordsight"), _Sayer()
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="replace")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["wordsight", *map(str, arguments)])
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            before = log.level
            log.setLevel(logging.INFO)
            log.addHandler(sayer)
            try:
                code = _run(app)
            finally:
                log.removeHandler(sayer)
                log.setLevel(before)
            told = capsys.readouterr()
            return subprocess.CompletedProcess(sys.argv, code, told.out, told.err)

    return run


def play_script(script: Path, *arguments: object) -> str:
    """Run a script within this process; return what it printed."""
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        patch.syspath_prepend(str(script.parent))
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            assert not end.code, end.code
    return printed.getvalue()


FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


# Playwright leaves an event loop running, which tests of other modules must not find
@pytest.fixture(scope="module")
def chromium():
    """A real browser; where the machine has none, tests that need it are skipped and say so."""
    path = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if path is None:
        pytest.skip("needs the browser Chromium; install it with 'make browser'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page in the browser, and what went wrong there.

    Attributes:
        page: Playwright's page.
        errors: what the console and uncaught exceptions said.
        outside: addresses asked for that are neither the page's own host nor data.
    """

    page: object
    errors: list[str]
    outside: list[str]


@pytest.fixture
def tab(chromium):
    """Open a page: `tab(address, width=390, dark=True)`; afterwards nothing may have gone
    wrong, and nothing been asked of others.
    """
    opened = []

    def open_tab(address, width=1280, dark=False, **options):
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            **options,
        )
        found = Tab(context.new_page(), [], [])
        opened.append((context, found))
        host = str(address).split("/")[2]
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.on(
            "console",
            lambda message: (
                found.errors.append(f"{message.text} {message.location['url']}")
                if message.type == "error"
                else None
            ),
        )

        def note(request):
            own = request.url.startswith(("data:", "blob:")) or request.url.split("/")[2] == host
            found.outside.extend([] if own else [request.url])

        found.page.on("request", note)
        found.page.goto(str(address))
        return found

    yield open_tab
    for context, found in opened:
        context.close()
        assert not found.errors and not found.outside, (found.errors, found.outside)


def serious(page, *rules: str) -> list[str]:
    """Return what axe-core finds serious or critical in a page, by all rules or by some."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"runOnly": rules} if rules else None).response["violations"]
    return [
        f"{v['id']}: {v['nodes'][0]['html'][:160]} ({len(v['nodes'])})"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.chmod"}


def killed_before(number: int, act: Callable[[], object]) -> bool:
    """Do something in a process of its own that dies before its `number`-th change to files;
    return whether it came so far.
    """
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 77)
        return code == 77
    changes = 0

    def watch(event, arguments):
        nonlocal changes
        written = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        changes += bool(written) or event in CHANGES
        if changes > number:
            os._exit(77)

    sys.addaudithook(watch)
    try:
        act()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def small_model(name, boxes=False):
    """A classifier on a network of our own, with random weights."""
    torch = pytest.importorskip("torch")

    from wordsight.backbones.networks.timm_models import untrained_module
    from wordsight.backbones.registry import keep_module
    from wordsight.classification.classifier import Classifier
    from wordsight.heads.linear import LinearHead

    torch.manual_seed(0)
    module, preprocessing = untrained_module(name, 3)
    backbone = keep_module(module.eval().requires_grad_(False), name, preprocessing)
    rng = np.random.default_rng(0)
    head = LinearHead(
        rng.standard_normal((3, backbone.num_features)).astype(np.float32),
        np.zeros(3, np.float32),
        2.0,
    )
    model = Classifier(["a", "b", "ç"], head, backbone)
    if boxes:
        from wordsight.heads.boxes import PLANES, BoxHead

        layers = {name: rng.standard_normal(shape).astype(np.float32) / 4 for name, shape in
                  {"enter": (6, 5, 1, 1), "near": (6, 6, 3, 3), "far": (6, 6, 3, 3),
                  "leave": (PLANES, 6, 1, 1)}.items()}  # fmt: skip
        random = {
            name: (weight, rng.standard_normal(len(weight)).astype(np.float32))
            for name, weight in layers.items()
        }
        model.box_head = BoxHead(
            rng.standard_normal(backbone.num_features).astype(np.float32),
            rng.standard_normal((5, backbone.num_features)).astype(np.float32),
            random,
        )
    return model


NULL_IS_REFUSED = sys.version_info < (3, 11)  # by Python's csv
