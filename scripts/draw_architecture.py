"""Draw docs/images/architecture.svg: the folders of wordsight, storey by storey.

    python scripts/draw_architecture.py

The storeys are those of tests/test_layers.py, which holds every import to point down; the sentences
are the folders' own.
"""

from __future__ import annotations

import ast
import re
import textwrap
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "wordsight"
TARGET = ROOT / "docs" / "images" / "architecture.svg"
WIDTH, EDGE, GAP = 900, 6, 10  # pixels: the picture, its edge, between boxes
LETTER, LINE, PADDING = 6.4, 16, 10  # pixels: a letter's advance, a line of them, inside a box
GROUPS = {  # colour -> folders; what is named nowhere is ground
    "#4a3f8f": "cli labelstudio webapp pipeline distributed supervision",
    "#2c5a94": "videos evaluation recognition detection retrieval cleaning gathering training "
    "exports traps",
    "#1f6a73": "classification reports heatmaps backbones",
    "#8a4a1c": "heads metrics words",
}
GROUND = "#4b5563"
SANS = 'system-ui, -apple-system, "Segoe UI", sans-serif'
MONO = 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace'


def storeys() -> list[list[str]]:
    """Return the folders of each storey, the uppermost first."""
    text = (ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8")
    rows = re.search(r'STOREYS = """\n(.*?)"""', text, re.DOTALL)
    assert rows is not None
    return [line.split() for line in rows[1].splitlines() if line != "__main__"]


def sentence(name: str) -> str:
    """Return what a folder or module says of itself, its first sentence."""
    path = SOURCE / name / "__init__.py"
    path = path if path.exists() else SOURCE / f"{name}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]


def colour(name: str) -> str:
    """Return the ground of a folder's box."""
    return next((found for found, names in GROUPS.items() if name in names.split()), GROUND)


def row(names: list[str], y: float) -> tuple[list[str], float]:
    """Return the boxes of one storey as SVG, and how high it is in pixels."""
    width = (WIDTH - 2 * EDGE - GAP * (len(names) - 1)) / len(names)
    lines = [textwrap.wrap(sentence(name), int((width - 2 * PADDING) / LETTER)) for name in names]
    height = 2 * PADDING + LINE * (1 + max(map(len, lines))) + 2
    parts = []
    for number, (name, texts) in enumerate(zip(names, lines, strict=True)):
        x = EDGE + number * (width + GAP)
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6" '
            f'fill="{colour(name)}"/>'
        )
        title = f"{name}/" if (SOURCE / name).is_dir() else f"{name}.py"
        at = y + PADDING + 12
        parts.append(f'<text class="name" x="{x + PADDING:.1f}" y="{at:.1f}">{title}</text>')
        for text in texts:
            at += LINE
            parts.append(f'<text x="{x + PADDING:.1f}" y="{at:.1f}">{escape(text)}</text>')
    return parts, height


def draw() -> str:
    """Return the picture."""
    parts, y = [], float(EDGE)
    for names in storeys():
        boxes, height = row(names, y)
        parts += boxes
        y += height + GAP
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - GAP + EDGE:.0f}"
role="img" aria-labelledby="title">
<title id="title">The folders of wordsight; a folder imports only from folders below it</title>
<style>
text {{ font: 12.5px {SANS}; fill: #fff; fill-opacity: 0.92 }}
.name {{ font: 600 14px {MONO}; fill-opacity: 1 }}
</style>
{body}
</svg>
"""


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
    print(f"Drawn: {TARGET.relative_to(ROOT)}")
