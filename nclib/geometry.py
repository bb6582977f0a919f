"""The simplex equiangular tight frame, other polytopes, and what a feature space of dimension d allows."""

from math import sqrt

import torch
from jaxtyping import Float, Num
from torch import Tensor


def _check_classes(K: int, at_least: int = 2) -> None:
    if not isinstance(K, int) or isinstance(K, bool) or at_least > K:
        raise ValueError(f"K must be an integer of at least {at_least}, got {K!r}")


def simplex_gram(K: int) -> Float[Tensor, "K K"]:
    r"""The Gram matrix of a unit-norm simplex ETF, $\frac{K}{K-1}(I - \frac1K 11^\top)$.

    Ones on the diagonal, $-1/(K-1)$ elsewhere; rank $K-1$; Frobenius norm $K/\sqrt{K-1}$. float64.
    Source: Papyan, Han & Donoho (2020), Definition 1.
    """
    _check_classes(K)
    return (K * torch.eye(K, dtype=torch.float64) - 1) / (K - 1)


def simplex_etf(
    K: int, d: int | None = None, *, generator: torch.Generator | None = None
) -> Float[Tensor, "K d"]:
    r"""Rows that are the $K$ vertices of a simplex ETF in $\mathbb{R}^d$: unit norms, cosines $-1/(K-1)$.

    Without `d` the smallest dimension $K-1$ is used; with a `generator` the frame is rotated at random.
    Raises ValueError when $d < K-1$, where no such frame exists. float64.
    """
    _check_classes(K)
    d = K - 1 if d is None else d
    if d < K - 1:
        raise ValueError(f"a simplex ETF of K={K} vectors needs d >= {K - 1} dimensions, got d={d}")
    vertices = torch.zeros(K, d, dtype=torch.float64)
    # Helmert's contrasts are an orthonormal basis of the complement of 1: exact, and without an eigensolver's
    # arbitrary signs.
    for k in range(1, K):
        vertices[:k, k - 1] = 1 / sqrt(k * (k + 1))
        vertices[k, k - 1] = -k / sqrt(k * (k + 1))
    vertices *= sqrt(K / (K - 1))
    return vertices if generator is None else vertices @ random_rotation(d, generator)


