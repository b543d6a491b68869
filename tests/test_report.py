"""report.html: what stands in it, what a person can do with it in a real browser, and that
nothing in it can be anything but text.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import wordsight
from conftest import draw_shape, serious, write_shapes
from wordsight.classification.predictions import Prediction
from wordsight.classification.report import prediction_card
from wordsight.cli.main import app
from wordsight.datasets.files import ImageFile
from wordsight.datasets.work import Photos
from wordsight.reports.corrections import corrections_of
from wordsight.reports.gallery import A_PAGE, Card, Gallery
from wordsight.reports.page import (
    Link,
    Outcomes,
    Report,
    Section,
    fate,
    pages as written,
    render,
)
from wordsight.reports.parts import in_parts

runner = CliRunner()

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture(scope="module")
def predicted(shapes_model, other_shapes, tmp_path_factory):
    """Results of twelve shapes, three strangers, a broken file and one whose name is markup."""
    photos = shutil.copytree(other_shapes, tmp_path_factory.mktemp("report") / "photos")
    for i in range(3):
        Image.new("RGB", (300, 200), (10 * i, 250, 10 * i)).save(photos / f"green{i}.png")
    shutil.copy(photos / "disc" / "000.jpg", photos / HOSTILE)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    (photos / "note.txt").write_text("x")
    return wordsight.load(shapes_model).predict(
        photos, threshold=0.5, output=photos.parent / "results"
    )


@pytest.fixture(scope="module")
def evaluated(shapes_model, other_shapes, tmp_path_factory):
    """An evaluation with two mistakes that were made on purpose, and pictures of none of the
    classes.
    """
    root = tmp_path_factory.mktemp("evaluated")
    data = shutil.copytree(other_shapes, root / "data")
    for i in (0, 1):
        shutil.move(data / "disc" / f"00{i}.jpg", data / "square" / f"was-disc-{i}.jpg")
    (root / "none").mkdir()
    for i in range(4):
        Image.new("RGB", (300, 200), (10 * i, 250, 10 * i)).save(root / "none" / f"green{i}.png")
    return wordsight.evaluate(
        data, shapes_model, output=root / "report", threshold=0.6, others=root / "none"
    )


def text_of(results) -> str:
    return (results.output / "report.html").read_text(encoding="utf-8")


def numbers(text: str) -> dict:
    """The object that the page's script reads."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1]
    )


def test_it_needs_nothing_from_outside_and_runs_only_its_own_script(predicted):
    text = text_of(predicted)
    assert not re.findall(r'(?:src|href)="(?!data:|#|heatmaps/|https://creativecommons)', text)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert (
        "default-src 'none'" in policy
        and "script-src 'sha256-" in policy
        and "img-src data:;" in policy
    )
    assert (
        "onerror=alert(1)>" not in text.replace("&gt;", "")
        and "&lt;img src=x onerror=alert(1)&gt;.jpg" in text
    )


def test_it_counts_what_the_tables_count(predicted):
    data = numbers(text_of(predicted))
    outcomes = data["outcomes"]
    said = [
        p >= data["threshold"] and s == "0"
        for p, s in zip(outcomes["p"], outcomes["stranger"], strict=True)
    ]
    assert sum(said) == sum(predicted.counts.accepted.values()) and len(said) == len(predicted) - 1
    assert (
        f"{sum(said)} pictures get a label" in text_of(predicted)
        and "What can’t be read" in text_of(predicted)
        and "note.txt" in text_of(predicted)
    )


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99, 0.999, 1.0])
def test_every_image_falls_on_its_side_of_any_threshold(
    shapes_model, other_shapes, tmp_path, threshold
):
    results = wordsight.load(shapes_model).predict(
        other_shapes, threshold=threshold, output=tmp_path / "r"
    )
    cards = re.findall(
        r'<li data-group="[^"]*" data-name="([^"]*)".*?class="(\w+)">', text_of(results)
    )
    assert {name for name, kind in cards if kind == "labelled"} == {
        p.file_name for p in results if p.label is not None
    }
    assert len(cards) == len(results)


