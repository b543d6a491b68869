"""The course of a session, without files: learn until answers change little, then check the labels
on random photos, and promise what the check shows.

Answers of a check never teach while it runs: the labels it checks stay as they were when it began.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from ..heads.linear import LinearHead
from .audit import Audit
from .learner import Learner, Pick
from .missed import Missed

# the learned heads are too unsure of themselves; measured as the settings of `learner`
TEMPERATURE = 0.3
THRESHOLD = 0.8  # calibrated probability from which a photo gets a label
FEWEST_ANSWERS = 12  # before a check, and between two
FEWEST_FOUND = 4  # photos of each word that was found
WINDOW = 4  # answers that must have changed little
LITTLE = 0.12  # share of the labels that they may have changed
MOST_MISSES = 40  # questions after which a word that was never seen is taken to be absent
ENOUGH = 0.6  # of the photos that rather show a word than not have to be labelled for a check
FAINT = 0.25  # probability below which photos are not thought to show a word
LOOK_BACK = 10  # answers that foretell what the next bring
WORTH = 1.2  # times as many labels as the promise has are worth another check


@dataclass(frozen=True)
class Promise:
    """Labels that a check has passed.

    Attributes:
        head: gives the labels: the words and, last, none of them.
        precision: share of them that is right, at 95 % confidence, 0–1.
        logits: (n, words) float64, of the photos.
        labels: (n,) int, the word of each photo, -1 for none; those answered before it are -1.
        checked: how many were looked at.
        wrong: how many of these were wrong.
    """

    head: LinearHead
    precision: float
    logits: np.ndarray
    labels: np.ndarray
    checked: int
    wrong: int


class Course:
    """What was answered about the photos of a folder, what to ask next, and what is promised.

    Args:
        embeddings: (n, C) float32 of the photos.
        hints: (n, words), 0–1, how near each photo is to each word's neighbours in meaning.
        askable: (n,) bool, which photos may be asked about; the others only teach.
        precision: share of the labels that is to be right.
        seed: of the random order of checks.

    Attributes:
        answers: photo -> (words,) bool, which words it shows; in the order given.
        whys: photo -> why it was asked about, likewise.
        audit: the check that is under way, or None.
        promise: the last that was kept, or None.
        missed: the look at the photos that it left without a label, or None.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        hints: np.ndarray,
        askable: np.ndarray,
        precision: float = 0.95,
        seed: int = 0,
    ) -> None:
        self._learner = Learner(embeddings, hints, askable)
        self._askable, self._words, self._seed = askable, hints.shape[1], seed
        self.precision = precision
        self._calibrated = replace(self._learner.head, temperature=TEMPERATURE)
        self.start_over()

    def start_over(self) -> None:
        """Forget all answers."""
        self.answers: dict[int, np.ndarray] = {}
        self.whys: dict[int, str] = {}
        self.audit: Audit | None = None
        self.promise: Promise | None = None
        self.missed: Missed | None = None
        self._checks = 0
        self._taught = 0  # answers since the last check
        self._misses = np.zeros(self._words, int)
        self._before: list[np.ndarray] = []  # labels after each of the last answers
        self._labelled: list[int] = []  # photos with a label after each answer
        self._frozen: Promise | None = None  # what a check is about
        self._learner.answers = {}
        self._learner.fit()

    @property
    def head(self) -> LinearHead:
        """The words and, last, "none of them", calibrated: of the promise, or else as learned."""
        if self.promise is not None:
            return self.promise.head
        return replace(self._learner.head, temperature=TEMPERATURE)

    @property
    def found(self) -> np.ndarray:
        """How many photos are known to show each word, (words,) int."""
        return np.sum(list(self.answers.values()), axis=0, dtype=int) + np.zeros(self._words, int)

    @property
    def taught(self) -> np.ndarray:
        """How many photos each word was learned from, (words,) int."""
        return self._learner.found

    @property
    def _open(self) -> np.ndarray:
        """Which photos may still be asked about, (n,) bool."""
        waiting = self._askable.copy()
        waiting[list(self.answers)] = False
        return waiting

    @property
    def absent(self) -> list[int]:
        """Words that were looked for long enough and never seen."""
        lost = (self.found == 0) & (self._misses >= MOST_MISSES)
        return [int(word) for word in np.flatnonzero(lost)]

    def probabilities(self, promised: bool = True) -> np.ndarray:
        """Return the calibrated probability of each word in each photo (n, words).

        Args:
            promised: whether by the promise's head, where there is one.
        """
        promise = self.promise if promised else None
        logits = self._learner.logits if promise is None else promise.logits
        logits = np.append(logits, np.zeros((len(logits), 1)), axis=1)
        shares = self._calibrated.from_logits(logits)[:, :-1]
        shares[:, self._learner.found == 0] = 0
        return shares

    def labels(self, promised: bool = True) -> np.ndarray:
        """Return the word that each photo would be labelled with, (n,) int, -1 for none. Photos
        that were answered about have none here: theirs is known.
        """
        shares = self.probabilities(promised)
        labels = np.where(shares.max(axis=1) >= THRESHOLD, shares.argmax(axis=1), -1)
        return np.where(self._open, labels, -1)

    def teach(self, photo: int, words: np.ndarray) -> None:
        """Take a label that is known from elsewhere."""
        self._learner.answers[photo] = words
        if self._askable[photo]:
            self.answers[photo], self.whys[photo] = words, "given"

    def learn(self) -> None:
        """Learn from all that was taught."""
        self._learner.fit()

    def next(self, shut: Collection[int] = ()) -> Pick | None:
        """Return the next question, or None if there is none worth asking.

        Args:
            shut: photos that are not to be asked about now.
        """
        if self.audit is not None:
            known = {*shut, *self.answers}
            waiting = [int(photo) for photo in self.audit.order if int(photo) not in known]
            if waiting:
                return Pick(waiting[0], "audit", int(self.checked_label(waiting[0])))
        closed = {*shut, *self.answers}
        if self.audit is not None:
            closed |= set(map(int, self.audit.photos))
        elif self.missed is not None and (left := set(self.missed.next) - closed):
            photo = next(one for one in self.missed.order if one in left)
            return Pick(photo, "missed", int(self._learner.logits[photo].argmax()))
        picks = self._learner.pick(1, closed, self.absent)
        return picks[0] if picks else None

    def grid(self, count: int, shut: Collection[int] = ()) -> list[Pick]:
        """Return so many photos at once, each unlike the others: those to begin with."""
        return self._learner.pick(count, {*shut, *self.answers}, self.absent)

    def missing(self) -> int:
        """Return about how many more photos show a word and have no label: by the head alone until
        a promise is given, then by random photos of those it left out.
        """
        if self.missed is not None and not self.missed.next:
            return round(self.missed.estimate(set(self.answers)))
        shares = self.probabilities().max(axis=1, initial=0)
        waiting = self._open & (self.labels() < 0) & (shares >= FAINT)
        return round(float(shares[waiting].sum()))

    def gain(self) -> int:
        """Return about how many more photos ten more answers would label: as many as the last ten
        did, and no more than are missing.
        """
        before = self._labelled[-LOOK_BACK - 1] if len(self._labelled) > LOOK_BACK else 0
        return min(self.missing(), max(0, self._labelled[-1] - before)) if self._labelled else 0

    def at_odds(self) -> list[int]:
        """Return the answered photos whose answers the others speak against, the most so first."""
        return [photo for photo in self._learner.at_odds() if photo in self.answers]

    def checked_label(self, photo: int) -> int:
        """Return the label that the check under way gives a photo."""
        assert self._frozen is not None
        return int(self._frozen.labels[photo])

    def answer(self, photo: int, words: np.ndarray, why: str) -> None:
        """Take an answer: which words the photo shows, (words,) bool."""
        self.answers[photo], self.whys[photo] = words, why
        audit = self.audit
        if audit is not None and photo in audit.photos:
            audit.take(photo, bool(words[self.checked_label(photo)]))
            if audit.ended:
                self._end_check()
            return
        if why == "audit":  # of a check that is no more
            self.whys[photo] = "likely"
        if self.missed is not None and photo in self.missed.order:
            self.missed.take(photo, bool(words.any()))
        self._misses[self._learner.found == 0] += 1
        self._learner.answers[photo] = words
        self._learner.fit()
        self._taught += 1
        self._before = [*self._before[-WINDOW:], self.labels(promised=False)]
        confirmed = sum(bool(shown.any()) for shown in self.answers.values())
        self._labelled.append(confirmed + int((self._before[-1] >= 0).sum()))
        if self.audit is None and self._settled():
            self._begin_check()

    def _settled(self) -> bool:
        """Whether answers have changed the labels little, so that they are worth a check."""
        if self._taught < FEWEST_ANSWERS or len(self._before) <= WINDOW:
            return False
        found = self._learner.found
        looked_for = [word for word in range(self._words) if word not in self.absent]
        if not looked_for or found[looked_for].min() < FEWEST_FOUND:
            return False
        now, before = self._before[-1], self._before[0]
        now, before = np.where(self._open, now, -1), np.where(self._open, before, -1)
        labelled = int((now >= 0).sum())
        if self.promise is not None and labelled < WORTH * (self.labels() >= 0).sum() + 5:
            return False
        likely = self.probabilities(promised=False)[self._open].max(axis=1, initial=0) >= 0.5
        if labelled < ENOUGH * likely.sum():
            return False
        return labelled > 0 and int((now != before).sum()) <= max(1, LITTLE * labelled)

    def _begin_check(self) -> None:
        labels = self.labels(promised=False)
        photos = np.flatnonzero(labels >= 0)
        rng = np.random.default_rng((self._seed, self._checks))
        self.audit = Audit(photos, self.precision, self._checks, rng)
        head = replace(self._learner.head, temperature=TEMPERATURE)
        self._frozen = Promise(head, self.precision, self._learner.logits, labels, 0, 0)
        self._checks += 1
        if self.audit.ended:
            self._end_check()

    def _end_check(self) -> None:
        audit, frozen = self.audit, self._frozen
        assert audit is not None and frozen is not None
        if audit.kept:
            self.promise = replace(frozen, checked=audit.checked, wrong=audit.wrong)
            self._look_for_missed()
        for photo in map(int, audit.photos):
            if photo in self.answers:
                self._learner.answers[photo] = self.answers[photo]
        self._learner.fit()
        self.audit, self._frozen, self._taught, self._before = None, None, 0, []

    def _look_for_missed(self) -> None:
        """Draw the photos that tell how many the promise's labels miss."""
        assert self.promise is not None
        rest = np.flatnonzero(self._open & (self.promise.labels < 0))
        known = self.promise.logits[rest][:, self._learner.found > 0]
        rng = np.random.default_rng((self._seed, self._checks, 1))
        self.missed = Missed(rest, np.logaddexp.reduce(known, axis=1), 1 / TEMPERATURE, rng)
