"""What is packed for others: the wheel holds all that the package reads, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import wordsight

ROOT = Path(__file__).parents[1]
PACKED = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
BUILD = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def built(kind: str, source: Path, into: Path) -> Path:
    """Return the path of an archive that setuptools builds from a folder, as pip does."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", str(into)],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel, built from the source archive, so that this has all that is needed, too."""
    folder = tmp_path_factory.mktemp("packed")
    source = folder / "source"
    for name in sources():
        copied = source / "src" / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes((ROOT / "src" / name).read_bytes())
    for name in PACKED:
        if (ROOT / name).exists():
            (source / name).write_bytes((ROOT / name).read_bytes())
    with tarfile.open(built("sdist", source, folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return zipfile.ZipFile(built("wheel", unpacked, folder))


def sources() -> list[str]:
    """Return the names of all files of the package, below src."""
    return [
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "wordsight").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == set(sources())
    assert {"wordsight/py.typed", "wordsight/__init__.pyi", "wordsight/words/wordnet.tsv"} <= names


def test_its_metadata_are_valid_and_name_version_licence_and_command(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    told = Metadata.from_email(wheel.read(name), validate=True)
    assert (told.name, str(told.version)) == ("wordsight", wordsight.__version__)
    assert told.license_expression == "Apache-2.0"
    assert told.description_content_type == "text/markdown"
    assert told.description == (ROOT / "README.md").read_text(encoding="utf-8")
    folder = name.rpartition("/")[0]
    for licence in told.license_files or []:
        assert wheel.read(f"{folder}/licenses/{licence}"), licence
    assert len(told.license_files or []) == 3
    assert b"wordsight = wordsight.__main__:main" in wheel.read(f"{folder}/entry_points.txt")
