"""Training as a generator: it pauses where asked, and knows nothing of what is measured there."""

import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

OPTIMIZERS = ("sgd", "adam", "adamw", "lbfgs")
SCHEDULES = ("constant", "step", "cosine")


class Diverged(RuntimeError):
    """The training loss stopped being finite; says in which epoch and at which learning rate."""


class Checkpoint(dict):
    """Everything needed to go on after a kill, kept in one file that is replaced whole.

    A dict of plain values and tensors: `train` keeps its state under "training", the caller adds what it has
    measured so far, and both are written together or not at all. Beside the file, `seconds` says how long the
    work has taken. A file that cannot be read is set aside as `*.damaged`, and the work starts over.
    """

    def __init__(self, path: Path, *, every: float = 60.0):
        super().__init__()
        self._path, self._every = path, every
        self._begun = self._saved = time.monotonic()
        if path.exists():
            try:
                self.update(torch.load(path, weights_only=True))
            except Exception:
                path.replace(path.with_suffix(".damaged"))
        self._seconds_before = float(self.get("seconds", 0.0))

    def due(self) -> bool:
        """Whether `every` seconds have passed since the last save."""
        return time.monotonic() - self._saved >= self._every

    def save(self) -> None:
        """Write all of it, atomically."""
        self["seconds"] = self._seconds_before + time.monotonic() - self._begun
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("wb") as handle:
            torch.save(dict(self), handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(self._path)
        (self._path.parent / "seconds").write_text(f"{self['seconds']:.1f}")
        self._saved = time.monotonic()


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
    is resumed from, bit-exactly on the same machine.

    Raises Diverged when the loss is no longer finite.
    """
    factor = learning_rate_factor(schedule, epochs)
    base = [group["lr"] for group in optimizer.param_groups]
    start = 0
    if checkpoint is not None and "training" in checkpoint:
        start = _restore(checkpoint["training"], model, optimizer, generator)
    elif 0 in pauses:
        yield 0
    precision = torch.autocast(x.device.type, autocast) if autocast else nullcontext()
    for epoch in range(start, epochs):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * factor(epoch)
        model.train()
        total = _one_epoch(model, x, y, optimizer, loss, batch_size, drop_last, generator, precision)
        if not math.isfinite(total):
            lr = optimizer.param_groups[0]["lr"]
            raise Diverged(f"the loss is {total} in epoch {epoch + 1} at learning rate {lr:g}")
        if epoch + 1 in pauses:
            yield epoch + 1
        if checkpoint is not None and (checkpoint.due() or epoch + 1 == epochs):
            checkpoint["training"] = _state(epoch + 1, model, optimizer, generator)
            checkpoint.save()


def _one_epoch(model, x, y, optimizer, loss, batch_size, drop_last, generator, precision) -> float:
    N = len(x)
    whole = batch_size >= N
    if whole:
        batches = [slice(None)]
    else:
        order = torch.randperm(N, generator=generator, device=generator.device).to(x.device)
        batches = order[: N - N % batch_size].split(batch_size) if drop_last else order.split(batch_size)
    closure_based = isinstance(optimizer, torch.optim.LBFGS)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    # Dropout and the like can only draw from torch's global stream: lend them one that `generator` seeds.
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        for batch in batches:
            xb, yb = (x, y) if whole else (x.index_select(0, batch), y.index_select(0, batch))

            def backward(xb=xb, yb=yb) -> Tensor:
                optimizer.zero_grad(set_to_none=True)
                with precision:
                    value = loss(model(xb), yb)
                if closure_based:
                    value = value + sum(0.5 * decay * p.square().sum() for p, decay in optimizer.penalised)
                value.backward()
                return value

            if closure_based:
                total += optimizer.step(backward).detach()
            else:
                total += backward().detach()
                optimizer.step()
    return float(total) / len(batches)


def _state(
    epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> dict:
    return {
        "epoch": epoch,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
    }


def _restore(
    state: dict, model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> int:
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"].cpu())
    return state["epoch"]
