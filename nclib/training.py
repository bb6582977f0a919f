"""Training as a generator: it pauses where asked, and knows nothing of what is measured there."""

import hashlib
import io
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from nclib import graphed

OPTIMIZERS = ("sgd", "adam", "adamw", "lbfgs")
SCHEDULES = ("constant", "step", "cosine")


class Diverged(RuntimeError):
    """The training loss stopped being finite; says in which epoch and at which learning rate."""


class Stopped(KeyboardInterrupt):
    """Training was asked to stop, and has saved its checkpoint: the same work goes on from there."""


_stop = threading.Event()


def request_stop() -> None:
    """Ask every training in this process to save its checkpoint after the epoch at hand and raise Stopped."""
    _stop.set()


class Checkpoint(dict):
    """Everything needed to go on after a kill, kept in one file that is replaced whole.

    A dict of plain values and tensors: `train` keeps its state under "training", the caller adds what it has
    measured so far, and both are written together or not at all. Beside the file, `seconds` says how long the
    work has taken. A file that is not as it was written is named and set aside as `*.damaged`, and the work
    starts over. It is saved `every` so many seconds: $NCLIB_CHECKPOINT_SECONDS, or 60.
    """

    def __init__(self, path: Path, *, every: float | None = None):
        super().__init__()
        self._path = path
        self._every = float(os.environ.get("NCLIB_CHECKPOINT_SECONDS", 60)) if every is None else every
        self._begun = self._saved = time.monotonic()
        if path.exists():
            try:
                self.update(_read_whole(path))
            except Exception:
                aside = path.replace(path.with_suffix(".damaged"))
                print(f"nclib: a damaged checkpoint was set aside as {aside}", file=sys.stderr)
        self._seconds_before = float(self.get("seconds", 0.0))

    def due(self) -> bool:
        """Whether `every` seconds have passed since the last save."""
        return time.monotonic() - self._saved >= self._every

    def save(self) -> None:
        """Write all of it, atomically."""
        self["seconds"] = self._seconds_before + time.monotonic() - self._begun
        # torch.save into a file hides what the disk said, and torch.load does not notice a flipped bit.
        state = io.BytesIO()
        torch.save(dict(self), state)
        _write_whole(self._path, hashlib.sha256(state.getbuffer()).digest(), state.getbuffer())
        _write_whole(self._path.with_name("seconds"), f"{self['seconds']:.1f}".encode())
        self._saved = time.monotonic()


def _write_whole(path: Path, *parts: bytes | memoryview) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as handle:
        handle.writelines(parts)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def _read_whole(path: Path) -> dict:
    with path.open("rb") as handle:
        digest, state = handle.read(hashlib.sha256().digest_size), io.BytesIO(handle.read())
    if hashlib.sha256(state.getbuffer()).digest() != digest:
        raise ValueError("not as it was written")
    return torch.load(state, weights_only=True)


def log_spaced(last: int, count: int) -> tuple[int, ...]:
    """At least `count` distinct epochs from 1 to `last`, as even on a log axis as whole numbers allow.

    All of 1..last when there are no more than `count` of them. Raises ValueError for last < 1 or count < 2.
    """
    if last < 1 or count < 2:
        raise ValueError(f"log_spaced needs last >= 1 and count >= 2, got {last} and {count}")
    if last <= count:
        return tuple(range(1, last + 1))
    points = count
    while True:
        ratios = (i / (points - 1) for i in range(points))
        epochs = sorted({round(math.exp(r * math.log(last))) for r in ratios})
        if len(epochs) >= count:
            return tuple(epochs)
        points += 1


