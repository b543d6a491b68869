"""What mkdocs does beside its plugins: writes the command reference from the commands, leads
links to files outside docs/ to their pages.
"""

from __future__ import annotations

import re
import textwrap

import typer

from wordsight.cli.main import app

MARK = "<!-- commands -->"
PAGES = {
    "benchmarks/RESULTS.md": "results.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}


def on_page_markdown(markdown: str, page, **_) -> str:
    """Fill the place for commands, and mend links that are right in the repository but lead out
    of the site.
    """
    depth = page.file.src_uri.count("/")
    for outside, inside in PAGES.items():
        markdown = markdown.replace(
            f"]({'../' * (depth + 1)}{outside}", f"]({'../' * depth}{inside}"
        )
    return markdown.replace(MARK, commands_page()) if MARK in markdown else markdown


def on_post_page(output: str, **_) -> str:
    """Name the dialog of the search, for those who hear the page."""
    return output.replace(
        'data-md-component="search" role="dialog"',
        'data-md-component="search" role="dialog" aria-label="Search"',
    )


def commands_page() -> str:
    """Return a section for every command, as Markdown."""
    group = typer.main.get_command(app)
    commands = {name: group.commands[name] for name in group.list_commands(None)}
    overview = rows(
        ["command", "what it does"],
        [
            [f"[`{name}`](#{name})", cell(sentence(command.help))]
            for name, command in commands.items()
        ],
    )
    return "\n\n".join(
        [
            '<div class="options" markdown>',
            overview,
            "</div>",
            *(section(name, command) for name, command in commands.items()),
        ]
    )


def section(name: str, command) -> str:
    """Return a command's heading, sentence, examples, notes and table of arguments and options."""
    parts = [
        f"## {name}",
        cell(sentence(command.help)),
        f"```text\nwordsight {name} {usage(command)}\n```",
    ]
    for block in (textwrap.dedent(text.strip("\n")) for text in command.help.split("\b")[1:]):
        first, _, rest = block.partition("\n")
        if first == "Examples:":
            parts += ["Examples:", f"```sh\n{examples(rest)}\n```"]
        elif rest.startswith(" "):  # a sentence and what is listed under it
            parts += [
                cell(first),
                "\n".join(cell(line) for line in textwrap.dedent(rest).split("\n")),
            ]
        else:
            parts.append(cell(block))
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    table = rows(
        ["argument or option", "what it says", "default"], [[names(p), *meaning(p)] for p in shown]
    )
    return "\n\n".join([*parts, '<div class="options" markdown>', table, "</div>"])


def examples(text: str) -> str:
    """Return the lines of examples, what is said beside one as a comment."""
    return re.sub(r"(?<=\S) {3,}(?=\S)", "  # ", textwrap.dedent(text).rstrip())


def sentence(text: str) -> str:
    """Return the first paragraph of a help text, on one line."""
    return " ".join(text.split("\n\n")[0].split())


def usage(command) -> str:
    """Return what must be written after a command's name."""
    needed = [p for p in command.params if p.required]
    arguments = [p.metavar or p.name.upper() for p in needed if p.param_type_name == "argument"]
    options = [
        f"{p.opts[0]} {p.metavar or p.name.upper()}"
        for p in needed
        if p.param_type_name != "argument"
    ]
    return " ".join([*arguments, *options, "[OPTIONS]"])


def names(parameter) -> str:
    """Return how an argument or option is written, with what it takes."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    takes = f" `{parameter.metavar}`" if parameter.metavar else ""
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts]) + takes


def meaning(parameter) -> tuple[str, str]:
    """Return what a parameter says, and its default: as its help words it, else its value."""
    text, _, worded = (parameter.help or "").removesuffix("]").partition("[default: ")
    if worded:
        return cell(text), cell(worded)
    if parameter.required:
        return cell(parameter.help or ""), "must be given"
    return cell(parameter.help or ""), "–" if parameter.default in (
        None,
        False,
    ) else f"`{parameter.default}`"


def cell(text: str) -> str:
    """Return text fit for a cell of a table: words that look like options as code, signs of
    Markdown as they are.
    """
    text = re.sub(r"([|*_<>\[\]])", r"\\\1", text.strip())
    return re.sub(r"(?<![\w`-])(--?[a-z][a-z-]*)", r"`\1`", text)


def rows(head: list[str], body: list[list[str]]) -> str:
    """Return a table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])
