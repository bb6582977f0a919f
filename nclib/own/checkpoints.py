"""Weights of somebody's network in files: which epoch each is of, and what is wrong with one that does not fit."""

import re
from collections.abc import Mapping
from glob import glob
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

TRACEBACK = "Traceback (most recent call last)"
_INSIDE = ("state_dict", "model", "model_state_dict")
"""Where trainers put the weights among other things."""


def by_epoch(pattern: str) -> dict[int, Path]:
    """Epoch to file, in order of epochs."""
    paths = sorted(map(Path, glob(pattern, recursive=True)))
    if not paths:
        raise ValueError(f"no file matches {pattern}")
    folder = next(filter(Path.is_dir, paths), None)
    if folder is not None:
        raise ValueError(
            f"{folder} is a folder: give a file or a pattern of files, as in --checkpoints '{folder}/*.pt'"
        )
    found: dict[int, Path] = {}
    for path in paths:
        numbers = re.findall(r"epoch[=_-]?(\d+)", path.stem, re.IGNORECASE) or re.findall(r"\d+", path.stem)
        if not numbers:
            raise ValueError(f"{path.name} has no number in its name, which would be the epoch")
        epoch = int(numbers[-1])
        if epoch in found:
            raise ValueError(f"{found[epoch].name} and {path.name} are both of epoch {epoch}")
        found[epoch] = path
    return dict(sorted(found.items()))


def load(model: nn.Module, path: Path) -> None:
    """Give the model a checkpoint's weights; ValueError, in one line, for a file that holds none of it."""
    content = _content(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}: save model.state_dict()")
    inside = next((content[name] for name in _INSIDE if isinstance(content.get(name), Mapping)), content)
    wrapping = _wrapping(inside, model.state_dict())
    if wrapping:
        consume_prefix_in_state_dict_if_present(inside, wrapping)
    try:
        model.load_state_dict(inside)
    except Exception as error:
        raise ValueError(f"{path} does not match the model: {_mismatch(inside, model, error)}") from error


def _content(path: Path) -> object:
    """What a checkpoint holds, if these are tensors and plain values alone: all else would run its author's code."""
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty: save model.state_dict() again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        foreign = _foreign(path)
        if foreign:
            raise ValueError(
                f"{path} cannot be loaded, as it holds more than tensors ({foreign}): save model.state_dict() alone"
            ) from error
        raise ValueError(f"{path} is no checkpoint: {one_line(error)}") from error


def _foreign(path: Path) -> str:
    """The classes and functions that a checkpoint asks for besides tensors, those that are not torch's first."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it is no checkpoint
        return ""
    names = sorted(names, key=lambda name: (name.startswith("torch."), name))
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _wrapping(given: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """What stands before every key of what DDP, Lightning or torch.compile wrapped: "module.", "model." or so."""
    first = str(next(iter(given), ""))
    for prefix in (first[: place + 1] for place, letter in enumerate(first) if letter == "."):
        stripped = [str(name)[len(prefix) :] for name in given if str(name).startswith(prefix)]
        if wanted.keys() == set(stripped) and len(given) == len(wanted):
            return prefix
    return ""


def _mismatch(given: Mapping[str, object], model: nn.Module, error: Exception) -> str:
    """What a checkpoint lacks and has besides, or the first tensor of another shape."""
    wanted = model.state_dict()
    missing, unexpected = ([k for k in a if k not in b] for a, b in ((wanted, given), (given, wanted)))
    if len(missing) == len(wanted):
        where = ", ".join(f'"{name}"' for name in _INSIDE)
        return (
            f"none of its {len(wanted)} weights is in the file, as it is or under {where}; the file has "
            f"{_first_of(unexpected)}"
        )
    parts = [
        f"{_first_of(keys)} {what}"
        for keys, what in ((missing, "missing"), (unexpected, "unexpected"))
        if keys
    ]
    if parts:
        return " and ".join(parts)
    for name, value in wanted.items():
        shapes = [tuple(tensor.shape) for tensor in (given[name], value) if isinstance(tensor, Tensor)]
        if len(set(shapes)) == 2:
            return f"{name} is {shapes[0]} in the file and {shapes[1]} in the model"
    return one_line(error)


def _first_of(keys: list[str]) -> str:
    """Their number and the first: "3 keys (fc.weight, ...)"."""
    if not keys:
        return "nothing"
    return f"{len(keys)} key{'s' if len(keys) > 1 else ''} ({keys[0]}{', ...' if len(keys) > 1 else ''})"


def one_line(error: BaseException) -> str:
    """An error's type and message, cut where it goes on for pages; a traceback's cause, which is its last line."""
    if TRACEBACK in str(error):  # a DataLoader's worker hands its own on
        return str(error).strip().splitlines()[-1]
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:200]}" + ("..." if len(message) > 200 else "")
