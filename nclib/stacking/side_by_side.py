"""Several pieces of work in lock-step: where they train networks of one shape, they train as one stack.

Each piece runs in a thread of its own, but only ever one at a time. All are taken to where they call
`nclib.training.train`; a stack trains those that fit together; and whoever's pause it is goes on to measure,
while the others wait. The work's code is the same whether it is alone, stacked, or neither.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nclib.stacking.network import StackedNetwork, StackedOptimizer
from nclib.training.engine import ENGINE, Stopped, Training


@dataclass(frozen=True)
class Outcome:
    """What a piece of work returned, or the exception that ended it."""

    result: Any = None
    error: BaseException | None = None


def side_by_side(works: Sequence[Callable[[], Any]]) -> list[Outcome]:
    """Do all of these, training together where the networks allow it; one outcome each, in their order.

    An exception ends the work it comes from, and no other.
    """
    workers = [_Worker(work) for work in works]
    try:
        for worker in workers:
            worker.go_on()
        while waiting := [w for w in workers if w.training is not None]:
            together: dict[_Worker, Training] = {}
            for worker in waiting:
                if worker.fits(together):
                    together[worker] = worker.training
            try:
                _train(list(together))
            except Exception as error:  # of the stack as such: no memory left, labels that are no classes
                for worker, request in together.items():
                    if worker.training is request:
                        worker.refuse(error)
    finally:
        for worker in workers:
            worker.abandon()
    return [Outcome(worker.result, worker.error) for worker in workers]


def takes(request: Training) -> bool:
    """Whether a stack can do this training. It depends on the kind of network and optimiser alone."""
    try:
        StackedNetwork([request.model])
    except (TypeError, AttributeError):
        return False
    trained = {id(p) for group in request.optimizer.param_groups for p in group["params"]}
    return (
        StackedOptimizer.takes(request.optimizer)
        and trained == {id(p) for p in request.model.parameters()}
        and request.y.ndim == 1
        and request.loss is torch.nn.functional.cross_entropy
        and request.autocast is None
        and request.batch_size < len(request.x)
    )


class _Worker(threading.Thread):
    """A piece of work that stops where it wants to train, and goes on when it is told to."""

    def __init__(self, work: Callable[[], Any]):
        super().__init__(daemon=True)
        self._work, self._go, self._back = work, threading.Semaphore(0), threading.Semaphore(0)
        self.training: Training | None = None
        self.done = 0
        self.result: Any = None
        self.error: BaseException | None = None
        self._pause: int | None = None
        self._refusal: BaseException | None = None
        self.start()

    def run(self) -> None:
        self._go.acquire()
        # What is trained in the middle of another training does not wait for the stack of that one.
        ENGINE.set(
            lambda request: self._epochs(request) if self.training is None and takes(request) else None
        )
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error
        self.training = None
        self._back.release()

    def go_on(self) -> None:
        """Let the work continue until it waits for training again, or ends."""
        self._go.release()
        self._back.acquire()

    def _epochs(self, request: Training) -> Iterator[int]:
        """In the work's own thread: what `train` yields, while a stack does the training."""
        self.training = request
        try:
            self.done = request.begin()
            if self.done == 0 and 0 in request.pauses:
                yield 0
            if self.done >= request.epochs:
                return
            while True:
                self._back.release()
                self._go.acquire()
                if self._refusal is not None:
                    raise self._refusal
                if self._pause is None:
                    return
                yield self._pause
        finally:
            self.training = None

    def fits(self, others: Collection["_Worker"]) -> bool:
        """Whether it can be trained in one stack with these."""
        # Kinds of optimiser share a stack, but it has one set of Adam's constants and one count of its steps.
        adam = {worker._adam() for worker in (self, *others)} - {None}
        return all(self._shape() == other._shape() for other in others) and len(adam) < 2

    def _shape(self) -> tuple:
        request = self.training
        return (
            type(request.model), tuple(p.shape for p in request.model.parameters()),
            request.x.shape, request.x.dtype, request.x.device,
            request.batch_size, request.drop_last, request.epochs, self.done,
        )  # fmt: skip

    def _adam(self) -> tuple | None:
        optimizer = self.training.optimizer
        group = optimizer.param_groups[0]
        if "betas" not in group:
            return None
        return group["betas"], group["eps"], StackedOptimizer.steps_of(optimizer)

    def after(self, epoch: int, loss: float, store: Callable[[], None]) -> bool:
        """Measure and save what is due after an epoch, counted from 1; whether it trains on."""
        request, self.done = self.training, epoch
        last = epoch == request.epochs
        try:
            request.check(loss, epoch)
            if epoch in request.pauses:
                store()
                self._pause = epoch
                self.go_on()
            # In its pause the work may have left this training, and may even have begun another.
            if self.training is request and (last or request.must_save(epoch)):
                store()
                request.save(epoch)
        except (Exception, Stopped) as error:
            self.refuse(error)
        if self.training is request and last:
            self._pause = None
            self.go_on()
        return self.training is request

    def refuse(self, error: BaseException) -> None:
        """Let the training that the work waits for fail with this error."""
        self._refusal = error
        self.go_on()
        self._refusal = None

    def abandon(self) -> None:
        """End work that still waits because its stack broke down."""
        while self.training is not None:
            self.refuse(RuntimeError("the stack that it was trained in broke down"))


