"""The sliding window of the works wordsight retells: `model.predict` on one window of 200 × 200
after the other, 622,753 parameters.

python keras_windows.py
"""

import os

import turns

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
from keras import layers

body = [
    layer
    for width in (16, 32, 64, 64, 64)
    for layer in (layers.Conv2D(width, 3, activation="relu"), layers.MaxPooling2D(2))
]
model = keras.Sequential(
    [
        keras.Input((200, 200, 3)),
        *body,
        layers.Flatten(),
        layers.Dense(512, activation="relu"),
        layers.Dense(1, activation="sigmoid"),
    ]
)
assert model.count_params() == 622_753
image = np.random.default_rng(0).random((756, 1008, 3), dtype=np.float32)
model.predict(image[None, :200, :200], verbose=0)


def job(count: int) -> None:
    for step in range(count):
        model.predict(image[None, step : step + 200, step : step + 200], verbose=0)


turns.serve(job)
