"""Options that several commands share, so that they read and mean the same in each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable object on stdout.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for tables, originals, heat maps and masks.")]
NoPictures = Annotated[bool, typer.Option("--no-pictures", help="Write tables only.")]
Threshold = Annotated[Optional[float], typer.Option("-t", "--threshold", help="Probability (0–1) from which a label is given. [default: the model's, 0.99]")]  # noqa: UP045
BackboneName = Annotated[str, typer.Option("--backbone", help="Network to look with: embedded, timm's, hf-hub: or local-dir:.")]
Precision = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--precision", help="Instead of a threshold: the share of labels that must be right, 0.5–0.9999, kept at 95 % confidence."),
]
Engine = Annotated[str, typer.Option("--engine", help="auto, openvino (CPU) or torch (GPU).")]
Dtype = Annotated[str, typer.Option("--dtype", help="f32, or bf16: faster where the processor has it, slightly less exact.")]
Offline = Annotated[bool, typer.Option("--offline", help="Forbid every network access (also WORDSIGHT_OFFLINE=1).")]
