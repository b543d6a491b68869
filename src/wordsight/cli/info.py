"""Commands that show information: words, models, doctor, cache, demo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..core.progress import show_progress
from ..core.summary import Problems, Table, columns
from ..errors import InvalidArgument
from .console import consent, go_offline
from .options import Exif, Json, Offline
from .printing import Plain, say, show


def register(app: typer.Typer) -> None:
    """Register these commands in this order."""
    app.command("words")(words_command)
    app.command("models")(models_command)
    app.command("doctor")(doctor_command)
    app.command("cache")(cache_command)
    app.command("demo")(demo_command)


def words_command(
    word: Annotated[
        Optional[str], typer.Argument(help="A word, such as cat, vehicle or crane#bird.")
    ] = None,
    prepare: Annotated[
        Optional[str],
        typer.Option(
            "--prepare",
            metavar="NAME",
            help="Instead: download a text–image model once, and make it ready to work offline: "
            "siglip2, pe-core-s, pe-core-t, hf-hub:ORGANISATION/NAME or local-dir:FOLDER.",
        ),
    ] = None,
    nouns: Annotated[
        bool,
        typer.Option(
            "--nouns",
            help="With --prepare: also make a table of 20,000 nouns, which then need no text "
            "tower; takes minutes.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --prepare: download without asking first.")
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Look up a word: whether wordsight knows it, which kinds of it, and what is near in meaning.

    \b
    Exit code 2 means that the word is unknown.

    \b
    Examples:
      wordsight words dog
      wordsight words crane                               several meanings, and how to choose
      wordsight words raccoon --json                      a word it doesn't know, and what is near
      wordsight words --prepare siglip2                   any word, by a text–image model

    \b
    --prepare says the size and asks before it downloads; an interrupted download goes on. What it
    leaves works offline: 'wordsight run --words-model NAME'.
    """
    if prepare is not None:
        if word is not None:
            raise InvalidArgument(
                f"--prepare NAME makes a text–image model ready and looks no word up; got '{word}',"
                " too. Leave one of them out."
            )
        go_offline(offline)
        raise typer.Exit(_prepare(prepare, nouns, yes, as_json))
    if nouns or yes:
        raise InvalidArgument(
            "--nouns and --yes go with --prepare NAME. Add it, or leave them out."
        )
    if word is None:
        raise InvalidArgument("Give a word, such as 'wordsight words dog', or --prepare NAME.")
    from ..words.verdicts import EXAMPLES, NARROW, UNKNOWN, judge

    verdict = judge(word)
    lines = [f"{verdict.word}: {verdict.verdict}.", *_senses(verdict.to_dict()["senses"])]
    told = verdict.reason
    if verdict.verdict in (UNKNOWN, NARROW):
        told += f" {EXAMPLES}."
    note = Problems("Note", [("", told)], "") if told else None
    show(Plain(verdict.to_dict(), lines, missing=note), as_json)
    raise typer.Exit(2 if verdict.verdict == UNKNOWN else 0)


def _prepare(name: str, nouns: bool, yes: bool, as_json: bool) -> int:
    """Prepare a text–image model; int8 is calibrated on the demo's photos."""
    from PIL import Image

    from ..towers.preparing import prepare

    photos = sorted((Path(__file__).parent / "demo_photos").glob("*.[jp]*g"))
    with show_progress() as progress:
        ready = prepare(
            name,
            consent=yes or consent() or False,
            nouns=nouns,
            pictures=[Image.open(photo) for photo in photos],
            say=say,
            progress=progress,
        )
    return show(Plain(ready.to_dict(), ready.lines()), as_json)


def _senses(senses: list[dict]) -> Iterator[str]:
    """Yield every meaning of a word and what the backbone knows of it."""
    for sense in senses:
        mark = "→ " if sense["chosen"] else "  "
        yield (
            f"{mark}{sense['name']}  {sense['wnid']}  {', '.join(sense['words'])}: {sense['gloss']}"
        )
        for index, wnid, name in sense["classes"]:
            yield f"      {index:4d}  {wnid}  {name}"
        if not sense["classes"]:
            yield "      the backbone knows nothing of it"


