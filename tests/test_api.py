"""What importing gives, how the modules hang together, and what the style promises."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import wordsight

SOURCE = Path(wordsight.__file__).parent


def test_the_public_names_are_about_thirty_and_all_documented():
    reference = (Path(__file__).parents[1] / "docs" / "reference" / "api.md").read_text()
    documented = set(re.findall(r"^::: wordsight\.(\w+)$", reference, re.MULTILINE))
    folders = {name for name in wordsight.__all__ if inspect.ismodule(getattr(wordsight, name))}
    assert wordsight.__all__ == sorted(wordsight.__all__)
    assert set(wordsight.__all__) - folders - {"__version__"} == documented - {"__version__"}
    assert len(documented) <= 32


FOLDERS = [name for name in wordsight.__all__ if inspect.ismodule(getattr(wordsight, name))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_name_of_a_documented_folder_loads_and_is_documented(folder):
    module = getattr(wordsight, folder)
    for name in getattr(module, "__all__", ()):
        assert inspect.getdoc(getattr(module, name)), name


@pytest.mark.parametrize("name", wordsight.__all__)
def test_every_public_name_loads_and_is_documented(name):
    value = getattr(wordsight, name)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        wordsight.nothing  # noqa: B018


def test_import_loads_nothing_heavy():
    heavy = (
        *("torch", "timm", "openvino", "cv2", "PIL", "sklearn", "scipy", "matplotlib", "ray"),
        "numpy",  # a tenth of a second
    )
    code = (
        f"import sys, wordsight, wordsight.cli.main; print([m for m in {heavy} if m in "
        "sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_predict_loads_what_it_needs_only(shapes_model, other_shapes):
    heavy = ("torch", "sklearn", "scipy", "matplotlib", "pandas", "yaml", "httpx", "ray", "gradio")
    code = "import sys, wordsight; wordsight.load(sys.argv[1]).predict(sys.argv[2])\n"
    code += f"print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", code, str(shapes_model), str(other_shapes)]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_help_loads_nothing_that_only_commands_need():
    heavy = ("numpy", "PIL", "openvino", "jinja2", "yaml", "sqlite3", "filelock", "pydantic")
    code = (
        "import sys, wordsight.cli.main as cli; sys.argv = ['wordsight', '--help']\n"
        "try: cli.main()\n"
        f"except SystemExit: print([m for m in {heavy} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


def test_a_jpeg_loads_no_other_formats(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 48), "red").save(path)
    code = (
        "import sys; from wordsight.images.decoding import decode\n"
        "print(decode(open(sys.argv[1], 'rb').read()).size, 'PIL.TgaImagePlugin' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "(48, 64) False"


def test_three_packages_touch_the_network():
    network = (
        "httpx",
        "httpcore",
        "socket",
        "urllib.request",
        "requests",
        "aiohttp",
        "ddgs",
        "icrawler",
    )
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
            if any(
                name == module or name.startswith(module + ".")
                for name in names
                for module in network
            ):
                users.add(path.relative_to(SOURCE).parts[0])
    assert users == {"gathering", "labelstudio", "towers", "webapp"}
    for path in (SOURCE / "webapp").rglob("*.py"):  # it listens, and asks nobody
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bconnect(_ex)?\(|create_connection|import (httpx|requests)", text)


@pytest.mark.parametrize(
    ("package", "module"), [("ray", "distributed/ray"), ("fsspec", "datasets/remote")]
)
def test_one_module_touches_it(package, module):
    lines = {
        path.relative_to(SOURCE).with_suffix("").as_posix(): path.read_text().splitlines()
        for path in SOURCE.rglob("*.py")
    }
    users = {
        name
        for name, text in lines.items()
        if any(re.match(rf"(import|from) {package}\b", line.strip()) for line in text)
    }
    assert users == {module}


def test_one_module_touches_timm():
    users = {
        path.relative_to(SOURCE).parts[0]
        for path in SOURCE.rglob("*.py")
        if re.search(r"^\s*(import|from) timm\b", path.read_text(), re.M)
    }
    assert users == {"backbones"}


def test_nothing_is_pickled():
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        # pickletools lists the steps of a pickle and runs none
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|shelve)\b", text, re.M)
        assert "allow_pickle=True" not in text
        for line in text.splitlines():
            assert "torch.load(" not in line or "weights_only=True" in line
