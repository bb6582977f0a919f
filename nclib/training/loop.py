"""The training loop: steps epoch after epoch, with pauses in which the caller measures."""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from nclib import graphed
from nclib.training.checkpoint import Checkpoint
from nclib.training.engine import ENGINE, Training


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
        # L-BFGS compares losses to their last digits, which TF32 does not have.
        with graphed.fast_convolutions() if on_gpu and not by_closure else nullcontext():
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
