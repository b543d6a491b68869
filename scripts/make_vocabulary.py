"""Generate the tables in `src/wordsight/words` from WordNet 3.0's noun files and from
`everyday_words.tsv`, beside this script.

`wordnet.tsv` holds every ImageNet-1k class, every synset above one, and every other noun sense of a
word that names one of those (so that an ambiguous word can list what else it means), a line each:

    id, ImageNet index or "", ranks, frequencies, parents (ids), words (| between), gloss, kinds

with tabs between. Ranks and frequencies hold one number a word: which of its senses this is, and
how often WordNet's tagged corpus uses the word in this sense. Kinds are, where there are classes
under the synset, how many of the meanings directly below it have some, how many there are, how many
meanings there are below it in all, and "known" or "narrow": whether they are enough to know the
word.

`nouns.txt.gz` holds all other nouns, by the nearest meaning above them that has classes ("-" where
that is too general to say anything), then irregular plurals and the names of `everyday_words.tsv`.
`hypernyms.txt.gz` holds, for networks of more classes than ImageNet-1k's, every synset of timm's
ImageNet tables and every one above those: an id and the ids of its parents, a line each.

Run with the folder of WordNet's `data.noun` (Debian: package wordnet-base):

    python scripts/make_vocabulary.py /usr/share/wordnet
"""

from __future__ import annotations

import functools
import gzip
import sys
from collections import defaultdict
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "src" / "wordsight" / "words"
TARGET = DATA / "wordnet.tsv"
NOUNS = DATA / "nouns.txt.gz"
EVERYDAY = Path(__file__).with_name("everyday_words.tsv")
ORGANISM, PHYSICAL_ENTITY = "n00004475", "n00001930"
SHARE, MANY = 0.3, 7  # of a word's kinds, or as many classes, for it to be known
# animals of one family look more alike than, say, chairs
SHARE_OF_ORGANISMS, SOME_ORGANISMS = 0.1, 3
TOO_GENERAL = 800  # meanings under one that says nothing of what is under it


def read_everyday() -> dict[str, dict[str, list[str]]]:
    """Read the table of everyday words into what it does -> subject -> objects."""
    rows: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in EVERYDAY.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            action, subject, target, _ = line.split("\t")
            rows[action][subject].append(target)
    return rows


def read_synsets(
    path: Path, also: dict[str, list[str]]
) -> tuple[dict[str, tuple[list[str], list[str], str]], set[str]]:
    """Read `data.noun` into id -> (words, parent ids, gloss), and the ids of single persons, places
    and works.

    Args:
        path: the file.
        also: id -> further parents.
    """
    synsets, single = {}, set()
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
        parents += also.get("n" + parts[0], [])
        synsets["n" + parts[0]] = (words, parents, gloss.split(";")[0].split('"')[0].strip())
        if any(p[0] == "@i" for p in pointers):
            single.add("n" + parts[0])
    return synsets, single


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


class Coverage:
    """What of each meaning ImageNet's classes show.

    Args:
        synsets: id -> (words, parent ids, gloss).
        classes: ids of the classes.
        everyday: the table of everyday words.
    """

    def __init__(self, synsets, classes, everyday) -> None:
        self._synsets, self._classes, self._everyday = synsets, set(classes), everyday
        self._children: dict[str, list[str]] = defaultdict(list)
        for wnid, (_, parents, _) in synsets.items():
            for parent in parents:
                self._children[parent].append(wnid)
        self.under = functools.cache(self._under)
        self.share = functools.cache(self._share)
        self.size = functools.cache(lambda wnid: len(self._below(wnid)))

    def _under(self, wnid: str) -> frozenset[str]:
        """Return the classes under a meaning, itself included."""
        own = frozenset([wnid]) & self._classes
        return own.union(*(self.under(child) for child in self._children[wnid]))

    def _below(self, wnid: str) -> set[str]:
        """Return all meanings below one."""
        found, stack = set(), [wnid]
        while stack:
            new = set(self._children[stack.pop()]) - found
            found |= new
            stack += new
        return found

    def _share(self, wnid: str) -> float:
        """Return the share of a meaning's kinds that is known, 0-1, where the kinds of each meaning
        are equally frequent.
        """
        children = self._children[wnid]
        if wnid in self._classes:
            return 1.0
        return sum(map(self.share, children)) / len(children) if children else 0.0

    def kinds(self, wnid: str) -> str:
        """Return the last column of the table."""
        classes, children = self.under(wnid), self._children[wnid]
        if not classes:
            return ""
        with_some = sum(1 for child in children if self.under(child))
        verdict = "known" if self._is_known(wnid) else "narrow"
        return f"{with_some},{len(children)},{self.size(wnid)},{verdict}"

    def _is_known(self, wnid: str) -> bool:
        if wnid in self._everyday["whole"] or wnid in self._everyday["few"]:
            return wnid in self._everyday["whole"]
        count, share = len(self.under(wnid)), self.share(wnid)
        alive = ORGANISM in with_ancestors([wnid], self._synsets)
        return (
            share >= SHARE
            or count >= MANY
            or (alive and count >= SOME_ORGANISMS and share >= SHARE_OF_ORGANISMS)
        )

    def nearest(self, wnid: str) -> str:
        """Return the nearest meaning at or above one that has classes, or "-" where that is too
        general.
        """
        level = [wnid]
        while level:
            found = [one for one in level if self.under(one)]
            if found:
                best = min(found, key=lambda one: (self.size(one), one))
                near = self.size(best) <= TOO_GENERAL
                seen = PHYSICAL_ENTITY in with_ancestors([best], self._synsets)
                return best if near and seen else "-"
            level = [parent for one in level for parent in self._synsets[one][1]]
        return "-"


