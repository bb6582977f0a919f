"""A squared-error loss taken apart into what features and classifier contribute (Han, Papyan & Donoho, 2022)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from nclib.metrics.nc import Head, class_mean_spectrum, rounding_of_means
from nclib.stats import ClassStats


def least_squares_head(stats: ClassStats, lambda_W: float, *, bias: bool) -> Head:
    r"""The linear classifier with the smallest squared error on features with these statistics.

    $\tilde W_{LS} = P\tilde M^\top A^{+}$ with $A = \tilde\Sigma_W + \tilde M P \tilde M^\top + \lambda I$ and
    $P = \mathrm{diag}(n_k/N)$, which is $I/K$ for balanced classes. The tilde marks features $[h; 1]$ where
    there is a `bias`, and features as they are where there is none; the columns of $\tilde M$ are class means,
    not centred. The inverse is a pseudo-inverse, for at $\lambda = 0$ features may leave directions unused:
    $\tilde W_{LS}$ is then the smallest of all minimisers.

    Raises ValueError as `mse_decomposition` does.
    """
    W = _solve(_extended(stats, bias), lambda_W)[0]
    return Head(W[:, :-1], W[:, -1]) if bias else Head(W)


def mse_decomposition(stats: ClassStats, head: Head, lambda_W: float) -> dict[str, float]:
    r"""The regularised squared error of a classifier as a sum of three: $L = L_{NC1} + L_{NC2/3} + L_\perp$.

    `mse_total`: $L = \frac{1}{2N}\sum_i\|\tilde W\tilde h_i - e_{y_i}\|^2 + \frac\lambda2\|\tilde W\|_F^2$.
    `mse_nc1`: $\frac12\mathrm{Tr}\,\tilde W_{LS}(\tilde\Sigma_W + \lambda I)\tilde W_{LS}^\top$, what scatter and
    penalty cost the best classifier.
    `mse_nc23`: $\frac12\sum_k\frac{n_k}{N}\|\tilde W_{LS}\tilde\mu_k - e_k\|^2$, what it misses at the class means;
    $\frac{1}{2K}\|\tilde W_{LS}\tilde M - I\|_F^2$ for balanced classes.
    `mse_perp`: $\frac12\mathrm{Tr}(\tilde W - \tilde W_{LS})A(\tilde W - \tilde W_{LS})^\top$, how far the
    classifier is from the best one; zero on the central path.

    Symbols as in `least_squares_head`. The sum is exact for unbalanced classes too, which the source does not
    treat: $1/K$ becomes $n_k/N$, and $\Sigma_T + \mu_G\mu_G^\top$ the second moment of the features.

    lambda_W: penalises weight and bias alike. Training by `torch.nn.functional.mse_loss` on one-hot labels
    averages over K classes too, $L = \frac K2$ of that objective, so that SGD's weight decay wd, which torch
    applies to the bias as well, is $\lambda = K\,\mathrm{wd}/2$ here.

    Raises ValueError for statistics that are not of `ClassStats.of` or lack a class, a classifier of another
    shape, or a negative $\lambda$. Han, Papyan & Donoho (2022).
    """
    K, d = stats.mu.shape
    if head.W.shape != (K, d):
        raise ValueError(f"weight must be (K, d) = ({K}, {d}), got {tuple(head.W.shape)}")
    features = _extended(stats, bias=head.b is not None)
    W_LS, A = _solve(features, lambda_W)
    W = head.W if head.b is None else torch.cat([head.W, head.b[:, None]], 1)
    nc1, nc23 = _costs(W_LS, features, lambda_W)
    values = {
        "mse_total": sum(_costs(W.double(), features, lambda_W)),
        "mse_nc1": nc1,
        "mse_nc23": nc23,
        "mse_perp": _quadratic(W.double() - W_LS, A) / 2,
    }
    return {name: float(value) for name, value in values.items()}


def snr_singular_values(stats: ClassStats) -> Float[Tensor, " r"]:
    r"""Singular values $\omega_1 \ge \dots \ge \omega_r$ of $\Sigma_W^{-1/2}M^\top$ in the span of the class means.

    How far apart the centred means are in units of the scatter along them; $r \le K - 1$ is the rank of
    $\Sigma_B$. $\Sigma_W$ is restricted to that span, so that it may be singular elsewhere: where scatter
    inside and outside the span are correlated, the full inverse gives larger values. Infinite along directions
    without scatter. $\sum_j\omega_j^{-2}$ is `nc1_pinv`. Han, Papyan & Donoho (2022).
    """
    S, V = class_mean_spectrum(stats, stats.M / stats.K**0.5)
    variances, Q = torch.linalg.eigh(stats.within_along(V))
    # the inverse of the matrix meant has these singular values, and exists without scatter too
    scatter = torch.where(variances > rounding_of_means(stats).square(), variances, 0).sqrt()
    noise_to_signal = Q * scatter / (S[:, None] * stats.K**0.5)
    return 1 / torch.linalg.svdvals(noise_to_signal).flip(0)


def snr_spread(stats: ClassStats) -> Float[Tensor, ""]:
    r"""$\omega_1/\omega_{K-1}$, largest over smallest of `snr_singular_values`: 1 when all are equal.

    Gradient flow along the central path makes them equal (Han, Papyan & Donoho, 2022). Infinite when the
    class means span fewer than $K-1$ directions; NaN when all variability has collapsed.
    """
    omega = snr_singular_values(stats)
    return omega[0] / omega[-1] if len(omega) == stats.K - 1 else stats.mu.new_tensor(torch.inf)


_Extended = tuple[Float[Tensor, "K d"], Float[Tensor, "d d"], Float[Tensor, " K"]]


def _extended(stats: ClassStats, bias: bool) -> _Extended:
    """Class means, within-class covariance and class shares; with a bias, of features with a last entry of 1."""
    if stats.basis is not None:
        raise ValueError("the squared error needs scatter in all of feature space: use ClassStats.of")
    shares = stats.require_every_class().n / stats.N
    if not bias:
        return stats.mu, stats.Sigma_W, shares
    return pad(stats.mu, (0, 1), value=1.0), pad(stats.Sigma_W, (0, 1, 0, 1)), shares


def _solve(features: _Extended, lambda_W: float) -> tuple[Float[Tensor, "K d"], Float[Tensor, "d d"]]:
    """The best classifier, and the matrix A that says what leaving it costs."""
    if not (math.isfinite(lambda_W) and lambda_W >= 0):
        raise ValueError(f"lambda_W must be at least 0, got {lambda_W!r}")
    mu, Sigma_W, shares = features
    weighted = mu * shares[:, None]
    A = Sigma_W + mu.T @ weighted
    A.diagonal().add_(lambda_W)
    return weighted @ torch.linalg.pinv(A, hermitian=True), A


def _costs(
    W: Float[Tensor, "K d"], features: _Extended, lambda_W: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """What scatter and penalty cost a classifier, and what it misses at the class means."""
    mu, Sigma_W, shares = features
    missed = mu @ W.T - torch.eye(len(mu)).to(mu)
    scatter = _quadratic(W, Sigma_W) + lambda_W * W.square().sum()
    return scatter / 2, (shares @ missed.square().sum(1)) / 2


def _quadratic(W: Float[Tensor, "K d"], A: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    r"""$\mathrm{Tr}\,W A W^\top$."""
    return ((W @ A) * W).sum()
