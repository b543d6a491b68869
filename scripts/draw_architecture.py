"""Draw docs/images/architecture.svg: which part of wordsight imports from which, read from the sources.

    python scripts/draw_architecture.py

Where a box stands and what it is called is written below; the arrows are the imports, and those that follow from others are left out.
A module in no box or in two, an arrow that would not point down, and one that finds no way between the boxes end it with a message.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "wordsight"
TARGET = ROOT / "docs" / "images" / "architecture.svg"
WIDTH, MARGIN, GAP, CHANNEL = 900, 4, 18, 34  # pixels: the picture, its edge, between columns, between rows
COLUMNS = 5
LETTER, LINE, PADDING, TITLE = 7.25, 17, 11, 20  # pixels: a small letter's advance, a line of them, inside a box, its name


@dataclass
class Box:
    """A part of wordsight.

    Attributes:
        name: what it does, in a few words.
        columns: its first and its last column.
        rows: its first and its last row.
        colour: of its ground; its letters are white.
        names: those of its modules, with spaces between.
    """

    name: str
    columns: tuple[int, int]
    rows: tuple[int, int]
    colour: str
    names: str

    @property
    def modules(self) -> list[str]:
        """Its modules, in the order in which they are written."""
        return self.names.split()


FRONT, JOB, PART, ANSWER, GROUND = "#4a3f8f", "#2c5a94", "#1f6a73", "#8a4a1c", "#4b5563"
BOXES = [
    Box("Command line", (0, 4), (0, 0), FRONT, "__main__ cli cli_data cli_see cli_info options console printing"),
    Box("Page in the browser", (0, 2), (1, 1), FRONT, "page_server page page_try page_train page_review page_compare page_parts page_guard"),
    Box("The whole job, here or on many machines", (0, 2), (2, 2), JOB, "routes demo doctor review workshop shards parallel"),
    Box("Evaluate", (3, 3), (1, 2), JOB, "evaluation evaluation_folder evaluation_report box_evaluation box_report judging"),
    Box("Hand over", (4, 4), (1, 3), JOB, "prelabelling exporting exported_network quantization"),
    Box("Gather", (0, 0), (3, 6), PART, "gathering plan queries sources intake ledger funnel credits"),
    Box("Clean, split", (1, 1), (3, 4), PART, "cleaning checks similar measures balance splitting conversion cleaning_report"),
    Box("Train", (2, 2), (3, 3), PART, "training tuning finetuning fitting batches checkpoints drawing box_recipe box_training box_views"),
    Box("Look closer", (3, 3), (3, 3), PART, "detecting scanning views looking recognition recognizer known_classes videos eyes video_record clips extraction"),
    Box("Classifier", (2, 4), (4, 4), ANSWER, "classifier model_folder heatmaps gradients quadrants"),
    Box(
        "Results and reports",
        (1, 4),
        (5, 5),
        ANSWER,
        "results tables overlay box_sheets contact_sheet plots charts gallery report report_model results_report model_card",
    ),
    Box("One pass through the network", (1, 2), (6, 6), ANSWER, "embed cache runtime backbones networks preprocessing fixed_padding"),
    Box("Linear algebra on feature maps", (3, 4), (6, 7), ANSWER, "head words_head neighbourhood promise localize windows box_head"),
    Box("Pictures, labels, words", (0, 2), (7, 7), GROUND, "dataset formats annotations training_set places vocabulary"),
    Box("Ground", (0, 4), (8, 8), GROUND, "errors home images boxes threads progress licenses near_duplicates metrics box_metrics notebook extensions"),
]


def imports_of(module: str) -> set[str]:
    """Return the modules of this package that a module (or a package of modules) imports anywhere."""
    paths = [SOURCE / f"{module}.py"] if (SOURCE / f"{module}.py").exists() else sorted((SOURCE / module).glob("*.py"))
    found = set()
    for path in paths:
        up = 1 if path.parent == SOURCE else 2
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == up:
                found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return found - {"__version__", module}


def check_boxes() -> None:
    """Refuse modules that lie in no box or in several, and boxes that name what is not there."""
    modules = {path.stem for path in [*SOURCE.glob("*.py"), *(path.parent for path in SOURCE.glob("*/__init__.py"))]} - {"__init__"}
    placed = [module for box in BOXES for module in box.modules]
    wrong = {*modules.symmetric_difference(placed), *(module for module in placed if placed.count(module) > 1)}
    if wrong:
        raise SystemExit(f"Every module must lie in exactly one box. Mend BOXES for: {', '.join(sorted(wrong))}.")


def arrows() -> list[tuple[int, int]]:
    """Return which box imports from which, as places in `BOXES`, without the arrows that follow from others."""
    box_of = {module: number for number, box in enumerate(BOXES) for module in box.modules}
    below: list[set[int]] = [set() for _ in BOXES]
    for module, number in box_of.items():
        below[number] |= {box_of[name] for name in imports_of(module)} - {number}
    reached: dict[int, set[int]] = {}
    for number in sorted(range(len(BOXES)), key=lambda n: -BOXES[n].rows[0]):
        for other in below[number]:
            if BOXES[other].rows[0] <= BOXES[number].rows[1]:
                raise SystemExit(f"'{BOXES[number].name}' imports from '{BOXES[other].name}', which does not stand below it. Place the boxes anew.")
        reached[number] = below[number].union(*(reached[other] for other in below[number]))
    return [(a, b) for a in range(len(BOXES)) for b in sorted(below[a]) if not any(b in reached[c] for c in below[a] - {b})]


def lines_of(box: Box) -> list[str]:
    """Return a box's modules, as lines that fit into it."""
    fits = int((width_of(box) - 2 * PADDING) / LETTER)
    lines = [""]
    for module in box.modules:
        name = f"{module}/*" if (SOURCE / module).is_dir() else module
        joined = f"{lines[-1]}  {name}" if lines[-1] else name
        lines = [*lines[:-1], joined] if len(joined) <= fits else [*lines, name]
    return lines


