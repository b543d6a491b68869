"""Read XMP, the XML of photos' sidecars: where its keywords are, and what else it says.

Nothing is resolved or fetched: a document type, and with it every entity, is refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_XMP = 1 << 24  # bytes of a sidecar that is read
MOST_ELEMENTS = 1_000_000  # of any kind
MOST_KEYWORDS = 100_000  # elements in lists of keywords, all together
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMPMETA = {("adobe:ns:meta/", "xmpmeta"), ("adobe:ns:meta/", "xapmeta")}
SUBJECT = ("http://purl.org/dc/elements/1.1/", "subject")
HIERARCHY = ("http://ns.adobe.com/lightroom/1.0/", "hierarchicalSubject")
TAGS = ("http://www.digikam.org/ns/1.0/", "TagsList")
LAST = ("http://ns.microsoft.com/photo/1.0/", "LastKeywordXMP")
LISTS = (SUBJECT, HIERARCHY, TAGS, LAST)  # where programs keep keywords
EXTENSION = ("http://ns.adobe.com/photoshop/1.0/", "SidecarForExtension")
ARRAYS = {(RDF, kind) for kind in ("Bag", "Seq", "Alt")}
BETWEEN = "\x0c"  # between the parts of a name; no XML holds it
BLANK = " \t\r\n"
TAG = re.compile(rb"""<[^"'>]*(?:(?:"[^"]*"|'[^']*')[^"'>]*)*>""")
DECLARED = re.compile(r"""<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", ""),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
UNMARKED = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
CODECS = {
    **{"utf-8": "utf-8", "us-ascii": "ascii", "ascii": "ascii"},
    **{"iso-8859-1": "latin-1", "latin-1": "latin-1"},
}
OTHER_ENCODING = "is damaged: its text is not in the encoding that it names"
Name = tuple[str, str]  # namespace, local name


class UnusableXmp(Exception):
    """A sidecar can't be read or extended; the text goes on a sentence about it."""


