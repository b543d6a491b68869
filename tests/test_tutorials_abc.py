"""The first three tutorials: their scripts do what their pages say, and their pages show what
their scripts hold.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import learn_boxes_from_fewer_views, play_script

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
NAMES = ("brick", "boxes", "cifar")
WALL = (330, 190, 540, 400)  # where brick.py pastes it


def play(name: str, output: Path, *options: object) -> str:
    """Run a tutorial's script; return what it printed."""
    return play_script(TUTORIALS / f"{name}.py", "-o", output, *options)


def held_to(name: str, said: str) -> None:
    """Assert that every line of output on a page is one that its script says, figures aside."""
    page = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    blocks = [
        block
        for block in re.findall(r"^```text\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
        if not block.startswith("python ")
    ]
    shown, real = (
        {re.sub(r"\d[\d.,]*", "#", line).strip() for line in lines}
        for lines in ("".join(blocks).splitlines(), said.splitlines())
    )
    assert len(blocks) >= 3 or name == "cifar"
    assert shown <= real, shown - real


def figures(pattern: str, text: str) -> list[float]:
    """Return the numbers that a pattern's one group finds."""
    return [
        float(found.replace(",", "")) for found in re.findall(pattern, text, flags=re.MULTILINE)
    ]


@pytest.mark.slow  # a whole tutorial
def test_brick_is_found_where_it_was_pasted(tmp_path):
    pytest.importorskip("skimage")
    said = play("brick", tmp_path)
    held_to("brick", said)
    losses = figures(r"^epoch \d+: loss ([\d.]+)", said)
    assert len(losses) == 8 and losses[-1] < losses[0] / 1.5
    (scratch,), (probe,) = (
        figures(rf"^{name}: ([\d.]+)% of 40 right", said) for name in ("scratch", "probe")
    )
    assert scratch >= 75 and probe >= 95
    assert "scratch: 459 windows, a crop and a pass each" in said
    assert (
        "probe: 459 windows, one pass a level" in said
        and "probe, pyramid: 1,888 windows, one pass a level" in said
    )
    overlaps = figures(r"the wall have an IoU of ([\d.]+)", said)
    assert len(overlaps) == 3 and min(overlaps) > 0.5
    for name in ("scratch", "probe", "probe-pyramid"):
        (row,) = [
            json.loads(line)
            for line in (tmp_path / "results" / name / "detections.jsonl").read_text().splitlines()
        ]
        assert row["detections"]
        for one in row["detections"]:
            x, y = ((one["xyxy"][side] + one["xyxy"][side + 2]) / 2 for side in (0, 1))
            assert one["label"] == "brick" and one["probability"] >= 0.9
            assert WALL[0] < x < WALL[2] and WALL[1] - 20 < y < WALL[3], (name, one)
    assert (tmp_path / "brick-search.jpg").is_file() and (
        tmp_path / "models" / "scratch" / "plots" / "loss.png"
    ).is_file()


@pytest.mark.slow  # a whole tutorial
def test_boxes_learned_from_a_table_are_better_than_boxes_that_look_at_nothing(
    tmp_path, monkeypatch
):
    pytest.importorskip("skimage")
    learn_boxes_from_fewer_views(monkeypatch)
    said = play("boxes", tmp_path)
    held_to("boxes", said)
    assert (
        "loss of a box: {'giou': 1.0, 'edges': 2.0, 'inside': 0.5, 'edges_of_cells': 1.0}" in said
    )
    epochs = figures(r"^epoch +\d+: .* held-out pictures ([\d.]+)$", said)
    assert epochs[-1] > max(0.6, epochs[0] + 0.1)
    (head,), (heat,), (median,) = (
        figures(rf"^{kind}: mean IoU ([\d.]+)", said)
        for kind in ("box head", "heat map", "median box")
    )
    assert head > 0.65 and head > heat > median
    (right,) = figures(r"^classes: (\d+) of 24 unseen pictures right", said)
    assert right >= 22
    plots = {path.name for path in (tmp_path / "models" / "boxes" / "plots").iterdir()}
    assert {"boxes.png", "boxes_batch.png", "mean_iou.png"} <= plots and (
        tmp_path / "boxes-truth.jpg"
    ).is_file()
    assert (tmp_path / "results" / "report" / "report.html").is_file()


@pytest.mark.slow  # trains two networks
def test_the_cifar_network_is_the_tutorials_and_others_beat_it(tmp_path):
    pytest.importorskip("skimage")
    said = play("cifar", tmp_path)
    held_to("cifar", said)
    assert figures(r"^Total params: ([\d,]+)", said) == [122_570]
    assert len(figures(r"^  epoch \d+: loss ([\d.]+)", said)) == 4 + 5
    (classic,), (resnet,), (probe,) = (
        figures(rf"^{name}: ([\d.]+)% of 300 right", said)
        for name in ("cifar_cnn", "small_resnet", "probe")
    )
    # 10 % would be chance
    assert classic > 45 and resnet > 80 and probe > 80 and max(resnet, probe) > classic
    assert {"network.png", "loss.png", "accuracy.png"} <= {
        path.name for path in (tmp_path / "models" / "cifar_cnn" / "plots").iterdir()
    }
    assert (tmp_path / "cifar-pictures.png").is_file()


def test_an_output_folder_with_files_of_others_is_left_alone(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.txt").write_text("mine")
    command = [sys.executable, str(TUTORIALS / "brick.py"), "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "holds files of yours" in done.stderr
    assert (tmp_path / "models" / "mine.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "pattern", "least"),
    [("brick", r"^probe: ([\d.]+)%", 80), ("boxes", r"^box head: mean IoU ([\d.]+)", 0.75)],
)
def test_the_full_form_works_on_real_images(name, pattern, least, data, tmp_path):
    (found,) = figures(pattern, play(name, tmp_path, "--data", data))
    assert found >= least


@pytest.mark.parametrize("name", NAMES)
def test_pages_show_parts_that_scripts_have_and_images_that_are_there(name):
    page = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    shown = re.findall(r"^<!-- code: docs/tutorials/(\w+\.py) (\w+) -->$", page, re.MULTILINE)
    assert len(shown) >= 3
    for script, part in shown:
        text = (TUTORIALS / script).read_text(encoding="utf-8")
        assert text.count(f"# region {part}\n") == 1, (script, part)
        assert text.count(f"# endregion {part}\n") == 1, (script, part)
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert images
    for image in images:
        assert (TUTORIALS / image).stat().st_size < 200_000, image
