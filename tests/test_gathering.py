"""Gathering: to the target and no further, lawfully, resumable, every loss told."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import wordsight
from conftest import contents
from imitation import drawn_image, fault_of
from wordsight.core.records import RECORD
from wordsight.gathering import GatherSettings
from wordsight.gathering.credits import COLUMNS
from wordsight.gathering.funnel import STAGES
from wordsight.gathering.ledger import FILE, Ledger
from wordsight.gathering.request import folder_name
from wordsight.gathering.sources import Candidate, FakeSource, FetchError, SearchPage


def images(label, numbers):
    return [drawn_image(label, number) for number in numbers]


def metadata(folder) -> list[dict]:
    with open(Path(folder) / "metadata.csv", newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def files(folder) -> dict[str, str]:
    """Name -> sha256 of every picture."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(Path(folder).glob("*/*"))
    }


@pytest.fixture
def cats_and_dogs():
    return FakeSource({"cat": images("cat", range(30)), "dog": images("dog", range(30))})


def test_gather_stops_at_the_target(tmp_path, cats_and_dogs):
    result = wordsight.gather("cat,dog", tmp_path / "d", sources=[cats_and_dogs], limit=12)
    assert result.kept == {"cat": 12, "dog": 12} and not result.causes
    assert {p.parent.name for p in (tmp_path / "d").glob("*/*")} == {"cat", "dog"} and len(
        files(tmp_path / "d")
    ) == 24
    assert cats_and_dogs.queries == ["cat", "dog"]  # one page each was enough
    assert not [p for p in (tmp_path / "d").rglob(".*") if p.name.endswith(".part")]


def test_gather_again_asks_for_nothing(tmp_path, cats_and_dogs):
    wordsight.gather("cat,dog", tmp_path / "d", sources=[cats_and_dogs], limit=12)
    before, asked = files(tmp_path / "d"), list(cats_and_dogs.queries)
    assert wordsight.gather("dog,cat", tmp_path / "d", sources=[cats_and_dogs], limit=12).kept == {
        "dog": 12,
        "cat": 12,
    }
    assert files(tmp_path / "d") == before and cats_and_dogs.queries == asked


def test_gather_goes_on_to_a_higher_target_and_to_new_classes(tmp_path, cats_and_dogs):
    wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=5)
    first = files(tmp_path / "d")
    assert wordsight.gather("cat,dog", tmp_path / "d", sources=[cats_and_dogs], limit=25).kept == {
        "cat": 25,
        "dog": 25,
    }
    assert first.items() <= files(tmp_path / "d").items()
    assert {row["label"] for row in metadata(tmp_path / "d")} == {"cat", "dog"}


def test_duplicates_do_not_count_within_and_across_classes(tmp_path):
    again = drawn_image("cat", 3, 60)  # the same picture, compressed more
    source = FakeSource(
        {
            "cat": [*images("cat", range(5)), drawn_image("cat", 0), again],
            "dog": [drawn_image("cat", 1), again, *images("dog", range(3))],
        }
    )
    result = wordsight.gather("cat,dog", tmp_path / "d", sources=[source], limit=20)
    assert result.kept == {"cat": 5, "dog": 3}
    assert result.classes["cat"].reasons == {"duplicate": 1, "near duplicate": 1}
    assert result.classes["dog"].reasons == {"duplicate": 1, "near duplicate": 1}
    assert len({row["sha256"] for row in metadata(tmp_path / "d")}) == 8


def test_every_loss_is_told_with_its_reason(tmp_path):
    small = Image.new("RGB", (400, 100))
    small.save(tmp_path / "small.png")
    bad = [
        b"",
        b"<html>no</html>",
        b"nonsense",
        drawn_image("cat", 1)[:2000],
        (tmp_path / "small.png").read_bytes(),
    ]
    result = wordsight.gather(
        "cat", tmp_path / "d", sources=[FakeSource({"cat": bad + images("cat", range(2))})], limit=9
    )
    assert result.classes["cat"].reasons == {
        "empty": 1,
        "web page": 1,
        "not a picture": 1,
        "broken picture": 1,
        "too small": 1,
    }
    assert list(result.classes["cat"].stages.values()) == [7, 7, 7, 3, 2, 2, 2]
    assert json.loads((tmp_path / "d" / "funnel.json").read_text())["classes"]["cat"][
        "stages"
    ] == dict(zip(STAGES, [7, 7, 7, 3, 2, 2, 2], strict=True))
    assert "cat: 2 of 9" in result.causes[0] and "too small" in result.causes[0]


