"""The page's tab Review: doubtful images one by one, decided by keyboard, each decision on
disk before the next is shown.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..classification.report import percent
from .parts import offered, plain, readable, refused, shown, telling
from .review import Decision, Doubt
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


def add_review(workspace: Workspace, models: list[gr.Dropdown]) -> gr.Markdown:
    """Add the tab; `models` are the lists that a retrained model is added to. Return what tells
    of the folder.
    """
    if workspace.data is None:
        return gr.Markdown(describe_folder(workspace), elem_id="review-told")
    doubts = gr.State([])
    at = gr.State(0)
    was = gr.State(None)  # what the table said of the image when it was shown
    done = gr.State([])  # this visitor's decisions, to be taken back
    with gr.Row():
        find = gr.Button("Find doubtful pictures", variant="primary", elem_id="review-find")
        retrain = gr.Button("Retrain with the corrections", elem_id="review-retrain")
    told = gr.Markdown(describe_folder(workspace), elem_id="review-told")
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
            names = workspace.book.class_names
            with gr.Row():
                classes = [
                    gr.Button(
                        f"{readable(name)} ({number})",
                        elem_id=f"review-class-{number}",
                        min_width=80,
                    )
                    for number, name in enumerate(names[:NUMBERED], 1)
                ]
            with gr.Row():
                other = gr.Dropdown(
                    [readable(name) for name in names],
                    value=None,
                    label="Another label",
                    allow_custom_value=True,
                    elem_id="review-other",
                )
                change = gr.Button("Give it", elem_id="review-change")
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
    view = [at, done, was, image, why, accept, told]

    def show(found: list[Doubt], place: int, made: list[Decision]) -> tuple:
        place = max(0, min(place, len(found)))
        if place == len(found):
            nothing = "Nothing left to look at." if found else "Nothing doubtful was found."
            return place, made, None, None, nothing, "Accept (A)", describe_folder(workspace)
        doubt = found[place]
        with refused():
            state = workspace.book.state(doubt.file_name)
            image = shown(find_one(workspace.book, doubt.file_name))
        accept = f"Accept “{readable(state[0] or doubt.suggestion or '')}” (A)"
        return (
            place,
            made,
            state,
            image,
            _described(doubt, state, place, len(found)),
            accept,
            describe_folder(workspace),
        )

    def begin(
        name: str | None, made: list[Decision], progress: gr.Progress = gr.Progress()
    ) -> tuple:
        progress(0, desc="looking for doubtful pictures")
        with refused():
            known = name if name in workspace.models() else None
            threshold = workspace.viewer(known).threshold if workspace.models() else None
            found = workspace.doubts(known, threshold, telling(progress))
        return (found, *show(found, 0, made))

    def decide(
        found: list[Doubt],
        place: int,
        made: list[Decision],
        seen: Any,
        action: str,
        label: str | None = None,
    ) -> tuple:
        if not 0 <= place < len(found) or seen is None:
            return show(found, place, made)
        doubt, seen = found[place], tuple(seen)
        chosen = (label or "").strip() if action == "changed" else seen[0] or doubt.suggestion
        if action == "changed" and not chosen:
            raise gr.Error("Choose or type a label first.", print_exception=False)
        if action == "changed" and chosen == (seen[0] or doubt.suggestion):
            action = "accepted"
        with refused():
            decision = workspace.book.decide(doubt.file_name, action, chosen, seen)
        return show(found, place + 1, [*made, decision])

    def take_back(found: list[Doubt], place: int, made: list[Decision]) -> tuple:
        if not made:
            gr.Info("Nothing to undo.")
            return show(found, place, made)
        with refused():
            workspace.book.undo(made[-1])
        there = next(
            (index for index, doubt in enumerate(found) if doubt.file_name == made[-1].file_name),
            place,
        )
        return show(found, there, made[:-1])

    def again(progress: gr.Progress = gr.Progress()) -> tuple:
        progress(0, desc="training")
        with refused():
            name = workspace.retrain(telling(progress))
            names = workspace.models()
            text = summarise(workspace.viewer(name).model, name)
        return (text, *offered(names, name, len(models)))

    def named(name: str) -> Any:
        return lambda found, place, made, seen: decide(found, place, made, seen, "changed", name)

    quick: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    slow: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_limit": 1,
        "concurrency_id": "train",
    }
    model = models[0]
    here = [doubts, at, done]
    find.click(begin, [model, done], [doubts, *view], **slow)
    accept.click(
        lambda found, place, made, seen: decide(found, place, made, seen, "accepted"),
        [*here, was],
        view,
        **quick,
    )
    reject.click(
        lambda found, place, made, seen: decide(found, place, made, seen, "rejected"),
        [*here, was],
        view,
        **quick,
    )
    change.click(
        lambda found, place, made, seen, label: decide(found, place, made, seen, "changed", label),
        [*here, was, other],
        view,
        **quick,
    )
    for button, name in zip(classes, names, strict=False):
        button.click(named(name), [*here, was], view, **quick)
    undo.click(take_back, here, view, **quick)
    back.click(lambda found, place, made: show(found, place - 1, made), here, view, **quick)
    forward.click(lambda found, place, made: show(found, place + 1, made), here, view, **quick)
    retrain.click(again, [], [result, *models], **slow)
    return told


def describe_folder(workspace: Workspace) -> str:
    """Say what is in the folder and how much of it was decided, in Markdown."""
    if workspace.data is None:
        return (
            "Start with a folder to review: `wordsight app --data FOLDER`, best with a model: "
            "`-m MODEL`."
        )
    counts = workspace.book.counts
    said = ", ".join(f"{count} {action}" for action, count in counts.items())
    return (
        f"**{len(workspace.book.images)}** pictures in the folder; decided so far: {said}. "
        "Decisions are kept in its `metadata.csv`."
    )


def _described(doubt: Doubt, state: tuple[str | None, str | None], place: int, of: int) -> str:
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
