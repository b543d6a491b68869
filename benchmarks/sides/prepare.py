"""Prepare and compile the default backbone, as wordsight does when it is first used."""

import turns

import wordsight
from wordsight.backbones.embedder import Embedder

backbone = wordsight.backbones.load_backbone()
embedder = Embedder(backbone)
embedder.runtime  # noqa: B018  # opening it compiles it
embedder.cache.close()
turns.report(folder=str(backbone.folder), network=str(backbone.folder / "network-2.xml"))
