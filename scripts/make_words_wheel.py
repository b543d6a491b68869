"""Pack a prepared text–image model into a wheel, for machines that can't download it:

    wordsight words --prepare siglip2 --nouns
    python scripts/make_words_wheel.py siglip2 --licence LICENSE-of-the-weights.txt -o dist/

Where the wheel is installed, `--words-model siglip2` finds the model in it. Nothing is downloaded,
neither here nor there. Most licences ask for their text to travel with the weights, so the wheel
holds it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import wordsight
from wordsight.towers.names import LOCAL, find_prepared, module_of
from wordsight.towers.tower import SUMS, read_record

ABOUT = """Weights of the text–image model {name}, converted for OpenVINO, for wordsight.

From {source}. Licence of the weights: {licence}; its text is among the licences of this package.
"""


def main(name: str, licence: Path, target: Path) -> Path:
    """Return the path of the wheel."""
    if name.startswith(LOCAL):
        raise SystemExit(
            "A wheel is found by its model's name, and a local folder has none. Give siglip2, "
            "pe-core-s, pe-core-t or hf-hub:ORGANISATION/NAME."
        )
    if not licence.is_file():
        raise SystemExit(f"No such file: '{licence}'. Give the text of the weights' licence.")
    folder = find_prepared(name)
    if folder is None:
        raise SystemExit(f"'{name}' isn't prepared. Run 'wordsight words --prepare {name}' first.")
    record, module = read_record(folder), module_of(name)
    about = ABOUT.format(
        name=name, source=record.source, licence=record.licence or "not stated by its authors"
    )
    project = {
        "name": module.replace("_", "-"),
        "version": f"1.{int(record.fingerprint[:8], 16)}",  # other weights, another version
        "description": about.split("\n")[0],
        "readme": "README.md",
        "license-files": ["LICENSE.txt"],
    }
    with tempfile.TemporaryDirectory() as work:
        package = Path(work, module)
        package.mkdir()
        (package / "__init__.py").write_text(f'"""{about.split(chr(10))[0]}"""\n')
        for file in (*record.files(), SUMS):
            shutil.copy2(folder / file, package / file)
        shutil.copy2(licence, Path(work, "LICENSE.txt"))
        Path(work, "README.md").write_text(about)
        Path(work, "pyproject.toml").write_text(_toml(module, project))
        command = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
        subprocess.run([sys.executable, *command, "-w", str(target.absolute()), work], check=True)
    return next(iter(target.glob(f"{module}-{project['version']}-*.whl")))


def _toml(module: str, project: dict) -> str:
    """Return the text of a pyproject.toml; strings and lists of TOML are those of JSON."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in project.items()]
    return "\n".join([
        "[build-system]",
        'requires = ["setuptools>=77"]',
        'build-backend = "setuptools.build_meta"',
        "[project]",
        *lines,
        "[tool.setuptools]",
        f'packages = ["{module}"]',
        "[tool.setuptools.package-data]",
        f'{module} = ["*"]',
    ])  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="siglip2, pe-core-s, pe-core-t or hf-hub:ORGANISATION/NAME")
    parser.add_argument("--licence", type=Path, required=True, help="text of the weights' licence")
    parser.add_argument("-o", "--output", type=Path, default=Path("dist"), help="default: dist")
    given = parser.parse_args()
    try:
        wheel = main(given.name, given.licence, given.output)
    except wordsight.WordsightError as error:
        raise SystemExit(str(error)) from error
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.0f} MB")
