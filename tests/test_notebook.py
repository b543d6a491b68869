"""Notebook manners: results show themselves, become DataFrames, draw figures, and long work shows a bar; tried in a real kernel."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys

import pytest
from PIL import Image

import wordsight
from wordsight.notebook import table, thumbnail
from wordsight.progress import NotebookBar, or_notebook

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELLS = {
    "train": "import wordsight\nmodel = wordsight.train(shapes, 'm')\nmodel",
    "predict": "results = model.predict(other, threshold=0.5, output='r')\nresults",
    "frame": "results.to_pandas()",
    "evaluate": "evaluation = wordsight.evaluate(other, model, 'report')\nevaluation",
    "plot": "evaluation.plots()['confusion_matrix']",
    "map": "wordsight.heatmap(photo, 'disc', model)",
    "detect": "found = wordsight.detect(photo, model, 'd', threshold=0.5)\nfound",
    "recognize": "wordsight.recognize(photo, groups='vehicle')",
    "clean": "wordsight.clean(shapes, 'c')",
    "bar": """
import time
from wordsight.progress import or_notebook
tell = or_notebook(None)
for n in range(1, 9):
    tell(n, 9, 'photos <b>')
    time.sleep(0.2)
""",
}


EXECUTE = """
import sys, nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], 4)
manager = AsyncKernelManager()
manager._kernel_spec = KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python")
NotebookClient(book, km=manager, timeout=200).execute()
nbformat.write(book, sys.argv[1])
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, shapes, other_shapes):
    """What each cell shows, by name, as {MIME type: data}, run by Jupyter's own kernel."""
    folder = tmp_path_factory.mktemp("notebook")
    given = f"shapes, other, photo = {str(shapes)!r}, {str(other_shapes)!r}, {str(other_shapes / 'disc' / '000.jpg')!r}"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (given, *CELLS.values())])
    nbformat.write(book, folder / "book.ipynb")
    subprocess.run([sys.executable, "-c", EXECUTE, "book.ipynb"], cwd=folder, check=True, timeout=250)  # Jupyter's sockets stay in a process of their own
    cells = nbformat.read(folder / "book.ipynb", 4).cells[1:]
    return {name: [dict(o.data) for o in cell.outputs if "data" in o] for name, cell in zip(CELLS, cells, strict=True)}


def pictures(html: str) -> list[Image.Image]:
    """Decode the pictures embedded in HTML."""
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)]


def test_models_and_results_show_themselves(outputs):
    assert "disc" in outputs["train"][-1]["text/html"] and "accuracy" in outputs["train"][-1]["text/html"]
    shown = outputs["predict"][-1]["text/html"]
    assert "12 photos" in shown and "report.html" in shown
    small = pictures(shown)
    assert 6 <= len(small) <= 12 and all(max(picture.size) <= 200 for picture in small)
    assert "selective accuracy" in outputs["evaluate"][-1]["text/html"]
    assert len(pictures(outputs["detect"][-1]["text/html"])) == 1
    assert "shows" in outputs["recognize"][-1]["text/html"] and "files named" in outputs["clean"][-1]["text/html"]


def test_heat_maps_and_plots_are_pictures(outputs):
    for name, width in (("map", 320), ("plot", 300)):
        picture = Image.open(io.BytesIO(base64.b64decode(outputs[name][-1]["image/png"])))
        assert picture.format == "PNG" and picture.width >= width


def test_results_become_frames(outputs, shapes_model, other_shapes):
    assert "file_name" in outputs["frame"][-1]["text/html"]
    results = wordsight.load(shapes_model).predict(other_shapes, threshold=0.5)
    table = results.to_pandas()
    assert list(table["file_name"]) == [one.file_name for one in results] and set(table["label"].dropna()) <= {"disc", "square"}
    evaluation = wordsight.evaluate(other_shapes, shapes_model, None)
    assert evaluation.to_pandas().set_index("figure").loc["coverage", "value"] == evaluation.coverage.value
    assert len(wordsight.load(shapes_model).to_pandas()) == len(wordsight.load(shapes_model).history) > 0


def test_long_work_shows_a_bar_and_short_work_none(outputs):
    (bar,) = outputs["bar"]
    assert "<progress" in bar["text/html"] and "photos &lt;b&gt;: " in bar["text/html"]  # escaped
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
