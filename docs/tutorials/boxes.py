"""What and where: classes and boxes from one table.

    python docs/tutorials/boxes.py [--data FOLDER] [-o OUTPUT]

Without --data, images are composed of photos that come with scikit-image. With it, FOLDER/boxes has annotations-train.csv,
annotations-test.csv and the photos that they name.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from composing import arguments, photo, sheet
from PIL import Image, ImageDraw

import wordsight

OBJECTS = {
    "cat": ("chelsea", (60, 0, 360, 300)),
    "cup": ("coffee", (150, 40, 470, 330)),
    "face": ("astronaut", (150, 0, 310, 220)),
}
GROUNDS = ("grass", "gravel", "brick")
SIZE = (320, 240)  # (width, height) of a composite


# region table
def compose(folder: Path, count: int, seed: int) -> Path:
    """Paste each object on `count` backgrounds, at random places and sizes; return the table of boxes, in fractions of the image."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    grounds = [photo(name) for name in GROUNDS]
    table = folder / "boxes.csv"
    with open(table, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file_name", "label", "x_min", "x_max", "y_min", "y_max"))
        for label, (name, part) in OBJECTS.items():
            thing = photo(name).crop(part)
            for number in range(count):
                width, height = int(rng.integers(90, 200)), int(rng.integers(90, 180))
                left, top = int(rng.integers(0, 512 - SIZE[0])), int(rng.integers(0, 512 - SIZE[1]))
                x, y = int(rng.integers(0, SIZE[0] - width)), int(rng.integers(0, SIZE[1] - height))
                image = grounds[int(rng.integers(len(grounds)))].crop(
                    (left, top, left + SIZE[0], top + SIZE[1])
                )
                image.paste(thing.resize((width, height)), (x, y))
                image.save(folder / f"{label}{number:02d}.png")
                rows.writerow(
                    (
                        f"{label}{number:02d}.png",
                        label,
                        x / SIZE[0],
                        (x + width) / SIZE[0],
                        y / SIZE[1],
                        (y + height) / SIZE[1],
                    )
                )
    return table


# endregion table


# region train
def train(table: Path, model: Path, image_size: int | None) -> wordsight.Classifier:
    """Learn classes, then boxes, from one table; print how the boxes of held-out photos improve."""
    trained = wordsight.train(
        table.parent, model, boxes=table, settings=wordsight.TrainingSettings(image_size=image_size)
    )
    told = trained.record.boxes
    print(f"classes: {trained.record.metrics['accuracy']:.1%} right, {trained.record.judged_on}")
    print(f"loss of a box: {told.loss_weights}")
    epochs = told.history
    for row in (*epochs[: -1 : max(1, len(epochs) // 5)], epochs[-1]):
        print(
            f"epoch {row['epoch']:3}: loss {row['loss']:.3f}, mean IoU of {told.held_out} held-out pictures {row['mean_iou']:.3f}"
        )
    return trained


# endregion train


# region judge
def judge(
    table: Path, model: wordsight.Classifier, report: Path
) -> wordsight.evaluation.BoxEvaluation:
    """Measure boxes on unseen photos, and compare them with a fixed box."""
    found = wordsight.evaluation.evaluate_boxes(table, model, output=report, detections=False)
    for kind in ("box head", "heat map", "median box"):
        figures = found.kinds[kind]
        print(
            f"{kind}: mean IoU {figures.mean_iou.value:.3f} ({figures.mean_iou.low:.3f}–{figures.mean_iou.high:.3f})"
        )
    return found


# endregion judge


# region look
def look(table: Path, model: wordsight.Classifier, path: Path, count: int) -> None:
    """Draw truth (blue) and prediction (orange) on some of the photos, and count the right classes."""
    known = {image.file.path: image for image in wordsight.datasets.read_boxes(table).images}
    files, cells, right = list(known), [], 0
    for file, said in zip(files, model.predict(files, threshold=0.0), strict=True):
        truth = known[file].boxes[0]
        right += said.top_label == truth.label
        image = Image.open(file).convert("RGB")
        draw = ImageDraw.Draw(image)
        draw.rectangle(truth.xyxy, outline="#0072B2", width=4)
        if said.box_xyxy is not None:  # a stranger gets no label and no box
            draw.rectangle(tuple(said.box_xyxy), outline="#D55E00", width=4)
        caption = "a stranger" if said.stranger else f"{said.top_label} {said.probability:.2f}"
        cells.append((image, caption))
    print(f"classes: {right} of {len(files)} unseen pictures right")
    print(f"See {sheet(cells[:: max(1, len(cells) // count)][:count], path, 4, 240)}")


# endregion look


def main() -> None:
    """Run the tutorial."""
    chosen = arguments(__doc__, "boxes")
    images, model = chosen.output / "pictures", chosen.output / "models" / "boxes"
    if chosen.data is None:
        known, unseen, image_size = (
            compose(images / "train", 10, seed=1),
            compose(images / "test", 8, seed=2),
            192,
        )
    else:
        known, unseen = (
            chosen.data / "boxes" / f"annotations-{part}.csv" for part in ("train", "test")
        )
        image_size = None  # the network's own, 320
    trained = train(known, model, image_size)
    judge(unseen, trained, chosen.output / "results" / "report")
    look(unseen, trained, chosen.output / "boxes-truth.jpg", 8)
    print(f"See {model / 'plots'}: boxes.png, boxes_batch.png and the mean IoU over the epochs")


if __name__ == "__main__":
    main()
