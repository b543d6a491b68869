"""wordsight: predict a folder with tables only, in this process or on Ray.   python
predict_many.py one|ray MODEL PHOTOS OUTPUT WORKERS
"""

import sys
import time

import turns

import wordsight

name, model, photos, output, workers = sys.argv[1:]
start = time.perf_counter()
if name == "one":
    done = len(wordsight.load(model).predict(photos, output=output, draw=False))
else:
    done = wordsight.distributed.predict(
        photos, model, output=output, ray="local", workers=int(workers)
    ).images
turns.report(seconds=time.perf_counter() - start, photos=done)
