"""What RESULTS.md says can be repeated."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"


def test_every_section_of_the_results_is_a_comparison_that_can_be_run_by_its_name():
    listed = subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench.py"), "--list"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = {line.split()[0] for line in listed.splitlines()}
    results = (BENCHMARKS / "RESULTS.md").read_text()
    written = re.findall(r"^## (\w+):", results, flags=re.MULTILINE)
    assert written and set(written) <= known
    assert len(written) == results.count("\n## "), "a section without a comparison"
    assert all(f"`make bench ONLY={name}`" in results for name in written)


def test_an_unknown_comparison_is_said_to_be_one():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench.py"), "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "No such comparison: nothing. There are: " in done.stderr


@pytest.mark.parametrize("folder", ["benchmarks", "benchmarks/sides", "scripts"])
def test_what_is_run_by_hand_takes_only_what_the_package_has(folder):
    missing = [
        f"{path.name}: {name}"
        for path in sorted((ROOT / folder).glob("*.py"))
        for name in missing_in(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not missing


def missing_in(tree: ast.Module) -> list[str]:
    """Return the names that a program takes from wordsight's modules and that these don't have."""
    missing, modules = [], dict[str, ModuleType]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wordsight"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                try:
                    found = getattr(module, alias.name)
                except AttributeError:
                    try:
                        found = importlib.import_module(f"{node.module}.{alias.name}")
                    except ImportError:
                        missing.append(f"{node.module}.{alias.name}")
                        continue
                if isinstance(found, ModuleType):
                    modules[alias.asname or alias.name] = found
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module is not None and not hasattr(module, node.attr):
                missing.append(f"{module.__name__}.{node.attr}")
    return missing