@pytest.fixture(scope="module")
def hesitant(tmp_path_factory):
    """A model that is unsure of many shapes: a quarter of what it learned from is mixed up."""
    root = tmp_path_factory.mktemp("hesitant")
    data = write_shapes(root / "data", 12)
    for i in range(3):
        shutil.move(data / "disc" / f"{i:03d}.jpg", data / "square" / f"was-disc-{i}.jpg")
        shutil.move(data / "square" / f"{i:03d}.jpg", data / "disc" / f"was-square-{i}.jpg")
    return wordsight.train(data, root / "model")


@pytest.fixture(scope="module")
def doubtful(hesitant, other_shapes, tmp_path_factory):
    """Results in which half of the photos are unsure, beside three strangers."""
    root = tmp_path_factory.mktemp("doubtful")
    photos = shutil.copytree(other_shapes, root / "my photos")
    for i in range(3):
        Image.new("RGB", (300, 200), (10 * i, 250, 10 * i)).save(photos / f"green{i}.png")
    shutil.copy(photos / "disc" / "000.jpg", photos / 'odd, "name".jpg')
    return hesitant.predict(photos, threshold=0.71, output=root / "results")


def parts_of(text: str) -> dict[str, list[str]]:
    """The names of the photos in each part of a page, in order."""
    pieces = re.split(r'data-part="([^"]*)"', text)[1:]
    return {
        key: [
            html.unescape(name)
            for name in re.findall(r'<li data-group="[^"]*" data-name="([^"]*)"', piece)
        ]
        for key, piece in zip(pieces[::2], pieces[1::2], strict=True)
    }


def test_what_needs_eyes_comes_first_then_labels_and_strangers_are_folded_away(doubtful):
    results, text = doubtful, text_of(doubtful)
    by_status = {
        status: {p.file_name for p in results if p.status == status}
        for status in ("unsure", "labelled", "none_of_these")
    }
    assert all(by_status.values())
    parts = parts_of(text)
    assert list(parts) == ["eyes", "labelled", "strangers-1"]
    assert [set(names) for names in parts.values()] == list(by_status.values())
    # grouped by class, and the surest first in each group
    for key in ("eyes", "labelled"):
        rows = [next(p for p in results if p.file_name == name) for name in parts[key]]
        assert [(p.top_label, -p.probability) for p in rows] == sorted(
            (p.top_label, -p.probability) for p in rows
        )
    folded = text[text.index('data-part="strangers-1"') : text.index("</details>")]
    assert f'None of these <span class="count">{len(by_status["none_of_these"])}</span>' in folded
    shown = re.sub(r"base64,[^\"]*", "", folded)
    assert "%" not in shown and "data-likeliest" not in shown
    told = re.search(r'aria-label="Summary">\s*<p>(.*?)</p>', text)[1]
    for status, words in (("labelled", "ha"), ("unsure", "need"), ("none_of_these", "show")):
        assert f"{len(by_status[status])} {words}" in told
    # the threshold stands behind all photos
    assert text.index('id="sure"') > text.rindex('<li data-group="')


def test_where_nothing_gets_a_label_all_need_eyes(hesitant, other_shapes, tmp_path):
    results = hesitant.predict(other_shapes, threshold=1, output=tmp_path / "r")
    text = text_of(results)
    parts = parts_of(text)
    assert len(parts["eyes"]) == results.counts.unsure > 0 and parts["labelled"] == []
    assert re.search(r'id="labelled" data-part="labelled" hidden>', text)
    assert "none has a label" in text


def test_the_same_again_gives_the_same_bytes(shapes_model, other_shapes, tmp_path):
    model = wordsight.load(shapes_model)
    first = text_of(model.predict(other_shapes, output=tmp_path / "a"))
    assert text_of(model.predict(other_shapes, output=tmp_path / "a")) == first


def test_tables_only_leave_no_report_of_an_earlier_run(shapes_model, other_shapes, tmp_path):
    model = wordsight.load(shapes_model)
    model.predict(other_shapes, output=tmp_path / "r")
    (tmp_path / "r" / "report-2.html").write_bytes((tmp_path / "r" / "report.html").read_bytes())
    (tmp_path / "r" / "report-mine.html").write_text("mine")
    model.predict(other_shapes, output=tmp_path / "r", draw=False)
    # a copy is the user's
    left = sorted(path.name for path in (tmp_path / "r").glob("report*"))
    assert left == ["report-2.html", "report-mine.html"]


