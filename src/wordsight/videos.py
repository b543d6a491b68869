"""Follow what a clip shows, frame by frame, by a model or by a group of a known network's classes, and write it labelled."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from .backbones import DEFAULT_BACKBONE
from .classifier import Classifier, Progress, load
from .clips import CODECS, Clip, ClipWriter, Frame
from .embed import Embedder
from .errors import InvalidArgument
from .home import expand, write_atomic, writing
from .images import Photo, upright
from .model_folder import DEFAULT_THRESHOLD, check_threshold
from .overlay import COLOURS, caption, rectangle, superimpose, to_jpeg
from .recognizer import THRESHOLD, Recognizer, Seen
from .results import Prediction
from .runtime import callers, cores
from .tables import TableWriter
from .threads import parallel_map, say_interrupted

COLUMNS = ("frame", "time_s", "label", "top_label", "probability", "probabilities", "box_xyxy", "picture")
MARKER = ".wordsight-video"
PICTURES = "frames"
MOST_SMOOTH_S = 3600.0
HELD_BYTES = 512 << 20  # of frames under way at once
MOST_LINES = 6  # of the timeline


@dataclass
class FrameSeen:
    """What one frame shows.

    Attributes:
        frame: its number in the clip, from 0.
        time_s: when it is shown, in seconds from the first frame.
        label: class or group, or None where none is sure enough.
        top_label: the best guess, whether accepted or not.
        probability: of `top_label`, 0–1, smoothed where that was asked for.
        probabilities: the same for every class or group.
        box_xyxy: [x_min, y_min, x_max, y_max] in pixels of the frame, or None where there is no label.
        picture: path of the frame as JPEG, relative to the folder of tables, or None.
    """

    frame: int
    time_s: float
    label: str | None
    top_label: str
    probability: float
    probabilities: dict[str, float]
    box_xyxy: list[float] | None = None
    picture: str | None = None

    def record(self) -> dict:
        """Return the fields of `frames.jsonl`, in order."""
        return {name: getattr(self, name) for name in COLUMNS}


@dataclass(frozen=True)
class Segment:
    """A stretch of a clip with one label.

    Attributes:
        label: class or group.
        start_s: when its first frame is shown.
        end_s: when the frame after its last one is.
    """

    label: str
    start_s: float
    end_s: float


@dataclass
class Video:
    """What a clip shows; iterates over its frames.

    Attributes:
        class_names: classes or groups.
        threshold: probability from which a label is given; infinite where none is.
        fps: frames a second that were looked at.
        frames: how many were.
        labelled: frames with each label.
        segments: stretches with one label, in order.
        output: the labelled clip, or None.
        tables: folder of frames.csv, frames.jsonl and timeline.png, or None.
        note: what is to be said of the clip, such as that it ends early, or None.
    """

    class_names: list[str]
    threshold: float
    fps: float
    frames: int = 0
    labelled: dict[str, int] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    output: Path | None = None
    tables: Path | None = None
    note: str | None = None
    _kept: list[FrameSeen] = field(default_factory=list)

    def __iter__(self) -> Iterator[FrameSeen]:
        if self.tables is None:
            yield from self._kept
            return
        with open(self.tables / "frames.jsonl", encoding="utf-8") as lines:
            for line in lines:
                yield FrameSeen(**json.loads(line))

    def __len__(self) -> int:
        return self.frames

    def add(self, one: FrameSeen) -> None:
        """Count one frame, the next in order."""
        self.frames += 1
        if self.tables is None:
            self._kept.append(one)
        before = self.segments[-1] if self.segments else None
        end = one.time_s + 1 / self.fps
        if one.label is None:
            return
        self.labelled[one.label] = self.labelled.get(one.label, 0) + 1
        if before is not None and before.label == one.label and one.time_s <= before.end_s + 0.5 / self.fps:
            self.segments[-1] = Segment(one.label, before.start_s, end)
        else:
            self.segments.append(Segment(one.label, one.time_s, end))

    def as_json(self) -> dict:
        """Return the counts and segments, ready for JSON."""
        return {
            "classes": self.class_names,
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "fps": round(self.fps, 4),
            "frames": self.frames,
            "labelled": {name: self.labelled.get(name, 0) for name in self.class_names},
            "segments": [{"label": s.label, "start_s": round(s.start_s, 3), "end_s": round(s.end_s, 3)} for s in self.segments],
            "note": self.note,
            "output": None if self.output is None else str(self.output),
            "tables": None if self.tables is None else str(self.tables),
        }


@dataclass
class _Look:
    """One frame after one pass.

    Attributes:
        frame: it.
        photo: it as the network's user sees it.
        scores: (names,) probabilities.
        stranger: whether it lies outside what the model learned from.
        seen: the pass, for finding where.
        result: what is said of it, once that is decided.
    """

    frame: Frame
    photo: Photo
    scores: np.ndarray
    stranger: bool
    seen: Seen
    result: FrameSeen | None = None


class _Eye(Protocol):
    """Who looks at frames.

    Attributes:
        names: classes or groups.
        threshold: probability from which a label is given.
        embedder: the network.
        silent: name that means "anything else", whose place is nowhere, or None.
    """

    names: list[str]
    threshold: float
    embedder: Embedder
    silent: str | None

    def look(self, photo: Photo) -> tuple[np.ndarray, bool, Seen]:
        """Return the probabilities (names,) of a frame, whether it is a stranger, and the pass."""

    def locate(self, seen: Seen, label: str) -> tuple[np.ndarray, list[float] | None]:
        """Return the heat map (h, w) of a label, 0–1, and its box in pixels."""


class _ModelEye:
    """A trained model looks."""

    def __init__(self, model: Classifier, threshold: float | None, engine: str, dtype: str) -> None:
        self.names, self._model = model.class_names, model
        kept = model.info.get("threshold", DEFAULT_THRESHOLD) if threshold is None else threshold
        self.threshold = math.inf if kept is None else check_threshold(kept)
        self.embedder = Embedder(model.backbone, engine, dtype)
        self.silent = None if model.catch_all is None else model.class_names[model.catch_all]

    def look(self, photo: Photo) -> tuple[np.ndarray, bool, Seen]:
        encoding = self.embedder.encode(photo, feature_map=True)
        scores = self._model.head.probabilities(encoding.embedding[None])[0]
        stranger = int(scores.argmax()) != self._model.catch_all and bool(self._model.is_stranger(encoding.embedding[None])[0])
        return scores, stranger, Seen(photo, scores, encoding.feature_map)

    def locate(self, seen: Seen, label: str) -> tuple[np.ndarray, list[float] | None]:
        where = Prediction("", label)
        self._model.localize(where, seen.photo, self.embedder, feature_map=seen.feature_map)
        assert where.map is not None
        return where.map, where.box_xyxy


class _GroupEye:
    """A known network looks for groups of its classes."""

    silent: str | None = None

    def __init__(self, recognizer: Recognizer) -> None:
        self.names, self.threshold, self.embedder = list(recognizer.groups), recognizer.threshold, recognizer.embedder
        self._recognizer = recognizer

    def look(self, photo: Photo) -> tuple[np.ndarray, bool, Seen]:
        seen = self._recognizer.see(photo)
        return np.array([self._recognizer.share(seen.probabilities, name) for name in self.names]), False, seen

    def locate(self, seen: Seen, label: str) -> tuple[np.ndarray, list[float] | None]:
        grid, box = self._recognizer.locate(seen, label)
        return grid, None if box is None else list(box)


def video(
    clip: str | os.PathLike,
    output: str | os.PathLike | None = None,
    model: str | os.PathLike | Classifier | None = None,
    groups: str | Iterable[str] = (),
    threshold: float | None = None,
    fps: float | None = None,
    smooth_s: float = 0.0,
    heatmap: bool = False,
    frames: bool = False,
    backbone: str = DEFAULT_BACKBONE,
    engine: str = "auto",
    dtype: str = "f32",
    progress: Progress | None = None,
) -> Video:
    """Say what each frame of a clip shows, and write the clip with its labels.

    Probabilities may be smoothed over time: an exponential mean of time constant `smooth_s`, p += (1 - exp(-dt / smooth_s)) (q - p)
    for a frame of probability q that comes dt after the last; a frame that is a stranger to the model counts as 0 for every class.
    Labels then follow the smoothed ones, with a delay of about that time.

    Args:
        clip: a video file.
        output: the labelled clip, .mp4 or .webm; its tables go into a folder of the same name without suffix. None writes nothing.
        model: model folder or classifier; or
        groups: words of WordNet, whose classes a known network looks for.
        threshold: probability from which a label is given, 0–1; default: the model's, or 0.75 for groups.
        fps: frames to look at (and write) a second; None looks at every one.
        smooth_s: time constant in seconds; 0 smooths nothing.
        heatmap: draw heat maps instead of boxes.
        frames: write each frame as JPEG, too.
        backbone: with groups, the network.
        engine: "auto", "openvino" or "torch".
        dtype: "f32" or "bf16".
        progress: called with (done, total, "frames"); the total is an estimate.

    Raises:
        NotFound, InvalidArgument: no such clip or model, or a setting out of range.
        UnreadableVideo: the clip can't be read, or holds no frame.
        OutputError: something can't be written.
        KeyboardInterrupt: by Ctrl-C; what is written by then is a whole clip that plays, with its tables.
    """
    if not 0 <= smooth_s <= MOST_SMOOTH_S:
        raise InvalidArgument(f"The time of smoothing must lie between 0 and {MOST_SMOOTH_S:g} seconds, got {smooth_s:g}.")
    target = None if output is None else _target(expand(output), expand(clip))
    if frames and target is None:
        raise InvalidArgument("Frames are written beside a labelled clip. Give its name with -o.")
    with Clip(clip, fps) as source:
        eye = _eye(model, groups, threshold, backbone, engine, dtype)
        result = Video(eye.names, eye.threshold, source.fps, output=target)
        recorder = None if target is None else _Recorder(target, source.fps, frames)
        result.tables = None if recorder is None else recorder.folder
        try:
            try:
                for look, drawn in _follow(source, eye, smooth_s, heatmap, recorder is not None):
                    assert look.result is not None
                    if recorder is not None:
                        recorder.add(look, drawn)
                    result.add(look.result)
                    if progress:
                        progress(result.frames, max(result.frames, source.count), "frames")
            except KeyboardInterrupt:
                if recorder is None or not result.frames:
                    raise
                recorder.finish(result)
                say_interrupted(f"Interrupted after {result.frames} frames: '{target}' holds them and plays. The same command begins anew.")
                raise
            if source.ends_early:
                result.note = f"The clip ends early: {source.seen_s:.1f} of {source.length_s:.1f} seconds can be read."
            if recorder is not None:
                recorder.finish(result)
        finally:
            eye.embedder.cache.close()
            if recorder is not None:
                recorder.close()
    return result


def _eye(model: str | os.PathLike | Classifier | None, groups: str | Iterable[str], threshold: float | None, backbone: str, engine: str, dtype: str) -> _Eye:
    if (model is None) == (not groups):
        raise InvalidArgument("Give either a model (-m) or a group of a known network's classes (--group vehicle).")
    if model is None:
        return _GroupEye(Recognizer(groups, THRESHOLD if threshold is None else threshold, backbone, engine, dtype))
    return _ModelEye(model if isinstance(model, Classifier) else load(model), threshold, engine, dtype)


def _follow(clip: Clip, eye: _Eye, smooth_s: float, heatmap: bool, draw: bool) -> Iterator[tuple[_Look, np.ndarray | None]]:
    """Yield each frame with what it shows, and drawn, in order."""

    def look(frame: Frame) -> _Look:
        photo = upright(Image.fromarray(cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2RGB)))
        return _Look(frame, photo, *eye.look(photo))

    def finish(seen: _Look) -> tuple[_Look, np.ndarray | None]:
        assert seen.result is not None
        label, grid = seen.result.label, None
        if label is not None and label != eye.silent:
            grid, box = eye.locate(seen.seen, label)
            seen.result.box_xyxy = box
        drawn = _draw(seen, grid if heatmap else None, eye.names) if draw else None
        seen.seen.feature_map = None
        return seen, drawn

    first = iter(clip)
    frame = next(first)
    threads = max(1, min(callers(eye.embedder.engine), HELD_BYTES // max(1, 2 * frame.bgr.nbytes)))
    looks = parallel_map(look, _chain(frame, first), threads)
    yield from parallel_map(finish, _decide(looks, eye, smooth_s), min(threads, cores()))


def _chain(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


def _decide(looks: Iterator[_Look], eye: _Eye, smooth_s: float) -> Iterator[_Look]:
    """Yield frames with what is said of them, smoothed over time."""
    mean, before = None, 0.0
    for look in looks:
        scores, stranger = look.scores.astype(np.float64), look.stranger
        if smooth_s > 0:
            scores = scores * (not stranger)
            stranger = False
            share = 1.0 if mean is None else 1 - math.exp(-(look.frame.time_s - before) / smooth_s)
            mean = scores if mean is None else mean + share * (scores - mean)
            scores, before = mean, look.frame.time_s
        top = int(scores.argmax())
        sure = bool(scores[top] >= eye.threshold) and not stranger
        rounded = {name: round(float(score), 6) for name, score in zip(eye.names, scores, strict=True)}
        name = eye.names[top]
        look.result = FrameSeen(look.frame.index, round(look.frame.time_s, 6), name if sure else None, name, rounded[name], rounded)
        yield look


def _draw(look: _Look, grid: np.ndarray | None, names: list[str]) -> np.ndarray:
    """Return the frame (height, width, 3) uint8, blue first, with what it shows drawn in; as it is where nothing is sure."""
    assert look.result is not None
    if look.result.label is None:
        return look.frame.bgr
    rgb = cv2.cvtColor(look.frame.bgr, cv2.COLOR_BGR2RGB)
    size = (rgb.shape[0], rgb.shape[1])
    text = f"{look.result.label} {look.result.probability:.2f}"
    colour = COLOURS[names.index(look.result.label) % len(COLOURS)]
    if grid is not None:
        rgb = caption(superimpose(Image.fromarray(rgb), grid), text, colour)
    elif look.result.box_xyxy is not None:
        rectangle(rgb, look.result.box_xyxy, size, text, colour)
    else:
        caption(rgb, text, colour)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def _target(output: Path, clip: Path) -> Path:
    """Return where the labelled clip goes, if it may go there.

    Raises:
        InvalidArgument: it may not.
    """
    if output.suffix.lower() not in CODECS:
        raise InvalidArgument(f"-o names the labelled clip and must end in {' or '.join(CODECS)}, got '{output}'.")
    if output.exists() and clip.exists() and output.samefile(clip):
        raise InvalidArgument(f"'{output}' is the clip itself, which stays as it is. Choose another name with -o.")
    folder, ours = output.with_suffix(""), (output.with_suffix("") / MARKER).exists()
    if output.exists() and not (ours and output.is_file()):
        raise InvalidArgument(f"'{output}' was there before and is no result of wordsight. Choose another name with -o.")
    if folder.exists() and not ours and not (folder.is_dir() and not any(folder.iterdir())):
        raise InvalidArgument(f"'{folder}', where the tables would go, was there before and is no result of wordsight. Choose another name with -o.")
    return output


class _Recorder:
    """Writes the labelled clip and its tables; both appear when they are finished."""

    def __init__(self, target: Path, fps: float, pictures: bool) -> None:
        self.folder = target.with_suffix("")
        self._target, self._fps, self._pictures = target, fps, pictures
        self._tables = TableWriter(self.folder, "frames", COLUMNS, (PICTURES,) if pictures else (), MARKER, _drawn)
        self._clip: ClipWriter | None = None
        with writing(self.folder):
            (self.folder / MARKER).touch()

    def add(self, look: _Look, drawn: np.ndarray | None) -> None:
        """Add the next frame."""
        assert drawn is not None and look.result is not None
        if self._clip is None:
            self._clip = ClipWriter(self._target, self._fps, (drawn.shape[0], drawn.shape[1]))
        self._clip.write(look.frame, drawn)
        if self._pictures:
            look.result.picture = self._tables.reserve(f"{PICTURES}/{look.result.frame:06d}", ".jpg")
            self._tables.write(look.result.picture, to_jpeg(drawn[:, :, ::-1]))
        record = look.result.record()
        self._tables.add(record, [list(record.values())])

    def finish(self, result: Video) -> None:
        """Put the clip and the tables in place, and draw the timeline."""
        if self._clip is not None:
            self._clip.finish()
            self._clip = None
        self._tables.finish()
        _draw_timeline(result, self.folder)

    def close(self) -> None:
        """Drop what is unfinished."""
        if self._clip is not None:
            self._clip.drop()
        self._tables.close()


def _draw_timeline(result: Video, folder: Path) -> None:
    """Draw the probabilities over time, of the classes that are likeliest in all."""
    from . import plots

    totals = dict.fromkeys(result.class_names, 0.0)
    for one in result:
        for name, value in one.probabilities.items():
            totals[name] += value
    shown = sorted(totals, key=lambda name: -totals[name])[:MOST_LINES]
    shown = [name for name in result.class_names if name in shown]
    times, values = np.empty(result.frames), np.empty((result.frames, len(shown)), dtype=np.float32)
    for row, one in enumerate(result):
        times[row] = one.time_s
        values[row] = [one.probabilities[name] for name in shown]
    segments = [(s.label, s.start_s, s.end_s) for s in result.segments]
    with writing(folder):
        write_atomic(folder / "timeline.png", plots.png(plots.timeline(times, values, shown, result.threshold, segments)))


def _drawn(row: dict) -> list[str]:
    """Return the path, relative to the folder of tables, of the picture of a row of frames.jsonl."""
    return [row["picture"]] if row.get("picture") else []
