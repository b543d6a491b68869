"""What the command line prints: closing tables on standard output, messages on standard error.
Decides only the exit code.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from ..core.home import first_process
from ..core.summary import Result

if TYPE_CHECKING:
    from ..classification.record import BoxRecord, ModelRecord

MOST_ROWS = 30  # of a table with a row a photo
MOST_SEGMENTS = 20


def say(line: str) -> None:
    """Print one line on standard error."""
    print(printable(line), file=sys.stderr, flush=True)


def show(result: Result, as_json: bool) -> int:
    """Print a result and what could not be done; return the exit code, 0 or 1."""
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        for table in result.tables():
            rows = [list(row) for row in table.shown]
            print_table(list(table.headings), rows, table.empty)
            if table.left_out:
                print(table.left_out)
        for note in result.notes():
            print(printable(note))
    for problems in result.problems():
        _say_some(problems.what, list(problems.items), problems.where)
    return 0 if result.complete else 1


def print_sharded(result: Any, as_json: bool) -> NoReturn:
    """Print what became of images predicted in shards, and exit with 1 where one could not be
    read.
    """
    if as_json:
        print(
            json.dumps(
                {
                    "output": result.output,
                    "pictures": result.images,
                    "shards": result.shards,
                    "resumed": result.resumed,
                    "counts": result.counts,
                }
            )
        )
    else:
        rows = [[name, f"{count:,}"] for name, count in sorted(result.counts["accepted"].items())]
        rows += [
            [what, f"{result.counts[what]:,}"] for what in ("unsure", "strangers", "unreadable")
        ]
        print_table(["label", "photos"], [*rows, ["total", f"{result.images:,}"]], "")
        if result.note:
            print(result.note)
        print(
            f"Results: {printable(result.output)}/part-*.parquet ({result.shards:,}, "
            f"{result.resumed:,} of them made before), summary.json"
        )
    raise typer.Exit(1 if result.counts["unreadable"] or result.threshold is None else 0)


def print_training(model: Any, as_json: bool, layers: str | None = None) -> NoReturn:
    """Print what was learned from and how well, and exit with 1 where an image could not be
    read or a promise not be made.
    """
    record = model.record
    promise, boxes = record.promise, record.boxes
    missing = record.unreadable or record.unused or (boxes and (boxes.skipped or boxes.unreadable))
    code = 1 if missing or (promise and promise.threshold is None) else 0
    if not first_process():  # of several that train together, one speaks
        raise typer.Exit(code)
    if as_json:
        fields = (
            "path",
            "recipe",
            "pictures",
            "unreadable",
            "unused",
            "left_out",
            "metrics",
            "threshold",
            "promise",
            "validation_loss",
            "boxes",
        )
        told = record.to_dict()
        print(
            json.dumps({"classes": model.class_names, **{k: told[k] for k in fields if k in told}})
        )
        raise typer.Exit(code)
    if layers is not None:
        print(layers)
    print_table(
        ["class", "pictures"], [[name, str(count)] for name, count in record.images.items()], ""
    )
    _print_metrics(record)
    loss = record.validation_loss
    if loss is not None and record.recipe == "probe":
        print(
            "Fine-tuning did not lower the validation loss, so the head alone is kept: "
            f"{loss.before:.4f} before, {loss.after:.4f} after."
        )
    elif loss is not None and record.recipe == "finetune":
        print(
            f"Validation loss: {loss.before:.4f} with the head alone, {loss.after:.4f} fine-tuned."
        )
    if boxes is not None:
        _print_boxes(boxes)
    if record.kept_for_test:
        print(f"Kept for testing, not learned from: {record.kept_for_test} pictures.")
    _say_some("Left out", record.left_out, "the model's wordsight.json (--no-clean keeps them)")
    _say_some("Left out, unreadable", record.unreadable, "the model's wordsight.json")
    _say_some("Not used", record.unused, "the model's wordsight.json")
    print(f"Model: {printable(record.path)}")
    raise typer.Exit(code)


def _print_boxes(boxes: BoxRecord) -> None:
    mean, simple = boxes.mean_iou, boxes.median_box_mean_iou
    worth = (
        ""
        if mean > simple
        else (
            " They are no better than that and not to be trusted: more annotated pictures are "
            "needed."
        )
    )
    judged = (
        f"on {boxes.held_out} that a head had not seen: mean IoU {mean:.3f}, always the "
        f"median box {simple:.3f}."
    )
    print(f"Boxes, learned from {boxes.images} pictures; {judged}{worth}")
    _say_some("Not used", [*boxes.skipped, *boxes.unreadable], "the model's wordsight.json")


def _print_metrics(record: ModelRecord) -> None:
    metrics = record.metrics
    if "accuracy" not in metrics:  # made from words
        return
    print(f"On {record.judged_on}: {metrics['accuracy']:.1%} right.")
    if {"auroc", "average_precision"} <= metrics.keys():
        print(
            f"AUROC {metrics['auroc']:.4f}, average precision {metrics['average_precision']:.4f}."
        )
    if record.threshold is not None and {"coverage", "selective_accuracy"} <= metrics.keys():
        share, right = metrics["coverage"], metrics["selective_accuracy"]
        print(
            f"From a probability of {record.threshold:.4g}, {share:.1%} accepted and "
            f"{right:.2%} of those right."
        )
    if record.promise is not None:
        print(record.promise.sentence())


def print_evaluation(result: Any, as_json: bool) -> NoReturn:
    """Print what was measured, and exit with 1 where an image could not be read."""
    missing = result.unreadable or result.unused
    if as_json:
        print(json.dumps(result.as_json()))
        raise typer.Exit(1 if missing else 0)
    given = (
        "no threshold: nothing gets a label"
        if result.threshold is None
        else f"probability ≥ {result.threshold:g}"
    )
    counts = {
        "total": result.total,
        "accepted": result.accepted,
        "rejected": result.rejected,
        "right": result.right,
        "wrong": result.wrong,
    }
    rows = [[name, str(count), ""] for name, count in counts.items()]
    rows += [[name, *_figure(estimate)] for name, estimate in result.figures().items()]
    print_table([f"label ({given})", "figure", "95 % interval"], rows, "")
    print()
    shown = [
        [
            c.name,
            str(c.images),
            " ".join(_figure(c.precision)).strip(),
            " ".join(_figure(c.recall)).strip(),
        ]
        for c in result.classes
    ]
    print_table(["class", "pictures", "precision", "recall (of the top label)"], shown, "")
    if result.others is not None:
        _print_others(result.others)
    if result.split:
        print(
            f"Evaluated: the {result.total} pictures marked '{result.split}'; "
            f"{result.set_aside} others of the data are left out."
        )
    if result.counted_as:
        print(
            "Counted as "
            + "; ".join(
                f"{rest}: {', '.join(n for n, r in result.counted_as.items() if r == rest)}"
                for rest in {*result.counted_as.values()}
            )
        )
    print(
        f"Report: {printable(result.output)}/report.html (open it in a browser), "
        "evaluation.json, predictions.csv and plots"
    )
    _say_some("Unreadable", result.unreadable, "evaluation.json")
    _say_some("Not used", result.unused, "evaluation.json")
    raise typer.Exit(1 if missing else 0)


def print_box_evaluation(result: Any, as_json: bool) -> NoReturn:
    """Print how right boxes are, beside those that look at no image, and exit with 1 where
    something could not be read.
    """
    missing = result.unreadable or result.skipped
    if as_json:
        print(json.dumps(result.as_json()))
        raise typer.Exit(1 if missing else 0)
    rows = []
    for name, figures in result.kinds.items():
        means = [
            "–" if e.value is None else f"{e.value:.3f} ({e.low:.3f}–{e.high:.3f})"
            for e in (figures.mean_iou, figures.box_accuracy)
        ]
        at = "" if figures.threshold is None else f" at {figures.threshold:.2f}"
        rows.append(
            [name, *means, f"{figures.max_box_acc:.3f}{at}", f"{figures.max_box_acc_v2:.3f}"]
        )
    print_table(
        [
            f"box ({result.images} pictures)",
            "mean IoU",
            "mean share at IoU 0.3, 0.5, 0.7",
            "MaxBoxAcc",
            "MaxBoxAccV2",
        ],
        rows,
        "",
    )
    print(f"The median box is that of {result.median_of}.")
    if result.ap:
        print(
            f"Detections, {result.objects} objects: AP "
            + ", ".join(f"{value:.3f} at IoU {iou}" for iou, value in result.ap.items())
            + "."
        )
    if result.unknown:
        print(
            f"Classes that the model doesn't know, left out of the AP: {', '.join(result.unknown)}."
        )
    if result.output is not None:
        print(
            f"Report: {printable(result.output)}/report.html (open it in a browser), "
            "boxes.json, boxes.csv, boxes.png"
        )
    _say_some("Not used", result.skipped, "boxes.json")
    _say_some("Unreadable", result.unreadable, "boxes.json")
    raise typer.Exit(1 if missing else 0)


def print_video(seen: Any, as_json: bool) -> NoReturn:
    """Print what a clip shows and when, and exit with 1 where it ends early or nothing may be
    labelled at all.
    """
    nothing = seen.threshold is None
    if as_json:
        print(json.dumps(seen.as_json()))
    else:
        heading = "label" if nothing else f"label (probability ≥ {seen.threshold:.4g})"
        rows = [
            [name, str(seen.labelled.get(name, 0)), f"{seen.seconds_of(name):.1f}"]
            for name in seen.class_names
        ]
        silent = seen.seconds - sum(seen.seconds_of(name) for name in seen.class_names)
        rows.append(
            ["none", str(seen.frames - sum(seen.labelled.values())), f"{max(0.0, silent):.1f}"]
        )
        print_table([heading, "frames", "seconds"], rows, "")
        for part in seen.segments[:MOST_SEGMENTS]:
            print(f"{_clock(part.start_s)} – {_clock(part.end_s)}  {part.label}")
        if len(seen.segments) > MOST_SEGMENTS:
            print(
                f"… and {len(seen.segments) - MOST_SEGMENTS} more stretches, in frames.csv. "
                "--smooth makes fewer."
            )
        if nothing:
            print("The model's promise leaves it no threshold; give one with -t.")
        if seen.output is not None:
            print(
                f"Clip: {printable(seen.output)} ({seen.frames} frames looked at, "
                f"{seen.fps:.4g} a second; sound is not copied)"
            )
            print(f"Tables: {printable(seen.tables)}/frames.csv, frames.jsonl, timeline.png")
    if seen.note:
        say(seen.note)
    raise typer.Exit(1 if seen.note or nothing else 0)


def print_extraction(result: Any, as_json: bool) -> NoReturn:
    """Print what came of clips, and exit with 1 where one can't be read to its end."""
    if as_json:
        print(json.dumps(result.as_json()))
    else:
        counts = {
            "looked at": result.looked_at,
            "look like one that is there": result.near_duplicates,
            "written": result.written,
        }
        print_table(["frames", ""], [[name, str(count)] for name, count in counts.items()], "")
        print(f"Frames: {printable(result.output)}/*.jpg, frames.csv")
    for name, reason in result.unreadable:
        say(reason if name in reason else f"{name}: {reason}")
    raise typer.Exit(1 if result.unreadable else 0)


