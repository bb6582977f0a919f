r"""Many restarts of the unconstrained-feature model at once: value, gradient and Hessian in batched products.

The objective f(W, H, b) is that of `nclib.theory.unconstrained`, with n samples in each of K classes, sorted by
class. What works here works on balanced coordinates, U = c W and V = H / c: the logits stay as they are, and with
$c^4 = \lambda_W/\lambda_H$ both penalties become the same, $\tau = \sqrt{\lambda_W\lambda_H}$. This is the balance
that holds at every critical point, and it is what makes the problem well conditioned.

Features may be averaged within their class first. That is exact, not an assumption about classes: with W and b
held, f is strongly convex in every h_i, and samples of a class share that function. So averaging never raises f
(Jensen), at every critical point the samples of a class are equal, and directions within a class curve up by at
least lambda_H. Relations between classes stay free.
"""

from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nclib.theory import arguments


class Points(NamedTuple):
    """W, H and b of B restarts; b is None without a bias."""

    W: Float[Tensor, "B K d"]
    H: Float[Tensor, "B N d"]
    b: Float[Tensor, "B K"] | None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The constants of f; each lambda is a number or one number a restart, of shape (B,).

    ValueError for sizes below K = 2, n = 1, d = 1, for a lambda_W or lambda_H that is not positive and for a
    negative lambda_b.
    """

    num_classes: int
    per_class: int
    feature_dim: int
    lambda_W: float | Float[Tensor, " B"]
    lambda_H: float | Float[Tensor, " B"]
    lambda_b: float | Float[Tensor, " B"] | None = 0.0
    """0 leaves the bias free, None leaves it out."""

    def __post_init__(self) -> None:
        for name, least in (("num_classes", 2), ("per_class", 1), ("feature_dim", 1)):
            object.__setattr__(self, name, arguments.size(name, getattr(self, name), least))
        for name, values in self.lambdas().items():
            allowed = values >= 0 if name == "lambda_b" else values > 0
            if not bool((allowed & values.isfinite()).all()):
                wanted = "negative" if name == "lambda_b" else "zero or negative"
                raise ValueError(f"{name} must be finite and not {wanted}, got {getattr(self, name)!r}")

    def lambdas(self) -> dict[str, Float[Tensor, "..."]]:
        """lambda_W, lambda_H and lambda_b in float64, 0 for a bias that is left out."""
        given = {"lambda_W": self.lambda_W, "lambda_H": self.lambda_H, "lambda_b": self.lambda_b}
        return {
            name: torch.as_tensor(0.0 if value is None else value, dtype=torch.float64)
            for name, value in given.items()
        }

    def lambdas_of(self, restart: int) -> dict[str, float]:
        """The same of one restart."""
        return {name: float(v[restart] if v.ndim else v) for name, v in self.lambdas().items()}

    def draw(self, count: int, generator: torch.Generator, *, scale: float = 0.1) -> Points:
        """`count` random starts in float64, every entry N(0, scale^2); a start is the same for every `count`.

        ValueError for a count < 1 or a scale <= 0.
        """
        if count < 1 or not scale > 0:
            raise ValueError(f"count must be at least 1 and scale positive, got {count} and {scale}")
        K, d = self.num_classes, self.feature_dim
        shapes = ((K, d), (K,), (K * self.per_class, d))
        drawn = [
            [
                torch.randn(s, generator=generator, dtype=torch.float64, device=generator.device)
                for s in shapes
            ]
            for _ in range(count)
        ]
        W, b, H = (scale * torch.stack(parts) for parts in zip(*drawn, strict=True))
        return Points(W, H, None if self.lambda_b is None else b)


class Balanced:
    """f of B restarts on flat balanced coordinates x of shape (B, P): U, V and b one after the other.

    `averaged` keeps one row of V a class, otherwise one a sample. ValueError where the points or the lambdas do
    not fit the problem.
    """

    def __init__(self, problem: Problem, like: Points, *, averaged: bool = True):
        K, n, d = problem.num_classes, problem.per_class, problem.feature_dim
        B = len(like.W)
        shapes = [(B, K, d), (B, K * n, d), None if problem.lambda_b is None else (B, K)]
        found = [None if part is None else tuple(part.shape) for part in like]
        if found != shapes:
            raise ValueError(f"W, H and b must have shapes {shapes}, got {found}")
        self.problem, self.rows_a_class = problem, 1 if averaged else n
        lambdas = {}
        for name, value in problem.lambdas().items():
            if value.ndim and value.shape != (B,):
                raise ValueError(f"{name} must be a number or of shape ({B},), got {tuple(value.shape)}")
            lambdas[name] = value.to(like.W).expand(B)
        share = self.rows_a_class / n
        self.c = (share * lambdas["lambda_W"] / lambdas["lambda_H"]) ** 0.25
        self.tau = lambdas["lambda_W"] / self.c**2
        self.lambda_b = lambdas["lambda_b"]

    def take(self, rows: Tensor) -> "Balanced":
        """The same for some of the restarts."""
        part = object.__new__(Balanced)
        part.problem, part.rows_a_class = self.problem, self.rows_a_class
        part.c, part.tau, part.lambda_b = self.c[rows], self.tau[rows], self.lambda_b[rows]
        return part

    def encode(self, points: Points) -> Float[Tensor, "B P"]:
        """The coordinates of points, averaged within classes if this is."""
        K, m = self.problem.num_classes, self.rows_a_class
        c = self.c[:, None, None]
        V = points.H.unflatten(1, (K * m, -1)).mean(2) / c
        parts = [(c * points.W).flatten(1), V.flatten(1), *([] if points.b is None else [points.b])]
        return torch.cat(parts, dim=1)

    def decode(self, x: Float[Tensor, "B P"]) -> Points:
        """W, H and b at these coordinates."""
        U, V, b = self._parts(x)
        c = self.c[:, None, None]
        H = (c * V).repeat_interleave(self.problem.per_class // self.rows_a_class, dim=1)
        return Points(U / c, H, None if b is None else b.clone())

    def evaluate(
        self, x: Float[Tensor, "B P"]
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B P"], Float[Tensor, " B"]]:
        """f, its gradient by x, and the norm of its gradient by (W, H, b), all samples counted."""
        Z = self._logits(*self._parts(x))
        log_p = torch.log_softmax(Z, dim=2)
        value = -self._own(log_p).mean((1, 2)) + self._penalty(x)
        gradient = self._gradient(x, self._residual(log_p.exp_()))
        return value, gradient, self.norm(gradient)

    def hessian_product(self, x: Float[Tensor, "B P"], delta: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """The Hessian by x, applied to delta."""
        U, V, b = self._parts(x)
        dU, dV, db = self._parts(delta)
        P = torch.softmax(self._logits(U, V, b), dim=2)
        dZ = self._logits(U, dV, db).baddbmm_(V, dU.mT)
        dG = P * (dZ - (P * dZ).sum(2, keepdim=True)) / P.shape[1]
        product = self._decayed(delta)
        by_U, by_V, by_b = self._parts(product)
        G = self._residual(P)
        by_U.baddbmm_(dG.mT, V).baddbmm_(G.mT, dV)
        by_V.baddbmm_(dG, U).baddbmm_(G, dU)
        if by_b is not None:
            by_b.add_(dG.sum(1))
        return product

    def norm(self, gradient: Float[Tensor, "B P"]) -> Float[Tensor, " B"]:
        """The norm by (W, H, b) of a gradient by x."""
        return (gradient * self.units()).norm(dim=1)

    def units(self) -> Float[Tensor, "B P"]:
        """What one unit of W, of H (all equal samples of a class together) or of b is in x."""
        K, m, d = self.problem.num_classes, self.rows_a_class, self.problem.feature_dim
        by_V = sqrt(m / self.problem.per_class) / self.c
        parts = [(self.c, K * d), (by_V, K * m * d)]
        if self.problem.lambda_b is not None:
            parts.append((torch.ones_like(self.c), K))
        return torch.cat([unit[:, None].expand(-1, size) for unit, size in parts], dim=1)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        K, M, d = (
            self.problem.num_classes,
            self.problem.num_classes * self.rows_a_class,
            self.problem.feature_dim,
        )
        U, V, b = x.tensor_split((K * d, (K + M) * d), dim=1)
        return U.unflatten(1, (K, d)), V.unflatten(1, (M, d)), b if b.shape[1] else None

    def _logits(self, U: Tensor, V: Tensor, b: Tensor | None) -> Tensor:
        return torch.bmm(V, U.mT) if b is None else torch.baddbmm(b[:, None], V, U.mT)

    def _own(self, by_class: Tensor) -> Tensor:
        """What belongs to the true class of every sample, as a view of shape (B, rows a class, K)."""
        return by_class.unflatten(1, (-1, self.rows_a_class)).diagonal(dim1=1, dim2=3)

    def _residual(self, P: Tensor) -> Tensor:
        """The gradient of the mean cross-entropy by the logits, in the place of the softmax."""
        own = self._own(P)
        # p_y - 1 as minus the rest: near a perfect fit the direct difference has no digits left.
        own.zero_()
        own.copy_(-self._sums(P))
        return P.div_(P.shape[1])

    def _sums(self, P: Tensor) -> Tensor:
        return P.sum(2).unflatten(1, (-1, self.rows_a_class)).mT

    def _penalty(self, x: Tensor) -> Tensor:
        U, V, b = self._parts(x)
        value = self.tau / 2 * (U.square().sum((1, 2)) + V.square().sum((1, 2)))
        return value if b is None else value + self.lambda_b / 2 * b.square().sum(1)

    def _decayed(self, x: Tensor) -> Tensor:
        decayed = self.tau[:, None] * x
        b = self._parts(decayed)[2]
        if b is not None:
            torch.mul(self.lambda_b[:, None], self._parts(x)[2], out=b)
        return decayed

    def _gradient(self, x: Tensor, G: Tensor) -> Tensor:
        U, V, _ = self._parts(x)
        gradient = self._decayed(x)
        by_U, by_V, by_b = self._parts(gradient)
        by_U.baddbmm_(G.mT, V)
        by_V.baddbmm_(G, U)
        if by_b is not None:
            by_b.add_(G.sum(1))
        return gradient
