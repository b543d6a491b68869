"""Embed, predict and clean on many machines with Ray Data, with the results of one process.

Each worker takes a shard (`shards`), works on it as one process would, and writes its part, whole
or not at all. A lost worker is replaced, and its shard is done again. After an interruption, the
same call goes on. Training on many machines is torchrun's job.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.openvino_engine import convert
from ..backbones.precision import choose_dtype
from ..backbones.registry import load_backbone
from ..backbones.runtime import choose_engine
from ..classification.classifier import Classifier, load
from ..cleaning.cleaner import Cleaning, CleaningOptions, CleaningTask, decide, folder_task
from ..cleaning.material import LookedAt
from ..core.home import expand, is_offline
from ..core.progress import Progress, or_notebook
from ..core.result_folder import refuse_other_files
from ..core.threads import say_interrupted, share_cores
from ..datasets.files import ImageFile
from ..datasets.labelled import LabelledSet, with_classes
from ..datasets.remote import Place
from ..errors import InvalidArgument, OutputError, WordsightError
from .outcome import Sharded
from .shards import (
    MARKER,
    SHARD,
    Job,
    Plan,
    begin,
    do_shard,
    looked_at,
    read_parts,
    total,
    work_of,
)

# of a shard whose worker dies; so an image that kills every worker ends the run
TRIES = 5
ONLY_HERE = ("memory://",)  # addresses that mean something else in every process


@dataclass(frozen=True)
class _Cluster:
    """Where shards are worked on, and who is told how far it is; see `embed`."""

    address: str
    workers: int | None
    progress: Progress | None


def embed(
    photos: str | os.PathLike,
    output: str | os.PathLike,
    *,
    backbone: str | Backbone = DEFAULT_BACKBONE,
    ray: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sharded:
    """Embed any number of images on Ray. Write Parquet with file_name, sha256, embedding (C,)
    float32 and error, one part for 500 images.

    Args:
        photos: a folder, or an address such as s3://bucket/photos.
        output: folder or address of the parts. Every worker must reach it.
        backbone: embedded, timm's, hf-hub: or local-dir:.
        ray: "local" starts Ray on this machine, "auto" joins the cluster that runs here, or a
            cluster's address.
        workers: processes of one core each; by default one for each core.
        progress: called with (done, total, "photos").

    Raises:
        NotFound, InvalidArgument: if there is nothing to embed, if the folder holds something else,
            or if Ray is not installed.
        OutputError: if a part can't be written.
    """
    settings = _prepare(load_backbone(backbone))
    job = Job("embed", _address(photos), _address(output), settings)
    return _run(job, _Cluster(ray, workers, or_notebook(progress)))


def predict(
    photos: str | os.PathLike,
    model: str | os.PathLike | Classifier,
    *,
    output: str | os.PathLike,
    threshold: float | None = None,
    precision: float | None = None,
    ray: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sharded:
    """Predict any number of images on Ray. Write Parquet with one row for each image: what
    `Classifier.predict` finds, boxes included.

    Args:
        photos: a folder, or an address such as s3://bucket/photos.
        model: model folder on this machine, or what `load` returned. Workers get a copy.
        output: folder or address of the parts. Every worker must reach it.
        threshold: calibrated probability from which a label is given, 0–1; default: the model's.
        precision: instead of a threshold, the share of labels that must be right.
        ray: as for `embed`.
        workers: as for `embed`.
        progress: called with (done, total, "photos").

    Raises:
        NotFound, InvalidModel, InvalidArgument: as `load` and `embed`.
        OutputError: if a part can't be written.
    """
    loaded = model if isinstance(model, Classifier) else load(model)
    settings = _prepare(loaded.backbone)
    threshold, note = loaded.threshold_for(threshold, precision)
    folder = expand(loaded.record.path or "" if isinstance(model, Classifier) else model)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    del settings["backbone"]  # the model brings it
    settings |= {"threshold": threshold, "model": _digest(files)}
    job = Job("predict", _address(photos), _address(output), settings)
    done = _run(job, _Cluster(ray, workers, or_notebook(progress)), files)
    return replace(done, threshold=threshold, note=note)


def clean(
    data: str | os.PathLike,
    output: str | os.PathLike | None = None,
    *,
    ray: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Cleaning:
    """Look for images that should not be in a data set as `wordsight.clean` does, but read, measure
    and embed them on Ray.

    What was seen of each image is kept in `material/` of the report's folder, as Parquet. This
    process decides, and reads the parts one after the other: it takes about 2 KB of memory for each
    image, and 18 KB in the cache folder while it lasts. Of a data set in an object
    store (a folder a class), only findings.csv and summary.json are written, and nothing is moved.

    Args:
        data: as for `wordsight.clean`, or an address such as s3://bucket/pets.
        output: folder of the report. A data set in an object store needs one, a folder or an
            address.
        ray: as for `embed`.
        workers: as for `embed`.
        progress: called with (done, total, "pictures" or "findings").
        options: as for `wordsight.clean`: apply, reasons, min_size, balance,
            backbone. `apply` and `balance` need the data on disk.

    Raises:
        NotFound, InvalidArgument, OutputError: as `wordsight.clean` and `embed`.
    """
    cluster = _Cluster(ray, workers, or_notebook(progress))
    chosen = CleaningOptions(**options)
    place = Place(data)
    task = (
        _store_task(place, output, chosen)
        if place.local is None
        else folder_task(data, output, chosen)
    )
    return decide(task, _look(task, _address(data), cluster), cluster.progress)


def _store_task(
    place: Place, output: str | os.PathLike | None, options: CleaningOptions
) -> CleaningTask:
    """Return what is to be cleaned of a data set in an object store, a folder a class.

    Raises:
        NotFound, InvalidArgument: if there is no such data set, if the report can't go there, or
            if something is to be moved.
    """
    if options.apply or options.balance:
        raise InvalidArgument(
            f"In '{place.address}' nothing is moved or balanced: that needs the pictures on "
            "disk. Leave out --apply and --balance."
        )
    if output is None:
        raise InvalidArgument(f"Say with -o where the findings about '{place.address}' go.")
    report = Place(output)
    if report.address.rstrip("/").startswith(place.address.rstrip("/")):
        raise InvalidArgument(
            "The report can't lie inside the data set, where it would be read as a class; got "
            f"'{report.address}'."
        )
    if not Place(_material(report.address)).exists(MARKER):
        refuse_other_files(report.address, report.names())
    files = [
        ImageFile(file.path, file.name, file.name.split("/")[0])
        for file in place.images()
        if "/" in file.name
    ]
    labelled = with_classes(LabelledSet(files, []), Path(place.address), 1)
    return CleaningTask(labelled, place.address, report.address, options)


def _look(task: CleaningTask, source: str, cluster: _Cluster) -> Iterator[LookedAt]:
    """Return what is seen of every image, in order, as `cleaning.material.look` does, on Ray."""
    options, images = task.options, task.labelled.images
    settings = {**_prepare(load_backbone(options.backbone)), "listed": _listed(images)}
    job = Job("material", source, _material(_address(task.output)), settings)
    plan, _ = _carry_out(job, images, cluster, what="pictures", replace=True)
    return (one for table in read_parts(job, plan) for one in looked_at(table))


def _material(report: str) -> str:
    """Return where a report's folder keeps what was seen of the images."""
    return f"{report.rstrip('/')}/material"


