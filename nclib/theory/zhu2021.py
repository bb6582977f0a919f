r"""The landscape of the unconstrained-feature model with cross-entropy (Zhu et al., 2021).

$f(W, H, b)$ and its layout (rows of H are samples) are those of `nclib.theory.unconstrained`; $g$ is the mean
cross-entropy as a function of the logits and $\nabla g$ its gradient, whose spectral norm the certificate
compares. Closed forms assume n samples in each of K classes and d >= K - 1. All in float64.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import log, log1p, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nclib.geometry import simplex_etf
from nclib.theory import arguments
from nclib.theory.convex import Certificate, certify, convex_partner
from nclib.theory.margins import phi, tangent
from nclib.theory.unconstrained import gradient, hessian_vector_product, logit_gradient, objective

__all__ = [
    "Certificate",
    "EscapeDirection",
    "GlobalMinimum",
    "certificate",
    "collapse_threshold",
    "convex_partner",
    "escape_direction",
    "global_minimum",
    "gradient",
    "hessian_vector_product",
    "lower_bound",
    "non_negative_minimum",
    "objective",
]


@dataclass(frozen=True, kw_only=True)
class GlobalMinimum:
    """The minimum of f and what every minimiser shares."""

    num_classes: int
    per_class: int
    lambda_W: float
    lambda_H: float
    value: float
    """The minimum of f."""
    margin: float
    """The logit of the true class minus that of any other; 0 for the zero solution."""
    W_norm_squared: float
    H_norm_squared: float

    @property
    def collapsed(self) -> bool:
        """Whether the minimisers show neural collapse (True) or are zero (False)."""
        return self.margin > 0

    def construct(
        self, d: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, "N d"], Float[Tensor, " K"]]:
        """One minimiser (W, H, b) in d dimensions, rotated at random if a `generator` is given.

        W is a scaled simplex ETF; rows of H are their class's row of W times sqrt(lambda_W / (n lambda_H)).
        Samples are sorted by class: y = arange(K).repeat_interleave(n). ValueError for d < K - 1.
        """
        K, n = self.num_classes, self.per_class
        # The simplex has K unit rows, so its scale is the root mean square of the rows of W.
        W = sqrt(self.W_norm_squared / K) * simplex_etf(K, d, generator=generator)
        H = sqrt(self.lambda_W / (n * self.lambda_H)) * W.repeat_interleave(n, dim=0)
        return W, H, torch.zeros(K, dtype=torch.float64)


def global_minimum(*, num_classes: int, per_class: int, lambda_W: float, lambda_H: float) -> GlobalMinimum:
    r"""The global minimum of f in closed form, for d >= K - 1 and a bias that is absent, free or regularised.

    With $t = \sqrt{n\lambda_W\lambda_H}$ and $Kt < 1$: the margin is $x = \ln(1/t - (K-1))$,
    $\lambda_W\|W\|^2 = \lambda_H\|H\|^2 = (K-1)\,t\,x$, and $f^* = \ln(1 + (K-1)e^{-x}) + (K-1)\,t\,x$.
    Otherwise the minimiser is zero and $f^* = \ln K$. Zhu et al. (2021), Theorem 3.1, whose constants are
    implicit; solved here by setting the derivative along the collapsed solutions to zero. Raises ValueError
    when K < 2, n < 1 or a lambda <= 0.
    """
    K, n, lambda_W, lambda_H = arguments.constants(
        num_classes, per_class, lambda_W=lambda_W, lambda_H=lambda_H
    )
    constants = {"num_classes": K, "per_class": n, "lambda_W": lambda_W, "lambda_H": lambda_H}
    t = sqrt(n) * sqrt(lambda_W) * sqrt(lambda_H)
    # gap = 1 - K t. Next to the threshold it is all cancellation, so 1 - (K t)^2 is formed exactly first.
    gap = float(max(0, 1 - K * K * n * Fraction(lambda_W) * Fraction(lambda_H))) / (1 + K * t)
    if gap == 0:
        return GlobalMinimum(**constants, value=log(K), margin=0.0, W_norm_squared=0.0, H_norm_squared=0.0)
    x = log1p(gap / t)
    # The cross-entropy is -ln(1 - (K-1) t); gap + t is the same argument, without cancellation near its zero.
    cross_entropy = -log1p(-(K - 1) * t) if (K - 1) * t < 0.5 else -log(gap + t)
    penalty = (K - 1) * t * x
    return GlobalMinimum(
        **constants,
        value=cross_entropy + penalty,
        margin=x,
        W_norm_squared=penalty / lambda_W,
        H_norm_squared=penalty / lambda_H,
    )


def non_negative_minimum(*, num_classes: int, per_class: int, lambda_W: float, lambda_H: float) -> float:
    r"""The minimum of f over features without negative entries: $f^*$ at $\frac{K}{K-1}\lambda_H$, for $d \ge K$.

    In fewer dimensions it is a lower bound, and with a bias that is absent, free or regularised alike. Putting its
    class's mean in place of each feature leaves no entry negative and raises neither the cross-entropy nor the norm
    (Jensen). Of such features $\mu_j \cdot \mu_k \ge 0$, so $\|\mu_G\|^2 \ge \frac{1}{K^2}\sum_k \|\mu_k\|^2$ and
    $\|H\|^2 \ge \frac{K}{K-1}\|H - 1\mu_G^\top\|^2$. The bias $b + W\mu_G$ gives the centred ones the same logits;
    if it costs nothing, what is left is f of centred features. Equality at $\mu_k = \alpha e_k$ with rows of W along
    $e_k - \frac1K 1$, where $W\mu_G = b = 0$. Features behind a ReLU are of this kind. Ours, from Zhu et al. (2021),
    Theorem 3.1. ValueError as in `global_minimum`.
    """
    K, n, lambda_W, lambda_H = arguments.constants(
        num_classes, per_class, lambda_W=lambda_W, lambda_H=lambda_H
    )
    return global_minimum(
        num_classes=K, per_class=n, lambda_W=lambda_W, lambda_H=lambda_H * K / (K - 1)
    ).value


def collapse_threshold(*, num_classes: int, per_class: int) -> float:
    r"""The value of $\sqrt{\lambda_W\lambda_H}$ from which on the minimiser is zero: $1/(K\sqrt n)$.

    It is also the spectral norm of $\nabla g$ at zero. ValueError for K < 2 or n < 1.
    """
    K, n = arguments.constants(num_classes, per_class)
    return 1 / (K * sqrt(n))


def lower_bound(
    rho: float | Float[Tensor, "..."],
    *,
    num_classes: int,
    per_class: int,
    lambda_W: float,
    lambda_H: float,
    c1: float | None = None,
) -> Float[Tensor, "..."]:
    r"""A lower bound on the mean cross-entropy of all W, H and b with $\|W\|^2 = \rho$ and balanced norms.

    Balanced means $\lambda_H\|H\|^2 = \lambda_W\rho$, as at every critical point. For any $c_1 > 0$,
    $\mathrm{CE} \ge -\frac{1}{1+c_1}\frac{a\rho}{K-1} + c_2$ with $a = \sqrt{\lambda_W/(n\lambda_H)}$ and
    $c_2 = \frac{\ln((1+c_1)(K-1))}{1+c_1} + \frac{c_1}{1+c_1}\ln\frac{1+c_1}{c_1}$. Without `c1` the best is
    taken, $c_1 = e^{a\rho/(K-1)}/(K-1)$: the bound is then $\ln(1 + (K-1)e^{-a\rho/(K-1)})$, and the simplex
    attains it. Zhu et al. (2021), appendix. ValueError for a negative rho or a c1 <= 0.
    """
    K, n, lambda_W, lambda_H = arguments.constants(
        num_classes, per_class, lambda_W=lambda_W, lambda_H=lambda_H
    )
    rho = torch.as_tensor(rho, dtype=torch.float64)
    if not bool((rho >= 0).all()):
        raise ValueError("rho is a squared norm: it must not be negative")
    x = sqrt(lambda_W / (n * lambda_H)) * rho / (K - 1)
    return phi(x, K) if c1 is None else tangent(x, K, c1)


def certificate(
    W: Float[Tensor, "K d"],
    H: Float[Tensor, "N d"],
    b: Float[Tensor, " K"] | None,
    y: Int[Tensor, " N"],
    *,
    lambda_W: float,
    lambda_H: float,
    lambda_b: float = 0.0,
    tolerance: float = 1e-6,
) -> Certificate:
    r"""Whether a critical point is global: it is if $\|\nabla g\|_2 \le \sqrt{\lambda_W\lambda_H}$.

    In any d the condition suffices; for d >= K - 1 it is also necessary, and in fewer dimensions no point meets it
    below the collapse threshold. It puts $\nabla g$ in the scaled dual ball of the nuclear norm, f's convex partner
    being $g(Z) + \sqrt{\lambda_W\lambda_H}\|Z\|_*$. What a small gradient decides: `Certificate`. Zhu et al.
    (2021), Lemma C.4. ValueError as in `nclib.theory.unconstrained`, and for a lambda_W or lambda_H of zero.
    """
    lambda_W, lambda_H = arguments.positive(lambda_W=lambda_W, lambda_H=lambda_H)
    G, _ = logit_gradient(W, H, b, y)
    by_parameter = gradient(W, H, b, y, lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b)
    return certify(G, W, H, by_parameter, lambda_W, lambda_H, tolerance)


@dataclass(frozen=True, kw_only=True)
class EscapeDirection:
    """A direction along which f curves down."""

    delta_W: Float[Tensor, "K d"]
    delta_H: Float[Tensor, "N d"]
    curvature: float
    """The predicted second derivative of f along it, negative."""


def escape_direction(
    W: Float[Tensor, "K d"],
    H: Float[Tensor, "N d"],
    b: Float[Tensor, " K"] | None,
    y: Int[Tensor, " N"],
    *,
    lambda_W: float,
    lambda_H: float,
) -> EscapeDirection:
    r"""A direction without slope along which f curves down, at a point that leaves one dimension unused.

    With a unit q orthogonal to all rows of W and H, and the leading singular vectors u (over classes) and v
    (over samples) of $\nabla g$: $\Delta_W = (\lambda_H/\lambda_W)^{1/4} u q^\top$ and
    $\Delta_H = -(\lambda_W/\lambda_H)^{1/4} v q^\top$, along which the curvature of f is
    $-2(\|\nabla g\|_2 - \sqrt{\lambda_W\lambda_H})$. The point need not be critical. For d >= K - 1 every critical
    point that is not global has such a q. W and H have the same null space there, and W has rank K - 1 at most, as
    rows of $\nabla g$ sum to zero, so $1^\top\nabla_W f = \lambda_W 1^\top W$; at rank d = K - 1 the point is global.
    Zhu et al. (2021), Theorem 3.2, for d > K; the rest is ours. ValueError where W and H span all d dimensions
    (singular values above 1e-6 of the largest count), or where $\|\nabla g\|_2$ exceeds
    $\sqrt{\lambda_W\lambda_H}$ by no more than 1e-9 of it.
    """
    lambda_W, lambda_H = arguments.positive(lambda_W=lambda_W, lambda_H=lambda_H)
    G, _ = logit_gradient(W, H, b, y)
    rows = torch.cat([sqrt(lambda_W) * W, sqrt(lambda_H) * H])
    if len(rows) < rows.shape[1]:
        rows = torch.cat([rows, rows.new_zeros(rows.shape[1] - len(rows), rows.shape[1])])
    _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
    if singular[-1] > 1e-6 * singular[0]:
        raise ValueError(f"W and H span all {W.shape[1]} dimensions: no direction is free to escape along")
    q = directions[-1]
    v, norms, u = torch.linalg.svd(G, full_matrices=False)
    threshold = sqrt(lambda_W) * sqrt(lambda_H)
    excess = norms[0].item() - threshold
    # Equality holds at a global minimum only up to rounding.
    if excess <= 1e-9 * threshold:
        raise ValueError("nothing to escape from: the spectral norm is within sqrt(lambda_W lambda_H)")
    ratio = (lambda_H / lambda_W) ** 0.25
    return EscapeDirection(
        delta_W=ratio * torch.outer(u[0], q), delta_H=-torch.outer(v[:, 0], q) / ratio, curvature=-2 * excess
    )
