"""Work on more images than one process can hold: a list cut into shards, each written as one
Parquet file.

A folder of shards, on disk or in an object store, holds

    .wordsight-shards.json         what is done, to what, in how many shards
    .wordsight-shards/0000000.json the images of a shard
    part-0000000.parquet           what came of them

A part is there whole or not at all, so an interrupted run goes on with the missing ones. Nothing
here knows of other machines.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..backbones.embedder import Embedder
from ..backbones.registry import load_backbone
from ..backbones.runtime import callers
from ..classification.classifier import load
from ..cleaning.material import LookedAt, look_at
from ..core.result_folder import refuse_other_files
from ..core.threads import parallel_map
from ..datasets.files import ImageFile
from ..datasets.remote import Place, RemoteFile
from ..errors import InvalidArgument
from ..images.measures import Measures

SHARD = 500  # images: a minute of one core, which is what a lost worker costs
MARKER = ".wordsight-shards.json"
LISTS = ".wordsight-shards"
COUNTS, KEY = b"wordsight", b"wordsight-job"  # in a part's schema: its counts, its job's key


class Work(Protocol):
    """What is done to every image.

    Attributes:
        schema: pyarrow's, of the rows.
        threads: how many call `row` at once.
    """

    schema: Any
    threads: int

    def row(self, file: ImageFile) -> dict:
        """Return one image's row. If it can't be read, the row has an `error`; nothing is
        raised.
        """

    def counts(self, rows: list[dict]) -> dict:
        """Return the counts of a shard, ready for JSON."""

    def flush(self) -> None:
        """Write the cache to disk, which may spare other runs work."""


@dataclass(frozen=True)
class Job:
    """What is done to which images, and where the outcome lies.

    Attributes:
        kind: "embed", "predict" or "material".
        source: address of the images, or a name for the list of them.
        output: address of the folder of shards.
        settings: what `work_of` needs besides the kind, ready for JSON.
    """

    kind: str
    source: str
    output: str
    settings: dict = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return a digest that differs from every other job's."""
        return hashlib.sha256(
            json.dumps([self.kind, self.source, self.settings], sort_keys=True).encode(
                "utf-8", "surrogateescape"
            )
        ).hexdigest()


@dataclass(frozen=True)
class Plan:
    """A list of images, cut into shards.

    Attributes:
        images: how many in all.
        shards: how many parts.
        done: number -> counts of each part of this job that is there already.
    """

    images: int
    shards: int
    done: dict[int, dict]


def begin(job: Job, images: Iterable[ImageFile], shard: int = SHARD, replace: bool = False) -> Plan:
    """Cut a list of images into shards and note them, or return the plan that an earlier run of
    the same job noted.

    Args:
        job: what is done.
        images: read only if nothing was noted yet.
        shard: images in each.
        replace: whether the shards of an earlier job make room; else they are an error.

    Raises:
        InvalidArgument: if the folder holds something else.
        OutputError: if it can't be written.
    """
    place = Place(job.output)
    names = place.names()
    if MARKER in names:
        key, count, shards, said = _noted(place)
        there = [number for number in range(shards) if part_name(number) in names]
        if key == job.key:
            counted = {number: part_counts(job, number) for number in there}
            done = {number: counts for number, counts in counted.items() if counts is not None}
            return Plan(count, shards, done)
        if not replace:
            raise InvalidArgument(
                f"'{job.output}' holds the shards of another run: {said}. "
                "Choose another folder with -o, or remove it."
            )
        # the marker goes last: it tells that the parts are ours
        for name in [*map(part_name, there), MARKER]:
            place.remove(name)
    else:
        refuse_other_files(job.output, names - {LISTS})
    count, shards, left = 0, 0, iter(images)
    while held := list(itertools.islice(left, shard)):
        place.write(_list_name(shards), _listed(held))
        count, shards = count + len(held), shards + 1
    noted = {
        "key": job.key,
        "said": f"{job.kind} of {count:,} pictures of '{job.source}'",
        "kind": job.kind,
        "pictures": count,
        "shards": shards,
        "settings": job.settings,
    }
    place.write(MARKER, json.dumps(noted, indent=1).encode("utf-8", "surrogateescape"))
    return Plan(count, shards, {})


