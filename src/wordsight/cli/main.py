"""The command line: parse, call, print. The work is done behind the public API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ..backbones.backbone import DEFAULT_BACKBONE
from ..core.progress import show_progress
from ..errors import InvalidArgument
from . import data as cli_data, hand_over as cli_hand_over, info as cli_info, see as cli_see
from .console import consent, go_offline, run_app
from .learn import evaluate_command, train_command
from .options import (
    BackboneName,
    DetectorOptions,
    Events,
    Exact,
    Json,
    Mirror,
    Model,
    NoPictures,
    Offline,
    Output,
    OutputAddress,
    Photos,
    Precision,
    Ray,
    RollUp,
    RunsOn,
    Scales,
    Threshold,
    WordsModel,
    numbers,
    offer,
    sides,
    with_groups,
)
from .printing import begin, show
from .verbs import Verbs

if TYPE_CHECKING:
    from ..detection.detector import WindowSettings
    from ..heatmaps.grid import Grid
    from ..heatmaps.heatmap import HeatmapSettings

app = typer.Typer(
    cls=Verbs,
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
    begin()
    if version:
        from .. import __version__

        print(f"wordsight {__version__}")
        raise typer.Exit


@app.command("run")
@with_groups
def run_command(
    *,
    photos: Annotated[
        Optional[list[str]], typer.Argument(help="Folders, files or globs of photos.")
    ] = None,
    classes: Annotated[
        str,
        typer.Option(
            "-c",
            "--classes",
            help="Words separated by commas; a single word is a yes/no question.",
        ),
    ],
    more_photos: Annotated[
        Optional[list[str]],
        typer.Option(
            "-p",
            "--prediction-path",
            "--prediction_path",
            help="Folder, file or glob of photos; may be given several times.",
        ),
    ] = None,
    threshold: Threshold = None,
    precision: Precision = None,
    roll_up: RollUp = None,
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
        typer.Option("-m", "--model", help="A model's folder, or its name in 'wordsight models'."),
    ] = None,
    no_pictures: NoPictures = False,
    events: Events = None,
    gather: Annotated[
        bool,
        typer.Option(
            "--gather",
            help="Gather pictures of the words and learn from them, without asking first.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Use a word of which only a few kinds are known, such as person; 'wordsight words "
            "WORD' names them.",
        ),
    ] = False,
    words_model: WordsModel = None,
    words_model_for: Annotated[
        str,
        typer.Option(
            "--words-model-for",
            help="Which words the text–image model is asked about: unknown ones, or all.",
        ),
    ] = "unknown",
    backbone: BackboneName = DEFAULT_BACKBONE,
    detector: DetectorOptions,
    runs_on: RunsOn,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Recognise words in photos: the whole job in one command.

    \b
    Examples:
      wordsight run -c "cat,dog" -p photos/
      wordsight photos/ -c "cat,dog"                      the same
      wordsight run -c cat -p photos/ -o cats/            is it a cat or not?
      wordsight run -c "brick,tile" -p site/ --data labelled/
      wordsight run -c "deer,fox" -p photos/ --boxes md.json          in MegaDetector's boxes
      wordsight run -c "coyote,dog,cat" -p photos/ --roll-up canine   coyote or dog: a canine
      wordsight run -c "kangaroo,cow" -p photos/ --words-model siglip2    any word; see 'words'

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
    given = [*(photos or []), *(more_photos or [])]
    if not given:
        raise InvalidArgument(
            "No photos were named. Give folders, files or globs of photos: wordsight run -c "
            f'"{classes}" -p photos/.'
        )
    with show_progress() as progress:
        results = run(
            classes,
            given,
            output=output,
            threshold=threshold,
            precision=precision,
            roll_up=roll_up,
            data=data,
            model=None if model is None else runs_on.model(model),
            gather=gather or consent() or False,
            force=force,
            backbone=runs_on.backbone(backbone),
            **detector.chosen(),
            draw=not no_pictures,
            events=events,
            words_model=words_model,
            words_model_for=words_model_for,
            progress=progress,
        )
    raise typer.Exit(show(results, as_json))


app.command("train")(train_command)
cli_data.register(app)
cli_hand_over.register(app)


@dataclass(frozen=True)
class _Look:
    """How `predict` looks at a photo: whole or in parts, and with which heat maps."""

    quadrants: Annotated[
        bool,
        typer.Option(
            "--quadrants",
            help="Also classify each quarter; the surest part gives the answer (parts.csv).",
        ),
    ] = False
    grid: Annotated[
        str,
        typer.Option("--grid", metavar="ROWSxCOLUMNS", help="With --quadrants: how to cut photos."),
    ] = "2x2"
    base_height: Annotated[
        Optional[int],
        typer.Option(
            "--base-height",
            metavar="PIXELS",
            help="With --quadrants: height that photos are scaled to before the cut. [default: the "
            "network's own]",
        ),
    ] = None
    exact: Exact = False
    heatmap: Annotated[
        str,
        typer.Option(
            "--heatmap",
            metavar="METHOD",
            help="auto (one pass where possible), gradcam, gradcam++ or layercam.",
            autocompletion=offer("heatmaps.gradients.list_heatmap_methods"),
        ),
    ] = "auto"
    layer: Annotated[
        Optional[str],
        typer.Option(
            "--layer", help="Layer for heat maps by gradients. [default: chosen automatically]"
        ),
    ] = None
    scales: Scales = "1"
    mirror: Mirror = False

    def heatmaps(self) -> HeatmapSettings:
        """Return how heat maps are made.

        Raises:
            InvalidArgument: if the scales are no numbers.
        """
        from ..heatmaps.heatmap import HeatmapSettings

        return HeatmapSettings(
            self.heatmap, self.layer, numbers(self.scales, "--scales"), self.mirror
        )

    def parts(self) -> Grid | None:
        """Return how photos are cut, or None.

        Raises:
            InvalidArgument: if the grid is none, or is asked for without --quadrants.
        """
        from ..heatmaps.grid import Grid

        if self.quadrants:
            shape = sides(self.grid, "--grid", "ROWSxCOLUMNS")
            return Grid(shape, self.base_height, self.exact)
        if self.exact or self.base_height is not None or self.grid != "2x2":
            raise InvalidArgument(
                "--grid, --base-height and --exact say how --quadrants looks. Add --quadrants, or "
                "leave them out."
            )
        return None


@app.command("predict")
@with_groups
def predict_command(
    photos: Photos,
    model: Model,
    threshold: Threshold = None,
    precision: Precision = None,
    roll_up: RollUp = None,
    output: OutputAddress = "results",
    no_pictures: NoPictures = False,
    events: Events = None,
    *,
    look: _Look,
    detector: DetectorOptions,
    runs_on: RunsOn,
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
      wordsight predict traps/ -m models/deer --events 60s
      wordsight predict street/ -m models/cars --quadrants --base-height 640
      wordsight predict photos/ -m models/deer --boxes md.json        in MegaDetector's boxes
      wordsight predict traps/ -m models/mammals --roll-up canine,feline
      wordsight predict s3://bucket/photos -m models/pets --ray auto -o s3://bucket/results

    \b
    --ray writes only tables, as Parquet, one part for every 500 photos. If interrupted, the same
    command continues.
    """
    from ..classification.photos import predict
    from ..heatmaps.heatmap import HeatmapSettings

    go_offline(offline)
    heatmaps, parts, boxes = look.heatmaps(), look.parts(), detector.chosen()
    if boxes and (ray is not None or parts is not None or heatmaps != HeatmapSettings()):
        raise InvalidArgument(
            "--boxes looks at crops on this machine, with heat maps in one pass. Leave out --ray, "
            "--quadrants and options of heat maps."
        )
    if ray is not None:
        other = parts is not None or events is not None or heatmaps != HeatmapSettings()
        if len(photos) != 1 or other or roll_up is not None:
            raise InvalidArgument(
                "With --ray, one folder or address is predicted, without --quadrants, --events, "
                "--roll-up or options of heat maps. Leave them out."
            )
        from ..distributed.ray import predict as predict_on_ray

        with show_progress() as progress:
            sharded = predict_on_ray(
                photos[0],
                runs_on.model(model),
                output=output,
                threshold=threshold,
                precision=precision,
                ray=ray,
                progress=progress,
            )
        raise typer.Exit(show(sharded, as_json))
    shared: dict[str, Any] = {"output": output, "threshold": threshold, "precision": precision}
    shared["roll_up"] = roll_up
    with show_progress() as progress:
        shared |= {"draw": not no_pictures, "events": events, "progress": progress}
        if boxes:
            from ..traps.photos import predict_boxes

            results = predict_boxes(photos, runs_on.model(model), **boxes, **shared)
        else:
            looks: dict[str, Any] = {"heatmap_settings": heatmaps, "grid": parts}
            results = predict(photos, runs_on.model(model), **looks, **shared)
    raise typer.Exit(show(results, as_json))


