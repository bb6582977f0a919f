"""A labelled sample in memory: inputs, the labels trained on, and the labels that are true."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float32, Int, Int64
from torch import Tensor


class DataError(Exception):
    """Data is missing, truncated or altered; the message is one line and says what to do."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs with given and true labels; nothing in it is ever changed in place.

    Raises ValueError where shapes or dtypes disagree, or a label lies outside [0, num_classes).
    """

    x: Float32[Tensor, "N ..."]
    """Standardised inputs; images are (N, channels, height, width), sequences (N, 1, length)."""
    y: Int64[Tensor, " N"]
    """Labels to train on, noisy where `with_label_noise` was applied."""
    y_clean: Int64[Tensor, " N"]
    """True labels."""
    num_classes: int
    name: str
    checksum: str
    """sha256 that identifies the source; kept by subsets and noise, which other parameters describe."""

    def __post_init__(self) -> None:
        if self.x.dtype != torch.float32:
            raise ValueError(f"{self.name}: x must be float32, not {self.x.dtype}")
        for field in ("y", "y_clean"):
            labels = getattr(self, field)
            if labels.dtype != torch.int64 or labels.shape != (len(self.x),):
                raise ValueError(
                    f"{self.name}: {field} must be int64 of shape ({len(self.x)},), "
                    f"not {labels.dtype} of shape {tuple(labels.shape)}"
                )
            if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
                raise ValueError(
                    f"{self.name}: {field} must lie in [0, {self.num_classes}), "
                    f"not in [{labels.min()}, {labels.max()}]"
                )

    def __len__(self) -> int:
        return len(self.x)

    def subset(self, index: Int[Tensor, " n"] | Bool[Tensor, " N"]) -> "Dataset":
        """The points at `index` (positions, or a mask over all points), in that order, as a copy."""
        return replace(self, x=self.x[index], y=self.y[index], y_clean=self.y_clean[index])


def joined(first: Dataset, second: Dataset) -> Dataset:
    """The points of both, first those of `first`, whose name and checksum it keeps.

    Raises ValueError when their classes are not as many.
    """
    if first.num_classes != second.num_classes:
        raise ValueError(f"cannot join {first.num_classes} and {second.num_classes} classes")
    both = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in ("x", "y", "y_clean")}
    return replace(first, **both)


def class_balanced(dataset: Dataset, size: int, generator: torch.Generator) -> Dataset:
    """Draw `size` points, `size`/K of each true class, in an order shuffled by `generator`.

    A smaller draw from a generator in the same state is contained in a larger one.
    Raises ValueError if `size` is not a positive multiple of K or some class has too few points.
    """
    K = dataset.num_classes
    if size <= 0 or size % K:
        raise ValueError(f"a class-balanced size must be a positive multiple of the {K} classes, not {size}")
    per_class = size // K
    counts = torch.bincount(dataset.y_clean, minlength=K)
    if counts.min() < per_class:
        scarce = int(counts.argmin())
        raise ValueError(
            f"{dataset.name} has only {counts[scarce]} points of class {scarce}, "
            f"{size} class-balanced points need {per_class}; choose at most {int(counts.min()) * K}"
        )
    order = torch.randperm(len(dataset), generator=generator)
    members = torch.nn.functional.one_hot(dataset.y_clean[order], K)
    # A point's rank within its class, in shuffled order: keeping the first ranks keeps the shuffle.
    rank = (members.cumsum(0) * members).sum(1) - 1
    return dataset.subset(order[rank < per_class])
