"""Contract of every registered source, and what is special in each."""

from __future__ import annotations

import csv
import inspect
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import anyio
import pytest

import wordsight
from imitation import drawn_image
from wordsight.datasets.licenses import CODES, UNKNOWN, parse_filter
from wordsight.gathering.sources import (
    Candidate,
    FakeSource,
    Query,
    SearchPage,
    Source,
    Web,
    list_sources,
    open_source,
    register_source,
)
from wordsight.gathering.sources.commons import plain_text
from wordsight.gathering.sources.openverse import Openverse, _wait_s
from wordsight.gathering.sources.web import site


def ask(source, text="cat", cursor=None, label=None, license="any", min_size=224):
    """One page of a source."""

    async def once():
        async with Web(source.allowed_sites()) as web:
            return await source.search(
                Query(text, label or text, parse_filter(license), min_size), cursor, web
            )

    return anyio.run(once)


def every_page(source, **options):
    pages, cursor = [ask(source, **options)], None
    while (cursor := pages[-1].cursor) is not None:
        pages.append(ask(source, cursor=cursor, **options))
        assert len(pages) < 100
    return pages


@pytest.fixture
def searching(monkeypatch):
    """The packages of web search, with answers of our own; returns what they were asked."""
    asked = []

    class DDGS:
        def images(self, query, page=1, **options):
            asked.append((query, page))
            if query == "xyzzyq":
                raise RuntimeError("No results found.")
            item = {
                "title": "A",
                "image": f"https://example.org/{query}-{page}.jpg",
                "url": "https://example.org/p",
                "height": 300,
                "width": "400",
            }
            return [item, {"title": "no address"}] if page < 3 else []

    monkeypatch.setitem(sys.modules, "ddgs", types.SimpleNamespace(DDGS=DDGS))
    monkeypatch.setattr(
        "wordsight.gathering.sources.web_search._addresses_from_bing",
        lambda text: [] if text == "xyzzyq" else ["https://example.org/a.jpg"],
    )
    return asked


@pytest.fixture
def opened(request, imitation, searching, shapes, tmp_path):
    """A source by name, with something to find for cat."""
    imitation("--offered", 45)
    (tmp_path / "own" / "cat").mkdir(parents=True)
    (tmp_path / "own" / "cat" / "a b.jpg").write_bytes(drawn_image("cat", 1))
    (tmp_path / "list.csv").write_text(
        "url,label,license\nhttps://example.org/a.jpg,cat,CC BY 4.0\n"
        "https://example.org/b.jpg,dog,\n"
    )
    argument = {"folder": f":{tmp_path / 'own'}", "urls": f":{tmp_path / 'list.csv'}"}
    source = open_source(request.param + argument.get(request.param, ""))
    source.text = request.param + argument.get(request.param, "")
    return source


@pytest.mark.parametrize("opened", list_sources(), indirect=True)
def test_every_source_keeps_the_contract(opened):
    assert (
        isinstance(opened, Source)
        and opened.name in list_sources()
        and inspect.getdoc(type(opened))
    )
    assert isinstance(opened.needs_network, bool) and isinstance(opened.widens, bool)
    opened.check(["cat"])
    pages = every_page(opened)
    urls = [candidate.url for page in pages for candidate in page.candidates]
    assert urls and all(isinstance(page, SearchPage) for page in pages)
    for page in pages:
        for candidate in page.candidates:
            assert (
                isinstance(candidate, Candidate)
                and candidate.url
                and candidate.license in (*CODES, UNKNOWN)
            )
            assert all(
                isinstance(getattr(candidate, name), str)
                for name in ("creator", "title", "page_url", "attribution", "license_url")
            )
            assert "<" not in candidate.creator and "\n" not in candidate.creator
    again = every_page(open_source(opened.text))
    assert [candidate.url for page in again for candidate in page.candidates] == urls


@pytest.mark.parametrize("opened", list_sources(), indirect=True)
def test_nothing_found_is_an_empty_page_or_a_cause(opened, imitation):
    imitation("--empty", "xyzzyq", name="empty")
    try:
        assert ask(open_source(opened.text), text="xyzzyq").candidates == []
    except wordsight.errors.SourceUnavailable as error:
        assert "xyzzyq" in str(error)


def test_openverse_stops_at_its_depth_and_goes_on_by_aspect_ratio(imitation):
    service = imitation("--offered", 300)
    pages = every_page(Openverse())
    asked = service.requests("/v1/images/")
    assert (
        len(pages) == len(asked) == 4 * 12 and sum("aspect_ratio" not in url for url in asked) == 12
    )
    assert len({c.url for page in pages for c in page.candidates}) > 480
    assert all("page_size=20" in url and "filter_dead=true" in url for url in asked)
    few = imitation("--offered", 30, name="few")
    assert len(every_page(Openverse())) == 2 == len(few.requests())


