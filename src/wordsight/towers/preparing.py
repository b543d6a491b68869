"""Prepare a tower: fetch it once, convert it, and leave a folder that works offline, without torch.

An interrupted preparation goes on: each part that is done is sealed by its hash.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..backbones.seals import is_whole, seal, sha256
from ..core.home import replace_file, write_atomic, writing
from ..core.progress import Progress, or_notebook
from ..core.result_folder import hold
from ..errors import InvalidArgument, InvalidModel
from ..images.decoding import upright
from .converting import (
    Source,
    compare,
    grid_of,
    has_nncf,
    image_network,
    need_open_clip,
    open_model,
    quantized,
    read_source,
    save,
    text_network,
    write_tokenizer,
)
from .fetching import UNITS, ask_hub, fetch, own_tokenizer
from .names import (
    HUB,
    KNOWN,
    LOCAL,
    RECORD,
    WEIGHTS,
    check_name,
    find_prepared,
    home_of,
    licence_of,
    source_folder,
)
from .prompts import table_nouns
from .tokenizing import TOKENIZER
from .tower import (
    ALIKE,
    FORMAT,
    IMAGE,
    NOUNS,
    QUICK,
    SUMS,
    TEXT,
    TEXTS_AT_ONCE,
    Network,
    Tower,
    TowerRecord,
    read_record,
)

Consent = Callable[[str], bool]
Say = Callable[[str], None]
CALIBRATED_ON, TRIED_ON = 96, 24  # cuttings of pictures, for int8
CHUNK = 512  # nouns between two seals
NOUN_COUNT = 20_000


@dataclass(frozen=True)
class Prepared:
    """A tower that is ready.

    Attributes:
        name: of the tower.
        folder: where it lies.
        record: what the folder says of itself.
        bytes: of the folder.
    """

    name: str
    folder: Path
    record: TowerRecord
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "bytes": self.bytes,
            **asdict(self.record),
        }

    def lines(self) -> list[str]:
        """Return what a person is told."""
        record = self.record
        lines = [
            f"'{self.name}' is ready in '{self.folder}' ({self.bytes / UNITS:.0f} MB); it works "
            "offline.",
            f"Licence of its weights: {record.licence or 'not stated by its authors'}.",
        ]
        if record.int8:
            lines.append(
                f"Its image tower runs {record.int8['speed']:.1f} times as fast in int8 here, and "
                f"agrees with f32 (cosine at least {record.int8['cosine']:.3f})."
            )
        if record.nouns:
            lines.append(f"Vectors of {record.nouns:,} nouns are in its table.")
        return lines


def prepare(
    name: str,
    *,
    consent: bool | Consent = False,
    nouns: bool = False,
    pictures: Sequence[Image.Image] = (),
    say: Say = lambda sentence: None,
    progress: Progress | None = None,
) -> Prepared:
    """Prepare a tower. Only this function of the room asks the network.

    Args:
        name: "siglip2", "pe-core-s", "pe-core-t", "hf-hub:ORGANISATION/NAME" or
            "local-dir:FOLDER" of a model in open_clip's format.
        consent: True to download, or a function that is asked, with size and licence.
        nouns: make a table of text vectors of 20,000 nouns, so that they need no text tower.
        pictures: to calibrate int8 on; without any, or without nncf, there is none.
        say: called with a sentence on what happens.
        progress: called with (done, total, what).

    Raises:
        InvalidArgument: if there is no such tower, its licence forbids its use, a package is
            missing, or the answer was no.
        BackboneUnavailable: if it can't be fetched.
        InvalidModel: if it can't be prepared.
        OutputError: if there is no room.
    """
    check_name(name)
    progress = or_notebook(progress)
    home = home_of(name)
    done = find_prepared(name)
    if done is not None:
        try:
            record = read_record(done)
        except InvalidModel as error:
            if done != home:
                raise
            say(f"{error} It is prepared anew.")
            shutil.rmtree(done)
        else:
            if nouns and not record.nouns and done == home:
                record = _with_nouns(name, home, record, progress)
            return Prepared(name, done, record, _bytes(done))
    need_open_clip()
    work = home.with_name(f"{home.name}.part")
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
    with hold(home.parent, home):  # not in the folder itself, which gets another name
        folder, licence, origin = _source(name, work, consent, say, progress)
        source = read_source(folder)
        say("Converting the model, once: about five minutes.")
        with writing(work):
            record = _convert(name, work, source, licence, origin, pictures, progress)
            write_atomic(work / RECORD, _json(record))
            seal(work, SUMS, record.files())
            for left in work.iterdir():
                if left.name not in (*record.files(), SUMS):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            replace_file(work, home)
        if nouns:
            record = _with_nouns(name, home, record, progress)
    return Prepared(name, home, read_record(home), _bytes(home))


def _source(
    name: str, work: Path, consent: bool | Consent, say: Say, progress: Progress | None
) -> tuple[Path, str, str]:
    """Return the folder of a model in open_clip's format, its licence, and where it came from."""
    if name.startswith(LOCAL):
        return source_folder(name), "", str(source_folder(name))
    repository = KNOWN[name].repository if name in KNOWN else name.removeprefix(HUB)
    remote = ask_hub(repository)
    licence = licence_of(name) or remote.licence
    told = (
        f"'{name}' is {remote.bytes / UNITS:,.0f} MB on the Hugging Face hub ('{repository}', "
        f"licence: {licence or 'not stated'})"
    )
    agreed = consent(f"{told}. Download it?") if callable(consent) else consent
    if not agreed:
        raise InvalidArgument(f"{told}. Nothing was downloaded. Add --yes to download it.")
    say(f"{told}. Downloading.")
    folder = work / "source"
    with writing(folder):
        fetch(remote, folder, progress)
        elsewhere = own_tokenizer(folder)
        if elsewhere and elsewhere != repository:
            fetch(ask_hub(elsewhere, (TOKENIZER,)), folder)
    return folder, licence, f"hf-hub:{repository}@{remote.revision}"


