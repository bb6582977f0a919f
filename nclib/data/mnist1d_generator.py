"""The generator of MNIST-1D: ten 1-D templates, deformed, and written over smooth noise.

Greydanus & Kobak, "Scaling Down Deep Learning with MNIST-1D" (ICML 2024, arXiv 2011.14439). The random
draws are made in the order of the authors' package, so that a seed gives the same dataset; only numpy is
needed. Tests hold it against that package.
"""

import numpy as np

SHAPES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
"""Twelve heights a class; class k resembles the digit k drawn along a line."""
NUM_CLASSES = len(SHAPES)
PADDING = (36, 60)
"""Zeros appended before the template is stretched: the more, the narrower it becomes."""
CANVAS = 72
"""Length on which templates are scaled, moved and given noise."""
LENGTH = 40
"""Length of a sample."""
SCALE = 0.4
MAX_TRANSLATION = 48
CORRELATED_NOISE = 0.25
IID_NOISE = 0.02
SHEAR = 0.75
SMOOTHING = 2.0
"""Standard deviation, in points, of the Gaussian that smooths the correlated noise."""
_EPS = 1e-8  # lifts the template off zero, which marks the padding


def templates() -> np.ndarray:
    """The ten templates (10, 12): standardised, then moved to begin at 0 and divided by 6."""
    x = np.array(SHAPES)
    x -= x.mean(1, keepdims=True)
    x /= x.std(1, keepdims=True)
    return (x - x[:, :1]) / 6.0


def generate(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n raw samples (n, 40), float64 and not yet standardised, and their labels (n,), shuffled.

    Every class has n/10 samples. A sample depends on n as well as on the seed, since the draws run
    through the classes one after the other. Raises ValueError if n is no positive multiple of 10.
    """
    if n <= 0 or n % NUM_CLASSES:
        raise ValueError(f"MNIST-1D samples come in positive multiples of {NUM_CLASSES}, not {n}")
    # The legacy generator on purpose: the published dataset is defined by its stream.
    random = np.random.RandomState(seed)
    y = np.repeat(np.arange(NUM_CLASSES), n // NUM_CLASSES)
    canvas, noise, jitter = np.empty((3, n, CANVAS))
    shear = np.empty(n)
    shapes = templates() + _EPS
    for i, label in enumerate(y):
        low, high = PADDING
        padding = low + int(random.rand() * (high - low + 1))
        stretched = _resample(np.append(shapes[label], np.zeros(padding)), CANVAS)
        stretched *= 1 + SCALE * (random.rand() - 0.5)
        canvas[i] = np.roll(stretched, random.choice(MAX_TRANSLATION))
        noise[i] = random.randn(CANVAS)
        jitter[i] = random.randn(CANVAS)
        shear[i] = SHEAR * (random.rand() - 0.5)
    order = random.permutation(n)
    # The template replaces the smooth noise where it lies; it is not added to it.
    x = np.where(canvas != 0, canvas, _smooth(CORRELATED_NOISE * noise)) + IID_NOISE * jitter
    x -= shear[:, None] * np.linspace(-0.5, 0.5, CANVAS)
    return np.stack([_resample(row, LENGTH) for row in x])[order], y[order]


def _resample(x: np.ndarray, length: int) -> np.ndarray:
    """Linear interpolation at `length` points spread evenly from the first to the last."""
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(x)), x)


def _smooth(x: np.ndarray) -> np.ndarray:
    """Gaussian filter along the rows, cut off at 4 standard deviations, mirrored at the edges."""
    radius = int(4 * SMOOTHING + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / SMOOTHING**2 * offsets**2)
    weights /= weights.sum()
    mirrored = np.pad(x, ((0, 0), (radius, radius)), mode="symmetric")
    length = x.shape[1]
    # Centre first, then from the outside in: the order of summation of the authors' filter.
    result = weights[radius] * x
    for k in range(radius):
        far = 2 * radius - k
        result += weights[k] * (mirrored[:, k : k + length] + mirrored[:, far : far + length])
    return result