@dataclass(frozen=True)
class _Windows:
    """Which windows `detect` looks through."""

    window: Annotated[
        Optional[str],
        typer.Option(
            "--window",
            metavar="WIDTHxHEIGHT",
            help="Smallest window in pixels; one number for a square. [default: a quarter of the "
            "shorter side]",
        ),
    ] = None
    step: Annotated[
        Optional[float],
        typer.Option(
            "--step",
            help="Pixels from one smallest window to the next. [default: an eighth of the window]",
        ),
    ] = None
    levels: Annotated[
        Optional[int],
        typer.Option(
            "--levels",
            help="Levels of the pyramid; 1 means one size of window. [default: as many as fit]",
        ),
    ] = None
    factor: Annotated[
        float, typer.Option("--factor", help="How much larger windows get from level to level.")
    ] = 1.5
    overlap: Annotated[
        float,
        typer.Option(
            "--overlap",
            help="Largest share (0–1) of the smaller of two boxes of a class that may lie in the "
            "other; beyond it the less likely is removed.",
        ),
    ] = 0.5

    def settings(self) -> WindowSettings:
        """Return the windows.

        Raises:
            InvalidArgument: if a size is none.
        """
        from ..detection.detector import WindowSettings

        size = None if self.window is None else sides(self.window, "--window", "WIDTHxHEIGHT")[::-1]
        return WindowSettings(size, self.step, self.levels, self.factor, self.overlap)


@app.command("detect")
@with_groups
def detect_command(
    photos: Photos,
    model: Model,
    threshold: Threshold = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Folder for tables, photos with rectangles and score maps."
        ),
    ] = Path("results"),
    *,
    windows: _Windows,
    exact: Exact = False,
    no_pictures: NoPictures = False,
    runs_on: RunsOn,
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
    from ..detection.detector import detect

    go_offline(offline)
    sought = windows.settings()
    with show_progress() as progress:
        found = detect(
            photos,
            runs_on.model(model),
            output=output,
            threshold=threshold,
            windows=sought,
            exact=exact,
            draw=not no_pictures,
            progress=progress,
        )
    raise typer.Exit(show(found, as_json))


app.command("evaluate")(evaluate_command)
cli_see.register(app)
cli_info.register(app)


def main() -> None:
    """Run the command line and exit with the documented code: 0, 1, 2 or 130."""
    run_app(app)


if __name__ == "__main__":
    main()
