"""Commands that hand photos, labels and models over: prelabel, sort, keywords, export, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ..core.progress import show_progress
from ..errors import InvalidArgument
from .console import go_offline
from .options import Json, Offline, OptionalModel, Threshold, offer
from .printing import say, show

_MovedPhotos = Annotated[
    Optional[list[str]],
    typer.Option(
        "--photos",
        metavar="DIR",
        help="Where the photos are now, if they were moved; may be given several times.",
    ),
]


def register(app: typer.Typer) -> None:
    """Register these commands in this order."""
    app.command("prelabel")(prelabel_command)
    app.command("sort")(sort_command)
    app.command("keywords")(keywords_command)
    app.command("export")(export_command)
    app.command("serve")(serve_command)


def prelabel_command(
    results: Annotated[
        str, typer.Argument(metavar="RESULTS", help="Results folder, or a .jsonl table in one.")
    ],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="coco, yolo, voc, label-studio, csv or hf; of camera traps: megadetector, "
            "timelapse or camtrap-dp.",
            autocompletion=offer(
                "datasets.formats.list_format_keys", "datasets.surveys.list_survey_keys"
            ),
        ),
    ] = "coco",
    output: Annotated[
        Optional[Path],
        typer.Option("-o", "--output", help="Folder to write. [default: RESULTS/prelabels/FORMAT]"),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Include rejected pictures, under their best guess with its score."
        ),
    ] = False,
    photos: _MovedPhotos = None,
    boxes: Annotated[
        Optional[str],
        typer.Option(
            "--boxes",
            metavar="JSON",
            help="Of megadetector: the detector's file, if it was moved.",
        ),
    ] = None,
    deployments: Annotated[
        Optional[str],
        typer.Option(
            "--deployments",
            metavar="CSV",
            help="Of camtrap-dp: a row a camera, with deploymentID (its folder), latitude and "
            "longitude.",
        ),
    ] = None,
    project: Annotated[
        Optional[str],
        typer.Option(
            "--project",
            metavar="JSON",
            help="Of camtrap-dp: what only you know: contributors, project, taxonomic, licenses.",
        ),
    ] = None,
    timezone: Annotated[
        Optional[str],
        typer.Option(
            "--timezone",
            metavar="ZONE",
            help="Of camtrap-dp: what the cameras' clocks were set to: +01:00, or Europe/Berlin.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write results as labels that other tools can load, with the pictures.

    \b
    Examples:
      wordsight prelabel results/ --format coco
      wordsight prelabel results/ --format label-studio --all -o to-review/
      wordsight prelabel results/detections.jsonl --format yolo
      wordsight train to-review/ -o models/corrected                every format is read again, too
      wordsight prelabel results/ --format megadetector             for Timelapse, as recognitions
      wordsight prelabel results/ --format camtrap-dp --deployments cameras.csv --timezone +01:00

    \b
    Only accepted labels are written, unless --all is given. Pictures are copied; those rotated by
    EXIF are written upright. The formats of camera traps tell of every picture and leave it where
    it is.
    """
    from ..exports.labels import prelabel

    with show_progress() as progress:
        result = prelabel(
            results,
            format,
            output=output,
            all=everything,
            photos=photos,
            boxes=boxes,
            deployments=deployments,
            project=project,
            timezone=timezone,
            progress=progress,
        )
    raise typer.Exit(show(result, as_json))


