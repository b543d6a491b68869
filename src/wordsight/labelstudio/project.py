"""One project of Label Studio: what it asks, what answers it now, and where that is kept."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ..classification.classifier import Classifier, load
from ..errors import InvalidArgument, WordsightError, some_of
from ..words.class_names import is_catch_all
from .annotations import Answers
from .interface import Interface, read_interface
from .starting import Start

log = logging.getLogger("wordsight")
_UID = re.compile(r"(\d{1,12})(\.\d{1,12})?")
_LEARNED = "annotations in Label Studio ({version})"  # a model's supervision
_VERSION = re.compile(r"annotations in Label Studio \((.+)\)")


def project_key(told: object) -> str:
    """Return what a project is told by: its number and when it was made, as Label Studio says in
    `project`, or as its webhooks say.

    Raises:
        InvalidArgument: if it names none.
    """
    if isinstance(told, dict):
        made = str(told.get("created_at") or "").replace("Z", "+00:00")
        try:
            told = f"{int(told['id'])}.{int(datetime.fromisoformat(made).timestamp())}"
        except (KeyError, ValueError, TypeError, OverflowError):
            told = None
    if not isinstance(told, str) or not _UID.fullmatch(told):
        raise InvalidArgument("This request of Label Studio names no project.")
    return told


class Project:
    """One project. What answers is swapped as a whole; `lock` is held while it is learned anew.

    Args:
        key: see `project_key`.
        start: what answers before anything was learned.
        output: folder in which learned models are kept.

    Attributes:
        number: its id in Label Studio.
        folder: where its learned model is kept.
        now: (model, version) that answers.
        interface: what it asks, or None as long as that is not known.
        looked: version of the annotations looked at last; "" for none.
        looked_at: when they were looked at.
        rest_until: when they may be looked at again without being asked for.
        lock: held by who learns.
    """

    def __init__(self, key: str, start: Start, output: Path) -> None:
        self.number, self._start = int(key.partition(".")[0]), start
        self.folder = output / f"project-{key}"
        self.now: tuple[Classifier | None, str] = self._found() or (start.model, start.version)
        self.interface: Interface | None = None
        self.looked, self.looked_at, self.rest_until = "", 0.0, 0.0
        self.lock = threading.Lock()
        self._text: object = None
        self._said: set[str] = set()

    def ask(self, text: object) -> Interface:
        """Take the labeling interface, and return what can be answered in it.

        Raises:
            InvalidArgument: if nothing can.
        """
        model = self.now[0]
        if self.interface is None or text != self._text:
            names = [] if model is None else model.class_names
            self.interface, self._text, self.looked = read_interface(text, names), text, ""
            self._compare(self.interface, names)
        return self.interface

    def version_of(self, answers: Answers) -> str:
        """Return the version of what is learned from some answers."""
        return f"{self._start.version}+{len(answers.answers)}.{answers.fingerprint[:6]}"

    def keep(self, model: Classifier, answers: Answers) -> None:
        """Use a learned model from now on, and save it, so that it is used after a restart, too.

        Raises:
            InvalidArgument, OutputError: if it can't be saved; it is used all the same.
        """
        version = self.version_of(answers)
        model.record = replace(
            model.record,
            supervision=_LEARNED.format(version=version),
            data_fingerprint=answers.fingerprint,
            unused=answers.unused,
        )
        self.now = (model, version)
        model.save(self.folder)

    def fall_back(self) -> None:
        """Use the model that was given at the start."""
        self.now = (self._start.model, self._start.version)

    def say(self, sentence: str) -> None:
        """Log a sentence about this project, once."""
        if sentence not in self._said:
            self._said.add(sentence)
            log.info("Project %d: %s", self.number, sentence)

    def forget_said(self) -> None:
        """Forget which sentences were printed, so that each may be printed once more."""
        self._said.clear()

    def _found(self) -> tuple[Classifier, str] | None:
        """Return the model that an earlier run learned, if it began with what this run did."""
        if not self.folder.is_dir():
            return None
        try:
            model = load(self.folder)
        except WordsightError as error:
            log.warning("What was learned before can't be used: %s", error)
            return None
        told = _VERSION.fullmatch(model.record.supervision)
        if told is None or not told[1].startswith(f"{self._start.version}+"):
            log.info(
                "'%s' was learned beside another model, so it waits until this one has learned.",
                self.folder,
            )
            return None
        log.info("Going on with what was learned before: %s.", self.folder)
        model.embedder = self._start.embedder
        return model, told[1]

    def _compare(self, interface: Interface, names: list[str]) -> None:
        """Print which labels the model doesn't know, and which of its classes have no label."""
        control = interface.teacher
        known = {control.label_of(name) for name in names}
        unknown = [label for label in control.labels if label not in known]
        nameless = [
            name for name in names if control.label_of(name) is None and not is_catch_all(name)
        ]
        if unknown:
            self.say(
                f"The model doesn't know {some_of(unknown)}: suggested once it was learned from "
                "annotations."
            )
        if nameless:
            self.say(
                f"The labeling interface has no label for {some_of(nameless)}: never suggested. "
                'Add it, or name it in a label\'s predicted_values="…".'
            )
