"""Search by example, or by words where a text–image model is there: embed what is looked for and
every photo, and take those that are nearest."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedder, read
from ..backbones.registry import load_backbone
from ..core.home import expand
from ..core.names import in_short
from ..core.progress import Progress, or_notebook
from ..core.result_folder import ResultFolder
from ..core.threads import interrupted_with, parallel_map
from ..datasets.files import ImageFile
from ..datasets.work import find_photos, refuse_none_readable
from ..errors import InvalidArgument, NotFound, UnreadableImage
from ..heads.linear import normalize, power_normalize, softmax
from ..heads.neighbours import Neighbours
from ..images.decoding import decode
from ..images.taken import time_of, told_time
from ..reports.gallery import Card
from ..reports.page import Report, render
from ..towers.names import KNOWN, find_prepared
from ..towers.ranking import rank
from ..towers.tower import TextImageTower, open_tower
from .matches import PAGE, TABLES, Match, Matches

MOST = 1000  # photos found, which one page can show
CHUNK = 1024  # photos that go into the index at once
THREADS = 4


def find(
    photos: str | os.PathLike | Iterable[str | os.PathLike],
    words: str = "",
    *,
    like: str | os.PathLike | Iterable[str | os.PathLike] = (),
    top: int = 50,
    output: str | os.PathLike | None = None,
    backbone: str | Backbone = DEFAULT_BACKBONE,
    words_model: str | TextImageTower | None = None,
    progress: Progress | None = None,
) -> Matches:
    """Find the photos that are most like an example, or that words fit best.

    Two views of a photo count alike: its embedding, and what the network's own head names in it,
    each by the cosine of their square roots. There is no limit below which a photo is unlike: the
    most similar come first, whatever they show. The example itself is left out.

    Args:
        photos: folders, files or globs.
        words: what to look for, in words, by a text–image model; each photo goes through it once.
        like: the example, or several; of several, the middle counts.
        top: how many photos to find, at most 1,000.
        output: folder for found.html, found.csv and found.jsonl; None writes nothing.
        backbone: the network whose embeddings are compared with an example's.
        words_model: the text–image model, prepared by `wordsight.towers.prepare`; None: the one
            that is prepared on this machine.
        progress: called with (done, total, "photos").

    Raises:
        NotFound: if there is no such example or folder.
        InvalidArgument: if there is no example, if it can't be read, if `top` is out of range, or
            if not one photo can be read.
        BackboneUnavailable: if the text–image model is not prepared.
        OutputError: if the results can't be written.

    Example:
        >>> for match in wordsight.find("photos/", like="photo.jpg", top=3):
        ...     print(match.rank, match.file_name, match.similarity)
    """
    if words and like:
        raise InvalidArgument("Look for words or for what is like an example: leave one out.")
    if words_model is not None and not words:
        raise InvalidArgument("--words-model is for words: wordsight find WORDS -p PHOTOS.")
    tower = _tower(words, words_model) if words else None
    examples = [] if words else _examples(like)
    if not 1 <= top <= MOST:
        raise InvalidArgument(f"--top takes 1 to {MOST} photos, got {top}.")
    found = find_photos(photos, output, ())
    folder = None if found.output is None else ResultFolder(found.output, "found")
    if folder is not None:
        folder.claim([*TABLES, PAGE])
    images = [file for file in found.images if not _is_one_of(file, examples)]
    if not images:
        raise InvalidArgument(
            f"There is no photo besides the example '{examples[0].path}'. Give a folder of photos "
            "with -p."
        )
    result = Matches(
        like=[str(one.path) for one in examples],
        words=words,
        skipped=found.skipped,
        output=found.output,
    )
    with interrupted_with("Interrupted. What was read is kept: the same command goes on."):
        if tower is None:
            similarities = _by_example(result, examples, images, backbone, top, progress)
        else:
            similarities = _by_words(result, tower, images, top, progress)
        refuse_none_readable(result.unreadable, len(images))
        shown = list(parallel_map(_shown, [*examples, *result.files], THREADS))
    result.found = [
        Match(rank, file.name, float(similarity), *taken)
        for rank, (file, similarity, (_, taken)) in enumerate(
            zip(result.files, similarities, shown[len(examples) :], strict=True), start=1
        )
    ]
    if folder is not None:
        page = _page(result, [card for card, _ in shown])
        folder.write([(PAGE, page), *result.written()], last=TABLES)
    return result


def _by_example(
    result: Matches,
    examples: list[ImageFile],
    images: list[ImageFile],
    backbone: str | Backbone,
    top: int,
    progress: Progress | None,
) -> np.ndarray:
    """Put the images most like the examples into a result, the most similar first, and those that
    can't be read; return the similarities (top,).
    """
    embedder = Embedder(load_backbone(backbone))
    query = _middle(examples, embedder)
    readable: list[ImageFile] = []
    rows = _rows(images, embedder, readable, result.unreadable, or_notebook(progress))
    places, similarities = Neighbours(rows).nearest(query, top)
    result.photos, result.files = len(readable), [readable[place] for place in places]
    return similarities


def _by_words(
    result: Matches,
    tower: TextImageTower,
    images: list[ImageFile],
    top: int,
    progress: Progress | None,
) -> np.ndarray:
    """Put the images that words fit best into a result; otherwise as `_by_example`."""
    ranking = rank(images, result.words, tower, or_notebook(progress))
    result.photos, result.files = len(ranking.files), ranking.files[:top]
    result.unreadable += [(file.name, _why(file)) for file in ranking.unreadable]
    return ranking.scores[:top]


def _why(file: ImageFile) -> str:
    """Return why an image can't be read."""
    try:
        decode(read(file)[0])
    except UnreadableImage as error:
        return str(error)
    return "can't be shown to the text–image model"


