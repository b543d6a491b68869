"""Train a network's weights with Lightning: loss, schedule, early stopping, checkpoints, history.

Images are known here as batches only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from ..backbones.devices import has_bf16, loader_workers, out_of_memory
from ..backbones.preprocessing import Preprocessing
from ..classification.model_tables import history_csv
from ..core.cells import table_bytes
from ..core.home import first_process, writing
from ..core.progress import Progress
from ..core.result_folder import Build
from ..core.threads import cores
from ..errors import InvalidArgument
from .batches import Images, SizedBatches, loader
from .checkpoints import SafeCheckpoints
from .settings import TrainingSettings
from .work_folder import HISTORY

log = logging.getLogger("wordsight")

VAL_PIXELS = 256 * 64 * 64  # of the images that are validated at once


@dataclass
class Job:
    """One network's training.

    Attributes:
        network: timm network, changed in place: at the end it holds the best epoch's weights.
        preprocessing: how images become its input.
        train, val: the images; `val` decides which epoch is best.
        class_weights: (classes,) weight of each class's images in the loss.
        tuning: settings, all filled in.
        folder: for checkpoints and logs.
        build: puts files into `folder`; None in all but the first of the processes that train
            together.
        key: name of the job; training continues from a checkpoint of that name.
        positive: index of the class whose single logit the network gives, or None for one logit per
            class.
        freeze_statistics: whether batch normalisation keeps its statistics.
        history: rows of earlier stages.
        seed: same seed, same weights.
        dtype: "f32" or "bf16" (mixed); a GPU that supports bf16 always uses it.
        progress: called with (done, total, what).
    """

    network: nn.Module
    preprocessing: Preprocessing
    train: Images
    val: Images
    class_weights: np.ndarray
    tuning: TrainingSettings
    folder: Path
    key: str
    positive: int | None = None
    freeze_statistics: bool = False
    history: list[dict] = field(default_factory=list)
    seed: int = 0
    dtype: str = "f32"
    progress: Progress | None = None
    build: Build | None = None


@dataclass(frozen=True)
class Fitted:
    """How training went.

    Attributes:
        history: a row per epoch, after those of earlier stages; the first row of a stage is the
            state before it.
        start_loss: validation loss before this stage, in nats.
        best_loss: lowest validation loss of any epoch of this stage, in nats.
        best_epoch: the epoch with that loss.
    """

    history: list[dict]
    start_loss: float
    best_loss: float
    best_epoch: int


def fit(job: Job) -> Fitted:
    """Train, or continue a training that was cut off; see `Job`.

    Raises:
        KeyboardInterrupt: if interrupted; the same job continues after its last whole epoch.
        InvalidArgument: if TensorBoard is asked for but not installed, or memory runs out.
    """
    try:
        with _quiet():
            return _fit(job)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        size = job.tuning.batch_size or 1
        step = f"Try --batch-size {size // 2}" if size > 1 else "Choose a smaller network or input"
        raise InvalidArgument(
            f"There is too little memory to train on {size} pictures at a time. {step}, or end "
            "what else uses the memory."
        ) from error


def _fit(job: Job) -> Fitted:
    lightning.seed_everything(job.seed, verbose=False)
    task, history = _Task(job), _History(job)
    best = ModelCheckpoint(
        job.folder,
        f"best-{job.key}",
        monitor="val_loss",
        save_weights_only=True,
        enable_version_counter=False,
    )
    trainer = _trainer(job, _callbacks(job, history, best))
    last = job.folder / f"last-{job.key}.ckpt"
    job.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    val = loader(job.val, SizedBatches([item.size for item in job.val.items], _val_batch(job)))
    if last.is_file():
        log.info(
            "Going on with the training that was cut off; delete '%s' to start anew.", job.folder
        )
        kept = SafeCheckpoints().load_checkpoint(last)["callbacks"]
        history.load_state_dict(kept[history.state_key])
    else:
        trainer.validate(task, val, verbose=False)
        history.start(trainer)
    if not history.over:
        train = _train_loader(job, trainer)
        with _interruptible():
            trainer.fit(task, train, val, ckpt_path=last if last.is_file() else None)
    _restore(job.network, job.folder / f"best-{job.key}.ckpt")
    rows = [row for row in history.rows if row["stage"] == history.stage]
    tried = min((row for row in rows if row["epoch"] > 0), key=lambda row: row["val_loss"])
    return Fitted(history.rows, rows[0]["val_loss"], tried["val_loss"], tried["epoch"])


def _callbacks(job: Job, history: _History, best: ModelCheckpoint) -> list[Callback]:
    """Return Lightning's callbacks, in the order in which they are called."""
    return [
        history,
        EarlyStopping(
            "val_loss", patience=job.tuning.patience or 1, check_on_train_epoch_end=False
        ),
        best,
        ModelCheckpoint(
            job.folder,
            f"last-{job.key}",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]


def _trainer(job: Job, callbacks: list[Callback]) -> lightning.Trainer:
    """Return a trainer for this process, or for its rank among those that torchrun started."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return lightning.Trainer(
        max_epochs=job.tuning.epochs,
        accelerator="auto",
        devices=local if ranks > 1 else 1,  # several need torchrun, so that each has its rank
        num_nodes=max(ranks // local, 1),
        strategy="ddp" if ranks > 1 else "auto",
        precision="bf16-mixed" if job.dtype == "bf16" or has_bf16() else "32-true",
        # the same seed gives the same weights, on a GPU as far as torch can
        deterministic="warn" if torch.cuda.is_available() else None,
        callbacks=callbacks,
        plugins=[SafeCheckpoints(job.build)],
        logger=_tensorboard(job),
        default_root_dir=job.folder,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _train_loader(job: Job, trainer: lightning.Trainer) -> DataLoader:
    """Return the batches that this rank trains on."""
    batches = SizedBatches(
        [item.size for item in job.train.items],
        job.tuning.batch_size or 1,
        job.seed,
        trainer.global_rank,
        trainer.world_size,
    )
    height, width = max((item.size for item in job.train.items), key=math.prod)
    batch_bytes = (job.tuning.batch_size or 1) * height * width * 3
    return loader(job.train, batches, loader_workers(min(cores(), 8), batch_bytes))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn Lightning's exit after Ctrl-C into KeyboardInterrupt, and put its handler back.

    Raises:
        KeyboardInterrupt: if the training was interrupted.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:  # Lightning ends this way after Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, handler)


def _restore(network: nn.Module, checkpoint: Path) -> None:
    """Load the best epoch's weights into the network, on the CPU and in evaluation mode."""
    weights = SafeCheckpoints().load_checkpoint(checkpoint)["state_dict"]
    network.to("cpu").load_state_dict(
        {
            name.removeprefix("network."): value
            for name, value in weights.items()
            if name.startswith("network.")
        }
    )
    network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _val_batch(job: Job) -> int:
    """Return the size of validation batches; without gradients, hundreds of small images fit."""
    pixels = max(height * width for height, width in (item.size for item in job.val.items))
    return max(2 * (job.tuning.batch_size or 1), min(256, VAL_PIXELS // pixels))


class _Task(lightning.LightningModule):
    """The network with its loss."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.network = job.network
        self._job = [job]  # in a list, so that torch does not register its modules
        mean, std = job.preprocessing.mean, job.preprocessing.std
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.weights: torch.Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255.0, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255.0, persistent=False)
        self.register_buffer(
            "weights", torch.tensor(job.class_weights, dtype=torch.float32), persistent=False
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes) of pixels (n, 3, h, w) uint8."""
        x = ((pixels.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        logits = self.network(x)
        positive = self._job[0].positive
        if positive is None:
            return logits
        # a sigmoid is a softmax beside zero
        both = torch.zeros(len(logits), 2, device=logits.device, dtype=logits.dtype)
        both[:, positive] = logits[:, 0]
        return both

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        return self._step(batch, "")

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        self._step(batch, "val_")

    def _step(self, batch: tuple[torch.Tensor, torch.Tensor], prefix: str) -> torch.Tensor:
        pixels, labels = batch
        logits = self(pixels)
        losses = functional.cross_entropy(logits, labels, weight=self.weights, reduction="none")
        loss = losses.mean()
        right = (logits.argmax(dim=1) == labels).float().mean()
        self.log_dict(
            {f"{prefix}loss": loss, f"{prefix}accuracy": right},
            on_step=False,
            on_epoch=True,
            batch_size=len(labels),
            sync_dist=True,
        )
        return loss

    def train(self, mode: bool = True) -> _Task:
        """Switch to training or evaluation mode; frozen batch normalisation stays in evaluation."""
        super().train(mode)
        if self._job[0].freeze_statistics:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def on_train_start(self) -> None:
        """Give a restored optimiser's moments the memory layout of its weights, which fused steps
        need: they walk through both in memory order.
        """
        for optimizer in self.trainer.optimizers:
            for weight, state in optimizer.state.items():
                for name, value in state.items():
                    if (
                        isinstance(value, torch.Tensor)
                        and value.shape == weight.shape
                        and value.stride() != weight.stride()
                    ):
                        state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)

    def on_train_epoch_start(self) -> None:
        # so that an epoch's dropout does not depend on earlier epochs
        torch.manual_seed(self._job[0].seed * 10_007 + self.current_epoch)

    def configure_optimizers(self):
        tuning = self._job[0].tuning
        if tuning.schedule == "constant":
            return torch.optim.Adam(self.parameters(), lr=tuning.lr or 0.0, eps=1e-7, fused=True)
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=tuning.lr or 0.0, weight_decay=0.05, fused=True
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=tuning.lr or 0.0, total_steps=steps, pct_start=0.25
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _History(Callback):
    """Records and logs each epoch, and stops the training when its time is up."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.rows = list(job.history)
        self.stage = 1 + max((int(row["stage"]) for row in self.rows), default=0)
        self.before = max((int(row["epoch"]) for row in self.rows), default=0)
        self.spent = 0.0
        self.over = False  # whether the last epoch is done
        self._began = 0.0
        self._steps = 0

    def state_dict(self) -> dict:
        return {"rows": self.rows, "spent": self.spent, "over": self.over}

    def load_state_dict(self, state: dict) -> None:
        self.rows, self.spent = state["rows"], state["spent"]
        self.over = state.get("over", False) or self._no_time_left()

    def start(self, trainer: lightning.Trainer) -> None:
        """Record the state before the first epoch."""
        values = {
            name: float(trainer.callback_metrics[name]) for name in ("val_loss", "val_accuracy")
        }
        self.rows.append({"stage": self.stage, "epoch": self.before, **values})

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._began, self._steps = time.monotonic(), 0

    def on_train_batch_end(self, trainer: lightning.Trainer, *_) -> None:
        self._steps += 1
        if self.job.progress and first_process():
            self.job.progress(
                self._steps,
                int(trainer.num_training_batches),
                f"steps of epoch {self.before + trainer.current_epoch + 1}",
            )
        budget = self.job.tuning.budget_s
        if budget is not None and self.spent + time.monotonic() - self._began > budget:
            trainer.should_stop = True

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        seconds = time.monotonic() - self._began
        self.spent += seconds
        values = {
            name: float(trainer.callback_metrics[name])
            for name in ("loss", "accuracy", "val_loss", "val_accuracy")
        }
        row = {"stage": self.stage, "epoch": self.before + trainer.current_epoch + 1, **values}
        row |= {"lr": trainer.optimizers[0].param_groups[0]["lr"], "seconds": round(seconds, 3)}
        self.rows.append(row)
        if self.job.tuning.checkpoints:
            trainer.save_checkpoint(
                self.job.folder / f"epoch-{row['epoch']:03d}.ckpt", weights_only=True
            )
        if self.job.build is not None:
            with writing(self.job.folder):
                self.job.build.place(HISTORY, table_bytes(history_csv(self.rows)))
            log.info(
                "Epoch %d of %d: loss %.4f, accuracy %.1f %%; validation loss %.4f, "
                "accuracy %.1f %%; %.1f s.",
                *(
                    row["epoch"],
                    self.before + (self.job.tuning.epochs or 0),
                    row["loss"],
                    100 * row["accuracy"],
                ),
                *(row["val_loss"], 100 * row["val_accuracy"], seconds),
            )
        late = self._no_time_left()
        last = trainer.current_epoch + 1 == self.job.tuning.epochs
        self.over = last or (trainer.should_stop and not late)
        trainer.should_stop |= late

    def _no_time_left(self) -> bool:
        """Whether one more epoch like the last would take longer than there is time."""
        budget = self.job.tuning.budget_s
        return budget is not None and self.spent + self.rows[-1].get("seconds", 0.0) > budget


def _tensorboard(job: Job):
    if not job.tuning.tensorboard:
        return False
    if importlib.util.find_spec("tensorboard") is None:
        raise InvalidArgument(
            "TensorBoard is not installed. Install it with: pip install "
            "'wordsight[tensorboard]'. history.csv is written without it."
        )
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(job.folder, name="tensorboard", version="")


@contextlib.contextmanager
def _quiet():
    """Silence Lightning's hints on devices, workers and loggers; errors are still logged."""
    loggers = [
        logging.getLogger(name)
        for name in (
            "lightning.pytorch",
            "lightning.fabric",
            "lightning.pytorch.utilities.rank_zero",
        )
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
