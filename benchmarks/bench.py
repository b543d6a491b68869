"""Measure speed and memory, and write RESULTS.md. Ratios come first: absolute times belong to one machine.

    python benchmarks/bench.py [NAME …]      train predict memory start dtype accuracy gather copies; all by default

Needs the folder of real pictures (WORDSIGHT_TEST_DATA, or shared/data beside the checkout). Comparisons are interleaved and
medians of several runs are given. Whole processes are timed unless a row says otherwise.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("WORDSIGHT_TEST_DATA", ROOT.parent / "shared" / "data"))
RUNS = 3
SECTIONS: dict[str, Callable[[Path], list[str]]] = {}


def section(function):
    SECTIONS[function.__name__] = function
    return function


def wordsight(*arguments, home: Path) -> tuple[float, dict]:
    """Run the command line; return wall seconds and its JSON."""
    environment = {**os.environ, "WORDSIGHT_HOME": str(home), "WORDSIGHT_OFFLINE": "1"}
    command = [sys.executable, "-m", "wordsight", *map(str, arguments)]
    start = time.perf_counter()
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if process.returncode > 1:
        raise SystemExit(process.stderr)
    return seconds, json.loads(process.stdout) if process.stdout.startswith("{") else {}


def forget(home: Path) -> None:
    """Drop embeddings and models, keep the compiled backbone."""
    shutil.rmtree(home / "models", ignore_errors=True)
    for file in (home / "cache").glob("embeddings*"):
        file.unlink()


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


@section
def train(work: Path) -> list[str]:
    """Cold training on 600 photos, against the same job with torch eager, and against itself when warm."""
    home, data = work / "home", DATA / "catdog" / "train"
    times: dict[str, list[float]] = {"cold": [], "torch": [], "warm": []}
    for _ in range(RUNS):
        forget(home)
        times["torch"].append(wordsight("train", data, "-o", work / "m", "--engine", "torch", "--json", home=home)[0])
        forget(home)
        times["cold"].append(wordsight("train", data, "-o", work / "m", "--json", home=home)[0])
        times["warm"].append(wordsight("train", data, "-o", work / "m", "--json", home=home)[0])
    inner = _inner_train_times(work)
    ratio = {name: statistics.median(a / b for a, b in zip(times[name], times["cold"], strict=True)) for name in times}
    return [
        "| training on 600 photos | ratio to cold | seconds |",
        "|---|---|---|",
        f"| cold | 1 | {spread(times['cold'])} |",
        f"| the same with torch eager | **{ratio['torch']:.1f}** | {spread(times['torch'])} |",
        f"| warm (nothing decoded) | **1/{1 / ratio['warm']:.1f}** | {spread(times['warm'])} |",
        f"| inside one process, warm | **1/{inner['cold'] / inner['warm']:.1f}** of cold inside one process | {inner['warm']:.2f}, cold {inner['cold']:.2f} |",
    ]


def _inner_train_times(work: Path) -> dict[str, float]:
    code = (
        "import sys, time, wordsight\nfrom wordsight.runtime import open_runtime\nfrom wordsight.cache import EmbeddingCache\n"
        "wordsight.load_backbone(); cold, warm = [], []\n"
        "for _ in range(3):\n"
        "    c = EmbeddingCache(); c.clear(); c.close()\n"
        "    for times in (cold, warm):\n"
        "        t = time.perf_counter(); wordsight.train(sys.argv[1], sys.argv[2]); times.append(time.perf_counter() - t)\n"
        "print(sorted(cold)[1], sorted(warm)[1])"
    )
    environment = {**os.environ, "WORDSIGHT_HOME": str(work / "home")}
    command = [sys.executable, "-c", code, str(DATA / "catdog" / "train"), str(work / "m")]
    cold, warm = map(float, subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split())
    return {"cold": cold, "warm": warm}


@section
def predict(work: Path) -> list[str]:
    """Predict with heat maps, masks and tables, against the sum of its parts over the cores."""
    home, photos = work / "home", DATA / "catdog" / "test"
    wordsight("train", DATA / "catdog" / "train", "-o", work / "m", "--json", home=home)
    code = PARTS.replace("OUT", repr(str(work / "r")))
    environment = {**os.environ, "WORDSIGHT_HOME": str(home)}
    command = [sys.executable, "-c", code, str(photos), str(work / "m")]
    runs = [json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout) for _ in range(RUNS)]
    share = [run["bound_s"] / run["wall_s"] for run in runs]
    last = runs[-1]
    return [
        "| predict with heat maps, 300 photos, inner loop | value |",
        "|---|---|",
        f"| share of the bound (decode + inference + drawing, over the cores) | **{spread(share)}** |",
        f"| images/s | {spread([300 / run['wall_s'] for run in runs])} |",
        f"| core-ms an image: read and decode / inference / decide and draw | {last['decode_ms']:.2f} / {last['infer_ms']:.2f} / {last['draw_ms']:.2f} |",
    ]


PARTS = """
import json, shutil, sys, time
import wordsight
from wordsight.cache import EmbeddingCache
from wordsight.dataset import find_pictures
from wordsight.embed import Embedder, read
from wordsight.images import decode, resize
from wordsight.localize import class_heatmap, heatmap_box
from wordsight.results import ResultsWriter
from wordsight.runtime import cores, import_openvino
from pathlib import Path
from threadpoolctl import threadpool_limits
model = wordsight.load(sys.argv[2])
files = find_pictures([sys.argv[1]]).pictures
ov = import_openvino()
single = ov.Core().compile_model(model.backbone.folder / "network.xml", "CPU",
    {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1"}).create_infer_request()
p = model.backbone.preprocessing
writer = ResultsWriter(Path(OUT), model.class_names)
spent = {"decode": 0.0, "infer": 0.0, "draw": 0.0}
threadpool_limits(1, user_api="blas")  # each part on one core
for warm in (True, False):
    for file in files[:60] if warm else files:
        t0 = time.perf_counter()
        data, sha = read(file)
        photo = decode(data)
        pixels = resize(photo.image, p.input_size(photo.size), p.interpolation)
        t1 = time.perf_counter()
        single.infer({0: pixels[None]})
        e, f = (single.get_output_tensor(i).data[0].copy() for i in (0, 1))
        t2 = time.perf_counter()
        r = model.decide(file.name, e, 0.99)
        if r.label:
            r.map = class_heatmap(f, model.head.weight[model.class_names.index(r.label)])
            r.box_xyxy = heatmap_box(r.map, photo.size)
            writer.draw(r, file, photo.image, photo.size)
        writer.add(r)
        t3 = time.perf_counter()
        if not warm:
            for name, seconds in zip(spent, (t1 - t0, t2 - t1, t3 - t2)):
                spent[name] += seconds
writer.close()
threadpool_limits(cores(), user_api="blas")
walls = []
for _ in range(3):
    cache = EmbeddingCache(); cache.clear(); cache.close()
    shutil.rmtree(OUT, ignore_errors=True)
    t = time.perf_counter()
    model.predict(sys.argv[1], output=OUT)
    walls.append(time.perf_counter() - t)
n = len(files)
print(json.dumps({"bound_s": sum(spent.values()) / cores(), "wall_s": sorted(walls)[1], **{f"{k}_ms": 1000 * v / n for k, v in spent.items()}}))
"""


@section
def memory(work: Path) -> list[str]:
    """Peak memory of predict at 1,000 and 20,000 photos with bytes of their own, so that no cache helps."""
    home, rows = work / "home", []
    wordsight("train", DATA / "catdog" / "train", "-o", work / "m", "--json", home=home)
    sources = sorted((DATA / "catdog").rglob("*.jpg"))
    for count in (1000, 20000):
        photos = work / f"photos{count}"
        photos.mkdir(exist_ok=True)
        for i in range(count):
            (photos / f"{i:06d}.jpg").write_bytes(sources[i % len(sources)].read_bytes() + i.to_bytes(4, "big"))  # bytes after the end of a JPEG
        forget(home)
        code = (
            "import json, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        command = [sys.executable, "-m", "wordsight", "predict", str(photos), "-m", str(work / "m"), "-o", str(work / f"r{count}"), "--json"]
        environment = {**os.environ, "WORDSIGHT_HOME": str(home)}
        start = time.perf_counter()
        peak = int(subprocess.run([sys.executable, "-c", code, *command], env=environment, capture_output=True, text=True, check=True).stdout) / 1024
        rows.append((count, peak, count / (time.perf_counter() - start)))
        shutil.rmtree(photos)
        shutil.rmtree(work / f"r{count}")
    return [
        "| predict with heat maps | peak memory | images/s, whole process |",
        "|---|---|---|",
        *[f"| {count:,} photos | {peak:.0f} MiB | {rate:.0f} |" for count, peak, rate in rows],
        f"\nRatio of the peaks: **{rows[1][1] / rows[0][1]:.2f}** for 20 times the photos.",
    ]


@section
def start(work: Path) -> list[str]:
    """Start-up: importing, asking for help, and the share of a warm predict that is not work."""
    rows = []
    for name, code in {
        "`import wordsight`": ["-c", "import wordsight"],
        "`wordsight --help`": ["-m", "wordsight", "--help"],
        "bare Python": ["-c", "pass"],
    }.items():
        times = []
        for _ in range(9):
            begin = time.perf_counter()
            subprocess.run([sys.executable, *code], capture_output=True, check=True)
            times.append(time.perf_counter() - begin)
        rows.append(f"| {name} | {spread(times)} |")
    return ["| start-up | seconds |", "|---|---|", *rows]


@section
def dtype(work: Path) -> list[str]:
    """f32 beside bf16: speed of embedding and accuracy."""
    home, rows = work / "home", []
    times: dict[str, list[float]] = {"f32": [], "bf16": []}
    right: dict[str, float] = {}
    for _ in range(3):
        for name in times:
            forget(home)
            seconds, _ = wordsight("train", DATA / "catdog" / "train", "-o", work / f"m-{name}", "--dtype", name, "--json", home=home)
            times[name].append(seconds)
    for name in times:
        wordsight("predict", DATA / "catdog" / "test", "-m", work / f"m-{name}", "--dtype", name, "-o", work / "r", "--json", "--no-pictures", home=home)
        lines = [json.loads(line) for line in (work / "r" / "predictions.jsonl").read_text().splitlines()]
        right[name] = float(np.mean([row["top_label"] == row["file_name"].split("/")[0] for row in lines]))
        rows.append(f"| {name} | {spread(times[name])} | {right[name]:.2%} | {np.mean([row['label'] is not None for row in lines]):.1%} |")
    ratio = statistics.median(a / b for a, b in zip(times["f32"], times["bf16"], strict=True))
    return [
        "| cold training on 600 photos | seconds | right on 300 others | accepted at 0.99 |",
        "|---|---|---|---|",
        *rows,
        f"\nbf16 is **{ratio:.2f} ×** as fast.",
    ]


@section
def accuracy(work: Path) -> list[str]:
    """What users care for. Settings were chosen on other cat, dog and clothing photos; the street photos and the 520 clothing ones were seen before."""
    home, rows = work / "home", []

    def judge(name: str, *arguments, others: bool = False) -> None:
        wordsight(*arguments, "-o", work / "r", "--json", "--no-pictures", home=home)
        lines = [json.loads(line) for line in (work / "r" / "predictions.jsonl").read_text().splitlines()]
        truth = [next((part for part in row["file_name"].split("/") if part in ("cat", "dog")), None) for row in lines]
        known = [(row, t) for row, t in zip(lines, truth, strict=True) if t]
        accepted = [(row, t) for row, t in zip(lines, truth, strict=True) if row["label"]]
        right = np.mean([row["top_label"] == t for row, t in known]) if known else float("nan")
        selective = np.mean([row["label"] == t for row, t in accepted]) if accepted else float("nan")
        coverage = sum(1 for row, t in known if row["label"]) / max(len(known), 1)
        figures = " | ".join("–" if np.isnan(value) else f"{value:.2%}" for value in (right, coverage, selective))
        rows.append(f"| {name} | {len(lines)} | {figures} | {sum(1 for _, t in accepted if t is None)} |")

    test, strangers = DATA / "catdog" / "test", [DATA / "clothing" / "test", DATA / "street" / "photos"]
    few = work / "few"
    shutil.copytree(test / "dog", few / "dog", dirs_exist_ok=True)
    (few / "cat").mkdir(exist_ok=True)
    for photo in sorted((test / "cat").iterdir())[:8]:
        shutil.copy(photo, few / "cat")
    forget(home)
    words = ("run", "-c", "cat,dog")
    judge("words alone", *words, "-p", test)
    judge("words alone, 150 dogs and 8 cats", *words, "-p", few)
    judge("words alone, mixed with other photos", *words, "-p", test, "-p", strangers[0], "-p", strangers[1])
    wordsight("train", DATA / "catdog" / "train", "-o", work / "m", "--json", home=home)
    judge("trained on 600 photos", "predict", test, "-m", work / "m")
    judge("trained, only other photos", "predict", *strangers, "-m", work / "m")
    return [
        "| cats and dogs | photos | right | accepted at 0.99 | of the accepted right | others accepted |",
        "|---|---|---|---|---|---|",
        *rows,
        f"\nTen kinds of clothing, five folds repeated five times over all 520: **{_clothing(work):.2%}** right.",
    ]


def _clothing(work: Path) -> float:
    os.environ["WORDSIGHT_HOME"] = str(work / "home")
    from sklearn.model_selection import RepeatedStratifiedKFold

    from wordsight.backbones import load_backbone
    from wordsight.dataset import find_pictures
    from wordsight.embed import Embedder
    from wordsight.head import fit_head

    embedder = Embedder(load_backbone())
    items = list(embedder.embed_all(find_pictures([DATA / "clothing"]).pictures))
    embedder.cache.close()
    x = np.stack([item.embedding for item in items])
    _, y = np.unique([item.file.name.split("/")[-2] for item in items], return_inverse=True)
    scores = []
    for train_rows, test_rows in RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=0).split(x, y):
        head, _ = fit_head(x[train_rows], y[train_rows], 10)
        scores.append((head.logits(x[test_rows]).argmax(axis=1) == y[test_rows]).mean())
    return float(np.mean(scores))


@section
def gather(work: Path) -> list[str]:
    """Gathering 20 KB pictures from a local server (on the same cores), against the bound of decoding alone; memory."""
    counts = (1_000, 10_000)
    server = [sys.executable, str(ROOT / "tests" / "imitation.py"), "--log", str(work / "log"), "--offered", str(counts[-1]), "--quality", "97"]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            root = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
            os.environ["WORDSIGHT_OPENVERSE_URL"] = root
            addresses = [f"{root}/pictures/cat/{number}.jpg" for number in range(counts[-1])]
            sample = _examine_ms(addresses)
            rows = []
            for count in counts:
                lines = "\n".join(["url,label", *(f"{address},cat" for address in addresses[:count])])
                (work / "list.csv").write_text(lines)
                target = work / f"gathered{count}"
                arguments = ["gather", "cat", "-o", str(target), "--limit", str(count), "--source", f"urls:{work / 'list.csv'}", "--json"]
                seconds, peak = _gather_once(arguments, work)
                assert len(list((target / "cat").iterdir())) == count
                rows.append((count, seconds, peak))
        finally:
            process.kill()
            os.environ.pop("WORDSIGHT_OPENVERSE_URL", None)
    bound = 1000 / sample * (os.cpu_count() or 1)
    size = sum(path.stat().st_size for path in (work / "gathered1000" / "cat").iterdir())
    return [
        f"| gathering, {size / 1e6:.0f} KB a picture | pictures/s, whole process | share of the bound | peak memory |",
        "|---|---|---|---|",
        *(f"| {count:,} | {count / seconds:.0f} | {count / seconds / bound:.2f} | {peak:.0f} MiB |" for count, seconds, peak in rows),
        "",
        f"The bound: {sample:.1f} core-ms to decode a picture, look at it and hash it, on {os.cpu_count()} cores that also serve the pictures. "
        f"Ratio of the peaks: **{rows[-1][2] / rows[0][2]:.2f}** for 10 times the pictures.",
    ]


def _examine_ms(addresses: list[str]) -> float:
    """Fetch every picture once, so that the server has drawn it, and return the ms that examining one takes."""
    import urllib.request

    from wordsight.intake import examine

    pictures = [urllib.request.urlopen(address).read() for address in addresses]
    start = time.perf_counter()
    for data in pictures[:500]:
        examine(data, 224)
    return (time.perf_counter() - start) * 2


def _gather_once(arguments: list[str], work: Path) -> tuple[float, float]:
    """Return wall seconds and peak MiB of one gathering."""
    code = f"import sys; sys.argv = ['wordsight'] + {arguments!r}\nfrom wordsight.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    start = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], env={**os.environ, "WORDSIGHT_OFFLINE": ""}, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, int(out.stdout.splitlines()[-1]) / 1024


COPIES = {
    "half size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "JPEG quality 30": lambda image: image,
    "5 % crop": lambda image: image.crop((image.width // 20, image.height // 20, image.width * 19 // 20, image.height * 19 // 20)),
    "border": lambda image: ImageOps.expand(image, max(4, image.width // 20), "white"),
    "mirror": ImageOps.mirror,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "writing": lambda image: _written_on(image),
}


@section
def copies(work: Path) -> list[str]:
    """Copies of 200 photos: how many are found, beside imagededup's PHash where it is installed; and how hashes scale."""
    from wordsight.similar import hash_pairs

    paths = sorted((DATA / "catdog" / "train").glob("*/*"))[::6] + sorted((DATA / "imagenet_sample").glob("*"))[::2]
    rows = ["| copy | found | false pairs | imagededup PHash, 10 bits: found | false pairs |", "|---|---|---|---|---|"]
    for kind, change in COPIES.items():
        folder = work / kind / "set"
        folder.mkdir(parents=True)
        for number, path in enumerate(paths):
            image = Image.open(path).convert("RGB")
            image.save(folder / f"o{number:03d}.jpg", quality=92)
            change(image).save(folder / f"c{number:03d}.jpg", quality=30 if kind.startswith("JPEG") else 90)
        mine, theirs = _score(_our_pairs(folder.parent)), _score(_imagededup_pairs(folder))
        rows.append(
            f"| {kind} | **{mine[0]:.1%}** | {mine[1]} | {theirs[0]:.1%} | {theirs[1]} |" if theirs else f"| {kind} | **{mine[0]:.1%}** | {mine[1]} | – | – |"
        )
    rng = np.random.default_rng(0)
    seconds = {}
    for count in (10_000, 100_000) * RUNS:
        bits = rng.integers(0, 256, (count, 8), dtype=np.uint8)
        bits[count // 2 : count // 2 + count // 20] = bits[: count // 20]
        bits[:, 0] &= 127
        start = time.perf_counter()
        assert len(hash_pairs(bits)) >= count // 20
        seconds.setdefault(count, []).append(time.perf_counter() - start)
    ratio = statistics.median(seconds[100_000]) / statistics.median(seconds[10_000])
    return [*rows, "", f"All pairs among 100,000 hashes: {spread(seconds[100_000])} s, **{ratio:.1f}** times as long as among 10,000."]


def _written_on(image):
    written = image.copy()
    draw, height = ImageDraw.Draw(written), max(10, image.height // 12)
    draw.rectangle((5, image.height - height - 5, 5 + image.width // 3, image.height - 5), fill="white")
    draw.text((8, image.height - height - 3), "holiday 2026", fill="black")
    return written


def _our_pairs(data: Path) -> set[tuple[str, str]]:
    from wordsight.backbones import load_backbone
    from wordsight.cleaning import gather_material
    from wordsight.dataset import read_labelled
    from wordsight.embed import Embedder

    material = gather_material(read_labelled(data, min_classes=1), 1, Embedder(load_backbone()), None)
    names = [picture.path.stem for picture in material.pictures]
    return {(names[a], names[b]) for a, b in material.copies}


def _imagededup_pairs(folder: Path) -> set[tuple[str, str]] | None:
    try:
        from imagededup.methods import PHash
    except ImportError:
        return None
    hasher = PHash(verbose=False)
    found = hasher.find_duplicates(encoding_map=hasher.encode_images(str(folder)), max_distance_threshold=10)
    return {tuple(sorted((Path(a).stem, Path(b).stem))) for a, others in found.items() for b in others}


def _score(pairs: set[tuple[str, str]] | None) -> tuple[float, int] | None:
    """Return the share of 200 copies found, and the pairs that are none."""
    if pairs is None:
        return None
    right = sum(a[0] != b[0] and a[1:] == b[1:] for a, b in pairs)
    return right / 200, len(pairs) - right


def main() -> None:
    names = sys.argv[1:] or list(SECTIONS)
    if not DATA.is_dir():
        raise SystemExit(f"The folder of real pictures is not there: '{DATA}'. Set WORDSIGHT_TEST_DATA.")
    target = Path(__file__).with_name("RESULTS.md")
    parts = {}
    with tempfile.TemporaryDirectory(prefix="wordsight-bench-") as folder:
        work = Path(folder)
        wordsight("train", DATA / "fire", "-o", work / "warm-up", "--json", home=work / "home")  # prepares and compiles the backbone
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            begin = time.perf_counter()
            parts[name] = "\n".join(SECTIONS[name](work))
            print(f"{parts[name]}\n({time.perf_counter() - begin:.0f} s)\n", file=sys.stderr, flush=True)
    if set(names) == set(SECTIONS):
        head = (
            f"# Results\n\n{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}. "
            "Repeat with `make bench`. Values in brackets are the smallest and the largest of several runs; the machine is shared "
            "and noisy, so trust ratios.\n"
        )
        docs = {name: SECTIONS[name].__doc__ for name in names}
        target.write_text(head + "".join(f"\n## {docs[name]}\n\n{parts[name]}\n" for name in names))


if __name__ == "__main__":
    main()
