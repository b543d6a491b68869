"""Run the main job on photos that come with this package. Downloads nothing, fakes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..classification.results import Results
from ..core.home import writing
from ..core.progress import Progress
from ..core.records import digest
from ..core.result_folder import ResultFolder
from ..pipeline import run

CLASSES = "cat,coffee,tripod"
PHOTOS = Path(__file__).with_name("demo_photos")  # with the credits of each in CREDITS.md
OVERVIEW = "overview.png"
COLUMNS, SIDE, GAP = 5, 320, 8  # of the overview; the last two in pixels


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
    say(f"See it all in one picture: {folder / OVERVIEW}")
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
        return beside and width == COLUMNS * (SIDE + GAP) + GAP


def _sources() -> list[Path]:
    return sorted(path for path in PHOTOS.iterdir() if path.suffix in (".png", ".jpg"))


def draw_overview(results: Results, photos: Path, output: Path, columns: int = COLUMNS) -> bytes:
    """Return a PNG contact sheet: first the accepted photos with heat map, box and label, then the
    rejected ones.
    """
    import io

    from PIL import ImageDraw, ImageFont

    rows = sorted(results, key=lambda p: (p.label is None, p.label or "", p.file_name))
    font = ImageFont.load_default(size=18)
    caption, gap = 30, GAP
    sheet = Image.new(
        "RGB",
        (columns * (SIDE + gap) + gap, -(-len(rows) // columns) * (SIDE + caption + gap) + gap),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for i, prediction in enumerate(rows):
        x, y = gap + i % columns * (SIDE + gap), gap + i // columns * (SIDE + caption + gap)
        with Image.open(
            output / prediction.heatmap if prediction.heatmap else photos / prediction.file_name
        ) as image:
            tile = image.convert("RGB")
        tile.thumbnail((SIDE, SIDE))
        sheet.paste(tile, (x + (SIDE - tile.width) // 2, y + SIDE - tile.height))
        text = (
            f"{prediction.label}  {prediction.probability:.3f}" if prediction.label else "no label"
        )
        draw.text(
            (x + 4, y + SIDE + 4), text, fill="black" if prediction.label else "#888888", font=font
        )
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
