"""wordsight: predict the photos of a folder, nothing cached.

python ours_predict.py MODEL PHOTOS      each turn: {"dtype": "auto", "drawn": false}; drawn writes
results with pictures and report
"""

import shutil
import sys
import tempfile
import time

import turns

import wordsight
from wordsight.backbones.cache import EmbeddingCache

models, photos = (
    {name: wordsight.load(sys.argv[1], dtype=name) for name in ("auto", "f32", "bf16")},
    sys.argv[2],
)
for one in models.values():
    # a stranger would get no heat map, and the others here draw one of every photo
    one.neighbourhood = None


def job(dtype: str = "auto", drawn: bool = False) -> dict:
    cache = EmbeddingCache()
    cache.clear()
    cache.close()
    model = models[dtype]
    folder = tempfile.mkdtemp()
    start = time.perf_counter()
    results = model.predict(photos, output=folder if drawn else None, threshold=0.0)
    seconds = time.perf_counter() - start
    maps = sum(answer.map is not None for answer in results)
    shutil.rmtree(folder)
    told = {"seconds": seconds, "photos": len(results), "maps": maps}
    return {**told, "dtype": model.embedder.dtype}


turns.serve(job)
