"""wordsight's int8 export, run by OpenVINO alone: classes and heat maps of the photos of a folder,
from files.

python ours_int8.py NETWORK.xml PHOTOS SIDE
"""

import sys
import threading

import turns

from wordsight.backbones.openvino_engine import import_openvino
from wordsight.core.threads import cores, parallel_map
from wordsight.datasets.files import find_images
from wordsight.images.decoding import decode, resize

network, photos, length = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = {
    "INFERENCE_PRECISION_HINT": "f32",
    "NUM_STREAMS": str(cores()),
    "INFERENCE_NUM_THREADS": str(cores()),
}
compiled = import_openvino().Core().compile_model(network, "CPU", options)
files, own = find_images([photos]).images, threading.local()
compiled.create_infer_request().infer(
    {0: resize(decode(files[0].path.read_bytes()).image, (length, length), "bicubic")[None]}
)


def look(file):
    if not hasattr(own, "request"):
        own.request = compiled.create_infer_request()
    answers = own.request.infer(
        {0: resize(decode(file.path.read_bytes()).image, (length, length), "bicubic")[None]}
    )
    return answers["probabilities"][0], answers["heatmap"][0]


def job() -> dict:
    return {"photos": sum(heat.shape[0] > 0 for _, heat in parallel_map(look, files, cores() + 1))}


turns.serve(job)
