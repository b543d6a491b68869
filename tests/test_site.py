"""The documentation site: built without a warning, whole, asking nothing of other hosts, true
to the code; looked at in a browser.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml

import wordsight
from conftest import serious

ROOT = Path(__file__).resolve().parents[1]
LOADED = {
    "script": ["src"],
    "img": ["src", "srcset"],
    "iframe": ["src"],
    "source": ["src", "srcset"],
    "video": ["src", "poster"],
    "object": ["data"],
}


def module_of(name):
    """A script of this repository, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def nav_pages(nav):
    """The pages that the navigation names."""
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(value, str):
                yield value
            else:
                yield from nav_pages(value)


def address(page):
    """Where in the built site a page lies."""
    return (
        "index.html"
        if page == "index.md"
        else f"{page.removesuffix('.md').removesuffix('/index')}/index.html"
    )


class Reading(HTMLParser):
    """What a built page links to, loads and can be linked to by."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors, self.styles = [], [], set(), ""
        self.within = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.within = tag
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        self.styles += attributes.get("style") or ""
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "link" and attributes.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(attributes["href"])
        self.loads += [attributes[name] for name in LOADED.get(tag, []) if attributes.get(name)]

    def handle_data(self, data):
        self.styles += data if self.within == "style" else ""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site. While it is built, nothing but information may be said:
    `--strict` counts only what is logged as a warning.
    """
    pytest.importorskip("mkdocs", reason="needs mkdocs: pip install 'wordsight[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(ROOT / "mkdocs.yml"),
        "--site-dir",
        str(folder),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if line and not line.startswith("INFO ")
    ]
    assert (done.returncode, said) == (0, [])
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Every built page, read."""
    return {path.relative_to(site).as_posix(): Reading(path) for path in site.rglob("*.html")}


@pytest.fixture
def served(site):
    """The address of the site, served on this machine."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(quiet, directory=str(site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_every_page_of_the_navigation_is_built_and_says_something(site):
    names = list(
        nav_pages(
            yaml.safe_load(
                "nav:" + (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
            )["nav"]
        )
    )
    assert len(names) == len(set(names))
    for name in names:
        text = (site / address(name)).read_text(encoding="utf-8")
        assert re.search(r"<h1[^>]*>[^<]", text), name


def test_no_link_within_the_site_is_broken(site, pages):
    broken = []
    for page, reading in pages.items():
        for link in [*reading.links, *reading.loads]:
            # the former's addresses begin at the root of a host
            if page == "404.html" or urlsplit(link).scheme:
                continue
            target = urlsplit(urljoin(f"http://site/{page}", link))
            path = unquote(target.path).lstrip("/")
            path = path + "index.html" if path.endswith("/") or not path else path
            anchors = pages[path].anchors if path in pages else set()
            if not (site / path).is_file() or (
                target.fragment and path in pages and unquote(target.fragment) not in anchors
            ):
                broken.append(f"{page}: {link}")
    assert not broken


def test_built_pages_load_nothing_from_another_host(site, pages):
    outside = [
        f"{page}: {load}"
        for page, reading in pages.items()
        for load in reading.loads
        if urlsplit(load).netloc
    ]
    outside += [
        f"{page}: a style"
        for page, reading in pages.items()
        if re.search(r"url\(['\"]?(https?:)?//", reading.styles)
    ]
    for path in site.rglob("*.css"):
        outside += [
            f"{path.name}: {found}"
            for found in re.findall(
                r"(?:url\(|@import )['\"]?(?:https?:)?//[^'\")]*", path.read_text(encoding="utf-8")
            )
        ]
    assert not outside


def test_the_python_reference_has_every_public_name_once(site):
    named = re.findall(
        r"^::: wordsight\.(\w+)$",
        (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    folders = {name for name in wordsight.__all__ if inspect.ismodule(getattr(wordsight, name))}
    assert sorted(named) == sorted(set(wordsight.__all__) - folders)
    built = (site / "reference/api/index.html").read_text(encoding="utf-8")
    assert [name for name in named if f'id="wordsight.{name}"' not in built] == []


def test_the_command_reference_has_every_command_and_option(site):
    import typer

    from wordsight.cli.main import app

    text = (site / "reference/commands/index.html").read_text(encoding="utf-8")
    sections = dict(re.findall(r'<h2 id="([\w-]+)">(.*?)(?=<h2|</article>)', text, re.DOTALL))
    group = typer.main.get_command(app)
    commands = group.commands
    assert list(sections) == group.list_commands(None)
    for name, command in commands.items():
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else []:
                assert f"<code>{option}</code>" in sections[name], f"{name} {option}"
        assert ("Examples" in command.help) == ("Examples:" in sections[name])


def test_the_architecture_is_drawn_from_the_sources_as_they_are():
    drawing = module_of("draw_architecture")
    assert drawing.TARGET.read_text(encoding="utf-8") == drawing.draw(), (
        "Draw it anew: python scripts/draw_architecture.py"
    )


def test_the_table_of_extras_is_that_of_the_package():
    text = (
        (ROOT / "pyproject.toml")
        .read_text(encoding="utf-8")
        .split("[project.optional-dependencies]")[1]
        .split("\n[")[0]
    )
    extras = {line.split(" = ")[0] for line in text.strip().splitlines()} - {"dev", "docs"}
    table = (
        (ROOT / "docs" / "install.md")
        .read_text(encoding="utf-8")
        .split("## Extras")[1]
        .split("\n## ")[0]
    )
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == extras


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("", "wordsight"),
        ("tutorials/brick/", None),
        ("reference/api/", "Python"),
        ("reference/commands/", "The command line"),
    ],
)
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_in_a_browser(tab, served, page, heading, width):
    shown = tab(f"{served}/{page}", width=width, dark=width == 390).page
    title = shown.locator("article h1").first
    assert heading is None or title.inner_text().removesuffix("¶").strip() == heading
    assert title.is_visible()
    # nothing sticks out to the side
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    if page == "tutorials/brick/" and width == 1280:  # no line of an output is cut off
        printed = shown.locator(".language-text code")
        assert printed.count()
        assert printed.evaluate_all("all => all.every(one => one.scrollWidth <= one.clientWidth)")
    images = shown.locator("article img")
    for k in range(images.count()):
        images.nth(k).scroll_into_view_if_needed()
        shown.wait_for_function(
            "k => { const i = document.querySelectorAll('article img')[k]; return i.complete "
            "&& i.naturalWidth > 0 }",
            arg=k,
        )


@pytest.mark.parametrize(
    ("page", "dark"),
    [
        *(("", False), ("", True), ("reference/commands/", False)),
        pytest.param("reference/commands/", True, marks=pytest.mark.slow),
        *(pytest.param("reference/api/", dark, marks=pytest.mark.slow) for dark in (False, True)),
    ],
)
def test_pages_are_accessible(tab, served, page, dark):
    shown = tab(f"{served}/{page}", dark=dark).page
    shown.wait_for_function("document.fonts.status === 'loaded'")
    # wide tables scroll in a box of the theme's, which browsers let one reach by keyboard
    browsers_do = "scrollable-region-focusable"
    rules = ["color-contrast"] if dark else []  # the theme changes nothing but colours
    assert [found for found in serious(shown, *rules) if not found.startswith(browsers_do)] == []


def test_search_finds_a_command(tab, served):
    page = tab(f"{served}/").page
    # what is typed before the theme's script listens is lost
    page.wait_for_load_state("networkidle")
    page.locator("input[name=query]").click()
    page.keyboard.type("sliding windows pyramid", delay=30)
    page.locator(".md-search-result__item a[href*='reference/commands/#detect']").first.wait_for(
        state="attached", timeout=60_000
    )


def test_hooks_lead_links_to_files_outside_to_their_pages():
    hooks = module_of("docs_hooks")
    page = type("Page", (), {"file": type("File", (), {"src_uri": "how-to/label.md"})})
    assert (
        hooks.on_page_markdown("see [it](../../benchmarks/RESULTS.md#first).", page)
        == "see [it](../results.md#first)."
    )
