"""Label clips frame by frame, with a model or with groups of a pretrained network's classes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from ..backbones.backbone import Backbone
from ..backbones.runtime import callers
from ..classification.classifier import Classifier
from ..core.home import expand
from ..core.progress import Progress, or_notebook
from ..core.threads import cores, interrupted_with, parallel_map, uninterrupted
from ..detection.detections import Detection
from ..detection.detector import draw_detections
from ..errors import InvalidArgument
from ..heads.decision import accepts
from ..heatmaps.drawing import COLOURS, caption, rectangle, superimpose
from ..images.clips import Clip, Frame
from ..images.decoding import upright
from ..recognition.recognizer import Seen
from .frame_models import FrameModel, open_frame_model
from .recorder import FrameSeen, Recorder, Video, check_target

MOST_SMOOTH_S = 3600.0
HELD_BYTES = 512 << 20  # of frames under way at once
COPIES = 3  # of a frame while it is looked at or drawn


@dataclass(frozen=True)
class VideoDrawing:
    """What is drawn on a clip.

    Attributes:
        heatmap: heat maps instead of boxes.
        frames: each frame as JPEG, too.
    """

    heatmap: bool = False
    frames: bool = False


@dataclass
class _Look:
    """What one pass found in a frame.

    Attributes:
        frame: the frame.
        scores: (names,) probabilities.
        stranger: whether it lies outside what the model learned from.
        seen: the pass, for localizing; None once that is done.
        result: the frame's result, once decided.
    """

    frame: Frame
    scores: np.ndarray
    stranger: bool
    seen: Seen | None
    result: FrameSeen | None = None


def video(
    clip: str | os.PathLike,
    model: str | os.PathLike | Classifier | None = None,
    *,
    output: str | os.PathLike | None = None,
    groups: str | Iterable[str] = (),
    threshold: float | None = None,
    fps: float | None = None,
    smooth_s: float = 0.0,
    drawing: VideoDrawing | None = None,
    backbone: str | Backbone | None = None,
    progress: Progress | None = None,
) -> Video:
    """Label each frame of a clip, and write the labelled clip.

    Probabilities may be smoothed over time: an exponential mean of time constant `smooth_s`, p +=
    (1 - exp(-dt / smooth_s)) (q - p) for a frame of probability q that comes dt after the last; a
    frame that is a stranger to the model counts as 0 for every class. Labels then follow the
    smoothed ones, with a delay of about that time.

    Args:
        clip: a video file.
        model: model folder or classifier; or groups are given.
        output: the labelled clip, .mp4 or .webm; its tables go into a folder of the same name
            without suffix. None writes nothing.
        groups: words of WordNet, whose classes a known network looks for.
        threshold: probability from which a label is given, 0–1; default: the model's, or 0.75 for
            groups.
        fps: frames to look at (and write) a second; None looks at every one.
        smooth_s: time constant in seconds; 0 smooths nothing.
        drawing: heat maps instead of boxes, and each frame as JPEG; default: neither.
        backbone: with groups, the network; None: the embedded one.
        progress: called with (done, total, "frames"); the total is an estimate.

    Raises:
        NotFound, InvalidArgument: if there is no such clip or model, or a setting out of range.
        UnreadableVideo: if the clip can't be read, or holds no frame.
        OutputError: if something can't be written.
        KeyboardInterrupt: if interrupted by Ctrl-C; the clip written so far plays and has its
            tables.
    """
    drawing = drawing or VideoDrawing()
    if not 0 <= smooth_s <= MOST_SMOOTH_S:
        raise InvalidArgument(
            f"The time of smoothing must lie between 0 and {MOST_SMOOTH_S:g} seconds, got "
            f"{smooth_s:g}."
        )
    target = None if output is None else check_target(expand(output), expand(clip))
    if drawing.frames and target is None:
        raise InvalidArgument("Frames are written beside a labelled clip. Give its name with -o.")
    with (
        interrupted_with("Interrupted before anything was written: the same command begins anew."),
        Clip(clip, fps) as source,
    ):
        frame_model = open_frame_model(model, groups, threshold, backbone)
        result = Video(
            frame_model.names,
            frame_model.threshold,
            source.fps,
            output=target,
            remark=source.remark,
        )
        recorder = None if target is None else Recorder(target, source, drawing.frames)
        followed = _follow(source, frame_model, smooth_s, drawing.heatmap, recorder is not None)
        return _record(source, followed, result, recorder, or_notebook(progress))


def _record(
    source: Clip,
    followed: Iterable[tuple[_Look, np.ndarray | None]],
    result: Video,
    recorder: Recorder | None,
    progress: Progress | None,
) -> Video:
    """Add every frame to the result and, where there is one, to the labelled clip. After Ctrl-C,
    what is there so far is finished.
    """
    result.folder = None if recorder is None else recorder.folder
    try:
        try:
            for look, drawn in followed:
                assert look.result is not None
                with uninterrupted():  # so that all tables have the same rows
                    if recorder is not None:
                        assert drawn is not None
                        recorder.add(look.frame, look.result, drawn)
                    result.add(look.result)
                if progress:
                    most = source.count and max(result.frames, source.count)
                    progress(result.frames, most, "frames")
        except KeyboardInterrupt:
            if recorder is None or not result.frames:
                raise
            _finish(recorder, result)
            raise KeyboardInterrupt(_interrupted(result)) from None
        result.note = source.note()
        if recorder is not None:
            _finish(recorder, result)
    finally:
        if recorder is not None:
            recorder.close()
    return result


def _finish(recorder: Recorder, result: Video) -> None:
    """Move everything to its final place; Ctrl-C is delayed until then."""
    try:
        recorder.finish(result)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_interrupted(result)) from None


def _interrupted(result: Video) -> str:
    return (
        f"Interrupted after {result.frames} frames: '{result.output}' holds them and plays. The "
        "same command begins anew."
    )


def _follow(
    clip: Clip, frame_model: FrameModel, smooth_s: float, heatmap: bool, draw: bool
) -> Iterator[tuple[_Look, np.ndarray | None]]:
    """Yield each frame's result and drawing, in order."""

    def look(frame: Frame) -> _Look:
        photo = upright(Image.fromarray(cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2RGB)))
        return _Look(frame, *frame_model.classify(photo))

    def finish(seen: _Look) -> tuple[_Look, np.ndarray | None]:
        assert seen.result is not None and seen.seen is not None
        label, grid = seen.result.label, None
        if label is not None and label != frame_model.catch_all:
            grid, box = frame_model.locate(seen.seen, label)
            seen.result.box_xyxy = box
        found = frame_model.find(seen.seen.photo)
        seen.result.objects = None if found is None else [one.to_dict() for one in found]
        shown = None if heatmap else found
        drawn = _draw(seen, grid if heatmap else None, frame_model.names, shown) if draw else None
        seen.seen = None
        return seen, drawn

    first = iter(clip)
    frame = next(first)
    most = max(2, HELD_BYTES // (2 * COPIES * frame.bgr.nbytes))  # in each of the two stages
    threads = min(callers(frame_model.embedder.engine), most)
    looks = parallel_map(look, _chain(frame, first), threads, min(most, 2 * threads))
    yield from parallel_map(
        finish, _decide(looks, frame_model, smooth_s), min(threads, cores()), min(most, 2 * threads)
    )


def _chain(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


def _decide(looks: Iterator[_Look], frame_model: FrameModel, smooth_s: float) -> Iterator[_Look]:
    """Yield frames with their results, smoothed over time."""
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
        sure = bool(accepts(scores[top], stranger, frame_model.threshold))
        rounded = {
            name: round(float(score), 6)
            for name, score in zip(frame_model.names, scores, strict=True)
        }
        name = frame_model.names[top]
        look.result = FrameSeen(
            look.frame.index,
            round(look.frame.time_s, 6),
            name if sure else None,
            name,
            rounded[name],
            rounded,
        )
        yield look


def _draw(
    look: _Look, grid: np.ndarray | None, names: list[str], objects: list[Detection] | None
) -> np.ndarray:
    """Return the frame (height, width, 3) uint8, blue first, with what it shows drawn in, or with
    its objects; as it is where nothing is sure.
    """
    assert look.result is not None
    if objects is not None:
        rgb = cv2.cvtColor(look.frame.bgr, cv2.COLOR_BGR2RGB)
        others = sorted({one.label for one in objects} - {*names})
        rgb = draw_detections(rgb, objects, (rgb.shape[0], rgb.shape[1]), [*names, *others])
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
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
