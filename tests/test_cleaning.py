"""Cleaning finds what should go, says why, throws nothing away; splits and conversions keep
their promises.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms, ImageDraw, ImageFilter, ImageOps

import wordsight
from conftest import contents, draw_shape, killed_before, write_shapes
from wordsight.cleaning.checks import Material, run_checks
from wordsight.datasets.files import find_images
from wordsight.heads.linear import second_opinion
from wordsight.images.copies import groups, hash_pairs
from wordsight.images.decoding import decode, frame_count
from wordsight.images.measures import Measures, measure, trim

BEARS = {
    "teddys": [
        1,
        4,
        11,
        14,
        72,
        78,
        80,
        113,
        133,
        134,
        187,
        129,
        139,
        140,
        171,
        190,
        166,
        193,
        195,
    ],
    "black": [36, 66, 144, 47, 57, 149, 167],
    "grizzly": [162, 113],
}  # seen by eye


def findings(folder) -> list[dict]:
    with open(
        Path(folder) / "findings.csv", newline="", encoding="utf-8-sig", errors="surrogateescape"
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


def cat():
    return Image.fromarray(skimage.data.chelsea())


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """Two classes of drawn shapes, and one file for every reason."""
    root = write_shapes(tmp_path_factory.mktemp("messy") / "set", 30)
    disc, square = root / "disc", root / "square"
    (disc / "urls.txt").write_text("https://example.org\n")
    (disc / "broken.jpg").write_bytes((disc / "000.jpg").read_bytes()[:2000])
    draw_shape("disc", 1)[0].resize((100, 80)).save(disc / "small.png")
    frames = [Image.effect_noise((300, 300), 60 + 30 * i).convert("RGB") for i in range(3)]
    frames[0].save(disc / "moves.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (300, 300), (200, 30, 30)).save(disc / "plain.png")
    page = Image.new("RGB", (400, 500), "white")
    for y in range(40, 460, 20):
        ImageDraw.Draw(page).text((40, y), "the quick brown fox jumps over it", fill="black")
    page.save(disc / "page.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 30, (300, 300, 3), dtype=np.uint8)).save(
        disc / "night.png"
    )
    Image.fromarray(
        np.random.default_rng(0).integers(225, 256, (300, 300, 3), dtype=np.uint8)
    ).save(disc / "fog.png")
    cat().resize((600, 400)).filter(ImageFilter.GaussianBlur(9)).save(disc / "soft.jpg")
    draw_shape("disc", 77)[0].resize((1200, 300)).save(disc / "wide.jpg")
    shutil.copyfile(disc / "003.jpg", disc / "again.jpg")
    cup = Image.fromarray(skimage.data.coffee())
    cup.save(square / "cup.jpg")
    ImageOps.mirror(cup).resize((450, 300)).save(square / "mirrored.jpg")
    shutil.copyfile(square / "005.jpg", disc / "both.jpg")
    for k in range(2):
        draw_shape("square", 900 + k)[0].save(disc / f"wrong{k}.jpg", quality=92)
    return root


@pytest.fixture(scope="module")
def cleaned(messy, tmp_path_factory):
    report = tmp_path_factory.mktemp("report")
    before = tree(messy)
    result = wordsight.clean(messy, report)
    assert tree(messy) == before
    return result, report


EXPECTED = {
    "not_a_picture": "disc/urls.txt", "undecodable": "disc/broken.jpg",
    "too_small": "disc/small.png", "animated": "disc/moves.gif",
    "single_colour": "disc/plain.png", "document": "disc/page.png", "too_dark": "disc/night.png",
    "too_bright": "disc/fog.png", "blurry": "disc/soft.jpg",
    "extreme_aspect": "disc/wide.jpg", "duplicate": "disc/again.jpg",
    "near_duplicate": "square/mirrored.jpg", "in_two_classes": "disc/both.jpg",
    "outlier": "disc/soft.jpg", "mislabelled": "disc/wrong0.jpg",
}  # fmt: skip


@pytest.mark.parametrize(
    "reason", [reason for reason in wordsight.cleaning.list_checks() if reason != "redundant"]
)
def test_every_check_finds_its_kind(cleaned, reason):
    result, _ = cleaned
    found = [finding for finding in result.findings if finding.reason == reason]
    assert EXPECTED[reason] in {
        finding.file_name for finding in found
    } and wordsight.cleaning.list_checks()[reason].endswith(".")
    assert all(0 <= finding.score <= 1 and finding.label in ("disc", "square") for finding in found)
    assert [finding.score for finding in found] == sorted(
        (finding.score for finding in found), reverse=True
    )


def test_findings_say_what_they_are_of(cleaned):
    result, report = cleaned
    rows = {(row["reason"], row["file_name"]): row for row in findings(report)}
    assert list(findings(report)[0]) == [
        "file_name",
        "label",
        "reason",
        "score",
        "suggested_label",
        "evidence",
    ]
    assert rows["duplicate", "disc/again.jpg"]["evidence"] == "disc/003.jpg"
    assert (
        rows["near_duplicate", "square/mirrored.jpg"]["evidence"] == "square/cup.jpg"
        and ("near_duplicate", "square/cup.jpg") not in rows
    )
    assert (
        rows["in_two_classes", "disc/both.jpg"]["evidence"] == "square/005.jpg"
        and rows["in_two_classes", "square/005.jpg"]["score"] == "1.0"
    )
    assert rows["mislabelled", "disc/wrong0.jpg"]["suggested_label"] == "square"
    order = [row["reason"] for row in findings(report)]
    assert order == sorted(order, key=list(wordsight.cleaning.list_checks()).index)
    assert {row["reason"] for row in findings(report)} == set(result.counts)
    sound = {f"{kind}/{i:03d}.jpg" for kind in ("disc", "square") for i in range(30)} - {
        "square/005.jpg"
    }
    assert len(sound & {row["file_name"] for row in findings(report)}) <= 3  # of 59 good pictures


def test_the_report_shows_a_sheet_a_reason(cleaned):
    result, report = cleaned
    for reason in result.counts:
        if reason not in ("not_a_picture", "undecodable"):
            assert _pixels(report / f"{reason}.png").std() > 5
    assert json.loads((report / "summary.json").read_text())["findings"] == result.counts


def test_a_second_look_decodes_nothing(messy, tmp_path, monkeypatch):
    wordsight.clean(messy, tmp_path / "a")
    monkeypatch.setattr(
        "wordsight.backbones.embedder.decode",
        lambda data: pytest.fail("decoded again") if len(data) != 2000 else decode(data),
    )
    monkeypatch.setattr("wordsight.cleaning.cleaner.contact_sheet", lambda *_: None)
    wordsight.clean(messy, tmp_path / "b")
    assert (tmp_path / "a" / "findings.csv").read_bytes() == (
        tmp_path / "b" / "findings.csv"
    ).read_bytes()


def test_apply_sets_aside_and_undo_puts_back_exactly(messy, tmp_path, cli_here):
    root = shutil.copytree(messy, tmp_path / "set")
    (root / "metadata.csv").write_text(
        "file_name,label,note\n"
        + "".join(
            f"{p.relative_to(root)},{p.parent.name},n\n" for p in sorted(root.glob("*/*.*g*"))
        )
    )
    before = tree(root)
    chosen = cli_here("clean", root, "--apply", "--reasons", "duplicate,undecodable", "--json")
    assert chosen.returncode == 0 and json.loads(chosen.stdout)["moved"] == 2
    assert {p.name for p in (tmp_path / "set-rejected").rglob("*.jpg")} == {
        "again.jpg",
        "broken.jpg",
    } and "again.jpg" not in (root / "metadata.csv").read_text()
    every = cli_here("clean", root, "--apply")
    assert (
        every.returncode == 0
        and "--undo" in every.stdout
        and not (root / "disc" / "plain.png").exists()
    )
    # the manifest, the table as it was and the record
    assert len(tree(tmp_path / "set-rejected")) + len(tree(root)) == len(before) + 3
    assert cli_here("clean", root, "--undo").returncode == 0
    assert tree(root).keys() == before.keys() and all(
        tree(root)[name][0] == before[name][0] for name in before
    )
    assert (
        all(tree(root)[name] == before[name] for name in before if name != "metadata.csv")
        and not (tmp_path / "set-rejected").exists()
    )
    again = cli_here("clean", root, "--undo")
    assert again.returncode == 2 and "Nothing was set aside" in again.stderr


def test_undo_keeps_what_was_changed_meanwhile(messy, tmp_path):
    root = shutil.copytree(messy, tmp_path / "set")
    (root / "metadata.csv").write_text(
        "file_name,label\n"
        + "".join(f"{p.relative_to(root)},{p.parent.name}\n" for p in sorted(root.glob("*/*.jpg")))
    )
    wordsight.clean(root, tmp_path / "r", apply=True, reasons=["duplicate"])
    (root / "metadata.csv").write_text(
        (root / "metadata.csv").read_text().replace("disc/000.jpg,disc", "disc/000.jpg,square")
    )
    assert wordsight.cleaning.undo(root) == ["disc/again.jpg"]
    text = (root / "metadata.csv").read_text()
    assert "disc/000.jpg,square" in text and "disc/again.jpg,disc" in text
    wordsight.clean(root, tmp_path / "r", apply=True, reasons=["duplicate"])
    (root / "disc" / "again.jpg").write_bytes(b"new")
    with pytest.raises(wordsight.errors.InvalidArgument, match="is there again"):
        wordsight.cleaning.undo(root)


def test_apply_moves_nothing_where_a_place_is_taken_and_leaves_what_is_beside_the_classes(
    messy, tmp_path
):
    root = shutil.copytree(messy, tmp_path / "set")
    (root / "README.md").write_text("mine")
    result = wordsight.clean(
        root, tmp_path / "r", apply=True, reasons=["not_a_picture", "undecodable"]
    )
    assert result.moved == ["disc/broken.jpg", "disc/urls.txt"] and (root / "README.md").exists()
    (root / "disc" / "urls.txt").write_text("again")
    before = tree(root)
    with pytest.raises(
        wordsight.errors.InvalidArgument, match="is there already, so nothing was moved"
    ):
        wordsight.clean(root, tmp_path / "r", apply=True)
    assert tree(root) == before


def test_undo_leaves_an_edited_table_as_it_is_but_for_the_rows_that_come_back(messy, tmp_path):
    root = shutil.copytree(messy, tmp_path / "set")
    rows = [f"{p.relative_to(root)},{p.parent.name}" for p in sorted(root.glob("*/*.jpg"))]
    (root / "metadata.csv").write_text("\n".join(["file_name,label", *rows]) + "\n")
    wordsight.clean(root, tmp_path / "r", apply=True, reasons=["duplicate"])
    edited = "\ufefflabel,file_name\nsquare,disc/000.jpg,a note,another\nshort\ndisc,disc/002.jpg"
    (root / "metadata.csv").write_text(edited, encoding="utf-8")
    assert wordsight.cleaning.undo(root) == ["disc/again.jpg"]
    text = (root / "metadata.csv").read_bytes().decode()
    assert text == f"{edited}\r\ndisc,disc/again.jpg\r\n"


@pytest.mark.parametrize("moved", ['["disc/again.jpg"]', "[]"])
def test_what_0_1_0_set_aside_is_put_back(messy, tmp_path, moved):
    root = shutil.copytree(messy, tmp_path / "set")
    aside = tmp_path / "set-rejected"
    (aside / "disc").mkdir(parents=True)
    if "again" in moved:
        (root / "disc" / "again.jpg").rename(aside / "disc" / "again.jpg")
    (aside / ".wordsight-clean.json").write_text(f'{{"moved": {moved}, "metadata_sha": null}}')
    wordsight.clean(root, tmp_path / "r", apply=True, reasons=["undecodable"])
    wordsight.cleaning.undo(root)
    assert {name: of[0] for name, of in tree(root).items()} == {
        name: of[0] for name, of in tree(messy).items()
    }
    assert not aside.exists()


def test_wrong_requests_are_refused(messy, tmp_path):
    with pytest.raises(
        wordsight.errors.InvalidArgument, match=r"Unknown reason 'ugly'. Choose of: not_a_picture"
    ):
        wordsight.clean(messy, tmp_path / "r", reasons=["ugly"])
    with pytest.raises(wordsight.errors.NotFound):
        wordsight.clean(tmp_path / "nowhere")
    with pytest.raises(wordsight.errors.InvalidArgument, match="can't lie inside the data set"):
        wordsight.clean(messy, messy / "report")
    with pytest.raises(wordsight.errors.InvalidArgument, match="1 to 10000"):
        wordsight.clean(messy, tmp_path / "r", min_size=0)
    with pytest.raises(wordsight.errors.InvalidArgument, match="leave some for training"):
        wordsight.split(messy, val=0.5, test=0.5)
    root = shutil.copytree(messy, tmp_path / "set")
    (tmp_path / "set-rejected").mkdir()
    (tmp_path / "set-rejected" / "mine.txt").write_text("x")
    with pytest.raises(wordsight.errors.InvalidArgument, match="not set aside by wordsight"):
        wordsight.clean(root, tmp_path / "r", apply=True)


def test_balance_drops_the_most_redundant_of_the_larger_classes(tmp_path):
    root = write_shapes(tmp_path / "set", 8)
    for i in range(4):
        draw_shape("disc", 5000 + i)[0].save(root / "disc" / f"more{i}.jpg")
    result = wordsight.clean(root, tmp_path / "r", balance=True)
    gone = {finding.file_name for finding in result.findings if finding.label == "disc"}
    left = {finding.file_name for finding in result.findings if finding.label == "square"}
    assert 12 - len(gone) == 8 - len(left) and all(
        f.evidence for f in result.findings if f.reason == "redundant"
    )


def test_split_is_stratified_repeatable_and_keeps_copies_together(tmp_path, data):
    root = tmp_path / "set"
    for kind in ("cat", "dog"):
        (root / kind).mkdir(parents=True)
        for i, path in enumerate(sorted((data / "catdog" / "test" / kind).iterdir())[:30]):
            shutil.copyfile(path, root / kind / f"{i:03d}.jpg")
    for i in range(8):
        ImageOps.mirror(Image.open(root / "cat" / f"{i:03d}.jpg")).save(
            root / "cat" / f"{i:03d}-mirrored.jpg"
        )
        shutil.copyfile(root / "dog" / f"{i:03d}.jpg", root / "dog" / f"{i:03d}-again.jpg")
    before = tree(root)
    counts = wordsight.split(root, val=0.1, test=0.2, seed=3)
    assert (
        counts["test"] == {"cat": 8, "dog": 8}
        and counts["val"] == {"cat": 4, "dog": 4}
        and sum(counts["train"].values()) == 52
    )
    rows = {
        row["file_name"]: row["split"]
        for row in csv.DictReader((root / "metadata.csv").read_text("utf-8-sig").splitlines())
    }
    for i in range(8):
        assert (
            rows[f"cat/{i:03d}.jpg"] == rows[f"cat/{i:03d}-mirrored.jpg"]
            and rows[f"dog/{i:03d}.jpg"] == rows[f"dog/{i:03d}-again.jpg"]
        )
    first = (root / "metadata.csv").read_bytes()
    assert (
        wordsight.split(root, val=0.1, test=0.2, seed=3) == counts
        and (root / "metadata.csv").read_bytes() == first
    )
    wordsight.split(root, val=0.1, test=0.2, seed=4)
    assert (root / "metadata.csv").read_bytes() != first
    assert {name: value for name, value in tree(root).items() if name != "metadata.csv"} == before
    model = wordsight.train(root, tmp_path / "m")
    assert (
        model.record.kept_for_test == 16
        and sum(model.record.images.values()) + len(model.record.left_out) == 60
    )


def test_train_leaves_out_what_the_cheap_checks_find(messy, tmp_path, cli_here):
    process = cli_here("train", messy, "-o", tmp_path / "m")
    # 1: broken.jpg is unreadable
    assert (
        process.returncode == 1
        and "Left out: disc/again.jpg: duplicate of disc/003.jpg" in process.stderr
    )
    assert "in_two_classes" in process.stderr
    everything = wordsight.train(
        messy, tmp_path / "n", settings=wordsight.TrainingSettings(clean=False)
    )
    assert (
        not everything.record.left_out
        and sum(everything.record.images.values())
        == sum(wordsight.load(tmp_path / "m").record.images.values()) + 3
    )


def test_convert_makes_upright_srgb_jpegs(tmp_path, cli_here):
    root = tmp_path / "set" / "a"
    root.mkdir(parents=True)
    photo = cat().resize((600, 400))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(root / "turned.jpg", exif=exif)
    Image.new("RGBA", (300, 300), (255, 0, 0, 0)).save(root / "clear.png")
    photo.convert("CMYK").save(root / "print.jpg")
    Image.fromarray((np.linspace(0, 65535, 90_000).reshape(300, 300)).astype(np.uint16)).save(
        root / "deep.png"
    )
    photo.save(root / "moves.gif", save_all=True, append_images=[Image.new("RGB", (600, 400))])
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo.save(root / "turned.png", icc_profile=lab)
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    before = tree(root)
    process = cli_here("clean", tmp_path / "set", "--convert", tmp_path / "out", "--max-side", 240)
    assert process.returncode == 1 and "a/broken.jpg" in process.stderr and tree(root) == before
    made = sorted((tmp_path / "out" / "a").iterdir())
    assert [path.name for path in made] == [
        "clear.jpg",
        "deep.jpg",
        "moves.jpg",
        "print.jpg",
        "turned-1.jpg",
        "turned.jpg",
    ]
    for path in made:
        with Image.open(path) as image:
            assert (
                image.mode == "RGB"
                and image.format == "JPEG"
                and max(image.size) == 240
                and image.getexif().get(0x0112, 1) == 1
            )
    assert _pixels(tmp_path / "out" / "a" / "turned.jpg").shape == (240, 160, 3)
    assert _pixels(tmp_path / "out" / "a" / "clear.jpg").min() > 250  # on white
    first = _pixels(tmp_path / "out" / "a" / "moves.jpg")
    assert np.abs(first - np.asarray(photo.resize((240, 160))).astype(int)).mean() < 10
    assert cli_here("clean", tmp_path / "set", "--convert", tmp_path / "out").returncode == 2


def _pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_measures_survive_the_cache(tmp_path):
    image = cat()
    out = io.BytesIO()
    image.save(out, "PNG")
    made = measure(decode(out.getvalue()))
    back = Measures.unpack(made.pack())
    assert all(
        np.array_equal(getattr(made, name), getattr(back, name))
        for name in Measures.__dataclass_fields__
    )
    framed = ImageOps.expand(image, 30, "white")
    assert abs(trim(framed).width - image.width) <= 12 and trim(image).size == image.size


def test_hash_pairs_finds_every_planted_pair_and_no_other():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 256, (4000, 8), dtype=np.uint8)
    bits[:, 0] &= 127
    planted = set()
    for k in range(200):
        word = np.unpackbits(bits[k])
        word[1 + rng.choice(63, int(rng.integers(0, 9)), replace=False)] ^= 1
        bits[2000 + k] = np.packbits(word)
        planted.add((k, 2000 + k))
    found = set(map(tuple, hash_pairs(bits).tolist()))
    assert planted <= found
    assert all(np.unpackbits(bits[a] ^ bits[b]).sum() <= 8 for a, b in found)


def test_groups_hang_together():
    assert (
        groups(9, np.array([[1, 2], [5, 7], [2, 4], [7, 5]])) == [[1, 2, 4], [5, 7]]
        and groups(3, np.empty((0, 2), int)) == []
    )


@pytest.mark.parametrize(
    ("name", "recall", "precision"),
    [
        pytest.param("catdog", 0.96, 0.90, marks=pytest.mark.slow),
        ("clothing", 0.75, 0.60),
    ],
)
def test_wrong_labels_are_found(data, name, recall, precision):
    embeddings, labels, classes = _embedded(data / name / "train")
    rng = np.random.default_rng(11)
    noisy = labels.copy()
    for i in rng.choice(len(labels), len(labels) // 10, replace=False):
        noisy[i] = rng.choice([c for c in range(classes) if c != labels[i]])
    p = second_opinion(embeddings, noisy, classes)
    rows = np.arange(len(noisy))
    other = np.where(np.eye(classes, dtype=bool)[noisy], 0, p).max(axis=1)
    flagged = other / (other + p[rows, noisy]) >= 1 - 0.1 / classes
    wrong = noisy != labels
    assert flagged[wrong].mean() >= recall and wrong[flagged].mean() >= precision


def _embedded(folder):
    from wordsight.datasets.labelled import read_labelled
    from wordsight.training.request import embed_all, open_embedder

    labelled = read_labelled(folder)
    items = embed_all(open_embedder("tf_efficientnet_lite0"), labelled.images, "pictures", None)
    return (
        np.stack([item.embedding for item in items]),
        np.array([labelled.class_names.index(p.label) for p in labelled.images]),
        len(labelled.class_names),
    )


@pytest.mark.slow  # a measurement
def test_junk_of_an_image_search_is_found(data, tmp_path):
    result = wordsight.clean(data / "noisy_bears", tmp_path / "r")
    by_reason = {
        reason: [f for f in result.findings if f.reason == reason] for reason in result.counts
    }
    assert {f.file_name for f in by_reason["not_a_picture"]} == {
        f"{name}/urls_{name}.txt" for name in ("black", "grizzly", "teddys")
    }
    number = {
        f: int(re.search(r"(\d+)\.", f.file_name.rpartition("/")[2]).group(1))
        for f in by_reason["outlier"][:48]
    }
    assert len(number) == 48 and sum(n in BEARS[f.label] for f, n in number.items()) >= 0.68 * 28
    pairs = {frozenset((f.file_name, f.evidence)) for f in by_reason["near_duplicate"]}
    assert {
        frozenset(("teddys/00000001.jpg", "teddys/00000014.jpg")),
        frozenset(("teddys/00000004.jpg", "teddys/00000011.jpg")),
    } <= pairs


def test_many_pictures_are_judged_from_files_as_few_are_in_memory(
    cleaned, messy, tmp_path, monkeypatch, fresh_home
):
    from wordsight.cleaning import cleaner, material
    from wordsight.core.home import cache_folder
    from wordsight.heads import neighbours, rows

    judged = []
    for module in (material, neighbours, rows):
        monkeypatch.setattr(module, "FEW", 20)
    monkeypatch.setattr(material, "STEP", 16)
    monkeypatch.setattr(cleaner, "run_checks", lambda of: judged.append(of) or run_checks(of))
    found = wordsight.clean(messy, tmp_path / "report")
    assert [(f.file_name, f.reason, f.evidence[:12]) for f in found.findings] == [
        (f.file_name, f.reason, f.evidence[:12]) for f in cleaned[0].findings
    ]
    for mine, theirs in zip(found.findings, cleaned[0].findings, strict=True):
        assert mine.score == pytest.approx(theirs.score, abs=5e-3), mine
    (of,) = judged
    assert isinstance(of.embeddings, np.memmap)
    assert of.measures._few == [] and len(of.measures) == len(of.images) == len(of.embeddings)
    for image, measures, error in zip(of.images, of.measures, of.errors, strict=True):
        assert (measures is None) == (error is not None)
        if measures is not None:
            assert measures.pack() == measure_of(image.path).pack()
    assert of.measures[-1].pack() == of.measures[-2:][1].pack()
    with pytest.raises(IndexError):
        of.measures[len(of.images)]
    judged.clear()
    del of
    assert not list(cache_folder().glob("tmp*"))


def measure_of(path) -> Measures:
    data = path.read_bytes()
    return measure(decode(data), frame_count(data))


def test_of_many_only_some_are_learned_from(monkeypatch):
    from wordsight.heads import linear

    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 200, 40])
    rows = (np.eye(3, 30)[labels] * 4 + rng.standard_normal((540, 30))).astype(np.float32)
    told = labels.copy()
    told[[5, 310, 505]] = [1, 2, 0]
    learned = []
    fit = linear.fit_head

    def counted(embeddings, *rest, **options):
        learned.append(np.bincount(rest[0]).tolist())
        return fit(embeddings, *rest, **options)

    monkeypatch.setattr(linear, "fit_head", counted)
    monkeypatch.setattr(linear, "FEW", 90)
    probabilities = second_opinion(rows, told, 3)
    assert all(counts[0] == counts[1] == 30 and 20 <= counts[2] <= 30 for counts in learned)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.97
    assert probabilities[[5, 310, 505], [0, 1, 2]].min() > 0.9


def test_checks_need_no_embedding_of_a_broken_set(tmp_path):
    empty = Material(
        [],
        ["a"],
        np.zeros(0, int),
        [],
        [],
        [],
        np.zeros((0, 0), np.float32),
        None,
        ["a/x.txt"],
        224,
    )
    assert [finding.reason for finding in run_checks(empty)] == ["not_a_picture"]


def test_converting_may_be_cut_off_anywhere(tmp_path):
    data = write_shapes(tmp_path / "data", 2, kinds=("disc", "square"))
    wordsight.datasets.convert(data, tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    number, killed = 0, True
    while killed:
        out = tmp_path / f"out{number}"
        killed = killed_before(number, lambda at=out: wordsight.datasets.convert(data, at))
        assert not out.exists() or contents(out) == expected
        wordsight.datasets.convert(data, out)
        assert contents(out) == expected
        number += 1
    assert number > 10 and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("change", ["add", "edit", "delete", "size", "model"])
def test_converting_never_replaces_what_somebody_worked_on(change, shapes_model, tmp_path):
    data = write_shapes(tmp_path / "data", 2, kinds=("disc", "square"))
    out = tmp_path / "out"
    if change == "model":
        wordsight.load(shapes_model).save(out)
    else:
        wordsight.datasets.convert(data, out)
        assert len(find_images([out]).images) == 4  # they are data, not results
    if change == "delete":
        (out / "disc" / "000.jpg").unlink()
    elif change in ("add", "edit"):
        (out / "disc" / ("mine.jpg" if change == "add" else "000.jpg")).write_bytes(b"mine")
    before = contents(out)
    with pytest.raises(wordsight.errors.InvalidArgument, match="out' is there already"):
        wordsight.datasets.convert(data, out, max_side=64 if change == "size" else 320)
    assert contents(out) == before
