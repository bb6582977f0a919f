"""Eval mode for as long as a network is looked at, and each of its modules in its own mode afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """The model and all its submodules in eval mode; each is back in the mode it was in on leaving, after an error too.

    A network may train with some of its parts in eval mode, such as a frozen batch normalisation, and
    `model.train(mode)` would set them all alike.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