def _noted(place: Place) -> tuple[str, int, int, str]:
    """Return what a folder of shards notes of itself: the job's key, the number of images, the
    number of shards, and what the job is in words.

    Raises:
        InvalidArgument: if that can't be read.
    """
    try:
        noted = json.loads(place.read(MARKER))
        said = noted.get("said", "")
        return noted["key"], int(noted["pictures"]), int(noted["shards"]), said
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidArgument(
            f"'{place.address}' was begun by another version, or is damaged. Choose another "
            "folder with -o."
        ) from None


def do_shard(job: Job, number: int, work: Work) -> dict:
    """Do one shard, write its part, and return its counts, with "pictures". A part that is there
    already is kept.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = Place(job.output)
    there = part_counts(job, number) if place.exists(part_name(number)) else None
    if there is not None:
        return there
    rows = list(parallel_map(work.row, images_of(job, number), work.threads))
    counts = {"pictures": len(rows), **work.counts(rows)}
    table = pa.Table.from_pylist(
        rows, schema=work.schema.with_metadata({COUNTS: json.dumps(counts), KEY: job.key})
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    place.write(part_name(number), buffer.getvalue())
    work.flush()
    return counts


def images_of(job: Job, number: int) -> list[ImageFile]:
    """Return the images of one shard."""
    source = None
    files = []
    for name, path, label, size in json.loads(Place(job.output).read(_list_name(number))):
        if size is None:
            files.append(ImageFile(Path(path), name, label))
        else:
            source = source or Place(job.source)
            files.append(ImageFile(RemoteFile(source, path, size), name, label))  # type: ignore[arg-type]
    return files


def part_name(number: int) -> str:
    """Return the name of a shard's part."""
    return f"part-{number:07d}.parquet"