def test_nothing_found_raises_with_the_cause(tmp_path):
    with pytest.raises(wordsight.errors.NothingGathered, match=r"fake found nothing for 'xyzzyq'"):
        wordsight.gather("xyzzyq", tmp_path / "d", sources=[FakeSource({})], limit=3)
    with pytest.raises(wordsight.errors.NothingGathered, match=r"3 licence not wanted.*--license"):
        wordsight.gather(
            "cat",
            tmp_path / "e",
            sources=[FakeSource({"cat": images("cat", range(3))}, license="by-nc")],
            limit=3,
            settings=GatherSettings(license="commercial"),
        )
    with pytest.raises(wordsight.errors.NothingGathered, match="out of order"):
        wordsight.gather("cat", tmp_path / "f", sources=[FakeSource({}, fails_after=0)], limit=3)
    assert not [path for path in (tmp_path / "f").iterdir() if path.is_dir()]


def test_the_licence_filter_holds_though_the_source_ignores_it(tmp_path):
    class Mixed(FakeSource):
        async def search(self, query, cursor, web):
            page = await super().search(query, cursor, web)
            codes = ("by", "by-nc", "unknown", "cc0")
            return SearchPage(
                [Candidate(c.url, codes[i % 4]) for i, c in enumerate(page.candidates)], page.cursor
            )

    for license, expected in (
        ("commercial", {"by", "cc0"}),
        ("by-nc", {"by-nc"}),
        ("any", {"by", "by-nc", "unknown", "cc0"}),
    ):
        wordsight.gather(
            "cat",
            tmp_path / license,
            sources=[Mixed({"cat": images("cat", range(8))})],
            limit=8,
            settings=GatherSettings(license=license),
        )
        assert {row["license"] for row in metadata(tmp_path / license)} == expected


def test_one_source_out_of_order_does_not_stop_the_other(tmp_path):
    broken, good = FakeSource({}, fails_after=0), FakeSource({"cat": images("cat", range(6))})
    broken.name, said = "broken", []
    result = wordsight.gather(
        "cat", tmp_path / "d", sources=[broken, good], limit=6, say=said.append
    )
    assert result.kept == {"cat": 6} and any(
        "broken" in line and "out of order" in line for line in said
    )


def test_a_short_class_asks_again_another_day(tmp_path):
    early, late = (
        FakeSource({"cat": images("cat", range(3))}),
        FakeSource({"cat": images("cat", range(9))}),
    )
    assert wordsight.gather("cat", tmp_path / "d", sources=[early], limit=9).kept == {"cat": 3}
    assert wordsight.gather("cat", tmp_path / "d", sources=[late], limit=9).kept == {"cat": 9}


def test_a_image_cut_by_a_power_failure_is_fetched_anew(tmp_path, cats_and_dogs):
    wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=5)
    before = files(tmp_path / "d")
    sorted((tmp_path / "d" / "cat").iterdir())[2].write_bytes(b"")
    assert (
        wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=5).kept == {"cat": 5}
        and files(tmp_path / "d") == before
    )


def test_a_image_moved_to_another_class_keeps_its_credit(tmp_path, cats_and_dogs):
    wordsight.gather("cat,dog", tmp_path / "d", sources=[cats_and_dogs], limit=5)
    moved = sorted((tmp_path / "d" / "cat").iterdir())[0]
    moved.rename(tmp_path / "d" / "dog" / moved.name)
    wordsight.gather("cat,dog", tmp_path / "d", sources=[cats_and_dogs], limit=5)
    rows = {row["file_name"]: row for row in metadata(tmp_path / "d")}
    assert (
        rows[f"dog/{moved.name}"]["label"] == "dog"
        and rows[f"dog/{moved.name}"]["creator"] == "nobody"
        and f"cat/{moved.name}" not in rows
    )
    assert f"dog/{moved.name}" in (tmp_path / "d" / "ATTRIBUTION.md").read_text()


@pytest.mark.parametrize(
    "content",
    [
        b'file_name,label\n"cat/a',
        b"file_name;label\ncat/a;dog\n",
        "file_name,label\n".encode("utf-16"),
    ],
)
def test_a_table_that_is_none_any_more_is_put_aside(tmp_path, cats_and_dogs, content):
    wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=2)
    (tmp_path / "d" / "metadata.csv").write_bytes(content)
    wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=3)
    assert len(metadata(tmp_path / "d")) == 3
    assert [path.read_bytes() for path in (tmp_path / "d").glob("metadata.*.unread.csv")] == [
        content
    ]


