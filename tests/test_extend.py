"""What docs/extend.md teaches: a source, a check, a format and a backbone of one's own, a file
each, run as they stand.
"""

from __future__ import annotations

import http.server
import io
import json
import os
import runpy
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import write_shapes
from wordsight.cleaning import checks
from wordsight.core import plugins
from wordsight.datasets.formats import base as formats_base
from wordsight.gathering.sources import base as sources_base
from wordsight.heatmaps import gradients

EXTENDING = Path(__file__).resolve().parents[1] / "docs" / "extending"


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch, tmp_path):
    """What an example registers is gone after its test."""
    monkeypatch.setattr(sources_base, "_registry", dict(sources_base._registry))
    monkeypatch.setattr(checks, "_registry", dict(checks._registry))
    monkeypatch.setattr(formats_base, "_registry", list(formats_base._registry))
    monkeypatch.chdir(tmp_path)


def run(name):
    """Run an example as `python NAME.py` would."""
    return runpy.run_path(str(EXTENDING / f"{name}.py"), run_name="__main__")


class _Museum(http.server.BaseHTTPRequestHandler):
    """Two pages of three pictures each, for any word."""

    def do_GET(self):
        if self.path.startswith("/api"):
            page, word = (2 if "page=2" in self.path else 1), self.path.split("q=")[1].split("&")[0]
            root = f"http://127.0.0.1:{self.server.server_port}"
            items = [
                {
                    "image": f"{root}/{word}-{page}{n}.jpg",
                    "maker": "A. Maker",
                    "page": f"{root}/about",
                }
                for n in range(3)
            ]
            body, kind = (
                json.dumps({"items": items, "next": "2" if page == 1 else None}).encode(),
                "application/json",
            )
        else:
            out = io.BytesIO()
            rng = np.random.default_rng(list(self.path.encode()))
            Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
                (320, 240), Image.Resampling.NEAREST
            ).save(out, "JPEG")
            body, kind = out.getvalue(), "image/jpeg"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def test_a_source_of_ones_own_is_gathered_from(monkeypatch, capsys):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Museum)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MUSEUM_API", f"http://{host}/api")
    monkeypatch.setenv("WORDSIGHT_OFFLINE", "")
    # the imitation is no public address
    monkeypatch.setattr(wordsight.gathering.Source, "allowed_sites", lambda self: {host})
    try:
        run("museum")
    finally:
        server.shutdown()
        server.server_close()
    kept = eval(capsys.readouterr().out)
    assert kept == {"vase": 6, "coin": 6}
    assert (
        "A. Maker" in Path("data/museum/ATTRIBUTION.md").read_text()
        and len(list(Path("data/museum/coin").iterdir())) == 6
    )


def test_a_check_of_ones_own_finds_what_it_is_for(capsys):
    write_shapes(Path("data/pets"), 6)
    Image.open("data/pets/disc/003.jpg").convert("L").convert("RGB").save("data/pets/disc/003.jpg")
    run("washed_out")
    assert capsys.readouterr().out.strip() == "['disc/003.jpg']"
    assert (
        wordsight.cleaning.list_checks()["washed_out"]
        == "Hardly any colour, as old prints and scans have."
    )
    assert "washed_out" in Path("data/pets-clean-report/findings.csv").read_text()


def test_a_format_of_ones_own_is_written_and_read(shapes_model, other_shapes):
    results = wordsight.load(shapes_model).predict(other_shapes, threshold=0.5, output="results")
    example = run("lines_format")
    back = wordsight.datasets.read_boxes(example["written"].output)
    boxes = {Path(image.file.name).name: image.boxes for image in back.images}
    assert sum(map(len, boxes.values())) == sum(one.box_xyxy is not None for one in results) > 6
    (Path("results/prelabels/lines") / "boxes.lines").write_text("no box\n")
    with pytest.raises(wordsight.errors.InvalidArgument, match="is not written as a box"):
        wordsight.datasets.read_boxes("results/prelabels/lines")


