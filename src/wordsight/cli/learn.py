"""The commands that train a model and measure it: train, evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.devices import need_torch
from ..core.home import first_process
from ..core.progress import show_progress
from ..errors import InvalidArgument
from .console import go_offline
from .options import (
    Boxes,
    Exif,
    Json,
    Mirror,
    Model,
    NoEvents,
    Offline,
    Precision,
    RunsOn,
    Scales,
    Threshold,
    numbers,
    offer,
    with_groups,
)
from .printing import show

if TYPE_CHECKING:
    from ..training.settings import TrainingSettings


@dataclass(frozen=True)
class _Tuning:
    """How a network is trained: what the options of `train` say of it."""

    image_size: Annotated[
        Optional[int],
        typer.Option(
            "--image-size",
            help="Side of the square network input in pixels. [default: the network's own]",
        ),
    ] = None
    epochs: Annotated[
        Optional[int],
        typer.Option(
            "--epochs",
            help="Most passes over the pictures. [default: finetune 10, scratch 10 or 30]",
        ),
    ] = None
    lr: Annotated[
        Optional[float],
        typer.Option(
            "--lr", help="Learning rate. [default: finetune 1e-5, scratch 1e-3 or 1.6e-2]"
        ),
    ] = None
    batch_size: Annotated[
        Optional[int],
        typer.Option(
            "--batch-size", help="Pictures per step. [default: finetune 16, scratch 32 or 64]"
        ),
    ] = None
    augment: Annotated[
        Optional[bool],
        typer.Option(
            "--augment/--no-augment",
            help="Flip, turn, shift, shear and zoom the training pictures. [default: on, except "
            "for the classic networks]",
        ),
    ] = None
    patience: Annotated[
        Optional[int],
        typer.Option("--patience", help="Stop after this many epochs without gain. [default: 3]"),
    ] = None
    budget: Annotated[
        Optional[str],
        typer.Option(
            "--budget", metavar="TIME", help="Time limit for the epochs, such as 90s, 10m or 2h."
        ),
    ] = None
    continue_from: Annotated[
        Optional[str],
        typer.Option("--continue", metavar="MODEL", help="Continue training from this model."),
    ] = None
    boxes: Boxes = None
    exif: Exif = None
    objects: Annotated[
        Optional[str],
        typer.Option(
            "--objects",
            help="With --boxes: learn one object a picture (the largest) or many (all). [default: "
            "many if a picture has several] Without: many, from what is cut out of the pictures.",
            autocompletion=offer("training.settings.OBJECTS"),
        ),
    ] = None
    from_model: Annotated[
        Optional[str],
        typer.Option(
            "--from",
            metavar="MODEL",
            help="With --boxes or --objects many: add a head for boxes to this model; its labels "
            "stay. [default of -o: the same folder]",
        ),
    ] = None
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints", help="Keep every epoch's weights, in MODEL-training beside the model."
        ),
    ] = False
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard logs there.")
    ] = False
    plot_model: Annotated[
        bool,
        typer.Option(
            "--plot-model",
            help="Print a table of the network's layers, and draw them in the model's plots/.",
        ),
    ] = False
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same model.")] = 0
    no_clean: Annotated[
        bool,
        typer.Option("--no-clean", help="Keep duplicate files and files found in two classes."),
    ] = False

    no_events: NoEvents = False

    def settings(self) -> TrainingSettings:
        """Return the settings.

        Raises:
            InvalidArgument: if the budget is no time.
        """
        from ..core.progress import parse_duration
        from ..training.settings import TrainingSettings

        return TrainingSettings(
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            augment=self.augment,
            patience=self.patience,
            budget_s=None if self.budget is None else parse_duration(self.budget),
            checkpoints=self.checkpoints,
            tensorboard=self.tensorboard,
            continue_from=self.continue_from,
            seed=self.seed,
            clean=not self.no_clean,
            image_size=self.image_size,
            events=not self.no_events,
            from_model=self.from_model,
            objects=self.objects,
        )


@with_groups
def train_command(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Folder with one subfolder per class, or a CSV with file_name and label.",
        ),
    ],
    output: Annotated[
        Optional[Path],
        typer.Option(
            "-o",
            "--output",
            help="Model folder. [default: named after the classes, where 'run' finds it]",
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="probe: a head, in seconds; finetune: then the whole network; scratch: from "
            "random weights; auto.",
            autocompletion=offer("training.recipes.RECIPES"),
        ),
    ] = "probe",
    backbone: Annotated[
        Optional[str],
        typer.Option(
            "--backbone",
            help="Network: an embedded one, a timm name, hf-hub: or local-dir:. [default: "
            f"{DEFAULT_BACKBONE}; small_resnet for scratch]",
            autocompletion=offer(
                "backbones.registry.embedded_backbones", "backbones.backbone.SMALL"
            ),
        ),
    ] = None,
    positive: Annotated[
        Optional[str], typer.Option("--positive", help="Train this class against all others.")
    ] = None,
    negatives: Annotated[
        Optional[str],
        typer.Option("--negatives", help="With --positive: a folder of pictures of anything else."),
    ] = None,
    precision: Precision = None,
    *,
    tuning: _Tuning,
    runs_on: RunsOn,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Train a classifier from labelled pictures.

    \b
    Examples:
      wordsight train data/pets -o models/pets            data/pets/cat, data/pets/dog
      wordsight train data/pets -o models/pets --precision 0.99
      wordsight train data/pets -o models/pets --recipe finetune --epochs 5
      wordsight train data/pets -o models/pets2 --recipe finetune --continue models/pets --lr 1e-6
      wordsight train data/walls -o models/brick --positive brick
      wordsight train data/walls -o models/brick --recipe scratch --backbone brick_cnn --plot-model
      wordsight train photos/ --boxes boxes.csv -o models/fruit
          classes and boxes, from one table
      wordsight train photos/ --boxes boxes.csv --from models/pets
          boxes for a model that is there
      torchrun --nproc-per-node 4 -m wordsight train data/pets -o models/pets --recipe finetune

    \b
    If interrupted, the same command continues. Networks for scratch: small_resnet, brick_cnn,
    cifar_cnn, or any timm network.
    Fine-tuning leaves the statistics of batch normalisation unchanged. Its result is kept only if
    the validation loss falls.
    """
    from ..training.recipes import train

    go_offline(offline)
    if tuning.plot_model:  # before hours of training
        need_torch("A drawing of the network", "torchinfo")
    settings = tuning.settings()
    network: str | Backbone | None = backbone
    if recipe != "scratch" and tuning.from_model is None and runs_on.chosen:
        network = runs_on.backbone(backbone or DEFAULT_BACKBONE)
    with show_progress() as progress:
        model = train(
            data,
            output,
            recipe=recipe,
            backbone=network,
            positive=positive,
            negatives=negatives,
            precision=precision,
            boxes=tuning.boxes,
            exif=tuning.exif,
            settings=settings,
            progress=progress,
        )
    if tuning.plot_model and first_process():
        from ..training.network_summary import draw_network

        assert model.record.path is not None  # it was saved
        layers = draw_network(model.record.path)
        if not as_json:
            print(layers)
    raise typer.Exit(show(model, as_json))


