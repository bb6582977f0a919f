"""MNIST-1D with noisy labels: error and collapse by width, optimiser and dimension (Bardazzi, 2026)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nclib import data as datasets
from nclib import studies
from nclib.averaging import WeightAverage
from nclib.data import Dataset
from nclib.data.dataset import joined
from nclib.data.noise import MODELS as NOISE_MODELS
from nclib.measure import Split, measure, measure_directions, measure_layers, model_norms
from nclib.models import build
from nclib.runs import Run
from nclib.stats import ClassStats
from nclib.studies.params import ParameterError, StudyParams, param
from nclib.training import OPTIMIZERS, SCHEDULES, Checkpoint, log_spaced, make_optimizer, train

OWN = {
    "sgd": {"lr": 0.01, "schedule": "cosine", "weight_decay": 5e-4},
    "adam": {"lr": 1e-3, "schedule": "constant", "weight_decay": 1e-4},
    "adamw": {"lr": 1e-3, "schedule": "constant", "weight_decay": 1e-4},
}
"""bardazzi2026's settings by optimiser (AdamW: ours, as Adam), for parameters left at "own", 0 or -1."""
FRESH_SEED, MORE_SEED = 20_260_227, 20_260_228
"""Seeds of the samples nobody trained on, and of training samples beyond 4000; MNIST-1D itself is seed 42."""
MOST = 16_000
"""Training samples there are at most."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Params(StudyParams):
    """Defaults are the study's protocol, but for its 3000 epochs."""

    architecture: str = param("resnet1d", choices=("resnet1d", "cnn1d"))
    width: int = param(64, min=1)
    feature_dim: int = param(0, min=0)  # 0: no projector; else bardazzi2026's linear map before the head
    optimizer: str = param("sgd", choices=OPTIMIZERS[:3])
    lr: float = param(0.0, min=0)  # 0: bardazzi2026's for this optimiser
    schedule: str = param("own", choices=("own", *SCHEDULES))  # own: bardazzi2026's for this optimiser
    weight_decay: float = param(-1.0, min=-1)  # -1: bardazzi2026's for this optimiser
    momentum: float = param(0.9, min=0, max=1)  # bardazzi2026; SGD only
    batch_size: int = param(128, min=2)  # bardazzi2026
    epochs: int = param(300, min=1)  # ours: a tenth of bardazzi2026's 3000
    label_noise: float = param(0.2, min=0, max=1)  # bardazzi2026
    # bardazzi2026: 18 % end up wrong
    noise_model: str = param("symmetric_including_true", choices=NOISE_MODELS)
    # -1: as seed, so that seeds vary initialisation, order and noise together
    noise_seed: int = param(-1, min=-1)
    fresh_size: int = param(10_000, min=10)  # ours: new test samples beside the 1000 of the dataset
    measurements: int = param(10, min=2)  # log-spaced epochs, besides epoch 0
    precision: str = param("float32", choices=tuple(DTYPES))
    # ours: the first so many of the dataset's 4000; beyond them, new samples of its generator
    train_size: int = param(
        datasets.mnist1d.TRAIN_SIZE, min=100, max=MOST, absent=datasets.mnist1d.TRAIN_SIZE
    )
    # ours: False lets the last block give feature_dim channels, without a linear map
    projector: bool = param(True, absent=True)
    averaged: bool = param(False, absent=False)  # ours: measure the average of the weights as well

    def __post_init__(self) -> None:
        super().__post_init__()
        own = OWN[self.optimizer]
        chosen = {
            "lr": self.lr or own["lr"],
            "schedule": own["schedule"] if self.schedule == "own" else self.schedule,
            "weight_decay": own["weight_decay"] if self.weight_decay == -1 else self.weight_decay,
            "noise_seed": self.seed if self.noise_seed == -1 else self.noise_seed,
        }
        for name, value in chosen.items():
            object.__setattr__(self, name, value)
        if self.weight_decay < 0:
            raise ParameterError(
                f"weight_decay must be at least 0 (or -1 for the study's own), got {self.weight_decay}"
            )
        if self.architecture == "cnn1d" and self.feature_dim:
            raise ParameterError("feature_dim is the projector of resnet1d: leave it at 0 for cnn1d")
        if not (self.projector or self.feature_dim):
            raise ParameterError("projector = false needs a feature_dim: the channels of the last block")


SMOKE = Params(width=4, feature_dim=3, epochs=2, fresh_size=500, measurements=2, precision="float64")
"""The smallest run that exercises everything, in float64: what `nclib.studies.smoke` holds the code to."""


def dataset(params: Params) -> str | None:
    """What is trained and measured on."""
    return "mnist1d"


def cost(params: Params) -> float:
    """Rough seconds of a run on one core."""
    each = {"resnet1d": (0.012, 1.4e-4), "cnn1d": (0.01, 7e-5)}[params.architecture]
    per_epoch = each[0] * (1 + params.width / 8) + each[1] * params.width**2
    per_epoch *= params.train_size / datasets.mnist1d.TRAIN_SIZE
    return params.epochs * per_epoch * (1 if params.precision == "float32" else 2)


