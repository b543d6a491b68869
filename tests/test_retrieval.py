"""Search by example: what comes first, what is written, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import contents, draw_shape, write_shapes
from wordsight.errors import InvalidArgument, NotFound
from wordsight.retrieval import search


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Twelve discs and twelve squares, a broken photo, a note, and an example of each kind beside
    the folder.
    """
    root = tmp_path_factory.mktemp("album")
    write_shapes(root / "photos", 12, seed=4100)
    (root / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    (root / "photos" / "note.txt").write_text("not a photo")
    for kind in ("disc", "square"):
        draw_shape(kind, 9000)[0].save(root / f"{kind}.png")
    return root


@pytest.mark.parametrize("kind", ["disc", "square"])
def test_what_is_like_the_example_comes_first(album, kind):
    found = wordsight.find(album / "photos", like=album / f"{kind}.png", top=24)
    names = [one.file_name.split("/")[0] for one in found]
    assert names[:8] == [kind] * 8
    assert [one.rank for one in found] == list(range(1, 25))
    similarities = [one.similarity for one in found]
    assert similarities == sorted(similarities, reverse=True) and similarities[0] <= 1
    assert found.photos == 24 and found.skipped == ["note.txt"] and not found.complete
    assert [name for name, _ in found.unreadable] == ["broken.jpg"]
    assert found.output is None and found[0] is found.found[0] and len(found) == 24
    first = ["1", f"{found[0].similarity:.3f}", found[0].file_name]
    assert first in [line.split() for line in str(found).splitlines()]
    assert list(found.to_pandas()["file_name"]) == [one.file_name for one in found]
    assert "data:image/jpeg" in found._repr_html_()


def test_the_order_is_that_of_the_cosines(album):
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.datasets.files import ImageFile

    found = wordsight.find(album / "photos", like=album / "disc.png", top=24)
    embedder = Embedder(load_backbone())

    def view(path):
        embedding = embedder.embed(ImageFile(path, path.name)).embedding.astype(float)
        weight, bias = embedder.backbone.concept_head()
        logits = embedding @ weight.T + bias
        shares = np.exp(logits - logits.max())
        root = np.sqrt(np.abs(embedding))
        return root / np.linalg.norm(root), np.sqrt(shares / shares.sum())

    example = view(album / "disc.png")
    for one in found:
        told = np.mean(
            [a @ b for a, b in zip(example, view(album / "photos" / one.file_name), strict=True)]
        )
        assert one.similarity == pytest.approx(told, abs=1e-4)


def test_the_example_itself_is_left_out_and_a_copy_of_it_is_first(album, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(album / "photos", photos)
    example = photos / "disc" / "003.jpg"
    shutil.copy(example, photos / "square" / "copy.jpg")
    found = wordsight.find(photos, like=example, top=100)
    names = [one.file_name for one in found]
    assert names[0] == "square/copy.jpg" and found[0].similarity == pytest.approx(1, abs=1e-5)
    assert "disc/003.jpg" not in names and len(names) == 24


def test_of_several_examples_the_middle_counts(album):
    both = [album / "disc.png", album / "square.png"]
    found = wordsight.find(album / "photos", like=both, top=24)
    alone = [
        {
            one.file_name: one.similarity
            for one in wordsight.find(album / "photos", like=like, top=24)
        }
        for like in both
    ]
    mean = {name: np.mean([each[name] for each in alone]) for name in alone[0]}
    assert [one.file_name for one in found] == sorted(mean, key=mean.get, reverse=True)
    assert found.like == [str(path) for path in both]


def test_find_writes_a_gallery_and_tables(album, cli_here, tmp_path):
    command = ("find", "--like", album / "disc.png", "-p", album / "photos", "--top", "5")
    done = cli_here(*command)
    assert done.returncode == 1 and "broken.jpg" in done.stderr  # one photo can't be read
    assert "disc/" in done.stdout and "results/found.html" in done.stdout
    with open(tmp_path / "results" / "found.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5", ""]
    assert rows[5]["file_name"] == "broken.jpg" and rows[5]["error"]
    lines = (tmp_path / "results" / "found.jsonl").read_text().splitlines()
    assert [json.loads(line)["file_name"] for line in lines] == [row["file_name"] for row in rows]
    page = (tmp_path / "results" / "found.html").read_text(encoding="utf-8")
    assert page.count("<img src=") == 6  # the example, and five
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    before = contents(tmp_path / "results")
    assert cli_here(*command).returncode == 1
    assert contents(tmp_path / "results") == before
    told = json.loads(cli_here(*command, "--json").stdout)
    assert [one["rank"] for one in told["found"]] == [1, 2, 3, 4, 5]
    assert told["pictures"] == 24 and told["unreadable"][0]["file_name"] == "broken.jpg"


def test_results_of_others_are_left_alone(album, cli_here, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "found.csv").write_text("mine")
    done = cli_here("find", "--like", album / "disc.png", "-p", album / "photos")
    assert done.returncode == 2 and "was not written by wordsight" in done.stderr
    assert contents(tmp_path / "results") == {"found.csv": b"mine"}


@pytest.mark.parametrize(
    "options, error, said",
    [
        ({"words": "red bicycle"}, InvalidArgument, "--like PHOTO, or teach the words"),
        ({"like": []}, InvalidArgument, "Say what to look for"),
        ({"like": "gone.jpg"}, NotFound, "No such picture: 'gone.jpg'"),
        ({"like": "photos/note.txt"}, InvalidArgument, "can't be read: not a picture"),
        ({"like": "photos/disc"}, InvalidArgument, "can't be read: not a regular file"),
        ({"like": "disc.png", "top": 0}, InvalidArgument, "--top takes 1 to 1000 photos, got 0"),
        ({"like": "disc.png", "photos": "disc.png"}, InvalidArgument, "no photo besides"),
        ({"like": "disc.png", "photos": "photos/broken.jpg"}, InvalidArgument, "None of the 1"),
        ({"like": "disc.png", "photos": "nowhere"}, NotFound, "No such file or folder"),
    ],
)
def test_what_cannot_be_is_said(album, monkeypatch, options, error, said):
    monkeypatch.chdir(album)
    with pytest.raises(error, match=said):
        wordsight.find(**{"photos": "photos", **options})


def test_the_command_line_refuses_in_one_sentence(album, cli_here):
    done = cli_here("find", "red bicycle", "-p", album / "photos")
    assert done.returncode == 2 and done.stderr.startswith("Error: To find 'red bicycle' takes")
    assert all(part in done.stderr for part in ("--like", "teach", "words --prepare siglip2"))


def test_find_reads_a_chunk_at_a_time_and_says_how_far_it_is(album, monkeypatch):
    monkeypatch.setattr(search, "CHUNK", 5)
    told = []
    whole = wordsight.find(
        album / "photos", like=album / "disc.png", progress=lambda *args: told.append(args)
    )
    assert told[-1] == (25, 25, "photos") and len(told) == 25 and len(whole) == 24


def test_a_photo_that_goes_meanwhile_still_has_its_row(album, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    shutil.copytree(album / "photos" / "disc", photos)

    def going(done, total, what):
        if done == total:
            shutil.rmtree(photos)

    found = wordsight.find(photos, like=album / "disc.png", top=3, progress=going)
    assert len(found) == 3 and found[0].taken_at is None


def test_embeddings_with_negative_numbers_are_compared_by_their_signs():
    from wordsight.heads.linear import power_normalize

    rows = np.array([[1.0, 4.0], [-1.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(
        power_normalize(rows), np.array([[1, 2], [-1, 2], [0, 0]]) / [[5**0.5], [5**0.5], [1]]
    )


def test_names_of_files_are_text_in_the_page(album, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.open(album / "disc.png").save(photos / "<b>&.png")
    wordsight.find(photos, like=album / "disc.png", output=tmp_path / "out")
    page = (tmp_path / "out" / "found.html").read_text(encoding="utf-8")
    assert "<b>&.png" not in page and "&lt;b&gt;&amp;.png" in page


class Tower:
    """A text–image model for tests: a phrase fits a photo whose name has it, whatever it shows."""

    def embed_photos(self, files, progress=None):
        rows = np.full((len(files), 2), np.nan, np.float32)
        for number, file in enumerate(files):
            if "broken" not in file.name:
                angle = ("disc" in file.name) + number / 1000
                rows[number] = np.cos(angle), np.sin(angle)
        return rows

    def embed_phrases(self, phrases, several=True):
        return np.array([[np.cos(1), np.sin(1)]] * len(phrases), np.float32)


def test_words_are_looked_for_by_a_text_image_model(album, tmp_path):
    found = wordsight.find(
        album / "photos", "a round disc", words_model=Tower(), top=12, output=tmp_path / "r"
    )
    assert all(one.file_name.startswith("disc/") for one in found) and len(found) == 12
    assert found.photos == 24 and "that 'a round disc' fits best" in found.title()
    ((name, reason),) = found.unreadable
    assert name == "broken.jpg" and "text–image" not in reason
    page = (tmp_path / "r" / "found.html").read_text(encoding="utf-8")
    assert "Photos of a round disc" in page and "example (" not in page
    with open(tmp_path / "r" / "found.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows][:-1] == [one.file_name for one in found]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"words": "disc", "like": "disc.png"}, "leave one out"),
        ({"like": "disc.png", "words_model": "siglip2"}, "--words-model is for words"),
        ({"words": "disc", "words_model": "siglip2"}, "words --prepare siglip2"),
        ({"words": "disc", "words_model": "mobileclip2"}, "Apple's research licence"),
    ],
)
def test_what_does_not_go_with_words_is_refused(album, asked, told):
    if "like" in asked:
        asked = asked | {"like": album / asked["like"]}
    with pytest.raises(wordsight.WordsightError, match=told):
        wordsight.find(album / "photos", **asked)