@with_groups
def evaluate_command(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Labelled pictures: a folder with one subfolder per class or metadata.csv, or a "
            "CSV.",
        ),
    ],
    model: Model,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Folder for figures, plots, predictions and the worst mistakes."
        ),
    ] = Path("report"),
    threshold: Threshold = None,
    others: Annotated[
        Optional[list[str]],
        typer.Option(
            "--others",
            metavar="DIR",
            help="Pictures that show none of the classes and should get no label; may be given "
            "several times.",
        ),
    ] = None,
    boxes: Boxes = None,
    exif: Exif = None,
    scales: Scales = "1",
    mirror: Mirror = False,
    *,
    runs_on: RunsOn,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Measure a model on labelled pictures it hasn't seen, with 95 % intervals.

    \b
    Examples:
      wordsight evaluate data/test -m models/pets
      wordsight evaluate data/pets -m models/pets -t 0.95
          after 'split', only what is marked test
      wordsight evaluate data/test -m models/pets --others street/ --others food/ -o report/
      wordsight evaluate photos/ -m models/fruit --boxes boxes-test.csv
          how right the boxes are, instead

    \b
    If the model looks for one thing (brick, not_brick), all classes except brick count as
    not_brick.
    """
    from ..datasets.turning import check_exif_has_boxes
    from ..evaluation.classification import evaluate

    go_offline(offline)
    check_exif_has_boxes(exif, boxes)
    loaded = runs_on.model(model)
    if boxes is not None:
        from ..evaluation.boxes import evaluate_boxes
        from ..heatmaps.heatmap import HeatmapSettings

        if others or threshold is not None:
            raise InvalidArgument(
                "--boxes measures boxes whatever the probability, so -t and --others don't go "
                "with it. Leave them out."
            )
        heatmap_settings = HeatmapSettings(scales=numbers(scales, "--scales"), mirror=mirror)
        with show_progress() as progress:
            measured = evaluate_boxes(
                boxes,
                loaded,
                images=data,
                output=output,
                progress=progress,
                heatmap_settings=heatmap_settings,
                exif=exif,
            )
        raise typer.Exit(show(measured, as_json))
    if mirror or scales != "1":
        raise InvalidArgument(
            "--scales and --mirror say how heat maps are made, which only --boxes measures. "
            "Add it, or leave them out."
        )
    with show_progress() as progress:
        result = evaluate(
            data, loaded, output=output, threshold=threshold, others=others, progress=progress
        )
    raise typer.Exit(show(result, as_json))
