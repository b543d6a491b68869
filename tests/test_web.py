"""The way to the network: never inward, never without bounds."""

from __future__ import annotations

import anyio
import httpcore
import pytest

from wordsight.sources.web import FetchError, Web, is_public, retry_after_s, site, user_agent


def fetch(url, path, allowed=()):
    async def once():
        async with Web(set(allowed)) as web:
            return await web.download(url, path)

    return anyio.run(once)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", 
     "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "240.0.0.1", "192.0.2.1"],
)  # fmt: skip
def test_private_addresses_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "151.101.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0"])
def test_no_connection_is_made_inward_however_it_is_written(host, imitation, tmp_path):
    service = imitation("--offered", 3)
    port = service.root.rpartition(":")[2]
    with pytest.raises(FetchError) as caught:
        fetch(f"http://{host}:{port}/pictures/cat/0.jpg", tmp_path / "x", allowed={f"other:{port}", f"127.0.0.1:{int(port) + 1}"})
    assert caught.value.reason in ("private address", "host not found", "not http(s)") and not service.log.read_text()


def test_a_name_that_points_inward_is_refused_after_resolution(imitation, tmp_path, monkeypatch):
    service, port = imitation("--offered", 3), 0
    port = int(service.root.rpartition(":")[2])

    async def rebound(host, port, **options):
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("wordsight.sources.web.anyio.getaddrinfo", rebound)
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

    monkeypatch.setattr("wordsight.sources.web.anyio.getaddrinfo", changing)
    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    with pytest.raises(FetchError, match="private address"):  # the second try resolves anew, and is refused
        fetch("http://rebinding.example.org/a.jpg", tmp_path / "x")
    assert connected == ["93.184.216.34"]


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/a", "gopher://x", "//example.org/a", "http://", "", "data:image/png;base64,AA", "http://[::1"]
)
def test_only_http_is_spoken(url, tmp_path):
    with pytest.raises(FetchError, match=r"not http\(s\)"):
        fetch(url, tmp_path / "x")


def test_retry_after_is_read_as_number_and_as_date():
    assert retry_after_s("7") == 7 and retry_after_s("-3") == 0 and retry_after_s(None) is None and retry_after_s("soon") is None
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0 and retry_after_s("Fri, 01 Jan 2100 00:00:00 GMT") > 1e9


def test_the_user_agent_is_honest(monkeypatch):
    import httpx

    import wordsight

    monkeypatch.setenv("WORDSIGHT_CONTACT", "ann@example.org\r\nX-Evil: 1")
    assert user_agent() == f"wordsight/{wordsight.__version__} (ann@example.orgX-Evil: 1) httpx/{httpx.__version__}"
    monkeypatch.delenv("WORDSIGHT_CONTACT")
    assert "no contact given" in user_agent()


def test_a_download_is_whole_and_hashed(imitation, tmp_path):
    import hashlib

    service = imitation("--offered", 3)
    digest = fetch(f"{service.root}/pictures/cat/0.jpg", tmp_path / "x", {site(service.root)})
    assert hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest() == digest