@pytest.mark.parametrize("name", ["report.html", "report-2.html"])
def test_a_file_of_the_users_own_is_never_written_over(shapes_model, other_shapes, tmp_path, name):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / name).write_text("<html>mine</html>")
    model = wordsight.load(shapes_model)
    for action in (
        lambda: model.predict(other_shapes, output=tmp_path / "r"),
        lambda: wordsight.evaluate(other_shapes, model, output=tmp_path / "r"),
    ):
        with pytest.raises(wordsight.errors.InvalidArgument, match="not written by wordsight"):
            action()
    with pytest.raises(wordsight.errors.InvalidArgument, match="not written by wordsight"):
        wordsight.clean(other_shapes, tmp_path / "r")
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [name]


def test_mistakes_come_first_and_others_are_counted_apart(evaluated):
    text = text_of(evaluated)
    cards = re.findall(r'<li data-group="([^"]*)" data-name="([^"]*)".*?class="(\w+)">', text)
    assert [(name, kind) for _, name, kind in cards[:2]] == [
        (f"square/was-disc-{i}.jpg", "wrong") for i in (0, 1)
    ]
    assert sum(kind == "wrong" for _, _, kind in cards) == evaluated.wrong == 2
    assert sum(kind == "right" for _, _, kind in cards) == evaluated.right
    assert (
        sum(group == "none of the classes" for group, _, _ in cards)
        == 4
        == numbers(text)["outcomes"]["others"]
    )
    for heading in (
        "Confusion matrix",
        "All figures",
        "What the model learned from",
        "Heads that were tried",
        "Pictures of none of the classes",
    ):
        assert heading in text
    assert "truth: square" in text and "Risk and coverage" in text


def test_of_one_class_against_the_rest_others_may_be_called_the_rest(
    shapes, other_shapes, tmp_path
):
    model = wordsight.train(shapes, tmp_path / "m", positive="disc")
    (tmp_path / "none").mkdir()
    for i in range(4):
        draw_shape("square", 40 + i)[0].save(tmp_path / "none" / f"{i}.jpg")
    result = wordsight.evaluate(
        other_shapes, model, output=tmp_path / "r", threshold=0.5, others=tmp_path / "none"
    )
    outcomes = numbers(text_of(result))["outcomes"]
    assert outcomes["others"] == 4 and len(outcomes["p"]) == result.total + 4
    labelled = [
        p >= 0.5 and s == "0" for p, s in zip(outcomes["p"], outcomes["stranger"], strict=True)
    ]
    own = [
        said for said, foreign in zip(labelled, outcomes["foreign"], strict=True) if foreign == "0"
    ]
    wrong = sum(
        said and f == "1" and r == "0"
        for said, f, r in zip(labelled, outcomes["foreign"], outcomes["right"], strict=True)
    )
    assert (sum(own), wrong) == (result.accepted, result.others.labelled)


@pytest.mark.parametrize("exact", [0.9989080429077148, 0.5000004, 0.4999996, 0.99999994])
def test_a_threshold_that_is_a_images_own_probability_lets_it_in(exact):
    for label, threshold in (("cat", exact), (None, float(np.nextafter(exact, 2)))):
        said = Prediction(
            "a.jpg",
            label,
            "cat",
            round(exact, 6),
            {"cat": round(exact, 6), "dog": round(1 - exact, 6)},
        )
        outcomes = Outcomes(["cat", "dog"], threshold)
        card = prediction_card(said, threshold, (10, 10))
        outcomes.add(card, 0)
        page = render(Report("t", ["s"], "a", outcomes=outcomes), [card]).decode()
        data = numbers(page)
        shown = float(re.search(r'data-p="([^"]*)"', page)[1])
        assert (
            (data["outcomes"]["p"][0] >= data["threshold"])
            == (shown >= data["threshold"])
            == (label is not None)
            == (fate(card, threshold)[0] == "labelled")
        )


