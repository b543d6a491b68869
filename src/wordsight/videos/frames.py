"""Write evenly spaced frames of clips as images to learn from, without near duplicates."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
from PIL import Image

from ..core import cells
from ..core.home import expand, writing
from ..core.progress import Progress, or_notebook
from ..core.regular import read_regular
from ..core.result_folder import Build, ResultFolder
from ..core.summary import Problems, Table, as_html, as_text
from ..core.tables import short_stem
from ..core.threads import say_interrupted
from ..errors import InvalidArgument, NotFound, UnreadableImage, UnreadableVideo
from ..images.clips import Clip, Frame, check_fps
from ..images.decoding import decode, upright
from ..images.fingerprints import NearDuplicates, look

FPS = 2.0
JPEG_QUALITY = 95
TABLE = "frames.csv"
COLUMNS = ("file_name", "clip", "frame", "time_s")


@dataclass
class Extraction:
    """Frames taken from clips.

    Attributes:
        output: folder of the frames, with frames.csv.
        looked_at: how many frames were looked at.
        written: how many files this run wrote.
        near_duplicates: how many frames were left out because a similar one is there.
        unreadable: (clip, reason) of each clip that can't be read to its end.
        remarks: (clip, remark) of what else is to be said of one, such as that it is HDR.
    """

    output: Path
    looked_at: int = 0
    written: int = 0
    near_duplicates: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every clip could be read to its end."""
        return not self.unreadable

    def tables(self) -> list[Table]:
        """Return how many frames were looked at, left out and written."""
        counts = {
            "looked at": self.looked_at,
            "look like one that is there": self.near_duplicates,
            "written": self.written,
        }
        return [Table(["frames", ""], [[name, str(count)] for name, count in counts.items()])]

    def notes(self) -> list[str]:
        """Return what is to be said of the clips, and where the frames are."""
        remarks = [f"{name}: {remark}." for name, remark in self.remarks]
        return [*remarks, f"Frames: {self.output}/*.jpg, frames.csv"]

    def problems(self) -> list[Problems]:
        """Return the clips that can't be read to their end."""
        items = [("" if name in reason else name, reason) for name, reason in self.unreadable]
        return [Problems("", items, "--json's answer")]

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(f"{self.written:,} frames written", self)

    def to_dict(self) -> dict:
        """Return the counts, ready for JSON."""
        counts = {name: getattr(self, name) for name in ("looked_at", "written", "near_duplicates")}
        return {
            **counts,
            "unreadable": [{"clip": name, "error": reason} for name, reason in self.unreadable],
            "remarks": [{"clip": name, "remark": remark} for name, remark in self.remarks],
            "output": str(self.output),
        }


def extract(
    clips: str | os.PathLike | Iterable[str | os.PathLike],
    output: str | os.PathLike,
    *,
    fps: float = FPS,
    progress: Progress | None = None,
) -> Extraction:
    """Write frames of clips as JPEG images into a folder, such as that of a class, ready for
    `train` or `clean`.

    Of frames that look alike the first is kept; images are compared as `clean` does, by perceptual
    hash and thumbnail. Frames of earlier runs in the folder count, too, so the same call adds
    nothing twice. frames.csv there lists the clip and the time of each frame.

    Args:
        clips: video files.
        output: folder, made if need be. Other files in it stay as they are.
        fps: frames to look at per second.
        progress: called with (done, total, "frames"); the total is an estimate.

    Raises:
        NotFound: if there is no such clip.
        InvalidArgument: if there is no clip at all, or the rate is out of range.
        UnreadableVideo: if no clip can be read.
        OutputError: if the frames can't be written.
    """
    progress = or_notebook(progress)
    sources = _sources(clips)
    folder = expand(output)
    target = ResultFolder(
        folder,
        "extract",
        adopt=lambda path: path.name == TABLE and _read_table(path) is not None,
        is_file="'{folder}' is a file; frames need a folder. Choose another with -o.",
        not_ours="'{path}' was there before and is no table of frames, or was changed since. "
        "Choose another folder with -o.",
    )
    target.claim([TABLE])  # before any work
    check_fps(fps)
    for source in sources:
        if not source.exists():
            raise NotFound(f"No such clip: '{source}'.")
    result = Extraction(folder)
    try:
        with _open_album(target) as album:
            for source in sources:
                reason = _take_all(source, fps, album, result, progress)
                if reason is not None:
                    result.unreadable.append((str(source), reason))
    except KeyboardInterrupt:
        say_interrupted(
            f"Interrupted: {result.written} new frames are in '{folder}'. The same command goes "
            "on from there."
        )
        raise
    if not result.looked_at:
        raise UnreadableVideo(result.unreadable[0][1])
    return result


