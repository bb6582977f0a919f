"""Every metric of any model on any data loader, in two passes over the data."""

from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from operator import index

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from nclib.metrics.nc import Head
from nclib.modes import in_one_piece
from nclib.own.batches import Unpack, inputs_and_labels, unpacked
from nclib.own.classifier import Tap, at_rest, check_names, tapped
from nclib.own.draws import same_draws
from nclib.own.finding import classifier_named, last_classifier
from nclib.own.layers import LARGEST, Layers, LayerTap, layers_tapped
from nclib.stats import ClassStats
from nclib.streams import Batches, measure_stream

Classes = Sequence[int] | Mapping[int, int]


def measure_model(
    model: nn.Module,
    loader: Iterable,
    *,
    classifier: nn.Module | str | None = None,
    classes: Classes | None = None,
    device: torch.device | str | None = None,
    unpack: Unpack = inputs_and_labels,
) -> dict[str, float]:
    """Every neural-collapse metric of a model on data, with its error, loss (nats) and margins.

    The keys are those of `nclib.measure_features`, `error`, `loss`, `margin_mean`, `margin_min`,
    `mean_feature_norm_squared` and those of `nclib.streams.shape_metrics`. Features (n, d) are what the
    classifier W (K, d), b (K,) is given in a forward pass in eval mode without autocast and TF32; everything after
    that is float64, the logits W h + b too. The model keeps its modes and device, no generator moves on, of
    torch's, NumPy's and Python's own and those that the loader holds, and an epoch of a `DataLoader` goes on, inside
    another object too, unless its data set counts the samples itself, as an iterator does. Compiled
    models are measured uncompiled, and what `nn.DataParallel` or `DistributedDataParallel` wraps where it is: in one
    process, without the others.

    loader: gives (inputs, labels), or tuples that begin so, or mappings whose labels are called `labels`, `label`,
    `targets` or `target`, as Hugging Face's; it is read twice after a look at its first batch, in the same order
    wherever one of these generators draws it. What it augments is measured augmented, what `drop_last` leaves out is
    not measured.
    classifier: the `nn.Linear` or its dotted name; by default the last of the model's modules that a forward
    pass calls, if it is also called last and the model returns no other number of columns, and no other logits where
    several have as many rows.
    classes: the labels that the K rows stand for, one each (default 0 to K-1). Fewer measure only these
    classes, samples and rows, as `measure_features(classes=...)` does; where labels are not row numbers, that
    is written as a mapping of label to row: `{3: 0, 11: 2}`.
    device: where to measure; by default where the model is.
    unpack: a function from a batch to (inputs, labels), for batches of any other form. The model is called with inputs
    that are a tensor or array, with each of a tuple or list (`model(*inputs)`), or by name with those of a mapping
    (`model(**inputs)`); whatever tensors are in them, however deep, are moved to the device.

    Raises ValueError saying which: data that can be read only once or changes its length, a batch whose inputs and
    labels cannot be told apart, a label without a row, a class without samples, no classifier or several, one that
    gives anything but W h + b, features that are not (n, d), a value that is not finite.
    """
    chosen = {"classifier": classifier, "classes": classes, "device": device, "unpack": unpack}
    with reading(model, loader, **chosen) as data:
        return data.measure()[0]


@dataclass(frozen=True)
class Reading:
    """A model and its data while they can be read: as `reading` gives it, and no longer."""

    head: Head
    """The classifier's rows of the classes that are measured."""
    passes: Callable[[], Batches]
    """Begins a pass over features (n, d), labels (n,), which are places among `names`, and hidden layers."""
    names: list[int]
    """The labels of the classes, in order."""
    layers: list[str]
    """The hidden layers, in the order of the passes."""

    def measure(
        self, reference: ClassStats | None = None
    ) -> tuple[dict[str, float], ClassStats, dict[str, dict[str, float]]]:
        """What `measure_model` returns, the class statistics, and of hidden layers what needs no classifier.

        Given `reference`, the statistics of the training data, the rule of the nearest *training* mean is measured
        too: `ncc_accuracy_train_means` and `nc4_mismatch_train_means`.
        """
        values, stats, hidden = measure_stream(
            self.head, self.passes, num_classes=len(self.names), reference=reference, names=self.names
        )
        return values, stats, dict(zip(self.layers, hidden, strict=True))


@contextmanager
def reading(
    model: nn.Module,
    loader: Iterable,
    *,
    classifier: nn.Module | str | None = None,
    classes: Classes | None = None,
    device: torch.device | str | None = None,
    unpack: Unpack = inputs_and_labels,
    layers: Layers = (),
) -> Iterator[Reading]:
    """A `Reading` of the model on the data, both left as they were; arguments and errors are `measure_model`'s.

    layers: modules inside the model, as `nclib.own.layers.Layers` has them, to be measured in the same passes.
    """
    if isinstance(loader, Iterator) or not isinstance(loader, Iterable):
        raise ValueError(
            f"the data is read twice, which a {type(loader).__name__} does not allow: give a DataLoader, or a list"
        )
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps has the names without "_orig_mod."
    with at_rest(model, device) as target, in_one_piece(model), same_draws(loader) as begin:
        found = classifier_named(model, classifier) if classifier is not None else None
        args, kwargs, _ = unpacked(_first(begin()), target, unpack)
        check_names(model, kwargs)
        if found is None:
            found = last_classifier(model, *args, **kwargs)
        if found.in_features > LARGEST:
            raise ValueError(
                f"the classifier is given {found.in_features:,} features, and a scatter matrix is kept of at most "
                f"{LARGEST:,}: take features into memory and give them to nclib.measure_features, which keeps none"
            )
        with tapped(model, found) as tap, layers_tapped(model, layers) as inside:
            tap.check(*args, **kwargs)
            # Only now: weight_norm and spectral_norm, in their older form, compute the weight in a forward pass.
            rows = _rows_by_label(classes, len(found.weight))
            names = sorted(rows)
            head = _head(found, [rows[label] for label in names])
            known = torch.tensor(names, device=head.W.device)
            inside.take()
            del args, kwargs

            def passes() -> Batches:
                every_row = len(rows) == len(found.weight)
                return _batches(tap, inside, begin(), target, unpack, known, every_row=every_row)

            yield Reading(head, passes, names, inside.names)


