"""The page on which a person teaches words: questions with a photo each, one key an answer."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..classification.results import Results
from ..core.progress import Progress
from ..core.regular import read_regular
from ..errors import WordsightError
from ..exports.photos.sorting import sort
from ..images.decoding import to_jpeg
from ..teaching.session import Teaching, teach
from ..teaching.status import Question
from .guard import Guard, as_json
from .review import sorted_place
from .server import HOST, serve

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger("wordsight")
FILES = Path(__file__).with_name("teach")
SIDES = (320, 1280)  # of thumbnails and of the photo asked about, in pixels
KEPT_JPEGS = 400
GRID = 24  # photos to choose first examples from
AHEAD = 3  # questions that the page has ready, so that the next photo is there at once
LOOK_EVERY = 10  # answers between two looks for wrong ones
AGAIN = 6  # answers that are shown for a second look
MOST_SKIPPED = 10  # photos that could not be copied are named
STRIP = 12  # photos that are shown as labelled by what was learned
READ = re.compile(r"/|/teach\.(js|css)|/favicon\.ico|/photo|/state")
WRITE = re.compile(r"/(answer|answers|skip|undo|finish|sort)")


class TeachPage:
    """What the page shows and does. Safe from many threads.

    Args:
        session: what is taught.
        results: folder that results are written to at the end.
    """

    def __init__(self, session: Teaching, results: str | os.PathLike) -> None:
        self._session, self._results = session, results
        self._lock = threading.RLock()
        self._open: list[Question] = []  # asked and not answered yet
        self._finishing: dict[str, Any] | None = None
        self._again: tuple[int, list[Question]] = (-1, [])  # at how many tens of answers, which
        self._jpeg = functools.lru_cache(KEPT_JPEGS)(self._make_jpeg)

    def state(self) -> dict[str, Any]:
        """Return all that the page shows, ready for JSON."""
        session = self._session
        with self._lock:
            status = session.status
            if not any(status.confirmed.values()) and status.answered < GRID and not self._open:
                grid = [self._told(question) for question in session.grid(GRID)]
            else:
                grid = []
                wanted = AHEAD - len(self._open)
                self._open += list(session.ask(max(0, wanted)))
            tens = status.answered // LOOK_EVERY
            if tens != self._again[0]:
                self._again = (tens, session.second_looks(AGAIN))
            labels = session.labels
            answered = session.answers
            return {
                "words": session.words,
                "sentence": status.sentence(),
                "promised": status.promised,
                "check": status.more,
                "answered": status.answered,
                "grid": grid,
                "questions": [self._told(question) for question in self._open],
                "learned": [
                    {"file_name": name, "label": label} for name, label in session.surest(STRIP)
                ],
                "given": [
                    {"file_name": name, "labels": answered[name]}
                    for name in list(answered)[: -STRIP - 1 : -1]
                ],
                "again": [
                    {"file_name": one.file_name, "labels": answered[one.file_name]}
                    for one in self._again[1]
                    if one.file_name in answered
                ],
                "labelled": len(labels),
                "unreadable": len(session.unreadable),
                "finishing": self._finishing,
            }

    def answer(self, file_name: str, labels: Sequence[str] | None) -> dict[str, Any]:
        """Take one answer, and return the state after it."""
        with self._lock:
            self._session.answer(file_name, labels)
            self._go_on()
            self._close(file_name)
            left = [one for one in self._again[1] if one.file_name != file_name]
            self._again = (self._again[0], left)
            return self.state()

    def answers(self, given: dict[str, Sequence[str]]) -> dict[str, Any]:
        """Take the answers of a grid, file name -> words, and return the state after them."""
        with self._lock:
            for file_name, labels in given.items():
                self._session.answer(file_name, labels)
            self._go_on()
            return self.state()

    def skip(self, file_name: str) -> dict[str, Any]:
        """Ask about something else, and return the state after it."""
        with self._lock:
            self._session.skip(file_name)
            self._go_on()
            self._close(file_name)
            return self.state()

    def undo(self) -> dict[str, Any]:
        """Take the last answer back, and return the state after it, with that photo first."""
        with self._lock:
            name = self._session.undo()
            self._go_on()
            if name is not None:
                self._open = [self._session.question(name)]
            return self.state()

    def finish(self) -> dict[str, Any]:
        """Begin to save the model and to write results, and return the state."""
        with self._lock:
            running = self._finishing is not None and "what" in self._finishing
            if not running:
                self._finishing = {"done": 0, "total": 1, "what": "model"}
                threading.Thread(target=self._finish, daemon=True).start()
            return self.state()

    def sort(self) -> dict[str, Any]:
        """Begin to copy the photos of the results into a folder a class, and return the state."""
        with self._lock:
            finished = self._finishing
            if finished is not None and finished.get("results"):
                self._finishing = {"done": 0, "total": 1, "what": "files"}
                threading.Thread(target=self._sort, args=(finished,), daemon=True).start()
            return self.state()

    def photo(self, file_name: str, side: int) -> bytes | None:
        """Return a photo as a JPEG, upright, its longer side at most so many pixels; None for one
        that is not of the folder.
        """
        if file_name not in self._session.book.images or side not in SIDES:
            return None
        return self._jpeg(file_name, side)

    def _progress(self, done: int, total: int, what: str) -> None:
        self._finishing = {"done": done, "total": total, "what": what}

    def _sort(self, finished: dict[str, Any]) -> None:
        place = sorted_place(self._session.book.root)
        try:
            done = sort(finished["results"], place, progress=self._progress)
            self._finishing = {
                **finished,
                "error": None,
                "sorted": str(done.output),
                "skipped": [list(one) for one in done.skipped[:MOST_SKIPPED]],
                "more": max(0, len(done.skipped) - MOST_SKIPPED),
            }
        except WordsightError as error:
            self._finishing = {**finished, "error": str(error)}
        except Exception as error:  # whatever it is, the page must not wait for ever
            log.exception("The photos could not be sorted.")
            self._finishing = {**finished, "error": f"The photos could not be sorted: {error}."}

    def _finish(self) -> None:
        try:
            with self._lock:
                model = self._session.finish()
            results = self._session.results(self._results, model=model, progress=self._progress)
            self._finishing = _finished(model.record.path, results)
        except WordsightError as error:
            self._finishing = {"error": str(error)}
        except Exception as error:  # whatever it is, the page must not wait for ever
            log.exception("The results could not be written.")
            self._finishing = {"error": f"The results could not be written: {error}."}

    def _make_jpeg(self, file_name: str, side: int) -> bytes:
        image = self._session.book.images[file_name]
        return to_jpeg(read_regular(image.path), side)

    def _go_on(self) -> None:
        """Forget what was finished, for there is more to learn from now."""
        if self._finishing is not None and "what" not in self._finishing:
            self._finishing = None

    def _close(self, file_name: str) -> None:
        self._open = [one for one in self._open if one.file_name != file_name]

    def _told(self, question: Question) -> dict[str, Any]:
        return {
            "file_name": question.file_name,
            "suggestion": question.suggestion,
            "why": question.why,
        }


def open_teaching(
    photos: str | os.PathLike,
    classes: str | Iterable[str],
    *,
    output: str | os.PathLike | None = None,
    results: str | os.PathLike = "results",
    data: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    precision: float = 0.95,
    backbone: str | Backbone = DEFAULT_BACKBONE,
    words_model: str | None = None,
    host: str = HOST,
    port: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Teaching:
    """Open a page in the browser to teach words, until Ctrl-C; see `wordsight.teach`.

    Args:
        photos: one folder; answers are kept in its metadata.csv.
        classes: "kangaroo,cow" or a list; any words.
        output: model folder.
        results: folder of the results that the page writes at the end.
        data: labelled images to begin with.
        precision: share of the labels that is to be right.
        backbone: a name, or a prepared backbone.
        words_model: name of a prepared text–image model whose order the first questions follow.
        host: address to listen on; from any but this machine's own a token is demanded.
        port: to listen on; by default 7860, or the next that is free.
        say: called with the address.
        progress: called with (done, total, what) while photos are read.
    """
    session = teach(
        photos,
        classes,
        output=output,
        data=data,
        precision=precision,
        backbone=backbone,
        words_model=words_model,
        progress=progress,
    )
    (say or log.info)(f"Finish writes the model to {session.output} and results to {results}.")
    page = application(TeachPage(session, results))
    serve(
        lambda hosts, token, uploads: Guard(page, hosts, token, uploads, READ, WRITE),
        host,
        port,
        say,
    )
    return session


def application(page: TeachPage) -> Any:
    """Return the page as an ASGI application, without its guard."""
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, Response
    from starlette.routing import Route

    def file(name: str) -> Any:
        return lambda request: FileResponse(FILES / name)

    def state(request: Request) -> Response:
        return as_json(page.state())

    def action(do: Callable[[dict], dict]) -> Any:
        async def taken(request: Request) -> Response:
            from starlette.concurrency import run_in_threadpool

            try:
                given = await request.json()
                if not isinstance(given, dict):
                    raise ValueError("an object is needed")
                return as_json(await run_in_threadpool(do, given))
            except WordsightError as error:
                return as_json({"error": str(error)}, 422)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                return as_json({"error": f"This request can't be read: {error}."}, 400)

        return taken

    actions: dict[str, Callable[[dict], dict]] = {
        "/answer": lambda given: page.answer(str(given["file_name"]), _labels(given["labels"])),
        "/answers": lambda given: page.answers(
            {str(name): _labels(labels) for name, labels in given["answers"].items()}
        ),
        "/skip": lambda given: page.skip(str(given["file_name"])),
        "/undo": lambda given: page.undo(),
        "/finish": lambda given: page.finish(),
        "/sort": lambda given: page.sort(),
    }
    return Starlette(
        routes=[
            Route("/", file("teach.html")),
            Route("/teach.js", file("teach.js")),
            Route("/teach.css", file("teach.css")),
            Route("/favicon.ico", lambda request: Response(status_code=204)),
            Route("/photo", lambda request: _photo(page, request)),
            Route("/state", state),
            *(Route(path, action(do), methods=["POST"]) for path, do in actions.items()),
        ]
    )


def _photo(page: TeachPage, request: Request) -> Response:
    from starlette.responses import Response

    asked = request.query_params
    side = next((side for side in SIDES if str(side) == asked.get("side")), 0)
    try:
        name = json.loads(asked.get("name", ""))
    except (ValueError, RecursionError):
        return as_json({"error": "Ask for a photo by its name in JSON."}, 400)
    try:
        data = page.photo(str(name), side)
    except (WordsightError, OSError) as error:
        return as_json({"error": str(error)}, 422)
    if data is None:
        return as_json({"error": "There is no such photo."}, 404)
    return Response(data, media_type="image/jpeg", headers={"cache-control": "max-age=3600"})


def _labels(given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(label, str) for label in given):
        raise ValueError("labels are a list of words")
    return given


def _finished(model: Path | None, results: Results) -> dict[str, Any]:
    report = None if results.output is None else results.output / "report.html"
    return {
        "model": str(model),
        "results": None if results.output is None else str(results.output.resolve()),
        "report": None if report is None else str(report.resolve()),
        "unsure": results.counts.unsure,
    }
