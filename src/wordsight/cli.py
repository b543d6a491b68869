"""The command line: parse, call, print. What commands do lives behind the public API."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional

import typer

from .backbones import DEFAULT_BACKBONE
from .errors import InvalidArgument, WordsightError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Words in, sight out: type what you want to recognise, point at photos, see what each shows and where.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable object on stdout.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for tables, originals, heat maps and masks.")]
NoPictures = Annotated[bool, typer.Option("--no-pictures", help="Write tables only.")]
Threshold = Annotated[Optional[float], typer.Option("-t", "--threshold", help="Probability (0–1) from which a label is given. [default: 0.99]")]  # noqa: UP045
BackboneName = Annotated[str, typer.Option("--backbone", help="Network to look with: embedded, timm's, hf-hub: or local-dir:.")]
Engine = Annotated[str, typer.Option("--engine", help="auto, openvino (CPU) or torch (GPU).")]
Dtype = Annotated[str, typer.Option("--dtype", help="f32, or bf16: faster where the processor has it, slightly less exact.")]
Offline = Annotated[bool, typer.Option("--offline", help="Forbid every network access (also WORDSIGHT_OFFLINE=1).")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        from . import __version__

        print(f"wordsight {__version__}")
        raise typer.Exit


@app.command("run")
def run_command(
    classes: Annotated[str, typer.Option("-c", "--classes", help="Words with commas between; one word alone is a yes/no question.")],
    photos: Annotated[
        list[str], typer.Option("-p", "--prediction-path", "--prediction_path", help="Folder, file or glob of photos; may be given several times.")
    ],
    threshold: Threshold = None,
    output: Output = Path("results"),
    data: Annotated[Optional[str], typer.Option("--data", help="Your labelled pictures: a folder with one subfolder a class, or a CSV.")] = None,  # noqa: UP045
    model: Annotated[Optional[str], typer.Option("-m", "--model", help="A model folder made by 'wordsight train'.")] = None,  # noqa: UP045
    no_pictures: NoPictures = False,
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
    What it learns from, the first that applies, and it says which:
      1. labelled pictures given with --data
      2. a model already made for exactly these classes, or -m
      3. what the backbone knows of the words, adapted to your photos: no labelled picture needed
    """
    from .routes import run
    from .training import Embedding

    _go_offline(offline)
    with _progress() as progress:
        how = Embedding(backbone, engine, dtype, progress)
        results = run(classes, photos, output, threshold, data, model, not no_pictures, how, _say)
    _print_results(results, as_json)


@app.command("train")
def train_command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder with one subfolder a class, or a CSV with file_name and label.")],
    output: Annotated[Optional[Path], typer.Option("-o", "--output", help="Model folder. [default: named after the classes, where 'run' finds it]")] = None,  # noqa: UP045
    recipe: Annotated[str, typer.Option("--recipe", help="probe: a linear head on the backbone's embeddings, in seconds.")] = "probe",
    backbone: BackboneName = DEFAULT_BACKBONE,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same model.")] = 0,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Train a classifier from labelled pictures.

    \b
    Examples:
      wordsight train data/pets -o models/pets            data/pets/cat, data/pets/dog
      wordsight predict photos/ -m models/pets
    """
    from .training import train

    _go_offline(offline)
    with _progress() as progress:
        model = train(data, output, recipe, backbone, seed, engine, dtype, progress)
    _print_training(model, as_json)


@app.command("predict")
def predict_command(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTOS...", help="Folders, files or globs.")],
    model: Annotated[str, typer.Option("-m", "--model", help="Model folder made by 'wordsight train'.")],
    threshold: Threshold = None,
    output: Output = Path("results"),
    no_pictures: NoPictures = False,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Say what each photo shows, with a model you have.

    \b
    Examples:
      wordsight predict photos/ -m models/pets
      wordsight predict 'photos/*.jpg' -m models/pets -t 0.9 -o results/ --json
    """
    from .classifier import load

    _go_offline(offline)
    with _progress() as progress:
        results = load(model).predict(photos, threshold, output, not no_pictures, engine, dtype, progress)
    _print_results(results, as_json)