def test_folders_are_never_named_like_splits(tmp_path):
    names = {
        "freight train": "freight +train+",
        "test tube": "+test+ tube",
        "train": "+train+",
        "crane#bird": "crane+bird",
        "trainer": "trainer",
        "cat": "cat",
    }
    for label, folder in names.items():
        assert folder_name(label) == folder
    text = {"crane#bird": "crane bird"}
    source = FakeSource({text.get(label, label): images(label, range(2)) for label in names})
    wordsight.gather(list(names), tmp_path / "d", sources=[source], limit=2)
    load = f"d = load_dataset('imagefolder', data_dir={str(tmp_path / 'd')!r})"
    code = (
        f"from datasets import load_dataset; {load}; print(d.num_rows, "
        "sorted(set(d['train']['label'])))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert out.stdout.strip() == f"{{'train': 12}} {sorted(names)}", out.stderr
    assert wordsight.train(tmp_path / "d", tmp_path / "m").class_names == sorted(names)


def test_memory_is_bounded_for_sources_that_read(tmp_path):
    import threading

    class Counting(FakeSource):
        most = now = 0
        lock = threading.Lock()

        def read(self, candidate):
            with self.lock:
                Counting.now += 1
                Counting.most = max(Counting.most, Counting.now)
            time.sleep(0.01)
            with self.lock:
                Counting.now -= 1
            return super().read(candidate)

    wordsight.gather(
        "cat",
        tmp_path / "d",
        sources=[Counting({"cat": images("cat", range(40))}, page_size=40)],
        limit=40,
    )
    assert 1 <= Counting.most <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(5, "unplugged"), FetchError("no such reason")]
)
def test_a_image_that_cannot_be_read_is_left_out_and_tried_another_day(tmp_path, error):
    class Unplugged(FakeSource):
        def read(self, candidate):
            if candidate.url.endswith("/1"):
                raise error
            return super().read(candidate)

    offered = {"cat": images("cat", range(4))}
    first = wordsight.gather("cat", tmp_path / "d", sources=[Unplugged(offered)], limit=4)
    assert first.kept == {"cat": 3} and first.classes["cat"].reasons == {"not read": 1}
    assert wordsight.gather("cat", tmp_path / "d", sources=[FakeSource(offered)], limit=4).kept == {
        "cat": 4
    }


class Sly(FakeSource):
    """Fails, or promises more for ever, as it is told."""

    manner = "raises"

    async def search(self, query, cursor, web):
        self.queries.append(query.text)
        if self.manner == "raises":
            raise KeyError("results")
        if self.manner == "returns nonsense":
            return [{"url": 1}]
        return SearchPage((await super().search(query, None, web)).candidates, "more")


@pytest.mark.parametrize("manner", ["raises", "returns nonsense", "promises more for ever"])
def test_a_source_of_somebody_else_cannot_stop_the_run(tmp_path, manner):
    sly, good = (
        Sly({"cat": images("cat", range(2))}),
        FakeSource({"cat": images("cat", range(6))}),
    )
    sly.name, sly.manner, said = "sly", manner, []
    result = wordsight.gather("cat", tmp_path / "d", sources=[sly, good], limit=9, say=said.append)
    assert result.kept == {"cat": 6} and len(sly.queries) < 200
    assert manner == "promises more for ever" or any("sly: failed with" in line for line in said)


def test_gather_works_inside_a_running_event_loop(tmp_path, cats_and_dogs):
    import asyncio

    async def notebook():
        return wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=3)

    assert asyncio.run(notebook()).kept == {"cat": 3}


def test_a_full_disk_is_one_sentence_and_loses_nothing(cli_here, tmp_path, imitation):
    service = imitation("--offered", 200)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        process = cli_here("gather", "cat", "-o", small / "d", "--limit", 150, env=service.env)
        assert (
            process.returncode == 2
            and "Can't write" in process.stderr
            and "Traceback" not in process.stderr
        ), process.stderr
        for path in (small / "d").glob("cat/*"):
            Image.open(path).load()
        subprocess.run(["mount", "-o", "remount,size=30m", str(small)], check=True)
        process = cli_here("gather", "cat", "-o", small / "d", "--limit", 150, env=service.env)
        assert process.returncode == 0 and len(files(small / "d")) == 150
    finally:
        subprocess.run(["umount", str(small)], check=False)


