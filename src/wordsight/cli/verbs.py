"""Which verb is meant: the list of commands by what one wants, photos without a verb, and words for
a verb that others use.
"""

from __future__ import annotations

import difflib
import os
from typing import Any

import typer.core

# what one wants -> its verbs, each in a few words, and an example
GROUPS: dict[str, tuple[dict[str, str], str]] = {
    "Label photos": (
        {
            "run": "Recognise words in photos: the whole job",
            "predict": "Label photos with a model you have",
            "recognize": "Name what photos show, with a pretrained network",
            "video": "Label each frame of a clip",
        },
        'wordsight run -c "cat,dog" -p photos/',
    ),
    "Teach your own words": (
        {
            "teach": "Learn any word from a few key presses on your photos",
            "train": "Train a classifier from labelled pictures",
            "gather": "Gather pictures of words from licensed image search",
            "clean": "Find copies, strangers and wrong labels in a data set",
            "split": "Split a data set into train, val and test",
            "extract": "Save frames of clips as training pictures",
        },
        "wordsight teach -c kangaroo -p photos/",
    ),
    "Look closer": (
        {
            "detect": "Find where things are, and count them",
            "find": "Find the photos most like an example",
            "evaluate": "Measure a model on labelled pictures",
            "words": "Look up a word: is it known, and which kinds of it",
            "app": "Try, train, review and compare in the browser",
        },
        "wordsight detect photos/ -m models/brick",
    ),
    "Hand over": (
        {
            "sort": "Put photos into a folder a class",
            "keywords": "Write labels as keywords beside your photos",
            "prelabel": "Write labels for other tools: COCO, YOLO and more",
            "export": "Write a model that runs without wordsight",
            "serve": "Suggest labels in Label Studio",
        },
        "wordsight sort results/ -o sorted/",
    ),
    "Keep house": (
        {
            "models": "List the models on this machine",
            "doctor": "Check the installation, or any file or folder",
            "cache": "Show or clear the embeddings kept here",
            "demo": "Run the main job on photos that came along",
        },
        "wordsight doctor photos/",
    ),
}
# how others call it -> what it is here
MEANT = {
    **dict.fromkeys(("classify", "label", "recognise", "analyze", "analyse", "scan"), "run"),
    **dict.fromkeys(("annotate", "learn"), "teach"),
    **dict.fromkeys(("fit", "retrain", "finetune", "fine-tune"), "train"),
    **dict.fromkeys(("test", "validate", "val", "eval", "benchmark"), "evaluate"),
    **dict.fromkeys(("review", "ui", "gui", "web", "compare", "try"), "app"),
    **dict.fromkeys(("move", "copy", "organize", "organise", "folders"), "sort"),
    **dict.fromkeys(("tag", "tags", "keyword", "xmp", "metadata"), "keywords"),
    **dict.fromkeys(("search", "similar", "like"), "find"),
    **dict.fromkeys(("download", "scrape", "fetch", "collect"), "gather"),
    **dict.fromkeys(("dedupe", "duplicates", "deduplicate"), "clean"),
    **dict.fromkeys(("convert", "coco", "yolo", "labels"), "prelabel"),
    **dict.fromkeys(("count", "boxes", "locate", "segment"), "detect"),
    **dict.fromkeys(("frames",), "extract"),
    **dict.fromkeys(("list", "ls"), "models"),
    **dict.fromkeys(("check", "info", "inspect", "look", "status"), "doctor"),
    **dict.fromkeys(("word", "lookup", "vocabulary"), "words"),
    **dict.fromkeys(("backend", "label-studio"), "serve"),
}
DEFAULT = "run"


class Verbs(typer.core.TyperGroup):
    """The commands of wordsight. Photos without a verb, or options of `run` alone, mean `run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before photos, and before options that are its own."""
        if args and args[0] not in self.commands and self._is_for_run(ctx, args[0]):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def _is_for_run(self, ctx: Any, first: str) -> bool:
        if not first.startswith("-"):
            return os.path.exists(os.path.expanduser(first)) or any(sign in first for sign in "*?/")
        name = first.partition("=")[0]
        taken = {
            option
            for parameter in [*self.params, self.get_help_option(ctx)]
            if parameter is not None
            for option in parameter.opts
        }
        theirs = {option for one in self.commands[DEFAULT].params for option in one.opts}
        return name in theirs - taken

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that is meant, or say which may be."""
        name = args[0]
        if name not in self.commands:
            near = [MEANT[name.casefold()]] if name.casefold() in MEANT else []
            near += difflib.get_close_matches(name, self.commands, 2)
            near = [one for one in dict.fromkeys(near) if one in self.commands]
            told = f" Did you mean {' or '.join(f'wordsight {one}' for one in near)}?"
            ctx.fail(f"No such command: '{name}'.{told if near else ''}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order of the groups."""
        grouped = [name for verbs, _ in GROUPS.values() for name in verbs if name in self.commands]
        return list(dict.fromkeys([*grouped, *self.commands]))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by what one wants, with an example for each."""
        for title, (verbs, example) in GROUPS.items():
            rows = [(name, told) for name, told in verbs.items() if name in self.commands]
            with formatter.section(title):
                formatter.write_dl(rows, col_max=12)
                formatter.write_text(f"Example: {example}")
