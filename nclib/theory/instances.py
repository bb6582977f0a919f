r"""Random instances of the unconstrained-feature problem, on which a statement about all of them is put to the test.

What is proved for every W, H and b must hold on every draw, to rounding. The same statement with a wrong constant
must not, or the test could not have noticed. Layout as in `nclib.theory.unconstrained`. All in float64.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isnan, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A problem and a point (W, H, b) of it that has no property by design; y is sorted by class."""

    num_classes: int
    per_class: int
    lambda_W: float
    lambda_H: float
    W: Float[Tensor, "K d"]
    H: Float[Tensor, "N d"]
    b: Float[Tensor, " K"]
    y: Int[Tensor, " N"]

    @property
    def decays(self) -> dict[str, float]:
        """lambda_W and lambda_H by name."""
        return {"lambda_W": self.lambda_W, "lambda_H": self.lambda_H}

    @property
    def problem(self) -> dict[str, int | float]:
        """num_classes, per_class, lambda_W and lambda_H by name, as the closed forms take them."""
        return {"num_classes": self.num_classes, "per_class": self.per_class, **self.decays}

    @property
    def point(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W, H, b and y, as functions of a point take them."""
        return self.W, self.H, self.b, self.y

    @property
    def tau(self) -> float:
        r"""$\tau = \sqrt{\lambda_W\lambda_H}$, the weight of the nuclear norm."""
        return sqrt(self.lambda_W) * sqrt(self.lambda_H)

    @property
    def t(self) -> float:
        r"""$t = \sqrt n\,\tau$, the strength of the decay."""
        return sqrt(self.per_class) * self.tau


def draw(
    count: int, generator: torch.Generator, *, strengths: tuple[float, float] = (0.01, 3.0)
) -> list[Instance]:
    r"""`count` instances: K from 2 to 6, n from 1 to 5, d from K - 1 to K + 2, one lambda up to 100 times the other.

    $Kt$ is log-uniform in `strengths`: the default has both sides of the collapse threshold, 1. Entries of W, H and b
    are normal, with a standard deviation between 0.1 and 3 for each instance; each feature is moved along the row of W
    of its class, so that some instances classify well. ValueError for a count below 1 or strengths that are not
    positive and increasing.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if not 0 < strengths[0] < strengths[1]:
        raise ValueError(f"strengths must be positive and increasing, got {strengths}")

    g = generator

    def normal(*shape: int) -> Tensor:
        return log_uniform(0.1, 3.0, g) * torch.randn(shape, generator=g, dtype=torch.float64)

    instances = []
    for _ in range(count):
        K, n = whole(2, 6, g), whole(1, 5, g)
        d = whole(K - 1, K + 2, g)
        tau, ratio = log_uniform(*strengths, g) / (K * sqrt(n)), log_uniform(0.1, 10.0, g)
        y = torch.arange(K).repeat_interleave(n)
        W, b = normal(K, d), normal(K)
        H = normal(K * n, d) + log_uniform(0.1, 3.0, g) * W[y]
        constants = {"num_classes": K, "per_class": n, "lambda_W": tau * ratio, "lambda_H": tau / ratio}
        instances.append(Instance(**constants, W=W, H=H, b=b, y=y))
    return instances


def whole(least: int, most: int, generator: torch.Generator) -> int:
    """A whole number from `least` to `most`, both included."""
    return int(torch.randint(least, most + 1, (), generator=generator))


def log_uniform(least: float, most: float, generator: torch.Generator) -> float:
    """A number between two positive ones, whose logarithm is uniform."""
    return least * (most / least) ** torch.rand((), generator=generator, dtype=torch.float64).item()


def gap(value: float | Tensor, expected: float | Tensor) -> float:
    r"""How far two numbers or arrays are apart, $\|A - B\| / \max(\|A\|, \|B\|)$; 0 where both are zero."""
    A, B = (torch.as_tensor(part, dtype=torch.float64) for part in (value, expected))
    size = max(A.norm().item(), B.norm().item())
    return (A - B).norm().item() / size if size > 0 else size


def excess(lower: float | Tensor, upper: float | Tensor) -> float:
    r"""How far $\mathrm{lower} \le \mathrm{upper}$ is missed, $\max(0, l - u) / \max(1, |u|)$; NaN where one is."""
    low, high = float(lower), float(upper)
    missed = low - high
    return missed if isnan(missed) else max(0.0, missed) / max(1.0, abs(high))


def worst(*violations: float | Tensor) -> float:
    """The largest of some violations; NaN where one is, unlike Python's `max`."""
    return torch.tensor([float(violation) for violation in violations], dtype=torch.float64).max().item()


def report(
    check: Callable[..., Sequence[float | Tensor]],
    instances: Iterable,
    *,
    control: str,
    below: float = 1e-12,
    of: str = "",
) -> str:
    """Two lines on a check that returns, for an instance, the violation of a statement and that of a wrong one.

    Each line says whether the largest violation over all instances is below the given number; one that is not a
    number is not. `control` names the wrong statement, for the second line, which ought to say False. `of` says what
    the instances are where their number may differ between machines; else they are counted. ValueError without
    instances.
    """
    violations = torch.tensor([check(instance) for instance in instances], dtype=torch.float64)
    if not len(violations):
        raise ValueError("no instances to check")
    holds, wrong_holds = (worst(*column) < below for column in violations.T)
    return (
        f"{of or f'{len(violations)} instances'}: largest violation below {below:g}: {holds}\n"
        f"control, {control}: below {below:g}: {wrong_holds}"
    )
