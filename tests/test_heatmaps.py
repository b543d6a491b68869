from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import draw_shape
from wordsight import HeatmapSettings
from wordsight.heatmaps.gradients import open_gradcam
from wordsight.metrics.boxes import iou


@pytest.fixture
def disc(tmp_path):
    """A disc on noise: path and xyxy box."""
    image, box = draw_shape("disc", 901)
    image.save(tmp_path / "disc.png")
    return tmp_path / "disc.png", box


def test_a_heatmap_has_the_size_of_the_image_and_covers_the_object(shapes_model, disc):
    path, box = disc
    found = wordsight.load(shapes_model).heatmap(path, "disc")
    assert (
        found.class_name == "disc"
        and found.values.shape == (240, 320) == found.size
        and found.threshold == 0.2
    )
    assert (
        found.values.min() >= 0
        and found.values.max() <= 1
        and np.asarray(found).shape == (240, 320)
    )
    assert (
        found.overlay().size == (320, 240)
        and found.mask().dtype == bool
        and found.mask().shape == (240, 320)
    )
    assert found.mask(0.6).sum() < found.mask(0.1).sum()
    assert iou(np.array(found.boxes()[0]), np.array(box))[0, 0] > 0.35
    inside = found.values[box[1] : box[3], box[0] : box[2]].mean()
    assert (
        inside
        > 3
        * np.delete(
            found.values.ravel(),
            np.ravel_multi_index(
                np.mgrid[box[1] : box[3], box[0] : box[2]].reshape(2, -1), (240, 320)
            ),
        ).mean()
    )


def test_any_class_may_be_asked_for_and_the_likeliest_is_the_default(shapes_model, disc):
    model = wordsight.load(shapes_model)
    path, _ = disc
    assert model.heatmap(path).class_name == "disc"
    other = model.heatmap(path, "square")
    assert other.class_name == "square" and not np.allclose(other.grid, model.heatmap(path).grid)
    with pytest.raises(
        wordsight.errors.InvalidArgument, match="no class 'cat'; it knows: disc, square"
    ):
        model.heatmap(path, "cat")
    with pytest.raises(wordsight.errors.InvalidArgument, match="above 0 and at most at 1"):
        other.mask(0)


def test_a_image_may_be_a_path_an_image_or_an_array(shapes_model, disc):
    model = wordsight.load(shapes_model)
    image = Image.open(disc[0]).convert("RGB")
    maps = [model.heatmap(given).grid for given in (disc[0], image, np.asarray(image))]
    assert np.array_equal(maps[0], maps[1]) and np.array_equal(maps[0], maps[2])
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # says: turn by 90 degrees clockwise
    assert model.heatmap(turned).size == (240, 320)
    for bad in (np.zeros((4, 4)), np.zeros((4, 4, 3))):
        with pytest.raises(wordsight.errors.InvalidArgument, match="uint8"):
            model.heatmap(bad)
    with pytest.raises(wordsight.errors.NotFound):
        model.heatmap(disc[0].with_name("none.png"))


def test_words_of_the_backbone_have_heatmaps_without_a_model(disc):
    found = wordsight.heatmap(disc[0], "vehicle")
    assert found.class_name == "vehicle" and found.values.shape == (240, 320)
    assert wordsight.heatmap(disc[0]).class_name
    with pytest.raises(wordsight.errors.UnknownWord):
        wordsight.heatmap(disc[0], "flibbertigibbet-xyz")


def test_methods_by_gradients_agree_with_one_pass_where_theory_says_so(shapes_model, disc):
    model = wordsight.load(shapes_model, dtype="f32")
    one_pass = model.heatmap(disc[0]).grid
    for method in ("gradcam", "gradcam++", "layercam"):
        grid = model.heatmap(disc[0], heatmap_settings=HeatmapSettings(method)).grid
        assert grid.shape == one_pass.shape and grid.max() == 1
        assert np.corrcoef(grid.ravel(), one_pass.ravel())[0, 1] > 0.6, method
    assert np.allclose(
        model.heatmap(disc[0], heatmap_settings=HeatmapSettings("gradcam")).grid,
        one_pass,
        atol=1e-4,
    )
    early = model.heatmap(disc[0], heatmap_settings=HeatmapSettings("layercam", "blocks.3")).grid
    assert early.shape[0] > one_pass.shape[0]  # a finer layer


