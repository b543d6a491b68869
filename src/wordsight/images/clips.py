"""Clips: read frames from video files and write labelled clips, with OpenCV. Knows no networks and
no labels.

Only local files of common video types are opened. A playlist isn't one: it could point anywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import cv2
import numpy as np

from ..core.home import expand, replace_file, writing
from ..core.records import digest
from ..errors import InvalidArgument, NotFound, OutputError, UnreadableVideo
from .captures import UNSPECIFIED, AV1Capture, open_capture, quieten
from .signatures import archive_kind, looks_like_image

CODECS = {".mp4": "mp4v", ".webm": "vp09"}  # codec by suffix: MPEG-4 part 2, VP9
USUAL_FPS = (0.5, 240.0)  # outside is an error in the file: some recorders write their clock rate
FALLBACK_FPS = 30.0
LEAST_FPS = 0.01
TRIES = 64  # failed grabs in a row after which a clip has ended; a broken packet fails once
GAP_S = 10.0  # a longer jump in a clip's times is taken out
# share of the length, and seconds, that may be missing before a clip counts as ending early
MISSING, MISSING_S = 0.05, 0.5
# bytes that must be free on the disk, and after how many frames this is checked again
SPACE, LOOK_EVERY = 2 << 20, 32
MOST_BOXES = 10_000  # of an MP4 that are looked at for what it declares
# bytes of fields before the boxes within: of MP4's list of codecs, and of each of its entries
_FIELDS = {b"stsd": 8, b"": 78}
_HDR = {16: "PQ", 18: "HLG"}  # codes of ITU-T H.273 for the transfer of light


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    Attributes:
        index: the frame's number, from 0.
        time_s: when it is shown, in seconds from the first frame.
        tick: its position at a constant rate; frames of a clip with a varying rate may share one.
        bgr: (height, width, 3) uint8, upright, blue first.
    """

    index: int
    time_s: float
    tick: int
    bgr: np.ndarray


class Clip:
    """A video file, read once from beginning to end.

    Args:
        path: the file.
        fps: frames to take per second, evenly spaced; None takes every frame.

    Attributes:
        fps: rate of the frames taken, as a constant, in frames per second.
        count: about how many frames will be taken; 0 if the file doesn't say.
        seen: frames read so far, taken or not.
        seen_s: seconds read so far.
        broken: places so far that couldn't be decoded.
        skipped_s: total of jumps in the file's timestamps, in seconds; they are cut out.
        remark: what is to be said of the clip even if all of it can be read, such as that it is
            HDR; "" for nothing.

    Raises:
        NotFound: if there is no such file.
        InvalidArgument: if it is no file, an image or an archive, or if the rate is out of range.
        UnreadableVideo: if it can't be read or contains no frame.
    """

    def __init__(self, path: str | os.PathLike, fps: float | None = None) -> None:
        self.path = expand(path)
        _check(self.path)
        check_fps(fps)
        self._capture = open_capture(self.path)
        claimed, frames = (
            self._capture.get(cv2.CAP_PROP_FPS),
            self._capture.get(cv2.CAP_PROP_FRAME_COUNT),
        )
        self._source_fps = claimed if USUAL_FPS[0] <= claimed <= USUAL_FPS[1] else FALLBACK_FPS
        declared_s, transfer = _declared(self.path)
        self._length_s = declared_s or (frames / claimed if frames > 0 and claimed > 0 else 0.0)
        if isinstance(self._capture, AV1Capture):
            transfer = self._capture.transfer
        hdr = _HDR.get(transfer)
        self.remark = f"HDR ({hdr}): colours are approximate" if hdr else ""
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
        """Close the file."""
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        # in ticks: half a frame of the source, so that the nearest one is taken
        early = 0.5 * self.fps / self._source_fps
        begin, last = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, -1
        while self._grabbed:
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - begin
            usual = self.seen_s + 1 / self._source_fps
            if self.seen and stamp <= self.seen_s:  # timestamps are missing or broken
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
        """Advance to the next frame that can be decoded; return whether there is one."""
        for failed in range(TRIES):
            if self._capture.grab():
                self.broken += failed > 0
                return True
        return False

    def _stretched(self, pixels: np.ndarray) -> np.ndarray:
        """Return a frame resized to square pixels."""
        width, height = (
            max(1, round(side * factor))
            for side, factor in zip(pixels.shape[1::-1], self._stretch, strict=True)
        )
        return pixels if self._stretch == (1.0, 1.0) else cv2.resize(pixels, (width, height))

    def _nothing(self) -> UnreadableVideo:
        return UnreadableVideo(f"'{self.path}' holds no frame that can be read.")

    def note(self) -> str | None:
        """Return a note on the clip's faults after its last frame, or None if there are none."""
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
        """Whether, after the last frame, clearly fewer frames came than the file declares."""
        seen_s = self.seen_s + self.skipped_s + 1 / self._source_fps
        return seen_s < (1 - MISSING) * self._length_s - MISSING_S


