"""A side of a comparison: a process of its own that works when told to.

It writes one line of JSON when it is ready, and one for each line it reads; whatever the library
prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def serve(job: Callable[..., dict | None]) -> None:
    """Say that it is ready; then, for each line of JSON read, call `job` with its values and
    say what it returned and the seconds it took.
    """
    print(json.dumps({"ready": True}), file=_answers)
    for line in sys.stdin:
        start = time.perf_counter()
        found = job(**json.loads(line)) or {}
        print(json.dumps({"seconds": time.perf_counter() - start, **found}), file=_answers)


def report(**values: object) -> None:
    """Write one line of JSON, for a side that works once and ends."""
    print(json.dumps(values), file=_answers)