def orthoplex(K: int, d: int | None = None) -> Float[Tensor, "K d"]:
    r"""Rows $\pm e_j$: $K$ vertices of the cross-polytope in $\mathbb{R}^d$, largest cosine 0, $K \le 2d$.

    Without `d` the smallest dimension $\lceil K/2 \rceil$ is used. Raises ValueError when $K > 2d$. float64.
    """
    _check_classes(K)
    d = -(-K // 2) if d is None else d
    if 2 * d < K:
        raise ValueError(f"an orthoplex with K={K} vertices needs d >= {-(-K // 2)} dimensions, got d={d}")
    axes = torch.eye(d, dtype=torch.float64)
    return torch.cat([axes, -axes])[:K] if d < K else axes[:K]


def hypercube(K: int, d: int | None = None) -> Float[Tensor, "K d"]:
    r"""Rows $(\pm1, \dots, \pm1)/\sqrt d$: $K$ vertices of the cube in $\mathbb{R}^d$, unit norms, $K \le 2^d$.

    Without `d` the smallest dimension $m = \lceil\log_2 K\rceil$ is used. Vertices come in opposite pairs, and where
    $K$ is odd one of them alone: the norm of their mean is 0 or $1/K$, the least that $K$ vertices can have. The
    first of each pair are the binary numbers 0, 1, ... in $m$ digits, 0 for + and 1 for -. In more dimensions the
    digits are repeated in turn, which keeps different vertices apart. Largest cosine: $1 - 2/d$ at $d = m$, where no
    choice has a smaller one.
    Raises ValueError when $K > 2^d$. float64.
    """
    _check_classes(K)
    m = (K - 1).bit_length()
    d = m if d is None else d
    if d < m:
        raise ValueError(f"a hypercube with K={K} vertices needs d >= {m} dimensions, got d={d}")
    digits = torch.arange(d).remainder(m)
    numbers = torch.arange(-(-K // 2)).unsqueeze(1)
    signs = 1.0 - 2.0 * (numbers.bitwise_right_shift(m - 1 - digits) & 1).double()
    return torch.cat([signs, -signs])[:K] / sqrt(d)


def regular_polygon(K: int) -> Float[Tensor, "K 2"]:
    """Rows equally spaced on the unit circle: the softmax code in two dimensions. float64."""
    _check_classes(K)
    angle = torch.arange(K, dtype=torch.float64) * (2 * torch.pi / K)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def random_rotation(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """An orthogonal matrix drawn uniformly (Haar) from `generator`. float64."""
    Q, R = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator))
    return Q * R.diagonal().sign()  # without the signs QR's convention would bias the draw


def simplex_axes(mu: Float[Tensor, "K d"]) -> Float[Tensor, "d K"]:
    r"""The partial isometry $Q$ that lays class means onto the standard simplex as well as a rotation can.

    Of all partial isometries from feature space into the complement of 1 in $\mathbb{R}^K$ it maximises
    $\mathrm{tr}(J^\top M Q)$, where $J = I - \frac1K 11^\top$ has the simplex's vertices as rows and $M$ is `mu`
    centred. As $J^\top M = M$, with $M = U s V^\top$ it is $Q = V U^\top$ and $MQ = (MM^\top)^{1/2}$: the means keep
    their Gram matrix. Directions that the means do not span are projected away: $\Sigma_B$'s eigenvalues up to 1e-11
    of the largest count as none, and means that all coincide give $Q = 0$. Raises ValueError for fewer than two
    classes and for a mean that is not finite. float64. Source: orthogonal Procrustes (Schönemann, 1966).
    """
    _check_classes(len(mu))
    if not mu.isfinite().all():
        raise ValueError("class means contain NaN or infinite values")
    mu = mu.double()
    U, s, Vh = torch.linalg.svd(mu - mu.mean(0), full_matrices=False)
    rounding = torch.finfo(mu.dtype).eps * max(mu.shape) * mu.abs().max()  # of means that coincide
    keep = (s.square() > 1e-11 * s[0].square()) & (s > rounding)
    return Vh[keep].T @ U[:, keep].T


@torch.no_grad()
def simplex_points(
    mu: Float[Tensor, "K d"], W: Float[Tensor, "K d"], H: Num[Tensor, "m d"]
) -> dict[str, Float[Tensor, "_ K"]]:
    r"""Class means, classifiers and features in the axes $Q$ of `simplex_axes`: where collapse puts them on vertices.

    `points_means`: $(\mu_c - \mu_G)Q/a$ and `points_features`: $(h - \mu_G)Q/a$, the length $a$ chosen so that the
    means' mean squared norm is the vertices', $1 - \frac1K$; `points_weights`: $w_cQ$ at a scale of their own, chosen
    likewise. At collapse all of them are rows of $I - \frac1K 11^\top$, whatever the rotation, shift and scale of
    feature space. What has no extent along the means (all means equal, a classifier of zeros) lies at the centre.
    Raises ValueError as `simplex_axes` does, and when `W` or `H` has another shape or entries that are not finite.
    Units: none. float64.
    """
    Q = simplex_axes(mu)
    K, d = mu.shape
    if W.shape != mu.shape or H.ndim != 2 or H.shape[1] != d:
        raise ValueError(
            f"with means {(K, d)} the classifier must be {(K, d)} and features (m, {d}), "
            f"got {tuple(W.shape)} and {tuple(H.shape)}"
        )
    if not (W.isfinite().all() and H.isfinite().all()):
        raise ValueError("classifier or features contain NaN or infinite values")
    mu_G = mu.double().mean(0)
    means, weights, features = (mu.double() - mu_G) @ Q, W.double() @ Q, (H.double() - mu_G) @ Q
    a, b = (float(torch.linalg.matrix_norm(points)) / sqrt(K - 1) or 1.0 for points in (means, weights))
    return {"points_means": means / a, "points_weights": weights / b, "points_features": features / a}


def simplex_picture(
    mu: Float[Tensor, "K d"], W: Float[Tensor, "K d"], H: Num[Tensor, "m d"]
) -> dict[str, Tensor]:
    """What is drawn of an epoch: `means` and `weights` (K, d) in float32, and `simplex_points` in float16."""
    points = {name: value.half() for name, value in simplex_points(mu, W, H).items()}
    return {"means": mu.float(), "weights": W.float()} | points


def one_vs_rest_margin(V: Float[Tensor, "K d"]) -> float:
    r"""The smallest distance of one row's direction from the convex hull of all others' directions.

    $\min_k \mathrm{dist}(u_k, \mathrm{conv}\{u_j\}_{j \ne k})$ with $u_k = v_k/\|v_k\|$: what a softmax code
    maximises (Jiang et al., 2023). $K/(K-1)$ for a simplex ETF, 1 for an orthoplex with an opposite pair,
    $1 - \cos(2\pi/K)$ for a regular polygon; 0 when a direction lies in the hull of others. NaN where a row
    is zero. Computed in float64.
    """
    U = torch.nn.functional.normalize(V.detach().double().cpu(), dim=1, eps=0)
    if not U.isfinite().all():
        return float("nan")
    # the distance to the origin of the hull moved by -u_k
    return min(_hull_norm(torch.cat([U[:k], U[k + 1 :]]) - U[k]) for k in range(len(U)))


def _hull_norm(P: Float[Tensor, "n d"]) -> float:
    """The norm of the point of a polytope's convex hull that is nearest to the origin (Wolfe, 1976)."""
    tolerance = 1e-12 * float(P.square().sum(1).max())
    corral, weights = [int(P.square().sum(1).argmin())], P.new_ones(1)
    x = P[corral[0]]
    while True:
        inner = P @ x
        best = int(inner.argmin())
        if best in corral or float(x @ x - inner[best]) <= tolerance:
            return float(torch.linalg.vector_norm(x))
        corral, weights = [*corral, best], torch.cat([weights, weights.new_zeros(1)])
        while True:
            wanted = _affine_minimiser(P[corral])
            if (wanted > 1e-14).all():
                weights = wanted
                break
            # from the old point towards the new one as far as it stays inside, dropping whose weight is used up
            leaving = wanted <= 1e-14
            step = (weights[leaving] / (weights[leaving] - wanted[leaving])).min().clamp(max=1)
            weights = weights + step * (wanted - weights)
            keep = weights > 1e-14
            corral, weights = [c for c, k in zip(corral, keep.tolist(), strict=True) if k], weights[keep]
        x = weights @ P[corral]


def _affine_minimiser(P: Float[Tensor, "m d"]) -> Float[Tensor, " m"]:
    """Weights, summing to one, of the point nearest to the origin in the affine hull of some points."""
    m = len(P)
    system = P.new_ones(m + 1, m + 1)
    system[0, 0], system[1:, 1:] = 0, P @ P.T
    right = P.new_zeros(m + 1)
    right[0] = 1
    # The driver that minds no rank deficiency is LAPACK's: `one_vs_rest_margin` keeps to the CPU.
    return torch.linalg.lstsq(system, right.unsqueeze(1), driver="gelsd").solution[1:, 0]


def nc2_gram_floor(K: int, d: int) -> float:
    r"""The smallest $\|G - \frac{K}{K-1}(I - \frac1K 11^\top)\|_F$ over Gram matrices $G$ of $K$ unit vectors
    in $\mathbb{R}^d$: $K\sqrt{1/d - 1/(K-1)}$ for $d < K-1$, and 0 from $d = K-1$ on.

    $\mathrm{tr}\,G = K$ and rank at most $d$ force $\|G\|_F^2 \ge K^2/d$; zero-sum unit-norm tight frames
    attain it.
    Raises ValueError for d < 1.
    """
    _check_classes(K)
    if d < 1:
        raise ValueError(f"d must be at least 1, got {d}")
    return K * sqrt(max(0.0, 1 / d - 1 / (K - 1)))