def test_queries_widen_where_the_depth_ends_and_are_recorded(tmp_path):
    source = FakeSource(
        {
            "cat": images("cat", range(4)),
            "domestic cat": images("cat", range(2, 9)),
            "tabby cat": images("cat", range(20, 30)),
        }
    )
    result = wordsight.gather("cat", tmp_path / "d", sources=[source], limit=15)
    assert result.kept == {"cat": 15}
    assert ("cat", "fake", "domestic cat", 1, 7) in result.queries and (
        "cat",
        "fake",
        "tabby cat",
        1,
        10,
    ) in result.queries
    assert {row["query"] for row in metadata(tmp_path / "d")} == {
        "cat",
        "domestic cat",
        "tabby cat",
    }


class Anything(FakeSource):
    """Has five pictures for whatever is asked."""

    async def search(self, query, cursor, web):
        self.images = {**self.images, query.text: images(query.text, range(5))}
        return await super().search(query, cursor, web)


def test_negatives_are_a_class_of_unrelated_words(tmp_path):
    source = Anything({})
    result = wordsight.gather("cat", tmp_path / "d", sources=[source], limit=5, negatives=23)
    assert result.kept == {"cat": 5, "not_cat": 23}
    asked = {row["query"] for row in metadata(tmp_path / "d") if row["label"] == "not_cat"}
    assert len(asked) >= 5 and not any("cat" in text or "lion" in text for text in asked)
    model = wordsight.train(tmp_path / "d", tmp_path / "m")
    assert model.class_names == ["cat", "not_cat"] and model.catch_all == 1
    assert wordsight.gather(
        "cat,dog", tmp_path / "e", sources=[source], limit=5, negatives=5
    ).kept == {
        "cat": 5,
        "dog": 5,
        "other": 5,
    }


def test_a_image_the_user_deleted_stays_away_and_is_made_up_for(tmp_path, cats_and_dogs):
    wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=10)
    junk = sorted((tmp_path / "d" / "cat").iterdir())[0]
    junk.unlink()
    result = wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=10)
    assert (
        result.kept == {"cat": 10}
        and not junk.exists()
        and result.classes["cat"].reasons["removed by you"] == 1
    )
    assert f"cat/{junk.name}" not in {row["file_name"] for row in metadata(tmp_path / "d")}


def test_what_a_person_changed_in_the_metadata_stays(tmp_path, cats_and_dogs):
    folder = tmp_path / "d"
    wordsight.gather("cat,dog", folder, sources=[cats_and_dogs], limit=4)
    rows = metadata(folder)
    rows[0].update(label="dog", note="mine")
    with open(folder / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "note"])
        writer.writeheader()
        writer.writerows([*rows, {"file_name": "dog/own.jpg", "label": "dog"}])
    wordsight.gather("cat,dog", folder, sources=[cats_and_dogs], limit=6)
    after = {row["file_name"]: row for row in metadata(folder)}
    assert (
        len(after) == 13
        and after[rows[0]["file_name"]]["label"] == "dog"
        and after[rows[0]["file_name"]]["note"] == "mine"
    )
    assert after["dog/own.jpg"]["label"] == "dog"


