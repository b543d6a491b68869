"""On a GPU: embedding and fine-tuning, beside plain loops over pictures that are on the GPU
already.
"""

from __future__ import annotations

from pathlib import Path

from common import TEST, TRAIN, section, side, times, wordsight


@section(
    "embedding and fine-tuning on a GPU, beside plain loops as timm's benchmark script has them",
    ("timm", "torch", "lightning"),
    usual=False,
)
def gpu(work: Path) -> list[str]:
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("No GPU was found here, so there is nothing to measure.")
    wordsight("train", TRAIN, "-o", work / "m", work=work)
    told = side("torch_speed.py", work / "m", TEST, TRAIN, work / "tuned", work=work)[1]
    rows = [
        ("decoding and resizing alone, all cores", told["decode"], None),
        ("embedding, pictures decoded, f32", told["ours_f32"], told["timm_f32"]),
        ("embedding, pictures decoded, bf16", told["ours_bf16"], told["timm_bf16"]),
        ("from files, bf16", told["files"], told["decode"]),
        ("fine-tuning, second epoch, from files", told["finetune"], told["timm_train"]),
    ]
    return [
        f"{torch.cuda.get_device_name()}. What binds from files: "
        f"{'decoding' if told['decode'] < told['ours_bf16'] else 'the network'}.",
        "",
        "| | images/s | beside: plain loop, or decoding | ratio |",
        "|---|---|---|---|",
        *[
            f"| {name} | {rate:,.0f} | {f'{other:,.0f}' if other else ''} | "
            f"{times(rate / other) if other else ''} |"
            for name, rate, other in rows
        ],
        "",
        f"GPU memory at the most: embedding {told['memory_embedding']:.0f} MiB, fine-tuning "
        f"{told['memory_training']:.0f} MiB.",
    ]
