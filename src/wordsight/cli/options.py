"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, get_type_hints

import typer

from ..errors import InvalidArgument

if TYPE_CHECKING:
    from ..backbones.backbone import Backbone
    from ..classification.classifier import Classifier


def offer(*places: str) -> Callable[[str], list[str]]:
    """Return a shell completion for an option; its modules are loaded only when asked.

    Args:
        places: "module.NAME" within this package: the choices, or a function that returns them.
    """

    def complete(incomplete: str) -> list[str]:
        found: list[str] = []
        for place in places:
            module, _, name = place.rpartition(".")
            value: Any = getattr(importlib.import_module(f"wordsight.{module}"), name)
            choices: Iterable[str] = value() if callable(value) else value
            found += [choice for choice in choices if choice.startswith(incomplete)]
        return found

    return complete


Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable object on stdout.")]
_OUTPUT = typer.Option("-o", "--output", help="Folder for tables, originals, heat maps and masks.")
Output = Annotated[Path, _OUTPUT]
OutputAddress = Annotated[str, _OUTPUT]
_MODEL = typer.Option("-m", "--model", help="A model's folder, or its name in 'wordsight models'.")
Model = Annotated[str, _MODEL]
OptionalModel = Annotated[Optional[str], _MODEL]
Photos = Annotated[list[str], typer.Argument(metavar="PHOTOS...", help="Folders, files or globs.")]
Labelled = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder with one subfolder a class or metadata.csv, or a CSV with file_name "
        "and label.",
    ),
]
NoPictures = Annotated[bool, typer.Option("--no-pictures", help="Write tables only.")]
Threshold = Annotated[
    Optional[float],
    typer.Option(
        "-t",
        "--threshold",
        help="Probability (0–1) from which a label is given. [default: the model's, 0.99]",
    ),
]
Backbones = offer("backbones.registry.embedded_backbones")
BackboneName = Annotated[
    str,
    typer.Option(
        "--backbone",
        help="Network to use: an embedded one, a timm name, hf-hub: or local-dir:.",
        autocompletion=Backbones,
    ),
]
Events = Annotated[
    Optional[str],
    typer.Option(
        "--events",
        metavar="TIME",
        help="One answer, in events.csv, for photos of a folder that were taken at most so long "
        "one after another, such as 60s or 5m.",
    ),
]
NoEvents = Annotated[
    bool,
    typer.Option(
        "--no-events",
        help="Let photos that were taken within a minute of each other come into different parts "
        "(learning, validation, test).",
    ),
]
Precision = Annotated[
    Optional[float],
    typer.Option(
        "--precision",
        help="Instead of a threshold: the share of labels that must be right, 0.5–0.9999, with "
        "95 % confidence.",
    ),
]
RollUp = Annotated[
    Optional[str],
    typer.Option(
        "--roll-up",
        metavar="WORDS",
        help="Words above several classes, such as canine,feline: a photo of which no class is "
        "sure enough gets the narrowest that is.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="auto, openvino (CPU) or torch (GPU).",
        autocompletion=offer("backbones.backbone.ENGINES"),
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="int8, bf16, f32, or auto: int8 where it is faster here, else f32; a model goes on "
        "with what it learned with.",
        autocompletion=offer("backbones.backbone.DTYPES"),
    ),
]


