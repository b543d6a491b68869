"""A network on its way through a training: all that decides how it learns on, so that it can be
kept and gone on with.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .keeping import Arrays

RATE, DECAY, WARMUP = 3e-3, 0.05, 0.15  # of AdamW, its peak, and of OneCycle
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Course:
    """AdamW on a one-cycle schedule, with the random numbers that it draws; to be used within
    `torch.random.fork_rng`.

    Attributes:
        done: how many steps are done.
    """

    def __init__(
        self, network: nn.Module, steps: int, steepest: float, rng: np.random.Generator
    ) -> None:
        self.network, self.steps, self.done = network, steps, 0
        self._steepest, self._rng = steepest, rng
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, RATE, total_steps=steps, pct_start=WARMUP
        )

    def step(self, loss: torch.Tensor) -> None:
        """Take a step against the gradient of a loss."""
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self._steepest)
        self._optimizer.step()
        self._schedule.step()
        self.done += 1

    def state(self) -> tuple[Arrays, dict]:
        """Return weights, moments and random states, and a note of the rest."""
        arrays = {f"w/{name}": value.numpy() for name, value in self.network.state_dict().items()}
        for number, weight in enumerate(self.network.parameters()):
            moments = self._optimizer.state[weight]
            arrays |= {f"{name}/{number}": moments[name].numpy() for name in _MOMENTS}
        arrays["random"] = torch.get_rng_state().numpy()
        (group,) = self._optimizer.param_groups
        rates = {"lr": group["lr"], "betas": group["betas"]}
        return arrays, {
            "done": self.done,
            "steps": self.steps,
            "rates": rates,
            "random": self._rng.bit_generator.state,
        }

    def restore(self, arrays: Arrays, note: dict) -> None:
        """Go to where `state` was taken, by a course of as many steps."""
        assert note["steps"] == self.steps
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                value.copy_(torch.from_numpy(arrays[f"w/{name}"]))
        for number, weight in enumerate(self.network.parameters()):
            state = {name: torch.empty_like(weight) for name in _MOMENTS}
            for name, value in state.items():
                value.copy_(torch.from_numpy(arrays[f"{name}/{number}"]))
            self._optimizer.state[weight] = {"step": torch.tensor(float(note["done"]))} | state
        torch.set_rng_state(torch.from_numpy(arrays["random"]))
        (group,) = self._optimizer.param_groups
        group["lr"], group["betas"] = note["rates"]["lr"], tuple(note["rates"]["betas"])
        self._schedule.last_epoch = self.done = note["done"]
        self._rng.bit_generator.state = note["random"]
