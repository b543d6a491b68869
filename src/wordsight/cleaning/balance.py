"""Find redundant images in the larger classes of a data set."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ..heads.linear import power_normalize
from .checks import Finding, Material


def redundant(material: Material, findings: list[Finding]) -> list[Finding]:
    """Return the images that must go so that all classes are as small as the smallest, those most
    like another one first.

    Images with another finding count as gone already.
    """
    gone = {finding.file_name for finding in findings}
    left = [i for i in material.good.tolist() if material.images[i].name not in gone]
    counts = Counter(material.labels[left].tolist())
    if len(counts) < 2:
        return []
    smallest = min(counts.values())
    found = []
    for label in sorted(counts):
        members = [i for i in left if material.labels[i] == label]
        found += [
            material.finding(i, "redundant", score, evidence=material.images[twin].name)
            for i, score, twin in _most_alike(material, members, smallest)
        ]
    return found


def _most_alike(material: Material, members: list[int], keep: int) -> list[tuple[int, float, int]]:
    """Return (image, cosine to the one it is most like, that one) of each image to drop, in the
    order of dropping.
    """
    unit = power_normalize(material.embeddings[members])
    alike = unit @ unit.T
    np.fill_diagonal(alike, -1)
    dropped = []
    for _ in range(len(members) - keep):
        nearest = alike.max(axis=1)
        a = int(nearest.argmax())
        b = int(alike[a].argmax())
        drop, twin = (b, a) if material.better(members[a], members[b]) else (a, b)
        dropped.append((members[drop], float(nearest[a]), members[twin]))
        alike[drop, :] = alike[:, drop] = -1
    return dropped
