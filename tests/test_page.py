"""The page in the browser: what a person does with it in a real one, what programs call, and
who is kept out.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import draw_shape, serious, write_shapes
from wordsight.datasets.decisions import ReviewBook
from wordsight.errors import InvalidArgument
from wordsight.webapp import guard as page_guard
from wordsight.webapp.guard import UPLOAD, Guard
from wordsight.webapp.server import listening, port_of
from wordsight.webapp.turns import Call, Turns

pytest.importorskip("gradio")
NEVER = """
import socket
real = socket.socket.connect
def connect(self, address):
    own = isinstance(address, str) or address[0] in ("127.0.0.1", "::1")
    assert own, address
    return real(self, address)
socket.socket.connect = connect
"""  # to anybody else is a connection made


def test_pages_started_at_once_listen_on_ports_of_their_own():
    with listening("127.0.0.1", None) as one, listening("127.0.0.1", None) as other:
        assert port_of(one) != port_of(other)
        with (
            pytest.raises(InvalidArgument, match=f"Can't listen on 127.0.0.1, port {port_of(one)}"),
            listening("127.0.0.1", port_of(one)),
        ):
            pass
    with listening("127.0.0.1", wanted := free_port()) as again:
        assert port_of(again) == wanted


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def served(*arguments, **environment):
    """Run the command in its own process, which may connect to nobody but itself; yields its
    address.
    """
    port = free_port()
    code = (
        NEVER + "import sys\nfrom wordsight.cli.main import main\nsys.argv[0] = 'wordsight'\nmain()"
    )
    command = [sys.executable, "-c", code, "app", "--port", str(port), *map(str, arguments)]
    env = {**os.environ, "CI": "", **environment}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        told = []
        for line in process.stderr:
            told.append(line)
            if "Open http" in line:
                break
        try:
            assert told and "Open http" in told[-1], told
            address = told[-1].split()[1]
            for _ in range(300):
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(address, timeout=5)
                    break
                time.sleep(0.1)
            yield address, process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home of its own, with the backbone prepared."""
    from wordsight.backbones.registry import load_backbone

    load_backbone()
    folder = tmp_path_factory.mktemp("page-home")
    shutil.copytree(
        Path(os.environ["WORDSIGHT_HOME"]) / "cache" / "backbones", folder / "cache" / "backbones"
    )
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight discs and eight squares, one of them in the wrong folder."""
    root = write_shapes(tmp_path_factory.mktemp("page") / "photos", 8, seed=70)
    draw_shape("disc", 777)[0].save(root / "square" / "wrong.jpg")
    return root


@pytest.fixture(scope="module")
def page(home, shapes_model, photos):
    # where the model's pictures lie is noted in the home it was trained in
    noted = Path(os.environ["WORDSIGHT_HOME"]) / "sources"
    shutil.copytree(noted, home / "sources", dirs_exist_ok=True)
    with served("-m", shapes_model, "--data", photos, WORDSIGHT_HOME=str(home)) as (address, _):
        yield address


def open_page(tab, address):
    found = tab(address).page
    found.wait_for_selector("#try-files input[type=file]", state="attached", timeout=30_000)
    return found


def test_a_person_tries_a_model_and_moves_the_slider(page, other_shapes, tmp_path, tab):
    found = open_page(tab, page)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0" + bytes(30))
    files = [
        *sorted((other_shapes / "disc").iterdir())[:2],
        *sorted((other_shapes / "square").iterdir())[:2],
    ]
    found.fill("#try-threshold input[type=number]", "0.5")
    found.set_input_files("#try-files input[type=file]", [str(path) for path in [*files, broken]])
    found.get_by_text("4 of 4 pictures get a label").wait_for(timeout=30_000)
    assert (
        "1 can’t be read" in found.locator("#try-told").inner_text()
        and "broken.jpg" in found.locator("#try-told").inner_text()
    )
    assert found.locator("#try-gallery img").count() == 4
    found.get_by_text("disc", exact=True).first.wait_for()
    found.fill("#try-threshold input[type=number]", "1")
    found.keyboard.press("Enter")
    found.get_by_text("the threshold stands at its end").wait_for(timeout=30_000)


def add_class(found, label, folder):
    """Drop a folder's six pictures into a class."""
    # what was added before is gone from there
    found.locator("#train-files").get_by_text("Drop File Here").wait_for(timeout=30_000)
    found.locator("#train-class textarea, #train-class input").fill(label)
    found.set_input_files("#train-files input[type=file]", [str(path) for path in folder.iterdir()])
    found.locator("#train-files").get_by_text("005").wait_for(timeout=30_000)
    found.click("#train-add")
    found.locator("#train-told").get_by_text(label).wait_for(timeout=30_000)


def test_a_person_trains_two_classes_and_predicts_with_them(page, home, other_shapes, tab):
    found = open_page(tab, page)
    found.get_by_role("tab", name="Train").click()
    for label, kind in (("round", "disc"), ("<b>edgy", "square")):
        add_class(found, label, other_shapes / kind)
    found.locator("#train-name textarea, #train-name input").fill("my shapes")
    found.click("#train-start")
    found.get_by_text("A name is 1 to 80").wait_for(timeout=30_000)  # <b>edgy
    found.click("#train-clear")
    # its answer would empty what is typed before
    found.locator("#train-told").get_by_text("No class yet").wait_for(timeout=30_000)
    for label, kind in (("round", "disc"), ("edgy", "square")):
        add_class(found, label, other_shapes / kind)
    found.click("#train-start")
    found.locator("#train-result").get_by_text("is ready").wait_for(timeout=60_000)
    assert wordsight.load(home / "models" / "my shapes").class_names == ["edgy", "round"]
    found.get_by_role("tab", name="Try").click()
    assert "my shapes" in found.locator("#try-model input").input_value()
    found.fill("#try-threshold input[type=number]", "0.5")
    found.set_input_files("#try-files input[type=file]", [str(other_shapes / "disc" / "000.jpg")])
    found.locator("#try-label").get_by_text("round").first.wait_for(timeout=30_000)
    found.reload()
    found.wait_for_selector("#try-files input[type=file]", state="attached")
    found.locator("#try-model input").click()
    # a page that is opened anew offers it
    found.get_by_role("option", name="my shapes").first.wait_for(timeout=30_000)


