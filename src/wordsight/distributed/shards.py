"""Work on more images than one process should hold: a list cut into shards, each done whole and
written as one Parquet file.

A folder of shards, on disk or in an object store, holds

    .wordsight-shards.json         what is done, to what, in how many shards
    .wordsight-shards/0000000.json the images of a shard
    part-0000000.parquet           what came of them

A part is there whole or not at all, so whoever was interrupted goes on with those that are missing.
Nothing here knows of other machines.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..backbones.cache import EmbeddingCache
from ..backbones.embedder import Embedder
from ..backbones.runtime import callers
from ..core.result_folder import refuse_other_files
from ..core.threads import parallel_map
from ..datasets.files import ImageFile
from ..datasets.remote import Place, RemoteFile
from ..errors import InvalidArgument

SHARD = 500  # images: a minute of one core, and what is lost when a worker is
MARKER = ".wordsight-shards.json"
LISTS = ".wordsight-shards"
COUNTS, KEY = b"wordsight", b"wordsight-job"  # in a part's schema: its own counts, and whose it is


class Work(Protocol):
    """What is done to every image.

    Attributes:
        schema: pyarrow's, of the rows.
        threads: how many call `row` at once.
    """

    schema: Any
    threads: int

    def row(self, file: ImageFile) -> dict:
        """Return one image's row; one that can't be read has its `error`, and raises nothing."""

    def counts(self, rows: list[dict]) -> dict:
        """Return what is counted of a shard, as JSON can hold it."""

    def flush(self) -> None:
        """Keep what may spare others work."""


@dataclass(frozen=True)
class Job:
    """What is done to which images, and where the outcome lies.

    Attributes:
        kind: "embed", "predict" or "material".
        source: address of the images, or how the list of them is called.
        output: address of the folder of shards.
        settings: what `work_of` needs beside the kind; as JSON can hold it.
    """

    kind: str
    source: str
    output: str
    settings: dict = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What tells this job from others."""
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
        done: number -> counts of each part that is there already, whole and of this very job.
    """

    images: int
    shards: int
    done: dict[int, dict]


def begin(job: Job, images: Iterable[ImageFile], shard: int = SHARD, replace: bool = False) -> Plan:
    """Cut a list of images into shards and note them, or find the plan that an earlier run of the
    same job noted.

    Args:
        job: what is to be done.
        images: looked through only where nothing was noted yet.
        shard: images each.
        replace: whether the shards of an earlier job make room; else they are an error.

    Raises:
        InvalidArgument: the folder holds something else.
        OutputError: it can't be written.
    """
    place = Place(job.output)
    names = place.names()
    if MARKER in names:
        try:
            noted = json.loads(place.read(MARKER))
            key, count, shards = noted["key"], int(noted["pictures"]), int(noted["shards"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise InvalidArgument(
                f"'{job.output}' was begun by another version, or is damaged. Choose another "
                "folder with -o."
            ) from None
        if key == job.key:
            there = [number for number in range(shards) if part_name(number) in names]
            return Plan(
                count,
                shards,
                {
                    number: counts
                    for number in there
                    if (counts := part_counts(job, number)) is not None
                },
            )
        if not replace:
            raise InvalidArgument(
                f"'{job.output}' holds the shards of another run: {noted.get('said', '')}. "
                "Choose another folder with -o, or remove it."
            )
        # the marker last: it tells whose they are
        for name in [
            *(part_name(number) for number in range(shards) if part_name(number) in names),
            MARKER,
        ]:
            place.remove(name)
    else:
        refuse_other_files(job.output, names - {LISTS})
    count, shards, held = 0, 0, []
    for file in images:
        held.append(file)
        if len(held) == shard:
            place.write(_list_name(shards), _listed(held))
            count, shards, held = count + len(held), shards + 1, []
    if held:
        place.write(_list_name(shards), _listed(held))
        count, shards = count + len(held), shards + 1
    said = f"{job.kind} of {count:,} pictures of '{job.source}'"
    noted = {
        "key": job.key,
        "said": said,
        "kind": job.kind,
        "pictures": count,
        "shards": shards,
        "settings": job.settings,
    }
    place.write(MARKER, json.dumps(noted, indent=1).encode("utf-8", "surrogateescape"))
    return Plan(count, shards, {})


def do_shard(job: Job, number: int, work: Work) -> dict:
    """Do one shard and write its part; return its counts, with "images". One that is there
    already is left.
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
    """Return what was counted of a part that is there, or None where it is no whole part of
    this job.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with Place(job.output).open(part_name(number)) as file:
            about = pq.read_schema(file).metadata or {}
        return json.loads(about[COUNTS]) if about.get(KEY) == job.key.encode() else None
    except (pa.ArrowException, ValueError, KeyError, FileNotFoundError):
        return None


def read_parts(job: Job, plan: Plan) -> Iterator[Any]:
    """Yield every part as a pyarrow table, in the images' order."""
    import pyarrow.parquet as pq

    place = Place(job.output)
    for number in range(plan.shards):
        yield pq.read_table(io.BytesIO(place.read(part_name(number))))


