"""Batches: one size each, an order that the seed decides, shared fairly, and changed for
training only.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wordsight.backbones.preprocessing import Preprocessing  # noqa: E402
from wordsight.core.records import RECORD  # noqa: E402
from wordsight.core.result_folder import ResultFolder  # noqa: E402
from wordsight.datasets.files import ImageFile  # noqa: E402
from wordsight.datasets.labelled import read_labelled  # noqa: E402
from wordsight.errors import InvalidModel  # noqa: E402
from wordsight.training.batches import Images, Sized, SizedBatches, augmentation, load_images  # noqa: E402
from wordsight.training.checkpoints import SafeCheckpoints  # noqa: E402

SQUARE = Preprocessing((32, 32), (0.0,) * 3, (1.0,) * 3, "bilinear", "squash")
SIZES = [(32, 32)] * 10 + [(32, 64)] * 5


def test_a_batch_holds_one_size_and_a_pass_holds_every_image():
    batches = [indices for indices, _ in SizedBatches(SIZES, 4, seed=0)]
    assert sorted(i for batch in batches for i in batch) == list(range(15))
    assert all(len({SIZES[i] for i in batch}) == 1 for batch in batches)


def test_seed_and_epoch_decide_the_order():
    first, again = SizedBatches(SIZES, 4, seed=3), SizedBatches(SIZES, 4, seed=3)
    assert list(first) == list(again)
    again.set_epoch(1)
    assert list(first) != list(again)
    # for validation: as they come
    assert [i for batch, _ in SizedBatches(SIZES, 4) for i in batch] == list(range(15))


def test_processes_share_the_batches_and_get_equally_many():
    parts = [list(SizedBatches(SIZES, 4, seed=1, rank=rank, ranks=2)) for rank in range(2)]
    assert len(parts[0]) == len(parts[1]) == len(SizedBatches(SIZES, 4, seed=1, rank=0, ranks=2))
    assert {i for part in parts for batch, _ in part for i in batch} == set(range(15))


def images(augment=None):
    rng = np.random.default_rng(0)
    items = [
        Sized(
            ImageFile(None, str(i)),
            "",
            (32, 32),
            rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
        )
        for i in range(12)
    ]
    return Images(items, np.arange(12), SQUARE, augment)


def test_augmentation_changes_training_images_by_seed_alone():
    plain, changed = images(), images(augmentation())
    indices = list(range(12))
    one, labels = changed[indices, 5]
    assert labels.tolist() == indices and one.dtype == torch.uint8 and one.shape == (12, 3, 32, 32)
    assert torch.equal(one, changed[indices, 5][0]) and not torch.equal(one, changed[indices, 6][0])
    assert not torch.equal(one, plain[indices, 5][0]) and torch.equal(
        plain[indices, 5][0], plain[indices, 6][0]
    )


def test_augmentation_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    images(augmentation())[[0, 1], 9]
    assert torch.equal(torch.get_rng_state(), before)


def test_images_beyond_the_memory_are_decoded_anew(shapes, monkeypatch):
    files = read_labelled(shapes).images
    kept, _ = load_images(files, SQUARE)
    monkeypatch.setattr("wordsight.training.batches.KEPT_BYTES", 5 * 32 * 32 * 3)
    thin, bad = load_images(files, SQUARE)
    assert not bad and sum(item.pixels is not None for item in thin) == 5
    labels = np.zeros(len(files), int)
    everything = list(range(len(files)))
    assert torch.equal(
        Images(thin, labels, SQUARE)[everything, 0][0],
        Images(kept, labels, SQUARE)[everything, 0][0],
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    state = {
        "a": shared,
        "b": shared[0],
        "n": {3: [1, 2.5, None, True, "x"], "t": (shared.to(torch.bfloat16), ())},
    }
    with ResultFolder(tmp_path / "sub", "training").build() as build:
        SafeCheckpoints(build).save_checkpoint(state, tmp_path / "sub" / "c.ckpt")
    back = SafeCheckpoints().load_checkpoint(tmp_path / "sub" / "c.ckpt")
    assert (
        torch.equal(back["a"], shared)
        and torch.equal(back["b"], shared[0])
        and back["n"][3] == state["n"][3]
    )
    assert isinstance(back["n"]["t"], tuple) and back["n"]["t"][0].dtype == torch.bfloat16
    assert {p.name for p in (tmp_path / "sub").iterdir()} == {RECORD, "c.ckpt"}


def test_a_checkpoint_holds_no_code_and_a_foreign_file_is_refused(tmp_path):
    with (
        pytest.raises(TypeError, match="cannot hold"),
        ResultFolder(tmp_path / "sub", "training").build() as build,
    ):
        SafeCheckpoints(build).save_checkpoint({"f": print}, tmp_path / "sub" / "c.ckpt")
    (tmp_path / "d.ckpt").write_bytes(b"\x80\x04junk")
    with pytest.raises(InvalidModel, match="can't be read"):
        SafeCheckpoints().load_checkpoint(tmp_path / "d.ckpt")
