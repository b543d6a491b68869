"""Find where in photos the classes are, with sliding windows over an image pyramid, and write
what was found.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..backbones.embedder import Embedder, read
from ..classification.classifier import Classifier, load
from ..core.home import expand
from ..core.notebook import block, frame, table
from ..core.progress import Progress, or_notebook
from ..core.result_folder import safe_name
from ..core.tables import TableWriter
from ..core.threads import interrupted_with, parallel_map
from ..datasets.files import ImageFile, find_images, refuse_photos_among_results
from ..errors import InvalidArgument, UnreadableImage
from ..heatmaps.drawing import COLOURS, rectangle, superimpose, to_jpeg
from ..heatmaps.window_features import can_be_dense, network_scale
from ..heatmaps.windows import SMALLEST_STEP, Level, pyramid
from ..images.decoding import LARGE_PIXELS, decode, header
from ..reports.notebook_gallery import gallery
from .scanner import scan

if TYPE_CHECKING:
    import pandas


FOLDERS = ("detections", "scores")
MARKER = ".wordsight-detections"
COLUMNS = ("file_name", "label", "probability", "x_min", "y_min", "x_max", "y_max", "error")
SMALLEST_WINDOW = 16  # pixels
LARGEST_STEP = 100_000  # pixels
WINDOW = 1 / 4  # of the image's shorter side, where no window is given
STEP = 1 / 8  # of the window, where no step is given
FACTOR = 1.5
OVERLAP = 0.5
DRAWN = 1280  # pixels of the longest side of what is drawn
AT_ONCE = 2  # images: one is decoded and drawn while another is looked at


@dataclass(frozen=True)
class Detection:
    """One thing found.

    Attributes:
        xyxy: (x_min, y_min, x_max, y_max) in pixels of the upright image.
        label: class name.
        probability: calibrated, 0–1.
    """

    xyxy: tuple[float, float, float, float]
    label: str
    probability: float

    def record(self) -> dict:
        """Return the fields, ready for JSON."""
        return {
            "label": self.label,
            "probability": round(self.probability, 6),
            "xyxy": [round(side, 1) for side in self.xyxy],
        }


@dataclass
class ImageDetections:
    """What was found in one image.

    Attributes:
        file_name: path relative to the folder given.
        size: (height, width) in pixels of the upright image, or None where it is unreadable.
        detections: the surest first.
        windows: how many windows were looked at.
        drawing: path of the image with rectangles, relative to the results folder, or None.
        heatmap: path of the superimposed score map, likewise.
        error: None, or why the file could not be read.
        map: (h, w) float32 score map, 0–1, or None; not part of the tables.
        image: the upright image, while it is drawn on.
    """

    file_name: str
    size: tuple[int, int] | None = None
    detections: list[Detection] = field(default_factory=list)
    windows: int = 0
    drawing: str | None = None
    heatmap: str | None = None
    error: str | None = None
    map: np.ndarray | None = None
    image: Image.Image | None = None

    def record(self) -> dict:
        """Return the fields of `detections.jsonl`, in order."""
        height, width = self.size or (None, None)
        return {
            "file_name": self.file_name,
            "width": width,
            "height": height,
            "detections": [detection.record() for detection in self.detections],
            "windows": self.windows,
            "picture": self.drawing,
            "heatmap": self.heatmap,
            "error": self.error,
        }


@dataclass
class Detections:
    """What was found in many images; iterates over them.

    Attributes:
        class_names: in the model's order.
        threshold: probability from which a window counts.
        counts: detections by class name.
        images: how many images there were.
        with_any: in how many of them something was found.
        unreadable: (file name, reason) of each image that could not be read.
        skipped: names of files that are no images.
        output: folder of the results, or None.
        exact: whether every window had its own crop.
        catch_all: class that means "anything else" and is never a detection, or None.
        drawn: whether images were drawn.
    """

    class_names: list[str]
    threshold: float | None
    counts: Counter[str] = field(default_factory=Counter)
    images: int = 0
    with_any: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    output: Path | None = None
    exact: bool = False
    catch_all: str | None = None
    drawn: bool = False
    _kept: list[ImageDetections] = field(default_factory=list)

    def __iter__(self) -> Iterator[ImageDetections]:
        return iter(self._kept)

    def __len__(self) -> int:
        return self.images

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with the columns of detections.csv: a row a detection, and one for
        each image that could not be read.
        """
        found = (
            (one.file_name, d.label, d.probability, *d.xyxy, None)
            for one in self
            for d in one.detections
        )
        lost = ((one.file_name, *[None] * 6, one.error) for one in self if one.error is not None)
        return frame(
            (dict(zip(COLUMNS, row, strict=True)) for row in itertools.chain(found, lost)), COLUMNS
        )

    def _repr_html_(self) -> str:
        found = (
            (f"{one.file_name}: {len(one.detections)}", self.output / one.drawing)
            for one in self
            if self.output and one.drawing
        )
        rows = [[name, self.counts[name]] for name in self.class_names if name != self.catch_all]
        title = f"{self.images:,} photos, something found in {self.with_any:,}"
        return block(title, table(["class", "found"], rows, len(rows)), gallery(found))

    def add(self, found: ImageDetections) -> None:
        """Count one image."""
        self._kept.append(found)
        self.images += 1
        self.with_any += bool(found.detections)
        self.counts.update(detection.label for detection in found.detections)
        if found.error is not None:
            self.unreadable.append((found.file_name, found.error))

    def as_json(self) -> dict:
        """Return the counts, ready for JSON."""
        return {
            "classes": self.class_names,
            "threshold": self.threshold,
            "pictures": self.images,
            "pictures_with_detections": self.with_any,
            "detections": {
                name: self.counts[name] for name in self.class_names if name != self.catch_all
            },
            "exact": self.exact,
            "unreadable": [
                {"file_name": name, "error": reason} for name, reason in self.unreadable
            ],
            "skipped": self.skipped,
            "output": None if self.output is None else str(self.output),
        }


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

    def check(self) -> None:
        """Refuse what can't be.

        Raises:
            InvalidArgument: a setting out of range.
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
    output: str | os.PathLike | None = None,
    threshold: float | None = None,
    windows: WindowSettings | None = None,
    exact: bool = False,
    draw: bool = True,
    progress: Progress | None = None,
) -> Detections:
    """Find where in photos a model's classes are.

    All windows of a level share one pass over the image: a window's embedding is the mean of the
    feature map over it. Networks whose embedding is no such mean give each window its own crop, and
    so does `exact`. A window counts if its probability reaches the threshold and, where no class
    stands for "anything else", it is no stranger to the model; that class is never a detection. Of
    windows over one thing the likeliest stays, and its box is drawn in to the heat map within it,
    as the box of a whole image is.

    Args:
        photos: folders, files or globs.
        model: model folder or classifier.
        output: folder for tables, images with rectangles and score maps; None writes nothing.
        threshold: probability from which a window counts, 0–1; default: the model's, 0.99.
        windows: sizes, steps, levels.
        exact: look at a crop for each window, for comparison; hundreds of times slower.
        draw: False writes tables only.
        progress: called with (done, total, "photos").

    Raises:
        NotFound, InvalidArgument: nothing to look at, no such model, or a setting out of range.
        OutputError: the results can't be written.
    """
    progress = or_notebook(progress)
    windows = windows or WindowSettings()
    windows.check()
    classifier = model if isinstance(model, Classifier) else load(model)
    chosen = classifier.threshold_for(threshold)[0]
    sources = [photos] if isinstance(photos, str | os.PathLike) else list(photos)
    folder = None if output is None else expand(output)
    found = find_images(sources, exclude=folder)
    if folder is not None:
        refuse_photos_among_results(found.images, folder, FOLDERS)
    result = Detections(
        classifier.class_names,
        chosen,
        skipped=found.skipped,
        output=folder,
        exact=exact or not can_be_dense(classifier.backbone),
    )
    result.catch_all = (
        None if classifier.catch_all is None else classifier.class_names[classifier.catch_all]
    )
    result.drawn = folder is not None and draw
    embedder = classifier.embedder
    writer = None if folder is None else _Writer(folder, classifier.class_names, draw, sources)

    def job(file: ImageFile) -> ImageDetections:
        return _detect_one(file, classifier, embedder, chosen, windows, exact, writer)

    try:
        with interrupted_with(
            "Interrupted. Tables are written at the end: the same command begins anew."
        ):
            for one in parallel_map(job, found.images, AT_ONCE):
                result.add(one)
                if writer is not None:
                    writer.add(one)
                if progress:
                    progress(result.images, len(found.images), "photos")
        if writer is not None:
            writer.finish()
    finally:
        if writer is not None:
            writer.close()
    return result


_large = threading.Lock()  # one very large image at a time


def detect_image(
    data: bytes,
    model: Classifier,
    embedder: Embedder,
    threshold: float | None,
    windows: WindowSettings,
    exact: bool = False,
) -> ImageDetections:
    """Look at one image file's bytes through all windows; see `detect`. Its `image`, at most
    1,280 pixels, is there to draw on.

    Raises:
        UnreadableImage: it can't be read.
    """
    size = header(data)[1]
    with _large if math.prod(size) > LARGE_PIXELS else contextlib.nullcontext():
        levels = windows.of(size)
        needed = math.ceil(max(size) * min(1.0, network_scale(levels[0].window, model.backbone)))
        photo = decode(data, (max(needed, min(max(size), DRAWN)), max(size)))
        del data
        seen = scan(photo.image, size, model, embedder, levels, threshold, windows.overlap, exact)
        photo.image.thumbnail((DRAWN, DRAWN))
    rows = zip(seen.boxes.tolist(), seen.labels.tolist(), seen.probabilities.tolist(), strict=True)
    found = [
        Detection(tuple(box), model.class_names[label], probability)
        for box, label, probability in rows
    ]
    return ImageDetections("", size, found, seen.windows, map=seen.map, image=photo.image)


def _detect_one(
    file: ImageFile,
    model: Classifier,
    embedder: Embedder,
    threshold: float | None,
    windows: WindowSettings,
    exact: bool,
    writer: _Writer | None,
) -> ImageDetections:
    try:
        detected = detect_image(read(file)[0], model, embedder, threshold, windows, exact)
    except UnreadableImage as error:
        return ImageDetections(file.name, error=str(error))
    detected.file_name = file.name
    if writer is not None:
        writer.draw(detected)
        detected.map = None
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


class _Writer:
    """Writes the results."""

    def __init__(self, output: Path, class_names: list[str], draw: bool, photos: list) -> None:
        self._class_names, self._images = class_names, draw
        self._tables = TableWriter(
            output, "detections", COLUMNS, FOLDERS if draw else (), MARKER, _drawn, photos
        )

    def draw(self, detected: ImageDetections) -> None:
        """Write an image with its rectangles, and its score map laid over it; note their
        paths. Safe from many threads.
        """
        if (
            not self._images
            or detected.map is None
            or detected.size is None
            or detected.image is None
        ):
            return
        heat = superimpose(detected.image, detected.map)
        drawn = draw_detections(
            np.array(detected.image), detected.detections, detected.size, self._class_names
        )
        paths = [
            self._tables.reserve(f"{folder}/{safe_name(detected.file_name)}", ".jpg")
            for folder in FOLDERS
        ]
        for path, pixels in zip(paths, (drawn, heat), strict=True):
            self._tables.write(path, to_jpeg(pixels))
        detected.drawing, detected.heatmap = paths

    def add(self, detected: ImageDetections) -> None:
        """Write one image's rows to both tables."""
        rows: list[list] = []
        for detection in detected.detections:
            sides = [round(side, 1) for side in detection.xyxy]
            rows.append(
                [detected.file_name, detection.label, round(detection.probability, 6), *sides, ""]
            )
        if detected.error is not None:
            rows.append([detected.file_name, "", "", "", "", "", "", detected.error])
        self._tables.add(detected.record(), rows)

    def finish(self) -> None:
        """Put the tables in place."""
        self._tables.finish()

    def close(self) -> None:
        """Drop what is unfinished, and let others write here."""
        self._tables.close()


def _drawn(row: dict) -> list[str]:
    """Return the paths, relative to the results folder, of what was drawn of a row of
    detections.jsonl.
    """
    return [row[key] for key in ("picture", "heatmap") if row.get(key)]