def _run(job: Job, cluster: _Cluster, files: dict[str, bytes] | None = None) -> Sharded:
    """Carry out a job for all images of its source, and write summary.json."""
    source, target = Place(job.source), Place(job.output)
    images: Iterable[ImageFile] = source.images(target.local)
    if source.local is not None:
        # all are listed now, to notice later that they are not those that the run began with
        images = list(images)
        job = replace(job, settings={**job.settings, "listed": _listed(images)})
    plan, counts = _carry_out(job, images, cluster, files)
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
    cluster: _Cluster,
    files: dict[str, bytes] | None = None,
    what: str = "photos",
    replace: bool = False,
) -> tuple[Plan, dict]:
    """Do every missing shard on Ray.

    Args:
        job: what is done.
        images: to what.
        cluster: where.
        files: the model's files, which workers get a copy of.
        what: the images, as progress calls them.
        replace: whether the shards of an earlier job make room.

    Returns:
        The plan, with the shards that were there before, and what was counted of all.
    """
    for place in (job.source, job.output):
        if place.startswith(ONLY_HERE):
            raise InvalidArgument(
                f"'{place}' lives in one process, and workers are others. Use a folder or an "
                "object store."
            )
    if cluster.workers is not None and cluster.workers < 1:
        raise InvalidArgument(f"There must be at least 1 worker, got {cluster.workers}.")
    ray = _import_ray(cluster.address == "local")
    plan = begin(job, images, SHARD, replace)
    missing = [number for number in range(plan.shards) if number not in plan.done]
    counted = list(plan.done.values())
    if not missing:
        return plan, total(counted)
    done = sum(counts["pictures"] for counts in counted)
    with _joined(ray, cluster.address, job):
        for counts in _by_workers(ray, job, missing, files, cluster.workers):
            counted.append(counts)
            done += counts["pictures"]
            if cluster.progress:
                cluster.progress(done, plan.images, what)
    return plan, total(counted)


