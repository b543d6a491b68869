"""How an image's pixels become a network's input. No pixel is touched here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

STRIDE = 32
LARGEST_SIDE = 1024  # of an input, pixels; larger ones take GiB


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input.

    Attributes:
        image_size: (height, width) of a square image's input.
        mean, std: per RGB channel, in units where a pixel is 0–1.
        interpolation: "bicubic", "bilinear", "lanczos" or "nearest".
        fit: "area" keeps the aspect ratio and about the same number of pixels, sides in multiples
            of 32; "squash" always gives exactly `image_size`. Neither cuts anything off.
    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    fit: str

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the network's input (height, width) for an image of (height, width) `size`."""
        if self.fit == "squash":
            return self.image_size
        # square root of the aspect ratio
        stretch = min(max(math.sqrt(size[0] / size[1]), 0.5), 2.0)
        height = max(1, round(self.image_size[0] * stretch / STRIDE)) * STRIDE
        width = max(1, round(self.image_size[1] / stretch / STRIDE)) * STRIDE
        return height, width

    def same_network(self, other: Preprocessing) -> bool:
        """Whether one compiled network serves both: it includes the scaling and a fixed size."""
        fixed = self.fit == "area" or self.image_size == other.image_size
        return (self.mean, self.std, self.fit) == (other.mean, other.std, other.fit) and fixed

    def scaled(self, scale: float) -> Preprocessing:
        """Return the same with sides `scale` times as long, in multiples of 32."""
        height, width = (max(1, round(side * scale / STRIDE)) * STRIDE for side in self.image_size)
        return replace(self, image_size=(height, width))

    def with_side(self, side: int) -> Preprocessing:
        """Return the same for images of as many pixels as a square of `side` has, where the network
        takes any size.
        """
        return replace(self, image_size=(side, side)) if self.fit == "area" else self

    @classmethod
    def from_dict(cls, values: dict) -> Preprocessing:
        """Read what `dataclasses.asdict` and JSON made of it."""
        height, width = (int(side) for side in values["image_size"])
        mean, std = (tuple(float(v) for v in values[key]) for key in ("mean", "std"))
        if (
            not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE)
            or len(mean) != 3
            or len(std) != 3
            or min(std) <= 0
        ):
            raise ValueError("preprocessing out of range")
        if values["fit"] not in ("area", "squash"):
            raise ValueError(f"fit {values['fit']!r}")
        if values["interpolation"] not in ("bicubic", "bilinear", "lanczos", "nearest"):
            raise ValueError(f"interpolation {values['interpolation']!r}")
        return cls((height, width), mean, std, str(values["interpolation"]), values["fit"])
