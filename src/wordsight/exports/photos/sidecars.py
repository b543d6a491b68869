"""Which sidecars belong to a photo, and how one is replaced."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ...core.home import replace_file
from ...core.records import PREFIX
from ...core.regular import read_regular
from ...images.embedded import embedded_words
from ...images.signatures import UNREADABLE_SUFFIXES, USUAL_SUFFIXES
from .xmp import MAX_XMP, UnusableXmp, read_xmp
from .xmp_edit import Keywords, first_sidecar

SUFFIX = ".xmp"
RAW = UNREADABLE_SUFFIXES - {".heic", ".heif", ".jxl"}
PHOTOS = USUAL_SUFFIXES | UNREADABLE_SUFFIXES
CHANGED = "was changed meanwhile; run the same command again"


class Sidecars:
    """The sidecars in the folders of photos, as they are when this is made.

    A photo `x.jpg` may have `x.jpg.xmp`, as darktable and digiKam write it, and `x.xmp`, as
    Lightroom does. A new one follows the habit of most sidecars in the folder, or else in all these
    folders; without any it is `x.jpg.xmp`.

    Args:
        photos: where they are.
    """

    embedded = False

    def __init__(self, photos: Iterable[Path]) -> None:
        self._names = {folder: _names_in(folder) for folder in {one.parent for one in photos}}
        self._stems = {
            folder: _by_stem(name for name in names if _suffix(name) in PHOTOS)
            for folder, names in self._names.items()
        }
        self._sidecars = {
            folder: _by_stem(name for name in names if _suffix(name) == SUFFIX)
            for folder, names in self._names.items()
        }
        self._habits = {folder: self._habit(folder) for folder in self._names}
        self._habit_of_all = sum(self._habits.values())

    def _habit(self, folder: Path) -> int:
        """Return how many more sidecars are called `x.xmp` than `x.jpg.xmp`."""
        return sum(
            (stem in self._stems[folder]) - (stem in self._names[folder])
            for stem in self._sidecars[folder]
        )

    def of(self, photo: Path) -> list[Path]:
        """Return the sidecars that a photo has.

        Raises:
            UnusableXmp: if it has none of its own, and it can't be told whose `x.xmp` is.
        """
        known = self._sidecars[photo.parent]
        own = [photo.with_name(one) for one in known.get(photo.name, ())]
        others = [photo.with_name(one) for one in known.get(photo.stem, ())]
        found = list(own)
        for path in others:
            belongs = path not in own and self._belongs(path, photo)
            if belongs is None and not own:
                rivals = ", ".join(f"'{one}'" for one in self._rivals(photo))
                raise UnusableXmp(
                    f"shares '{path.name}' with {rivals}; it can't be told whose that is"
                )
            found += [path] if belongs else []
        return found

    def new(self, photo: Path) -> Path:
        """Return what the first sidecar of a photo is called."""
        balance = self._habits[photo.parent] or self._habit_of_all
        short = photo.with_suffix(SUFFIX)
        free = short.name not in self._names[photo.parent] and self._is_first(photo)
        return short if balance > 0 and free else photo.with_name(photo.name + SUFFIX)

    def prepare(self, photos: Sequence[Path]) -> None:
        """Do nothing: each sidecar is read when it is asked for."""

    def read(self, path: Path) -> bytes | None:
        """Return the bytes of a sidecar; see `read_sidecar`."""
        return read_sidecar(path)

    def first(self, photo: Path, wanted: Keywords) -> bytes:
        """Return what a photo's first sidecar begins with; see `first_sidecar`."""
        return first_sidecar(*embedded_words(photo), wanted)

    def check(self, path: Path) -> None:
        """Refuse a sidecar that is protected; see `check_writable`."""
        check_writable(path)

    def replace(self, path: Path, before: bytes | None, after: bytes | None, *_: object) -> None:
        """Replace a sidecar; see `replace_sidecar`."""
        replace_sidecar(path, before, after)

    def _rivals(self, photo: Path) -> list[str]:
        """Return the other photos that differ from one by their suffix alone."""
        return [one for one in self._stems[photo.parent].get(photo.stem, ()) if one != photo.name]

    def _is_first(self, photo: Path) -> bool:
        """Whether `x.xmp` is a photo's, of several that differ by their suffix: a raw photo's."""
        rivals = self._rivals(photo)
        return not rivals or (
            _suffix(photo.name) in RAW and not any(_suffix(one) in RAW for one in rivals)
        )

    def _belongs(self, path: Path, photo: Path) -> bool | None:
        """Whether `x.xmp` is a photo's; None if that can't be told."""
        try:
            said = read_xmp(read_regular(path, MAX_XMP)).extension
        except (OSError, UnusableXmp):  # which is listed once it is to be changed
            said = ""
        if said:
            return said == _suffix(photo.name)[1:]
        if self._is_first(photo):
            return True
        raws = [one for one in self._rivals(photo) if _suffix(one) in RAW]
        return False if len(raws) == 1 and _suffix(photo.name) not in RAW else None


