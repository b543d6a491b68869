"""`python -m wordsight`."""

from .cli.main import main

main()
