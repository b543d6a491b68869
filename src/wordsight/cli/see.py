"""The commands that look with a known network, at clips or in a browser: recognize, video,
extract, app.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ..backbones.registry import DEFAULT_BACKBONE, Backbone
from ..core.progress import show_progress
from .console import go_offline
from .options import (
    BackboneName,
    Backbones,
    Dtype,
    Engine,
    Groups,
    Json,
    NoPictures,
    Offline,
    backbone_for,
)
from .printing import print_extraction, print_video, say, show


def register(app: typer.Typer) -> None:
    """Add these commands, in this order."""
    app.command("recognize")(recognize_command)
    app.command("video")(video_command)
    app.command("extract")(extract_command)
    app.command("app")(app_command)


def recognize_command(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTOS...", help="Folders, files or globs.")
    ],
    top: Annotated[int, typer.Option("--top", help="How many classes are named.")] = 5,
    group: Groups = None,
    class_name: Annotated[
        Optional[str],
        typer.Option(
            "--class",
            metavar="NAME",
            help="Draw the heat map of this class, likely or not: a name, a word or a WordNet id.",
        ),
    ] = None,
    quadrants: Annotated[
        bool,
        typer.Option(
            "--quadrants", help="Look at each quarter of a photo by itself, too, and draw it."
        ),
    ] = False,
    threshold: Annotated[
        float,
        typer.Option("-t", "--threshold", help="Probability (0–1) from which a group is found."),
    ] = 0.75,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for tables and drawn photos.")
    ] = Path("results"),
    no_pictures: NoPictures = False,
    backbone: BackboneName = DEFAULT_BACKBONE,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Say what photos show in the words of a pretrained network; needs no model of yours.

    \b
    Examples:
      wordsight recognize street.jpg
      wordsight recognize street.jpg --group vehicle                is there a vehicle, and where?
      wordsight recognize photos/ --group vehicle --group building --json
      wordsight recognize street.jpg --class streetcar              where would one see a streetcar?
      wordsight recognize street.jpg --group vehicle --quadrants --backbone vgg16

    \b
    A group sums the probabilities of all classes under a word ('wordsight words vehicle' lists
    them), and is looked for more
    closely, too, through windows half as high as the photo: where one of them, or a quadrant, is
    surer, that is the answer.
    """
    from ..recognition.photos import recognize

    go_offline(offline)
    with show_progress() as progress:
        found = recognize(
            photos,
            group or (),
            top=top,
            class_name=class_name,
            output=output,
            threshold=threshold,
            quadrants=quadrants,
            draw=not no_pictures,
            backbone=backbone_for(backbone, engine, dtype),
            progress=progress,
        )
    raise typer.Exit(show(found, as_json))


def video_command(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="A video file.")],
    model: Annotated[
        Optional[str], typer.Option("-m", "--model", help="Model folder made by 'wordsight train'.")
    ] = None,
    group: Groups = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            "-o",
            "--output",
            help="The labelled clip, .mp4 or .webm; tables go into a folder of its name. [default: "
            "CLIP-labelled.mp4, here]",
        ),
    ] = None,
    threshold: Annotated[
        Optional[float],
        typer.Option(
            "-t",
            "--threshold",
            help="Probability (0–1) from which a label is given. [default: the model's; for groups "
            "0.75]",
        ),
    ] = None,
    fps: Annotated[
        Optional[float],
        typer.Option("--fps", help="Frames a second to look at and to write. [default: every one]"),
    ] = None,
    smooth: Annotated[
        float,
        typer.Option(
            "--smooth",
            metavar="SECONDS",
            help="Smooth probabilities over time: an exponential mean of this constant.",
        ),
    ] = 0.0,
    heatmap: Annotated[
        bool, typer.Option("--heatmap", help="Draw heat maps instead of boxes.")
    ] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="Write each frame as JPEG, too.")
    ] = False,
    backbone: Annotated[
        Optional[str],
        typer.Option(
            "--backbone",
            help=f"With --group: network to look with. [default: {DEFAULT_BACKBONE}]",
            autocompletion=Backbones,
        ),
    ] = None,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Say what each frame of a clip shows, and write the clip with its labels, a table of frames
    and a timeline.

    \b
    Examples:
      wordsight video clip.mp4 -m models/pets -o clip-labelled.mp4
      wordsight video street.mp4 --group vehicle --fps 5 --smooth 0.5
      wordsight video clip.mp4 -m models/pets --heatmap --frames -o out/clip.webm

    \b
    .mp4 is quick to write and plays in players; .webm plays in browsers, too, and takes a hundred
    times as long to write.
    Sound is not copied. Ctrl-C leaves a clip that plays.
    """
    from ..classification.classifier import load
    from ..core.tables import short_stem
    from ..videos.labelling import video

    go_offline(offline)
    network: str | Backbone | None = backbone
    if model is None and group:
        network = backbone_for(backbone or DEFAULT_BACKBONE, engine, dtype)
    target = Path(f"{short_stem(Path(clip).stem)}-labelled.mp4") if output is None else output
    with show_progress() as progress:
        seen = video(
            clip,
            output=target,
            model=None if model is None else load(model, engine=engine, dtype=dtype),
            groups=group or (),
            threshold=threshold,
            fps=fps,
            smooth_s=smooth,
            heatmap=heatmap,
            frames=frames,
            backbone=network,
            progress=progress,
        )
    print_video(seen, as_json)


def extract_command(
    clips: Annotated[list[str], typer.Argument(metavar="CLIPS...", help="Video files.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the frames, such as that of a class: data/street/bus.",
        ),
    ],
    fps: Annotated[float, typer.Option("--fps", help="Frames a second to look at.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Take frames of clips as pictures to learn from; of frames that look alike the first stays.

    \b
    Examples:
      wordsight extract bus.mp4 -o data/street/bus
      wordsight extract cars/*.mp4 -o data/street/car --fps 1
      wordsight train data/street -o models/street

    \b
    The same command adds nothing twice. frames.csv in the folder says which clip and time each
    frame came from.
    """
    from ..videos.frames import extract

    with show_progress() as progress:
        result = extract(clips, output, fps=fps, progress=progress)
    print_extraction(result, as_json)


def app_command(
    model: Annotated[
        Optional[str],
        typer.Option(
            "-m",
            "--model",
            help="Model folder that is offered first. [default: those made on this machine]",
        ),
    ] = None,
    data: Annotated[
        Optional[str],
        typer.Option(
            "--data", metavar="FOLDER", help="Pictures to review and to compare models on."
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen on; from any but this machine's own a token is demanded.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        Optional[int],
        typer.Option("--port", help="Port to listen on. [default: 7860, or the next that is free]"),
    ] = None,
    offline: Offline = False,
) -> None:
    """Open a page in the browser: try a model, train one, review doubtful pictures by keyboard,
    compare two models.

    \b
    Examples:
      wordsight app
      wordsight app -m models/pets --data photos/
          review what it rejected or labelled; kept in photos/metadata.csv
      wordsight app -m models/pets --host 0.0.0.0
          for others, who need the token that is printed (or WORDSIGHT_TOKEN)

    \b
    Needs: pip install 'wordsight[app]'. No picture is moved or changed, nothing is sent anywhere.
    Ctrl-C ends it.
    """
    from ..webapp.server import app

    go_offline(offline)
    app(model, data, host, port, say)
