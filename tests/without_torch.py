"""Run commands of wordsight in a process where some packages can't be imported:
python without_torch.py PACKAGES COMMANDS, both as JSON. After each command its exit code and an end
of record follow on standard output, and an end of record on standard error.
"""

from __future__ import annotations

import json
import os
import sys

END = "\x1e"

if __name__ == "__main__":
    blocked = json.loads(sys.argv[1])
    sys.modules.update(dict.fromkeys(blocked))  # an import of them now fails, as if not installed

    from wordsight.__main__ import main

    for command in json.loads(sys.argv[2]):
        sys.argv = ["wordsight", *command]
        code = None
        try:
            main()
        except SystemExit as end:
            code = end.code
        print(f"{END}{code or 0}{END}", flush=True)
        os.write(2, END.encode())
    assert not [name for name in sys.modules if name.split(".")[0] in blocked and sys.modules[name]]
