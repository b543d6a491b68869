"""The page's tab Review: doubtful images one by one, decided by keyboard.

Each decision is on disk before the next image is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..classification.report import percent
from ..datasets.decisions import Decision
from .parts import offered, plain, readable, refused, shown, telling
from .review import Doubt
from .tab_train import summarise
from .workspace import Workspace, find_one

NUMBERED = 9  # classes that have a key
KEYS = """
<script>
document.addEventListener("keydown", (event) => {
  const target = event.target;
  const typing = target.closest("input, textarea, select, [contenteditable], [role=listbox]");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  const keys = { a: "accept", r: "reject", u: "undo", ArrowRight: "next", ArrowLeft: "back" };
  const button = keys[event.key];
  const digit = /^[1-9]$/.test(event.key) ? `review-class-${event.key}` : null;
  const id = button ? `review-${button}` : digit;
  const element = id && document.getElementById(id);
  if (!element || element.offsetParent === null) return;
  event.preventDefault();
  (element.matches("button") ? element : element.querySelector("button")).click();
});
</script>
"""


@dataclass(frozen=True)
class _Panel:
    """The components of the tab that events read or change.

    Attributes:
        find: button that looks for doubtful images.
        retrain: button that trains on the corrections.
        status: text on the folder and how much of it was decided.
        image: the doubtful image.
        why: text on why it is doubtful.
        accept, reject, change: buttons that decide.
        classes: a button for each of the first classes.
        other: list of labels that `change` gives.
        back, undo, forward: buttons that go from image to image.
        result: text on the retrained model.
    """

    find: gr.Button
    retrain: gr.Button
    status: gr.Markdown
    image: gr.Image
    why: gr.Markdown
    accept: gr.Button
    classes: list[gr.Button]
    other: gr.Dropdown
    change: gr.Button
    reject: gr.Button
    back: gr.Button
    undo: gr.Button
    forward: gr.Button
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
    panel = _build(workspace, class_names)
    _connect(panel, _Actions(workspace, len(models)), class_names, models)
    return panel.status


def _build(workspace: Workspace, class_names: list[str]) -> _Panel:
    """Lay the tab out, from top to bottom."""
    with gr.Row():
        find = gr.Button("Find doubtful pictures", variant="primary", elem_id="review-find")
        retrain = gr.Button("Retrain with the corrections", elem_id="review-retrain")
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
        )
        with gr.Column(scale=1):
            why = gr.Markdown(elem_id="review-why")
            accept = gr.Button("Accept (A)", variant="primary", elem_id="review-accept")
            classes, other, change = _build_labels(class_names)
            reject = gr.Button("Reject (R)", variant="stop", elem_id="review-reject")
            with gr.Row():
                back = gr.Button("← Back", elem_id="review-back", min_width=60)
                undo = gr.Button("Undo (U)", elem_id="review-undo", min_width=60)
                forward = gr.Button("Skip →", elem_id="review-next", min_width=60)
    gr.Markdown(
        "Keys: **A** accept, **1–9** another class, **R** reject, **U** undo, **← →** go "
        "without deciding. Everything is saved at once."
    )
    result = gr.Markdown(elem_id="review-result")
    return _Panel(
        find=find,
        retrain=retrain,
        status=status,
        image=image,
        why=why,
        accept=accept,
        classes=classes,
        other=other,
        change=change,
        reject=reject,
        back=back,
        undo=undo,
        forward=forward,
        result=result,
    )


def _build_labels(class_names: list[str]) -> tuple[list[gr.Button], gr.Dropdown, gr.Button]:
    """Lay out the choice of another label: class buttons, the list of labels, its button."""
    with gr.Row():
        classes = [
            gr.Button(
                f"{readable(name)} ({number})",
                elem_id=f"review-class-{number}",
                min_width=80,
            )
            for number, name in enumerate(class_names[:NUMBERED], 1)
        ]
    with gr.Row():
        other = gr.Dropdown(
            [readable(name) for name in class_names],
            value=None,
            label="Another label",
            allow_custom_value=True,
            elem_id="review-other",
        )
        change = gr.Button("Give it", elem_id="review-change")
    return classes, other, change


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

    def show(self, found: list[Doubt], place: int, made: list[Decision]) -> tuple:
        """Return the view of one doubtful image, or of the end of the list."""
        place = max(0, min(place, len(found)))
        if place == len(found):
            nothing = "Nothing left to look at." if found else "Nothing doubtful was found."
            status = describe_folder(self._workspace)
            return place, made, None, None, nothing, "Accept (A)", status
        doubt = found[place]
        with refused():
            state = self._workspace.book.state(doubt.file_name)
            image = shown(find_one(self._workspace.book, doubt.file_name))
        accept = f"Accept “{readable(state[0] or doubt.suggestion or '')}” (A)"
        why = _described(doubt, state, place, len(found))
        return place, made, state, image, why, accept, describe_folder(self._workspace)

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

    def accept(self, found: list[Doubt], place: int, made: list[Decision], seen: Any) -> tuple:
        """Accept the label, or else the suggestion."""
        return self._decide(found, place, made, seen, "accepted")

    def reject(self, found: list[Doubt], place: int, made: list[Decision], seen: Any) -> tuple:
        """Reject the image: it gets no label."""
        return self._decide(found, place, made, seen, "rejected")

    def change(
        self, found: list[Doubt], place: int, made: list[Decision], seen: Any, label: str | None
    ) -> tuple:
        """Give the image another label."""
        return self._decide(found, place, made, seen, "changed", label)

    def change_to(self, label: str) -> Callable[[list[Doubt], int, list[Decision], Any], tuple]:
        """Return the action of the button of one class."""
        return lambda found, place, made, seen: self.change(found, place, made, seen, label)

    def back(self, found: list[Doubt], place: int, made: list[Decision]) -> tuple:
        """Show the image before."""
        return self.show(found, place - 1, made)

    def forward(self, found: list[Doubt], place: int, made: list[Decision]) -> tuple:
        """Show the next image without deciding on this one."""
        return self.show(found, place + 1, made)

    def undo(self, found: list[Doubt], place: int, made: list[Decision]) -> tuple:
        """Take the visitor's last decision back and show its image."""
        if not made:
            gr.Info("Nothing to undo.")
            return self.show(found, place, made)
        with refused():
            self._workspace.book.undo(made[-1])
        there = next(
            (index for index, doubt in enumerate(found) if doubt.file_name == made[-1].file_name),
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
        found: list[Doubt],
        place: int,
        made: list[Decision],
        seen: Any,
        action: str,
        label: str | None = None,
    ) -> tuple:
        """Write a decision on the image shown, and show the next."""
        if not 0 <= place < len(found) or seen is None:
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
    doubts = gr.State([])
    place = gr.State(0)
    seen = gr.State(None)  # the image's state in the table when it was shown
    made = gr.State([])  # this visitor's decisions, to be taken back
    here = [doubts, place, made]
    view = [place, made, seen, panel.image, panel.why, panel.accept, panel.status]
    quick: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    slow: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_limit": 1,
        "concurrency_id": "train",
    }
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


def describe_folder(workspace: Workspace) -> str:
    """Return what is in the folder and how much of it was decided, as Markdown."""
    if workspace.data is None:
        return (
            "Start with a folder to review: `wordsight app --data FOLDER`, best with a model: "
            "`-m MODEL`."
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
        f"### {place + 1} of {of}: {doubt.kind}",
        f"`{name[-90:].replace('`', '')}`",
        f"Why: {plain(doubt.why)}",
    ]
    lines.append(f"Label now: **{plain(label)}**" if label else "No label yet.")
    if doubt.suggestion and doubt.suggestion != label:
        lines.append(f"Suggestion: **{plain(doubt.suggestion)}**{probability}")
    if decided:
        lines.append(f"Decided: **{decided}**")
    return "\n\n".join(lines)
