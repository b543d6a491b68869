"""Teaching words by answers: simulated answers from the truth, beside random order and beside plain
uncertainty.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from common import DATA, section

SEEDS = 10
WORDS = ("raccoon", "eggplant", "apple")
ANSWERS = (10, 20, 30, 40)
RUNS = 40  # of each of five tasks, for the promise
MOST = 260  # answers until a promise is given up
NOISE = 0.05


@section("any word, taught by simulated answers")
def teach(work: Path) -> list[str]:
    os.environ["WORDSIGHT_HOME"] = str(work / "home")
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.datasets.files import ImageFile, find_images
    from wordsight.teaching.hints import nearness

    embedder = Embedder(load_backbone())

    def embed(files: list) -> tuple[list[str], np.ndarray]:
        items = list(embedder.embed_all(files))
        return [item.file.name for item in items], np.stack([item.embedding for item in items])

    with open(DATA / "roll.csv", newline="") as file:
        listed = [row["file_name"] for row in csv.DictReader(file)]
    names, roll = embed([ImageFile(DATA / name, name) for name in listed])
    tasks = {}
    for word in WORDS:
        shown = np.array([[f"/{word}/" in name] for name in names])
        tasks[word] = (roll, shown, nearness(roll, embedder.backbone, [word]))
    for folder, depth in (("catdog", 1), ("clothing", 1)):
        names, photos = embed(find_images([DATA / folder]).images)
        classes = np.array([name.split("/")[depth] for name in names])
        shown = classes[:, None] == np.unique(classes)
        tasks[folder] = (photos, shown, np.zeros(shown.shape))
    split = np.array([name.startswith("train/") for name in names])
    return [*_words(tasks), *_clothing(tasks["clothing"], split), *_promises(tasks)]


def _words(tasks: dict) -> list[str]:
    lines = [
        f"Average precision on the rest after {', '.join(map(str, ANSWERS))} answers, median of "
        f"{SEEDS} orders, and the answer that first showed the word.",
        "",
        "| word | photos | first | taught | random order | plain uncertainty | with 5 % wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    for word in WORDS:
        embeddings, shown, hints = tasks[word]
        cells = []
        for order, noise in (("", 0.0), ("random", 0.0), ("doubt", 0.0), ("", NOISE)):
            found = [_run(embeddings, shown, hints, seed, order, noise) for seed in range(SEEDS)]
            curve = np.median([one[1] for one in found], axis=0)
            cells.append(" / ".join(f"{value:.3f}" for value in curve))
            if not cells[1:]:
                first = np.median([one[0] for one in found])
        lines.append(f"| {word} | {shown.sum()} | {first:g} | {' | '.join(cells)} |")
    embeddings, shown, hints = tasks["catdog"]
    right = []
    for seed in range(SEEDS):
        course, order = _course(embeddings, shown, hints, seed)
        for _ in range(12):
            _ask(course, shown[order])
        logits = course.probabilities()
        left = np.setdiff1d(np.arange(len(order)), list(course.answers))
        right.append((logits.argmax(axis=1) == shown[order].argmax(axis=1))[left].mean())
    return [
        *lines,
        "",
        f"Cats and dogs as two unknown words, 12 answers: {np.median(right):.1%} of the other "
        f"{len(shown) - 12} right (median; the worst of {SEEDS} {min(right):.1%}).",
        "",
    ]


def _run(embeddings, shown, hints, seed: int, order: str, noise: float) -> tuple[int, list[float]]:
    """Return which answer first showed the word, and the average precisions."""
    rng = np.random.default_rng(seed)
    course, at = _course(embeddings, shown, hints, seed)
    shown, first, curve = shown[at], ANSWERS[-1] + 1, []
    turn = rng.permutation(len(at))
    for count in range(1, ANSWERS[-1] + 1):
        free = np.ones(len(at), bool)
        free[list(course.answers)] = False
        if order == "random":
            photo, why = int(next(one for one in turn if free[one])), "likely"
        elif order == "doubt" and course.found.any():
            doubt = np.abs(course.probabilities(promised=False)[:, 0] - 0.5)
            photo, why = int(np.where(free, doubt, 9).argmin()), "doubtful"
        elif order == "doubt":
            photo, why = int(next(one for one in turn if free[one])), "likely"
        else:
            pick = course.next()
            photo, why = pick.photo, pick.why
        answer = shown[photo] ^ (rng.random() < noise)
        course.answer(photo, answer, why)
        first = min(first, count) if shown[photo].any() else first
        if count in ANSWERS:
            left = np.setdiff1d(np.arange(len(at)), list(course.answers))
            score = course.probabilities(promised=False)[left, 0]
            curve.append(_average_precision(score, shown[left, 0]))
    return first, curve


def _clothing(task: tuple, split: np.ndarray) -> list[str]:
    from wordsight.heads.linear import fit_head

    embeddings, shown, hints = task
    truth = shown.argmax(axis=1)
    head, _ = fit_head(embeddings[split], truth[split], shown.shape[1])
    full = (head.logits(embeddings[~split]).argmax(axis=1) == truth[~split]).mean()
    found: dict[str, list[list[float]]] = {"taught": [], "random order": []}
    for seed in range(SEEDS):
        for name, curves in found.items():
            course, at = _course(embeddings[split], shown[split], hints[split], seed)
            answers, curve = shown[split][at], []
            turn = np.random.default_rng(seed).permutation(len(at))
            for count in range(120):
                if name == "taught":
                    _ask(course, answers)
                else:
                    course.answer(int(turn[count]), answers[turn[count]], "likely")
                if count + 1 in (60, 90, 120):
                    logits = course.head.logits(embeddings[~split])[:, :-1]
                    curve.append((logits.argmax(axis=1) == truth[~split]).mean())
            curves.append(curve)
    lines = [
        f"Ten kinds of clothing at once, tested on {(~split).sum()} others; a model trained on all "
        f"{split.sum()} labels is right in {full:.1%}.",
        "",
        "| answers | taught | random order |",
        "|---|---|---|",
    ]
    for place, count in enumerate((60, 90, 120)):
        cells = [f"{np.median([one[place] for one in curves]):.1%}" for curves in found.values()]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return [*lines, ""]


def _promises(tasks: dict) -> list[str]:
    lines = [
        f"The promise of 95 %, {RUNS} runs a task: in how many it was given, in how many of these "
        "it held, after how many answers, what had a label then of all photos that show a word, "
        "how many were missed, and by how much the estimates were wrong: the head's own, and that "
        "of ten more, random questions (medians).",
        "",
        "| task | given | held | answers | labelled | missed | head's error | error after ten |",
        "|---|---|---|---|---|---|---|---|",
    ]
    given = held = 0
    answers = []
    for name, (embeddings, shown, hints) in tasks.items():
        found = [_promise(embeddings, shown, hints, seed) for seed in range(RUNS)]
        fine = [one for one in found if one is not None]
        given, held = given + len(fine), held + sum(one[1] for one in fine)
        answers += [MOST if one is None else one[0] for one in found]
        middle = np.median([one[0] for one in fine]) if fine else float("nan")
        share = np.median([one[2] for one in fine]) if fine else float("nan")
        told = " | ".join(f"{np.median([one[3][k] for one in fine]):g}" for k in range(3))
        lines.append(
            f"| {name} | {len(fine)} of {RUNS} | {sum(one[1] for one in fine)} | {middle:g} | "
            f"{share:.0%} | {told} |"
        )
    return [
        *lines,
        "",
        f"In all: given in {given} runs, held in {held} ({held / given:.1%}); median number of "
        f"answers until it was given: {np.median(answers):g}.",
    ]


def _promise(
    embeddings, shown, hints, seed: int
) -> tuple[int, bool, float, tuple[int, int, int]] | None:
    """Return after how many answers a promise was given, whether it held, the share labelled, and
    how many were missed with the errors of both estimates; None if none was given.
    """
    course, at = _course(embeddings, shown, hints, seed)
    shown = shown[at]
    for count in range(1, MOST + 1):
        if not _ask(course, shown):
            return None
        if course.promise is None:
            continue
        labels = course.promise.labels
        labelled = np.flatnonzero(labels >= 0)
        right = shown[labelled, labels[labelled]]
        known = np.zeros(len(shown), bool)
        known[labelled] = right
        known[[photo for photo, words in course.answers.items() if words.any()]] = True
        share = known.sum() / shown.any(axis=1).sum()
        return count, bool(right.mean() >= course.precision), share, _missed(course, shown)
    return None


def _missed(course, shown: np.ndarray) -> tuple[int, int, int]:
    """Return how many photos were missed, the error of the head's estimate, and the error after
    random looks.
    """

    def missing() -> int:
        left = (course.labels() < 0) & shown.any(axis=1)
        left[list(course.answers)] = False
        return int(left.sum())

    missed, first = missing(), abs(course.missing() - missing())
    while (pick := course.next()) is not None and pick.why == "missed":
        course.answer(pick.photo, shown[pick.photo], pick.why)
    return missed, first, abs(course.missing() - missing())


def _course(embeddings, shown, hints, seed: int):
    """Return a course on the photos in an order of their own, and that order."""
    from wordsight.teaching.course import Course

    at = np.random.default_rng(seed).permutation(len(embeddings))
    course = Course(embeddings[at], hints[at], np.ones(len(at), bool), seed=seed)
    course.learn()
    return course, at


def _ask(course, shown: np.ndarray) -> bool:
    """Answer the next question by the truth; return whether there was one."""
    pick = course.next()
    if pick is not None:
        course.answer(pick.photo, shown[pick.photo], pick.why)
    return pick is not None


def _average_precision(score: np.ndarray, truth: np.ndarray) -> float:
    ordered = truth[np.argsort(-score, kind="stable")].astype(float)
    if not ordered.any():
        return 1.0
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float((precision * ordered).sum() / ordered.sum())
