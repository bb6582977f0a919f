"""The collapse of a network over its own training, measured where the training loop asks for it."""

import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from nclib import tables
from nclib.own.batches import Unpack, inputs_and_labels
from nclib.own.measuring import Classes, measure_with_statistics


class Trajectory:
    """Every metric of a model at the epochs of one's own choice, as a long table::

        watch = nclib.Trajectory(model, {"train": train_loader, "test": test_loader})
        for epoch in range(1, epochs + 1):
            ...  # the training as it is
            watch.measure(epoch)
        watch.save("mine.parquet")

    `loaders` is one loader, which stands for the split "train", or a mapping of split to loader. The other
    options are those of `nclib.measure_model`. Where there is a split "train", the others are also measured
    by the rule of the nearest training mean. `run` and `seed` name this training among others in one table.
    """

    def __init__(
        self,
        model: nn.Module,
        loaders: Iterable | Mapping[str, Iterable],
        *,
        classifier: nn.Module | str | None = None,
        classes: Classes | None = None,
        device: torch.device | str | None = None,
        unpack: Unpack = inputs_and_labels,
        run: str = "mine",
        seed: int = 0,
    ) -> None:
        loaders = loaders if isinstance(loaders, Mapping) else {"train": loaders}
        if not loaders:
            raise ValueError("there is nothing to measure on: name a loader for each split")
        self._model = model
        self._loaders = dict(sorted(loaders.items(), key=lambda item: item[0] != "train"))
        self._options = {"classifier": classifier, "classes": classes, "device": device, "unpack": unpack}
        self._run, self._seed = run, seed
        self._measured: dict[int, dict[str, dict[str, float]]] = {}

    def measure(self, epoch: int) -> dict[str, dict[str, float]]:
        """The metrics of the model as it is now, by split; they are kept as those of this epoch.

        Raises ValueError as `nclib.measure_model` does, and for an epoch that was measured before. Nothing of
        an epoch is kept then.
        """
        if not isinstance(epoch, Integral):
            raise ValueError(f"an epoch is a whole number, got {epoch!r}")
        if epoch in self._measured:
            raise ValueError(f"epoch {epoch} was measured before: each epoch is measured once")
        found: dict[str, dict[str, float]] = {}
        statistics = {}
        for split, loader in self._loaders.items():
            found[split], statistics[split] = measure_with_statistics(
                self._model, loader, **self._options, reference=statistics.get("train")
            )
        self._measured[epoch] = found
        return found

    @property
    def table(self) -> pd.DataFrame:
        """The long table of `nclib.tables`: run, seed, epoch, split, labels, layer, metric, value.

        Labels are taken to be clean, and the layer is the classifier's input. The curves of
        `nclib.plots.terminal_phase` want some parameters of the training as columns besides:
        `watch.table.assign(epochs=..., schedule="constant", train_size=...)`.

        Raises ValueError while nothing has been measured.
        """
        if not self._measured:
            raise ValueError("nothing has been measured: call measure(epoch) first")
        rows = [
            {"epoch": epoch, "split": split, "labels": "clean", "layer": "features", "metric": name, "value": value}
            for epoch, splits in self._measured.items()
            for split, values in splits.items()
            for name, value in values.items()
        ]  # fmt: skip
        return tables.from_rows(rows, run=self._run, seed=self._seed)

    def save(self, path: str | Path) -> None:
        """Write `table` as Parquet, values to seven digits, in one piece; a file of that name is replaced."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            tables.write(self.table, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
