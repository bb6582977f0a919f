"""Unconstrained features with cross-entropy, from random starts to the closed form (Zhu et al., 2021)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from nclib import studies
from nclib.measure import Split, measure
from nclib.models import UnconstrainedFeatures
from nclib.runs import Run
from nclib.studies.params import ParameterError, StudyParams, param
from nclib.theory import zhu2021
from nclib.training import SCHEDULES, Checkpoint, log_spaced, make_optimizer, train

OWN = {
    "sgd": {"lr": 0.5, "schedule": "cosine", "batch_size": 50, "epochs": 4000},
    "adam": {"lr": 0.01, "schedule": "cosine", "batch_size": 0, "epochs": 6000},
    "lbfgs": {"lr": 1.0, "schedule": "constant", "batch_size": 0, "epochs": 100},
}
"""Ours: settings by optimiser, taken where a parameter is left at "own", 0 or -1."""


@dataclass(frozen=True, kw_only=True)
class Params(StudyParams):
    """The problem (K, n, d and the three weight decays) and how it is descended. float64 throughout."""

    num_classes: int = param(10, min=2)
    per_class: int = param(20, min=1)  # ours
    feature_dim: int = param(20, min=1)  # ours; the theory needs d >= K - 1, its escape direction d > K
    lambda_W: float = param(1e-3, above=0)  # ours
    lambda_H: float = param(1e-3, above=0)  # ours
    lambda_b: float = param(1e-3, min=0)  # ours
    init_scale: float = param(0.1, above=0)  # ours: standard deviation of every initial entry
    optimizer: str = param("lbfgs", choices=tuple(OWN))
    lr: float = param(0.0, min=0)  # 0: our own for this optimiser
    schedule: str = param("own", choices=("own", *SCHEDULES))
    batch_size: int = param(-1, min=-1)  # -1: our own for this optimiser; 0: all samples at once
    momentum: float = param(0.9, min=0, max=1)  # SGD only
    epochs: int = param(0, min=0)  # 0: our own for this optimiser; for L-BFGS of up to 20 iterations each
    measurements: int = param(30, min=2)  # log-spaced epochs, besides epoch 0

    def __post_init__(self) -> None:
        super().__post_init__()
        own = OWN[self.optimizer]
        chosen = {
            "lr": self.lr or own["lr"],
            "schedule": own["schedule"] if self.schedule == "own" else self.schedule,
            "batch_size": own["batch_size"] if self.batch_size == -1 else self.batch_size,
            "epochs": self.epochs or own["epochs"],
        }
        for name, value in chosen.items():
            object.__setattr__(self, name, value)
        if self.optimizer == "lbfgs" and self.batch_size:
            raise ParameterError("lbfgs needs all samples at once: leave batch_size at 0")


SMOKE = Params(num_classes=4, per_class=3, feature_dim=6, optimizer="lbfgs", epochs=3, measurements=3)
"""The smallest run that exercises everything, in float64: what `nclib.studies.smoke` holds the code to."""


def dataset(params: Params) -> str | None:
    """Nothing: the features are free."""
    return None


def cost(params: Params) -> float:
    """Rough seconds of a run on one core."""
    N = params.num_classes * params.per_class
    steps = params.epochs * (20 if params.optimizer == "lbfgs" else max(1, N // (params.batch_size or N)))
    return steps * (2e-4 + 2e-9 * N * params.feature_dim * params.num_classes)


def trajectory(params: Params) -> Run:
    """The recorded run of these parameters, descended and recorded first if it never was."""
    return studies.trajectory("unconstrained", params)


def run(params: Params, *, folder: Path, device: torch.device) -> tuple[list[dict], dict]:
    """Descend once and return rows and arrays: singular values of W and H at every measured epoch."""
    K, n = params.num_classes, params.per_class
    model = UnconstrainedFeatures(
        num_classes=K, per_class=n, feature_dim=params.feature_dim,
        scale=params.init_scale, generator=studies.generator("init", params.seed),
    ).to(device)  # fmt: skip
    index, y = torch.arange(K * n, device=device), model.labels
    checkpoint = Checkpoint(folder / "checkpoint.pt")
    rows, spectra = checkpoint.setdefault("rows", []), checkpoint.setdefault("spectra", [])
    decay = {"head.weight": params.lambda_W, "H": params.lambda_H, "head.bias": params.lambda_b}
    optimizer = make_optimizer(
        model, params.optimizer, lr=params.lr, weight_decay=decay, momentum=params.momentum
    )
    pauses = (0, *log_spaced(params.epochs, params.measurements))
    for epoch in train(
        model, index, y,
        optimizer=optimizer, schedule=params.schedule, epochs=params.epochs,
        batch_size=params.batch_size or K * n, generator=studies.generator("order", params.seed),
        pauses=pauses, checkpoint=checkpoint,
    ):  # fmt: skip
        new = list(measure(model, Split("train", index, {"clean": y}), num_classes=K))
        new += _landscape(model, params)
        rows.extend(row | {"epoch": epoch} for row in new)
        spectra.append(
            torch.stack([torch.linalg.svdvals(p.detach())[:K] for p in (model.head.weight, model.H)]).cpu()
        )
    rows += [row | {"epoch": 0} for row in _origin(params)]
    return rows, {"epochs": torch.tensor(pauses).numpy(), "singular_values": torch.stack(spectra).numpy()}


def _row(layer: str, metric: str, value: float) -> dict:
    return {"split": "train", "labels": "clean", "layer": layer, "metric": metric, "value": float(value)}


def _landscape(model: UnconstrainedFeatures, params: Params) -> Iterator[dict]:
    """Where the iterate stands against the closed form of Theorem 3.1."""
    lambdas = {"lambda_W": params.lambda_W, "lambda_H": params.lambda_H}
    optimum = zhu2021.global_minimum(num_classes=params.num_classes, per_class=params.per_class, **lambdas)
    W, H, b = model.head.weight.detach(), model.H.detach(), model.head.bias.detach()
    value = float(zhu2021.objective(W, H, b, model.labels, lambda_b=params.lambda_b, **lambdas))
    certificate = zhu2021.certificate(W, H, b, model.labels, lambda_b=params.lambda_b, **lambdas)
    a = (params.lambda_W / (params.per_class * params.lambda_H)) ** 0.5
    yield _row("all", "objective", value)
    yield _row("all", "objective_gap", (value - optimum.value) / optimum.value)
    yield _row("all", "gradient_norm", certificate.gradient_norm)
    yield _row("all", "certificate", certificate.spectral_norm / certificate.threshold)
    yield _row("all", "weight_norm_squared", W.square().sum())
    yield _row("all", "feature_norm_squared", H.square().sum())
    yield _row("all", "bias_spread", torch.linalg.vector_norm(b - b.mean()))
    yield _row(
        "all", "self_duality", torch.linalg.matrix_norm(H - a * W[model.labels]) / torch.linalg.matrix_norm(H)
    )


def _origin(params: Params) -> Iterator[dict]:
    """The curvature at W = H = 0 along the escape direction, by a Hessian-vector product and as predicted.

    Absent where the theory gives no direction: at or beyond the collapse threshold the origin is the minimum.
    """
    K, n, d = params.num_classes, params.per_class, params.feature_dim
    lambdas = {"lambda_W": params.lambda_W, "lambda_H": params.lambda_H}
    threshold = zhu2021.collapse_threshold(num_classes=K, per_class=n)
    if (params.lambda_W * params.lambda_H) ** 0.5 >= threshold:
        return
    W, H, b = torch.zeros(K, d).double(), torch.zeros(K * n, d).double(), torch.zeros(K).double()
    y = torch.arange(K).repeat_interleave(n)
    escape = zhu2021.escape_direction(W, H, b, y, **lambdas)
    product = zhu2021.hessian_vector_product(
        W, H, b, y, escape.delta_W, escape.delta_H, lambda_b=params.lambda_b, **lambdas
    )
    curvature = float((product[0] * escape.delta_W).sum() + (product[1] * escape.delta_H).sum())
    yield _row("origin", "curvature", curvature)
    yield _row("origin", "curvature_predicted", escape.curvature)
    yield _row("origin", "curvature_error", abs(curvature - escape.curvature) / abs(escape.curvature))
