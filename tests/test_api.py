"""What importing gives, how the modules hang together, and what the style promises."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import wordsight

SOURCE = Path(wordsight.__file__).parent
LAYERS = [
    {"errors", "boxes"},
    {"home", "images", "progress"},
    {"dataset", "localize", "vocabulary", "head"},
    {"results", "backbones", "cache", "words_head"},
    {"runtime"},
    {"embed"},
    {"classifier"},
    {"training"},
    {"routes", "doctor"},
    {"demo"},
    {"cli"},
    {"__main__"},
]


def imports_of(module: str) -> set[str]:
    """Names of the modules of this package that a module imports anywhere, `TYPE_CHECKING` included."""
    tree = ast.parse((SOURCE / f"{module}.py").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return found - {"__version__"}


def test_all_is_pinned():
    assert wordsight.__all__ == sorted(wordsight.__all__)
    assert set(wordsight.__all__) == {
        "BackboneUnavailable", "Classifier", "Counts", "EmbeddingCache", "InvalidArgument", "InvalidModel", "NotFound",
        "OutputError", "Prediction", "Results", "Sense", "UnknownWord", "UnreadableImage", "WordsightError", "__version__",
        "list_backbones", "list_models", "load", "load_backbone", "resolve", "run", "senses", "train",
    }  # fmt: skip


@pytest.mark.parametrize("name", wordsight.__all__)
def test_every_public_name_loads_and_is_documented(name):
    value = getattr(wordsight, name)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wordsight.nothing  # noqa: B018


def test_import_loads_nothing_heavy():
    code = "import sys, wordsight, wordsight.cli; print([m for m in ('torch', 'timm', 'openvino', 'cv2', 'PIL', 'sklearn', 'ray') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_arrows_only_point_down():
    below: set[str] = set()
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert modules == set().union(*LAYERS)
    for layer in LAYERS:
        for module in layer:
            assert imports_of(module) <= below, f"{module} imports from its own layer or above"
        below |= layer


def test_one_module_touches_timm():
    users = {path.stem for path in SOURCE.glob("*.py") if any(line.strip().startswith(("import timm", "from timm")) for line in path.read_text().splitlines())}
    assert users == {"backbones"}


def test_nothing_is_pickled():
    for path in SOURCE.glob("*.py"):
        text = path.read_text()
        assert "pickle" not in text
        for line in text.splitlines():
            assert "torch.load(" not in line or "weights_only=True" in line
