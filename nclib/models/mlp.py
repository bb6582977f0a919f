"""A multilayer perceptron of constant width."""

from collections import OrderedDict

import torch
from torch import nn

from nclib.models import initialise
from nclib.models.initialise import blank
from nclib.models.network import Network


class MLP(Network):
    """`depth` hidden layers of `width` units, each linear, batch normalisation, ReLU; then a linear head.

    Inputs of any shape are flattened; `in_features` is their number of entries. The classifier's input is
    the last hidden layer, after its ReLU; `feature_dim`, if given, is the width of that layer alone. The
    defaults, with batch normalisation, are Zhu et al.'s (2021) for random labels. PyTorch's default
    initialisation.

    Layers: hidden1 .. hidden(depth - 1) (n, width), features (n, d).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_features: int,
        width: int = 1024,
        depth: int = 6,
        batch_norm: bool = True,
        feature_dim: int | None = None,
        generator: torch.Generator,
    ):
        d = width if feature_dim is None else feature_dim
        sizes = [in_features] + [width] * (depth - 1) + [d]
        stages = OrderedDict()
        for k in range(depth):
            name = "features" if k == depth - 1 else f"hidden{k + 1}"
            parts = [nn.Flatten()] if k == 0 else []
            parts.append(blank(nn.Linear, sizes[k], sizes[k + 1]))
            if batch_norm:
                parts.append(blank(nn.BatchNorm1d, sizes[k + 1]))
            stages[name] = nn.Sequential(*parts, nn.ReLU(inplace=True))
        super().__init__(nn.Sequential(stages), blank(nn.Linear, d, num_classes))
        initialise.torch_default(self, generator)