def stack(params: Params, device: torch.device) -> tuple[tuple, int]:
    """What runs must share to be trained side by side, and how many of them are fastest together."""
    shared = (
        "architecture", "width", "feature_dim", "projector", "batch_size", "epochs", "precision", "train_size",
    )  # fmt: skip
    return tuple(getattr(params, name) for name in shared), stack_size(params.width, device)


def stack_size(width: int, device: torch.device) -> int:
    """As many networks as keep a processor's cache, or a GPU, busy; measured in tests/benchmarks."""
    return 64 if device.type == "cuda" else max(1, min(8, 32 // width))


def trajectory(params: Params) -> Run:
    """The recorded run of these parameters, trained and recorded first if it never was."""
    return studies.trajectory("mnist1d", params)


def network(params: Params, seed: int, width: int) -> nn.Module:
    """The study's network, its weights drawn from the stream "init" of `seed`."""
    projector = {}
    if getattr(params, "feature_dim", 0):
        projector = {"feature_dim": params.feature_dim, "projector": params.projector}
    return build(
        params.architecture,
        num_classes=10,
        width=width,
        generator=studies.generator("init", seed),
        **projector,
    )


def noisy_training_set(params: Params) -> Dataset:
    """The training samples with the labels that `noise_seed` corrupts."""
    return datasets.with_label_noise(
        _training_set(getattr(params, "train_size", datasets.mnist1d.TRAIN_SIZE)),
        params.label_noise,
        params.noise_model,
        studies.generator("noise", params.noise_seed),
    )


def _training_set(n: int) -> Dataset:
    published = datasets.load("mnist1d", "train")
    if n <= len(published):
        return published.subset(torch.arange(len(published)) < n)
    # All of them are drawn, whatever n: a sample of the generator depends on how many are asked for.
    more = datasets.mnist1d.fresh(MOST - len(published), MORE_SEED)
    return joined(published, more.subset(torch.arange(len(more)) < n - len(published)))


def run(params: Params, *, folder: Path, device: torch.device) -> tuple[list[dict], dict]:
    """Train once and return the rows; those of the averaged weights, if asked for, have layer "averaged"."""
    dtype = DTYPES[params.precision]
    train_set = noisy_training_set(params)
    model = network(params, params.seed, params.width).to(device, dtype)
    x = train_set.x.to(device, dtype)
    splits = list(_splits(params, train_set, device, dtype))
    checkpoint = Checkpoint(folder / "checkpoint.pt")
    rows = checkpoint.setdefault("rows", [])
    optimizer = make_optimizer(
        model, params.optimizer, lr=params.lr, weight_decay=params.weight_decay, momentum=params.momentum
    )
    measured = {0, *log_spaced(params.epochs, params.measurements)}
    average = WeightAverage(checkpoint) if params.averaged else None
    for epoch in train(
        model, x, train_set.y.to(device),
        optimizer=optimizer, schedule=params.schedule, epochs=params.epochs, batch_size=params.batch_size,
        generator=studies.generator("order", params.seed),
        pauses=measured if average is None else range(params.epochs + 1), checkpoint=checkpoint,
    ):  # fmt: skip
        if average is not None and epoch:
            average.update(model, epoch)
        if epoch not in measured:
            continue
        statistics: dict[str, ClassStats] = {}
        new = list(model_norms(model))
        for split in splits:
            keep = statistics if split.name == "train" else None
            against = (
                {"clean": statistics["noisy"]} if statistics and split.name in ("test", "fresh") else None
            )
            here = Split(split.name, split.x, split.labels, references=against)
            new += measure(model, here, num_classes=10, statistics=keep)
        if epoch in (0, params.epochs):
            new += measure_layers(model, "train", x, splits[0].labels, num_classes=10)
            new += measure_directions(model, "train", statistics)
        if average is not None and epoch:
            new += _of_the_average(average.network(model, x), splits)
        rows.extend(row | {"epoch": epoch} for row in new)
    return rows, {}


def _of_the_average(model: nn.Module, splits: list[Split]) -> Iterator[dict]:
    for split in splits:
        for row in measure(model, Split(split.name, split.x, split.labels), num_classes=10):
            yield row | {"layer": "averaged"}


def _splits(params: Params, train_set: Dataset, device: torch.device, dtype: torch.dtype) -> Iterator[Split]:
    def on_device(x: Tensor) -> Tensor:
        return x.to(device, dtype)

    both = {"noisy": train_set.y.to(device), "clean": train_set.y_clean.to(device)}
    yield Split("train", on_device(train_set.x), both)
    wrong = train_set.y != train_set.y_clean
    for name, mask in (("train_correct", ~wrong), ("train_mislabelled", wrong)):
        part = train_set.subset(mask)
        if len(part):
            labels = {"noisy": part.y.to(device), "clean": part.y_clean.to(device)}
            yield Split(name, on_device(part.x), labels)
    for name, new in (
        ("test", datasets.load("mnist1d", "test")),
        ("fresh", datasets.mnist1d.fresh(params.fresh_size, FRESH_SEED)),
    ):
        yield Split(name, on_device(new.x), {"clean": new.y.to(device)})
