"""Terminal-phase training on images, measured at log-spaced epochs (Papyan, Han & Donoho, 2020)."""

from dataclasses import dataclass
from pathlib import Path

import torch

from nclib import data as datasets
from nclib import studies
from nclib.measure import Split, measure, measure_layers, model_norms
from nclib.models import build
from nclib.runs import Run
from nclib.stats import ClassStats
from nclib.studies.params import StudyParams, param
from nclib.training import OPTIMIZERS, SCHEDULES, Checkpoint, log_spaced, make_optimizer, train

PRECISIONS = {
    "float32": (torch.float32, None),
    "bfloat16": (torch.float32, torch.bfloat16),
    "float64": (torch.float64, None),
}
COSTS = {"resnet18": 1.0, "vgg11": 0.35, "densenet40": 13.0}
"""Networks that can be trained, and the time of a step at width 16 on a core, in that of ResNet-18."""


@dataclass(frozen=True, kw_only=True)
class Params(StudyParams):
    """Defaults are the published protocol where it fits two CPU cores; what was cut down says so."""

    dataset: str = param(
        "fashion_mnist", choices=("fashion_mnist", "fashion_mnist_subset", "mnist", "kmnist", "cifar10")
    )
    train_size: int = param(10_000, min=20)  # ours: class-balanced draw; papyan2020 uses all 60,000
    data_seed: int = param(0, min=0)  # owns that draw: every seed trains on the same images
    architecture: str = param("resnet18", choices=tuple(COSTS))  # papyan2020
    # ours: channels of the first stage, papyan2020 has 64; of densenet40 the growth rate, 12 in its source
    width: int = param(16, min=1)
    optimizer: str = param("sgd", choices=OPTIMIZERS[:3])  # papyan2020
    lr: float = param(0.0679, above=0)  # papyan2020's notebook: point 20 of 25 log-spaced in [1e-4, 0.25]
    momentum: float = param(0.9, min=0, max=1)  # papyan2020
    weight_decay: float = param(5e-4, min=0)  # papyan2020, on all parameters
    schedule: str = param("step", choices=SCHEDULES)  # papyan2020: x0.1 at one third and two thirds
    batch_size: int = param(128, min=2)  # papyan2020; incomplete batches are skipped
    epochs: int = param(75, min=1)  # ours; papyan2020 has 350
    measurements: int = param(26, min=2)  # log-spaced epochs; papyan2020 has 50
    layer_measurements: int = param(6, min=2)  # of these, epochs at which every layer is measured
    # ours: of training only; measured in float32
    precision: str = param("bfloat16", choices=tuple(PRECISIONS))


SMOKE = Params(
    dataset="fashion_mnist_subset",
    train_size=200,
    width=2,
    epochs=3,
    measurements=3,
    layer_measurements=2,
    precision="float64",
)
"""The smallest run that exercises everything, in float64: what `nclib.studies.smoke` holds the code to."""


def dataset(params: Params) -> str | None:
    """What is trained and measured on."""
    return params.dataset


def cost(params: Params) -> float:
    """Rough seconds of a run on one core."""
    per_image = COSTS[params.architecture] * (1.1e-3 if params.precision == "bfloat16" else 2.1e-3)
    return params.epochs * params.train_size * per_image * (params.width / 16) ** 1.6


def trajectory(params: Params) -> Run:
    """The recorded run of these parameters, trained and recorded first if it never was."""
    return studies.trajectory("terminal_phase", params)


def run(params: Params, *, folder: Path, device: torch.device) -> tuple[list[dict], dict]:
    """Train once and return rows and arrays: class means and classifiers at every measured epoch."""
    dtype, autocast = PRECISIONS[params.precision]
    train_set = datasets.load(params.dataset, "train")
    if params.train_size < len(train_set):
        train_set = datasets.class_balanced(
            train_set, params.train_size, studies.generator("subset", params.data_seed)
        )
    test_set = datasets.load(params.dataset, "test")
    K = train_set.num_classes
    model = build(
        params.architecture,
        num_classes=K,
        in_channels=train_set.x.shape[1],
        width=params.width,
        generator=studies.generator("init", params.seed),
    ).to(device, dtype)
    x = train_set.x.to(device, dtype)
    x_test = test_set.x.to(device, dtype)
    y, y_test = train_set.y.to(device), test_set.y.to(device)

    checkpoint = Checkpoint(folder / "checkpoint.pt")
    rows, means, weights = (checkpoint.setdefault(name, []) for name in ("rows", "means", "weights"))
    pauses = log_spaced(params.epochs, params.measurements)
    layer_pauses = {
        pauses[round(i * (len(pauses) - 1) / (params.layer_measurements - 1))]
        for i in range(params.layer_measurements)
    }
    optimizer = make_optimizer(
        model, params.optimizer, lr=params.lr, weight_decay=params.weight_decay, momentum=params.momentum
    )
    for epoch in train(
        model, x, y,
        optimizer=optimizer, schedule=params.schedule, epochs=params.epochs, batch_size=params.batch_size,
        generator=studies.generator("order", params.seed), pauses=pauses,
        drop_last=params.train_size >= params.batch_size, autocast=autocast, checkpoint=checkpoint,
    ):  # fmt: skip
        statistics: dict[str, ClassStats] = {}
        new = list(measure(model, Split("train", x, {"clean": y}), num_classes=K, statistics=statistics))
        new += measure(model, Split("test", x_test, {"clean": y_test}, references=statistics), num_classes=K)
        new += model_norms(model)
        if epoch in layer_pauses:
            new += measure_layers(model, "train", x, {"clean": y}, num_classes=K)
            new += measure_layers(model, "test", x_test, {"clean": y_test}, num_classes=K)
        rows.extend(row | {"epoch": epoch} for row in new)
        means.append(statistics["clean"].mu.float().cpu())
        weights.append(model.head.weight.detach().float().cpu())
    arrays = {
        "epochs": torch.tensor(pauses).numpy(),
        "means": torch.stack(means).numpy(),
        "weights": torch.stack(weights).numpy(),
    }
    return rows, arrays
