"""Models that other tools run: the same answers in every format, the programs of
docs/export.md, int8, and what is refused.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import contents, killed_before, small_model, write_shapes
from wordsight.backbones.embedder import Embedder, input_pixels, open_photo
from wordsight.backbones.openvino_engine import import_openvino
from wordsight.core.records import RECORD
from wordsight.errors import InvalidArgument, WordsightError
from wordsight.exports import model as exporting
from wordsight.exports.formats import EXPORT_FORMATS, open_exported
from wordsight.exports.openvino_network import _Network
from wordsight.exports.quantization import Trial, compare, trial_images
from wordsight.heatmaps.one_pass import class_heatmap

DOCS = Path(__file__).parents[1] / "docs" / "export.md"
PROGRAMS = dict(
    zip(
        ("onnx", "openvino", "torch.export", "objects"),
        re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL),
        strict=True,
    )
)
FORBID = "import sys\nsys.modules['wordsight'] = None  # the program must do without\n"


def photos():
    """Real photos of several shapes: a wide one, a square one, a tall one."""
    data = pytest.importorskip("skimage.data")
    arrays = [
        data.chelsea(),
        data.coffee(),
        np.stack([data.brick()] * 3, axis=2),
        data.astronaut()[:, 100:300],
        data.rocket(),
    ]
    return [np.ascontiguousarray(array) for array in arrays]


def own_answers(model, image):
    """What wordsight itself says of a picture, by the name of the output."""
    encoding = Embedder(replace(model.backbone, engine="openvino")).encode(
        open_photo(image), feature_map=True
    )
    probabilities = (model.words or model.head).probabilities(encoding.embedding[None])[0]
    answers = {"probabilities": probabilities}
    if encoding.feature_map is not None:
        answers["heatmap"] = np.stack(
            [class_heatmap(encoding.feature_map, row) for row in model.head.weight]
        )
    if model.neighbourhood is not None or model.words is not None:
        answers["stranger"] = model.is_stranger(encoding.embedding[None])[0] & (
            probabilities.argmax() != model.catch_all
        )
    if model.box_head is not None:
        answers["box"] = model.box_head.box(encoding.feature_map)
    return answers


# Tracing the default network takes torch half a minute: in the fast run, a small one with the
# same outputs stands for it below, and a page of the documentation exports this one as ONNX.
@pytest.mark.parametrize(
    "format",
    [
        "openvino",
        pytest.param("onnx", marks=pytest.mark.slow),
        pytest.param("torch.export", marks=pytest.mark.slow),
    ],
)
def test_every_format_says_the_same_and_runs_without_wordsight(
    format, shapes_model, tmp_path, cli_here
):
    done = cli_here(
        "export",
        shapes_model,
        "--format",
        format,
        "-o",
        f"pets{EXPORT_FORMATS[format]}",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (
        report["outputs"] == ["probabilities", "heatmap", "stranger"]
        and report["largest_difference"] < 1e-3
        and report["price"] is None
    )
    assert [path.name for path in tmp_path.iterdir() if path.name[0] == "."] == [RECORD]

    model = wordsight.load(shapes_model, dtype="f32")
    run = open_exported(tmp_path / report["path"], format)
    for image in photos():
        pixels = input_pixels(open_photo(image), model.backbone.preprocessing)
        said = dict(zip(report["outputs"], run(pixels[None]), strict=True))
        for name, own in own_answers(model, image).items():
            assert (
                said[name].shape == (1, *own.shape)
                and np.abs(said[name][0].astype(float) - own).max() < 1e-3
            ), name
        twice = run(np.stack([pixels, pixels[::-1]]))
        assert len(twice[0]) == 2 and np.abs(twice[0][0] - said["probabilities"][0]).max() < 1e-5

    run_program(format, tmp_path, model)


def run_program(format, folder, model):
    """Run the documentation's program on pets.* in a folder, without wordsight, on a photo that
    EXIF turns, and compare.
    """
    Image.fromarray(photos()[3]).rotate(-90, expand=True).save(
        folder / "photo.jpg", exif=turned(8), quality=95
    )
    program = PROGRAMS[format]
    assert len([line for line in program.splitlines() if line]) <= 20
    done = subprocess.run(
        [sys.executable, "-c", FORBID + program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in done.stdout.splitlines()
    }
    embedding = model.embedder.encode(open_photo(folder / "photo.jpg")).embedding
    expected = dict(
        zip(model.class_names, model.decide_all(embedding[None], 0.0).probabilities[0], strict=True)
    )
    assert list(printed) == model.class_names and all(
        abs(printed[name] - expected[name]) < 1e-3 for name in printed
    )


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_metadata_says_what_is_needed(tmp_path):
    import openvino

    done = wordsight.export(small_model("small_resnet"), "openvino", output=tmp_path / "a.xml")
    model = openvino.Core().read_model(done.path)
    about = {
        key: json.loads(model.get_rt_info(["wordsight", key]).value)
        for key in ("class_names", "threshold", "preprocessing", "wordsight_version")
    }
    assert (
        about["class_names"] == ["a", "b", "ç"]
        and about["threshold"] == 0.99
        and about["wordsight_version"] == wordsight.__version__
    )
    assert about["preprocessing"] == {
        "image_size": [128, 128],
        "fit": "area",
        "multiple_of": 32,
        "interpolation": "bilinear",
    }
    assert [port.get_any_name() for port in (*model.inputs, *model.outputs)] == [
        "pixels",
        "probabilities",
        "heatmap",
    ]
    # again
    assert (
        wordsight.export(small_model("small_resnet"), "openvino", output=tmp_path / "a.xml").path
        == done.path
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "a.bin", "a.xml"]


@pytest.mark.parametrize("format", ["openvino", pytest.param("onnx", marks=pytest.mark.slow)])
def test_int8_is_calibrated_and_compared(format, shapes_model, tmp_path, cli_here):
    write_shapes(tmp_path / "data", 24, seed=300)
    done = cli_here(
        "export",
        shapes_model,
        "--format",
        format,
        "-o",
        f"small{EXPORT_FORMATS[format]}",
        "--dtype",
        "int8",
        "--data",
        "data",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    report, answer = json.loads(done.stdout), json.loads(done.stdout)["price"]
    assert (
        answer["pictures"] == 16
        and 0 <= answer["same_answer"] <= 1
        and 0 <= answer["mean_difference"] < 0.1
        and answer["speed"] > 0
    )
    assert answer["accuracy_f32"] == 1 and answer["accuracy_int8"] >= 0.9
    assert report["size_bytes"] < 0.6 * (shapes_model / "model.safetensors").stat().st_size


def with_strangers(model):
    """Give a model a sense of what is foreign: to it, two of the photos are."""
    from wordsight.heads.novelty import fit_neighbourhood

    embedder, rng = Embedder(model.backbone), np.random.default_rng(0)
    known = np.stack([embedder.encode(open_photo(image)).embedding for image in photos()[:3]])
    known = known + rng.standard_normal((20, *known.shape)).astype(np.float32) / 100
    model.neighbourhood = fit_neighbourhood(known.reshape(60, -1), np.arange(60) % 3)
    return model


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("brick_cnn", "onnx"),
        ("cifar_cnn", "openvino"),
        pytest.param("small_resnet", "onnx", marks=pytest.mark.slow),
        pytest.param("small_resnet", "torch.export", marks=pytest.mark.slow),
    ],
)
def test_networks_of_our_own_are_exported_with_heat_maps_where_they_have_any(
    name, format, tmp_path
):
    whole = name == "small_resnet"
    model = small_model(name, boxes=whole)
    if whole and format == "onnx":
        with_strangers(model)
    done = wordsight.export(model, format, output=tmp_path / f"pets{EXPORT_FORMATS[format]}")
    every = ("probabilities", "heatmap", "stranger", "box")
    left_out = () if model.neighbourhood else ("stranger",)
    assert done.outputs == (
        tuple(name for name in every if name not in left_out) if whole else every[:1]
    )
    assert model.backbone.pooled == (name == "small_resnet")
    run = open_exported(done.path, format)
    for image in photos():
        said = run(input_pixels(open_photo(image), model.backbone.preprocessing)[None])
        own = own_answers(model, image)
        for output, answer in zip(said, [own[name] for name in done.outputs], strict=True):
            assert np.abs(output[0].astype(float) - answer).max() < 1e-3
    run_program(format, tmp_path, model)


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("catch_all", [None, 1])
def test_strangers_are_the_same_for_torch_and_openvino(words, catch_all):
    """The whole sense of strangers, on embeddings that lie on both sides of every limit."""
    import torch

    from wordsight.exports.network import ExportedNetwork
    from wordsight.heads.novelty import fit_neighbourhood
    from wordsight.heads.zero_shot import fit_words

    model = small_model("small_resnet")
    rng, width = np.random.default_rng(0), model.backbone.num_features
    known = np.abs(rng.standard_normal((60, width))).astype(np.float32)
    concepts = (rng.standard_normal((40, width)).astype(np.float32) / 4, np.zeros(40, np.float32))
    model.neighbourhood = fit_neighbourhood(known, np.arange(60) % 2, concept_head=concepts)
    looked = np.concatenate(
        [
            known + size * rng.standard_normal(known.shape).astype(np.float32)
            for size in (0, 0.1, 0.3)
        ]
    )
    groups = (tuple(range(10)), tuple(range(10, 20))) if words == 2 else (tuple(range(20)),)
    learned = rng.standard_normal((words, width)).astype(np.float32)
    taught = replace(
        fit_words(looked, *concepts, groups)[0],
        learned_weight=learned,
        trust=np.linspace(0.4, 0.7, words, dtype=np.float32),
    )
    shifted = (
        replace(taught, learned_bias=np.full(words, shift, np.float32))
        for shift in np.linspace(60, -60, 241)
    )
    model.words = next(head for head in shifted if head.is_stranger(looked).mean() > 0.3)
    model.catch_all = catch_all
    network = ExportedNetwork(model)
    probabilities = model.words.probabilities(looked)
    expected = model.is_stranger(looked) & (probabilities.argmax(axis=1) != catch_all)
    said = network._stranger(torch.from_numpy(looked), torch.from_numpy(probabilities)).numpy()
    assert (said == expected).all() and expected.mean() < 0.95
    assert expected.mean() > 0.05 or catch_all is not None  # to which nothing is strange
    theirs = network.words(torch.from_numpy(looked)).numpy()
    np.testing.assert_allclose(theirs, probabilities, rtol=0, atol=1e-4)
    ov = import_openvino()
    from openvino import opset13

    given = opset13.parameter(ov.PartialShape([-1, looked.shape[1]]), np.float32)
    answers = _Network(given).answers(model)
    compiled = ov.Core().compile_model(
        ov.Model([answers["stranger"], answers["probabilities"]], [given]),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32"},
    )
    assert (compiled(looked)[0] == expected).all()
    np.testing.assert_allclose(compiled(looked)[1], probabilities, rtol=0, atol=1e-4)


@pytest.mark.parametrize("output", ["probabilities", "heatmap", "box"])
def test_an_export_that_says_something_else_is_not_kept(output, tmp_path, monkeypatch):
    right = _Network.answers

    def wrong(self, model, *features):
        answers = right(self, model, *features)
        half = self._op.multiply(answers[output], np.float32(0.5))
        return {**answers, output: half}

    monkeypatch.setattr(_Network, "answers", wrong)
    with pytest.raises(WordsightError, match=f"{output} differs from wordsight's by .*not kept"):
        wordsight.export(
            small_model("small_resnet", boxes=True), "openvino", output=tmp_path / "a.xml"
        )
    assert not list(tmp_path.iterdir())


def test_images_to_try_are_the_labelled_ones_of_its_classes(shapes_model, tmp_path):
    model = wordsight.load(shapes_model)
    write_shapes(tmp_path / "three", 20)
    (tmp_path / "three" / "disc").rename(tmp_path / "three" / "Disc")
    shutil.copytree(tmp_path / "three" / "square", tmp_path / "three" / "unknown")
    (tmp_path / "three" / "square" / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    trial = trial_images(model, tmp_path / "three", calibrate=True)
    assert (
        len(trial.pixels) + len(trial.calibration) == 40
        and set(trial.labels) == {0, 1}
        and not trial.held_out
    )
    assert [name for name, _ in trial.unreadable] == ["square/broken.jpg"]
    # photos without labels
    trial = trial_images(model, tmp_path / "three" / "unknown", calibrate=False)
    assert trial.labels is None and len(trial.pixels) == 20
    rows = [
        f"{path.relative_to(tmp_path)},{path.parent.name},{'test' if number % 2 else 'train'}"
        for number, path in enumerate(sorted(tmp_path.rglob("0*.jpg")))
    ]
    (tmp_path / "marked.csv").write_text("\n".join(["file_name,label,split", *rows]))
    trial = trial_images(model, tmp_path / "marked.csv", calibrate=True)
    assert trial.held_out and len(trial.pixels) == len(trial.calibration) == 20
    (tmp_path / "all.csv").write_text(
        "\n".join(["file_name,label,split", *(row.replace(",train", ",test") for row in rows)])
    )
    with pytest.raises(InvalidArgument, match=r"not marked test, at least 15; .* has 0"):
        trial_images(model, tmp_path / "all.csv", calibrate=True)
    (tmp_path / "foreign.csv").write_text(
        "\n".join(["file_name,label", *(f"{row.split(',')[0]},car" for row in rows)])
    )
    with pytest.raises(InvalidArgument, match="knows no class of"):
        trial_images(model, tmp_path / "foreign.csv", calibrate=True)
    (tmp_path / "three" / "annotations.json").write_text('{"images": ')
    with pytest.raises(InvalidArgument, match="is no JSON"):
        trial_images(model, tmp_path / "three", calibrate=True)


def test_a_model_that_may_label_nothing_is_compared_as_silent():
    def sure(pixels):
        return [np.array([[1.0, 0.0]])]

    def other(pixels):
        return [np.array([[0.0, 1.0]])]

    trial = Trial([np.zeros((8, 8, 3), np.uint8)] * 4, None, [])
    assert compare(sure, other, ("probabilities",), float("inf"), trial).same_answer == 1
    assert compare(sure, other, ("probabilities",), 0.9, trial).same_answer == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--format", "tflite"),
            "Unknown format 'tflite'. Choose one of: onnx, openvino, torch.export.",
        ),
        (("--dtype", "fp16"), "Choose one of: f32, int8"),
        (("--dtype", "int8"), "int8 needs pictures to be calibrated on"),
        (("--dtype", "int8", "--data", "few"), "at least 30 pictures"),
        (("--dtype", "int8", "--data", "nowhere"), "nowhere"),
        (
            ("--format", "torch.export", "--dtype", "int8", "--data", "few"),
            "int8 is made for onnx and openvino only",
        ),
        (("-o", "a.xml"), "A model as onnx is a .onnx file, got 'a.xml'"),
        (("-o", "mine.onnx"), "was not exported by wordsight"),
        (("-o", "link.onnx"), "'link.onnx' is there already"),
        (
            ("--format", "openvino", "-o", "mine.xml"),
            "'mine.bin' is there already and was not exported by wordsight",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(
    options, sentence, shapes_model, tmp_path, cli_here
):
    (tmp_path / "link.onnx").symlink_to(tmp_path / "nowhere-at-all")
    for name in ("mine.bin", "mine.onnx"):
        (tmp_path / name).write_bytes(b"mine")
    write_shapes(tmp_path / "few", 4)
    done = cli_here("export", shapes_model, *options)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "few",
        "link.onnx",
        "mine.bin",
        "mine.onnx",
    ]
    assert (tmp_path / "mine.bin").read_bytes() == (tmp_path / "mine.onnx").read_bytes() == b"mine"


def test_missing_packages_are_named(shapes_model, tmp_path, cli_here, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "onnxscript" else find(name, *rest),
    )
    done = cli_here("export", shapes_model)
    assert (
        done.returncode == 2 and "needs onnxscript: pip install 'wordsight[export]'" in done.stderr
    )


def test_a_model_that_is_moved_is_exported_under_its_new_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_model("cifar_cnn").save(tmp_path / "models" / "first")
    shutil.move(tmp_path / "models" / "first", tmp_path / "models" / "renamed")
    assert wordsight.export("models/renamed", "openvino").path == Path("renamed.xml")
    with pytest.raises(InvalidArgument, match=r"\.xml file"):
        wordsight.export("models/renamed", "openvino", output="renamed.bin")


@pytest.mark.parametrize("format", ["openvino", "torch.export"])
def test_a_full_disk_is_one_sentence(format, shapes_model, tmp_path, cli_here):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("this account may not mount a small disk")
    try:
        done = cli_here(
            "export", shapes_model, "--format", format, "-o", disk / f"m{EXPORT_FORMATS[format]}"
        )
        assert (
            done.returncode == 2
            and "No space left on device" in done.stderr
            and "Traceback" not in done.stderr
        )
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_network_that_cannot_be_converted_is_one_sentence(tmp_path, monkeypatch):
    def refuse(model, path):
        raise RuntimeError("no such\noperator")

    monkeypatch.setitem(exporting.WRITERS, "onnx", refuse)
    with pytest.raises(
        WordsightError,
        match=r"The network 'cifar_cnn' can't be written as onnx: no such operator\.",
    ):
        wordsight.export(small_model("cifar_cnn"), "onnx", output=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def place(folder, *files):
    """Put files that were exported as m.xml or m.onnx in place, as an export does at its end."""
    target = folder / f"m{files[-1]}"
    with exporting._folder(target).build() as build:
        for suffix in files:
            (build.path / f"f32{suffix}").write_bytes(b"new")
        exporting._put_in_place(build, build.path / f"f32{files[-1]}", target)


def test_an_export_that_somebody_changed_is_theirs(tmp_path):
    model = small_model("cifar_cnn")
    place(tmp_path, ".onnx")
    assert exporting._target(model, "onnx", "f32", tmp_path / "m.onnx") == tmp_path / "m.onnx"
    for data in (b"changed", b'"wordsight_version": "0.2.0"'):
        (tmp_path / "m.onnx").write_bytes(data)
        with pytest.raises(InvalidArgument, match="was not exported by wordsight, or was changed"):
            exporting._target(model, "onnx", "f32", tmp_path / "m.onnx")
    (tmp_path / "old.xml").write_bytes(b'<wordsight_version value="&quot;0.1.0&quot;" />')
    (tmp_path / "old.bin").write_bytes(b"weights")
    exporting._target(model, "openvino", "f32", tmp_path / "old.xml")  # 0.1.0 kept no record


def test_putting_an_export_in_place_may_be_cut_off_anywhere(tmp_path):
    model = small_model("cifar_cnn")
    number, killed = 0, True
    while killed:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "mine.bin").write_bytes(b"mine")
        killed = killed_before(number, lambda at=folder: place(at, ".bin", ".xml"))
        if (folder / "m.xml").exists():
            assert (folder / "m.bin").read_bytes() == b"new"
        exporting._target(model, "openvino", "f32", folder / "m.xml")
        place(folder, ".bin", ".xml")
        assert set(contents(folder)) == {"mine.bin", "m.bin", "m.xml", RECORD}
        number += 1
    assert number > 8
