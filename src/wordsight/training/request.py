"""Everything that decides a training, in one object that goes all the way through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedded, Embedder
from ..backbones.networks.timm_models import with_image_size
from ..backbones.registry import load_backbone
from ..core.progress import Progress
from ..datasets.files import ImageFile
from ..datasets.labelled import LabelledSet
from ..datasets.training_set import Hashed, observations, scene_folder
from ..images.taken import events_of
from .settings import SCRATCH_NETWORK, TrainingSettings
from .sources import Sources
from .work_folder import training_folder


@dataclass(frozen=True)
class TrainingRequest:
    """Everything that decides a training.

    Attributes:
        data: labelled images.
        target: the model's folder; the training's own lies beside it, named …-training.
        recipe: "probe", "finetune", "scratch" or "auto".
        backbone: the network to start from, by name or prepared; for "scratch" the name of the one
            to train. None: the recipe's default.
        settings: how it is trained.
        precision: the share of labels that must be right, or None.
        supervision: where the labels come from, for the model's record.
        cleaned: what was taken out of the data before: reason -> images.
        sources: where the images lie; see `note_sources`.
        boxes: whether boxes are learned afterwards, until when the training's folder stays.
        progress: called with (done, total, what).
    """

    data: LabelledSet
    target: Path
    recipe: str = "probe"
    backbone: str | Backbone | None = None
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    precision: float | None = None
    supervision: str = "labelled pictures"
    cleaned: dict[str, int] = field(default_factory=dict)
    sources: Sources = field(default_factory=list)
    boxes: bool = False
    progress: Progress | None = None

    @property
    def folder(self) -> Path:
        """Where checkpoints, logs and the history so far lie while training."""
        return training_folder(self.target)

    @property
    def network(self) -> str:
        """Name of the backbone to start from, or of the network to train from scratch."""
        if isinstance(self.backbone, Backbone):
            return self.backbone.name
        default = SCRATCH_NETWORK if self.recipe == "scratch" else DEFAULT_BACKBONE
        return self.backbone or default

    @property
    def engine(self) -> str:
        """Where the embeddings are made: "auto", "openvino" or "torch"."""
        return self.backbone.engine if isinstance(self.backbone, Backbone) else "auto"

    @property
    def dtype(self) -> str:
        """The type that embeddings are to be computed in: "auto", "int8", "bf16" or "f32"."""
        return self.backbone.dtype if isinstance(self.backbone, Backbone) else "auto"

    @property
    def images(self) -> list[ImageFile]:
        """The images to learn from: all that are not marked "test"."""
        return [image for image in self.data.images if image.split != "test"]

    def open_embedder(self) -> Embedder:
        """Return an embedder of the backbone, at the image size asked for."""
        return open_embedder(self.backbone or DEFAULT_BACKBONE, self.settings.image_size)

    def embed(self, embedder: Embedder) -> list[Embedded]:
        """Embed the images to learn from, and report progress."""
        return embed_all(embedder, self.images, "pictures", self.progress)

    def events_of(self, items: Sequence[Hashed]) -> np.ndarray:
        """Return the event (n,) int of each image; those that share an equal file are one. Each
        image has its own if events are not asked for.
        """
        if not self.settings.events:
            return np.arange(len(items))
        paths, folders = [one.file.path for one in items], [scene_folder(one.file) for one in items]
        found = events_of(paths, folders=folders, progress=self.progress)
        return observations(found, [one.sha256 for one in items])

    def for_probe(self) -> TrainingRequest:
        """Return the request for a head on the network as it is."""
        return replace(self, recipe="probe", settings=self.settings.for_probe())

    def for_weights(self) -> TrainingRequest:
        """Return the request for training the network's own weights, with settings filled in.

        Raises:
            InvalidArgument: if a setting is out of range.
        """
        recipe = "scratch" if self.recipe == "scratch" else "finetune"
        return replace(self, recipe=recipe, settings=self.settings.filled(recipe, self.network))


def open_embedder(backbone: str | Backbone, image_size: int | None = None) -> Embedder:
    """Return an embedder of a backbone, by name or prepared, for square inputs of `image_size`.

    Raises:
        InvalidArgument: if there is no such backbone, or it takes no such size.
        BackboneUnavailable: if it can't be had here and now.
    """
    chosen = load_backbone(backbone)
    preprocessing = with_image_size(chosen.preprocessing, image_size, chosen.name)
    return Embedder(replace(chosen, preprocessing=preprocessing))


def embed_all(
    embedder: Embedder, images: list[ImageFile], what: str, progress: Progress | None
) -> list[Embedded]:
    """Embed images in order, and report progress as (done, total, what)."""
    done = []
    for item in embedder.embed_all(images):
        done.append(item)
        if progress:
            progress(len(done), len(images), what)
    return done
