"""Teach a classifier any word by answering questions about one's own photos."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedder
from ..backbones.registry import load_backbone
from ..classification.classifier import Classifier
from ..classification.model_folder import check_model_target
from ..classification.photos import predict_around
from ..classification.record import ModelRecord
from ..classification.results import Results
from ..core.home import expand
from ..core.progress import Progress, or_notebook
from ..datasets.annotations import read_together
from ..datasets.decisions import ANSWERS, REVIEW, ReviewBook
from ..datasets.files import ImageFile
from ..errors import InvalidArgument, NotFound, OutputError, some_of
from ..heads.guarantee import PrecisionGuarantee, check_precision
from ..towers.tower import TextImageTower, open_tower
from ..training.recipes import default_model_path, register
from ..training.request import embed_all
from ..words.class_names import (
    NONE_OF_THESE,
    check_class_names,
    fold,
    parse_classes,
    split_none,
)
from .audit import CONFIDENCE
from .by_tower import fit
from .course import THRESHOLD, Course
from .hints import nearness
from .status import Question, Status

SUPERVISION = "answers about your photos"
GUESS = 0.5  # probability from which a question comes with a suggestion


class Teaching:
    """A session: questions, answers, and the classifier that comes of them.

    Every answer is written to `metadata.csv` in the photos' folder before `answer` returns, so
    nothing is lost, and the next session goes on where this one ended.
    """

    def __init__(
        self,
        photos: Path,
        words: Sequence[str],
        output: Path,
        embedder: Embedder,
        precision: float,
        examples: Sequence[ImageFile] = (),
        progress: Progress | None = None,
        words_model: TextImageTower | None = None,
    ) -> None:
        """Read the photos, and the answers there are; see `teach`."""
        self.words, self.output, self._embedder = list(words), output, embedder
        self.book = ReviewBook(photos, words)
        images = [*self.book.images.values(), *examples]
        items = embed_all(embedder, images, "photos read", progress)
        embedder.cache.flush()
        read = [item for item in items if item.embedding is not None]
        self.unreadable = [(item.file.name, str(item.error)) for item in items if item.error]
        own = [item for item in read if self.book.images.get(item.file.name) is item.file]
        if not own:
            raise InvalidArgument(
                f"None of the {len(items)} pictures in '{photos}' can be read; the first: "
                f"'{items[0].file.name}': {items[0].error}."
            )
        self._names = [item.file.name for item in own]
        self._at = {name: place for place, name in enumerate(self._names)}
        others = [item for item in read if self.book.images.get(item.file.name) is not item.file]
        embeddings = np.stack([np.asarray(item.embedding) for item in [*own, *others]])
        hints = nearness(embeddings, embedder.backbone, words)
        if words_model is not None:
            own_files = [item.file for item in own]
            told = fit(
                words_model, words, own_files, embeddings[: len(own)], embedder.backbone, progress
            )
            hints[: len(own)] = np.maximum(hints[: len(own)], told)
        self._course = Course(
            embeddings,
            hints,
            np.arange(len(embeddings)) < len(own),
            precision,
        )
        self._examples = {
            len(own) + place: self._shown([str(item.file.label)])
            for place, item in enumerate(others)
        }
        self._skipped: set[int] = set()
        self._asked: dict[int, str] = {}  # photos asked about and not answered yet -> why
        self._undo: list[tuple[int, dict[str, str]]] = []  # photo, its cells before
        self._replay()

    def ask(self, count: int) -> Iterator[Question]:
        """Yield the next most useful photos to look at, at most so many. Each is chosen by all
        answers so far.
        """
        for _ in range(count):
            pick = self._course.next({*self._skipped, *self._asked})
            if pick is None:
                return
            self._asked[pick.photo] = pick.why
            yield self._question(pick.photo, pick.why)

    def grid(self, count: int) -> list[Question]:
        """Return so many photos at once, each unlike the others, to look for first examples."""
        picks = self._course.grid(count, {*self._skipped, *self._asked})
        self._asked |= {pick.photo: pick.why for pick in picks}
        return [self._question(pick.photo, pick.why) for pick in picks]

    def answer(self, question: Question | str, labels: str | Iterable[str] | None) -> None:
        """Write an answer to disk, and learn from it.

        Args:
            question: what was asked, or the file name of a photo of the folder.
            labels: the word that the photo shows, or several; None for none of them.

        Raises:
            InvalidArgument: if there is no such photo or word.
            OutputError: if the answer can't be written.
        """
        photo = self._photo(question)
        shown = self._shown([labels] if isinstance(labels, str) else list(labels or ()), True)
        name = self._names[photo]
        why = self._asked.get(photo, "likely")
        told = self._told(name)
        words = {**told.get("words", {}), **_by_word(self.words, shown)}
        positive = [word for word, there in words.items() if there]
        guess = self._suggestion(photo)
        before = {column: self.book.cell(name, column) for column in ("label", REVIEW, ANSWERS)}
        number = 1 + max((self._number(other) for other in self._names_answered()), default=0)
        label = positive[0] if positive else NONE_OF_THESE
        answer = {"words": words, "why": why, "number": number}
        self.book.note(
            name,
            {
                "label": label,
                REVIEW: "accepted" if label == (guess or NONE_OF_THESE) else "changed",
                ANSWERS: json.dumps(answer, ensure_ascii=False),
            },
        )
        self._undo.append((photo, before))
        self._asked.pop(photo, None)
        if photo in self._course.answers:
            self._replay()
        else:
            self._course.answer(photo, shown, why)

    def skip(self, question: Question | str) -> None:
        """Ask about something else; this photo comes back in the next session.

        Raises:
            InvalidArgument: if the photo is drawn for a check, which leaves nothing out.
        """
        photo = self._photo(question)
        audit = self._course.audit
        if audit is not None and photo in audit.photos:
            raise InvalidArgument(
                "This photo was drawn at random for the check, which can't leave any out. Answer "
                "what it shows; None if that can't be told."
            )
        self._asked.pop(photo, None)
        self._skipped.add(photo)

    def undo(self) -> str | None:
        """Take the last answer of this session back, on disk too.

        Returns:
            File name of the photo, or None if there is nothing to take back.
        """
        if not self._undo:
            return None
        photo, before = self._undo[-1]
        self.book.note(self._names[photo], before)
        self._undo.pop()
        self._asked.clear()
        self._replay()
        return self._names[photo]

    @property
    def answers(self) -> dict[str, list[str]]:
        """The words that each answered photo shows, by file name; an empty list for none."""
        return {
            self._names[photo]: self._listed(shown) for photo, shown in self._course.answers.items()
        }

    @property
    def labels(self) -> dict[str, str]:
        """The label that each photo would get that was not answered about, by file name."""
        found = self._course.labels()
        return {
            self._names[photo]: self.words[found[photo]] for photo in np.flatnonzero(found >= 0)
        }

    def surest(self, count: int) -> list[tuple[str, str]]:
        """Return (file name, label) of so many photos that would get a label, the surest first."""
        found, shares = self._course.labels(), self._course.probabilities().max(axis=1)
        order = np.argsort(-np.where(found >= 0, shares, -1), kind="stable")[:count]
        return [
            (self._names[photo], self.words[found[photo]]) for photo in order if found[photo] >= 0
        ]

    def second_looks(self, count: int = 10) -> list[Question]:
        """Return answered photos whose answers the other answers speak against, the most so first:
        of wrong answers nearly all are among the first ten. Answer again what was wrong.
        """
        return [self._question(photo, "again") for photo in self._course.at_odds()[:count]]

    def question(self, file_name: str) -> Question:
        """Return a photo as a question, answered before or not.

        Raises:
            InvalidArgument: if there is no such photo.
        """
        photo = self._photo(file_name)
        self._asked.setdefault(photo, "likely")
        return self._question(photo, self._asked[photo])

    @property
    def status(self) -> Status:
        """Where the session stands."""
        course = self._course
        confirmed, promise, audit = course.found, course.promise, course.audit
        automatic = int((course.labels() >= 0).sum())
        checked = (0, 0) if promise is None else (promise.checked, promise.wrong)
        if audit is not None:
            checked = (audit.checked, audit.wrong)
        return Status(
            answered=len(course.answers),
            photos=len(self._names),
            confirmed=dict(zip(self.words, map(int, confirmed), strict=True)),
            labelled=automatic + sum(bool(shown.any()) for shown in course.answers.values()),
            precision=course.precision,
            promised=promise is not None,
            checked=checked[0],
            wrong=checked[1],
            more=None if audit is None else audit.more(),
            missing=course.missing(),
            gain=course.gain(),
            absent=[self.words[word] for word in course.absent],
        )

    def finish(
        self,
        results: str | os.PathLike | None = None,
        draw: bool = True,
        progress: Progress | None = None,
    ) -> Classifier:
        """Save the classifier and, where asked for, write results for the folder's photos.

        Args:
            results: folder for tables, originals, heat maps and report.html, as `predict` writes
                them; photos that were answered about have the label of the answer.
            draw: False writes tables only.
            progress: called with (done, total, what).

        Raises:
            InvalidArgument: if no photo of any word was found.
            OutputError: if something can't be written.
        """
        model = self.classifier()
        model.save(self.output)
        model.record.path = self.output
        register(self.output)
        if results is not None:
            self.results(results, draw=draw, model=model, progress=progress)
        return model

    def results(
        self,
        output: str | os.PathLike | None,
        draw: bool = True,
        model: Classifier | None = None,
        progress: Progress | None = None,
    ) -> Results:
        """Return, and write, what the folder's photos show; see `finish`."""
        return predict_around(
            self.book.root, model or self.classifier(), self.answers, output, draw, progress
        )

    def classifier(self) -> Classifier:
        """Return the classifier as it is now.

        Raises:
            InvalidArgument: if no photo of any word was found.
        """
        course = self._course
        taught = course.taught
        if not taught.any():
            raise InvalidArgument(
                f"No photo of {', '.join(self.words)} was found yet, so there is nothing to learn "
                "from. Answer more questions."
            )
        promise = course.promise
        record = ModelRecord(
            recipe="probe",
            supervision=SUPERVISION,
            threshold=THRESHOLD,
            images=dict(zip(self.words, map(int, taught), strict=True)),
            unreadable=self.unreadable,
            method="logistic",
            judged_on="random photos of those it would label",
            dtype=self._embedder.dtype,
        )
        if promise is not None:
            record = replace(
                record,
                promise=PrecisionGuarantee(
                    promise.precision,
                    CONFIDENCE,
                    THRESHOLD,
                    promise.checked,
                    promise.checked,
                    promise.wrong,
                    None,
                ),
            )
        names = [*self.words, NONE_OF_THESE]
        return Classifier(names, course.head, self._embedder.backbone, record=record)

    def _replay(self) -> None:
        """Go through all answers on disk again, in the order they were given."""
        course = self._course
        course.start_over()
        for photo, shown in self._examples.items():
            course.teach(photo, shown)
        given, told = [], []
        for name, photo in self._at.items():
            answer = self._told(name)
            words = answer.get("words", {})
            if all(word in words for word in self.words):
                told.append((int(answer.get("number", 0)), photo, words, str(answer.get("why"))))
            elif (label := self.book.label(name)) and not words:
                given.append((photo, label))
        # labels of which none is a word of this session say nothing about its words
        spoken = any(self._shown([label]).any() for _, label in given)
        for photo, label in given if spoken else ():
            course.teach(photo, self._shown([label]))
        course.learn()
        for _, photo, words, why in sorted(told, key=lambda one: one[:2]):
            shown = np.array([bool(words[word]) for word in self.words])
            course.answer(photo, shown, why)

    def _names_answered(self) -> Iterable[str]:
        return (self._names[photo] for photo in self._course.answers)

    def _number(self, name: str) -> int:
        return int(self._told(name).get("number", 0))

    def _told(self, name: str) -> dict:
        """Return what metadata.csv keeps of the answer on a photo, {} for none."""
        try:
            told = json.loads(self.book.cell(name, ANSWERS) or "{}")
        except (ValueError, RecursionError):
            return {}
        fine = isinstance(told, dict) and isinstance(told.get("words", {}), dict)
        return told if fine and isinstance(told.get("number", 0), int) else {}

    def _photo(self, question: Question | str) -> int:
        name = question.file_name if isinstance(question, Question) else question
        if name not in self._at:
            raise InvalidArgument(f"There is no readable photo '{name}' in '{self.book.root}'.")
        return self._at[name]

    def _shown(self, labels: Sequence[str], strict: bool = False) -> np.ndarray:
        """Return which words are among labels, (words,) bool.

        Raises:
            InvalidArgument: if `strict` and a label is no word of the session.
        """
        known = {fold(word): place for place, word in enumerate(self.words)}
        shown = np.zeros(len(self.words), dtype=bool)
        for label in labels:
            if fold(label) in known:
                shown[known[fold(label)]] = True
            elif strict:
                raise InvalidArgument(
                    f"'{label}' is none of {some_of(self.words)}. Answer with one or several of "
                    "these, or None for none of them."
                )
        return shown

    def _listed(self, shown: np.ndarray) -> list[str]:
        return [word for word, there in zip(self.words, shown, strict=True) if there]

    def _suggestion(self, photo: int) -> str | None:
        audit = self._course.audit
        if audit is not None and photo in audit.photos:
            return self.words[self._course.checked_label(photo)]
        shares = self._course.probabilities(promised=False)[photo]
        return self.words[int(shares.argmax())] if shares.max() >= GUESS else None

    def _question(self, photo: int, why: str) -> Question:
        name = self._names[photo]
        return Question(name, self.book.images[name].path, self._suggestion(photo), why)


