"""Recipes that train a network's own weights: fine-tuning a backbone, and training a network from
scratch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..backbones.embedder import Embedder
from ..backbones.networks.timm_models import build_module, untrained_module, with_image_size
from ..backbones.preprocessing import STRIDE, Preprocessing
from ..backbones.registry import keep_module
from ..backbones.runtime import callers
from ..classification.classifier import Classifier, load
from ..core.home import first_process
from ..core.progress import Progress
from ..core.threads import parallel_map
from ..datasets.training_set import fingerprint, hold_out, usable
from ..errors import InvalidArgument, UnreadableImage
from ..heads.guarantee import HeldOut
from ..heads.linear import LinearHead, fit_head, fit_temperature, log_loss
from ..heads.novelty import MAX_REFERENCES, fit_neighbourhood
from ..images.decoding import header
from ..words.class_names import catch_all_index
from .batches import Images, Sized, augmentation, load_images
from .lightning_loop import Fitted, Job, fit
from .request import TrainingRequest
from .work_folder import clear_work_folder, work_folder

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("wordsight")


@dataclass
class Outcome:
    """A trained network as a classifier, or none if the head alone was better.

    Attributes:
        model: the classifier, without its record of the images; None if fine-tuning did not lower
            the validation loss.
        fitted: how training went.
        unreadable: (name, reason) of images that could not be read.
        left_out: (name, reason) of images that the cheap checks left out.
        items: the n images, held-out ones included, in order.
        held: (n,) bool, whether an image was held out to judge the network.
        labels: (held,) class index of each held-out image.
        probabilities: (held, classes) the classifier's probabilities for them; empty without one.
        strangers: (held,) bool, whether the classifier takes them for strangers.
        events: (held,) int, the event of each held-out image.
    """

    model: Classifier | None
    fitted: Fitted
    unreadable: list[tuple[str, str]]
    left_out: list[tuple[str, str]]
    items: list[Sized]
    held: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    strangers: np.ndarray
    events: np.ndarray

    @property
    def held_out(self) -> HeldOut:
        """The classifier's answers on the held-out images."""
        assert self.model is not None
        names = self.model.class_names
        files = [item.file.name for item, out in zip(self.items, self.held, strict=True) if out]
        said = [names[index] for index in self.probabilities.argmax(axis=1)]
        return HeldOut(
            files,
            [names[label] for label in self.labels],
            said,
            self.probabilities.max(axis=1),
            self.strangers,
            self.events,
        )

    @property
    def metrics(self) -> dict[str, float]:
        """Accuracy and log loss (nats) on the held-out images."""
        right = self.probabilities.argmax(axis=1) == self.labels
        logs = np.log(np.maximum(self.probabilities, 1e-30))
        return {"accuracy": float(right.mean()), "log_loss": log_loss(logs, self.labels)}


def train_network(request: TrainingRequest, embedder: Embedder | None = None) -> Outcome:
    """Train a network's weights on labelled images; held-out ones choose the epoch and calibrate.

    Args:
        request: the data, the network and the settings.
        embedder: for fine-tuning, the embedder of the backbone to start from.

    Raises:
        InvalidArgument: if there are too few images, the network is not available, or the classes
            differ from those of the model to continue from.
        KeyboardInterrupt: if interrupted; the same request continues after the last whole epoch.
    """
    earlier = _earlier(request)
    network, preprocessing, outputs = _network(request, embedder, earlier)
    items, unreadable = load_images(request.images, preprocessing, request.progress)
    items, left_out = usable(items, request.data.class_names, request.settings.clean)
    labels = np.array([request.data.class_names.index(str(item.file.label)) for item in items])
    events = request.events_of(items)
    held = hold_out(items, request.data.class_names, request.settings.seed, events)
    if request.recipe == "finetune" and earlier is None:
        assert embedder is not None
        _set_head(network, _probe_head(embedder, items, labels, held, request))
    positive = None if outputs > 1 else 1 - (catch_all_index(request.data.class_names) or 0)
    # in the first of the processes that train together, for all of them
    with work_folder(request.folder) if first_process() else contextlib.nullcontext() as build:
        job = _job(request, network, preprocessing, items, labels, held, earlier, positive)
        fitted = fit(replace(job, build=build))
    if request.recipe == "finetune" and fitted.best_loss >= fitted.start_loss:
        none = np.zeros((0, len(request.data.class_names)))
        unlike = none[:, 0] > 0
        return Outcome(
            None,
            fitted,
            unreadable,
            left_out,
            items,
            held,
            labels[held],
            none,
            unlike,
            events[held],
        )
    model, embeddings = _classifier(request, job, items, labels, held)
    decisions = model.decide_all(embeddings, None)
    return Outcome(
        model,
        fitted,
        unreadable,
        left_out,
        items,
        held,
        labels[held],
        decisions.probabilities,
        decisions.stranger,
        events[held],
    )