def test_a_person_corrects_a_label_by_keyboard_and_it_stays(page, home, photos, tab):
    found = open_page(tab, page)
    found.get_by_role("tab", name="Review").click()
    found.click("#review-find")
    found.locator("#review-why").get_by_text("square/wrong.jpg").wait_for(timeout=60_000)
    assert "Suggestion: disc" in found.locator("#review-why").inner_text()
    assert re.search(
        r"1 of \d+: (what does it show|is .* right)\?", found.inner_text("#review-why")
    )
    found.locator("#review-class-1").wait_for(timeout=30_000)
    found.keyboard.press("1")  # disc
    found.locator("#review-told").get_by_text("1 changed").wait_for(timeout=30_000)

    def label() -> str | None:
        if not (photos / "metadata.csv").exists():
            return None
        with open(photos / "metadata.csv", newline="", encoding="utf-8-sig") as file:
            return {row["file_name"]: row["label"] for row in csv.DictReader(file)}.get(
                "square/wrong.jpg"
            )

    assert label() == "disc"
    found.keyboard.press("u")
    found.locator("#review-told").get_by_text("0 changed").wait_for(timeout=30_000)
    assert label() == "square"
    # the figures come first, and keys do what their buttons do
    found.locator("#review-class-1").wait_for(timeout=30_000)
    found.keyboard.press("1")
    found.locator("#review-told").get_by_text("1 changed").wait_for(timeout=30_000)
    found.reload()
    found.wait_for_selector("#try-files input[type=file]", state="attached")
    found.get_by_role("tab", name="Review").click()
    found.locator("#review-told").get_by_text("1 changed").wait_for(timeout=30_000)
    assert label() == "disc"
    found.click("#review-retrain")
    found.locator("#review-result").get_by_text("is ready").wait_for(timeout=60_000)
    assert "The new model is kept" in found.locator("#review-result").inner_text()
    reviewed = [folder for folder, names, _ in _models(home) if "reviewed" in folder.name]
    assert wordsight.load(reviewed[0]).record.images == {"disc": 21, "square": 20}


def _models(home):
    before = os.environ["WORDSIGHT_HOME"]
    os.environ["WORDSIGHT_HOME"] = str(home)
    try:
        return wordsight.list_models()
    finally:
        os.environ["WORDSIGHT_HOME"] = before


@pytest.fixture(scope="module")
def many(home, shapes_model, tmp_path_factory):
    """The page with a folder of twelve classes and four photos without a label; yields its address
    and the folder.
    """
    root = write_shapes(tmp_path_factory.mktemp("many") / "photos", 4, seed=90)
    for number in range(10):
        folder = root / ("x" * 70 if number == 9 else f"class {number}")
        folder.mkdir()
        draw_shape("disc", 300 + number)[0].save(folder / "a.jpg")
    for number in range(4):
        draw_shape("disc", 400 + number)[0].save(root / f"{number}.jpg")
    with served("-m", shapes_model, "--data", root, WORDSIGHT_HOME=str(home)) as (address, _):
        yield address, root


def test_the_end_of_a_review_leads_on(many, home, tab):
    address, root = many
    before = {path.name for path in root.rglob("*")}
    found = open_page(tab, address)
    found.get_by_role("tab", name="Review").click()
    found.get_by_text("Press Find doubtful pictures").wait_for()
    assert not found.locator("#review-accept").is_visible()
    found.click("#review-find")
    found.locator("#review-why").get_by_text("1 of").wait_for(timeout=60_000)
    assert serious(found) == []
    count = int(found.locator("#review-why h3").inner_text().split()[2].strip(":"))
    # eleven classes and more have keys, the tenth 0 and the eleventh b
    names = ReviewBook(root).class_names
    assert found.locator("#review-class-0").inner_text() == f"{names[9]} (0)"
    assert found.locator("#review-class-b").inner_text() == f"{names[10]} (b)"
    for number, key in enumerate(["0", "b", *"a" * count][:count], start=1):
        found.locator("#review-why").get_by_text(f"{number} of {count}:").wait_for()
        found.keyboard.press(key)
    found.get_by_text(f"Done: {count} photos decided.").wait_for(timeout=30_000)
    for name in ("accept", "reject", "class-0", "picture"):
        found.locator(f"#review-{name}").wait_for(state="hidden")
    found.click("#review-copy")
    found.get_by_text("Copied to").wait_for(timeout=30_000)
    copied = next((home / "sorted").iterdir())
    assert str(copied) in found.locator("#review-result").inner_text()
    assert len(list(copied.rglob("*.jpg"))) == 22
    assert {path.name for path in root.rglob("*")} == {*before, "metadata.csv"}
    with found.expect_download() as saved:
        found.click("#review-table")
    assert saved.value.suggested_filename.startswith("photos.")
    found.keyboard.press("u")
    found.locator("#review-why").get_by_text(f"{count} of {count}:").wait_for(timeout=30_000)
    found.locator("#review-accept").wait_for()
    found.keyboard.press("a")
    found.get_by_text("Done:").wait_for(timeout=30_000)