def test_openverse_tells_its_filters_and_cuts_long_queries(imitation):
    service = imitation("--offered", 20)
    for license in ("commercial", "by,cc0", "any"):
        ask(Openverse(), license=license)
    first, second, third = service.requests("/v1/")
    assert (
        "license_type=commercial" in first
        and "license=by%2Ccc0" in second
        and "license" not in third
    )
    assert ask(Openverse(), text="x " * 150 + "cat").candidates is not None


def test_openverse_uses_a_key_and_keeps_it_secret(imitation, monkeypatch, tmp_path, cli_here):
    service = imitation("--offered", 100)
    monkeypatch.setenv("WORDSIGHT_OPENVERSE_CLIENT_ID", "ali-baba-id")
    monkeypatch.setenv("WORDSIGHT_OPENVERSE_CLIENT_SECRET", "sesame")
    assert len(ask(Openverse()).candidates) == 50
    process = cli_here(
        "gather", "cat", "-o", "d", "--limit", 5, "--source", "openverse", env=service.env
    )
    assert process.returncode == 0, process.stderr
    everything = (
        process.stdout
        + process.stderr
        + "".join(
            p.read_bytes().decode("latin-1") for p in (tmp_path / "d").glob("*") if p.is_file()
        )
    )
    assert not any(secret in everything for secret in ("sesame", "token-1", "ali-baba-id"))
    lines = service.log.read_text().splitlines()
    assert all("AUTH" in line for line in lines if "/v1/images/" in line) and not any(
        "AUTH" in line for line in lines if "/pictures/" in line
    )
    monkeypatch.setenv("WORDSIGHT_OPENVERSE_CLIENT_SECRET", "wrong")
    with pytest.raises(wordsight.errors.SourceUnavailable, match="refuses the key"):
        ask(Openverse())


def test_openverse_is_not_asked_for_licences_it_does_not_have(imitation):
    service = imitation("--offered", 100)
    assert (
        ask(Openverse(), license="gfdl,fal")
        == SearchPage([], note="has no pictures under these licences")
        and not service.requests()
    )


NONSENSE = [
    b"[]", b"{}", b"null", b"[" * 200_000, b"<html>", b'{"results": null, "query": null}',
    b'{"results": [null, 3, {}], "query": []}',
    b'{"results": [{"url": 7}], "query": {"pages": null}}', b'{"query": {"pages": {"1": {}}}}',
    b'{"query": 7, "result_count": -1}',
    b'{"results": [{"url": "http://a/\\ud800", "title": "\\ud800", "license": 3}], '
        b'"page_count": "x", "batchcomplete": true, "query": {"pages": [{"index": "b",'
    b' "imageinfo": [{"url": "http://a/b", "extmetadata": {"Artist": {"value": "<![foo[ '
        b'x"}, "Credit": {"value": null}}}]}, {"index": null, "imageinfo": {}},'
    b' {"imageinfo": [null]}, {"imageinfo": [{"url": "http://a/c", "extmetadata": ["x"], '
        b'"thumbwidth": "-"}]}]}}',
]  # fmt: skip