def test_kept_images_are_upright_rgb_and_untouched_where_they_were_that_already(tmp_path):
    plain = drawn_image("cat", 1)
    turned = Image.new("RGB", (300, 400), (200, 30, 30))
    turned.paste((30, 30, 200), (0, 0, 300, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    Image.effect_noise((300, 300), 80).save(tmp_path / "grey.gif")
    Image.effect_noise((310, 300), 90).convert("RGB").save(tmp_path / "plain.png")
    given = [
        plain,
        *((tmp_path / name).read_bytes() for name in ("turned.jpg", "grey.gif", "plain.png")),
    ]
    wordsight.gather("cat", tmp_path / "d", sources=[FakeSource({"cat": given})], limit=4)
    kept = [path.read_bytes() for path in sorted((tmp_path / "d" / "cat").iterdir())]
    assert plain in kept and given[3] in kept and given[1] not in kept
    for row in metadata(tmp_path / "d"):
        with Image.open(tmp_path / "d" / row["file_name"]) as image:
            assert (
                image.mode == "RGB"
                and image.format in ("JPEG", "PNG")
                and image.getexif().get(0x0112, 1) == 1
            )
            assert (image.width, image.height) == (int(row["width"]), int(row["height"]))
        assert (
            hashlib.sha256((tmp_path / "d" / row["file_name"]).read_bytes()).hexdigest()
            == row["sha256"]
        )
    assert (400, 300) in {
        (int(row["width"]), int(row["height"])) for row in metadata(tmp_path / "d")
    }


def test_the_data_set_loads_in_datasets_and_in_torchvision(tmp_path, cats_and_dogs, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wordsight.gather("cat,dog", tmp_path / "d", sources=[cats_and_dogs], limit=5)
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from datasets import load_dataset\nfrom torchvision.datasets import ImageFolder\n"
        f"d = load_dataset('imagefolder', data_dir={str(tmp_path / 'd')!r}, split='train')\n"
        "print(len(d), sorted(set(d['label'])), d[0]['image'].mode, d[0]['license'])\n"
        f"f = ImageFolder({str(tmp_path / 'd')!r}); print(f.classes, len(f))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.split("\n")[:2] == ["10 ['cat', 'dog'] RGB cc0", "['cat', 'dog'] 10"], (
        out.stderr
    )


def test_training_passes_over_deleted_images_and_takes_added_ones(tmp_path, cats_and_dogs):
    wordsight.gather("cat,dog", tmp_path / "d", sources=[cats_and_dogs], limit=8)
    sorted((tmp_path / "d" / "cat").iterdir())[0].unlink()
    (tmp_path / "d" / "dog" / "mine.jpg").write_bytes(drawn_image("dog", 99))
    model = wordsight.train(tmp_path / "d", tmp_path / "m")
    assert model.record.images == {"cat": 7, "dog": 9} and not model.record.unreadable
    assert model.record.licences == {"cc0": 15, "not recorded": 1}


def test_attribution_credits_every_image_in_safe_markdown(tmp_path):
    class Sly(FakeSource):
        async def search(self, query, cursor, web):
            page = await super().search(query, cursor, web)
            return SearchPage(
                [
                    Candidate(
                        c.url,
                        "by",
                        "javascript:alert(1)",
                        "# <b>Eve</b>\n[x](y)",
                        "T|t",
                        "https://example.org/a b",
                    )
                    for c in page.candidates
                ]
            )

    wordsight.gather(
        "cat", tmp_path / "d", sources=[Sly({"cat": images("cat", range(2))})], limit=2
    )
    text = (tmp_path / "d" / "ATTRIBUTION.md").read_text()
    assert text.count("- `cat/fake-") == 2 and "2 pictures: CC BY 2." in text
    assert (
        "<https://example.org/a%20b>" in text
        and "javascript" not in text
        and "\\# \\<b\\>Eve\\</b\\> \\[x\\]" in text
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "cat,cat"}, "given twice"),
        ({"classes": "a/b"}, "can't name a folder"),
        ({"classes": ".."}, "can't name a folder"),
        ({"classes": "ca\udcff"}, "can't name a folder"),
        ({"classes": "metadata.csv"}, "can't name a folder"),
        ({"classes": "cat,dog,Other", "negatives": 3}, "called 'other', which you ask for too"),
        ({"limit": 0}, "at least 1"),
        ({"settings": GatherSettings(min_size=0)}, "1 to 10000"),
        ({"settings": GatherSettings(license="by,gpl")}, "Unknown licence 'gpl'"),
        ({"sources": []}, "at least one source"),
        ({"sources": ["nowhere"]}, "Unknown source 'nowhere'. Choose of: commons"),
        ({"sources": ["urls"]}, "--source urls:FILE"),
        ({"sources": ["openverse:x"]}, "takes no argument"),
        ({"sources": ["openverse"]}, "needs the network"),
        ({"classes": "entity", "negatives": 3}, "Nothing is unrelated"),
    ],
)
def test_wrong_requests_are_refused(tmp_path, arguments, message):
    arguments = {"classes": "cat", "sources": [FakeSource({})], **arguments}
    with pytest.raises(wordsight.errors.InvalidArgument, match=message.replace("(", r"\(")):
        wordsight.gather(arguments.pop("classes"), tmp_path / "d", **arguments)
    assert not (tmp_path / "d").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path, cats_and_dogs):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.txt").write_text("x")
    with pytest.raises(wordsight.errors.InvalidArgument, match="not gathered"):
        wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=1)
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["thesis.txt"]
    wordsight.gather("cat", tmp_path / "e", sources=[cats_and_dogs], limit=1)
    with pytest.raises(wordsight.errors.InvalidArgument, match="--license any, now it is by"):
        wordsight.gather(
            "cat",
            tmp_path / "e",
            sources=[cats_and_dogs],
            limit=1,
            settings=GatherSettings(license="by"),
        )
    with pytest.raises(wordsight.errors.InvalidArgument, match="has the class 'cat'"):
        wordsight.gather("Cat", tmp_path / "e", sources=[cats_and_dogs], limit=1)
    (tmp_path / "e" / FILE).write_bytes(b"no database at all, but long enough to be looked at")
    with pytest.raises(wordsight.errors.InvalidArgument, match="can't be used"):
        wordsight.gather("cat", tmp_path / "e", sources=[cats_and_dogs], limit=1)