def test_on_a_phone_the_buttons_stay_in_sight_below_the_photo(many, tab):
    address, root = many
    (root / "another.jpg").write_bytes((root / "0.jpg").read_bytes())
    found = tab(address, width=390).page
    found.get_by_role("tab", name="Review").click()
    found.click("#review-find")
    found.locator("#review-why").get_by_text("1 of").wait_for(timeout=60_000)
    for height in (0, 300, 2000):
        found.evaluate(f"window.scrollTo(0, {height})")
        for name in ("accept", "reject", "undo"):
            box = found.locator(f"#review-{name}").bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= 900 and box["x"] >= 0
            assert box["x"] + box["width"] <= 390
    assert found.evaluate("document.documentElement.scrollWidth") <= 390
    wide = found.locator(".review-class").evaluate_all(
        "all => all.filter(one => one.scrollWidth > one.clientWidth).length"
    )
    assert wide == 0


def test_a_page_with_nothing_says_what_to_do_first(home, tmp_path, other_shapes, tab):
    shutil.copytree(home / "cache" / "backbones", tmp_path / "cache" / "backbones")
    with served(WORDSIGHT_HOME=str(tmp_path)) as (address, _):
        found = open_page(tab, address)
        assert "There is no model yet" in found.locator("#try-told").inner_text()
        found.set_input_files(
            "#try-files input[type=file]", [str(other_shapes / "disc" / "000.jpg")]
        )
        found.wait_for_timeout(1000)
        assert found.get_by_text("Error", exact=True).count() == 0
        for name, part in (("Review", "No folder to review"), ("Compare", "No folder to compare")):
            found.get_by_role("tab", name=name).click()
            found.get_by_text(part).wait_for()
        found.get_by_role("tab", name="Train").click()
        for label, kind in (("round", "disc"), ("edgy", "square"), ("wrong", "square")):
            add_class(found, label, other_shapes / kind)
        found.locator("#train-shown img").nth(17).wait_for()
        assert found.locator("#train-shown img").count() == 18
        assert found.locator("#train-camera").is_visible()
        found.click("#train-remove")  # the last one
        found.locator("#train-shown img").nth(12).wait_for(state="detached")
        found.locator("#train-name textarea, #train-name input").fill("mine")
        found.click("#train-start")
        found.locator("#train-result").get_by_text("is ready").wait_for(timeout=60_000)
        found.reload()
        found.wait_for_selector("#try-files input[type=file]", state="attached")
        found.wait_for_function(
            "document.querySelector('#try-model input')?.value === 'mine (edgy, round)'"
        )


def test_a_stranger_gets_no_percentage():
    from wordsight.classification.predictions import Prediction
    from wordsight.webapp.tab_try import _caption, _probabilities
    from wordsight.webapp.workspace import Seen

    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(jpeg, "JPEG")
    shares = {"dog": 0.67, "cat": 0.2}
    told = Prediction("a", None, "dog", 0.67, shares, stranger=True)
    heat = np.ones((2, 2), np.float32)
    seen = Seen(told, jpeg.getvalue(), heat, None, (8, 8))
    assert _caption(seen, 0.5) == "none of these" and _probabilities([seen], 0) is None
    assert np.ptp(seen.drawn(0.5)[..., 1]) == 0 and seen.drawn(0.5)[0, 0, 0] > 250
    unsure = Seen(Prediction("a", None, "dog", 0.67, shares), jpeg.getvalue(), heat, None, (8, 8))
    assert _caption(unsure, 0.9) == "not sure: dog 67%?" and _probabilities([unsure], 0) == shares


def test_which_model_is_better_is_told_only_where_it_can_be(shapes_model, photos, tmp_path):
    from wordsight.classification.predictions import Prediction
    from wordsight.webapp import tab_compare
    from wordsight.webapp.workspace import Workspace

    assert tab_compare.by_chance(0, 0) == 1 and tab_compare.by_chance(5, 5) == 1
    assert tab_compare.by_chance(0, 8) == pytest.approx(2 / 256)
    shop = Workspace(shapes_model, photos)

    def rows(wrong):  # of the second model
        names = sorted(shop.book.images)
        return [
            (name, said(shop.book.label(name)), said("?" if at < wrong else shop.book.label(name)))
            for at, name in enumerate(names)
        ]

    def said(label):
        return Prediction("a", label, label, 0.9, {label: 0.9})

    one, other = shop.models()[0], "another"
    shop.learned_from_folder = lambda name: False
    shop.known_classes = lambda name: {"disc", "square"}
    told = tab_compare._verdict(shop, rows(9), one, other)
    assert (
        told.startswith(f"### {one} is better")
        and "On 17 photos with a label that both know" in told
    )
    assert "Can't tell" in tab_compare._verdict(shop, rows(2), one, other)
    shop.known_classes = lambda name: {"disc"} if name == one else {"cat"}
    assert "that both know" in tab_compare._verdict(shop, rows(9), one, other)
    assert "two different" in tab_compare._verdict(shop, rows(2), one, one)
    shop.learned_from_folder = lambda name: name == other
    assert "learned from this folder" in tab_compare._verdict(shop, rows(9), one, other)
    none = Prediction("a", None, "dog", 0.67, stranger=True)
    unsure = Prediction("a", None, "dog", 0.67)
    assert tab_compare._answer(none) == "none of these: resembles no class"
    assert tab_compare._answer(unsure) == "not sure: dog 67%, below the threshold"