@pytest.mark.parametrize("name", ["openverse", "commons"])
@pytest.mark.parametrize("body", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_from_a_service_is_a_cause_or_harmless(name, body, monkeypatch, tmp_path):
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("WORDSIGHT_OPENVERSE_URL", root)
        monkeypatch.setenv("WORDSIGHT_COMMONS_URL", root)
        try:
            page = ask(open_source(name))
            assert all(
                candidate.url.encode() and candidate.creator in ("", "x")
                for candidate in page.candidates
            )
        except wordsight.errors.SourceUnavailable as error:
            assert str(error)
        finally:
            server.shutdown()


def test_openverse_waits_as_its_headers_say():
    import time
    from collections import deque

    now = time.monotonic()
    headers = {
        "x-ratelimit-limit-anon_burst": "20/min",
        "x-ratelimit-available-anon_burst": "0",
        "x-ratelimit-limit-anon_sustained": "200/day",
    }
    assert (
        50
        < _wait_s(
            {**headers, "x-ratelimit-available-anon_sustained": "7"},
            deque([now - 90, now - 10, now]),
        )
        < 51
    )
    assert _wait_s({**headers, "x-ratelimit-available-anon_burst": "3"}, deque([now])) == 0
    assert _wait_s({**headers, "x-ratelimit-available-anon_sustained": "0"}, deque([now])) > 86_000


def test_openverse_obeys_the_limits_of_the_service(imitation):
    service = imitation("--offered", 240, "--burst", 5)
    assert len(every_page_in_one_run(Openverse())) == 12
    assert len(service.requests("/v1/")) <= 13  # it waited before it was told to


def every_page_in_one_run(source):
    async def run():
        pages, cursor = [], None
        async with Web(source.allowed_sites()) as web:
            while not pages or cursor is not None:
                pages.append(
                    await source.search(Query("cat", "cat", parse_filter("any"), 224), cursor, web)
                )
                cursor = pages[-1].cursor
        return pages

    return anyio.run(run)


def test_commons_reads_licences_makers_and_previews(imitation):
    imitation("--offered", 120)
    pages = every_page(open_source("commons"))
    assert [len(page.candidates) for page in pages] == [49, 50, 19]  # two pages have no imageinfo
    first = pages[0].candidates[0]
    assert (
        first.url.endswith("/pictures/cat/0.jpg?commons")
        and first.license == "by"
        and first.creator == "Bob & 0"
    )
    assert (
        first.attribution == '"cat 0" by Bob & 0, CC BY 4.0, via Wikimedia Commons'
        and first.page_url.endswith("/wiki/0")
    )


def test_commons_asks_for_previews_large_enough(imitation):
    service = imitation("--offered", 10)
    for min_size in (224, 500, 5000):
        ask(open_source("commons"), min_size=min_size)
    assert [
        url.partition("iiurlwidth=")[2].partition("&")[0] for url in service.requests("/w/")
    ] == ["640", "1280", "3840"]


def test_plain_text_reduces_html():
    assert (
        plain_text(
            '<a href="x">Ann</a> &amp; <b>Bob</b><br>1 <style>p{}</style><script>x()</script>&lt;3'
        )
        == "Ann & Bob 1 <3"
    )
    assert plain_text("<div>open <b>unclosed") == "open unclosed"


def test_at_most_three_requests_at_once_reach_commons(imitation, cli_here):
    import urllib.request

    service = imitation("--offered", 100, "--delay", 0.02)
    assert (
        cli_here(
            "gather", "cat", "-o", "d", "--limit", 60, "--source", "commons", env=service.env
        ).returncode
        == 0
    )
    assert int(urllib.request.urlopen(f"{service.root}/most_at_once").read()) <= 3


def test_url_lists_are_read_in_every_form(imitation, cli_here, tmp_path):
    import pyarrow
    import pyarrow.parquet

    service = imitation("--offered", 10)
    urls = [f"{service.root}/pictures/cat/{i}.jpg" for i in range(4)]
    (tmp_path / "a.txt").write_text("# mine\n" + "\n".join(urls) + "\n\n")
    with open(tmp_path / "b.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("label", "url", "license", "creator"),
                *(("cat", url, "CC BY-SA 4.0", "Zoë") for url in urls),
            ]
        )
    pyarrow.parquet.write_table(
        pyarrow.table(
            {
                "url": urls,
                "label": ["cat"] * 4,
                "license_url": ["https://creativecommons.org/licenses/by/4.0/"] * 4,
            }
        ),
        tmp_path / "c.parquet",
    )
    for name, code in (("a.txt", "unknown"), ("b.csv", "by-sa"), ("c.parquet", "by")):
        process = cli_here(
            "gather",
            "cat",
            "-o",
            name[0],
            "--limit",
            4,
            "--source",
            f"urls:{tmp_path / name}",
            env=service.env,
        )
        assert process.returncode == 0, process.stderr
        with open(tmp_path / name[0] / "metadata.csv", newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        assert {row["license"] for row in rows} == {code} and {
            row["source_url"] for row in rows
        } == set(urls)
    refused = cli_here(
        "gather",
        "cat",
        "-o",
        "x",
        "--limit",
        4,
        "--license",
        "commercial",
        "--source",
        f"urls:{tmp_path / 'a.txt'}",
        env=service.env,
    )
    assert refused.returncode == 1 and "licence" in refused.stderr


@pytest.mark.parametrize(
    ("name", "content", "classes", "message"),
    [
        (
            "a.txt",
            b"https://example.org/a.jpg",
            ["cat", "dog"],
            "no labels, so it can serve one class only",
        ),
        (
            "a.csv",
            b"address,label\n1,2\n",
            ["cat"],
            "needs the columns url and label; it has address, label",
        ),
        (
            "a.csv",
            b"url,label\nhttps://a,dog\n",
            ["cat"],
            "no address for 'cat'; its labels are: dog",
        ),
        ("a.parquet", b"nonsense", ["cat"], "can't be read"),
        ("a.json", b"[]", ["cat"], "must be .txt, .csv or .parquet"),
    ],
)
def test_bad_lists_are_refused_before_any_work(tmp_path, name, content, classes, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(wordsight.errors.InvalidArgument, match=message):
        open_source(f"urls:{tmp_path / name}").check(classes)
    with pytest.raises(wordsight.errors.NotFound):
        open_source(f"urls:{tmp_path / 'none.csv'}").check(classes)


def test_folders_work_offline_and_leave_their_files_alone(cli_here, shapes, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in shapes.rglob("*")}
    process = cli_here(
        "gather",
        "disc,square",
        "-o",
        "d",
        "--limit",
        5,
        "--source",
        f"folder:{shapes}",
        "--offline",
    )
    assert process.returncode == 0, process.stderr
    assert (
        len(list((tmp_path / "d").glob("*/*.jpg"))) == 10
        and {path: path.stat().st_mtime_ns for path in shapes.rglob("*")} == before
    )
    assert (
        cli_here("gather", "cat", "-o", "e", "--source", f"folder:{shapes}", "--offline").returncode
        == 2
    )


def test_ddgs_gives_pages_until_there_are_none(searching):
    pages = every_page(open_source("ddgs"))
    assert [c.url for page in pages for c in page.candidates] == [
        "https://example.org/cat-1.jpg",
        "https://example.org/cat-2.jpg",
    ]
    assert searching == [("cat", 1), ("cat", 2), ("cat", 3)] and pages[0].candidates[0].width == 400


@pytest.mark.parametrize("name", ["ddgs", "icrawler"])
def test_web_search_without_its_package_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        wordsight.errors.InvalidArgument, match=r"pip install 'wordsight\[search\]'"
    ):
        open_source(name).check(["cat"])


@pytest.mark.parametrize("name", ["ddgs", "icrawler"])
def test_web_search_that_finds_nothing_is_a_loud_error(name, searching, tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_OFFLINE", "")
    assert "found nothing for 'xyzzyq'" in ask(open_source(name), text="xyzzyq").note
    with pytest.raises(
        wordsight.errors.NothingGathered, match=rf"{name}: found nothing for 'xyzzyq'"
    ):
        wordsight.gather("xyzzyq", tmp_path / "d", sources=name)
    assert "knows no licences" in ask(open_source(name), license="commercial").note


def test_the_real_packages_still_have_what_we_use():
    import ddgs
    from icrawler import Downloader
    from icrawler.builtin import BingImageCrawler

    assert callable(ddgs.DDGS.images)
    assert {"task", "default_ext"} <= set(inspect.signature(Downloader.download).parameters)
    assert {"keyword", "max_num", "filters"} <= set(
        inspect.signature(BingImageCrawler.crawl).parameters
    )


def test_a_source_of_ones_own_comes_by_entry_point(tmp_path):
    (tmp_path / "my_source.py").write_text(
        textwrap.dedent("""
        from wordsight.gathering import FakeSource
        from imitation import drawn_image
        class Mine(FakeSource):
            name = "mine"
            def __init__(self):
                super().__init__({"cat": [drawn_image("cat", i) for i in range(3)]})
        """)
    )
    info = tmp_path / "my_source-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-source\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[wordsight.sources]\nmine = my_source:Mine\nbroken = my_source:Nothing\n"
    )
    code = (
        "import wordsight as w; print(w.gather('cat', 'd', sources=['mine'], limit=3).kept, "
        "'mine' in w.gathering.list_sources()); w.gather('cat', 'e', sources=['broken'])"
    )
    environment = {
        "PYTHONPATH": f"{tmp_path}:{Path(__file__).parent}",
        "PATH": "",
        "HOME": str(tmp_path),
        "WORDSIGHT_OFFLINE": "1",
    }
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stdout.strip() == "{'cat': 3} True", process.stderr
    assert (
        "InvalidArgument: Source 'broken' of 'my_source:Nothing' can't be loaded" in process.stderr
    )


def test_register_source_makes_it_known(monkeypatch):
    from wordsight.gathering.sources import base

    monkeypatch.setattr(base, "_registry", dict(base._registry))

    @register_source
    class Another(FakeSource):
        """Another."""

        name = "another"

        def __init__(self):
            super().__init__({})

    assert isinstance(open_source("another"), Another) and "another" in list_sources()


def test_site_is_host_and_port():
    assert site("https://Example.org/a") == "example.org:443" and site("http://a:81") == "a:81"
    assert site("file:///etc/passwd") == site("nonsense") == site("") == ""