def learning_rate_factor(schedule: str, epochs: int) -> Callable[[int], float]:
    """The factor on the base learning rate in epoch 0, 1, ..., epochs - 1.

    "step": x0.1 at one third and again at two thirds, epochs // 3 and 2 epochs // 3 (Papyan, Han & Donoho,
    2020); "cosine": (1 + cos(pi t / epochs)) / 2; "constant": 1.
    """
    epochs = int(epochs)  # comparisons with numpy's whole numbers do not add up
    if schedule == "constant":
        return lambda t: 1.0
    if schedule == "step":
        return lambda t: 0.1 ** ((t >= epochs // 3) + (t >= 2 * epochs // 3))
    if schedule == "cosine":
        return lambda t: (1 + math.cos(math.pi * t / epochs)) / 2
    raise ValueError(f"unknown schedule {schedule!r}: choose one of {', '.join(SCHEDULES)}")


def make_optimizer(
    model: nn.Module, name: str, *, lr: float, weight_decay: float | dict[str, float], momentum: float = 0.9
) -> torch.optim.Optimizer:
    """SGD with momentum, Adam (L2 coupled to the gradient), AdamW (decoupled) or L-BFGS (strong Wolfe).

    `weight_decay` is one number for all parameters or one for each parameter's name. torch's L-BFGS has none:
    `train` adds the penalty weight_decay/2 |p|^2 to the loss it sees, which is what decay means to the other
    optimisers.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    decay = weight_decay if isinstance(weight_decay, dict) else {n: weight_decay for n, _ in named}
    unknown = set(decay) ^ {n for n, _ in named}
    if unknown:
        raise ValueError(
            f"weight_decay must name each trainable parameter once; check {', '.join(sorted(unknown))}"
        )
    if name == "lbfgs":
        optimizer = torch.optim.LBFGS(
            [p for _, p in named], lr=lr, history_size=10, max_iter=20,
            tolerance_grad=0.0, tolerance_change=0.0, line_search_fn="strong_wolfe",
        )  # fmt: skip
        optimizer.penalised = [(p, decay[n]) for n, p in named if decay[n]]
        return optimizer
    groups = [
        {"params": [p for n, p in named if decay[n] == value], "weight_decay": value}
        for value in sorted(set(decay.values()))
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=True)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    raise ValueError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")


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


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    optimizer: torch.optim.Optimizer,
    schedule: str,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    pauses: Collection[int],
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
    drop_last: bool = False,
    autocast: torch.dtype | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[int]:
    """Train on tensors in memory and yield the number of finished epochs at each of `pauses` (0: none yet).

    While paused the caller may do anything that does not write to the model or `generator`; the model is put
    back into train mode afterwards, and pausing more often leaves the final weights bit-identical.
    `generator` owns the order of the samples and seeds, epoch by epoch, layers that draw noise themselves.
    The state goes into `checkpoint` when one is due and after the last epoch; a checkpoint that holds a state
    is resumed from, bit-exactly on the same machine; on a GPU up to cuDNN's choice of algorithms, which it makes
    by timing them. There steps are replayed as a CUDA graph, and convolution weights become channels-last
    (`nclib.graphed`).

    Raises Diverged when the loss is no longer finite.
    """
    training = Training(
        model, x, y, optimizer, schedule, epochs, batch_size, generator, pauses, loss, drop_last, autocast,
        checkpoint,
    )  # fmt: skip
    engine = ENGINE.get()
    epochs_done = None if engine is None else engine(training)
    yield from _alone(training) if epochs_done is None else epochs_done


def _alone(training: Training) -> Iterator[int]:
    """One network by itself, batch after batch, by autograd."""
    by_closure, on_gpu = isinstance(training.optimizer, torch.optim.LBFGS), training.x.is_cuda
    if on_gpu and not by_closure:  # torch's L-BFGS needs contiguous weights, and may go through a batch often
        graphed.channels_last(training.model)
        forward = graphed.compiled(training.model)
        backward = graphed.Replayed(_backward(training, forward), training.optimizer)
    else:
        backward = _backward(training, training.model)
    start = training.begin()
    if start == 0 and 0 in training.pauses:
        yield 0
    for epoch in range(start, training.epochs):
        training.set_rate(epoch)
        training.model.train()
        with graphed.fast_convolutions() if on_gpu else nullcontext():
            mean = _one_epoch(training, backward, by_closure)
        training.check(mean, epoch + 1)
        if epoch + 1 in training.pauses:
            yield epoch + 1
        if training.must_save(epoch + 1):
            training.save(epoch + 1)


def _backward(training: Training, forward: Callable[[Tensor], Tensor]) -> graphed.Backward:
    """A batch's gradients and loss by autograd."""
    optimizer = training.optimizer
    penalised = getattr(optimizer, "penalised", [])
    # No cache: each weight is cast once a step anyway, and a cast kept from before has no place in a CUDA graph.
    precision = (
        torch.autocast(training.x.device.type, training.autocast, cache_enabled=False)
        if training.autocast
        else nullcontext()
    )

    def backward(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with precision:
            value = training.loss(forward(x), y)
        if penalised:
            value = value + sum(0.5 * decay * p.square().sum() for p, decay in penalised)
        value.backward()
        return value.detach()

    return backward


def _one_epoch(training: Training, backward: graphed.Backward, by_closure: bool) -> float:
    """A step on every batch in a new order; the mean loss."""
    x, y, optimizer = training.x, training.y, training.optimizer
    N, B = len(x), training.batch_size
    whole = B >= N
    if whole:
        batches, seed = [slice(None)], training.draw_seed()
    else:
        order, seed = training.draw_order()
        batches = order[: N - N % B].split(B) if training.drop_last else order.split(B)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    # Dropout and the like can only draw from torch's global stream: lend them one that `generator` seeds.
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(seed)
        for batch in batches:
            xb, yb = (x, y) if whole else (x.index_select(0, batch), y.index_select(0, batch))
            if by_closure:
                total += optimizer.step(partial(backward, xb, yb))
            else:
                total += backward(xb, yb)
                optimizer.step()
    return float(total) / len(batches)
