"""Adversarial distances: how far an input is from the nearest decision boundary, by DeepFool."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nclib.modes import in_eval_mode

_BATCH = 250  # inputs in flight: K gradients of each are in memory at once
_PAST_TIES = (4, 16, 64, 256)  # steps past a tie, in units of rounding


@dataclass(frozen=True)
class Perturbations:
    """What changes a classifier's decision, one perturbation a sample; NaN where none was found."""

    r: Float[Tensor, "n ..."]
    """The perturbations: x + r is decided otherwise than x. Units and dtype of x."""
    norm: Float[Tensor, " n"]
    """|r|, the Euclidean norm over all entries."""
    relative: Float[Tensor, " n"]
    """|r| / |x|; NaN also for an input of zeros, of which every perturbation is infinitely many times the size."""
    found: Bool[Tensor, " n"]
    """Whether the decision changed within the steps allowed; not where a network is constant around a point."""
    steps: Int[Tensor, " n"]
    """Linearisations used; what moved an input past a tie comes on top of the steps allowed."""


def deepfool(
    model: nn.Module, x: Float[Tensor, "n ..."], *, overshoot: float = 0.02, steps: int = 50
) -> Perturbations:
    r"""A small L2 perturbation of each input that changes the model's decision on it.

    From $x_0 = x$ with decision $\hat k = \arg\max_k f_k(x)$, each step goes to the nearest boundary of the
    linearised classifier and `overshoot` $\eta$ beyond it, until the decision is another:

    $$x_{i+1} = x_i + (1+\eta)\,\frac{|f_l - f_{\hat k}|}{\|w_l\|^2}\,w_l,\quad w_k = \nabla f_k - \nabla
    f_{\hat k},\quad l = \arg\min_{k\ne\hat k} \frac{|f_k - f_{\hat k}|}{\|w_k\|}.$$

    $\|r\|$ is an upper bound on the distance to the boundary; $1 + \eta$ times that distance for an affine
    classifier. The attack starts from the model's own decision; no label is involved. An input that such steps leave
    at a tie, too short to move it in its precision, is moved by a few times what rounding takes: the boundary is there.

    model: inputs (n, ...) to logits (n, K), each row's logits depending on that row alone in eval mode, where
    it is measured; every module is left in its mode, and the parameters receive no gradient.
    x: in the units and the dtype that the model gets. Both defaults are the source's.

    Raises ValueError for inputs that are empty, not floating point or not finite, fewer than two logits, a
    negative overshoot, or fewer than one step.
    Moosavi-Dezfooli, Fawzi & Frossard (2016), algorithm 2, with $\eta$ in every step as in the authors' code.
    """
    if len(x) == 0 or not x.is_floating_point() or not x.isfinite().all():
        raise ValueError("inputs must be floating point, finite, and at least one")
    if not (math.isfinite(overshoot) and overshoot >= 0) or steps < 1:
        raise ValueError(
            f"overshoot must be at least 0 and steps at least 1, got {overshoot!r} and {steps!r}"
        )
    with in_eval_mode(model):
        parts = [_attack(model, batch, overshoot, steps) for batch in x.detach().split(_BATCH)]
    r, found, used = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    norm, size = norms(r), norms(x.detach())
    relative = torch.where(size > 0, norm / size, torch.nan)
    return Perturbations(r, norm, relative, found, used)


def norms(x: Float[Tensor, "n ..."], scale: Float[Tensor, " c"] | None = None) -> Float[Tensor, " n"]:
    """The Euclidean norm of each sample over all its entries.

    scale: factors of the channels of x (n, c, ...); the standard deviations by which a data set was
    standardised turn perturbations into units of pixels.
    """
    rows = x.flatten(1) if scale is None else (x.flatten(2) * scale[:, None]).flatten(1)
    return torch.linalg.vector_norm(rows, dim=1)


