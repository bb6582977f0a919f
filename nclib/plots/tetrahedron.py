"""Four classes of one run beside the simplex's tetrahedron, epoch by epoch, with the cosines of all class means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d import Axes3D

from nclib.plots.simplex import cosines, gram
from nclib.plots.style import COLOURS
from nclib.plots.terminal_phase import four_epochs

CLASSES = (0, 6, 1, 9)
"""Of FashionMNIST: T-shirt and shirt, which are alike; trouser and ankle boot, which are not."""
_S2, _S6 = 2**0.5, 6**0.5
CORNERS = np.array([[0, 0, 3], [2 * _S2, 0, -1], [-_S2, _S6, -1], [-_S2, -_S6, -1]]) / 12**0.5
"""A regular tetrahedron (4, 3) about the origin, one corner up: orthonormal columns that sum to zero."""
LOOKS = {"blue": "o", "orange": "s", "green": "^", "pink": "D"}
"""Colour and marker of each of the four classes."""
VIEW = {"elev": 18, "azim": 24}
"""Where the tetrahedron is seen from, in matplotlib's degrees: no corner hides another."""

_SHAPES = {
    "epochs": "E", "error": "E", "points_means": "EKK", "points_weights": "EKK", "points_features": "EmK",
    "feature_labels": "m",
}  # fmt: skip


def in_space(points: np.ndarray, classes: Sequence[int] = CLASSES) -> np.ndarray:
    """Points (..., K) in the simplex's axes as coordinates (..., 3) that lay four of its vertices on `CORNERS`.

    An isometry of the space that the vertices of these four classes span. A point is projected onto that space
    first: all its other directions, those of the other classes included, are not seen. No unit.
    """
    return np.asarray(points, dtype=float)[..., list(classes)] @ CORNERS


def _radius(points: np.ndarray) -> np.ndarray:
    """Distances from the origin."""
    return np.linalg.norm(points, axis=-1)


@dataclass(frozen=True)
class Scene:
    """What there is to draw of a run: coordinates in space of n features and of four means and classifiers."""

    epochs: list[int]
    """The E measured epochs."""
    error: np.ndarray
    """Training error (E,), a share."""
    onset: int
    """The place among them of the first without training error; E where there is none."""
    means: np.ndarray
    """Class means (E, 4, 3)."""
    weights: np.ndarray
    """Classifiers (E, 4, 3)."""
    features: np.ndarray
    """Features of the four classes (E, n, 3)."""
    labels: np.ndarray
    """Which of the four each feature belongs to (n,)."""
    grams: np.ndarray
    """Cosines of all centred class means (E, K, K)."""
    extent: float
    """The radius of the frame, which holds everything but stray features, at most 5 in 100."""

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], names: Sequence[str], classes: Sequence[int]) -> "Scene":
        """The scene of a run's arrays; ValueError as `stills` has it."""
        found, classes = _checked(arrays, len(names), classes), list(classes)
        grams = np.stack([cosines(means) for means in found["points_means"]])
        if not np.isfinite(grams).all():
            raise ValueError("a class mean lies on the mean of all of them: it has no cosine with the others")
        shown = np.isin(found["feature_labels"], classes)
        means, weights = (in_space(found[f"points_{k}"][:, classes], classes) for k in ("means", "weights"))
        features = in_space(found["points_features"][:, shown], classes)
        # a few stray features of an early epoch would make all the rest tiny
        reach = [1.2 * _radius(CORNERS).max(), _radius(means).max(), _radius(weights).max()]
        if shown.any():
            reach.append(np.quantile(_radius(features), 0.95))
        return cls(
            epochs=found["epochs"].astype(int).tolist(),
            error=found["error"],
            onset=int(np.append(found["error"] == 0, True).argmax()),
            means=means,
            weights=weights,
            features=features,
            labels=np.array([classes.index(c) for c in found["feature_labels"][shown]], dtype=int),
            grams=grams,
            extent=float(max(reach)),
        )

    def four_epochs(self) -> list[int]:
        """The epochs of the stills: `nclib.plots.terminal_phase.four_epochs`."""
        return four_epochs(self.epochs, [*self.epochs, np.nan][self.onset])


