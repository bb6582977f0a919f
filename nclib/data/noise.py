"""Label noise with a name, an owner and a memory of the truth."""

from dataclasses import replace

import torch

from nclib.data.dataset import Dataset

MODELS = ("symmetric_including_true", "symmetric_excluding_true", "permuted")


def with_label_noise(dataset: Dataset, rate: float, model: str, generator: torch.Generator) -> Dataset:
    """Redraw the labels `y` of exactly round(rate N) points chosen without replacement.

    `symmetric_including_true` draws uniformly from all K classes, so that a share rate (K-1)/K of the
    points ends up wrong; `symmetric_excluding_true` draws from the K-1 others, so that all redrawn points
    are wrong (Nakkiran et al., 2020). From a generator in the same state, a higher rate of these two redraws
    the same points to the same labels, and further ones. `permuted` lets the points exchange their labels
    among themselves, so that every class keeps its size: at rate 1 these are the completely random labels of
    Zhu et al. (2021). `y_clean` and the points' order stay as they are.

    Raises ValueError for a rate outside [0, 1], an unknown model, or one class with no other to draw.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"label noise rate must lie in [0, 1], not {rate}")
    if model not in MODELS:
        raise ValueError(f"unknown label noise model {model!r}; choose one of {', '.join(MODELS)}")
    K, N = dataset.num_classes, len(dataset)
    if model == "symmetric_excluding_true" and K < 2:
        raise ValueError("symmetric_excluding_true needs at least 2 classes: there is no other label to draw")
    n = round(rate * N)
    # Both draws have the size of the dataset whatever the rate: this is what nests the rates.
    chosen = torch.randperm(N, generator=generator)[:n]
    if model == "permuted":
        redrawn = dataset.y_clean[chosen[torch.randperm(n, generator=generator)]]
    elif model == "symmetric_including_true":
        redrawn = torch.randint(K, (N,), generator=generator)[:n]
    else:
        shift = torch.randint(1, K, (N,), generator=generator)[:n]
        redrawn = (dataset.y_clean[chosen] + shift) % K
    y = dataset.y.clone()
    y[chosen] = redrawn
    return replace(dataset, y=y)
