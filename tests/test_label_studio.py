"""`wordsight serve` beside a real Label Studio: connect, suggestions, annotations, a learned head.

Label Studio is taken from the environment that LABEL_STUDIO_TEST_VENV names, or installed into one
in pytest's cache, which takes minutes once.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from conftest import draw_shape
from test_serve import served, waited

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
USER, PASSWORD = "labels@example.org", "a-long-password"
TASKS = 20
ONE = """<View><Image name="img" value="$photo"/><Choices name="what" toName="img" choice="single">
<Choice value="Disc"/><Choice value="Square"/></Choices></View>"""
BOXES = """<View><Image name="img" value="$photo"/><RectangleLabels name="where" toName="img">
<Label value="Disc"/><Label value="Square"/></RectangleLabels></View>"""
# so that it reaches a backend on this machine, and asks nobody else
SETTINGS = {
    "ML_BLOCK_LOCAL_IP": "false",
    "SSRF_PROTECTION_ENABLED": "false",
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}


@pytest.fixture(scope="module")
def program(pytestconfig):
    """Label Studio's command."""
    named = os.environ.get("LABEL_STUDIO_TEST_VENV")
    venv = Path(named or pytestconfig.cache.mkdir("label-studio"))
    found = venv / "bin" / "label-studio"
    if not found.exists() and named:
        pytest.skip(f"LABEL_STUDIO_TEST_VENV names '{venv}', which holds no label-studio")
    if not found.exists():
        shutil.rmtree(venv / "lib", ignore_errors=True)  # of an installation that broke off
        for command in (
            [sys.executable, "-m", "venv", str(venv)],
            [str(venv / "bin" / "pip"), "install", "-q", "label-studio"],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                found.unlink(missing_ok=True)
                told = (done.stderr or done.stdout).strip().splitlines()
                pytest.skip(f"Label Studio can't be installed here: {told[-1] if told else '?'}")
    return found


@pytest.fixture(scope="module")
def label_studio(program, tmp_path_factory):
    """A running Label Studio: (address, token of a person)."""
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(program), "start", "--no-browser", "--port", str(port)]
    command += ["--username", USER, "--password", PASSWORD, "--data-dir", str(folder / "data")]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | SETTINGS
    root = f"http://localhost:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=env, cwd=folder, start_new_session=True
        )
    try:
        for _ in range(1200):
            if process.poll() is not None:
                pytest.skip(f"Label Studio doesn't start: {(folder / 'log').read_text()[-400:]}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{root}/health").status_code == 200:
                    break
            time.sleep(0.25)
        yield root, _personal_token(root)
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _personal_token(root):
    """Return a personal access token, made as a person makes one on the page."""
    with httpx.Client(base_url=root, timeout=60, follow_redirects=True) as page:
        page.get("/user/login/")
        form = {
            "email": USER,
            "password": PASSWORD,
            "csrfmiddlewaretoken": page.cookies["csrftoken"],
        }
        assert page.post("/user/login/", data=form, headers={"Referer": root}).status_code == 200
        head = {"X-CSRFToken": page.cookies["csrftoken"], "Referer": root}
        return page.post("/api/token/", headers=head).json()["token"]


@pytest.fixture
def api(label_studio):
    """A client of its API, signed in as that person."""
    root, token = label_studio
    access = httpx.post(f"{root}/api/token/refresh/", json={"refresh": token}).json()["access"]
    head = {"Authorization": f"Bearer {access}"}
    with httpx.Client(base_url=root, headers=head, timeout=120) as client:
        yield client


def project_of(api, interface, count=TASKS):
    """Make a project with drawn pictures; return its number."""
    made = api.post("/api/projects", json={"title": "shapes", "label_config": interface}).json()
    for number in range(count):
        held = io.BytesIO()
        draw_shape(kind_of(number).lower(), 8000 + number)[0].save(held, "JPEG", quality=92)
        file = {"file": (f"{number:02d}.jpg", held.getvalue(), "image/jpeg")}
        assert api.post(f"/api/projects/{made['id']}/import", files=file).status_code == 201
    return made["id"]


def kind_of(number):
    return "Square" if number % 2 else "Disc"


def tasks_of(api, project):
    found = api.get(f"/api/tasks?project={project}&fields=all&page_size=100").json()["tasks"]
    return sorted(found, key=lambda task: task["id"])


def suggestions(api, project):
    """Ask for suggestions as a person does in the list of tasks; return the tasks."""
    chosen = {"selectedItems": {"all": True, "excluded": []}}
    action = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
    assert api.post(action, json=chosen).status_code == 200
    return tasks_of(api, project)


def connect(api, project, root):
    return api.post("/api/ml", json={"url": root, "project": project, "title": "wordsight"})


