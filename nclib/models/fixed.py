"""Classifiers that are not trained: the vertices of a polytope in place of learned weights."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nclib.geometry import hypercube, orthoplex, simplex_gram
from nclib.models import initialise
from nclib.models.initialise import blank
from nclib.models.network import Network

_BEHIND_A_MAP = {"orthoplex": orthoplex, "hypercube": hypercube}
POLYTOPES = ("etf", *_BEHIND_A_MAP)


def fix_classifier(network: Network, polytope: str, generator: torch.Generator) -> None:
    r"""Put unit vertices of a polytope in place of the classifier's weights, where training leaves them alone.

    "etf": the rows of $\sqrt{K/(K-1)}(I - \frac1K 11^\top)$, with zeros up to the features' d, as Zhu et al.
    (2021) fix it; in this orientation the row of each class has one positive entry, which non-negative features
    can follow. "orthoplex" and "hypercube" have rows without a positive entry, which they cannot:
    a trained linear map without bias, drawn from `generator`, takes the features to the $\lceil K/2 \rceil$ or
    $\lceil \log_2 K \rceil$ dimensions of the polytope, and what it gives are the features that are measured.

    A bias stays trainable. Raises ValueError for an unknown polytope and for an ETF in d < K dimensions.
    """
    if polytope not in POLYTOPES:
        raise ValueError(f"unknown polytope {polytope!r}; choose one of {', '.join(POLYTOPES)}")
    old, d = network.head, network.feature_dim
    K = old.out_features
    if polytope == "etf":
        W = _aligned_etf(K, d)
    else:
        W = _BEHIND_A_MAP[polytope](K)
        network.trunk.features = nn.Sequential(network.trunk.features, _map(d, W.shape[1], generator))
    network.head = blank(nn.Linear, W.shape[1], K, bias=old.bias is not None)
    if old.bias is not None:
        network.head.bias = old.bias
    with torch.no_grad():
        network.head.weight.copy_(W)
    network.head.weight.requires_grad_(False)


def _aligned_etf(K: int, d: int) -> Float[Tensor, "K d"]:
    if d < K:
        raise ValueError(f"a fixed simplex ETF of {K} classes needs features of d >= {K} dimensions, not {d}")
    return nn.functional.pad(simplex_gram(K) * sqrt((K - 1) / K), (0, d - K))


def _map(d: int, p: int, generator: torch.Generator) -> nn.Linear:
    layer = blank(nn.Linear, d, p, bias=False)
    initialise.torch_default(layer, generator)
    return layer
