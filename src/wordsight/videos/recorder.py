"""What is said of a clip, frame by frame, and how that is written: the labelled clip, its
tables, its timeline.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.notebook import frame
from ..core.records import digest
from ..core.regular import open_text, read_text
from ..core.result_folder import ResultFolder
from ..core.summary import Problems, Table, as_html, as_text, text_of
from ..core.tables import TableWriter
from ..core.threads import uninterrupted
from ..errors import InvalidArgument, NotFound, OutputError
from ..heatmaps.drawing import to_jpeg
from ..images.clips import CODECS, Clip, ClipWriter, Frame, check_name

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


log = logging.getLogger("wordsight")
COLUMNS = (
    "frame",
    "time_s",
    "label",
    "top_label",
    "probability",
    "probabilities",
    "box_xyxy",
    "picture",
    "objects",
)
MARKER = ".wordsight-video"  # notes the clips that were made, and from what
FRAMES_MARKER = ".wordsight-frames"  # of 0.1.0
FRAMES = "frames"  # the tables are named so
TIMELINE = "timeline.png"
NO_TABLES = (
    "'{folder}', where the tables would go, was there before and is no result of wordsight, or "
    "was changed since. Choose another name with -o."
)
IMAGES = "frames"
MOST_LINES = 6  # of the timeline
MOST_SEGMENTS = 20  # that are listed for people


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
        box_xyxy: [x_min, y_min, x_max, y_max] in pixels of the frame, or None where there is no
            label.
        drawing: path of the frame as JPEG, relative to the folder of tables, or None.
        objects: "label", "probability" and "xyxy" in pixels of each object, the surest first; None
            for a model that finds none.
    """

    frame: int
    time_s: float
    label: str | None
    top_label: str
    probability: float
    probabilities: dict[str, float]
    box_xyxy: list[float] | None = None
    drawing: str | None = None
    objects: list[dict] | None = None

    def to_dict(self) -> dict:
        """Return the fields of `frames.jsonl`, in order."""
        return {n: getattr(self, {"picture": "drawing"}.get(n, n)) for n in COLUMNS}


@dataclass(frozen=True)
class Segment:
    """A stretch of a clip with one label.

    Attributes:
        label: class or group.
        start_s: when its first frame is shown.
        end_s: when the frame after its last one is, or would be.
    """

    label: str
    start_s: float
    end_s: float