def test_cleaning_shows_what_and_why(tmp_path):
    data = write_shapes(tmp_path / "set", 8)
    shutil.copy(data / "disc" / "000.jpg", data / "disc" / "copy.jpg")
    draw_shape("disc", 5, (90, 100))[0].save(data / "disc" / "small.jpg")
    (data / "square" / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    (data / "funnel.json").write_text(
        json.dumps(
            {
                "classes": {
                    "disc": {"stages": {"found": 30, "kept": 8}, "reasons": {"too small": 22}}
                }
            }
        )
    )
    rows = "".join(
        f"disc/{i:03d}.jpg,disc,by-sa\nsquare/{i:03d}.jpg,square,cc0\n" for i in range(8)
    )
    (data / "metadata.csv").write_text(f"file_name,label,license\n{rows}")
    before = {path: path.read_bytes() for path in data.rglob("*.jpg")}
    found = wordsight.clean(data, tmp_path / "r")
    text = (tmp_path / "r" / "report.html").read_text()
    names = {finding.file_name for finding in found.findings}
    assert {"disc/copy.jpg", "disc/small.jpg", "square/broken.jpg"} <= names and all(
        f'data-name="{name}"' in text for name in names
    )
    assert (
        "too small (1)" in text
        and "no picture: square/broken.jpg" in text
        and "22 too small" in text
    )
    assert (
        "CC BY-SA" in text
        and "https://creativecommons.org/publicdomain/zero/1.0/" in text
        and "Nothing was moved." in text
    )
    assert {path: path.read_bytes() for path in data.rglob("*.jpg")} == before
    wordsight.clean(data, tmp_path / "r", apply=True)
    assert "set aside in &#39;set-rejected&#39;" in (tmp_path / "r" / "report.html").read_text()


def test_a_model_of_gathered_images_tells_how_they_were_gathered(tmp_path, other_shapes):
    data = write_shapes(tmp_path / "set", 6)
    (data / "funnel.json").write_text(
        json.dumps(
            {
                "classes": {
                    "disc": {"stages": {"found": 30, "kept": 6}, "reasons": {"too small": 24}}
                }
            }
        )
    )
    (data / "metadata.csv").write_text(
        "file_name,label,license\n"
        + "".join(f"{k}/{i:03d}.jpg,{k},by\n" for k in ("disc", "square") for i in range(6))
    )
    wordsight.train(data, tmp_path / "m")
    text = text_of(wordsight.load(tmp_path / "m").predict(other_shapes, output=tmp_path / "r"))
    assert (
        "Where the pictures came from" in text
        and "24 too small" in text
        and "CC BY</bdi></a>" in text
    )


def test_curves_of_a_training_are_drawn(tmp_path, shapes, other_shapes):
    wordsight.train(
        shapes,
        tmp_path / "m",
        recipe="scratch",
        backbone="brick_cnn",
        settings=wordsight.TrainingSettings(epochs=2),
    )
    text = text_of(
        wordsight.load(tmp_path / "m").predict(other_shapes, output=tmp_path / "r", threshold=0.5)
    )
    assert (
        'data-chart="loss"' in text
        and 'data-chart="accuracy"' in text
        and "validation</bdi>" in text
    )


def a_gallery(folder, count, noisy=False):
    rng, gallery = np.random.default_rng(0), Gallery(folder)
    image = (
        Image.fromarray(rng.integers(0, 255, (224, 224, 3), dtype=np.uint8))
        if noisy
        else Image.new("RGB", (224, 168), "teal")
    )
    heat = rng.random((10, 8), dtype=np.float32)
    for i in range(count):
        card = Card(
            f"{i}.jpg",
            "cat",
            "cat 99%",
            probability=1 - i / count,
            top="cat",
            likeliest=(("cat", 0.9), ("dog", 0.1)),
        ).with_image(image, heat)
        gallery.add(card, (0, i))
    return gallery


@pytest.mark.parametrize("noisy", [False, True])
def test_a_page_holds_a_thousand_images_and_stays_below_15_mb(tmp_path, noisy):
    gallery = a_gallery(tmp_path, A_PAGE + 1, noisy)
    for name, data in written(Report("t", ["s"], "a"), gallery):
        (tmp_path / name).write_bytes(data)
    gallery.close()
    pages = sorted(tmp_path.glob("report*.html"))
    assert len(pages) > 1 and all(page.stat().st_size < 15e6 for page in pages)
    order = ["report.html", *(f"report-{number}.html" for number in range(2, len(pages) + 1))]
    names = [
        name
        for page in order
        for name in re.findall(r'data-name="(\d+)\.jpg"', (tmp_path / page).read_text())
    ]
    assert names == [str(i) for i in range(A_PAGE + 1)]
    if not noisy:
        assert (
            len(pages) == 2
            and [path.name for path in tmp_path.iterdir() if path.suffix != ".html"] == []
        )


def test_text_is_never_markup(tmp_path):
    bad = "</script><script>alert(1)</script>\"'><b>"
    section = Section(bad, [bad], (bad, bad), [[bad, bad], [Link(bad, "javascript:alert(1)"), 1]])
    outcomes = Outcomes([bad], 0.5)
    card = Card(bad, bad, bad, bad, 0.9, bad, likeliest=((bad, 0.9),), link=bad, right=True)
    outcomes.add(card, 0)
    page = render(
        Report(bad, [bad], bad, [section], [(f"group:{bad}", bad)], outcomes), [card]
    ).decode()
    assert (
        page.count("<script") == 2
        and "<b>" not in page.replace("<b aria", "")
        and "javascript:" not in page
    )
    assert numbers(page)["outcomes"]["names"] == [bad]


def test_names_that_are_no_text_are_shown_all_the_same(tmp_path):
    page = render(Report("t", ["s"], "a"), [Card("caf\udce9.jpg", "cat", "cat")]).decode()
    assert "caf?.jpg" in page


def test_fate_agrees_with_what_was_decided():
    card = Card("a", "cat", "cat", probability=0.9, top="cat")
    assert (
        fate(card, 0.9) == ("labelled", "")
        and fate(card, 0.91)[0] == "silent"
        and fate(card, None)[0] == "silent"
    )
    assert fate(Card("a", "cat", "cat", probability=0.9, top="cat", right=False), 0.5)[0] == "wrong"
    assert fate(
        Card("a", "cat", "cat", probability=0.9, top="cat", right=True, stranger=True), 0.5
    ) == ("silent", "resembles none")


def test_a_person_moves_the_slider_and_walks_through_the_images(evaluated, tab):
    page = tab((evaluated.output / "report.html").as_uri()).page
    shown = page.locator("#recount").inner_text()
    assert f"{evaluated.right} are right and {evaluated.wrong} wrong" in shown
    slider = page.locator("#threshold")
    slider.fill("0")
    everything = page.locator("#recount").inner_text()
    labelled = sum(
        int(row.inner_text()) for row in page.locator("#by-class tbody td:nth-child(2)").all()
    )
    assert f"{labelled} pictures get a label" in everything and labelled >= evaluated.accepted
    slider.fill("4")
    assert page.locator("#threshold-value").inner_text() == "0.9999"
    few = len(page.locator(".gallery li.right").all())
    page.locator("#threshold-reset").click()
    assert page.locator("#recount").inner_text() == shown and few <= evaluated.right == len(
        page.locator(".gallery li.right").all()
    )
    page.select_option("#group", "fate:mistakes")
    assert page.locator(".gallery li:visible").count() == evaluated.wrong
    page.select_option("#group", "")
    page.select_option("#order", "name")
    names = [item.get_attribute("data-name") for item in page.locator(".gallery li").all()]
    assert names == sorted(names)
    first = page.locator(".gallery li:visible button").first
    first.focus()
    assert page.locator(".gallery li").first.locator("canvas.heat").count() == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert (
        page.locator("dialog[open] h3").inner_text() == names[1]
        and page.locator("dialog canvas.heat").count() == 1
    )
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog[open] h3").inner_text() == names[2]
    page.keyboard.press("h")
    assert page.locator("dialog canvas.heat").count() == 0
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_the_slider_moves_photos_and_says_the_command_that_gives_this(doubtful, hesitant, tab):
    page = tab((doubtful.output / "report.html").as_uri()).page
    assert "-t" not in page.locator("#command").inner_text()
    page.locator("#threshold").fill("0.4")
    said = page.locator("#command code").inner_text()
    name, threshold = said.split()
    assert name == "-t" and threshold == page.locator("#threshold-value").inner_text()
    photos = doubtful.output.parent / "my photos"
    again = hesitant.predict(photos, threshold=float(threshold), output=None)
    for key, status in (("labelled", "labelled"), ("eyes", "unsure")):
        shown = page.locator(f"#{key} .gallery li").all()
        assert {one.get_attribute("data-name") for one in shown} == {
            p.file_name for p in again if p.status == status
        }
    assert page.locator("#labelled h2 .count").inner_text() == str(again.counts.labelled)
    page.locator("#threshold-reset").click()
    shown = page.locator("#eyes .gallery li").count()
    assert shown == doubtful.counts.unsure and "-t" not in page.locator("#command").inner_text()


def test_corrections_are_remembered_and_saved_as_a_table_to_learn_from(
    doubtful, tab, tmp_path, fresh_home
):
    page = tab((doubtful.output / "report.html").as_uri()).page
    assert page.locator("#bar").is_hidden()
    unsure, sure = page.locator("#eyes .gallery li"), page.locator("#labelled .gallery li")
    names = [one.get_attribute("data-name") for one in (unsure.nth(0), unsure.nth(1), sure.nth(0))]
    guesses = [one.get_attribute("data-group") for one in (unsure.nth(0), unsure.nth(1))]
    unsure.nth(0).locator("button.yes").click()
    unsure.nth(1).locator("button.no").click()
    assert "1 has no right label yet" in page.locator("#corrected").inner_text()
    sure.nth(0).locator("button.no").click()
    sure.nth(0).locator("select").select_option("none_of_these")
    # by keys: wrong, then taken back; and a class by its number
    page.locator("#labelled .gallery li .picture").nth(1).focus()
    page.keyboard.press("w")
    assert page.locator("#corrected").inner_text().startswith("4 corrections")
    page.keyboard.press("u")
    assert page.locator("li.marked").count() == 3
    page.reload()
    assert page.locator("li.marked").count() == 3
    assert page.locator("#corrected").inner_text().startswith("3 corrections")
    with page.expect_download() as download:
        page.locator(".panel .save").click()
    assert download.value.suggested_filename == "corrections.csv"
    photos = doubtful.output.parent / "my photos"
    table = shutil.copy(download.value.path(), photos / "corrections.csv")
    text = Path(table).read_text(encoding="utf-8-sig")
    rows = {row["file_name"]: row for row in csv.DictReader(io.StringIO(text))}
    assert [rows[name]["label"] for name in names[::2]] == [guesses[0], "none_of_these"]
    assert names[1] not in rows and all(rows[name]["checked"] == "yes" for name in names[::2])
    # what was not objected to goes along; what is unsure does not
    for one in doubtful:
        if one.file_name not in names:
            label = "none_of_these" if one.stranger else one.label
            assert rows.pop(one.file_name, {}).get("label") == label
    commands = page.locator("#corrections li code").all_inner_texts()
    assert commands[0] == str(photos) and "run" in commands[1] and "teach" in commands[2]
    sort = [*shlex.split(commands[3])[1:-1], str(tmp_path / "sorted"), "--photos", str(photos)]
    done = runner.invoke(app, sort)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "sorted" / guesses[0] / Path(names[0]).name).is_file()
    words = shlex.split(commands[1])
    assert words[-2:] == ["--data", str(table)]
    again = runner.invoke(app, [*words[1:], "-o", str(tmp_path / "again"), "--no-pictures"])
    assert again.exit_code == 0, again.output
    train = runner.invoke(app, ["train", str(table), "-o", str(tmp_path / "m"), "--no-clean"])
    assert train.exit_code == 0, train.output
    page.locator("#forget").click()
    page.reload()
    assert page.locator("li.marked").count() == 0 and page.locator("#bar").is_hidden()


