"""A model's README, as the Hugging Face Hub reads it: what it knows, how good it was, what it
learned from.
"""

from __future__ import annotations

import html
from typing import Any

from .. import __version__

# those that the Hub may list
METRICS = {"accuracy": "Accuracy", "auroc": "AUROC", "average_precision": "Average precision"}


def model_card(model: Any) -> str:
    """Return the README of a `Classifier`: YAML for the Hub, then text."""
    import yaml

    record = model.record
    lines = [
        "---",
        yaml.safe_dump(_metadata(model), sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
    ]
    lines += [f"# {_plain(', '.join(model.class_names))}", ""]
    lines += [
        f"An image classifier made by wordsight {__version__}: `{model.backbone.architecture}` "
        "with a linear head.",
        "",
    ]
    lines += ["| class | pictures it learned from |", "|---|---|"]
    lines += [f"| {_plain(name)} | {record.images.get(name, 0)} |" for name in model.class_names]
    lines += [
        "",
        f"Supervision: {_plain(record.supervision)}. Recipe: {record.recipe}.",
    ]
    if record.metrics:
        lines += [
            "",
            f"Measured on {record.judged_on}:",
            "",
            "| figure | value |",
            "|---|---|",
        ]
        lines += [
            f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in record.metrics.items()
        ]
    if record.promise is not None:
        lines += ["", f"Promise: {_plain(record.promise.sentence())}"]
    boxes = record.boxes
    if boxes is not None:
        lines += [
            "",
            f"Boxes: learned from {boxes.images} annotated pictures; on "
            f"{boxes.held_out} that a head had not seen, mean IoU",
        ]
        lines[-1] += (
            f" {boxes.mean_iou:.3f} (always the median box: {boxes.median_box_mean_iou:.3f})."
        )
    if record.objects is not None:
        lines += ["", record.objects.sentence()]
    return "\n".join([*lines, *_licences(model), *_use(model), ""])


def _metadata(model: Any) -> dict[str, Any]:
    """Return what the Hub's index wants to know; no licence of the whole, which is its maker's
    to choose.
    """
    metrics = model.record.metrics
    figures = [
        {"type": kind, "value": round(float(metrics[kind]), 4), "name": name}
        for kind, name in METRICS.items()
        if kind in metrics
    ]
    found: dict[str, Any] = {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "wordsight"],
    }
    if figures:
        judged = {
            "name": model.record.judged_on,
            "type": "imagefolder",
        }
        task = {"type": "image-classification", "name": "Image classification"}
        name = " or ".join(model.class_names)
        found["model-index"] = [
            {"name": name, "results": [{"task": task, "dataset": judged, "metrics": figures}]}
        ]
    return found


def _licences(model: Any) -> list[str]:
    found = model.record.licences or {"not recorded": sum(model.record.images.values())}
    lines = ["", "## Licences", "", "| licence | pictures it learned from |", "|---|---|"]
    lines += [f"| {_plain(name)} | {count} |" for name, count in found.items()]
    network = model.backbone.pretrained_cfg.get("license")
    lines += [
        "",
        f"The network's own weights: {network or 'licence not recorded'}. Pictures that ask for "
        "credit have it in their data set's ATTRIBUTION.md.",
    ]
    return lines


def _use(model: Any) -> list[str]:
    opened = (
        (
            "from wordsight.backbones import open_timm\n\ntimm = open_timm()  # with this network "
            "among its own"
        )
        if model.backbone.ours
        else "import timm\n"
    )
    lines = [
        "",
        "## Use",
        "",
        "```python",
        opened,
        'model = timm.create_model("local-dir:PATH", pretrained=True).eval()  # or '
        "hf-hub:OWNER/NAME",
    ]
    lines += ["# in the order of model.pretrained_cfg['label_names']:"]
    lines += [
        f"# probabilities = (model(pixels) / {model.head.temperature:.6g}).softmax(dim=1)",
        "```",
        "",
    ]
    lines += [
        "Its input is the whole picture, not a centre crop; `wordsight.json` has the exact "
        "preprocessing. `wordsight predict PHOTOS -m PATH` says"
    ]
    lines += [
        "nothing where it isn't sure, and `wordsight export PATH` writes ONNX or OpenVINO with "
        "all of that inside."
    ]
    return lines


def _plain(text: object) -> str:
    """Return text that stays text in a Markdown table, whatever a folder was called."""
    return (
        html.escape(" ".join(str(text).split()), quote=False)
        .replace("|", "\\|")
        .replace("`", "&#96;")
        .replace("[", "\\[")
    )
