"""Open a clip to read its frames: with OpenCV, or, where that can't decode AV1, with PyAV if it is
installed. Nothing is opened but the file itself, and neither library prints anything.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import UnreadableVideo

# FFmpeg's format names
DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,"
    "gif,mjpeg,ivf,mxf,dv,rm,nut,wtv"
)
UNSPECIFIED = 2  # code of ITU-T H.273 for a transfer of light that isn't told
_AV1 = {cv2.VideoWriter.fourcc(*"AV01"), cv2.VideoWriter.fourcc(*"av01")}
_opening = threading.Lock()


def open_capture(path: Path) -> cv2.VideoCapture | AV1Capture:
    """Open a local clip of a common type, before its first frame.

    Raises:
        UnreadableVideo: if it can't be read, or is AV1 and nothing here decodes that.
    """
    capture = _opencv(path)
    if int(capture.get(cv2.CAP_PROP_FOURCC)) not in _AV1:
        return capture
    decoded = capture.grab()
    capture.release()
    return _opencv(path) if decoded else AV1Capture(path)


def quieten() -> None:
    """Keep OpenCV and its FFmpeg from printing about broken clips, unless their own environment
    variables ask for it. To be called before the first clip is opened.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _opencv(path: Path) -> cv2.VideoCapture:
    """Open a local file of a common video type, and nothing it may point to."""
    quieten()
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


class AV1Capture:
    """An AV1 clip, read by PyAV; its methods are those of `cv2.VideoCapture`.

    Attributes:
        transfer: how the file says that light becomes numbers, as a code of ITU-T H.273.

    Raises:
        UnreadableVideo: if PyAV isn't installed, or finds no frame.
    """

    def __init__(self, path: Path) -> None:
        try:
            import av
        except ImportError:
            raise UnreadableVideo(
                f"'{path}' is an AV1 clip, which OpenCV can't decode here. Install PyAV (pip "
                "install av), or convert the clip to H.264."
            ) from None
        options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
        self._errors: Any = av.FFmpegError
        try:
            self._container: Any = av.open(
                str(path.resolve()), options=options, metadata_errors="replace"
            )
            self._stream: Any = self._container.streams.video[0]
        except (av.FFmpegError, IndexError) as error:
            reason = getattr(error, "strerror", None) or "it has no pictures"
            raise UnreadableVideo(f"'{path}' can't be read as a clip: {reason}.") from None
        self._frames = self._container.decode(self._stream)
        self._frame: Any = None
        self._first: Any = self._next()
        if self._first is None:
            self.release()
            raise UnreadableVideo(f"'{path}' holds no frame that can be read.")
        self.transfer = int(getattr(self._first, "color_trc", UNSPECIFIED))

    def get(self, what: int) -> float:
        """Return a property by OpenCV's number for it; 0 for what isn't known."""
        stream, seconds = self._stream, (self._container.duration or 0) / 1e6
        rate, shape = float(stream.average_rate or 0), stream.sample_aspect_ratio
        shown = self._first if self._frame is None else self._frame
        known = {
            cv2.CAP_PROP_FPS: rate,
            cv2.CAP_PROP_FRAME_COUNT: stream.frames or round(seconds * rate),
            cv2.CAP_PROP_POS_MSEC: 1000 * (shown.time or 0.0),
            cv2.CAP_PROP_SAR_NUM: shape.numerator if shape else 0,
            cv2.CAP_PROP_SAR_DEN: shape.denominator if shape else 0,
            cv2.CAP_PROP_ORIENTATION_META: _turn(shown),
        }
        return float(known.get(what, 0.0))

    def grab(self) -> bool:
        """Advance to the next frame; return whether there is one."""
        self._frame, self._first = self._first or self._next(), None
        return self._frame is not None

    def retrieve(self) -> tuple[bool, np.ndarray]:
        """Return whether the frame could be converted, and its pixels: upright, (height, width, 3)
        uint8, blue first.
        """
        try:
            pixels = self._frame.to_ndarray(format="bgr24")
        except (self._errors, ValueError):
            return False, np.empty((0, 0, 3), np.uint8)
        return True, np.ascontiguousarray(np.rot90(pixels, _turn(self._frame) // 90))

    def release(self) -> None:
        """Close the file."""
        self._container.close()

    def _next(self) -> Any:
        """Return the next frame that can be decoded, or None; a broken one ends the search."""
        try:
            return next(self._frames, None)
        except self._errors:
            self._frames = self._container.decode(self._stream)  # goes on behind it
            return None


def _turn(frame: Any) -> int:
    """Return by how many degrees a frame is turned to the left to be upright, a multiple of 90; 0
    where PyAV is too old to know.
    """
    return round(getattr(frame, "rotation", 0) / 90) * 90 % 360