def test_corrections_go_to_the_folder_that_holds_all_photos(tmp_path, monkeypatch):
    def told(sources, paths):
        images = [ImageFile(tmp_path / path, Path(path).name) for path in paths]
        return corrections_of(Photos(sources, images, [], None), ["cat", "not_cat"], False)

    for path in ("a/x/1.jpg", "a/y/2.jpg"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path)
    one = told(["a/"], [])
    assert (one.folder, one.classes, one.others, one.places) == ("a/", ["cat"], ["not_cat"], {})
    several = told(["a/x", "a/y/2.jpg"], ["a/x/1.jpg", "a/y/2.jpg"])
    assert several.folder == "a"
    assert several.places == {"1.jpg": "x/1.jpg", "2.jpg": "y/2.jpg"}
    assert several.commands[0][1] == "wordsight run a -c cat --data a/corrections.csv"
    second = several.to_dict(2)
    assert second["file"] == "corrections-2.csv" and all(
        said.endswith("corrections-2.csv") for _, said in second["commands"]
    )
    far = [ImageFile(Path("/one/1.jpg"), "1.jpg"), ImageFile(Path("/two/2.jpg"), "2.jpg")]
    assert corrections_of(Photos(["/one/1.jpg"], far, [], None), ["cat", "dog"], False) is None


