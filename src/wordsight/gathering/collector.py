"""Gather images for words: search, fetch, examine, and keep usable new ones until there are enough.

Many candidates are fetched at once but decided one by one, in the order they were found. So the
same answers of the sources give the same set, however slow they are and however often the run is
killed. The ledger records every step.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from ..core.home import expand, replace_file, sync_file, writing
from ..core.names import safe_name
from ..core.progress import Progress, or_notebook
from ..core.records import digest
from ..core.result_folder import Build
from ..datasets.licenses import LicenseFilter
from ..errors import InvalidArgument, NothingGathered, OutputError
from ..images.fingerprints import Look, NearDuplicates
from ..words.class_names import fold
from .credits import metadata_row, write_credits
from .funnel import Funnel, Gathered, cause, funnels
from .ledger import Fetched, Ledger, Row
from .request import GatherSettings, Want, check_folder, folder_name, open_sources, plan_classes
from .screening import Rejected, examine
from .searching import Say, Search
from .sources import (
    DEFAULT_SOURCES,
    REASONS,
    Candidate,
    FetchError,
    Source,
    Web,
    open_source,
)

AHEAD = 128  # candidates that are fetched or wait to be decided
SAVE_EVERY_S = 15.0


def gather(
    classes: str | Iterable[str],
    output: str | os.PathLike,
    *,
    sources: Sequence[str | Source] = DEFAULT_SOURCES,
    limit: int = 600,
    negatives: int = 0,
    settings: GatherSettings | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Gathered:
    """Gather images for words into a data set with one folder per class.

    The same call continues where an interrupted one stopped, and asks for nothing twice. Every
    image is upright 8-bit RGB in JPEG, PNG or WebP: the bytes of the original if it is so already,
    else a JPEG made of it.

    Args:
        classes: "cat,dog" or a list.
        output: folder, new or gathered before.
        sources: names (`list_sources()`; "urls:FILE" and "folder:FOLDER" too) or `Source` objects.
        limit: unique usable images wanted for each class.
        negatives: images wanted for a further class of anything else: `not_<word>` beside one word,
            `other` beside several.
        settings: licences and size of the images.
        progress: called with (done, total, what).
        say: called with one line for each thing worth knowing.

    Raises:
        InvalidArgument: if the request can't be met, or `--offline` forbids it.
        NothingGathered: if not one image came; the message gives the reason.
        OutputError: if the folder can't be written.
    """
    settings = settings or GatherSettings()
    wants = plan_classes(classes, limit, negatives)
    allowed = settings.check()
    opened = open_sources(sources, [want.label for want in wants if want.per_text is None])
    folder = expand(output)
    progress = or_notebook(progress) or (lambda *_: None)
    say = say or (lambda _: None)
    with _held(folder) as build:
        work = _Gathering(folder, build, wants, opened, allowed, settings.min_size, progress, say)
        try:
            with start_blocking_portal() as portal:
                portal.call(work.run)
        finally:
            result = work.finish()
    if not any(result.kept.values()):
        raise NothingGathered(f"No picture came. {' '.join(result.causes)}", result)
    return result


@contextmanager
def _held(folder: Path) -> Iterator[Build]:
    """Make the folder, let no other run write to it, and let reports be put into it.

    Raises:
        InvalidArgument: if it holds something else, or another run writes to it.
        OutputError: if it, or its ledger, can't be written.
    """
    with writing(folder), _ledger_errors(folder), check_folder(folder).build() as build:
        build.adopt()
        yield build


@contextmanager
def _ledger_errors(folder: Path) -> Iterator[None]:
    """Turn a ledger that can't be written into `OutputError`: the disk is full, or read-only."""
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(
            f"Can't write to '{folder}': {error}. Choose another folder with -o, or free some "
            "space."
        ) from error