def test_words_with_photos_are_taught(cli_here):
    for arguments in (("photos",), ("-c", "roo"), ("photos", "-c", "roo", "-m", "x")):
        process = cli_here("app", *arguments)
        assert process.returncode == 2 and "'wordsight app PHOTOS -c WORDS'" in process.stderr
    process = cli_here("app", "no-such-folder", "-c", "roo")
    assert process.returncode == 2 and "no-such-folder" in process.stderr


def test_a_person_compares_two_models(page, tab):
    found = open_page(tab, page)
    found.get_by_role("tab", name="Compare").click()
    assert not found.locator("#compare-gallery, #compare-table").count()
    found.click("#compare-start")
    found.locator("#compare-told").get_by_text("both say the same of").wait_for(timeout=60_000)
    assert "17" in found.locator("#compare-told").inner_text()
    found.locator("#compare-table").get_by_text("disc").first.wait_for()


def test_programs_call_it_as_the_docs_say(page, other_shapes, tmp_path):
    """Run the example of docs/app.md as it stands, but for its address and pictures."""
    docs = (Path(__file__).parents[1] / "docs" / "app.md").read_text(encoding="utf-8")
    code = docs.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 10
    for name, kind in (("cat.jpg", "disc"), ("dog.jpg", "square")):
        shutil.copy(other_shapes / kind / "000.jpg", tmp_path / name)
    code = code.replace("http://127.0.0.1:7860", page)
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "cat.jpg disc" in process.stdout and "dog.jpg square" in process.stdout


def call(root: str, name: str, data: list) -> tuple[str, object]:
    answer = httpx.post(
        f"{root}gradio_api/call/{name}", json={"data": data, "session_hash": "test"}, timeout=60
    )
    if answer.status_code != 200:
        return str(answer.status_code), answer.text
    lines = httpx.get(
        f"{root}gradio_api/call/{name}/{answer.json()['event_id']}", timeout=60
    ).text.splitlines()
    at = next(
        i for i, line in enumerate(lines) if line.startswith(("event: complete", "event: error"))
    )
    return lines[at].removeprefix("event: "), json.loads(
        lines[at + 1].removeprefix("data: ") or "null"
    )


def upload(root: str, name: str, data: bytes) -> httpx.Response:
    return httpx.post(
        f"{root}gradio_api/upload", files=[("files", (name, data, "image/jpeg"))], timeout=60
    )


def test_no_file_but_uploads_can_be_read(page, photos, shapes_model, home):
    secret = home / "secret.txt"
    secret.write_text("secret")
    for path in (
        "/etc/passwd",
        str(secret),
        str(photos / "disc" / "000.jpg"),
        str(shapes_model / "wordsight.json"),
        "../../../etc/passwd",
        "pyproject.toml",
    ):
        for address in (
            f"gradio_api/file={path}",
            f"gradio_api/file=%2e%2e/%2e%2e{path}",
            f"file={path}",
            f"gradio_api/file/{path}",
            f"static/{path}",
        ):
            assert httpx.get(page + address, timeout=30).status_code in (403, 404), address
        for file in (
            {"path": path, "meta": {"_type": "gradio.FileData"}},
            {"path": path},
            {"url": f"file://{path}", "meta": {"_type": "gradio.FileData"}},
            path,
        ):
            for name, data in (
                ("predict", [[file], 0.5, ""]),
                ("predict", [file, 0.5, ""]),
                ("heatmap", [file, "", ""]),
            ):
                kind, told = call(page, name, data)
                assert kind in ("400", "error"), (file, told)
    assert not [
        path
        for path in (home / "cache" / "uploads").rglob("*")
        if path.name in ("passwd", "secret.txt", "wordsight.json")
    ]


def test_images_are_uploaded_not_fetched(page):
    for path in (
        "http://127.0.0.1:9/x.jpg",
        "https://example.org/x.jpg",
        "file:///etc/passwd",
        " HTTP://example.org/x.jpg",
        "a\0b",
        7,
    ):
        assert (
            call(
                page, "predict", [[{"path": path, "meta": {"_type": "gradio.FileData"}}], 0.5, ""]
            )[0]
            == "400"
        )


def test_what_the_page_does_not_use_is_not_there(page):
    for path in (
        "monitoring",
        "gradio_api/proxy=http://example.org/",
        "docs",
        "openapi.json",
        "login",
        "gradio_api/deep_link",
        "gradio_api/openapi.json",
        "gradio_api/runs",
    ):
        assert httpx.get(page + path, timeout=30).status_code == 404, path
    for path in (
        "gradio_api/run/other",
        "gradio_api/api/predict",
        "gradio_api/component_server",
        "gradio_api/process_recording",
        "gradio_api/vibe-edit",
        "login",
    ):
        assert httpx.post(page + path, json={}, timeout=30).status_code == 404, path
    assert httpx.request("DELETE", page, timeout=30).status_code == 404


def test_only_the_documented_calls_have_names(page):
    named = httpx.get(page + "gradio_api/info", timeout=30).json()["named_endpoints"]
    assert set(named) == {"/predict", "/heatmap", "/models"}


def test_other_sites_are_turned_away(page):
    assert httpx.get(page, headers={"Host": "evil.example:80"}, timeout=30).status_code == 421
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert (
            httpx.post(page + "gradio_api/upload", headers=headers, timeout=30).status_code == 403
        )
    answer = httpx.get(page, timeout=30)
    assert (
        "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        and answer.headers["x-content-type-options"] == "nosniff"
    )


