from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

import wordsight
from conftest import write_shapes
from wordsight.datasets.remote import Place
from wordsight.distributed import shards
from wordsight.distributed.shards import (
    Job,
    begin,
    do_shard,
    part_counts,
    read_parts,
    total,
    work_of,
)
from wordsight.errors import InvalidArgument, NotFound, OutputError, WordsightError

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Thirty photos and one that is none."""
    folder = write_shapes(tmp_path_factory.mktemp("photos"), 15, seed=900)
    (folder / "disc" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    return folder


def rows_in(job, plan):
    return [row for table in read_parts(job, plan) for row in table.to_pylist()]


def carried_out(job, images, shard=7, model=None):
    """Do a whole job in this process."""
    plan = begin(job, images, shard)
    work = work_of(job, model)
    counts = [do_shard(job, number, work) for number in range(plan.shards)]
    return plan, total(counts)


def as_row(one, columns):
    """Return a prediction as the row of a table."""
    labels = [
        {name: getattr(label, name) for name in ("label", "probability", "box_xyxy")}
        for label in one.labels
    ]
    return {name: labels if name == "labels" else getattr(one, name) for name in columns}


PREDICT = {"threshold": 0.9, "engine": "auto", "dtype": "auto"}


def test_shards_say_what_one_process_says(shapes_model, photos, tmp_path):
    job = Job("predict", str(photos), str(tmp_path / "out"), PREDICT)
    plan, counts = carried_out(job, Place(photos).images(), model=shapes_model)
    assert (plan.images, plan.shards) == (31, 5)
    expected = list(wordsight.load(shapes_model).predict(photos, threshold=0.9))
    rows = rows_in(job, plan)
    for row, one in zip(rows, expected, strict=True):
        assert as_row(one, row) == row
    assert counts == {
        "pictures": 31,
        "accepted": dict(
            wordsight.load(shapes_model).predict(photos, threshold=0.9).counts.accepted
        ),
        "unreadable": 1,
    } | {name: counts[name] for name in ("unsure", "strangers")}
    assert sum(counts["accepted"].values()) + counts["unsure"] + counts["strangers"] + 1 == 31


def test_an_object_store_gives_and_takes_the_same(shapes_model, photos, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(photos), "/bucket/photos", recursive=True)
    memory.pipe_file("/bucket/photos/.hidden.jpg", b"x")
    memory.pipe_file("/bucket/photos/notes.txt", b"x")
    job = Job("predict", "memory://bucket/photos", "memory://bucket/out", PREDICT)
    plan, counts = carried_out(job, Place(job.source).images(), model=shapes_model)
    other = Job("predict", str(photos), str(tmp_path / "out"), PREDICT)
    plan_here, counts_here = carried_out(other, Place(photos).images(), model=shapes_model)
    assert rows_in(job, plan) == rows_in(other, plan_here) and counts == counts_here
    assert shards.MARKER in Place(job.output).names()
    memory.rm("/bucket", recursive=True)


def test_what_is_there_is_not_done_again(shapes_model, photos, tmp_path):
    job = Job("predict", str(photos), str(tmp_path / "out"), PREDICT)
    _, counts = carried_out(job, Place(photos).images(), model=shapes_model)
    carried_out(
        Job("predict", str(photos), str(tmp_path / "other"), {**PREDICT, "threshold": 0.5}),
        Place(photos).images(),
        model=shapes_model,
    )
    parts = sorted((tmp_path / "out").glob("part-*.parquet"))
    (tmp_path / "out" / ".0123456789ab.part").write_bytes(b"what sudden death left")
    before = {path: path.stat().st_mtime_ns for path in parts}
    parts[2].unlink()
    assert set(begin(job, iter(()), 7).done) == {0, 1, 3, 4}  # the list is not asked for again
    carried_out(job, iter(()), model=shapes_model)
    assert [path for path in parts if path.stat().st_mtime_ns != before[path]] == [parts[2]]
    assert total(part_counts(job, number) for number in range(5)) == counts
    parts[1].write_bytes(b"")  # torn by a disk, or by another tool
    # of a worker that outlived another job
    parts[3].write_bytes((tmp_path / "other" / parts[3].name).read_bytes())
    assert set(begin(job, iter(()), 7).done) == {0, 2, 4}
    carried_out(job, iter(()), model=shapes_model)
    assert total(part_counts(job, number) for number in range(5)) == counts
    with pytest.raises(
        InvalidArgument, match="holds the shards of another run: predict of 31 pictures"
    ):
        begin(Job("predict", str(photos), job.output, {**PREDICT, "threshold": 0.5}), iter(()))
    replaced = begin(
        Job("material", str(photos), job.output, {}), Place(photos).images(), 7, replace=True
    )
    assert replaced.done == {} and not list((tmp_path / "out").glob("part-*"))


def test_nothing_of_others_is_taken_for_shards(photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InvalidArgument, match="holds other files"):
        begin(Job("embed", str(photos), str(tmp_path / "out")), Place(photos).images())
    (tmp_path / "out" / shards.MARKER).write_text("{")
    with pytest.raises(InvalidArgument, match="damaged"):
        begin(Job("embed", str(photos), str(tmp_path / "out")), Place(photos).images())
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_a_store_that_fails_ends_the_run_and_loses_no_image(shapes_model, photos, monkeypatch):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(photos), "/failing/photos", recursive=True)
    job = Job("predict", "memory://failing/photos", "memory://failing/out", PREDICT)
    plan = begin(job, Place(job.source).images(), 7)
    work = work_of(job, shapes_model)

    def busy(path, *arguments, **named):
        raise OSError("SlowDown: please reduce your request rate")

    with monkeypatch.context() as patched:
        patched.setattr(
            type(memory),
            "cat_file",
            lambda self, path, *a, **k: (
                busy(path) if path.endswith("003.jpg") else memory.store[path].getvalue()
            ),
        )
        with pytest.raises(WordsightError, match=r"SlowDown.* Try the same again"):
            do_shard(job, 0, work)
        patched.setattr(type(memory), "ls", busy)
        with pytest.raises(WordsightError, match="SlowDown"):
            list(Place(job.source).images())
    assert part_counts(job, 0) is None and do_shard(job, 0, work)["unreadable"] == 0
    with monkeypatch.context() as patched:
        patched.setattr("wordsight.backbones.embedder.MAX_BYTES", 1)
        assert do_shard(job, 2, work)["unreadable"] == 7  # too large to be fetched at all
    memory.rm_file("/failing/photos/disc/008.jpg")
    assert do_shard(job, 1, work)["unreadable"] == 1 and plan.shards == 5
    assert [row["error"] for row in rows_in(job, replace(plan, shards=2)) if row["error"]] == [
        "the file is gone"
    ]
    with pytest.raises(NotFound):
        list(Place("memory://failing/nowhere").images())
    memory.rm("/failing", recursive=True)


def test_places_that_can_not_be_reached_are_one_sentence(monkeypatch, tmp_path):
    with pytest.raises(InvalidArgument, match="--offline forbids"):
        Place("s3://bucket/a")
    monkeypatch.setenv("WORDSIGHT_OFFLINE", "")
    with pytest.raises(InvalidArgument, match="can't be reached"):
        Place("nonsense://a")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Can't write"):
        Place(tmp_path / "file").write("a", b"")


def test_findings_in_an_object_store_are_those_on_disk(tmp_path, monkeypatch):
    """Ray's part, looking, is done here: its workers can't see this process's memory."""
    import wordsight.distributed.ray as on_many
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.registry import load_backbone
    from wordsight.cleaning.material import look

    data = write_shapes(tmp_path / "pets", 6, seed=5)
    shutil.copy(data / "disc" / "000.jpg", data / "disc" / "copy.jpg")
    (data / "square" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    store = Place("memory://cleaned/pets")
    for path in data.rglob("*.jpg"):
        store.write(str(path.relative_to(data)), path.read_bytes())
    monkeypatch.setattr(
        on_many,
        "_look",
        lambda task, source, cluster: look(
            task.labelled.images, Embedder(load_backbone()), cluster.progress
        ),
    )
    found = wordsight.distributed.clean(store.address, "memory://cleaned/report")
    expected = wordsight.clean(data, tmp_path / "report")
    assert found.findings == expected.findings and found.classes == expected.classes
    assert {one.reason for one in found.findings} >= {"duplicate", "undecodable"}
    report = Place("memory://cleaned/report")
    assert report.names() == {"findings.csv", "summary.json"}
    assert report.read("findings.csv") == (tmp_path / "report" / "findings.csv").read_bytes()
    assert json.loads(report.read("summary.json")) == found.to_dict()
    for output, options, said in (
        ("memory://cleaned/r", {"apply": True}, "nothing is moved or balanced"),
        ("memory://cleaned/r", {"balance": True}, "nothing is moved or balanced"),
        (None, {}, "Say with -o where"),
        ("memory://cleaned/pets/r", {}, "can't lie inside the data set"),
        ("memory://cleaned/report", {}, "holds other files"),
        ("memory://cleaned/r", {"reasons": ["ugly"]}, "Unknown reason 'ugly'"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            wordsight.distributed.clean(store.address, output, **options)


# --------------------------------------------------------------------------------------------------
# ------------- on Ray


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough photos for several shards."""
    return write_shapes(tmp_path_factory.mktemp("many"), 30, seed=2000)


def on_ray(code, *arguments, shard=10, env=None):
    """Start Python with Ray in a process of its own, and shards of a few pictures."""
    program = f"""
import json, sys
import wordsight.distributed.ray as parallel
parallel.SHARD = {shard}
{code}"""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", **(env or {})}
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows_of(folder):
    import pyarrow.parquet as pq

    return [
        row
        for path in sorted(folder.glob("part-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def _kill_a_worker(parent: int) -> int | None:
    """Kill a process below `parent` that has begun to work on shards."""
    import psutil

    for one in psutil.Process(parent).children(recursive=True):
        try:
            heard = [
                place for place in one.net_connections("inet") if place.status == psutil.CONN_LISTEN
            ]
            # nobody else can reach it
            assert all(place.laddr.ip.removeprefix("::ffff:") == "127.0.0.1" for place in heard), (
                heard
            )
            if "ray::" in " ".join(one.cmdline()) and "_Worker" in " ".join(one.cmdline()):
                one.send_signal(signal.SIGKILL)
                return one.pid
        except psutil.Error:
            continue
    return None


COMMAND_CODE = """
from wordsight.cli.main import main
photos, model, output = sys.argv[1:4]
options = ["-t", "0.9", "--ray", "local", "--json"]
sys.argv = ["wordsight", "predict", photos, "-m", model, "-o", output, *options]
main()
"""


def first_part_of(process, folder, beyond=0):
    """Wait until the folder holds more parts than `beyond`, or the process has ended."""
    until = time.monotonic() + 120
    while (
        len(list(folder.glob("part-*.parquet"))) <= beyond
        and process.poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore")  # Ray's own, in this process
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_on_ray_whoever_started_it_may_end_and_a_worker_too_and_the_same_command_goes_on(
    sent, cli_here, many, shapes_model, tmp_path
):
    """The results are those of one process."""
    pytest.importorskip("ray")
    photos, out = shutil.copytree(many, tmp_path / "photos"), tmp_path / "out"
    process = on_ray(COMMAND_CODE, photos, shapes_model, out, shard=1)
    first_part_of(process, out)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=120)
    if sent == signal.SIGINT:
        assert process.returncode == 130 and "Traceback" not in errors, errors[-3000:]
        assert "goes on from there" in errors
    assert not (out / "summary.json").exists()
    before = len(list(out.glob("part-*.parquet")))
    again = on_ray(COMMAND_CODE, photos, shapes_model, out, shard=1)
    killed = None
    while killed is None and again.poll() is None:  # workers of the first may still write parts
        first_part_of(again, out, before)
        killed = _kill_a_worker(again.pid)
        before = len(list(out.glob("part-*.parquet")))
    assert killed, "no worker was there to be killed"
    said, errors = again.communicate(timeout=180)
    assert again.returncode == 0, errors[-3000:]
    done = json.loads(said.splitlines()[-1])
    assert done["pictures"] == 60 and done["shards"] == 60 and 1 <= done["resumed"] < 60
    expected = list(wordsight.load(shapes_model).predict(photos, threshold=0.9))
    rows = rows_of(out)
    assert [as_row(one, row) for one, row in zip(expected, rows, strict=True)] == rows
    command = ["predict", photos, "-m", shapes_model, "-o", out, "-t", "0.9", "--ray", "local"]
    third = cli_here(*command, "--json")
    whole = json.loads(third.stdout)
    assert whole | {"seconds": 0} == done | {"resumed": 60, "seconds": 0}
    os.utime(next(photos.rglob("*.jpg")), (1, 1))
    other = cli_here(*command)
    assert other.returncode == 2 and "holds the shards of another run" in other.stderr


def test_requests_that_ray_can_not_carry_out_are_one_sentence(
    cli_here, shapes_model, many, monkeypatch
):
    done = cli_here("predict", "memory://a", "-m", shapes_model, "--ray", "local", "-o", "out")
    assert done.returncode == 2 and "lives in one process" in done.stderr
    done = cli_here("predict", many, "-m", shapes_model, "--ray", "local", "--quadrants")
    assert done.returncode == 2 and "without --quadrants" in done.stderr
    monkeypatch.setitem(sys.modules, "ray", None)
    done = cli_here("predict", many, "-m", shapes_model, "--ray", "local", "-o", "out")
    assert (
        done.returncode == 2
        and "pip install 'wordsight[ray]'" in done.stderr
        and "Traceback" not in done.stderr
    )


TWO_JOBS = """
import contextlib, io, ray, s3fs, wordsight
from wordsight.cli.main import main
photos, model, data, report, root = sys.argv[1:6]
fs = s3fs.S3FileSystem(endpoint_url=root, key="a", secret="b")
fs.mkdir("bucket")
fs.put(photos, "bucket/photos", recursive=True)
parallel._join(parallel._import_ray(True), "local")
done = parallel.clean(data, report, workers=2)
print(json.dumps([list(map(str, vars(one).values())) for one in done.findings]))
options = ["-t", "0.9", "--ray", "local", "--json"]
sys.argv = ["wordsight", "predict", "s3://bucket/photos", "-m", model, "-o", "s3://bucket/out"]
sys.argv += options
main()
"""


@pytest.mark.slow  # the tests above do the same without Ray
def test_on_ray_cleaning_finds_the_same_and_predictions_go_from_s3_to_s3(
    many, shapes_model, tmp_path
):
    """A local imitation of S3 (moto) serves and keeps the files; one start of Ray does both."""
    pytest.importorskip("ray")
    server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    data = shutil.copytree(many, tmp_path / "data")
    shutil.copy(data / "disc" / "000.jpg", data / "disc" / "copy.jpg")
    (data / "square" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    service = server.ThreadedMotoServer(port=0, verbose=False)
    service.start()
    root = f"http://127.0.0.1:{service._server.server_port}"
    env = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_ENDPOINT_URL": root,
        "FSSPEC_S3_ENDPOINT_URL": root,
        "WORDSIGHT_OFFLINE": "",
    }
    try:
        process = on_ray(
            TWO_JOBS, many, shapes_model, data, tmp_path / "report", root, shard=30, env=env
        )
        said, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-3000:]
        findings, predicted = map(json.loads, said.splitlines())
        fs = s3fs.S3FileSystem(endpoint_url=root, key="a", secret="b")
        fs.get("bucket/out/", str(tmp_path / "parts"), recursive=True)
    finally:
        service.stop()
    expected = wordsight.clean(data, tmp_path / "other").findings
    assert findings == [list(map(str, vars(one).values())) for one in expected]
    assert {one.reason for one in expected} >= {"duplicate", "undecodable"}
    assert (tmp_path / "report" / "report.html").is_file()
    assert rows_of(tmp_path / "report" / "material")
    assert predicted["pictures"] == 60 and predicted["shards"] == 2
    rows = rows_of(tmp_path / "parts")
    assert [
        as_row(one, row)
        for one, row in zip(
            wordsight.load(shapes_model).predict(many, threshold=0.9), rows, strict=True
        )
    ] == rows
