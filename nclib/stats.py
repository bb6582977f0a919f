"""Class statistics: the one state that every collapse metric is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor


def _rows_in_flight(device: torch.device) -> int:
    """A 256 x 512 float64 block is 1 MiB and stays in a processor's cache; a GPU wants fewer, larger kernels."""
    return 256 if device.type == "cpu" else 8192


def as_tensor(values: object) -> Tensor:
    """A detached tensor of the values, sharing their memory where torch can."""
    if isinstance(values, Tensor):
        return values.detach()
    # torch refuses numpy arrays that run backwards and warns about read-only ones (memory maps, broadcasts).
    if hasattr(values, "__array_interface__") and (
        not values.flags.writeable or any(stride < 0 for stride in values.strides)
    ):
        values = values.copy()
    return torch.as_tensor(values)


def check_labels(labels: Int[Tensor, " n"], num_classes: int) -> None:
    """Raise ValueError for a label outside [0, num_classes): a label of -1 would index the last class."""
    if len(labels) == 0:
        raise ValueError("there are no samples: features and labels are empty")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        bad = low if low < 0 else high
        raise ValueError(f"label {bad} is out of range: labels must lie in [0, {num_classes})")


@dataclass(frozen=True)
class ClassStats:
    """Counts, means and within-class scatter of labelled features, in float64 and about the means.

    Two ways to make one. `of` keeps the full d x d scatter, and such statistics add up: `a + b` are the
    statistics of both samples together (Chan, Golub & LeVeque, 1979). `with_coordinates` takes two passes
    over features in memory and keeps the scatter only within the span of the class means, which is all the
    NC metrics look at; it needs no d x d matrix, and as its basis depends on the final means it cannot be
    merged.
    """

    n: Float[Tensor, " K"]
    """Samples per class."""
    mu: Float[Tensor, "K d"]
    """Class means."""
    S_W: Float[Tensor, "r r"]
    """Pooled within-class scatter in the coordinates of `basis`, not yet divided by the sample count."""
    within: Float[Tensor, " K"]
    """Sum of squared distances to the class mean, per class: the trace of each class's own scatter."""
    basis: Float[Tensor, "r d"] | None = None
    """Orthonormal rows that `S_W` is expressed in; None stands for all of feature space (r = d)."""

    @classmethod
    def of(cls, features: Num[Tensor, "n d"], labels: Int[Tensor, " n"], num_classes: int) -> "ClassStats":
        """Statistics of one batch, ready to be added to others'. A class may be absent from a batch.

        Raises ValueError for empty input, mismatched shapes, a label out of range or a non-finite feature.
        """
        n, mu = _means(features, labels, num_classes)
        d = mu.shape[1]
        S_W, within = mu.new_zeros(d, d), mu.new_zeros(num_classes)
        for X, y in _centred(features, labels, mu):
            S_W.addmm_(X.T, X)
            within.index_add_(0, y, X.square().sum(1))
        return cls(n, mu, S_W, within)

    @classmethod
    def with_coordinates(
        cls,
        features: Num[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        num_classes: int,
        weight: Float[Tensor, "K d"] | None = None,
    ) -> tuple["ClassStats", Float[Tensor, "n r"], Float[Tensor, "n K"] | None]:
        """Statistics within the span of the class means, and each sample's coordinates there about mu_G and scores W h.

        One product per block of rows serves the scatter, the nearest-class-mean rule and the classifier. Raises
        ValueError as `of` does, and for a class without samples.
        """
        n, mu = _means(features, labels, num_classes)
        if (n == 0).any():
            raise ValueError(missing_classes(n))
        mu_G = mu.mean(0)
        M = mu - mu_G
        basis = torch.linalg.svd(M, full_matrices=False).Vh
        r = len(basis)
        P = basis if weight is None else torch.cat([basis, weight])
        coordinates = mu.new_empty(len(features), r)
        scores = None if weight is None else mu.new_empty(len(features), len(weight))
        scatter, within = mu.new_zeros(r, r), mu.new_zeros(num_classes)
        M_in_basis = M @ basis.T
        mean_scores = None if weight is None else mu @ weight.T
        start = 0
        for X, y in _centred(features, labels, mu):
            within.index_add_(0, y, torch.linalg.vector_norm(X, dim=1).square_())
            projected = X @ P.T
            A = projected[:, :r]
            scatter.addmm_(A.T, A)
            stop = start + len(y)
            torch.add(A, M_in_basis[y], out=coordinates[start:stop])
            if scores is not None:
                torch.add(projected[:, r:], mean_scores[y], out=scores[start:stop])
            start = stop
        return cls(n, mu, (scatter + scatter.T) / 2, within, basis), coordinates, scores

    def __add__(self, other: "ClassStats") -> "ClassStats":
        if self.basis is not None or other.basis is not None:
            raise ValueError("statistics in class-mean space cannot be merged: build them with ClassStats.of")
        if self.mu.shape != other.mu.shape:
            raise ValueError(
                f"cannot add statistics of shapes {tuple(self.mu.shape)} and {tuple(other.mu.shape)}: "
                "K and d must agree"
            )
        n = self.n + other.n
        share = other.n / n.clamp(min=1)
        delta = other.mu - self.mu
        between = self.n * share  # n_a n_b / (n_a + n_b), zero where either class is empty
        # In place: d x d memory once, not thrice.
        S_W = (self.S_W + other.S_W).addmm_((delta * between[:, None]).T, delta)
        return ClassStats(
            n,
            self.mu + share[:, None] * delta,
            S_W,
            self.within + other.within + between * delta.square().sum(1),
        )

    @property
    def N(self) -> float:
        """Number of samples."""
        return float(self.n.sum())

    @property
    def K(self) -> int:
        """Number of classes."""
        return len(self.n)

    @cached_property
    def mu_G(self) -> Float[Tensor, " d"]:
        """The class-centred global mean: the unweighted mean of the class means.

        Raises ValueError when a class has no sample.
        """
        return self.require_every_class().mu.mean(0)

    @cached_property
    def mu_S(self) -> Float[Tensor, " d"]:
        """The sample-centred global mean, that of all samples. Equal to `mu_G` when classes are balanced."""
        return self.mu_G if self.balanced else (self.n @ self.mu) / self.n.sum()

    @property
    def balanced(self) -> bool:
        """Whether every class has the same number of samples."""
        return bool((self.n == self.n[0]).all())

    @cached_property
    def M(self) -> Float[Tensor, "K d"]:
        """Class means about `mu_G`."""
        return self.mu - self.mu_G

    @property
    def Sigma_W(self) -> Float[Tensor, "r r"]:
        """Pooled within-class covariance, (1/N) sum_i (h_i - mu_{y_i})(h_i - mu_{y_i})^T, in `basis`."""
        return self.S_W / self.n.sum()

    @property
    def trace_Sigma_W(self) -> Float[Tensor, ""]:
        """Trace of the within-class covariance in all of feature space, whatever the basis."""
        return self.within.sum() / self.n.sum()

    def within_along(self, V: Float[Tensor, "k d"]) -> Float[Tensor, "k k"]:
        """Within-class covariance along the rows of V, which must lie in the basis's span: V Sigma_W V^T."""
        V = V if self.basis is None else V @ self.basis.T
        return V @ self.Sigma_W @ V.T

    def require_every_class(self) -> "ClassStats":
        """Self, or ValueError naming the classes that have no sample: their mean would silently be zero."""
        if (self.n == 0).any():
            raise ValueError(missing_classes(self.n))
        return self


def missing_classes(n: Num[Tensor, " K"], names: Sequence[int] | None = None) -> str:
    """The message about classes whose count in `n` is zero; `names` are theirs if they were renumbered."""
    missing = (n == 0).nonzero().flatten().tolist()
    shown = ", ".join(str(names[k] if names else k) for k in missing[:10]) + (
        ", ..." if len(missing) > 10 else ""
    )
    return f"no sample of class {shown}: give every class, or restrict with classes=[...]"


def _chunks(features: Tensor, labels: Tensor):
    size = _rows_in_flight(features.device)
    return zip(features.split(size), labels.split(size), strict=True)


def _centred(features: Tensor, labels: Tensor, mu: Tensor):
    """Blocks of rows about their class means, in float64, with their labels; one block is reused for all."""
    block = mu.new_empty(min(_rows_in_flight(mu.device), len(features)), mu.shape[1])
    minus_mu = -mu
    for rows, y in _chunks(features, labels):
        X = block[: len(y)]
        torch.index_select(minus_mu, 0, y, out=X)
        yield X.add_(rows), y


def _means(features: Tensor, labels: Tensor, K: int) -> tuple[Tensor, Tensor]:
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels):
        raise ValueError(
            f"features must be (N, d) and labels (N,), got {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    check_labels(labels, K)
    n = torch.bincount(labels, minlength=K).double()
    # Summing about a first guess keeps full precision when features carry a large common offset.
    origin = features[0].double()
    total = torch.zeros(K, features.shape[1], dtype=torch.float64, device=features.device)
    size = min(_rows_in_flight(total.device), len(features))
    block, one_hot = total.new_empty(size, total.shape[1]), total.new_empty(size, K)
    for rows, y in _chunks(features, labels):
        X = torch.sub(rows, origin, out=block[: len(y)])
        if K <= 64:  # a product with the indicator matrix beats scattered additions, until it is mostly zeros
            total.addmm_(one_hot[: len(y)].zero_().scatter_(1, y[:, None], 1.0).T, X)
        else:
            total.index_add_(0, y, X)
    if not total.isfinite().all():
        bad = (~features.isfinite()).any(1).nonzero().flatten()
        where = f"first in sample {int(bad[0])}" if len(bad) else "their sum overflows float64"
        raise ValueError(f"features contain NaN or infinite values ({where}): remove or repair them first")
    mu = total / n.clamp(min=1)[:, None] + origin
    return n, mu * (n > 0)[:, None]
