"""Which towers there are, under which licence, and where a prepared one lies. Loads nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from ..core.home import expand, towers_folder
from ..errors import InvalidArgument, NotFound

HUB, LOCAL = "hf-hub:", "local-dir:"
RECORD = "tower.json"  # of a prepared folder
# of the authors: open_clip's files, in the open_clip format
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
REFUSED = re.compile(r"mobile[-_ ]?clip", re.IGNORECASE)
REFUSAL = (
    "MobileCLIP's weights are under Apple's research licence, which allows no use in products, so "
    "wordsight doesn't use them. Choose siglip2, pe-core-s or pe-core-t."
)


@dataclass(frozen=True)
class Known:
    """A tower that may be used in products.

    Attributes:
        repository: where its authors' weights lie, in open_clip's format.
        licence: of the weights.
        about: what a person chooses it for.
    """

    repository: str
    licence: str
    about: str


KNOWN = {
    "siglip2": Known("timm/ViT-B-32-SigLIP2-256", "Apache-2.0", "many languages"),
    "pe-core-s": Known("timm/PE-Core-S-16-384", "Apache-2.0", "English, small"),
    "pe-core-t": Known("timm/PE-Core-T-16-384", "Apache-2.0", "English, smallest"),
}


def check_name(name: str) -> str:
    """Return the name of a tower, unless it is none, or its licence forbids its use.

    Raises:
        InvalidArgument: if so.
    """
    if REFUSED.search(name):
        raise InvalidArgument(REFUSAL)
    repository = name.removeprefix(HUB)
    hub = name.startswith(HUB) and re.fullmatch(r"[\w.-]+/[\w.-]+", repository)
    local = name.startswith(LOCAL) and name != LOCAL
    if not (name in KNOWN or hub or local):
        raise InvalidArgument(
            f"Unknown text–image model '{name[:80]}'. Choose {', '.join(KNOWN)}, "
            f"{HUB}ORGANISATION/NAME or {LOCAL}FOLDER."
        )
    return name


def licence_of(name: str) -> str:
    """Return the licence of a known tower's weights, "" for others."""
    return KNOWN[name].licence if name in KNOWN else ""


def source_folder(name: str) -> Path:
    """Return the folder that `local-dir:` names.

    Raises:
        NotFound: if there is none.
    """
    folder = expand(name.removeprefix(LOCAL))
    if not folder.is_dir():
        raise NotFound(f"No such folder: '{folder}'. Give local-dir: and a text–image model's.")
    return folder


def home_of(name: str) -> Path:
    """Return the folder that a tower is prepared into."""
    if name in KNOWN:
        return towers_folder() / name
    if name.startswith(HUB):
        return towers_folder() / name.removeprefix(HUB).replace("/", "--")
    folder = source_folder(name).resolve()
    digest = hashlib.sha256(str(folder).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return towers_folder() / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', folder.name)}-{digest}"


def module_of(name: str) -> str:
    """Return the name of the module that carries a prepared tower in an installed package."""
    return "wordsight_tower_" + re.sub(r"[^a-z0-9]+", "_", name.removeprefix(HUB).lower())


def find_prepared(name: str) -> Path | None:
    """Return the folder of a prepared tower: what `local-dir:` names if it is one, what was
    prepared on this machine, or what an installed package carries; None if there is none.
    """
    check_name(name)
    if name.startswith(LOCAL) and (source_folder(name) / RECORD).is_file():
        return source_folder(name)
    home = home_of(name)
    if (home / RECORD).is_file():
        return home
    if name.startswith(LOCAL):
        return None
    spec = importlib.util.find_spec(module_of(name))
    if spec is None or spec.origin is None:
        return None
    packed = Path(spec.origin).parent
    return packed if (packed / RECORD).is_file() else None
