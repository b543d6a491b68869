"""Files of strangers, mutated: a few hundred each time, a hundred thousand by `make fuzz`; and
what was found that way.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

import fuzzing
import wordsight
from wordsight.errors import InvalidArgument, InvalidModel

FEW = {"images": 300, "annotations": 300, "models": 40, "clips": 40, "sidecars": 200}


@pytest.mark.parametrize("target", FEW)
def test_mutated_files_are_read_or_refused(target):
    found = fuzzing.fuzz(target, list(range(1_000_000, 1_000_000 + FEW[target])))
    assert not found.faults, found.faults
    assert (
        found.cases == FEW[target]
        and min(found.came["read"], found.came["refused"]) > 0.1 * FEW[target]
    )


def test_the_search_notices_every_kind_of_fault(monkeypatch):
    monkeypatch.setattr(fuzzing, "SECONDS", 2.0)
    found = fuzzing.fuzz("faulty", list(range(7)))
    said = [fault for _, fault in sorted(found.faults)]
    for number, part in enumerate(
        [
            "ZeroDivisionError",
            "ends the process (-11)",
            "hangs",
            "reached outside: ['open /etc/passwd'",
            "MemoryError",
            "reached outside",
        ]
    ):
        assert part in said[number], said
    assert len(said) == 6
    (Path(os.environ["WORDSIGHT_HOME"]).parent / "wordsight-fuzz-outside").unlink()


def test_json_nested_too_deeply_is_a_damaged_model(shapes_model, tmp_path):
    shutil.copytree(shapes_model, tmp_path / "m")
    (tmp_path / "m" / "wordsight.json").write_text("[" * 100_000)
    with pytest.raises(InvalidModel, match=r"wordsight.json is damaged \(RecursionError\)"):
        wordsight.load(tmp_path / "m")
    record = json.loads((shapes_model / "wordsight.json").read_text())
    del record["backbone"]["preprocessing"]
    (tmp_path / "m" / "wordsight.json").write_text(json.dumps(record))
    with pytest.raises(InvalidModel, match="it lacks 'preprocessing'"):
        wordsight.load(tmp_path / "m")


def test_names_no_file_can_have_are_rows_that_are_not_there(shapes, tmp_path):
    shutil.copytree(shapes, tmp_path / "d")
    rows = [f"{kind}/{number:03d}.jpg,{kind}" for kind in ("disc", "square") for number in range(4)]
    (tmp_path / "d" / "metadata.csv").write_text(
        "\n".join(["file_name,label", *rows, f"disc/{'x' * 400}.jpg,disc"])
    )
    found = wordsight.datasets.read_labels(tmp_path / "d")
    assert len(found.images) == 24 and found.skipped == [f"disc/{'x' * 400}.jpg (gone)"]
    # no folder can have that name
    (tmp_path / "d" / "metadata.csv").write_text(
        "\n".join(["file_name,label", *rows[1:], f"disc/000.jpg,{'y' * 400}"])
    )
    assert len(wordsight.datasets.read_labels(tmp_path / "d").class_names) == 3
    (tmp_path / "d" / "metadata.csv").write_text(
        "\n".join(["file_name,label", f"{'x' * 400}/a.jpg,disc"])
    )
    with pytest.raises(InvalidArgument):
        wordsight.datasets.read_labels(tmp_path / "d")


@pytest.mark.parametrize(
    "nested",
    [
        "[" * 300_000,
        "- " * 300_000,
        "? " * 300_000,
        '{"a":' * 100_000,
        "x: [" + "a," * 400_000,
        "%" * 900_000,
        "y: " + "1:" * 400_000 + "1",
        "!!binary YQ==",
    ],
)
def test_yaml_nested_too_deeply_is_refused_at_once(nested, tmp_path):
    """PyYAML takes a time that grows with the square of such a depth; libyaml ends the process."""
    (tmp_path / "data.yaml").write_text(f"names: [a, b]\ntrain: images\nx:\n {nested}")
    began = time.monotonic()
    with pytest.raises(InvalidArgument):
        wordsight.datasets.read_boxes(tmp_path)
    assert time.monotonic() - began < 60, "hours, where it is not bounded"


def test_a_message_names_no_more_than_can_be_read(tmp_path):
    (tmp_path / "a.csv").write_text(
        ",".join(f"column{number}" for number in range(5000)) + "\n" + ",".join("1" * 5000)
    )
    for read in (wordsight.datasets.read_boxes, wordsight.datasets.read_labels):
        with pytest.raises(InvalidArgument) as refused:
            read(tmp_path / "a.csv")
        assert len(str(refused.value)) < 600 and "column0" in str(refused.value)
