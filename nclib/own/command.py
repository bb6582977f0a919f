"""`nclib measure`: a model and its data from somebody's module, as a table on the terminal or in a file."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryFile
from types import ModuleType

from torch import nn

from nclib import tables
from nclib.own.batches import inputs_and_labels
from nclib.own.checkpoints import TRACEBACK, by_epoch, load, one_line
from nclib.own.measuring import Classes
from nclib.own.trajectory import Trajectory, parquet_path

_SHOWN = ("error", "loss", "nc1_trace_ratio", "nc2_cos_dev_means", "nc3_frobenius", "nc4_mismatch")
"""What a line of a split and layer shows; the file has every metric."""
_TYPED = {
    "classes=[...]": "--classes",
    "classifier=...": "--classifier",
    "device=...": "--device",
    "unpack=lambda batch: (inputs, labels)": "--unpack MODULE:FUNCTION",
    "for example with layers=": "in Python with layers=",
    "with nclib.": "in Python with nclib.",
}
"""What messages advise in Python, and what is typed instead."""


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
    it is or under "state_dict", "model" or "model_state_dict", also with one prefix before all its names; its epoch
    is the number after "epoch" in the file's name (`epoch=3-step=1250.ckpt`), or else the last number there. `unpack`
    names, as MODULE:FUNCTION too, what turns a batch of another form into (inputs, labels). `layers`, dotted names
    with commas between them, are measured too, a line each. `output` gets the long table.

    Raises ValueError, in one line, for whatever is wrong with any of these; nothing is written then.
    """
    if output is not None and output.exists():
        raise ValueError(f"{output} is there already: name another file, or remove it")
    if output is not None:
        _check_folder(parquet_path(output))
    chosen = _classes(classes)
    paths = by_epoch(checkpoints) if checkpoints is not None else {}
    model, loaders = _model_and_loaders(target)
    watch = Trajectory(
        model, loaders, classifier=classifier, classes=chosen, device=device,
        unpack=inputs_and_labels if unpack is None else _function(unpack, "mine.py:unpack"),
        layers=[name.strip() for name in layers.split(",")] if layers else (),
    )  # fmt: skip
    saved = output is not None
    if not paths:
        _print(_all_lines(_measured(watch, 0, target)), saved=saved)
        if layers:
            _print(["", *_lines(watch, 0, heading=True)], saved=saved)
    for epoch, path in paths.items():
        load(model, path)
        _measured(watch, epoch, f"{target} with {path}")
        _print(_lines(watch, epoch, heading=epoch == next(iter(paths))), saved=saved)
    if output is not None:
        watch.save(output)


def _check_folder(output: Path) -> None:
    """ValueError for a folder that nothing can be written into, before hours are spent on what goes there."""
    if not output.parent.is_dir():
        raise ValueError(f"there is no folder {output.parent} to write {output.name} into: make it first")
    try:
        TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise ValueError(
            f"nothing can be written into the folder {output.parent} ({error.strerror}): name another one"
        ) from error


def _print(lines: Iterable[str], *, saved: bool) -> None:
    """Print at once; if they are saved too, it is no matter that nobody reads any more (head, less)."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        if not saved:
            raise
        sys.stdout = None  # where print does nothing


def _all_lines(values: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    names = list(dict.fromkeys(name for metrics in values.values() for name in metrics))
    yield f"{'metric':26}" + "".join(f" {split:>12}" for split in values) + "  label"
    for name in names:
        cells = (f"{metrics[name]:12.6g}" if name in metrics else " " * 12 for metrics in values.values())
        yield f"{name:26}" + "".join(f" {cell}" for cell in cells) + f"  {tables.METRICS[name]}"


def _lines(watch: Trajectory, epoch: int, *, heading: bool) -> Iterator[str]:
    """A line for each split and, where there are several, each layer: a hidden one has less to show."""
    rows = tables.select(watch.table, epoch=epoch)
    several = rows.layer.nunique() > 1
    width = max(map(len, rows.layer))
    if heading:
        column = f" {'layer':{width}}" if several else ""
        yield f"{'epoch':>6} {'split':8}{column}" + "".join(f" {name:>17}" for name in _SHOWN)
    for (split, layer), measured in rows.groupby(["split", "layer"], sort=False):
        values = dict(zip(measured.metric, measured.value, strict=True))
        column = f" {layer:{width}}" if several else ""
        cells = (f" {values[name]:17.6g}" if name in values else " " * 18 for name in _SHOWN)
        yield (f"{epoch:6} {split:8}{column}" + "".join(cells)).rstrip()


def _measured(watch: Trajectory, epoch: int, what: str) -> dict[str, dict[str, float]]:
    try:
        return watch.measure(epoch)
    except Exception as error:
        message = str(error)
        if not isinstance(error, ValueError) or TRACEBACK in message:  # the model's or the loader's own
            raise ValueError(f"{what} cannot be measured: {one_line(error)}") from error
        for python, typed in _TYPED.items():
            message = message.replace(python, typed)
        raise ValueError(message) from error


def _model_and_loaders(target: str) -> tuple[nn.Module, Iterable]:
    """What the function named by MODULE:FUNCTION returns."""
    function = _function(target, "mine.py:model_and_loader")
    try:
        returned = function()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{target} failed: {one_line(error)}") from error
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
        raise ValueError(f"{name} cannot be imported: {one_line(error)}") from error


def _classes(text: str | None) -> Classes | None:
    """The labels "3,7,11", one a row, or the label and row of some, "3:0,11:2"."""
    if text is None:
        return None
    try:
        pairs = [[int(number) for number in part.split(":")] for part in text.split(",")]
        chosen = dict(pairs) if ":" in text else [label for (label,) in pairs]
    except ValueError:
        raise ValueError(f"--classes: cannot read {text!r}: write labels as 3,7,11 or 3:0,11:2") from None
    labels = [label for label, *_ in pairs]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f"--classes: label {label} is there {labels.count(label)} times in {text!r}: name it once"
            )
    return chosen
