"""Somebody's data, read again and again with the same draws, and left as if it had not been read."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader

_GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
_PART = ("batch_sampler", "sampler", "dataset", "collate_fn", "transform", "transforms", "target_transform")
"""What torch and torchvision call a sampler, a data set or a transform inside another thing."""
_PARTS = ("datasets", "transforms", "_modules")
"""What they call several of these. A sampler or data set may be a long list, too, and holds none."""


@contextmanager
def same_draws(loader: Iterable) -> Iterator[Callable[[], Iterator]]:
    """A function that begins a pass as the first one began; on leaving nothing has been drawn, and no epoch has ended.

    Otherwise measuring would change the training that goes on after it, or around it. Generators are put back: torch's,
    NumPy's and Python's own, and those that a DataLoader, its samplers, its data set, the data sets and transforms
    inside it hold, and a DataLoader that is an attribute of something else. What is held elsewhere is not found.
    """
    parts = _parts(loader)
    rewind = _rewinding(parts)
    # With persistent_workers a DataLoader has one iterator, and whoever asks for another winds that one back: under an
    # epoch that is going on, and with workers whose generators have moved on.
    training = [(part, part._iterator) for part in parts if isinstance(part, DataLoader)]

    def begin() -> Iterator:
        rewind()
        for part, _ in training:
            part._iterator = None  # which ends the workers of the pass before
        return iter(loader)

    try:
        yield begin
    finally:
        for part, iterator in training:
            part._iterator = iterator
        rewind()


def _rewinding(parts: list[object]) -> Callable[[], None]:
    """A function that puts every generator that the data may draw from into its state of now."""
    held = (value for part in parts for value in getattr(part, "__dict__", {}).values())
    states = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),  # noqa: NPY002  # not drawn from, and theirs to draw from
        (torch.default_generator.set_state, torch.default_generator.get_state()),
        # none until CUDA is initialised
        *((generator.set_state, generator.get_state()) for generator in torch.cuda.default_generators),
        *(_state(value) for value in held if _can_rewind(value)),
    ]

    def rewind() -> None:
        for put, state in states:
            put(state)

    return rewind


def _parts(loader: Iterable) -> list[object]:
    """A loader and the loaders, samplers, data sets, transforms and modules inside it, each once."""
    found: dict[int, object] = {}
    to_come: list[object] = [loader]
    while to_come:
        part = to_come.pop()
        if id(part) in found:
            continue
        found[id(part)] = part
        attributes = getattr(part, "__dict__", {})
        to_come += [attributes[name] for name in _PART if name in attributes]
        to_come += [value for value in attributes.values() if isinstance(value, DataLoader)]
        for name in _PARTS:
            inside = attributes.get(name)
            if isinstance(inside, dict | list | tuple):
                to_come += inside.values() if isinstance(inside, dict) else inside
    return list(found.values())


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
