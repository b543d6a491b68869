"""Put keywords into XMP and take them out: only their own bytes change, and the result is read
again before it counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from xml.sax.saxutils import escape

from .xmp import (
    ARRAYS,
    BLANK,
    HIERARCHY,
    LAST,
    LISTS,
    RDF,
    SUBJECT,
    TAGS,
    Element,
    Name,
    UnusableXmp,
    Xmp,
    items_of,
    read_xmp,
)

USUAL = {SUBJECT: "dc", HIERARCHY: "lr", TAGS: "digiKam", LAST: "MicrosoftPhoto"}
EMPTY = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="wordsight">\n'
    f' <rdf:RDF xmlns:rdf="{RDF}">\n'
    '  <rdf:Description rdf:about=""\n'
    f'    xmlns:dc="{SUBJECT[0]}"\n'
    f'    xmlns:lr="{HIERARCHY[0]}">\n'
    "  </rdf:Description>\n"
    " </rdf:RDF>\n"
    "</x:xmpmeta>\n"
).encode()
FIRST = EMPTY.partition(b"\n")[0] + b"\n"  # what XMP in a photo's own file does without
PACKET = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    + EMPTY.removeprefix(FIRST)
    + b'<?xpacket end="r"?>'
)
BEGINNINGS = (b"<?xpacket", b"<?xml", b"<x:xmpmeta")  # by which Exiv2 knows a sidecar
INDENT = re.compile(rb"(?:\r\n|\n|\r)[ \t]*$")
DEEPEST = 200  # bytes of an indent that is kept up
QUALIFIED = re.compile(rb"<([^\s/>]+)")
# what no XML 1.0 can hold
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Keywords = Mapping[Name, Sequence[str]]


@dataclass(frozen=True)
class Edit:
    """A change of a text as UTF-8.

    Attributes:
        place: where, in bytes of the text before any change.
        old: what was there.
        new: what is there now.
    """

    place: int
    old: bytes
    new: bytes


@dataclass(frozen=True)
class Edited:
    """A sidecar that was changed.

    Attributes:
        data: its bytes.
        edits: what changed, in order.
        added: keywords that were added, by list; with the flat ones, those above them in the
            hierarchy that were not there, which darktable adds once it writes the sidecar.
    """

    data: bytes
    edits: tuple[Edit, ...]
    added: dict[Name, list[str]]


@dataclass(frozen=True)
class _New:
    """An element to write."""

    tag: str
    attributes: str
    inside: str | tuple[_New, ...]


def levels_above(keywords: Keywords) -> set[str]:
    """Return the keywords that are above others in the hierarchy."""
    return {part for one in keywords.get(HIERARCHY, ()) for part in one.split("|")[:-1]}


def lists_of(labels: Iterable[str], above: Sequence[str]) -> dict[Name, list[str]]:
    """Return what is to stand in each list of keywords.

    Args:
        labels: of a photo.
        above: names of the levels above, the highest first.

    Raises:
        UnusableXmp: if a label can't be written.
    """
    flat = [" ".join(one.split()) for one in labels]
    for one in flat:
        if not one or FORBIDDEN.search(one):
            raise UnusableXmp(f"has a label that no sidecar can hold: {one!r}")
    return {
        SUBJECT: flat,
        HIERARCHY: ["|".join([*above, one.replace("|", "_")]) for one in flat],
        **{name: ["/".join(part.replace("/", "_") for part in (*above, one)) for one in flat]
           for name in (TAGS, LAST)},
    }  # fmt: skip


def with_keywords(data: bytes, wanted: Keywords) -> Edited:
    """Return a sidecar with keywords added to `dc:subject` and `lr:hierarchicalSubject`, and to the
    lists of digiKam and Windows that it has, since digiKam reads those first.

    Keywords that are there already, in whatever case, are not added. Where
    `lr:hierarchicalSubject` is new, the flat keywords are repeated in it: darktable and digiKam
    read only one of the two.

    Raises:
        UnusableXmp: if it can't be read, or keeps its keywords in a form that takes no more.
    """
    xmp = read_xmp(data)
    edits: list[Edit] = []
    new: list[tuple[Name, list[str]]] = []
    added, listed = {}, {name: Counter(xmp.keywords(name)) for name in LISTS}
    for name, values in wanted.items():
        there = {_same(one) for one in listed[name]}
        missing = [one for one in dict.fromkeys(values) if _same(one) not in there]
        if not missing or (name in (TAGS, LAST) and not there):
            continue
        added[name] = missing
        told = missing
        if name == HIERARCHY and not there:
            ours = {_same(one) for one in missing}
            told = [one for one in xmp.keywords(SUBJECT) if one and _same(one) not in ours]
            told = [*dict.fromkeys(told), *missing]
        listed[name].update(told)
        edit = _in_list(xmp, name, told)
        if edit is None:
            new.append((name, told))
        else:
            edits.append(edit)
    if new:
        edits.append(_in_description(xmp, new))
    flat = {_same(one) for one in listed[SUBJECT]}
    if above := sorted(one for one in levels_above(added) if _same(one) not in flat):
        added[SUBJECT] = [*added.get(SUBJECT, []), *above]
    return _checked(xmp, edits, listed, added)


def without_keywords(data: bytes, ours: Keywords) -> Edited:
    """Return a sidecar without keywords of ours; a list that holds none but ours goes. A flat one
    that is above others in the hierarchy stays while the user's own are below it.

    Raises:
        UnusableXmp: if it can't be read.
    """
    xmp = read_xmp(data)
    edits: list[Edit] = []
    listed = {name: Counter(xmp.keywords(name)) for name in LISTS}
    others = listed[HIERARCHY] - Counter(ours.get(HIERARCHY, ()))
    needed = levels_above(ours) & {part for one in others for part in one.split("|")}
    for name, values in ours.items():
        left = Counter(one for one in values if name != SUBJECT or one not in needed)
        for one in reversed(xmp.lists(name)):
            doomed = []
            for item in reversed(items_of(one)):
                if left[item.text.strip()] > 0:
                    left[item.text.strip()] -= 1
                    listed[name][item.text.strip()] -= 1
                    doomed.append(item)
            whole = doomed and len(doomed) == len(items_of(one)) and _is_bare(xmp, one, doomed)
            edits += [_removal(xmp, gone) for gone in ([one] if whole else doomed)]
    return _checked(xmp, edits, listed, {})


def first_sidecar(packet: bytes, words: Iterable[str], wanted: Keywords) -> bytes:
    """Return the first sidecar of a photo, before any keywords of ours: what is said in the photo's
    file, as programs that find a sidecar take titles, ratings and keywords from there.

    Args:
        packet: the XMP in the photo's file, or b"".
        words: keywords from elsewhere in it.
        wanted: what is to be added next; XMP that doesn't take it is left out.
    """
    known = _spelled(words)
    if packet.removeprefix(b"\xef\xbb\xbf").startswith(BEGINNINGS):
        with suppress(UnusableXmp):
            data = with_keywords(packet, {SUBJECT: known}).data
            with_keywords(data, wanted)
            return data
    return with_keywords(EMPTY, {SUBJECT: known}).data


def first_packet(words: Iterable[str]) -> bytes:
    """Return the first XMP in a photo's own file, before any keywords of ours: the keywords from
    elsewhere in it, since programs that find XMP take keywords from there.
    """
    return with_keywords(PACKET, {SUBJECT: _spelled(words)}).data


def _spelled(words: Iterable[str]) -> list[str]:
    """Return keywords that XMP can hold."""
    return [" ".join(one.split()) for one in words if one.strip() and not FORBIDDEN.search(one)]


def former(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Return what a sidecar was before edits.

    Raises:
        UnusableXmp: if these are not its edits.
    """
    xmp, shift, back = read_xmp(data), 0, []
    for one in edits:
        back.append(Edit(one.place + shift, one.new, one.old))
        shift += len(one.new) - len(one.old)
    return xmp.encoded(_applied(xmp.text, back))


