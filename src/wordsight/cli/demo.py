"""Run the main job on photos from installed packages. Downloads nothing, fakes nothing."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ..classification.predictions import Results
from ..core.home import write_atomic, writing
from ..core.progress import Progress
from ..errors import InvalidArgument
from ..pipeline import run

CLASSES = "cat,coffee,motorcycle,flower"
PHOTOS = {
    "skimage": (
        "data",
        "astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png "
        "motorcycle_left.png motorcycle_right.png page.png retina.jpg rocket.jpg",
    ),
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
}  # package -> folder in it, file names
SIDE = 320


def demo(
    output: str | os.PathLike,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Results:
    """Copy photos out of installed packages, run the main job on them and draw an overview.

    Args:
        output: folder for `photos/`, `results/` and `overview.png`.
        progress: see `Classifier.predict`.
        say: called with one line of text at a time.

    Raises:
        InvalidArgument: if the packages that contain the photos aren't installed.
    """
    say = say or (lambda _: None)
    folder = Path(output).expanduser()
    photos = folder / "photos"
    with writing(folder):
        photos.mkdir(parents=True, exist_ok=True)
        for source in _sources():
            shutil.copyfile(source, photos / source.name)
    say(f"wordsight run -c '{CLASSES}' -p {photos} -o {folder / 'results'}")
    results = run(CLASSES, photos, output=folder / "results", progress=progress)
    overview = draw_overview(results, photos, folder / "results")
    with writing(folder):
        write_atomic(folder / "overview.png", overview)
    say(f"See it all in one picture: {folder / 'overview.png'}")
    return results


def _sources() -> list[Path]:
    found = []
    for package, (folder, listed) in PHOTOS.items():
        names = listed.split()
        spec = importlib.util.find_spec(package)
        root = Path(spec.origin).parent / folder if spec and spec.origin else None
        if root is None or not all((root / name).is_file() for name in names):
            raise InvalidArgument(
                "The demo's photos come with scikit-image and scikit-learn. Install them: pip "
                "install 'wordsight[demo]'."
            )
        found += [root / name for name in names]
    return found


def draw_overview(results: Results, photos: Path, output: Path, columns: int = 5) -> bytes:
    """Return a PNG contact sheet: first the accepted photos with heat map, box and label, then the
    rejected ones.
    """
    import io

    from PIL import ImageDraw, ImageFont

    rows = sorted(results, key=lambda p: (p.label is None, p.label or "", p.file_name))
    font = ImageFont.load_default(size=18)
    caption, gap = 30, 8
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
