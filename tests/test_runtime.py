"""Backbones and engines: the embedded default, agreement, start-up, and no connection."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import wordsight
from conftest import draw_shape, write_shapes
from wordsight.backbones.embedder import Embedder
from wordsight.backbones.networks.timm_models import build_module
from wordsight.backbones.preprocessing import Preprocessing
from wordsight.backbones.registry import (
    embedded_backbones,
    find_prepared,
    list_backbones,
    load_backbone,
)
from wordsight.backbones.runtime import open_runtime
from wordsight.backbones.torch_engine import TorchRuntime
from wordsight.datasets.files import find_images
from wordsight.errors import BackboneUnavailable, InvalidArgument


@pytest.fixture(scope="module")
def backbone():
    return load_backbone()


@pytest.fixture(scope="module")
def pixels(backbone):
    return np.asarray(draw_shape("disc", 3)[0].resize((352, 256)))


def test_list_backbones_puts_the_embedded_first():
    assert list_backbones("*lite*")[: len(embedded_backbones())] == embedded_backbones()
    assert "tf_efficientnet_lite0" in embedded_backbones() and any(
        name.startswith("resnet50") for name in list_backbones("resnet50*")
    )


def test_engines_agree(backbone, pixels):
    a, b = (
        open_runtime(backbone, "openvino").encode(pixels, True),
        TorchRuntime(backbone).encode(pixels, True),
    )
    for ours, theirs in ((a.embedding, b.embedding), (a.feature_map, b.feature_map)):
        assert np.abs(ours - theirs).max() <= 1e-3 * np.abs(theirs).max()


@pytest.mark.parametrize("size", [(320, 320), (96, 160), (32, 640)])
def test_fixed_padding_changes_no_value(backbone, size):
    import torch

    from wordsight.backbones.networks.fixed_padding import with_fixed_padding

    given = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    plain, fixed = (
        build_module(backbone),
        with_fixed_padding(build_module(backbone), backbone.preprocessing),
    )
    kinds = [type(layer).__name__ for layer in fixed.modules()]
    assert kinds.count("_FixedPadding") == kinds.count("Conv2dSame") > 0  # each wraps one
    with torch.inference_mode():
        torch.testing.assert_close(
            fixed.forward_features(given), plain.forward_features(given), rtol=0, atol=0
        )


def test_a_network_of_a_size_that_strides_do_not_divide_keeps_its_padding(backbone):
    import torch

    from wordsight.backbones.networks.fixed_padding import with_fixed_padding

    odd = replace(backbone.preprocessing, image_size=(300, 300), fit="squash")
    given = torch.rand(1, 3, 300, 300, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        kept = with_fixed_padding(build_module(backbone), odd).forward_features(given)
        torch.testing.assert_close(
            kept, build_module(backbone).forward_features(given), rtol=0, atol=0
        )


@pytest.mark.parametrize("name", ["nasnetalarge", "pnasnet5large"])
def test_a_network_that_loses_borders_keeps_its_padding(name, backbone):
    """In these a layer without padding comes first, so that no side further on is a multiple of
    its stride.
    """
    import timm
    from torch import nn

    from wordsight.backbones.networks.fixed_padding import with_fixed_padding

    module = nn.Sequential(*list(timm.create_model(name, pretrained=False).children())[:3])
    kinds = [
        type(layer).__name__
        for layer in with_fixed_padding(module, backbone.preprocessing).modules()
    ]
    assert "_FixedPadding" not in kinds and any(kind.endswith("Same") for kind in kinds)


def test_embedding_is_the_mean_of_the_feature_map(backbone, pixels):
    encoding = open_runtime(backbone).encode(pixels, feature_map=True)
    assert encoding.feature_map.shape == (1280, 8, 11) and encoding.embedding.shape == (1280,)
    assert np.allclose(encoding.feature_map.mean(axis=(1, 2)), encoding.embedding, atol=1e-5)
    assert open_runtime(backbone).encode(pixels).feature_map is None


def test_bf16_stays_close(backbone, pixels):
    exact, fast = (
        open_runtime(backbone).encode(pixels).embedding,
        open_runtime(backbone, dtype="bf16").encode(pixels).embedding,
    )
    assert np.dot(exact, fast) / np.linalg.norm(exact) / np.linalg.norm(fast) > 0.995


def test_a_prepared_backbone_is_found_by_its_weights(backbone):
    assert find_prepared(backbone.fingerprint, "x", backbone.preprocessing).num_features == 1280
    assert find_prepared("0" * 64, "x", backbone.preprocessing) is None


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 500), (320, 320)),
        ((300, 400), (288, 384)),
        ((3000, 100), (640, 160)),
        ((1, 5000), (160, 640)),
    ],
)
def test_area_keeps_the_aspect_ratio(backbone, size, expected):
    height, width = backbone.preprocessing.input_size(size)
    assert (height, width) == expected


def test_squash_is_always_the_same_size():
    assert Preprocessing((224, 224), (0,) * 3, (1,) * 3, "bicubic", "squash").input_size(
        (1, 999)
    ) == (224, 224)


def test_unknown_backbone_names_close_ones():
    with pytest.raises(
        InvalidArgument,
        match=r"Unknown backbone 'resnet5'. Close names: .*resnet50.*list_backbones",
    ):
        load_backbone("resnet5")


def test_a_download_that_may_not_happen_names_the_embedded_choices():
    with pytest.raises(
        BackboneUnavailable, match=r"--offline forbids it. Embedded choices: tf_efficientnet_lite0"
    ):
        load_backbone("resnet18.a1_in1k")


NETWORKS = [
    "resnet18",
    pytest.param("vgg16", marks=pytest.mark.slow),
    "mobilenetv3_small_100",
    "efficientnet_b0",
    "vit_tiny_patch16_224",
    pytest.param("convnext_atto", marks=pytest.mark.slow),
    pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
]


def random_backbone(name, folder, classes=10):
    """Write a timm network with random weights as a folder."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, num_classes=classes)
    folder.mkdir()
    save_file(module.state_dict(), folder / "model.safetensors")
    kept = (
        "input_size",
        "mean",
        "std",
        "classifier",
        "fixed_input_size",
        "interpolation",
        "first_conv",
    )
    cfg = {k: v for k, v in module.pretrained_cfg.items() if k in kept}
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architecture": name,
                "num_classes": classes,
                "pretrained_cfg": {**cfg, "num_classes": classes},
            }
        )
    )
    return f"local-dir:{folder}"


