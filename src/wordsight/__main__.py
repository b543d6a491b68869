"""The command `wordsight`, also as `python -m wordsight`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with the documented code: 0, 1, 2 or 130."""
    try:
        # loaded here, so that an interrupt meanwhile ends as one later does
        from .cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
