"""Licences of images: one code for each, and a filter that doesn't rely on a source's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InvalidArgument

UNKNOWN = "unknown"
CREATIVE_COMMONS = (
    "by",
    "by-nc",
    "by-nc-nd",
    "by-nc-sa",
    "by-nd",
    "by-sa",
    "cc0",
    "nc-sampling+",
    "pdm",
    "sampling+",
)
# found on Wikimedia Commons; all allow commercial use
OTHER_FREE = ("attribution", "copyrighted-free-use", "fal", "gfdl")
CODES = (*CREATIVE_COMMONS, *OTHER_FREE)
COMMERCIAL = frozenset(code for code in CODES if not re.search(r"\bnc\b", code))
_NAMES = {
    "by": "CC BY", "by-nc": "CC BY-NC", "by-nc-nd": "CC BY-NC-ND", "by-nc-sa": "CC BY-NC-SA",
    "by-nd": "CC BY-ND", "by-sa": "CC BY-SA",
    "cc0": "CC0", "pdm": "public domain", "sampling+": "CC Sampling Plus",
    "nc-sampling+": "CC NC-Sampling Plus", "fal": "Free Art License",
    "gfdl": "GFDL", "attribution": "attribution required", "copyrighted-free-use": "free use",
    UNKNOWN: "licence unknown",
}  # fmt: skip


_FREE = (
    ("cc ?0|cc zero|creative commons zero", "cc0"),
    ("pd|pdm|public domain|no restrictions|no known copyright restrictions", "pdm"),
    ("gfdl|gnu free documentation", "gfdl"),
    ("fal|free art", "fal"),
    ("copyrighted free use", "copyrighted-free-use"),
    ("attribution|attribution only|attribution only license", "attribution"),
)


@dataclass(frozen=True)
class LicenseFilter:
    """Which licences are wanted.

    Attributes:
        text: what the user wrote: "any", "commercial" or codes.
        codes: the licences let through; None lets everything through, the unknown too.
    """

    text: str
    codes: frozenset[str] | None

    def allows(self, code: str) -> bool:
        """Whether an image under this licence is wanted."""
        return self.codes is None or code in self.codes


def parse_filter(text: str) -> LicenseFilter:
    """Return the filter for "any", "commercial" or licence codes separated by commas.

    Raises:
        InvalidArgument: if a code is unknown.
    """
    wanted = ",".join(sorted({part.strip().casefold() for part in text.split(",")}))
    if wanted == "any":
        return LicenseFilter(wanted, None)
    if wanted == "commercial":
        return LicenseFilter(wanted, COMMERCIAL)
    codes = wanted.split(",")
    strange = [code for code in codes if code not in CODES]
    if strange:
        raise InvalidArgument(
            f"Unknown licence '{strange[0]}'. Choose any, commercial, or of these with commas "
            f"between: {', '.join(CODES)}."
        )
    return LicenseFilter(wanted, frozenset(codes))


def license_code(name: str) -> str:
    """Return the code of a licence by any of its usual names, such as "CC BY-SA 4.0"; "unknown" if
    none fits for sure.

    A word that forbids something (non-commercial, no derivatives, all rights reserved) counts
    wherever it stands.
    """
    plain = " ".join(re.sub(r"[\s_\-\u2010-\u2015\u2212,;:()/.]+", " ", name).split()).casefold()
    if "-".join(plain.split()) in CODES:
        return "-".join(plain.split())
    if re.search(r"\ball rights\b|\breserved\b|\bfair use\b|©", plain):
        return UNKNOWN
    forbids_profit = bool(re.search(r"\bnc\b|\bnon ?commercial", plain))
    forbids_change = bool(re.search(r"\bnd\b|\bno ?deriv", plain))
    family = re.match(r"(cc |creative commons )?(by|attribution)\b(?! required)", plain)
    if family and (family[1] or forbids_profit or forbids_change):
        alike = bool(re.search(r"\bsa\b|\bshare ?alike", plain)) and not forbids_change
        return "by" + "-nc" * forbids_profit + "-nd" * forbids_change + "-sa" * alike
    if forbids_profit or forbids_change:
        return UNKNOWN
    for pattern, code in _FREE:
        if re.match(
            rf"({pattern})( \d.*)?$" if code == "attribution" else rf"({pattern})\b", plain
        ):
            return code
    return UNKNOWN


def strictest(codes: Iterable[str]) -> str:
    """Return the code that all known ones agree on, or "unknown" if they contradict one another."""
    said = {code for code in codes if code != UNKNOWN}
    return said.pop() if len(said) == 1 else UNKNOWN


def license_from_url(url: str) -> str:
    """Return the code that a Creative Commons address names, or "unknown"."""
    found = re.search(r"creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)", url.casefold())
    if not found:
        return UNKNOWN
    code = {"zero": "cc0", "mark": "pdm"}.get(found[2], found[2])
    return code if code in CODES else UNKNOWN


def license_name(code: str) -> str:
    """Return the name of a licence as people write it."""
    return _NAMES.get(code, code)


def license_link(code: str) -> str:
    """Return the address that explains a licence, or its family if versions differ; "" if there is
    none.
    """
    exact = {"cc0": "zero", "pdm": "mark"}
    if code in exact:
        return f"https://creativecommons.org/publicdomain/{exact[code]}/1.0/"
    return (
        "https://creativecommons.org/share-your-work/cclicenses/"
        if code in CREATIVE_COMMONS
        else ""
    )


def count_text(counts: Iterable[tuple[str, int]]) -> str:
    """Return "CC BY 12, CC0 3" for pairs of code and count."""
    return ", ".join(f"{license_name(code)} {count}" for code, count in counts)
