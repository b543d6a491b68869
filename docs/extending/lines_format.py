"""A label format: a text file with one line for each box, `image x_min y_min x_max y_max label`. One class reads and writes it."""

from pathlib import Path

import wordsight
from wordsight.datasets.formats import Format, RawBox

FILE = "boxes.lines"


@wordsight.datasets.register_format
class Lines(Format):
    """One line for each box, in pixels of the upright image."""

    name = "lines"
    key = "lines"
    described = f"a file {FILE}, one line for each box: image x_min y_min x_max y_max label"

    def knows(self, path):
        """Return whether a file or folder is in this format."""
        return (path / FILE).is_file() or (path.suffix == ".lines" and path.is_file())

    def read(self, path, root):
        """Yield every box."""
        file = path / FILE if path.is_dir() else path
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            parts = line.split(maxsplit=5)
            try:
                box, label = tuple(float(part) for part in parts[1:5]), parts[5]
            except (ValueError, IndexError):
                yield RawBox(
                    f"line {number}", (), "", None, False, problem="is not written as a box"
                )
                continue
            yield RawBox(
                f"line {number}",
                (file.parent / self.images / parts[0], root / parts[0]),
                label,
                box,
                False,
            )

    def write(self, images, class_names, folder, made_by):
        """Write every box of every image."""
        lines = [
            f"{Path(image.file_name).as_posix()} {' '.join(f'{side:.1f}' for side in region.xyxy)} {region.label}"
            for image in images
            for region in image.regions
        ]
        (folder / FILE).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    written = wordsight.prelabel("results", "lines")
    print(wordsight.datasets.read_boxes(written.output))
