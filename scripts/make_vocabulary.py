"""Generate `src/wordsight/words/wordnet.tsv` and `hypernyms.txt.gz` from WordNet 3.0's noun files.

Kept: every ImageNet-1k class, every synset above one, and every other noun sense of a word that
names one of those (so that an ambiguous word can list what else it means). One line a synset:

    id <tab> ImageNet index or "" <tab> frequency <tab> parents (ids) <tab> words (| between) <tab>
    gloss

`frequency` holds one tag count a word, in the order of the words (how often WordNet's tagged corpus
uses the word in this sense). The second file holds, for networks of more classes than
ImageNet-1k's, every synset of timm's ImageNet tables and every one above those: an id and the ids
of its parents, a line each. Run with the folder of WordNet's `data.noun` (Debian: package
wordnet-base):

    python scripts/make_vocabulary.py /usr/share/wordnet
"""

from __future__ import annotations

import gzip
import sys
from collections import defaultdict
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "src" / "wordsight" / "words"
TARGET = DATA / "wordnet.tsv"
VEHICLE, MUSHROOM = "n04524313", "n07734744"
# what WordNet files elsewhere than people look for it: synset -> further parents
ALSO = {
    "n04019101": [VEHICLE],  # buses and trains, which stand beside vehicles as public transport
    # fungi; its mushroom is the one on a plate, and ImageNet's photos of that class show both
    "n12998815": [MUSHROOM],  # agaric
    "n13037406": [MUSHROOM],  # gyromitra
    "n13040303": [MUSHROOM],  # stinkhorn
    "n13044778": [MUSHROOM],  # earthstar
    "n13052670": [MUSHROOM],  # hen-of-the-woods
    "n13054560": [MUSHROOM],  # bolete
}


def read_synsets(path: Path) -> dict[str, tuple[list[str], list[str], str]]:
    """Read `data.noun` into id -> (words, parent ids, gloss)."""
    synsets = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("  "):
            continue  # licence header
        fields, _, gloss = line.partition(" | ")
        parts = fields.split(" ")
        word_count = int(parts[3], 16)
        words = [parts[4 + 2 * i].replace("_", " ") for i in range(word_count)]
        at = 4 + 2 * word_count
        pointers = [parts[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(parts[at]))]
        parents = ["n" + p[1] for p in pointers if p[0] in ("@", "@i") and p[2] == "n"]
        parents += ALSO.get("n" + parts[0], [])
        synsets["n" + parts[0]] = (words, parents, gloss.split(";")[0].split('"')[0].strip())
    return synsets


def read_senses(folder: Path) -> tuple[dict[str, list[str]], dict[tuple[str, int], int]]:
    """Read the senses of each noun in WordNet's order, and the tag count of (word, sense
    number).
    """
    senses = {}
    for line in (folder / "index.noun").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("  "):
            continue
        parts = line.split()
        senses[parts[0].replace("_", " ")] = ["n" + offset for offset in parts[-int(parts[2]) :]]
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, sense, count = line.split()
        word, _, rest = key.partition("%")
        if rest.startswith("1:"):
            counts[word.replace("_", " "), int(sense)] = int(count)
    return senses, counts


def with_ancestors(ids, synsets) -> set[str]:
    """Return ids and those of everything above them."""
    found, stack = set(), list(ids)
    while stack:
        wnid = stack.pop()
        if wnid not in found:
            found.add(wnid)
            stack += synsets[wnid][1]
    return found


def main(folder: Path) -> None:
    """Write the table."""
    from timm.data import ImageNetInfo
    from timm.data.imagenet_info import _SUBSETS

    synsets = read_synsets(folder / "data.noun")
    senses, counts = read_senses(folder)
    index = {wnid: i for i, wnid in enumerate(ImageNetInfo().label_names())}
    missing = sorted(set(index) - set(synsets))
    if missing:
        raise SystemExit(
            f"This WordNet lacks {len(missing)} ImageNet synsets ({missing[:3]}, …); version "
            "3.0 is needed."
        )

    wanted = with_ancestors(index, synsets)
    words = {word.lower() for wnid in wanted for word in synsets[wnid][0]}
    also = {wnid for word in words for wnid in senses.get(word, ())} - wanted

    lines = [
        "# Derived from WordNet 3.0, Copyright 2006 by Princeton University; licence: "
        "LICENSE-wordnet.txt"
    ]
    for wnid in sorted(wanted | also):
        names, parents, gloss = synsets[wnid]
        order = [senses.get(name.lower(), [wnid]).index(wnid) + 1 for name in names]
        frequency = ",".join(
            str(counts[name.lower(), n]) for name, n in zip(names, order, strict=False)
        )
        ranks = ",".join(map(str, order))
        kept = ",".join(p for p in parents) if wnid in wanted else ",".join(parents)
        lines.append(
            "\t".join(
                [wnid, str(index.get(wnid, "")), ranks, frequency, kept, "|".join(names), gloss]
            )
        )
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
    every = with_ancestors(
        {wnid for subset in _SUBSETS for wnid in ImageNetInfo(subset).label_names()}, synsets
    )
    text = "".join(f"{wnid} {','.join(synsets[wnid][1])}\n" for wnid in sorted(every))
    (DATA / "hypernyms.txt.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(
        f"{len(wanted)} synsets with ImageNet classes, {len(also)} other senses -> "
        f"{TARGET.name}, {TARGET.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet"))