def teach(
    photos: str | os.PathLike,
    classes: str | Iterable[str],
    *,
    output: str | os.PathLike | None = None,
    data: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    precision: float = 0.95,
    backbone: str | Backbone = DEFAULT_BACKBONE,
    words_model: str | TextImageTower | None = None,
    progress: Progress | None = None,
) -> Teaching:
    """Begin, or go on with, a session that learns any words from answers about your photos.

    The photos go through the network once. Then each answer counts at once, and the next question
    is chosen by all of them. When answers change little, random photos of those that would get a
    label are asked about, until at least `precision` of the labels is sure to be right.

    Args:
        photos: one folder; answers are kept in its metadata.csv.
        classes: "kangaroo,cow" or a list; any words.
        output: model folder; by default one named after the classes, among the models `run` finds.
        data: labelled images to begin with; classes of theirs that were not asked for stand for
            "none of these".
        precision: share of the labels that is to be right, 0.5–0.9999.
        backbone: a name, or what `wordsight.backbones.load_backbone` returned.
        words_model: a text–image model, prepared by `wordsight.towers.prepare`, whose order of the
            photos the first questions follow; it looks at 2,000 photos at most.
        progress: called with (done, total, what).

    Raises:
        NotFound, InvalidArgument: if there are no photos, or a setting is wrong.
        OutputError: if answers can't be kept in the folder.
    """
    words, nothing = split_none(parse_classes(classes))
    if not words:
        raise InvalidArgument(
            f"'{nothing[0]}' means none of the other words, and there is no other. Name what the "
            "photos may show, such as -c kangaroo."
        )
    check_class_names(words)
    folder = expand(photos)
    if not folder.exists():
        raise NotFound(f"No such folder: '{photos}'. Give the folder of photos.")
    if folder.is_file():
        raise InvalidArgument(f"'{photos}' is a file. Give the folder of photos.")
    if not os.access(folder, os.W_OK):
        raise OutputError(
            f"Answers are kept in '{folder}', where nothing may be written. Allow writing there, "
            "or copy the photos."
        )
    target = default_model_path(words) if output is None else expand(output)
    check_model_target(target)
    places = [] if data is None else [data] if isinstance(data, str | os.PathLike) else list(data)
    examples = read_together(places).images if places else []
    loaded = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    return Teaching(
        folder,
        words,
        target,
        Embedder(loaded),
        check_precision(precision),
        examples,
        or_notebook(progress),
        open_tower(words_model) if isinstance(words_model, str) else words_model,
    )


def _by_word(words: Sequence[str], shown: np.ndarray) -> Mapping[str, bool]:
    return {word: bool(there) for word, there in zip(words, shown, strict=True)}
