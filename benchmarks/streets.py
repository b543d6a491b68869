"""Streets: what the whole photo says of its group beside the closer look, and how often each claims what is not there.

    python benchmarks/streets.py DATA

`DATA` holds street/photos/ (of which those named n*.JPEG say what they show) and imagenet_sample/ (n*_name.jpg).
"""

from __future__ import annotations

import sys
from pathlib import Path

import wordsight
from wordsight.backbones import load_backbone
from wordsight.known_classes import known_classes

STREETS = {"vehicle": "vehicle", "building": "building", "sign": "n06793231", "signal": "n06791372"}  # the last two are meanings of "sign"
GROUPS = ("vehicle", "building", "dog", "bird", "furniture", "food", "fish", "tool")
THRESHOLDS = (0.5, 0.75, 0.9)


def streets(data: Path) -> None:
    """Print for each named photo the group it belongs to."""
    known = known_classes(load_backbone())
    under = {name: {known.wnids[index] for index in known.group(word)} for name, word in STREETS.items()}
    print("| photo | right group | whole | closer | surest other group, closer |\n|---|---|---|---|---|")
    right = 0
    for photo in wordsight.recognize(str(data / "street" / "photos" / "n*.JPEG"), groups=list(STREETS.values())):
        truth = next(name for name, wnids in under.items() if photo.file_name.split("_")[0] in wnids)
        groups = {name: next(group for group in photo.groups if group.name == word) for name, word in STREETS.items()}
        mine = groups.pop(truth)
        other = max(groups, key=lambda name: groups[name].probability)
        right += mine.found and not groups[other].found
        print(f"| {photo.file_name} | {truth} | {mine.whole_probability:.3f} | {mine.probability:.3f} | {other} {groups[other].probability:.3f} |")
    print(f"\n{right} of 13: the right group is found, and no other.")


def claims(data: Path) -> None:
    """Print how often a group is claimed, where it is and where it is not."""
    known = known_classes(load_backbone())
    found = list(wordsight.recognize(data / "imagenet_sample", groups=GROUPS))
    print(f"\n| {len(found)} ImageNet photos, {len(GROUPS)} groups, from | there: whole | closer | not there: whole | closer |\n|---|---|---|---|---|")
    for threshold in THRESHOLDS:
        there, whole, closer, asked = [0, 0], [0, 0], [0, 0], 0
        for photo in found:
            for group in photo.groups:
                truth = photo.file_name.split("_")[0] in {known.wnids[index] for index in known.group(group.name)}
                asked += 1
                there[truth] += 1
                whole[truth] += group.whole_probability >= threshold
                closer[truth] += group.probability >= threshold
        print(f"| {threshold} | {whole[1]} of {there[1]} | {closer[1]} | {whole[0]} of {there[0]} | {closer[0]} |")


if __name__ == "__main__":
    streets(Path(sys.argv[1]))
    claims(Path(sys.argv[1]))