def print_prelabels(result: Any, as_json: bool) -> NoReturn:
    """Print what was written for another tool, and exit with 1 where an image is missing."""
    if as_json:
        print(json.dumps(result.as_json()))
    else:
        rows = [
            ["pictures", str(result.images)],
            ["boxes", str(result.regions)],
            ["left out, no accepted label", str(result.left_out)],
        ]
        print_table([result.format, ""], rows, "")
        print(f"Classes: {', '.join(result.class_names)}")
        print(
            f"Labels: {printable(result.output)}/ (with copies of the photos, "
            f"{result.copied_bytes / 2**20:.0f} MiB)"
        )
        if result.format == "label-studio":
            print(
                "In Label Studio: config.xml is the labelling interface, tasks.json is "
                "imported; it serves the pictures where this folder is its"
            )
            print(
                "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT and "
                "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED is true."
            )
    _say_some("Not written", result.skipped, "--json's answer")
    raise typer.Exit(1 if result.skipped else 0)


def print_export(result: Any, as_json: bool) -> NoReturn:
    """Print what an exported model answers and how near it is to the original."""
    if as_json:
        print(json.dumps(result.as_json()))
        raise typer.Exit(0)
    print(
        f"Model: {printable(result.path)} ({result.format}, {result.dtype}, "
        f"{result.size_bytes / 2**20:.1f} MiB)"
    )
    print(
        f"Input: pixels. Outputs: {', '.join(result.outputs)}. docs/export.md shows how to run it."
    )
    if "heatmap" not in result.outputs:
        print("It has no heat maps: this network can't make them in one pass.")
    if result.price is None:
        print(
            f"Tried on {result.images} pictures: probabilities differ from wordsight's by "
            f"{result.largest_difference:.1g} at most."
        )
    else:
        price = result.price
        print(
            f"int8 beside f32 on {price.images} pictures it was not calibrated on: the same "
            f"answer in {price.same_answer:.1%}, probabilities"
        )
        print(
            f"{price.mean_difference:.2g} apart on average, {result.largest_difference:.2g} at "
            f"most; {price.speed:.2f} × as fast."
        )
        if price.accuracy_f32 is not None:
            learned = (
                ""
                if price.held_out
                else (
                    " None is marked test: where the model learned from them, only the two beside "
                    "each other say something."
                )
            )
            print(f"Right: {price.accuracy_int8:.1%}; in f32 {price.accuracy_f32:.1%}.{learned}")
    _say_some("Unreadable", result.unreadable, "--json's answer")
    raise typer.Exit(0)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def _say_some(what: str, items: list[tuple[str, str]], where: str) -> None:
    for name, reason in items[:10]:
        say(f"{what}: {name}: {reason}")
    if len(items) > 10:
        say(f"… and {len(items) - 10} more, listed in {where}.")