@contextlib.contextmanager
def _joined(ray: Any, address: str, job: Job) -> Iterator[None]:
    """Join a cluster for the work within, unless this process has joined one, and say in one
    sentence why the work stopped.
    """
    own = not ray.is_initialized()
    if own:
        _join(ray, address)
    try:
        yield
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


def _by_workers(
    ray: Any, job: Job, missing: list[int], files: dict[str, bytes] | None, workers: int | None
) -> Iterator[dict]:
    """Yield what was counted of each missing shard, as soon as a worker has done it.

    Raises:
        OutputError, InvalidArgument, WordsightError: if a worker raises it.
    """
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
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # wordsight shows progress itself
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
        yield json.loads(row["counts"])


class _Worker:
    """One process on its share of the cores; does one shard after the other."""

    def __init__(self, job: Job, files: Any, cores: int, offline: bool) -> None:
        if offline:
            os.environ["WORDSIGHT_OFFLINE"] = "1"
        share_cores(cores)
        logging.disable(logging.WARNING)
        self._job, self._files = job, files
        self._work: Any = None

    def _ready(self) -> Any:
        """Return the work. It begins at the first shard, so that its errors are reported as all
        others are.
        """
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
            # the caller raises this sentence; the machine's log has no more to tell
            said = (
                f"Shard {number} of '{self._job.output}' can't be done by a worker: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}."
            )
        return {"counts": [counts], "error": [said], "kind": [kind]}


def _prepare(backbone: Backbone) -> dict[str, Any]:
    """Convert the network once, before all workers do, and return what they need to open it."""
    engine = choose_engine(backbone.engine)
    if engine == "openvino":
        convert(backbone, choose_dtype(backbone, engine))
    return {"backbone": backbone.name, "engine": backbone.engine, "dtype": backbone.dtype}


def _import_ray(here: bool = False) -> Any:
    """Import Ray, without its usage reports.

    Args:
        here: whether it listens on this machine's own address only. The first import settles that.

    Raises:
        InvalidArgument: if it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
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
        InvalidArgument: if there is none.
    """
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address == "local":
            with _without_dashboard(ray._private.services):
                # a cluster of its own, for this machine only
                ray.init(address="local", _node_ip_address="127.0.0.1", **quiet)
        else:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InvalidArgument(
            f"No Ray cluster answers at '{address}' ({' '.join(str(error).split())[:160]}). "
            "Start one with 'ray start --head', or use local."
        ) from None


@contextlib.contextmanager
def _without_dashboard(services: Any) -> Iterator[None]:
    """Keep Ray from starting the process behind its dashboard.

    Ray starts it even if no dashboard is wanted. It then asks the metadata services of three
    clouds which of them it runs on, even if usage reports are off. No setting prevents that.
    """
    start = services.start_api_server
    services.start_api_server = lambda *_, **__: ("", None)  # no address, no process
    try:
        yield
    finally:
        services.start_api_server = start


def _address(place: str | os.PathLike) -> str:
    """Return an address that means the same in every process."""
    text = os.fspath(place)
    return text if "://" in text else os.path.abspath(expand(text))


def _listed(images: Iterable[ImageFile]) -> str:
    """Return a digest that changes when images come, go or change."""
    return _digest({image.name: _state(image) for image in images})


def _digest(parts: dict[str, bytes]) -> str:
    """Return a digest of named contents."""
    whole = hashlib.sha256()
    for name in sorted(parts):
        whole.update(os.fsencode(name) + b"\0" + hashlib.sha256(parts[name]).digest())
    return whole.hexdigest()


def _state(image: ImageFile) -> bytes:
    """Return a text that changes when an image does, without reading it."""
    try:
        status = image.path.stat()
    except OSError:
        return b"gone"
    return f"{status.st_size} {getattr(status, 'st_mtime_ns', 0)} {image.label}".encode(
        "utf-8", "surrogateescape"
    )