def test_of_one_word_the_rest_is_folded_away():
    cards = [
        Card(f"{i}.jpg", name, name, probability=p, top=name)
        for i, (name, p) in enumerate((("dog", 0.99), ("not_dog", 0.99), ("not_dog", 0.6)))
    ]
    eyes, labelled, rest = in_parts(cards, 0.9, {}, ["not_dog"])
    assert [part.count for part in (eyes, labelled, rest)] == [1, 1, 1]
    assert rest.folded and rest.groups[0].cards == [cards[1]] and not labelled.folded


def test_the_slider_takes_photos_of_the_rest_out_of_their_fold(tmp_path, tab):
    cards = [
        Card(f"{i}.jpg", name, name, probability=p, top=name)
        for i, (name, p) in enumerate((("dog", 0.99), ("not_dog", 0.99), ("not_dog", 0.6)))
    ]
    outcomes = Outcomes(["dog", "not_dog"], 0.9)
    for card in cards:
        outcomes.add(card, outcomes.names.index(card.top))
    report = Report("t", ["s"], "a", outcomes=outcomes, in_parts=True, rest=["not_dog"])
    (tmp_path / "report.html").write_bytes(render(report, cards))
    page = tab((tmp_path / "report.html").as_uri()).page
    places = [("#labelled", 1), ("#rest", 1), ("#eyes", 1)]
    assert [(place, page.locator(f"{place} li").count()) for place, _ in places] == places
    page.locator("#threshold").fill("0")
    assert page.locator("#rest li").count() == 2 and page.locator("#eyes").is_hidden()
    page.locator("#threshold").fill("4")
    assert page.locator("#rest").is_hidden() and page.locator("#eyes li").count() == 3