def test_scales_and_mirror_average(shapes_model, disc):
    model = wordsight.load(shapes_model)
    path, box = disc
    plain, averaged = (
        model.heatmap(path),
        model.heatmap(path, heatmap_settings=HeatmapSettings(scales=(1.0, 1.5), mirror=True)),
    )
    assert (
        averaged.grid.shape[0] > plain.grid.shape[0]
        and averaged.grid.min() >= 0
        and averaged.grid.max() == 1
    )
    overlap = iou(np.array(averaged.boxes()[0]), np.array(box))[0, 0]
    assert overlap > 0.35 and averaged.grid.shape[1] > plain.grid.shape[1]


@pytest.mark.parametrize(
    ("heatmap_settings", "message"),
    [
        (
            HeatmapSettings("cubism"),
            "Unknown heat map method 'cubism'. Choose one of: auto, gradcam",
        ),
        (
            HeatmapSettings(layer="blocks.33"),
            "has no layer 'blocks.33'. Some that it has: blocks.3",
        ),
        (HeatmapSettings("gradcam", "global_pool.flatten"), "does not tell places apart"),
        (HeatmapSettings("gradcam", "global_pool.pool"), "does not tell places apart"),
        (HeatmapSettings(scales=()), "Scales must lie between"),
        (HeatmapSettings(scales=(9.0,)), "Scales must lie between"),
    ],
)
def test_wrong_settings_are_one_sentence(heatmap_settings, message, shapes_model, disc):
    with pytest.raises(wordsight.errors.InvalidArgument, match=message.replace("(", r"\(")):
        wordsight.load(shapes_model).heatmap(disc[0], heatmap_settings=heatmap_settings)


def test_a_method_of_ones_own(shapes_model, disc):
    from wordsight.heatmaps import gradients

    @wordsight.heatmaps.register_heatmap_method("norm")
    def norm(activations, gradients):
        """Where anything happens at all."""
        return np.linalg.norm(activations, axis=0)

    try:
        assert wordsight.heatmaps.list_heatmap_methods()["norm"] == "Where anything happens at all."
        assert (
            wordsight.load(shapes_model)
            .heatmap(disc[0], heatmap_settings=HeatmapSettings("norm"))
            .grid.max()
            == 1
        )
    finally:
        del gradients._methods["norm"]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto"])
def test_layers_are_found_in_other_families(name, tmp_path, disc):
    """Random weights: where the network looks means nothing, that it tells places apart does."""
    import torch

    from wordsight.backbones.networks.timm_models import untrained_module
    from wordsight.backbones.registry import keep_module

    torch.manual_seed(0)
    module, preprocessing = untrained_module(name, 5)
    backbone = keep_module(module.eval().requires_grad_(False), name, preprocessing)
    cam = open_gradcam(backbone)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*preprocessing.image_size, 3), dtype=np.uint8)
    weight = rng.standard_normal(backbone.num_features).astype(np.float32)
    # at random, all places may speak against
    grid = max((cam.heatmap(pixels, sign * weight) for sign in (1, -1)), key=np.max)
    assert grid.ndim == 2 and min(grid.shape) >= 7 and grid.max() == 1 and len(np.unique(grid)) > 10
    assert cam.layer in dict(module.named_modules())


def test_parts_of_a_feature_map_are_means_over_quarters(shapes_model, disc):
    from wordsight.backbones.embedder import Embedder, open_photo
    from wordsight.heatmaps.grid import Grid, part_embeddings

    model = wordsight.load(shapes_model)
    embedder, photo = Embedder(model.backbone), open_photo(disc[0])
    whole = embedder.encode(photo, feature_map=True)
    parts = part_embeddings(photo, embedder, Grid((2, 3)), whole.feature_map)
    assert [box for box, _ in parts][:3] == [
        (0, 0, 106.7, 120),
        (106.7, 0, 213.3, 120),
        (213.3, 0, 320, 120),
    ]
    assert np.allclose(
        np.mean([embedding for _, embedding in parts], axis=0), whole.embedding, atol=1e-4
    )
    height = whole.feature_map.shape[1] // 2
    half = part_embeddings(photo, embedder, Grid((2, 1)), whole.feature_map)[0][1]
    assert whole.feature_map.shape[1] % 2 or np.allclose(
        half, whole.feature_map[:, :height].mean(axis=(1, 2)), atol=1e-4
    )


