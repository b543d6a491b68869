"""Commands for pretrained networks, clips and the browser: recognize, video, extract, app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..core.progress import show_progress
from ..errors import InvalidArgument
from .console import go_offline
from .options import (
    BackboneName,
    Backbones,
    Groups,
    Host,
    Json,
    NoPictures,
    Offline,
    OptionalModel,
    Photos,
    Port,
    RunsOn,
    WordsModel,
    with_groups,
)
from .printing import say, show


def register(app: typer.Typer) -> None:
    """Register these commands in this order."""
    app.command("recognize")(recognize_command)
    app.command("find")(find_command)
    app.command("video")(video_command)
    app.command("extract")(extract_command)
    app.command("app")(app_command)
    app.command("teach")(teach_command)


@with_groups
def recognize_command(
    photos: Photos,
    top: Annotated[int, typer.Option("--top", help="How many classes to name.")] = 5,
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
            "--quadrants", help="Also classify each quarter of a photo by itself, and draw it."
        ),
    ] = False,
    threshold: Annotated[
        float,
        typer.Option(
            "-t", "--threshold", help="Probability (0–1) from which a group counts as found."
        ),
    ] = 0.75,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for tables and drawn photos.")
    ] = Path("results"),
    no_pictures: NoPictures = False,
    backbone: BackboneName = DEFAULT_BACKBONE,
    *,
    runs_on: RunsOn,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Name what photos show, with a pretrained network.

    \b
    Examples:
      wordsight recognize street.jpg
      wordsight recognize street.jpg --group vehicle                is there a vehicle, and where?
      wordsight recognize photos/ --group vehicle --group building --json
      wordsight recognize street.jpg --class streetcar              where would one see a streetcar?
      wordsight recognize street.jpg --group vehicle --quadrants --backbone vgg16

    \b
    A group sums the probabilities of all classes under a word ('wordsight words vehicle' lists
    them). If the whole photo doesn't clearly show it, windows half as high as the photo are
    searched, too. The surest window or quadrant gives the answer.
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
            backbone=runs_on.backbone(backbone),
            progress=progress,
        )
    raise typer.Exit(show(found, as_json))


@with_groups
def find_command(
    *,
    words: Annotated[
        str,
        typer.Argument(
            metavar="[WORDS]", help="What to look for, in words; needs a text–image model."
        ),
    ] = "",
    photos: Annotated[
        list[str],
        typer.Option(
            "-p",
            "--photos",
            metavar="PHOTOS",
            help="Folder, file or glob of photos; may be given several times.",
        ),
    ],
    like: Annotated[
        Optional[list[str]],
        typer.Option(
            "--like",
            metavar="PHOTO",
            help="What to look for: an example; may be given several times.",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", help="How many photos to find, 1-1000.")] = 50,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the gallery and tables.")
    ] = Path("results"),
    backbone: BackboneName = DEFAULT_BACKBONE,
    words_model: WordsModel = None,
    runs_on: RunsOn,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Find the photos that are most like an example, or that words fit best.

    \b
    Examples:
      wordsight find --like photo.jpg -p photos/
      wordsight find --like photo.jpg -p photos/ --top 200 -o like-this/
      wordsight find --like a.jpg --like b.jpg -p photos/ --json       like both
      wordsight find "red bicycle" -p photos/ --words-model siglip2    once it is prepared

    \b
    It writes found.html (a gallery), found.csv and found.jsonl. A similarity orders photos; it is
    no probability, and the last ones may show anything.
    """
    from ..retrieval.search import find

    go_offline(offline)
    with show_progress() as progress:
        found = find(
            photos,
            words,
            like=like or (),
            top=top,
            output=output,
            backbone=runs_on.backbone(backbone),
            words_model=words_model,
            progress=progress,
        )
    raise typer.Exit(show(found, as_json))


@with_groups
def video_command(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="A video file.")],
    model: OptionalModel = None,
    group: Groups = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            "-o",
            "--output",
            help="The labelled clip, .mp4 or .webm; tables go into a folder with its name. "
            "[default: CLIP-labelled.mp4, here]",
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
        typer.Option("--fps", help="Frames per second to classify and write. [default: every one]"),
    ] = None,
    smooth: Annotated[
        float,
        typer.Option(
            "--smooth",
            metavar="SECONDS",
            help="Smooth probabilities over time: exponential mean with this constant.",
        ),
    ] = 0.0,
    heatmap: Annotated[
        bool, typer.Option("--heatmap", help="Draw heat maps instead of boxes.")
    ] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="Also write each frame as a JPEG.")
    ] = False,
    backbone: Annotated[
        Optional[str],
        typer.Option(
            "--backbone",
            help=f"With --group: the network to use. [default: {DEFAULT_BACKBONE}]",
            autocompletion=Backbones,
        ),
    ] = None,
    *,
    runs_on: RunsOn,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Label each frame of a clip; write the labelled clip, a table and a timeline.

    \b
    Examples:
      wordsight video clip.mp4 -m models/pets -o clip-labelled.mp4
      wordsight video street.mp4 --group vehicle --fps 5 --smooth 0.5
      wordsight video clip.mp4 -m models/pets --heatmap --frames -o out/clip.webm

    \b
    .mp4 is fast to write and plays in players; .webm also plays in browsers and takes a hundred
    times as long to write.
    Sound is not copied. After Ctrl-C, the clip written so far plays.
    """
    from ..core.tables import short_stem
    from ..videos.labelling import VideoDrawing, video

    go_offline(offline)
    network: str | Backbone | None = backbone
    if model is None and group:
        network = runs_on.backbone(backbone or DEFAULT_BACKBONE)
    target = Path(f"{short_stem(Path(clip).stem)}-labelled.mp4") if output is None else output
    with show_progress() as progress:
        seen = video(
            clip,
            output=target,
            model=None if model is None else runs_on.model(model),
            groups=group or (),
            threshold=threshold,
            fps=fps,
            smooth_s=smooth,
            drawing=VideoDrawing(heatmap, frames),
            backbone=network,
            progress=progress,
        )
    raise typer.Exit(show(seen, as_json))


def extract_command(
    clips: Annotated[list[str], typer.Argument(metavar="CLIPS...", help="Video files.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the frames, such as a class folder: data/street/bus.",
        ),
    ],
    fps: Annotated[float, typer.Option("--fps", help="Frames per second to look at.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Save frames of clips as training pictures; of similar frames, only the first.

    \b
    Examples:
      wordsight extract bus.mp4 -o data/street/bus
      wordsight extract cars/*.mp4 -o data/street/car --fps 1
      wordsight train data/street -o models/street

    \b
    Running the same command again adds nothing twice. frames.csv in the folder lists the clip and
    time of each frame.
    """
    from ..videos.frames import extract

    with show_progress() as progress:
        result = extract(clips, output, fps=fps, progress=progress)
    raise typer.Exit(show(result, as_json))


