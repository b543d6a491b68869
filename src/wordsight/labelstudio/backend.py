"""What Label Studio asks of a machine-learning backend, without the HTTP around it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones.runtime import callers
from ..classification.classifier import Classifier
from ..core.threads import parallel_map
from ..datasets.training_set import observations
from ..errors import InvalidArgument, SourceUnavailable, UnreadableImage, WordsightError, some_of
from ..images.taken import grouped
from .annotations import Answer, Answers, read_answers
from .interface import Interface
from .learning import Lesson, learn, missing
from .pictures import Picture, Pictures
from .project import Project, project_key
from .starting import Start
from .studio import NO_TOKEN, Studio
from .suggestions import NO_IDEA, suggest

log = logging.getLogger("wordsight")
LEARN_ON = {
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
}
PAUSE_S = 1.0  # without a further annotation, after which is learned
LONGEST_S = 10.0  # after the first annotation, however many follow
REST = 4.0  # times as long as it took, before a project is learned for again
LOOK_EVERY_S = 30.0  # at most, where Label Studio asks and no webhook came
ANSWER_S = 80.0  # for one request; Label Studio waits a hundred
AT_ONCE = 4  # pictures, at least: most of the time is spent waiting for them
BOXES_STAY = (
    "Boxes come from the model's own object head, which learns with 'wordsight train --boxes', not "
    "from annotations here."
)
Payload = dict[str, Any]
Seen = tuple[np.ndarray, str, datetime | None]  # embedding, where it lies, and when it was taken


class Backend:
    """Answers for all projects that are connected. Safe from many threads.

    Args:
        start: what answers before anything was annotated; it is never changed.
        studio: Label Studio.
        pictures: reads tasks' pictures.
        output: folder of what is learned.
        threshold: probability from which a label is suggested; None for the model's own.
    """

    def __init__(
        self,
        start: Start,
        studio: Studio,
        pictures: Pictures,
        output: Path,
        threshold: float | None = None,
    ) -> None:
        self._start, self._studio, self._pictures = start, studio, pictures
        self._output, self._threshold = output, threshold
        self._projects: dict[str, Project] = {}
        self._lock, self._one_refit = threading.Lock(), threading.Lock()
        self._learner = _Waiting(self._learn_quietly)

    def close(self) -> None:
        """Stop learning, and keep the embeddings."""
        self._learner.close()
        self._start.embedder.cache.flush()

    def setup(self, given: Payload) -> Payload:
        """Take a project's interface, and Label Studio's address and token; return the version.

        Raises:
            InvalidArgument: if nothing in the interface can be answered.
            SourceUnavailable: if Label Studio, which has the pictures, refuses the token.
        """
        self._studio.introduce(given.get("hostname"), given.get("access_token"))
        project = self._project(given.get("project"))
        project.ask(given.get("schema"))
        try:
            self._studio.check()
        except SourceUnavailable as error:
            if self._pictures.places.none:  # so there is nothing that could be answered
                raise
            project.say(str(error))
        # webhooks may not come through, as new versions send none to private addresses
        if not project.lock.locked() and time.monotonic() > project.looked_at + LOOK_EVERY_S:
            self._learner.ask(project)
        return {"model_version": project.now[1]}

    def predict(self, given: Payload) -> Payload:
        """Return predictions for tasks, in their order.

        Raises:
            InvalidArgument: if nothing in the interface can be answered.
        """
        project = self._project(given.get("project"))
        interface = project.ask(given.get("label_config"))
        tasks = given.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise InvalidArgument("This request of Label Studio holds no list of tasks.")
        turn = _Turn(project.now, interface, self._pictures, self._threshold)
        threads = max(AT_ONCE, callers(self._start.embedder.engine))
        results = list(parallel_map(turn.answer, tasks, threads))
        turn.say_problems()
        return {"results": results, "model_version": turn.version}

    def webhook(self, given: Payload) -> Payload:
        """Learn soon if annotations have changed; at once if training was asked for.

        Raises:
            InvalidArgument, SourceUnavailable: if training was asked for and can't be done.
        """
        action = given.get("action")
        if action == "START_TRAINING":
            return self.train(given)
        if action not in LEARN_ON or not isinstance(given.get("project"), dict):
            return {"status": "passed over"}
        project = self._from_webhook(given["project"])
        if project is None:
            return {"status": "passed over"}
        self._learner.ask(project)
        return {"status": "learning"}

    def train(self, given: Payload) -> Payload:
        """Learn now.

        Raises:
            InvalidArgument, SourceUnavailable: if that can't be done.
        """
        told = given.get("project")
        if isinstance(told, dict):
            project = self._from_webhook(told)
        else:
            project = self._project(told)
            project.ask(given.get("label_config"))
        if project is None:
            raise InvalidArgument("This request of Label Studio names no project.")
        sentence = self._learn(project, asked=True)
        return {"status": sentence, "model_version": project.now[1]}

    def versions(self) -> Payload:
        """Return the versions that answer now."""
        with self._lock:
            every = [project.now[1] for project in self._projects.values()]
        return {"versions": list(dict.fromkeys([*every, self._start.version]))}

    def _project(self, told: object) -> Project:
        key = project_key(told)
        with self._lock:
            if key not in self._projects:
                self._projects[key] = Project(key, self._start, self._output)
            return self._projects[key]

    def _from_webhook(self, told: Payload) -> Project | None:
        """Return the project of a webhook; None where nothing of its interface can be answered."""
        project = self._project(told)
        try:
            project.ask(told.get("label_config"))
        except InvalidArgument as error:
            project.say(str(error))
            return None
        return project

    def _learn_quietly(self, project: Project) -> None:
        try:
            self._learn(project)
        except WordsightError as error:
            project.say(str(error))
        except Exception as error:  # whatever it is, the next annotation tries again
            log.exception("Project %d: learning failed: %s", project.number, error)

    def _learn(self, project: Project, asked: bool = False) -> str:
        """Learn from a project's annotations; one project at a time. Return what came of it.

        Args:
            project: what to learn for.
            asked: whether a person asked for it, who is told where there are no annotations.

        Raises:
            InvalidArgument, SourceUnavailable, OutputError: if nothing could be learned or kept.
        """
        interface = project.interface
        assert interface is not None
        given = self._start.model
        if interface.choices is None and given is not None and given.object_head is not None:
            raise InvalidArgument(BOXES_STAY)
        if not self._studio.has_token:
            raise SourceUnavailable(NO_TOKEN)
        with self._one_refit, project.lock:
            began = project.looked_at = time.monotonic()
            try:
                return self._learn_now(project, interface, asked)
            finally:
                project.rest_until = time.monotonic() + REST * (time.monotonic() - began)

    def _learn_now(self, project: Project, interface: Interface, asked: bool) -> str:
        began = time.monotonic()
        answers = read_answers(self._studio.tasks(project.number), interface)
        version = project.version_of(answers)
        if version in (project.looked, project.now[1]):
            return "Nothing has changed since it was learned."
        if not answers.answers and not answers.unused and not asked:
            return ""
        lesson, read = self._lesson(interface, answers)
        reason = missing(lesson)
        if reason is not None:
            raise InvalidArgument(reason)
        learned = learn(lesson, self._start.model, self._start.embedder)
        project.looked = version
        project.forget_said()
        self._say_unused(project, read)
        if learned.kept:
            project.keep(learned.model, read)
        else:
            project.fall_back()
        log.info(
            "Project %d: %s That took %.1f s; the version is %s.",
            *(project.number, learned.sentence, time.monotonic() - began, project.now[1]),
        )
        return learned.sentence

    def _lesson(self, interface: Interface, answers: Answers) -> tuple[Lesson, Answers]:
        """Return the annotated pictures that can be read, and the answers with the others listed as
        unused.
        """

        def embed(one: Answer) -> tuple[Answer, Seen | None, str]:
            picture = Picture(self._pictures, one.address)
            try:
                return one, (picture.embedding, picture.folder, picture.taken), ""
            except (UnreadableImage, SourceUnavailable) as error:
                return one, None, str(error)

        threads = max(AT_ONCE, callers(self._start.embedder.engine))
        every = list(parallel_map(embed, answers.answers, threads))
        self._start.embedder.cache.flush()
        read = [(one, found) for one, found, _ in every if found is not None]
        unread = [(f"task {one.task}", why) for one, found, why in every if found is None]
        if every and not read:
            raise SourceUnavailable(f"No annotated picture can be read: {unread[0][1]}")
        width = self._start.embedder.backbone.num_features
        rows = [found for _, (found, _, _) in read]
        embeddings = np.stack(rows) if read else np.zeros((0, width))
        labels = [one.labels for one, _ in read]
        folders, taken = [at for _, (_, at, _) in read], [when for _, (_, _, when) in read]
        # equal files have equal embeddings
        events = observations(grouped(folders, taken), [row.tobytes() for row in rows])
        lesson = Lesson(interface.teacher, embeddings, labels, events)
        return lesson, Answers(answers.answers, [*answers.unused, *unread])

    def _say_unused(self, project: Project, answers: Answers) -> None:
        if answers.unused:
            told = "; ".join(f"{where} {reason}" for where, reason in answers.unused[:3])
            more = len(answers.unused) - 3
            project.say(
                f"{len(answers.unused)} annotated tasks are not learned from: {told}"
                + (f"; and {more} more." if more > 0 else ".")
            )


class _Turn:
    """The answer to one request: a prediction a task.

    Attributes:
        version: of what answers.
    """

    def __init__(
        self,
        now: tuple[Classifier | None, str],
        interface: Interface,
        pictures: Pictures,
        threshold: float | None,
    ) -> None:
        self._model, self.version = now
        self._interface, self._pictures, self._threshold = interface, pictures, threshold
        self._until = time.monotonic() + ANSWER_S
        self._problems: dict[str, list[str]] = {}

    def answer(self, task: dict) -> Payload | list[Payload]:
        """Return a task's prediction; an empty list where it is to be asked for again."""
        result, score = list[dict[str, Any]](), NO_IDEA
        try:
            if time.monotonic() > self._until:
                raise SourceUnavailable(
                    "there was no time left; retrieve predictions again for the rest"
                )
            picture = self._pictures.of(task, self._interface.image_key)
            result, score = suggest(self._model, picture, self._interface, self._threshold)
        except SourceUnavailable as error:  # for now
            self._note(task, str(error))
            return []
        except UnreadableImage as error:  # for good
            self._note(task, str(error))
        except Exception as error:  # one task must not take the others with it
            log.debug("A task failed.", exc_info=True)
            self._note(task, f"{type(error).__name__}: {error}")
        return {"model_version": self.version, "score": score, "result": result}

    def say_problems(self) -> None:
        """Log which tasks got no suggestion for want of their picture, and why."""
        for reason, numbers in self._problems.items():
            tasks = f"task{'' if len(numbers) == 1 else 's'} {some_of(numbers)}"
            log.warning("No suggestion for %s: %s.", tasks, reason.rstrip("."))

    def _note(self, task: dict, reason: str) -> None:
        self._problems.setdefault(reason, []).append(str(task.get("id")))


class _Waiting:
    """Does something about projects in a thread of its own, one at a time, some time after it was
    asked to last.
    """

    def __init__(self, do: Callable[[Project], None]) -> None:
        self._do, self._ended = do, False
        self._asked: dict[Project, tuple[float, float]] = {}  # first and last time
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="wordsight-learning", daemon=True).start()

    def ask(self, project: Project) -> None:
        """Do it for a project soon."""
        now = time.monotonic()
        with self._changed:
            first, _ = self._asked.get(project, (now, now))
            self._asked[project] = first, now
            self._changed.notify()

    def close(self) -> None:
        """Do nothing more."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        while (project := self._next()) is not None:
            self._do(project)

    def _next(self) -> Project | None:
        with self._changed:
            while not self._ended:
                now = time.monotonic()
                due = {
                    project: max(min(last + PAUSE_S, first + LONGEST_S), project.rest_until)
                    for project, (first, last) in self._asked.items()
                }
                project = min(due, key=lambda one: due[one], default=None)
                if project is not None and due[project] <= now:
                    del self._asked[project]
                    return project
                self._changed.wait(None if project is None else due[project] - now)
            return None