def _print_others(others: Any) -> None:
    print()
    rows = []
    for name, ranked, count, share in (
        ("familiarity", others.familiarity, others.labelled, others.labelled_share),
        (
            "probability alone",
            others.probability,
            others.labelled_by_probability,
            others.labelled_by_probability_share,
        ),
    ):
        rows.append(
            [
                name,
                " ".join(_figure(ranked.auroc)),
                " ".join(_figure(ranked.fpr_at_95_tpr)),
                f"{count}: {' '.join(_figure(share))}",
            ]
        )
    print_table(
        [
            f"telling {others.images} others by",
            "AUROC",
            "let in with 95 % of the classes' pictures",
            "get a label",
        ],
        rows,
        "",
    )


def _figure(estimate: Any) -> list[str]:
    """Return a share and its interval, in percent."""
    if estimate.value is None:
        return ["–", ""]
    return [f"{estimate.value:.2%}", f"({estimate.low:.2%}–{estimate.high:.2%})"]


def print_gathered(result: Any, as_json: bool, error: str = "") -> NoReturn:
    """Print the funnel, and exit with 1 where a class is short or nothing came at all (`error`)."""
    from ..gathering.funnel import STAGES

    if as_json:
        print(json.dumps(result.as_json()))
        if error:
            say(f"Error: {error}")
        raise typer.Exit(1 if result.causes else 0)
    shown = {name: result.classes[name] for name in result.wanted if name in result.classes}
    print_table(
        ["class", *STAGES],
        [
            [name, *(str(funnel.stages[stage]) for stage in STAGES)]
            for name, funnel in shown.items()
        ],
        "",
    )
    for kind, funnels in (
        ("class", shown),
        (
            "host",
            dict(sorted(result.sites.items(), key=lambda item: -item[1].stages["found"])[:20]),
        ),
    ):
        rows = [
            [name, str(f.stages["found"]), str(f.stages["kept"]), _reasons(f)]
            for name, f in funnels.items()
        ]
        print()
        print_table([kind, "found", "kept", "left out because"], rows, "")
    if error:
        say(f"Error: {error}")
        raise typer.Exit(1)
    print(
        f"\nData set: {printable(result.output)}/ with metadata.csv, ATTRIBUTION.md (who made "
        "each picture) and funnel.json (all figures)"
    )
    for cause in result.causes:
        say(f"Short: {cause}")
    raise typer.Exit(1 if result.causes else 0)


