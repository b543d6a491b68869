"""Past one machine: embedding, prediction and cleaning on Ray Data, shard by shard, with the
results of one process.

Each worker takes a shard (`shards`), works on it as one process would, and writes its part, whole
or not at all. A worker that is lost is replaced and its shard done again; whoever interrupts goes
on with the same call. Training on many machines is torchrun's job.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..backbones.registry import DEFAULT_BACKBONE, Backbone, load_backbone
from ..backbones.runtime import choose_engine, convert, share_cores
from ..classification.classifier import load
from ..cleaning.checks import Finding, run_checks
from ..cleaning.cleaner import (
    MIN_SIZE,
    Cleaning,
    LookedAt,
    check_min_size,
    check_reasons,
    material_of,
)
from ..cleaning.cleaner import (
    clean as clean_folder,
)
from ..core.home import expand, is_offline
from ..core.progress import Progress, or_notebook
from ..core.result_folder import refuse_other_files
from ..core.threads import say_interrupted
from ..datasets.files import ImageFile, LabelledSet, with_classes
from ..datasets.remote import Place
from ..errors import InvalidArgument, OutputError, WordsightError
from ..images.measures import Measures
from .shards import MARKER, SHARD, Job, Plan, begin, do_shard, read_parts, total, work_of

# of a shard whose worker dies: others' work goes on, but an image that kills every worker ends the
# run
TRIES = 5
ONLY_HERE = ("memory://",)  # addresses that mean something else in every process


@dataclass(frozen=True)
class Sharded:
    """The outcome of a run over shards.

    Attributes:
        output: address of the folder of parts.
        images: how many in all.
        shards: how many parts.
        resumed: how many of them were there already.
        counts: what became of the images; of predictions "accepted" by class, "unsure",
            "strangers"; always "unreadable".
        threshold: of predictions, probability from which a label was given; infinite where none
            was; else None.
        note: what stands behind the threshold where it keeps a promise, or why none can; else None.
    """

    output: str
    images: int
    shards: int
    resumed: int
    counts: dict
    threshold: float | None = None
    note: str | None = None


def embed(
    photos: str | os.PathLike,
    output: str | os.PathLike,
    backbone: str = DEFAULT_BACKBONE,
    engine: str = "auto",
    dtype: str = "f32",
    ray: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sharded:
    """Embed any number of images on Ray; write Parquet with file_name, sha256, embedding (C,)
    float32 and error, a part for 500 images.

    Args:
        photos: a folder, or an address such as s3://bucket/photos.
        output: folder or address of the parts; one that every worker reaches.
        backbone: embedded, timm's, hf-hub: or local-dir:.
        engine: "auto", "openvino" or "torch".
        dtype: "f32" or "bf16".
        ray: "local" starts Ray on this machine, "auto" joins the cluster that runs here, or a
            cluster's address.
        workers: processes of one core each; by default as many as there are cores.
        progress: called with (done, total, "photos").

    Raises:
        NotFound, InvalidArgument: there is nothing to embed, or the folder holds something else, or
            Ray is not installed.
        OutputError: a part can't be written.
    """
    progress = or_notebook(progress)
    _prepare(load_backbone(backbone), engine)
    settings = {"backbone": backbone, "engine": engine, "dtype": dtype}
    return _run(
        Job("embed", _address(photos), _address(output), settings), None, ray, workers, progress
    )


def predict(
    photos: str | os.PathLike,
    model: str | os.PathLike,
    output: str | os.PathLike,
    threshold: float | None = None,
    precision: float | None = None,
    engine: str = "auto",
    dtype: str = "f32",
    ray: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sharded:
    """Predict any number of images on Ray; write Parquet with a row an image, with what
    `Classifier.predict` says of it, boxes included.

    Args:
        photos: a folder, or an address such as s3://bucket/photos.
        model: model folder on this machine; workers get a copy.
        output: folder or address of the parts; one that every worker reaches.
        threshold: calibrated probability from which a label is given, 0–1; default: the model's.
        precision: instead of a threshold, the share of labels that must be right.
        engine: see `embed`; as the rest.
        dtype: see there.
        ray: see there.
        workers: see there.
        progress: called with (done, total, "photos").

    Raises:
        NotFound, InvalidModel, InvalidArgument: as `load` and `embed`.
        OutputError: a part can't be written.
    """
    progress = or_notebook(progress)
    loaded = load(model)
    _prepare(loaded.backbone, engine)
    threshold, note = loaded.threshold_for(threshold, precision)
    folder = expand(model)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    settings = {"threshold": threshold, "engine": engine, "dtype": dtype, "model": _digest(files)}
    done = _run(
        Job("predict", _address(photos), _address(output), settings), files, ray, workers, progress
    )
    return replace(done, threshold=threshold, note=note)


def clean(
    data: str | os.PathLike,
    output: str | os.PathLike | None = None,
    apply: bool = False,
    reasons: Iterable[str] | None = None,
    min_size: int = MIN_SIZE,
    balance: bool = False,
    backbone: str = DEFAULT_BACKBONE,
    engine: str = "auto",
    dtype: str = "f32",
    ray: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Cleaning:
    """Look for images that should not be in a data set as `clean` does, with reading, measuring
    and embedding on Ray.

    What was seen of each image is kept in `material/` of the report's folder, as Parquet; the
    decisions are made from it in this process, which takes about 15 KB an image. Of a data set in
    an object store (a folder a class) findings.csv and summary.json are written, and nothing is
    moved.

    Args:
        data: as `clean`, or an address such as s3://bucket/pets.
        output: folder of the report; of a data set in an object store, folder or address, and
            needed.
        apply: as `clean`; on disk only.
        reasons: as `clean`.
        min_size: as `clean`.
        balance: as `clean`; on disk only.
        backbone: as `clean`.
        engine: as `clean`.
        dtype: as `clean`.
        ray: see `embed`.
        workers: see there.
        progress: called with (done, total, "images" or "findings").

    Raises:
        NotFound, InvalidArgument, OutputError: as `clean` and `embed`.
    """
    progress = or_notebook(progress)
    settings = {"backbone": backbone, "engine": engine, "dtype": dtype}

    def look(labelled: LabelledSet, report: Place) -> list[LookedAt]:
        listed = _digest({image.name: _state(image) for image in labelled.images})
        job = Job(
            "material",
            _address(data),
            f"{_address(report.address).rstrip('/')}/material",
            {**settings, "listed": listed},
        )
        _prepare(load_backbone(backbone), engine)
        plan, _ = _carry_out(
            job, labelled.images, None, ray, workers, progress, "pictures", replace=True
        )
        return [one for table in read_parts(job, plan) for one in _looked_at(table)]

    place = Place(data)
    if place.local is not None:
        return clean_folder(
            data,
            output,
            apply,
            reasons,
            min_size,
            balance,
            backbone,
            engine,
            dtype,
            progress,
            look=lambda labelled, target: look(labelled, Place(target)),
        )
    if apply or balance:
        raise InvalidArgument(
            f"In '{place.address}' nothing is moved or balanced: that needs the pictures on "
            "disk. Leave out --apply and --balance."
        )
    if output is None:
        raise InvalidArgument(f"Say with -o where the findings about '{place.address}' go.")
    wanted = check_reasons(reasons)
    check_min_size(min_size)
    report = Place(output)
    if report.address.rstrip("/").startswith(place.address.rstrip("/")):
        raise InvalidArgument(
            "The report can't lie inside the data set, where it would be read as a class; got "
            f"'{report.address}'."
        )
    if not Place(f"{report.address.rstrip('/')}/material").exists(MARKER):
        refuse_other_files(report.address, report.names())
    files = [
        ImageFile(file.path, file.name, file.name.split("/")[0])
        for file in place.images()
        if "/" in file.name
    ]
    labelled = with_classes(LabelledSet(files, []), Path(place.address), 1)
    material = material_of(labelled, look(labelled, report), min_size, load_backbone(backbone))
    findings = [finding for finding in run_checks(material) if finding.reason in wanted]
    counts = Counter(image.label for image in labelled.images)
    result = Cleaning(
        place.address,
        report.address,
        findings,
        {name: counts[name] for name in labelled.class_names},
    )
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow([column.name for column in fields(Finding)])
    rows.writerows(astuple(finding) for finding in findings)
    report.write("findings.csv", text.getvalue().encode("utf-8", "surrogateescape"))
    report.write(
        "summary.json",
        json.dumps(result.as_json(), indent=1, ensure_ascii=False).encode(
            "utf-8", "surrogateescape"
        ),
    )
    return result


def _run(
    job: Job,
    files: dict[str, bytes] | None,
    ray: str,
    workers: int | None,
    progress: Progress | None,
) -> Sharded:
    source, target = Place(job.source), Place(job.output)
    images: Iterable[ImageFile] = source.images(target.local)
    # listed at once: so it can be told whether they are those that it was begun with
    if source.local is not None:
        images = list(images)
        job = replace(
            job,
            settings={
                **job.settings,
                "listed": _digest({image.name: _state(image) for image in images}),
            },
        )
    plan, counts = _carry_out(job, images, files, ray, workers, progress, "photos")
    counts.pop("pictures")
    done = Sharded(job.output, plan.images, plan.shards, len(plan.done), counts)
    summary = {
        "output": done.output,
        "pictures": done.images,
        "shards": done.shards,
        "counts": counts,
    }
    target.write(
        "summary.json",
        json.dumps(summary, indent=1, ensure_ascii=False).encode("utf-8", "surrogateescape"),
    )
    return done


def _carry_out(
    job: Job,
    images: Iterable[ImageFile],
    files: dict[str, bytes] | None,
    address: str,
    workers: int | None,
    progress: Progress | None,
    what: str,
    replace: bool = False,
) -> tuple[Plan, dict]:
    """Do every shard that is missing, on Ray; return the plan, with those that were there
    before, and what was counted of all.
    """
    for place in (job.source, job.output):
        if place.startswith(ONLY_HERE):
            raise InvalidArgument(
                f"'{place}' lives in one process, and workers are others. Use a folder or an "
                "object store."
            )
    if workers is not None and workers < 1:
        raise InvalidArgument(f"There must be at least 1 worker, got {workers}.")
    ray = _import_ray(address == "local")
    plan = begin(job, images, SHARD, replace)
    missing = [number for number in range(plan.shards) if number not in plan.done]
    counted = list(plan.done.values())
    done = sum(counts["pictures"] for counts in counted)
    if not missing:
        return plan, total(counted)
    own = not ray.is_initialized()
    if own:
        _join(ray, address)
    try:
        resources = ray.cluster_resources()
        cores, gpus = (
            int(resources.get("CPU", 1)),
            0 if job.settings["engine"] == "openvino" else int(resources.get("GPU", 0)),
        )
        most = max(1, min(workers or gpus or cores, gpus or cores, len(missing)))
        # a GPU's worker decodes on its share of the cores
        each = max(1, cores // gpus) if gpus else 1
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # wordsight tells how far it is
        # of `max_task_retries`, which 2.64 will want elsewhere
        warnings.filterwarnings("ignore", message=".*ray_remote_args")
        shards = ray.data.from_items(
            [{"shard": number} for number in missing], override_num_blocks=min(len(missing), 10_000)
        )
        pool = ray.data.ActorPoolStrategy(min_size=most, max_size=most)
        given = {
            "num_cpus": each,
            "num_gpus": 1 if gpus else None,
            "fn_constructor_args": (job, ray.put(files), each, is_offline()),
        }
        for row in shards.map_batches(
            _Worker, batch_size=1, compute=pool, max_task_retries=TRIES, **given
        ).iter_rows():
            if row["error"]:
                raise {"OutputError": OutputError, "InvalidArgument": InvalidArgument}.get(
                    row["kind"], WordsightError
                )(row["error"])
            counted.append(json.loads(row["counts"]))
            done += counted[-1]["pictures"]
            if progress:
                progress(done, plan.images, what)
    except ray.exceptions.RayError as error:
        said = str(getattr(error, "cause", None) or error).strip().splitlines()[-1][:200]
        raise WordsightError(
            f"Work on Ray stopped: {said}. What is done lies in '{job.output}'; the same "
            "command goes on from there."
        ) from error
    except KeyboardInterrupt:
        say_interrupted(
            f"Stopped. What is done lies in '{job.output}'; the same command goes on from there."
        )
        raise
    finally:
        if own:
            ray.shutdown()
    return plan, total(counted)


class _Worker:
    """One process on its share of the cores, that does shards one after the other."""

    def __init__(self, job: Job, files: Any, cores: int, offline: bool) -> None:
        if offline:
            os.environ["WORDSIGHT_OFFLINE"] = "1"
        share_cores(cores)
        logging.disable(logging.WARNING)
        self._job, self._files = job, files
        self._work: Any = None

    def _ready(self) -> Any:
        """Return the work, begun at the first shard: what goes wrong then is told like all else."""
        if self._work is None:
            with tempfile.TemporaryDirectory(prefix="wordsight-") as folder:
                files = _import_ray().get(self._files) or {}
                for name, data in files.items():
                    (Path(folder) / name).write_bytes(data)
                self._work = work_of(self._job, Path(folder) if files else None)
        return self._work

    def __call__(self, batch: dict) -> dict:
        (number,) = batch["shard"]
        counts, said, kind = "", "", ""
        try:
            counts = json.dumps(do_shard(self._job, int(number), self._ready()))
        except WordsightError as error:
            said, kind = str(error), type(error).__name__
        except Exception as error:
            # told to whoever asked, in one sentence; the machine's log has no more to say
            said = (
                f"Shard {number} of '{self._job.output}' can't be done by a worker: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}."
            )
        return {"counts": [counts], "error": [said], "kind": [kind]}


def _prepare(backbone: Backbone, engine: str) -> None:
    """Convert the network once, before workers all do."""
    if choose_engine(engine) == "openvino":
        convert(backbone)


def _import_ray(here: bool = False) -> Any:
    """Import Ray, without its usage reports.

    Args:
        here: whether it is to listen on this machine's own address alone, which is settled when it
            is first imported.

    Raises:
        InvalidArgument: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if here:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InvalidArgument(
            f"Work on Ray needs an extra: pip install 'wordsight[ray]' ({error})."
        ) from None
    return ray


