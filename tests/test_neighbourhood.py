"""Where training pictures lie: strangers are told, a pictures' own kind is not."""

from __future__ import annotations

import numpy as np

from test_head import blobs
from wordsight.heads.novelty import fit_neighbourhood


def test_neighbourhood_turns_away_strangers_and_few_of_its_own():
    x, y = blobs((100, 100))
    near = fit_neighbourhood(x, y)
    own, _ = blobs((100, 100), seed=0)
    strangers = np.random.default_rng(9).normal(4, 1, (100, 64)).astype(np.float32)
    assert (near.familiarity(own) < near.limit).mean() < 0.05
    assert (near.familiarity(strangers) < near.limit).mean() > 0.99


def test_the_limit_turns_away_two_percent_of_what_it_is_learned_from():
    x, y = blobs((300, 300))
    held, _ = blobs((200, 200), seed=3)
    near = fit_neighbourhood(x, y, held_out=held)
    assert 0.01 <= (near.familiarity(held) < near.limit).mean() <= 0.03


def test_what_the_imagenet_head_says_is_a_second_view():
    rng = np.random.default_rng(1)
    x, y = blobs((60, 60))
    concept_head = (
        rng.normal(0, 1, (1000, x.shape[1])).astype(np.float32),
        np.zeros(1000, np.float32),
    )
    one, two = fit_neighbourhood(x, y), fit_neighbourhood(x, y, concept_head=concept_head)
    assert len(one.scales) == 1 and len(two.scales) == 2 and two.concepts.shape == (120, 1000)
    assert np.allclose(np.linalg.norm(two.concepts, axis=1), 1, atol=1e-3)
    # a head that knows nothing adds nothing
    shuffled = fit_neighbourhood(x, y, concept_head=(concept_head[0] * 0, concept_head[1]))
    assert np.array_equal(np.argsort(shuffled.familiarity(x)), np.argsort(one.familiarity(x)))


def test_many_references_are_thinned_in_a_way_the_seed_decides():
    x, y = blobs((600, 600))
    assert len(fit_neighbourhood(x, y).references) == 512
    assert np.array_equal(
        fit_neighbourhood(x, y, 1).references, fit_neighbourhood(x, y, 1).references
    )