def app_command(
    photos: Annotated[
        Optional[Path],
        typer.Argument(metavar="[PHOTOS]", help="With -c: your photos, in one folder."),
    ] = None,
    classes: Annotated[
        Optional[str],
        typer.Option(
            "-c",
            "--classes",
            metavar="WORDS",
            help="Teach these words on PHOTOS, as 'wordsight teach' does.",
        ),
    ] = None,
    model: Annotated[
        Optional[str],
        typer.Option(
            "-m",
            "--model",
            help="Model folder to offer first. [default: those made on this machine]",
        ),
    ] = None,
    data: Annotated[
        Optional[str],
        typer.Option(
            "--data", metavar="FOLDER", help="Pictures for review and for comparing models."
        ),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = None,
    offline: Offline = False,
) -> None:
    """Open a page in the browser to try, train and compare models and review pictures.

    \b
    Examples:
      wordsight app
      wordsight app photos/ -c kangaroo
          teach a word, as 'wordsight teach -c kangaroo -p photos/' does
      wordsight app -m models/pets --data photos/
          review what it rejected or labelled; kept in photos/metadata.csv
      wordsight app -m models/pets --host 0.0.0.0
          for others, who need the token that is printed (or WORDSIGHT_TOKEN)

    \b
    Needs: pip install 'wordsight[app]'. Pictures are not moved or changed; nothing is sent
    anywhere. Ctrl-C stops it.
    """
    go_offline(offline)
    if photos is not None or classes is not None:
        if photos is None or classes is None or model is not None or data is not None:
            raise InvalidArgument(
                "PHOTOS and -c go together, without -m and --data: 'wordsight app PHOTOS -c WORDS' "
                "teaches words. To review photos with a model: 'wordsight app --data PHOTOS -m "
                "MODEL'."
            )
        teach_command(classes, photos, host=host, port=port, offline=offline)
        return
    from ..webapp.server import app

    app(model, data, host, port, say)


def teach_command(
    classes: Annotated[
        str,
        typer.Option("-c", "--classes", help="Any words, separated by commas."),
    ],
    photos: Annotated[
        Path,
        typer.Option("-p", "--photos", metavar="FOLDER", help="Your photos, in one folder."),
    ],
    output: Annotated[
        Optional[Path],
        typer.Option("-o", "--output", help="Model folder. [default: one named after the words]"),
    ] = None,
    results: Annotated[
        Path, typer.Option("--results", help="Folder of the results that Finish writes.")
    ] = Path("results"),
    data: Annotated[
        Optional[list[str]],
        typer.Option("--data", help="Labelled pictures to begin with, if you have some."),
    ] = None,
    precision: Annotated[
        float,
        typer.Option("--precision", help="Share of the labels that is to be right, 0.5-0.9999."),
    ] = 0.95,
    words_model: WordsModel = None,
    backbone: BackboneName = DEFAULT_BACKBONE,
    host: Host = "127.0.0.1",
    port: Port = None,
    offline: Offline = False,
) -> None:
    """Teach any word in a few key presses, on a page that shows your own photos.

    \b
    Examples:
      wordsight teach -c kangaroo -p photos/
      wordsight teach -c "pallet,crate" -p site/ -o models/site --results site-results/

    \b
    The page asks about the photos it learns most from. When answers change little, it asks about
    random photos of those it would label, until at least 95% are sure to be right. Answers are kept
    in FOLDER/metadata.csv as you give them; the same command goes on. Pictures are not moved or
    changed; nothing is sent anywhere. Ctrl-C stops it.
    """
    from ..webapp.teach_page import open_teaching

    go_offline(offline)
    with show_progress() as progress:
        open_teaching(
            photos,
            classes,
            output=output,
            results=results,
            data=data,
            precision=precision,
            backbone=backbone,
            words_model=words_model,
            host=host,
            port=port,
            say=say,
            progress=progress,
        )