def models_command(as_json: Json = False) -> None:
    """List the models made on this machine and the embedded backbones.

    \b
    Examples:
      wordsight models
      wordsight models --json
    """
    from ..backbones.registry import embedded_backbones
    from ..core.home import models_folder
    from ..training.recipes import list_models

    found = list_models()
    root = models_folder()
    models = [
        {"path": str(path), "classes": names, "supervision": supervision}
        for path, names, supervision in found
    ]
    table = Table(
        ["model", "classes", "learned from"],
        [
            [path.name if path.parent == root else str(path), ", ".join(names), supervision]
            for path, names, supervision in found
        ],
        "No model yet. Make one with 'wordsight train DATA -o MODEL'.",
    )
    where = [f"The newest first. Use one with -m MODEL. Names without a folder lie in '{root}'."]
    note = (
        f"Embedded backbones: {', '.join(embedded_backbones())}. Any other timm name is "
        "downloaded when first used."
    )
    answer = {"models": models, "backbones": embedded_backbones()}
    raise typer.Exit(show(Plain(answer, [*(where if found else []), note], table), as_json))


def doctor_command(
    source: Annotated[
        Optional[str],
        typer.Argument(
            metavar="[FILE_OR_FOLDER]",
            help="A picture, clip, table, annotations or folder to look into.",
        ),
    ] = None,
    exif: Exif = None,
    as_json: Json = False,
) -> None:
    """Check the installation; or say of any input what it is and what is wrong with it.

    The exit code is 1 if something is broken, or if something of the input can't be used.

    \b
    Examples:
      wordsight doctor
      wordsight doctor --json                             to put into a report of a fault
      wordsight doctor export.json                        which format, how many boxes, which not
      wordsight doctor photos/
    """
    if source is not None:
        from ..datasets.inspection import inspect

        raise typer.Exit(show(inspect(source, exif), as_json))
    if exif is not None:
        raise InvalidArgument(
            "--exif says how annotated boxes are meant, so 'doctor' needs the annotations, too. "
            "Add them, or leave --exif out."
        )
    from .doctor import examine

    report = examine()
    table = Table(["", ""], list(_rows(report)))
    raise typer.Exit(show(Plain(report, table=table, complete=not report["problems"]), as_json))


def _rows(report: dict) -> Iterator[list[str]]:
    """Yield table rows: one for each plain value, and one for each entry of a nested one."""
    for key, value in report.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            yield from ([f"{name}: {part}", str(said)] for part, said in value.items())
        else:
            yield from (
                [name, str(said)]
                for said in (value or ["none"] if isinstance(value, list) else [value])
            )


def cache_command(
    clear: Annotated[
        bool,
        typer.Option("--clear", help="Delete all embeddings; they are computed again when needed."),
    ] = False,
) -> None:
    """Show or clear the embeddings kept on this machine.

    \b
    Examples:
      wordsight cache
      wordsight cache --clear
    """
    from ..backbones.cache import EmbeddingCache

    cache = EmbeddingCache()
    if clear:
        print(f"Cleared {cache.clear()} embeddings.")
    else:
        print(
            f"{len(cache)} embeddings in {cache.path}. Clear them with 'wordsight cache --clear'."
        )
    cache.close()


def demo_command(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the photos and the results.")
    ] = Path("wordsight-demo"),
    as_json: Json = False,
) -> None:
    """Run the main job on photos that are already on this machine: offline, in seconds.

    \b
    Examples:
      wordsight demo
      wordsight demo -o /tmp/try
    """
    from .demo import OVERVIEW, demo

    with show_progress() as progress:
        results = demo(output, progress, say)
    if not as_json:
        rows = [
            [
                p.file_name,
                p.label or "none of the words",
                f"{p.probability:.3f}" if p.label else "",
            ]
            for p in results
        ]
        print("\n".join([*columns(Table(["photo", "shows", "probability"], rows)), ""]))
    code = show(results, as_json)
    if not as_json:
        print(f"All in one picture: {output.expanduser() / OVERVIEW}")
    raise typer.Exit(code)