def sort_command(
    results: Annotated[
        Optional[str],
        typer.Argument(
            metavar="RESULTS",
            help="Folder that run, predict or recognize wrote, or photos that were reviewed or "
            "taught.",
        ),
    ] = None,
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder that gets a folder a class.")
    ],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the photos; the default.")] = False,
    link: Annotated[
        bool,
        typer.Option(
            "--link", help="Link to the photos, by relative paths; in a folder for each label."
        ),
    ] = False,
    move: Annotated[
        bool, typer.Option("--move", help="Say what would be moved; with --yes, move it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --move: do it.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back what was sorted into the folder.")
    ] = False,
    xlsx: Annotated[
        bool, typer.Option("--xlsx", help="Also write photos.xlsx there, a row a photo.")
    ] = False,
    photos: _MovedPhotos = None,
    as_json: Json = False,
) -> None:
    """Put photos into a folder a class: copied, linked or moved, and taken back.

    \b
    Examples:
      wordsight sort results/ -o sorted/
      wordsight sort photos/ -o sorted/ --link                      photos reviewed or taught
      wordsight sort results/ -o sorted/ --move                     says what would be moved
      wordsight sort results/ -o sorted/ --xlsx
      wordsight sort --undo -o sorted/

    \b
    Doubtful photos go to _check/<best guess>/, those that show none of the classes to _none/. What
    people decided counts before what results say. A second file of a name gets ' (2)'. Sidecars
    (.xmp, .aae, .json) go along. If interrupted, the same command continues. --xlsx needs:
    pip install 'wordsight[xlsx]'.
    """
    from ..exports.photos.sorting import sort, undo_sort

    chosen = [way for way, asked in (("copy", copy), ("link", link), ("move", move)) if asked]
    if len(chosen) > 1 or (yes and not move) or (undo and (chosen or xlsx or photos)):
        raise InvalidArgument(
            "One of --copy, --link, --move (with --yes to do it) or --undo says what to do. Leave "
            "out the others."
        )
    if undo:
        with show_progress() as progress:
            undone = undo_sort(output, progress)
        raise typer.Exit(show(undone, as_json))
    if results is None:
        raise InvalidArgument(
            f"What is to be sorted is missing: 'wordsight sort RESULTS -o {output}'."
        )
    with show_progress() as progress:
        result = sort(
            results,
            output,
            how=chosen[0] if chosen else "copy",
            dry_run=move and not yes,
            xlsx=xlsx,
            photos=photos,
            progress=progress,
        )
    raise typer.Exit(show(result, as_json))


