"""Terminal-phase training on images, measured at log-spaced epochs (Papyan, Han & Donoho, 2020)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nclib import data as datasets
from nclib import decay, studies
from nclib.data import Dataset
from nclib.decay import DECAYED
from nclib.measure import Split, measure_robustness
from nclib.models import Network, build, own_feature_dim
from nclib.models.fixed import POLYTOPES, fix_classifier
from nclib.runs import Run
from nclib.studies.params import ParameterError, StudyParams, param
from nclib.studies.snapshot import shown, snapshot, training_errors
from nclib.training import OPTIMIZERS, SCHEDULES, Checkpoint, log_spaced, make_optimizer, train

PRECISIONS = {
    "float32": (torch.float32, None),
    "bfloat16": (torch.float32, torch.bfloat16),
    "float64": (torch.float64, None),
}
COSTS = {"resnet18": 1.0, "vgg11": 0.35, "densenet40": 30.0, "mlp": 2e-4}
"""Networks that can be trained, and the time of a step at width 16 on a core, in that of ResNet-18."""

IMAGES = {
    "fashion_mnist": (60_000, 10_000), "fashion_mnist_subset": (2_000, 1_000), "mnist": (60_000, 10_000),
    "kmnist": (60_000, 10_000), "cifar10": (50_000, 10_000), "mnist1d": (4_000, 1_000),
}  # fmt: skip
"""Datasets that can be trained on, and how many images each has for training and for testing."""
CLASSES = 10
"""Of every one of them."""


def mse(logits: Float[Tensor, "n K"], y: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Squared distance of logits from one-hot labels, mean over samples *and* classes, as torch's own."""
    # A sum of squares in bfloat16 would be coarse.
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return nn.functional.mse_loss(logits, nn.functional.one_hot(y, logits.shape[1]).to(logits.dtype))


LOSSES = {"cross_entropy": nn.functional.cross_entropy, "mse": mse}


