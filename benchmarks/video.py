"""A clip from file to labelled file, beside decoding alone and inference alone, against the sum of
its parts over the cores; memory.

Parts are timed one after another in one process, by the processor time they take on all cores; the
whole, several times, in the same process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import DATA, ROUNDS, environment, section, spread

CLIP = DATA / "street" / "traffic-mini.mp4"

MINUTES = 10
PEAK = """
import json, sys, time
import wordsight
start = time.perf_counter()
seen = wordsight.video(sys.argv[1], output=sys.argv[2], groups="vehicle")
lines = open("/proc/self/status")
peak = int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
print(json.dumps({"frames": len(seen), "s": time.perf_counter() - start, "peak": peak}))
"""


def _parts(clip: Path, folder: Path) -> dict[str, float]:
    """Return the core-seconds of each part, alone, and what each would give alone in frames a
    second.
    """
    import cv2
    import numpy as np
    from PIL import Image
    from threadpoolctl import threadpool_limits

    from wordsight.backbones.embedder import input_pixels
    from wordsight.backbones.encoding import Encoding
    from wordsight.backbones.openvino_engine import convert, import_openvino
    from wordsight.images.clips import Clip
    from wordsight.images.decoding import upright
    from wordsight.recognition.recognizer import Recognizer, Seen
    from wordsight.videos.frame_models import GroupModel
    from wordsight.videos.labelling import _decide, _draw, _Look
    from wordsight.videos.recorder import Recorder

    recognizer = Recognizer("vehicle")
    backbone, eye = recognizer.embedder.backbone, GroupModel(recognizer)
    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1"}
    single = (
        import_openvino()
        .Core()
        .compile_model(convert(backbone, recognizer.embedder.dtype), "CPU", options)
        .create_infer_request()
    )
    spent = dict.fromkeys(("decode", "prepare", "infer", "decide and draw", "write"), 0.0)
    clock = time.process_time
    with threadpool_limits(1, user_api="blas"), Clip(clip) as source:
        start, wall = clock(), time.perf_counter()
        frames = list(source)
        spent["decode"], decode_s = clock() - start, time.perf_counter() - wall
        photos, inputs, encodings = [], [], []
        start = clock()
        for frame in frames:
            photos.append(upright(Image.fromarray(cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2RGB))))
            inputs.append(input_pixels(photos[-1], backbone.preprocessing))
        spent["prepare"] = clock() - start
        for measured in (False, True):
            start = clock()
            for pixels in inputs[: None if measured else 20]:
                single.infer({0: pixels[None]})
                if measured:
                    encodings.append(
                        [single.get_output_tensor(i).data[0].astype(np.float32) for i in (0, 1)]
                    )
            spent["infer"] = clock() - start
        start, looks, drawn = clock(), [], []
        for frame, photo, (embedding, feature_map) in zip(frames, photos, encodings, strict=True):
            probabilities = recognizer.known.probabilities(embedding[None])[0]
            scores = np.array([recognizer.share(probabilities, name) for name in eye.names])
            looks.append(
                _Look(
                    frame,
                    scores,
                    False,
                    Seen(photo, probabilities, Encoding(embedding, feature_map)),
                )
            )
        for look in _decide(iter(looks), eye, 0.0):
            if look.result.label is not None:
                look.result.box_xyxy = eye.locate(look.seen, look.result.label)[1]
            drawn.append(_draw(look, None, eye.names, None))
        spent["decide and draw"] = clock() - start
        start = clock()
        recorder = Recorder(folder / "parts.mp4", source, False)
        for look, pixels in zip(looks, drawn, strict=True):
            recorder.add(look.frame, look.result, pixels)
        recorder._clip.complete()
        spent["write"] = clock() - start
        recorder.close()
    return {
        **{f"{name}_ms": 1000 * s / len(frames) for name, s in spent.items()},
        "frames": len(frames),
        "bound_s": sum(spent.values()),
        "decode_s": decode_s,
    }


@section(
    "a clip from file to labelled file, a group, every frame",
    ("opencv-python-headless",),
    usual=False,
)
def video(work: Path) -> list[str]:
    os.environ.update(WORDSIGHT_HOME=str(work / "home"))
    return [*_shares(work), "", *_memory(work)]


def _shares(work: Path) -> list[str]:
    """Set the whole beside its parts."""
    import numpy as np
    from PIL import Image

    import wordsight
    from wordsight.backbones.embedder import input_pixels
    from wordsight.backbones.runtime import callers
    from wordsight.core.threads import cores, parallel_map
    from wordsight.images.decoding import upright
    from wordsight.recognition.recognizer import Recognizer

    wordsight.video(CLIP, output=work / "warm.mp4", groups="vehicle")
    recognizer = Recognizer("vehicle")
    noise = upright(
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 854, 3), dtype=np.uint8))
    )
    pixels = input_pixels(noise, recognizer.embedder.backbone.preprocessing)
    rows = []
    for number in range(ROUNDS):
        split = _parts(CLIP, work / str(number))
        start = time.perf_counter()
        for _ in parallel_map(
            lambda _: recognizer.embedder.runtime.encode(pixels, True),
            range(split["frames"]),
            callers("openvino"),
        ):
            pass
        inference_s = time.perf_counter() - start
        start = time.perf_counter()
        wordsight.video(CLIP, output=work / f"whole-{number}.mp4", groups="vehicle")
        whole_s = time.perf_counter() - start
        rows.append(
            {
                **split,
                "inference_s": inference_s,
                "whole_s": whole_s,
                "share": split["bound_s"] / cores() / whole_s,
            }
        )
    middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    n, names = middle["frames"], [key for key in middle if key.endswith("_ms")]
    rates = " / ".join(f"{n / middle[key]:.0f}" for key in ("whole_s", "decode_s", "inference_s"))
    return [
        f"| {n:.0f} frames, file to labelled file and tables | value |",
        "|---|---|",
        "| share of the bound (all parts' core-seconds, over the cores) | "
        f"**{spread([row['share'] for row in rows], 2)}** |",
        f"| frames/s: whole / decoding alone / inference alone | {rates} |",
        f"| core-ms a frame: {' / '.join(name[:-3] for name in names)} | "
        f"{' / '.join(f'{middle[name]:.2f}' for name in names)} |",
    ]


def _memory(work: Path) -> list[str]:
    """Tell the peak memory of the clip, and of the same repeated for some minutes."""
    from wordsight.images.clips import Clip, ClipWriter, Frame

    with Clip(CLIP) as source:
        frames, fps = [frame.bgr for frame in source], source.fps
    writer = ClipWriter(work / "long.mp4", fps, frames[0].shape[:2], work / "part.mp4")
    for number in range(round(MINUTES * 60 * fps)):
        bgr = frames[number % len(frames)]
        writer.write(Frame(number, number / fps, number, bgr), bgr)
    writer.complete()
    writer.place()
    lines, peaks = (
        ["| clip | frames | frames/s, without start-up | peak memory |", "|---|---|---|---|"],
        [],
    )
    for path in (CLIP, work / "long.mp4"):
        command = [sys.executable, "-c", PEAK, str(path), str(work / f"{path.stem}-labelled.mp4")]
        told = json.loads(
            subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment(work)
            ).stdout
        )
        peaks.append(told["peak"])
        lines.append(
            f"| {told['frames'] / fps / 60:.1f} minutes | {told['frames']:,} | "
            f"{told['frames'] / told['s']:.0f} | {told['peak']:.0f} MiB |"
        )
    return [*lines, "", f"Ratio of the peaks: **{peaks[1] / peaks[0]:.2f}**."]
