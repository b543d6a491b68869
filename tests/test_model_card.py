"""A model's folder is what the Hugging Face Hub expects of a timm model, and its card says what
it learned from.
"""

from __future__ import annotations

import csv
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
import yaml

import wordsight
from conftest import write_shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of two classes, one of an awkward name, some of whose pictures have licences and
    some are for testing.
    """
    root = tmp_path_factory.mktemp("card")
    data = write_shapes(root / "data", 8)
    (data / "square").rename(data / "a|b <img src=x> [x]`")
    rows = []
    for number, path in enumerate(sorted(data.rglob("*.jpg"))):
        licence = ("by", "cc0 | <b>", "")[number % 3]
        rows.append(
            (
                path.relative_to(data).as_posix(),
                path.parent.name,
                licence,
                "test" if number % 4 == 0 else "train",
            )
        )
    with open(data / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file_name", "label", "license", "split"), *rows])
    wordsight.train(data, root / "model")
    return root / "model"


def test_the_card_is_the_hubs(folder):
    hub = pytest.importorskip("huggingface_hub")
    text = (folder / "README.md").read_text()
    card = hub.ModelCard(text, ignore_metadata_errors=False)
    assert (
        card.data.library_name == "timm"
        and card.data.pipeline_tag == "image-classification"
        and {"timm", "wordsight"} <= set(card.data.tags)
    )
    assert card.data.license is None  # its maker's to choose
    record = wordsight.load(folder).record
    (result,) = [one for one in card.data.eval_results if one.metric_type == "accuracy"]
    assert (
        result.metric_value == pytest.approx(record.metrics["accuracy"], abs=1e-4)
        and result.dataset_name == record.judged_on
    )
    assert (
        yaml.safe_load(text.split("---")[1])["model-index"][0]["name"]
        == "a|b <img src=x> [x]` or disc"
    )


def test_the_card_tells_classes_figures_and_licences_and_no_name_becomes_markup(folder):
    text, model = (folder / "README.md").read_text().split("---", 2)[2], wordsight.load(folder)
    assert "<img" not in text and "a\\|b &lt;img src=x&gt; \\[x]&#96;" in text
    # those marked test are not learned from
    assert sum(model.record.licences.values()) == sum(model.record.images.values()) == 12
    assert (
        f"| by | {model.record.licences['by']} |" in text
        and "cc0 \\| &lt;b&gt;" in text
        and "| not recorded |" in text
    )
    assert (
        f"| accuracy | {model.record.metrics['accuracy']:.4f} |" in text
        and f"{model.head.temperature:.6g}" in text
    )


@pytest.fixture
def hub(folder):
    """An imitation of the Hub that serves one model's files as the real one does; yields its
    address and what was asked for.
    """
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def answer(self, whole):
            prefix = "/me/pets/resolve/main/"
            asked.append(self.path)
            file = folder / self.path.split("?")[0].removeprefix(prefix)
            found = self.path.startswith(prefix) and file.is_file()
            data = file.read_bytes() if found else b""
            self.send_response(200 if found else 404)
            headers = (
                {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": "0" * 40}
                if found
                else {"X-Error-Code": "EntryNotFound"}
            )
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if whole:
                self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


LOAD = """
import json, sys, timm, torch
model = timm.create_model("hf-hub:me/pets", pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)
torch.manual_seed(0)
with torch.no_grad():
    logits = model(torch.rand(1, 3, 96, 96))[0]
found = {"names": model.pretrained_cfg["label_names"], "logits": logits.tolist()}
print(json.dumps({**found, "input": config["input_size"], "crop": config["crop_mode"]}))
"""


@pytest.mark.slow  # from a folder it is loaded in every run
def test_timm_loads_it_from_a_hub(folder, hub, tmp_path):
    import timm
    import torch

    address, asked = hub
    env = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert (
        answer["names"] == wordsight.load(folder).class_names
        and answer["input"] == [3, 320, 320]
        and answer["crop"] == "squash"
    )
    assert any("config.json" in path for path in asked) and any(
        "model.safetensors" in path for path in asked
    )
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        own = network(torch.rand(1, 3, 96, 96))[0]
    assert answer["logits"] == pytest.approx(own.tolist(), abs=1e-5)
