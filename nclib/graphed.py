"""Gradients from one CUDA graph: the GPU does not wait for Python to launch a step's few hundred kernels.

A step of a narrow network keeps a GPU busy for one or two milliseconds and Python for several. Here forward and
backward pass are captured once and then replayed by one launch. The optimiser's step is not part of the graph: it is
a launch or two, its learning rate changes, and its state is replaced when a checkpoint is resumed from.
"""

import gc
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache

import torch
from torch import Tensor, nn

WARM_UP = 3
"""Steps before the capture: they make cuDNN choose its algorithms, and whatever else is done once."""

Backward = Callable[[Tensor, Tensor], Tensor]
"""Takes a batch (x, y), leaves the gradients of its loss in the weights' `grad`, and returns the loss."""


class Replayed:
    """A `Backward` on CUDA, replayed as a graph for every batch that is as large as the first one.

    The first `WARM_UP` batches and those of another size are done as they come, by `backward` itself, which
    must begin by setting gradients to None, so that the graph writes them and does not add to them. Numbers are
    those of `backward`. The loss that is returned holds until the next call.

    A function that draws random numbers (dropout) or that CUDA refuses to capture is never replayed: one line
    on stderr says so, and every batch is done as it comes.
    """

    def __init__(self, backward: Backward, optimizer: torch.optim.Optimizer):
        self._backward = backward
        self._weights = [p for group in optimizer.param_groups for p in group["params"]]
        self._batch: tuple[Tensor, Tensor] | None = None
        self._warm_ups, self._eager = 0, False
        self._replay: Callable[[], None] | None = None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss; gradients are in the weights."""
        if self._batch is None:
            self._batch = torch.empty_like(x), torch.empty_like(y)
        if self._eager or x.shape != self._batch[0].shape:
            return self._backward(x, y)
        if self._warm_ups < WARM_UP:
            return self._warm_up(x, y)
        for buffer, given in zip(self._batch, (x, y), strict=True):
            buffer.copy_(given)
        if self._replay is None and not self._capture():
            return self._backward(x, y)
        self._replay()
        # Whoever came between, a batch of another size or a measurement, may have put others there.
        for p, gradient in zip(self._weights, self._gradients, strict=True):
            p.grad = gradient
        return self._loss

    def _warm_up(self, x: Tensor, y: Tensor) -> Tensor:
        before = _random_state(x.device)
        loss = beside(lambda: self._backward(x, y), x.device)
        self._warm_ups += 1
        after = _random_state(x.device)
        if self._warm_ups == WARM_UP and not all(map(torch.equal, before, after)):
            self._give_up("the network draws random numbers")
        return loss

    def _capture(self) -> bool:
        try:
            self._replay, self._loss = captured(lambda: self._backward(*self._batch), self._batch[0].device)
        except RuntimeError as error:  # also what CUDA and its allocator raise
            first = error.__context__ or error  # the end of a capture that has failed fails, too
            self._give_up(str(first).strip().partition("\n")[0])
        else:
            self._gradients = [p.grad for p in self._weights]
        return not self._eager

    def _give_up(self, reason: str) -> None:
        self._eager = True
        print(f"nclib: training without a CUDA graph: {reason}", file=sys.stderr)


def beside(work: Callable[[], Tensor], device: torch.device) -> Tensor:
    """What `work` returns, done on a stream of its own, as CUDA wants it before a capture."""
    here, there = torch.cuda.current_stream(device), _side_stream(device)
    there.wait_stream(here)
    with torch.cuda.stream(there):
        result = work()
    here.wait_stream(there)
    return result


def captured(work: Callable[[], Tensor], device: torch.device) -> tuple[Callable[[], None], Tensor]:
    """A function that does `work` again in the same memory, and the tensor that holds its result afterwards.

    The work is not done yet. Raises RuntimeError if CUDA cannot capture it.
    """
    graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device)
    with torch.cuda.device(device):
        try:
            gc.collect()  # what is freed during a capture voids it
            with torch.cuda.graph(graph, stream=_side_stream(device)):
                result = work()
        except RuntimeError:
            torch.cuda.set_stream(here)  # a capture that fails does not come back from its own stream
            raise
    return graph.replay, result


def channels_last(model: nn.Module) -> None:
    """Put the weights of two-dimensional convolutions, in place, into the order of channels-last activations.

    Otherwise cuDNN reorders them at every step. The values, and who else holds the weights, stay the same.
    """
    model.to(memory_format=torch.channels_last)


def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network's forward pass, compiled by torch where $NCLIB_COMPILE is 1: fewer kernels, a minute's wait.

    Needs Triton and a C compiler. Rounding differs from that of the network itself.
    """
    return torch.compile(model, dynamic=False) if os.environ.get("NCLIB_COMPILE") == "1" else model


def fast_convolutions() -> AbstractContextManager[None]:
    """Within: cuDNN times its algorithms, takes the fastest deterministic one, and may use TF32 for float32.

    TF32 keeps 10 of 23 bits of a factor's mantissa, and is for training only. Afterwards all is as before.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=True, allow_tf32=True)


def _random_state(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
