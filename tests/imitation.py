"""A local imitation of Openverse and Wikimedia Commons, faults included: the test seam of
everything that gathers.

Run as a process of its own; prints one line of JSON with its ports, logs every request to a file.
What a picture's address does depends on its number alone, so every run of a test meets the same
faults.

    python tests/imitation.py --log requests.txt [--folder PICTURES] [--offered 2000] [--faulty]
    [--burst 20]
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import io
import json
import sys
import time
import zlib
from collections import Counter, deque
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

# number % 20 -> fault: six of twenty are faulty for good, one only at first
FAULTS = {
    1: "server error",
    4: "truncated",
    7: "web page",
    10: "duplicate",
    13: "redirect inside",
    16: "rare",
    18: "busy at first",
}
RARE = (
    "stalled",
    "endless",
    "empty",
    "wrong length",
    "drip",
    "near duplicate",
    "refused",
    "loop",
    "gone",
    "huge",
    "ftp",
    "robots",
)
LICENSES = (
    ("by", "CC BY 4.0"),
    ("by-sa", "CC BY-SA 4.0"),
    ("cc0", "CC0"),
    ("by-nc", "CC BY-NC 4.0"),
)


def fault_of(number: int, faulty: bool) -> str:
    """Return what is wrong with picture `number`, "" if nothing."""
    fault = FAULTS.get(number % 20, "") if faulty else ""
    return RARE[number // 20 % len(RARE)] if fault == "rare" else fault


@functools.cache
def drawn_image(label: str, number: int, quality: int = 85) -> bytes:
    """Draw a picture that resembles no other: blocks of random colours."""
    rng = np.random.default_rng([number, *label.encode()])
    image = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(
        (320, 240), Image.Resampling.BICUBIC
    )
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


class Imitation:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.log = open(options.log, "a", buffering=1)  # noqa: SIM115
        self.attempts: Counter[str] = Counter()
        self.asked: deque[float] = deque()
        self.at_once = self.most_at_once = 0
        self.inner_connections = 0
        self.files: dict[str, list[Path]] = {}
        if options.folder:
            self.files = {
                place.name: sorted(place.iterdir())
                for place in Path(options.folder).iterdir()
                if place.is_dir()
            }

    async def start(self) -> None:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        inner = await asyncio.start_server(self.serve_inside, "127.0.0.1", 0)
        self.port, self.inner_port = (
            server.sockets[0].getsockname()[1],
            inner.sockets[0].getsockname()[1],
        )
        self.root = f"http://127.0.0.1:{self.port}"
        print(json.dumps({"port": self.port, "inner_port": self.inner_port}), flush=True)
        await asyncio.gather(server.serve_forever(), inner.serve_forever())

    async def serve_inside(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Stands for a machine inside a private network: it must get no connection."""
        self.log.write("INSIDE\n")
        writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.log.write(
                    f"{method} {target} "
                    f"{headers.get('user-agent', '')}{' AUTH' * ('authorization' in headers)}\n"
                )
                self.at_once += 1
                self.most_at_once = max(self.at_once, self.most_at_once)
                try:
                    await self.answer(method, target, headers, body, writer)
                finally:
                    self.at_once -= 1
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async def answer(
        self, method: str, target: str, headers: dict, body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        parts = urlsplit(target)
        parameters = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/v1/images/":
            await self.send(writer, *self.openverse(parameters, headers))
        elif parts.path == "/v1/auth_tokens/token/":
            good = parse_qs(body.decode()).get("client_secret") == ["sesame"]
            content = (
                {"access_token": "token-1", "expires_in": 36000, "token_type": "Bearer"}
                if good
                else {"error": "invalid_client"}
            )
            await self.send(writer, 200 if good else 401, content)
        elif parts.path == "/w/api.php":
            await self.send(writer, *self.commons(parameters, headers))
        elif parts.path.startswith("/pictures/"):
            _, _, label, name = parts.path.split("/", 3)
            await self.send_image(writer, unquote(label), int(name.split(".")[0]), target)
        elif parts.path == "/most_at_once":
            await self.send(writer, 200, self.most_at_once)
        else:
            await self.send(writer, 404, {"detail": "Not found."})

    async def send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        content: object,
        headers: dict | None = None,
    ) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        lines += [
            f"{name}: {value}"
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items()
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    # What is offered

    def label_of(self, text: str) -> str:
        """Return the class a query belongs to: its last word."""
        return text.split()[-1].casefold() if text else ""

    def offers(self, text: str, part: str) -> range:
        """Return the numbers a query finds; each query and each slice has its own, with some in
        common.
        """
        label = self.label_of(text)
        if label in self.options.empty.split(","):
            return range(0)
        total = len(self.files.get(label, [])) if self.files else self.options.offered
        if text.casefold() == label and not part:
            return range(total)
        if self.files:
            return range(0)
        start = total + zlib.crc32((text + part).encode()) % 100_000
        return range(start, start + total)

    def openverse(self, parameters: dict, headers: dict) -> tuple[int, object, dict]:
        limits, now = {}, time.monotonic()
        if self.options.burst:
            while self.asked and self.asked[0] < now - 2:
                self.asked.popleft()
            left = self.options.burst - len(self.asked)
            limits = {
                "X-RateLimit-Limit-anon_burst": f"{self.options.burst}/2s",
                "X-RateLimit-Available-anon_burst": max(0, left - 1),
            }
            if left <= 0:
                return 429, {"detail": "Request was throttled."}, {**limits, "Retry-After": "1"}
            self.asked.append(now)
        if self.options.closed:
            return 429, {"detail": "Request was throttled."}, {"Retry-After": "40000"}
        strange = set(parameters) - {
            "q",
            "page",
            "page_size",
            "license",
            "license_type",
            "filter_dead",
            "mature",
            "aspect_ratio",
            "category",
            "size",
            "extension",
        }
        size, page = int(parameters.get("page_size", 20)), int(parameters.get("page", 1))
        known = headers.get("authorization") == "Bearer token-1"
        if strange or len(parameters["q"]) > 200:
            return (
                400,
                {
                    "error": "InputError",
                    "detail": f"Invalid input given for fields {strange}.",
                    "fields": sorted(strange),
                },
                limits,
            )
        if size > (50 if known else 20):
            return 401, {"detail": "Authentication credentials were not provided."}, limits
        numbers = self.offers(parameters["q"], parameters.get("aspect_ratio", ""))
        pages = -(-min(len(numbers), 240) // size)
        if page > max(pages, 1):
            return 404, {"detail": "Not found."}, limits
        label = self.label_of(parameters["q"])
        results = [
            self.openverse_item(label, number)
            for number in numbers[(page - 1) * size : min(page * size, 240)]
        ]
        return (
            200,
            {
                "result_count": len(numbers),
                "page_count": pages,
                "page_size": size,
                "page": page,
                "results": results,
            },
            limits,
        )

    def openverse_item(self, label: str, number: int) -> dict:
        license, _ = LICENSES[number % 4]  # whatever filter was sent: this server ignores it
        return {
            "id": f"{label}-{number}", "title": f"{label} <{number}>" if number % 7 else None,
            "foreign_landing_url": f"{self.root}/page/{label}/{number}",
            "url": f"{self.root}/pictures/{label}/{number}.jpg",
            "creator": f"Ann | *{number}*" if number % 5 else None, "creator_url": None,
            "license": license, "license_version": "4.0",
            "license_url": f"https://creativecommons.org/licenses/{license}/4.0/",
            "provider": "imitation",
            "source": "imitation", "category": None, "filesize": None, "filetype": None,
            "tags": [{"name": label, "accuracy": None}],
            "attribution": f'"{label}" is licensed under {license}.', "mature": False,
            "height": 9999 if number % 3 else None, "width": None,
        }  # fmt: skip

    def commons(self, parameters: dict, headers: dict) -> tuple[int, object, dict]:
        if not headers.get("user-agent", "").startswith("wordsight/"):
            return 403, {}, {}
        wanted = {
            "action": "query",
            "format": "json",
            "formatversion": "2",
            "generator": "search",
            "gsrnamespace": "6",
            "prop": "imageinfo",
        }
        if any(parameters.get(name) != value for name, value in wanted.items()) or not parameters[
            "gsrsearch"
        ].endswith(" filetype:bitmap"):
            return 200, {"error": {"code": "badvalue", "info": "Unrecognized <b>value</b>."}}, {}
        text, offset = (
            parameters["gsrsearch"].removesuffix(" filetype:bitmap"),
            int(parameters["gsroffset"]),
        )
        numbers, label = self.offers(text, ""), self.label_of(text)
        shown = list(numbers[offset : offset + 50])
        pages = [
            self.commons_page(label, number, offset + place + 1)
            for place, number in enumerate(shown)
        ]
        answer: dict = {"batchcomplete": True}
        if pages:
            answer["query"] = {"pages": pages[::-1]}  # not in order: `index` says it
        if offset + 50 < len(numbers):
            if int(parameters.get("gsroffset", 0)) and "continue" not in parameters:
                return (
                    200,
                    {
                        "error": {
                            "code": "badcontinue",
                            "info": "Everything in continue must be sent again.",
                        }
                    },
                    {},
                )
            answer["continue"] = {"gsroffset": offset + 50, "continue": "gsroffset||"}
        return 200, answer, {}

    def commons_page(self, label: str, number: int, index: int) -> dict:
        page: dict = {
            "pageid": number,
            "ns": 6,
            "title": f"File:{label} {number}.jpg",
            "index": index,
        }
        if number % 97 == 5:
            return page  # pages without imageinfo exist
        _, license = LICENSES[number % 3]
        said = {
            "LicenseShortName": license,
            "Artist": f'<a href="//x"><b>Bob</b> &amp; {number}</a>',
            "UsageTerms": license,
        }
        page["imageinfo"] = [{
            "size": 1, "width": 4000, "height": 3000, "mime": "image/jpeg", "sha1": "0",
            "url": f"{self.root}/original/{label}/{number}.jpg",
            "descriptionurl": f"{self.root}/wiki/{number}",
            "thumburl": f"{self.root}/pictures/{label}/{number}.jpg?commons",
            "thumbwidth": 640, "thumbheight": 480,
            "extmetadata": {name: {"value": value, "source": "x"} for name, value in said.items()},
        }]  # fmt: skip
        return page

    # Pictures

    def bytes_of(self, label: str, number: int) -> bytes:
        return (
            self.files[label][number].read_bytes()
            if self.files
            else drawn_image(label, number, self.options.quality)
        )

    async def send_image(
        self, writer: asyncio.StreamWriter, label: str, number: int, target: str
    ) -> None:
        fault = fault_of(number, self.options.faulty)
        self.attempts[target] += 1
        jpeg = {"Content-Type": "image/jpeg"}
        if self.options.delay:
            await asyncio.sleep(self.options.delay)
        if fault == "server error":
            await self.send(writer, 500, b"")
        elif fault == "busy at first" and self.attempts[target] == 1:
            await self.send(writer, 429, b"", {"Retry-After": "0" if number % 40 == 18 else "1"})
        elif fault == "truncated":
            await self.send(writer, 200, self.bytes_of(label, number)[:3000], jpeg)
        elif fault == "web page":
            await self.send(
                writer, 200, b"<!DOCTYPE html><html><body>Please log in.</body></html>", jpeg
            )
        elif fault == "duplicate":
            await self.send(writer, 200, self.bytes_of(label, number - 1), jpeg)
        elif fault == "near duplicate":
            await self.send(writer, 200, drawn_image(label, number - 1, 60), jpeg)
        elif fault == "redirect inside":
            await self.send(
                writer, 302, b"", {"Location": f"http://127.0.0.1:{self.inner_port}/secret"}
            )
        elif fault == "stalled":
            await asyncio.sleep(3600)
        elif fault == "huge":
            writer.write(
                b"HTTP/1.1 200 X\r\nContent-Length: 2147483648\r\n\r\n" + b"\xff\xd8\xff" * 100
            )
            await asyncio.sleep(3600)
        elif fault == "endless":
            writer.write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(2 << 30 >> 18):
                writer.write(b"40000\r\n" + b"\xff" * (1 << 18) + b"\r\n")
                await writer.drain()
        elif fault == "empty":
            await self.send(writer, 200, b"", jpeg)
        elif fault == "wrong length":
            body = self.bytes_of(label, number)
            writer.write(
                f"HTTP/1.1 200 X\r\nContent-Length: {len(body) + 1000}\r\n\r\n".encode() + body
            )
            await writer.drain()
            raise ConnectionError
        elif fault == "drip":
            writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n")
            for _ in range(3600):
                writer.write(b"\xff")
                await writer.drain()
                await asyncio.sleep(1)
        elif fault == "refused":
            await self.send(writer, 403, b"")
        elif fault == "robots":
            await self.send(
                writer,
                200,
                self.bytes_of(label, number),
                {**jpeg, "X-Robots-Tag": "noai, noimageai"},
            )
        elif fault == "gone":
            await self.send(writer, 404, b"")
        elif fault == "loop":
            await self.send(writer, 302, b"", {"Location": target})
        elif fault == "ftp":
            await self.send(writer, 302, b"", {"Location": "file:///etc/passwd"})
        else:
            await self.send(writer, 200, self.bytes_of(label, number), jpeg)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--folder")
    parser.add_argument("--offered", type=int, default=2000)
    parser.add_argument("--faulty", action="store_true")
    parser.add_argument(
        "--burst", type=int, default=0, help="Openverse requests allowed in 2 seconds"
    )
    parser.add_argument("--closed", action="store_true", help="Openverse asks to wait for hours")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before a picture")
    parser.add_argument(
        "--quality", type=int, default=85, help="of the JPEG files drawn; 97 makes them 20 KB"
    )
    parser.add_argument("--empty", default="", help="classes that nothing is found for")
    try:
        asyncio.run(Imitation(parser.parse_args()).start())
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