@dataclass
class Video:
    """What a clip shows; iterates over its frames.

    Attributes:
        class_names: classes or groups.
        threshold: probability from which a label is given; None where none is.
        fps: frames a second that were looked at.
        frames: how many were.
        seconds: how long they last together.
        labelled: frames with each label.
        segments: stretches with one label, in order.
        output: the labelled clip, or None.
        folder: of frames.csv, frames.jsonl and timeline.png, or None.
        note: what is wrong with the clip, such as that it ends early, or None.
        remark: what else is to be said of it, such as that it is HDR; "" for nothing.
    """

    class_names: list[str]
    threshold: float | None
    fps: float
    frames: int = 0
    seconds: float = 0.0
    labelled: dict[str, int] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    output: Path | None = None
    folder: Path | None = None
    note: str | None = None
    remark: str = ""
    _kept: list[FrameSeen] = field(default_factory=list)
    _last_label: str | None = None

    def __iter__(self) -> Iterator[FrameSeen]:
        if self.folder is None:
            yield from self._kept
            return
        path = self.folder / "frames.jsonl"
        if not path.is_file():
            raise NotFound(
                f"The tables in '{self.folder}' are no longer there. Look at the clip again, or "
                "without an output, which keeps them in memory."
            )
        yield from _rows(path)

    def __len__(self) -> int:
        return self.frames

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with the columns of frames.csv, a row a frame."""
        return frame((one.to_dict() for one in self), COLUMNS)

    def plots(self) -> dict[str, Figure]:
        """Return "timeline": the probabilities over time, of the classes that are likeliest in
        all, as a matplotlib figure.
        """
        return {"timeline": _timeline(self, lambda: self)} if self.frames else {}

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(f"{self.frames:,} frames, {self.seconds:.1f} s", self)

    @property
    def complete(self) -> bool:
        """Whether the clip was read to its end and a label was possible."""
        return not self.note and self.threshold is not None

    def tables(self) -> list[Table]:
        """Return how long each label is shown, and when."""
        heading = (
            "label" if self.threshold is None else f"label (probability ≥ {self.threshold:.4g})"
        )
        rows = [
            [name, str(self.labelled.get(name, 0)), f"{self.seconds_of(name):.1f}"]
            for name in self.class_names
        ]
        unlabelled = self.frames - sum(self.labelled.values())
        silent = self.seconds - sum(self.seconds_of(name) for name in self.class_names)
        rows.append(["none", str(unlabelled), f"{max(0.0, silent):.1f}"])
        tables = [Table([heading, "frames", "seconds"], rows)]
        if self.segments:
            more = "… and {count} more stretches, in frames.csv. --smooth makes fewer."
            when = [[f"{_clock(s.start_s)} – {_clock(s.end_s)}", s.label] for s in self.segments]
            tables.append(Table(["", ""], when, most=MOST_SEGMENTS, more=more))
        return tables

    def notes(self) -> list[str]:
        """Return why there is no label, what is to be said of the clip, and where it and its tables
        are.
        """
        notes = []
        if self.threshold is None:
            notes.append("The model's promise leaves it no threshold; give one with -t.")
        if self.remark:
            notes.append(f"{self.remark}.")
        if self.output is not None:
            notes += [
                f"Clip: {self.output} ({self.frames} frames looked at, "
                f"{self.fps:.4g} a second; sound is not copied)",
                f"Tables: {self.folder}/frames.csv, frames.jsonl, timeline.png",
            ]
        return notes

    def problems(self) -> list[Problems]:
        """Return the problems of the clip."""
        return [Problems("", [("", self.note)], "")] if self.note else []

    def add(self, one: FrameSeen) -> None:
        """Count one frame, the next in order."""
        self.frames += 1
        if self.folder is None:
            self._kept.append(one)
        end = one.time_s + 1 / self.fps
        self.seconds = end
        if self._last_label is not None:
            self.segments[-1] = Segment(self._last_label, self.segments[-1].start_s, one.time_s)
        if one.label is not None:
            self.labelled[one.label] = self.labelled.get(one.label, 0) + 1
            if one.label == self._last_label:
                self.segments[-1] = Segment(one.label, self.segments[-1].start_s, end)
            else:
                self.segments.append(Segment(one.label, one.time_s, end))
        self._last_label = one.label

    def seconds_of(self, label: str) -> float:
        """Return how long the stretches with a label last together."""
        return sum(
            segment.end_s - segment.start_s for segment in self.segments if segment.label == label
        )

    def to_dict(self) -> dict:
        """Return the counts and segments, ready for JSON."""
        return {
            "classes": self.class_names,
            "threshold": self.threshold,
            "fps": round(self.fps, 4),
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "labelled": {name: self.labelled.get(name, 0) for name in self.class_names},
            "segments": [
                {"label": s.label, "start_s": round(s.start_s, 3), "end_s": round(s.end_s, 3)}
                for s in self.segments
            ],
            "note": self.note,
            "remark": self.remark,
            "output": text_of(self.output),
            "tables": text_of(self.folder),
        }


def check_target(output: Path, clip: Path) -> Path:
    """Return where the labelled clip goes, if it may go there.

    Raises:
        InvalidArgument: if it may not.
    """
    if output.suffix.lower() not in CODECS:
        raise InvalidArgument(
            f"-o names the labelled clip and must end in {' or '.join(CODECS)}, got '{output}'."
        )
    if output.exists() and clip.exists() and output.samefile(clip):
        raise InvalidArgument(
            f"'{output}' is the clip itself, which stays as it is. Choose another name with -o."
        )
    _clip(output).claim([output.name])
    tables = output.with_suffix("")
    ResultFolder(
        tables,
        FRAMES,
        adopt=lambda _: bool(_made(tables / MARKER)),
        is_file=NO_TABLES,
        not_ours=NO_TABLES,
    ).claim()
    return output


@dataclass
class _Made:
    """A clip that was made.

    Attributes:
        source: path of the clip that it was made from.
        digests: of its content; none in a folder of 0.1.0.
    """

    source: str
    digests: list[str]


def _clip(target: Path) -> ResultFolder:
    """Return the folder of a labelled clip; the note among its tables shows whether that is
    ours.
    """
    folder = target.with_suffix("")

    def ours(path: Path) -> bool:
        made = _made(folder / MARKER).get(path.name)
        if made is None or not path.is_file() or path.is_symlink():
            return False
        return not made.digests or digest(path) in made.digests

    return ResultFolder(
        target.parent,
        adopt=ours,
        not_ours="'{path}' was there before and is no result of wordsight, or was changed since. "
        "Choose another name with -o.",
    )


def _made(note: Path) -> dict[str, _Made]:
    """Return the clips that a note lists as ours; none where there is no note of ours."""
    try:
        listed = json.loads(read_text(note))
        return {
            str(name): _Made(made, [])
            if isinstance(made, str)
            else _Made(str(made["source"]), [*map(str, made["sha256"])])
            for name, made in listed.items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return {}


class Recorder:
    """Writes the labelled clip and its tables; all appear when they are finished."""

    def __init__(self, target: Path, source: Clip, draw: bool) -> None:
        check_name(target.absolute())
        self.folder = target.with_suffix("")
        self._target, self._source, self._images = target, source, draw
        self._made = _made(self.folder / MARKER)
        before = self._made.get(target.name)
        if before is not None and before.source != str(source.path.absolute()):
            log.info("'%s' is made anew; it was made from '%s'.", target, before.source)
        self._tables = TableWriter(
            self.folder,
            FRAMES,
            COLUMNS,
            (IMAGES,) if draw else (),
            FRAMES_MARKER,
            _drawn,
            others=(TIMELINE, MARKER),
        )
        self._clip: ClipWriter | None = None

    def add(self, frame: Frame, seen: FrameSeen, drawn: np.ndarray) -> None:
        """Add the next frame."""
        if self._clip is None:
            unfinished = self._tables.path_for(f"clip{self._target.suffix.lower()}")
            self._clip = ClipWriter(
                self._target, self._source.fps, (drawn.shape[0], drawn.shape[1]), unfinished
            )
        self._clip.write(frame, drawn)
        if self._images:
            seen.drawing = self._tables.reserve(f"{IMAGES}/{seen.frame:06d}", ".jpg")
            self._tables.write(seen.drawing, to_jpeg(drawn[:, :, ::-1]))
        record = seen.to_dict()
        self._tables.add(record, [list(record.values())])

    def finish(self, result: Video) -> None:
        """Draw the timeline, and put the clip and then the tables in place."""
        from ..reports.canvas import png

        with uninterrupted():
            if self._target.exists() and not _clip(self._target).is_ours(self._target.name):
                raise OutputError(
                    f"'{self._target}' has come meanwhile and is no result of wordsight. Choose "
                    "another name with -o."
                )
            assert self._clip is not None
            new = self._clip.complete()
            # first the note, so that the clip is ours from the moment it is there
            self._tables.write_file(MARKER, self._note(new, keep=True), now=True)
            self._clip.place()
            self._clip = None
            self._tables.write_file(MARKER, self._note(new, keep=False))
            self._tables.flush()
            rows = self._tables.path_for("frames.jsonl")
            timeline = _timeline(result, lambda: _rows(rows))
            self._tables.write_file(TIMELINE, png(timeline))
            self._tables.finish()

    def _note(self, new: str, keep: bool) -> bytes:
        """Return the note of all clips made beside these tables.

        Args:
            new: digest of the clip of this run.
            keep: whether the one it replaces is ours, too.
        """
        name, before = self._target.name, digest(self._target)
        digests = [new, before] if keep and before else [new]
        made = self._made | {name: _Made(str(self._source.path.absolute()), digests)}
        listed = {name: {"source": one.source, "sha256": one.digests} for name, one in made.items()}
        return json.dumps(listed).encode("utf-8", "backslashreplace")

    def close(self) -> None:
        """Drop what is unfinished."""
        if self._clip is not None:
            self._clip.drop()
        self._tables.close()


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def _rows(table: Path) -> Iterator[FrameSeen]:
    """Yield the rows of a frames.jsonl."""
    with open_text(table) as lines:
        for line in lines:
            row = json.loads(line)
            yield FrameSeen(drawing=row.pop("picture"), **row)


def _timeline(result: Video, frames: Callable[[], Iterable[FrameSeen]]) -> Figure:
    """Draw the probabilities of all frames over time, of the classes that are likeliest in all."""
    from ..reports import figures as plots

    totals = dict.fromkeys(result.class_names, 0.0)
    for one in frames():
        for name, value in one.probabilities.items():
            totals[name] += value
    shown = sorted(totals, key=lambda name: -totals[name])[:MOST_LINES]
    shown = [name for name in result.class_names if name in shown]
    times, values = [], []
    for one in frames():
        times.append(one.time_s)
        values.append([one.probabilities[name] for name in shown])
    segments = [(s.label, s.start_s, s.end_s) for s in result.segments]
    return plots.timeline(
        np.array(times), np.array(values, dtype=np.float32), shown, result.threshold, segments
    )


def _drawn(row: dict) -> list[str]:
    """Return the path, relative to the folder of tables, of the image of a row of
    frames.jsonl.
    """
    return [row["picture"]] if row.get("picture") else []