def _sources(clips: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """Return the paths of clips.

    Raises:
        InvalidArgument: if there is none.
    """
    sources = [
        expand(clip) for clip in ([clips] if isinstance(clips, str | os.PathLike) else clips)
    ]
    if not sources:
        raise InvalidArgument("Give at least one clip.")
    return sources


@contextlib.contextmanager
def _open_album(target: ResultFolder) -> Iterator[_Album]:
    """Yield the album of a folder that no other run may write to, and save it at the end.

    Raises:
        InvalidArgument: if another run writes there.
        OutputError: if nothing can be written there.
    """
    with target.build() as build:
        target.claim([TABLE])
        album = _Album(target.path, build)
        try:
            yield album
        finally:
            album.save()


def _take_all(
    source: Path, fps: float, album: _Album, result: Extraction, progress: Progress | None
) -> str | None:
    """Take a clip's frames; return None, or why it could not be read to its end."""
    try:
        with Clip(source, fps) as clip:
            if clip.remark:
                result.remarks.append((str(source), clip.remark))
            for frame in clip:
                album.take(source, frame, result)
                result.looked_at += 1
                if progress:
                    progress(
                        result.looked_at, clip.count and max(result.looked_at, clip.count), "frames"
                    )
            return clip.note()
    except (UnreadableVideo, InvalidArgument) as error:
        return str(error)


class _Album:
    """The frames that a folder's table lists, and how they look."""

    def __init__(self, folder: Path, build: Build) -> None:
        self._folder, self._build = folder, build
        # file name -> clip, frame, time in seconds
        self._rows: dict[str, tuple[str, str, str]] = {}
        self._looks = NearDuplicates()
        for row in _read_table(folder / TABLE) or ():
            name = row["file_name"]
            if "/" in name or not (folder / name).is_file():
                continue  # somebody removed it
            self._rows[name] = (row["clip"], row["frame"], row["time_s"])
            with contextlib.suppress(UnreadableImage, OSError):
                self._looks.add(len(self._looks), look(decode(read_regular(folder / name)).image))

    def take(self, source: Path, frame: Frame, result: Extraction) -> None:
        """Write a frame, unless a similar one is there."""
        appearance = look(
            upright(Image.fromarray(cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2RGB))).image
        )
        if self._looks.find(appearance) is not None:
            result.near_duplicates += 1
            return
        data = cv2.imencode(".jpg", frame.bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[
            1
        ].tobytes()
        stem = f"{short_stem(source.stem)}-{frame.index:06d}"
        while not self._free(f"{stem}.jpg", data):
            stem += "~"
        if not (self._folder / f"{stem}.jpg").exists():
            with writing(self._folder):
                self._build.place(f"{stem}.jpg", data)
        self._looks.add(len(self._looks), appearance)
        self._rows[f"{stem}.jpg"] = (str(source), str(frame.index), f"{frame.time_s:.6f}")
        result.written += 1

    def _free(self, name: str, data: bytes) -> bool:
        """Whether a frame may have this name: there is no such file, or one with the same content,
        as a killed run leaves it.
        """
        path = self._folder / name
        return not os.path.lexists(path) or (
            name not in self._rows and path.is_file() and read_regular(path) == data
        )

    def save(self) -> None:
        """Write the table, unless there are no frames and was no table."""
        if not self._rows and not (self._folder / TABLE).exists():
            return
        text = io.StringIO()
        table = cells.writer(text)
        table.writerow(COLUMNS)
        table.writerows([name, *row] for name, row in sorted(self._rows.items()))
        with writing(self._folder):
            self._build.write(TABLE, cells.table_bytes(text.getvalue()))
            self._build.commit(keep=True)


def _read_table(path: Path) -> list[dict[str, str]] | None:
    """Return the rows of a frames.csv; none if there is no such file, None if it is another table.

    Raises:
        InvalidArgument: if it can't be read.
    """
    try:
        with cells.open_table(path) as file:
            rows = cells.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                return None
            return [row for row in rows if None not in row.values() and None not in row]
    except FileNotFoundError:
        return []
    except (csv.Error, OSError):
        raise InvalidArgument(
            f"'{path}' can't be read as a table. Choose another folder with -o."
        ) from None
