"""Clips: frames of a video file in, labelled clips out, through OpenCV. Knows no network and no label.

Only local files of usual kinds are opened: a playlist, which could point anywhere, is none.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from .errors import InvalidArgument, NotFound, OutputError, UnreadableVideo
from .home import expand, writing
from .images import looks_like_picture

CODECS = {".mp4": "mp4v", ".webm": "vp09"}  # what is written under a suffix: MPEG-4 part 2, VP9
DEMUXERS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,gif,mjpeg,ivf,mxf,dv,rm,nut,wtv"  # FFmpeg's names
USUAL_FPS = (0.5, 240.0)  # a rate outside is no rate: some recorders note their clock's
FALLBACK_FPS = 30.0
MISSING, MISSING_S = 0.05, 0.5  # part of the length, and seconds, that may be missing before a clip is said to end early
SPACE, LOOK_EVERY = 2 << 20, 32  # bytes that must be free on the disk, and frames after which that is looked at again
_opening = threading.Lock()


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    Attributes:
        index: its number, from 0.
        time_s: when it is shown, in seconds from the first frame.
        tick: its place in a clip of constant rate; several frames of a clip whose rate varies may have the same.
        bgr: (height, width, 3) uint8, upright, blue first.
    """

    index: int
    time_s: float
    tick: int
    bgr: np.ndarray


class Clip:
    """A video file, read from its beginning to its end, once.

    Args:
        path: the file.
        fps: frames to take a second, evenly; None takes every one.

    Attributes:
        fps: rate of what is taken, as a constant one, in frames a second.
        count: how many frames will be taken, about; 0 where the file does not say.
        seen: frames read so far, taken or not.
        seen_s: seconds read so far.

    Raises:
        NotFound, InvalidArgument: no such file, or it is none, or a picture, or a rate that can't be.
        UnreadableVideo: it can't be read, or holds no frame.
    """

    def __init__(self, path: str | os.PathLike, fps: float | None = None) -> None:
        self.path = expand(path)
        _check(self.path)
        if fps is not None and not 0 < fps <= USUAL_FPS[1]:
            raise InvalidArgument(f"Frames a second must lie above 0 and at most at {USUAL_FPS[1]:g}, got {fps:g}.")
        self._capture = _open(self.path)
        claimed, frames = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._source_fps = claimed if USUAL_FPS[0] <= claimed <= USUAL_FPS[1] else FALLBACK_FPS
        self._length_s = frames / claimed if frames > 0 and claimed > 0 else 0.0
        self._sampled = fps is not None and fps < self._source_fps
        self.fps = min(fps or self._source_fps, self._source_fps)
        self.count = round(self._length_s * self.fps) if self._sampled else max(0, round(frames))
        self.seen, self.seen_s = 0, 0.0
        if not self._capture.grab():
            self.close()
            raise UnreadableVideo(f"'{self.path}' holds no frame that can be read.")

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        early = 0.5 * self.fps / self._source_fps  # of a tick: half a frame of the source, so that the nearest one is taken
        begin, last = None, -1
        while self.seen == 0 or self._capture.grab():  # the first was grabbed when opening
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            begin = stamp if begin is None else begin
            if self.seen and stamp - begin <= self.seen_s:  # a file without times, or with broken ones
                stamp = begin + self.seen_s + 1 / self._source_fps
            time_s, self.seen_s, self.seen = stamp - begin, stamp - begin, self.seen + 1
            tick = int(time_s * self.fps + early)
            if self._sampled and tick <= last:
                continue
            good, pixels = self._capture.retrieve()
            if good:
                last = tick
                yield Frame(self.seen - 1, time_s, tick, pixels)

    @property
    def ends_early(self) -> bool:
        """Tell, after the last frame, whether the file promised clearly more."""
        seen_s = self.seen_s + 1 / self._source_fps
        return seen_s < (1 - MISSING) * self._length_s - MISSING_S

    @property
    def length_s(self) -> float:
        """How long the file says it is, in seconds; 0 where it does not."""
        return self._length_s


