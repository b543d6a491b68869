"""Run the main job on photos that come with this package. Downloads nothing, fakes nothing."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..classification.results import Results
from ..core.home import writing
from ..core.progress import Progress
from ..core.records import digest
from ..core.result_folder import ResultFolder
from ..pipeline import run

CLASSES = "cat,coffee,tripod"
PHOTOS = Path(__file__).with_name("demo_photos")  # with the credits of each in CREDITS.md
OVERVIEW = "overview.png"
WIDTH, GAP, MOST_HEIGHT = 1648, 8, 480  # of the overview, in pixels
CAPTION, LETTERS = 76, 52  # that a phone, which shows a quarter of the pixels, leaves readable


def demo(
    output: str | os.PathLike,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Results:
    """Copy the photos of this package, run the main job on them and draw an overview.

    Args:
        output: folder for `photos/`, `results/` and `overview.png`.
        progress: see `Classifier.predict`.
        say: called with one line of text at a time.

    Raises:
        InvalidArgument: if a file of somebody else's is where one would be written.
    """
    say = say or (lambda _: None)
    folder = Path(output).expanduser()
    photos = folder / "photos"
    copies = {f"photos/{source.name}": source for source in _sources()}
    ours = ResultFolder(folder, "demo", adopt=_Earlier(folder, copies).wrote)
    ours.claim([*copies, OVERVIEW])
    with writing(folder), ours.build() as build:
        build.adopt()
        for name, source in copies.items():
            build.write(name, source.read_bytes())
        build.commit(keep=True)
    say(f"wordsight run -c '{CLASSES}' -p {photos} -o {folder / 'results'}")
    results = run(CLASSES, photos, output=folder / "results", progress=progress)
    overview = draw_overview(results, photos, folder / "results")
    with writing(folder), ours.build() as build:
        build.write(OVERVIEW, overview)
        build.commit(keep=True)
    return results


@dataclass(frozen=True)
class _Earlier:
    """A folder that may hold a demo of 0.1.0, which kept no record of its files.

    Attributes:
        folder: the folder.
        copies: photos that a demo has, name in the folder -> where it comes from.
    """

    folder: Path
    copies: dict[str, Path]

    def wrote(self, path: Path) -> bool:
        """Whether a file is what 0.1.0 wrote: a photo as it was copied, or the overview beside
        them.
        """
        name = path.relative_to(self.folder).as_posix()
        if name in self.copies:
            return digest(path) == digest(self.copies[name])
        if name != OVERVIEW:
            return False
        try:
            with Image.open(path) as image:
                width = image.width
        except OSError:
            return False
        beside = all(self.wrote(self.folder / copy) for copy in self.copies)
        return beside and width == WIDTH


def _sources() -> list[Path]:
    return sorted(path for path in PHOTOS.iterdir() if path.suffix in (".png", ".jpg"))


def draw_overview(results: Results, photos: Path, output: Path) -> bytes:
    """Return a PNG: above, the photos with a label, their heat maps, boxes and probabilities;
    below, smaller, those without one.
    """
    rows = sorted(results, key=lambda p: (p.label or "", p.file_name))
    found = [p for p in rows if p.label is not None]
    others = [p for p in rows if p.label is None]
    parts = [
        _row(
            [_opened(output / p.heatmap if p.heatmap else photos / p.file_name) for p in found],
            [f"{p.label}  {p.probability:.3f}" for p in found],
        ),
        _row(
            [_opened(photos / p.file_name) for p in others],
            [f"{len(others)} photos show none of the words: no label"],
        ),
    ]
    sheet = Image.new("RGB", (WIDTH, sum(part.height for part in parts) + GAP), "white")
    top = GAP
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _row(images: list[Image.Image], captions: list[str]) -> Image.Image:
    """Return images side by side, as high as fills the width, and captions below them."""
    if not images:
        return Image.new("RGB", (WIDTH, 1), "white")
    room = WIDTH - GAP * (len(images) + 1)
    height = min(MOST_HEIGHT, round(room / sum(one.width / one.height for one in images)))
    row = Image.new("RGB", (WIDTH, height + CAPTION), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(size=LETTERS)
    left = GAP
    for number, image in enumerate(images):
        width = round(height * image.width / image.height)
        row.paste(image.resize((width, height), Image.Resampling.LANCZOS), (left, 0))
        if number < len(captions):
            draw.text((left, height + 5), captions[number], fill="black", font=font)
        left += width + GAP
    return row
