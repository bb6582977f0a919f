"""MNIST-1D: the published 4000/1000 samples, embedded, and fresh ones from the same distribution."""

import hashlib
import io

import numpy as np
import torch

from nclib.data import manifest
from nclib.data.dataset import Dataset
from nclib.data.mnist1d_generator import NUM_CLASSES, generate

TRAIN_SIZE, TEST_SIZE = 4000, 1000
SEED = 42
"""The seed of the published dataset."""
MEAN = -0.0055075064312771795
"""Mean of all 5000 x 40 raw values of seed 42."""
STD = 0.15467803420593054
"""Their standard deviation (ddof 0)."""


def load_mnist1d(split: str) -> Dataset:
    """The published samples (N, 1, 40), bit for bit its float32 values.

    Already standardised by its authors, over training and test samples together, one mean and one
    standard deviation for all 40 positions; nothing further is done to it.
    """
    _, content = manifest.embedded("mnist1d/mnist1d.npz")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    checksum = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    return _dataset(x, y, "mnist1d", checksum)


def fresh(n: int, seed: int) -> Dataset:
    """n new samples from the generator of MNIST-1D, standardised with the published dataset's constants.

    n is a multiple of 10, every class equally often. `fresh(5000, 42)` is the published dataset, training
    samples first: use another seed for data that no network has seen. The checksum identifies n, seed and
    generator rather than bytes, whose last bit may differ between mathematical libraries.
    Raises ValueError if n is no positive multiple of 10.
    """
    raw, y = generate(n, seed)
    checksum = hashlib.sha256(f"mnist1d generator 1, n = {n}, seed = {seed}".encode()).hexdigest()
    return _dataset(standardised(raw), y, "mnist1d_fresh", checksum)


def standardised(raw: np.ndarray) -> np.ndarray:
    """Raw samples on the scale of the published dataset, as float32."""
    return ((raw - MEAN) / STD).astype(np.float32)


def _dataset(x: np.ndarray, labels: np.ndarray, name: str, checksum: str) -> Dataset:
    y = torch.from_numpy(labels.astype(np.int64))
    return Dataset(torch.from_numpy(x)[:, None], y, y.clone(), NUM_CLASSES, name, checksum)
