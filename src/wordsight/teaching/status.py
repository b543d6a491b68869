"""What a session asks, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .audit import CONFIDENCE


@dataclass(frozen=True)
class Question:
    """A photo to look at.

    Attributes:
        file_name: relative to the folder.
        path: of the file.
        suggestion: the word that it seems to show, or None.
        why: "likely", "doubtful", "new" (unlike all asked about so far), "audit" (drawn at random
            from the photos that would get a label, to check them), "missed" (drawn at random from
            the others, to tell how many show a word all the same) or "again" (answered before, and
            the other answers speak against it).
    """

    file_name: str
    path: Path
    suggestion: str | None
    why: str


@dataclass(frozen=True)
class Status:
    """Where a session stands.

    Attributes:
        answered: photos that were answered about.
        photos: photos in the folder that can be read.
        confirmed: photos known to show a word, by word.
        labelled: photos with a label, the confirmed ones among them.
        precision: share of the labels that is promised to be right, 0–1. Those that were looked at
            are among them: what is wrong, if anything, is among the rest.
        promised: whether the promise holds.
        checked: random labels looked at, in the check that is under way or that gave the promise.
        wrong: how many of these were wrong.
        more: right answers in a row that the check under way still takes; None without one.
        missing: about how many more photos show a word: a guess until the promise is given, then
            an estimate from ten random photos of those without a label.
        gain: about how many more photos ten more answers would label.
        absent: words that were looked for in vain.
    """

    answered: int
    photos: int
    confirmed: dict[str, int]
    labelled: int
    precision: float
    promised: bool
    checked: int
    wrong: int
    more: int | None
    missing: int
    gain: int
    absent: list[str]

    def sentence(self) -> str:
        """Return all of it in plain words."""
        answers = f"{self.answered} answer{'' if self.answered == 1 else 's'}."
        told = [answers, f"{self.labelled:,} of {self.photos:,} photos have a label"]
        if self.promised:
            told[-1] += (
                f"; of these at least {self.precision:.0%} are right ({CONFIDENCE:.0%} confidence)"
            )
        told[-1] += "."
        if self.more is not None:
            told.append(
                f"Check: {self.checked} random labels looked at, {self.wrong} wrong; {self.more} "
                f"more right ones and {self.precision:.0%} is promised."
            )
        if self.missing:
            told.append(f"About {self.missing:,} more may be missing.")
        if self.gain and self.more is None:
            told.append(f"Ten more answers would label about {self.gain:,} more.")
        told += [f"No photo of {word} was found." for word in self.absent]
        return " ".join(told)
