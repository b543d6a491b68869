"""Clips: frames of a video file in, labelled clips out, through OpenCV. Knows no network and no
label.

Only local files of usual kinds are opened: a playlist, which could point anywhere, is none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from ..core.home import expand, writing
from ..errors import InvalidArgument, NotFound, OutputError, UnreadableVideo
from .decoding import looks_like_image

CODECS = {".mp4": "mp4v", ".webm": "vp09"}  # what is written under a suffix: MPEG-4 part 2, VP9
# FFmpeg's names
DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,"
    "gif,mjpeg,ivf,mxf,dv,rm,nut,wtv"
)
USUAL_FPS = (0.5, 240.0)  # a rate outside is no rate: some recorders note their clock's
FALLBACK_FPS = 30.0
LEAST_FPS = 0.01
TRIES = 64  # failed grabs in a row after which a clip has ended; a broken packet fails once
GAP_S = 10.0  # a longer jump in a clip's times is taken out
# part of the length, and seconds, that may be missing before a clip is said to end early
MISSING, MISSING_S = 0.05, 0.5
# bytes that must be free on the disk, and frames after which that is looked at again
SPACE, LOOK_EVERY = 2 << 20, 32
_opening = threading.Lock()


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    Attributes:
        index: its number, from 0.
        time_s: when it is shown, in seconds from the first frame.
        tick: its place in a clip of constant rate; several frames of a clip whose rate varies may
            have the same.
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
        broken: places so far that could not be decoded.
        skipped_s: seconds by which the file's own times jumped, taken out.

    Raises:
        NotFound, InvalidArgument: no such file, or it is none, or an image, or a rate that can't
            be.
        UnreadableVideo: it can't be read, or holds no frame.
    """

    def __init__(self, path: str | os.PathLike, fps: float | None = None) -> None:
        self.path = expand(path)
        _check(self.path)
        check_fps(fps)
        self._capture = _open(self.path)
        claimed, frames = (
            self._capture.get(cv2.CAP_PROP_FPS),
            self._capture.get(cv2.CAP_PROP_FRAME_COUNT),
        )
        self._source_fps = claimed if USUAL_FPS[0] <= claimed <= USUAL_FPS[1] else FALLBACK_FPS
        self._length_s = _declared_s(self.path) or (
            frames / claimed if frames > 0 and claimed > 0 else 0.0
        )
        self._sampled = fps is not None and fps < self._source_fps
        self.fps = _writable(min(fps or self._source_fps, self._source_fps))
        self.count = round(self._length_s * self.fps) if self._sampled else max(0, round(frames))
        self.seen, self.seen_s, self.broken, self.skipped_s = 0, 0.0, 0, 0.0
        self._stretch = _stretch(self._capture)
        self._grabbed = self._grab()
        if not self._grabbed:
            self.close()
            raise self._nothing()

    def __enter__(self) -> Clip:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        # of a tick: half a frame of the source, so that the nearest one is taken
        early = 0.5 * self.fps / self._source_fps
        begin, last = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, -1
        while self._grabbed:
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - begin
            usual = self.seen_s + 1 / self._source_fps
            if self.seen and stamp <= self.seen_s:  # a file without times, or with broken ones
                begin, stamp = begin + stamp - usual, usual
            elif self.seen and stamp - self.seen_s > GAP_S:
                self.skipped_s += stamp - usual
                begin, stamp = begin + stamp - usual, usual
            self.seen_s, self.seen = stamp, self.seen + 1
            tick = int(stamp * self.fps + early)
            if not self._sampled or tick > last:
                good, pixels = self._capture.retrieve()
                if good:
                    last = tick
                    yield Frame(self.seen - 1, stamp, tick, self._stretched(pixels))
                else:
                    self.broken += 1
            self._grabbed = self._grab()
        if last < 0:
            raise self._nothing()

    def _grab(self) -> bool:
        """Go to the next frame that can be decoded; tell whether there is one."""
        for failed in range(TRIES):
            if self._capture.grab():
                self.broken += failed > 0
                return True
        return False

    def _stretched(self, pixels: np.ndarray) -> np.ndarray:
        """Return a frame whose pixels are square."""
        width, height = (
            max(1, round(side * factor))
            for side, factor in zip(pixels.shape[1::-1], self._stretch, strict=True)
        )
        return pixels if self._stretch == (1.0, 1.0) else cv2.resize(pixels, (width, height))

    def _nothing(self) -> UnreadableVideo:
        return UnreadableVideo(f"'{self.path}' holds no frame that can be read.")

    def note(self) -> str | None:
        """Return what is to be said of the clip after its last frame, or None where all is well."""
        parts = []
        if self.ends_early:
            parts.append(
                f"The clip ends early: {self.seen_s:.1f} of {self._length_s:.1f} seconds can be "
                "read."
            )
        elif self.broken:
            parts.append(
                f"The clip is damaged in {self.broken} places; {self.seen} frames can be read."
            )
        if self.skipped_s:
            parts.append(
                f"Its times jump by {self.skipped_s:.0f} seconds in which there is no frame; "
                "they are left out."
            )
        return " ".join(parts) or None

    @property
    def ends_early(self) -> bool:
        """Tell, after the last frame, whether the file promised clearly more."""
        seen_s = self.seen_s + self.skipped_s + 1 / self._source_fps
        return seen_s < (1 - MISSING) * self._length_s - MISSING_S


