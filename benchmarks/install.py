"""What an installation takes: seconds and megabytes of a fresh environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from common import ROOT, section

NAMES = {
    "wordsight": str(ROOT),
    "ultralytics": "ultralytics",
    "fastai": "fastai",
    "autogluon.multimodal": "autogluon.multimodal",
}
MEGABYTE = 1e6
TIMEOUT_S = 3600


def installed(name: str, work: Path) -> str:
    """Install one package with pip, nothing cached, and return its row; a failure is a row too."""
    venv = work / "venv"
    shutil.rmtree(venv, ignore_errors=True)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    result = subprocess.run(
        [*pip, "--disable-pip-version-check", NAMES[name]],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    took = time.perf_counter() - begin
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1][:120]
        return f"| {name} | can't be installed: {reason} | | |"
    used = int(subprocess.check_output(["du", "-sk", venv], text=True).split()[0]) * 1024
    packages = len(list(venv.glob("lib/python*/site-packages/*.dist-info")))
    shutil.rmtree(venv)
    return f"| {name} | {took:.0f} | {used / MEGABYTE:,.0f} | {packages} |"


@section("a fresh environment beside those of others", usual=False)
def install(work: Path) -> list[str]:
    return [
        "| `pip install` | seconds | MB | packages |",
        "|---|---|---|---|",
        *[installed(name, work) for name in NAMES],
        "",
        "Once each, one after another, nothing cached, Python "
        f"{sys.version_info.major}.{sys.version_info.minor}. wordsight answers with what its row "
        "holds; its extra `train` brings torch. Seconds belong to this machine's mirror.",
    ]
