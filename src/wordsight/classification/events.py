"""What the photos of one event show together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath

import numpy as np

from ..heads.pooling import pooled
from .predictions import EMPTY, Label, Prediction

EVENTS = "events.csv"
EVENT_FIELDS = (
    *("event", "folder", "start", "end", "photos", "status", "label", "top_label", "probability"),
    *("best_photo", "labels"),
)


@dataclass(frozen=True)
class Event:
    """What the photos of one event show together.

    Attributes:
        event: its number, from 1, in the order of the photos' names.
        folder: where they lie, relative to the folder given; "." for that itself.
        start: when the first was taken, ISO 8601, by the camera's clock; None if unknown.
        end: when the last was taken.
        photos: how many there are, unreadable ones left out.
        status: as in `Prediction.status`.
        label: class name, or None where it is not sure; of several the surest.
        top_label: the best guess; None where no photo resembles a class.
        probability: of `top_label`, 0–1, or None likewise.
        best_photo: the photo that shows `top_label` best, or None.
        labels: all labels, the surest first.
    """

    event: int
    folder: str
    start: str | None
    end: str | None
    photos: int
    status: str
    label: str | None
    top_label: str | None
    probability: float | None
    best_photo: str | None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Shown:
    """What an event needs of one of its photos.

    Attributes:
        prediction: without anything large.
        row: (classes,) float64 probabilities; None where none of the classes is there.
    """

    prediction: Prediction
    row: np.ndarray | None


class EventPool:
    """Pools what photos show into one answer an event.

    Args:
        events: file name -> number of its event.
        class_names: the model's classes, in order; other labels are those that a detector gave.
        threshold: probability from which a label is given; None gives none.
        power: of odds; see `ModelRecord.event_power`.
        none: classes that mean "none of the others".
        parents: word that a label may fall back to -> the classes below it, the narrowest first.
        times: file name -> when the camera took it, None where that is not known.

    Attributes:
        times: as given.
    """

    def __init__(
        self,
        events: Mapping[str, int],
        class_names: Sequence[str],
        threshold: float | None,
        power: float = 1.0,
        none: Collection[str] = (),
        parents: Mapping[str, Collection[str]] | None = None,
        times: Mapping[str, datetime | None] | None = None,
    ) -> None:
        self.times = times or {}
        self._events, self._names, self._threshold = events, list(class_names), threshold
        self._power, self._none, self._parents = power, none, parents or {}
        self._left = Counter(events.values())
        self._photos: dict[int, list[_Shown]] = {}
        self._done: dict[int, Event] = {}

    def add(self, prediction: Prediction) -> None:
        """Note the event of a photo, and keep what its event needs until its last photo."""
        number = prediction.event = self._events.get(prediction.file_name)
        if number is None:
            return
        photos = self._photos.setdefault(number, [])
        if prediction.error is None:
            shares, row = prediction.probabilities, None
            if shares and not prediction.stranger and prediction.top_label in self._names:
                row = np.array([shares.get(name, 0.0) for name in self._names])
            labels = [Label(one.label, one.probability) for one in prediction.labels]
            bare = replace(
                prediction, map=None, extent=None, parts=[], probabilities=None, labels=labels
            )
            photos.append(_Shown(bare, row))
        self._left[number] -= 1
        if not self._left[number]:
            del self._photos[number]
            if photos:
                self._done[number] = self._event(number, photos)

    def events(self) -> list[Event]:
        """Return every event, in order; events of which no photo could be read are left out."""
        return [event for _, event in sorted(self._done.items())]

    def _event(self, number: int, shown: list[_Shown]) -> Event:
        photos = [one.prediction for one in shown]
        known = [one for one in shown if one.row is not None]
        telling = [one for one in known if one.prediction.top_label not in self._none] or known
        shares = self._pooled(telling, len(shown))
        detected: dict[str, float] = {}  # what a detector named, by its surest box
        for label in (label for one in photos for label in one.labels):
            if label.label not in self._names and label.label not in self._parents:
                detected[label.label] = max(label.probability, detected.get(label.label, 0.0))
        top = max(shares, key=lambda name: shares[name], default=None)
        said = Prediction(
            "",
            top_label=top,
            probability=None if top is None else shares[top],
            probabilities=shares,
            stranger=top is None,
            several=any(one.several for one in photos),
            crops=[] if all(one.status == EMPTY for one in photos) else None,
        )
        if top is not None:
            said.parents = self._parents_of(top, shares, telling, len(shown))
        given = said.labels_at(self._threshold)
        kinds = [] if given else self._kinds(telling, len(shown))
        if not given and not kinds:
            said.roll_up(self._threshold)
        if kinds:
            said.top_label, said.probability = kinds[0].label, kinds[0].probability
        own = [one.label for one in given or kinds or said.labels]
        labels = [*own, *sorted(detected, key=lambda name: -detected[name])]
        if detected and not own:
            said.top_label, said.probability = labels[0], detected[labels[0]]
        said.label = labels[0] if labels else None
        times = sorted(str(one.taken_at) for one in photos if one.time_source == "camera")
        return Event(
            number,
            str(PurePosixPath(photos[0].file_name).parent),
            times[0] if times else None,
            times[-1] if times else None,
            len(photos),
            said.status,
            said.label,
            said.top_label,
            None if said.probability is None else round(said.probability, 6),
            self._best_photo(shown, said.top_label),
            tuple(labels),
        )

    def _kinds(self, telling: list[_Shown], count: int) -> list[Label]:
        """Return the kinds of an event in which a detector's boxes show several, the surest first;
        none where only one is sure enough. Each counts by its own photos, as a word does.
        """
        boxed = [one.prediction.labels for one in telling if one.prediction.crops]
        if not boxed or self._threshold is None:
            return []
        rows = np.zeros((len(boxed), len(self._names)))
        for row, labels in zip(rows, boxed, strict=True):
            for one in labels:
                if one.label in self._names and one.label not in self._none:
                    row[self._names.index(one.label)] = one.probability
        together = pooled(rows, count, several=True)
        sure = [Label(self._names[i], float(together[i])) for i in np.argsort(-together)]
        sure = [one for one in sure if one.probability >= self._threshold]
        return sure if len(sure) > 1 else []

    def _parents_of(
        self, top: str, shares: Mapping[str, float], telling: list[_Shown], count: int
    ) -> dict[str, float]:
        """Return the probabilities of the words above an event's likeliest class."""
        above = [name for name, below in self._parents.items() if top in below]
        if not above or not telling[0].prediction.several:
            return {
                name: min(1.0, sum(shares.get(one, 0.0) for one in self._parents[name]))
                for name in above
            }
        photos = [one.prediction for one in telling]
        rows = np.array([[photo.parents.get(name, 0.0) for name in above] for photo in photos])
        together = pooled(rows, count, several=True)
        return {name: float(p) for name, p in zip(above, together, strict=True)}

    def _pooled(self, telling: list[_Shown], count: int) -> dict[str, float]:
        """Return the probability of each class in photos that show some class."""
        if not telling:
            return {}
        rows = np.stack([one.row for one in telling if one.row is not None])
        several = telling[0].prediction.several
        together = pooled(rows, count, several, 1.0 if several else self._power)
        return {name: float(p) for name, p in zip(self._names, together, strict=True)}

    def _best_photo(self, shown: list[_Shown], name: str | None) -> str | None:
        """Return the photo that shows a class, or what a detector named, best."""

        def share(one: _Shown) -> float:
            if name in self._names:
                return 0.0 if one.row is None else float(one.row[self._names.index(str(name))])
            return max(
                (label.probability for label in one.prediction.labels if label.label == name),
                default=0.0,
            )

        best = max(shown, key=share)
        return best.prediction.file_name if name is not None and share(best) > 0 else None