def _checked(arrays: Mapping[str, np.ndarray], K: int, classes: Sequence[int]) -> dict[str, np.ndarray]:
    """The arrays of a run in float64, or ValueError saying which of them cannot be drawn."""
    if missing := [name for name in _SHAPES if name not in arrays]:
        raise ValueError(f"the run has no array {', '.join(missing)}: record it with its points")
    found = {name: np.asarray(arrays[name], dtype=float) for name in _SHAPES}
    sizes = {"E": found["epochs"].size, "m": found["feature_labels"].size, "K": K}
    for name, letters in _SHAPES.items():
        if found[name].shape != (wanted := tuple(sizes[letter] for letter in letters)):
            raise ValueError(f"{name} must be {wanted} with {K} names of classes, got {found[name].shape}")
        if not np.isfinite(found[name]).all():
            raise ValueError(f"{name} has entries that are not finite")
    if sizes["E"] == 0 or (np.diff(found["epochs"]) <= 0).any():
        raise ValueError("epochs must increase, and be at least one")
    if not np.isin(found["feature_labels"], range(K)).all():
        raise ValueError(f"feature_labels must be classes, 0 to {K - 1}")
    if len(set(classes)) != 4 or len(classes) != 4 or not set(classes) <= set(range(K)):
        raise ValueError(f"classes must be four different ones of 0 to {K - 1}, got {tuple(classes)}")
    return found


def stills(
    arrays: Mapping[str, np.ndarray],
    axes: Sequence[Axes],
    *,
    names: Sequence[str],
    classes: Sequence[int] = CLASSES,
    epochs: Sequence[int] | None = None,
) -> Sequence[Axes]:
    """The tetrahedron at some measured epochs, and below each the cosines of all class means.

    arrays: epochs (E,), error (E,), points_means and points_weights (E, K, K), points_features (E, m, K) and
    feature_labels (m,), points as `nclib.geometry.simplex_points` gives them. names: those of all K classes.
    axes: a 3-D one an epoch, then a flat one an epoch, as `panels` gives them. `epochs` are by default
    `Scene.four_epochs`. Filled markers are class means, joined by lines; open ones on stems are classifiers, dots
    are features, and dotted lines join the simplex's vertices. ValueError for other shapes, values that are not
    finite, classes that are not four, means without a cosine, and an epoch that was not measured.
    """
    scene = Scene.of(arrays, names, classes)
    epochs = scene.four_epochs() if epochs is None else list(epochs)
    if absent := set(epochs) - set(scene.epochs):
        raise ValueError(f"epoch {min(absent)} was not measured; measured were {scene.epochs}")
    if len(axes) != 2 * len(epochs):
        raise ValueError(f"{len(epochs)} epochs need {2 * len(epochs)} panels, got {len(axes)}")
    flat = list(axes[len(epochs) :])
    for epoch, above, below in zip(epochs, axes, flat, strict=False):
        at = scene.epochs.index(epoch)
        _draw(scene, at, above).set_title(f"epoch {epoch}")
        gram(scene.grams[at], below)
    handles = [
        Line2D([], [], color=COLOURS[colour], marker=marker, linestyle="none", label=names[c])
        for c, (colour, marker) in zip(classes, LOOKS.items(), strict=True)
    ]
    line = {"color": COLOURS["grey"], "linewidth": 0.8}
    handles.append(Line2D([], [], marker="o", markersize=9, fillstyle="none", label="classifier", **line))
    handles.append(Line2D([], [], linestyle=":", label="simplex", **line))
    flat[0].figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    flat[0].figure.colorbar(flat[0].images[0], ax=flat, label="cosine", shrink=0.9)
    return axes


def _draw(scene: Scene, at: int, ax: Axes3D) -> Axes3D:
    """One epoch in space."""
    for points, style in ((CORNERS, ":"), (scene.means[at], "-")):
        for pair in combinations(points, 2):
            ax.plot(*np.stack(pair, axis=1), color=COLOURS["grey"], linewidth=0.8, linestyle=style)
    for k, (name, marker) in enumerate(LOOKS.items()):
        colour = COLOURS[name]
        features, mean, weight = (
            scene.features[at, scene.labels == k],
            scene.means[at, k],
            scene.weights[at, k],
        )
        ax.scatter(*features.T, s=9, marker=marker, color=colour, alpha=0.6, linewidth=0, depthshade=False)
        stem = np.stack([np.zeros(3), weight], axis=1)
        ax.plot(
            *stem, color=colour, marker=marker, markevery=[1], markersize=9, fillstyle="none", linewidth=0.8
        )
        ax.plot(*mean[:, None], color=colour, marker=marker, markersize=6)
    ax.set_proj_type("ortho")
    ax.set_axis_off()
    reach = 0.75 * scene.extent  # matplotlib leaves a margin about the box
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    ax.set_box_aspect((1, 1, 1), zoom=1.3)
    ax.view_init(**VIEW)
    return ax


def panels(epochs: int) -> tuple[Figure, list[Axes]]:
    """A figure for `stills`: a row of 3-D axes above a row of flat ones, and all of its axes as a flat list."""
    fig = plt.figure(figsize=(2.2 * epochs, 4.4), layout="constrained")
    space = [fig.add_subplot(2, epochs, i + 1, projection="3d") for i in range(epochs)]
    return fig, space + [fig.add_subplot(2, epochs, epochs + i + 1) for i in range(epochs)]
