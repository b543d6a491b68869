"""int8 beside f32, in ONNX Runtime and in OpenVINO: accuracy, answers and speed on pictures
that nothing was calibrated on.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from common import DATA, section

ROUNDS = 3


def _throughput(files: list[Path], pixels: list[np.ndarray]) -> list[float]:
    """Pictures a second of each OpenVINO file with all cores busy, medians of rounds in turn."""
    from wordsight.backbones.openvino_engine import import_openvino
    from wordsight.core.threads import cores

    ov = import_openvino()
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": str(cores()),
        "INFERENCE_NUM_THREADS": str(cores()),
    }
    queues = [
        ov.AsyncInferQueue(ov.Core().compile_model(file, "CPU", options), cores()) for file in files
    ]
    rates: list[list[float]] = [[] for _ in files]
    for _ in range(ROUNDS + 1):  # the first warms up
        for queue, rate in zip(queues, rates, strict=True):
            start = time.perf_counter()
            for one in pixels:
                queue.start_async({0: one[None]})
            queue.wait_all()
            rate.append(len(pixels) / (time.perf_counter() - start))
    return [float(np.median(rate[1:])) for rate in rates]


@section(
    "exported models in int8 beside f32, calibrated on 300 (catdog) and 266 (clothing) "
    "training pictures",
    ("onnxruntime", "nncf"),
    usual=False,
)
def int8(work: Path) -> list[str]:
    os.environ.update(WORDSIGHT_HOME=str(work / "home"))
    import wordsight
    from wordsight.exports.formats import EXPORT_FORMATS, open_exported
    from wordsight.exports.quantization import Trial, compare, quantize, trial_images

    lines = [
        "| data | format | accuracy f32 | int8 | same answer | mean difference | speed, "
        "one at a time | all cores f32, images/s | int8 | ratio | MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ("catdog", "clothing"):
        model = wordsight.train(DATA / name / "train", work / name)
        calibration = trial_images(model, DATA / name / "train", calibrate=True).calibration
        test = trial_images(model, DATA / name / "test", calibrate=False)
        trial = Trial(test.pixels, test.labels, calibration)
        for format in ("openvino", "onnx"):
            done = wordsight.export(
                model, format, output=work / f"{name}-{format}{EXPORT_FORMATS[format]}"
            )
            small = done.path.with_stem(f"{name}-{format}-int8")
            quantize(done.path, small, format, trial.calibration)
            runs = [open_exported(path, format) for path in (done.path, small)]
            price = compare(runs[0], runs[1], done.outputs, 0.99, trial)
            rates = ["", "", ""]
            if format == "openvino":
                before, after = _throughput([done.path, small], trial.pixels)
                rates = [f"{before:.0f}", f"{after:.0f}", f"**{after / before:.2f}**"]
            sizes = [
                sum(path.stat().st_size for path in one.parent.glob(f"{one.stem}.*")) / 2**20
                for one in (done.path, small)
            ]
            row = [
                f"{name} ({price.images})",
                format,
                f"{price.accuracy_f32:.4f}",
                f"{price.accuracy_int8:.4f}",
                f"{price.same_answer:.3f}",
            ]
            row += [
                f"{price.mean_difference:.4f}",
                f"{price.speed:.2f}",
                *rates,
                f"{sizes[0]:.1f} → {sizes[1]:.1f}",
            ]
            lines.append(f"| {' | '.join(row)} |")
    return [*lines, "", "An answer is a label from 0.99, or silence."]