def _train(workers: list[_Worker]) -> None:
    """Train these as one stack to the last epoch; one that ends early is taken out of it."""
    while workers:
        requests = [worker.training for worker in workers]
        stack = _Stack(requests)
        for epoch in range(workers[0].done, requests[0].epochs):
            losses = stack.train_one_epoch(epoch)
            going_on = [
                worker.after(epoch + 1, losses[e], partial(stack.store, e))
                for e, worker in enumerate(workers)
            ]
            if not all(going_on):
                for e in [e for e, still in enumerate(going_on) if still]:
                    stack.store(e)
                workers = [worker for worker, still in zip(workers, going_on, strict=True) if still]
                break


class _Stack:
    """The trainings of one stack: their data, networks and optimisers."""

    def __init__(self, requests: Sequence[Training]):
        self._requests = requests
        self._x = torch.cat([r.x for r in requests])
        self._y = torch.stack([r.y for r in requests])
        self._network = StackedNetwork([r.model for r in requests])
        self._optimizer = StackedOptimizer(
            self._network.flat, [r.model for r in requests], [r.optimizer for r in requests]
        )

    @torch.no_grad()
    def train_one_epoch(self, epoch: int) -> list[float]:
        """One pass over the data, counted from 0; every network's mean loss over its batches."""
        for request in self._requests:
            request.set_rate(epoch)
        self._optimizer.set_rates([r.optimizer.param_groups[0]["lr"] for r in self._requests])
        order = torch.stack([r.draw_order()[0] for r in self._requests])
        E, N = order.shape
        y = self._y.gather(1, order)
        index = order + torch.arange(E, device=order.device).mul_(N).unsqueeze(1)
        B = self._requests[0].batch_size
        used = N - N % B if self._requests[0].drop_last else N
        losses = [self._step(index[:, i : i + B], y[:, i : i + B]) for i in range(0, used, B)]
        return torch.stack(losses).double().mean(0).tolist()

    def _step(self, index: Tensor, y: Tensor) -> Tensor:
        E, B = index.shape
        x = self._x.index_select(0, index.flatten()).unflatten(0, (E, B)).permute(0, 2, 3, 1)
        losses = self._network.losses_and_gradients(x, y)
        self._optimizer.step()
        return losses

    @torch.no_grad()
    def store(self, e: int) -> None:
        """Give the e-th network and optimiser back what training has made of them."""
        self._network.store(e)
        self._optimizer.store(e)
        self._requests[e].model.train()
