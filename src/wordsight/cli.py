"""The command line: parse, call, print. What commands do lives behind the public API."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from .backbones import DEFAULT_BACKBONE
from .console import run_app
from .errors import NothingGathered
from .options import BackboneName, Dtype, Engine, Json, NoPictures, Offline, Output, Precision, Threshold
from .printing import (
    print_cleaning,
    print_converted,
    print_evaluation,
    print_gathered,
    print_results,
    print_senses,
    print_table,
    print_training,
    print_undone,
    say,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Words in, sight out: type what you want to recognise, point at photos, see what each shows and where.",
)


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
    gather: Annotated[bool, typer.Option("--gather", help="Gather pictures for the words and learn from them; consents to the searching.")] = False,
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
      4. pictures gathered for the words from licensed image search: for words it doesn't know, asked first, or with --gather
    """
    from .routes import run
    from .training import Embedding

    _go_offline(offline)
    with _progress() as progress:
        how = Embedding(backbone, engine, dtype, progress)
        results = run(classes, photos, output, threshold, data, model, not no_pictures, how, say, gather, _consent())
    print_results(results, as_json)


@app.command("train")
def train_command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder with one subfolder a class, or a CSV with file_name and label.")],
    output: Annotated[Optional[Path], typer.Option("-o", "--output", help="Model folder. [default: named after the classes, where 'run' finds it]")] = None,  # noqa: UP045
    recipe: Annotated[
        str, typer.Option("--recipe", help="probe: a head, in seconds; finetune: then the whole network; scratch: from random weights; auto.")
    ] = "probe",
    backbone: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--backbone", help=f"Network: embedded, timm's, hf-hub: or local-dir:. [default: {DEFAULT_BACKBONE}; for scratch small_resnet]"),
    ] = None,
    positive: Annotated[Optional[str], typer.Option("--positive", help="This class against all others.")] = None,  # noqa: UP045
    negatives: Annotated[Optional[str], typer.Option("--negatives", help="With --positive: folder of pictures of anything else.")] = None,  # noqa: UP045
    precision: Precision = None,
    image_size: Annotated[Optional[int], typer.Option("--image-size", help="Side of a square picture's input in pixels. [default: the network's own]")] = None,  # noqa: UP045
    epochs: Annotated[Optional[int], typer.Option("--epochs", help="Passes over the pictures, at most. [default: finetune 10, scratch 10 or 30]")] = None,  # noqa: UP045
    lr: Annotated[Optional[float], typer.Option("--lr", help="Learning rate. [default: finetune 1e-5, scratch 1e-3 or 1.6e-2]")] = None,  # noqa: UP045
    batch_size: Annotated[Optional[int], typer.Option("--batch-size", help="Pictures a step. [default: finetune 16, scratch 32 or 64]")] = None,  # noqa: UP045
    augment: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option("--augment/--no-augment", help="Flip, turn, shift, shear, zoom the training pictures. [default: on, but for the classic networks]"),
    ] = None,
    patience: Annotated[Optional[int], typer.Option("--patience", help="Epochs without gain after which to stop. [default: 3]")] = None,  # noqa: UP045
    budget: Annotated[Optional[str], typer.Option("--budget", metavar="TIME", help="Time for the epochs, such as 90s, 10m or 2h.")] = None,  # noqa: UP045
    continue_from: Annotated[Optional[str], typer.Option("--continue", metavar="MODEL", help="Go on from this model, as a further stage.")] = None,  # noqa: UP045
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Keep every epoch's weights, in MODEL-training beside the model.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's log there, too.")] = False,
    plot_model: Annotated[bool, typer.Option("--plot-model", help="Print a table of the network's layers, and draw it into the model's plots/.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same model.")] = 0,
    no_clean: Annotated[bool, typer.Option("--no-clean", help="Learn from files given twice or in two classes, too.")] = False,
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
      torchrun --nproc-per-node 4 -m wordsight train data/pets -o models/pets --recipe finetune

    \b
    Cut off, it goes on with the same command. Networks for scratch: small_resnet, brick_cnn, cifar_cnn, or any of timm's.
    Fine-tuning keeps the statistics of batch normalisation as they are, and is kept only if the validation loss falls.
    """
    from .training import train
    from .tuning import Tuning, parse_duration

    _go_offline(offline)
    budget_s = None if budget is None else parse_duration(budget)
    tuning = Tuning(epochs, lr, batch_size, augment, patience, budget_s, checkpoints, tensorboard, continue_from)
    with _progress() as progress:
        model = train(
            *(data, output, recipe, backbone, seed, engine, dtype, progress, not no_clean),
            positive=positive,
            negatives=negatives,
            precision=precision,
            image_size=image_size,
            tuning=tuning,
        )
    layers = None
    if plot_model:
        from .drawing import draw_network

        layers = draw_network(model.info["path"])
    print_training(model, as_json, layers)


@app.command("gather")
def gather_command(
    classes: Annotated[str, typer.Argument(metavar="WORDS", help="Words with commas between; each becomes a class.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the data set, one subfolder a class.")],
    source: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--source", help="openverse, commons, ddgs, icrawler, urls:FILE or folder:FOLDER; may be given several times. [default: openverse, commons]"
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Unique usable pictures wanted for each class.")] = 600,
    license: Annotated[str, typer.Option("--license", help="any, commercial, or codes with commas between, such as by,cc0.")] = "any",
    min_size: Annotated[int, typer.Option("--min-size", help="Shortest side, in pixels.")] = 224,
    negatives: Annotated[int, typer.Option("--negatives", help="Pictures of anything else, as a further class: for 'brick or not brick'.")] = 0,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Gather pictures for words from licensed image search, until there are enough.

    \b
    Examples:
      wordsight gather "cat,dog" -o data/pets
      wordsight gather brick -o data/brick --negatives 600 --license commercial
      wordsight gather "cat,dog" -o data/pets --source urls:list.csv

    \b
    Interrupted, it goes on with the same command. metadata.csv and ATTRIBUTION.md say who made each picture.
    Set WORDSIGHT_CONTACT to your e-mail address: sites serve those who say who they are better.
    """
    from .gathering import gather
    from .sources import DEFAULT_SOURCES

    _go_offline(offline)
    with _progress() as progress:
        try:
            result = gather(classes, output, source or DEFAULT_SOURCES, limit, license, min_size, negatives, progress, say)
        except NothingGathered as error:
            print_gathered(error.gathered, as_json, str(error))
    print_gathered(result, as_json)