@app.command("words")
def words_command(
    word: Annotated[str, typer.Argument(help="A word, such as cat, vehicle or crane#bird.")],
    as_json: Json = False,
) -> None:
    """Show what the backbone knows under a word.

    \b
    Examples:
      wordsight words dog
      wordsight words crane                               several meanings, and how to choose
    """
    from .vocabulary import explain

    report = explain(word)
    if as_json:
        print(json.dumps(report))
    else:
        _print_senses(report)
    if not any(sense["chosen"] for sense in report["senses"]):
        print(f"Note: {report['message']}", file=sys.stderr)


@app.command("models")
def models_command(as_json: Json = False) -> None:
    """List the models made on this machine and the embedded backbones."""
    from .backbones import embedded_backbones
    from .training import list_models

    models = [{"path": str(path), "classes": names, "supervision": supervision} for path, names, supervision in list_models()]
    if as_json:
        print(json.dumps({"models": models, "backbones": embedded_backbones()}))
        return
    rows = [[", ".join(names), supervision, str(path)] for path, names, supervision in list_models()]
    _print_table(["classes", "learned from", "folder"], rows, "No model yet. Make one with 'wordsight train DATA -o MODEL'.")
    print(f"Embedded backbones: {', '.join(embedded_backbones())}. Any other timm name is downloaded when first used.")


@app.command("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Say what is installed, which engine runs, and what is kept where."""
    from .doctor import examine

    report = examine()
    if as_json:
        print(json.dumps(report))
        return
    _print_table(["", ""], [[key.replace("_", " "), str(value)] for key, value in report.items()], "")


@app.command("cache")
def cache_command(
    clear: Annotated[bool, typer.Option("--clear", help="Forget all embeddings; they are computed again when needed.")] = False,
) -> None:
    """Show or clear the embeddings kept on this machine."""
    from .cache import EmbeddingCache

    cache = EmbeddingCache()
    if clear:
        print(f"Cleared {cache.clear()} embeddings.")
    else:
        print(f"{len(cache)} embeddings in {cache.path}. Clear them with 'wordsight cache --clear'.")
    cache.close()


@app.command("demo")
def demo_command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the photos and the results.")] = Path("wordsight-demo"),
    as_json: Json = False,
) -> None:
    """Do the main job on photos that are already on this machine: offline, in seconds."""
    from .demo import demo

    with _progress() as progress:
        results = demo(output, progress, _say)
    if not as_json:
        rows = [[p.file_name, p.label or "–", f"{p.probability:.3f}", "" if p.label else str(p.top_label)] for p in results]
        _print_table(["photo", "shows", "probability", "best guess of the rejected"], rows, "")
    _print_results(results, as_json)


def _go_offline(offline: bool) -> None:
    if offline:
        os.environ["WORDSIGHT_OFFLINE"] = "1"


def _progress():
    from .progress import show_progress

    return show_progress()


def _say(line: str) -> None:
    print(_printable(line), file=sys.stderr, flush=True)


def _print_results(results: Any, as_json: bool) -> NoReturn:
    """Print the closing table, and exit with 1 where something could not be read."""
    from .results import summary

    counts = results.counts
    if counts.unreadable and len(counts.unreadable) == counts.total:
        name, reason = counts.unreadable[0]
        raise InvalidArgument(f"None of the {counts.total} pictures can be read; the first: '{name}': {reason}. All are listed in {results.output}.")
    if as_json:
        print(json.dumps(summary(results)))
    else:
        rows = [[name, str(counts.accepted[name])] for name in results.class_names]
        rows += [["rejected: not sure enough", str(counts.unsure)], ["rejected: resembles none of them", str(counts.strangers)]]
        rows += [["unreadable", str(len(counts.unreadable))], ["total", str(counts.total)]]
        _print_table([f"label (probability ≥ {results.threshold:g})", "photos"], rows, "")
        if counts.skipped:
            print(f"{len(counts.skipped)} other files are no pictures" + (" (listed in skipped.csv)." if results.output else "."))
        print(f"Results: {_printable(results.output)}/predictions.csv, predictions.jsonl{_drawn(results.copied_bytes)}")
    for name, reason in counts.unreadable[:10]:
        _say(f"Unreadable: {name}: {reason}")
    if len(counts.unreadable) > 10:
        _say(f"… and {len(counts.unreadable) - 10} more; see the error column of predictions.csv.")
    raise typer.Exit(1 if counts.unreadable else 0)