def other_nouns(synsets, single, senses, coverage: Coverage) -> dict[str, list[str]]:
    """Return the nouns under which there is no class: id of the nearest meaning -> nouns."""
    nearest: dict[str, list[str]] = defaultdict(list)
    for word, wnids in sorted(senses.items()):
        common = [wnid for wnid in wnids if wnid not in single]
        if common and not any(coverage.under(wnid) for wnid in wnids):
            # the usual sense, unless that is nothing one could see
            places = [coverage.nearest(wnid) for wnid in common]
            place = next((place for place in places if place != "-"), "-")
            nearest[place if places[0] == "-" and len(places) < 4 else places[0]].append(word)
    return nearest


def irregular_plurals(path: Path, nouns: set[str]) -> dict[str, str]:
    """Read WordNet's exceptions: plural -> singular, both single words."""
    plurals = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        plural, singular, *_ = line.split()
        if singular in nouns and plural not in nouns and "_" not in plural:
            plurals[plural] = singular
    return plurals


def main(folder: Path) -> None:
    """Write the tables."""
    from timm.data import ImageNetInfo
    from timm.data.imagenet_info import _SUBSETS

    everyday = read_everyday()
    synsets, single = read_synsets(folder / "data.noun", everyday["kind"])
    senses, counts = read_senses(folder)
    index = {wnid: i for i, wnid in enumerate(ImageNetInfo().label_names())}
    named = {wnid for rows in everyday.values() for wnid in rows if wnid.startswith("n0")}
    named |= {wnid for wnids in everyday["name"].values() for wnid in wnids}
    missing = sorted((set(index) | named) - set(synsets))
    if missing:
        raise SystemExit(
            f"This WordNet lacks {len(missing)} synsets ({missing[:3]}, …); version 3.0 is needed."
        )
    coverage = Coverage(synsets, index, everyday)
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
        number = str(index.get(wnid, ""))
        lines.append(
            "\t".join(
                (
                    *(wnid, number, ranks, frequency, ",".join(parents), "|".join(names), gloss),
                    coverage.kinds(wnid),
                )
            )
        )
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")

    nearest = other_nouns(synsets, single, senses, coverage)
    rows = [f"{wnid}\t{'|'.join(nouns)}" for wnid, nouns in sorted(nearest.items())]
    rows += [
        f"plural\t{plural}|{singular}"
        for plural, singular in sorted(irregular_plurals(folder / "noun.exc", set(senses)).items())
    ]
    rows += [f"name\t{name}|{wnid}" for name, (wnid,) in sorted(everyday["name"].items())]
    rows += [f"ask\t{name}" for name in sorted(everyday["ask"])]
    _pack(NOUNS, lines[0], rows)
    every = with_ancestors(
        {wnid for subset in _SUBSETS for wnid in ImageNetInfo(subset).label_names()}, synsets
    )
    text = "".join(f"{wnid} {','.join(synsets[wnid][1])}\n" for wnid in sorted(every))
    (DATA / "hypernyms.txt.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(
        f"{len(wanted)} synsets with ImageNet classes, {len(also)} other senses -> "
        f"{TARGET.name}, {TARGET.stat().st_size} bytes; {sum(map(len, nearest.values()))} other "
        f"nouns -> {NOUNS.name}, {NOUNS.stat().st_size} bytes"
    )


def _pack(path: Path, licence: str, rows: list[str]) -> None:
    """Write lines, compressed, the same bytes each time."""
    path.write_bytes(gzip.compress("\n".join([licence, *rows, ""]).encode(), 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet"))
