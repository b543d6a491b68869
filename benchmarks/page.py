"""The page under many clients beside predict in one process, and under thousands of hostile
uploads.

Clients run in another process on the same machine, so what they cost is taken from the page, too.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
from common import TEST, TRAIN, section, wordsight

NAMES = [
    "a.jpg",
    "../../../etc/cron.d/x.jpg",
    "a\x00b.jpg",
    "<img src=x onerror=alert(1)>.png",
    "a" * 300 + ".jpg",
    ".htaccess",
    "CON.jpg",
    "é.jpg",
]
OTHERS = [
    b"#!/bin/sh\nrm -rf /\n",
    b"<html><script>alert(1)</script>",
    b"\x7fELF" + bytes(500),
    b"PK\x03\x04" + bytes(300),
    b"%!PS-Adobe\n(x) run",
]
A_PART = 500
CLIENTS, SECONDS, HOSTILE, PORT = 16, 30, 5000, 7991
SERVE = (
    "import sys, wordsight; wordsight.app(sys.argv[1], port=int(sys.argv[2]), say=lambda line: "
    "print(line, flush=True))"
)


def start(model: str, port: int) -> subprocess.Popen:
    """Start the page and wait until it answers."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, model, str(port)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    for _ in range(600):
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
            return process
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the page did not start")


def memory(process: subprocess.Popen) -> float:
    """Return resident MiB."""
    return (
        next(
            int(line.split()[1])
            for line in open(f"/proc/{process.pid}/status")
            if line.startswith("VmRSS")
        )
        / 1024
    )


async def ask(
    client: httpx.AsyncClient, root: str, photos: list[tuple[str, bytes]], session: str = "one"
) -> list[dict]:
    """Upload pictures, have them predicted, return the answers: what gradio_client does, one
    session each, without its own costs.
    """
    answer = await client.post(
        f"{root}/gradio_api/upload",
        files=[("files", (name, data, "image/jpeg")) for name, data in photos],
    )
    answer.raise_for_status()
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in answer.json()]
    call = await client.post(
        f"{root}/gradio_api/call/predict", json={"data": [files, 0.99, ""], "session_hash": session}
    )
    call.raise_for_status()
    told = await client.get(f"{root}/gradio_api/call/predict/{call.json()['event_id']}")
    lines = told.text.splitlines()
    assert "event: complete" in lines, told.text[:300]
    return json.loads(lines[lines.index("event: complete") + 1].removeprefix("data: "))[0]


def load(root: str, folder: str, clients: int, seconds: float, a_request: int, results) -> None:
    """Be so many clients for so long; put (pictures, seconds, times) into the queue."""
    photos = [(path.name, path.read_bytes()) for path in sorted(Path(folder).rglob("*.jpg"))[:300]]

    async def one(client: httpx.AsyncClient, seed: int, until: float, times: list[float]) -> None:
        chosen = random.Random(seed)
        while time.perf_counter() < until:
            began = time.perf_counter()
            answers = await ask(client, root, chosen.sample(photos, a_request), f"client{seed}")
            assert len(answers) == a_request and all(answer["error"] is None for answer in answers)
            times.append(time.perf_counter() - began)

    async def all_of_them() -> tuple[list[float], float]:
        times: list[float] = []
        async with httpx.AsyncClient(
            timeout=60, limits=httpx.Limits(max_connections=2 * clients)
        ) as client:
            began = time.perf_counter()
            await asyncio.gather(
                *(one(client, seed, began + seconds, times) for seed in range(clients))
            )
            return times, time.perf_counter() - began

    times, took = asyncio.run(all_of_them())
    results.put((len(times) * a_request, took, times))


def hostile(kind: int, rng: random.Random, photo: bytes) -> tuple[str, bytes]:
    """Return an upload that should do no harm."""
    name = rng.choice(NAMES)
    if kind == 0:  # cut short
        return name, photo[: rng.randrange(1, len(photo))]
    if kind == 1:  # of another type
        return name, rng.choice(OTHERS)
    if kind == 2:  # a header that promises billions of pixels
        return name, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60000).to_bytes(
            4, "big"
        ) * 2 + b"\x08\x02\0\0\0" + bytes(200)
    if kind == 3:  # bytes turned over
        data = bytearray(photo)
        for _ in range(40):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return name, bytes(data)
    if kind == 4:  # noise
        return name, rng.randbytes(rng.randrange(0, 5000))
    return name, b"\xff\xd8\xff\xe0" + rng.randbytes(2 << 20)  # large, and nothing in it