def _convert(
    name: str,
    work: Path,
    source: Source,
    licence: str,
    origin: str,
    pictures: Sequence[Image.Image],
    progress: Progress | None,
) -> TowerRecord:
    """Make the parts of a prepared folder that are not there yet."""
    fingerprint = sha256(source.folder / WEIGHTS)
    steps = [IMAGE, TEXT, TOKENIZER, QUICK]
    files = {step: _files(step) for step in steps}

    def left(step: str) -> bool:
        """Whether a part is still to be made, of these very weights."""
        told = work / f"{step}.of"
        same = told.is_file() and told.read_text() == fingerprint
        return not (same and is_whole(work, f"{step}.sum", files[step]))

    def finish(step: str, number: int) -> None:
        seal(work, f"{step}.sum", files[step])
        write_atomic(work / f"{step}.of", fingerprint.encode())
        if progress:
            progress(number, len(steps), "parts of the text–image model converted")

    model = open_model(source)
    if left(IMAGE):
        save(image_network(model, source), work / f"{IMAGE}.xml")
        finish(IMAGE, 1)
    if left(TEXT):
        save(text_network(model, source), work / f"{TEXT}.xml")
        finish(TEXT, 2)
    if left(TOKENIZER):
        write_tokenizer(source, work / TOKENIZER)
        finish(TOKENIZER, 3)
    grid = grid_of(model, source)
    del model
    exact = Network(work / f"{IMAGE}.xml", outputs=1)
    width = exact(np.zeros((1, *source.image_size, 3), np.uint8))[0].shape[1]
    record = TowerRecord(
        name=name,
        source=origin,
        licence=licence,
        fingerprint=fingerprint,
        image_size=source.image_size,
        resize=source.resize,
        interpolation=source.interpolation,
        width=width,
        tokens=source.tokens,
        cleaning=source.cleaning,
        patches=grid,
    )
    if not pictures or not has_nncf():
        return record
    calibration, tried = _cuttings(Tower(name, work, record), pictures)
    if left(QUICK):
        save(quantized(work / f"{IMAGE}.xml", calibration), work / f"{QUICK}.xml")
        finish(QUICK, 4)
    agreed = compare(exact, Network(work / f"{QUICK}.xml", outputs=1), tried)
    return replace(record, int8=agreed) if agreed["cosine"] >= ALIKE else record


def _files(step: str) -> list[str]:
    return [step] if step == TOKENIZER else [f"{step}.xml", f"{step}.bin"]


def _cuttings(
    tower: Tower, pictures: Sequence[Image.Image]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return cuttings of pictures as the image tower takes them: to calibrate on, and, of other
    pictures where there are several, to try.
    """
    rng = np.random.default_rng(0)
    held = max(1, len(pictures) // 4) if len(pictures) > 1 else 0
    photos = [upright(picture).image for picture in pictures]

    def cut(some: Sequence[Image.Image], count: int) -> list[np.ndarray]:
        made = []
        for number in range(count):
            photo = some[number % len(some)]
            share = rng.uniform(0.4, 1.0)
            width, height = (max(1, round(side * share)) for side in photo.size)
            left, top = (
                int(rng.integers(0, whole - part + 1))
                for whole, part in zip(photo.size, (width, height), strict=True)
            )
            made.append(tower.pixels(photo.crop((left, top, left + width, top + height))))
        return made

    return cut(photos[held:], CALIBRATED_ON), cut(photos[:held] or photos, TRIED_ON)


def _with_nouns(
    name: str, home: Path, record: TowerRecord, progress: Progress | None
) -> TowerRecord:
    """Add the table of nouns to a prepared folder; what an interrupted attempt made is in the
    cache of phrases.
    """
    from safetensors.numpy import save_file

    tower, words = Tower(name, home, record), table_nouns(NOUN_COUNT)
    parts = []
    for first in range(0, len(words), TEXTS_AT_ONCE * 4):
        some = words[first : first + TEXTS_AT_ONCE * 4]
        parts.append(tower.embed_phrases(some, several=False))
        if progress:
            progress(first + len(some), len(words), "nouns read")
    listed = np.frombuffer("\n".join(words).encode(), np.uint8)
    with writing(home):
        made = home / f".{NOUNS}.part"
        save_file({"nouns": listed, "vectors": np.concatenate(parts).astype(np.float16)}, made)
        replace_file(made, home / NOUNS)
        record = replace(record, nouns=len(words))
        write_atomic(home / RECORD, _json(record))
        seal(home, SUMS, record.files())
    return record


def _json(record: TowerRecord) -> bytes:
    return json.dumps({"format": FORMAT, **asdict(record)}, indent=2).encode()


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
