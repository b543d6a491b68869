"""No connection that nobody asked for: each command runs where every packet for another machine is
seen.

`CI` is unset, as some libraries send nothing where it is set, and `--offline` isn't given.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wordsight
from conftest import draw_shape, write_shapes
from random_tower import PIXELS, SMALL, write_model
from test_videos import frames_of, write_clip

HERE = Path(__file__).parent
SOURCE = Path(wordsight.__file__).parent
UNSET = ("CI", "WORDSIGHT_OFFLINE", "ORT_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED")
CALLS = """
import json, sys
from wordsight.cli.console import _run
from wordsight.cli.main import app
for line in json.loads(sys.argv.pop()):
    sys.argv[1:] = line.split()
    assert _run(app) in (0, 1), line
"""
LOOK_UP = "import socket\ntry: socket.create_connection(('name.example', 80), 1)\nexcept OSError: 0"
CONNECT = """
import socket
for family, address in ((socket.AF_INET, "192.0.2.7"), (socket.AF_INET6, "2606:4700::7")):
    one = socket.socket(family)
    one.setblocking(False)
    one.connect_ex((address, 443))
"""
PAGE = """
import signal, subprocess, sys, time, httpx
port, model, folder = sys.argv[1:]
command = [sys.executable, "-m", "wordsight", "app", "--port", port, "-m", model, "--data", folder]
with subprocess.Popen(command) as page:
    root = f"http://127.0.0.1:{port}/"
    for _ in range(600):
        try:
            assert httpx.get(root, timeout=30).status_code == 200
            break
        except httpx.TransportError:
            time.sleep(0.1)
    with open(f"{folder}/disc/000.jpg", "rb") as file:
        path = httpx.post(f"{root}gradio_api/upload", files={"files": file}, timeout=60).json()[0]
    given = [[{"path": path, "meta": {"_type": "gradio.FileData"}}], 0.5, ""]
    call = httpx.post(f"{root}gradio_api/call/predict", json={"data": given}, timeout=60).json()
    told = httpx.get(f"{root}gradio_api/call/predict/{call['event_id']}", timeout=60).text
    assert "event: complete" in told and "disc" in told, told
    page.send_signal(signal.SIGTERM)
    assert page.wait(30) == 0
"""


SERVE = """
import signal, subprocess, sys, time, httpx
port, model, folder = sys.argv[1:]
command = [sys.executable, "-m", "wordsight", "serve", "--port", port, "-m", model]
command += ["--local-files", folder, "-o", "learned"]
config = '<View><Image name="i" value="$p"/><Choices name="c" toName="i"><Choice value="disc"/>'
config += '<Choice value="square"/></Choices></View>'
tasks = [
    {"id": 1, "data": {"p": "/data/local-files/?d=disc/000.jpg"}},
    {"id": 2, "data": {"p": "http://name.example/a.jpg"}},
    {"id": 3, "data": {"p": "http://192.0.2.7/a.jpg"}},
]
with subprocess.Popen(command) as backend:
    root = f"http://127.0.0.1:{port}/"
    for _ in range(600):
        try:
            assert httpx.get(f"{root}health", timeout=30).status_code == 200
            break
        except httpx.TransportError:
            time.sleep(0.1)
    given = {"project": "1.2", "schema": config, "hostname": "http://name.example"}
    assert httpx.post(f"{root}setup", json=given, timeout=60).status_code == 422
    asked = {"project": "1.2", "label_config": config, "tasks": tasks}
    told = httpx.post(f"{root}predict", json=asked, timeout=60).json()["results"]
    assert told[0]["result"][0]["value"] == {"choices": ["disc"]} and told[1:] == [[], []], told
    backend.send_signal(signal.SIGTERM)
    assert backend.wait(30) == 0