def print_cleaning(result: Any, as_json: bool) -> None:
    """Print how many files were found for each reason, and what was done."""
    from ..cleaning.checks import list_checks

    if as_json:
        print(json.dumps(result.as_json()))
        return
    meaning = list_checks()
    print_table(
        ["reason", "files", "meaning"],
        [[reason, str(count), meaning[reason]] for reason, count in result.counts.items()],
        "Nothing was found.",
    )
    largest, smallest = max(result.classes.values()), min(result.classes.values())
    print(
        "Classes: "
        + ", ".join(f"{printable(name)} {count}" for name, count in result.classes.items())
        + (
            f"; the largest is {largest / smallest:.1f} times the smallest (--balance evens "
            "them out)."
            if largest > 2 * smallest
            else "."
        )
    )
    if isinstance(result.output, str):  # in an object store
        print(f"Findings: {printable(result.output)}/findings.csv, summary.json")
        return
    print(
        f"Report: {printable(result.output)}/report.html (open it in a browser), findings.csv "
        "and a contact sheet a reason"
    )
    if result.rejected:
        print(
            f"Set aside: {len(result.moved)} files, in {printable(result.rejected)}; --undo "
            "puts them back."
        )
    elif result.findings:
        print("Nothing was moved. --apply sets the files aside, --reasons chooses among them.")