@app.command("clean")
def clean_command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder with one subfolder a class or metadata.csv, or a CSV with file_name and label.")],
    output: Annotated[Optional[Path], typer.Option("-o", "--output", help="Folder of the report. [default: DATA-clean-report]")] = None,  # noqa: UP045
    apply: Annotated[bool, typer.Option("--apply", help="Move what was found to DATA-rejected beside DATA; nothing is deleted.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Put back everything that --apply moved.")] = False,
    reasons: Annotated[Optional[str], typer.Option("--reasons", help="Only these, with commas between. [default: all]")] = None,  # noqa: UP045
    min_size: Annotated[int, typer.Option("--min-size", help="Shortest side in pixels.")] = 224,
    balance: Annotated[bool, typer.Option("--balance", help="Bring all classes down to the smallest, the most redundant pictures first.")] = False,
    convert: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--convert", metavar="FOLDER", help="Copy DATA as upright sRGB JPEGs to a new folder, and do nothing else."),
    ] = None,
    max_side: Annotated[int, typer.Option("--max-side", help="Longest side of converted pictures, in pixels.")] = 320,
    backbone: BackboneName = DEFAULT_BACKBONE,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Find what should not be in a data set, show it, and on request set it aside.

    \b
    Examples:
      wordsight clean data/pets                           findings.csv and a contact sheet a reason, in data/pets-clean-report
      wordsight clean data/pets --apply --reasons duplicate,near_duplicate,undecodable
      wordsight clean data/pets --undo
      wordsight clean data/pets --convert data/pets-320
    """
    from . import cleaning

    _go_offline(offline)
    if convert is not None:
        from .conversion import convert as copy_converted

        with _progress() as progress:
            print_converted(convert, copy_converted(data, convert, max_side, progress), as_json)
    if undo:
        print_undone(cleaning.undo(data), as_json)
    with _progress() as progress:
        chosen = reasons.split(",") if reasons is not None else None
        result = cleaning.clean(data, output, apply, chosen, min_size, balance, backbone, engine, dtype, progress)
    print_cleaning(result, as_json)


@app.command("split")
def split_command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder with one subfolder a class or metadata.csv, or a CSV with file_name and label.")],
    val: Annotated[float, typer.Option("--val", help="Share for validation, 0–1.")] = 0.1,
    test: Annotated[float, typer.Option("--test", help="Share for testing, 0–1; 'train' leaves it out.")] = 0.2,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same split.")] = 0,
    backbone: BackboneName = DEFAULT_BACKBONE,
    engine: Engine = "auto",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Divide a data set into train, val and test, copies never on two sides; noted in metadata.csv.

    \b
    Examples:
      wordsight split data/pets
      wordsight split data/pets --val 0 --test 0.25 --seed 1
    """
    from .splitting import split

    _go_offline(offline)
    with _progress() as progress:
        counts = split(data, val, test, seed, backbone, engine, progress)
    if as_json:
        print(json.dumps(counts))
        return
    names = list(counts["train"])
    print_table(["split", *names, "all"], [[part, *(str(row[n]) for n in names), str(sum(row.values()))] for part, row in counts.items()], "")