def _join(ray: Any, address: str) -> None:
    """Start Ray here, or join a cluster.

    Raises:
        InvalidArgument: there is none.
    """
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address == "local":
            # of its own, and for this machine alone
            ray.init(address="local", _node_ip_address="127.0.0.1", **quiet)
        else:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InvalidArgument(
            f"No Ray cluster answers at '{address}' ({' '.join(str(error).split())[:160]}). "
            "Start one with 'ray start --head', or use local."
        ) from None


def _address(place: str | os.PathLike) -> str:
    """Return an address that means the same in every process."""
    text = os.fspath(place)
    return text if "://" in text else os.path.abspath(expand(text))


def _digest(parts: dict[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(parts):
        whole.update(os.fsencode(name) + b"\0" + hashlib.sha256(parts[name]).digest())
    return whole.hexdigest()


def _state(image: ImageFile) -> bytes:
    """Return what changes when an image does, without reading it."""
    try:
        status = image.path.stat()
    except OSError:
        return b"gone"
    return f"{status.st_size} {getattr(status, 'st_mtime_ns', 0)} {image.label}".encode(
        "utf-8", "surrogateescape"
    )


def _looked_at(table: Any) -> Iterator[LookedAt]:
    """Yield what a part says of each image."""
    columns = (table.column(name) for name in ("sha256", "error", "measures", "embedding"))
    for sha256, error, measures, embedding in zip(*columns, strict=True):
        packed, row = measures.as_py(), embedding.values
        yield LookedAt(
            sha256.as_py(),
            error.as_py(),
            None if packed is None else Measures.unpack(packed),
            None if row is None else row.to_numpy(),
        )