def _first(batches: Iterator) -> object:
    for batch in batches:
        return batch
    raise ValueError("the loader is empty: there are no samples")


def _batches(
    tap: Tap,
    inside: LayerTap,
    batches: Iterator,
    device: torch.device,
    unpack: Unpack,
    known: Int[Tensor, " K"],
    *,
    every_row: bool,
) -> Batches:
    """Features, renumbered labels and hidden layers, batch by batch, without the samples of classes left out."""
    read = 0
    for batch in batches:
        args, kwargs, labels = unpacked(batch, device, unpack)
        H, *hidden = (A.to(known.device) for A in (tap.features(*args, **kwargs), *inside.take()))
        labels = labels.to(known.device)
        for name, A in zip(("features", *inside.names), (H, *hidden), strict=True):
            if len(A) != len(labels):
                raise ValueError(
                    f"the loader gives {len(labels)} labels to {len(A)} rows of {name}: one each"
                )
        y, keep = _renumbered(labels, known)
        if every_row and not keep.all():
            label = int(labels[~keep][0])
            shown = ", ".join(map(str, known[:10].tolist())) + (", ..." if len(known) > 10 else "")
            raise ValueError(
                f"label {label} is none of {shown}, which the {len(known)} rows of the classifier stand for: "
                + (
                    "leave samples without a label out of the data, or say with classes=[...] which label each row "
                    "stands for"
                    if label < 0
                    else "say with classes=[...] which label each row stands for, or with classifier=... which "
                    "nn.Linear gives the logits"
                )
            )
        for name, A in zip(inside.names, hidden, strict=True):
            _check_finite(f"outputs of layer {name}", A, keep, read)
        _check_finite("features", H, keep, read)  # last, for a layer before them may say where it began
        read += len(labels)
        if keep.any():
            yield tuple(part if keep.all() else part[keep] for part in (H, y, *hidden))


def _check_finite(what: str, A: Tensor, keep: Bool[Tensor, " n"], read: int) -> None:
    """ValueError where a sample that is kept is not finite; `read` samples came in batches before."""
    bad = (keep & ~A.isfinite().all(1)).nonzero()
    if len(bad):
        raise ValueError(
            f"{what} contain NaN or infinite values (first in sample {read + int(bad[0])} of the data, counted from "
            "0): remove or repair them first"
        )


def _renumbered(
    labels: Int[Tensor, " n"], known: Int[Tensor, " K"]
) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
    """The place of each label among the sorted known ones, and whether it is one of them."""
    place = torch.searchsorted(known, labels).clamp_(max=len(known) - 1)
    return place, known[place] == labels


def _rows_by_label(classes: Classes | None, K: int) -> dict[int, int]:
    """Label to row of the classifier, of the classes to be measured."""
    if isinstance(classes, Mapping):
        pairs = [(_whole(label), _whole(row)) for label, row in classes.items()]
    elif classes is not None and not _keeps_an_order(classes):
        raise ValueError(f"classes must be a list of labels, or a mapping of label to row, got {classes!r}")
    else:
        labels = range(K) if classes is None else [_whole(label) for label in classes]
        pairs = list(zip(labels, labels if len(labels) < K else range(K), strict=False))
        if len(labels) > K or not all(0 <= row < K for _, row in pairs):
            raise ValueError(
                f"classes must name a label for each of the classifier's {K} rows, or some of these rows by number, "
                f"or be a mapping of label to row; got {list(labels)}"
            )
    rows = dict(pairs)
    if (
        len(rows) < len(pairs)
        or len(set(rows.values())) < len(rows)
        or not set(rows.values()) <= set(range(K))
    ):
        raise ValueError(f"classes must be distinct and their rows lie in [0, {K}), got {classes}")
    if len(rows) < 2:
        raise ValueError(f"neural collapse needs at least two classes, got {len(rows)}")
    return rows


def _keeps_an_order(classes: object) -> bool:
    """Rows are told apart by order, which a set has not, but for a mapping's keys; an iterator is spent once read."""
    if isinstance(classes, Set):
        return isinstance(classes, KeysView)
    return isinstance(classes, Iterable) and not isinstance(classes, Iterator)


def _whole(number: object) -> int:
    try:
        return index(number)
    except TypeError:
        raise ValueError(f"classes must be labels, which are integers, got {number!r}") from None


def _head(classifier: nn.Linear, rows: list[int]) -> Head:
    """These rows of the classifier in float64, on its device where that has float64."""
    values = []
    for name, value in (("weight", classifier.weight), ("bias", classifier.bias)):
        if value is not None:
            value = value.detach()[rows]
            value = (value.cpu() if value.device.type == "mps" else value).double()  # MPS has no float64
            if not value.isfinite().all():
                raise ValueError(f"the classifier's {name} contains NaN or infinite values")
        values.append(value)
    return Head(*values)
