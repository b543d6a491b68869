"""The page's tab Review: doubtful images one by one, decided by keyboard.

Each decision is on disk before the next image is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import gradio as gr

from ..classification.report import percent
from ..datasets.decisions import Decision
from .parts import CLASS_KEYS, DIGITS, offered, plain, readable, refused, shown, telling
from .review import Doubt, sort_reviewed, write_spreadsheet
from .tab_train import summarise
from .workspace import Workspace, find_one

BEFORE = (
    "Press **Find doubtful pictures**. It looks through the folder and shows those that a person "
    "should decide on, one by one."
)
NEXT = (
    "Next: copy the photos into a folder a class, download a list of them, or retrain the model "
    "with what you decided; the new one is kept only if it is at least as good."
)
QUESTIONS = {  # by what kind of doubt it is
    "suspicious": "is this label right?",
    "rejected": "what does it show?",
    "pre-labelled": "is the suggestion right?",
}
SAVE = "() => setTimeout(() => document.getElementById('review-file').click(), 300)"
Found = list[Doubt] | None  # None: nobody has looked yet
MOST_BUTTONS = 100  # of classes; others stand in the list


@dataclass(frozen=True)
class _Panel:
    """The components of the tab that events read or change.

    Attributes:
        find: button that looks for doubtful images.
        status: text on the folder and how much of it was decided.
        image: the doubtful image.
        why: text on why it is doubtful, or on what is to be done.
        accept, reject, change: buttons that decide.
        classes: a button for each class.
        other: list of labels that `change` gives.
        verdict, choice, moves: the groups of these and of the next buttons.
        back, undo, forward: buttons that go from image to image.
        copy, table, retrain: buttons for what comes after.
        file: the spreadsheet.
        result: text on what these did.
    """

    find: gr.Button
    status: gr.Markdown
    image: gr.Image
    why: gr.Markdown
    accept: gr.Button
    reject: gr.Button
    verdict: gr.Row
    choice: gr.Column
    classes: list[gr.Button]
    other: gr.Dropdown
    change: gr.Button
    moves: gr.Row
    back: gr.Button
    undo: gr.Button
    forward: gr.Button
    copy: gr.Button
    table: gr.Button
    retrain: gr.Button
    file: gr.DownloadButton
    result: gr.Markdown


def add_review(workspace: Workspace, models: list[gr.Dropdown]) -> gr.Markdown:
    """Add the tab.

    Args:
        workspace: the folder to review, and the models.
        models: the lists that a retrained model is added to.

    Returns:
        The text that describes the folder.
    """
    if workspace.data is None:
        return gr.Markdown(describe_folder(workspace), elem_id="review-told")
    class_names = workspace.book.class_names
    with gr.Column(elem_id="review-page"):
        panel = _build(workspace, class_names)
    _connect(panel, _Actions(workspace, len(models)), class_names, models)
    return panel.status


def _build(workspace: Workspace, class_names: list[str]) -> _Panel:
    """Lay the tab out, from top to bottom."""
    find = gr.Button("Find doubtful pictures", variant="primary", elem_id="review-find")
    status = gr.Markdown(describe_folder(workspace), elem_id="review-told")
    with gr.Row():
        image = gr.Image(
            label="Picture",
            interactive=False,
            height=480,
            elem_id="review-picture",
            format="jpeg",
            scale=2,
            buttons=["fullscreen"],
            visible=False,
        )
        with gr.Column(scale=1):
            why = gr.Markdown(BEFORE, elem_id="review-why")
            decide = _build_bar()
            choice = _build_labels(class_names)
    after = _build_after()
    result = gr.Markdown(elem_id="review-result")
    gr.Markdown(_keys_told(len(class_names)))
    return _Panel(
        find=find,
        status=status,
        image=image,
        why=why,
        result=result,
        **decide,
        **choice,
        **after,
    )


def _build_bar() -> dict[str, Any]:
    """Lay out the buttons that are always in sight, on a phone below the picture."""
    with gr.Column(elem_id="review-bar"):
        with gr.Row(visible=False) as verdict:
            accept = gr.Button("Accept (A)", variant="primary", elem_id="review-accept")
            reject = gr.Button("Reject (R)", variant="stop", elem_id="review-reject", min_width=80)
        with gr.Row(visible=False) as moves:
            back = gr.Button("← Back", elem_id="review-back", min_width=60)
            undo = gr.Button("Undo (U)", elem_id="review-undo", min_width=60)
            forward = gr.Button("Skip →", elem_id="review-next", min_width=60)
    return {
        **{"verdict": verdict, "accept": accept, "reject": reject},
        **{"moves": moves, "back": back, "undo": undo, "forward": forward},
    }


def _build_labels(class_names: list[str]) -> dict[str, Any]:
    """Lay out the choice of another label: class buttons, the list of labels, its button."""
    with gr.Column(visible=False) as choice:
        with gr.Row():
            classes = [
                gr.Button(
                    f"{readable(name)} ({key})" if key else readable(name),
                    elem_id=f"review-class-{key or number}",
                    elem_classes="review-class",
                    min_width=80,
                )
                for number, (name, key) in enumerate(
                    zip_longest(class_names[:MOST_BUTTONS], CLASS_KEYS[: len(class_names)]), 1
                )
            ]
        with gr.Row():
            other = gr.Dropdown(
                [readable(name) for name in class_names],
                value=None,
                label="Another label",
                allow_custom_value=True,
                elem_id="review-other",
            )
            change = gr.Button("Apply", elem_id="review-change")
    return {"choice": choice, "classes": classes, "other": other, "change": change}


def _build_after() -> dict[str, Any]:
    """Lay out what comes after the decisions."""
    with gr.Row():
        copy = gr.Button("Copy to sorted folders", variant="primary", elem_id="review-copy")
        table = gr.Button("Download spreadsheet", elem_id="review-table")
        retrain = gr.Button("Retrain with the corrections", elem_id="review-retrain")
    file = gr.DownloadButton("Save the spreadsheet", elem_id="review-file", visible=False)
    return {"copy": copy, "table": table, "retrain": retrain, "file": file}


def _keys_told(count: int) -> str:
    """Return the sentence on the keys, for so many classes."""
    keys = CLASS_KEYS[:count]
    digits = "1" if count < 2 else f"1–{keys[:9][-1]}" + (", 0" if count > 9 else "")
    letters = keys[len(DIGITS) :]
    more = f", then {letters[0]}{f'–{letters[-1]}' if letters[1:] else ''}" if letters else ""
    return (
        f"Keys: **A** accept, **{digits}{more}** another class, **R** reject, **U** undo, **← →** "
        "go without deciding. Everything is saved at once."
    )


class _Actions:
    """What the buttons do. The visitor's state comes in and goes out with each call.

    The state is `found`, the doubtful images; `place`, the index of the one shown; `made`, this
    visitor's decisions; and `seen`, the image's state in the table when it was shown.

    Args:
        workspace: the folder to review, and the models.
        lists: how many lists of models the page has.
    """

    def __init__(self, workspace: Workspace, lists: int) -> None:
        self._workspace = workspace
        self._lists = lists

    def show(self, found: Found, place: int, made: list[Decision]) -> tuple:
        """Return the view of one doubtful image, or of the end of the list; without a list, what
        is to be done first.
        """
        status = describe_folder(self._workspace)
        if found is None:
            return place, made, None, None, BEFORE, gr.skip(), status, "before"
        place = max(0, min(place, len(found)))
        if place == len(found):
            phase = "done" if found else "before"
            return place, made, None, None, self._finished(found), gr.skip(), status, phase
        doubt = found[place]
        with refused():
            state = self._workspace.book.state(doubt.file_name)
            image = shown(find_one(self._workspace.book, doubt.file_name))
        accept = f"Accept “{readable(state[0] or doubt.suggestion or '')}” (A)"
        why = _described(doubt, state, place, len(found))
        return place, made, state, image, why, accept, status, "deciding"

    def _finished(self, found: list[Doubt]) -> str:
        """Return what was done, and what comes next, as Markdown."""
        if not found:
            return "### Nothing doubtful was found.\n\n" + NEXT
        book = self._workspace.book
        undecided = sum(book.reviewed(doubt.file_name) is None for doubt in found)
        counts = book.counts
        told = ", ".join(f"{count} {action}" for action, count in counts.items())
        skipped = f"{undecided} skipped: **← Back** shows them. " if undecided else ""
        return (
            f"### Done: {sum(counts.values())} photos decided.\n\n{told[:1].upper()}{told[1:]}. "
            f"{skipped}\n\n{NEXT}"
        )

    def copy(self, progress: gr.Progress = gr.Progress()) -> str:
        """Copy the photos into a folder a class; return where they are, as Markdown."""
        progress(0, desc="copying")
        with refused():
            done = sort_reviewed(self._workspace.book, telling(progress))
        counts = ", ".join(f"{count} in `{name}/`" for name, count in done.counts.items())
        lines = [
            f"### Copied to `{done.output}`",
            f"{counts}. Your photos are where they were.",
            f"To take it back: `wordsight sort --undo -o '{done.output}'`",
        ]
        lines += [f"Not copied: `{name}`: {plain(why)}" for name, why in done.skipped[:10]]
        return "\n\n".join(lines)

    def table(self, progress: gr.Progress = gr.Progress()) -> tuple:
        """Make the spreadsheet; return the button that saves it, and a sentence."""
        progress(0, desc="reading the pictures")
        with refused():
            folder = Path(os.environ["GRADIO_TEMP_DIR"])
            path = write_spreadsheet(self._workspace.book, folder, telling(progress))
        told = f"Spreadsheet made: `{path.name}`."
        if path.suffix == ".csv":
            told += " An Excel workbook needs `pip install 'wordsight[xlsx]'`."
        return gr.DownloadButton(value=path, visible=True), told

    def begin(
        self, name: str | None, made: list[Decision], progress: gr.Progress = gr.Progress()
    ) -> tuple:
        """Look for doubtful images and show the first."""
        workspace = self._workspace
        progress(0, desc="looking for doubtful pictures")
        with refused():
            known = name if name in workspace.models() else None
            threshold = workspace.viewer(known).threshold if workspace.models() else None
            found = workspace.doubts(known, threshold, telling(progress))
        return (found, *self.show(found, 0, made))

    def accept(self, found: Found, place: int, made: list[Decision], seen: Any) -> tuple:
        """Accept the label, or else the suggestion."""
        return self._decide(found, place, made, seen, "accepted")

    def reject(self, found: Found, place: int, made: list[Decision], seen: Any) -> tuple:
        """Reject the image: it gets no label."""
        return self._decide(found, place, made, seen, "rejected")

    def change(
        self,
        found: Found,
        place: int,
        made: list[Decision],
        seen: Any,
        label: str | None,
    ) -> tuple:
        """Give the image another label."""
        return self._decide(found, place, made, seen, "changed", label)

    def change_to(self, label: str) -> Callable[[list[Doubt], int, list[Decision], Any], tuple]:
        """Return the action of the button of one class."""
        return lambda found, place, made, seen: self.change(found, place, made, seen, label)

    def back(self, found: Found, place: int, made: list[Decision]) -> tuple:
        """Show the image before."""
        return self.show(found, place - 1, made)

    def forward(self, found: Found, place: int, made: list[Decision]) -> tuple:
        """Show the next image without deciding on this one."""
        return self.show(found, place + 1, made)

    def undo(self, found: Found, place: int, made: list[Decision]) -> tuple:
        """Take the visitor's last decision back and show its image."""
        if not made:
            gr.Info("Nothing to undo.")
            return self.show(found, place, made)
        with refused():
            self._workspace.book.undo(made[-1])
        there = next(
            (
                index
                for index, doubt in enumerate(found or ())
                if doubt.file_name == made[-1].file_name
            ),
            place,
        )
        return self.show(found, there, made[:-1])

    def retrain(self, model: str | None, progress: gr.Progress = gr.Progress()) -> tuple:
        """Train on the old images and the corrected labels; return a summary and updates of the
        lists of models.
        """
        progress(0, desc="training")
        with refused():
            names = self._workspace.models()
            chosen = model if model in names else None
            name, sentence = self._workspace.retrain(chosen, telling(progress))
            names = self._workspace.models()
            text = f"{sentence}\n\n{summarise(self._workspace.viewer(name).model, name)}"
        return (text, *offered(names, name, self._lists))

    def _decide(
        self,
        found: Found,
        place: int,
        made: list[Decision],
        seen: Any,
        action: str,
        label: str | None = None,
    ) -> tuple:
        """Write a decision on the image shown, and show the next."""
        if found is None or not 0 <= place < len(found) or seen is None:
            return self.show(found, place, made)
        doubt, seen = found[place], tuple(seen)
        chosen = (label or "").strip() if action == "changed" else seen[0] or doubt.suggestion
        if action == "changed" and not chosen:
            raise gr.Error("Choose or type a label first.", print_exception=False)
        if action == "changed" and chosen == (seen[0] or doubt.suggestion):
            action = "accepted"
        with refused():
            decision = self._workspace.book.decide(doubt.file_name, action, chosen, seen)
        return self.show(found, place + 1, [*made, decision])