def test_on_paper_it_has_photos_and_no_controls(doubtful, tab):
    page = tab((doubtful.output / "report.html").as_uri(), dark=True).page
    page.emulate_media(media="print", color_scheme="dark")
    hidden = ("#bar", "#jump", ".control", ".mark", "#corrections")
    assert all(page.locator(place).first.is_hidden() for place in hidden)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        *((390, True), (1280, False)),
        *(pytest.param(*other, marks=pytest.mark.slow) for other in ((390, False), (1280, True))),
    ],
)
def test_it_reads_well_for_everyone(evaluated, predicted, doubtful, tab, width, dark):
    for folder in (evaluated.output, predicted.output, doubtful.output):
        page = tab((folder / "report.html").as_uri(), width=width, dark=dark).page
        assert serious(page) == []
        # nothing to scroll sideways on a phone
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.locator(".gallery img:not([alt])").count() == 0
    page.locator("#eyes button.no").first.click()
    page.locator("#labelled button.no").first.click()
    page.locator("#labelled .picture").first.click()
    assert page.locator("dialog select").count() == 1 and serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_it_can_be_read_without_a_script(evaluated, tab):
    page = tab((evaluated.output / "report.html").as_uri(), java_script_enabled=False).page
    assert (
        page.locator("#threshold").is_hidden()
        and page.locator(".gallery li").count() == evaluated.total + 4
    )
    assert f"{evaluated.accepted} pictures get a label" in page.locator("#recount").inner_text()
