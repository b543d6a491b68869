"""`python -m wordsight`."""

from .cli import main

main()
