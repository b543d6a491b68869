"""fastai: `vision_learner(...).fine_tune(EPOCHS)` on a folder a class, the given weights loaded,
then answers for other photos.

python fastai_train.py WEIGHTS TRAIN TEST EPOCHS        WEIGHTS: a folder that timm loads as
local-dir:
"""

import os
import sys
import time

import turns

os.environ["HF_HUB_OFFLINE"] = "1"
began = time.perf_counter()
import timm  # noqa: E402
import torch  # noqa: E402
from fastai.vision.all import (  # noqa: E402
    Callback,
    CancelValidException,
    ImageDataLoaders,
    Normalize,
    Path,
    Resize,
    get_image_files,
    parent_label,
    vision_learner,
)


class NoValidation(Callback):
    """Spare what the comparison does not need: fastai would look at the validation pictures
    after each epoch.
    """

    def before_validate(self):
        raise CancelValidException


def learner(weights: str, folder: str):
    """Return a learner as the documentation builds it, with the backbone's weights put in by
    hand, since no hub can be reached.
    """
    images = [*get_image_files(folder)]
    loaders = ImageDataLoaders.from_path_func(
        Path(folder),
        images,
        parent_label,
        valid_pct=2 / len(images),  # all of them are learned from, but for the two it insists on
        seed=0,
        item_tfms=Resize(224),
        batch_tfms=[Normalize.from_stats([0.5] * 3, [0.5] * 3)],
        num_workers=torch.get_num_threads(),
    )
    made = vision_learner(loaders, "tf_efficientnet_lite0", pretrained=False)
    known = timm.create_model(f"local-dir:{weights}", pretrained=True).state_dict()
    body = made.model[0].model
    missing = body.load_state_dict({name: known[name] for name in body.state_dict()})
    assert not missing.missing_keys
    made.freeze()  # as vision_learner does where it loads the weights itself
    return made


if __name__ == "__main__":
    weights, train, test, epochs = sys.argv[1:]
    made = learner(weights, train)
    ready = time.perf_counter()
    with made.no_bar(), made.no_logging():
        made.fine_tune(int(epochs), cbs=[NoValidation()])
        trained = time.perf_counter()
        images = sorted(get_image_files(test))
        answers = made.get_preds(dl=made.dls.test_dl(images))[0].argmax(dim=1)
    done = time.perf_counter()
    right = sum(
        made.dls.vocab[int(answer)] == path.parent.name
        for answer, path in zip(answers, images, strict=True)
    )
    turns.report(
        imports=ready - began,
        train=trained - ready,
        predict=done - trained,
        right=right / len(images),
    )