def part_counts(job: Job, number: int) -> dict | None:
    """Return the counts of a part that is there, or None if it is damaged or another job's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with Place(job.output).open(part_name(number)) as file:
            about = pq.read_schema(file).metadata or {}
        return json.loads(about[COUNTS]) if about.get(KEY) == job.key.encode() else None
    except (pa.ArrowException, ValueError, KeyError, FileNotFoundError):
        return None


def read_parts(job: Job, plan: Plan) -> Iterator[Any]:
    """Yield every part as a pyarrow table, in the order of the images."""
    import pyarrow.parquet as pq

    place = Place(job.output)
    for number in range(plan.shards):
        yield pq.read_table(io.BytesIO(place.read(part_name(number))))


def total(counted: Iterable[dict]) -> dict:
    """Return the sum of the counts of shards."""
    whole: dict[str, Any] = {}
    for counts in counted:
        for name, value in counts.items():
            if isinstance(value, dict):
                whole[name] = dict(Counter(whole.get(name, {})) + Counter(value))
            else:
                whole[name] = whole.get(name, 0) + value
    return whole


def work_of(job: Job, model_folder: Path | None = None) -> Work:
    """Return what a job does to every image, ready to begin.

    Args:
        job: the job.
        model_folder: for "predict", where the model lies on this machine.

    Raises:
        WordsightError: if the network or the model can't be loaded.
    """
    settings = job.settings
    if job.kind == "predict":
        assert model_folder is not None
        return _Predict(model_folder, settings)
    embedder = Embedder(
        load_backbone(settings["backbone"], engine=settings["engine"], dtype=settings["dtype"])
    )
    return _Embed(embedder) if job.kind == "embed" else _Material(embedder)


class _Embed:
    """Embed every image."""

    def __init__(self, embedder: Embedder) -> None:
        import pyarrow as pa

        self._embedder, self.threads = embedder, callers(embedder.engine)
        columns = {
            "file_name": pa.string(),
            "sha256": pa.string(),
            "embedding": pa.list_(pa.float32()),
            "error": pa.string(),
        }
        self.schema = pa.schema(columns)

    def row(self, file: ImageFile) -> dict:
        done = self._embedder.embed(file)
        return {
            "file_name": _text(file.name),
            "sha256": done.sha256,
            "embedding": done.embedding,
            "error": done.error,
        }

    def counts(self, rows: list[dict]) -> dict:
        return {"unreadable": sum(row["error"] is not None for row in rows)}

    def flush(self) -> None:
        self._embedder.cache.flush()


class _Material:
    """Look at every image, as the first step of cleaning does; `looked_at` reads it back."""

    def __init__(self, embedder: Embedder) -> None:
        import pyarrow as pa

        self._embedder, self.threads = embedder, callers(embedder.engine)
        columns = {
            "file_name": pa.string(),
            "sha256": pa.string(),
            "error": pa.string(),
            "measures": pa.binary(),
            "embedding": pa.list_(pa.float32()),
        }
        self.schema = pa.schema(columns)

    def row(self, file: ImageFile) -> dict:
        seen = look_at(file, self._embedder)
        measures = None if seen.measures is None else seen.measures.pack()
        return {
            "file_name": _text(file.name),
            "sha256": seen.sha256,
            "error": seen.error,
            "measures": measures,
            "embedding": seen.embedding,
        }

    def counts(self, rows: list[dict]) -> dict:
        return {"unreadable": sum(row["error"] is not None for row in rows)}

    def flush(self) -> None:
        self._embedder.cache.flush()


def looked_at(table: Any) -> Iterator[LookedAt]:
    """Yield what a part of a "material" job holds of each image."""
    columns = (table.column(name) for name in ("sha256", "error", "measures", "embedding"))
    for sha256, error, measures, embedding in zip(*columns, strict=True):
        packed, row = measures.as_py(), embedding.values
        yield LookedAt(
            sha256.as_py(),
            error.as_py(),
            None if packed is None else Measures.unpack(packed),
            None if row is None else row.to_numpy(),
        )


class _Predict:
    """Predict what every image shows, and its box."""

    def __init__(self, folder: Path, settings: dict) -> None:
        import pyarrow as pa

        self._model = load(folder, engine=settings["engine"], dtype=settings["dtype"])
        self._threshold = settings["threshold"]
        self._embedder = self._model.embedder
        self.threads = callers(self._embedder.engine)
        numbers = pa.float64()
        columns = {
            "file_name": pa.string(),
            "label": pa.string(),
            "labels": pa.list_(
                pa.struct(
                    [
                        ("label", pa.string()),
                        ("probability", numbers),
                        ("box_xyxy", pa.list_(numbers)),
                    ]
                )
            ),
            "top_label": pa.string(),
            "probability": numbers,
        }
        columns |= {
            "probabilities": pa.struct(
                [(_text(name), numbers) for name in self._model.class_names]
            ),
            "box_xyxy": pa.list_(numbers),
        }
        self.schema = pa.schema({**columns, "stranger": pa.bool_(), "error": pa.string()})

    def row(self, file: ImageFile) -> dict:
        seen = self._model.predict_file(file, self._threshold)
        row = {name: getattr(seen, name) for name in self.schema.names}
        texts = {
            name: None if row[name] is None else _text(row[name])
            for name in ("file_name", "label", "top_label")
        }
        shares = seen.probabilities and {
            _text(name): share for name, share in seen.probabilities.items()
        }
        labels = [
            {"label": _text(one.label), "probability": one.probability, "box_xyxy": one.box_xyxy}
            for one in seen.labels
        ]
        return {**row, **texts, "probabilities": shares, "labels": labels}

    def counts(self, rows: list[dict]) -> dict:
        accepted = Counter(one["label"] for row in rows for one in row["labels"])
        labelled = sum(row["label"] is not None for row in rows)
        unreadable = sum(row["error"] is not None for row in rows)
        strangers = sum(bool(row["stranger"]) for row in rows)
        unsure = len(rows) - labelled - unreadable - strangers
        return {
            "accepted": dict(accepted),
            "unsure": unsure,
            "strangers": strangers,
            "unreadable": unreadable,
        }

    def flush(self) -> None:
        self._embedder.cache.flush()


def _text(name: str) -> str:
    """Return a name that a table can hold, with bytes that are not UTF-8 written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def _list_name(number: int) -> str:
    return f"{LISTS}/{number:07d}.json"


def _listed(files: list[ImageFile]) -> bytes:
    rows = []
    for file in files:
        remote = isinstance(file.path, RemoteFile)
        rows.append(
            [
                file.name,
                file.path.name if remote else os.path.abspath(file.path),
                file.label,
                file.path.size if remote else None,  # type: ignore[attr-defined]
            ]
        )
    return json.dumps(rows).encode()