def print_undone(names: list[str], as_json: bool) -> NoReturn:
    """Print what was put back."""
    print(json.dumps({"put_back": names}) if as_json else f"Put back: {len(names)} files.")
    raise typer.Exit


def print_converted(folder: object, failed: list[tuple[str, str]], as_json: bool) -> NoReturn:
    """Print what could not be converted, and exit with 1 where there is something."""
    if as_json:
        print(json.dumps({"output": str(folder), "unreadable": failed}))
    else:
        print(f"Converted: {printable(folder)}/")
    for name, reason in failed[:10]:
        say(f"Left out, unreadable: {name}: {reason}")
    raise typer.Exit(1 if failed else 0)


def _reasons(funnel: Any) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in funnel.reasons.most_common())


def print_senses(report: dict) -> None:
    """Print every meaning of a word and what the backbone knows of it."""
    for sense in report["senses"]:
        mark = "→ " if sense["chosen"] else "  "
        print(
            f"{mark}{sense['name']}  {sense['wnid']}  {', '.join(sense['words'])}: {sense['gloss']}"
        )
        for index, wnid, name in sense["classes"]:
            print(f"      {index:4d}  {wnid}  {name}")
        if not sense["classes"]:
            print("      the backbone knows nothing of it")


def print_table(headings: list[str], rows: list[list[str]], empty: str) -> None:
    """Print rows in columns, or `empty` where there are none."""
    if not rows:
        print(empty)
        return
    widths = [
        max(len(printable(cell)) for cell in column) for column in zip(headings, *rows, strict=True)
    ]
    if any(headings):
        print(
            "  ".join(
                heading.ljust(width) for heading, width in zip(headings, widths, strict=True)
            ).rstrip()
        )
        print("  ".join("─" * width for width in widths))
    for row in rows:
        print(
            "  ".join(
                printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
        )


def printable(text: object) -> str:
    """Return text that a terminal shows on one line: no control characters, no broken encoding."""
    plain = str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "�" for c in plain)
