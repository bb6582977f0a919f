r"""What the minimum of f costs in fewer than K - 1 dimensions, bounded by known frames.

In d >= K - 1 dimensions the simplex attains f* of `nclib.theory.zhu2021`. In fewer no closed form is known:
Jiang et al. (2023) characterise the limit of unit norms and vanishing temperature, where the minimisers are softmax
codes, not weight decay at a given strength. Here frames that are known to be good are scaled as well as they can be,
so that each gives a value of f that is attained, and the least of them an upper bound. float64.

What a search found, which proves nothing (L-BFGS from 12 to 60 random starts, K from 3 to 10, n up to 2, Kt from 0.001
to 0.5, t as below): it ends at the bound, to 1e-13 of it, for the polygon at d = 2 and for the orthoplex at K = 2d;
up to 1.6% below for other K < 2d; and up to 41% below for K > 2d or d = 1, where the frames here are poor. In
fewer than K - 1 dimensions it is sometimes trapped: at K = 5, d = 2, Kt = 0.5 a square with the fifth class at the
origin is a local minimum that is not global. From d = K - 1 on there is none such, as the chapter of proofs shows.
"""

from dataclasses import dataclass
from math import log, sqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from nclib.geometry import simplex_etf
from nclib.theory import arguments, zhu2021


def frames(num_classes: int, d: int) -> dict[str, Float[Tensor, "K d"]]:
    r"""Arrangements of K vectors in d dimensions, by name; norms are 1 or 0.

    `simplex` for d >= K - 1, and only it. Otherwise `orthogonal simplices` for K <= 2d: classes in K - d groups as
    equal as possible, each a simplex in dimensions of its own; the orthoplex at K = 2d. `harmonic` for d >= 2: cosines
    and sines of the lowest frequencies, and the alternating vector where d is odd and K even; the regular polygon
    at d = 2. `partial simplex`: the first d + 1 classes, the others at the origin. ValueError for K < 2 or d < 1.
    """
    K, d = arguments.size("num_classes", num_classes, 2), arguments.size("d", d, 1)
    if d >= K - 1:
        return {"simplex": simplex_etf(K, d)}
    found = {"partial simplex": functional.pad(simplex_etf(d + 1), (0, 0, 0, K - d - 1))}
    if d >= 2:
        found["harmonic"] = _harmonic(K, d)
    if 2 * d >= K:
        parts = K - d
        sizes = [K // parts + (i < K % parts) for i in range(parts)]
        found["orthogonal simplices"] = torch.block_diag(*(simplex_etf(size) for size in sizes))
    return found


def _harmonic(K: int, d: int) -> Float[Tensor, "K d"]:
    k = torch.arange(K, dtype=torch.float64)
    angles = 2 * torch.pi / K * torch.outer(k, torch.arange(1, d // 2 + 1))
    columns = [angles.cos(), angles.sin()]
    if d % 2 and K % 2 == 0:
        columns.append((torch.pi * k).cos()[:, None] / sqrt(2))  # as its squares average to 1, not to a half
    V = functional.normalize(torch.cat(columns, dim=1), dim=1)
    return functional.pad(V, (0, d - V.shape[1]))


@dataclass(frozen=True, kw_only=True)
class UpperBound:
    """A value of f that is attained in d dimensions."""

    num_classes: int
    per_class: int
    lambda_W: float
    lambda_H: float
    d: int
    value: float
    """The value of f at the point that `construct` returns."""
    gap: float
    """value - f*, f* being the minimum for d >= K - 1; 0 from there on."""
    frame: str
    """The name of the best of `frames`; any where the zero solution is best."""
    scale: float
    """Logits are the frame's Gram matrix times this; 0 for the zero solution."""

    def construct(self) -> tuple[Float[Tensor, "K d"], Float[Tensor, "N d"], Float[Tensor, " K"]]:
        """The point (W, H, b) of this value; samples are sorted by class, b is zero."""
        V = frames(self.num_classes, self.d)[self.frame]
        ratio = (sqrt(self.lambda_W) / sqrt(self.per_class * self.lambda_H)) ** 0.5
        H = (sqrt(self.scale) * ratio * V).repeat_interleave(self.per_class, dim=0)
        return sqrt(self.scale) / ratio * V, H, torch.zeros(self.num_classes, dtype=torch.float64)


def upper_bound(*, num_classes: int, per_class: int, lambda_W: float, lambda_H: float, d: int) -> UpperBound:
    r"""The least value of f on scaled frames in d dimensions: f* for d >= K - 1, a bound from above otherwise.

    With rows of W and of H along those of a frame V, as $HW^\top = sVV^\top$ class by class, the decay costs least
    at equal penalties, and $f = \frac1K\sum_k \mathrm{CE}(sVv_k, k) + ts\|V\|_F^2$ with
    $t = \sqrt{n\lambda_W\lambda_H}$ is convex in $s \ge 0$: its derivative is bisected for each of `frames`, without
    a bias. ValueError when K < 2, n < 1, d < 1 or a lambda <= 0.
    """
    K, n, lambda_W, lambda_H = arguments.constants(
        num_classes, per_class, lambda_W=lambda_W, lambda_H=lambda_H
    )
    constants = {"num_classes": K, "per_class": n, "lambda_W": lambda_W, "lambda_H": lambda_H}
    minimum = zhu2021.global_minimum(**constants)
    d = arguments.size("d", d, 1)
    candidates = frames(K, d)
    if "simplex" in candidates:
        scale = minimum.margin * (K - 1) / K
        return UpperBound(**constants, d=d, value=minimum.value, gap=0.0, frame="simplex", scale=scale)
    t = sqrt(n) * sqrt(lambda_W) * sqrt(lambda_H)
    value, scale, frame = min((*_best_scale(V, t), name) for name, V in candidates.items())
    return UpperBound(
        **constants, d=d, value=value, gap=max(0.0, value - minimum.value), frame=frame, scale=scale
    )


def _best_scale(V: Float[Tensor, "K d"], t: float) -> tuple[float, float]:
    """The least value of f along a frame, and the scale of the logits there."""
    gram = V @ V.T
    others = gram - gram.diagonal()[:, None]  # logits less that of the true class

    def slope(s: float) -> float:
        return ((torch.softmax(s * others, 1) * others).sum(1).mean() + t * gram.trace()).item()

    low, high = 0.0, 0.0
    if slope(0.0) < 0:
        # f(s) <= f(0) = ln K bounds the penalty and so the scale.
        high = log(len(V)) / (t * gram.trace().item())
        while low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    value = torch.logsumexp(high * others, 1).mean() + t * high * gram.trace()
    return value.item(), high