def total(counted: Iterable[dict]) -> dict:
    """Return the sum of what was counted of shards."""
    whole: dict[str, Any] = {}
    for counts in counted:
        for name, value in counts.items():
            if isinstance(value, dict):
                whole[name] = dict(Counter(whole.get(name, {})) + Counter(value))
            else:
                whole[name] = whole.get(name, 0) + value
    return whole


def work_of(job: Job, model_folder: Path | None = None) -> Work:
    """Return what a job does to images, ready to begin.

    Args:
        job: the job.
        model_folder: for "predict", where the model lies on this machine.

    Raises:
        WordsightError: the network or the model can't be loaded.
    """
    settings = job.settings
    if job.kind == "predict":
        assert model_folder is not None
        return _Predict(model_folder, settings["threshold"], settings["engine"], settings["dtype"])
    from ..backbones.registry import load_backbone

    embedder = Embedder(load_backbone(settings["backbone"]), settings["engine"], settings["dtype"])
    return _Embed(embedder) if job.kind == "embed" else _Material(embedder)


class _Embed:
    """Embeddings."""

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
    """What cleaning looks at: embeddings and measures."""

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
        from ..cleaning.cleaner import look_at

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


class _Predict:
    """What each image shows, and its box."""

    def __init__(self, folder: Path, threshold: float, engine: str, dtype: str) -> None:
        import pyarrow as pa

        from ..classification.classifier import load

        self._model = load(folder)
        self._threshold = threshold
        self._embedder = Embedder(self._model.backbone, engine, dtype, EmbeddingCache())
        self.threads = callers(self._embedder.engine)
        numbers = pa.float64()
        columns = {
            "file_name": pa.string(),
            "label": pa.string(),
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
        seen = self._model.predict_file(file, self._embedder, self._threshold)
        row = {name: getattr(seen, name) for name in self.schema.names}
        texts = {
            name: None if row[name] is None else _text(row[name])
            for name in ("file_name", "label", "top_label")
        }
        shares = seen.probabilities and {
            _text(name): share for name, share in seen.probabilities.items()
        }
        return {**row, **texts, "probabilities": shares}

    def counts(self, rows: list[dict]) -> dict:
        accepted = Counter(row["label"] for row in rows if row["label"] is not None)
        unreadable = sum(row["error"] is not None for row in rows)
        strangers = sum(bool(row["stranger"]) for row in rows)
        unsure = len(rows) - sum(accepted.values()) - unreadable - strangers
        return {
            "accepted": dict(accepted),
            "unsure": unsure,
            "strangers": strangers,
            "unreadable": unreadable,
        }

    def flush(self) -> None:
        self._embedder.cache.flush()


def _text(name: str) -> str:
    """Return a name as a table can hold it: bytes that are no UTF-8 are written out."""
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