def titles_of(box: Box) -> list[str]:
    """Return a box's name, as lines that fit into it."""
    fits, lines = int((width_of(box) - 2 * PADDING) / 9), [""]
    for word in box.name.split():
        joined = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], joined] if len(joined) <= fits else [*lines, word]
    return lines


def left(column: float) -> float:
    """Return where a column begins, in pixels."""
    return MARGIN + column * (WIDTH - 2 * MARGIN + GAP) / COLUMNS


def width_of(box: Box) -> float:
    """Return a box's width in pixels."""
    return left(box.columns[1] + 1) - GAP - left(box.columns[0])


def tops() -> list[float]:
    """Return where each row begins, and where a next one would: as low as the boxes above it need."""
    found = [float(MARGIN)]
    for row in range(1 + max(box.rows[1] for box in BOXES)):
        ends = [box for box in BOXES if box.rows[1] == row]
        bottoms = [found[box.rows[0]] + PADDING + len(titles_of(box)) * TITLE + len(lines_of(box)) * LINE + PADDING - 3 for box in ends]
        found.append(max(bottoms) + CHANNEL)
    return found


def free(x: float, after: int, before: int) -> bool:
    """Tell whether a line straight down at `x` meets no box in the rows between."""
    return not any(left(box.columns[0]) - 2 < x < left(box.columns[0]) + width_of(box) + 2 and box.rows[0] < before and box.rows[1] > after for box in BOXES)


def way(source: Box, target: Box, top: list[float]) -> str:
    """Return an arrow's path: straight down over a column that both share, else sideways in the channel below the source."""
    start, end = top[source.rows[1] + 1] - CHANNEL, top[target.rows[0]] - 2
    shared = range(max(source.columns[0], target.columns[0]), min(source.columns[1], target.columns[1]) + 1)
    column_width = left(1) - GAP
    if shared:
        middle = (left(shared[0]) + left(shared[-1]) + column_width) / 2
        centres = sorted((left(column) + column_width / 2 for column in shared), key=lambda x: abs(x - middle))
        for x in [middle, *centres]:
            if free(x, source.rows[1], target.rows[0]):
                return f"M{x:.1f} {start:.1f}V{end:.1f}"
    sign = 1 if target.columns[0] > source.columns[0] else -1
    out = left(source.columns[1 if sign > 0 else 0]) + column_width * (0.5 + 0.25 * sign)
    x = left(target.columns[0 if sign > 0 else 1]) + column_width * (0.5 - 0.25 * sign)
    if not free(x, source.rows[1], target.rows[0]):
        raise SystemExit(f"No way for the arrow from '{source.name}' to '{target.name}'. Place the boxes anew.")
    y, bend = start + CHANNEL * 0.42, 7 * sign
    return f"M{out:.1f} {start:.1f}V{y - 7:.1f}q0 7 {-7 if sign < 0 else 7} 7H{x - bend:.1f}q{bend} 0 {bend} 7V{end:.1f}"


def drawn(box: Box, top: list[float]) -> str:
    """Return a box with its name and its modules."""
    x, y = left(box.columns[0]), top[box.rows[0]]
    height = top[box.rows[1] + 1] - CHANNEL - y
    parts = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{width_of(box):.1f}" height="{height:.1f}" rx="7" fill="{box.colour}"/>']
    at = y + PADDING + 10
    for line in titles_of(box):
        parts.append(f'<text class="name" x="{x + PADDING:.1f}" y="{at:.1f}">{escape(line)}</text>')
        at += TITLE
    for line in lines_of(box):
        parts.append(f'<text class="modules" x="{x + PADDING:.1f}" y="{at - 1:.1f}" xml:space="preserve">{escape(line)}</text>')
        at += LINE
    return "\n".join(parts)


def draw() -> str:
    """Return the picture."""
    check_boxes()
    top = tops()
    height = top[-1] - CHANNEL + MARGIN
    lines = "\n".join(f'<path d="{way(BOXES[a], BOXES[b], top)}" marker-end="url(#tip)"/>' for a, b in arrows())
    boxes = "\n".join(drawn(box, top) for box in BOXES)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-labelledby="title">
<title id="title">The parts of wordsight; an arrow points to what a part imports from</title>
<style>
.name {{ font: 600 15px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #fff }}
.modules {{ font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #fff; fill-opacity: 0.9 }}
path {{ fill: none; stroke: #818b9c; stroke-width: 1.6 }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6.5" markerHeight="6.5" orient="auto">
<path d="M1 1L7 4L1 7z" style="fill: #818b9c; stroke: none"/></marker></defs>
{lines}
{boxes}
</svg>
"""


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
    print(f"Drawn: {TARGET.relative_to(ROOT)}")
