r"""L-BFGS on many independent functions at once, each with its own history and line search.

Every turn of the loop evaluates every function once: those whose step is good take it and turn, the others try
another step along the same line. What has converged leaves the batch.

The direction is the compact form of the two-loop recursion (Byrd, Nocedal and Schnabel, 1994). With the last steps
in the rows of S, the changes of the gradient in those of Y, $R_{ij} = s_i \cdot y_j$ for j no older than i,
D its diagonal and $\gamma$ the newest $s \cdot y / y \cdot y$:
$R \alpha = S g$, $R^\top \delta = D \alpha - \gamma (Y g - Y Y^\top \alpha)$ and
$p = -\gamma (g - Y^\top \alpha) - S^\top \delta$. Large vectors are touched only by batched matrix products.

A step satisfies the weak Wolfe conditions, found by bisection (Lewis and Overton, 2013). Where rounding hides the
decrease, the slopes decide instead (the approximate Wolfe conditions of Hager and Zhang, 2005): close to a minimum
a difference of values has no digits left, while a slope still does.
"""

from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

DECREASE, CURVATURE = 1e-4, 0.9  # Nocedal and Wright, section 3.1, for quasi-Newton directions
ROUNDING = 1e-13  # relative to the value: a few hundred float64 roundings
TRIES = 40  # halvings of a step, after which the bracket has no digits left
CACHE, DEVICE = 2**24, 2**33
"""Bytes of the functions that are descended together. On a CPU, histories that leave the cache cost more than a
batch saves: of 2 to 64 MB none was faster than 16. An accelerator wants them all at once."""


@runtime_checkable
class Function(Protocol):
    """B functions of P numbers."""

    def evaluate(
        self, x: Float[Tensor, "B P"]
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B P"], Float[Tensor, " B"]]:
        """Values, gradients, and the residuals that are to fall below the tolerance."""

    def take(self, rows: Tensor) -> "Function":
        """The same for some of the functions."""


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Where every function's descent ended."""

    x: Float[Tensor, "B P"]
    value: Float[Tensor, " B"]
    residual: Float[Tensor, " B"]
    iterations: Int[Tensor, " B"]
    """Steps taken."""
    converged: Bool[Tensor, " B"]
    """Whether the residual is at most the tolerance, or the value at most the goal."""


@torch.no_grad()
def minimise(
    function: Function,
    x: Float[Tensor, "B P"],
    *,
    tolerance: float,
    max_evaluations: int,
    history: int = 8,
    goal: Float[Tensor, " B"] | None = None,
) -> Minima:
    """Descend from the rows of x until residuals are at most `tolerance`, or values at most `goal`.

    A row that finds no good step, or no end within `max_evaluations`, is returned as it is, not converged.
    With history 0 the directions are those of Barzilai and Borwein's gradient method.
    """
    goal = x.new_full((len(x),), -torch.inf) if goal is None else goal
    bytes_each = (2 * history + 8) * x.shape[1] * x.element_size()
    size = max(1, (CACHE if x.device.type == "cpu" else DEVICE) // bytes_each)
    parts = [
        _minimise(function.take(rows), x[rows], tolerance, max_evaluations, history, goal[rows])
        for rows in torch.arange(len(x), device=x.device).split(size)
    ]
    return Minima(
        **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Minima)}
    )


def _minimise(
    function: Function, x: Tensor, tolerance: float, max_evaluations: int, history: int, goal: Tensor
) -> Minima:
    """The same for rows that fit in memory together."""
    now = _State.at(function, x, history)
    last = Minima(
        x=x.clone(), value=now.value.clone(), residual=now.residual.clone(), iterations=now.iterations.clone(),
        converged=torch.zeros_like(now.value, dtype=torch.bool),
    )  # fmt: skip
    running = torch.arange(len(x), device=x.device)
    for evaluation in range(max_evaluations + 1):
        converged = (now.residual <= tolerance) | (now.value <= goal[running])
        done = converged | (now.tries > TRIES)
        # Leaving costs the others a copy of their history: it waits until it is worth it.
        if done.sum() * 10 >= len(done) or evaluation == max_evaluations:
            for name in ("x", "value", "residual", "iterations"):
                getattr(last, name)[running] = getattr(now, name)
            last.converged[running] = converged
            stay = (~done).nonzero()[:, 0]
            running, function, now = running[stay], function.take(stay), now.take(stay)
        if not len(running) or evaluation == max_evaluations:
            break
        now.turn(function)
    return last