def _job(
    request: TrainingRequest,
    network: nn.Module,
    preprocessing: Preprocessing,
    items: list[Sized],
    labels: np.ndarray,
    held: np.ndarray,
    earlier: Classifier | None,
    positive: int | None,
) -> Job:
    """Return the job of training `network` on the items that are not held out."""
    counts = np.bincount(labels[~held], minlength=len(request.data.class_names))
    train, val = (
        [item for item, out in zip(items, held, strict=True) if out == side]
        for side in (False, True)
    )
    return Job(
        network,
        preprocessing,
        Images(
            train,
            labels[~held],
            preprocessing,
            augmentation() if request.settings.augment else None,
        ),
        Images(val, labels[held], preprocessing),
        counts.sum() / (len(counts) * counts),
        request.settings,
        request.folder,
        _identity(request, items, held),
        positive=positive,
        freeze_statistics=request.recipe == "finetune",
        history=earlier.history if earlier is not None else [],
        seed=request.settings.seed,
        dtype=request.dtype,
        progress=request.progress,
    )


def finish(request: TrainingRequest) -> None:
    """Clear away the training's folder once the model is saved, unless something in it was
    asked for.
    """
    if first_process():
        keep = request.settings.checkpoints or request.settings.tensorboard
        clear_work_folder(request.folder, keep)


def _earlier(request: TrainingRequest) -> Classifier | None:
    """Return the model to go on from."""
    if request.settings.continue_from is None:
        return None
    earlier = load(request.settings.continue_from)
    if earlier.class_names != request.data.class_names:
        raise InvalidArgument(
            f"The model to go on from knows {', '.join(earlier.class_names)}; the pictures show "
            f"{', '.join(request.data.class_names)}."
        )
    return earlier


def _network(request: TrainingRequest, embedder: Embedder | None, earlier: Classifier | None):
    """Return the torch module to train, its preprocessing and how many logits it gives."""
    classes = len(request.data.class_names)
    if earlier is not None:
        module = build_module(earlier.backbone)
        module.reset_classifier(classes)
        _set_head(module, earlier.head)
        return module, earlier.backbone.preprocessing, classes
    if request.recipe == "finetune":
        assert embedder is not None
        module = build_module(embedder.backbone)
        module.reset_classifier(classes)
        return module, embedder.backbone.preprocessing, classes
    import torch

    yes_or_no = classes == 2 and catch_all_index(request.data.class_names) is not None
    outputs = 1 if request.network == "brick_cnn" and yes_or_no else classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.settings.seed)
        module, preprocessing = untrained_module(
            request.network, outputs, request.settings.image_size
        )
    if request.settings.image_size is None and preprocessing.fit == "area":
        preprocessing = _no_larger_than_the_images(preprocessing, request)
    return module, preprocessing, outputs


def _no_larger_than_the_images(
    preprocessing: Preprocessing, request: TrainingRequest
) -> Preprocessing:
    """Return a preprocessing that does not enlarge images, judged by the median size of 100.

    Enlarging would cost time and add nothing.
    """
    sides = []
    for image in request.data.images[:: max(1, len(request.data.images) // 100)]:
        with contextlib.suppress(UnreadableImage):
            sides.append(math.sqrt(math.prod(header(image.path)[0])))
    side = min(
        preprocessing.image_size[0],
        max(1, round(float(np.median(sides or [1e9])) / STRIDE)) * STRIDE,
    )
    if side < preprocessing.image_size[0]:
        log.info("The pictures are small, so the network takes %d × %d pixels.", side, side)
    return with_image_size(preprocessing, side, request.network)


def _set_head(module, head: LinearHead) -> None:
    """Copy a head's weights, divided by its temperature, into a module's last layer."""
    import torch

    layer = module.get_classifier()
    if not isinstance(layer, torch.nn.Linear):
        raise InvalidArgument(
            f"Backbone '{module.pretrained_cfg['architecture']}' has no linear classifier, so "
            "it can't be fine-tuned. Use --recipe probe."
        )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight / head.temperature))
        layer.bias.copy_(torch.from_numpy(head.bias / head.temperature))


