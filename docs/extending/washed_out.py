"""A check of data sets: images without colour. One function gets all images at once and yields those that should go."""

import numpy as np
from PIL import Image

import wordsight


@wordsight.cleaning.register_check(threshold=6)
def washed_out(material, threshold):
    """Hardly any colour, as old prints and scans have."""
    for index in material.good:
        with Image.open(material.images[index].path) as image:
            image.draft("RGB", (64, 64))
            pixels = np.asarray(image.convert("RGB").resize((32, 32)), dtype=np.float32)
        colour = float((pixels.max(axis=2) - pixels.min(axis=2)).mean())  # 0 (grey) to 255
        if colour < threshold:
            yield material.finding(
                index, "washed_out", 1 - colour / threshold, evidence=f"colour {colour:.0f} of 255"
            )


if __name__ == "__main__":
    found = wordsight.clean("data/pets", reasons=["washed_out"])
    print([finding.file_name for finding in found.findings])