def test_suggestions_arrive_annotations_return_and_a_head_is_learned(
    label_studio, api, shapes_model, tmp_path, record_property
):
    project = project_of(api, ONE)
    env = {"LABEL_STUDIO_URL": label_studio[0], "LABEL_STUDIO_API_KEY": label_studio[1]}
    with served(tmp_path, "-m", shapes_model, "-o", tmp_path / "out", env=env) as (root, said):
        made = connect(api, project, root)
        assert made.status_code == 201, made.text
        first = made.json()["model_version"]
        tasks = suggestions(api, project)
        assert len(tasks) == TASKS
        right = 0
        for number, task in enumerate(tasks):
            (prediction,) = task["predictions"]
            assert prediction["model_version"] == first and 0 <= prediction["score"] <= 1
            for result in prediction["result"]:
                assert (result["from_name"], result["to_name"]) == ("what", "img")
                right += result["value"]["choices"] == [kind_of(number)]
        assert right >= TASKS * 0.8
        for number, task in enumerate(tasks):
            value = {"choices": [kind_of(number)]}
            about = {"from_name": "what", "to_name": "img", "type": "choices", "value": value}
            done = api.post(f"/api/tasks/{task['id']}/annotations/", json={"result": [about]})
            assert done.status_code == 201
        began = time.monotonic()
        learned = waited(
            lambda: [
                version
                for version in httpx.get(f"{root}/versions").json()["versions"]
                if f"+{TASKS}." in version
            ]
        )
        took = time.monotonic() - began
        assert learned, said()
        tasks = suggestions(api, project)
        whole = time.monotonic() - began
        record_property("seconds_until_learned", took)
        record_property("seconds_until_suggested", whole)
        print(f"learned {took:.1f} s after the last annotation, suggested after {whole:.1f} s")
        newest = [
            [one for one in task["predictions"] if one["model_version"] == learned[0]]
            for task in tasks
        ]
        assert all(len(one) == 1 for one in newest)
        assert sum(bool(one[0]["result"]) for one in newest) >= TASKS * 0.8
        backend = api.get(f"/api/ml?project={project}").json()[0]
        assert (backend["state"], backend["model_version"]) == ("CO", learned[0])
        assert api.post(f"/api/ml/{backend['id']}/train", json={}).status_code == 200
        assert label_studio[1] not in said()


def test_boxes_arrive(label_studio, api, shapes_model, tmp_path):
    project = project_of(api, BOXES, 4)
    env = {"LABEL_STUDIO_URL": label_studio[0], "LABEL_STUDIO_API_KEY": label_studio[1]}
    with served(tmp_path, "-m", shapes_model, "-o", tmp_path / "out", env=env) as (root, _):
        assert connect(api, project, root).status_code == 201
        for number, task in enumerate(suggestions(api, project)):
            (result,) = task["predictions"][0]["result"]
            assert result["type"] == "rectanglelabels"
            assert result["value"]["rectanglelabels"] == [kind_of(number)]


def test_label_studio_shows_why_it_is_refused(label_studio, api, shapes_model, tmp_path):
    config = '<View><Text name="t" value="$t"/><TextArea name="a" toName="t"/></View>'
    project = api.post("/api/projects", json={"title": "text", "label_config": config}).json()["id"]
    with served(tmp_path, "-m", shapes_model, "-o", tmp_path / "out") as (root, said):
        told = connect(api, project, root)
        assert told.status_code == 400
        assert "wordsight answers Choices and RectangleLabels on an Image" in told.text
        # without a token of a person: the one that Label Studio sends is of the old kind
        project = project_of(api, ONE, 1)
        told = connect(api, project, root)
        assert told.status_code == 400
        assert "refused the access token that it sent itself" in told.text
        assert "refused the access token that it sent itself" in said()


def test_label_studio_gives_the_password(label_studio, api, shapes_model, tmp_path):
    project = project_of(api, ONE, 1)
    env = {"WORDSIGHT_TOKEN": "correct-horse", "LABEL_STUDIO_URL": label_studio[0]}
    env["LABEL_STUDIO_API_KEY"] = label_studio[1]
    options = ("-m", shapes_model, "-o", tmp_path / "out", "--host", "0.0.0.0")
    with served(tmp_path, *options, env=env) as (root, _):
        refused = connect(api, project, root)
        assert refused.status_code == 400 and "authentication parameters" in refused.text
        given = {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": "wordsight",
            "basic_auth_pass": "correct-horse",
        }
        about = {"url": root, "project": project, "title": "wordsight", **given}
        made = api.post("/api/ml", json=about)
        assert made.status_code == 201, made.text
