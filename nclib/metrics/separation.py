"""How far classes stand apart: in cosine distances, and from the class means of other samples."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nclib.metrics.nc import nearest_means, over_trace_Sigma_B
from nclib.stats import ClassStats, check_labels, missing_classes


@dataclass(frozen=True)
class Onto:
    """How far features lie from the class means of other samples, summed over N samples; these add up."""

    N: int
    weak: Float[Tensor, ""]
    """Squared distances from the nearest mean."""
    strong: Float[Tensor, ""]
    """Squared distances from the mean of the sample's own class."""

    @classmethod
    def of(cls, reference: ClassStats, features: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> "Onto":
        """One batch. Raises ValueError for a label out of range or an empty batch."""
        check_labels(y, reference.K)
        H = features.double()
        nearest = nearest_means(H - reference.mu_G, reference.M)
        # of the differences themselves, not by the squares that found the nearest: those round to |mu|^2
        weak, strong = ((H - reference.mu[to]).square().sum() for to in (nearest, y))
        return cls(len(y), weak, strong)

    def __add__(self, other: "Onto") -> "Onto":
        return Onto(self.N + other.N, self.weak + other.weak, self.strong + other.strong)

    def metrics(self, reference: ClassStats) -> dict[str, float]:
        r"""How closely features fall onto the class means of other samples: test features onto training means.

        `test_collapse_weak`: $\frac1N\sum_i\min_c\|h_i - \mu_c\|^2 / \mathrm{Tr}\,\Sigma_B$, onto any mean.
        `test_collapse_strong`: $\frac1N\sum_i\|h_i - \mu_{y_i}\|^2 / \mathrm{Tr}\,\Sigma_B$, onto the right one.

        Means and $\Sigma_B$ (class-centred, unweighted) are those of `reference`, which measured on itself has
        `nc1_trace_ratio` for its strong collapse. Strong is at least weak, and equal to it if and only if the
        nearest mean is always the right one. Unchanged by rotation, scale and shift. NaN when all means coincide.
        After Hui, Belkin & Nakkiran (2022), who define both collapses as limits.
        """
        return {
            "test_collapse_weak": float(over_trace_Sigma_B(self.weak / self.N, reference)),
            "test_collapse_strong": float(over_trace_Sigma_B(self.strong / self.N, reference)),
        }


@dataclass(frozen=True)
class Directions:
    """Directions of features, summed by class; these add up."""

    n: Int[Tensor, " K"]
    total: Float[Tensor, "K d"]

    @classmethod
    def of(cls, features: Float[Tensor, "n d"], y: Int[Tensor, " n"], num_classes: int) -> "Directions":
        """One batch. Raises ValueError for a label out of range or an empty batch."""
        check_labels(y, num_classes)
        # So small an eps scales down no feature but those whose squares underflow; zero stays zero: cosine 0.
        U = torch.nn.functional.normalize(features.double(), dim=1, eps=1e-150)
        total = U.new_zeros(num_classes, U.shape[1]).index_add_(0, y, U)
        return cls(torch.bincount(y, minlength=num_classes), total)

    def __add__(self, other: "Directions") -> "Directions":
        return Directions(self.n + other.n, self.total + other.total)

    def separation(self) -> float:
        r"""Class separation by cosine distance, $R^2 = 1 - \bar d_{within}/\bar d_{total}$ with

        $$\bar d_{within} = \frac1K\sum_k\frac{1}{n_k^2}\sum_{i,j\in k}(1-\cos(h_i,h_j)),\quad \bar d_{total} =
        \frac{1}{K^2}\sum_{k,l}\frac{1}{n_k n_l}\sum_{i\in k,\,j\in l}(1-\cos(h_i,h_j)).$$

        A sample's distance to itself counts, and a feature of zero has cosine 0 with every one. As
        $\bar d_{within} = 1 - \frac1K\sum_k\|\bar u_k\|^2$ and $\bar d_{total} = 1 - \|\frac1K\sum_k\bar u_k\|^2$
        with the class means $\bar u_k$ of directions $u_i = h_i/\|h_i\|$, one pass of O(N d) gives it exactly. 1
        when every class has one direction of its own, 0 when all classes have one mean direction. Features are not
        centred: unchanged by rotation and by the scale of each sample, not by a shift. NaN when all
        directions agree, up to the rounding of their sums.

        Raises ValueError for a class without samples.
        Kornblith, Chen, Lee & Norouzi (2021), with every class of equal weight.
        """
        if (self.n == 0).any():
            raise ValueError(missing_classes(self.n))
        mean = self.total / self.n[:, None]
        within, overall = 1 - mean.square().sum(1).mean(), 1 - mean.mean(0).square().sum()
        rounding = torch.finfo(mean.dtype).eps * (int(self.n.max()) + mean.shape[1])
        return float(1 - within / overall) if overall > rounding else math.nan
