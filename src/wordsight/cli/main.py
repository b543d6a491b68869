"""The command line: parse, call, print. The work is done behind the public API."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..core.home import first_process
from ..core.progress import show_progress
from ..errors import InvalidArgument
from . import data as cli_data, info as cli_info, see as cli_see
from .console import go_offline, run_app
from .options import (
    BackboneName,
    Boxes,
    Dtype,
    Engine,
    Exact,
    Json,
    Mirror,
    NoPictures,
    Offline,
    Output,
    Precision,
    Ray,
    Scales,
    Threshold,
    backbone_for,
    model_for,
    numbers,
    offer,
    sides,
)
from .printing import show

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Words in, sight out: type what you want to recognise, point at photos, see what each "
    "shows and where.",
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from .. import __version__

        print(f"wordsight {__version__}")
        raise typer.Exit


@app.command("run")
def run_command(
    classes: Annotated[
        str,
        typer.Option(
            "-c",
            "--classes",
            help="Words separated by commas; a single word is a yes/no question.",
        ),
    ],
    photos: Annotated[
        list[str],
        typer.Option(
            "-p",
            "--prediction-path",
            "--prediction_path",
            help="Folder, file or glob of photos; may be given several times.",
        ),
    ],
    threshold: Threshold = None,
    output: Output = Path("results"),
    data: Annotated[
        Optional[list[str]],
        typer.Option(
            "--data",
            help="Your labelled pictures: a folder with one subfolder per class, or a CSV; may be "
            "given several times.",
        ),
    ] = None,
    model: Annotated[
        Optional[str],
        typer.Option("-m", "--model", help="A model folder made by 'wordsight train'."),
    ] = None,
    no_pictures: NoPictures = False,
    gather: Annotated[
        bool,
        typer.Option(
            "--gather",
            help="Gather pictures of the words and learn from them, without asking first.",
        ),
    ] = False,
    backbone: BackboneName = DEFAULT_BACKBONE,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Recognise words in photos: the whole job in one command.

    \b
    Examples:
      wordsight run -c "cat,dog" -p photos/
      wordsight run -c cat -p photos/ -o cats/            is it a cat or not?
      wordsight run -c "brick,tile" -p site/ --data labelled/

    \b
    It learns from the first of these that applies, and names it:
      1. labelled pictures given with --data
      2. a model already made for exactly these classes, or -m
      3. what the backbone knows about the words, adapted to your photos: no labelled pictures
      4. pictures of the words from licensed image search, for words it doesn't know; asks first,
      unless --gather is given
    """
    from ..pipeline import run

    go_offline(offline)
    with show_progress() as progress:
        results = run(
            classes,
            photos,
            output=output,
            threshold=threshold,
            data=data,
            model=None if model is None else model_for(model, engine, dtype),
            gather=gather or _consent() or False,
            backbone=backbone_for(backbone, engine, dtype),
            draw=not no_pictures,
            progress=progress,
        )
    raise typer.Exit(show(results, as_json))