def _attack(model: nn.Module, x: Tensor, overshoot: float, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    r = torch.zeros_like(x)
    used = torch.zeros(len(x), dtype=torch.long, device=x.device)
    decided = _decisions(model, x)
    active = torch.arange(len(x), device=x.device)
    for step in range(1, steps + 1):
        point = x[active] + r[active]
        r[active] += (1 + overshoot) * _to_nearest_boundary(model, point, decided[active])
        used[active] = step
        active = active[_decisions(model, x[active] + r[active]) == decided[active]]
        if len(active) == 0:
            break
    # Last of all: in whose company logits are computed may round them, so that this would reach other inputs.
    active = _past_ties(model, x, r, used, decided, active, overshoot)
    r[active] = torch.nan  # a perturbation that changes nothing is none
    found = torch.ones_like(used, dtype=torch.bool)
    found[active] = False
    return r, found, used


def _past_ties(
    model: nn.Module, x: Tensor, r: Tensor, used: Tensor, decided: Tensor, active: Tensor, overshoot: float
) -> Tensor:
    """Those of the active that are not moved over a boundary by steps of rounding size where their own are shorter."""
    if len(active) == 0:
        return active

    def way(least: float) -> Tensor:
        return (1 + overshoot) * _to_nearest_boundary(model, x[active] + r[active], decided[active], least)

    point, step, longer = x[active] + r[active], way(0), way(_PAST_TIES[0])
    # where no boundary is in sight, the longer step is zero too
    tied = (point + step == point).flatten(1).all(1) & (longer != 0).flatten(1).any(1)
    away, active = active[~tied], active[tied]
    for least in _PAST_TIES:
        if len(active) == 0:
            break
        r[active] += way(least)
        used[active] += 1
        active = active[_decisions(model, x[active] + r[active]) == decided[active]]
    return torch.cat([away, active])


@torch.no_grad()
def _decisions(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).argmax(1)


@torch.enable_grad()
def _to_nearest_boundary(model: nn.Module, x: Tensor, decided: Tensor, least: float = 0) -> Tensor:
    """The shortest way to where the linearised classifier decides otherwise; zero where none is in sight.

    least: its length at least, in units of rounding; then classes that differ by rounding alone are one.
    """
    x = x.detach().requires_grad_()
    logits = model(x)
    K = logits.shape[1]
    if K < 2:
        raise ValueError(f"a decision needs at least two logits, got {K}")
    # one backward pass a class: samples do not mix, so the gradient of a sum holds every sample's own
    gradients = [torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)[0] for k in range(K)]
    sample = torch.arange(len(x), device=x.device)
    logits, w = logits.detach(), torch.stack(gradients, 1).flatten(2)
    steepest = torch.linalg.vector_norm(w, dim=2).amax(1, keepdim=True)
    w = w - w[sample, decided][:, None]
    f = logits - logits[sample, decided][:, None]
    slope = torch.linalg.vector_norm(w, dim=2)
    distance = f.abs() / slope
    # 0/0 is the decided class itself, or one that never differs from it: no boundary there
    none = distance.isnan()
    if least:
        none |= (f == 0) & (slope <= 16 * torch.finfo(x.dtype).eps * steepest)
    distance = torch.where(none, torch.inf, distance)
    nearest = distance.argmin(1)
    length, w = distance[sample, nearest][:, None], w[sample, nearest]
    if least:
        rounding = _rounding(x.detach(), logits, slope[sample, nearest])[:, None]
        length = torch.maximum(length, least * rounding)
    way = length * torch.nn.functional.normalize(w, dim=1, eps=0)
    return torch.where(length.isfinite(), way, 0).view_as(x)


def _rounding(x: Float[Tensor, "n ..."], logits: Float[Tensor, "n K"], slope: Tensor) -> Float[Tensor, " n"]:
    """The least that changes x in whatever direction, and logits where a difference of them has this slope."""
    # of a step in d dimensions the largest entry is at least the step's length over sqrt(d)
    by_x = torch.finfo(x.dtype).eps * norms(x) * math.sqrt(x[0].numel())
    by_logits = torch.finfo(logits.dtype).eps * logits.abs().amax(1) / slope
    # where both are zero, what still has a square
    return torch.maximum(by_x, by_logits).clamp(min=math.sqrt(torch.finfo(x.dtype).tiny))
