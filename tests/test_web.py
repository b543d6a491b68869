"""The way to the network: never inward, never without bounds."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
import tracemalloc

import anyio
import httpcore
import httpx
import pytest

from wordsight.errors import SourceUnavailable
from wordsight.gathering.sources.transport import FetchError, GuardedTransport, is_public
from wordsight.gathering.sources.web import Web, retry_after_s, site, user_agent


def fetch(url, path, allowed=()):
    async def once():
        async with Web(set(allowed)) as web:
            return await web.download(url, path)

    return anyio.run(once)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", 
     "fec0::1", "feff::1", "192.0.0.8", "192.0.0.1", "192.0.0.170", "3fff::1", "3fff:fff::1",
    "5f00::1", "100::1", "100:0:0:1::1", "2001::1:0:0", "2001:2::1", "2001:10::1", "2001:db8::1",
    "64:ff9b:1::1", "::7f00:1", "::ffff:0:7f00:1", "192.88.99.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "0.1.2.3", "4000::1", "1::1", "2002:a00:1::",
     "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
     "2002:7f00:1::", "ff02::1", "240.0.0.1", "192.0.2.1"],
)  # fmt: skip
def test_private_addresses_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "151.101.1.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "192.0.0.9",
        "192.0.0.10",
        "192.0.1.1",
        "192.31.196.1",
        "192.175.48.1",
        "2001:1::1",
        "2001:4:112::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2002:808:808::",
        "2a00::1",
        "3ffe:ffff::1",
        "3fff:1000::1",
        "198.17.255.255",
        "198.20.0.0",
        "100.63.0.1",
        "223.255.255.1",
    ],
)
def test_public_addresses_are_public(address):
    assert is_public(address)


def test_a_connection_that_the_other_side_has_closed_is_not_used_again():
    """The pool learns of it from our own stream: were it not told, the second request would end
    in an error.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        threading.Thread(target=serve, daemon=True).start()

        async def twice():
            transport = GuardedTransport({f"127.0.0.1:{port}"}, 4)
            async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
                for _ in range(2):
                    assert (await client.get(f"http://127.0.0.1:{port}/")).text == "ok"
                    await anyio.sleep(0.1)  # until the end of the connection has come

        anyio.run(twice)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0"],
)
def test_no_connection_is_made_inward_however_it_is_written(host, imitation, tmp_path):
    service = imitation("--offered", 3)
    port = service.root.rpartition(":")[2]
    with pytest.raises(FetchError) as caught:
        fetch(
            f"http://{host}:{port}/pictures/cat/0.jpg",
            tmp_path / "x",
            allowed={f"other:{port}", f"127.0.0.1:{int(port) + 1}"},
        )
    assert (
        caught.value.reason in ("private address", "host not found", "not http(s)")
        and not service.log.read_text()
    )


def test_a_name_that_points_inward_is_refused_after_resolution(imitation, tmp_path, monkeypatch):
    service, port = imitation("--offered", 3), 0
    port = int(service.root.rpartition(":")[2])

    async def rebound(host, port, **options):
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("wordsight.gathering.sources.web.anyio.getaddrinfo", rebound)
    with pytest.raises(FetchError, match=r"private address: pictures.example.org"):
        fetch(f"http://pictures.example.org:{port}/pictures/cat/0.jpg", tmp_path / "x")
    assert not service.log.read_text()


def test_the_address_that_was_looked_at_is_the_one_connected_to(tmp_path, monkeypatch):
    connected, answers = [], iter([["93.184.216.34", "10.0.0.1"], ["10.0.0.1"]])

    async def changing(host, port, **options):
        return [(2, 1, 6, "", (address, port)) for address in next(answers)]

    async def connect(self, host, port, *rest):
        connected.append(host)
        raise httpcore.ConnectError("not here")

    monkeypatch.setattr("wordsight.gathering.sources.web.anyio.getaddrinfo", changing)
    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    # the second try resolves anew, and is refused
    with pytest.raises(FetchError, match="private address"):
        fetch("http://rebinding.example.org/a.jpg", tmp_path / "x")
    assert connected == ["93.184.216.34"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/a",
        "gopher://x",
        "//example.org/a",
        "http://",
        "",
        "data:image/png;base64,AA",
        "http://[::1",
        "https://xn--i-7iq.ws/a",
        "http://1.1.1.1:70000/a",
    ],
)
def test_only_http_is_spoken(url, tmp_path):
    with pytest.raises(FetchError, match=r"not http\(s\)"):
        fetch(url, tmp_path / "x")