async def attack(root: str, photo: bytes, count: int, first: int = 0) -> dict[str, int]:
    """Send hostile uploads, some of them slowly or broken off, and have what is let in
    predicted.
    """
    said: dict[str, int] = {}
    gate = asyncio.Semaphore(16)

    async def one(number: int, client: httpx.AsyncClient) -> None:
        rng = random.Random(number)
        async with gate:
            if number % 50 == 0:  # a body that never comes to its end
                said_now = await slow(root, rng)
            else:
                try:
                    answers = await ask(
                        client, root, [hostile(number % 6, rng, photo)], f"hostile{number}"
                    )
                    said_now = "predicted" if answers[0]["error"] is None else "unreadable"
                except httpx.HTTPStatusError as error:
                    said_now = str(error.response.status_code)
                except httpx.HTTPError as error:
                    said_now = type(error).__name__
            said[said_now] = said.get(said_now, 0) + 1

    async with httpx.AsyncClient(timeout=120) as client:
        await asyncio.gather(*(one(number, client) for number in range(first, first + count)))
    return said


async def slow(root: str, rng: random.Random) -> str:
    """Begin an upload and go away, or fall silent until the page ends it."""
    port = int(root.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n\xff\xd8\xff"
    )
    request = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: "
        "multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n"
    )
    writer.write(request.encode() + head + rng.randbytes(5000))
    await writer.drain()
    told = "went away"
    if rng.random() < 0.3:
        line = await reader.readline()
        told = f"fell silent: {line.split()[1].decode() if line else 'closed'}"
    writer.close()
    return told


def files_below(folder: Path) -> set[str]:
    """Return every file below a folder."""
    return {str(path) for path in folder.rglob("*") if path.is_file()}


@section(
    f"the page in the browser: {CLIENTS} clients on the same cores as the page; {HOSTILE:,} "
    "hostile uploads",
    ("gradio",),
    usual=False,
)
def page(work: Path) -> list[str]:
    wordsight("train", TRAIN, "-o", work / "m", work=work)
    os.environ.update(WORDSIGHT_HOME=str(work / "home"))
    from wordsight import load as load_model
    from wordsight.backbones.cache import EmbeddingCache

    model = load_model(work / "m")
    rates = []
    for _ in range(4):
        EmbeddingCache().clear()
        began = time.perf_counter()
        results = model.predict(TEST)
        rates.append(len(results) / (time.perf_counter() - began))
    alone = statistics.median(rates[1:])
    lines = [
        "| | images/s, share of predict in one process | median, s | p99, s |",
        "|---|---|---|---|",
    ]
    process, root = start(str(work / "m"), PORT), f"http://127.0.0.1:{PORT}"
    try:
        for a_request in (1, 8):
            results_queue: multiprocessing.Queue = multiprocessing.Queue()
            worker = multiprocessing.Process(
                target=load, args=(root, str(TEST), CLIENTS, SECONDS, a_request, results_queue)
            )
            worker.start()
            images, took, waits = results_queue.get()
            worker.join()
            waits.sort()
            said = "a picture a request" if a_request == 1 else f"{a_request} a request"
            lines.append(
                f"| {said} | **{images / took / alone:.2f}** | {waits[len(waits) // 2]:.2f} | "
                f"{waits[int(0.99 * (len(waits) - 1))]:.2f} |"
            )
        home, photo = work / "home", next(TEST.rglob("*.jpg")).read_bytes()
        asyncio.run(attack(root, photo, 200))  # until memory is as it will be
        outside = files_below(home) - files_below(home / "cache" / "uploads")
        told: Counter[str] = Counter()
        sizes = [memory(process)]
        for part in range(HOSTILE // A_PART):
            told.update(asyncio.run(attack(root, photo, A_PART, A_PART * part)))
            sizes.append(memory(process))
        new = files_below(home) - files_below(home / "cache" / "uploads") - outside
        answers = asyncio.run(_once(root, photo))
        return [
            *lines,
            "",
            "Hostile uploads: "
            f"{', '.join(f'{count:,} {what}' for what, count in told.most_common())}. New "
            f"files outside the uploads: {len(new)}. Alive: "
            f"{process.poll() is None}; afterwards it says of a photo: {answers[0]['label']}. "
            f"MiB after each {A_PART}: {', '.join(f'{size:.0f}' for size in sizes)}.",
        ]
    finally:
        process.terminate()
        process.wait()


async def _once(root: str, photo: bytes) -> list[dict]:
    async with httpx.AsyncClient(timeout=60) as client:
        return await ask(client, root, [("a.jpg", photo)])