@app.command("train")
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
    image_size: Annotated[
        Optional[int],
        typer.Option(
            "--image-size",
            help="Side of the square network input in pixels. [default: the network's own]",
        ),
    ] = None,
    epochs: Annotated[
        Optional[int],
        typer.Option(
            "--epochs",
            help="Most passes over the pictures. [default: finetune 10, scratch 10 or 30]",
        ),
    ] = None,
    lr: Annotated[
        Optional[float],
        typer.Option(
            "--lr", help="Learning rate. [default: finetune 1e-5, scratch 1e-3 or 1.6e-2]"
        ),
    ] = None,
    batch_size: Annotated[
        Optional[int],
        typer.Option(
            "--batch-size", help="Pictures per step. [default: finetune 16, scratch 32 or 64]"
        ),
    ] = None,
    augment: Annotated[
        Optional[bool],
        typer.Option(
            "--augment/--no-augment",
            help="Flip, turn, shift, shear and zoom the training pictures. [default: on, except "
            "for the classic networks]",
        ),
    ] = None,
    patience: Annotated[
        Optional[int],
        typer.Option("--patience", help="Stop after this many epochs without gain. [default: 3]"),
    ] = None,
    budget: Annotated[
        Optional[str],
        typer.Option(
            "--budget", metavar="TIME", help="Time limit for the epochs, such as 90s, 10m or 2h."
        ),
    ] = None,
    continue_from: Annotated[
        Optional[str],
        typer.Option("--continue", metavar="MODEL", help="Continue training from this model."),
    ] = None,
    boxes: Boxes = None,
    from_model: Annotated[
        Optional[str],
        typer.Option(
            "--from",
            metavar="MODEL",
            help="With --boxes: add a box head to this model; its labels stay. [default of -o: "
            "the same folder]",
        ),
    ] = None,
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints", help="Keep every epoch's weights, in MODEL-training beside the model."
        ),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard logs there.")
    ] = False,
    plot_model: Annotated[
        bool,
        typer.Option(
            "--plot-model",
            help="Print a table of the network's layers, and draw them in the model's plots/.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same model.")] = 0,
    no_clean: Annotated[
        bool,
        typer.Option("--no-clean", help="Keep duplicate files and files found in two classes."),
    ] = False,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
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
    from ..training.settings import TrainingSettings, parse_duration

    go_offline(offline)
    budget_s = None if budget is None else parse_duration(budget)
    settings = TrainingSettings(
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        augment=augment,
        patience=patience,
        budget_s=budget_s,
        checkpoints=checkpoints,
        tensorboard=tensorboard,
        continue_from=continue_from,
        seed=seed,
        clean=not no_clean,
        image_size=image_size,
        from_model=from_model,
    )
    network: str | Backbone | None = backbone
    if recipe != "scratch" and from_model is None and (engine, dtype) != ("auto", "f32"):
        network = backbone_for(backbone or DEFAULT_BACKBONE, engine, dtype)
    with show_progress() as progress:
        model = train(
            data,
            output,
            recipe=recipe,
            backbone=network,
            positive=positive,
            negatives=negatives,
            precision=precision,
            boxes=boxes,
            settings=settings,
            progress=progress,
        )
    if plot_model and first_process():
        from ..training.network_summary import draw_network

        assert model.record.path is not None  # it was saved
        layers = draw_network(model.record.path)
        if not as_json:
            print(layers)
    raise typer.Exit(show(model, as_json))


cli_data.register(app)


