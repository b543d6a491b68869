"""Heat maps from files, beside fastai, a plain timm loop and pytorch-grad-cam."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from common import (
    ROUNDS,
    TEST,
    TRAIN,
    Side,
    in_turn,
    ratio,
    section,
    side as once,
    sides,
    spread,
    times,
    wordsight,
)


@section(
    "classes and heat maps of 300 photos, from files, inner loops",
    ("timm", "torch", "fastai", "grad-cam", "nncf"),
)
def predict(work: Path) -> list[str]:
    weights = once("prepare.py", work=work)[1]["folder"]
    models = {320: work / "m320", 224: work / "m224"}
    for length, model in models.items():
        wordsight("train", TRAIN, "-o", model, "--image-size", length, work=work)
        wordsight(
            "export",
            model,
            "--format",
            "openvino",
            "--dtype",
            "int8",
            "--data",
            TRAIN,
            "-o",
            work / f"m{length}.xml",
            work=work,
        )
    opened = {
        **{
            f"ours{length}": lambda model=model: Side("ours_predict.py", model, TEST, work=work)
            for length, model in models.items()
        },
        **{
            f"int8_{length}": lambda length=length: Side(
                "ours_int8.py", work / f"m{length}.xml", TEST, length, work=work
            )
            for length in models
        },
        "fastai": lambda: Side("fastai_predict.py", weights, TRAIN, TEST, work=work),
        "timm": lambda: Side("timm_loop.py", weights, TEST, work=work),
        **{
            f"gradcam{length}": lambda length=length: Side(
                "gradcam.py", models[length], "files", TEST, length, work=work
            )
            for length in models
        },
    }
    with sides(**opened) as these:

        def seconds(name: str, **how: object) -> float:
            told = these[name](**how)
            return told["seconds"] / told["photos"]

        jobs = {
            **{name: lambda name=name: seconds(name) for name in opened if name != "timm"},
            "f32_320": lambda: seconds("ours320", dtype="f32"),
            "f32_224": lambda: seconds("ours224", dtype="f32"),
            "bf16": lambda: seconds("ours320", dtype="bf16"),
            "drawn": lambda: seconds("ours320", drawn=True),
            "timm1": lambda: seconds("timm", batch=1),
            "timm32": lambda: seconds("timm", batch=32),
        }
        told = these["ours320"]()
        assert told["maps"] == told["photos"], told
        took = in_turn(jobs, rounds=3)
    rows = {
        "ours320": f"wordsight, 320 pixels, by default ({told['dtype']} here)",
        "ours224": "wordsight, 224 pixels, the same",
        "f32_320": "wordsight, 320 pixels, `--dtype f32`",
        "f32_224": "wordsight, 224 pixels, `--dtype f32`",
        "bf16": "wordsight, 320 pixels, `--dtype bf16`",
        "int8_320": "wordsight's int8 export, 320 pixels",
        "int8_224": "wordsight's int8 export, 224 pixels",
        "drawn": "wordsight, 320 pixels, by default, all drawn: overlays, masks, tables, report",
        "fastai": "fastai `get_preds`, 224 pixels: classes only",
        "timm1": "timm loop, one at a time, 224: classes only",
        "timm32": "timm loop, batches of 32, 224: classes only",
        "gradcam224": "pytorch-grad-cam, 224",
        "gradcam320": "pytorch-grad-cam, 320",
    }
    there = ("fastai", "timm1", "timm32", "gradcam224", "gradcam320")
    table = [
        f"| {said} | {spread([1 / each for each in took[name]])} | "
        + " | ".join(
            "" if name in there else times(ratio(took[other], took[name])) for other in there
        )
        + " |"
        for name, said in rows.items()
    ]
    return [
        "| | images/s | × fastai | × timm, one at a time | × timm, batches | × grad-cam, "
        "224 | × grad-cam, 320 |",
        "|---|---|---|---|---|---|---|",
        *table,
        "",
        "timm and grad-cam see every third photo of those that wordsight and fastai see.",
        "",
        *_same_values(work, models),
    ]


def _same_values(work: Path, models: dict[int, Path]) -> list[str]:
    """Compare the maps alone, from pixels, and value by value, both in f32."""
    os.environ.update(WORDSIGHT_HOME=str(work / "home"))
    import cv2

    import wordsight as ws
    from wordsight.backbones.embedder import Embedder
    from wordsight.backbones.runtime import callers
    from wordsight.core.threads import parallel_map
    from wordsight.datasets.files import find_images
    from wordsight.heatmaps.one_pass import class_heatmap
    from wordsight.images.decoding import decode, resize

    lines = []
    for length, folder in models.items():
        model = ws.load(folder, dtype="f32")
        files = find_images([TEST]).images[::6][:48]
        pixels = np.stack(
            [
                resize(decode(file.path.read_bytes()).image, (length, length), "bicubic")
                for file in files
            ]
        )
        np.save(work / "pixels.npy", pixels)
        runtime, made = Embedder(model.backbone).runtime, []

        def one(image, runtime=runtime, model=model):
            return class_heatmap(
                runtime.encode(image, feature_map=True).feature_map, model.head.weight[1]
            )

        def ours(pixels=pixels, made=made, one=one) -> float:
            start = time.perf_counter()
            made[:] = parallel_map(one, pixels, callers("openvino"))
            return time.perf_counter() - start

        with sides(
            theirs=lambda folder=folder: Side(
                "gradcam.py", folder, "pixels", work / "pixels.npy", work / "maps.npy", work=work
            )
        ) as these:
            took = in_turn(
                {"ours": ours, "theirs": lambda these=these: these["theirs"]()["seconds"]}, ROUNDS
            )
        furthest = 0.0
        for own, other in zip(made, np.load(work / "maps.npy"), strict=True):
            large = cv2.resize(own, (length, length))  # as pytorch-grad-cam enlarges its own
            low, high = large.min(), large.max()
            furthest = max(
                furthest, float(np.abs((large - low) / max(high - low, 1e-7) - other).max())
            )
        lines.append(
            f"Map values alone in f32, pixels given, {length}: pytorch-grad-cam takes "
            f"{times(ratio(took['theirs'], took['ours']))} times as long "
            f"({1000 * np.median(took['theirs']) / len(files):.0f} ms beside "
            f"{1000 * np.median(took['ours']) / len(files):.1f} ms a picture); "
            f"largest difference of any value of {len(files)} maps: {furthest:.1e}.  "
        )
    return lines