def keywords_command(
    results: Annotated[
        str,
        typer.Argument(
            metavar="RESULTS",
            help="Folder that run, predict or recognize wrote, or photos that were reviewed or "
            "taught.",
        ),
    ],
    prefix: Annotated[
        str,
        typer.Option(
            "--prefix", help="Keywords above the labels, with '|' between them; '' for none."
        ),
    ] = "wordsight|",
    embed: Annotated[
        bool,
        typer.Option(
            "--embed", help="Write into the photos' own files, with ExifTool, not into sidecars."
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Write; without it, only say what would be written.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back the keywords that were written for RESULTS.")
    ] = False,
    photos: _MovedPhotos = None,
    as_json: Json = False,
) -> None:
    """Write labels as keywords into photos' sidecars, or into the photos themselves, for Lightroom,
    darktable and digiKam.

    \b
    Examples:
      wordsight keywords results/                      says what would be written
      wordsight keywords results/ --yes
      wordsight keywords photos/ --yes                 photos reviewed or taught
      wordsight keywords results/ --prefix "Animals|" --yes
      wordsight keywords results/ --embed --yes        into the photos' own files
      wordsight keywords results/ --undo               takes exactly that back

    \b
    A label 'cat' becomes the keyword 'cat', in the hierarchy 'wordsight|cat'. What people decided
    counts before what results say. Sidecars that are there (x.jpg.xmp, x.xmp) are extended, and
    all else in them stays as it is; photos themselves change only with --embed. Lightroom reads
    sidecars of raw photos only. If interrupted, the same command continues.
    """
    from ..exports.photos.keywords import PREFIX, undo_keywords, write_keywords

    if undo and (yes or embed or prefix != PREFIX):
        raise InvalidArgument(
            "--undo takes back all keywords that were written for RESULTS. Leave out --yes, "
            "--embed and --prefix."
        )
    if undo:
        with show_progress() as progress:
            undone = undo_keywords(results, photos=photos, progress=progress)
        raise typer.Exit(show(undone, as_json))
    with show_progress() as progress:
        result = write_keywords(
            results,
            prefix=prefix,
            embed=embed,
            dry_run=not yes,
            photos=photos,
            progress=progress,
        )
    raise typer.Exit(show(result, as_json))


def export_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model folder made by 'wordsight train'.")
    ],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="onnx, openvino or torch.export.",
            autocompletion=offer("exports.formats.EXPORT_FORMATS"),
        ),
    ] = "onnx",
    output: Annotated[
        Optional[Path],
        typer.Option(
            "-o",
            "--output",
            help="File to write. [default: MODEL's name with the format's ending, here]",
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            help="f32, or int8: smaller and faster, slightly less exact; needs --data.",
            autocompletion=offer("exports.formats.EXPORT_DTYPES"),
        ),
    ] = "f32",
    data: Annotated[
        Optional[str],
        typer.Option(
            "--data",
            metavar="DATA",
            help="Pictures to calibrate int8 and to test the exported model; its accuracy, too, if "
            "they are labelled.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model as one network that runs without wordsight.

    \b
    Examples:
      wordsight export models/pets                                       pets.onnx
      wordsight export models/pets --format openvino -o serving/pets.xml
      wordsight export models/pets --format openvino --dtype int8 --data data/pets

    \b
    The file includes scaling, class names, calibration, heat maps and the detection of strangers.
    docs/export.md has programs that run it. The export is compared with the original and kept only
    if both give the same answers.
    """
    from ..exports.model import export

    with show_progress() as progress:
        result = export(model, format, output=output, dtype=dtype, data=data, progress=progress)
    raise typer.Exit(show(result, as_json))


def serve_command(
    model: OptionalModel = None,
    classes: Annotated[
        Optional[str],
        typer.Option(
            "-c", "--classes", metavar="WORDS", help="Instead of -m: words to begin with."
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder of what is learned: a model for each project."),
    ] = Path("label-studio"),
    threshold: Threshold = None,
    url: Annotated[
        Optional[str],
        typer.Option(
            "--label-studio-url",
            metavar="URL",
            help="Label Studio's address (also LABEL_STUDIO_URL). [default: what it says itself, "
            "if on this machine]",
        ),
    ] = None,
    token: Annotated[
        Optional[str],
        typer.Option(
            "--token",
            help="Its access token, personal or legacy (better: LABEL_STUDIO_API_KEY, which other "
            "users of this machine don't see).",
        ),
    ] = None,
    local_files: Annotated[
        Optional[Path],
        typer.Option(
            "--local-files",
            metavar="FOLDER",
            help="Its LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, to read such pictures from disk.",
        ),
    ] = None,
    allow_host: Annotated[
        Optional[list[str]],
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Another server that pictures may be read from; may be given several times.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen on; addresses other than this machine's require a password, "
            "which is printed (or WORDSIGHT_TOKEN).",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")] = 9090,
    offline: Offline = False,
) -> None:
    """Suggest labels in Label Studio, and learn from what people annotate there.

    \b
    Examples:
      wordsight serve -m models/pets
      wordsight serve -c "cat,dog" -o learned/
      wordsight serve -m models/pets --local-files /data/photos --host 0.0.0.0

    \b
    It answers Choices and RectangleLabels on an Image. When annotations are finished, a head is
    learned from them in seconds, and answers if it is at least as good; MODEL is never changed.
    What it isn't sure of gets no suggestion, and a low score. Pictures are read from Label Studio
    only, unless --local-files or --allow-host says otherwise. Ctrl-C ends it.
    """
    from ..labelstudio.server import ServeRequest, serve

    go_offline(offline)
    serve(
        ServeRequest(
            model,
            classes,
            output,
            threshold,
            url,
            token,
            local_files,
            allow_host or [],
            host,
            port,
        ),
        say,
    )
