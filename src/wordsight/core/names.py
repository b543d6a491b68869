"""Names that become paths, by the rules of every system that wordsight runs on."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

# surrogates that are no bytes of file names
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# Windows opens a device instead of a file of these names, whatever follows the first dot
_NUMBERED = {f"{name}{digit}" for name in ("com", "lpt") for digit in "123456789¹²³"}
DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", *_NUMBERED}

# what systems and network drives put beside people's files, in small letters
OF_SYSTEMS = {
    *("__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "recycler"),
    *("system volume information", "lost+found", "network trash folder", "temporary items"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "__pycache__"),
}


def legible(text: str) -> str:
    """Return text that every file and terminal can hold: stray bytes and halves of characters, as
    names of files and JSON may have them, become replacement characters.
    """
    whole = _HALVES.sub("\N{REPLACEMENT CHARACTER}", text)
    return whole.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_device(name: str) -> bool:
    """Whether a file name is a device's on Windows, such as `aux` or `con.jpg`."""
    return name.partition(".")[0].rstrip(" ").casefold() in DEVICES


def portable(name: str) -> str:
    """Return a file name that every system takes for a file's: a device's name gets a `_`, and so
    do dots and blanks at the end, which Windows drops.
    """
    if is_device(name):
        stem, dot, rest = name.partition(".")
        name = f"{stem.rstrip(' ')}_{dot}{rest}"
    return name if name == name.rstrip(". ") else name.rstrip(". ") + "_"


def same_file_key(path: str) -> str:
    """Return what two paths share that some file system takes for one: those of macOS and Windows
    pass over case, that of macOS over how an accent is written.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def is_relative(name: str, system: type[PurePath] = PurePath) -> bool:
    """Whether a name stays below the folder it is joined to: it is neither absolute nor of a drive
    (`C:x`), and holds no `..`.

    Args:
        name: from a file that may be a stranger's.
        system: whose rules apply; by default those of this one.
    """
    path = system(name)
    return not (path.drive or path.root or ".." in path.parts)


def on_foreign_share(path: PurePath, roots: Iterable[PurePath]) -> bool:
    r"""Whether a path is on another computer (`\\host\share` on Windows) and none of `roots` is.
    To ask the disk for such a path sends the user's credentials to that computer.
    """
    drive = path.drive.replace("/", "\\").casefold()
    own = {root.drive.replace("/", "\\").casefold() for root in roots}
    return drive.startswith("\\\\") and drive not in own


def lies_inside(path: Path, root: Path) -> bool:
    """Whether a file or folder lies in a folder after all links are followed."""
    if on_foreign_share(path, [root]):
        return False
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that can't be one
        return False


def spellings(name: str) -> list[str]:
    r"""Return the ways to read a path that a table or annotation names, the most literal first: as
    it is written, with `/` for `\`, and, of a path of another machine or an address, its ends, the
    longest first.
    """
    if "\\" not in name and name[:1] != "/" and ":" not in name and ".." not in name:
        return [name]
    address = "://" in name
    plain = unquote(urlsplit(name).path) if address else name.replace("\\", "/")
    found = [name, plain]
    drive, colon, _ = plain.partition(":")
    if plain.startswith("/") or (colon and len(drive) == 1) or ".." in plain.split("/"):
        parts = [part for part in plain.split("/") if part not in ("", ".", "..", drive + colon)]
        found += ["/".join(parts[begin:]) for begin in range(len(parts))]
    return list(dict.fromkeys(found))


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems put beside people's files."""
    return name.startswith(".") or name.casefold() in OF_SYSTEMS


def safe_name(name: str) -> str:
    """Return a relative path below which nothing can climb out, and that every system can write."""
    return "/".join(portable(part) for part in name.split("/") if part not in ("", ".", ".."))


def folder_names(class_names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return a folder's name for each class that every system can write, and that no other has.

    Args:
        class_names: in the order in which they get their names.
        taken: names of folders that no class may have.
    """
    folders: dict[str, str] = {}
    known = {same_file_key(name) for name in taken}
    for name in class_names:
        letters = (
            "_" if c in '/\\:*?"<>|' or ord(c) < 32 or "\ud800" <= c < "\ue000" else c for c in name
        )
        folder = "".join(letters).strip(". ") or "_"
        if len(os.fsencode(folder)) > 200:
            folder = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        folder = portable(folder)
        while same_file_key(folder) in known:
            folder += "_"
        known.add(same_file_key(folder))
        folders[name] = folder
    return folders


def in_short(text: str, length: int = 300) -> str:
    """Return text of at most `length` characters, for a sentence: longer text ends in " …", after
    a whole word if it has any.
    """
    return text if len(text) <= length else text[: length - 2].rsplit(" ", 1)[0] + " …"