@dataclass(frozen=True)
class RunsOn:
    """Where a network runs, and the type it computes in."""

    engine: Engine = "auto"
    dtype: Dtype = "auto"

    @property
    def chosen(self) -> bool:
        """Whether it is to run otherwise than by default."""
        return self != RunsOn()

    def model(self, path: str) -> str | Classifier:
        """Return a model's folder, or the model loaded to run as chosen."""
        if not self.chosen:
            return path
        from ..classification.classifier import load

        return load(path, engine=self.engine, dtype=self.dtype)

    def backbone(self, name: str) -> str | Backbone:
        """Return a backbone's name, or the backbone prepared to run as chosen."""
        if not self.chosen:
            return name
        from ..backbones.registry import load_backbone

        return load_backbone(name, engine=self.engine, dtype=self.dtype)


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with an option for each field of its dataclass parameters."""
    taken = inspect.signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {}
    flat: list[inspect.Parameter] = []
    for parameter in taken:
        kind = parameter.annotation
        if not is_dataclass(kind):
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = kind
        hints = get_type_hints(kind, include_extras=True)
        flat += [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if one.default is MISSING else one.default,
                annotation=hints[one.name],
            )
            for one in fields(kind)
        ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
        command(**given)

    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run


Host = Annotated[
    str,
    typer.Option(
        "--host",
        help="Address to listen on; addresses other than this machine's require a token.",
    ),
]
Port = Annotated[
    Optional[int],
    typer.Option("--port", help="Port to listen on. [default: 7860, or the next free one]"),
]
WordsModel = Annotated[
    Optional[str],
    typer.Option(
        "--words-model",
        metavar="NAME",
        help="A text–image model for words that wordsight doesn't know, made ready by 'wordsight "
        "words --prepare NAME'.",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Forbid every network access (also WORDSIGHT_OFFLINE=1).")
]
Ray = Annotated[
    Optional[str],
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run on Ray: local (this machine), auto (the running cluster) or a cluster's address.",
    ),
]
Boxes = Annotated[
    Optional[str],
    typer.Option(
        "--boxes",
        metavar="ANNOTATIONS",
        help="Boxes for DATA's pictures: a CSV, COCO .json, folder of VOC .xml or YOLO data.yaml.",
    ),
]


@dataclass(frozen=True)
class DetectorOptions:
    """A detector's boxes, as the first stage of two."""

    boxes: Annotated[
        Optional[str],
        typer.Option(
            "--boxes",
            metavar="JSON",
            help="MegaDetector's JSON of these photos: look at its boxes of animals, not at whole "
            "photos.",
        ),
    ] = None
    box_threshold: Annotated[
        Optional[float],
        typer.Option(
            "--box-threshold",
            help="With --boxes: the detector's confidence (0–1) from which a box counts. "
            "[default: what its file calls typical, or 0.2]",
        ),
    ] = None
    repeats: Annotated[
        str,
        typer.Option(
            "--repeats",
            metavar="auto|keep|CSV",
            help="With --boxes: set aside boxes that recur at one place of one camera (auto), none "
            "(keep), or those of an edited repeats.csv.",
        ),
    ] = "auto"

    def chosen(self) -> dict[str, Any]:
        """Return the arguments that say so in Python; none without --boxes.

        Raises:
            InvalidArgument: if another of them is given without it.
        """
        if self.boxes is not None:
            return {
                "boxes": self.boxes,
                "confidence": self.box_threshold,
                "repeats": self.repeats,
            }
        if self.box_threshold is not None or self.repeats != "auto":
            raise InvalidArgument(
                "--box-threshold and --repeats say how --boxes is read. Add --boxes, or leave them "
                "out."
            )
        return {}


Exif = Annotated[
    Optional[str],
    typer.Option(
        "--exif",
        help="What boxes are drawn on, if EXIF turns a picture and the annotations don't tell: "
        "upright (as turned) or stored (as in the file).",
        autocompletion=offer("datasets.turning.EXIF"),
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Run the network on a true crop of every part, for comparison; far slower.",
    ),
]
Groups = Annotated[
    Optional[list[str]],
    typer.Option(
        "--group",
        metavar="WORD",
        help="Look for anything of this kind: a WordNet word, such as vehicle; may be given "
        "several times.",
    ),
]
Scales = Annotated[
    str, typer.Option("--scales", help="Average heat maps over input scales, such as 1,1.5,2.")
]
Mirror = Annotated[
    bool, typer.Option("--mirror", help="Average heat maps with those of the mirrored photo.")
]


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Parse numbers separated by commas.

    Raises:
        InvalidArgument: if a part isn't a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InvalidArgument(
            f"{option} takes numbers with commas between, such as 1,1.5; got '{text}'."
        ) from None


def sides(text: str, option: str, shape: str) -> tuple[int, int]:
    """Parse two whole numbers separated by an x; a single one counts twice.

    Raises:
        InvalidArgument: if the text has another form.
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(
        part.strip().isascii() and part.strip().isdigit() for part in parts
    ):
        raise InvalidArgument(
            f"{option} takes {shape} in whole numbers, such as 3x2, or one number; got '{text}'."
        )
    return int(parts[0]), int(parts[-1])
