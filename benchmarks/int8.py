"""int8 beside f32, in ONNX Runtime and in OpenVINO: accuracy, answers and speed on pictures that nothing was calibrated on.

    python benchmarks/int8.py DATA

`DATA` holds catdog/ and clothing/, each with train/ and test/, a folder a class.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import wordsight
from wordsight.exporting import EXPORT_FORMATS, open_exported
from wordsight.quantization import Trial, compare, quantize, trial_pictures
from wordsight.runtime import cores, import_openvino

ROUNDS = 3


def throughput(files: list[Path], pixels: list[np.ndarray]) -> list[float]:
    """Pictures a second of each OpenVINO file with all cores busy, medians of rounds in turn."""
    ov = import_openvino()
    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": str(cores()), "INFERENCE_NUM_THREADS": str(cores())}
    queues = [ov.AsyncInferQueue(ov.Core().compile_model(file, "CPU", options), cores()) for file in files]
    rates: list[list[float]] = [[] for _ in files]
    for _ in range(ROUNDS + 1):  # the first warms up
        for queue, rate in zip(queues, rates, strict=True):
            start = time.perf_counter()
            for one in pixels:
                queue.start_async({0: one[None]})
            queue.wait_all()
            rate.append(len(pixels) / (time.perf_counter() - start))
    return [float(np.median(rate[1:])) for rate in rates]


def main(data: Path) -> None:
    print("| data | format | accuracy f32 | int8 | same answer | mean difference | speed, one at a time | all cores f32, images/s | int8 | ratio | MiB |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("catdog", "clothing"):
            model = wordsight.train(data / name / "train", Path(folder) / name)
            calibration = trial_pictures(model, data / name / "train", calibrate=True).calibration
            test = trial_pictures(model, data / name / "test", calibrate=False)
            trial = Trial(test.pixels, test.labels, calibration)
            for format in ("openvino", "onnx"):
                done = wordsight.export(model, format, Path(folder) / f"{name}-{format}{EXPORT_FORMATS[format]}")
                small = done.path.with_stem(f"{name}-{format}-int8")
                quantize(done.path, small, format, trial.calibration)
                runs = [open_exported(path, format) for path in (done.path, small)]
                price = compare(runs[0], runs[1], done.outputs, 0.99, trial)
                rates = ["", "", ""]
                if format == "openvino":
                    before, after = throughput([done.path, small], trial.pixels)
                    rates = [f"{before:.0f}", f"{after:.0f}", f"**{after / before:.2f}**"]
                sizes = [sum(path.stat().st_size for path in one.parent.glob(f"{one.stem}.*")) / 2**20 for one in (done.path, small)]
                row = [f"{name} ({price.pictures})", format, f"{price.accuracy_f32:.4f}", f"{price.accuracy_int8:.4f}", f"{price.same_answer:.3f}"]
                row += [f"{price.mean_difference:.4f}", f"{price.speed:.2f}", *rates, f"{sizes[0]:.1f} → {sizes[1]:.1f}"]
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
