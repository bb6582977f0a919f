"""Labelled features that have exactly one property, each with the reason why it has it. float64, seeded."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nclib.geometry import random_rotation, simplex_etf


class Sample(NamedTuple):
    H: Float[Tensor, "n d"]
    y: Int[Tensor, " n"]


class Classifier(NamedTuple):
    W: Float[Tensor, "K d"]
    b: Float[Tensor, " K"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def labels(counts: list[int]) -> Int[Tensor, " n"]:
    """Class k `counts[k]` times, in order."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def class_means(
    K: int, d: int, *, norm: float = 3.0, offset: float = 1.0, seed: int = 0
) -> Float[Tensor, "K d"]:
    """Means in general position: unequal norms and angles, rank min(K - 1, d) once centred, off the origin."""
    return norm * normal(K, d, seed=seed) / d**0.5 + offset


def clusters(K: int, d: int, *, counts: list[int] | None = None, noise: float = 1.0, seed: int = 0) -> Sample:
    """The control: Gaussian scatter about means in general position. No metric is zero or undefined on it."""
    y = labels(counts or [12] * K)
    return Sample(class_means(K, d, seed=seed)[y] + noise * normal(len(y), d, seed=seed + 1), y)


def classifier(K: int, d: int, seed: int = 7) -> Classifier:
    """A linear classifier in general position."""
    return Classifier(normal(K, d, seed=seed), normal(K, seed=seed + 1))


def unbalanced(K: int, d: int, seed: int = 0) -> Sample:
    """`clusters` with 3, 10, 17, ... samples: no two classes are of one size, so mu_G and mu_S differ."""
    return clusters(K, d, counts=[3 + 7 * k for k in range(K)], seed=seed)


def at(means: Float[Tensor, "K d"], counts: list[int] | int = 5) -> Sample:
    """Collapsed: every sample *is* its class's row of `means`, so all scatter is zero."""
    y = labels([counts] * len(means) if isinstance(counts, int) else counts)
    return Sample(means[y], y)


def collapsed(K: int, d: int, counts: list[int] | int = 5, seed: int = 0) -> Sample:
    """Variability collapse alone: no scatter, and means that are no simplex."""
    return at(class_means(K, d, seed=seed), counts)


def half_collapsed(K: int, d: int, seed: int = 0) -> Sample:
    """The even classes have collapsed to their means, the odd ones have not."""
    H, y = clusters(K, d, seed=seed)
    return Sample(torch.where((y % 2 == 0)[:, None], class_means(K, d, seed=seed)[y], H), y)


def isotropic(means: Float[Tensor, "K d"], radius: float = 0.5) -> Sample:
    """Class k is the 2d points mu_k +- radius e_j: its mean is mu_k and its covariance (radius^2/d) I, exactly."""
    K, d = means.shape
    axes = radius * torch.cat([torch.eye(d), -torch.eye(d)]).double()
    return Sample((means[:, None] + axes).flatten(0, 1), labels([2 * d] * K))


def orthogonal_scatter(K: int, extra: int = 3, noise: float = 1.0, seed: int = 0) -> Sample:
    """Scatter only where the means do not differ: all means lie in the first K - 1 coordinates, and every sample
    comes with its mirror image in the `extra` others, so that the class means stay exactly where they were.
    """
    y = labels([8] * K)
    scatter = noise * normal(K, 4, extra, seed=seed)
    scatter = torch.cat([scatter, -scatter], 1).flatten(0, 1)
    return Sample(torch.cat([class_means(K, K - 1, seed=seed)[y], scatter], 1), y)


def means_of_rank(rank: int, K: int, d: int, seed: int = 0) -> Float[Tensor, "K d"]:
    """Zero-sum means whose Sigma_B has `rank` equal eigenvalues and no others: an orthonormal basis of the
    complement of 1 (the columns of a rotated simplex frame, normalised), of which `rank` vectors are kept.
    """
    basis = simplex_etf(K) * ((K - 1) / K) ** 0.5
    axes = random_rotation(d, generator(seed))[:rank]
    return basis[:, :rank] @ axes


def mislabelled(
    means: Float[Tensor, "K d"], rate: float, blocks: int = 1
) -> tuple[Sample, Int[Tensor, " n"]]:
    """Exactly collapsed on the clean labels, with noisy labels and clean labels: of every class a share `rate` is
    relabelled and spread evenly over all K classes, its own included, without a rounding error.
    """
    K = len(means)
    moved = blocks * K  # of each class, so that every class gets `blocks` of them
    per_class = round(moved / rate)
    clean = labels([per_class] * K)
    noisy = clean.clone().view(K, per_class)
    noisy[:, :moved] = torch.arange(K).repeat(blocks)
    return Sample(means[clean], noisy.flatten()), clean


def nearest_mean_classifier(means: Float[Tensor, "K d"]) -> Classifier:
    """Scores -|h - mu_k|^2/2 up to |h|^2/2, the same for all k: it decides as the nearest class mean does."""
    return Classifier(means.clone(), -means.square().sum(1) / 2)
