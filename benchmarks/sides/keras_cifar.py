"""Keras: the CIFAR-10 tutorial's network on a folder with train/ and test/.   python
keras_cifar.py DATA EPOCHS BATCH SEED
"""

import os
import sys
import time

import turns

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
from keras import layers

data = sys.argv[1]
epochs, batch, seed = map(int, sys.argv[2:])
keras.utils.set_random_seed(seed)


def load(part, shuffle):
    return keras.utils.image_dataset_from_directory(
        f"{data}/{part}", image_size=(32, 32), batch_size=None, shuffle=shuffle, verbose=0
    )


def scale(x, y):
    return x / 255.0, y


train = load("train", False).map(scale).cache().shuffle(25000, seed=seed).batch(batch).prefetch(-1)
test = load("test", False).map(scale).cache().batch(256).prefetch(-1)
for part in (train, test):
    for _ in part:
        pass  # decoded and in memory before the clock of the epochs starts
model = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(10),
    ]
)
assert model.count_params() == 122570
model.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
start = time.perf_counter()
history = model.fit(train, validation_data=test, epochs=epochs, verbose=0).history
turns.report(epochs_s=time.perf_counter() - start, accuracy=history["val_accuracy"][-1])
