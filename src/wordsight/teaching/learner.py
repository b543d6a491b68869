"""Learn words from answers about a folder's photos, and say which photo to ask about next.

Each word has a logistic regression on the directions in which the photos differ most. Of three
questions, one is about the likeliest photo left and two are about doubtful ones. Until a photo of a
word is known, the word is looked for near its neighbours in meaning and among photos that stand for
many others (greedy facility location). Hints serve the order of questions only,
never a label. The settings were chosen on words and photos whose truth is known; see
`benchmarks/teach.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..heads.linear import LinearHead, normalize
from ..heads.logistic import Directions

LOOSE = 10.0  # inverse penalty of the weights
FIRST_LOOKS = 4  # for each word but the first: photos that stand for many others
LIKELY_EVERY = 3  # of this many questions on a known word, one is on the likeliest photo
SAME = 0.98  # cosine of embeddings from which two photos are one moment: asked about once
FOLDS = 5  # in which answers are judged by the others
SPREAD = 600  # photos that the others' variety is measured on
SEED_OF_SPREAD = 0


@dataclass(frozen=True)
class Pick:
    """A photo to ask about.

    Attributes:
        photo: its index.
        why: "likely", "doubtful" or "new" (unlike all asked about so far).
        word: index of the word it is asked for.
    """

    photo: int
    why: str
    word: int


class Learner:
    """What was answered about the photos of a folder, and what follows from it.

    Args:
        embeddings: (n, C) float32 of the photos.
        hints: (n, words), 0–1, how near each photo is to each word's neighbours in meaning.
        askable: (n,) bool, which photos may be asked about; the others only teach.

    Attributes:
        answers: photo -> (words,) bool, which words it shows.
        weight: (words, C) float32; zeros for a word that was not found yet.
        bias: (words,) float32.
        logits: (n, words) float64, of the photos.
    """

    def __init__(self, embeddings: np.ndarray, hints: np.ndarray, askable: np.ndarray) -> None:
        self.embeddings, self._hints, self._askable = embeddings, hints, askable
        self.answers: dict[int, np.ndarray] = {}
        words, width = hints.shape[1], embeddings.shape[1]
        self.weight, self.bias = np.zeros((words, width), np.float32), np.zeros(words, np.float32)
        self._space = Directions(embeddings)
        self._unit = normalize(embeddings - embeddings.mean(axis=0)).astype(np.float32)
        self._plain = normalize(embeddings).astype(np.float32)
        columns = np.random.default_rng(SEED_OF_SPREAD).permutation(len(embeddings))[:SPREAD]
        # (n, SPREAD): how well each photo stands for each of a sample
        self._alike = np.maximum(self._unit @ self._unit[columns].T, 0) ** 2
        self._moments: dict[int, np.ndarray] = {}
        self.logits = np.zeros((len(embeddings), words))

    @property
    def found(self) -> np.ndarray:
        """How many photos are known to show each word, (words,) int."""
        return np.sum(list(self.answers.values()), axis=0, dtype=int) + np.zeros(
            self._hints.shape[1], int
        )

    @property
    def head(self) -> LinearHead:
        """The words and, last, "none of them", as a linear head."""
        return _with_none(self.weight, self.bias)

    def fit(self) -> None:
        """Learn from all answers."""
        self.weight, self.bias = self._fitted(self.answers)
        self.logits = (self.embeddings @ self.weight.T + self.bias).astype(np.float64)

    def _fitted(self, answers: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array(list(answers), dtype=int)
        shown = np.array(list(answers.values()), dtype=bool)
        weight = np.zeros_like(self.weight)
        bias = np.full_like(self.bias, -30)  # of a word that was not found yet
        for word in range(len(bias) if len(rows) else 0):
            if shown[:, word].all():
                bias[word] = 0  # nothing else is known, so nothing is told apart
            elif shown[:, word].any():
                weight[word], bias[word] = self._space.fit(rows, shown[:, word], LOOSE)
        return weight, bias

    def pick(
        self, count: int, shut: Collection[int] = (), absent: Collection[int] = ()
    ) -> list[Pick]:
        """Return the next photos to ask about, the most useful first.

        Args:
            count: how many at most.
            shut: photos that are not to be asked about now.
            absent: words that are not looked for any more.
        """
        free = self._askable.copy()
        taken = list({*self.answers, *shut})
        turn = len(taken)
        free[taken] = False
        covered = self._alike[taken].max(axis=0) if taken else np.zeros(self._alike.shape[1])
        if taken:  # of one moment one photo is asked about
            same = np.any([self._same(photo) for photo in taken], axis=0)
            free &= ~same if (free & ~same).any() else True
        picks: list[Pick] = []
        for number in range(turn, turn + count):
            if not free.any():
                break
            pick = self._pick_one(number, free, covered, absent)
            picks.append(pick)
            covered = np.maximum(covered, self._alike[pick.photo])
            free[pick.photo] = False
            rest = free & ~self._same(pick.photo)
            free = rest if rest.any() else free
        return picks

    def _pick_one(
        self, number: int, free: np.ndarray, covered: np.ndarray, absent: Collection[int]
    ) -> Pick:
        """Return the next photo: of a word in its turn, or of all at once."""
        words, found = len(self.bias), self.found
        if len(absent) < words:
            found[list(absent)] = len(self.logits) + 1  # never the one found least
        places = np.flatnonzero(free)

        def gain() -> np.ndarray:
            """Return how much more each photo stands for than those asked about, (m,)."""
            return np.maximum(self._alike[places] - covered, 0).sum(axis=1)

        if number < FIRST_LOOKS * (words - 1) and number % LIKELY_EVERY:
            return Pick(int(places[gain().argmax()]), "new", int(found.argmin()))
        word, kind = int(found.argmin()), number % LIKELY_EVERY
        if not found[word]:
            if kind != 1 and self._hints[places, word].max() > 0:
                # the nearest in meaning, if not like what was asked about before
                fresh = (self._alike[places] > covered).mean(axis=1)
                score = np.log(self._hints[places, word] + 1e-4) + 2 * fresh
                return Pick(int(places[score.argmax()]), "likely", word)
            if kind == 1 or words == 1:
                return Pick(int(places[gain().argmax()]), "new", word)
        elif kind == LIKELY_EVERY - 1 and (words == 1 or found[word] < FIRST_LOOKS):
            return Pick(int(places[self.logits[places, word].argmax()]), "likely", word)
        margin = self._margin(places)
        best = margin.argmin() if words == 1 else (np.exp(-margin) * gain()).argmax()
        return Pick(int(places[best]), "doubtful", int(self.logits[places[best]].argmax()))

    def at_odds(self) -> list[int]:
        """Return the answered photos whose answers the others speak against, the most so first.

        Heads that did not learn from a photo judge it, in folds, as label errors are found
        (Northcutt et al. 2021, "Confident learning").
        """
        if len(self.answers) < 2 * FOLDS:
            return []
        rows = np.array(list(self.answers), dtype=int)
        shown = np.array(list(self.answers.values()), dtype=bool)
        against = np.full(len(rows), -np.inf)
        for fold in range(FOLDS):
            held = np.arange(len(rows)) % FOLDS == fold
            for word in range(len(self.bias)):
                others = shown[~held, word]
                if not others.any() or others.all() or not held.any():
                    continue
                weight, bias = self._space.fit(rows[~held], others, LOOSE)
                logits = self.embeddings[rows[held]] @ weight + bias
                odds = np.where(shown[held, word], -logits, logits)
                against[held] = np.maximum(against[held], odds)
        order = np.argsort(-against, kind="stable")
        return [int(rows[place]) for place in order if against[place] > 0]

    def _same(self, photo: int) -> np.ndarray:
        """Return which photos are of the same moment as one, (n,) bool."""
        if photo not in self._moments:
            self._moments[photo] = self._plain @ self._plain[photo] >= SAME
        return self._moments[photo]

    def _margin(self, places: np.ndarray) -> np.ndarray:
        """Return how far the likeliest word of some photos is above the next, (m,). "None of them"
        counts as a word once it was an answer.
        """
        logits = self.logits[places]
        if logits.shape[1] == 1 or not all(shown.any() for shown in self.answers.values()):
            logits = np.append(logits, np.zeros((len(places), 1)), axis=1)
        ordered = np.sort(logits, axis=1)
        return ordered[:, -1] - ordered[:, -2]


def _with_none(weight: np.ndarray, bias: np.ndarray) -> LinearHead:
    """Return a head of words, (words, C) and (words,), and "none of them", whose logit is 0."""
    return LinearHead(
        np.concatenate([weight, np.zeros_like(weight[:1])]), np.append(bias, np.float32(0))
    )