"""


@pytest.fixture(scope="session")
def watched(tmp_path_factory):
    """Run Python where every packet for another machine is seen; return them, a line each."""
    folder = tmp_path_factory.mktemp("watched")
    unshare = ["unshare", "--map-root-user", "--net", "--mount", sys.executable]
    unshare += [str(HERE / "watch_network.py"), str(folder / "log")]

    def start(*arguments, **options):
        env = {name: value for name, value in os.environ.items() if name not in UNSET}
        return subprocess.run(
            [*unshare, sys.executable, *map(str, arguments)],
            env=env,
            capture_output=True,
            text=True,
            **options,
        )

    if shutil.which("unshare") is None:
        pytest.skip("no namespaces can be made here: there is no 'unshare'")
    probe = start("-c", "")
    if probe.returncode == 99 or probe.stderr.startswith("unshare:"):
        pytest.skip(f"no namespaces can be made here: {probe.stderr.strip()}")

    def run(*arguments, cwd=folder):
        done = start(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return (folder / "log").read_text().splitlines()

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory, shapes_model):
    """A folder with what the commands need: photos, a model, a clip, boxes."""
    folder = tmp_path_factory.mktemp("silence")
    write_shapes(folder / "photos", 16, seed=3000)
    rows = ["file_name,label,x_min,y_min,x_max,y_max"]
    for kind, first in (("disc", 3000), ("square", 4000)):
        for at in range(16):
            box = draw_shape(kind, first + at)[1]
            rows.append(f"{kind}/{at:03d}.jpg,{kind},{','.join(map(str, box))}")
    (folder / "boxes.csv").write_text("\n".join(rows))
    images = [{"file": "disc/000.jpg", "detections": []}]
    content = {"detection_categories": {"1": "animal"}, "images": images}
    (folder / "md.json").write_text(json.dumps(content))
    write_clip(folder / "clip.mp4", [*frames_of("disc", 5), *frames_of("square", 5)])
    (folder / "model").symlink_to(shapes_model)
    return folder


QUICK = (
    "words cat",
    "models",
    "cache",
    "predict photos -m model -o results --no-pictures",
    "prelabel results --format coco",
    "predict photos -m model --boxes md.json -o in-boxes --no-pictures",
    "prelabel in-boxes --format megadetector",
    "sort results -o sorted",
    "keywords results --yes",
    "recognize photos/disc/000.jpg --no-pictures -o seen",
    "find --like photos/disc/000.jpg -p photos -o like",
    "gather disc -o gathered --source folder:photos --limit 3",
)
SLOW = (
    "doctor",
    "train photos -o probe",
    "train photos -o tuned --recipe finetune --epochs 1",
    "train photos -o boxed --boxes boxes.csv",
    "run -c cat,dog -p photos -o ran",
    "detect photos/disc/000.jpg -m model -o found",
    "evaluate photos -m model -o measured",
    "clean photos -o report",
    "split photos",
    "video clip.mp4 -m model -o labelled.mp4",
    "extract clip.mp4 -o frames",
    "demo -o shown",
)
EXPORTS = (
    "export model --format onnx -o a.onnx --dtype int8 --data photos",
    "export model --format openvino -o b.xml --dtype int8 --data photos",
    "export model --format torch.export -o c.pt2",
)
BY_TOWER = (
    "words --prepare local-dir:source",
    "run -c kangaroo -p photos -o asked --words-model local-dir:source",
    "find red-disc -p photos -o phrase --words-model local-dir:source",
)
ON_RAY = (
    "predict photos -m model --ray local -o on-ray",
    "clean photos --ray local -o on-ray-report",
)


def test_the_watcher_sees_what_is_sent(watched):
    assert watched("-c", "import socket; socket.create_server(('localhost', 0))") == []
    seen = watched("-c", LOOK_UP)
    assert seen and all(line.endswith("port 53: name.example") for line in seen)
    assert set(watched("-c", CONNECT)) == {
        "tcp to 192.0.2.7, port 443",
        "tcp to 2606:4700::7, port 443",
    }


def test_every_command_is_watched():
    from typer.main import get_command

    from wordsight.cli.main import app

    lines = (*QUICK, *SLOW, *EXPORTS, *BY_TOWER, *ON_RAY)
    pages = {"app", "teach", "serve"}  # test_page, test_teaching and below
    assert {line.split()[0] for line in lines} | pages == set(get_command(app).commands)


def test_quick_commands_send_nothing(watched, place):
    assert watched("-c", CALLS, json.dumps(QUICK), cwd=place) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_other_commands_send_nothing(watched, place):
    assert watched("-c", CALLS, json.dumps(SLOW), cwd=place) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("line", EXPORTS)
def test_exports_send_nothing(line, watched, place):
    pytest.importorskip("onnxruntime")
    assert watched("-m", "wordsight", *line.split(), cwd=place) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_text_image_models_send_nothing(watched, place):
    pytest.importorskip("open_clip")
    write_model(place / "source", SMALL, PIXELS)
    assert watched("-c", CALLS, json.dumps(BY_TOWER), cwd=place) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("line", ON_RAY)
def test_ray_sends_nothing(line, watched, place):
    pytest.importorskip("ray")
    assert watched("-m", "wordsight", *line.split(), cwd=place) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_sends_nothing(watched, place):
    pytest.importorskip("gradio")
    assert watched("-c", PAGE, 7861, "model", "photos", cwd=place) == []


@pytest.mark.slow
def test_the_backend_asks_nobody_but_label_studio(watched, place):
    assert watched("-c", SERVE, 9091, "model", "photos", cwd=place) == []


def test_onnx_runtime_is_told_to_keep_still_before_it_is_imported():
    """It sends its first report after some seconds, longer than a quick test should take."""
    code = (
        "import os, sys\nimport wordsight.exports.model, wordsight.exports.quantization\n"
        "print('onnxruntime' in sys.modules, os.environ.get('ORT_DISABLE_TELEMETRY'))"
    )
    env = {name: value for name, value in os.environ.items() if name not in UNSET}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert told.stdout == "False 1\n", told.stderr
    for path in SOURCE.rglob("*.py"):
        imports = re.search(r"(import|from) onnxruntime", path.read_text(encoding="utf-8"))
        assert not imports or path.parent == SOURCE / "exports", path


def test_ray_starts_no_process_that_asks_where_it_runs():
    ray = pytest.importorskip("ray")
    from wordsight.distributed.ray import _without_dashboard

    services = ray._private.services
    start = services.start_api_server
    with _without_dashboard(services):
        assert services.start_api_server(include_dashboard=False) == ("", None)
    assert services.start_api_server is start