def _tower(words: str, wanted: str | TextImageTower | None) -> TextImageTower:
    """Return the text–image model that was asked for, or the one that is prepared here.

    Raises:
        InvalidArgument: if none or several are prepared, and none was asked for.
        BackboneUnavailable: if the one asked for is not prepared.
    """
    if wanted is not None:
        return open_tower(wanted) if isinstance(wanted, str) else wanted
    prepared = [name for name in KNOWN if find_prepared(name) is not None]
    if len(prepared) == 1:
        return open_tower(prepared[0])
    if prepared:
        raise InvalidArgument(
            f"Several text–image models are prepared here: {', '.join(prepared)}. Choose one with "
            "--words-model."
        )
    raise InvalidArgument(
        f"To find '{in_short(words, 60)}' takes a text–image model, and none is prepared here. "
        "Prepare one (wordsight words --prepare siglip2), give an example with --like PHOTO, or "
        "teach the words: wordsight teach -c WORDS -p PHOTOS."
    )


def _examples(like: str | os.PathLike | Iterable[str | os.PathLike]) -> list[ImageFile]:
    """Return the examples.

    Raises:
        NotFound, InvalidArgument: if there are none.
    """
    paths = [like] if isinstance(like, str | os.PathLike) else list(like)
    if not paths:
        raise InvalidArgument(
            "Say what to look for: an example with --like PHOTO, or words by a text–image model."
        )
    examples = [ImageFile(path, path.name) for path in map(expand, paths)]
    for one in examples:
        if not one.path.exists():
            raise NotFound(f"No such picture: '{one.path}'. Give one photo with --like.")
    return examples


def _is_one_of(file: ImageFile, examples: Sequence[ImageFile]) -> bool:
    """Whether a file is one of the examples; a copy of it elsewhere is not."""
    return any(
        file.path.name == one.path.name and os.path.samefile(file.path, one.path)
        for one in examples
        if file.path.exists()
    )


def _middle(examples: Sequence[ImageFile], embedder: Embedder) -> np.ndarray:
    """Return the middle (C,) of what the network sees in the examples.

    Raises:
        InvalidArgument: if one can't be read.
    """
    seen = []
    for one in embedder.embed_all(examples):
        if one.embedding is None:
            raise InvalidArgument(
                f"The example '{one.file.path}' can't be read: {one.error}. Give another photo "
                "with --like."
            )
        seen.append(one.embedding)
    return normalize(views(np.stack(seen), embedder.backbone)).mean(axis=0)


def views(embeddings: np.ndarray, backbone: Backbone) -> np.ndarray:
    """Return what is compared (n, D) of embeddings (n, C): their square roots, and beside them, if
    the network has a head of its own, those of its probabilities.
    """
    own = power_normalize(embeddings)
    if (head := backbone.concept_head()) is None:
        return own
    weight, bias = head
    return np.hstack([own, np.sqrt(softmax(embeddings @ weight.T + bias))])


def _rows(
    images: Sequence[ImageFile],
    embedder: Embedder,
    readable: list[ImageFile],
    unreadable: list[tuple[str, str]],
    progress: Progress | None,
) -> Iterator[np.ndarray]:
    """Yield what is compared of the images, some at once, and list those that can be read and
    those that can't.
    """

    def embeddings() -> Iterator[np.ndarray]:
        for done, one in enumerate(embedder.embed_all(images), start=1):
            if one.embedding is None:
                unreadable.append((one.file.name, str(one.error)))
            else:
                readable.append(one.file)
                yield one.embedding
            if progress:
                progress(done, len(images), "photos")

    left = embeddings()
    while some := list(itertools.islice(left, CHUNK)):
        yield views(np.stack(some), embedder.backbone)


def _shown(file: ImageFile) -> tuple[Card, tuple[str | None, str | None]]:
    """Return an image's card, and when it was taken by whom."""
    card = Card(file.name, "found", file.name)
    try:
        data = read(file)[0]
        return card.with_image(decode(data).image), told_time(file.path, time_of(data))
    except UnreadableImage:  # gone meanwhile
        return card, (None, None)


def _page(result: Matches, shown: Sequence[Card]) -> bytes:
    """Return the gallery: the examples, and what is like them."""
    count = len(result.like)
    cards = [replace(card, group="example", said="example") for card in shown[:count]]
    cards += [
        replace(card, said=f"{one.rank}. {one.similarity:.3f}", note=one.taken_at or "")
        for one, card in zip(result, shown[count:], strict=True)
    ]
    told = [f"{result.title()}.", "A similarity orders photos; it is no probability."]
    if result.unreadable:
        told.append(f"{len(result.unreadable)} files can't be read; {TABLES[1]} lists them.")
    title = f"Photos of {result.words}" if result.words else "Photos like the example"
    report = Report(title, told, "Made by wordsight.")
    report.groups = [("group:found", f"found ({len(result)})")]
    report.images_heading = "Those that the words fit best first"
    if count:
        report.groups.insert(0, ("group:example", f"examples ({count})"))
        report.images_heading = "The example, then the most similar first"
    return render(report, cards)
