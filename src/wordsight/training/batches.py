"""Images into batches: read once, kept at the network's size, shuffled, and augmented for
training. Torch data sets and samplers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from ..backbones.embedder import input_pixels, read
from ..backbones.preprocessing import Preprocessing
from ..core.progress import Progress
from ..core.threads import cores, map_if_worth
from ..datasets.files import ImageFile
from ..errors import UnreadableImage
from ..images.decoding import decode

KEPT_BYTES = 2 << 30  # decoded images kept in memory; those beyond are decoded anew each epoch
# pixels; of smaller images, GROUP are augmented alike, because a single one costs as much
SMALL_SIDE = 64
GROUP = 8


@dataclass
class Sized:
    """One readable image.

    Attributes:
        file: where it is, and its label.
        sha256: hash of the file's bytes, 64 hex digits.
        size: (height, width) of its input.
        pixels: (height, width, 3) uint8, or None where memory didn't do.
    """

    file: ImageFile
    sha256: str
    size: tuple[int, int]
    pixels: np.ndarray | None

    def load(self, preprocessing: Preprocessing) -> np.ndarray:
        """Return the pixels, decoded anew where memory didn't do.

        Raises:
            UnreadableImage: if the file has changed since.
        """
        if self.pixels is not None:
            return self.pixels
        pixels = input_pixels(decode(read(self.file)[0]), preprocessing)
        if pixels.shape[:2] != self.size:
            raise UnreadableImage(f"'{self.file.name}' changed while it was learned from")
        return pixels


def load_images(
    files: Sequence[ImageFile], preprocessing: Preprocessing, progress: Progress | None = None
) -> tuple[list[Sized], list[tuple[str, str]]]:
    """Decode images to the network's size; return those that can be read, and (name, reason)
    of the others.
    """

    def load(file: ImageFile) -> Sized | tuple[str, str]:
        try:
            data, sha = read(file)
            pixels = input_pixels(decode(data), preprocessing)
        except UnreadableImage as error:
            return file.name, str(error)
        return Sized(file, sha.hex(), pixels.shape[:2], pixels)

    good, bad, held = [], [], 0
    loaded = map_if_worth(load, files, cores() + 1)
    for number, item in enumerate(loaded, start=1):
        if isinstance(item, Sized):
            assert item.pixels is not None
            held += item.pixels.nbytes
            if held > KEPT_BYTES:
                item.pixels = None
            good.append(item)
        else:
            bad.append(item)
        if progress:
            progress(number, len(files), "pictures")
    return good, bad


class Images(Dataset):
    """Batches by request (indices, seed): pixels (n, 3, h, w) uint8 and labels (n,) int64. One
    batch holds one size.

    Args:
        items: the images.
        labels: (n,) class indices.
        preprocessing: for images that are decoded anew.
        augment: what changes a training image, or None.
    """

    def __init__(
        self,
        items: list[Sized],
        labels: np.ndarray,
        preprocessing: Preprocessing,
        augment: v2.Transform | None = None,
    ) -> None:
        self.items, self.labels, self.preprocessing, self.augment = (
            items,
            torch.from_numpy(labels),
            preprocessing,
            augment,
        )

    def __getitem__(self, request: tuple[list[int], int]) -> tuple[torch.Tensor, torch.Tensor]:
        indices, seed = request
        # (n, h, w, 3) -> (n, 3, h, w)
        pixels = torch.from_numpy(
            np.stack([self.items[i].load(self.preprocessing) for i in indices])
        ).permute(0, 3, 1, 2)
        if self.augment is not None:
            pixels = self._augment(pixels, seed)
        return pixels, self.labels[indices]

    def _augment(self, pixels: torch.Tensor, seed: int) -> torch.Tensor:
        """Change images at random, in a way that the seed alone decides."""
        assert self.augment is not None
        step = GROUP if max(pixels.shape[2:]) <= SMALL_SIDE else 1
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the work on one image is too small to be shared
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return torch.cat(
                    [self.augment(pixels[i : i + step]) for i in range(0, len(pixels), step)]
                )
        finally:
            torch.set_num_threads(threads)


class SizedBatches(Sampler):
    """Requests for `Images`: batches of one size each, in an order that seed and epoch decide.

    Args:
        sizes: (height, width) of each image.
        batch_size: images a batch, at most.
        seed: None keeps the order, for validation.
        rank, ranks: this process among several; each gets as many batches as the others.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.batch_size, self.seed, self.rank, self.ranks, self.epoch = (
            batch_size,
            seed,
            rank,
            ranks,
            0,
        )
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, size in enumerate(sizes):
            by_size[size].append(index)
        self._by_size = [by_size[size] for size in sorted(by_size)]
        self._count = sum(-(-len(group) // batch_size) for group in self._by_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self._count // self.ranks)

    def __iter__(self) -> Iterator[tuple[list[int], int]]:
        rng = np.random.default_rng([self.seed or 0, self.epoch])
        batches = []
        for group in self._by_size:
            order = group if self.seed is None else rng.permutation(group).tolist()
            batches += [
                order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)
            ]
        if self.seed is not None:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        batches += batches[: -len(batches) % self.ranks]
        for batch in batches[self.rank :: self.ranks]:
            yield batch, int(rng.integers(2**31))


def loader(dataset: Images, batches: SizedBatches, workers: int = 0) -> DataLoader:
    """Return the loader that Lightning takes; `workers` processes decode and augment, or this
    one does.
    """
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )


def augmentation() -> v2.Transform:
    """Return what the classic works do to a training image: flip, turn, shift, shear and
    zoom, all a little.
    """
    affine = v2.RandomAffine(
        degrees=15,
        translate=(0.1, 0.1),
        scale=(0.8, 1.2),
        shear=10,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=127,
    )
    return v2.Compose([v2.RandomHorizontalFlip(), affine])