def test_no_base_height_makes_a_panorama_too_large():
    from wordsight.heatmaps.grid import MOST_PIXELS, _input

    for size in ((128, 1280), (1280, 128), (1, 5000), (960, 1280)):
        height, width = _input(1280, size)
        assert height * width <= 1.3 * MOST_PIXELS and height >= 32 and width >= 32


def small_in_a_corner(kind: str) -> tuple[Image.Image, tuple[int, int]]:
    """A shape in the top left quarter of a large grey picture, so small that the whole picture
    shows little of it.
    """
    shape, _ = draw_shape(kind, 77)
    canvas = Image.fromarray(
        np.random.default_rng(0).integers(90, 150, (960, 1280, 3), dtype=np.uint8)
    )
    canvas.paste(shape, (60, 60))
    return canvas, (60, 60)


@pytest.mark.parametrize("exact", [False, True])
def test_quadrants_see_what_the_whole_is_unsure_of(exact, shapes_model, tmp_path, cli_here):
    photos = tmp_path / "photos"
    photos.mkdir()
    small_in_a_corner("disc")[0].save(photos / "small.png")
    options = ["--quadrants", "--base-height", 960, "-t", 0.7, *(["--exact"] if exact else [])]
    model = wordsight.load(shapes_model)
    # drawn shapes on noise: whether they are familiar is not the question here
    model.neighbourhood = None
    model.save(tmp_path / "model")
    done = cli_here(
        "predict", photos, "-m", tmp_path / "model", "-o", tmp_path / "results", *options
    )
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "results" / "parts.csv").read_text("utf-8-sig").splitlines()
    assert (
        rows[0] == "file_name,part,x_min,y_min,x_max,y_max,label,top_label,probability,answers"
        and len(rows) == 5
    )
    row = json.loads((tmp_path / "results" / "predictions.jsonl").read_text())
    best = max(
        (float(line.split(",")[8]), line.split(",")) for line in rows[1:] if line.split(",")[6]
    )
    whole = model.predict(photos, threshold=0.7).predictions[0]
    if best[0] > (whole.probability if whole.label else 0):
        assert (
            row["label"] == best[1][6]
            and row["probability"] == pytest.approx(best[0])
            and best[1][9] == "true"
        )
        assert row["box_xyxy"] == [float(side) for side in best[1][2:6]]
    else:
        assert row["label"] == whole.label
    # the quarter that holds it
    assert float(rows[1].split(",")[8]) > 0.7 and rows[1].split(",")[7] == "disc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quadrants", "--grid", "1x1"], "more than one part"),
        (["--quadrants", "--grid", "two"], "such as 3x2"),
        (["--quadrants", "--base-height", "9"], "between 32 and 1280"),
        (["--exact"], "Add --quadrants"),
        (["--heatmap", "cubism"], "Choose one of: auto"),
        (["--scales", "1,big"], "numbers with commas"),
        (["--layer", "nowhere"], "has no layer 'nowhere'"),
    ],
)
def test_wrong_options_are_one_sentence(options, message, shapes_model, other_shapes, cli_here):
    done = cli_here("predict", other_shapes, "-m", shapes_model, "-t", 0, *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("value", "colour"), [(0.0, (48, 18, 59)), (0.5, (164, 252, 60)), (1.0, (122, 4, 3))]
)
def test_heat_is_turbo_from_blue_to_red_at_four_tenths(value, colour):
    """Colours of A. Mikhailov's table, red first."""
    from wordsight.heatmaps.drawing import superimpose

    drawn = superimpose(Image.new("RGB", (64, 48)), np.full((6, 8), value, dtype=np.float32))
    assert (
        drawn.shape == (48, 64, 3) and np.abs(drawn.astype(int) - 0.4 * np.array(colour)).max() <= 1
    )