class ClipWriter:
    """Writes a clip of constant rate, which appears under its name when it is finished; frames keep the time they have.

    Args:
        path: .mp4 (MPEG-4 part 2: quick to write, plays in players) or .webm (VP9: plays in browsers, a hundred times slower to write).
        fps: frames a second.
        size: (height, width) in pixels; an odd side loses one.

    Raises:
        OutputError: it can't be written.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self.path, self._size, self._ticks = path, size, 0
        self._held: np.ndarray | None = None
        self._unfinished = path.with_name(f".{secrets.token_hex(6)}.part{path.suffix.lower()}")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished.touch()  # says why, where OpenCV would only say that it can't
        self._check_space()
        code = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(self._unfinished), cv2.CAP_FFMPEG, code, fps, size[::-1])
        if not self._writer.isOpened():
            self.drop()
            raise OutputError(f"A clip of {size[1]}x{size[0]} pixels and {fps:g} frames a second can't be written as '{path.name}'.")

    def write(self, frame: Frame, bgr: np.ndarray) -> None:
        """Add what a frame has become: shown until the next one's tick, so that time runs as it did.

        Raises:
            OutputError: the disk is full.
        """
        if self._held is not None:
            self._fill(frame.tick)
        self._held = bgr if bgr.shape[:2] == self._size else cv2.resize(bgr, self._size[::-1])  # some clips change their size

    def finish(self) -> None:
        """Write the rest, and put the clip in place.

        Raises:
            OutputError: it can't be written whole.
        """
        if self._held is not None:
            self._fill(self._ticks + 1)
        self._writer.release()
        written = cv2.VideoCapture(str(self._unfinished), cv2.CAP_FFMPEG)
        count = written.get(cv2.CAP_PROP_FRAME_COUNT) if written.isOpened() else 0
        written.release()
        if count < 0.9 * self._ticks - 2:  # OpenCV does not tell when a write fails
            self.drop()
            raise OutputError(f"Can't write to '{self.path}': it could not be written whole. Free some space, or choose another place with -o.")
        with writing(self.path):
            os.replace(self._unfinished, self.path)

    def drop(self) -> None:
        """Leave nothing behind that is unfinished."""
        if hasattr(self, "_writer"):
            self._writer.release()
        self._unfinished.unlink(missing_ok=True)

    def _fill(self, tick: int) -> None:
        assert self._held is not None
        while self._ticks < tick:
            if self._ticks % LOOK_EVERY == 0:
                self._check_space()
            self._writer.write(self._held)
            self._ticks += 1

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < SPACE:
            self.drop()
            raise OutputError(f"Can't write to '{self.path}': No space left on device. Free some space, or choose another place with -o.")


def _check(path: Path) -> None:
    if not path.exists():
        raise NotFound(f"No such clip: '{path}'.")
    if not path.is_file():
        raise InvalidArgument(f"'{path}' is no file. Give one clip, such as clip.mp4.")
    try:
        with open(path, "rb") as file:
            first = file.read(1024)
    except OSError as error:
        raise UnreadableVideo(f"'{path}' can't be read: {error.strerror or error}.") from None
    if not first:
        raise UnreadableVideo(f"'{path}' is an empty file.")
    if path.suffix.lower() != ".gif" and not first.startswith(b"GIF8") and looks_like_picture("", first):
        raise InvalidArgument(f"'{path}' is a picture, not a clip. Use 'wordsight predict' or 'wordsight recognize' for pictures.")


def _open(path: Path) -> cv2.VideoCapture:
    """Open a local file of a usual kind, and nothing that it may point to."""
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    with _opening:
        before = os.environ.get(name)
        os.environ[name] = f"protocol_whitelist;file|format_whitelist;{DEMUXERS}"
        try:
            capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
    if not capture.isOpened():
        raise UnreadableVideo(f"'{path}' can't be read as a clip: cut off, broken, without pictures, or of a kind that OpenCV does not know.")
    return capture
