"""Sidecars as darktable, Lightroom Classic and digiKam write them, and odd ones; what in them is no
keyword, told by another parser than the one that is tested.
"""

from __future__ import annotations

import collections
import random
import re
from xml.etree import ElementTree

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
LISTS = {
    "subject": "{http://purl.org/dc/elements/1.1/}subject",
    "hierarchy": "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject",
    "tags": "{http://www.digikam.org/ns/1.0/}TagsList",
    "last": "{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP",
}
BLANK = " \t\r\n"

DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:darktable="http://darktable.sf.net/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
   exif:DateTimeOriginal="2024:05:01 10:20:30.000"
   xmp:Rating="3"
   xmpMM:DerivedFrom="x.jpg"
   darktable:import_timestamp="63850112233445566"
   darktable:xmp_version="5"
   darktable:raw_params="0"
   darktable:auto_presets_applied="1"
   darktable:history_end="2"
   darktable:iop_order_version="4"
   darktable:history_basic_hash="5c33de6d">
   <darktable:masks_history>
    <rdf:Seq/>
   </darktable:masks_history>
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="colorin"
      darktable:enabled="1"
      darktable:modversion="7"
      darktable:params="gz48eJzjZBgFowABWAbaAaNgwAEAEDgABg=="
      darktable:multi_name=""
      darktable:blendop_params="gz11eJxjYIAACQYYOOHEgAZY0QVwggZ7CB6pfNoAAE8gGQg="/>
     <rdf:li darktable:num="1" darktable:operation="exposure" darktable:enabled="1"/>
    </rdf:Seq>
   </darktable:history>
   <dc:creator>
    <rdf:Seq>
     <rdf:li>Ann Person</rdf:li>
    </rdf:Seq>
   </dc:creator>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>holiday</rdf:li>
     <rdf:li>Sweden</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>holiday</rdf:li>
     <rdf:li>places|Sweden</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
LIGHTROOM = """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
   tiff:Make="Canon"
   photoshop:SidecarForExtension="CR2"
   dc:format="image/x-canon-cr2"
   xmpMM:DocumentID="39B881911C59EC160E16046FA5418EC8"
   crs:Version="16.1"
   crs:WhiteBalance="As Shown"
   crs:Exposure2012="+0.35"
   crs:HasSettings="True"
   crs:RawFileName="x.CR2">
   <xmpMM:History>
    <rdf:Seq>
     <rdf:li
      stEvt:action="saved"
      stEvt:when="2024-05-02T08:00:00+02:00"
      stEvt:changed="/metadata"/>
    </rdf:Seq>
   </xmpMM:History>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>R&amp;D &lt;day&gt;</rdf:li>
     <rdf:li>Zo\u00eb</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <dc:title>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">A "title", 5 &gt; 4</rdf:li>
    </rdf:Alt>
   </dc:title>
   <crs:ToneCurvePV2012>
    <rdf:Seq>
     <rdf:li>0, 0</rdf:li>
     <rdf:li>255, 255</rdf:li>
    </rdf:Seq>
   </crs:ToneCurvePV2012>
   <crs:Look>
    <rdf:Description crs:Name="Adobe Color" crs:Amount="1">
     <crs:Parameters>
      <rdf:Description crs:Version="16.1" crs:ConvertToGrayscale="False"/>
     </crs:Parameters>
    </rdf:Description>
   </crs:Look>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
DIGIKAM = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
    xmlns:mediapro="http://ns.iview-multimedia.com/mediapro/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/">
   <digiKam:PickLabel>0</digiKam:PickLabel>
   <digiKam:ColorLabel>0</digiKam:ColorLabel>
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>people/Ann</rdf:li>
     <rdf:li>holiday</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
   <MicrosoftPhoto:LastKeywordXMP>
    <rdf:Bag>
     <rdf:li>people/Ann</rdf:li>
     <rdf:li>holiday</rdf:li>
    </rdf:Bag>
   </MicrosoftPhoto:LastKeywordXMP>
   <MicrosoftPhoto:Rating>50</MicrosoftPhoto:Rating>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>people|Ann</rdf:li>
     <rdf:li>holiday</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <mediapro:CatalogSets>
    <rdf:Bag>
     <rdf:li>people|Ann</rdf:li>
     <rdf:li>holiday</rdf:li>
    </rdf:Bag>
   </mediapro:CatalogSets>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Ann</rdf:li>
     <rdf:li>holiday</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <xmp:Rating>3</xmp:Rating>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
SINGLE = """<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
 <!-- <dc:subject> in a comment -->
 <rdf:Description rdf:about='' xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmp:Label='a > b' />
 <rdf:Description rdf:about='' xmlns:d='http://purl.org/dc/elements/1.1/'
  xmlns:e='http://example.com/'><e:raw><![CDATA[</rdf:Description> <d:subject/>]]></e:raw>
  <d:subject/>
 </rdf:Description>
