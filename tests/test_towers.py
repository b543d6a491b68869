"""Text–image towers: prepared from a model of random weights that open_clip itself makes, since the
real ones can't be had where this is developed.
"""

from __future__ import annotations

import hashlib
import http.server
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from conftest import draw_shape
from random_tower import PIXELS, SMALL, write_model
from wordsight.core.home import towers_folder
from wordsight.core.result_folder import hold
from wordsight.datasets.files import ImageFile
from wordsight.errors import BackboneUnavailable, InvalidArgument, InvalidModel
from wordsight.towers import open_tower, phrase_map, prepare, rank
from wordsight.towers.converting import read_source
from wordsight.towers.fetching import Remote, fetch, own_tokenizer
from wordsight.towers.names import CONFIG, RECORD, WEIGHTS, check_name, home_of
from wordsight.towers.prompts import NOTHING, RIVALS, rivals, table_nouns
from wordsight.towers.tower import read_record

PHRASES = [
    "a photo of a kangaroo",
    "red bicycle at the lake",
    "don't  LOOK: 42 Äpfel &amp; Bäume!",
    "日本語 🦘",
    "a very long phrase, " * 20,
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder in open_clip's format, and open_clip's own model of it."""
    for package in ("tokenizers", "open_clip", "torch"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("towers") / "small"
    return folder, write_model(folder, SMALL, PIXELS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    files = []
    for number in range(6):
        image = draw_shape("disc" if number % 2 else "square", number)[0]
        image.save(folder / f"{number}.png")
        files.append(ImageFile(folder / f"{number}.png", f"{number}.png"))
    return files


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    """The small tower, prepared; its folder is used as it is, as if it came from elsewhere."""
    home = tmp_path_factory.mktemp("home")
    before, os.environ["WORDSIGHT_HOME"] = os.environ.get("WORDSIGHT_HOME"), str(home)
    try:
        return prepare(f"local-dir:{source[0]}").folder
    finally:
        if before is None:
            del os.environ["WORDSIGHT_HOME"]
        else:
            os.environ["WORDSIGHT_HOME"] = before


def test_photos_and_phrases_have_the_vectors_that_open_clip_gives(source, prepared, photos):
    torch = pytest.importorskip("torch")
    from open_clip import get_tokenizer
    from open_clip.transform import PreprocessCfg, image_transform_v2

    folder, model = source
    tower = open_tower(f"local-dir:{prepared}", dtype="f32")
    theirs = image_transform_v2(PreprocessCfg(**PIXELS), is_train=False)
    images = [Image.open(file.path).convert("RGB") for file in photos]
    tokens = get_tokenizer(f"local-dir:{folder}")(PHRASES)
    with torch.inference_mode():
        seen = model.encode_image(torch.stack([theirs(one) for one in images]), normalize=True)
        read = model.encode_text(tokens, normalize=True).numpy()
    assert np.abs(tower.embed_photos(photos) - seen.numpy()).max() < 1e-3
    assert np.array_equal(tower._tokenize(PHRASES), tokens.numpy())
    assert np.abs(tower._texts(PHRASES) - read).max() < 1e-3


def test_a_phrase_is_the_mean_of_its_prompts(prepared):
    tower = open_tower(f"local-dir:{prepared}")
    vectors = tower.embed_phrases(["kangaroo#animal", "wombat"])
    from wordsight.towers.prompts import TEMPLATES

    each = tower._texts([template.format("kangaroo") for template in TEMPLATES])
    mean = each.mean(axis=0)
    assert np.allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


def test_each_patch_has_a_vector_in_the_space_of_phrases(prepared, photos):
    tower = open_tower(f"local-dir:{prepared}", dtype="f32")
    image = Image.open(photos[0].path).convert("RGB")
    patches = tower.patches(image)
    assert patches.shape == (10, 10, 64)
    assert np.allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-3)
    assert patches.reshape(100, 64).std(axis=0).max() > 1e-3  # patches differ


def test_the_map_of_a_phrase_lies_where_its_patches_fit(prepared, photos, monkeypatch):
    tower = open_tower(f"local-dir:{prepared}")
    heat = phrase_map(tower, str(photos[0].path), "a red disc")
    assert heat.shape == (10, 10) and heat.min() >= 0 and heat.max() <= 1
    text, beside = tower.embed_phrases(["a red disc"])[0], tower.embed_phrases(NOTHING, False)
    planted = np.broadcast_to(beside.mean(axis=0), (10, 10, 64)).copy()
    planted[2, 7] = text
    monkeypatch.setattr(tower, "patches", lambda image: planted)
    heat = phrase_map(tower, str(photos[0].path), "a red disc")
    assert heat[2, 7] == 1 and np.unravel_index(heat.argmax(), heat.shape) == (2, 7)


def test_the_folder_works_without_torch_and_open_clip(prepared, photos):
    code = (
        "import sys\n"
        "for name in ('torch', 'timm', 'open_clip', 'huggingface_hub'): sys.modules[name] = None\n"
        "from wordsight.towers import open_tower, rank\n"
        "from wordsight.datasets.files import ImageFile\n"
        "from pathlib import Path\n"
        "files = [ImageFile(Path(path), path) for path in sys.argv[2:]]\n"
        "found = rank(files, 'red disc', open_tower('local-dir:' + sys.argv[1]))\n"
        "assert len(found.files) == len(files)\n"
    )
    command = [sys.executable, "-c", code, prepared, *(file.path for file in photos)]
    subprocess.run(list(map(str, command)), check=True)


def test_nouns_of_the_table_need_no_text_tower(source, tmp_path, monkeypatch):
    from wordsight.towers import preparing

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    monkeypatch.setattr(preparing, "NOUN_COUNT", 300)
    made = prepare(f"local-dir:{source[0]}", nouns=True)
    assert made.record.nouns == 300
    tower = open_tower(f"local-dir:{source[0]}")
    words = table_nouns(300)[:5]
    expected = tower._texts([f"a photo of a {word}." for word in words])
    tower._cache.clear()
    monkeypatch.setattr(type(tower), "_text", None)  # any use of it fails
    assert np.allclose(tower.embed_phrases(words, several=False), expected, atol=1e-3)


@pytest.mark.parametrize("agrees", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_int8_is_kept_only_where_it_agrees(agrees, source, tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    from wordsight.towers import preparing

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    pictures = [draw_shape("disc", seed)[0] for seed in range(8)]
    monkeypatch.setattr(preparing, "CALIBRATED_ON", 16)
    monkeypatch.setattr(preparing, "ALIKE", -1.0 if agrees else 1.1)
    made = prepare(f"local-dir:{source[0]}", pictures=pictures)
    if agrees:
        assert made.record.int8 is not None and made.record.int8["speed"] > 0
        assert open_tower(f"local-dir:{source[0]}", dtype="int8").dtype == "int8"
    else:
        assert made.record.int8 is None
        assert not list(made.folder.glob("*int8*"))


def test_a_wheel_carries_a_prepared_model(prepared, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    shutil.copytree(prepared, towers_folder() / "pe-core-t")
    vectors = open_tower("pe-core-t", dtype="f32").embed_photos(photos)
    licence = tmp_path / "licence.txt"
    licence.write_text("Do as you like.")
    script = Path(__file__).parents[1] / "scripts" / "make_words_wheel.py"
    command = [sys.executable, script, "pe-core-t", "--licence", licence, "-o", tmp_path / "dist"]
    subprocess.run(list(map(str, command)), check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    installed = tmp_path / "installed"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--target")
    subprocess.run([*pip, str(installed), str(wheel)], check=True)
    (text,) = installed.glob("*.dist-info/licenses/LICENSE.txt")
    assert text.read_text() == "Do as you like."

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "another"))
    monkeypatch.syspath_prepend(str(installed))
    tower = open_tower("pe-core-t", dtype="f32")
    assert tower.folder.parent == installed
    assert np.array_equal(tower.embed_photos(photos), vectors)


def test_a_damaged_folder_is_found_by_its_hash_and_prepared_anew(source, tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    name = f"local-dir:{source[0]}"
    folder = prepare(name).folder
    with open(folder / "image.bin", "r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    with pytest.raises(InvalidModel, match=r"damaged: 'image\.bin'"):
        open_tower(name)
    said = []
    assert prepare(name, say=said.append).folder == folder
    assert "prepared anew" in said[0]
    read_record(folder)


def test_an_interrupted_preparation_goes_on(source, tmp_path, monkeypatch):
    from wordsight.towers import preparing

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    name = f"local-dir:{source[0]}"

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "write_tokenizer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(name)
    with pytest.raises(BackboneUnavailable, match="--prepare"):
        open_tower(name)
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "image_network", interrupted)  # is not made again
        patch.setattr(preparing, "text_network", interrupted)
        folder = prepare(name).folder
    read_record(folder)
    assert not folder.with_name(f"{folder.name}.part").exists()


def test_preparing_twice_changes_nothing(source, tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    folder = prepare(f"local-dir:{source[0]}").folder
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    prepare(f"local-dir:{source[0]}")
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("change, reason", [
    ({"text_cfg": {**SMALL["text_cfg"], "hf_model_name": "roberta-base"}}, "text tower"),
    ({"text_cfg": {**SMALL["text_cfg"], "hf_tokenizer_name": "a/b"}}, "tokenizer"),
    ({"text_cfg": {**SMALL["text_cfg"], "layers": 24, "width": 512}}, "weights"),
    ({"vision_cfg": {**SMALL["vision_cfg"], "timm_model_name": "no_such"}}, "can't be opened"),
    ({"text_cfg": {**SMALL["text_cfg"], "context_length": 1e999}}, "can't be read"),
    ({"text_cfg": {**SMALL["text_cfg"], "context_length": -1}}, "can.t be|weights"),
    ({"text_cfg": {**SMALL["text_cfg"], "context_length": 10**9}}, "can.t be|weights"),
    ({"text_cfg": []}, "can't be read"),
])  # fmt: skip
def test_models_that_cannot_be_prepared_are_refused(change, reason, source, tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    folder = tmp_path / "model"
    shutil.copytree(source[0], folder)
    told = {"model_cfg": {**SMALL, **change}, "preprocess_cfg": PIXELS}
    (folder / CONFIG).write_text(json.dumps(told))
    with pytest.raises(InvalidModel, match=reason):
        prepare(f"local-dir:{folder}")


@pytest.mark.parametrize("pixels, reason", [
    ({"mean": [0, 10**400, 0]}, "can't be read"),
    ({"mean": [0, float("inf"), 0]}, "mean and std"),
    ({"std": [float("nan"), 1, 1]}, "mean and std"),
])  # fmt: skip
def test_numbers_beyond_all_bounds_are_refused(pixels, reason, source, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(source[0], folder)
    told = {"model_cfg": SMALL, "preprocess_cfg": {**PIXELS, **pixels}}
    (folder / CONFIG).write_text(json.dumps(told))
    with pytest.raises(InvalidModel, match=reason):
        read_source(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "", '{"model_cfg": {"text_cfg": []}}'])
def test_settings_that_are_none_are_refused(text, source, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(source[0], folder)
    (folder / CONFIG).write_text(text)
    assert own_tokenizer(folder) is None
    with pytest.raises(InvalidModel, match="can't be read"):
        read_source(folder)
    (folder / RECORD).write_text(text)
    with pytest.raises(InvalidModel, match="can't be read"):
        read_record(folder)


def test_two_preparations_do_not_write_into_one_another(source, tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    name = f"local-dir:{source[0]}"
    place = home_of(name).parent
    place.mkdir(parents=True)
    with hold(place), pytest.raises(InvalidArgument, match="Another run is writing"):
        prepare(name)
    prepare(name)
    assert not list(place.glob(".*"))


def test_a_hub_that_sends_more_than_it_said_is_left(source, tmp_path, monkeypatch):
    def endless(request):
        return httpx.Response(200, content=itertools.repeat(bytes(1 << 20)))

    client = httpx.Client(transport=httpx.MockTransport(endless))
    monkeypatch.setattr(httpx, "Client", lambda **_: client)
    remote = Remote("a/b", "c" * 40, {WEIGHTS: 1000}, {}, "")
    with pytest.raises(InvalidModel, match="not what the hub says"):
        fetch(remote, tmp_path)
    assert not list(tmp_path.iterdir())


def test_pickled_weights_are_not_read(source, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(source[0], folder)
    (folder / WEIGHTS).rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(InvalidModel, match="can run code"):
        prepare(f"local-dir:{folder}")


@pytest.mark.parametrize("name", [
    "mobileclip2", "MobileCLIP2-S0", "mobile-clip", "hf-hub:timm/MobileCLIP2-S0-OpenCLIP",
    "hf-hub:apple/mobileclip_s0_timm", "local-dir:/models/MobileCLIP2-B",
])  # fmt: skip
def test_mobileclip_is_refused_for_its_licence(name):
    with pytest.raises(InvalidArgument, match="research licence"):
        prepare(name)
    with pytest.raises(InvalidArgument, match="research licence"):
        open_tower(name)


@pytest.mark.parametrize("name", ["", "siglip", "hf-hub:siglip", "hf-hub:a/b/c", "local-dir:"])
def test_unknown_names_are_refused(name):
    with pytest.raises(InvalidArgument, match="siglip2, pe-core-s, pe-core-t"):
        check_name(name)


def test_rank_puts_the_fittest_first_and_tells_what_it_could_not_read(prepared, photos, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    broken = ImageFile(tmp_path / "broken.jpg", "broken.jpg")
    tower = open_tower(f"local-dir:{prepared}")
    found = rank([*photos[:3], broken, *photos[3:]], "a disc", tower)
    assert found.unreadable == [broken]
    assert len(found.files) == 6 and (np.diff(found.scores) <= 0).all()
    text = tower.embed_phrases(["a disc"])[0]
    assert np.allclose(tower.embed_photos(found.files) @ text, found.scores)


def test_rivals_are_neither_the_word_nor_its_kin():
    beside = rivals(("dog", "kangaroo"))
    assert len(beside) == RIVALS == len(set(beside))
    assert not {"dog", "animal", "canine", "beagle", "poodle", "kangaroo"} & set(beside)
    assert {"car", "house", "book"} & set(beside)


def test_the_table_holds_common_nouns_once():
    nouns = table_nouns(20_000)
    assert len(nouns) == 20_000 == len(set(nouns))
    assert {"kangaroo", "dog", "bicycle", "vehicle", "screwdriver"} <= set(nouns)


class Hub(http.server.BaseHTTPRequestHandler):
    """Imitates the part of the Hugging Face hub that a download uses.

    Attributes:
        files: file name -> bytes.
        stops_at: bytes of the large file after which every download breaks off, or None.
        asked: "METHOD path range" of each request.
    """

    files: dict[str, bytes]
    stops_at: int | None
    asked: list[str]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        if self.path.startswith("/api/models/"):
            siblings = [
                {"rfilename": name, "size": len(data)}
                | ({"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
                            "pointerSize": 1}} if name == WEIGHTS else {})
                for name, data in self.files.items()
            ]  # fmt: skip
            card = {"license": "apache-2.0"}
            told = {"id": "timm/x", "sha": "c" * 40, "siblings": siblings, "cardData": card}
            return self.send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
        name = self.path.rpartition("/")[2]
        data = self.files[name]
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": "c" * 40,
            "Accept-Ranges": "bytes",
        }
        first = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if first:
            begin = int(first[1])
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            return self.send(206, data[begin:], headers, begin)
        return self.send(200, data, headers)

    def send(self, status, data, headers, begin=0):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if type(self).stops_at is not None and begin + len(data) > type(self).stops_at:
            data = data[: max(0, type(self).stops_at - begin)]
            self.close_connection = True
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(source):
    """A running imitation of the hub that has the small model; returns it and its address."""
    kind = type("OneHub", (Hub,), {
        "files": {name: (source[0] / name).read_bytes() for name in (CONFIG, WEIGHTS)},
        "stops_at": None,
        "asked": [],
    })  # fmt: skip
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kind, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def prepare_there(address, home, *options):
    """Run `words --prepare pe-core-t` against an imitated hub."""
    env = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "WORDSIGHT_HOME": str(home),
    }
    env.pop("WORDSIGHT_OFFLINE", None)
    command = [sys.executable, "-m", "wordsight", "words", "--prepare", "pe-core-t", *options]
    return subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.PIPE)


def test_nothing_is_downloaded_without_consent(hub, tmp_path):
    kind, address = hub
    done = prepare_there(address, tmp_path)
    assert done.returncode == 2
    assert "MB on the Hugging Face hub" in done.stderr and "Apache-2.0" in done.stderr
    assert "Add --yes to download it." in done.stderr
    assert all(line.startswith("GET /api/models/timm/PE-Core-T-16-384") for line in kind.asked)
    offline = prepare_there(address, tmp_path, "--yes", "--offline")
    assert offline.returncode == 2 and "--offline forbids it" in offline.stderr


@pytest.mark.slow
def test_a_download_that_broke_off_goes_on_where_it_stopped(hub, tmp_path):
    kind, address = hub
    kind.stops_at = len(kind.files[WEIGHTS]) // 2
    broken = prepare_there(address, tmp_path, "--yes")
    assert broken.returncode == 2 and "the same command goes on" in broken.stderr
    kind.stops_at = None
    kind.asked.clear()
    done = prepare_there(address, tmp_path, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert any(re.search(rf"GET .*{WEIGHTS} bytes=[1-9]\d*-", line) for line in kind.asked)
    told = json.loads(done.stdout)
    assert told["name"] == "pe-core-t" and told["licence"] == "Apache-2.0"
    kind.asked.clear()
    again = prepare_there(address, tmp_path)  # is ready: asks nobody
    assert again.returncode == 0 and kind.asked == []


def test_a_file_that_is_not_what_the_hub_says_is_removed(hub, tmp_path):
    kind, address = hub
    good = kind.files[WEIGHTS]
    real = Hub.do_GET

    def swapped(self):
        if self.path.startswith("/api/"):
            return real(self)
        kind.files[WEIGHTS] = bytes(len(good))
        try:
            return real(self)
        finally:
            kind.files[WEIGHTS] = good

    kind.do_GET = swapped
    done = prepare_there(address, tmp_path, "--yes")
    assert done.returncode == 2 and "is not what the hub says" in done.stderr
    assert not list(tmp_path.rglob(WEIGHTS))


def test_words_refuses_options_that_do_not_go_together(capsys):
    from typer.testing import CliRunner

    from wordsight.cli.main import app

    for line in ("words", "words dog --prepare siglip2", "words dog --yes", "words --nouns"):
        assert CliRunner().invoke(app, line.split()).exit_code != 0
