"""The collapse of a network over its own training, measured where the training loop asks for it."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from nclib import tables
from nclib.geometry import simplex_picture
from nclib.own.batches import Unpack, inputs_and_labels
from nclib.own.layers import Layers
from nclib.own.measuring import Classes, Reading, reading
from nclib.stats import ClassStats
from nclib.streams import first_of_each

SHOWN = 20
"""Features of each class that a picture has, as those of `nclib.studies.terminal_phase`."""


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

    `layers` are dotted names of modules whose outputs are measured in the same passes, by those metrics that need no
    classifier: vectors (n, p) as they are, channels (n, p, h, w) averaged over positions, and (n, h, w, p) of an
    `nn.Linear` or `nn.LayerNorm` too. For any other output give
    a mapping from the name to a function that makes (n, p) of it: `{"blocks.3": lambda output: output[:, 0]}`. Each
    takes up to 3 p^2 float64 numbers. `nclib.plots.anatomy.layers` draws them.

    `pictures=True` keeps `arrays` of the split "train" too, which `nclib.plots.animation.slider` and
    `nclib.plots.terminal_phase.grams` draw: 2 K (d + 11 K) numbers an epoch, meant for tens of classes. Not measured,
    unlike in a study of this book, are spectra and adversarial distances.
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
        layers: Layers = (),
        run: str = "mine",
        seed: int = 0,
        pictures: bool = False,
    ) -> None:
        loaders = loaders if isinstance(loaders, Mapping) else {"train": loaders}
        if not loaders:
            raise ValueError("there is nothing to measure on: name a loader for each split")
        for split in loaders:
            if not isinstance(split, str):
                raise ValueError(f'a split is named by a string, as "train" is, got {split!r}')
        if pictures and "train" not in loaders:
            raise ValueError(f'pictures are of the split "train", and the splits are {", ".join(loaders)}')
        self._model = model
        self._loaders = dict(sorted(loaders.items(), key=lambda item: item[0] != "train"))
        self._options = {
            "classifier": classifier, "classes": classes, "device": device, "unpack": unpack, "layers": layers,
        }  # fmt: skip
        self._run, self._seed = run, seed
        self._pictures = pictures
        self._measured: dict[int, dict[str, dict[str, dict[str, float]]]] = {}  # epoch, split, layer, metric
        self._drawn: dict[int, dict[str, Tensor]] = {}

    def measure(self, epoch: int) -> dict[str, dict[str, float]]:
        """The metrics of the model as it is now, by split; they are kept as those of this epoch, with the layers'.

        Raises ValueError as `nclib.measure_model` does, and for an epoch that was measured before. Nothing of
        an epoch is kept then.
        """
        if not isinstance(epoch, Integral):
            raise ValueError(f"an epoch is a whole number, got {epoch!r}")
        if epoch in self._measured:
            raise ValueError(f"epoch {epoch} was measured before: each epoch is measured once")
        found: dict[str, dict[str, dict[str, float]]] = {}
        statistics: dict[str, ClassStats] = {}
        picture: dict[str, Tensor] = {}
        for split, loader in self._loaders.items():
            with self._named(split), reading(self._model, loader, **self._options) as data:
                values, statistics[split], hidden = data.measure(statistics.get("train"))
                found[split] = hidden | {"features": values}
                if self._pictures and split == "train":
                    picture = _picture(data, statistics[split])
                    picture["error"] = torch.tensor(values["error"], dtype=torch.float64, device="cpu")
        if picture:
            self._drawn[epoch] = picture
        self._measured[epoch] = found
        return {split: layers["features"] for split, layers in found.items()}

    @contextmanager
    def _named(self, split: str) -> Iterator[None]:
        """Errors say which of several splits they are of."""
        try:
            yield
        except ValueError as error:
            if len(self._loaders) == 1:
                raise
            raise ValueError(f'split "{split}": {error}') from error

    @property
    def table(self) -> pd.DataFrame:
        """The long table of `nclib.tables`: run, seed, epoch, split, labels, layer, metric, value.

        Labels are taken to be clean. The layer "features" is the classifier's input, the others are `layers`. The
        figures of `nclib.plots.terminal_phase` draw it as it is; with some parameters of the training as columns they
        also know its planned end, its learning-rate drops and where one sample lies:
        `watch.table.assign(epochs=..., schedule="step", train_size=...)`.

        Raises ValueError while nothing has been measured.
        """
        if not self._measured:
            raise ValueError("nothing has been measured: call measure(epoch) first")
        rows = [
            {"epoch": epoch, "split": split, "labels": "clean", "layer": layer, "metric": name, "value": value}
            for epoch, splits in self._measured.items()
            for split, layers in splits.items()
            for layer, values in layers.items()
            for name, value in values.items()
        ]  # fmt: skip
        return tables.from_rows(rows, run=self._run, seed=self._seed)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What is drawn of the split "train", by epoch, as a study of this book keeps it.

        `epochs` (E,) in order, the error `error` (E,), `means` and `weights` (E, K, d), and the two and the first 20
        features of each class, labelled `feature_labels` (m,), in the simplex's own axes: `points_means` and
        `points_weights` (E, K, K), `points_features` (E, m, K). Classes are places among the sorted labels. A loader
        that shuffles gives features of other samples at each epoch; `numpy.savez(path, **watch.arrays)` writes all.

        Raises ValueError without `pictures`, while nothing has been measured, and where a class of fewer than 20
        samples has not the same number of them at every epoch.
        """
        if not self._drawn:
            raise ValueError("no picture has been kept: give pictures=True and call measure(epoch)")
        epochs = sorted(self._drawn)
        drawn = [self._drawn[epoch] for epoch in epochs]
        labels = [picture["feature_labels"].tolist() for picture in drawn]
        if any(other != labels[0] for other in labels):
            raise ValueError(
                "the training data has not the same number of samples of each class at every epoch"
            )
        stacked = {
            name: torch.stack([picture[name] for picture in drawn]).numpy()
            for name in drawn[0]
            if name != "feature_labels"
        }
        return {"epochs": np.array(epochs), "feature_labels": np.array(labels[0])} | stacked

    def save(self, path: str | Path) -> None:
        """Write `table` as Parquet, values to seven digits, in one piece; a file of that name is replaced.

        Raises ValueError for a name that ends in anything but .parquet.
        """
        path = parquet_path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            tables.write(self.table, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def parquet_path(path: str | Path) -> Path:
    """The path of a table, whose name says what is in the file; ValueError where it says anything else."""
    path = Path(path)
    if path.suffix.lower() != ".parquet":
        raise ValueError(f"{path} does not end in .parquet, and a table is written as Parquet: name it so")
    return path


def _picture(data: Reading, stats: ClassStats) -> dict[str, Tensor]:
    H, y = first_of_each(data.passes(), len(data.names), SHOWN)
    picture = simplex_picture(stats.mu, data.head.W, H) | {"feature_labels": y}
    return {name: value.cpu() for name, value in picture.items()}