</rdf:RDF></x:xmpmeta>
                                                                                
                                                                                
<?xpacket end='w'?>
"""
PLAIN = """<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
     xmlns:dc="http://example.com/not-dublin-core">\r
\t<Description dc:subject="mine">\r
\t\t<s:subject xmlns:s="http://purl.org/dc/elements/1.1/"><Bag><li>sea</li></Bag>\
<Bag/></s:subject>\r
\t\t<x:structure xmlns:x="http://example.com/"><Description><s:subject \
xmlns:s="http://purl.org/dc/elements/1.1/"><Bag><li>inner</li></Bag></s:subject></Description>\
</x:structure>\r
\t</Description>\r
</RDF>"""
KINDS = {
    "darktable": DARKTABLE.encode(),
    "lightroom": LIGHTROOM.encode(),
    "digikam": DIGIKAM.encode(),
    "single": SINGLE.encode(),
    "plain": PLAIN.encode(),
}


def parsed(data: bytes) -> ElementTree.Element:
    """Return the tree of a sidecar with its comments and instructions."""
    builder = ElementTree.TreeBuilder(insert_comments=True, insert_pis=True)
    return ElementTree.fromstring(data, ElementTree.XMLParser(target=builder))


def descriptions(tree: ElementTree.Element) -> list[ElementTree.Element]:
    root = tree if tree.tag == f"{RDF}RDF" else tree.find(f"{RDF}RDF")
    assert root is not None
    return root.findall(f"{RDF}Description")


def keywords(data: bytes) -> dict[str, list[str]]:
    """Return the keywords of each list."""
    found: dict[str, list[str]] = {}
    for name, tag in LISTS.items():
        lists = [one for of in descriptions(parsed(data)) for one in of.findall(tag)]
        items = [item for one in lists for array in one for item in array.findall(f"{RDF}li")]
        found[name] = [(item.text or "").strip() for item in items]
    return found


def others(data: bytes) -> list[tuple]:
    """Return all that a sidecar says apart from keywords, blanks between elements aside."""
    tree = parsed(data)
    for of in descriptions(tree):
        for one in [one for one in of if one.tag in LISTS.values()]:
            at = list(of).index(one)
            before = of[at - 1] if at else None
            if before is None:
                of.text = (of.text or "") + (one.tail or "")
            else:
                before.tail = (before.tail or "") + (one.tail or "")
            of.remove(one)
    told: list[tuple] = []
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        text, tail = ((said or "").strip(BLANK) and said for said in (one.text, one.tail))
        tag = one.tag if isinstance(one.tag, str) else one.tag.__name__
        told.append((tag, sorted(one.attrib.items()), text, tail, len(one)))
        waiting += list(one)
    return told


def check(data: bytes) -> bool:
    """Put keywords into a sidecar and take them out, and return whether that could be done; all
    that is promised of it holds, or this fails.
    """
    from wordsight.exports.photos import xmp_edit as editing
    from wordsight.exports.photos.xmp import UnusableXmp

    wanted = editing.lists_of(["cat", "a&b \u732b"], ["wordsight"])
    try:
        edited = editing.with_keywords(data, wanted)
    except UnusableXmp as error:
        if "(line " in str(error):  # malformed
            try:
                parsed(data)
            except ElementTree.ParseError:
                return False
            raise AssertionError(f"refused, and well-formed: {error}") from None
        return False
    before, after = keywords(data), keywords(edited.data)
    assert others(edited.data) == others(data), "something else changed"
    assert all(one.old in (b"", b"/>") for one in edited.edits), "bytes were replaced"
    assert editing.former(edited.data, edited.edits) == data, "there is no way back"
    for name, told in before.items():
        assert not collections.Counter(told) - collections.Counter(after[name]), "one was lost"
    assert "cat" in map(str.casefold, after["subject"]) and "wordsight|cat" in after["hierarchy"]
    assert ("wordsight/cat" in after["tags"]) == bool(before["tags"])
    assert set(before["subject"]) - {""} <= set(after["hierarchy"]) or before["hierarchy"]
    assert editing.with_keywords(edited.data, wanted).data == edited.data, "a second run changes it"
    try:
        taken = editing.without_keywords(edited.data, edited.added).data
    except UnusableXmp:  # text beside the properties, which no XMP has
        return True
    assert keywords(taken)["subject"] == before["subject"] and others(taken) == others(data)
    return True


# --------------------------------------------------------------------------------------------------
# ---------------------------------------------------------------- sidecars nobody thought of


def changed(data: bytes, rng: random.Random) -> bytes:
    """Return a sidecar written otherwise: blanks, quotes, order, prefixes, encodings, lists that
    are missing, odd or huge; most of these are still XMP.
    """
    text = data.decode()
    for _ in range(rng.choice((0, 1, 2, 3))):
        text = rng.choice(WAYS)(text, rng)
    return _encoded(text, rng)


def _encoded(text: str, rng: random.Random) -> bytes:
    way = rng.randrange(10)
    name, mark = (
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-8", b"\xef\xbb\xbf"),
        ("iso-8859-1", b""),
    )[way] if way < 4 else ("utf-8", b"")  # fmt: skip
    label = "UTF-16" if name.startswith("utf-16") else name
    bare = re.sub(r"^<\?xml[^>]*\?>\s*", "", text)
    if name != "utf-8":
        text = f"<?xml version='1.0' encoding='{label}'?>\n{bare}"
    codec = "latin-1" if name == "iso-8859-1" else name
    return mark + text.encode(codec, "xmlcharrefreplace")


def _lines(text: str, rng: random.Random) -> str:
    return text.replace("\r\n", "\n").replace("\n", rng.choice(("\r\n", "\r", "\n\n", "\t", "\n")))


def _quotes(text: str, rng: random.Random) -> str:
    return re.sub(r'="([^"\']*)"', lambda found: f"='{found[1]}'", text)


def _prefixes(text: str, rng: random.Random) -> str:
    old = rng.choice(("rdf", "dc", "lr", "digiKam", "x"))
    new = rng.choice(("ns1", "\u00e9", "lr2", "_"))
    return re.sub(rf"(?<![\w:/.]){old}:|(?<=xmlns:){old}(?==)", 
                  lambda found: new + (":" if found[0].endswith(":") else ""), text)  # fmt: skip


def _without(text: str, rng: random.Random) -> str:
    name = rng.choice(("dc:subject", "lr:hierarchicalSubject", "digiKam:TagsList"))
    return re.sub(rf"\s*<{name}>.*?</{name}>", rng.choice(("", f"<{name}/>")), text, flags=re.S)


def _empty(text: str, rng: random.Random) -> str:
    return re.sub(r"<rdf:Bag>.*?</rdf:Bag>", rng.choice(("<rdf:Bag/>", "<rdf:Bag></rdf:Bag>", 
                  "<rdf:Bag>\n\n</rdf:Bag>", "<rdf:Bag><!-- --></rdf:Bag>")), text, count=1,
                  flags=re.S)  # fmt: skip


def _kind(text: str, rng: random.Random) -> str:
    return text.replace("rdf:Bag", rng.choice(("rdf:Seq", "rdf:Alt", "rdf:bag")))


def _inserted(text: str, rng: random.Random) -> str:
    piece = rng.choice((
        "<!-- <rdf:li>cat</rdf:li> -->", "<![CDATA[<rdf:li>cat</rdf:li>]]>", "<?php x ?>", " ",
        "&#65;", "&amp;", "text", "<rdf:li>cat</rdf:li>", "<rdf:li>Cat </rdf:li>", "<rdf:li/>",
        "<rdf:Bag/>", "<e/>", "<rdf:RDF/>", "<rdf:Description/>", "<dc:subject/>", "<!DOCTYPE a>",
        "<dc:subject>cat</dc:subject>", '<dc:subject rdf:parseType="Resource"/>', "\x00", "\ufeff",
        "<a:b xmlns:a='c d'/>", "<" , "&", "&nope;", "]]>",
        "<rdf:li xml:lang='x-default'>b</rdf:li>",
    ))  # fmt: skip
    places = [found.end() for found in re.finditer(r">", text)]
    at = rng.choice(places) if places else 0
    return text[:at] + piece + text[at:]


def _attribute(text: str, rng: random.Random) -> str:
    piece = rng.choice((' dc:subject="cat"', ' rdf:ID="a"', " xmlns:lr='urn:x'", ' a="1" a="2"',
                        " xmlns=''", ' xml:space="preserve"', ' nope:x="1"'))  # fmt: skip
    return re.sub(r"(<rdf:Description)\b", lambda found: found[1] + piece, text, count=1)


def _single(text: str, rng: random.Random) -> str:
    return re.sub(r"(<rdf:Description\b[^>]*[^/])>.*</rdf:Description>", r"\1/>", text, flags=re.S)


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _deep(text: str, rng: random.Random) -> str:
    depth = rng.choice((10, 10, 100, 2000))
    return text.replace("<rdf:Bag>", "<rdf:Bag>" + "<d>" * depth + "</d>" * depth, 1)


def _huge(text: str, rng: random.Random) -> str:
    items = "".join(f"<rdf:li>k{number}</rdf:li>" for number in range(rng.choice((30, 300, 3000))))
    return text.replace("<rdf:Bag>", f"<rdf:Bag>{items}", 1)


def _moved(text: str, rng: random.Random) -> str:
    """Put the last property before the first."""
    found = re.search(r"(<rdf:Description[^>]*>)(.*)(\s*<(dc:\w+|\w+:Rating)>.*?</\4>)", text, re.S)
    return text if found is None else (
        text[: found.start()] + found[1] + found[3] + found[2] + text[found.end() :])  # fmt: skip


def _split(text: str, rng: random.Random) -> str:
    """Give each property from somewhere on a description of its own."""
    places = [found.start() for found in re.finditer(r"\n   <(dc|lr|digiKam|xmp):", text)]
    head = re.search(r"<rdf:Description[^>]*?((?:\s+xmlns:\w+=\"[^\"]*\")+)", text)
    if not places or head is None:
        return text
    at = rng.choice(places)
    return f'{text[:at]}</rdf:Description><rdf:Description rdf:about=""{head[1]}>{text[at:]}'


def _flipped(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(("", ">", '"', "rdf:", "\n", "x")) + text[at + rng.randrange(3) :]


WAYS = (
    *(_lines, _quotes, _prefixes, _without, _empty, _kind, _inserted, _inserted, _attribute),
    *(_single, _cut, _deep, _huge, _moved, _split, _flipped),
)
