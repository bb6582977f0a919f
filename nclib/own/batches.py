"""What a batch of somebody's loader holds: what the model is called with, and the labels."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from nclib.stats import as_tensor

Unpack = Callable[[object], tuple[object, object]]
"""From a batch, as the loader gives it, to its inputs and its labels."""
LABELS = ("labels", "label", "targets", "target")
"""The names under which a mapping may hold its labels."""


def inputs_and_labels(batch: object) -> tuple[object, object]:
    """The first two entries of a tuple or list, or everything in a mapping but its labels, and those.

    Raises ValueError, in one line, for a batch that is neither, and for one whose labels have none of the names in
    `LABELS`, or several.
    """
    if isinstance(batch, Mapping):
        named = [name for name in LABELS if name in batch]
        if len(named) != 1:
            raise ValueError(
                f"the batch has {', '.join(map(str, batch))}, where one of {', '.join(LABELS)} should be: say where "
                "the labels are with unpack=lambda batch: (inputs, labels)"
            )
        return {name: value for name, value in batch.items() if name != named[0]}, batch[named[0]]
    if not isinstance(batch, list | tuple) or len(batch) < 2:
        raise ValueError(
            f"the loader must give (inputs, labels), got a {type(batch).__name__}: say what is what with "
            "unpack=lambda batch: (inputs, labels)"
        )
    return batch[0], batch[1]


def unpacked(
    batch: object, device: torch.device, unpack: Unpack = inputs_and_labels
) -> tuple[tuple, dict[str, object], Int[Tensor, " n"]]:
    """The arguments of the model by place and by name, their tensors and arrays on the device; the labels.

    A tuple or list of inputs are several arguments, a mapping are arguments by name, and a tensor, array or packed
    sequence is one.

    Raises ValueError, in one line, for inputs that are none of these, and labels that are not integers (n,).
    """
    pair = unpack(batch)
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ValueError(f"unpack must return (inputs, labels), got a {type(pair).__name__}")
    inputs, labels = _on(pair[0], device), _as_labels(pair[1])
    if isinstance(inputs, dict):
        return (), inputs, labels
    if isinstance(inputs, Tensor | PackedSequence):
        return (inputs,), {}, labels
    if not isinstance(inputs, list | tuple):
        raise ValueError(
            f"inputs must be a tensor, or a tuple or mapping of arguments, got a {type(inputs).__name__}"
        )
    return tuple(inputs), {}, labels


def _on(value: object, device: torch.device) -> object:
    """The same with every tensor and array in it as a tensor on the device; named and packed tuples stay such."""
    if isinstance(value, PackedSequence):  # a tuple too, which keeps some of its tensors on the CPU
        return value.to(device)
    if isinstance(value, Tensor) or (
        isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc"
    ):
        return as_tensor(value).to(device)
    if isinstance(value, Mapping):
        return {name: _on(entry, device) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [_on(entry, device) for entry in value]
        if hasattr(value, "_make"):
            return value._make(entries)
        return entries if isinstance(value, list) else tuple(entries)
    return value


def _as_labels(value: object) -> Int[Tensor, " n"]:
    try:
        labels = as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"labels must be integers (n,), got a {type(value).__name__} of others") from None
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or labels.ndim != 1:
        raise ValueError(
            f"labels must be integers (n,), got {labels.dtype} {tuple(labels.shape)}: make them so with "
            "unpack=lambda batch: (inputs, labels), of one-hot rows by labels.argmax(1)"
        )
    return labels.long()