@app.command("predict")
def predict_command(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTOS...", help="Folders, files or globs.")],
    model: Annotated[str, typer.Option("-m", "--model", help="Model folder made by 'wordsight train'.")],
    threshold: Threshold = None,
    precision: Precision = None,
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
      wordsight predict photos/ -m models/pets --precision 0.95
    """
    from .classifier import load

    _go_offline(offline)
    with _progress() as progress:
        results = load(model).predict(photos, threshold, output, not no_pictures, engine, dtype, progress, precision)
    print_results(results, as_json)


@app.command("evaluate")
def evaluate_command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labelled pictures: a folder with one subfolder a class or metadata.csv, or a CSV.")],
    model: Annotated[str, typer.Option("-m", "--model", help="Model folder made by 'wordsight train'.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for figures, plots, predictions and the worst mistakes.")] = Path("report"),
    threshold: Threshold = None,
    others: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--others", metavar="DIR", help="Pictures that show none of the classes, which should get no label; may be given several times."),
    ] = None,
    engine: Engine = "auto",
    dtype: Dtype = "f32",
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Measure a model on labelled pictures it has not seen; every figure with its 95 % interval.

    \b
    Examples:
      wordsight evaluate data/test -m models/pets
      wordsight evaluate data/pets -m models/pets -t 0.95          after 'split', only what is marked test
      wordsight evaluate data/test -m models/pets --others street/ --others food/ -o report/

    \b
    Where the model looks for one thing (brick, not_brick), every class but brick counts as not_brick.
    """
    from .evaluation import evaluate

    _go_offline(offline)
    with _progress() as progress:
        result = evaluate(data, model, output, threshold, others, engine, dtype, progress)
    print_evaluation(result, as_json)


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
        print_senses(report)
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
    print_table(["classes", "learned from", "folder"], rows, "No model yet. Make one with 'wordsight train DATA -o MODEL'.")
    print(f"Embedded backbones: {', '.join(embedded_backbones())}. Any other timm name is downloaded when first used.")


@app.command("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Say what is installed, which engine runs, and what is kept where."""
    from .doctor import examine

    report = examine()
    if as_json:
        print(json.dumps(report))
        return
    print_table(["", ""], [[key.replace("_", " "), str(value)] for key, value in report.items()], "")


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
        results = demo(output, progress, say)
    if not as_json:
        rows = [[p.file_name, p.label or "–", f"{p.probability:.3f}", "" if p.label else str(p.top_label)] for p in results]
        print_table(["photo", "shows", "probability", "best guess of the rejected"], rows, "")
    print_results(results, as_json)


def _go_offline(offline: bool) -> None:
    if offline:
        os.environ["WORDSIGHT_OFFLINE"] = "1"


def _progress():
    from .progress import show_progress

    return show_progress()


def _consent():
    """Return what asks a person at a terminal, or None where nobody is there to ask."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return lambda question: typer.confirm(question, err=True)


def main() -> None:
    """Run the command line and exit with the documented code: 0, 1, 2 or 130."""
    run_app(app)


if __name__ == "__main__":
    main()