def test_only_images_are_kept(page, home, other_shapes):
    def kept() -> set[str]:
        return {path.name for path in (home / "cache" / "uploads").rglob("*") if path.is_file()}

    good = (other_shapes / "disc" / "000.jpg").read_bytes()
    for name, data in (
        ("a.jpg", b"#!/bin/sh"),
        ("b.jpg", b"<svg onload=alert(1)>"),
        ("c.html", b"<script>alert(1)</script>"),
        ("d.jpg", b""),
    ):
        answer = upload(page, name, data)
        assert answer.status_code == 415 and "Only pictures" in answer.text and name not in kept()
    assert upload(page, "ok.jpg", good).status_code == 200
    both = [("files", ("ok.jpg", good)), ("files", ("bad.jpg", b"no picture"))]
    mixed = httpx.post(f"{page}gradio_api/upload", files=both, timeout=60)
    assert mixed.status_code == 200 and [Path(path).stat().st_size for path in mixed.json()] == [
        len(good),
        0,
    ]
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in mixed.json()]
    told = call(page, "predict", [files, 0.5, ""])[1][0]
    assert [(answer["file_name"], answer["label"]) for answer in told] == [
        ("ok.jpg", "disc"),
        ("bad.jpg", None),
    ] and told[1]["error"]
    assert (
        upload(page, "large.jpg", good + bytes(page_guard.MAX_FILE)).status_code == 413
        and "large.jpg" not in kept()
    )
    assert httpx.post(f"{page}gradio_api/upload", content=b"x", timeout=30).status_code == 400
    assert (
        httpx.post(
            f"{page}gradio_api/call/predict",
            content=b"x" * (page_guard.MAX_REQUEST + 1),
            timeout=30,
        ).status_code
        == 413
    )
    assert httpx.post(f"{page}gradio_api/call/predict", content=b"{", timeout=30).status_code == 400
    assert (
        httpx.post(f"{page}gradio_api/call/predict", content=b"[" * 100_000, timeout=30).status_code
        == 400
    )
    up = upload(page, "../../up.jpg", good)
    assert up.status_code == 200 and Path(up.json()[0]).resolve().is_relative_to(
        home / "cache" / "uploads"
    )


def test_what_is_uploaded_is_predicted_and_what_is_broken_is_said(page, other_shapes):
    good, bad = (other_shapes / "disc" / "000.jpg").read_bytes(), b"\xff\xd8\xff\xe0" + bytes(50)
    paths = [
        upload(page, name, data).json()[0] for name, data in (("good.jpg", good), ("bad.jpg", bad))
    ]
    kind, told = call(
        page,
        "predict",
        [[{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths], 0.5, ""],
    )
    assert (
        kind == "complete"
        and [answer["label"] for answer in told[0]] == ["disc", None]
        and told[0][1]["error"]
    )
    assert set(told[0][0]) == {
        "file_name",
        "status",
        "label",
        "labels",
        "top_label",
        "probability",
        "probabilities",
        "box_xyxy",
        "heatmap",
        "mask",
        "error",
        "taken_at",
        "time_source",
        "event",
    }
    for data in (
        [[], 7, ""],
        [[{"path": paths[0], "meta": {"_type": "gradio.FileData"}}], 0.5, "../../etc"],
    ):
        assert call(page, "predict", data)[0] == "error" or data[1] != 7


@pytest.fixture(scope="module")
def guarded_page(home, shapes_model):
    """The page, open to others: its address, with the token."""
    token = "ab+c/d=&x%41;q"
    with served(
        "-m", shapes_model, "--host", "0.0.0.0", WORDSIGHT_HOME=str(home), WORDSIGHT_TOKEN=token
    ) as (address, _):
        yield address


def test_elsewhere_a_token_is_demanded(guarded_page):
    root = guarded_page.partition("?")[0].replace("localhost", "127.0.0.1")
    assert guarded_page.endswith("/?token=ab%2Bc%2Fd%3D%26x%2541%3Bq")
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Cookie": "wordsight-token=wrong"},
        {"Cookie": 'a="'},
    ):
        for path in ("", "config", "gradio_api/info", "?token=wrong"):
            assert httpx.get(root + path, headers=headers, timeout=30).status_code == 401
    assert (
        httpx.get(
            root + "config", headers={"Authorization": "Bearer ab+c/d=&x%41;q"}, timeout=30
        ).status_code
        == 200
    )
    with httpx.Client(timeout=30) as client:
        entered = client.get(root + "?" + guarded_page.partition("?")[2])
        assert (
            entered.status_code == 303
            and "HttpOnly" in entered.headers["set-cookie"]
            and "SameSite=Lax" in entered.headers["set-cookie"]
        )
        assert client.get(root).status_code == 200


def test_ctrl_c_ends_it_and_leaves_nothing(home, shapes_model, chromium):
    with served("-m", shapes_model, WORDSIGHT_HOME=str(home)) as (address, process):
        context = chromium.new_context()
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#try-files input[type=file]", state="attached")
        folders = set((home / "cache" / "uploads").iterdir())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        context.close()
        assert len(set((home / "cache" / "uploads").iterdir())) == len(folders) - 1
        assert process.stderr.read().strip() == "Closed."


def test_connections_that_say_nothing_keep_nobody_out(page):
    with contextlib.ExitStack() as stack:
        port = int(page.rsplit(":", 1)[1].strip("/"))
        for _ in range(700):
            one = stack.enter_context(socket.socket())
            one.connect(("127.0.0.1", port))
            with contextlib.suppress(OSError):
                one.send(b"GET / HTTP/1.1\r\n")
        for _ in range(40):  # until they have been silent for too long
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(page, timeout=5).status_code == 200:
                    break
            time.sleep(1)
        assert httpx.get(page, timeout=5).status_code == 200


def test_a_token_that_can_not_be_typed_is_refused(cli_here):
    for token in ("short", "with blanks in it", "ümläut-tokens"):
        process = cli_here("app", "--host", "0.0.0.0", env={"WORDSIGHT_TOKEN": token})
        assert process.returncode == 2 and "WORDSIGHT_TOKEN must have" in process.stderr


