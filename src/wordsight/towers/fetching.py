"""Fetch a model's files from the Hugging Face hub: only when asked to, only what is needed, going
on where an earlier attempt stopped, and checked by hash.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backbones.seals import sha256
from ..core.home import is_offline, replace_file
from ..core.progress import Progress
from ..core.regular import read_text
from ..errors import BackboneUnavailable, InvalidModel
from .names import CONFIG, WEIGHTS
from .tokenizing import TOKENIZER

if TYPE_CHECKING:
    import httpx

# the settings of tokenizer.json, which says nothing of how texts begin and end
OPTIONAL = (TOKENIZER, "tokenizer_config.json")
CHUNK = 1 << 20
TIMEOUT_S = 30.0
ATTEMPTS, PAUSE_S = 3, 1.0
UNITS = 1_000_000  # bytes a megabyte


@dataclass(frozen=True)
class Remote:
    """The files of a model on the hub.

    Attributes:
        repository: "organisation/name".
        revision: commit, so that all files are of one state.
        sizes: file -> bytes.
        hashes: file -> sha256, of those the hub knows it of: the large ones.
        licence: as its authors say, "" where they don't.
    """

    repository: str
    revision: str
    sizes: dict[str, int]
    hashes: dict[str, str]
    licence: str

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())


def ask_hub(repository: str, needed: tuple[str, ...] = (CONFIG, WEIGHTS)) -> Remote:
    """Return what the hub has of a model, without fetching it.

    Args:
        repository: "organisation/name".
        needed: files without which it is of no use; a tokenizer is fetched where there is one.

    Raises:
        BackboneUnavailable: if it can't be reached, or has no such model.
        InvalidModel: if the files are not open_clip's, or the weights are not safetensors.
    """
    if is_offline():
        raise BackboneUnavailable(
            f"'{repository}' must be downloaded, and --offline forbids it. Prepare it where there "
            "is a network, and copy the folder."
        )
    from huggingface_hub import HfApi

    with _told(repository):
        info = HfApi().model_info(repository, files_metadata=True)
    files = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    if set(needed) - set(files):
        raise InvalidModel(
            f"'{repository}' on the hub needs {' and '.join(needed)}; other formats are not read, "
            "as they may run code. Choose a repository in open_clip's format."
        )
    large = {name: sibling.lfs for name, sibling in files.items()}
    wanted = [*needed, *(name for name in OPTIONAL if name in files and name not in needed)]
    card: Any = info.card_data or {}
    licence = card.get("license_name") or card.get("license") or ""
    return Remote(
        repository,
        str(info.sha),
        {name: int(files[name].size or 0) for name in wanted},
        {name: lfs.sha256 for name in wanted if (lfs := large[name]) is not None},
        str(licence),
    )


def fetch(remote: Remote, folder: Path, progress: Progress | None = None) -> None:
    """Bring a model's files into a folder. What is there and whole is not fetched again, and a
    download that broke off goes on where it stopped, also in another process, which the hub's own
    library no longer does.

    Raises:
        BackboneUnavailable: if the hub can't be reached; what has come is kept.
        InvalidModel: if a file is not what the hub says; it is removed.
    """
    import httpx

    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT_S) as client:
        for name, size in remote.sizes.items():
            if not _is_right(folder / name, remote, name):
                part = folder / f"{name}.part"
                with _told(remote.repository):
                    _download(client, remote, name, part, done, progress)
                if not _is_right(part, remote, name):
                    part.unlink(missing_ok=True)
                    raise InvalidModel(
                        f"'{name}' of '{remote.repository}' is not what the hub says: its hash or "
                        "size differs. It was removed. Try again."
                    )
                replace_file(part, folder / name)
            done += size


def _download(
    client: httpx.Client,
    remote: Remote,
    name: str,
    part: Path,
    before: int,
    progress: Progress | None,
) -> None:
    """Add to a file what is missing of it, going on a few times where the connection breaks."""
    import httpx
    from huggingface_hub import hf_hub_url

    address = hf_hub_url(remote.repository, name, revision=remote.revision)
    whole = remote.sizes[name]
    for attempt in range(ATTEMPTS):
        begin = part.stat().st_size if part.is_file() else 0
        if begin >= whole > 0:
            return
        asked = {"Range": f"bytes={begin}-"} if begin else {}
        try:
            with client.stream("GET", address, headers=asked) as answer:
                answer.raise_for_status()
                resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
                with open(part, "ab" if resumed else "wb") as file:
                    for chunk in answer.iter_raw(CHUNK):
                        file.write(chunk)
                        if file.tell() > whole:
                            return  # more than the hub says: the hash will not fit, either
                        if progress:
                            come = before + file.tell()
                            progress(come // UNITS, remote.bytes // UNITS, "MB fetched")
            return
        except httpx.TransportError:
            if attempt + 1 == ATTEMPTS:
                raise
            time.sleep(PAUSE_S * 2**attempt)


def _is_right(path: Path, remote: Remote, name: str) -> bool:
    if not path.is_file() or path.stat().st_size != remote.sizes[name]:
        return False
    return name not in remote.hashes or sha256(path) == remote.hashes[name]


def own_tokenizer(folder: Path) -> str | None:
    """Return the repository of the tokenizer that a fetched model names but does not hold."""
    name = None
    # whoever reads the settings next says what is wrong with them
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        name = json.loads(read_text(folder / CONFIG))["model_cfg"]["text_cfg"]["hf_tokenizer_name"]
    return name if isinstance(name, str) and not (folder / TOKENIZER).is_file() else None


@contextlib.contextmanager
def _told(repository: str):
    """Turn the hub's many errors into one sentence."""
    try:
        yield
    except (BackboneUnavailable, InvalidModel):
        raise
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
        raise BackboneUnavailable(
            f"'{repository}' can't be fetched ({reason}). What has come is kept; the same command "
            "goes on."
        ) from error
