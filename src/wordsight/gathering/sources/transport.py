"""Connections to public addresses only: what carries requests, and what can go wrong with one.

Every connection is made to an address that was looked at after name resolution, so neither a name
that points inward nor a redirect reaches a private, loopback or link-local host.
"""

from __future__ import annotations

import ipaddress
import select
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import anyio
import httpcore
import httpx

# Why an image could not be fetched, and whether another day may change that.
REASONS = {
    "not http(s)": False, "private address": False, "redirect loop": False,
    "refused by the site": False, "not found": False,
    "not answered": False, "too large": False, "compressed": False, "host not found": True,
    "no connection": True, "broken off": True,
    "timed out": True, "too slow": True, "server error": True, "rate limited": True,
}  # fmt: skip


class FetchError(Exception):
    """One image can't be fetched.

    Attributes:
        reason: one of `REASONS`.
        detail: what exactly happened.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


# IANA's registries of special-purpose addresses. They are written out because each version of
# Python knows another edition of them.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # no other IPv6 address is a public host's
_NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        "2001::/23", "2001:db8::/32", "3fff::/20",
    )
]  # fmt: skip
_PUBLIC_WITHIN = [
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.9/32", "192.0.0.10/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128",
        "2001:3::/32", "2001:4:112::/48", "2001:20::/28", "2001:30::/28",
    )
]  # fmt: skip


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, looking into addresses that
    carry another inside.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip not in _GLOBAL_UNICAST:
            return False
    return any(ip in network for network in _PUBLIC_WITHIN) or not any(
        ip in network for network in _NOT_PUBLIC
    )


class _Wire(httpcore.AsyncNetworkStream):
    """A connection that knows its socket.

    The pool asks every idle connection at every request whether the other side has closed it, and
    anyio looks up all there is to know of a socket before it says.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream, self._socket = stream, stream.get_extra_info("socket")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Wire(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        # Windows has no poll
        if info != "is_readable" or self._socket is None or not hasattr(select, "poll"):
            return self._stream.get_extra_info(info)
        if self._socket.fileno() < 0:
            return True
        looking = select.poll()
        looking.register(self._socket.fileno(), select.POLLIN)
        return bool(looking.poll(0))


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves names itself, and connects to the very address it has looked at."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = set(allowed)
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ):
        try:
            with anyio.fail_after(timeout):
                found = await anyio.getaddrinfo(host, port, type=1)  # SOCK_STREAM
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"{host}: name resolution") from None
        except (OSError, UnicodeError) as error:
            raise FetchError("host not found", f"{host}: {error}") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if f"{host.casefold()}:{port}" not in self._allowed:
            addresses = [address for address in addresses if is_public(address)]
            if not addresses:
                raise FetchError("private address", f"{host}:{port}")
        for address in addresses[:-1]:
            try:
                return _Wire(
                    await self._network.connect_tcp(
                        address, port, timeout, local_address, socket_options
                    )
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return _Wire(
            await self._network.connect_tcp(
                addresses[-1], port, timeout, local_address, socket_options
            )
        )

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Any = None
    ):
        raise FetchError("private address", path)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_stream():
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx's transport over our own network, which httpx itself offers no way to hand in.

    Args:
        allowed: "host:port" that may be contacted even at a private address.
        at_once: connections in all.
    """

    def __init__(self, allowed: Iterable[str], at_once: int) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=at_once,
            max_keepalive_connections=at_once,
            keepalive_expiry=15.0,
            network_backend=_GuardedNetwork(allowed),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's body is still to come."""
        url = request.url
        response = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()
