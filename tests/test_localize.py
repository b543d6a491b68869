from __future__ import annotations

import numpy as np
import pytest

from wordsight.heatmaps.one_pass import class_heatmap, heatmap_box, upsample
from wordsight.heatmaps.regions import mask_to_boxes, scale_box


def test_mask_to_boxes_puts_the_heaviest_region_first():
    mask = np.zeros((6, 8), bool)
    mask[0, 0] = mask[2:5, 3:6] = True
    weights = np.ones((6, 8))
    assert mask_to_boxes(mask, weights) == [(3, 2, 6, 5), (0, 0, 1, 1)]
    weights[0, 0] = 100
    assert mask_to_boxes(mask, weights)[0] == (0, 0, 1, 1)
    assert mask_to_boxes(np.zeros((2, 2), bool), np.ones((2, 2))) == []


def test_scale_box_keeps_axes_apart():
    assert scale_box((1, 2, 3, 4), (4, 6), (400, 1200)) == [200.0, 200.0, 600.0, 400.0]


def test_class_heatmap_is_zero_to_one_and_empty_without_evidence():
    features = np.random.default_rng(0).random((8, 5, 6)).astype(np.float32)
    heatmap = class_heatmap(features, np.ones(8, np.float32))
    assert heatmap.shape == (5, 6) and heatmap.max() == 1.0 and heatmap.min() >= 0
    empty = class_heatmap(features, -np.ones(8, np.float32))
    assert empty.max() == 0 and heatmap_box(empty, (50, 60)) is None


def test_heatmap_box_surrounds_the_peak():
    heatmap = np.zeros((10, 10), np.float32)
    heatmap[3:5, 6:8] = 1
    x_min, y_min, x_max, y_max = heatmap_box(heatmap, (1000, 2000))
    assert 1000 < x_min < 1250 and 1550 < x_max < 1800 and 200 < y_min < 330 and 480 < y_max < 600
    assert upsample(heatmap, (33, 44)).shape == (33, 44)


def test_one_pass_heatmap_equals_autograd_gradcam(shapes_model, other_shapes):
    torch = pytest.importorskip("torch")
    import timm

    from wordsight.backbones.embedder import Embedder
    from wordsight.classification.classifier import load
    from wordsight.datasets.files import find_images
    from wordsight.images.decoding import decode, resize

    model = load(shapes_model, dtype="f32")
    network = timm.create_model(f"local-dir:{shapes_model}", pretrained=True).eval()
    embedder = Embedder(model.backbone)
    preprocessing = model.backbone.preprocessing
    for image in find_images([other_shapes]).images[::4]:
        photo = decode(image.path.read_bytes())
        pixels = resize(
            photo.image, preprocessing.input_size(photo.size), preprocessing.interpolation
        )
        x = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
        features = network.forward_features(x).detach().requires_grad_()
        for label in range(2):
            (gradient,) = torch.autograd.grad(network.forward_head(features)[0, label], features)
            cam = (
                torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1))[0]
                .detach()
                .numpy()
            )
            ours = class_heatmap(
                embedder.encode(photo, feature_map=True).feature_map, model.head.weight[label]
            )
            assert np.abs(ours - cam / max(cam.max(), 1e-12)).max() < 1e-4