def _probe_head(
    embedder: Embedder,
    items: list[Sized],
    labels: np.ndarray,
    held: np.ndarray,
    request: TrainingRequest,
) -> LinearHead:
    """Fit a head to the frozen backbone's embeddings of the training images."""
    embeddings = _embed(embedder, items, request.progress)
    head, _ = fit_head(
        embeddings[~held], labels[~held], len(request.data.class_names), request.settings.seed
    )
    return head


def _embed(embedder: Embedder, items: list[Sized], progress: Progress | None) -> np.ndarray:
    """Return the embeddings (n, C) of images; pixels already in memory are not read again."""

    def embed(item: Sized) -> np.ndarray:
        sha = bytes.fromhex(item.sha256)
        embedding = embedder.cache.get(sha, embedder.key)
        if embedding is None:
            embedding = embedder.runtime.encode(
                item.load(embedder.backbone.preprocessing)
            ).embedding
            embedder.cache.put(sha, embedder.key, embedding)
        return embedding

    embeddings = []
    try:
        for embedding in parallel_map(embed, items, callers(embedder.engine)):
            embeddings.append(embedding)
            if progress:
                progress(len(embeddings), len(items), "embeddings")
    finally:
        embedder.cache.flush()
    return np.stack(embeddings)


def _identity(request: TrainingRequest, items: list[Sized], held: np.ndarray) -> str:
    """Return a hash of all that decides the training, so that only the same one goes on from
    what another left.
    """
    note = {
        "classes": request.data.class_names,
        "pictures": fingerprint(items),
        "held_out": fingerprint([item for item, out in zip(items, held, strict=True) if out]),
        "recipe": request.recipe,
        "network": request.network,
        "image_size": request.settings.image_size,
        "tuning": request.settings.to_dict(),
        "continue_from": None
        if request.settings.continue_from is None
        else str(request.settings.continue_from),
        "seed": request.settings.seed,
        "dtype": request.dtype,
    }
    return hashlib.sha256(json.dumps(note).encode()).hexdigest()[:8]


def _classifier(
    request: TrainingRequest, job: Job, items: list[Sized], labels: np.ndarray, held: np.ndarray
) -> tuple[Classifier, np.ndarray]:
    """Make the trained network a classifier: its own head, calibrated on the held-out images.
    Return their embeddings, too.
    """
    layer = job.network.get_classifier()  # type: ignore[operator]
    weight, bias = layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
    if job.positive is not None:  # one logit z is the softmax of (z, 0)
        zero = np.zeros_like(weight)
        order = (weight, zero) if job.positive == 0 else (zero, weight)
        weight, bias = (
            np.concatenate(order),
            np.array([bias[0], 0.0] if job.positive == 0 else [0.0, bias[0]], dtype=np.float32),
        )
    backbone = keep_module(job.network.requires_grad_(False), request.network, job.preprocessing)
    catch_all = catch_all_index(request.data.class_names)
    near = np.ones(len(labels), dtype=bool) if catch_all is None else labels != catch_all
    known = np.flatnonzero(near & ~held)
    known = np.sort(
        np.random.default_rng(request.settings.seed).permutation(known)[:MAX_REFERENCES]
    )
    chosen = np.concatenate([known, np.flatnonzero(held)])
    backbone = replace(backbone, engine=request.engine, dtype=request.dtype)
    embedder = Embedder(backbone)
    embeddings = _embed(embedder, [items[row] for row in chosen], request.progress)
    references, judged = embeddings[: len(known)], embeddings[len(known) :]
    head = LinearHead(weight, bias)
    head = LinearHead(weight, bias, fit_temperature(head.logits(judged), labels[held]))
    neighbourhood = fit_neighbourhood(
        references, labels[known], request.settings.seed, held_out=judged[near[held]]
    )
    return Classifier(
        request.data.class_names, head, backbone, neighbourhood, catch_all=catch_all
    ), judged
