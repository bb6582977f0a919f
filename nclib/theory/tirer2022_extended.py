r"""The extended unconstrained-feature model, two linear layers above free features (Tirer & Bruna, 2022).

$$f(W_2, W_1, H) = \frac{1}{2N}\|HW_1^\top W_2^\top - Y\|_F^2 + \frac{\lambda_{W_2}}{2K}\|W_2\|_F^2
  + \frac{\lambda_{W_1}}{2K}\|W_1\|_F^2 + \frac{\lambda_H}{2N}\|H\|_F^2 .$$

No bias. Rows of H are samples: H (N, d), W1 (m, d), W2 (K, m). All in float64.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import cbrt, prod, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nclib.geometry import random_rotation
from nclib.theory import arguments, tirer2022

TRANSITION = 1 / 16
"""The product of the three weight decays from which on the minimiser is zero."""


def objective(
    W2: Float[Tensor, "K m"],
    W1: Float[Tensor, "m d"],
    H: Float[Tensor, "N d"],
    y: Int[Tensor, " N"],
    *,
    lambda_W2: float,
    lambda_W1: float,
    lambda_H: float,
) -> Float[Tensor, ""]:
    """f(W2, W1, H), differentiable by autograd. ValueError for shapes that do not fit."""
    _check_shapes(W1, H)
    value = tirer2022.objective(W2, H @ W1.T, None, y, lambda_W=lambda_W2, lambda_H=0.0)
    decay = lambda_W1 / len(W2) * W1.square().sum() + lambda_H / len(y) * H.square().sum()
    return value + decay / 2


def gradient(
    W2: Float[Tensor, "K m"],
    W1: Float[Tensor, "m d"],
    H: Float[Tensor, "N d"],
    y: Int[Tensor, " N"],
    *,
    lambda_W2: float,
    lambda_W1: float,
    lambda_H: float,
) -> tuple[Float[Tensor, "K m"], Float[Tensor, "m d"], Float[Tensor, "N d"]]:
    """The gradient of f by (W2, W1, H). ValueError for shapes that do not fit."""
    _check_shapes(W1, H)
    by_W2, by_hidden, _ = tirer2022.gradient(W2, H @ W1.T, None, y, lambda_W=lambda_W2, lambda_H=0.0)
    return by_W2, by_hidden.T @ H + lambda_W1 / len(W2) * W1, by_hidden @ W1 + lambda_H / len(y) * H


@dataclass(frozen=True, kw_only=True)
class GlobalMinimum:
    """The minimum of f and what every minimiser shares."""

    num_classes: int
    per_class: int
    lambda_W2: float
    lambda_W1: float
    lambda_H: float
    value: float
    """The minimum of f."""
    signal: float
    """x, what decay leaves of each direction of the one-hot labels; 0 for the zero solution."""

    @property
    def collapsed(self) -> bool:
        """Whether the minimisers show neural collapse (True) or are zero (False)."""
        return self.signal > 0

    def construct(
        self, d: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, "d d"], Float[Tensor, "N d"]]:
        r"""One minimiser (W2, W1, H) with both widths d, rotated at random if a `generator` is given.

        All K singular values of a factor agree, and the penalties too: with
        $s = (\lambda_{W_2}\lambda_{W_1}\lambda_H x^2)^{1/3}$ the squares are $s/\lambda_{W_2}$, $s/\lambda_{W_1}$ and
        $ns/\lambda_H$. Samples are sorted by class. ValueError for d < K.
        """
        K, n = self.num_classes, self.per_class
        if d < K:
            raise ValueError(f"a minimiser of rank {K} needs d >= {K} dimensions, got d={d}")
        decays = (self.lambda_W2, self.lambda_W1, self.lambda_H)
        # The root of s, root by root: the product of the decays themselves may underflow.
        root_s = cbrt(self.signal) * prod(sqrt(cbrt(decay)) for decay in decays)
        frame = torch.eye(d, dtype=torch.float64)
        inner, outer = (frame if generator is None else random_rotation(d, generator) for _ in "io")
        w2, w1, h = (root_s / sqrt(decay) for decay in decays)
        H = h * inner[:K].repeat_interleave(n, dim=0)
        return w2 * outer[:K], w1 * outer[:K].T @ inner[:K], H


def global_minimum(
    *, num_classes: int, per_class: int, lambda_W2: float, lambda_W1: float, lambda_H: float
) -> GlobalMinimum:
    r"""The global minimum of f, for d >= K in both layers.

    Y has K singular values $\sqrt n$. Where the product of the factors has $x\sqrt n$ along one of them, the decay
    costs least with three equal penalties (arithmetic and geometric mean), so f is a sum over directions of

    $$\frac1{2K}\Bigl[(1-x)^2 + 3\,\Lambda^{1/3}x^{2/3}\Bigr],\qquad \Lambda = \lambda_{W_2}\lambda_{W_1}\lambda_H .$$

    Its derivative vanishes where $(1-x)\,x^{1/3} = \Lambda^{1/3}$, at the larger root for the minimum; the value there
    is that of x = 0 exactly at x = 1/2, $\Lambda = 1/16$. So the minimiser jumps from x = 1/2 to zero at
    $\Lambda = 1/16$, where both are minimisers and zero is returned, and $f^* = 1/2$ from there on; the local minimum
    with x >= 1/4 lives on up to $\Lambda = 27/256$. Tirer & Bruna (2022), Theorem 4.1, implicit there. ValueError
    when K < 2, n < 1 or a lambda <= 0.
    """
    decays = {"lambda_W2": lambda_W2, "lambda_W1": lambda_W1, "lambda_H": lambda_H}
    K, n, lambda_W2, lambda_W1, lambda_H = arguments.constants(num_classes, per_class, **decays)
    constants = {"num_classes": K, "per_class": n}
    constants |= {"lambda_W2": lambda_W2, "lambda_W1": lambda_W1, "lambda_H": lambda_H}
    if Fraction(lambda_W2) * Fraction(lambda_W1) * Fraction(lambda_H) >= Fraction(TRANSITION):
        return GlobalMinimum(**constants, value=0.5, signal=0.0)
    q = cbrt(lambda_W2) * cbrt(lambda_W1) * cbrt(lambda_H)
    # Newton for u - u^4 = q, u the cube root of x: concave, so it falls to the larger root from u = 1 on.
    u, last = 1.0, 2.0
    while u < last:
        last, u = u, u - (u - u**4 - q) / (1 - 4 * u**3)
    return GlobalMinimum(**constants, value=((q / u) ** 2 + 3 * q * u * u) / 2, signal=u**3)


def _check_shapes(W1: Tensor, H: Tensor) -> None:
    if H.shape[-1] != W1.shape[-1]:
        raise ValueError(f"W1 must be (m, d) and H (N, d); got {tuple(W1.shape)} and {tuple(H.shape)}")
