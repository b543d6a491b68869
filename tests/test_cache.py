from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from wordsight.backbones.cache import EmbeddingCache


def sha(i: int) -> bytes:
    return i.to_bytes(32, "big")


def test_put_get_survives_reopening(tmp_path):
    path = tmp_path / "c.sqlite"
    cache = EmbeddingCache(path)
    cache.put(sha(1), "k", np.arange(5, dtype=np.float32))
    assert cache.get(sha(1), "k").tolist() == [0, 1, 2, 3, 4]
    cache.close()
    again = EmbeddingCache(path)
    assert again.get(sha(1), "k").tolist() == [0, 1, 2, 3, 4]
    assert again.get(sha(1), "other backbone") is None and again.get(sha(2), "k") is None
    assert again.clear() == 1 and len(again) == 0


def test_size_is_limited_and_the_oldest_go_first(tmp_path):
    cache = EmbeddingCache(tmp_path / "c.sqlite", max_bytes=4 << 20)
    for i in range(3000):
        cache.put(sha(i), "k", np.zeros(1280, np.float32))
    cache.flush()
    assert cache.get(sha(0), "k") is None and cache.get(sha(2999), "k") is not None
    assert 200 < len(cache) < 900


def _fill(path, start):
    cache = EmbeddingCache(path)
    for i in range(start, start + 600):
        cache.put(sha(i), "k", np.full(100, i, np.float32))
        if i % 50 == 0:
            cache.flush()
    cache.close()


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_fill, args=(tmp_path / "c.sqlite", start)) for start in (0, 300)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    cache = EmbeddingCache(tmp_path / "c.sqlite")
    assert len(cache) == 900
    assert all(cache.get(sha(i), "k")[0] == i for i in range(900))
    cache.close()


def test_kill_leaves_only_whole_entries(tmp_path):
    code = (
        "import sys, itertools, numpy as np; from pathlib import Path; from "
        "wordsight.backbones.cache import EmbeddingCache\n"
        "cache = EmbeddingCache(Path(sys.argv[1])); print('go', flush=True)\n"
        "for i in itertools.count():\n    cache.put(i.to_bytes(32, 'big'), 'k', "
        "np.full(1280, i, np.float32)); i % 7 or cache.flush()\n"
    )
    path = tmp_path / "c.sqlite"
    for delay in (0.05, 0.2, 0.4):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        cache = EmbeddingCache(path)
        assert len(cache) > 0
        assert all(np.all(cache.get(sha(i), "k") == i) for i in range(len(cache)))
        cache.close()


def test_a_file_that_is_no_database_is_replaced(tmp_path):
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    cache = EmbeddingCache(path)
    cache.put(sha(1), "k", np.ones(3, np.float32))
    cache.close()
    assert len(EmbeddingCache(path)) == 1


def test_no_file_stays_open(tmp_path, monkeypatch):
    opened, connect = [], sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *of, **how: opened.append(connect(*of, **how)) or opened[-1]
    )
    (tmp_path / "damaged.sqlite").write_bytes(b"this is no database at all" * 100)
    cache = EmbeddingCache(tmp_path / "damaged.sqlite")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
    cache.close()
    cache = EmbeddingCache(tmp_path / "forgotten.sqlite")
    opened[-1].execute("SELECT 1")
    del cache
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[-1].execute("SELECT 1")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX")
def test_a_place_that_cannot_be_written_fails_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file" / "c.sqlite")
    cache.put(sha(1), "k", np.ones(3, np.float32))
    assert cache.get(sha(1), "k").tolist() == [1, 1, 1]
    cache.close()


def test_a_damaged_cache_is_cleared_and_replaced(tmp_path):
    path = tmp_path / "c.sqlite"
    cache = EmbeddingCache(path)
    for i in range(500):
        cache.put(sha(i), "k", np.ones(1280, np.float32))
    cache.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\x55" * (len(data) - 4096)
    path.write_bytes(data)
    cache = EmbeddingCache(path)
    assert cache.get(sha(1), "k") is None and len(cache) == 0 and cache.clear() == 0
    cache.put(sha(1), "k", np.ones(3, np.float32))
    cache.close()
    assert len(EmbeddingCache(path)) == 1
