"""fastai: `get_preds` of the photos of a folder; classes only, no heat map.   python
fastai_predict.py WEIGHTS TRAIN PHOTOS
"""

import sys

import turns
from fastai_train import get_image_files, learner

weights, train, photos = sys.argv[1:]
made = learner(weights, train)
images = sorted(get_image_files(photos))


def job() -> dict:
    with made.no_bar(), made.no_logging():
        made.get_preds(dl=made.dls.test_dl(images))
    return {"photos": len(images)}


turns.serve(job)
