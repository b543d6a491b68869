"""Notebook manners: results show themselves, become DataFrames, draw figures, and long work
shows a bar; tried in a real kernel.
"""

from __future__ import annotations

import base64
import io
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import wordsight
from conftest import write_shapes
from wordsight.core.notebook import table
from wordsight.core.progress import NotebookBar, or_notebook
from wordsight.reports.notebook_gallery import thumbnail

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELLS = {
    "train": "import wordsight\nmodel = wordsight.train(shapes, 'm')\nmodel",
    "predict": "results = model.predict(other, threshold=0.5, output='r')\nresults",
    "frame": "results.to_pandas()",
    "evaluate": "evaluation = wordsight.evaluate(other, model, output='report')\nevaluation",
    "plot": "evaluation.plots()['confusion_matrix']",
    "map": "wordsight.heatmap(photo, 'disc', model=model)",
    "detect": "found = wordsight.detect(photo, model, output='d', threshold=0.5)\nfound",
    "recognize": "wordsight.recognize(photo, groups='vehicle', output=None)",
    "clean": "wordsight.clean(shapes, 'c')",
    "bar": """
import time
from wordsight.core import progress
written, shown = progress._as_html, []
progress._as_html = lambda *told: shown.append(written(*told)) or shown[-1]
tell = progress.or_notebook(None)
for n in range(1, 9):
    tell(n, 9, 'photos <b>')
    time.sleep(0.2)
shown[-1]
""",
    "failing": "for n in range(1, 9):\n    tell(n, 0, 'frames')\n    time.sleep(0.2)\nraise "
    "SystemError('as if the disk were full')",
    "after": "shown[-1], get_ipython().events.callbacks['post_run_cell']",
}


EXECUTE = """
import sys, nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], 4)
manager = AsyncKernelManager()
kernel = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
manager._kernel_spec = KernelSpec(argv=kernel, language="python")
NotebookClient(book, km=manager, timeout=200).execute()
nbformat.write(book, sys.argv[1])
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, shapes, other_shapes):
    """What each cell shows, by name, as {MIME type: data}, run by Jupyter's own kernel."""
    folder = tmp_path_factory.mktemp("notebook")
    given = (
        f"shapes, other, photo = {str(shapes)!r}, {str(other_shapes)!r}, "
        f"{str(other_shapes / 'disc' / '000.jpg')!r}"
    )
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code) for code in (given, *CELLS.values())]
    )
    book.cells[1 + list(CELLS).index("failing")].metadata["tags"] = ["raises-exception"]
    nbformat.write(book, folder / "book.ipynb")
    # Jupyter's sockets stay in a process of their own
    subprocess.run(
        [sys.executable, "-c", EXECUTE, "book.ipynb"], cwd=folder, check=True, timeout=250
    )
    cells = nbformat.read(folder / "book.ipynb", 4).cells[1:]
    return {
        name: [dict(o.data) for o in cell.outputs if "data" in o]
        for name, cell in zip(CELLS, cells, strict=True)
    }


def images(html: str) -> list[Image.Image]:
    """Decode the pictures embedded in HTML."""
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    ]


def test_models_and_results_show_themselves(outputs):
    assert (
        "disc" in outputs["train"][-1]["text/html"]
        and ": 100.0% right." in outputs["train"][-1]["text/html"]
    )
    shown = outputs["predict"][-1]["text/html"]
    assert "12 photos" in shown and "report.html" in shown
    small = images(shown)
    assert 6 <= len(small) <= 12 and all(max(image.size) <= 200 for image in small)
    assert "selective accuracy" in outputs["evaluate"][-1]["text/html"]
    assert len(images(outputs["detect"][-1]["text/html"])) == 1
    assert (
        "shows" in outputs["recognize"][-1]["text/html"]
        and "files named" in outputs["clean"][-1]["text/html"]
    )


def test_heat_maps_and_plots_are_images(outputs):
    for name, width in (("map", 320), ("plot", 300)):
        image = Image.open(io.BytesIO(base64.b64decode(outputs[name][-1]["image/png"])))
        assert image.format == "PNG" and image.width >= width