def _same(keyword: str) -> str:
    """Return what two spellings of a keyword share that programs take for one."""
    return unicodedata.normalize("NFC", keyword.strip()).casefold()


def _applied(text: bytes, edits: Sequence[Edit]) -> bytes:
    """Return a text after edits, which are in order."""
    pieces, at = [], 0
    for one in edits:
        if text[one.place : one.place + len(one.old)] != one.old or one.place < at:
            raise UnusableXmp("was changed since")
        pieces += [text[at : one.place], one.new]
        at = one.place + len(one.old)
    return b"".join([*pieces, text[at:]])


def _checked(
    xmp: Xmp, edits: list[Edit], listed: Mapping[Name, Counter], added: dict[Name, list[str]]
) -> Edited:
    """Return what edits make of a sidecar.

    Raises:
        UnusableXmp: if the result, read again, holds other keywords than `listed`, or anything else
            in it differs.
    """
    edits = sorted(edits, key=lambda one: one.place)
    data = xmp.encoded(_applied(xmp.text, edits))
    after = read_xmp(data)
    same = all(Counter(after.keywords(name)) == +listed[name] for name in LISTS)
    if not same or after.rest != xmp.rest:
        raise UnusableXmp("can't be changed without changing more than keywords")
    return Edited(data, tuple(edits), added)


