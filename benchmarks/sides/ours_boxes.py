"""wordsight: classes and boxes from one table, then boxes for other pictures.   python
ours_boxes.py TRAIN_CSV TEST_CSV MODEL
"""

import sys
import time
from pathlib import Path

import turns

train, test, model = sys.argv[1:]
began = time.perf_counter()
import wordsight  # noqa: E402

ready = time.perf_counter()
made = wordsight.train(Path(train).parent, model, boxes=train)
trained = time.perf_counter()
files = [image.file for image in wordsight.datasets.read_boxes(test).images]
answers = list(made.predict([file.path for file in files], threshold=0.0))
done = time.perf_counter()
found = wordsight.evaluation.evaluate_boxes(test, made, output=None, detections=False)
assert [answer.file_name for answer in answers] == [file.path.name for file in files]
right = sum(answer.top_label == file.label for answer, file in zip(answers, files, strict=True))
turns.report(
    imports=ready - began,
    train=trained - ready,
    predict=done - trained,
    right=right / len(answers),
    answered=len(answers),
    mean_iou={kind: figures.mean_iou.value for kind, figures in found.kinds.items()},
)
