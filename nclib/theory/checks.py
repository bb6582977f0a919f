r"""Every statement of the closed forms, put to random instances: how far the worst of them violates it.

An instance draws K from 2 to 6, n from 1 to 5, a dimension, weight decays over several decades on both sides of the
threshold where the paper has any, and points. `zhu2021_saddles` draws K from 4 to 12 and `zhu2021_descent` K up to 5
and n up to 3, both below the threshold only. A statement with a condition is tried on the instances that meet it.

An equality is violated by its relative error, what must vanish by its share of the terms that cancel, an inequality by
how far it is missed, relative to its upper side, and by nothing where it holds. Absolute are all violations of
`mixon2020`, stationarity of `tirer2022_extended` and, at zero, of `tirer2022`, and the lower bound of `zhu2021`.
Violations are without unit; those of true statements are rounding. All in float64.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from nclib.theory import convex, critical_points, ji2021, mixon2020, tirer2022, tirer2022_extended, zhu2021
from nclib.theory.instances import log_uniform, whole, worst

Violations = Iterator[tuple[str, float]]


def violations(paper: str, generator: torch.Generator, *, instances: int = 1000) -> dict[str, float]:
    """The largest violation of each statement of a paper over random instances, by the statement's name.

    Papers are the keys of `PAPERS`; `zhu2021_descent` descends f from a random start with L-BFGS in d >= K - 1
    dimensions, some 50 ms an instance, the others evaluate points, `zhu2021_saddles` those at which groups of classes
    share a vertex. A violation that is not a number makes the largest NaN. ValueError for another paper or fewer than
    one instance.
    """
    if paper not in PAPERS:
        raise ValueError(f"no statements of {paper!r}; there are {', '.join(PAPERS)}")
    if instances < 1:
        raise ValueError(f"instances must be at least 1, got {instances}")
    found = defaultdict(list)
    for _ in range(instances):
        for name, value in PAPERS[paper](generator):
            found[name].append(float(value))
    return {name: worst(*values) for name, values in found.items()}


def _zhu2021(g: torch.Generator) -> Violations:
    K, n = whole(2, 6, g), whole(1, 5, g)
    d, y = whole(K - 1, K + 2, g), torch.arange(K).repeat_interleave(n)
    t, ratio = log_uniform(1e-4, 2.0, g) / K, log_uniform(1e-2, 1e2, g)
    decays = {"lambda_W": t / sqrt(n) * ratio, "lambda_H": t / sqrt(n) / ratio}
    lambda_W, lambda_H = decays.values()
    minimum = zhu2021.global_minimum(num_classes=K, per_class=n, **decays)
    best = minimum.construct(d, g)
    W, H, b = (torch.randn(part.shape, generator=g, dtype=torch.float64) for part in best)
    H = H + W.repeat_interleave(n, dim=0)  # classes told apart: nearer to the bounds

    yield "value", _relative(zhu2021.objective(*best, y, **decays), minimum.value)
    certificate = zhu2021.certificate(*best, y, **decays)
    if minimum.collapsed:
        decay = torch.cat([lambda_W * best[0], lambda_H * best[1]]).norm()
        yield "stationarity", certificate.gradient_norm / decay
        yield "norms", _relative(best[0].square().sum(), minimum.W_norm_squared)
        yield "norms", _relative(best[1].square().sum(), minimum.H_norm_squared)
        yield "certificate", _relative(certificate.spectral_norm, certificate.threshold)
        entropy = zhu2021.objective(*best, y, lambda_W=0.0, lambda_H=0.0)
        bound = zhu2021.lower_bound(minimum.W_norm_squared, num_classes=K, per_class=n, **decays)
        yield "lower bound attained", _relative(bound, entropy)
    else:
        yield "certificate", _excess(certificate.spectral_norm, certificate.threshold)
    for near in (W, H, b), [p + 1e-3 * q for p, q in zip(best, (W, H, b), strict=True)]:
        yield "no point below", _excess(minimum.value, zhu2021.objective(*near, y, **decays))
        partner = zhu2021.convex_partner(near[1] @ near[0].T, y, near[2], **decays)
        yield "partner below f", _excess(partner, zhu2021.objective(*near, y, **decays))
        yield "partner above minimum", _excess(minimum.value, partner)
        rho = near[0].square().sum()
        balanced = near[1] * sqrt(lambda_W / lambda_H) * rho.sqrt() / near[1].norm()
        entropy = zhu2021.objective(near[0], balanced, near[2], y, lambda_W=0.0, lambda_H=0.0)
        bound = zhu2021.lower_bound(rho, num_classes=K, per_class=n, **decays)
        # Absolute: a cross-entropy near zero is rounded to multiples of 2^-53.
        yield "lower bound", torch.relu(bound - entropy)
    # Two identities at every point, so that the unbalanced part and the mean row of W vanish at the critical ones.
    by_W, by_H, _ = zhu2021.gradient(W, H, b, y, **decays)
    unbalanced = lambda_W * W.T @ W - lambda_H * H.T @ H
    yield "balance", (W.T @ by_W - by_H.T @ H - unbalanced).norm() / unbalanced.norm()
    yield "centred classifier", (by_W - lambda_W * W).sum(0).norm() / (lambda_W * W.sum(0)).norm()

    zero = tuple(0 * part for part in best)
    at_zero = zhu2021.certificate(*zero, y, **decays)
    threshold = zhu2021.collapse_threshold(num_classes=K, per_class=n)
    yield "threshold", _relative(at_zero.spectral_norm, threshold)
    if at_zero.spectral_norm > (1 + 1e-6) * sqrt(lambda_W * lambda_H):
        measured, predicted = _curvatures(zero, y, decays)
        yield "curvature", _relative(measured, predicted)
        yield "curvature", _relative(measured, -2 * (threshold - sqrt(lambda_W * lambda_H)))


def _zhu2021_saddles(g: torch.Generator) -> Violations:
    groups, shared, n = whole(2, 4, g), whole(2, 3, g), whole(1, 5, g)
    K = groups * shared
    d, y = whole(groups, K + 2, g), torch.arange(K).repeat_interleave(n)
    tau, ratio = log_uniform(1e-4, 0.9, g) / (K * sqrt(n)), log_uniform(1e-2, 1e2, g)
    decays = {"lambda_W": tau * ratio, "lambda_H": tau / ratio}
    saddle = critical_points.grouped(num_classes=K, per_class=n, **decays, groups=groups, d=d, generator=g)
    certificate = zhu2021.certificate(*saddle, y, **decays)
    pull = torch.cat([decays["lambda_W"] * saddle[0], decays["lambda_H"] * saddle[1]]).norm()
    yield "stationarity at saddles", certificate.gradient_norm / pull
    threshold = zhu2021.collapse_threshold(num_classes=K, per_class=n)
    yield "threshold at saddles", _relative(certificate.spectral_norm, threshold)
    measured, predicted = _curvatures(saddle, y, decays)
    yield "curvature at saddles", _relative(measured, predicted)
    yield "curvature at saddles", _relative(measured, -2 * (threshold - tau))


def _curvatures(point: critical_points.Point, y: Tensor, decays: dict[str, float]) -> tuple[Tensor, float]:
    """The curvature of f along the escape direction, by a Hessian-vector product and as predicted."""
    way = zhu2021.escape_direction(*point, y, **decays)
    by_W, by_H, _ = zhu2021.hessian_vector_product(*point, y, way.delta_W, way.delta_H, **decays)
    return (by_W * way.delta_W).sum() + (by_H * way.delta_H).sum(), way.curvature


def _zhu2021_descent(g: torch.Generator) -> Violations:
    K, n = whole(2, 5, g), whole(1, 3, g)
    d, y = whole(K - 1, K + 2, g), torch.arange(K).repeat_interleave(n)
    lam = log_uniform(1e-2, 0.9, g) / (K * sqrt(n))
    shapes = ((K, d), (K * n, d), (K,))
    point = [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in shapes]
    # Not by `nclib.theory.solver`, whose balanced coordinates and class means are made from what is checked here.
    optimizer = torch.optim.LBFGS(
        point, max_iter=1000, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = zhu2021.objective(*point, y, lambda_W=lam, lambda_H=lam)
        value.backward()
        return value

    optimizer.step(closure)
    minimum = zhu2021.global_minimum(num_classes=K, per_class=n, lambda_W=lam, lambda_H=lam)
    W, H, b = (part.detach() for part in point)
    value = zhu2021.objective(W, H, b, y, lambda_W=lam, lambda_H=lam)
    yield "no point below", _excess(minimum.value, value)
    yield "descent reaches the value", _relative(value, minimum.value)
    yield "balance", (W.T @ W - H.T @ H).norm() / (W.T @ W).norm()
    certificate = zhu2021.certificate(W, H, b, y, lambda_W=lam, lambda_H=lam)
    yield "certificate", _relative(certificate.spectral_norm, certificate.threshold)


def _tirer2022(g: torch.Generator) -> Violations:
    K, n, d = whole(2, 6, g), whole(1, 5, g), whole(1, 8, g)
    bias, y = whole(0, 1, g) == 1, torch.arange(K).repeat_interleave(n)
    c, ratio = log_uniform(1e-4, 2.0, g), log_uniform(1e-2, 1e2, g)
    decays = {"lambda_W": c * ratio, "lambda_H": c / ratio}
    minimum = tirer2022.global_minimum(num_classes=K, per_class=n, **decays, bias=bias, d=d)
    best = minimum.construct(d, g)
    W, H = (torch.randn(part.shape, generator=g, dtype=torch.float64) for part in best[:2])
    b = torch.randn(K, generator=g, dtype=torch.float64) if bias else None

    yield "value", _relative(tirer2022.objective(*best, y, **decays), minimum.value)
    certificate = tirer2022.certificate(*best, y, **decays)
    if minimum.collapsed:
        yield "norms", _relative(best[0].square().sum(), minimum.W_norm_squared)
        yield "norms", _relative(best[1].square().sum(), minimum.H_norm_squared)
        decay = torch.cat([decays["lambda_W"] / K * best[0], decays["lambda_H"] / (K * n) * best[1]]).norm()
        yield "stationarity", certificate.gradient_norm / decay
    else:
        yield "stationarity", certificate.gradient_norm
    if d >= K:
        G = tirer2022.residual(*best, y) / len(y)
        yield "certificate", convex.subgradient_violation(best[1] @ best[0].T, G, certificate.threshold)
    for scale in (1.0, 1e-3):
        near = [scale * q + (0 if scale == 1 else p) for p, q in zip(best[:2], (W, H), strict=True)]
        near.append(None if b is None else best[2] + scale * b)
        value = tirer2022.objective(*near, y, **decays)
        yield "no point below", _excess(minimum.value, value)
        loss = tirer2022.objective(*near, y, lambda_W=0.0, lambda_H=0.0)
        nuclear_norm = torch.linalg.matrix_norm(near[1] @ near[0].T, "nuc")
        yield "partner below f", _excess(loss + certificate.threshold * nuclear_norm, value)


def _tirer2022_extended(g: torch.Generator) -> Violations:
    K, n = whole(2, 6, g), whole(1, 5, g)
    d, y = whole(K, K + 2, g), torch.arange(K).repeat_interleave(n)
    product = log_uniform(1e-4, 0.2, g)
    one, two = log_uniform(0.1, 10.0, g), log_uniform(0.1, 10.0, g)
    decays = {"lambda_W2": one, "lambda_W1": two, "lambda_H": product / (one * two)}
    minimum = tirer2022_extended.global_minimum(num_classes=K, per_class=n, **decays)
    best = minimum.construct(d, g)
    noise = [torch.randn(part.shape, generator=g, dtype=torch.float64) for part in best]
    yield "value", _relative(tirer2022_extended.objective(*best, y, **decays), minimum.value)
    by_parameter = tirer2022_extended.gradient(*best, y, **decays)
    yield "stationarity", torch.cat([part.flatten() for part in by_parameter]).norm()
    for scale in (1.0, 1e-3):
        near = [p + scale * q for p, q in zip(best, noise, strict=True)]
        yield "no point below", _excess(minimum.value, tirer2022_extended.objective(*near, y, **decays))
    yield "no point below", _excess(minimum.value, 0.5)  # zero
    # Along the minimiser's own shape at any other size of the logits.
    along = replace(minimum, signal=torch.rand((), generator=g).item()).construct(d)
    yield "no point below", _excess(minimum.value, tirer2022_extended.objective(*along, y, **decays))


def _ji2021(g: torch.Generator) -> Violations:
    K, n = whole(2, 6, g), whole(1, 5, g)
    d, y = whole(K - 1, K + 2, g), torch.arange(K).repeat_interleave(n)
    bound = ji2021.margin_bound(num_classes=K, per_class=n)
    best = ji2021.collapsed_direction(num_classes=K, per_class=n, d=d, generator=g)
    W, H = (torch.randn(part.shape, generator=g, dtype=torch.float64) for part in best)
    yield "bound attained", _relative(ji2021.normalised_margin(*best, y), bound)
    yield "unit margin", _relative(ji2021.margin(*best, y), 1.0)
    for scale in (0.01, 0.1, 1.0):
        near = [p + scale * q for p, q in zip(best, (W, H), strict=True)]
        yield "margin bound", _excess(ji2021.normalised_margin(*near, y), bound)
    by_W, by_H, _ = zhu2021.gradient(W, H, None, y, lambda_W=0.0, lambda_H=0.0)
    rates = (ji2021.conserved(W + by_W, H + by_H) - ji2021.conserved(W - by_W, H - by_H)) / 2
    yield "conservation", rates.norm() / (W.T @ by_W).norm()


def _mixon2020(g: torch.Generator) -> Violations:
    K, n = whole(2, 6, g), whole(1, 5, g)
    d, y = whole(K - 1, K + 2, g), torch.arange(K).repeat_interleave(n)
    best = mixon2020.strong_collapse(num_classes=K, per_class=n, d=d, generator=g)
    yield "no loss", mixon2020.objective(*best, y)
    apart = mixon2020.distances(*best, y)
    yield from (("distances", value.item()) for value in (apart.W, apart.H, apart.b))
    # From zero the flow keeps what is zero there.
    yield "conservation", ji2021.conserved(*best[:2]).norm()


PAPERS = {
    "ji2021": _ji2021,
    "mixon2020": _mixon2020,
    "tirer2022": _tirer2022,
    "tirer2022_extended": _tirer2022_extended,
    "zhu2021": _zhu2021,
    "zhu2021_descent": _zhu2021_descent,
    "zhu2021_saddles": _zhu2021_saddles,
}
"""What yields names and violations of one instance, by paper."""


def _relative(value: float | Tensor, expected: float | Tensor) -> float:
    return float(abs(value / expected - 1))


def _excess(lower: float | Tensor, upper: float | Tensor) -> float:
    """How far `lower` is above `upper`; NaN where one is."""
    return float(torch.relu(torch.as_tensor((lower - upper) / abs(upper), dtype=torch.float64)))