class _Gathering:
    """One run over one folder."""

    def __init__(
        self,
        folder: Path,
        build: Build,
        wants: list[Want],
        sources: dict[str, Source],
        license: LicenseFilter,
        min_size: int,
        progress: Progress,
        say: Say,
    ) -> None:
        self.folder, self.build, self.wants, self.sources = folder, build, wants, sources
        self.license, self.min_size, self.progress, self.say = license, min_size, progress, say
        self.ledger = Ledger(folder)
        self.search = Search(self.ledger, sources, license, min_size, say)
        self.saved_at = time.monotonic()
        try:
            self._check_settings()
            self.waiting = folder / self.ledger.waiting_folder()
            self._take_stock()
        except BaseException:  # Ctrl-C too: the ledger is closed
            self.ledger.close()
            raise

    def _check_settings(self) -> None:
        for name, value, option in (
            ("license", self.license.text, "--license"),
            ("min_size", str(self.min_size), "--min-size"),
        ):
            before = self.ledger.setting(name)
            if before is not None and before != value:
                if not any(True for _ in self.ledger.kept()):
                    self.ledger.start_afresh()  # it holds no images yet, so nothing depends on it
                    break
                raise InvalidArgument(
                    f"'{self.folder}' was gathered with {option} {before}, now it is {value}. "
                    "Use the same, or another folder with -o."
                )
        self.ledger.set("license", self.license.text)
        self.ledger.set("min_size", str(self.min_size))
        names = {fold(row[0]): row[0] for row in self.ledger.counts("label")}
        for want in self.wants:
            before = names.get(fold(want.label), want.label)
            if before != want.label:
                raise InvalidArgument(
                    f"'{self.folder}' has the class '{before}'; write it so, not '{want.label}'."
                )

    def _take_stock(self) -> None:
        """Make ledger and files agree, however the last run ended, and count what is there."""
        self.looks = NearDuplicates()
        self.shas: dict[bytes, int] = {}  # hash of the original and of the kept file -> number
        self.kept: Counter[str] = Counter()
        for row in self.ledger.kept():
            size = self._size(row["name"])
            if size == 0:  # cut by a power failure: to be fetched again
                empty = self.folder / row["name"]
                if not empty.is_symlink() and safe_name(row["name"]) == row["name"]:
                    empty.unlink()
                self.ledger.forget([row["id"]])
                continue
            self._remember(
                row["id"], row["downloaded_sha"], row["sha"], Look(row["bits"], row["thumbnail"])
            )
            self.kept[row["label"]] += size is not None
        for want in self.wants:
            if self.kept[want.label] >= want.limit:
                self._let_go(want)
        self._sweep()
        self.waiting.mkdir(exist_ok=True)
        for number, sha in self.ledger.waiting_files().items():
            before = self.folder / f".{number}.part"  # where 0.1.0 put it
            if digest(before) == sha:
                replace_file(before, self._part(number))
        if self.ledger.setting("finished") == "1":
            for want in self.wants:
                if self.kept[want.label] < want.limit:
                    self.ledger.try_again(
                        want.label,
                        [
                            "not read",
                            *(reason for reason, may_change in REASONS.items() if may_change),
                        ],
                    )
                    self.ledger.ask_again(want.label, [want.texts[0], want.label])
        self.ledger.set("finished", "0")

    def _sweep(self) -> None:
        """Delete the files of fetches that were broken off, and their folder if nothing waits."""
        waiting = {self._part(number).name for number in self.ledger.waiting_files()}
        if not self.waiting.is_symlink() and self.waiting.is_dir():
            for entry in os.scandir(self.waiting):
                if entry.name not in waiting:
                    os.unlink(entry.path)
            if not waiting:
                with suppress(OSError):  # after Ctrl-C the last file may come late
                    self.waiting.rmdir()

    def _remember(self, number: int, downloaded_sha: str, sha: str, appearance: Look) -> None:
        self.looks.add(number, appearance)
        self.shas[bytes.fromhex(downloaded_sha)] = self.shas[bytes.fromhex(sha)] = number

    def _part(self, number: int) -> Path:
        return self.waiting / f"{number}.part"

    async def run(self) -> None:
        """Fill every class."""
        # every source may use a server that the user named
        named = [open_source(name) for name in DEFAULT_SOURCES]
        allowed = set().union(
            *(source.allowed_sites() for source in [*named, *self.sources.values()])
        )
        together = [group for source in self.sources.values() if (group := source.at_once())]
        # at its end, it waits for files that are being written
        with ThreadPoolExecutor(os.cpu_count() or 1) as self.decoders:
            await self._fill_all(Web(allowed, together, self.say))
        self.ledger.set("finished", "1")

    async def _fill_all(self, web: Web) -> None:
        async with web as self.web:
            for want in self.wants:
                self.search.failures.clear()
                self.progress(self.kept[want.label], want.limit, want.label)
                if self.kept[want.label] < want.limit:
                    await self._fill(want)

    async def _fill(self, want: Want) -> None:
        """Fetch ahead and decide in order, until the class is full or no candidates are left."""
        under_way: deque[tuple[Row, asyncio.Task]] = deque()
        moved = asyncio.Event()

        async def room_for(ahead: int) -> None:
            while len(under_way) >= min(AHEAD, ahead * (want.limit - self.kept[want.label])):
                moved.clear()
                await moved.wait()

        async def feed() -> None:
            try:
                batches = self.search.batches(want, self.web)
                while True:
                    # searches only when needed, as if every candidate were good
                    await room_for(1)
                    rows = await anext(batches, None)
                    if rows is None:
                        return
                    for row in rows:
                        await room_for(2)  # some are not good
                        under_way.append((row, asyncio.ensure_future(self._fetch(row))))
                        moved.set()
            finally:
                moved.set()

        feeder = asyncio.ensure_future(feed())
        try:
            while self.kept[want.label] < want.limit:
                if not under_way:
                    if feeder.done():
                        feeder.result()
                        break
                    moved.clear()
                    await moved.wait()
                    continue
                row, task = under_way[0]
                fetched = await task
                under_way.popleft()
                if fetched is not None:
                    self._decide(row, fetched)
                    self.progress(self.kept[want.label], want.limit, want.label)
                moved.set()
                self._save_now_and_then()
        finally:
            tasks = [feeder, *(task for _, task in under_way)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._let_go(want)

    def _let_go(self, want: Want) -> None:
        """Drop candidates that were fetched ahead and are not needed."""
        self.ledger.forget([row.number for row in self.ledger.waiting(want.label) if row.fetched])

    def _size(self, name: str) -> int | None:
        """Return the size of a file of the data set, or None if it is gone."""
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return None

    # Fetching

    async def _fetch(self, row: Row) -> Fetched | None:
        """Download one candidate to its temporary file, and record the outcome."""
        part = self._part(row.number)
        if row.fetched and (
            self._is_whole(part, row.fetched)
            or self._is_whole(self.folder / self._free_name(row, row.fetched), row.fetched)
        ):
            return row.fetched
        source = self.sources[row.source]
        try:
            if type(source).read is Source.read:
                await self.web.download(row.offer.url, part)
            outcome = await asyncio.get_running_loop().run_in_executor(
                self.decoders, self._examine, part, source, row.offer
            )
            if outcome is None:
                await self.web.download(row.offer.url, part)
                outcome = await asyncio.get_running_loop().run_in_executor(
                    self.decoders, self._examine, part, None, row.offer
                )
        except FetchError as error:
            outcome = Rejected(
                error.reason if error.reason in REASONS else "not read", error.detail
            )
        if isinstance(outcome, Rejected):
            part.unlink(missing_ok=True)
            self.ledger.fail(row.number, outcome.reason, outcome.detail)
            return None
        assert outcome is not None
        self.ledger.fetch(row.number, outcome)
        return outcome

    def _examine(
        self, part: Path, source: Source | None, offer: Candidate
    ) -> Fetched | Rejected | None:
        """Examine an image that was downloaded, or that its source reads; return None if the source
        leaves the download to us.
        """
        data = None
        if source is not None and type(source).read is not Source.read:
            try:
                data = source.read(offer)
            except Exception as error:  # a source may be anybody's code; this image is left out
                return Rejected("not read", f"{type(error).__name__}: {error}")
            if data is None:
                return None
        original = part.read_bytes() if data is None else data
        outcome = examine(original, self.min_size)
        if isinstance(outcome, Rejected):
            return outcome
        fetched, kept = outcome
        if data is not None or kept is not original:
            part.write_bytes(kept)
        sync_file(part)  # the ledger will say that it is here
        return fetched

    @staticmethod
    def _is_whole(path: Path, fetched: Fetched) -> bool:
        return digest(path) == fetched.sha

    # Deciding

    def _free_name(self, row: Row, fetched: Fetched) -> str:
        """Return the name that an image gets, or has already; never that of another file."""
        source = re.sub(r"[^\w-]+", "-", row.source.partition(":")[0])
        stem = f"{folder_name(row.label)}/{source}-{fetched.sha[:16]}"
        while os.path.lexists(self.folder / f"{stem}{fetched.suffix}") and not self._is_whole(
            self.folder / f"{stem}{fetched.suffix}", fetched
        ):
            stem += "~"
        return f"{stem}{fetched.suffix}"

    def _decide(self, row: Row, fetched: Fetched) -> None:
        """Keep a fetched image, unless the same one is there already."""
        part = self._part(row.number)
        same = self.shas.get(bytes.fromhex(fetched.downloaded_sha)) or self.shas.get(
            bytes.fromhex(fetched.sha)
        )
        number = same or self.looks.find(fetched.look)
        if number is not None:
            part.unlink(missing_ok=True)
            self.ledger.fail(
                row.number,
                "duplicate" if same else "near duplicate",
                f"of {self.ledger.name_of(number)}",
            )
            return
        name = self._free_name(row, fetched)
        target = self.folder / name
        if self._is_whole(part, fetched):  # else it was moved before the run was killed
            target.parent.mkdir(exist_ok=True)
            replace_file(part, target)
        self.ledger.keep(row.number, name)
        self._remember(row.number, fetched.downloaded_sha, fetched.sha, fetched.look)
        self.kept[row.label] += 1

    # Reporting

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self.saved_at > SAVE_EVERY_S:
            self._write_credits()
            self.saved_at = time.monotonic()

    def _write_credits(self) -> tuple[Counter[str], Counter[str]]:
        """Write metadata.csv and ATTRIBUTION.md; return how many images the user removed, per
        class and per site.
        """
        removed: set[str] = set()
        moved: dict[str, str] = {}  # by the user, into another class's folder
        elsewhere: dict[str, str] | None = None
        by_label: Counter[str] = Counter()
        by_site: Counter[str] = Counter()
        for kept in self.ledger.kept():
            if self._size(kept["name"]) is None:
                if elsewhere is None:
                    elsewhere = {
                        path.name: f"{path.parent.name}/{path.name}"
                        for path in self.folder.glob("*/*")
                    }
                place = elsewhere.get(kept["name"].rpartition("/")[2])
                if place:
                    moved[kept["name"]] = place
                removed.add(kept["name"])
                by_label[kept["label"]] += 1
                by_site[kept["site"]] += 1
        if self.kept.total() or (self.folder / "metadata.csv").exists():

            def rows() -> Iterator[dict[str, str]]:
                for kept in self.ledger.kept():
                    if kept["name"] in moved:
                        yield metadata_row(
                            {
                                **kept,
                                "name": moved[kept["name"]],
                                "label": moved[kept["name"]].partition("/")[0],
                            }
                        )
                    elif kept["name"] not in removed:
                        yield metadata_row(kept)

            write_credits(self.folder, self.build, rows, removed)
        return by_label, by_site

    def finish(self) -> Gathered:
        """Write credits and counts of the set, close the ledger, and return the result."""
        try:
            self._sweep()
            by_label, by_site = self._write_credits()
            wanted = {want.label: want.limit for want in self.wants}
            classes, sites = (
                funnels(self.ledger, "label", by_label),
                funnels(self.ledger, "site", by_site),
            )
            result = Gathered(
                self.folder,
                wanted,
                classes,
                sites,
                self.ledger.queries(),
                self.ledger.sizes_that_differ(),
            )
            result.causes = [
                cause(
                    want,
                    classes.get(want.label, Funnel()),
                    sum(1 for label, *_ in result.queries if label == want.label),
                    self.sources,
                    self.search.problems.get(want.label, {}),
                )
                for want in self.wants
                if result.kept[want.label] < want.limit
            ]
            told = json.dumps(result.to_dict(), indent=1, ensure_ascii=False)
            self.build.place("funnel.json", told.encode("utf-8", "surrogateescape"))
            return result
        finally:
            self.ledger.close()