@dataclass(eq=False, slots=True)
class Element:
    """An element and where it is, in bytes of the text as UTF-8.

    Attributes:
        name: namespace and local name.
        prefix: of its name, "" if it has none.
        start: of its first tag.
        opened: behind its first tag.
        closing: of its last tag; `opened` if it has only one.
        end: behind its last tag.
        attributes: their values, by namespace and local name.
        namespaces: by the prefixes that are known in it; of the first element of a kind only.
        children: those that may belong to a list of keywords.
        first: start of the first child of any kind; -1 if there is none.
        last: end of the last one.
        words: what stands in it directly, in pieces.
    """

    name: Name
    prefix: str
    start: int
    opened: int
    attributes: dict[Name, str]
    namespaces: dict[str, str]
    closing: int = -1
    end: int = -1
    children: list[Element] = field(default_factory=list)
    first: int = -1
    last: int = -1
    words: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What stands in it directly."""
        return "".join(self.words)

    @property
    def is_single(self) -> bool:
        """Whether it is one tag, such as `<rdf:Bag/>`."""
        return self.closing == self.opened == self.end


@dataclass
class Xmp:
    """A sidecar that was read.

    Attributes:
        text: its text as UTF-8, without a byte order mark.
        codec: how it is encoded.
        mark: its byte order mark, or b"".
        root: the element rdf:RDF.
        rest: tells everything in it from anything else, except lists of keywords and blanks
            between elements.
    """

    text: bytes
    codec: str
    mark: bytes
    root: Element
    rest: str

    @property
    def descriptions(self) -> list[Element]:
        """The descriptions directly in rdf:RDF."""
        return [one for one in self.root.children if one.name == (RDF, "Description")]

    def lists(self, name: Name) -> list[Element]:
        """Return the elements that hold a kind of keywords."""
        return [one for of in self.descriptions for one in of.children if one.name == name]

    def keywords(self, name: Name) -> list[str]:
        """Return the keywords of a kind."""
        return [item.text.strip() for one in self.lists(name) for item in items_of(one)]

    @property
    def extension(self) -> str:
        """Suffix of the photo that it says it belongs to, such as `cr2`, or ""."""
        for one in self.descriptions:
            said = [of.text for of in one.children if of.name == EXTENSION]
            for text in (one.attributes.get(EXTENSION, ""), *said):
                if text.strip():
                    return text.strip().lower()
        return ""

    def encoded(self, text: bytes) -> bytes:
        """Return a text as the bytes of this sidecar."""
        return self.mark + (text if self.codec == "utf-8" else text.decode().encode(self.codec))


def items_of(keywords: Element) -> list[Element]:
    """Return the items of a list of keywords."""
    arrays = [one for one in keywords.children if one.name in ARRAYS]
    return [item for one in arrays for item in one.children if item.name == (RDF, "li")]


def read_xmp(data: bytes) -> Xmp:
    """Return what a sidecar says.

    Raises:
        UnusableXmp: if it is no XMP, is malformed, or is larger than what is read.
    """
    if len(data) > MAX_XMP:
        raise UnusableXmp(f"is larger than {MAX_XMP >> 20} MiB, the most that is read")
    if not data.strip():
        raise UnusableXmp("is empty")
    mark, codec = _encoding(data)
    try:
        plain = data[len(mark) :].decode(codec)
    except UnicodeDecodeError:
        raise UnusableXmp(OTHER_ENCODING) from None
    text = plain.encode()
    reader = _Reader(text, "utf-8")
    # as other programs read it, by the encoding it names; theirs must be what was read here
    if codec != "utf-8" or mark or DECLARED.search(plain[:200]):
        told = _Reader(data, None).rest
        if told != reader.rest:
            raise UnusableXmp(OTHER_ENCODING)
    if reader.root is None:
        raise UnusableXmp("is no XMP: there is no rdf:RDF in it")
    return Xmp(text, codec, mark, reader.root, reader.rest)


def _encoding(data: bytes) -> tuple[bytes, str]:
    """Return the byte order mark and the name of the codec.

    Raises:
        UnusableXmp: if it is another encoding than those that XMP has.
    """
    for mark, codec in (*MARKS, *UNMARKED):
        if data.startswith(mark):
            if not codec:
                raise UnusableXmp("is in UTF-32; only UTF-8 and UTF-16 are written")
            return (mark, codec) if (mark, codec) in MARKS else (b"", codec)
    declared = DECLARED.search(data[:200].decode("latin-1"))
    name = declared[1].lower() if declared else "utf-8"
    if name.startswith("utf-16"):
        raise UnusableXmp(OTHER_ENCODING)
    if name not in CODECS:
        raise UnusableXmp(f"is in '{name[:40]}'; only UTF-8 and UTF-16 are written")
    return b"", CODECS[name]


class _Reader:
    """One pass over an XML text.

    Args:
        text: the XML.
        encoding: of it; None: as it says itself. Places are bytes of what is given.

    Raises:
        UnusableXmp: if it is malformed, or holds what is refused.
    """

    def __init__(self, text: bytes, encoding: str | None) -> None:
        self.root: Element | None = None
        self._text, self._places = text, encoding is not None
        self._told = hashlib.sha256()
        self._open: list[Element | None] = []  # None: an element that does not matter
        self._names: list[Name] = []
        self._namespaces: dict[str, list[str]] = {}
        self._declared: list[tuple[str, str]] = []
        self._singles: list[int] = []  # where each open element ends that is one tag, or -1
        self._pieces: list[str] = []  # of text outside lists of keywords
        self._within = 0  # how deep in a list of keywords
        self._count = self._kept = 0
        self._seen: set[Name] = set()
        parser = self._parser = expat.ParserCreate(encoding, BETWEEN)
        parser.namespace_prefixes = True
        parser.ordered_attributes = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._take
        parser.CommentHandler = lambda text: self._tell("comment", text)
        parser.ProcessingInstructionHandler = lambda *told: self._tell("instruction", *told)
        parser.StartNamespaceDeclHandler = self._declare
        parser.EndNamespaceDeclHandler = self._forget
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        try:
            parser.Parse(text, True)
        except expat.ExpatError as error:
            said = expat.ErrorString(error.code)
            raise UnusableXmp(f"is damaged (line {error.lineno}: {said})") from None
        self._tell("end")
        self.rest = self._told.hexdigest()

    def _tell(self, *what: object) -> None:
        """Add to `rest` what is no list of keywords."""
        if self._within:
            return
        text = "".join(self._pieces)
        self._pieces.clear()
        if text.strip(BLANK):
            self._told.update(repr(("text", text)).encode("utf-8", "surrogatepass"))
        self._told.update(repr(what).encode("utf-8", "surrogatepass"))

    def _take(self, text: str) -> None:
        if not self._within:
            self._pieces.append(text)
        if self._open and (element := self._open[-1]) is not None:
            element.words.append(text)

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        self._declared.append((prefix or "", uri or ""))
        self._namespaces.setdefault(prefix or "", []).append(uri or "")

    def _forget(self, prefix: str | None) -> None:
        self._namespaces[prefix or ""].pop()

    def _start(self, qualified: str, listed: list[str]) -> None:
        name, prefix = _parted(qualified)
        self._count += 1
        if self._count > MOST_ELEMENTS:
            raise UnusableXmp(f"holds more than {MOST_ELEMENTS:,} elements")
        parent = self._open[-1] if self._open else None
        kept = self._is_kept(name, parent)
        if self._within or (kept and name in LISTS):
            self._within += 1
        else:
            for one in self._declared:
                self._tell("namespace", *one)
            self._tell("start", qualified, *listed)
        self._declared.clear()
        element = self._new(name, prefix, listed) if kept else None
        self._place(element, parent)
        self._names.append(name)
        self._open.append(element)
        if element is not None and parent is not None:
            parent.children.append(element)
        elif element is not None:
            self.root = element

    def _is_kept(self, name: Name, parent: Element | None) -> bool:
        """Whether an element is rdf:RDF, a description in it, or belongs to a list of keywords."""
        if parent is None:
            outermost = not self._names or (len(self._names) == 1 and self._names[0] in XMPMETA)
            kept = name == (RDF, "RDF") and outermost
            if kept and self.root is not None:
                raise UnusableXmp("holds rdf:RDF twice")
            return kept
        if parent.name == (RDF, "RDF") and not self._within:
            return name == (RDF, "Description")
        if parent.name == (RDF, "Description") and not self._within:
            return name in LISTS or name == EXTENSION
        return bool(self._within)

    def _new(self, name: Name, prefix: str, listed: list[str]) -> Element:
        self._kept += 1
        if self._kept > MOST_KEYWORDS:
            raise UnusableXmp(f"holds more than {MOST_KEYWORDS:,} keywords")
        given = zip(listed[::2], listed[1::2], strict=True)
        attributes = {_parted(key)[0]: value for key, value in given}
        known = {}
        if self._within < 2 and name not in self._seen:
            self._seen.add(name)
            known = {key: uris[-1] for key, uris in self._namespaces.items() if uris}
        return Element(name, prefix, -1, -1, attributes, known)

    def _place(self, element: Element | None, parent: Element | None) -> None:
        """Note where a first tag is, of an element that matters or whose parent does."""
        start, single = self._parser.CurrentByteIndex, -1
        if self._places and (element is not None or parent is not None):
            tag = TAG.match(self._text, start)
            opened = tag.end() if tag else start
            single = opened if self._text[opened - 2 : opened] == b"/>" else -1
            if element is not None:
                element.start, element.opened = start, opened
            if parent is not None and parent.first < 0:
                parent.first = start
        self._singles.append(single)

    def _end(self, qualified: str) -> None:
        element, single = self._open.pop(), self._singles.pop()
        parent = self._open[-1] if self._open else None
        self._names.pop()
        if self._places and (element is not None or parent is not None):
            at = self._parser.CurrentByteIndex
            tag = None if single >= 0 else TAG.match(self._text, at)
            end = tag.end() if tag else single
            if element is not None:
                element.closing, element.end = (at if tag else single), end
            if parent is not None:
                parent.last = end
        if self._within:
            self._within -= 1
        else:
            self._tell("end", qualified)


def _parted(qualified: str) -> tuple[Name, str]:
    """Return namespace and local name, and the prefix, of a name as the parser gives it."""
    parts = qualified.split(BETWEEN)
    if len(parts) == 1:
        return ("", qualified), ""
    return (parts[0], parts[1]), parts[2] if len(parts) > 2 else ""


def _refuse(*_: object) -> None:
    raise UnusableXmp("has a document type, which XMP never has")