@dataclass(kw_only=True)
class _State:
    """The running rows: where they are, the line they search, and their history."""

    x: Tensor
    value: Tensor
    gradient: Tensor
    residual: Tensor
    iterations: Tensor
    direction: Tensor
    step: Tensor
    low: Tensor  # a step that is too short
    high: Tensor  # a step that is too long
    tries: Tensor
    gamma: Tensor
    S: Tensor  # (B, history, P)
    Y: Tensor
    SY: Tensor  # (B, history, history): s_i . y_j
    YY: Tensor
    born: Tensor  # (B, history): the iteration that each pair is from; negative where there is none yet

    @classmethod
    def at(cls, function: Function, x: Tensor, history: int) -> "_State":
        B, P = x.shape
        value, gradient, residual = function.evaluate(x)
        # A tenth of its own length along the gradient: x has no other scale yet.
        gamma = 0.1 * x.norm(dim=1).clamp_min(1e-3) / gradient.norm(dim=1).clamp_min(1e-300)
        ones, count = torch.ones_like(value), torch.zeros_like(value, dtype=torch.int64)
        return cls(
            x=x.clone(), value=value, gradient=gradient, residual=residual, iterations=count,
            direction=-gamma[:, None] * gradient, step=ones, low=0 * ones, high=torch.inf * ones, tries=0 * count,
            gamma=gamma, S=x.new_zeros(B, history, P), Y=x.new_zeros(B, history, P),
            SY=x.new_zeros(B, history, history), YY=x.new_zeros(B, history, history),
            born=-1 - torch.arange(history, device=x.device).expand(B, history),
        )  # fmt: skip

    def take(self, rows: Tensor) -> "_State":
        return _State(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def turn(self, function: Function) -> None:
        """Evaluate every row at its step, and take the step or change it."""
        trial = torch.addcmul(self.x, self.step[:, None], self.direction)
        value, gradient, residual = function.evaluate(trial)
        slope, new_slope = _dot(self.gradient, self.direction), _dot(gradient, self.direction)
        lower = value <= self.value + DECREASE * self.step * slope
        flat = value <= self.value + ROUNDING * self.value.abs()
        good = lower | (flat & (new_slope <= (2 * DECREASE - 1) * slope))
        taken = good & (new_slope >= CURVATURE * slope)
        # A value that is not finite is not good, and so shortens the step.
        self.low, self.high = self.low.where(~good, self.step), self.high.where(good, self.step)
        halfway = torch.where(self.high.isinf(), 2 * self.low, (self.low + self.high) / 2)
        self._remember(taken, trial - self.x, gradient - self.gradient)
        self.iterations += taken
        for name, new in (("x", trial), ("gradient", gradient)):
            getattr(self, name)[taken] = new[taken]
        self.value, self.residual = value.where(taken, self.value), residual.where(taken, self.residual)
        self.direction = torch.where(taken[:, None], self._newton(), self.direction)
        self.step = halfway.masked_fill_(taken, 1.0)
        self.low.masked_fill_(taken, 0.0)
        self.high.masked_fill_(taken, torch.inf)
        self.tries = torch.where(taken, 0, self.tries + 1)

    def _remember(self, taken: Tensor, s: Tensor, y: Tensor) -> None:
        sy = _dot(s, y)
        self.gamma = torch.where(taken, sy / _dot(y, y), self.gamma)
        if self.S.shape[1] == 0:
            return
        rows = taken.nonzero()[:, 0]
        slot = self.iterations[rows] % self.S.shape[1]
        self.S[rows, slot], self.Y[rows, slot], self.born[rows, slot] = (
            s[rows],
            y[rows],
            self.iterations[rows],
        )
        by_y, by_s = _times(self.Y, y), _times(self.Y, s)
        self.SY[rows, :, slot], self.SY[rows, slot] = _times(self.S, y)[rows], by_s[rows]
        self.YY[rows, :, slot], self.YY[rows, slot] = by_y[rows], by_y[rows]

    def _newton(self) -> Tensor:
        """The direction -(inverse Hessian) g of every row."""
        gamma, g = self.gamma[:, None], self.gradient
        if self.S.shape[1] == 0:
            return -gamma * g
        newer = self.born[:, None, :] >= self.born[:, :, None]
        D = torch.diagonal(self.SY, dim1=1, dim2=2)
        R = self.SY * newer + torch.diag_embed((self.born < 0).to(g))
        alpha = self._solve(R, _times(self.S, g))
        y_q = _times(self.Y, g) - _times(self.YY, alpha)
        delta = self._solve(R, D * alpha - gamma * y_q, transposed=True)
        p = torch.baddbmm((-gamma * g)[:, None], (gamma * alpha)[:, None], self.Y)
        p = p.baddbmm_(-delta[:, None], self.S)[:, 0]
        # Rounding can turn a direction uphill; the gradient's own is never.
        return torch.where((_dot(p, g) < 0)[:, None], p, -gamma * g)

    def _solve(self, R: Tensor, right: Tensor, *, transposed: bool = False) -> Tensor:
        """R x = right, or its transpose, oldest pair first: R is triangular then.

        Pivots of a general solver would mix pairs of very different lengths, and can cancel to zero.
        """
        order = self.born.argsort(dim=1)
        R = R.gather(1, order[:, :, None].expand_as(R)).gather(2, order[:, None].expand_as(R))
        x = torch.linalg.solve_triangular(
            R.mT if transposed else R, right.gather(1, order)[:, :, None], upper=not transposed
        )
        return torch.zeros_like(right).scatter_(1, order, x[:, :, 0])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a, b)


def _times(rows: Tensor, vector: Tensor) -> Tensor:
    """(B, h, P) by (B, P)."""
    return torch.bmm(rows, vector[:, :, None])[:, :, 0]
