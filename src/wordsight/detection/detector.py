"""Find where in photos the classes are, with sliding windows over an image pyramid, and write
what was found.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..backbones.embedder import read
from ..classification.classifier import Classifier, load
from ..core.names import safe_name
from ..core.progress import Progress, or_notebook
from ..core.tables import TableWriter
from ..core.threads import interrupted_with
from ..datasets.files import ImageFile
from ..datasets.work import Photos, find_photos, over_images, refuse_none_readable
from ..errors import InvalidArgument, UnreadableImage
from ..heads.objects import OBJECT_THRESHOLD
from ..heatmaps.drawing import COLOURS, rectangle, superimpose, to_jpeg
from ..heatmaps.window_features import can_be_dense, network_scale
from ..heatmaps.windows import SMALLEST_STEP, Level, pyramid
from ..images.decoding import LARGE_PIXELS, decode, header
from .detections import COLUMNS, Detection, Detections, ImageDetections
from .objects import longest_side, objects_of
from .scanner import scan
from .whole import with_whole

COUNTS = "counts.csv"  # how many of each class an image shows
FOLDERS = ("detections", "scores")
MARKER = ".wordsight-detections"
SMALLEST_WINDOW = 16  # pixels
LARGEST_STEP = 100_000  # pixels
WINDOW = 1 / 4  # of the image's shorter side, where no window is given
STEP = 1 / 8  # of the window, where no step is given
FACTOR = 1.5
OVERLAP = 0.5
DRAWN = 1280  # pixels of the longest side of what is drawn
AT_ONCE = 2  # images: one is decoded and drawn while another is looked at


@dataclass(frozen=True)
class WindowSettings:
    """Which windows to look through.

    Attributes:
        window: (height, width) in pixels of the smallest; None: a quarter of the image's shorter
            side.
        step: pixels from one to the next at the smallest, no less than 1/64 of the window; None: an
            eighth of it.
        levels: levels of the pyramid; None: as many as fit.
        factor: how much larger the windows of the next level are.
        overlap: share (0–1) of the smaller of two boxes of a class above which the less likely one
            goes.
    """

    window: tuple[int, int] | None = None
    step: float | None = None
    levels: int | None = None
    factor: float = FACTOR
    overlap: float = OVERLAP

    @property
    def of_all_sizes(self) -> bool:
        """Whether nobody chose sizes: windows then grow up to the whole image, which is looked at,
        too.
        """
        return self.window is None and self.levels is None

    def check(self) -> None:
        """Refuse what can't be.

        Raises:
            InvalidArgument: if a setting is out of range.
        """
        if self.window is not None and min(self.window) < SMALLEST_WINDOW:
            raise InvalidArgument(
                f"A window must be at least {SMALLEST_WINDOW} pixels wide and high, got "
                f"{self.window[1]}x{self.window[0]}."
            )
        if (
            self.step is not None
            and not max(1, SMALLEST_STEP * max(self.window or (0, 0))) <= self.step <= LARGEST_STEP
        ):
            raise InvalidArgument(
                "The step must be at least 1 pixel and 1/64 of the window, and at most "
                f"{LARGEST_STEP} pixels, got {self.step:g}."
            )
        if self.levels is not None and not 1 <= self.levels <= 20:
            raise InvalidArgument(
                f"The number of levels must lie between 1 and 20, got {self.levels}."
            )
        if not 1.1 <= self.factor <= 4:
            raise InvalidArgument(
                f"The factor from level to level must lie between 1.1 and 4, got {self.factor:g}."
            )
        if not 0 <= self.overlap <= 1:
            raise InvalidArgument(f"The overlap must lie between 0 and 1, got {self.overlap:g}.")

    def of(self, size: tuple[int, int]) -> list[Level]:
        """Return the levels for an image of (height, width) `size`."""
        side = max(float(SMALLEST_WINDOW), min(size) * WINDOW)
        window = self.window or (side, side)
        finest = max(window) * SMALLEST_STEP
        step = (
            (window[0] * STEP, window[1] * STEP)
            if self.step is None
            else (max(self.step, finest),) * 2
        )
        return pyramid(size, window, step, self.factor, self.levels)


def detect(
    photos: str | os.PathLike | Iterable[str | os.PathLike],
    model: str | os.PathLike | Classifier,
    *,
    output: str | os.PathLike | None = "results",
    threshold: float | None = None,
    windows: WindowSettings | None = None,
    exact: bool = False,
    draw: bool = True,
    progress: Progress | None = None,
) -> Detections:
    """Find where in photos a model's classes are.

    A model that learned many objects a picture finds each with its box, in one pass; pictures of
    many more pixels than it learned from are looked at in overlapping tiles, too. Any other model
    looks through sliding windows.

    All windows of a level share one pass over the image: a window's embedding is the mean of the
    feature map over it. Networks whose embedding is no such mean give each window its own crop, and
    so does `exact`. A window counts if its probability reaches the threshold and, where no class
    stands for "anything else", it is no stranger to the model; that class is never a detection. Of
    windows over one thing the likeliest stays, and its box is drawn in to the heat map within it,
    as the box of a whole image is. Where no size of windows is given and the whole image gets a
    label, each region of the label's heat map is a detection, and windows count elsewhere only.

    Args:
        photos: folders, files or globs.
        model: model folder, or what `load` returned.
        output: folder for tables, images with rectangles and score maps; None writes nothing.
        threshold: probability from which a window counts, 0–1; default: the model's, 0.99, or 0.5
            for a model that learned many objects a picture.
        windows: sizes, steps, levels.
        exact: give each window a crop of its own, for comparison; hundreds of times slower.
        draw: False writes tables only.
        progress: called with (done, total, "photos").

    Raises:
        NotFound: if there is nothing to look through, or no such model.
        InvalidArgument: if a setting is out of range, or not one photo can be read.
        OutputError: if the results can't be written.
    """
    windows = windows or WindowSettings()
    windows.check()
    classifier = model if isinstance(model, Classifier) else load(model)
    _check_windows(classifier, windows, exact)
    chosen = classifier.threshold_for(threshold)[0]
    head = classifier.object_head
    if head is not None and threshold is None:
        chosen = OBJECT_THRESHOLD
    found = find_photos(photos, output, FOLDERS)
    names = classifier.class_names if head is None else list(head.class_names)
    catch_all = classifier.catch_all if head is None else None
    result = Detections(
        class_names=names,
        threshold=chosen,
        skipped=found.skipped,
        output=found.output,
        exact=head is None and (exact or not can_be_dense(classifier.backbone)),
        catch_all=None if catch_all is None else names[catch_all],
        drawn_too=found.output is not None and draw,
    )
    sink = _Sink(result, found, draw)

    def job(file: ImageFile) -> ImageDetections:
        return _detect_one(file, classifier, chosen, windows, exact, sink)

    with interrupted_with(
        "Interrupted. Tables are written at the end: the same command begins anew."
    ):
        over_images(job, found.images, sink, threads=AT_ONCE, progress=or_notebook(progress))
    refuse_none_readable(result.unreadable, len(result))
    return result


def _check_windows(model: Classifier, windows: WindowSettings, exact: bool) -> None:
    """Refuse settings of windows that an object head has no use for.

    Raises:
        InvalidArgument: if there are any.
    """
    if model.object_head is not None and (
        exact or windows != WindowSettings(window=windows.window)
    ):
        raise InvalidArgument(
            "This model finds objects without sliding windows, so of their settings it takes the "
            "window alone, as the size of tiles for large pictures. Leave the others out."
        )


_large = threading.Lock()  # one very large image at a time


def detect_image(
    data: bytes,
    model: Classifier,
    threshold: float | None,
    windows: WindowSettings,
    exact: bool = False,
) -> ImageDetections:
    """Look at one image file's bytes through all windows; see `detect`. Its `image`, at most
    1,280 pixels, is there to draw on.

    Raises:
        UnreadableImage: if it can't be read.
    """
    size = header(data)[1]
    if model.object_head is not None:
        return _objects(data, size, model, threshold, windows)
    with _large if math.prod(size) > LARGE_PIXELS else contextlib.nullcontext():
        levels = windows.of(size)
        needed = math.ceil(max(size) * min(1.0, network_scale(levels[0].window, model.backbone)))
        photo = decode(data, (max(needed, min(max(size), DRAWN)), max(size)))
        del data
        seen = scan(photo.image, size, model, levels, threshold, windows.overlap, exact)
        if windows.of_all_sizes:
            seen = with_whole(seen, photo, model, threshold, windows.overlap)
        photo.image.thumbnail((DRAWN, DRAWN))
    rows = zip(seen.boxes.tolist(), seen.labels.tolist(), seen.probabilities.tolist(), strict=True)
    found = [
        Detection(tuple(box), model.class_names[label], probability)
        for box, label, probability in rows
    ]
    return ImageDetections("", size, found, seen.windows, map=seen.map, image=photo.image)


def _objects(
    data: bytes,
    size: tuple[int, int],
    model: Classifier,
    threshold: float | None,
    windows: WindowSettings,
) -> ImageDetections:
    """Look at one image file's bytes with a model's object head."""
    head = model.object_head
    assert head is not None
    with _large if math.prod(size) > LARGE_PIXELS else contextlib.nullcontext():
        needed = longest_side(size, head, windows.window)
        photo = decode(data, (max(needed, min(max(size), DRAWN)), max(size)))
        del data
        found, scores, passes = objects_of(photo, model, threshold, windows.window)
        photo.image.thumbnail((DRAWN, DRAWN))
    return ImageDetections("", size, found, passes, map=scores, image=photo.image)


def _detect_one(
    file: ImageFile,
    model: Classifier,
    threshold: float | None,
    windows: WindowSettings,
    exact: bool,
    sink: _Sink,
) -> ImageDetections:
    try:
        detected = detect_image(read(file)[0], model, threshold, windows, exact)
    except UnreadableImage as error:
        return ImageDetections(file.name, error=str(error))
    detected.file_name = file.name
    sink.draw(detected)
    detected.image = None
    return detected


def draw_detections(
    image: np.ndarray,
    detections: Iterable[Detection],
    size: tuple[int, int],
    class_names: list[str],
) -> np.ndarray:
    """Draw rectangles with their labels into an image (height, width, 3) uint8 RGB, in place;
    `size` is what the boxes are for.
    """
    for detection in reversed(list(detections)):  # the surest on top
        colour = COLOURS[class_names.index(detection.label) % len(COLOURS)]
        rectangle(
            image, detection.xyxy, size, f"{detection.label} {detection.probability:.2f}", colour
        )
    return image


class _Sink:
    """Counts what was found, and writes it where there is an output."""

    def __init__(self, result: Detections, photos: Photos, draw: bool) -> None:
        self._result, self._draw = result, draw
        self._counts: list[list] = [["file_name", *result.found_names]]
        self._tables = (
            None
            if photos.output is None
            else TableWriter(
                photos.output,
                "detections",
                COLUMNS,
                FOLDERS if draw else (),
                MARKER,
                _drawn,
                photos.sources,
                [COUNTS],
            )
        )

    def draw(self, detected: ImageDetections) -> None:
        """Write an image with its rectangles, and its score map laid over it; note their
        paths, and let go of the map. Safe from many threads.
        """
        if self._tables is None:
            return
        score_map, detected.map = detected.map, None
        if not self._draw or score_map is None or detected.size is None or detected.image is None:
            return
        heat = superimpose(detected.image, score_map)
        drawn = draw_detections(
            np.array(detected.image), detected.detections, detected.size, self._result.class_names
        )
        paths = [
            self._tables.reserve(f"{folder}/{safe_name(detected.file_name)}", ".jpg")
            for folder in FOLDERS
        ]
        for path, pixels in zip(paths, (drawn, heat), strict=True):
            self._tables.write(path, to_jpeg(pixels))
        detected.drawing, detected.heatmap = paths

    def add(self, detected: ImageDetections) -> None:
        """Count one image, and write its rows to both tables."""
        self._result.add(detected)
        if self._tables is None:
            return
        rows: list[list] = []
        for detection in detected.detections:
            sides = [round(side, 1) for side in detection.xyxy]
            rows.append(
                [detected.file_name, detection.label, round(detection.probability, 6), *sides, ""]
            )
        if detected.error is None:
            counts, names = detected.counts, self._result.found_names
            self._counts.append([detected.file_name, *(counts[name] for name in names)])
        else:
            rows.append([detected.file_name, "", "", "", "", "", "", detected.error])
        self._tables.add(detected.to_dict(), rows)

    def finish(self) -> None:
        """Put the tables in place."""
        if self._tables is not None:
            self._tables.write_table(COUNTS, self._counts)
            self._tables.finish()

    def close(self) -> None:
        """Drop what is unfinished, and let others write here."""
        if self._tables is not None:
            self._tables.close()


def _drawn(row: dict) -> list[str]:
    """Return the paths, relative to the results folder, of what was drawn of a row of
    detections.jsonl.
    """
    return [row[key] for key in ("picture", "heatmap") if row.get(key)]
