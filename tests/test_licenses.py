"""Licence names to codes, and what a filter lets through."""

from __future__ import annotations

import pytest

import wordsight
from wordsight.datasets.licenses import (
    CODES,
    COMMERCIAL,
    license_code,
    license_from_url,
    parse_filter,
)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("CC BY-SA 4.0", "by-sa"), ("CC BY 2.0", "by"), ("cc-by-nc-nd-3.0", "by-nc-nd"),
        ("CC BY-NC-SA 2.0 de", "by-nc-sa"), ("CC0", "cc0"), ("CC0 1.0", "cc0"),
        ("Public domain", "pdm"), ("PD-old", "pdm"), ("No restrictions", "pdm"), ("GFDL 1.2",
        "gfdl"), ("FAL", "fal"), ("Attribution", "attribution"),
        ("Creative Commons Attribution-Share Alike 3.0", "by-sa"), ("Copyrighted free use",
        "copyrighted-free-use"), ("by-nc", "by-nc"), ("", "unknown"),
        ("All rights reserved", "unknown"), ("Byte", "unknown"), ("CC BYOB", "unknown"),
        ("CC BY-SA 3.0 or GFDL", "by-sa"),
        ("Attribution-NonCommercial 4.0 International", "by-nc"),
        ("Attribution-NonCommercial-ShareAlike License", "by-nc-sa"), ("CC BY–NC", "by-nc"),
        ("Attribution-NoDerivs License", "by-nd"), ("CC BY 4.0 (non-commercial use only)", "by-nc"),
        ("CC-BY-4.0-NC", "by-nc"), ("CC BY No Derivatives", "by-nd"),
        ("Attribution, all rights reserved", "unknown"), ("Free for non commercial use", "unknown"),
    ],
)  # fmt: skip
def test_license_code_reads_usual_names(name, code):
    assert license_code(name) == code


def test_license_from_url_reads_creative_commons_addresses():
    assert license_from_url("https://creativecommons.org/licenses/by-nc-sa/2.0/") == "by-nc-sa"
    assert license_from_url("http://creativecommons.org/publicdomain/zero/1.0/deed.de") == "cc0"
    assert license_from_url("https://creativecommons.org/publicdomain/mark/1.0/") == "pdm"
    assert (
        license_from_url("https://example.org/licenses/by/4.0/")
        == license_from_url("")
        == "unknown"
    )


def test_filters():
    assert all(parse_filter("any").allows(code) for code in (*CODES, "unknown"))
    commercial = parse_filter("Commercial")
    assert (
        commercial.allows("by-sa")
        and commercial.allows("cc0")
        and not commercial.allows("by-nc")
        and not commercial.allows("unknown")
    )
    assert not any("nc" in code.split("-") for code in COMMERCIAL)
    assert (
        parse_filter("CC0, by").codes == {"by", "cc0"}
        and parse_filter("cc0,by").text == parse_filter("by,cc0").text
    )
    for wrong in ("", "by,", "gpl", "by-nc,commercial"):
        with pytest.raises(wordsight.errors.InvalidArgument, match="Unknown licence"):
            parse_filter(wrong)
