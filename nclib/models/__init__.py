"""Networks that give their features, their named layers and their linear head: see `network.Network`."""

import difflib

import torch

from nclib.models.densenet import DenseNet40
from nclib.models.mlp import MLP
from nclib.models.mnist1d import CNN1D, ResNet1D
from nclib.models.network import Network
from nclib.models.resnet import ResNet18
from nclib.models.unconstrained import UnconstrainedFeatures
from nclib.models.vgg import VGG11

__all__ = [
    "CNN1D",
    "MLP",
    "VGG11",
    "DenseNet40",
    "Network",
    "ResNet1D",
    "ResNet18",
    "UnconstrainedFeatures",
    "build",
    "own_feature_dim",
]

_NETWORKS = {
    "resnet18": ResNet18,
    "vgg11": VGG11,
    "densenet40": DenseNet40,
    "mlp": MLP,
    "resnet1d": ResNet1D,
    "cnn1d": CNN1D,
}
_DIMENSIONS = {
    "resnet18": (0, 8), "vgg11": (0, 8), "densenet40": (16, 36), "mlp": (0, 1), "resnet1d": (0, 1), "cnn1d": (0, 2),
}  # fmt: skip
"""The dimension of a network's own features: a constant, and what comes with each unit of its width."""
_CHOOSABLE = ("resnet18", "mlp", "resnet1d")
"""Networks that can be asked for features of another dimension."""


def own_feature_dim(name: str, width: int) -> int:
    """The dimension d of the features of the network of this name and width, where none is asked for."""
    constant, slope = _DIMENSIONS[name]
    return constant + slope * width


def build(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 1,
    width: int | None = None,
    feature_dim: int | None = None,
    projector: bool | None = None,
    in_features: int | None = None,
    depth: int | None = None,
    batch_norm: bool | None = None,
    generator: torch.Generator,
) -> Network:
    """The network of this name, its initial weights drawn from `generator` (on the CPU) alone.

    name: "resnet18", "vgg11", "densenet40", "mlp", "resnet1d" or "cnn1d". `width`, `depth`, `batch_norm` and
    `feature_dim` have the defaults of the class that is built. `feature_dim` belongs to resnet18, resnet1d and
    the MLP, `projector` to resnet1d; `depth`, `batch_norm` and `in_features` (required there) belong to the
    MLP, which flattens its inputs and so ignores `in_channels`. An unknown name, a size below 1, or an option
    that the network does not have raises ValueError.
    """
    if name not in _NETWORKS:
        nearest = difflib.get_close_matches(str(name).lower(), _NETWORKS, n=1, cutoff=0.0)[0]
        known = ", ".join(_NETWORKS)
        raise ValueError(f"no network is called {name!r}: did you mean {nearest!r}? Known: {known}")
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "width": width, "depth": depth}
    sizes |= {"feature_dim": feature_dim, "in_features": in_features}
    for option, size in sizes.items():
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"{option} must be a whole number of at least 1, got {size!r}")
    options = {"in_features": in_features, "depth": depth, "batch_norm": batch_norm}
    if name == "mlp":
        if in_features is None:
            raise ValueError("mlp needs in_features, the number of entries of one flattened input")
    else:
        for option, value in options.items():
            if value is not None:
                raise ValueError(f"{name} has no option {option}; only mlp has")
        options = {"in_channels": in_channels}
    if name not in _CHOOSABLE and feature_dim is not None:
        constant, slope = _DIMENSIONS[name]
        formula = f"{constant} + {slope} * width" if constant else f"{slope} * width"
        raise ValueError(f"{name} has no option feature_dim: its features have dimension {formula}")
    if name != "resnet1d" and projector is not None:
        raise ValueError(f"{name} has no option projector; only resnet1d has")
    options |= {"width": width, "feature_dim": feature_dim}
    if projector is not None:
        options["projector"] = projector
    chosen = {option: value for option, value in options.items() if value is not None}
    return _NETWORKS[name](num_classes=num_classes, generator=generator, **chosen)