@dataclass(frozen=True, kw_only=True)
class Params(StudyParams):
    """Defaults are the published protocol where it fits two CPU cores; what was cut down says so."""

    dataset: str = param("fashion_mnist", choices=tuple(IMAGES))
    train_size: int = param(10_000, min=20)  # ours: class-balanced draw; papyan2020 uses all 60,000
    data_seed: int = param(0, min=0)  # owns that draw: every seed trains on the same images
    architecture: str = param("resnet18", choices=tuple(COSTS))  # papyan2020
    # ours: channels of the first stage, papyan2020 has 64; of densenet40 the growth, which is 12 in huang2017
    width: int = param(16, min=1)
    depth: int = param(0, min=0, absent=0)  # hidden layers of the mlp; 0: the network's own
    # 0: the network's own; resnet18 with 10 is the network with d = K of zhu2021
    feature_dim: int = param(0, min=0, absent=0)
    # papyan2020; zhu2021 has etf, a classifier that is not trained
    classifier: str = param("learned", choices=("learned", *POLYTOPES), absent="learned")
    # papyan2020; han2022 has mse
    loss: str = param("cross_entropy", choices=tuple(LOSSES), absent="cross_entropy")
    # papyan2020 has none; 1: completely random labels, as zhu2021 draws them
    label_noise: float = param(0.0, min=0, max=1, absent=0.0)
    optimizer: str = param("sgd", choices=OPTIMIZERS)  # papyan2020
    lr: float = param(0.0679, above=0)  # papyan2020's notebook: point 20 of 25 log-spaced in [1e-4, 0.25]
    momentum: float = param(0.9, min=0, max=1)  # papyan2020
    weight_decay: float = param(5e-4, min=0)  # papyan2020
    decayed: str = param("all", choices=DECAYED, absent="all")  # papyan2020; zhu2021 has last_layer
    # N lambda_H of zhu2021, where not all parameters are decayed
    feature_decay: float = param(0.0, min=0, absent=0.0)
    schedule: str = param("step", choices=SCHEDULES)  # papyan2020: x0.1 at one third and two thirds
    batch_size: int = param(128, min=2)  # papyan2020; incomplete batches are skipped
    epochs: int = param(75, min=0)  # ours; papyan2020 has 350; 0: the network before training
    measurements: int = param(26, min=2)  # log-spaced epochs; papyan2020 has 50
    layer_measurements: int = param(6, min=2)  # of these, epochs at which every layer is measured
    # ours: of training only; measured in float32
    precision: str = param("bfloat16", choices=tuple(PRECISIONS))
    # ours: test images attacked by DeepFool when every layer is measured, and at the first zero training error
    attacked: int = param(0, min=0, absent=0)
    # ours: keep what is drawn of each measured epoch, not numbers only
    pictures: bool = param(True, absent=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        most, tested = IMAGES[self.dataset]
        if self.train_size % CLASSES or self.train_size > most:
            raise ParameterError(
                f"train_size is a multiple of the {CLASSES} classes, of {self.dataset} at most {most}, "
                f"got {self.train_size}"
            )
        if self.attacked > tested:
            raise ParameterError(
                f"attacked is a number of test images, of which {self.dataset} has {tested}, got {self.attacked}"
            )
        if self.dataset == "mnist1d" and self.architecture != "mlp":
            raise ParameterError(f"{self.architecture} takes images, not mnist1d: set architecture to mlp")
        if self.depth and self.architecture != "mlp":
            raise ParameterError(f"depth is the mlp's, not {self.architecture}'s: leave it at 0")
        if self.feature_decay and self.loss != "cross_entropy":
            raise ParameterError("feature_decay goes with loss cross_entropy, whose minimum the theory knows")
        if self.feature_decay and self.decayed == "all":
            raise ParameterError(
                "feature_decay goes with decayed last_layer: all parameters are decayed already"
            )
        if self.decayed == "last_layer_normalised" and not self.feature_decay:
            raise ParameterError("last_layer_normalised without feature_decay is last_layer: set one of them")
        if self.feature_dim and self.architecture not in ("resnet18", "mlp"):
            raise ParameterError(
                f"feature_dim is resnet18's and the mlp's: leave it at 0 for {self.architecture}"
            )
        d = self.feature_dim or own_feature_dim(self.architecture, self.width)
        if self.classifier == "etf" and d < CLASSES:
            raise ParameterError(
                f"classifier etf needs features of at least {CLASSES} dimensions, not {d}: "
                "set width or feature_dim"
            )
        if self.optimizer == "lbfgs" and self.precision == "bfloat16":
            raise ParameterError(
                "lbfgs compares losses to their last digits: set precision to float32 or float64"
            )


SMOKE = Params(
    dataset="fashion_mnist_subset",
    train_size=200,
    width=2,
    epochs=3,
    measurements=3,
    layer_measurements=2,
    precision="float64",
    attacked=10,
)
"""The smallest run that exercises everything, in float64: what `nclib.studies.smoke` holds the code to."""


def dataset(params: Params) -> str | None:
    """What is trained and measured on."""
    return params.dataset


def cost(params: Params) -> float:
    """Rough seconds of a run on one core."""
    evaluations = 25 if params.optimizer == "lbfgs" else 1
    per_image = COSTS[params.architecture] * (1.1e-3 if params.precision == "bfloat16" else 2.1e-3)
    width = params.width / 16  # below 16 channels a step is bound by memory, above by arithmetic
    return evaluations * params.epochs * params.train_size * per_image * width * max(width, 1.0)


def trajectory(params: Params) -> Run:
    """The recorded run of these parameters, trained and recorded first if it never was."""
    return studies.trajectory("terminal_phase", params)


def training_set(params: Params) -> Dataset:
    """The images trained on: a class-balanced draw where not all are, with the labels that the seed permutes."""
    images = datasets.load(params.dataset, "train")
    if params.train_size < len(images):
        drawn = studies.generator("subset", params.data_seed)
        images = datasets.class_balanced(images, params.train_size, drawn)
    noise = studies.generator("noise", params.seed)
    return datasets.with_label_noise(images, params.label_noise, "permuted", noise)


def network(params: Params, train_set: Dataset) -> Network:
    """The network of these parameters as it is before training, its classifier fixed where it is to be."""
    generator = studies.generator("init", params.seed)
    options = {"feature_dim": params.feature_dim or None, "depth": params.depth or None}
    if params.architecture == "mlp":
        options["in_features"] = train_set.x[0].numel()
    model = build(
        params.architecture, num_classes=train_set.num_classes, in_channels=train_set.x.shape[1],
        width=params.width, generator=generator, **options,
    )  # fmt: skip
    if params.classifier != "learned":
        fix_classifier(model, params.classifier, generator)
    return model


def measured_epochs(params: Params) -> tuple[tuple[int, ...], set[int]]:
    """All epochs that are measured, log-spaced, and those of them at which every layer is.

    Of a run without epochs, the network before training.
    """
    if params.epochs == 0:
        return (0,), {0}
    pauses = log_spaced(params.epochs, params.measurements)
    steps = params.layer_measurements - 1
    return pauses, {pauses[round(i * (len(pauses) - 1) / steps)] for i in range(steps + 1)}


def run(params: Params, *, folder: Path, device: torch.device) -> tuple[list[dict], dict]:
    """Train once and return rows and arrays.

    Arrays, none without `pictures`. At every measured epoch, `epochs`: the training error `error` (E,) on the labels
    trained on, `means` and `weights` (E, K, d), and the two and a sample of features, labelled `feature_labels`, in
    the simplex's own axes, as `geometry.simplex_points` gives them. At the epochs with every layer measured,
    `layer_epochs`: eigenvalues of Sigma_W and Sigma_B, as `measure.class_spectra` gives them.
    """
    dtype, autocast = PRECISIONS[params.precision]
    train_set, test_set = training_set(params), datasets.load(params.dataset, "test")
    K = train_set.num_classes
    model = network(params, train_set).to(device, dtype)
    x, y = train_set.x.to(device, dtype), train_set.y.to(device)
    given = "noisy" if params.label_noise else "clean"
    trained_on = Split("train", x, {given: y, "clean": train_set.y_clean.to(device)})
    test = Split("test", test_set.x.to(device, dtype), {"clean": test_set.y.to(device)})

    checkpoint = Checkpoint(folder / "checkpoint.pt")
    rows, kept = checkpoint.setdefault("rows", []), checkpoint.setdefault("arrays", {})
    pauses, layer_pauses = measured_epochs(params)
    optimizer = make_optimizer(
        model, params.optimizer, lr=params.lr, momentum=params.momentum,
        weight_decay=decay.of_parameters(model, params.decayed, params.weight_decay),
    )  # fmt: skip
    loss = LOSSES[params.loss]
    if params.feature_decay:
        normalised = params.decayed == "last_layer_normalised"
        loss = decay.with_features(model, loss, params.feature_decay, normalised=normalised)
    for epoch in train(
        model, x, y,
        optimizer=optimizer, schedule=params.schedule, epochs=params.epochs, batch_size=params.batch_size,
        generator=studies.generator("order", params.seed), pauses=pauses, loss=loss,
        drop_last=params.train_size >= params.batch_size, autocast=autocast, checkpoint=checkpoint,
    ):  # fmt: skip
        every_layer = epoch in layer_pauses
        new, arrays = snapshot(model, trained_on, test, params, num_classes=K, every_layer=every_layer)
        first = 0 in training_errors(new, given) and 0 not in training_errors(rows, given)
        if params.attacked and (every_layer or first):
            new += measure_robustness(model, "test", test.x[: params.attacked])
        rows.extend(row | {"epoch": epoch} for row in new)
        if params.pictures:
            arrays |= {"epochs": epoch} | ({"layer_epochs": epoch} if every_layer else {})
        for name, value in arrays.items():
            kept.setdefault(name, []).append(torch.as_tensor(value).cpu())
    if params.pictures:
        kept["feature_labels"] = list(train_set.y[shown(train_set.y, K)])
    return rows, {name: torch.stack(values).numpy() for name, values in kept.items()}
