"""The folders: imports only point down, and no folder holds more than a person can take in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import wordsight

SOURCE = Path(wordsight.__file__).parent
# region storeys
STOREYS = """
__main__
cli
labelstudio
webapp
pipeline distributed
supervision
videos evaluation teaching
recognition detection retrieval cleaning gathering training exports traps
classification
reports
heatmaps towers
backbones
datasets
images
words heads
metrics
core
errors
"""
# endregion storeys


def test_folders_import_only_downwards():
    floor = {
        name: -number
        for number, storey in enumerate(STOREYS.split("\n"))
        for name in storey.split()
    }
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts == ("__init__",):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == len(parts):
                names = (
                    [node.module.split(".")[0]]
                    if node.module
                    else [alias.name for alias in node.names]
                )
                for name in set(names) - {"__version__"}:
                    assert name == parts[0] or floor[name] < floor[parts[0]], (
                        f"{'/'.join(parts)} imports {name}"
                    )


def test_every_folder_says_what_lives_there_and_stays_small():
    for folder in [SOURCE, *(path.parent for path in SOURCE.rglob("__init__.py"))]:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 12, (
            folder
        )
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), (
            folder
        )


def test_every_file_that_is_no_code_is_packed():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    packed = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["tool"]
    patterns = packed["setuptools"]["package-data"]
    for path in SOURCE.rglob("*"):
        if not path.is_file() or path.suffix in (".py", ".pyi", ".pyc"):
            continue
        assert any(
            path in [*SOURCE.parent.joinpath(*package.split(".")).glob(pattern)]
            for package, of in patterns.items()
            for pattern in of
        ), f"{path} would be missing in an installed package"