class Site:
    """A site that answers as it is told: a list of (status, headers), the last for ever; notes
    when it was asked, and with what.
    """

    def __init__(self, *answers):
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        self.asked, self.at_once, self.most = [], 0, 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.at_once += 1
                site.most = max(site.most, site.at_once)
                site.asked.append((time.monotonic(), dict(self.headers)))
                time.sleep(0.02)
                status, headers = answers[min(len(site.asked), len(answers)) - 1]
                self.send_response(status)
                for name, value in {"Content-Length": "1", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"x")
                site.at_once -= 1

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def fetch_many(sites, count, folder):
    """Fetch `count` pictures of each site at once; return the reasons of failure."""
    reasons = []

    async def one(web, name, number):
        try:
            await web.download(f"http://{name}/{number}", folder / f"{name}-{number}")
        except FetchError as error:
            reasons.append(error.reason)

    async def every():
        async with Web({site.name for site in sites}) as web, anyio.create_task_group() as group:
            for site in sites:
                for number in range(count):
                    group.start_soon(one, web, site.name, number)

    anyio.run(every)
    for asked in sites:
        asked.server.shutdown()
        asked.server.server_close()
    return reasons


def test_retry_after_is_obeyed(tmp_path):
    site = Site((429, {"Retry-After": "1"}), (200, {}))
    assert fetch_many([site], 1, tmp_path) == [] and site.asked[1][0] - site.asked[0][0] >= 1


def test_requests_at_once_are_bounded_for_each_site_and_in_all(tmp_path):
    from wordsight.gathering.sources.web import AT_ONCE_PER_SITE

    site = Site((200, {}))
    assert (
        fetch_many([site], 60, tmp_path) == []
        and len(site.asked) == 60
        and 1 < site.most <= AT_ONCE_PER_SITE == 8
    )


def test_a_site_that_refuses_again_and_again_is_left_alone(tmp_path):
    site = Site((429, {"Retry-After": "0.2"}))
    assert set(fetch_many([site], 100, tmp_path)) == {"rate limited"} and len(site.asked) < 60


def test_what_robots_may_not_have_is_not_taken(tmp_path):
    for header, expected in (
        ("noai, noimageai", ["refused by the site"]),
        ("googlebot: noindex", []),
        ("wordsight: noindex", ["refused by the site"]),
    ):
        assert fetch_many([Site((200, {"X-Robots-Tag": header}))], 1, tmp_path) == expected


def test_retry_after_is_read_as_number_and_as_date():
    assert (
        retry_after_s("7") == 7
        and retry_after_s("-3") == 0
        and retry_after_s(None) is None
        and retry_after_s("soon") is None
    )
    assert retry_after_s("Mon, 01 Jan 2025 00:00:00 +99999999999999999999999") is None
    assert (
        retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
        and retry_after_s("Fri, 01 Jan 2100 00:00:00 GMT") > 1e9
    )


def test_the_user_agent_is_honest(monkeypatch):
    import httpx

    import wordsight

    monkeypatch.setenv("WORDSIGHT_CONTACT", "ann@example.org\r\nX-Evil: 1")
    assert (
        user_agent()
        == f"wordsight/{wordsight.__version__} (ann@example.orgX-Evil: 1) httpx/{httpx.__version__}"
    )
    monkeypatch.delenv("WORDSIGHT_CONTACT")
    assert "no contact given" in user_agent()


def test_a_download_is_whole_and_hashed(imitation, tmp_path):
    import hashlib

    service = imitation("--offered", 3)
    digest = fetch(f"{service.root}/pictures/cat/0.jpg", tmp_path / "x", {site(service.root)})
    assert hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest() == digest


def ask_api(head, body):
    """Ask an API that answers with these bytes; return what went wrong, and the most memory it took
    in MiB.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"127.0.0.1:{server.getsockname()[1]}"

        def serve():
            with server.accept()[0] as connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + b"\r\n")
                connection.sendall(body)

        async def once():
            async with Web({name}) as web:
                return await web.get_json(f"http://{name}/")

        threading.Thread(target=serve, daemon=True).start()
        tracemalloc.start()
        try:
            with pytest.raises(SourceUnavailable) as caught:
                anyio.run(once)
            return str(caught.value), tracemalloc.get_traced_memory()[1] >> 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP"])
def test_an_answer_in_json_is_never_unpacked(encoding):
    bomb = gzip.compress(bytes(64 << 20)) if "gzip" in encoding.lower() else b"\x1b" * 1000
    said, peak_mib = ask_api(b"Content-Encoding: " + encoding.encode() + b"\r\n", bomb)
    assert f"compressed: as {encoding.lower()}" in said and peak_mib < 8


def test_an_answer_in_json_has_a_bound():
    said, peak_mib = ask_api(b"", b"[" + b"[]," * (10 << 20))
    assert "more than 4 MiB" in said and peak_mib < 20