def test_results_become_frames(outputs, shapes_model, other_shapes):
    assert "file_name" in outputs["frame"][-1]["text/html"]
    results = wordsight.load(shapes_model).predict(other_shapes, threshold=0.5)
    table = results.to_pandas()
    assert list(table["file_name"]) == [one.file_name for one in results] and set(
        table["label"].dropna()
    ) <= {"disc", "square"}
    evaluation = wordsight.evaluate(other_shapes, shapes_model, output=None)
    assert (
        evaluation.to_pandas().set_index("figure").loc["coverage", "value"]
        == evaluation.coverage.value
    )
    assert (
        len(wordsight.load(shapes_model).to_pandas())
        == len(wordsight.load(shapes_model).history)
        > 0
    )


def test_long_work_shows_a_bar_that_goes_with_its_cell_and_short_work_none(outputs):
    bar, said = outputs["bar"]
    assert bar["text/html"] == "" and said["text/plain"].startswith("'<progress value=")
    assert "photos &lt;b&gt;: " in said["text/plain"] and "s left" in said["text/plain"]  # escaped
    (left,) = outputs["failing"]
    assert left["text/html"] == ""  # gone, though nobody said that it was done, and the cell failed
    # how much there is was not known
    assert "<progress></progress> frames: " in outputs["after"][-1]["text/plain"]
    assert not any("<progress" in str(data) for data in outputs["predict"])


def test_outside_a_notebook_nobody_is_told():
    def told(done, total, what):
        return None

    assert or_notebook(None) is None and or_notebook(told) is told
    assert not isinstance(or_notebook(told), NotebookBar)


def test_names_of_strangers_stay_text(tmp_path):
    shown = table(["<script>"], [["<img src=x onerror=alert(1)>"], ["\udce9"]])
    assert "<script>" not in shown and "<img" not in shown
    shown.encode("utf-8")
    (tmp_path / "no.jpg").write_bytes(b"x")
    assert thumbnail(tmp_path / "no.jpg") is None and thumbnail(tmp_path / "gone.jpg") is None


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A data set whose pictures are broken, huge, turned, transparent or good."""
    folder = write_shapes(tmp_path_factory.mktemp("odd") / "data", 4, seed=300)
    (folder / "disc" / "torn.jpg").write_bytes((folder / "disc" / "000.jpg").read_bytes()[:700])
    (folder / "disc" / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
        + (30_000).to_bytes(4, "big") * 2
        + b"\x08\x02\0\0\0"
        + b"\0" * 60
    )
    turned = Image.new("RGB", (60, 40), "red").getexif()
    turned[0x0112] = 6
    Image.new("RGB", (60, 40), "red").save(folder / "square" / "turned.jpg", exif=turned)
    Image.new("RGBA", (60, 60), (0, 0, 0, 0)).save(folder / "square" / "clear.png")
    (folder / "train").mkdir()
    for n in range(3):
        Image.effect_noise((300, 300), 40 + 30 * n).convert("RGB").save(
            folder / "train" / f"{n}.jpg"
        )
    return folder


def test_small_images_are_upright_on_white_and_bounded(odd):
    assert Image.open(io.BytesIO(thumbnail(odd / "square" / "turned.jpg"))).size == (40, 60)
    assert Image.open(io.BytesIO(thumbnail(odd / "square" / "clear.png"))).getpixel((30, 30)) == (
        255,
        255,
        255,
    )
    assert thumbnail(odd / "disc" / "huge.png") is None


@pytest.fixture(scope="module")
def made(odd, shapes, shapes_model, tmp_path_factory):
    """Every kind of result there is, of pictures some of which can't be read; by name."""
    import cv2

    folder = tmp_path_factory.mktemp("made")
    boxes, clip = folder / "boxes.csv", folder / "clip.mp4"
    boxes.write_text(
        "file_name,label,x_min,y_min,x_max,y_max\ndisc/000.jpg,disc,10,10,90,90\n"
        "square/000.jpg,square,10,10,90,90\n"
    )
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (320, 240))
    for n in range(12):
        writer.write(np.asarray(Image.open(odd / "disc" / f"00{n % 4}.jpg"))[:, :, ::-1].copy())
    writer.release()
    return {
        "results": wordsight.load(shapes_model).predict(odd, threshold=0.5, output=folder / "r"),
        "detections": wordsight.detect(
            odd,
            shapes_model,
            output=folder / "d",
            threshold=0.5,
            windows=wordsight.WindowSettings(levels=1),
        ),
        "recognitions": wordsight.recognize(odd, groups="vehicle", output=folder / "g"),
        "cleaning": wordsight.clean(odd, folder / "c"),
        "evaluation": wordsight.evaluate(shapes, shapes_model, output=folder / "e"),
        "box evaluation": wordsight.evaluation.evaluate_boxes(
            boxes, shapes_model, images=odd, output=folder / "b"
        ),
        "gathered": wordsight.gather(
            "train,disc",
            folder / "s",
            sources=[f"folder:{odd}"],
            limit=3,
            settings=wordsight.gathering.GatherSettings(min_size=30),
        ),
        "video": wordsight.video(
            clip, output=folder / "labelled.mp4", model=shapes_model, threshold=0.5
        ),
        "model": wordsight.load(shapes_model),
    }


