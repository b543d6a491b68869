"""Type the classes: labels from two words without a training photo; then gather, clean, train, predict; a threshold and a promise.

python docs/tutorials/words.py [--data FOLDER] [-o OUTPUT]

Without --data: composites of photos that come with scikit-image and scikit-learn, served by a source in memory; offline.
With it: the cats and dogs of FOLDER/catdog, and FOLDER/street/photos as strangers.
"""

import argparse
import io
import logging
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from vehicle import OUTLINE

import wordsight

STRANGERS = ("astronaut", "coins", "page", "retina", "rocket", "text")


@dataclass(frozen=True)
class Case:
    """The words and photos that the tutorial uses.

    Attributes:
        words: the classes.
        source: where photos of them are searched.
        limit: photos wanted for each.
        photos: folder of photos to label; those of a class begin with its name, or lie in a folder of that name.
        strangers: folder of photos that show neither.
        reasons: the findings that cleaning sets aside; None for all.
    """

    words: str
    source: str | wordsight.gathering.Source
    limit: int
    photos: Path
    strangers: Path
    reasons: tuple[str, ...] | None = None


def objects() -> dict[str, tuple[Image.Image, Image.Image]]:
    """Return a cat and a motorcycle, each with its mask in the photo."""
    from skimage import data

    cat, garage = Image.fromarray(data.chelsea()), Image.fromarray(data.stereo_motorcycle()[0])
    face = Image.new("L", cat.size)
    ImageDraw.Draw(face).ellipse((70, -20, 390, 330), fill=255)
    outline = Image.new("L", garage.size)
    ImageDraw.Draw(outline).polygon(OUTLINE, fill=255)
    found = {"cat": (cat, face), "motorcycle": (garage, outline)}
    return {
        name: (photo.crop(mask.getbbox()), mask.crop(mask.getbbox()))
        for name, (photo, mask) in found.items()
    }


def compose(
    thing: tuple[Image.Image, Image.Image], grounds: list[Image.Image], chance: random.Random
) -> bytes:
    """Return a JPEG of an object, turned, mirrored, lighter or darker, somewhere on a piece of a background."""
    ground = chance.choice(grounds)
    side = chance.randint(180, min(ground.size))
    x, y = chance.randint(0, ground.width - side), chance.randint(0, ground.height - side)
    scene = ground.crop((x, y, x + side, y + side)).resize((320, 320))
    width, angle, mirrored = chance.randint(90, 200), chance.uniform(-15, 15), chance.random() < 0.5
    parts = []
    for image in thing:
        image = image.resize((width, round(width * image.height / image.width)))
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
        parts.append(image.rotate(angle, Image.Resampling.BICUBIC))
    at = (chance.randint(0, 320 - width), chance.randint(0, 320 - parts[0].height))
    scene.paste(parts[0], at, parts[1].filter(ImageFilter.GaussianBlur(1)))
    return as_jpeg(ImageEnhance.Brightness(scene).enhance(chance.uniform(0.7, 1.3)))


def as_jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """Return the image as a JPEG file."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def compose_case(folder: Path) -> Case:
    """Compose the results of a search, with junk, and photos to label."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    chance = random.Random(0)
    grounds = [
        *map(Image.fromarray, load_sample_images().images),
        *(
            Image.fromarray(getattr(data, name)()).convert("RGB")
            for name in ("brick", "grass", "gravel")
        ),
    ]
    things = objects()
    found = {
        name: [compose(thing, grounds, chance) for _ in range(42)] for name, thing in things.items()
    }
    again = Image.open(io.BytesIO(found["cat"][0]))
    junk = [
        b"<html>Too many requests</html>",
        found["cat"][1][:3000],
        as_jpeg(again.resize((90, 90))),
        found["cat"][2],
        as_jpeg(again, quality=40),
    ]
    wrong = [compose(things["motorcycle"], grounds, chance) for _ in range(2)]
    found["cat"] = [*found["cat"][:10], *junk, *wrong, *found["cat"][10:]]
    photos, strangers = folder / "photos", folder / "strangers"
    for place in (photos, strangers):
        place.mkdir(parents=True, exist_ok=True)
    for name, thing in things.items():
        for number in range(10):
            (photos / f"{name}-{number:02d}.jpg").write_bytes(compose(thing, grounds, chance))
    for name in STRANGERS:
        Image.fromarray(getattr(data, name)()).save(strangers / f"{name}.png")
    # All composites show one cat or one motorcycle, so most would be set aside as copies, and some as outliers.
    return Case(
        "cat,motorcycle",
        wordsight.gathering.FakeSource(found),
        40,
        photos,
        strangers,
        reasons=("mislabelled",),
    )


