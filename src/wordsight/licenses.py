"""Licences of pictures: one code for each, and a filter that holds whatever a source answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import InvalidArgument

UNKNOWN = "unknown"
CREATIVE_COMMONS = ("by", "by-nc", "by-nc-nd", "by-nc-sa", "by-nd", "by-sa", "cc0", "nc-sampling+", "pdm", "sampling+")
OTHER_FREE = ("attribution", "copyrighted-free-use", "fal", "gfdl")  # found on Wikimedia Commons; all allow commercial use
CODES = (*CREATIVE_COMMONS, *OTHER_FREE)
COMMERCIAL = frozenset(code for code in CODES if not re.search(r"\bnc\b", code))
_NAMES = {
    "by": "CC BY", "by-nc": "CC BY-NC", "by-nc-nd": "CC BY-NC-ND", "by-nc-sa": "CC BY-NC-SA", "by-nd": "CC BY-ND", "by-sa": "CC BY-SA",
    "cc0": "CC0", "pdm": "public domain", "sampling+": "CC Sampling Plus", "nc-sampling+": "CC NC-Sampling Plus", "fal": "Free Art License",
    "gfdl": "GFDL", "attribution": "attribution required", "copyrighted-free-use": "free use", UNKNOWN: "licence unknown",
}  # fmt: skip


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
        """Tell whether a picture under this licence is wanted."""
        return self.codes is None or code in self.codes


def parse_filter(text: str) -> LicenseFilter:
    """Return the filter of "any", "commercial" or licence codes with commas between.

    Raises:
        InvalidArgument: a code nobody knows.
    """
    wanted = ",".join(sorted({part.strip().casefold() for part in text.split(",")}))
    if wanted == "any":
        return LicenseFilter(wanted, None)
    if wanted == "commercial":
        return LicenseFilter(wanted, COMMERCIAL)
    codes = wanted.split(",")
    strange = [code for code in codes if code not in CODES]
    if strange:
        raise InvalidArgument(f"Unknown licence '{strange[0]}'. Choose any, commercial, or of these with commas between: {', '.join(CODES)}.")
    return LicenseFilter(wanted, frozenset(codes))


def license_code(name: str) -> str:
    """Return the code of a licence by any of its usual names, such as "CC BY-SA 4.0"; "unknown" if none fits.

    Where a text names several licences, the first counts.
    """
    plain = " ".join(name.replace("_", " ").split()).casefold()
    if plain in CODES:
        return plain
    found = re.match(
        r"(?:cc|creative commons)[ -](?:by|attribution)((?:[ -](?:nc|nd|sa|noncommercial|non-commercial|noderivs|noderivatives|sharealike|share alike))*)\b",
        plain,
    )
    if found:
        terms = {"nc": r"\bnc\b|non-?commercial", "nd": r"\bnd\b|noderiv", "sa": r"\bsa\b|share ?alike"}
        return "-".join(["by", *(short for short, pattern in terms.items() if re.search(pattern, found[1]))])
    if re.match(r"(cc[ -]?0|cc[ -]zero|creative commons zero)\b", plain):
        return "cc0"
    if re.match(r"(pd|pdm|public domain|no restrictions|no known copyright restrictions)\b", plain):
        return "pdm"
    for start, code in (("gfdl", "gfdl"), ("gnu free documentation", "gfdl"), ("fal", "fal"), ("free art", "fal"), ("attribution", "attribution"),
                        ("copyrighted free use", "copyrighted-free-use")):  # fmt: skip
        if re.match(rf"{start}\b", plain):
            return code
    return UNKNOWN


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


def count_text(counts: Iterable[tuple[str, int]]) -> str:
    """Return "CC BY 12, CC0 3" for pairs of code and count."""
    return ", ".join(f"{license_name(code)} {count}" for code, count in counts)