def _connect(
    panel: _Panel, actions: _Actions, class_names: list[str], models: list[gr.Dropdown]
) -> None:
    """Connect the buttons with their actions and with the visitor's state."""
    doubts = gr.State(None)  # None: nobody has looked yet
    place = gr.State(0)
    seen = gr.State(None)  # the image's state in the table when it was shown
    made = gr.State([])  # this visitor's decisions, to be taken back
    here = [doubts, place, made]
    view: list[Any] = [place, made, seen, panel.image, panel.why, panel.accept, panel.status]
    # what is shown; apart, as showing groups takes time, and no State, whose changes are not told
    # where nothing is queued
    phase = gr.Textbox("before", visible="hidden", container=False, elem_id="review-phase")
    view.append(phase)
    groups = [panel.image, panel.verdict, panel.choice, panel.moves]
    quick: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    slow: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_limit": 1,
        "concurrency_id": "train",
    }
    phase.change(_groups_of, [phase], groups, **quick)
    panel.copy.click(actions.copy, [], [panel.result], **slow)
    panel.table.click(actions.table, [], [panel.file, panel.result], **slow).success(
        None, js=SAVE, **quick
    )
    panel.find.click(actions.begin, [models[0], made], [doubts, *view], **slow)
    panel.accept.click(actions.accept, [*here, seen], view, **quick)
    panel.reject.click(actions.reject, [*here, seen], view, **quick)
    panel.change.click(actions.change, [*here, seen, panel.other], view, **quick)
    for button, name in zip(panel.classes, class_names, strict=False):
        button.click(actions.change_to(name), [*here, seen], view, **quick)
    panel.undo.click(actions.undo, here, view, **quick)
    panel.back.click(actions.back, here, view, **quick)
    panel.forward.click(actions.forward, here, view, **quick)
    panel.retrain.click(actions.retrain, [models[0]], [panel.result, *models], **slow)


