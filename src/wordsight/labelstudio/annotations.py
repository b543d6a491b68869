"""What a project's annotations say of its pictures, by the rules by which data sets are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from ..datasets.formats.label_studio_tasks import BADLY_WRITTEN, read_whole_task
from .interface import CHOICES, Control, Interface


@dataclass(frozen=True)
class Answer:
    """What people say of one picture.

    Attributes:
        task: its id.
        address: what the task calls the picture.
        labels: the labels it was given; empty where it shows none of them.
    """

    task: int
    address: str
    labels: frozenset[str]


@dataclass(frozen=True)
class Answers:
    """What the annotations of a project say.

    Attributes:
        answers: in the order of the tasks.
        unused: (task, reason) of each that can't be learned from.
    """

    answers: list[Answer]
    unused: list[tuple[str, str]]

    @property
    def fingerprint(self) -> str:
        """64 hex digits of what is said of which picture."""
        told = sorted((one.address, sorted(one.labels)) for one in self.answers)
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def read_answers(tasks: Iterable[dict], interface: Interface) -> Answers:
    """Return what annotations say. What is marked as ground truth counts before the others, skipped
    ones don't count, and annotators who disagree are listed, and not learned from.

    Args:
        tasks: as Label Studio's JSON has them: dicts with id, data and annotations.
        interface: what was asked.
    """
    control = interface.teacher
    answers: dict[str, Answer] = {}
    unused: list[tuple[str, str]] = []
    for task in tasks:
        number = task.get("id")
        where = f"task {number}"
        try:
            if not _finished(task):
                continue
            read = read_whole_task(where, _only(task, interface.image_key, control))
            problem, given = read.problem, [_labels(result, control) for result in read.results]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, StopIteration):
            problem, given = BADLY_WRITTEN, []
        labels = frozenset(label for labels in given for label in labels)
        if problem is None and control.kind == CHOICES:
            problem = _wrong_count(labels, control)
        if problem is not None:
            unused.append((where, problem))
        elif read.address in answers:
            unused.append((where, f"is on the same picture as task {answers[read.address].task}"))
        else:
            answers[read.address] = Answer(int(number or 0), read.address, labels)
    return Answers(list(answers.values()), unused)


def _finished(task: dict) -> bool:
    """Whether somebody has annotated a task, and not skipped it."""
    return any(not one.get("was_cancelled") for one in task.get("annotations") or [])


def _only(task: dict, image_key: str, control: Control) -> dict:
    """Return a task with its picture and what annotations say to one tag, without predictions."""
    annotations = [
        {
            **one,
            "result": [
                result
                for result in one.get("result") or []
                if result.get("from_name") == control.from_name
            ],
        }
        for one in task.get("annotations") or []
    ]
    return {"data": {"image": task["data"][image_key]}, "annotations": annotations}


def _labels(result: dict, control: Control) -> list[str]:
    value = result["value"][control.kind]
    return [label for label in value if label in control.labels]


def _wrong_count(labels: frozenset[str], control: Control) -> str | None:
    if not labels:
        return "is given none of the choices"
    if len(labels) > 1 and not control.several:
        return f"is given several choices: {', '.join(sorted(labels))}"
    return None
