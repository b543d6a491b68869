"""wordsight: train on a folder a class, then answers for other photos, in one process.   python
ours_train.py TRAIN TEST MODEL PIXELS
"""

import sys
import time
from pathlib import Path

import turns

train, test, model, pixels = sys.argv[1:]
began = time.perf_counter()
import wordsight  # noqa: E402

ready = time.perf_counter()
made = wordsight.train(train, model, settings=wordsight.TrainingSettings(image_size=int(pixels)))
trained = time.perf_counter()
answers = made.predict(test)
done = time.perf_counter()
right = sum(answer.top_label == Path(answer.file_name).parent.name for answer in answers)
turns.report(
    imports=ready - began, train=trained - ready, predict=done - trained, right=right / len(answers)
)