def _in_list(xmp: Xmp, name: Name, values: list[str]) -> Edit | None:
    """Return the edit that adds keywords to a list that is there; None without one.

    Raises:
        UnusableXmp: if it is of a form that takes no more.
    """
    odd = UnusableXmp(f"keeps {USUAL[name]}:{name[1]} in a form that takes no more keywords")
    if any(name in one.attributes for one in xmp.descriptions):
        raise odd
    lists = xmp.lists(name)
    arrays = [array for one in lists for array in one.children if array.name in ARRAYS]
    if arrays:
        prefix = _begin(arrays[0].prefix)
        return _append(xmp, arrays[0], [_item(xmp, prefix, one) for one in values])
    if not lists:
        return None
    first = lists[0]
    rdf = _prefix(first.namespaces, RDF)
    if first.children or first.text.strip(BLANK) or first.attributes or rdf is None:
        raise odd
    return _append(xmp, first, [_bag(xmp, rdf, values)])


def _in_description(xmp: Xmp, new: list[tuple[Name, list[str]]]) -> Edit:
    """Return the edit that adds new lists to the first description.

    Raises:
        UnusableXmp: if there is none.
    """
    if not xmp.descriptions:
        raise UnusableXmp("holds no rdf:Description")
    inside = xmp.descriptions[0]
    known, prefix = inside.namespaces, _begin(inside.prefix)
    lists = []
    for name, values in new:
        own, declared = _prefix(known, name[0]), ""
        if own is None:
            usual = USUAL[name]
            free = (f"{usual}{number or ''}" for number in range(len(known) + 1))
            own = _begin(next(one for one in free if one not in known))
            declared = f' xmlns:{own[:-1]}="{name[0]}"'
        lists.append(_New(f"{own}{name[1]}", declared, (_bag(xmp, prefix, values),)))
    return _append(xmp, inside, lists)


def _begin(prefix: str) -> str:
    """Return what stands before a local name."""
    return f"{prefix}:" if prefix else ""


def _prefix(known: Mapping[str, str], uri: str) -> str | None:
    """Return what stands before the local names of a namespace, or None if it has no prefix."""
    return next((_begin(key) for key, one in known.items() if one == uri), None)


def _bag(xmp: Xmp, prefix: str, values: list[str]) -> _New:
    return _New(f"{prefix}Bag", "", tuple(_item(xmp, prefix, one) for one in values))


def _item(xmp: Xmp, prefix: str, value: str) -> _New:
    """Return an item; what its encoding lacks is a number."""
    text = escape(value).encode(xmp.codec, "xmlcharrefreplace").decode(xmp.codec)
    return _New(f"{prefix}li", "", text)


def _append(xmp: Xmp, parent: Element, new: Sequence[_New]) -> Edit:
    """Return the edit that writes elements behind the last one in another."""
    outer = _indent(xmp.text, parent.start)
    step = b"\t" if outer.endswith(b"\t") else b" "
    inner = _indent(xmp.text, parent.first) if parent.first >= 0 else outer and outer + step
    text = b"".join(_written(one, inner, step) for one in new)
    if parent.is_single:
        tag = QUALIFIED.match(xmp.text, parent.start)
        assert tag is not None
        return Edit(parent.opened - 2, b"/>", b">" + text + outer + b"</" + tag[1] + b">")
    return Edit(parent.last if parent.last >= 0 else parent.opened, b"", text)


def _written(new: _New, indent: bytes, step: bytes) -> bytes:
    tag = new.tag.encode()
    begin = indent + b"<" + tag + new.attributes.encode() + b">"
    if isinstance(new.inside, str):
        return begin + new.inside.encode() + b"</" + tag + b">"
    deeper = indent and indent + step
    inside = b"".join(_written(one, deeper, step) for one in new.inside)
    return begin + inside + indent + b"</" + tag + b">"


def _indent(text: bytes, at: int) -> bytes:
    """Return the end of line and the blanks that stand before a place, or b"" if there are none."""
    found = INDENT.search(text[max(0, at - DEEPEST) : at])
    return found[0] if found else b""


def _removal(xmp: Xmp, element: Element) -> Edit:
    begin = element.start - len(_indent(xmp.text, element.start))
    return Edit(begin, xmp.text[begin : element.end], b"")


def _is_bare(xmp: Xmp, one: Element, items: list[Element]) -> bool:
    """Whether nothing but these items is in a list of keywords: no comment, no other element."""
    inside = [array for array in one.children if array.name not in ARRAYS]
    others = [of for array in one.children for of in array.children if of not in items]
    between = b"<!--" in xmp.text[one.start : one.end] or b"<?" in xmp.text[one.start : one.end]
    return not (inside or others or between or one.text.strip(BLANK) or one.attributes)
