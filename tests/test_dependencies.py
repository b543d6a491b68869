"""What wordsight stands on: no package under the GPL or AGPL, and the versions of Python."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
GPL = re.compile(r"\bA?GPL|Affero|(?<!Lesser )(?<!Library )General Public Licen[cs]e", re.I)
LGPL = re.compile(r"LGPL|(Lesser|Library) General Public Licen[cs]e", re.I)
ALLOWED = {
    "pi-heif": "LGPL, only in the extra heic: its libraries are files of their own, which a user "
    "may replace",
    "text-unidecode": "Artistic License or GPL, as one chooses; a tool of the tests asks for it",
    "cuda-toolkit": "says nothing, but holds no files: it only names NVIDIA's libraries for torch",
}


def closure(root: str, path: list[str] | None = None) -> tuple[dict[str, Distribution], set[str]]:
    """Return all that a package and its extras need here, by name: what is installed, and the
    names of what is not.
    """
    installed: dict[str, Distribution] = {}
    for distribution in distributions(**({} if path is None else {"path": path})):
        installed.setdefault(canonicalize_name(distribution.metadata["Name"]), distribution)
    extras = installed[root].metadata.get_all("Provides-Extra") or []
    ahead, seen = {(root, extra) for extra in ("", *extras)}, set()
    while ahead:
        name, extra = pair = ahead.pop()
        seen.add(pair)
        for line in (installed[name].requires or []) if name in installed else []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                other = canonicalize_name(needed.name)
                ahead |= {(other, wanted) for wanted in ("", *needed.extras)} - seen
    names = {name for name, _ in seen}
    return {name: installed[name] for name in names & set(installed)}, names - set(installed)


def stated_licence(distribution: Distribution) -> str:
    """Return what a package says about its licence; the texts it ships where it says nothing.

    A whole text in the field `License` counts as a text: those of numpy and scipy also hold the
    licences of the compiler's libraries.
    """
    said = distribution.metadata
    field = said.get("License") or ""
    kinds = [kind for kind in said.get_all("Classifier") or [] if kind.startswith("License ::")]
    short = [said.get("License-Expression") or "", *kinds, "" if "\n" in field else field]
    if stated := "; ".join(part for part in short if part not in ("", "UNKNOWN")):
        return stated
    texts = [
        Path(file.locate()).read_text(encoding="utf-8", errors="replace")
        for file in distribution.files or []
        if re.match(r"licen[cs]e|copying", file.name, re.I) and ".dist-info" in str(file)
    ]
    return "\n".join([field.replace("UNKNOWN", ""), *texts]).strip()


def refused(packages: dict[str, Distribution]) -> dict[str, str]:
    """Return the packages whose licence binds a user's own product, or that state none."""
    licences = {name: stated_licence(package) for name, package in packages.items()}
    return {
        name: licence
        for name, licence in licences.items()
        if not licence or GPL.search(licence) or LGPL.search(licence)
    }


def test_no_dependency_is_under_the_gpl_or_agpl():
    packages, missing = closure("wordsight")
    bad = {name: text for name, text in refused(packages).items() if name not in ALLOWED}
    assert not bad, "use another package, or name it in ALLOWED with the reason"
    assert len(packages) > 20
    if missing:
        pytest.skip(f"these aren't installed, so nothing is known of them: {sorted(missing)}")


def write_package(folder: Path, name: str, said: str, text: str | None = None) -> None:
    """Write what pip leaves of an installed package."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{said}\n")
    if text is not None:
        (info / "LICENSE").write_text(text)
        (info / "RECORD").write_text(f"{info.name}/LICENSE,,\n")


@pytest.mark.parametrize(
    ("said", "text", "allowed"),
    [
        ("License-Expression: GPL-3.0-or-later", None, False),
        ("License-Expression: MIT AND AGPL-3.0-only", None, False),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3", None, False),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License", None, False),
        ("License: GNU GPLv3", None, False),
        ("License: LGPL-2.1", None, False),
        ("License: UNKNOWN", "GNU GENERAL PUBLIC LICENSE\nVersion 3", False),
        ("License: UNKNOWN", None, False),
        ("", None, False),
        ("License: BSD-3-Clause", None, True),
        ("License: UNKNOWN", "MIT License\nPermission is hereby granted", True),
        ("License: A text\n  with more lines, also on the GNU General Public License\n"
         "Classifier: License :: OSI Approved :: BSD License", None, True),
    ],
)  # fmt: skip
def test_a_licence_is_found_wherever_a_package_states_it(tmp_path, said, text, allowed):
    write_package(tmp_path, "root", "Provides-Extra: all\nRequires-Dist: middle; extra == 'all'")
    write_package(tmp_path, "middle", "License: MIT\nRequires-Dist: Far.End[more]>=1")
    write_package(tmp_path, "Far_End", "License: MIT\nRequires-Dist: last; extra == 'more'\n"
                  "Requires-Dist: absent\nRequires-Dist: other; python_version < '3'")  # fmt: skip
    write_package(tmp_path, "last", said, text)
    packages, missing = closure("root", [str(tmp_path)])
    assert set(packages) == {"root", "middle", "far-end", "last"} and missing == {"absent"}
    assert set(refused(packages)) == ({"root"} if allowed else {"root", "last"})


def test_the_versions_of_python_named_are_those_that_are_tested():
    project = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert named == workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f'requires-python = ">={named[0]}"' in project
    assert f"Python {named[0]} to {named[-1]} " in (ROOT / "docs" / "install.md").read_text()
