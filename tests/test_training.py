"""The recipes that train a network's own weights, one class against the rest, and promises: end
to end on drawn pictures.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import contents, killed_before, write_shapes
from wordsight import TrainingSettings
from wordsight.classification.model_folder import check_model_target
from wordsight.core.records import RECORD
from wordsight.errors import InvalidArgument
from wordsight.training.recipes import default_model_path
from wordsight.training.work_folder import check_work_folder, clear_work_folder, work_folder

torch = pytest.importorskip("torch")
SMALL = {"recipe": "finetune"}


# a mirrored picture would be of the other class
TUNING = TrainingSettings(epochs=3, lr=2e-4, batch_size=8, augment=False, image_size=64)


@pytest.fixture(scope="module")
def tilts(tmp_path_factory):
    """Noisy stripes that lean left or right: hard for a head alone, easy for a network that may
    change.
    """
    folder = tmp_path_factory.mktemp("tilts")
    y, x = np.mgrid[:80, :80]
    for k, kind in enumerate(("left", "right")):
        (folder / kind).mkdir()
        for i in range(20):
            rng = np.random.default_rng([k, i])
            angle = (1 if k else -1) * rng.uniform(0.15, 0.6)
            wave = np.sin(
                (x * np.sin(angle) + y * np.cos(angle)) * 2 * np.pi / rng.uniform(9, 14)
                + rng.uniform(0, 6)
            )
            pixels = (
                127 + 30 * wave[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(0, 70, (80, 80, 3))
            )
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                folder / kind / f"{i:03d}.png"
            )
    return folder


@pytest.fixture(scope="module")
def finetuned(tilts, tmp_path_factory):
    """A fine-tuned model and its folder."""
    path = tmp_path_factory.mktemp("finetuned") / "m"
    return wordsight.train(tilts, path, settings=replace(TUNING, checkpoints=True), **SMALL), path


def test_finetuning_lowers_the_loss_and_notes_how(finetuned):
    model, path = finetuned
    assert (
        model.record.recipe == "finetune"
        and model.record.validation_loss.after < model.record.validation_loss.before
    )
    rows = wordsight.load(path).history
    assert [(row["stage"], row["epoch"]) for row in rows] == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert set(rows[1]) == {
        "stage",
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "lr",
        "seconds",
    }
    best = min(rows[1:], key=lambda row: row["val_loss"])
    assert model.record.best_epoch == best["epoch"]
    for name in ("loss", "accuracy"):
        with Image.open(path / "plots" / f"{name}.png") as image:
            assert image.size[0] > 300
    assert model.backbone.fingerprint != wordsight.backbones.load_backbone().fingerprint


def test_finetuned_models_load_predict_and_show_where(finetuned, tilts, fresh_home):
    model, path = finetuned
    before = [p.to_dict() for p in model.predict(tilts, threshold=0)]
    loaded = wordsight.load(path)
    assert [p.to_dict() for p in loaded.predict(tilts, threshold=0)] == before
    assert all(p.map is not None for p in loaded.predict(tilts, threshold=0) if p.label)
    import timm

    network = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    assert network.num_classes == 2


def test_an_epochs_weights_are_kept_on_request(finetuned):
    from wordsight.training.checkpoints import SafeCheckpoints

    folder = finetuned[1].with_name("m-training")
    assert sorted(p.name for p in folder.glob("*.ckpt")) == [
        "epoch-001.ckpt",
        "epoch-002.ckpt",
        "epoch-003.ckpt",
    ]
    state = SafeCheckpoints().load_checkpoint(folder / "epoch-002.ckpt")["state_dict"]
    assert any(name.startswith("network.conv_stem") for name in state)


def test_frozen_statistics_stay_as_they_were(finetuned):
    before, after = wordsight.backbones.load_backbone().weights(), finetuned[0].backbone.weights()
    assert np.array_equal(before["bn1.running_mean"], after["bn1.running_mean"])
    assert not np.array_equal(before["bn1.weight"], after["bn1.weight"])


def test_finetuning_that_does_not_help_is_not_kept(shapes, tmp_path):
    model = wordsight.train(
        shapes,
        tmp_path / "m",
        settings=TrainingSettings(epochs=1, lr=0.5, batch_size=8, image_size=64),
        **SMALL,
    )
    assert (
        model.record.recipe == "probe"
        and model.record.validation_loss.after >= model.record.validation_loss.before
    )
    assert model.backbone.fingerprint == wordsight.backbones.load_backbone().fingerprint
    assert [row["epoch"] for row in model.history] == [0, 1]
    assert not (tmp_path / "m-training").exists()


def test_training_goes_on_in_stages_with_one_history(finetuned, tilts, tmp_path):
    first, path = finetuned
    model = wordsight.train(
        tilts,
        tmp_path / "m",
        settings=replace(TUNING, epochs=2, lr=1e-4, continue_from=path),
        **SMALL,
    )
    assert [(row["stage"], row["epoch"]) for row in model.history] == [
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 3),
        (2, 4),
        (2, 5),
    ]
    assert model.history[4]["val_loss"] == pytest.approx(
        first.record.validation_loss.after, rel=0.2
    )


def test_going_on_with_other_classes_is_refused(finetuned, tmp_path):
    data = write_shapes(tmp_path / "data", 4, kinds=("disc", "square"))
    (data / "square").rename(data / "box")
    with pytest.raises(
        InvalidArgument, match="go on from knows left, right; the pictures show box, disc"
    ):
        wordsight.train(
            data,
            tmp_path / "m",
            settings=TrainingSettings(continue_from=finetuned[1], image_size=64),
            **SMALL,
        )


def _command(shapes, model):
    options = ["--recipe", "scratch", "--image-size", "64", "--epochs", "4", "--batch-size", "8"]
    return [sys.executable, "-m", "wordsight", "train", str(shapes), "-o", str(model), *options]


def test_killed_training_goes_on_to_the_same_weights(shapes, tmp_path, cli_here):
    whole = cli_here(*_command(shapes, tmp_path / "whole")[3:])
    assert whole.returncode == 0 and "Going on" not in whole.stderr
    process = subprocess.Popen(
        _command(shapes, tmp_path / "cut"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    history = tmp_path / "cut-training" / "history.csv"
    until = time.monotonic() + 120
    while process.poll() is None and not (
        history.is_file() and history.read_text().count("\n") >= 4
    ):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = cli_here(*_command(shapes, tmp_path / "cut")[3:])
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    assert "Going on with the training that was cut off" in again.stderr
    assert not (tmp_path / "cut-training").exists()


def test_ctrl_c_says_that_it_goes_on_and_exits_with_130(shapes, tmp_path):
    process = subprocess.Popen(
        [*_command(shapes, tmp_path / "m"), "--patience", "500", "--epochs", "500"],
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not (tmp_path / "m-training" / "history.csv").is_file():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and "goes on from there" in messages
        and "Traceback" not in messages
    )


# no room for a checkpoint; room for those, and none for the model
@pytest.mark.parametrize("size", [pytest.param("300k", marks=pytest.mark.slow), "1900k"])
def test_a_full_disk_is_one_sentence(size, shapes, tmp_path, cli_here):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk],
        capture_output=True,
        check=False,
    ).returncode:
        pytest.skip("this account may not mount a small disk")
    try:
        done = cli_here(
            "train",
            shapes,
            "-o",
            disk / "m",
            "--recipe",
            "scratch",
            "--backbone",
            "cifar_cnn",
            "--epochs",
            1,
        )
        assert (
            done.returncode == 2
            and "No space left on device" in done.stderr
            and "Traceback" not in done.stderr
        )
        assert not (disk / "m").exists() and not list(disk.rglob("*.part"))
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("network", "parameters"), [("brick_cnn", 622_753), ("cifar_cnn", 122_570)]
)
def test_classic_networks_have_the_original_number_of_parameters(network, parameters):
    from wordsight.backbones.networks import small_networks as networks

    assert sum(p.numel() for p in getattr(networks, network)().parameters()) == parameters


@pytest.mark.parametrize(
    "network",
    ["brick_cnn", "cifar_cnn", "small_resnet", pytest.param("resnet18", marks=pytest.mark.slow)],
)
def test_networks_from_scratch_train_save_load_predict_and_show_where(
    network, shapes, other_shapes, tmp_path, fresh_home
):
    size = {"small_resnet": 64, "resnet18": 64}.get(network)
    settings = TrainingSettings(epochs=1, batch_size=8, image_size=size)
    model = wordsight.train(
        shapes, tmp_path / "m", recipe="scratch", backbone=network, settings=settings
    )
    assert model.backbone.architecture == network and model.record.recipe == "scratch"
    before = [p.to_dict() for p in model.predict(other_shapes, threshold=0)]
    shutil.rmtree(fresh_home / "cache")
    loaded = wordsight.load(tmp_path / "m")
    after = list(loaded.predict(other_shapes, threshold=0))
    assert [p.to_dict()["top_label"] for p in after] == [p["top_label"] for p in before]
    assert all(p.map is not None for p in after if p.label)


def test_small_resnet_learns_shapes_from_scratch(tmp_path):
    data, test = (
        write_shapes(tmp_path / "data", 40, seed=50),
        write_shapes(tmp_path / "test", 10, seed=700),
    )
    wordsight.train(
        data,
        tmp_path / "m",
        recipe="scratch",
        settings=TrainingSettings(epochs=8, batch_size=16, image_size=64),
    )
    result = wordsight.evaluate(test, tmp_path / "m", output=None)
    assert result.total_accuracy.value >= 0.9


def test_a_yes_or_no_brick_network_has_one_logit_and_two_probabilities(tmp_path):
    data = write_shapes(tmp_path / "data", 6)
    model = wordsight.train(
        data,
        tmp_path / "m",
        recipe="scratch",
        backbone="brick_cnn",
        positive="disc",
        settings=TrainingSettings(epochs=1),
    )
    assert model.class_names == ["disc", "not_disc"] and model.catch_all == 1
    # softmax beside zero is the sigmoid
    assert not model.head.weight[1].any() and model.head.bias[1] == 0
    assert {"auroc", "average_precision"} <= set(model.record.metrics)


def test_one_against_the_rest_takes_negatives_from_a_folder(shapes, other_shapes, tmp_path):
    only = tmp_path / "data"
    shutil.copytree(shapes / "disc", only / "disc")
    model = wordsight.train(
        only, tmp_path / "m", positive="disc", negatives=other_shapes / "square"
    )
    assert model.class_names == ["disc", "not_disc"] and model.record.images == {
        "disc": 12,
        "not_disc": 6,
    }
    assert model.record.metrics["auroc"] >= 0.9
    with pytest.raises(InvalidArgument, match="Give others with --negatives FOLDER"):
        wordsight.train(only, tmp_path / "m2", positive="disc")
    with pytest.raises(InvalidArgument, match="no class 'cube'"):
        wordsight.train(only, tmp_path / "m2", positive="cube")
    with pytest.raises(InvalidArgument, match="needs --positive"):
        wordsight.train(shapes, tmp_path / "m2", negatives=other_shapes)


def test_a_folder_named_not_something_catches_all(tmp_path):
    data = write_shapes(tmp_path / "data", 6)
    (data / "square").rename(data / "not_a_disc")
    assert wordsight.train(data, tmp_path / "m").catch_all == 1


def test_auto_without_a_gpu_or_a_budget_trains_the_head_and_says_so(shapes, tmp_path, cli_here):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    done = cli_here("train", shapes, "-o", tmp_path / "m", "--recipe", "auto")
    assert (
        done.returncode == 0
        and "Only the head is trained: fine-tuning needs a GPU, or a time such as --budget 10m."
        in done.stderr
    )


@pytest.mark.slow
def test_auto_with_a_budget_stops_in_time_and_shows_both(shapes, tmp_path, cli_here):
    done = cli_here(
        "train",
        shapes,
        "-o",
        tmp_path / "m",
        "--recipe",
        "auto",
        "--image-size",
        64,
        "--budget",
        "1s",
        "--epochs",
        500,
        "--patience",
        500,
    )
    assert done.returncode == 0, done.stderr
    assert "with the head alone" in done.stderr and "fine-tuned" in done.stderr
    with open(tmp_path / "m" / "history.csv", encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) < 50


def test_a_promise_is_chosen_stored_and_used(
    shapes_model, shapes, other_shapes, tmp_path, cli_here
):
    done = cli_here("train", shapes, "-o", tmp_path / "m", "--precision", 0.8)
    assert done.returncode == 0 and "At least 80% of labels from" in done.stdout
    record = json.loads((tmp_path / "m" / "wordsight.json").read_text())
    assert record["threshold"] == record["info"]["promise"]["threshold"]
    used = cli_here("predict", other_shapes, "-m", tmp_path / "m", "--no-pictures", "--json")
    assert json.loads(used.stdout)["threshold"] == record["threshold"]
    asked = cli_here(
        "predict", other_shapes, "-m", shapes_model, "--no-pictures", "--precision", 0.8, "--json"
    )
    assert json.loads(asked.stdout)["threshold"] == pytest.approx(record["threshold"])


def test_where_nothing_can_be_promised_nothing_is_labelled(
    shapes, other_shapes, tmp_path, cli_here
):
    done = cli_here("train", shapes, "-o", tmp_path / "m", "--precision", 0.99)
    assert (
        done.returncode == 1
        and "takes 299 accepted without an error" in done.stdout
        and "more labelled pictures" in done.stdout
    )
    used = cli_here("predict", other_shapes, "-m", tmp_path / "m", "--json", "--no-pictures")
    summary = json.loads(used.stdout)
    assert (
        used.returncode == 1
        and summary["threshold"] is None
        and sum(summary["accepted"].values()) == 0
        and "299" in summary["note"]
    )
    own = cli_here(
        "predict", other_shapes, "-m", tmp_path / "m", "--json", "--no-pictures", "-t", 0.5
    )
    assert own.returncode == 0 and sum(json.loads(own.stdout)["accepted"].values()) > 0
    both = cli_here("predict", other_shapes, "-m", tmp_path / "m", "-t", 0.5, "--precision", 0.9)
    assert both.returncode == 2 and "not both" in both.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"recipe": "magic"},
            "Unknown recipe 'magic'. Choose one of: probe, finetune, scratch, auto.",
        ),
        ({"settings": TrainingSettings(epochs=3)}, "a probe has none"),
        (
            {"recipe": "scratch", "backbone": "resnet5x"},
            "Unknown network 'resnet5x'. Close names: resnet5",
        ),
        ({"recipe": "finetune", "settings": TrainingSettings(lr=-1)}, "lr must lie between"),
        (
            {
                "recipe": "scratch",
                "backbone": "cifar_cnn",
                "settings": TrainingSettings(image_size=64),
            },
            "'cifar_cnn' takes 32 × 32 pixels only",
        ),
        ({"backbone": "cifar_cnn"}, "to be trained from scratch, with --recipe scratch"),
        ({"settings": TrainingSettings(image_size=100)}, "multiple of 32 from 32 to 1024, got 100"),
        ({"precision": 99}, "between 0.5 and 0.9999"),
        (
            {"recipe": "finetune", "settings": TrainingSettings(continue_from="nowhere")},
            "No such model: 'nowhere'",
        ),
    ],
)
def test_bad_settings_get_one_sentence(options, message, shapes, tmp_path):
    with pytest.raises((InvalidArgument, wordsight.errors.NotFound), match=re.escape(message)):
        wordsight.train(shapes, tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()


def test_a_bad_time_gets_one_sentence(shapes, cli_here, tmp_path):
    done = cli_here(
        "train", shapes, "-o", tmp_path / "m", "--recipe", "finetune", "--budget", "soon"
    )
    assert (
        done.returncode == 2
        and done.stderr
        == "Error: The time of --budget must be more than 0 and look like 90s, 5m or 2h, got "
        "'soon'.\n"
    )


def test_too_few_images_to_hold_some_out(tmp_path):
    data = write_shapes(tmp_path / "data", 3)
    with pytest.raises(InvalidArgument, match="Give at least 4 of each class"):
        wordsight.train(data, tmp_path / "m", recipe="scratch", settings=TrainingSettings(epochs=1))


def test_a_val_split_judges_and_a_test_split_is_never_seen(tmp_path):
    data = write_shapes(tmp_path / "data", 8)
    with open(data / "metadata.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file_name", "label", "split"))
        for kind in ("disc", "square"):
            for i in range(8):
                rows.writerow(
                    (
                        f"{kind}/{i:03d}.jpg",
                        kind,
                        ["train", "train", "train", "train", "val", "val", "test", "test"][i],
                    )
                )
    model = wordsight.train(
        data, tmp_path / "m", recipe="scratch", settings=TrainingSettings(epochs=1, image_size=64)
    )
    assert model.record.images == {"disc": 4, "square": 4} and model.record.kept_for_test == 4
    assert sorted(model.held_out.file_names) == [
        "disc/004.jpg",
        "disc/005.jpg",
        "square/004.jpg",
        "square/005.jpg",
    ]


def test_layers_are_listed_and_drawn(finetuned, tmp_path, monkeypatch):
    from wordsight.reports import figures as plots

    drawn = []
    original = plots.network
    monkeypatch.setattr(
        plots, "network", lambda title, boxes: drawn.extend(boxes) or original(title, boxes)
    )
    shutil.copytree(finetuned[1], tmp_path / "m")
    table = wordsight.training.draw_network(tmp_path / "m")
    assert "InvertedResidual" in table and "Total params: 3,373,570" in table
    assert (tmp_path / "m" / "plots" / "layers.txt").read_text() == table
    check_model_target(tmp_path / "m")
    # each layer stands in one box
    assert sum(parameters for _, _, parameters in drawn) == 3_373_570
    with Image.open(tmp_path / "m" / "plots" / "network.png") as image:
        assert min(image.size) > 300


@pytest.mark.slow
def test_two_processes_train_together(shapes, tmp_path):
    options = ["--recipe", "scratch", "--image-size", "64", "--epochs", "2", "--batch-size", "4"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "wordsight",
        "train",
        str(shapes),
        "-o",
        str(tmp_path / "m"),
        *options,
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Model:") == 1
    assert len(wordsight.load(tmp_path / "m").history) == 3


@pytest.mark.parametrize("recipe", ["finetune", "scratch"])
def test_a_folder_named_like_the_trainings_own_is_left_alone(recipe, shapes, tmp_path):
    photos = shutil.copytree(shapes, tmp_path / "m-training")
    (photos / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    settings = TrainingSettings(epochs=1, image_size=64)
    with pytest.raises(InvalidArgument, match=r"m-training' is where .*holds 'disc/000\.jpg'"):
        wordsight.train(shapes, tmp_path / "m", recipe=recipe, settings=settings)
    with pytest.raises(InvalidArgument, match="m-training' is where"):
        wordsight.train(photos, tmp_path / "m", recipe=recipe, settings=settings)
    assert contents(tmp_path) == before


def test_only_what_training_wrote_is_removed_from_its_folder(tmp_path):
    folder = tmp_path / "m-training"

    def write(*names):
        with work_folder(folder) as build:
            for name in names:
                build.place(name, name.encode())
                build.place(name, name.encode() * 2)

    write("last-01234567.ckpt", "history.csv")
    (folder / "mine.ckpt").write_bytes(b"mine")
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "notes.txt").write_bytes(b"mine")
    write("epoch-001.ckpt", "history.csv")  # goes on beside them
    clear_work_folder(folder, keep=True)
    assert {name for name in contents(folder) if name[0] != "."} == {
        *("epoch-001.ckpt", "history.csv", "mine.ckpt", "tensorboard/notes.txt")
    }
    clear_work_folder(folder, keep=False)
    assert contents(folder) == {"mine.ckpt": b"mine", "tensorboard/notes.txt": b"mine"}
    (folder / "mine.ckpt").unlink()
    shutil.rmtree(folder / "tensorboard")
    write("history.csv")
    (folder / "history.csv").write_bytes(b"changed")
    with pytest.raises(InvalidArgument, match=r"'history\.csv', which no training wrote or"):
        check_work_folder(folder)
    clear_work_folder(folder, keep=False)
    assert (folder / "history.csv").read_bytes() == b"changed"


def test_what_a_training_of_0_1_0_left_is_gone_on_with_and_removed(tmp_path):
    folder = tmp_path / "m-training"
    folder.mkdir()
    header = json.dumps({"__metadata__": {"checkpoint": "{}"}}, separators=(",", ":")).encode()
    checkpoint = len(header).to_bytes(8, "little") + header
    for name in ("last-01234567.ckpt", ".best-01234567.ckpt.part", "epoch-001.ckpt"):
        (folder / name).write_bytes(checkpoint)
    (folder / "history.csv").write_text("stage,epoch,loss\n1,0,0.5\n")
    (folder / "best-01234567.ckpt").write_bytes(b"somebody's own")
    with pytest.raises(InvalidArgument, match=r"'best-01234567\.ckpt'"):
        check_work_folder(folder)
    (folder / "best-01234567.ckpt").unlink()
    with work_folder(folder) as build:
        build.place("history.csv", b"new")
    clear_work_folder(folder, keep=False)
    assert not folder.exists()


@pytest.mark.parametrize("keep", [True, False])
def test_clearing_up_after_training_may_be_cut_off_anywhere(keep, tmp_path):
    number, killed = 0, True
    while killed:
        folder = tmp_path / str(number)
        with work_folder(folder) as build:
            for name in ("last-01234567.ckpt", "epoch-001.ckpt", "history.csv"):
                build.place(name, b"1")
        (folder / "mine").write_bytes(b"mine")
        killed = killed_before(number, lambda at=folder: clear_work_folder(at, keep))
        if (folder / RECORD).exists():  # else it is only the other file's folder
            check_work_folder(folder)
        clear_work_folder(folder, keep)
        left = {"mine", "epoch-001.ckpt", "history.csv"} if keep else {"mine"}
        assert {name for name in contents(folder) if name[0] != "."} == left
        number += 1
    assert number > 5


@pytest.mark.parametrize(
    ("class_names", "name"),
    [
        (["hat", "Dress"], r"dress-hat"),
        (["kangaroo", "not_kangaroo"], r"kangaroo"),
        (["not_cat", "cow"], r"cow-not_cat"),
        (["a-b"], r"a-b-[0-9a-f]{8}"),  # 'a' and 'b' have that name
        (["t/shirt", "hat"], r"hat-t_shirt-[0-9a-f]{8}"),
        (["cat", "words"], r"cat-words-[0-9a-f]{8}"),  # what words alone give for 'cat'
        (["con"], r"con-[0-9a-f]{8}"),
        (["d", "b", "a", "c", "e"], r"a-b-c-2-more-[0-9a-f]{8}"),
        (["x" * 41], r"x{40}-[0-9a-f]{8}"),
    ],
)
def test_a_models_folder_has_a_name_that_people_can_type(fresh_home, class_names, name):
    path = default_model_path(class_names)
    assert re.fullmatch(name, path.name) and path == default_model_path(reversed(class_names))


def test_a_name_that_a_person_gave_to_another_model_is_not_taken(fresh_home, shapes, shapes_model):
    named = fresh_home / "models" / "cat-dog"
    shutil.copytree(shapes_model, named)  # discs and squares
    before = contents(named)
    assert re.fullmatch(r"cat-dog-[0-9a-f]{8}", default_model_path(["dog", "cat"]).name)
    assert default_model_path(["dog", "cat"], "-words").name == "cat-dog-words"
    own = wordsight.train(shapes).record.path
    assert own.name == "disc-square" == default_model_path(["square", "disc"]).name
    (fresh_home / "pictures" / "page" / "disc-square").mkdir(parents=True)
    assert re.fullmatch(r"disc-square-[0-9a-f]{8}", default_model_path(["disc", "square"]).name)
    assert contents(named) == before
