"""The cache is damaged or can't be written: everything still works, and one line says so."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wordsight.backbones import runtime
from wordsight.backbones.cache import EmbeddingCache
from wordsight.backbones.networks.timm_models import untrained_module
from wordsight.backbones.registry import keep_module, load_backbone
from wordsight.core import home
from wordsight.core.tables import note_photos, noted_photos
from wordsight.errors import InvalidModel

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    """A small network as timm's `local-dir:`, and what it says of `PIXELS`."""
    folder = tmp_path_factory.mktemp("network")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORDSIGHT_HOME", str(folder / "home"))
        module, preprocessing = untrained_module("small_resnet", 3)
        backbone = keep_module(module.eval(), "small_resnet", preprocessing)
        shutil.copytree(backbone.folder, folder / "network")
        return folder / "network", encoded(backbone)


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(home, "_told", set())
    monkeypatch.setattr(home, "_scratch", [])
    return tmp_path / "home"


def encoded(backbone):
    return runtime.OpenVinoRuntime(backbone).encode(PIXELS).embedding


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.unlink()
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_lines(caplog):
    return [r.getMessage() for r in caplog.records if "damaged" in r.getMessage()]


PREPARED = ("backbone.json", "config.json", "model.safetensors")
COMPILED = ("network-3.xml", "network-3.bin", "*.blob")


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name in (*PREPARED, *COMPILED) for damage in (flip, Path.unlink)]
    + [("model.safetensors", empty), ("network-3.bin", cut)],
)
def test_damaged_prepared_files_are_made_anew(small_folder, own_home, caplog, name, damage):
    folder, expected = small_folder
    caplog.set_level(logging.INFO, logger="wordsight")
    backbone = load_backbone(f"local-dir:{folder}")
    assert caplog.text.count("Preparing the backbone") == 1  # it takes seconds
    np.testing.assert_array_equal(encoded(backbone), expected)
    (path,) = backbone.folder.rglob(name)
    os.chmod(path, 0o644)
    damage(path)
    again = load_backbone(f"local-dir:{folder}")
    np.testing.assert_array_equal(encoded(again), expected)
    if not (name == "*.blob" and damage is Path.unlink):  # an empty cache is no damaged one
        assert len(damage_lines(caplog)) == 1
    caplog.clear()
    np.testing.assert_array_equal(encoded(load_backbone(f"local-dir:{folder}")), expected)
    assert not caplog.records  # all is whole again


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"../..", b"0" * 32 + b"-" + b"0" * 16])
def test_damaged_index_is_made_anew(small_folder, own_home, text):
    folder, _ = small_folder
    backbone = load_backbone(f"local-dir:{folder}")
    (index,) = (own_home / "cache" / "backbones" / "names").iterdir()
    index.write_bytes(text)
    assert load_backbone(f"local-dir:{folder}").folder == backbone.folder
    assert index.read_text() == backbone.folder.name


@pytest.mark.parametrize("damaged", [False, True])
def test_folder_of_0_1_0_is_adopted_if_it_is_what_its_name_says(
    small_folder, own_home, caplog, damaged
):
    folder, expected = small_folder
    backbone = load_backbone(f"local-dir:{folder}")
    encoded(backbone)
    caplog.set_level(logging.INFO, logger="wordsight")
    for manifest in backbone.folder.glob("*.sha256"):
        manifest.unlink()
    for ours in backbone.folder.glob("network-3.*"):
        ours.rename(ours.with_name(ours.name.replace("-3", "")))
    (backbone.folder / "network.bin").write_bytes(b"other weights")
    if damaged:
        flip(backbone.folder / "model.safetensors")
    again = load_backbone(f"local-dir:{folder}")
    np.testing.assert_array_equal(encoded(again), expected)
    assert any("Preparing" in r.getMessage() for r in caplog.records) is damaged
    assert len(damage_lines(caplog)) == damaged


def test_unwritable_cache_keeps_nothing_and_says_so_once(small_folder, own_home, caplog):
    folder, expected = small_folder
    own_home.mkdir()
    (own_home / "cache").write_text("a file where the folder should be")
    for _ in range(2):
        np.testing.assert_array_equal(encoded(load_backbone(f"local-dir:{folder}")), expected)
    cache = EmbeddingCache()
    cache.put(b"s" * 32, "k", expected)
    np.testing.assert_array_equal(cache.get(b"s" * 32, "k"), expected)
    cache.close()
    note_photos(own_home, "predictions", ["photos"])
    lines = [r.getMessage() for r in caplog.records]
    assert len([line for line in lines if "nothing is kept there" in line]) == 1
    assert (own_home / "cache").read_text() == "a file where the folder should be"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "vit_giant_patch14_dinov2"}, "'vit_giant_patch14_dinov2'"),
        ({"architecture": "resnet152", "num_classes": 10**9}, "'resnet152'"),
        ({"model_args": {"in_chans": 10**6}}, "'model_args'"),
        ({"num_classes": 10**7}, "names a network of"),
    ],
)
def test_a_config_that_asks_for_a_huge_network_is_refused_before_it_is_built(
    small_folder, own_home, tmp_path, change, said
):
    folder = shutil.copytree(small_folder[0], tmp_path / "network")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidModel, match=said):
        load_backbone(f"local-dir:{folder}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_a_config_that_asks_for_huge_inputs_is_refused(small_folder, own_home, tmp_path):
    folder = shutil.copytree(small_folder[0], tmp_path / "network")
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 4096, 4096]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidModel, match="input of 4096"):
        load_backbone(f"local-dir:{folder}")


READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77; shift; exec "$@"'


@pytest.mark.slow  # two processes that start an engine; the test above is its fast sibling
def test_predict_in_a_read_only_home(fresh_home, shapes_model, other_shapes, tmp_path):
    arguments = [sys.executable, "-m", "wordsight", "predict", str(other_shapes)]
    arguments += ["-m", str(shapes_model), "-o", str(tmp_path / "results")]
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(fresh_home), *arguments],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode in (1, 77) and "Results" not in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("nothing is kept there") == 1
    assert (tmp_path / "results" / "report.html").is_file()


def filled(path: Path, count: int = 400) -> None:
    cache = EmbeddingCache(path)
    for i in range(count):
        cache.put(i.to_bytes(32, "big"), "k", np.full(300, i, np.float32))
    cache.close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def test_no_flipped_bit_in_the_embeddings_gives_another_answer(tmp_path, caplog):
    filled(tmp_path / "whole.sqlite")
    whole = (tmp_path / "whole.sqlite").read_bytes()
    rng = np.random.default_rng(0)
    for turn in range(25):
        data = bytearray(whole)
        for place in rng.integers(100, len(data), 40):
            data[place] ^= 1 << rng.integers(8)
        path = tmp_path / f"{turn}.sqlite"
        path.write_bytes(data)
        cache = EmbeddingCache(path)
        for i in range(0, 400, 7):
            found = cache.get(i.to_bytes(32, "big"), "k")
            assert found is None or (found.shape == (300,) and (found == i).all())
            if found is None:
                cache.put(i.to_bytes(32, "big"), "k", np.full(300, i, np.float32))
        cache.close()
    assert damage_lines(caplog)


def test_damaged_entry_is_replaced_and_said_once(tmp_path, caplog):
    filled(tmp_path / "c.sqlite", 3)
    database = sqlite3.connect(tmp_path / "c.sqlite")
    database.execute("UPDATE entries SET value = substr(value, 1, 700) WHERE id <= 2")
    database.commit()
    database.close()
    cache = EmbeddingCache(tmp_path / "c.sqlite")
    assert cache.get((0).to_bytes(32, "big"), "k") is None
    assert cache.get((1).to_bytes(32, "big"), "k") is None
    assert cache.get((2).to_bytes(32, "big"), "k") is not None
    cache.put((0).to_bytes(32, "big"), "k", np.zeros(300, np.float32))
    cache.close()
    assert len(damage_lines(caplog)) == 1
    caplog.clear()
    cache = EmbeddingCache(tmp_path / "c.sqlite")
    assert cache.get((0).to_bytes(32, "big"), "k") is not None
    assert not damage_lines(caplog)
    cache.close()


def test_damaged_database_starts_afresh(tmp_path, caplog):
    filled(tmp_path / "c.sqlite")
    cut(tmp_path / "c.sqlite")
    cache = EmbeddingCache(tmp_path / "c.sqlite")
    for i in range(400):
        cache.get(i.to_bytes(32, "big"), "k")
    cache.put(b"new" * 8, "k", np.ones(3, np.float32))
    cache.close()
    assert "starts afresh" in damage_lines(caplog)[0]
    assert EmbeddingCache(tmp_path / "c.sqlite").get(b"new" * 8, "k") is not None


def test_entries_of_0_1_0_are_dropped(tmp_path):
    database = sqlite3.connect(tmp_path / "c.sqlite")
    database.execute("CREATE TABLE embeddings (id INTEGER PRIMARY KEY, key, sha, value)")
    database.execute("INSERT INTO embeddings VALUES (1, 'k', x'00', x'00')")
    database.commit()
    database.close()
    cache = EmbeddingCache(tmp_path / "c.sqlite")
    assert cache.get(b"\0", "k") is None and len(cache) == 0
    cache.close()


def test_noted_photos_survive_damage(own_home, tmp_path):
    note_photos(tmp_path, "predictions", ["photos"])
    (note,) = (own_home / "cache" / "photos").iterdir()
    note.write_bytes(b"\0\0")
    assert noted_photos(tmp_path, "predictions") is None


@pytest.mark.parametrize("write", ["bytes", "text"])
def test_written_files_are_on_the_disk_before_they_get_their_name(tmp_path, monkeypatch, write):
    steps = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("name"), replace(*paths)))
    if write == "bytes":
        home.write_atomic(tmp_path / "a", b"1")
    else:
        with home.atomic_text(tmp_path / "a") as file:
            file.write("1")
    assert steps == ["sync", "name"] and (tmp_path / "a").read_bytes() == b"1"


def test_what_killed_processes_were_building_is_swept_after_an_hour(monkeypatch, tmp_path):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    photos = tmp_path / "cache" / "photos"
    left = [photos / ".building-x", photos / ".0123456789ab.part", photos / ".young.part"]
    left[0].mkdir(parents=True)
    for path in left[1:]:
        path.touch()
    for path in left[:2]:
        os.utime(path, (1, 1))
    note_photos(tmp_path / "out", "predictions", ["photos"])
    assert [path.exists() for path in left] == [False, False, True]
    assert noted_photos(tmp_path / "out", "predictions") == ["photos"]
