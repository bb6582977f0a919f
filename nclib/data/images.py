"""8-bit images to standardised float32, with constants that are exact."""

import math

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor


def channel_constants(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (ddof 0) per channel of uint8 images (N, C, height, width), on [0, 1].

    Summed as integers over the histogram of each channel, hence exact up to one rounding.
    """
    means, stds = [], []
    for channel in range(images.shape[1]):
        # Chunks: bincount widens to int64, eight times the images' size.
        histogram = sum(
            np.bincount(images[i : i + 4096, channel].reshape(-1), minlength=256)
            for i in range(0, len(images), 4096)
        )
        counts = [int(count) for count in histogram]
        n = sum(counts)
        total = sum(value * count for value, count in enumerate(counts))
        squares = sum(value * value * count for value, count in enumerate(counts))
        means.append(total / (255 * n))
        stds.append(math.sqrt(n * squares - total * total) / (255 * n))
    return tuple(means), tuple(stds)


def standardise(
    images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float32[Tensor, "N C height width"]:
    """(pixel/255 - mean)/std per channel, for uint8 images (N, C, height, width).

    Raises ValueError for a channel without variance, or constants for another number of channels.
    """
    if len(mean) != images.shape[1]:
        raise ValueError(f"{len(mean)} constants for images of {images.shape[1]} channels")
    if min(std) <= 0:
        raise ValueError(f"cannot standardise a channel whose standard deviation is {min(std)}")
    x = images.astype(np.float32)
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        view = x[:, channel]
        view /= np.float32(255)
        view -= np.float32(m)
        view /= np.float32(s)
    return torch.from_numpy(x)
