"""Keras on TensorFlow, as the recipe goes: a frozen ResNet50, pooled, one dense layer, Adam, early
stopping; then answers for other photos.

python keras_train.py TRAIN TEST                        random weights: they cost the same time, and
say nothing of accuracy
"""

import os
import sys
import time

import turns

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
began = time.perf_counter()
import keras  # noqa: E402

train, test = sys.argv[1:]
size = (224, 224)
images = {
    part: keras.utils.image_dataset_from_directory(
        train,
        image_size=size,
        batch_size=32,
        validation_split=0.2,
        subset=part,
        seed=0,
        verbose=False,
    )
    for part in ("training", "validation")
}
body = keras.applications.ResNet50(
    include_top=False, weights=None, pooling="avg", input_shape=(*size, 3)
)
body.trainable = False
inputs = keras.Input((*size, 3))
outputs = keras.layers.Dense(2, activation="softmax")(
    body(keras.applications.resnet50.preprocess_input(inputs), training=False)
)
model = keras.Model(inputs, outputs)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
ready = time.perf_counter()
stopping = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
history = model.fit(
    images["training"],
    validation_data=images["validation"],
    epochs=2,
    callbacks=[stopping],
    verbose=0,
)
trained = time.perf_counter()
model.predict(
    keras.utils.image_dataset_from_directory(test, image_size=size, shuffle=False, verbose=False),
    verbose=0,
)
turns.report(
    imports=ready - began,
    train=trained - ready,
    predict=time.perf_counter() - trained,
    epochs=len(history.history["loss"]),
)
