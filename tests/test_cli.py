"""The command line as others use it: options, exit codes, one sentence for what is wrong, no
connection.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wordsight
from conftest import contents, pillow_reads, write_shapes

SEEING = ["detect", "recognize", "find", "video", "extract", "prelabel", "export", "app"]
COMMANDS = [
    "run",
    "gather",
    "clean",
    "split",
    "train",
    "predict",
    "evaluate",
    *SEEING,
    "words",
    "models",
    "doctor",
    "cache",
    "demo",
]


def refused(process, *parts):
    """Assert exit code 2 with one sentence and no traceback on stderr, and nothing on stdout."""
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("Error: ")]
    assert all(part in line for part in parts), line
    assert not process.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli_here, command):
    process = cli_here(command, "--help")
    assert (
        process.returncode == 0 and f"wordsight {command}" in process.stdout
    ) or "Usage" in process.stdout
    assert "Examples:" in process.stdout


def test_predict_prints_one_json_object(cli, shapes_model, other_shapes, tmp_path):
    process = cli("predict", other_shapes, "-m", shapes_model, "-t", "0.5", "-o", "r", "--json")
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    assert report["total"] == 12 and report["classes"] == ["disc", "square"]
    assert sum(report["accepted"].values()) + report["rejected"] == 12
    assert (tmp_path / "r" / "predictions.jsonl").is_file()
    assert report["files"] == ["report.html", "predictions.csv", "predictions.jsonl"]
    assert report["model"] == str(shapes_model) and report["seconds"] > 0
    page = (Path(__file__).parents[1] / "docs/how-to/hand-over.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in page for key in report)


def test_predict_ends_with_a_table(cli_here, shapes_model, other_shapes):
    process = cli_here("predict", other_shapes, "-m", shapes_model, "-t", "0.5")
    for part in (
        "disc",
        "square",
        "rejected",
        "unreadable",
        "results/report.html",
        "predictions.csv",
    ):
        assert part in process.stdout


def test_train_then_run_finds_the_model_in_any_order(cli_here, shapes, other_shapes, fresh_home):
    assert cli_here("train", shapes, "-o", "models/shapes").returncode == 0
    process = cli_here("run", "-c", "square,disc", "-p", other_shapes)
    assert process.returncode == 0 and "model made before" in process.stderr
    assert "disc" in json.loads(cli_here("models", "--json").stdout)["models"][0]["classes"]


def test_run_learns_from_labelled_data(cli_here, shapes, other_shapes, fresh_home):
    process = cli_here(
        "run",
        "--classes",
        "disc,square",
        "--prediction_path",
        other_shapes,
        "--data",
        shapes,
        "--json",
    )
    assert process.returncode == 0 and "your 24 labelled pictures" in process.stderr
    assert json.loads(process.stdout)["total"] == 12
    one = cli_here("run", "-c", "disc", "-p", other_shapes, "--data", shapes, "--json")
    assert json.loads(one.stdout)["classes"] == ["disc", "not_disc"]


def test_run_learns_from_several_labelled_folders(cli_here, shapes, other_shapes, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(shapes / "disc", first / "disc")
    shutil.copytree(shapes / "square", second / "square")
    places = ("--data", first, "--data", second)
    process = cli_here("run", "-c", "disc,square", "-p", other_shapes, *places, "--json")
    assert process.returncode == 0
    assert f"your 24 labelled pictures in '{first}', '{second}'" in process.stderr
    assert json.loads(process.stdout)["classes"] == ["disc", "square"]


def test_unreadable_images_give_exit_code_1(cli_here, shapes_model, other_shapes, tmp_path):
    photos = shutil.copytree(other_shapes, tmp_path / "p")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    process = cli_here("predict", photos, "-m", shapes_model)
    assert process.returncode == 1 and "Unreadable: broken.jpg" in process.stderr


def test_wrong_requests_are_refused_in_one_sentence(
    cli_here, shapes, shapes_model, other_shapes, tmp_path, fresh_home
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "cat").mkdir(parents=True)
    shutil.copyfile(shapes / "disc" / "000.jpg", tmp_path / "one" / "cat" / "a.jpg")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "wordsight.json").write_text("{}")
    (tmp_path / "file").write_text("x")
    refused(cli_here("run", "-c", "cat,dog", "-p", "missing"), "missing")
    refused(cli_here("run", "-c", "cat,dog", "-p", "empty"), "No pictures in 'empty'")
    refused(cli_here("run", "-c", "cat,dog", "-p", "broken"), "None of the 1 pictures can be read")
    refused(
        cli_here("predict", "broken", "-m", shapes_model),
        "None of the 1 pictures can be read",
        "a.jpg",
    )
    refused(cli_here("run", "-c", "cat,Cat", "-p", other_shapes), "'Cat' is given twice")
    refused(cli_here("run", "-c", "cat,,dog", "-p", other_shapes), "cat,,dog")
    refused(
        cli_here("run", "-c", "cat,zebraa", "-p", other_shapes), "zebraa", "Did you mean", "zebra"
    )
    refused(
        cli_here("run", "-c", "mouse,dog", "-p", other_shapes), "several meanings", "mouse#device"
    )
    refused(cli_here("run", "-c", "dog,poodle", "-p", other_shapes), "overlap")
    refused(
        cli_here("run", "-c", "cat,dog", "-p", other_shapes, "-t", "40"),
        "between 0 and 1",
        "got 40",
        "write 0.4",
    )
    refused(cli_here("run", "-c", "cat,dog", "-p", other_shapes, "-t", "x"), "threshold")
    refused(
        cli_here("run", "-c", "cat,dog", "-p", other_shapes, "-m", shapes_model),
        "knows disc, square, not cat, dog",
    )
    refused(
        cli_here("run", "-c", "cat,dog", "-p", other_shapes, "--data", shapes),
        "no class 'cat'",
        "disc, square",
    )
    refused(
        cli_here("run", "-c", "cat,dog", "-p", other_shapes, "--engine", "tpu"),
        "Unknown engine 'tpu'",
        "openvino",
    )
    refused(cli_here("run", "-p", other_shapes), "classes")
    refused(cli_here("train", "one"), "at least 2 classes", "only 'cat'")
    refused(cli_here("train", shapes, "--recipe", "magic"), "Unknown recipe 'magic'", "probe")
    refused(cli_here("train", shapes, "-o", "file"), "'file' is a file")
    refused(
        cli_here("predict", other_shapes, "-m", "half"), "config.json, model.safetensors is missing"
    )
    refused(cli_here("predict", other_shapes, "-m", shapes_model, "-o", "file"), "'file' is a file")
    refused(
        cli_here("evaluate", shapes, "-m", shapes_model, "-o", shapes / "report"),
        "can't lie inside",
    )
    assert "doesn't know 'brick'" in cli_here("words", "brick").stderr


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"
)
def test_a_full_disk_is_one_sentence_and_keeps_the_earlier_results(
    cli_here, shapes_model, tmp_path
):
    photos = write_shapes(tmp_path / "photos", 40)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("this machine allows no mount")
    try:
        assert (
            cli_here(
                "predict",
                photos / "disc" / "000.jpg",
                "-m",
                shapes_model,
                "-t",
                "0",
                "-o",
                disk / "r",
            ).returncode
            == 0
        )
        before = (disk / "r" / "predictions.jsonl").read_text()
        refused(
            cli_here("predict", photos, "-m", shapes_model, "-t", "0", "-o", disk / "r"),
            "Can't write to",
            "No space left",
        )
        assert (disk / "r" / "predictions.jsonl").read_text() == before
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_interrupt_exits_130_and_the_same_command_goes_on(shapes_model, tmp_path, cli_here):
    photos = write_shapes(tmp_path / "photos", 60)
    command = [
        sys.executable,
        "-m",
        "wordsight",
        "predict",
        str(photos),
        "-m",
        str(shapes_model),
        "-o",
        str(tmp_path / "r"),
        "--json",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + 60
    while (
        not list((tmp_path / "r").glob(".wordsight-*/heatmaps/*/*/*.jpg"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Interrupted" in errors and "Traceback" not in errors
    assert not (tmp_path / "r" / "predictions.jsonl").exists()
    again = cli_here(*command[3:])
    assert again.returncode == 0 and json.loads(again.stdout)["total"] == 120


def test_words_lists_what_the_backbone_knows(cli_here):
    process = cli_here("words", "cat")
    assert process.returncode == 0 and "n02123045  tabby" in process.stdout
    report = json.loads(cli_here("words", "crane", "--json").stdout)
    assert len(report["senses"]) >= 2 and "crane#" in report["message"]


def test_cache_is_cleared_by_one_command(cli_here, shapes, fresh_home):
    cli_here("train", shapes, "-o", "m")
    assert "24 embeddings" in cli_here("cache").stdout
    assert "Cleared 24" in cli_here("cache", "--clear").stdout
    assert "0 embeddings" in cli_here("cache").stdout


def test_doctor_says_what_is_installed_how_fast_it_is_and_what_is_kept(
    cli_here, shapes, fresh_home
):
    cli_here("train", shapes, "-o", "m")
    report = json.loads(cli_here("doctor", "--json").stdout)
    assert report["engine"] in ("openvino", "torch") and report["timm"]
    assert float(report["speed"].split(" pictures/s")[0]) > 0
    assert report["extras"]["train"] == "installed" and "dev" not in report["extras"]
    assert (
        report["cache"]["embeddings"].startswith("24 ")
        and "tf_efficientnet_lite0" in report["cache"]["backbones"]
    )
    table = cli_here("doctor").stdout
    assert str(fresh_home) in table and "pictures/s" in table


def test_doctor_names_what_is_broken_and_how_to_mend_it(cli, tmp_path):
    shim = tmp_path / "shim" / "torchvision"
    shim.mkdir(parents=True)
    (shim / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    path = os.pathsep.join(filter(None, [str(shim.parent), os.environ.get("PYTHONPATH")]))
    process = cli("doctor", env={"PYTHONPATH": path, "WORDSIGHT_HOME": str(tmp_path / "home")})
    assert process.returncode == 1 and "Traceback" not in process.stderr
    assert (
        "torchvision::nms does not exist" in process.stdout
        and "pip install --force-reinstall torch torchvision" in process.stdout
    )
    assert "not measured: see problems" in process.stdout


def test_doctor_still_tells_the_rest_where_the_cache_can_not_be_written(cli_here, tmp_path):
    (tmp_path / "home").write_text("a file")
    process = cli_here("doctor", "--json", env={"WORDSIGHT_HOME": str(tmp_path / "home")})
    report = json.loads(process.stdout)
    assert (
        process.returncode == 1
        and "Can't write to" in report["problems"][0]
        and report["timm"]
        and report["speed"].startswith("not measured")
    )


GUARD = """
import os, socket
def refuse(*arguments, **options):
    with open(os.environ["WORDSIGHT_TEST_CONNECTIONS"], "a") as log:
        log.write(repr(arguments) + "\\n")
    raise OSError("no connection is allowed here")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
