"""`nclib measure`: a model and its data from somebody's module, as a table on the terminal or in a file."""

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from glob import glob
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from nclib import tables
from nclib.own.batches import inputs_and_labels
from nclib.own.measuring import Classes
from nclib.own.trajectory import Trajectory

_SHOWN = ("error", "loss", "nc1_trace_ratio", "nc2_cos_dev_means", "nc3_frobenius", "nc4_mismatch")
"""What a line of a split and layer shows; the file has every metric."""
_INSIDE = ("state_dict", "model", "model_state_dict")
"""Where trainers put the weights among other things."""


def measure(
    target: str,
    *,
    checkpoints: str | None = None,
    classifier: str | None = None,
    classes: str | None = None,
    unpack: str | None = None,
    device: str | None = None,
    layers: str | None = None,
    output: Path | None = None,
) -> None:
    """Print the metrics of what MODULE:FUNCTION returns: as it is (epoch 0), or a line for each checkpoint.

    The function returns (model, loader), or (model, {"train": loader, ...}). A checkpoint is a state_dict, as
    it is or under "state_dict", "model" or "model_state_dict"; its epoch is the number after "epoch" in the
    file's name (`epoch=3-step=1250.ckpt`), or else the last number there. `unpack` names, as MODULE:FUNCTION too,
    what turns a batch of another form into (inputs, labels). `layers`, dotted names with commas between them, are
    measured too, a line each. `output` gets the long table.

    Raises ValueError, in one line, for whatever is wrong with any of these; nothing is written then.
    """
    if output is not None and output.exists():
        raise ValueError(f"{output} is there already: name another file, or remove it")
    if output is not None and not output.parent.is_dir():
        raise ValueError(f"there is no folder {output.parent} to write {output.name} into: make it first")
    chosen = _classes(classes)
    paths = _by_epoch(checkpoints) if checkpoints is not None else {}
    model, loaders = _model_and_loaders(target)
    watch = Trajectory(
        model, loaders, classifier=classifier, classes=chosen, device=device,
        unpack=inputs_and_labels if unpack is None else _function(unpack, "mine.py:unpack"),
        layers=[name.strip() for name in layers.split(",")] if layers else (),
    )  # fmt: skip
    if not paths:
        _print_all(_measured(watch, 0, target))
        if layers:
            print()
            _print_lines(watch, 0, heading=True)
    for epoch, path in paths.items():
        _load(model, path)
        _measured(watch, epoch, f"{target} with {path}")
        _print_lines(watch, epoch, heading=epoch == next(iter(paths)))
    if output is not None:
        watch.save(output)


def _print_all(values: Mapping[str, Mapping[str, float]]) -> None:
    names = list(dict.fromkeys(name for metrics in values.values() for name in metrics))
    print(f"{'metric':26}" + "".join(f" {split:>12}" for split in values) + "  label")
    for name in names:
        cells = (f"{metrics[name]:12.6g}" if name in metrics else " " * 12 for metrics in values.values())
        print(f"{name:26}" + "".join(f" {cell}" for cell in cells) + f"  {tables.METRICS[name]}")


def _print_lines(watch: Trajectory, epoch: int, *, heading: bool) -> None:
    """A line for each split and, where there are several, each layer: a hidden one has less to show."""
    rows = tables.select(watch.table, epoch=epoch)
    several = rows.layer.nunique() > 1
    width = max(map(len, rows.layer))
    if heading:
        column = f" {'layer':{width}}" if several else ""
        print(f"{'epoch':>6} {'split':8}{column}" + "".join(f" {name:>17}" for name in _SHOWN))
    for (split, layer), measured in rows.groupby(["split", "layer"], sort=False):
        values = dict(zip(measured.metric, measured.value, strict=True))
        column = f" {layer:{width}}" if several else ""
        cells = (f" {values[name]:17.6g}" if name in values else " " * 18 for name in _SHOWN)
        print((f"{epoch:6} {split:8}{column}" + "".join(cells)).rstrip())


def _measured(watch: Trajectory, epoch: int, what: str) -> dict[str, dict[str, float]]:
    try:
        return watch.measure(epoch)
    except ValueError:
        raise
    except Exception as error:  # the model's or the loader's own
        raise ValueError(f"{what} cannot be measured: {_one_line(error)}") from error


def _model_and_loaders(target: str) -> tuple[nn.Module, Iterable]:
    """What the function named by MODULE:FUNCTION returns."""
    function = _function(target, "mine.py:model_and_loader")
    try:
        returned = function()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{target} failed: {_one_line(error)}") from error
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], nn.Module)):
        raise ValueError(f"{target} must return (model, loader) or (model, {{split: loader}})")
    return returned


def _function(named: str, example: str) -> Callable:
    """The function that MODULE:FUNCTION names."""
    module_name, colon, name = named.rpartition(":")
    if not (module_name and colon and name.isidentifier()):
        raise ValueError(f"{named!r} is no MODULE:FUNCTION: write for example {example}")
    function = getattr(_module(module_name), name, None)
    if not callable(function):
        raise ValueError(f"{module_name} has no function {name}")
    return function


def _module(name: str) -> ModuleType:
    """A module by dotted name or by path, its folder (or the working directory) on the path of imports."""
    path = Path(name)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise ValueError(f"there is no file {name} in {Path.cwd()}")
    loaded = getattr(sys.modules.get(path.stem), "__file__", None) if is_file else None
    if loaded is not None and path.resolve() == Path(loaded).resolve():
        return sys.modules[path.stem]  # another function of the same command stands in it
    sys.path.insert(0, str(path.parent.resolve() if is_file else Path.cwd()))
    try:
        if not is_file:
            return importlib.import_module(name)
        spec = spec_from_file_location(path.stem, path)
        module = module_from_spec(spec)
        sys.modules[path.stem] = module  # dataclasses and pickle look their module up
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} cannot be imported: {_one_line(error)}") from error


def _classes(text: str | None) -> Classes | None:
    """The labels "3,7,11", one a row, or the label and row of some, "3:0,11:2"."""
    if text is None:
        return None
    try:
        pairs = [[int(number) for number in part.split(":")] for part in text.split(",")]
        return dict(pairs) if ":" in text else [label for (label,) in pairs]
    except ValueError:
        raise ValueError(f"--classes: cannot read {text!r}: write labels as 3,7,11 or 3:0,11:2") from None


def _by_epoch(pattern: str) -> dict[int, Path]:
    """Epoch to file, in order of epochs."""
    paths = sorted(map(Path, glob(pattern, recursive=True)))
    if not paths:
        raise ValueError(f"no file matches {pattern}")
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


def _load(model: nn.Module, path: Path) -> None:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        inside = next((content[name] for name in _INSIDE if isinstance(content.get(name), Mapping)), content)
        model.load_state_dict(inside)
    except Exception as error:
        raise ValueError(
            f"{path} does not match the model, or is no checkpoint: {_one_line(error)}"
        ) from error


def _one_line(error: BaseException) -> str:
    """An error's type and message, cut where a state_dict's goes on for pages."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:200]}" + ("..." if len(message) > 200 else "")