def _groups_of(phase: str) -> tuple:
    """Return which groups are there: what decides, and what goes from image to image."""
    deciding = phase == "deciding"
    rows = gr.Row(visible=deciding), gr.Column(visible=deciding), gr.Row(visible=phase != "before")
    return gr.Image(visible=deciding), *rows


def describe_folder(workspace: Workspace) -> str:
    """Return what is in the folder and how much of it was decided, as Markdown."""
    if workspace.data is None:
        return (
            "### No folder to review yet\n\nHere you look through the photos of one folder and "
            "decide what each shows, with a key each. The folder is chosen when this page is "
            "started: close it, and start it with `wordsight app --data FOLDER`. **Try** and "
            "**Train** work without one: they take photos that you drop."
        )
    counts = workspace.book.counts
    decided = ", ".join(f"{count} {action}" for action, count in counts.items())
    return (
        f"**{len(workspace.book.images)}** pictures in the folder; decided so far: {decided}. "
        "Decisions are kept in its `metadata.csv`."
    )


def _described(doubt: Doubt, state: tuple[str | None, str | None], place: int, of: int) -> str:
    """Return why an image is doubtful and what its labels are, as Markdown."""
    (label, decided), name = state, readable(doubt.file_name)
    probability = "" if doubt.probability is None else f" ({percent(doubt.probability)})"
    lines = [
        f"### {place + 1} of {of}: {QUESTIONS[doubt.kind]}",
        f"`{name[-90:].replace('`', '')}`",
        f"Why: {plain(doubt.why)}",
    ]
    lines.append(f"Label now: **{plain(label)}**" if label else "No label yet.")
    if doubt.suggestion and doubt.suggestion != label:
        lines.append(f"Suggestion: **{plain(doubt.suggestion)}**{probability}")
    if decided:
        lines.append(f"Decided: **{decided}**")
    return "\n\n".join(lines)