"""


@pytest.fixture(scope="module")
def first_use(tmp_path_factory):
    """The demo, where nothing is prepared and no connection allowed: finished process, folder."""
    tmp_path = tmp_path_factory.mktemp("first")
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    log = tmp_path / "connections"
    env = {
        "PYTHONPATH": str(guard),
        "WORDSIGHT_TEST_CONNECTIONS": str(log),
        "WORDSIGHT_HOME": str(tmp_path / "home"),
        "CI": "",
        "WORDSIGHT_OFFLINE": "",
    }
    probe = subprocess.run(
        [sys.executable, "-c", "import socket; socket.create_connection(('localhost', 9))"],
        env={**os.environ, **env},
        capture_output=True,
    )
    assert probe.returncode and log.is_file()  # the guard itself works
    log.unlink()
    process = subprocess.run(
        [sys.executable, "-m", "wordsight", "demo", "-o", "d"],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert not log.exists(), log.read_text()
    return process, tmp_path


def test_demo_runs_with_sockets_blocked(first_use):
    process, tmp_path = first_use
    assert process.returncode == 0, process.stderr
    rows = [
        json.loads(line)
        for line in (tmp_path / "d" / "results" / "predictions.jsonl").read_text().splitlines()
    ]
    labels = {row["file_name"]: row["label"] for row in rows}
    assert (
        labels["chelsea.png"] == "cat"
        and labels["coffee.png"] == "coffee"
        and labels["camera.png"] == "tripod"
    )
    assert labels["brick.png"] is None and labels["astronaut.png"] is None
    assert (tmp_path / "d" / "overview.png").stat().st_size > 50_000


def test_odd_files_pass_through_in_one_run(cli_here, data, shapes_model, tmp_path):
    code = (
        "import re, sys; sys.argv = ['wordsight', *sys.argv[1:]]\nfrom "
        "wordsight.cli.main import app\nfrom wordsight.cli.console import _run\ncode = "
        "_run(app)\n"
        # getrusage would count the process that started this one
        "status = open('/proc/self/status').read()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024, code)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "predict",
        str(data / "odd_files"),
        "-m",
        str(shapes_model),
        "-o",
        str(tmp_path / "r"),
        "--json",
    ]
    process = subprocess.run(
        command, capture_output=True, text=True, env=os.environ, timeout=120, check=True
    )
    report, figures = process.stdout.strip().splitlines()
    peak_mib, code = map(int, figures.split())
    assert code == 1 and peak_mib < 2048
    report = json.loads(report)
    readable = sum(map(pillow_reads, (data / "odd_files").iterdir()))
    assert (
        # and a TGA of which nearly all is there, where Pillow wants the last line, too
        report["total"] - len(report["unreadable"]) == readable + 1 > 150
        and report["total"] + len(report["skipped"]) == 256
    )
    assert all(item["error"] for item in report["unreadable"])


def test_readme_first_screen_shows_both_commands():
    head = (Path(__file__).resolve().parents[1] / "README.md").read_text().splitlines()[:30]
    assert any("make demo" in line for line in head) and any("make test" in line for line in head)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("wordsight pre", {"predict", "prelabel"}),
        ("wordsight train data --rec", {"--recipe"}),
        ("wordsight train data --recipe ", {"probe", "finetune", "scratch", "auto"}),
        ("wordsight train data --backbone small", {"small_resnet"}),
        (
            "wordsight prelabel results --format ",
            {"coco", "yolo", "voc", "label-studio", "csv", "hf"}
            | {"megadetector", "timelapse", "camtrap-dp"},
        ),
        ("wordsight export m --format o", {"onnx", "openvino"}),
        ("wordsight gather cat --source o", {"openverse"}),
        ("wordsight predict p --engine ", {"auto", "openvino", "torch"}),
    ],
)
def test_the_shell_completes_commands_options_and_choices(words, offered, monkeypatch, capsys):
    from wordsight.cli.main import app

    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    monkeypatch.setenv("_WORDSIGHT_COMPLETE", "complete_bash")
    monkeypatch.setattr(sys, "argv", ["wordsight"])
    with pytest.raises(SystemExit):
        app(prog_name="wordsight")
    assert set(capsys.readouterr().out.split()) == offered


def test_what_is_offered_is_what_help_names():
    from typer.main import get_command

    from wordsight.cli.main import app

    looked_at = 0
    for command in get_command(app).commands.values():
        for parameter in command.params:
            complete = getattr(parameter, "_custom_shell_complete", None)
            if complete is not None and parameter.name != "backbone":
                offered = {item.value for item in complete(None, parameter, "")}
                assert offered and all(
                    re.search(rf"\b{re.escape(choice)}(?!\w)", parameter.help) for choice in offered
                ), (parameter.help, offered)
                looked_at += 1
    assert looked_at > 15


ENDING = ["engine", "dtype", "ray", "offline", "as_json", "help"]


def test_options_that_commands_share_stand_in_one_order():
    from typer.main import get_command

    from wordsight.cli.main import app

    for name, command in get_command(app).commands.items():
        own = [
            p.name
            for p in command.get_params(command.make_context(name, [], resilient_parsing=True))
        ]
        shared = [p for p in own if p in ENDING]
        assert shared == sorted(shared, key=ENDING.index) and own[-1] == "help", (name, own)
        arguments = [p.param_type_name == "argument" for p in command.params]
        assert arguments == sorted(arguments, reverse=True), name


def test_every_command_stands_in_one_group_of_the_help(cli_here):
    from typer.main import get_command

    from wordsight.cli.main import app
    from wordsight.cli.verbs import GROUPS, MEANT

    listed = [name for verbs, _ in GROUPS.values() for name in verbs]
    commands = get_command(app).commands
    assert sorted(listed) == sorted(commands)
    assert {*MEANT.values()} <= {*commands} and not {*MEANT} & {*commands}
    told = cli_here("--help").stdout
    for title, (verbs, example) in GROUPS.items():
        assert f"{title}:" in told and example in told
        assert all(f"  {name} " in told and text in told for name, text in verbs.items())
    assert "..." not in told.replace("COMMAND [ARGS]...", "")


def test_photos_without_a_verb_are_run(cli_here, shapes, other_shapes, fresh_home, tmp_path):
    cli_here("train", shapes)
    for place, told in enumerate(
        [
            [other_shapes, "-c", "disc,square"],
            ["-c", "disc,square", other_shapes],
            [str(other_shapes / "*" / "*.jpg"), "-c", "disc,square"],
            ["run", "-c", "disc,square", "-p", other_shapes],
        ]
    ):
        done = cli_here(*told, "-o", tmp_path / f"r{place}", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["total"] == 12
    refused(cli_here("-c", "disc,square"), "No photos were named", "-p photos/")
    refused(cli_here("nowhere/", "-c", "disc"), "No such file or folder: 'nowhere/'")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["review"], "Did you mean wordsight app?"),
        (["Classify"], "Did you mean wordsight run?"),
        (["pedict"], "Did you mean wordsight predict?"),
        (["predict", "p", "--thresold", "1"], "Did you mean --threshold or"),
        (["frobnicate"], "No such command: 'frobnicate'. See"),
    ],
)
def test_what_is_nearly_right_names_what_is_meant(cli_here, given, meant):
    refused(cli_here(*given), meant, "--help'.")


def test_with_json_an_error_is_an_object_too(cli_here, shapes):
    process = cli_here("predict", shapes, "-m", "nowhere", "--json")
    assert process.returncode == 2 and "Error: No such model" in process.stderr
    assert json.loads(process.stdout)["error"].startswith("No such model: 'nowhere'")


def test_a_listed_model_is_named_by_its_name_or_its_beginning(
    cli_here, shapes, other_shapes, fresh_home, tmp_path
):
    cli_here("train", shapes)
    model = fresh_home / "models" / "disc-square"
    for name in ("disc-square", "disc"):
        done = cli_here("predict", other_shapes, "-m", name, "-o", tmp_path / "r", "--no-pictures")
        assert done.returncode == 0 and f"The model is '{model}'" in done.stderr
    shutil.copytree(model, model.with_name("disc-other"))
    told = ("Several models' names begin with 'disc': disc-other, disc-square.",)
    refused(cli_here("predict", other_shapes, "-m", "disc"), *told)
    refused(cli_here("predict", other_shapes, "-m", "dis"), "No such model: 'dis'. List")
    shutil.copytree(model, digested := model.with_name("disc-b031a5e0"))
    done = cli_here("predict", other_shapes, "-m", "disc", "-o", tmp_path / "r", "--no-pictures")
    assert done.returncode == 0 and f"The model is '{digested}'" in done.stderr
    listed = cli_here("models").stdout
    assert re.search(r"^disc-square +disc, square +labelled pictures", listed, re.MULTILINE)
    assert str(model) not in listed


def test_what_an_earlier_run_wrote_does_not_go_without_a_word(
    cli_here, shapes_model, other_shapes, tmp_path
):
    command = ["predict", other_shapes, "-m", shapes_model, "-o", tmp_path / "r"]
    assert "Removed from" not in cli_here(*command).stderr
    assert "Removed from" not in cli_here(*command).stderr
    said = cli_here(*command, "--no-pictures").stderr
    assert re.search(r"Removed from '.*r': \d+ files of an earlier run", said)


def test_pictures_without_class_folders_are_counted(cli_here, shapes):
    refused(cli_here("train", shapes / "disc"), "12 pictures lie in", "wordsight teach -c WORD")


def test_bare_command_prints_help_on_its_own_lines(cli):
    process = cli()
    assert (
        process.returncode == 2
        and "Label photos:" in (process.stderr + process.stdout).splitlines()
    )


@pytest.mark.parametrize("path", ["~nosuchuser/x", "x" * 300])
def test_impossible_paths_are_refused_in_one_sentence(cli_here, shapes_model, other_shapes, path):
    refused(cli_here("predict", path, "-m", shapes_model), "can't be a path here")
    refused(
        cli_here("predict", other_shapes, "-m", shapes_model, "-o", path), "can't be a path here"
    )


def test_a_damaged_record_among_the_models_spoils_nothing(cli_here, fresh_home):
    folder = fresh_home / "models" / "x"
    folder.mkdir(parents=True)
    (folder / "wordsight.json").write_text('{"format": 1, "class_names": ["a"], "info": null}')
    process = cli_here("models", "--json")
    assert process.returncode == 0 and json.loads(process.stdout)["models"] == []


def test_a_closed_standard_error_changes_nothing(shapes_model, other_shapes, tmp_path):
    command = (
        f"{sys.executable} -m wordsight predict {other_shapes} -m {shapes_model} -o "
        f"{tmp_path / 'r'} --json 2>&-"
    )
    process = subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.returncode == 0 and json.loads(process.stdout)["total"] == 12


@pytest.mark.parametrize("name", ["photos/coffee.png", "overview.png"])
def test_the_demo_never_overwrites_a_file(name, tmp_path):
    from wordsight.cli.demo import demo

    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(wordsight.errors.InvalidArgument, match=f"{name}' was not written by"):
        demo(tmp_path)
    assert contents(tmp_path) == {name: b"mine"}


def test_the_demo_replaces_its_own_files_only(tmp_path, monkeypatch):
    from wordsight.cli import demo

    monkeypatch.setattr(demo, "run", lambda *_, **__: None)
    monkeypatch.setattr(demo, "draw_overview", lambda *_: b"drawn")
    for source in demo._sources()[:3]:  # as 0.1.0 had copied them
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / "photos")
    for _ in range(2):
        demo.demo(tmp_path)
    assert (tmp_path / "overview.png").read_bytes() == b"drawn"
    (tmp_path / "overview.png").write_bytes(b"cropped")
    with pytest.raises(wordsight.errors.InvalidArgument, match="was changed since"):
        demo.demo(tmp_path)
    assert (tmp_path / "overview.png").read_bytes() == b"cropped"