class ClipWriter:
    """Write a clip of constant rate; each frame keeps its time. The file gets its name when it is
    complete.

    Args:
        path: .mp4 (MPEG-4 part 2: fast to write, plays in players) or .webm (VP9: plays in
            browsers, a hundred times slower to write).
        fps: frames per second, as in `Clip.fps`.
        size: (height, width) in pixels; odd sides lose one pixel.
        unfinished: path to write to until the clip is complete, on the same disk and with the same
            suffix.

    Raises:
        OutputError: if the file can't be written.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int], unfinished: Path) -> None:
        self.path, self._size, self._ticks = path, size, 0
        self._held: np.ndarray | None = None
        # OpenCV would take a relative name with a colon for an address
        self._unfinished = unfinished.absolute()
        check_name(self._unfinished)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished.write_bytes(b"")  # raises the cause, which OpenCV hides
        self._check_space()
        quieten()
        code = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(self._unfinished), cv2.CAP_FFMPEG, code, fps, size[::-1])
        if not self._writer.isOpened():
            self.drop()
            raise OutputError(
                f"A clip of {size[1]}x{size[0]} pixels can't be written as '{path.name}': 2x2 "
                "to 8190x8190 can, as .mp4."
            )

    def write(self, frame: Frame, bgr: np.ndarray) -> None:
        """Add a processed frame; it is shown until the next frame's tick, which keeps the timing.

        Raises:
            OutputError: if the disk is full.
        """
        if self._held is not None:
            self._fill(frame.tick)
        # some clips change size midway
        self._held = bgr if bgr.shape[:2] == self._size else cv2.resize(bgr, self._size[::-1])

    def complete(self) -> str:
        """Write the rest, check that every frame is there, and return the file's digest.

        Raises:
            OutputError: if the clip can't be written completely.
        """
        if self._held is not None:
            self._fill(self._ticks + 1)
        self._writer.release()
        written = cv2.VideoCapture(str(self._unfinished), cv2.CAP_FFMPEG)
        count = written.get(cv2.CAP_PROP_FRAME_COUNT) if written.isOpened() else 0
        written.release()
        if count < 0.9 * self._ticks - 2:  # OpenCV doesn't report failed writes
            self.drop()
            raise OutputError(
                f"Can't write to '{self.path}': it could not be written whole. Free some space, "
                "or choose another place with -o."
            )
        return str(digest(self._unfinished))

    def place(self) -> None:
        """Move the complete clip to its final path.

        Raises:
            OutputError: if it can't be moved.
        """
        with writing(self.path):
            replace_file(self._unfinished, self.path)

    def drop(self) -> None:
        """Delete an unfinished file."""
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
    """Check a frame rate.

    Raises:
        InvalidArgument: if the frame rate is out of range.
    """
    if fps is not None and not LEAST_FPS <= fps <= USUAL_FPS[1]:
        raise InvalidArgument(
            f"Frames a second must lie between {LEAST_FPS:g} and {USUAL_FPS[1]:g}, got {fps:g}."
        )


def check_name(path: Path) -> None:
    """Check that OpenCV can open a path.

    Raises:
        InvalidArgument: if the path contains characters that OpenCV can't handle.
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
    """Return the nearest rate that a clip can have: MPEG-4 divides a second into at most 65,535
    parts.
    """
    return round(fps, 3 if fps < 65 else 2)


