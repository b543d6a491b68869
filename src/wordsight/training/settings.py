"""How a network's own weights are trained: what a person may choose, and what is taken where
they choose nothing.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace

from ..errors import InvalidArgument

SCRATCH_NETWORK = "small_resnet"  # what is trained from scratch unless another is asked for
OBJECTS = ("one", "many")
CLASSICS = ("brick_cnn", "cifar_cnn")  # trained as their tutorials do


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained; None stands for the recipe's default.

    A probe has nothing to tune: of these settings it takes `seed`, `clean`, `image_size` and
    `events` only.

    Attributes:
        epochs: passes over the training images, at most.
        lr: learning rate; its peak where the schedule is "one-cycle".
        batch_size: images a step (a process).
        augment: flip, turn, shift, shear and zoom the training images at random.
        patience: epochs without a lower validation loss after which training stops.
        budget_s: stop after this many seconds of training, at the end of an epoch where possible.
        checkpoints: keep the weights of every epoch, in MODEL-training beside the model.
        tensorboard: write TensorBoard's log there, too.
        continue_from: model folder to go on from, as a further stage with a joined history.
        schedule: "constant" or "one-cycle" (Smith and Topin 2018).
        seed: the same seed gives the same model.
        clean: leave out duplicate files and files found in two classes.
        image_size: side in pixels of a square input; None: the network's own.
        events: keep photos of one folder that were taken within a minute of each other on one side
            when images are held out.
        from_model: with boxes, the model folder to add the box head to, instead of training one.
        objects: with boxes, whether an image's largest object is learned, "one", or all, "many";
            None: "many" if an image has several.
    """

    epochs: int | None = None
    lr: float | None = None
    batch_size: int | None = None
    augment: bool | None = None
    patience: int | None = None
    budget_s: float | None = None
    checkpoints: bool = False
    tensorboard: bool = False
    continue_from: str | os.PathLike | None = None
    schedule: str | None = None
    seed: int = 0
    clean: bool = True
    image_size: int | None = None
    events: bool = True
    from_model: str | os.PathLike | None = None
    objects: str | None = None

    @property
    def tunes_weights(self) -> bool:
        """Whether anything is set that only training a network's own weights can use."""
        return self != self.for_probe()

    def for_probe(self) -> TrainingSettings:
        """Return those of the settings that a probe has a use for."""
        return TrainingSettings(
            seed=self.seed,
            clean=self.clean,
            image_size=self.image_size,
            events=self.events,
            from_model=self.from_model,
            objects=self.objects,
        )

    def filled(self, recipe: str, network: str) -> TrainingSettings:
        """Return the settings with defaults in place of None.

        Raises:
            InvalidArgument: if a setting is out of range.
        """
        defaults = _defaults(recipe, network)
        settings = replace(
            self, **{name: value for name, value in defaults.items() if getattr(self, name) is None}
        )
        if settings.schedule == "one-cycle" and self.patience is None:
            # the loss falls most at the end of the cycle
            settings = replace(settings, patience=settings.epochs)
        for name, low, high in (
            ("epochs", 1, 10_000),
            ("batch_size", 1, 65_536),
            ("lr", 1e-9, 10.0),
            ("patience", 1, 10_000),
            ("budget_s", 1e-3, 1e9),
        ):
            value = getattr(settings, name)
            if value is not None and not low <= value <= high:
                raise InvalidArgument(
                    f"{name} must lie between {low:g} and {high:g}, got {value:g}."
                )
        if settings.schedule not in ("constant", "one-cycle"):
            raise InvalidArgument(
                f"Unknown schedule '{settings.schedule}'. Choose constant or one-cycle."
            )
        return settings

    def to_dict(self) -> dict:
        """Return what decides the outcome, for wordsight.json."""
        left_out = {"checkpoints", "tensorboard", "continue_from", "budget_s"}
        left_out |= {"seed", "clean", "image_size", "events", "from_model", "objects"}
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def _defaults(recipe: str, network: str) -> dict:
    if recipe != "scratch":
        return {
            "epochs": 10,
            "lr": 1e-5,
            "batch_size": 16,
            "augment": True,
            "patience": 3,
            "schedule": "constant",
        }
    if network in CLASSICS:
        return {
            "epochs": 10,
            "lr": 1e-3,
            "batch_size": 32,
            "augment": False,
            "patience": 3,
            "schedule": "constant",
        }
    return {
        "epochs": 30,
        "lr": 1.6e-2 if network == SCRATCH_NETWORK else 1e-3,
        "batch_size": 64,
        "augment": True,
        "schedule": "one-cycle",
    }