def test_names_that_are_no_text_can_be_reviewed_and_compared(shapes_model, tmp_path, monkeypatch):
    import orjson

    from wordsight.webapp import tab_review as page_review
    from wordsight.webapp.parts import readable
    from wordsight.webapp.review import Doubt

    doubt = Doubt(
        "dog/wr\udcff\udcfeong.jpg", "suspicious", "d\udcff", "cat", None, "duplicate: \udcff"
    )
    orjson.dumps(
        [page_review._described(doubt, ("d\udcff", None), 0, 1), readable(doubt.file_name)]
    )


def test_models_are_chosen_by_name_and_never_overwritten(
    home, shapes_model, shapes, other_shapes, tmp_path, monkeypatch
):
    from wordsight.webapp import workspace as module
    from wordsight.webapp.workspace import Workspace

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("wordsight.webapp.workspace.OPEN_MODELS", 1)
    shutil.copytree(home / "cache" / "backbones", tmp_path / "home" / "cache" / "backbones")
    shop = Workspace(shapes_model)
    dropped = {kind: sorted((other_shapes / kind).iterdir()) for kind in ("disc", "square")}
    for name in ("../up", "", ".", "a/b", "x" * 81, "registered", "-m"):
        with pytest.raises(wordsight.errors.InvalidArgument):
            shop.train_dropped(name, dropped)
    with pytest.raises(wordsight.errors.InvalidArgument, match="1 to 80"):
        shop.train_dropped("good", {"../up": dropped["disc"], "square": dropped["square"]})
    with pytest.raises(wordsight.errors.InvalidArgument, match="at least 2"):
        shop.train_dropped("good", {"disc": dropped["disc"][:1], "square": dropped["square"]})
    # a refusal leaves the name free
    assert not (module.images_folder() / "page" / "good").exists()
    made = shop.train_dropped("good", dropped)
    before = (module.models_folder() / "good" / "model.safetensors").read_bytes()
    with pytest.raises(wordsight.errors.InvalidArgument, match="taken already"):
        shop.train_dropped("good", {kind: files[:3] for kind, files in dropped.items()})
    assert (module.models_folder() / "good" / "model.safetensors").read_bytes() == before
    for name in ("../../etc", str(shapes_model), "good"):
        with pytest.raises(wordsight.errors.InvalidArgument, match="There is no model"):
            shop.viewer(name)
    first = shop.viewer(made)
    assert shop.viewer(made) is first and len(shop._open) == 1
    wordsight.train(shapes, module.models_folder() / "good", positive="disc")
    fresh = next(name for name in shop.models() if name.startswith("good"))
    assert shop.viewer(fresh).model.class_names == ["disc", "not_disc"]  # trained anew, read anew


def test_words_make_a_model_and_say_which_way_they_took(home, other_shapes, tmp_path, monkeypatch):
    from wordsight.webapp.workspace import Workspace

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    shutil.copytree(home / "cache" / "backbones", tmp_path / "home" / "cache" / "backbones")
    shop, said = Workspace(), []
    name = shop.train_words(
        "cat,dog", sorted((other_shapes / "disc").iterdir()), False, say=said.append
    )
    assert shop.viewer(name).model.record.recipe == "words" and "what the backbone knows" in said[0]
    trained = shop.train_dropped(
        "mine",
        {
            "Cat": sorted((other_shapes / "disc").iterdir()),
            "dog": sorted((other_shapes / "square").iterdir()),
        },
    )
    said.clear()
    assert (
        shop.train_words("dog,cat", [other_shapes / "disc" / "000.jpg"], False, say=said.append)
        == trained
        and "made before" in said[0]
    )
    with pytest.raises(wordsight.errors.UnknownWord):
        shop.train_words("cat,xyzzyx", [other_shapes / "disc" / "000.jpg"], False)


def test_only_what_was_uploaded_reaches_the_model(tmp_path, monkeypatch):
    import gradio as gr

    from wordsight.webapp.parts import uploaded

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    assert uploaded([str(tmp_path / "uploads" / "a.jpg")]) and uploaded(None) == []
    for path in ("/etc/passwd", str(tmp_path / "uploads" / ".." / "x.jpg")):
        with pytest.raises(gr.Error):
            uploaded([path])


def test_what_a_killed_page_left_goes_with_the_next(tmp_path, monkeypatch):
    from wordsight.webapp.server import uploads_folder

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    left = tmp_path / "cache" / "uploads" / "dead"
    left.mkdir(parents=True)
    (left / "a.jpg").write_bytes(b"x")
    with uploads_folder() as first, uploads_folder() as second:
        assert first.is_dir() and second.is_dir() and not left.exists()
    assert not first.exists() and not second.exists()


def through(
    guard: Guard,
    path: str,
    messages: list,
    method: str = "POST",
    headers: tuple = (),
    kind: str = "http",
) -> list[dict]:
    """Send messages through a guard; None falls silent for good."""
    sent, waiting = [], list(messages)

    async def receive():
        if waiting and waiting[0] is None:
            await asyncio.sleep(60)
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:1"), *headers],
    }
    with ThreadPoolExecutor(1) as aside:  # Playwright leaves an event loop running in this thread
        aside.submit(lambda: asyncio.run(guard(scope, receive, send))).result()
    return sent