@app.command("predict")
def predict_command(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTOS...", help="Folders, files or globs.")
    ],
    model: Annotated[
        str, typer.Option("-m", "--model", help="Model folder made by 'wordsight train'.")
    ],
    threshold: Threshold = None,
    precision: Precision = None,
    output: Annotated[
        str,
        typer.Option("-o", "--output", help="Folder for tables, originals, heat maps and masks."),
    ] = "results",
    no_pictures: NoPictures = False,
    quadrants: Annotated[
        bool,
        typer.Option(
            "--quadrants",
            help="Also classify each quarter; the surest part gives the answer (parts.csv).",
        ),
    ] = False,
    grid: Annotated[
        str,
        typer.Option("--grid", metavar="ROWSxCOLUMNS", help="With --quadrants: how to cut photos."),
    ] = "2x2",
    base_height: Annotated[
        Optional[int],
        typer.Option(
            "--base-height",
            metavar="PIXELS",
            help="With --quadrants: height that photos are scaled to before the cut. [default: the "
            "network's own]",
        ),
    ] = None,
    exact: Exact = False,
    heatmap: Annotated[
        str,
        typer.Option(
            "--heatmap",
            metavar="METHOD",
            help="auto (one pass where possible), gradcam, gradcam++ or layercam.",
            autocompletion=offer("heatmaps.gradients.list_heatmap_methods"),
        ),
    ] = "auto",
    layer: Annotated[
        Optional[str],
        typer.Option(
            "--layer", help="Layer for heat maps by gradients. [default: chosen automatically]"
        ),
    ] = None,
    scales: Scales = "1",
    mirror: Mirror = False,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
    ray: Ray = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Label photos with a model you have.

    \b
    Examples:
      wordsight predict photos/ -m models/pets
      wordsight predict 'photos/*.jpg' -m models/pets -t 0.9 -o results/ --json
      wordsight predict photos/ -m models/pets --precision 0.95
      wordsight predict street/ -m models/cars --quadrants --base-height 640
      wordsight predict s3://bucket/photos -m models/pets --ray auto -o s3://bucket/results

    \b
    --ray writes only tables, as Parquet, one part for every 500 photos. If interrupted, the same
    command continues.
    """
    from ..classification.photos import predict
    from ..heatmaps.grid import Grid
    from ..heatmaps.heatmap import HeatmapSettings

    go_offline(offline)
    heatmaps = HeatmapSettings(heatmap, layer, numbers(scales, "--scales"), mirror)
    parts = Grid(sides(grid, "--grid", "ROWSxCOLUMNS"), base_height, exact) if quadrants else None
    if parts is None and (exact or base_height is not None or grid != "2x2"):
        raise InvalidArgument(
            "--grid, --base-height and --exact say how --quadrants looks. Add --quadrants, or "
            "leave them out."
        )
    if ray is not None:
        if len(photos) != 1 or parts is not None or heatmaps != HeatmapSettings():
            raise InvalidArgument(
                "With --ray, one folder or address is predicted, without --quadrants or "
                "options of heat maps. Leave them out."
            )
        from ..distributed.ray import predict as predict_on_ray

        with show_progress() as progress:
            sharded = predict_on_ray(
                photos[0],
                model_for(model, engine, dtype),
                output=output,
                threshold=threshold,
                precision=precision,
                ray=ray,
                progress=progress,
            )
        raise typer.Exit(show(sharded, as_json))
    with show_progress() as progress:
        results = predict(
            photos,
            model_for(model, engine, dtype),
            output=output,
            threshold=threshold,
            precision=precision,
            heatmap_settings=heatmaps,
            grid=parts,
            draw=not no_pictures,
            progress=progress,
        )
    raise typer.Exit(show(results, as_json))


@app.command("detect")
def detect_command(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTOS...", help="Folders, files or globs.")
    ],
    model: Annotated[
        str, typer.Option("-m", "--model", help="Model folder made by 'wordsight train'.")
    ],
    threshold: Threshold = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Folder for tables, photos with rectangles and score maps."
        ),
    ] = Path("results"),
    window: Annotated[
        Optional[str],
        typer.Option(
            "--window",
            metavar="WIDTHxHEIGHT",
            help="Smallest window in pixels; one number for a square. [default: a quarter of the "
            "shorter side]",
        ),
    ] = None,
    step: Annotated[
        Optional[float],
        typer.Option(
            "--step",
            help="Pixels from one smallest window to the next. [default: an eighth of the window]",
        ),
    ] = None,
    levels: Annotated[
        Optional[int],
        typer.Option(
            "--levels",
            help="Levels of the pyramid; 1 means one size of window. [default: as many as fit]",
        ),
    ] = None,
    factor: Annotated[
        float, typer.Option("--factor", help="How much larger windows get from level to level.")
    ] = 1.5,
    overlap: Annotated[
        float,
        typer.Option(
            "--overlap",
            help="Largest share (0–1) of the smaller of two boxes of a class that may lie in the "
            "other; beyond it the less likely is removed.",
        ),
    ] = 0.5,
    exact: Exact = False,
    no_pictures: NoPictures = False,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Find where the classes are in photos, with sliding windows at several sizes.

    \b
    Examples:
      wordsight detect photos/ -m models/brick
      wordsight detect site.jpg -m models/brick --window 200 --step 10 --levels 1 -t 0.9
      wordsight detect photos/ -m models/fruit --no-pictures --json

    \b
    All windows of a size share one pass. A class that means "anything else" (not_brick) is never a
    detection. Boxes are tightened to the heat map within their window.
    """
    from ..detection.detector import WindowSettings, detect

    go_offline(offline)
    size = None if window is None else sides(window, "--window", "WIDTHxHEIGHT")[::-1]
    with show_progress() as progress:
        windows = WindowSettings(size, step, levels, factor, overlap)
        found = detect(
            photos,
            model_for(model, engine, dtype),
            output=output,
            threshold=threshold,
            windows=windows,
            exact=exact,
            draw=not no_pictures,
            progress=progress,
        )
    raise typer.Exit(show(found, as_json))


@app.command("evaluate")
def evaluate_command(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Labelled pictures: a folder with one subfolder per class or metadata.csv, or a "
            "CSV.",
        ),
    ],
    model: Annotated[
        str, typer.Option("-m", "--model", help="Model folder made by 'wordsight train'.")
    ],
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
    scales: Scales = "1",
    mirror: Mirror = False,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
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
    from ..evaluation.classification import evaluate

    go_offline(offline)
    loaded = model_for(model, engine, dtype)
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


cli_see.register(app)
cli_info.register(app)


def _consent():
    """Return a function that asks the person at the terminal, or None without a terminal."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return lambda question: typer.confirm(question, err=True)


def main() -> None:
    """Run the command line and exit with the documented code: 0, 1, 2 or 130."""
    run_app(app)


if __name__ == "__main__":
    main()
