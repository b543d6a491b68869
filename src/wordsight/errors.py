"""Every error a caller may meet.

    WordsightError
    ├── InvalidArgument      (ValueError)         the request is wrong: exit code 2
    │   └── UnknownWord                           an unknown word, or one with several meanings
    ├── NotFound             (FileNotFoundError)  a path that should exist does not
    ├── InvalidModel         (ValueError)         a model folder is incomplete or of another version
    ├── BackboneUnavailable  (RuntimeError)       weights are not here and can't be downloaded
    ├── OutputError          (OSError)            disk full, read-only, or no permission
    ├── NothingGathered      (RuntimeError)       a search brought no images: exit code 1
    ├── SourceUnavailable    (RuntimeError)       a source of images failed; others may work
    ├── UnreadableVideo      (ValueError)         a clip can't be decoded
    └── UnreadableImage      (ValueError)         one image can't be decoded; the run continues

A message is one sentence or two: what, what is allowed, what came, the next step.
"""

from __future__ import annotations

from collections.abc import Iterable


class WordsightError(Exception):
    """Base of all errors wordsight raises on purpose."""


class InvalidArgument(WordsightError, ValueError):
    """The request can't be carried out as it was made."""


class UnknownWord(InvalidArgument):
    """A word names nothing the backbone knows, or more than one thing."""


class NotFound(WordsightError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class InvalidModel(WordsightError, ValueError):
    """A model folder can't be loaded."""


class BackboneUnavailable(WordsightError, RuntimeError):
    """A backbone's weights are neither installed, nor on disk, nor to be downloaded."""


class OutputError(WordsightError, OSError):
    """Something could not be written."""


class NothingGathered(WordsightError, RuntimeError):
    """No image came of a search; the message says why.

    Attributes:
        gathered: what was found and lost (`Gathered`), where there is such a reckoning.
    """

    def __init__(self, message: str, gathered: object = None) -> None:
        super().__init__(message)
        self.gathered = gathered


class SourceUnavailable(WordsightError, RuntimeError):
    """A source of images can't go on; the message is the cause."""


class UnreadableImage(WordsightError, ValueError):
    """A file that should be an image can't be decoded; the message is the reason."""


class UnreadableVideo(WordsightError, ValueError):
    """A file that should be a clip can't be decoded, or holds no frame."""


def some_of(names: Iterable[object]) -> str:
    """Return names for a message, in one line, the first of them where they are many or long."""
    text = " ".join(", ".join(map(str, names)).split()) or "none"
    return text if len(text) <= 200 else f"{text[:200]}…"
