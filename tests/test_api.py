"""What importing gives, how the modules hang together, and what the style promises."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wordsight

SOURCE = Path(wordsight.__file__).parent
LAYERS = [
    {"errors", "boxes", "preprocessing", "networks", "near_duplicates", "metrics", "threads", "box_metrics", "windows", "box_head", "charts"},
    {"home", "images", "licenses", "vocabulary", "localize", "head", "promise", "tuning", "plots", "model_card", "fixed_padding", "extensions"},
    {
        "notebook",
        "dataset",
        "checkpoints",
        "formats",
        "backbones",
        "cache",
        "neighbourhood",
        "measures",
        "clips",
        "contact_sheet",
        "queries",
        "credits",
        "similar",
        "overlay",
        "gallery",
    },
    {"progress", "report", "annotations", "places", "tables", "words_head", "training_set", "sources", "runtime", "checks"},
    {"embed", "gradients", "model_folder", "ledger", "balance", "box_views", "results", "report_model"},
    {"heatmaps", "quadrants", "box_sheets", "views", "known_classes", "results_report", "cleaning_report"},
    {"classifier", "batches", "recognizer", "cleaning", "intake", "funnel", "plan"},
    {
        "fitting",
        "drawing",
        "gathering",
        "splitting",
        "conversion",
        "judging",
        "scanning",
        "box_training",
        "looking",
        "recognition",
        "video_record",
        "eyes",
        "extraction",
        "prelabelling",
        "exported_network",
        "quantization",
    },
    {"evaluation_report", "box_report", "finetuning", "evaluation_folder", "detecting", "box_recipe", "videos", "exporting"},
    {"training", "evaluation", "box_evaluation"},
    {"routes", "doctor", "review", "shards"},
    {"demo", "workshop", "parallel"},
    {"page_parts", "page_guard"},
    {"page_try", "page_train", "page_compare"},
    {"page_review"},
    {"page"},
    {"page_server"},
    {"printing"},
    {"console", "options"},
    {"cli_data", "cli_info", "cli_see"},
    {"cli"},
    {"__main__"},
]


def files_of(module: str) -> list[Path]:
    """The files of a module, or of a package of modules."""
    return sorted((SOURCE / module).glob("*.py")) if (SOURCE / module).is_dir() else [SOURCE / f"{module}.py"]


def imports_of(module: str) -> set[str]:
    """Names of the modules of this package that a module imports anywhere, `TYPE_CHECKING` included."""
    found = set()
    for path in files_of(module):
        up = 2 if path.parent != SOURCE else 1
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == up:
                found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return found - {"__version__"}


def test_all_is_pinned():
    assert wordsight.__all__ == sorted(wordsight.__all__)
    assert set(wordsight.__all__) == {
        "BackboneUnavailable", "Box", "BoxEvaluation", "BoxSet", "Candidate", "Classifier", "Cleaning", "Closer", "Counts", "Detected", "Detection",
        "Detections", "EmbeddingCache", "Evaluation", "ExportedModel", "Extraction", "FakeSource", "Finding", "Gathered",
        "Heatmap", "InvalidArgument", "InvalidModel", "Looking", "Material", "NotFound",
        "NothingGathered", "OutputError", "Page", "Part", "Prediction", "Prelabels",
        "Promise", "Query", "Recognition", "Recognitions", "Results", "Sense", "Source", "SourceUnavailable", "Tuning",
        "UnknownWord", "UnreadableImage", "UnreadableVideo", "Video", "Windows", "WordsightError", "__version__", "app", "clean", "convert", "detect",
        "draw_network", "evaluate", "evaluate_boxes", "export", "extract", "gather", "heatmap", "list_backbones", "list_checks", "list_heatmap_methods",
        "list_models", "list_sources", "load", "load_backbone", "prelabel", "read_boxes", "read_labels", "recognize",
        "register_check", "register_format", "register_heatmap_method", "register_source", "resolve",
        "run", "senses", "split", "train", "undo", "video",
            "Sharded", "clean_dataset", "embed_dataset", "predict_dataset",
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
    heavy = ("torch", "timm", "openvino", "cv2", "PIL", "sklearn", "scipy", "matplotlib", "ray")
    code = f"import sys, wordsight, wordsight.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_predict_loads_what_it_needs_only(shapes_model, other_shapes):
    code = "import sys, wordsight; wordsight.load(sys.argv[1]).predict(sys.argv[2])\n"
    code += "print([m for m in ('torch', 'sklearn', 'scipy', 'matplotlib') if m in sys.modules])"
    command = [sys.executable, "-c", code, str(shapes_model), str(other_shapes)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_arrows_only_point_down():
    below: set[str] = set()
    modules = {path.stem for path in [*SOURCE.glob("*.py"), *(path.parent for path in SOURCE.glob("*/__init__.py"))]} - {"__init__"}
    assert modules == set().union(*LAYERS)
    for layer in LAYERS:
        for module in layer:
            assert imports_of(module) <= below, f"{module} imports from its own layer or above"
        below |= layer


def test_one_package_touches_the_network():
    network = ("httpx", "httpcore", "socket", "urllib.request", "requests", "aiohttp", "ddgs", "icrawler")
    users = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            if any(name == module or name.startswith(module + ".") for name in names for module in network):
                users.add(path.relative_to(SOURCE).parts[0])
    assert users == {"sources"}


@pytest.mark.parametrize(("package", "module"), [("ray", "parallel"), ("fsspec", "places")])
def test_one_module_touches_it(package, module):
    lines = {path.stem: path.read_text().splitlines() for path in SOURCE.rglob("*.py")}
    users = {name for name, text in lines.items() if any(re.match(rf"(import|from) {package}\b", line.strip()) for line in text)}
    assert users == {module}


def test_one_module_touches_timm():
    users = {path.stem for path in SOURCE.rglob("*.py") if any(line.strip().startswith(("import timm", "from timm")) for line in path.read_text().splitlines())}
    assert users == {"backbones"}


def test_nothing_is_pickled():
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert "pickle" not in text
        for line in text.splitlines():
            assert "torch.load(" not in line or "weights_only=True" in line
