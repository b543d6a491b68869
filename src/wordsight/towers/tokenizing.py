"""From phrases to the numbers a text tower reads. Needs the package tokenizers, nothing else."""

from __future__ import annotations

import html
import importlib.util
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvalidArgument

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
CLEANINGS = ("lower", "canonicalize", "whitespace")
_without_punctuation = str.maketrans("", "", string.punctuation)


class PhraseTokenizer:
    """A tower's tokenizer.

    Args:
        path: `tokenizer.json`, in the format of the package tokenizers.
        length: tokens of a phrase; longer ones are cut, shorter ones filled up.
        cleaning: what happens to a phrase first: "lower", "canonicalize" (no punctuation either) or
            "whitespace".

    Raises:
        InvalidArgument: if tokenizers is not installed.
    """

    def __init__(self, path: Path, length: int, cleaning: str) -> None:
        if importlib.util.find_spec("tokenizers") is None:
            raise InvalidArgument(
                "This text–image model's table has no vector of that phrase, so its text tower "
                "must read it, which needs tokenizers, not installed here: pip install tokenizers."
            )
        from tokenizers import Tokenizer

        self._length, self._cleaning = length, cleaning
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.enable_truncation(length)
        pad = "<pad>" if self._tokenizer.token_to_id("<pad>") is not None else "[PAD]"
        number = self._tokenizer.token_to_id(pad)
        self._tokenizer.enable_padding(length=length, pad_id=number or 0, pad_token=pad)

    def __call__(self, phrases: Sequence[str]) -> np.ndarray:
        """Return the tokens of phrases, (n, length) int64."""
        cleaned = [clean(phrase, self._cleaning) for phrase in phrases]
        encoded = self._tokenizer.encode_batch(cleaned)
        return np.array([one.ids for one in encoded], np.int64).reshape(-1, self._length)


def clean(phrase: str, cleaning: str) -> str:
    """Return a phrase as a tower's tokenizer wants it; as open_clip does, without its repair of
    broken encodings, which nobody types.
    """
    phrase = html.unescape(html.unescape(phrase)).strip()
    if cleaning == "canonicalize":
        phrase = phrase.replace("_", " ").translate(_without_punctuation)
    phrase = " ".join(phrase.split())
    return phrase if cleaning == "whitespace" else phrase.lower()


def clips_tokenizer(vocabulary: Sequence[str], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """Return CLIP's tokenizer (Radford et al. 2021) in the format of the package tokenizers.

    Args:
        vocabulary: all tokens in their order; the last two begin and end a text.
        merges: pairs of tokens that become one, the first merged first.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    numbers = {token: number for number, token in enumerate(vocabulary)}
    begin, end = vocabulary[-2:]
    tokenizer = Tokenizer(
        models.BPE(vocab=numbers, merges=list(merges), end_of_word_suffix="</w>", fuse_unk=False)
    )
    words = Regex(r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        special_tokens=[(begin, numbers[begin]), (end, numbers[end])],
    )
    return tokenizer


def end_marks(tokenizer: Tokenizer, config: dict) -> None:
    """Make a tokenizer begin and end texts as its `tokenizer_config.json` says, in place.

    transformers follows that file, not `tokenizer.json`.
    """
    from tokenizers import processors

    if not {"add_bos_token", "add_eos_token"} & set(config):
        return

    def mark(kind: str) -> list[str]:
        told = config.get(f"{kind}_token")
        token = told.get("content") if isinstance(told, dict) else told
        return [token] if config.get(f"add_{kind}_token") and token else []

    begin, end = mark("bos"), mark("eos")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*begin, "$A", *end]),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in {*begin, *end}],
    )
