"""Copy pieces of programs into the pages that show them, so that a page reads the same everywhere.

    python scripts/show_code.py

A page says `<!-- code: FILE [REGION] -->` above a fenced block; the block is filled with the file,
or with what lies between `# region REGION` and `# endregion REGION` there, or with lines such as
3:14. Tests hold both equal.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN = re.compile(r"^(<!-- code: (\S+)(?: (\S+))? -->\n```\w*\n)(.*?)^```$", re.M | re.S)


def piece(file: str, region: str | None) -> str:
    """Return a file of the repository, one region of it without the region's marks, or lines."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if region is not None and ":" in region:
        first, last = map(int, region.split(":"))
        text = textwrap.dedent("".join(text.splitlines(True)[first - 1 : last]))
    elif region is not None:
        begin, end = (rf"^ *# {edge} {region}\n" for edge in ("region", "endregion"))
        (found,) = re.findall(f"{begin}(.*?){end}", text, re.M | re.S)
        text = textwrap.dedent(found)
    return text.strip("\n") + "\n"


def filled(page: str) -> str:
    """Return a page with its blocks filled."""
    return SHOWN.sub(lambda m: f"{m[1]}{piece(m[2], m[3])}```", page)


if __name__ == "__main__":
    for path in sorted((ROOT / "docs").rglob("*.md")):
        before = path.read_text(encoding="utf-8")
        if (after := filled(before)) != before:
            path.write_text(after, encoding="utf-8")
            print(f"Filled: {path.relative_to(ROOT)}")
