"""Grad-CAM as Keras's example tells it: VGG16, a GradientTape over the last convolution, the map
laid over the photo; whole or quarter by quarter.

python keras_gradcam.py PHOTOS OUTPUT                   random weights: they cost the same time, and
say nothing of what is seen
"""

import os
import sys
from pathlib import Path

import turns

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import matplotlib
import numpy as np
import tensorflow as tf

photos, output = Path(sys.argv[1]), Path(sys.argv[2])
output.mkdir(parents=True, exist_ok=True)
model = keras.applications.VGG16(weights=None)
both = keras.Model(model.input, [model.get_layer("block5_conv3").output, model.output])
jet = matplotlib.colormaps["jet"](np.arange(256))[:, :3]


def heatmap(pixels: np.ndarray) -> np.ndarray:
    """Return the map of the likeliest class, (14, 14), 0–1, of (224, 224, 3)."""
    with tf.GradientTape() as tape:
        features, said = both(
            keras.applications.vgg16.preprocess_input(pixels[None].copy()), training=False
        )
        likeliest = said[:, tf.argmax(said[0])]
    weights = tf.reduce_mean(tape.gradient(likeliest, features), axis=(0, 1, 2))
    found = tf.maximum(tf.squeeze(features[0] @ weights[..., tf.newaxis]), 0)
    return (found / (tf.reduce_max(found) + 1e-12)).numpy()


def draw(pixels: np.ndarray, name: str) -> None:
    """Look at one picture, (height, width, 3), and write it with its map laid over."""
    found = heatmap(keras.ops.image.resize(pixels, (224, 224)).numpy())
    coloured = keras.utils.array_to_img(jet[np.uint8(255 * found)]).resize(
        (pixels.shape[1], pixels.shape[0])
    )
    keras.utils.array_to_img(keras.utils.img_to_array(coloured) * 0.4 + pixels).save(output / name)


def job(quarters: bool) -> dict:
    count = 0
    for path in sorted(photos.iterdir()):
        pixels = keras.utils.img_to_array(keras.utils.load_img(path))
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        places = [(y, x) for y in (0, height) for x in (0, width)]
        parts = [pixels[y : y + height, x : x + width] for y, x in places] if quarters else [pixels]
        for number, part in enumerate(parts):
            draw(part, f"{path.stem}-{number}.jpg")
        count += 1
    return {"photos": count}


turns.serve(job)
