"""The images of a report in parts: those that need a person's eyes by best guess, then those
with a label by class, then those that show none of the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..heads.decision import accepts
from .gallery import Card

EYES, LABELLED, REST = "eyes", "labelled", "rest"


@dataclass
class Group:
    """Images that stand together.

    Attributes:
        name: their class, or best guess.
        cards: in order.
    """

    name: str
    cards: list[Card] = field(default_factory=list)


@dataclass
class Part:
    """A part of the images.

    Attributes:
        key: by which the page's script finds it: "eyes", "labelled", "rest", or "strangers-1" and
            so on.
        heading: its name.
        text: a sentence on it.
        folded: whether it is closed until somebody opens it.
        groups: its images by class, or by best guess; one group where it is folded.
    """

    key: str
    heading: str
    text: str = ""
    folded: bool = False
    groups: list[Group] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many images it has."""
        return sum(len(group.cards) for group in self.groups)


def in_parts(
    cards: Sequence[Card], threshold: float | None, texts: dict[str, str], rest: Sequence[str] = ()
) -> list[Part]:
    """Return images in parts, each in the order given.

    Strangers are folded away, by what they are filed under, and so are those labelled as the rest.
    All parts but those of strangers are there even when they are empty, as a threshold may fill
    them.

    Args:
        cards: of one page.
        threshold: probability from which a label is given, or None where none is.
        texts: a sentence on each group of strangers, by its name.
        rest: classes that mean none of the others.
    """
    shown = {
        EYES: Part(EYES, "Needs your eyes", "Grouped by the best guess, the surest first."),
        LABELLED: Part(LABELLED, "Labelled"),
    }
    groups = {(REST, name): Group(name) for name in rest}
    if rest:
        everything_else = list(groups.values())
        shown[REST] = Part(REST, ", ".join(rest), folded=True, groups=everything_else)
    for card in cards:
        sure = accepts(card.probability or 0.0, card.stranger, threshold)
        said = REST if card.group in rest else LABELLED
        key = f"strangers:{card.group}" if card.stranger else said if sure else EYES
        if key not in shown:
            heading = card.group[:1].upper() + card.group[1:]
            name = f"strangers-{len(shown) - 1}"
            shown[key] = Part(name, heading, texts.get(card.group, ""), folded=True)
        if (key, card.group) not in groups:
            groups[key, card.group] = Group(card.group)
            shown[key].groups.append(groups[key, card.group])
        groups[key, card.group].cards.append(card)
    return list(shown.values())
