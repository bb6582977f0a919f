"""Figures of spectra: how evenly class means, and features about them, spread over directions."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclib.plots.simplex import cosines
from nclib.plots.style import COLOURS, interval
from nclib.plots.terminal_phase import curves, legend, log_axis

ROUNDING = 1e-11
"""Share of the largest eigenvalue below which one is not told from rounding: the cut of `sigma_b_rank`."""


def between(means: np.ndarray) -> pd.DataFrame:
    """Eigenvalues of Sigma_B over their mean, from class means (n, K, d): a row a run, a column a rank from 1 on.

    Sigma_B = M^T M / K with rows mu_c - mu_G; all K - 1 are 1 at the simplex.
    """
    M = np.asarray(means, dtype=float)
    M = M - M.mean(axis=1, keepdims=True)
    values = np.linalg.svd(M, compute_uv=False)[:, : M.shape[1] - 1] ** 2
    return _ranked(values / values.mean(axis=1, keepdims=True))


def of_gram(means: np.ndarray) -> pd.DataFrame:
    """The K - 1 largest eigenvalues of the cosine Gram of centred class means (n, K, d), by run and rank.

    All are K/(K - 1) at the simplex, and they add up to K anyway. Raises ValueError when a mean has no direction.
    """
    grams = np.stack([cosines(M) for M in means])
    if not np.isfinite(grams).all():
        raise ValueError("a class mean that lies on the mean of all has no cosine")
    return _ranked(np.linalg.eigvalsh(grams)[:, :0:-1])


def _ranked(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, columns=range(1, values.shape[1] + 1))


def spectrum(at: dict[int, pd.DataFrame], ax: Axes, *, simplex: float) -> Axes:
    """Eigenvalues by rank, one curve an epoch, and the value that all of them have at the simplex."""
    shades = plt.get_cmap("cividis")(np.linspace(0.0, 0.85, len(at)))
    for (epoch, values), colour, marker in zip(at.items(), shades, "os^D", strict=False):
        interval(_told(values), ax, label=f"epoch {epoch}", colour=colour, log=True, marker=marker)
    ax.axhline(simplex, color=COLOURS["black"], linewidth=0.9, linestyle="--", label="simplex")
    ax.set(yscale="log", xlabel="rank of the eigenvalue")
    legend(ax)
    return ax


def within_and_between(within: np.ndarray, between: np.ndarray, ax: Axes) -> Axes:
    """Eigenvalues of Sigma_W (n, d) and of Sigma_B (n, K - 1) by rank, on one scale."""
    for label, values, colour, marker in (
        ("Σ_B", between, "orange", "s"), ("Σ_W", within, "blue", ".")
    ):  # fmt: skip
        interval(_told(_ranked(values)), ax, label=label, colour=COLOURS[colour], log=True, marker=marker)
    log_axis(ax, "x")
    ax.set(yscale="log", xlabel="rank of the eigenvalue", ylabel="eigenvalue")
    legend(ax)
    return ax


def _told(values: pd.DataFrame) -> pd.DataFrame:
    """NaN where an eigenvalue is not told from zero."""
    return values.where(values.gt(ROUNDING * values.max(axis=1), axis=0))


def participation(table: pd.DataFrame, num_classes: int, ax: Axes) -> Axes:
    """Participation ratio of the class means against epochs, train and test, and that of the simplex."""
    series = {split: ("participation_ratio_means", split) for split in ("train", "test")}
    curves(table, series, ax, log=False, ylabel="participation ratio of the means")
    ax.axhline(num_classes - 1, color=COLOURS["black"], linewidth=0.9, linestyle="--", label="simplex")
    ax.set_ylim(1, None)
    legend(ax, 3)
    return ax
