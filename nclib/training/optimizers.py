"""An optimiser from its settings: the update by name, decay by parameter, learning rate by epoch."""

import math
from collections.abc import Callable

import torch
from torch import nn

OPTIMIZERS = ("sgd", "adam", "adamw", "lbfgs")
SCHEDULES = ("constant", "step", "cosine")


def learning_rate_factor(schedule: str, epochs: int) -> Callable[[int], float]:
    """The factor on the base learning rate in epoch 0, 1, ..., epochs - 1.

    "step": x0.1 at one third and again at two thirds, epochs // 3 and 2 epochs // 3 (Papyan, Han & Donoho,
    2020); "cosine": (1 + cos(pi t / epochs)) / 2; "constant": 1.
    """
    epochs = int(epochs)  # comparisons with numpy's whole numbers do not add up
    if schedule == "constant":
        return lambda t: 1.0
    if schedule == "step":
        return lambda t: 0.1 ** ((t >= epochs // 3) + (t >= 2 * epochs // 3))
    if schedule == "cosine":
        return lambda t: (1 + math.cos(math.pi * t / epochs)) / 2
    raise ValueError(f"unknown schedule {schedule!r}: choose one of {', '.join(SCHEDULES)}")


def learning_rates(lr: float, schedule: str, epochs: int, steps: int) -> list[float]:
    """The learning rate of each step of a run, `steps` an epoch: lr times `learning_rate_factor`."""
    factor = learning_rate_factor(schedule, epochs)
    return [lr * factor(epoch) for epoch in range(epochs) for _ in range(steps)]


def make_optimizer(
    model: nn.Module, name: str, *, lr: float, weight_decay: float | dict[str, float], momentum: float = 0.9
) -> torch.optim.Optimizer:
    """SGD with momentum, Adam (L2 coupled to the gradient), AdamW (decoupled) or L-BFGS (strong Wolfe).

    `weight_decay` is one number for all parameters or one for each parameter's name. torch's L-BFGS has none:
    `train` adds the penalty weight_decay/2 |p|^2 to the loss it sees, which is what decay means to the other
    optimisers.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    decay = weight_decay if isinstance(weight_decay, dict) else {n: weight_decay for n, _ in named}
    unknown = set(decay) ^ {n for n, _ in named}
    if unknown:
        raise ValueError(
            f"weight_decay must name each trainable parameter once; check {', '.join(sorted(unknown))}"
        )
    if name == "lbfgs":
        optimizer = torch.optim.LBFGS(
            [p for _, p in named], lr=lr, history_size=10, max_iter=20,
            tolerance_grad=0.0, tolerance_change=0.0, line_search_fn="strong_wolfe",
        )  # fmt: skip
        optimizer.penalised = [(p, decay[n]) for n, p in named if decay[n]]
        return optimizer
    groups = [
        {"params": [p for n, p in named if decay[n] == value], "weight_decay": value}
        for value in sorted(set(decay.values()))
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=True)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    raise ValueError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")