# Against an imitation of the real services, in processes of their own


def test_faults_of_every_kind_are_counted_and_none_is_fatal(
    imitation, cli_here, tmp_path, monkeypatch
):
    from wordsight.gathering.sources import web

    monkeypatch.setattr(web, "TIMEOUT", 2.0)  # a fifth: stalled answers are waited for
    service = imitation("--faulty", "--offered", 150, "--burst", 15)
    process = cli_here("gather", "cat,dog", "-o", "d", "--limit", 50, "--json", env=service.env)
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    assert report["kept"] == {"cat": 50, "dog": 50}
    shas = set(files(tmp_path / "d").values())
    assert len(shas) == 100 and shas <= {
        hashlib.sha256(drawn_image(label, n)).hexdigest()
        for label in ("cat", "dog")
        for n in range(3000)
    }
    for label in ("cat", "dog"):
        stages, reasons = report["classes"][label]["stages"], report["classes"][label]["reasons"]
        assert list(stages.values()) == sorted(stages.values(), reverse=True) and stages[
            "found"
        ] - stages["kept"] == sum(reasons.values())
        assert {
            "server error",
            "broken picture",
            "web page",
            "duplicate",
            "private address",
            "timed out",
            "too large",
        } <= set(reasons)
    assert "INSIDE" not in service.log.read_text()
    assert all(
        "wordsight/" in line and "(me@example.org) httpx/" in line
        for line in service.log.read_text().splitlines()
    )
    bad = {
        *(
            "server error",
            "truncated",
            "web page",
            "redirect inside",
            "endless",
            "stalled",
            "robots",
            "refused",
        )
    }
    kept_numbers = [
        int(Path(row["source_url"].partition("?")[0]).stem) for row in metadata(tmp_path / "d")
    ]
    assert not bad & {fault_of(number, True) for number in kept_numbers}


def test_a_service_that_asks_to_wait_for_hours_is_left_alone(imitation, cli_here):
    env = {
        **imitation("--offered", 60).env,
        "WORDSIGHT_OPENVERSE_URL": imitation("--closed", name="closed").root,
    }
    process = cli_here(
        "gather",
        "cat",
        "-o",
        "d",
        "--limit",
        20,
        "--source",
        "openverse",
        "--source",
        "commons",
        env=env,
    )
    assert process.returncode == 0 and "asks to wait 11 hours" in process.stderr
    alone = cli_here("gather", "cat", "-o", "e", "--limit", 20, "--source", "openverse", env=env)
    assert (
        alone.returncode == 1
        and "Error: No picture came." in alone.stderr
        and "11 hours" in alone.stderr
        and "Traceback" not in alone.stderr
    )


def test_nothing_found_is_exit_code_1(imitation, cli_here):
    service = imitation("--empty", "xyzzyq")
    process = cli_here("gather", "xyzzyq", "-o", "d", env=service.env)
    assert (
        process.returncode == 1
        and "openverse and commons found nothing for 'xyzzyq'" in process.stderr
        and "left out because" not in process.stderr
    )
    as_json = cli_here("gather", "xyzzyq", "-o", "d", "--json", env=service.env)
    assert as_json.returncode == 1 and json.loads(as_json.stdout)["kept"] == {"xyzzyq": 0}
    assert cli_here("gather", "cat", "-o", "d", "--offline", env=service.env).returncode == 2


def kill_and_resume(cli_arguments, env, folder, service, kills, seed):
    """Kill a gathering at random moments, then let it end; assert that nothing finished was
    asked for again.
    """
    command = [sys.executable, "-m", "wordsight", *cli_arguments]
    rng, done, killed = random.Random(seed), {}, 0
    while killed < kills:
        process = subprocess.Popen(
            command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.3, 1.6))
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in folder.glob("[!.]*/*"):
            Image.open(path).load()  # never a half picture
        for row in kept_rows(folder):
            done.setdefault(row, len(service.requests()))
        if ended:
            break
        killed += 1
    end = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert end.returncode == 0, end.stderr
    asked = service.requests()
    for url, when in done.items():
        assert url not in asked[when:], f"{url} was there and asked for again"
    return killed


