"""The index of neighbours: exact while few, and nearly so when there are many."""

from __future__ import annotations

import gc
import io

import numpy as np
import pytest

from wordsight.core.home import cache_folder
from wordsight.errors import OutputError
from wordsight.heads import neighbours, rows as rows_of
from wordsight.heads.linear import normalize
from wordsight.heads.neighbours import Neighbours

WIDTH = 96


def made_up(count, seed=0, copies=50):
    """Return rows in clumps, and pairs of them of which the second is nearly a copy."""
    rng = np.random.default_rng(seed)
    middles = rng.standard_normal((40, WIDTH))
    rows = middles[rng.integers(40, size=count)] + 0.7 * rng.standard_normal((count, WIDTH))
    pairs = rng.permutation(count)[: 2 * copies].reshape(-1, 2)
    rows[pairs[:, 1]] = rows[pairs[:, 0]] + 0.1 * rng.standard_normal((copies, WIDTH))
    return rows.astype(np.float32), np.sort(pairs, axis=1)


def chunks_of(rows, size=700):
    return (rows[top : top + size] for top in range(0, len(rows), size))


def all_cosines(rows):
    cosines = normalize(rows) @ normalize(rows).T
    np.fill_diagonal(cosines, -2)
    return cosines


@pytest.fixture(params=["few", "many"])
def size(request, monkeypatch):
    """Whether the rows count as few, in memory, or as many, in a file and in cells."""
    if request.param == "many":
        monkeypatch.setattr(neighbours, "FEW", 1000)
        monkeypatch.setattr(rows_of, "FEW", 1000)
    return request.param


def test_nearest_gives_what_comparing_all_gives(size):
    rows, _ = made_up(3000)
    index = Neighbours(chunks_of(rows))
    assert len(index) == 3000
    places, cosines = index.nearest(rows[7] * 3, 20)
    expected = normalize(rows) @ normalize(rows[7:8])[0]
    assert places[0] == 7 and cosines[0] == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(cosines, np.sort(expected)[::-1][:20], atol=1e-3)
    np.testing.assert_allclose(expected[places], cosines, atol=1e-3)


def test_pairs_of_few_are_those_of_every_row_with_its_nearest():
    rows, planted = made_up(1500)
    rows = rows[:, :60]  # no more than the directions that are searched, so nothing is left out
    pairs, cosines = Neighbours(chunks_of(rows)).pairs(6, 0.3)
    every = all_cosines(rows)
    nearest = np.argsort(-every, axis=1)[:, :6]
    expected = {
        (min(a, b), max(a, b))
        for a in range(1500)
        for b in nearest[a].tolist()
        if every[a, b] >= 0.3
    }
    assert {tuple(pair) for pair in pairs.tolist()} == expected
    np.testing.assert_allclose(cosines, every[pairs[:, 0], pairs[:, 1]], atol=1e-5)
    assert pairs.tolist() == sorted(pairs.tolist()) and (pairs[:, 0] < pairs[:, 1]).all()
    assert {tuple(pair) for pair in planted.tolist()} <= expected


def test_pairs_of_many_miss_hardly_any(monkeypatch):
    rows, planted = made_up(30_000, copies=1000)
    pairs, cosines = Neighbours(chunks_of(rows, 4096)).pairs(6, 0.9)
    found = {tuple(pair) for pair in pairs.tolist()}
    hits = sum(tuple(pair) in found for pair in planted.tolist())
    assert hits >= 990
    unit = normalize(rows)
    np.testing.assert_allclose(
        cosines, np.einsum("ij,ij->i", unit[pairs[:, 0]], unit[pairs[:, 1]]), atol=2e-3
    )
    assert (cosines >= 0.9).all()


def test_equal_rows_have_each_other(size):
    rows, _ = made_up(2000)
    rows[500:540] = rows[3]
    pairs, cosines = Neighbours(chunks_of(rows)).pairs(6, 0.999)
    within = {3, *range(500, 540)}
    assert len(pairs) and set(pairs.ravel().tolist()) == within
    np.testing.assert_allclose(cosines, 1, atol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_next_to_no_rows(count):
    rows = np.eye(4, dtype=np.float32)[:count]
    index = Neighbours(chunks_of(rows))
    assert len(index) == count and len(index.pairs(6, -1.0)[0]) == max(0, count - 1)
    assert len(index.nearest(np.ones(4, dtype=np.float32), 5)[0]) == count


def test_what_is_given_stays_as_it_is_and_the_file_is_gone(size, fresh_home):
    rows, _ = made_up(2000)
    before = rows.copy()
    index = Neighbours(chunks_of(rows))
    index.pairs(3, 0.5)
    assert (rows == before).all()
    del index
    gc.collect()
    assert not list(cache_folder().glob("tmp*"))


def test_a_full_disk_is_said(monkeypatch, fresh_home):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(rows_of, "FEW", 10)
    monkeypatch.setattr(rows_of.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(OutputError, match="No space left"):
        Neighbours(chunks_of(made_up(100)[0]))
