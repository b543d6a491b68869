"""The page in the browser: Try, Train, Review and Compare. Needs the extra `app`."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import gradio as gr

from ..backbones.runtime import callers, choose_engine
from .parts import HEAD, chosen
from .tab_compare import add_compare
from .tab_review import add_review, describe_folder
from .tab_train import add_train
from .tab_try import add_calls, add_try
from .turns import Turns
from .workspace import Workspace

FORGET_S = (300, 3600)  # how often uploads are looked through, and how old they may become
PACKAGE = Path(__file__).parents[1]
SESSIONS = 256  # visitors whose state is remembered at once
ACCENT = "#c2410c"
READABLE = {  # white letters on buttons need darker ones than Gradio's
    f"button_{kind}_background_fill{state}{mode}": colour
    for kind, colours in (("primary", (ACCENT, "#9a3412")), ("cancel", ("#b91c1c", "#991b1b")))
    for state, colour in zip(("", "_hover"), colours, strict=True)
    for mode in ("", "_dark")
}
# fonts of the visitor's machine: none is fetched
SYSTEM = ["ui-sans-serif", "system-ui", "sans-serif"]


class _Page(gr.Blocks):
    """A page that answers calls which aren't as described, and doesn't report them as faults."""

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Answer a call.

        Raises:
            gr.Error: if it isn't as described.
        """
        try:
            return await super().process_api(*arguments, **options)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            steps = traceback.extract_tb(error.__traceback__)[1:]
            if any(Path(step.filename).is_relative_to(PACKAGE) for step in steps):
                raise  # a fault of ours
            said = " ".join(str(error).split())[:200]
            raise gr.Error(
                f"This call isn't as described: {type(error).__name__}: {said}",
                print_exception=False,
            ) from None


def build_page(workspace: Workspace) -> gr.Blocks:
    """Return the page."""
    turns = Turns(callers(choose_engine("auto")))
    with _Page(title="wordsight", analytics_enabled=False, delete_cache=FORGET_S) as page:
        gr.Markdown(
            "# wordsight\nWords in, sight out: what your pictures show, where, and how sure "
            "that is."
        )
        with gr.Tabs():
            with gr.Tab("Try", id="try"):
                model = add_try(workspace, turns)
            with gr.Tab("Compare", id="compare", render=False) as compare:
                others = add_compare(workspace)
            models = [model, *others]
            with gr.Tab("Train", id="train"):
                add_train(workspace, models)
            with gr.Tab("Review", id="review"):
                folder = add_review(workspace, models)
            compare.render()
        add_calls(workspace, turns)

        def fresh() -> tuple:  # what was trained or decided since the page was built
            return (*chosen(workspace.models(), len(models)), describe_folder(workspace))

        page.load(
            fresh,
            [],
            [*models, folder],
            queue=False,
            api_visibility="private",
            show_progress="hidden",
        )
    return page


def mounted(page: gr.Blocks, allowed: list[str], blocked: list[str], max_file: int) -> Any:
    """Return the page as an ASGI application that makes no connection and serves no file but
    uploads.
    """
    from fastapi import FastAPI

    page.state_session_capacity = SESSIONS
    theme = gr.themes.Default(font=SYSTEM, font_mono=["ui-monospace", "monospace"])
    theme.set(
        **READABLE,
        color_accent=ACCENT,
        block_info_text_color="*neutral_600",
        body_text_color_subdued="*neutral_600",
    )
    application = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page.queue(max_size=256),
        path="",
        allowed_paths=allowed,
        blocked_paths=blocked,
        max_file_size=max_file,
        show_error=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        footer_links=[],
        theme=theme,
        head=HEAD,
    )
    # Gradio refuses files that nobody uploaded only of pages it launched itself
    page.has_launched = True
    return application
