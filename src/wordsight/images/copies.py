"""Find all pairs of copies among many images, by perceptual hash and corners.

The hash finds copies that are smaller, compressed, grey or framed. Of images whose embeddings are
near (`heads.neighbours`), thumbnails confirm mirrored copies, and corners confirm cropped ones and
those with writing.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np

MAX_BITS = 8  # of 63; flipping two bits in one of three bands finds every such pair
# of the square roots of two embeddings; above it the images are compared
PERHAPS_COSINE = 0.74
MIN_CORNERS = 26  # that must agree in a copy
NEIGHBOURS = 6  # of each image that are compared
BANDS = 3


def hash_pairs(bits: np.ndarray, max_bits: int = MAX_BITS) -> np.ndarray:
    """Return every pair whose hashes differ in at most `max_bits` (8 or fewer), in nearly linear
    time.

    Each hash is cut into three bands of 21 bits. If two hashes differ in at most 8 bits, at least
    one band differs in at most two, so every band is looked up with every choice of up to two bits
    flipped (multi-index hashing, Norouzi et al. 2012).

    Args:
        bits: (n, 8) uint8, the first bit unused.
        max_bits: how many of the 63 bits may differ.

    Returns:
        (pairs, 2) int, the smaller index first, sorted, each once.
    """
    assert max_bits < BANDS * 3
    words = np.ascontiguousarray(bits).view(">u8").ravel().astype(np.uint64)
    width = 63 // BANDS
    flips = [
        0,
        *(1 << i for i in range(width)),
        *((1 << i) | (1 << j) for i, j in itertools.combinations(range(width), 2)),
    ]
    found = []
    for band in range(BANDS):
        keys = ((words >> np.uint64(band * width)) & np.uint64((1 << width) - 1)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        ends = np.cumsum(np.bincount(keys, minlength=1 << width))
        starts = np.concatenate([[0], ends[:-1]])
        for flip in flips:
            probes = keys ^ flip
            counts = ends[probes] - starts[probes]
            hits = np.flatnonzero(counts)
            left = np.repeat(hits, counts[hits])
            within = np.arange(len(left)) - np.repeat(
                np.cumsum(counts[hits]) - counts[hits], counts[hits]
            )
            right = order[starts[probes[left]] + within]
            first = left < right
            left, right = left[first], right[first]
            close = _bit_count(words[left] ^ words[right]) <= max_bits
            found.append(np.stack([left[close], right[close]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def matching_corners(
    points_a: np.ndarray, descriptors_a: np.ndarray, points_b: np.ndarray, descriptors_b: np.ndarray
) -> int:
    """Return how many corners match between two images under one shift, rotation and scaling.

    Args:
        points_a: (k, 2) x and y.
        descriptors_a: (k, 32) uint8, one for each point.
        points_b: like `points_a`, of the other image.
        descriptors_b: like `descriptors_a`, of the other image.
    """
    if min(len(points_a), len(points_b)) < MIN_CORNERS:
        return 0
    matched = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(descriptors_a, descriptors_b, k=2)
    clear = [
        pair[0] for pair in matched if len(pair) == 2 and pair[0].distance < 0.8 * pair[1].distance
    ]
    if len(clear) < MIN_CORNERS:
        return 0
    a = points_a[[match.queryIdx for match in clear]].astype(np.float32)
    b = points_b[[match.trainIdx for match in clear]].astype(np.float32)
    cv2.setRNGSeed(0)
    way, inliers = cv2.estimateAffinePartial2D(a, b, ransacReprojThreshold=6)
    if way is None or not 0.2 < np.hypot(way[0, 0], way[1, 0]) < 5:
        return 0
    return int(inliers.sum())


def groups(count: int, pairs: np.ndarray) -> list[list[int]]:
    """Return the connected groups of two or more among `count` items, from pairs (pairs, 2); each
    group is sorted.
    """
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in pairs.tolist():
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    members: dict[int, list[int]] = {}
    for i in sorted({int(i) for i in pairs.ravel()}):
        members.setdefault(root(i), []).append(i)
    return list(members.values())


def _bit_count(words: np.ndarray) -> np.ndarray:
    """Return how many bits are set in each of (n,) uint64."""
    w = words.copy()
    w -= (w >> np.uint64(1)) & np.uint64(0x5555555555555555)
    w = (w & np.uint64(0x3333333333333333)) + ((w >> np.uint64(2)) & np.uint64(0x3333333333333333))
    w = (w + (w >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((w * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)
