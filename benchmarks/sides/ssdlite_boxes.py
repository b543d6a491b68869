"""torchvision's SSDLite320 with MobileNetV3, from random weights (none pretrained come with it),
trained for so many seconds, then run on other pictures.   python ssdlite_boxes.py TRAIN_JSON
TRAIN_FOLDER TEST_JSON TEST_FOLDER SECONDS
"""

import random
import sys
import time
from pathlib import Path

import torch
import turns
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.transforms.v2 import functional

import wordsight
from wordsight.images.decoding import decode
from wordsight.metrics.detection import average_precision

train_json, train, test_json, test, limit = sys.argv[1:]
BATCH, RATE = 16, 0.02


def read(annotations, folder):
    known = wordsight.datasets.read_boxes(annotations, folder).images
    photos = [decode(Path(image.file.path).read_bytes()).image for image in known]
    return known, [functional.to_image(photo).float() / 255 for photo in photos]


known, photos = read(train_json, train)
tested, others = read(test_json, test)
names = sorted({box.label for image in known for box in image.boxes})
torch.manual_seed(0)
random.seed(0)
network = ssdlite320_mobilenet_v3_large(
    weights=None, weights_backbone=None, num_classes=len(names) + 1
)
optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=4e-5)
began, steps = time.perf_counter(), 0
network.train()
while time.perf_counter() - began < float(limit):
    left = 1 - (time.perf_counter() - began) / float(limit)
    for group in optimizer.param_groups:
        group["lr"] = RATE * max(left, 0.01)
    images, targets = [], []
    for index in random.sample(range(len(known)), BATCH):
        image, boxes = photos[index], known[index].boxes
        edges = torch.tensor([box.xyxy for box in boxes])
        if random.random() < 0.5:
            image, width = image.flip(2), image.shape[2]
            edges = torch.stack(
                [width - edges[:, 2], edges[:, 1], width - edges[:, 0], edges[:, 3]], dim=1
            )
        labels = torch.tensor([names.index(box.label) + 1 for box in boxes])
        images.append(image)
        targets.append({"boxes": edges, "labels": labels})
    loss = sum(network(images, targets).values())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    steps += 1
network.eval()
rows = []
with torch.inference_mode():
    for image, photo in zip(tested, others, strict=True):
        said = network([photo])[0]
        found = zip(
            said["labels"].tolist(), said["scores"].tolist(), said["boxes"].tolist(), strict=True
        )
        rows.append(
            (
                [(box.label, box.xyxy) for box in image.boxes],
                [(names[label - 1], score, box) for label, score, box in found],
            )
        )
turns.report(steps=steps, average_precision=average_precision(rows, names))