def _stretch(capture: cv2.VideoCapture | AV1Capture) -> tuple[float, float]:
    """Return the factors for width and height that make a clip's pixels square."""
    wide, high = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    if not (wide > 0 and high > 0 and 1 / 8 <= wide / high <= 8) or abs(wide / high - 1) < 0.01:
        return 1.0, 1.0
    on_its_side = round(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180 == 90
    return (1.0, wide / high) if on_its_side else (wide / high, 1.0)


def _declared(path: Path) -> tuple[float | None, int]:
    """Return what an MP4 or MOV file declares: its length in seconds, or None, and the transfer of
    light; see `_declared_s` and `_declared_transfer`.
    """
    length_s, transfer = None, UNSPECIFIED
    broken = (OSError, struct.error, ZeroDivisionError, IndexError)
    with contextlib.suppress(*broken), open(path, "rb") as file:
        length_s = _declared_s(file)
    with contextlib.suppress(*broken), open(path, "rb") as file:
        transfer = _declared_transfer(file)
    return length_s, transfer


def _declared_s(file: BinaryIO) -> float | None:
    """Return the length in seconds that an MP4 or MOV file declares. The frame count is no
    substitute: it includes frames hidden by an edit list.
    """
    found = _box(file, (b"moov", b"mvhd"))
    if found is None:
        return None
    file.seek(found[0])
    wide = file.read(4)[0] == 1
    _, _, scale, duration = struct.unpack(
        ">QQIQ" if wide else ">IIII", file.read(28 if wide else 16)
    )
    return duration / scale if duration else None


def _declared_transfer(file: BinaryIO) -> int:
    """Return how an MP4 or MOV file says that light becomes numbers, as a code of ITU-T H.273;
    `UNSPECIFIED` if it doesn't.
    """
    found = _box(file, (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"", b"colr"))
    if found is None:
        return UNSPECIFIED
    file.seek(found[0])
    kind, _, transfer = struct.unpack(">4sHH", file.read(8))
    return transfer if kind in (b"nclx", b"nclc") else UNSPECIFIED


def _box(file: BinaryIO, names: Sequence[bytes]) -> tuple[int, int] | None:
    """Return where the content of an MP4 or MOV file's box begins and ends, the first one with this
    path; None if there is none, or the file is of another kind. An empty name stands for any.
    """
    begin = file.read(8)[4:]
    if begin not in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return None
    return _inner(file, names, (0, file.seek(0, os.SEEK_END)), iter(range(MOST_BOXES)))


def _inner(
    file: BinaryIO, names: Sequence[bytes], within: tuple[int, int], left: Iterator[int]
) -> tuple[int, int] | None:
    """Return where a box below the given place is; see `_box`. `left` says how many boxes may still
    be looked at.
    """
    at, end = within
    while at + 8 <= end and next(left, None) is not None:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,), head = struct.unpack(">Q", file.read(8)), 16
        if size < head:
            return None
        if kind == names[0] or not names[0]:
            place = (at + head + _FIELDS.get(kind if names[0] else b"", 0), min(at + size, end))
            found = place if len(names) == 1 else _inner(file, names[1:], place, left)
            if found is not None:
                return found
        at += size
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
    archive = archive_kind(first)
    if archive is not None:
        raise InvalidArgument(f"'{path}' is a {archive} archive. Unpack it, and give a clip.")
    if (
        path.suffix.lower() != ".gif"
        and not first.startswith(b"GIF8")
        and looks_like_image("", first)
    ):
        raise InvalidArgument(
            f"'{path}' is a picture, not a clip. Use 'wordsight predict' or 'wordsight "
            "recognize' for pictures."
        )