@pytest.mark.filterwarnings("ignore:Overwriting tiny_net")
def test_a_backbone_of_ones_own_is_trained_kept_loaded_and_missed(capsys, cli_here, monkeypatch):
    from timm.models import _registry as of_timm

    write_shapes(Path("data/pets"), 16)
    run("tiny_net")
    assert "accuracy" in capsys.readouterr().out
    photo = next(Path("data/pets/disc").iterdir())
    model = wordsight.load("models/tiny")
    # looked at with 96 × 160 pixels, the area of 128 × 128 or so
    assert model.backbone.pooled and model.heatmap(photo, "disc").grid.shape == (6, 10)
    assert set(next(iter(model.predict(photo))).probabilities) == {"disc", "square"}
    monkeypatch.delitem(of_timm._model_entrypoints, "tiny_net")  # as in another process
    done = cli_here("predict", "data/pets", "-m", "models/tiny", "--engine", "torch")
    assert done.returncode == 2 and "Import the module that registers it first" in done.stderr


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Packages as pip leaves them: `installed("checks", "washed_out")` puts an example into
    one, for this process and, by the variable it returns, for others.
    """
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)
    plugins.load_extensions.cache_clear()

    def install(kind, module, code=None):
        info = site / f"own_{kind}-1.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        file = module.partition(":")[0]
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: own-{kind}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[wordsight.{kind}]\n{file} = {module}\n")
        (site / f"{file}.py").write_text(code or (EXTENDING / f"{file}.py").read_text())
        return {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        }

    yield install
    plugins.load_extensions.cache_clear()
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


HEATMAP = """
import numpy as np
from wordsight.heatmaps import register_heatmap_method

@register_heatmap_method("strength")
def strength(activations, gradients):
    return np.linalg.norm(activations, axis=0)
"""


@pytest.mark.parametrize(
    ("kind", "module", "code", "command", "told"),
    [
        (
            "checks",
            "washed_out",
            None,
            ["clean", "data/pets", "--reasons", "washed_out"],
            "washed_out",
        ),
        ("formats", "lines_format", None, ["prelabel", "data", "--format", "nothing"], "lines"),
        (
            "backbones",
            "tiny_net",
            None,
            [
                "train",
                "data/pets",
                "-o",
                "m",
                "--recipe",
                "scratch",
                "--backbone",
                "tiny_net",
                "--epochs",
                "1",
            ],
            "right",
        ),
        (
            "heatmaps",
            "own_map",
            HEATMAP,
            ["predict", "data/pets", "-m", "MODEL", "-t", "0.5", "--heatmap", "strength"],
            "disc",
        ),
        (
            "sources",
            "museum:Museum",
            None,
            ["gather", "cat", "-o", "x", "--source", "nothing"],
            "museum",
        ),
    ],
)
def test_the_command_line_knows_what_entry_points_name(
    kind, module, code, command, told, installed, cli, cli_here, tmp_path, shapes_model, monkeypatch
):
    monkeypatch.setattr(gradients, "_methods", dict(gradients._methods))
    write_shapes(tmp_path / "data" / "pets", 6)
    Image.open(tmp_path / "data/pets/disc/003.jpg").convert("L").convert("RGB").save(
        tmp_path / "data/pets/disc/003.jpg"
    )
    # timm, once loaded, asks for no more networks
    run_command = cli if kind == "backbones" else cli_here
    done = run_command(
        *(shapes_model if word == "MODEL" else word for word in command),
        env={**installed(kind, module, code), "WORDSIGHT_OFFLINE": ""},
    )
    assert told in done.stdout + done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "import no_such_module_here",
            ["'broken', which adds to wordsight's checks", "uninstall 'own-checks'"],
        ),
        (
            "import wordsight\n@wordsight.cleaning.register_check(1)\ndef blurry(m, t):\n    'x'\n",
            ["There is a check 'blurry' already, of 'wordsight.cleaning.checks'"],
        ),
        (
            "import wordsight\n@wordsight.cleaning.register_check(1)\ndef mine(m, t):\n    yield "
            "m.finding(0, 'other', 1)\n",
            ["'mine' of 'broken' gives the reason 'other'"],
        ),
        (
            "import wordsight\n@wordsight.cleaning.register_check(1)\ndef mine(m, t):\n    raise "
            "KeyError('x')\n    yield\n",
            ["'mine' of 'broken' failed: KeyError"],
        ),
    ],
)
def test_what_others_add_wrongly_is_one_sentence(code, told, installed, cli_here, tmp_path):
    write_shapes(tmp_path / "data", 3)
    done = cli_here("clean", "data", env=installed("checks", "broken", code))
    assert (
        done.returncode == 2
        and "Traceback" not in done.stderr
        and all(part in done.stderr for part in told)
    ), done.stderr


def test_each_is_one_file():
    for name in ("museum", "washed_out", "lines_format", "tiny_net"):
        assert (
            f"<!-- code: docs/extending/{name}.py -->"
            in (EXTENDING.parent / "extend.md").read_text()
        )
