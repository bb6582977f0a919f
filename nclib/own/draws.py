"""Somebody's data, read again and again with the same draws, and left as if it had not been read."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader

_GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
_PARTS = (
    *("batch_sampler", "sampler", "dataset", "datasets"),
    *("transform", "transforms", "target_transform", "_modules"),
)
"""What torch and torchvision call the samplers, data sets, transforms and modules inside one of them."""


@contextmanager
def same_draws(loader: Iterable) -> Iterator[Callable[[], Iterator]]:
    """A function that begins a pass as the first one began; on leaving nothing has been drawn, and no epoch has ended.

    Otherwise measuring would change the training that goes on after it, or around it. Generators are put back: torch's,
    NumPy's and Python's own, and those that a DataLoader, its samplers, its data set, the data sets and transforms
    inside it hold. What is held elsewhere, or by another kind of loader, is not found.
    """
    rewind = _rewinding(loader)
    keeps_workers = isinstance(loader, DataLoader)
    # With persistent_workers a DataLoader has one iterator, and whoever asks for another winds that one back: under an
    # epoch that is going on, and with workers whose generators have moved on.
    training = loader._iterator if keeps_workers else None

    def begin() -> Iterator:
        rewind()
        if keeps_workers:
            loader._iterator = None  # which ends the workers of the pass before
        return iter(loader)

    try:
        yield begin
    finally:
        if keeps_workers:
            loader._iterator = training
        rewind()


def _rewinding(loader: Iterable) -> Callable[[], None]:
    """A function that puts every generator that the data may draw from into its state of now."""
    states = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),  # noqa: NPY002  # not drawn from, and theirs to draw from
        (torch.default_generator.set_state, torch.default_generator.get_state()),
        # none until CUDA is initialised
        *((generator.set_state, generator.get_state()) for generator in torch.cuda.default_generators),
        *map(_state, _held(loader)),
    ]

    def rewind() -> None:
        for put, state in states:
            put(state)

    return rewind


def _held(loader: Iterable) -> list[object]:
    """The generators that a loader and the parts inside it hold."""
    found: list[object] = []
    seen: set[int] = set()
    parts: list[object] = [loader]
    while parts:
        part = parts.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        attributes = getattr(part, "__dict__", {})
        found += [value for value in attributes.values() if _can_rewind(value)]
        for name in _PARTS:
            inside = attributes.get(name)
            inside = list(inside.values()) if isinstance(inside, dict) else inside
            parts += inside if isinstance(inside, list | tuple) else [inside]
    return found


def _can_rewind(value: object) -> bool:
    return isinstance(value, _GENERATORS) and not isinstance(value, random.SystemRandom)


def _state(generator: object) -> tuple[Callable[[object], None], object]:
    """The function that puts this generator into a state, and the state it is in."""
    if isinstance(generator, random.Random):
        return generator.setstate, generator.getstate()
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return partial(setattr, bits, "state"), bits.state
    return generator.set_state, generator.get_state()