def read_sidecar(path: Path) -> bytes | None:
    """Return the bytes of a sidecar, or None where there is none.

    Raises:
        UnusableXmp: if it is a link, or can't be read.
    """
    refuse_link(path)
    try:
        return read_regular(path, MAX_XMP)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableXmp(f"can't be read: {error.strerror or error}") from None


def refuse_link(path: Path) -> None:
    """Refuse a link, whose target may be shared.

    Raises:
        UnusableXmp: if it is one.
    """
    if path.is_symlink():
        raise UnusableXmp("is a link, which is left alone")


def check_writable(path: Path) -> None:
    """Refuse a sidecar that its owner has protected, or a folder.

    Raises:
        UnusableXmp: if it is read-only.
    """
    if not os.access(path.parent, os.W_OK):
        raise UnusableXmp("can't be written: its folder is read-only")
    try:
        protected = not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK)
    except OSError:  # it is not there yet
        return
    if protected:
        raise UnusableXmp("is read-only")


def replace_sidecar(path: Path, before: bytes | None, after: bytes | None) -> None:
    """Put a sidecar in the place of one that is as it was read, with its permissions; a kill leaves
    either.

    Args:
        path: where it is.
        before: what it was; None: there was none.
        after: what it becomes; None: it goes.

    Raises:
        UnusableXmp: if it was changed meanwhile, or can't be written.
    """
    check_writable(path)
    with half_built(path) as built:
        if after is not None:
            build(built, after, path)
        if read_sidecar(path) != before:
            raise UnusableXmp(CHANGED)
        if after is None:
            path.unlink()
        else:
            replace_file(built, path)


@contextmanager
def half_built(path: Path) -> Iterator[Path]:
    """Yield where a file is built that is to take another's place; it is removed if it is left
    there.

    Raises:
        UnusableXmp: if it can't be written.
    """
    built = half_of(path)
    try:
        yield built
    except OSError as error:
        raise UnusableXmp(f"can't be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            built.unlink(missing_ok=True)


def half_of(path: Path) -> Path:
    """Return where a sidecar is built; the next try builds there, too."""
    told = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    return path.with_name(f"{PREFIX}{told}")


def build(built: Path, data: bytes, like: Path, keep_times: bool = False) -> None:
    """Write a file whose permissions and owner are those of another, if that is there; its times,
    too, if `keep_times`.
    """
    with open(built, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    with suppress(OSError):
        status = like.stat()
        shutil.copystat(like, built)
        if not keep_times:
            os.utime(built)  # programs look for sidecars that are newer than what they read
        if (status.st_uid, status.st_gid) != (built.stat().st_uid, built.stat().st_gid):
            os.chown(built, status.st_uid, status.st_gid)


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:  # the photo is not there, either
        return set()


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(os.path.splitext(name)[0], []).append(name)
    return found


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