async def reads_all(scope, receive, send):
    """An application that reads an upload to its end."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise RuntimeError("the client went away")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"[]"})


def test_a_slow_upload_and_too_large_ones_are_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(page_guard, "PAUSE_S", 0.2)
    monkeypatch.setattr(page_guard, "MAX_UPLOAD", 1000)
    guard = Guard(reads_all, {"127.0.0.1"}, None, tmp_path)
    part = {"type": "http.request", "body": b"x" * 400, "more_body": True}
    assert through(guard, UPLOAD, [part, None])[0]["status"] == 408
    assert through(guard, UPLOAD, [part, part, part])[0]["status"] == 413
    assert through(guard, UPLOAD, [part, {**part, "more_body": False}])[0]["status"] == 200
    monkeypatch.setattr(page_guard, "REQUEST_S", 0.0)
    assert through(guard, UPLOAD, [part, None])[0]["status"] == 408
    assert guard._uploading == 0


def test_sockets_of_other_kinds_are_closed_and_answers_to_uploads_are_plain(tmp_path):
    seen = []

    async def application(scope, receive, send):
        seen.append(dict(scope["headers"]))
        await reads_all(scope, receive, send)

    guard = Guard(application, {"127.0.0.1"}, None, tmp_path)
    assert (
        through(guard, "/", [], kind="websocket") == [{"type": "websocket.close", "code": 1008}]
        and not seen
    )
    assert (
        through(
            guard,
            UPLOAD,
            [{"type": "http.request", "body": b"x"}],
            headers=((b"accept-encoding", b"br"),),
        )[0]["status"]
        == 200
    )
    assert b"accept-encoding" not in seen[0]


def test_a_full_disk_and_too_many_at_once_are_told(tmp_path, monkeypatch):
    guard = Guard(reads_all, {"127.0.0.1"}, None, tmp_path)
    guard._uploading = page_guard.UPLOADS_AT_ONCE
    whole = {"type": "http.request", "body": b"x"}
    assert through(guard, UPLOAD, [whole])[0]["status"] == 429
    guard._uploading = 0
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.jpg").write_bytes(bytes(100))
    monkeypatch.setattr(page_guard, "MAX_KEPT", 10)
    assert through(guard, UPLOAD, [whole])[0]["status"] == 507
    monkeypatch.undo()
    guard._measured = -100.0
    assert through(guard, UPLOAD, [whole])[0]["status"] == 200
    monkeypatch.setattr(page_guard, "LEAST_FREE", 1 << 60)
    guard._measured = -100.0
    assert through(guard, UPLOAD, [whole])[0]["status"] == 507


def test_parts_of_uploads_that_broke_off_are_forgotten(tmp_path):
    (tmp_path / "part").write_bytes(bytes(100))
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "a.jpg").write_bytes(bytes(10))
    os.utime(tmp_path / "part", (1, 1))
    os.utime(tmp_path / "whole" / "a.jpg", (1, 1))
    page_guard._kept_bytes(tmp_path)
    assert not (tmp_path / "part").exists() and (tmp_path / "whole" / "a.jpg").exists()


def test_wrong_requests_are_one_sentence(cli_here):
    for arguments, part in (
        (("-m", "none"), "No such model"),
        (("--data", "none"), "No such folder"),
        (("--port", "99999"), "between 1 and 65535"),
    ):
        process = cli_here("app", *arguments)
        assert (
            process.returncode == 2 and part in process.stderr and "Traceback" not in process.stderr
        )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = cli_here("app", "--port", str(taken.getsockname()[1]))
        assert process.returncode == 2 and "Choose another with --port" in process.stderr


def test_without_the_extra_one_sentence_says_how_to_get_it(cli_here, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "gradio" else real(name, *rest),
    )
    process = cli_here("app")
    assert process.returncode == 2 and "pip install 'wordsight[app]'" in process.stderr


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else_of_another_site_gets_in(tmp_path):
    guard = Guard(reads_all, None, "secret-token", tmp_path)
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    visit |= {"sec-fetch-dest": "document", "authorization": "Bearer secret-token"}

    def status(path, method="GET", **changed):
        headers = {**visit, **{name.replace("_", "-"): text for name, text in changed.items()}}
        pairs = tuple((name.encode(), text.encode()) for name, text in headers.items())
        whole = [{"type": "http.request", "body": b""}]
        return through(guard, path, whole, method, pairs)[0]["status"]

    assert status("/") == 200
    assert status("/", authorization="") == 401
    for refused in (
        status("/", sec_fetch_dest="iframe"),
        status("/", sec_fetch_mode="no-cors", sec_fetch_dest="image"),
        status("/", sec_fetch_mode="cors", sec_fetch_dest="empty"),
        status("/config"),
        status("/gradio_api/file=/x"),
        status("/gradio_api/call/predict", "POST"),
        status("/", origin="https://elsewhere.example"),
    ):
        assert refused == 403


def test_a_person_follows_a_link_on_another_site(guarded_page, chromium):
    """In a browser, which decides itself what it sends with such a request."""
    # 127.0.0.1 is another site than localhost
    with serving_bytes(f"<a href='{guarded_page}'>See</a>".encode()) as elsewhere:
        context = chromium.new_context()
        found = context.new_page()
        for _ in range(2):  # the second time with a cookie
            found.goto(elsewhere)
            found.click("a")
            found.wait_for_selector("#try-files input[type=file]", state="attached")
        context.close()


@contextlib.contextmanager
def serving_bytes(body):
    """Serve one page of HTML; yields its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


