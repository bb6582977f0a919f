"""What every engine of training does alike, whether it trains one network or a stack of them."""

import math
import threading
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nclib.training.checkpoint import Checkpoint
from nclib.training.optimizers import learning_rate_factor


class Diverged(RuntimeError):
    """The training loss stopped being finite; says in which epoch and at which learning rate."""


class Stopped(KeyboardInterrupt):
    """Training was asked to stop, and has saved its checkpoint: the same work goes on from there."""


_stop = threading.Event()


def request_stop() -> None:
    """Ask every training in this process to save its checkpoint after the epoch at hand and raise Stopped."""
    _stop.set()


@dataclass
class Training:
    """What `train` was asked to do, and the bookkeeping that every engine does alike."""

    model: nn.Module
    x: Tensor
    y: Tensor
    optimizer: torch.optim.Optimizer
    schedule: str
    epochs: int
    batch_size: int
    generator: torch.Generator
    pauses: Collection[int]
    loss: Callable[[Tensor, Tensor], Tensor]
    drop_last: bool
    autocast: torch.dtype | None
    checkpoint: Checkpoint | None

    def __post_init__(self) -> None:
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._factor = learning_rate_factor(self.schedule, self.epochs)

    def begin(self) -> int:
        """Take the state that the checkpoint holds, if any; how many epochs are done."""
        state = None if self.checkpoint is None else self.checkpoint.get("training")
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        _take_order_of_weights(self.optimizer)
        self.generator.set_state(state["generator"].cpu())
        return state["epoch"]

    def set_rate(self, epoch: int) -> None:
        """Set the optimiser's learning rates for an epoch, counted from 0."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._factor(epoch)

    def draw_order(self) -> tuple[Tensor, int]:
        """The order of the samples in the coming epoch, and a seed for layers that draw noise themselves."""
        g = self.generator
        order = torch.randperm(len(self.x), generator=g, device=g.device).to(self.x.device)
        return order, self.draw_seed()

    def draw_seed(self) -> int:
        """A seed for layers that draw noise themselves."""
        g = self.generator
        return int(torch.randint(2**62, (), generator=g, device=g.device))

    def check(self, loss: float, epoch: int) -> None:
        """Raise Diverged unless the mean loss of an epoch, counted from 1, is a number."""
        if not math.isfinite(loss):
            rate = self.optimizer.param_groups[0]["lr"]
            raise Diverged(f"the loss is {loss} in epoch {epoch} at learning rate {rate:g}")

    def must_save(self, epoch: int) -> bool:
        """Whether the state after this epoch, counted from 1, is to be saved."""
        if self.checkpoint is None:
            return _stop.is_set()
        return self.checkpoint.due() or epoch == self.epochs or _stop.is_set()

    def save(self, epoch: int) -> None:
        """Save the state after this epoch, counted from 1. Raises Stopped when a stop was asked for."""
        if self.checkpoint is not None:
            self.checkpoint["training"] = {
                "epoch": epoch,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
            }
            self.checkpoint.save()
        if _stop.is_set():
            raise Stopped(f"stopped after epoch {epoch}")


def _take_order_of_weights(optimizer: torch.optim.Optimizer) -> None:
    # A checkpoint from a GPU has its convolutions channels-last, one from a CPU does not, and fused optimisers
    # walk a weight and its state side by side without looking.
    for p, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == p.shape and value.stride() != p.stride():
                state[name] = torch.empty_like(p).copy_(value)


ENGINE: ContextVar[Callable[[Training], Iterator[int] | None] | None] = ContextVar("ENGINE", default=None)
"""Who trains, in place of `train` itself: it may decline by returning None."""