class ClipWriter:
    """Writes a clip of constant rate, which gets its name when it is complete; frames keep the time
    they have.

    Args:
        path: .mp4 (MPEG-4 part 2: quick to write, plays in players) or .webm (VP9: plays in
            browsers, a hundred times slower to write).
        fps: frames a second, as `Clip.fps` has it.
        size: (height, width) in pixels; an odd side loses one.
        unfinished: where it is written until it is finished, on the same disk and with the same
            suffix.

    Raises:
        OutputError: it can't be written.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int], unfinished: Path) -> None:
        self.path, self._size, self._ticks = path, size, 0
        self._held: np.ndarray | None = None
        # a relative name with a colon would be taken for an address
        self._unfinished = unfinished.absolute()
        check_name(self._unfinished)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished.write_bytes(b"")  # says why, where OpenCV would only say that it can't
        self._check_space()
        code = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(self._unfinished), cv2.CAP_FFMPEG, code, fps, size[::-1])
        if not self._writer.isOpened():
            self.drop()
            raise OutputError(
                f"A clip of {size[1]}x{size[0]} pixels can't be written as '{path.name}': 2x2 "
                "to 8190x8190 can, as .mp4."
            )

    def write(self, frame: Frame, bgr: np.ndarray) -> None:
        """Add what a frame has become: shown until the next one's tick, so that time runs as it
        did.

        Raises:
            OutputError: the disk is full.
        """
        if self._held is not None:
            self._fill(frame.tick)
        # some clips change their size
        self._held = bgr if bgr.shape[:2] == self._size else cv2.resize(bgr, self._size[::-1])

    def complete(self) -> None:
        """Write the rest, and see that all is there.

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
            raise OutputError(
                f"Can't write to '{self.path}': it could not be written whole. Free some space, "
                "or choose another place with -o."
            )

    def place(self) -> None:
        """Give the complete clip its name.

        Raises:
            OutputError: it can't be moved there.
        """
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
            raise OutputError(
                f"Can't write to '{self.path}': No space left on device. Free some space, or "
                "choose another place with -o."
            )


def check_fps(fps: float | None) -> None:
    """Refuse a rate that can't be.

    Raises:
        InvalidArgument: so it is.
    """
    if fps is not None and not LEAST_FPS <= fps <= USUAL_FPS[1]:
        raise InvalidArgument(
            f"Frames a second must lie between {LEAST_FPS:g} and {USUAL_FPS[1]:g}, got {fps:g}."
        )


def check_name(path: Path) -> None:
    """Refuse a path that OpenCV can't take.

    Raises:
        InvalidArgument: so it is.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="replace").decode()
        raise InvalidArgument(
            f"'{shown}' is no valid UTF-8, and OpenCV opens no clip of such a name. Rename it, "
            "or its folder."
        ) from None


def _writable(fps: float) -> float:
    """Return the nearest rate that a clip can have: MPEG-4 counts time in at most 65,535 parts
    of a second.
    """
    return round(fps, 3 if fps < 65 else 2)


def _stretch(capture: cv2.VideoCapture) -> tuple[float, float]:
    """Return by how much frames are to be widened and heightened so that their pixels are
    square.
    """
    wide, high = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    if not (wide > 0 and high > 0 and 1 / 8 <= wide / high <= 8) or abs(wide / high - 1) < 0.01:
        return 1.0, 1.0
    on_its_side = round(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180 == 90
    return (1.0, wide / high) if on_its_side else (wide / high, 1.0)


def _declared_s(path: Path) -> float | None:
    """Return how long an MP4 or MOV says it is, in seconds: the count of its frames includes
    those that an edit list hides.
    """
    with (
        contextlib.suppress(OSError, struct.error, ZeroDivisionError, IndexError),
        open(path, "rb") as file,
    ):
        end, inside = path.stat().st_size, False
        while file.tell() + 8 <= end:
            start = file.tell()
            size, kind = struct.unpack(">I4s", file.read(8))
            if start == 0 and kind not in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
                return None
            if size == 1:
                (size,) = struct.unpack(">Q", file.read(8))
            if kind == b"moov" and not inside:
                inside, end = True, start + size
                continue
            if kind == b"mvhd":
                wide = file.read(4)[0] == 1
                _, _, scale, duration = struct.unpack(
                    ">QQIQ" if wide else ">IIII", file.read(28 if wide else 16)
                )
                return duration / scale if duration else None
            if size < 8:
                return None
            file.seek(start + size)
    return None


def _check(path: Path) -> None:
    if not path.exists():
        raise NotFound(f"No such clip: '{path}'.")
    check_name(path.resolve())
    if not path.is_file():
        raise InvalidArgument(f"'{path}' is no file. Give one clip, such as clip.mp4.")
    try:
        with open(path, "rb") as file:
            first = file.read(1024)
    except OSError as error:
        raise UnreadableVideo(f"'{path}' can't be read: {error.strerror or error}.") from None
    if not first:
        raise UnreadableVideo(f"'{path}' is an empty file.")
    if (
        path.suffix.lower() != ".gif"
        and not first.startswith(b"GIF8")
        and looks_like_image("", first)
    ):
        raise InvalidArgument(
            f"'{path}' is a picture, not a clip. Use 'wordsight predict' or 'wordsight "
            "recognize' for pictures."
        )


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
        raise UnreadableVideo(
            f"'{path}' can't be read as a clip: cut off, broken, without pictures, or of a kind "
            "that OpenCV does not know."
        )
    return capture