@pytest.mark.parametrize("name", NETWORKS)
def test_any_timm_network_trains_saves_loads_predicts_and_shows_where(name, tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    data = write_shapes(tmp_path / "data", 4)
    model = wordsight.train(
        data, tmp_path / "m", backbone=random_backbone(name, tmp_path / "local")
    )
    shutil.rmtree(tmp_path / "local")
    again = wordsight.load(tmp_path / "m")
    assert again.backbone.fingerprint == model.backbone.fingerprint
    assert again.backbone.pooled == (name in ("resnet18", "efficientnet_b0"))
    again.neighbourhood = None  # random weights find everything strange
    # heat maps by gradients take their time
    predictions = list(
        again.predict([str(path) for path in sorted(data.rglob("*.jpg"))[::2]], threshold=0)
    )
    assert len(predictions) == 4 and all(p.probability >= 0.5 for p in predictions)
    assert all(
        p.map.ndim == 2 and p.map.min() >= 0 and p.map.max() <= 1 and p.map.size >= 48
        for p in predictions
    )
    # an empty map says that nothing speaks for the class
    assert sum(p.map.max() == 1 for p in predictions) >= 1


def test_gradients_agree_with_the_one_pass_heat_map(shapes_model, backbone, pixels):
    from wordsight.heatmaps.gradients import GradCam
    from wordsight.heatmaps.one_pass import class_heatmap

    weight = wordsight.load(shapes_model).head.weight[0]
    one_pass = class_heatmap(
        open_runtime(backbone).encode(pixels, feature_map=True).feature_map, weight
    )
    assert np.abs(GradCam(backbone).heatmap(pixels, weight) - one_pass).max() < 1e-3


def test_default_recognises_imagenet_photos(data, tmp_path):
    from wordsight.words.vocabulary import imagenet_synsets

    embedder = Embedder(load_backbone())
    files = find_images([data / "imagenet_sample"]).images
    weight, bias = embedder.backbone.imagenet_head()
    logits = np.stack([item.embedding for item in embedder.embed_all(files)]) @ weight.T + bias
    index = {s.wnid: s.index for s in imagenet_synsets()}
    truth = np.array([index[file.name.split("_")[0]] for file in files])
    ranked = np.argsort(-logits, axis=1)
    assert (ranked[:, 0] == truth).mean() >= 0.85
    assert (ranked[:, :5] == truth[:, None]).any(axis=1).mean() >= 0.96


def test_training_and_predicting_need_no_torch(shapes, other_shapes, tmp_path, backbone):
    open_runtime(backbone)  # compiled and cached
    code = (
        "import sys, wordsight; m = wordsight.train(sys.argv[1], sys.argv[3]); r = "
        "wordsight.load(sys.argv[3]).predict(sys.argv[2], output=sys.argv[4])\n"
        "print(len(r), [m for m in ('torch', 'timm', 'torchvision', 'sklearn', 'scipy') if "
        "m in sys.modules])"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(shapes),
        str(other_shapes),
        str(tmp_path / "m"),
        str(tmp_path / "r"),
    ]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        == "12 []"
    )
    with open(tmp_path / "r" / "predictions.csv", newline="", encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == 12


def test_openvino_is_imported_without_its_telemetry():
    code = (
        "import sys; from wordsight.backbones.openvino_engine import import_openvino\n"
        "import_openvino()\n"
        "print([m for m in sys.modules if 'telemetry' in m and 'stub' not in m and not "
        "m.startswith('openvino.tools')])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
