"""report.html: what stands in it, what a person can do with it in a real browser, and that
nothing in it can be anything but text.
"""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import draw_shape, serious, write_shapes
from wordsight.classification.predictions import Prediction
from wordsight.classification.report import prediction_card
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
    assert not re.findall(r'(?:src|href)="(?!data:|heatmaps/|https://creativecommons)', text)
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


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_reads_well_for_everyone(evaluated, predicted, tab, width, dark):
    for folder in (evaluated.output, predicted.output):
        page = tab((folder / "report.html").as_uri(), width=width, dark=dark).page
        assert serious(page) == []
        # nothing to scroll sideways on a phone
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.locator(".gallery img:not([alt])").count() == 0


def test_it_can_be_read_without_a_script(evaluated, tab):
    page = tab((evaluated.output / "report.html").as_uri(), java_script_enabled=False).page
    assert (
        page.locator("#threshold").is_hidden()
        and page.locator(".gallery li").count() == evaluated.total + 4
    )
    assert f"{evaluated.accepted} pictures get a label" in page.locator("#recount").inner_text()
