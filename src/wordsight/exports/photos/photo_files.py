"""XMP in photos' own files, which ExifTool writes: what it makes is checked before it takes the
photo's place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from PIL import ImageSequence

from ...core.home import replace_file
from ...core.records import digest
from ...core.regular import open_regular, read_regular
from ...errors import InvalidArgument, UnreadableImage
from ...images.decoders.extras import is_heif, is_raw
from ...images.decoding import MAX_BYTES, decode
from ...images.embedded import embedded_words
from ...images.limits import BoundedFile
from ...images.signatures import identify
from .keyword_notes import Kept, Noted, Notes, pieces_of, told_of
from .sidecars import CHANGED, build, check_writable, half_built, refuse_link
from .xmp import UnusableXmp
from .xmp_edit import Keywords, first_packet

EXIFTOOL = "exiftool"
ABSENT = (
    "Keywords are written into photos by ExifTool, which is not found here. Install it "
    "(https://exiftool.org, 'apt install libimage-exiftool-perl', 'brew install exiftool'), or "
    "write sidecars: leave out --embed."
)
PATIENCE_S = 300  # for one photo
BLANK = b"\0 \t\r\n"
PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*")
FRAME = (
    b"<?xpacket begin='\xef\xbb\xbf' id='W5M0MpCehiHzreSzNTczkc9d'?>\n",
    b"\n<?xpacket end='w'?>",
)
END = re.compile(rb"(<\?xpacket end=[\"'])[rw]([\"']\?>)\Z")
HEAD = 1 << 16  # bytes by which a kind is told
KEYWORDS = {
    *("XMP-dc:Subject", "XMP-lr:HierarchicalSubject", "XMP-digiKam:TagsList"),
    *("XMP-microsoft:LastKeywordXMP", "XMP-x:XMPToolkit"),
}
OF_NO_PHOTO = {"System", "Composite"}  # groups of tags that are of the file, or are computed
# of a HEIC; its XMP lies in there, too
MEDIA = {"QuickTime:MediaData", "QuickTime:MediaDataSize"}
TABLES = 1 << 14  # bytes of a file that say where everything in it is
PLACES = ("Offset", "Offsets", "Start")  # tags that end so say where in the file something is


class ExifTool:
    """ExifTool, without its user's configuration.

    Raises:
        InvalidArgument: if it is not installed.
    """

    def __init__(self) -> None:
        found = shutil.which(EXIFTOOL)
        if found is None:
            raise InvalidArgument(ABSENT)
        self._program = found

    def packets(self, paths: Sequence[Path]) -> list[bytes | None]:
        """Return the XMP in each photo's file, None without one."""
        mark = secrets.token_hex(16)
        lines = [
            line
            for path in paths
            for line in ("-b", "-XMP", os.fspath(path), "-echo3", mark, "-execute")
        ]
        told, _ = self._run(lines[:-1], len(paths))
        parts = told.replace(f"{mark}\r\n".encode(), f"{mark}\n".encode()).split(
            f"{mark}\n".encode()
        )
        if len(parts) != len(paths) + 1:
            raise UnusableXmp("can't be read by ExifTool")
        return [part.strip(BLANK) or None for part in parts[:-1]]

    def with_packet(self, path: Path, packet: bytes | None) -> bytes:
        """Return a photo's file with other XMP; None: without any.

        Raises:
            UnusableXmp: if ExifTool refuses that.
        """
        with tempfile.TemporaryDirectory(prefix="wordsight-") as folder:
            if packet is not None:
                (Path(folder) / "xmp").write_bytes(packet)
            write = "-XMP:all=" if packet is None else "-XMP<=xmp"
            made, said = self._run([write, "-o", "-", os.fspath(path)], 1, folder)
        if not made:
            reason = said.partition("\n")[0].removeprefix("Error: ").rpartition(" - ")[0]
            raise UnusableXmp(f"can't be written by ExifTool: {reason or 'it gives no reason'}")
        return made

    def tags(self, paths: Sequence[Path]) -> list[dict]:
        """Return all that ExifTool reads in files, except for keywords, what is of the file and not
        of the photo, and places in it.
        """
        how = ["-j", "-b", "-a", "-u", "-G1:4", "-struct", "-all:all"]
        told, _ = self._run([*how, *map(os.fspath, paths)], len(paths))
        try:
            read = json.loads(told)
        except ValueError:
            read = []
        if len(read) != len(paths):
            raise UnusableXmp("can't be read by ExifTool")
        return [{name: of for name, of in one.items() if _counts(name)} for one in read]

    def _run(self, lines: list[str], count: int, folder: str | None = None) -> tuple[bytes, str]:
        """Return what ExifTool says and what it complains of.

        Raises:
            UnusableXmp: if it doesn't end, or a path can't be told to it.
        """
        if any("\n" in line or "\r" in line for line in lines):
            raise UnusableXmp("has a line break in its path, which ExifTool can't be told")
        names = ["-charset", "filename=utf8"] if sys.platform == "win32" else []
        try:
            done = subprocess.run(
                [self._program, "-config", "", "-q", "-q", *names, "-@", "-"],
                input=os.fsencode("\n".join(lines) + "\n"),
                capture_output=True,
                cwd=folder,
                timeout=PATIENCE_S * count,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnusableXmp("takes ExifTool too long") from None
        except OSError as error:
            raise UnusableXmp(f"can't be read: ExifTool does not start ({error})") from None
        return done.stdout, done.stderr.decode("utf-8", "replace")


class PhotoFiles:
    """Photos' own files as holders of XMP.

    Args:
        notes: which keep what is replaced.
    """

    embedded = True

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._read: dict[Path, bytes | None] = {}

    @cached_property
    def tool(self) -> ExifTool:
        """ExifTool.

        Raises:
            InvalidArgument: if it is not installed.
        """
        return ExifTool()

    def prepare(self, photos: Sequence[Path]) -> None:
        """Read the XMP of a batch of photos at once."""
        paths = [path.parent.resolve() / path.name for path in photos]
        usable = [path for path in paths if path.is_file() and not path.is_symlink()]
        self._read = {}
        with suppress(UnusableXmp):  # then each is read by itself, and listed with its reason
            self._read = dict(zip(usable, self.tool.packets(usable), strict=True))

    def of(self, photo: Path) -> list[Path]:
        """Return the photo's file."""
        return [photo]

    def new(self, photo: Path) -> Path:
        """Return the photo's file."""
        return photo

    def read(self, path: Path) -> bytes | None:
        """Return the XMP in a photo's file, or None where there is none.

        Raises:
            UnusableXmp: if it is a link, can't be read, or is of a kind that isn't written.
        """
        if path.is_symlink():
            raise UnusableXmp("is a link, which is left alone")
        try:
            with open_regular(path) as file:
                head = file.read(HEAD)
        except OSError as error:
            raise UnusableXmp(f"can't be read: {error.strerror or error}") from None
        _check_kind(head)
        if path not in self._read:
            self._read[path] = self.tool.packets([path])[0]
        found = self._read[path]
        return found and _ended(found, head)

    def first(self, photo: Path, wanted: Keywords) -> bytes:
        """Return what the first XMP in a photo's file begins with; see `first_packet`."""
        with open_regular(photo) as file:
            head = file.read(len(PNG))
        return _ended(first_packet(embedded_words(photo)[1]), head)

    def check(self, path: Path) -> None:
        """Refuse a photo that is protected or has several names, which would part.

        Raises:
            UnusableXmp: if it is one.
        """
        check_writable(path)
        if path.stat().st_nlink > 1:
            raise UnusableXmp("has other names on this disk (hard links), so it is left alone")

    def replace(
        self,
        path: Path,
        before: bytes | None,
        after: bytes | None,
        known: Noted | None,
        noting: Callable[[Kept], None],
    ) -> Kept | None:
        """Put XMP into a photo's file in place of that which was read. The photo keeps its times,
        permissions and owner; a kill leaves the former file or the new one.

        Args:
            path: of the photo.
            before: its XMP as it was read; None: there was none.
            after: what it becomes; None: it goes.
            known: what is noted of it.
            noting: told how the file is put back, before it changes.

        Returns:
            How the file is put back; None if it was put back.

        Raises:
            UnusableXmp: if it was changed meanwhile, can't be written, or what ExifTool made of it
                differs in anything but keywords.
        """
        self._read.pop(path, None)
        with self._replacing(path) as (data, built):
            was = self._former(data, known)
            if was is not None and was[1] == (None if after is None else told_of(after)):
                build(built, was[0], path, keep_times=True)
                return None
            made = self.tool.with_packet(path, after)
            build(built, made, path, keep_times=True)
            self._compare(path, data, built, made, before, after)
            kept = self._notes.keep(was[0] if was else data, made)
            noting(kept)
        return kept

    def put_back(self, path: Path, known: Noted) -> bool:
        """Give a photo's file its former bytes; return False if it is not as we left it.

        Raises:
            UnusableXmp: as in `replace`.
        """
        with self._replacing(path) as (data, built):
            was = self._former(data, known)
            if was is not None:
                build(built, was[0], path, keep_times=True)
        return was is not None

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[tuple[bytes, Path]]:
        """Yield a photo's bytes and where others are built, which then take its place.

        Raises:
            UnusableXmp: if it was changed meanwhile, or can't be read or written.
        """
        refuse_link(path)
        with half_built(path) as built:
            self.check(path)
            data = read_regular(path, MAX_BYTES)
            built.unlink(missing_ok=True)
            yield data, built
            if not built.exists():
                return
            if digest(path) != told_of(data):
                raise UnusableXmp(CHANGED)
            replace_file(built, path)

    def _former(self, data: bytes, known: Noted | None) -> tuple[bytes, str | None] | None:
        """Return a photo's file as it was before we changed it, and the digest of its XMP then;
        None if it is not as we left it.
        """
        for state in known.states.values() if known else ():
            whole = self._notes.put_together(state.kept, data) if state.kept else None
            if whole is not None:
                return whole, state.before
        return None

    def _compare(
        self,
        path: Path,
        data: bytes,
        built: Path,
        made: bytes,
        former: bytes | None,
        xmp: bytes | None,
    ) -> None:
        """Refuse what ExifTool made of a photo unless its pictures are the same to the last bit,
        its XMP is as wanted, and nothing else that can be read in it differs. Except for TIFF, all
        of the file but its XMP and some tables must be there as stretches of bytes.

        Raises:
            UnusableXmp: if it is refused.
        """
        found = self.tool.packets([built])[0]
        if (found and _ended(found, made)) != xmp:
            raise UnusableXmp("does not take the XMP as it is; sidecars do (without --embed)")
        before, after = self.tool.tags([path, built])
        if before != after:
            names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
            raise UnusableXmp(
                f"would lose or change more than keywords ({', '.join(sorted(names)[:3])}); "
                "sidecars change nothing else (without --embed)"
            )
        try:
            same = list(_pictures(data)) == list(_pictures(made))
        except UnreadableImage as error:
            raise UnusableXmp(f"can't be checked: {error}") from None
        if not same:
            raise UnusableXmp("would change in its picture, so it is left alone")
        if not data.startswith(TIFF):  # which is laid out anew
            lost = sum(length for start, length in pieces_of(data, made) if start < 0)
            if lost > len(former or b"") + TABLES:
                raise UnusableXmp("would change in more than its XMP, so it is left alone")


def _counts(tag: str) -> bool:
    """Whether a tag must stay as it is."""
    group, _, name = tag.rpartition(":")
    name = f"{group.partition(':')[0]}:{name}"
    if tag == "SourceFile" or group.partition(":")[0] in OF_NO_PHOTO or name in KEYWORDS | MEDIA:
        return False
    return name != "ExifTool:ExifToolVersion" and not name.endswith(PLACES)


def _ended(packet: bytes, head: bytes) -> bytes:
    """Return XMP that begins and ends as ExifTool writes it: phones leave out the frame, and in a
    PNG it is never edited in place.

    Args:
        packet: the XMP.
        head: what the file begins with that holds it.
    """
    if packet.startswith(b"<x:xmpmeta"):
        packet = FRAME[0] + packet + FRAME[1]
    return END.sub(rb"\1r\2" if head.startswith(PNG) else rb"\1w\2", packet)


def _check_kind(head: bytes) -> None:
    """Refuse files of other kinds than JPEG, TIFF, PNG and HEIC.

    Raises:
        UnusableXmp: if it is one.
    """
    starts = (b"\xff\xd8\xff", PNG, *TIFF)
    if is_raw(head) or not (head.startswith(starts) or is_heif(head)):
        raise UnusableXmp(
            "is of a kind that no keywords are written into (JPEG, TIFF, PNG and HEIC are); "
            "it takes a sidecar (without --embed)"
        )


def _pictures(data: bytes) -> Iterator[tuple[str, tuple[int, int], str]]:
    """Yield mode, size and digest of the pixels of each picture in a file.

    Raises:
        UnreadableImage: if one can't be read, or is too large.
    """
    decode(data)  # refuses what costs too much
    try:
        with identify(BoundedFile(data), data) as image:
            for frame in ImageSequence.Iterator(image):
                yield frame.mode, frame.size, hashlib.sha256(frame.tobytes()).hexdigest()
    except Exception as error:  # a broken file may raise anything
        raise UnreadableImage(str(error) or type(error).__name__) from None
