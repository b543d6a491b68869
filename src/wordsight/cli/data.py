"""Commands that make and clean data sets: gather, clean, split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from ..backbones.backbone import DEFAULT_BACKBONE
from ..core.progress import show_progress
from ..core.summary import Problems, Table
from ..errors import InvalidArgument, NothingGathered
from .console import go_offline
from .options import (
    BackboneName,
    Engine,
    Json,
    Labelled,
    NoEvents,
    Offline,
    Ray,
    RunsOn,
    offer,
    with_groups,
)
from .printing import Plain, say, show


def register(app: typer.Typer) -> None:
    """Register these commands in this order."""
    app.command("gather")(gather_command)
    app.command("clean")(clean_command)
    app.command("split")(split_command)


def gather_command(
    classes: Annotated[
        str,
        typer.Argument(metavar="WORDS", help="Words separated by commas; each becomes a class."),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder of the data set, one subfolder per class."),
    ],
    source: Annotated[
        Optional[list[str]],
        typer.Option(
            "--source",
            help="openverse, commons, ddgs, icrawler, urls:FILE or folder:FOLDER; may be given "
            "several times. [default: openverse, commons]",
            autocompletion=offer("gathering.sources.list_sources"),
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", help="Unique usable pictures wanted for each class.")
    ] = 600,
    license: Annotated[
        str,
        typer.Option(
            "--license", help="any, commercial, or codes separated by commas, such as by,cc0."
        ),
    ] = "any",
    min_size: Annotated[int, typer.Option("--min-size", help="Shortest side, in pixels.")] = 224,
    negatives: Annotated[
        int,
        typer.Option(
            "--negatives",
            help="Pictures of anything else, as another class: for 'brick or not brick'.",
        ),
    ] = 0,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Gather pictures of words from licensed image search until there are enough.

    \b
    Examples:
      wordsight gather "cat,dog" -o data/pets
      wordsight gather brick -o data/brick --negatives 600 --license commercial
      wordsight gather "cat,dog" -o data/pets --source urls:list.csv

    \b
    If interrupted, the same command continues. metadata.csv and ATTRIBUTION.md name the author of
    each picture. Set WORDSIGHT_CONTACT to your e-mail address: sites serve identified clients
    better.
    """
    from ..gathering.collector import gather
    from ..gathering.funnel import Gathered
    from ..gathering.request import GatherSettings
    from ..gathering.sources import DEFAULT_SOURCES

    go_offline(offline)
    with show_progress() as progress:
        try:
            result = gather(
                classes,
                output,
                sources=source or DEFAULT_SOURCES,
                limit=limit,
                negatives=negatives,
                settings=GatherSettings(license, min_size),
                progress=progress,
                say=say,
            )
        except NothingGathered as error:
            if isinstance(error.gathered, Gathered):
                show(error.gathered, as_json)
            raise
    raise typer.Exit(show(result, as_json))


@with_groups
def clean_command(
    data: Labelled,
    output: Annotated[
        Optional[str],
        typer.Option("-o", "--output", help="Folder of the report. [default: DATA-clean-report]"),
    ] = None,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply", help="Move the findings to DATA-rejected beside DATA; nothing is deleted."
        ),
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Put back everything that --apply moved.")
    ] = False,
    reasons: Annotated[
        Optional[str],
        typer.Option("--reasons", help="Only these reasons, separated by commas. [default: all]"),
    ] = None,
    min_size: Annotated[int, typer.Option("--min-size", help="Shortest side in pixels.")] = 224,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance",
            help="Cut all classes to the size of the smallest, most redundant pictures first.",
        ),
    ] = False,
    convert: Annotated[
        Optional[Path],
        typer.Option(
            "--convert",
            metavar="FOLDER",
            help="Copy DATA as upright sRGB JPEGs to a new folder, and do nothing else.",
        ),
    ] = None,
    max_side: Annotated[
        int, typer.Option("--max-side", help="Longest side of converted pictures, in pixels.")
    ] = 320,
    backbone: BackboneName = DEFAULT_BACKBONE,
    *,
    runs_on: RunsOn,
    ray: Ray = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Find pictures that don't belong in a data set, and set them aside if asked.

    \b
    Examples:
      wordsight clean data/pets                           a report, in data/pets-clean-report
      wordsight clean data/pets --apply --reasons duplicate,near_duplicate,undecodable
      wordsight clean data/pets --undo
      wordsight clean data/pets --convert data/pets-320
      wordsight clean s3://bucket/pets --ray auto -o s3://bucket/pets-report
    """
    from ..cleaning import cleaner as cleaning

    go_offline(offline)
    if ray is not None and (undo or convert is not None):
        raise InvalidArgument(
            "--ray looks at pictures; --undo and --convert don't. Leave out one of them."
        )
    if convert is not None:
        from ..datasets.conversion import convert as copy_converted

        with show_progress() as progress:
            unreadable = copy_converted(data, convert, max_side=max_side, progress=progress)
        left_out = Problems("Left out, unreadable", unreadable, "--json's answer")
        answer = {"output": str(convert), "unreadable": unreadable}
        converted = Plain(
            answer, [f"Converted: {convert}/"], missing=left_out, complete=not unreadable
        )
        raise typer.Exit(show(converted, as_json))
    if undo:
        from ..cleaning.setting_aside import undo as put_back

        names = put_back(data)
        undone = Plain({"put_back": names}, [f"Put back: {len(names)} files."])
        raise typer.Exit(show(undone, as_json))
    with show_progress() as progress:
        asked: dict[str, Any] = {
            "apply": apply,
            "reasons": None if reasons is None else reasons.split(","),
            "min_size": min_size,
            "balance": balance,
            "backbone": runs_on.backbone(backbone),
            "progress": progress,
        }
        if ray is None:
            result = cleaning.clean(data, output, **asked)
        else:
            from ..distributed.ray import clean

            result = clean(data, output, ray=ray, **asked)
    raise typer.Exit(show(result, as_json))


def split_command(
    data: Labelled,
    val: Annotated[float, typer.Option("--val", help="Share for validation, 0–1.")] = 0.1,
    test: Annotated[
        float, typer.Option("--test", help="Share for testing, 0–1; 'train' leaves it out.")
    ] = 0.2,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same split.")] = 0,
    no_events: NoEvents = False,
    backbone: BackboneName = DEFAULT_BACKBONE,
    engine: Engine = "auto",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Split a data set into train, val and test, in metadata.csv. Copies stay together, and photos
    that were taken within a minute of each other.

    \b
    Examples:
      wordsight split data/pets
      wordsight split data/pets --val 0 --test 0.25 --seed 1
    """
    from ..cleaning.splitting import split

    go_offline(offline)
    with show_progress() as progress:
        counts = split(
            data,
            val=val,
            test=test,
            seed=seed,
            backbone=RunsOn(engine).backbone(backbone),
            events=not no_events,
            progress=progress,
        )
    names = list(counts["train"])
    rows = [
        [part, *(str(row[name]) for name in names), str(sum(row.values()))]
        for part, row in counts.items()
    ]
    unused = counts.unused
    listed = [{"file_name": name, "reason": reason} for name, reason in unused]
    divided = Plain(
        {**counts, "unused": listed} if unused else counts,
        table=Table(["split", *names, "all"], rows),
        missing=Problems("No split, unreadable", unused, "--json's answer"),
        complete=not unused,
    )
    raise typer.Exit(show(divided, as_json))
