"""The limit: what this machine could do, and our share of it."""

from __future__ import annotations

import json
from pathlib import Path

from common import TEST, TRAIN, section, side, spread, wordsight


@section(
    "*Roofline*: predict with everything drawn, beside what this machine could do",
    ("timm", "torch"),
)
def roofline(work: Path) -> list[str]:
    wordsight("train", TRAIN, "-o", work / "m", work=work)
    sizes = side("parts.py", work / "m", TEST, work / "flops.json", work=work)[1]["sizes"]
    counted = side("flops.py", work / "m", *sizes, work=work)[1]
    (work / "flops.json").write_text(json.dumps(counted))
    told = side("parts.py", work / "m", TEST, work / "flops.json", work=work)[1]
    parts, cores, rate = told["parts"], told["cores"], told["rate"]
    core_ms = sum(parts.values())
    bound = 1000 * cores / core_ms
    arithmetic = told["peak_all"] / told["flops"]
    limits = {
        f"arithmetic in f32: {told['peak_all'] / 1e9:.0f} GFLOP/s of a matrix product on {cores} "
        f"cores, {told['flops'] / 1e9:.2f} GFLOP a photo": arithmetic,
        "the network alone, all cores": told["network"],
        "decoding and resizing alone, all cores": told["decode"],
        f"core-seconds: all parts on one core, {core_ms:.1f} ms, over {cores} cores": bound,
    }
    idle = cores * 1000 / rate * (1 - told["busy"])
    rows = sorted(parts.items(), key=lambda item: -item[1])
    return [
        f"Share of the core-seconds bound: **{spread(told['shares'], 2)}**. The network "
        f"alone, in {told['dtype']}, does **{told['network'] / arithmetic:.2f}** "
        "of what the cores could do in f32.",
        "",
        "| limit | photos/s | predict reaches of it |",
        "|---|---|---|",
        *[f"| {name} | {value:.0f} | {rate / value:.2f} |" for name, value in limits.items()],
        f"| **predict, everything drawn** | **{rate:.0f}** | |",
        "",
        "| part | core-ms a photo, on one core | share |",
        "|---|---|---|",
        *[f"| {name} | {value:.2f} | {value / core_ms:.1%} |" for name, value in rows],
        "",
        f"The whole takes {cores * 1000 / rate:.1f} core-ms a photo where its parts take "
        f"{core_ms:.1f}: {idle:.1f} of the rest the cores wait, the "
        f"remaining {cores * 1000 / rate - core_ms - idle:.1f} the parts cost more when the "
        "cores share caches and memory.",
    ]
