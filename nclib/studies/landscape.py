"""Where many random starts end in the unconstrained-feature model: how far from the optimum, at what kind of point."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nclib import studies
from nclib.runs import Run
from nclib.studies.params import ParameterError, StudyParams, param
from nclib.theory import first_order, solver
from nclib.theory.batched import Problem
from nclib.theory.landscape import CriticalPoint, classify

OWN = {
    "gd": {"lr": 5.0, "batch_size": 0, "epochs": 700},
    "sgd": {"lr": 2.0, "batch_size": 500, "epochs": 600},
    "adam": {"lr": 0.1, "batch_size": 0, "epochs": 500},
    "lbfgs": {"lr": 0.0, "batch_size": 0, "epochs": 10_000},
    "gradient_norm": {"lr": 0.0, "batch_size": 0, "epochs": 20_000},
}
"""Ours: settings by method, taken where a parameter is left at 0.

Of a few tried at K = 10 and n = 100, those with which every start ends within 1e-7 of the optimum in less than half a
second; line searches need no step size.
"""

KINDS = {
    "global minimum": "global_minima",
    "saddle": "saddles",
    "other local minimum": "other_minima",
    "not critical": "not_critical",
}
"""The metric that counts each kind of point."""

REACHED = 1e-6
"""Largest relative gap at which a restart counts as having reached the optimum."""


@dataclass(frozen=True, kw_only=True)
class Params(StudyParams):
    """The problem, how it is descended, and from how many starts at once. float64 throughout.

    Methods gd, sgd, adam and lbfgs descend f; gradient_norm descends the norm of its gradient, and so ends in saddles,
    too. The line searches, of the last two, average features within classes first.
    """

    num_classes: int = param(10, min=2)
    per_class: int = param(100, min=1)  # ours
    feature_dim: int = param(16, min=1)  # ours; the theory needs d > K
    lambda_W: float = param(1e-3, above=0)  # ours: K sqrt(n lambda_W lambda_H) = 0.1
    lambda_H: float = param(1e-3, above=0)  # ours
    lambda_b: float = param(0.0, min=0)  # zhu2021: free or regularised
    init_scale: float = param(0.1, above=0)  # ours: standard deviation of every initial entry
    restarts: int = param(70, min=1)  # ours: three seeds are 210 starts
    method: str = param("lbfgs", choices=tuple(OWN))
    lr: float = param(0.0, min=0)  # of gd, sgd and adam; 0: our own
    momentum: float = param(0.9, min=0, max=1)  # of gd and sgd
    batch_size: int = param(0, min=0)  # of sgd; 0: our own
    epochs: int = param(0, min=0)  # 0: our own; of a line search: the most evaluations of f

    def __post_init__(self) -> None:
        super().__post_init__()
        N = self.num_classes * self.per_class
        own = OWN[self.method]
        own = own | {"batch_size": min(own["batch_size"], (N + 1) // 2)}
        for name, value in own.items():
            object.__setattr__(self, name, getattr(self, name) or value)
        if self.method == "sgd" and self.batch_size > N:
            raise ParameterError(f"batch_size must be at most {N}, all samples, got {self.batch_size}")


SMOKE = Params(
    num_classes=3, per_class=2, feature_dim=5, lambda_W=0.02, lambda_H=0.01, method="sgd", restarts=3,
    lr=0.5, batch_size=4, epochs=5,
)  # fmt: skip
"""The smallest run that draws starts and orders, in float64: what `nclib.studies.smoke` holds the code to."""


def dataset(params: Params) -> str | None:
    """Nothing: the features are free."""
    return None


def cost(params: Params) -> float:
    """Rough seconds of a run on one core."""
    size = params.num_classes * params.per_class * params.feature_dim
    if params.method not in first_order.METHODS:
        return params.restarts * 0.02
    return params.restarts * params.epochs * (2e-5 + 2.5e-8 * size)


def trajectory(params: Params) -> Run:
    """The recorded run of these parameters, descended and recorded first if it never was."""
    return studies.trajectory("landscape", params)


def run(params: Params, *, folder: Path, device: torch.device) -> tuple[list[dict], dict]:
    """Descend from every start, judge where it ended, and return rows over all restarts and arrays of each."""
    problem = Problem(
        num_classes=params.num_classes, per_class=params.per_class, feature_dim=params.feature_dim,
        lambda_W=params.lambda_W, lambda_H=params.lambda_H, lambda_b=params.lambda_b,
    )  # fmt: skip
    solutions = _descend(problem, params, device)
    points = classify(problem, solutions)
    arrays = {
        "excess": [point.excess for point in points],
        "gradient_norm": [point.certificate.gradient_norm for point in points],
        "certificate": [point.certificate.spectral_norm / point.certificate.threshold for point in points],
        "eigenvalue": [point.eigenvalue for point in points],
        "rank": [point.rank for point in points],
        "kind": [list(KINDS).index(point.kind) for point in points],
    }
    arrays = {name: np.array(values) for name, values in arrays.items()}
    rows = [
        {"epoch": params.epochs, "split": "train", "labels": "clean", "layer": "restarts"}
        | {"metric": metric, "value": float(value)}
        for metric, value in _over_restarts(points, arrays)
    ]
    return rows, arrays


def _descend(problem: Problem, params: Params, device: torch.device) -> solver.Solutions:
    starts = problem.draw(params.restarts, studies.generator("init", params.seed), scale=params.init_scale)
    starts = type(starts)(*(part.to(device) for part in starts))
    if params.method == "lbfgs":
        return solver.descend(problem, starts, max_evaluations=params.epochs)
    if params.method == "gradient_norm":
        return solver.critical_points(problem, starts, max_evaluations=params.epochs)
    return first_order.iterate(
        problem, starts, method=params.method, lr=params.lr, momentum=params.momentum,
        batch_size=params.batch_size, epochs=params.epochs, generator=studies.generator("order", params.seed),
    )  # fmt: skip


def _over_restarts(points: list[CriticalPoint], arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, float]]:
    gaps = np.abs(arrays["excess"])
    yield "objective_gap_max", gaps.max()
    yield "objective_gap_median", np.median(gaps)
    yield "reached_share", (gaps < REACHED).mean()
    yield "gradient_norm_max", arrays["gradient_norm"].max()
    yield "certificate_error_max", np.abs(arrays["certificate"] - 1).max()
    kinds = Counter(point.kind for point in points)
    yield from ((metric, kinds[kind]) for kind, metric in KINDS.items())
    saddles = [point.eigenvalue for point in points if point.kind == "saddle"]
    if saddles:
        yield "saddle_eigenvalue_max", max(saddles)