def real_case(data: Path) -> Case:
    """Return the cats and dogs of a folder of real photos."""
    return Case(
        "cat,dog",
        f"folder:{data / 'catdog' / 'train'}",
        300,
        data / "catdog" / "test",
        data / "street" / "photos",
    )


def told(results: wordsight.Results) -> str:
    """Print how many photos were labelled, and how many labels match the file name."""
    labelled = [one for one in results if one.label is not None]
    right = sum(f"/{one.label}" in f"/{one.file_name}" for one in labelled)
    return f"{len(results)} photos: {len(labelled)} labelled, {right} of them right; {results.counts.unsure} not sure enough, {results.counts.strangers} strangers"


class Printer(logging.Handler):
    """Print what wordsight logs, such as what it learns from."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        print(" ", record.getMessage())


# region alone
def words_alone(case: Case, output: Path) -> None:
    """Use only the words and the photos."""
    results = wordsight.run(
        case.words,
        [case.photos, case.strangers],
        output=output / "words-alone",
    )
    print(f"  {told(results)}")
    # endregion alone


# region gather
def gather(case: Case, output: Path) -> Path:
    """Search photos of the words; keep those that are usable and new."""
    gathered = wordsight.gather(
        case.words, output / "gathered", sources=[case.source], limit=case.limit
    )
    for name, funnel in gathered.classes.items():
        lost = ", ".join(f"{count} {reason}" for reason, count in funnel.reasons.items())
        print(
            f"  {name}: found {funnel.stages['found']}, kept {funnel.stages['kept']}; lost: {lost or 'none'}"
        )
    return gathered.output
    # endregion gather


# region clean
def clean(folder: Path, case: Case) -> None:
    """Set aside photos that should not be in the data set."""
    cleaned = wordsight.clean(folder, apply=True, reasons=case.reasons)
    for finding in cleaned.findings[:5]:
        print(
            f"  in {finding.label}: {finding.reason} {finding.score:.2f}"
            + (f", rather {finding.suggested_label}" if finding.suggested_label else "")
        )
    print(
        f"  {len(cleaned.findings)} findings in {sum(cleaned.classes.values())} pictures; {len(cleaned.moved)} set aside"
    )
    # endregion clean


# region train
def train(folder: Path, output: Path) -> wordsight.Classifier:
    """Train a head on the included network."""
    model = wordsight.train(folder, output / "model")
    print(f"  right: {model.record.metrics['accuracy']:.1%} of {model.record.judged_on}")
    return model
    # endregion train


# region predict
def predict(model: wordsight.Classifier, case: Case, output: Path) -> None:
    """Write labels from a probability of 0.99, heat maps and boxes."""
    print(
        f"  {told(model.predict([case.photos, case.strangers], threshold=0.99, output=output / 'results'))}"
    )
    # endregion predict


# region promise
def promise(model: wordsight.Classifier, case: Case) -> None:
    """Ask for a promise, because 0.99 doesn't say how many labels are right."""
    for precision in (0.9, 0.99):
        print(f"  {model.promise(precision).sentence()}")
    results = model.predict(case.photos, precision=0.99)
    print(f"  promised 0.99, {told(results)}")
    # endregion promise


def draw_some(output: Path) -> None:
    """Put some labelled photos side by side, two of each class, with heat map and box, as words.jpg."""
    images = [
        Image.open(path).resize((280, 280))
        for folder in sorted((output / "results" / "heatmaps").iterdir())
        for path in sorted(folder.rglob("*.jpg"))[:2]
    ]
    sheet = Image.new("RGB", (290 * len(images) - 10, 280), "white")
    for number, image in enumerate(images):
        sheet.paste(image, (290 * number, 0))
    sheet.save(output / "words.jpg", quality=88)


def main() -> None:
    """Read the options, compose the photos if needed, and run all steps."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--data", type=Path, help="a folder of real pictures, with catdog and street/photos"
    )
    arguments.add_argument("-o", "--output", type=Path, default=Path("tutorial-words"))
    options = arguments.parse_args()
    logger, printer = logging.getLogger("wordsight"), Printer()
    logger.setLevel(logging.INFO)
    logger.addHandler(printer)
    options.output.mkdir(parents=True, exist_ok=True)
    case = compose_case(options.output) if options.data is None else real_case(options.data)
    print(f"1. Two words, {case.words}, and nothing else:")
    words_alone(case, options.output)
    print("2. Gather pictures:")
    folder = gather(case, options.output)
    print("3. Clean them:")
    clean(folder, case)
    print("4. Learn from them:")
    model = train(folder, options.output)
    print("5. Predict from 0.99:")
    predict(model, case, options.output)
    draw_some(options.output)
    print("6. A promise instead:")
    promise(model, case)
    logger.removeHandler(printer)


if __name__ == "__main__":
    main()
