"""Is there a vehicle? A network of 1,000 classes and a photo of a street: one answer, heat map, groups, quarters, the closer look, a clip.

python docs/tutorials/vehicle.py [--data FOLDER] [-o OUTPUT]

Without --data: photos that come with scikit-image and scikit-learn, one pasted into the other, and a clip panned over that; offline.
With it: FOLDER/street/photos and FOLDER/street/traffic-mini.mp4.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import wordsight

OUTLINE = (  # of the motorcycle, in pixels of its photo
    *((90, 205), (140, 145), (240, 165), (270, 185), (330, 190), (330, 115), (430, 120), (500, 60), (535, 70), (590, 120), (565, 190), (600, 240)),
    *((650, 300), (690, 380), (690, 450), (600, 450), (520, 400), (470, 360), (350, 440), (320, 440), (310, 390), (200, 405), (120, 340), (120, 270)),
)  # fmt: skip
PLACE = (420, 290, 600, 407)  # of the motorcycle in the street, x_min, y_min, x_max, y_max


def compose(folder: Path) -> tuple[Path, Path]:
    """Paste a motorcycle into a photo of a tower, and pan over it; return the folder of photos and the clip."""
    from skimage.data import stereo_motorcycle
    from sklearn.datasets import load_sample_image

    photos, clip = folder / "photos", folder / "pan.mp4"
    photos.mkdir(parents=True, exist_ok=True)
    tower, garage = (
        Image.fromarray(load_sample_image("china.jpg")),
        Image.fromarray(stereo_motorcycle()[0]),
    )
    mask = Image.new("L", garage.size)
    ImageDraw.Draw(mask).polygon(OUTLINE, fill=255)
    size, cut = (PLACE[2] - PLACE[0], PLACE[3] - PLACE[1]), mask.getbbox()
    street = tower.copy()
    street.paste(
        garage.crop(cut).resize(size),
        PLACE[:2],
        mask.crop(cut).resize(size).filter(ImageFilter.GaussianBlur(1)),
    )
    for name, image in (("tower", tower), ("garage", garage), ("street", street)):
        image.save(photos / f"{name}.png")
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10, (640, 428))
    # from the tower to the motorcycle, where it stays for a while
    for share in [*np.linspace(0, 1, 30), *np.ones(15)]:
        view = np.array((0, 0, 320, 214)) * (1 - share) + np.array((385, 267, 625, 427)) * share
        view = street.crop(tuple(np.rint(view).astype(int))).resize(
            (640, 428), Image.Resampling.BICUBIC
        )
        writer.write(cv2.cvtColor(np.asarray(view), cv2.COLOR_RGB2BGR))
    writer.release()
    return photos, clip


# region whole
def ask_for_the_whole(photo: Path) -> None:
    """Print the likeliest of the 1,000 classes."""
    (seen,) = wordsight.recognize(photo, top=5, output=None)
    for guess in seen.top:
        print(f"  {guess.probability:.2f}  {guess.name} ({guess.wnid})")
    # endregion whole


# region where
def see_where_it_looked(photo: Path, output: Path) -> None:
    """Draw where the answer comes from, and where a vehicle would be."""
    answer = wordsight.heatmap(photo)  # of the likeliest class
    answer.overlay().save(output / "answer.jpg")
    box = answer.boxes()[0]
    print(
        f"  '{answer.class_name}' is seen at x {box[0]:.0f}–{box[2]:.0f}, y {box[1]:.0f}–{box[3]:.0f}"
    )
    asked = wordsight.heatmap(photo, "vehicle")  # likely or not
    asked.overlay().save(output / "asked.jpg")
    y, x = np.unravel_index(asked.values.argmax(), asked.values.shape)
    print(f"  a vehicle would be at x {x}, y {y}")
    # endregion where


# region group
def add_up_a_group(photo: Path) -> None:
    """Add up all classes under a word."""
    (seen,) = wordsight.recognize(photo, groups=["vehicle", "building"], output=None)
    for group in seen.groups:
        print(f"  {group.whole_probability:.2f}  {group.name}, over the whole photo")
    # endregion group


# region quarters
def cut_into_quarters(photo: Path, output: Path) -> None:
    """Classify each quarter by itself."""
    (seen,) = wordsight.recognize(
        photo, groups=["vehicle", "building"], quadrants=True, output=output / "quarters"
    )
    for place, quarter in zip(
        ("upper left", "upper right", "lower left", "lower right"), seen.quadrants, strict=True
    ):
        best = quarter.top[0]
        print(
            f"  {place:11}  {best.name} {best.probability:.2f}; vehicle {quarter.groups['vehicle']:.2f}, building {quarter.groups['building']:.2f}"
        )
    # endregion quarters


# region closer
def look_closer(photos: Path, output: Path) -> None:
    """Search small windows if the whole photo is unsure."""
    for seen in wordsight.recognize(photos, groups=["vehicle"], output=output / "recognized"):
        (group,) = seen.groups
        if not group.found:
            print(f"  {seen.file_name}: no vehicle ({group.probability:.2f})")
            continue
        box = " ".join(f"{side:.0f}" for side in group.box_xyxy or ())
        print(
            f"  {seen.file_name}: vehicle {group.probability:.2f} ({group.classes[0].name} …), box {box}; the whole photo says {group.whole_probability:.2f}"
        )
    # endregion closer


# region clip
def follow_a_clip(clip: Path, output: Path) -> None:
    """Label every frame of a clip, and keep some to learn from."""
    seen = wordsight.video(
        clip, output=output / "labelled.mp4", groups=["vehicle", "building"], smooth_s=0.3
    )
    print(
        f"  {seen.frames} frames, labelled: {', '.join(f'{name} {count}' for name, count in sorted(seen.labelled.items()))}"
    )
    for part in seen.segments:
        print(f"  {part.start_s:.1f}–{part.end_s:.1f} s: {part.label}")
    taken = wordsight.videos.extract(clip, output / "frames", fps=5)
    print(
        f"  {taken.looked_at} frames looked at, {taken.written} kept to learn from, {taken.near_duplicates} too alike"
    )
    # endregion clip


# region story
def tell(photos: Path, photo: Path, clip: Path, output: Path) -> None:
    """Run the steps of the page in order."""
    print(f"1. What does {photo.name} show?")
    ask_for_the_whole(photo)
    print("2. Where did it look?")
    see_where_it_looked(photo, output)
    print("3. Add up what is a vehicle:")
    add_up_a_group(photo)
    print("4. Quarter by quarter:")
    cut_into_quarters(photo, output)
    print("5. All photos, looking closer:")
    look_closer(photos, output)
    print("6. A clip:")
    follow_a_clip(clip, output)
    # endregion story


def draw_steps(photo: Path, output: Path) -> None:
    """Put the drawings of the steps side by side, as vehicle.jpg."""
    drawn = [
        output / "answer.jpg",
        output / "asked.jpg",
        *sorted((output / "recognized" / "recognized").glob(f"{photo.stem}*"))[:1],
    ]
    images = [Image.open(path).resize((420, 280)) for path in drawn]
    sheet = Image.new("RGB", (430 * len(images) - 10, 280), "white")
    for number, image in enumerate(images):
        sheet.paste(image, (430 * number, 0))
    sheet.save(output / "vehicle.jpg", quality=88)


def most_gained(photos: Path) -> Path:
    """Return the photo for which the closer look raises the probability of a vehicle most."""
    every = wordsight.recognize(photos, groups=["vehicle"], output=None)
    best = max(
        (one for one in every if one.groups),
        key=lambda one: one.groups[0].probability - one.groups[0].whole_probability,
    )
    return photos / best.file_name


def main() -> None:
    """Read the options, compose the photos if needed, and run all steps."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--data",
        type=Path,
        help="a folder of real pictures, with street/photos and street/traffic-mini.mp4",
    )
    arguments.add_argument("-o", "--output", type=Path, default=Path("tutorial-vehicle"))
    told = arguments.parse_args()
    told.output.mkdir(parents=True, exist_ok=True)
    photos, clip = (
        compose(told.output)
        if told.data is None
        else (told.data / "street" / "photos", told.data / "street" / "traffic-mini.mp4")
    )
    photo = photos / "street.png" if told.data is None else most_gained(photos)
    tell(photos, photo, clip, told.output)
    draw_steps(photo, told.output)


if __name__ == "__main__":
    main()
