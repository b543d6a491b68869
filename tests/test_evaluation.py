"""Evaluating a model: its own decisions, honest figures, a report that harms nothing, and one
sentence for what is wrong.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import draw_shape, write_shapes
from wordsight.errors import InvalidArgument, NotFound, OutputError
from wordsight.metrics.classification import clopper_pearson

FIXED = {
    "report.html",
    "evaluation.json",
    "predictions.csv",
    "confusion_matrix.png",
    "reliability.png",
    "risk_coverage.png",
}


def rows(report, name="predictions.csv") -> list[dict]:
    with open(
        Path(report) / name, newline="", encoding="utf-8-sig", errors="surrogateescape"
    ) as file:
        return list(csv.DictReader(file))


def tree(folder) -> dict[str, tuple[str, int]]:
    """Name -> (sha256, time of change) of every file."""
    return {
        str(p.relative_to(folder)): (
            hashlib.sha256(p.read_bytes()).hexdigest(),
            p.stat().st_mtime_ns,
        )
        for p in Path(folder).rglob("*")
        if p.is_file()
    }


def table(folder: Path, lines: list[tuple[str, ...]]) -> Path:
    with open(folder / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    return folder


@pytest.fixture(scope="module")
def model(shapes_model):
    return wordsight.load(shapes_model)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Shapes, two of them in the wrong class, and one broken file."""
    root = write_shapes(tmp_path_factory.mktemp("mixed"), 8, seed=700)
    draw_shape("disc", 901)[0].save(root / "square" / "wrong.jpg", quality=92)
    draw_shape("square", 902)[0].save(root / "disc" / "wrong.jpg", quality=92)
    (root / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "disc" / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Pictures of nothing."""
    folder = tmp_path_factory.mktemp("foreign")
    rng = np.random.default_rng(0)
    for k in range(6):
        Image.fromarray(rng.integers(0, 255, (200, 40 * k + 100, 3), dtype=np.uint8)).save(
            folder / f"{k}.png"
        )
    return folder


@pytest.fixture(scope="module")
def evaluated(mixed, foreign, shapes_model, tmp_path_factory):
    report = tmp_path_factory.mktemp("reports") / "r"
    before = tree(mixed), tree(foreign)
    result = wordsight.evaluate(mixed, shapes_model, output=report, threshold=0.8, others=foreign)
    assert (tree(mixed), tree(foreign)) == before  # no photo is changed
    return result


def test_evaluate_counts_what_the_model_says(evaluated):
    e = evaluated
    assert (
        e.total == 19
        and len(e.unreadable) == 1
        and e.unreadable[0][0] == "disc/broken.jpg"
        and e.skipped == ["disc/notes.txt"]
    )
    assert e.accepted + e.rejected == 18 and e.right + e.wrong == e.accepted
    assert e.total_accuracy.value == 16 / 18 and (
        e.total_accuracy.low,
        e.total_accuracy.high,
    ) == clopper_pearson(16, 18)
    assert (
        e.selective_accuracy.value == e.right / e.accepted and e.coverage.value == e.accepted / 18
    )
    assert e.confusion.tolist() == [[8, 1], [1, 8]] and [c.images for c in e.classes] == [9, 9]
    assert e.classes[0].precision.value == e.classes[0].recall.value == 8 / 9
    assert (
        e.split is None and e.set_aside == 0 and e.positive is None and e.positive_ranking is None
    )


def test_evaluate_decides_as_predict_does(evaluated, mixed, model):
    predicted = {p.file_name: p for p in model.predict(mixed, threshold=0.8)}
    table = rows(evaluated.output)
    assert {row["file_name"] for row in table} == set(predicted)
    for row in table:
        p = predicted[row["file_name"]]
        if p.error:
            assert row["error"] == p.error and not row["top_label"]
            continue
        assert row["label"] == row["file_name"].split("/")[0] and row["top_label"] == p.top_label
        assert float(row["probability"]) == pytest.approx(p.probability, abs=2e-6)
        assert (row["accepted"], row["stranger"]) == (
            str(p.label is not None).lower(),
            str(p.stranger).lower(),
        )
        assert row["right"] == str(row["label"] == p.top_label).lower()


def test_evaluate_decides_as_predict_does_on_photos(data, tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for file in sorted((data / "catdog" / "test" / name).iterdir())[:12]:
            (tmp_path / "d" / name / file.name).symlink_to(file)
    model = wordsight.train(tmp_path / "d", tmp_path / "m")
    street = sorted((data / "street" / "photos").iterdir())[:6]
    result = wordsight.evaluate(tmp_path / "d", model, output=tmp_path / "r", others=street)
    ours = {
        row["file_name"]: row for row in rows(tmp_path / "r") + rows(tmp_path / "r", "others.csv")
    }
    theirs = [*model.predict(tmp_path / "d"), *model.predict(street)]
    assert len(theirs) == len(ours) == 30 and result.threshold == 0.99
    for p in theirs:
        assert (
            ours[p.file_name]["accepted"] == str(p.label is not None).lower()
            and ours[p.file_name]["stranger"] == str(p.stranger).lower()
        )
    assert result.accepted == sum(p.label is not None for p in theirs[:24])
    assert result.others.labelled == sum(p.label is not None for p in theirs[24:])
    assert (
        result.others.labelled_by_probability
        == sum(float(ours[p.file_name]["probability"]) >= 0.99 for p in theirs[24:])
        >= result.others.labelled
    )


def test_strangers_are_rejected_first_in_the_curve(shapes, model):
    # everything is a stranger
    picky = replace(model, neighbourhood=replace(model.neighbourhood, limit=1e9))
    result = wordsight.evaluate(shapes, picky, output=None, threshold=0)
    assert result.accepted == 0 and result.risk_coverage.confidence.tolist() == [0.0]


def test_others_are_compared_by_familiarity_and_probability(evaluated):
    others = evaluated.others
    assert others.images == 6 and others.belonging == 18 and others.unreadable == 0
    assert others.familiarity.auroc.value > 0.9 and others.labelled == 0
    assert others.labelled_share.high == clopper_pearson(0, 6)[1]
    assert {row["label"] for row in rows(evaluated.output, "others.csv")} == {""}


def test_report_holds_every_file_and_all_numbers(evaluated):
    report = evaluated.output
    assert {p.name for p in report.iterdir()} == FIXED | {
        "others.png",
        "others.csv",
        "mistakes.png",
        ".wordsight-files",
    }
    for image in report.glob("*.png"):
        with Image.open(image) as image:
            assert min(image.size) > 100
    numbers = json.loads((report / "evaluation.json").read_text())
    assert numbers == json.loads(json.dumps(evaluated.to_dict()))
    assert (
        numbers["selective_accuracy"].keys() == {"value", "low", "high"}
        and len(numbers["calibration"]["bins"]) == 15
    )
    assert (
        numbers["risk_coverage"]["coverage_at_risk"].keys() == {"0.01", "0.05"}
        and numbers["wrong"] == evaluated.wrong
    )
    assert numbers["unreadable"] == [
        {"file_name": "disc/broken.jpg", "error": evaluated.unreadable[0][1]}
    ]


def test_the_same_again_gives_the_same_bytes_and_removes_what_no_longer_applies(
    evaluated, mixed, other_shapes, foreign, shapes_model, tmp_path
):
    before = {name: digest for name, (digest, _) in tree(evaluated.output).items()}
    wordsight.evaluate(mixed, shapes_model, output=evaluated.output, threshold=0.8, others=foreign)
    assert {name: digest for name, (digest, _) in tree(evaluated.output).items()} == before
    report = shutil.copytree(evaluated.output, tmp_path / "r")
    (report / "mine.txt").write_text("keep")
    wordsight.evaluate(other_shapes, shapes_model, output=report)  # no others, no mistakes
    assert {p.name for p in report.iterdir()} == FIXED | {".wordsight-files", "mine.txt"}


def test_only_images_marked_test_are_evaluated(tmp_path, shapes_model):
    root = write_shapes(tmp_path / "d", 4, seed=300)
    lines = [
        (f"{k}/{i:03d}.jpg", k, "test" if i < 1 else "train")
        for k in ("disc", "square")
        for i in range(4)
    ]
    result = wordsight.evaluate(
        table(root, [("file_name", "label", "split"), *lines]), shapes_model, output=None
    )
    assert (result.total, result.set_aside, result.split) == (2, 6, "test") and result.to_dict()[
        "split"
    ] == "test"


def test_classes_are_compared_without_case_and_blanks_and_may_be_missing(tmp_path, shapes_model):
    shutil.move(
        write_shapes(tmp_path / "d", 3, seed=320, kinds=("disc",)) / "disc",
        tmp_path / "d" / "DISC ",
    )
    result = wordsight.evaluate(
        tmp_path / "d", shapes_model, output=tmp_path / "r"
    )  # a single class
    assert [c.images for c in result.classes] == [3, 0] and result.classes[1].recall.value is None
    assert {row["label"] for row in rows(tmp_path / "r")} == {"disc"}


@pytest.fixture(scope="module")
def one_class(tmp_path_factory):
    """A model of discs against the rest."""
    root = write_shapes(tmp_path_factory.mktemp("one"), 12)
    (root / "square").rename(root / "not_disc")
    return wordsight.train(root, tmp_path_factory.mktemp("models") / "one")


def test_one_class_against_the_rest_counts_every_other_class_as_the_rest(
    one_class, other_shapes, foreign, tmp_path
):
    result = wordsight.evaluate(
        other_shapes, one_class, output=tmp_path / "r", threshold=0.5, others=foreign
    )
    assert result.positive == "disc" and result.counted_as == {"square": "not_disc"}
    assert (
        result.positive_ranking.auroc.value == 1.0
        and result.positive_ranking.average_precision.value == 1.0
    )
    assert result.model == str(one_class.record.path)
    assert (
        result.positive_ranking.wanted,
        result.positive_ranking.unwanted,
        result.others.belonging,
    ) == (6, 6, 6)
    assert (tmp_path / "r" / "roc.png").is_file() and result.others.labelled == 0
    assert result.to_dict()["one_against_rest"]["positive"] == "disc"


def test_one_class_may_be_missing_from_the_data(one_class, other_shapes, foreign, tmp_path):
    shutil.copytree(other_shapes / "square", tmp_path / "d" / "square")
    result = wordsight.evaluate(tmp_path / "d", one_class, output=tmp_path / "r", others=foreign)
    assert (
        result.positive_ranking.auroc.value is None
        and result.others.familiarity.auroc.value is None
    )
    assert (
        not (tmp_path / "r" / "roc.png").exists() and not (tmp_path / "r" / "others.png").exists()
    )


def test_a_model_without_a_threshold_labels_nothing(model, other_shapes, foreign, tmp_path):
    silent = replace(model, record=replace(model.record, threshold=None))
    result = wordsight.evaluate(other_shapes, silent, output=tmp_path / "r", others=foreign)
    assert result.threshold is None and result.accepted == 0 and result.rejected == 12
    assert result.selective_accuracy.value is None and result.total_accuracy.value == 1.0
    assert result.others.labelled == result.others.labelled_by_probability == 0
    assert wordsight.evaluate(other_shapes, silent, output=None, threshold=0).accepted > 0


def test_odd_names_pass_through(tmp_path, model):
    names = ["$x_1$ & <b>", '猫 \u202e, "ü"\n']
    odd = replace(model, class_names=names)
    root = write_shapes(tmp_path / "d", 2, seed=340)
    for old, new in zip(("disc", "square"), names, strict=True):
        (root / old).rename(root / new)
        shutil.copyfile(root / new / "000.jpg", root / new / "a,\n'$\\frac{\udcff.jpg")
    shutil.copyfile(root / names[0] / "000.jpg", root / names[1] / "mistake.jpg")
    result = wordsight.evaluate(root, odd, output=tmp_path / "r")
    assert result.total == 7 and result.confusion.tolist() == [[3, 0], [1, 3]]
    assert {row["label"] for row in rows(tmp_path / "r")} == set(names)
    assert json.loads((tmp_path / "r" / "evaluation.json").read_text())["class_names"] == names


def test_many_classes_are_drawn(model, tmp_path):
    from wordsight.reports import figures as plots
    from wordsight.reports.canvas import png

    for classes in (45, 120):
        drawn = png(
            plots.confusion_matrix(
                np.eye(classes, dtype=int), [f"class {k} of many" for k in range(classes)]
            )
        )
        assert drawn.startswith(b"\x89PNG")


def test_progress_is_told(other_shapes, foreign, model):
    told = []
    wordsight.evaluate(
        other_shapes, model, output=None, others=[foreign], progress=lambda *step: told.append(step)
    )
    assert told[0] == (1, 12, "pictures") and told[-1] == (6, 6, "others")


def test_bad_input_is_refused_before_any_work(
    shapes, shapes_model, model, other_shapes, foreign, tmp_path
):
    def refuse(match, *arguments, error=InvalidArgument, **options):
        with pytest.raises(error, match=match) as caught:
            wordsight.evaluate(*arguments, **options)
        assert "\n" not in str(caught.value)

    report = tmp_path / "r"
    strange = write_shapes(tmp_path / "strange", 1)
    (strange / "disc").rename(strange / "ring")
    (tmp_path / "file").write_text("x")
    refuse("no class 'ring'; it knows: disc, square", strange, shapes_model, output=report)
    refuse("no_such", tmp_path / "no_such", shapes_model, output=report, error=NotFound)
    refuse("No such model", other_shapes, tmp_path / "no_such", output=report, error=NotFound)
    refuse(
        "No such file or folder",
        other_shapes,
        shapes_model,
        output=report,
        others=tmp_path / "no_such",
        error=NotFound,
    )
    refuse(
        "between 0 and 1, got 40. For 40 % write 0.4",
        other_shapes,
        shapes_model,
        output=report,
        threshold=40,
    )
    refuse(
        "between 0 and 1, got nan",
        other_shapes,
        shapes_model,
        output=report,
        threshold=float("nan"),
    )
    refuse(
        "is a file; a report needs a folder", other_shapes, shapes_model, output=tmp_path / "file"
    )
    refuse("can't lie inside", other_shapes, shapes_model, output=other_shapes / "report")
    refuse("can't lie inside", other_shapes, shapes_model, output=other_shapes)
    refuse("can't lie inside", other_shapes, shapes_model, output=foreign / "r", others=foreign)
    refuse(
        "can't say how familiar",
        other_shapes,
        replace(model, neighbourhood=None),
        output=report,
        others=foreign,
    )
    with pytest.raises(InvalidArgument, match="Unknown engine"):
        wordsight.load(shapes_model, engine="tpu")
    assert not report.exists() and not (other_shapes / "report").exists()


def test_what_no_evaluation_wrote_is_not_overwritten(other_shapes, shapes_model, tmp_path):
    report = tmp_path / "r"
    report.mkdir()
    (report / "predictions.csv").write_text("precious")
    with pytest.raises(InvalidArgument, match="was not written by wordsight"):
        wordsight.evaluate(other_shapes, shapes_model, output=report)
    assert (report / "predictions.csv").read_text() == "precious"
    data = tmp_path / "d"
    shutil.copytree(other_shapes, data)
    shutil.move(
        table(data, [("file_name", "label"), ("disc/000.jpg", "disc")]), report / "pictures"
    )
    shutil.move(report / "pictures" / "metadata.csv", report / "predictions.csv")
    (report / ".wordsight-evaluation").touch()
    with pytest.raises(InvalidArgument, match="can't lie inside"):  # the very table it is to read
        wordsight.evaluate(report / "predictions.csv", shapes_model, output=report)


def test_a_report_that_cannot_be_written_is_one_sentence(other_shapes, shapes_model, tmp_path):
    (tmp_path / "r" / "evaluation.json").mkdir(parents=True)
    (tmp_path / "r" / ".wordsight-evaluation").touch()
    with pytest.raises(OutputError, match="Can't write to"):
        wordsight.evaluate(other_shapes, shapes_model, output=tmp_path / "r")


def test_nothing_readable_is_one_sentence_and_writes_nothing(tmp_path, shapes_model, other_shapes):
    for name in ("disc", "square"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(
        InvalidArgument, match=r"None of the 2 pictures can be read; the first: 'disc/a.jpg'"
    ):
        wordsight.evaluate(tmp_path / "d", shapes_model, output=tmp_path / "r")
    with pytest.raises(InvalidArgument, match="None of the 2 pictures"):
        wordsight.evaluate(other_shapes, shapes_model, output=tmp_path / "r", others=tmp_path / "d")
    assert not (tmp_path / "r").exists()


def test_the_command_prints_one_object_or_a_table(
    cli_here, mixed, other_shapes, foreign, shapes_model, tmp_path
):
    process = cli_here(
        "evaluate", mixed, "-m", shapes_model, "-t", "0.8", "--others", foreign, "--json"
    )
    assert process.returncode == 1, process.stderr  # a picture is broken
    report = json.loads(process.stdout)
    assert report["total"] == 19 and (tmp_path / "report" / "mistakes.png").is_file()
    process = cli_here(
        "evaluate", other_shapes, "-m", shapes_model, "-o", "r2", "--others", foreign
    )
    assert process.returncode == 0 and not process.stderr, process.stderr
    for part in (
        "selective accuracy",
        "coverage at 1% risk",
        "95 % interval",
        "disc",
        "telling 6 others by",
        "r2/report.html",
    ):
        assert part in process.stdout, process.stdout
