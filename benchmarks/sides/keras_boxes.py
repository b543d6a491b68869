"""Keras: MobileNet with two outputs, class and box, as "what and where" tutorials build it, on a
table of boxes.

python keras_boxes.py PICTURES TRAIN_CSV TEST_CSV EPOCHS     random weights: they cost the same
time, and say nothing of accuracy
"""

import csv
import os
import sys
import time

import turns

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
began = time.perf_counter()
import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

images, train_table, test_table = sys.argv[1:4]
epochs, side, batch = int(sys.argv[4]), 224, 32
keras.utils.set_random_seed(0)


def read(table):
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    boxes = np.array(
        [[float(row[edge]) for edge in ("x_min", "y_min", "x_max", "y_max")] for row in rows],
        dtype="float32",
    )
    return (
        [os.path.join(images, row["file_name"]) for row in rows],
        [row["label"] for row in rows],
        boxes,
    )


def decode(file, target):
    pixels = tf.io.decode_image(tf.io.read_file(file), channels=3, expand_animations=False)
    return tf.image.resize(pixels, (side, side)) / 127.5 - 1.0, target


def dataset(files, labels, boxes):
    made = tf.data.Dataset.from_tensor_slices(
        (files, {"what": [names.index(label) for label in labels], "where": boxes})
    )
    return made.map(decode, tf.data.AUTOTUNE).cache()


train, test = read(train_table), read(test_table)
names = sorted(set(train[1]))
body = keras.applications.MobileNet(
    include_top=False, weights=None, pooling="avg", input_shape=(side, side, 3)
)
body.trainable = False
what = layers.Dense(len(names), activation="softmax", name="what")(body.output)
where = layers.Dense(4, activation="sigmoid", name="where")(
    layers.Dense(128, activation="relu")(body.output)
)
model = keras.Model(body.input, {"what": what, "where": where})
model.compile(
    "adam",
    {"what": "sparse_categorical_crossentropy", "where": "mse"},
    loss_weights={"what": 1.0, "where": 10.0},
)
ready = time.perf_counter()
model.fit(
    dataset(*train).shuffle(len(train[0]), seed=0).batch(batch).prefetch(tf.data.AUTOTUNE),
    epochs=epochs,
    verbose=0,
)
trained = time.perf_counter()
found = model.predict(dataset(*test).batch(batch), verbose=0)
assert found["where"].shape == (len(test[0]), 4)
turns.report(
    imports=ready - began,
    train=trained - ready,
    predict=time.perf_counter() - trained,
    parameters=model.count_params(),
)