KINDS = [
    "results",
    "detections",
    "recognitions",
    "cleaning",
    "evaluation",
    "box evaluation",
    "gathered",
    "video",
    "model",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_shows_itself_and_becomes_a_frame(kind, made):
    result = made[kind]
    shown, frame = result._repr_html_(), result.to_pandas()
    assert shown.startswith("<div>") and "<table>" in shown and len(shown) < 1_000_000
    assert len(frame) and not frame.columns.duplicated().any()
    if kind in ("results", "detections", "recognitions"):
        assert set(frame[frame["error"].notna()]["file_name"]) >= {"disc/torn.jpg", "disc/huge.png"}
    if kind in ("results", "detections", "recognitions", "cleaning", "gathered"):
        assert images(shown)
    for figure in result.plots().values() if hasattr(result, "plots") else ():
        assert figure._repr_png_().startswith(b"\x89PNG") and pickle.loads(pickle.dumps(figure))


def test_results_whose_folder_is_gone_say_so(odd, shapes_model, tmp_path):
    results = wordsight.load(shapes_model).predict(odd, output=tmp_path / "r")
    shutil.rmtree(tmp_path / "r")
    assert "photos" in results._repr_html_() and not images(results._repr_html_())
    with pytest.raises(wordsight.errors.NotFound, match="no longer there"):
        results.to_pandas()


@pytest.mark.parametrize("written", [False, True])
def test_results_have_numbers_as_lists_do(written, tmp_path, shapes_model, other_shapes):
    output = tmp_path / "results" if written else None
    results = wordsight.predict(other_shapes, shapes_model, output=output, draw=False)
    names = [one.file_name for one in results]
    assert [results[0].file_name, results[-1].file_name] == [names[0], names[-1]]
    assert [one.file_name for one in results[1:3]] == names[1:3]
    with pytest.raises(IndexError, match=f"These are {len(names)} results"):
        results[len(names)]


def test_nothing_found_is_a_frame_without_rows(tmp_path, shapes_model):
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.png")
    found = wordsight.detect(tmp_path / "grey.png", shapes_model, threshold=1.0, output=None)
    assert len(found.to_pandas()) == 0 and "x_min" in found.to_pandas()
    assert "1 photos" in found._repr_html_()


def test_a_model_and_its_results_print_as_a_terminal_shows_them(shapes_model, other_shapes):
    model = wordsight.load(shapes_model)
    assert re.search(r"^disc +12$", repr(model), re.M) and "cross-validated: " in repr(model)
    results = model.predict(other_shapes)
    assert repr(results).splitlines()[0].startswith("label (probability ≥")
    assert re.search(r"^total +12$", str(results), re.M)
    for text in (repr(model), repr(results), *map(repr, results)):
        assert "array(" not in text and len(text) < 2000
