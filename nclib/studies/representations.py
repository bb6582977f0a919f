"""CKA between layers of two networks trained on MNIST-1D, and of each with its own past (Bardazzi, 2026)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nclib import data as datasets
from nclib import studies
from nclib.averaging import calibrated
from nclib.measure import Split, flattened_layers, measure, pooled_layers
from nclib.metrics.cka import aligned, cka, class_parts, procrustes_similarity
from nclib.runs import Run
from nclib.studies import mnist1d
from nclib.studies.params import ParameterError, StudyParams, param
from nclib.training import OPTIMIZERS, SCHEDULES, Checkpoint, log_spaced, make_optimizer, train

PEER = 1_000_000
"""Network B of seed s is seeded s + PEER: pairs of different seeds share no network and are independent."""


@dataclass(frozen=True, kw_only=True)
class Params(StudyParams):
    """Two networks, A and B, trained alike on the same noisy labels; defaults are the study's protocol."""

    architecture: str = param("resnet1d", choices=("resnet1d", "cnn1d"))
    width: int = param(32, min=1)  # of network A
    width_b: int = param(32, min=1)  # of network B
    optimizer: str = param("adam", choices=OPTIMIZERS[:3])  # bardazzi2026
    lr: float = param(1e-3, above=0)  # bardazzi2026
    schedule: str = param("constant", choices=SCHEDULES)  # bardazzi2026
    weight_decay: float = param(1e-4, min=0)  # bardazzi2026
    momentum: float = param(0.9, min=0, max=1)  # SGD only
    batch_size: int = param(128, min=2)  # bardazzi2026
    epochs: int = param(300, min=1)  # ours; bardazzi2026 has 2000
    label_noise: float = param(0.2, min=0, max=1)  # bardazzi2026
    noise_model: str = param("symmetric_including_true", choices=mnist1d.NOISE_MODELS)  # bardazzi2026
    noise_seed: int = param(-1, min=-1)  # -1: as seed; both networks of a pair see the same noise
    measurements: int = param(8, min=2)  # log-spaced epochs, besides epoch 0
    precision: str = param("float32", choices=tuple(mnist1d.DTYPES))
    # ours: B begins at A's weights, and differs from it in the order of the samples alone
    shared_init: bool = param(False, absent=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed >= PEER:
            raise ParameterError(
                f"seed must be below {PEER}, got {self.seed}: larger ones belong to networks B"
            )
        if self.shared_init and self.width != self.width_b:
            raise ParameterError(
                f"shared_init needs networks of one width, got width {self.width} and width_b {self.width_b}"
            )
        if self.noise_seed == -1:
            object.__setattr__(self, "noise_seed", self.seed)


SMOKE = Params(width=3, width_b=4, epochs=2, measurements=2, precision="float64")
"""The smallest run that exercises everything, in float64: what `nclib.studies.smoke` holds the code to."""


def dataset(params: Params) -> str | None:
    """What is trained and measured on."""
    return "mnist1d"


def cost(params: Params) -> float:
    """Rough seconds of a run on one core."""
    return params.epochs * sum(0.012 * (1 + w / 8) + 1.4e-4 * w**2 for w in (params.width, params.width_b))


def stack(params: Params, device: torch.device) -> tuple[tuple, int]:
    """What runs must share to be trained side by side, and how many of them are fastest together."""
    shared = ("architecture", "width", "width_b", "batch_size", "epochs", "precision")
    size = mnist1d.stack_size(max(params.width, params.width_b), device)
    return tuple(getattr(params, name) for name in shared), size


def trajectory(params: Params) -> Run:
    """The recorded run of these parameters, trained and recorded first if it never was."""
    return studies.trajectory("representations", params)


def run(params: Params, *, folder: Path, device: torch.device) -> tuple[list[dict], dict]:
    """Train both networks, then compare their layers, averaged over positions, on training and test points.

    Rows: layer "stem|block1" is A's stem against B's block1; "stem@0|stem", "stem@1|stem" and
    "stem@previous|stem" are A's stem at initialisation, after the first epoch and at the measurement before,
    against itself; "features|labels" is A's features against one-hot labels; error, loss, margins and NC1 of
    either network stand at layers "A" and "B". At the first and last measurement the same layers of both are
    looked at more closely: see `_closely`. An untrained network's batch normalisation is calibrated on the
    training points before epoch 0 is measured: with its initial running statistics of 0 and 1 it would not be
    the network that training starts from.
    """
    dtype = mnist1d.DTYPES[params.precision]
    train_set, test_set = mnist1d.noisy_training_set(params), datasets.load("mnist1d", "test")
    points = {"train": train_set.x.to(device, dtype), "test": test_set.x.to(device, dtype)}
    labels = {
        "train": {"noisy": train_set.y.to(device), "clean": train_set.y_clean.to(device)},
        "test": {"clean": test_set.y.to(device)},
    }
    pauses = (0, *log_spaced(params.epochs, params.measurements))
    init_of_b = params.seed if params.shared_init else params.seed + PEER
    networks = {"A": (params.seed, params.seed, params.width)}
    networks["B"] = (init_of_b, params.seed + PEER, params.width_b)
    rows, activations, flattened = [], {}, {}
    for name, (seed, order, width) in networks.items():
        checkpoint = Checkpoint(folder / f"{name}.pt")
        _train_one(params, seed, order, width, points, labels, pauses, name, checkpoint, device, dtype)
        rows += checkpoint["rows"]
        activations[name], flattened[name] = checkpoint["activations"], checkpoint["flattened"]
    for i, epoch in enumerate(pauses):
        for split in points:
            A, B = activations["A"][i][split], activations["B"][i][split]
            pairs = {f"{a}|{b}": (A[a], B[b]) for a in A for b in B}
            for name, j in {"0": 0, "1": 1, "previous": max(i - 1, 0)}.items():
                pairs |= {f"{a}@{name}|{a}": (activations["A"][j][split][a], A[a]) for a in A}
            for pair, (X, Y) in pairs.items():
                rows += _both(epoch, split, pair, "cka_linear", X, Y)
            for name, y in labels[split].items():
                value = cka(A["features"], nn.functional.one_hot(y, 10), debiased=True)
                rows.append(_row(epoch, split, "features|labels", "cka_linear_debiased", value, name))
    wrong = labels["train"]["noisy"] != labels["train"]["clean"]
    shuffle = studies.generator("null", params.seed)
    for i in (0, -1):
        A, B = activations["A"][i], activations["B"][i]
        rows += _closely(pauses[i], A, B, labels, wrong, shuffle)
        for name, X in flattened["A"][i].items():
            rows += _both(
                pauses[i], "test", f"{name}|{name}", "cka_linear_flattened", X, flattened["B"][i][name]
            )
    for name in activations["A"][-1]["test"]:
        X, Y = activations["A"][-1]["test"][name], activations["B"][-1]["test"][name]
        value = cka(X, Y, kernel="rbf", debiased=True)
        rows.append(_row(pauses[-1], "test", f"{name}|{name}", "cka_rbf_debiased", value))
    return rows, {}


def _closely(epoch, A, B, labels, wrong, shuffle: torch.Generator) -> Iterator[dict]:
    """The same layer of both networks: class means and residuals apart, Procrustes, and a null.

    Training points with a right and with a wrong label also by themselves. The null is CKA with the samples of
    B permuted. `cka_linear_aligned` is CKA after the best rotation and scale, which cannot change it.
    """
    for split, by_layer in A.items():
        permuted = torch.randperm(len(next(iter(by_layer.values()))), generator=shuffle)
        for name, X in by_layer.items():
            Y, pair = B[split][name], f"{name}|{name}"
            yield _row(epoch, split, pair, "procrustes_similarity", procrustes_similarity(X, Y))
            yield from _both(epoch, split, pair, "cka_linear_permuted", X, Y[permuted])
            if X.shape == Y.shape:
                value = cka(aligned(X, Y), Y, debiased=True)
                yield _row(epoch, split, pair, "cka_linear_aligned", value)
            for label_set, y in labels[split].items():
                (means, residuals), (others, left) = class_parts(X, y, 10), class_parts(Y, y, 10)
                yield _row(epoch, split, pair, "cka_class_means", cka(means, others), label_set)
                value = cka(residuals, left, debiased=True)
                yield _row(epoch, split, pair, "cka_residuals_debiased", value, label_set)
            if split == "train":
                for part, mask in (("train_correct", ~wrong), ("train_mislabelled", wrong)):
                    if mask.sum() >= 4:
                        yield from _both(epoch, part, pair, "cka_linear", X[mask], Y[mask])


def _both(epoch: int, split: str, layer: str, metric: str, X: Tensor, Y: Tensor) -> Iterator[dict]:
    """CKA biased, and debiased under the name with that ending."""
    yield _row(epoch, split, layer, metric, cka(X, Y))
    yield _row(epoch, split, layer, f"{metric}_debiased", cka(X, Y, debiased=True))


def _row(epoch: int, split: str, layer: str, metric: str, value: float, labels: str = "none") -> dict:
    return {
        "epoch": epoch,
        "split": split,
        "labels": labels,
        "layer": layer,
        "metric": metric,
        "value": value,
    }


_OF_A_NETWORK = ("error", "loss", "margin_mean", "margin_min", "nc1_trace_ratio", "nc1_pinv")


def _train_one(params, seed, order, width, points, labels, pauses, name, checkpoint, device, dtype) -> None:
    model = mnist1d.network(params, seed, width).to(device, dtype)
    rows, activations = checkpoint.setdefault("rows", []), checkpoint.setdefault("activations", [])
    flattened = checkpoint.setdefault("flattened", [])
    optimizer = make_optimizer(
        model, params.optimizer, lr=params.lr, weight_decay=params.weight_decay, momentum=params.momentum
    )
    for epoch in train(
        model, points["train"], labels["train"]["noisy"],
        optimizer=optimizer, schedule=params.schedule, epochs=params.epochs, batch_size=params.batch_size,
        generator=studies.generator("order", order), pauses=pauses, checkpoint=checkpoint,
    ):  # fmt: skip
        seen = calibrated(model, points["train"]) if epoch == 0 else model
        activations.append({split: pooled_layers(seen, x) for split, x in points.items()})
        if epoch in (0, params.epochs):
            flattened.append(flattened_layers(seen, points["test"]))
        for split, x in points.items():
            for row in measure(seen, Split(split, x, labels[split]), num_classes=10):
                if row["metric"] in _OF_A_NETWORK:
                    rows.append(row | {"epoch": epoch, "layer": name})