def _drawn(copied_bytes: int | None) -> str:
    if copied_bytes is None:
        return ""
    cost = f"copies of your photos, {copied_bytes / 2**20:.0f} MiB" if copied_bytes else "links to your photos, no space used"
    return f", images/ ({cost}), heatmaps/, masks/"


def _print_training(model: Any, as_json: bool) -> None:
    info = model.info
    if as_json:
        print(json.dumps({"classes": model.class_names, **{k: info[k] for k in ("path", "recipe", "pictures", "unreadable", "metrics")}}))
        raise typer.Exit(1 if info["unreadable"] else 0)
    _print_table(["class", "pictures"], [[name, str(count)] for name, count in info["pictures"].items()], "")
    metrics = info["metrics"]
    print(
        f"On held-out folds: {metrics['accuracy']:.1%} right; "
        f"at 0.99, {metrics['coverage']:.1%} accepted and {metrics['selective_accuracy']:.2%} of those right."
    )
    for name, reason in info["unreadable"][:10]:
        _say(f"Left out, unreadable: {name}: {reason}")
    if len(info["unreadable"]) > 10:
        _say(f"… and {len(info['unreadable']) - 10} more, listed in the model's wordsight.json.")
    print(f"Model: {_printable(info['path'])}")
    raise typer.Exit(1 if info["unreadable"] else 0)


def _print_senses(report: dict) -> None:
    for sense in report["senses"]:
        mark = "→ " if sense["chosen"] else "  "
        print(f"{mark}{sense['name']}  {sense['wnid']}  {', '.join(sense['words'])}: {sense['gloss']}")
        for index, wnid, name in sense["classes"]:
            print(f"      {index:4d}  {wnid}  {name}")
        if not sense["classes"]:
            print("      the backbone knows nothing of it")


def _print_table(headings: list[str], rows: list[list[str]], empty: str) -> None:
    if not rows:
        print(empty)
        return
    widths = [max(len(_printable(cell)) for cell in column) for column in zip(headings, *rows, strict=True)]
    if any(headings):
        print("  ".join(heading.ljust(width) for heading, width in zip(headings, widths, strict=True)).rstrip())
        print("  ".join("─" * width for width in widths))
    for row in rows:
        print("  ".join(_printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _printable(text: object) -> str:
    """Return text that a terminal shows on one line: no control characters, no broken encoding."""
    plain = str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "�" for c in plain)


class _Sayer(logging.Handler):
    """Prints what the library logs, such as that a first use takes longer."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(record.getMessage())


@contextlib.contextmanager
def _quiet_native_libraries():
    """Let only Python write to standard error: image libraries complain there of every broken file, in their own words."""
    try:
        own = os.dup(2)
    except OSError:  # started without a standard error
        yield
        return
    before = sys.stderr
    with open(os.devnull, "wb") as nowhere, open(own, "w", encoding="utf-8", errors="backslashreplace", buffering=1) as stream:
        sys.stderr = stream
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            stream.flush()
            os.dup2(own, 2)
            sys.stderr = before


def main() -> None:
    """Run the command line and exit with the documented code: 0, 1, 2 or 130."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # started without one
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    log = logging.getLogger("wordsight")
    log.setLevel(logging.INFO)
    log.addHandler(_Sayer())
    with _quiet_native_libraries():
        code = _run()
        if code == 130:
            _say("Interrupted. What was computed is kept: the same command goes on from there.")
    sys.exit(code)


def _run() -> int:
    try:
        return int(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except typer.Exit as stop:
        return stop.exit_code
    except WordsightError as error:
        _say(f"Error: {error}")
        return 2
    except BrokenPipeError:  # the reader of our output, such as `head`, is gone
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(str(error), file=sys.stderr)
            return 2
        if isinstance(error, OSError):  # such as a full disk behind our standard output
            _say(f"Error: {error.strerror or error}.")
            return 2
        if hasattr(error, "format_message"):  # click's own: a wrong option or argument
            _say(f"Error: {error.format_message()} See 'wordsight --help'.")
            return 2
        raise


if __name__ == "__main__":
    main()
