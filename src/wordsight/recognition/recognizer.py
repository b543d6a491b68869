"""Recognise one image with a pretrained network: its classes, groups of them, and where they are,
in one pass or with a closer look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedder
from ..backbones.encoding import Encoding
from ..backbones.registry import load_backbone
from ..classification.model_folder import check_threshold
from ..errors import InvalidArgument
from ..heads.linear import softmax
from ..heatmaps.heatmap import HeatmapSettings, extent_of, look
from ..heatmaps.one_pass import MASK_THRESHOLD, heatmap_box
from ..heatmaps.window_features import can_be_dense, look_through, network_scale, tighten, within
from ..heatmaps.windows import Level, pyramid, window_means
from ..images.decoding import MAX_LONGEST, MIN_LONGEST, Photo, decode, header
from .imagenet_classes import KnownClasses, known_classes

# on 200 ImageNet photos and eight groups the closer look then claims 0.7 % that are not there; at
# 0.5 it claims 1.6 %
THRESHOLD = 0.75
# share of a group in the whole image from which a closer look may find it; from less it found
# nothing on 228 photos but likenesses: birds where there are monkeys
UNDECIDED = 0.005
# of the image's shorter side: what the closer look sees at once, at the network's own input size
WINDOW = 1 / 2
# of the window: where all windows share one pass, and where each needs one of its own
STEP, CROP_STEP = 1 / 4, 1 / 2
SMALLEST_WINDOW = 32  # pixels; smaller ones show nothing that the whole does not
FLATTEST = 6  # times as long as wide: of flatter images windows grow with the longer side
MOST_GROUPS = 20

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Guess:
    """One class of the network.

    Attributes:
        wnid: its WordNet id, such as "n04335435".
        name: its most usual name.
        probability: 0–1.
    """

    wnid: str
    name: str
    probability: float


@dataclass
class Seen:
    """One image, or a part of one, after one pass.

    Attributes:
        photo: what was looked at.
        probabilities: (classes,) float.
        encoding: its embedding and feature maps, as far as the network has them.
        maps: heat maps made so far, by their classes.
    """

    photo: Photo
    probabilities: np.ndarray
    encoding: Encoding
    maps: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict)


@dataclass
class Answer:
    """How likely a group is at one place.

    Attributes:
        probability: of the group.
        probabilities: (classes,) there.
        box: `xyxy` in pixels, or None.
    """

    probability: float
    probabilities: np.ndarray
    box: Box | None = None


class Recognizer:
    """A network with the groups that are looked for.

    Args:
        groups: words of WordNet, or ids; several may stand in one, with commas between.
        threshold: probability from which a group is found, 0–1.
        backbone: name of the network.

    Raises:
        InvalidArgument: for too many groups, one twice, a threshold out of range, a network without
            ImageNet's classes.
        UnknownWord: if the network doesn't know a group.
    """

    def __init__(
        self,
        groups: Iterable[str] = (),
        threshold: float = THRESHOLD,
        backbone: str | Backbone = DEFAULT_BACKBONE,
    ) -> None:
        names = [
            name.strip()
            for given in ([groups] if isinstance(groups, str) else groups)
            for name in given.split(",")
        ]
        if len(names) > MOST_GROUPS or len(set(names)) < len(names):
            raise InvalidArgument(
                f"Name each group once, and at most {MOST_GROUPS} of them; got {', '.join(names)}."
            )
        self.threshold = check_threshold(threshold)
        network = load_backbone(backbone)
        self.known: KnownClasses = known_classes(network)
        self.groups = {name: self.known.group(name) for name in names}
        self.embedder = Embedder(network)

    def see(self, photo: Photo) -> Seen:
        """Look at an image once, whole."""
        encoding = self.embedder.encode(photo, feature_map=True)
        return Seen(photo, self.known.probabilities(encoding.embedding[None])[0], encoding)

    def share(self, probabilities: np.ndarray, group: str) -> float:
        """Return the summed probability of a group, of probabilities (classes,)."""
        return float(probabilities[list(self.groups[group])].sum())

    def guesses(
        self, probabilities: np.ndarray, count: int, among: tuple[int, ...] | None = None
    ) -> list[Guess]:
        """Return the likeliest classes, of all or of some."""
        indices = np.arange(len(self.known)) if among is None else np.array(among)
        order = indices[np.argsort(-probabilities[indices], kind="stable")[:count]]
        return [
            Guess(self.known.wnids[i], self.known.words[i][0], float(probabilities[i]))
            for i in order
        ]

    def heatmap(self, seen: Seen, indices: tuple[int, ...]) -> np.ndarray:
        """Return where the network looked for some classes together, (h, w), 0–1."""
        if indices not in seen.maps:
            seen.maps[indices] = look(
                seen.photo,
                self.embedder,
                self.known.direction(seen.probabilities, indices),
                HeatmapSettings(),
                seen.encoding.feature_map,
            )
        return seen.maps[indices]

    def locate(self, seen: Seen, group: str) -> tuple[np.ndarray, Box | None]:
        """Return the heat map of a group in the whole image, and the box around the strongest
        region of its extent.
        """
        grid = self.heatmap(seen, self.groups[group])
        reach = extent_of(grid, seen.encoding)
        box = heatmap_box(grid if reach is None else reach, seen.photo.size, MASK_THRESHOLD)
        return grid, None if box is None else (box[0], box[1], box[2], box[3])

    def levels(self, size: tuple[int, int]) -> list[Level]:
        """Return the windows of the closer look for an image of (height, width) `size`: none
        for a very small one.
        """
        side = max(min(size) * WINDOW, max(size) / (2 * FLATTEST))
        if side < SMALLEST_WINDOW:
            return []
        step = side * (STEP if can_be_dense(self.embedder.backbone) else CROP_STEP)
        return pyramid(size, (side, side), (step, step), 1.5, 1)

    def decode(self, data: bytes) -> Photo:
        """Decode an image file as finely as the closer look needs it.

        Raises:
            UnreadableImage: if it can't be read.
        """
        size = header(data)[1]
        levels = self.levels(size)
        scale = min(1.0, network_scale(levels[0].window, self.embedder.backbone)) if levels else 1.0
        least = max(MIN_LONGEST, math.ceil(max(size) * scale))
        return decode(data, (least, max(least, MAX_LONGEST)))

    def undecided(self, probabilities: np.ndarray) -> list[str]:
        """Return the groups that a whole image of these probabilities (classes,) shows perhaps."""
        return [
            name
            for name in self.groups
            if UNDECIDED <= self.share(probabilities, name) < self.threshold
        ]

    def look_closer(self, photo: Photo, groups: Iterable[str]) -> dict[str, Answer]:
        """Return for each of some groups its surest window."""
        wanted = {name: self.groups[name] for name in groups}
        best: dict[str, Answer] = {}
        levels = self.levels(photo.size)
        for _, part, view in (
            look_through(photo.image, photo.size, self.embedder, levels, len(self.known))
            if levels
            else ()
        ):
            # (classes, C) . (C, h, w) -> (classes, h, w)
            evidence = np.tensordot(self.known.weight, view.features, axes=1)
            # (classes, a, b)
            logits = (
                window_means(evidence, view.rows, view.columns) + self.known.bias[:, None, None]
            )
            shape = logits.shape[1:]
            # -> (windows, classes)
            probabilities = softmax(logits.reshape(len(logits), -1).T / self.known.temperature)
            for name, indices in wanted.items():
                shares = probabilities[:, list(indices)].sum(axis=1)
                window = int(shares.argmax())
                if name in best and best[name].probability >= shares[window]:
                    continue
                direction = self.known.direction(probabilities[window], indices)
                box = tuple(part.boxes()[window].tolist())
                inside, frame = within(
                    view,
                    direction,
                    np.tensordot(direction, view.features, axes=1),
                    window,
                    (shape[0], shape[1]),
                    part.boxes()[window],
                )
                x_min, y_min, x_max, y_max = tighten(box, inside, frame, MASK_THRESHOLD)
                best[name] = Answer(
                    float(shares[window]), probabilities[window], (x_min, y_min, x_max, y_max)
                )
        return best
