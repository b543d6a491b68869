"""An imitation of what of Label Studio's API `wordsight serve` asks: tokens, tasks, pictures."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "eyJhbGciOiJIUzI1NiJ9.eyJwZXJzb25hbCI6MX0.c2lnbmF0dXJl"
ACCESS = "eyJhbGciOiJIUzI1NiJ9.eyJhY2Nlc3MiOjF9.c2lnbmF0dXJl"


class Studio:
    """A running imitation.

    Attributes:
        url: its address.
        tasks: of its only project, number 3.
        files: path (with its query) -> bytes, or an address that it leads on to.
        asked: (path, Authorization header or None) of each request.
        accepted: what an Authorization header may be.
        refreshed: how often a personal access token was exchanged.
    """

    def __init__(self) -> None:
        self.tasks, self.files = [], {}
        self.asked: list[tuple[str, str | None]] = []
        self.accepted = {f"Token {LEGACY}", f"Bearer {ACCESS}"}
        self.refreshed = 0
        self.url = ""

    def annotate(self, number, choices, **more):
        """Add an annotation to a task, as Label Studio would keep it."""
        result = [
            {
                "from_name": "what",
                "to_name": "img",
                "type": "choices",
                "value": {"choices": choices},
            }
        ]
        task = next(task for task in self.tasks if task["id"] == number)
        plain = {"was_cancelled": False, "ground_truth": False, "completed_by": 1}
        task["annotations"].append({**plain, "result": result, **more})

    def answer(self, request, body):
        """Return (status, content, headers) for a request."""
        path, given = request.path, request.headers.get("Authorization")
        self.asked.append((path, given))
        if path == "/api/token/refresh/":
            self.refreshed += 1
            fine = json.loads(body) == {"refresh": PERSONAL}
            return (200, json.dumps({"access": ACCESS}).encode(), {}) if fine else (401, b"{}", {})
        if given not in self.accepted:
            return 401, b'{"detail": "no"}', {}
        if path.startswith("/api/tasks"):
            query = parse_qs(urlsplit(path).query)
            assert query["project"] == ["3"] and query["fields"] == ["all"]
            page, size = int(query["page"][0]), int(query["page_size"][0])
            done = [task for task in self.tasks if task["annotations"]]
            shown = done[(page - 1) * size : page * size]
            return 200, json.dumps({"tasks": shown, "total": len(done)}).encode(), {}
        found = self.files.get(path)
        if isinstance(found, str):
            return 302, b"", {"Location": found}
        return (404, b"", {}) if found is None else (200, found, {})


@contextlib.contextmanager
def imitated_studio():
    """Yield a running `Studio`."""
    studio = Studio()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content, headers = studio.answer(self, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": len(content)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    studio.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield studio
    finally:
        server.shutdown()
        server.server_close()