JUNK = (
    ("queue/join", {"data": [[1, 2], "x", {}], "fn_index": 0, "session_hash": "a"}),
    ("queue/join", {"data": [], "fn_index": 0, "session_hash": "b"}),
    ("queue/join", {"data": [{}, "x", "x"], "fn_index": 3, "session_hash": "c"}),
    ("queue/join", {"data": [[], 0], "fn_index": 4, "session_hash": "d", "event_data": "x"}),
    ("queue/join", {"data": [], "fn_index": -1, "session_hash": "e"}),
    ("queue/join", {"data": ["\ud800"] * 3, "fn_index": 5, "session_hash": "f"}),
    ("run/predict", {"data": [{}, {}, {}], "fn_index": 3}),
    ("call/predict", {"data": {"a": 1}}),
    ("call/heatmap", {"data": [None, 7, {}]}),
    ("reset/", {"event_id": []}),
    ("cancel", {"session_hash": "a", "event_id": "b", "fn_index": "c"}),
)


def test_junk_leaves_no_traceback_and_a_request_to_end_no_pictures(
    home, shapes_model, other_shapes
):
    good = (other_shapes / "disc" / "000.jpg").read_bytes()
    with served("-m", shapes_model, WORDSIGHT_HOME=str(home)) as (address, process):
        for path, content in JUNK:
            body = json.dumps(content)
            answer = httpx.post(f"{address}gradio_api/{path}", content=body, timeout=30)
            assert answer.status_code in (200, 400, 404, 405, 422, 500), path
        for path in ("gradio_api/queue/data?session_hash=nobody", "static/" + "a" * 5000):
            with contextlib.suppress(httpx.RemoteProtocolError):
                httpx.get(address + path, timeout=30)
        for head in (b"\0", b"GET / HTTP/1.1\r\nHost: [\r\nUpgrade: x\r\nConnection: upgrade"):
            with connected(httpx.URL(address).port) as one:
                one.sendall(head + b"\r\n\r\n")
                one.recv(100)
        picture = Path(upload(address, "a.jpg", good).json()[0])
        assert picture.is_file()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0 and process.stderr.read().strip() == "Closed."
        assert not picture.exists() and not picture.parents[1].exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_request_to_end_interrupts_as_ctrl_c_does(name):
    code = (
        "import signal\nfrom wordsight.webapp.server import ending_as_ctrl_c\n"
        f"signal.signal(signal.{name}, signal.SIG_DFL)\n"  # whatever this test was started with
        f"try:\n    with ending_as_ctrl_c():\n        signal.raise_signal(signal.{name})\n"
        "except KeyboardInterrupt:\n    print('tidied')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout == "tidied\n", told.stderr


def connected(port):
    """Return a connection to this machine."""
    one = socket.create_connection(("127.0.0.1", port))
    one.settimeout(20)
    return one


@pytest.fixture
def impatient(monkeypatch):
    """Serve a large answer with the page's server, but with shorter deadlines; yields the port."""
    import uvicorn

    from wordsight.webapp import server as page_server

    monkeypatch.setattr(page_server, "HEAD_S", 0.8)
    monkeypatch.setattr(page_server, "UNREAD_S", 0.8)
    monkeypatch.setattr(page_server, "CONNECTIONS", 20)

    async def application(scope, receive, send):
        large = b"x" * (0 if scope["path"] == "/" else 64 << 20)
        headers = [(b"content-length", str(len(large)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": large})

    settings = page_server._settings(application)
    settings.lifespan = "off"
    server = uvicorn.Server(settings)
    with listening("127.0.0.1", None) as sockets:
        thread = threading.Thread(target=server.run, args=(sockets,))
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield port_of(sockets)
        server.should_exit = True
        thread.join()


HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def closed_after(one, drip):
    """Return after how many seconds a connection is closed on which `drip` arrives bit by bit."""
    began = time.monotonic()
    one.settimeout(0.1)
    for at in range(100):
        try:
            one.send(drip[at : at + 1] or b"x")
            if one.recv(1000) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - began


def test_every_head_has_a_deadline_on_a_kept_connection_too(impatient):
    with connected(impatient) as first, connected(impatient) as kept:
        kept.sendall(HEAD + b"\r\n")
        assert kept.recv(1000).startswith(b"HTTP/1.1 200")
        assert closed_after(kept, HEAD) < 5
        assert closed_after(first, HEAD) < 5
    with connected(impatient) as slow:  # a body that nobody waits for
        slow.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        assert slow.recv(1000).startswith(b"HTTP/1.1 200")
        assert closed_after(slow, b"") < 5


def test_who_asks_again_in_time_stays(impatient):
    with connected(impatient) as one:
        for _ in range(4):
            one.sendall(HEAD + b"\r\n")
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
            time.sleep(0.4)


def test_an_answer_that_nobody_reads_is_given_up(impatient):
    with connected(impatient) as one:
        one.sendall(HEAD.replace(b" / ", b" /large ") + b"\r\n")
        time.sleep(2)
        with contextlib.suppress(ConnectionError):
            read = 0
            while piece := one.recv(1 << 20):
                read += len(piece)
            assert read < 64 << 20


def test_a_new_connection_takes_the_place_of_the_one_that_has_been_idle_longest(impatient):
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connected(impatient)).send(HEAD)
        assert httpx.get(f"http://127.0.0.1:{impatient}/", timeout=5).status_code == 200


def test_an_image_that_takes_long_keeps_no_other_call_waiting():
    """However many images another call has in the queue before it."""
    turns, order, go_on = Turns(1), [], threading.Event()
    many, one = Call(turns), Call(turns)

    def look(call):
        with call.turn():
            order.append(call)
            assert go_on.wait(20)

    def queued(count):
        while len(turns._waiting) < count:
            time.sleep(0.01)

    with ThreadPoolExecutor(6) as pool:
        looks = [pool.submit(look, many)]
        while not order:
            time.sleep(0.01)
        for count, call in enumerate((many, many, many, one), start=1):
            looks.append(pool.submit(look, call))
            queued(count)
        go_on.set()
        for done in looks:
            done.result()
    assert order == [many, one, many, many, many]
