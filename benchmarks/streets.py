"""Streets: what the whole photo says of its group beside the closer look, and how often each claims
what is not there.

Of street/photos/, those named n*.JPEG say what they show, and so do those of imagenet_sample/.
"""

from __future__ import annotations

import os
from pathlib import Path

from common import DATA, section

# the last two are meanings of "sign"
STREETS = {"vehicle": "vehicle", "building": "building", "sign": "n06793231", "signal": "n06791372"}
GROUPS = ("vehicle", "building", "dog", "bird", "furniture", "food", "fish", "tool")
THRESHOLDS = (0.5, 0.75, 0.9)


@section("the whole photo beside the closer look, the embedded network", usual=False)
def streets(work: Path) -> list[str]:
    os.environ.update(WORDSIGHT_HOME=str(work / "home"))
    from wordsight.backbones.registry import load_backbone
    from wordsight.recognition.imagenet_classes import known_classes

    known = known_classes(load_backbone())
    return [*_groups(known), "", *_claims(known)]


def _groups(known) -> list[str]:
    """Tell for each named photo the group it belongs to."""
    import wordsight

    under = {
        name: {known.wnids[index] for index in known.group(word)} for name, word in STREETS.items()
    }
    lines = [
        "| photo | right group | whole | closer | surest other group, closer |",
        "|---|---|---|---|---|",
    ]
    right = 0
    for photo in wordsight.recognize(
        str(DATA / "street" / "photos" / "n*.JPEG"), groups=list(STREETS.values()), output=None
    ):
        truth = next(
            name for name, wnids in under.items() if photo.file_name.split("_")[0] in wnids
        )
        groups = {
            name: next(group for group in photo.groups if group.name == word)
            for name, word in STREETS.items()
        }
        mine = groups.pop(truth)
        other = max(groups, key=lambda name: groups[name].probability)
        right += mine.found and not groups[other].found
        lines.append(
            f"| {photo.file_name} | {truth} | {mine.whole_probability:.3f} | "
            f"{mine.probability:.3f} | {other} {groups[other].probability:.3f} |"
        )
    return [*lines, "", f"{right} of 13: the right group is found, and no other."]


def _claims(known) -> list[str]:
    """Tell how often a group is claimed, where it is and where it is not."""
    import wordsight

    found = list(wordsight.recognize(DATA / "imagenet_sample", groups=GROUPS, output=None))
    lines = [
        f"| {len(found)} ImageNet photos, {len(GROUPS)} groups, from | there: whole | closer | "
        "not there: whole | closer |",
        "|---|---|---|---|---|",
    ]
    for threshold in THRESHOLDS:
        there, whole, closer, asked = [0, 0], [0, 0], [0, 0], 0
        for photo in found:
            for group in photo.groups:
                truth = photo.file_name.split("_")[0] in {
                    known.wnids[index] for index in known.group(group.name)
                }
                asked += 1
                there[truth] += 1
                whole[truth] += group.whole_probability >= threshold
                closer[truth] += group.probability >= threshold
        lines.append(
            f"| {threshold} | {whole[1]} of {there[1]} | {closer[1]} | {whole[0]} of {there[0]} "
            f"| {closer[0]} |"
        )
    return lines