def kept_rows(folder) -> list[str]:
    try:
        address = f"file:{folder / FILE}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            return [
                url.partition("/pictures/")[1] + url.partition("/pictures/")[2]
                for (url,) in database.execute("SELECT url FROM candidates WHERE state = 'kept'")
            ]
    except sqlite3.Error:
        return []


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_goes_on_to_the_same_set(imitation, cli_here, tmp_path, kills):
    service = imitation("--offered", 2000, "--delay", 0.03)
    arguments = [
        "gather",
        "cat,dog",
        "--limit",
        str(40 * kills),
        "--negatives",
        "20",
        "--json",
        "-o",
    ]
    assert cli_here(*arguments, "whole", env=service.env).returncode == 0
    killed = kill_and_resume(
        [*arguments, str(tmp_path / "torn")],
        service.env,
        tmp_path / "torn",
        service,
        kills,
        seed=kills,
    )
    assert killed >= kills / 2
    assert files(tmp_path / "torn") == files(tmp_path / "whole")

    def said(name):
        return [
            {k: v for k, v in row.items() if k != "fetched_at"} for row in metadata(tmp_path / name)
        ]

    assert said("torn") == said("whole")


def test_interrupted_by_ctrl_c_it_leaves_credits_and_goes_on(imitation, cli_here, tmp_path):
    service = imitation("--offered", 300, "--delay", 0.05)
    command = [
        sys.executable,
        "-m",
        "wordsight",
        "gather",
        "cat",
        "-o",
        str(tmp_path / "d"),
        "--limit",
        "90",
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, **service.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(list((tmp_path / "d").glob("cat/*.jpg"))) < 5:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "same command goes on" in said and "Traceback" not in said
    # what was fetched and not yet looked at waits in a hidden folder
    assert len(metadata(tmp_path / "d")) == len(list((tmp_path / "d").glob("cat/*"))) > 0
    assert (
        cli_here(*command[3:], env=service.env).returncode == 0 and len(files(tmp_path / "d")) == 90
    )


def test_two_at_once_in_one_folder_are_kept_apart(imitation, cli, tmp_path):
    service = imitation("--delay", 0.3)
    command = [
        sys.executable,
        "-m",
        "wordsight",
        "gather",
        "cat",
        "-o",
        str(tmp_path / "d"),
        "--limit",
        "500",
    ]
    with subprocess.Popen(
        command,
        env={**os.environ, **service.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:
        while not (tmp_path / "d" / FILE).exists():
            time.sleep(0.05)
        time.sleep(0.2)
        second = cli(*command[3:], env=service.env)
        first.kill()
    assert second.returncode == 2 and "Another run is writing" in second.stderr


def test_run_gathers_trains_and_predicts_and_then_reuses_the_model(
    imitation, cli_here, fresh_home, shapes, other_shapes
):
    service = imitation("--folder", shapes)
    refused = cli_here("run", "-c", "blorp,zorg", "-p", other_shapes, env=service.env)
    # nobody consented
    assert refused.returncode == 2 and "--gather" in refused.stderr and not service.requests("/v1/")
    first = cli_here(
        "run",
        "-c",
        "disc,square",
        "-p",
        other_shapes,
        "--gather",
        "-t",
        "0.5",
        "--json",
        env=service.env,
    )
    assert first.returncode == 0 and "Gathered 12 of disc, 12 of square" in first.stderr, (
        first.stderr
    )
    assert sum(json.loads(first.stdout)["accepted"].values()) >= 8
    count = len(service.requests())
    second = cli_here("run", "-c", "square,disc", "-p", other_shapes, "--gather", env=service.env)
    assert (
        second.returncode == 0
        and "model made before" in second.stderr
        and len(service.requests()) == count
    )
    model = json.loads(cli_here("models", "--json").stdout)["models"][0]
    assert (
        json.loads(Path(model["path"], "wordsight.json").read_text())["info"]["supervision"]
        == "gathered pictures"
    )


def test_run_with_too_few_images_says_why(imitation, cli_here, fresh_home, other_shapes):
    service = imitation("--empty", "blorp")
    process = cli_here("run", "-c", "blorp,disc", "-p", other_shapes, "--gather", env=service.env)
    assert (
        process.returncode == 1
        and "Too few pictures" in process.stderr
        and "found nothing for 'blorp'" in process.stderr
    )


def test_hidden_files_of_others_stay_in_a_gathered_folder(tmp_path, cats_and_dogs):
    folder = tmp_path / "d"
    mine = {".7.part": b"a torrent", ".notes.part": b"mine", ".1.part": b"mine", ".hidden/x": b"1"}
    for _ in range(2):
        for name, data in mine.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        wordsight.gather("cat", folder, sources=[cats_and_dogs], limit=4)
        assert mine.items() <= contents(folder).items()
        assert not list(folder.glob(".wordsight-*/*.part"))


def test_a_file_of_the_same_name_as_an_image_stays(tmp_path, cats_and_dogs):
    wordsight.gather("cat", tmp_path / "a", sources=[cats_and_dogs], limit=3)
    later = sorted(files(tmp_path / "a"))[-1]
    wordsight.gather("dog", tmp_path / "d", sources=[cats_and_dogs], limit=1)
    (tmp_path / "d" / "cat").mkdir()
    (tmp_path / "d" / later).write_bytes(b"mine")
    wordsight.gather("cat", tmp_path / "d", sources=[cats_and_dogs], limit=3)
    assert (tmp_path / "d" / later).read_bytes() == b"mine"
    beside = f"{later[:-4]}~{later[-4:]}"
    assert files(tmp_path / "d")[beside] == files(tmp_path / "a")[later]
    assert beside in [row["file_name"] for row in metadata(tmp_path / "d")]


@pytest.mark.parametrize("name", ["ATTRIBUTION.md", "funnel.json"])
def test_a_report_that_was_changed_is_not_replaced(name, tmp_path, cats_and_dogs):
    folder = tmp_path / "d"
    wordsight.gather("cat", folder, sources=[cats_and_dogs], limit=2)
    (folder / RECORD).unlink()  # 0.1.0 kept none
    wordsight.gather("cat", folder, sources=[cats_and_dogs], limit=3)
    with open(folder / name, "a") as file:
        file.write("\nThanks to all of them.\n")
    before = contents(folder)
    with pytest.raises(wordsight.errors.InvalidArgument, match=f"{name}' was not written by"):
        wordsight.gather("cat", folder, sources=[cats_and_dogs], limit=4)
    assert contents(folder) == before


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_a_database_of_somebody_elses_is_left_alone(suffix, tmp_path, cats_and_dogs):
    folder = tmp_path / "d"
    folder.mkdir()
    if suffix:
        (folder / f"{FILE}{suffix}").write_bytes(b"mine")
    else:
        with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
            database.execute("CREATE TABLE books (title TEXT)")
            database.commit()
    before = contents(folder)
    with pytest.raises(wordsight.errors.InvalidArgument, match=r"can't be used|is in the way"):
        wordsight.gather("cat", folder, sources=[cats_and_dogs], limit=1)
    assert contents(folder) == before


def test_an_image_that_waited_where_0_1_0_put_it_is_not_asked_for_again(tmp_path):
    asked = []

    class Counting(FakeSource):
        def read(self, candidate):
            asked.append(candidate.url)
            return super().read(candidate)

    source = Counting({"cat": images("cat", range(3))})
    folder = tmp_path / "d"
    wordsight.gather("cat", folder, sources=[source], limit=1)
    (kept,) = (folder / "cat").iterdir()
    with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
        ((number,),) = database.execute("SELECT id FROM candidates WHERE state = 'kept'")
        database.execute("UPDATE candidates SET state = 'fetched' WHERE id = ?", (number,))
        database.commit()
    kept.rename(folder / f".{number}.part")
    asked.clear()
    wordsight.gather("cat", folder, sources=[source], limit=1)
    assert kept.exists() and not asked and not list(folder.glob(".*.part"))


def test_a_ledger_that_is_refused_stays_open_no_longer(tmp_path, monkeypatch):
    opened, connect = [], sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *of, **how: opened.append(connect(*of, **how)) or opened[-1]
    )
    ledger = Ledger(tmp_path)
    ledger.set("format", "0")
    ledger.close()
    with pytest.raises(wordsight.errors.InvalidArgument, match="another version"):
        Ledger(tmp_path)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[-1].execute("SELECT 1")


def test_a_power_failure_leaves_a_ledger_that_is_ours(tmp_path, cats_and_dogs):
    folder = tmp_path / "d"
    wordsight.gather("cat", folder, sources=[cats_and_dogs], limit=2)
    with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("INSERT INTO settings VALUES ('a', 'b')")
        database.commit()
        shutil.copytree(folder, tmp_path / "cut", ignore=shutil.ignore_patterns("*-shm"))
    assert (tmp_path / "cut" / f"{FILE}-wal").stat().st_size
    assert wordsight.gather("cat", tmp_path / "cut", sources=[cats_and_dogs], limit=3).kept
