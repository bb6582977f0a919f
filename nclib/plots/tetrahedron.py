"""Four classes of one run beside the simplex's tetrahedron, epoch by epoch, with the cosines of all class means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nclib.plots.simplex import cosines, gram, name_classes
from nclib.plots.style import COLOURS, figure
from nclib.plots.trajectories import four_epochs

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


def four_of(K: int, classes: Sequence[int] | None = None) -> tuple[int, ...]:
    """These four classes of K, or `CLASSES`, of fewer than ten the first four. ValueError for what is not four of K."""
    if K < 4:
        raise ValueError(
            f"a tetrahedron has four corners, and there are {K} classes: draw their cosines with `grams`"
        )
    classes = tuple(classes) if classes is not None else CLASSES if K >= 10 else (0, 1, 2, 3)
    if len(set(classes)) != 4 or len(classes) != 4 or not set(classes) <= set(range(K)):
        raise ValueError(f"classes must be four different ones of 0 to {K - 1}, got {classes}")
    return classes


def in_space(points: np.ndarray, classes: Sequence[int] = CLASSES) -> np.ndarray:
    """Points (..., K) in the simplex's axes as coordinates (..., 3) that lay four of its vertices on `CORNERS`.

    An isometry of the space that the vertices of these four classes span. A point is projected onto that space
    first: all its other directions, those of the other classes included, are not seen. No unit.
    """
    return np.asarray(points, dtype=float)[..., list(classes)] @ CORNERS


def on_page(points: np.ndarray) -> np.ndarray:
    """Points (..., 3) as seen from `VIEW`, without perspective: coordinates (..., 2) to the right and up."""
    e, a = np.radians([VIEW["elev"], VIEW["azim"]])
    right = [-np.sin(a), np.cos(a), 0]
    up = [-np.cos(a) * np.sin(e), -np.sin(a) * np.sin(e), np.cos(e)]
    return np.asarray(points) @ np.array([right, up]).T


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
    """The radius about the origin that holds everything but stray features, at most 5 in 100."""

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], names: Sequence[str], classes: Sequence[int]) -> "Scene":
        """The scene of a run's arrays; ValueError as `stills` has it."""
        found, classes = _checked(arrays, len(names)), list(classes)
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

    def shown(self, at: int) -> np.ndarray:
        """Which features (n,) are shown of the epoch in this place: all within twice the `extent`."""
        return _radius(self.features[at]) <= 2 * self.extent

    def frame(self, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Lower left and upper right of a page on which all that is shown of these epochs lies, with a margin."""
        points = [CORNERS, *self.means[places], *self.weights[places]]
        points += [self.features[at][self.shown(at)] for at in places]
        page = on_page(np.concatenate(points))
        low, high = page.min(axis=0), page.max(axis=0)
        margin = 0.06 * (high - low).max()
        return low - margin, high + margin

    def four_epochs(self) -> list[int]:
        """The epochs of the stills: `nclib.plots.terminal_phase.four_epochs`."""
        return four_epochs(self.epochs, [*self.epochs, np.nan][self.onset])


def _checked(arrays: Mapping[str, np.ndarray], K: int) -> dict[str, np.ndarray]:
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
    return found


def stills(
    arrays: Mapping[str, np.ndarray],
    axes: Sequence[Axes],
    *,
    names: Sequence[str],
    classes: Sequence[int] | None = None,
    epochs: Sequence[int] | None = None,
) -> Sequence[Axes]:
    """The tetrahedron at some measured epochs, and below each the cosines of all class means.

    arrays: epochs (E,), error (E,), points_means and points_weights (E, K, K), points_features (E, m, K) and
    feature_labels (m,), points as `nclib.geometry.simplex_points` gives them. names: those of all K classes.
    classes: the four that are shown, by default `four_of(K)`.
    axes: one an epoch for the tetrahedron, then one an epoch for the cosines, as `panels` gives them. `epochs` are
    by default `Scene.four_epochs`. Filled markers are class means, joined by lines; open ones on stems are
    classifiers, small ones features, and dotted lines join the simplex's vertices. The frame, one for all epochs,
    holds every mark whole; a feature beyond twice `Scene.extent` has none. ValueError for other shapes, values that
    are not finite, classes that are not four, means without a cosine, and an epoch that was not measured.
    """
    classes = four_of(len(names), classes)
    scene = Scene.of(arrays, names, classes)
    epochs = scene.four_epochs() if epochs is None else list(epochs)
    if absent := set(epochs) - set(scene.epochs):
        raise ValueError(f"epoch {min(absent)} was not measured; measured were {scene.epochs}")
    if len(axes) != 2 * len(epochs):
        raise ValueError(f"{len(epochs)} epochs need {2 * len(epochs)} panels, got {len(axes)}")
    flat, places = list(axes[len(epochs) :]), [scene.epochs.index(epoch) for epoch in epochs]
    low, high = scene.frame(places)
    for at, above, below in zip(places, axes, flat, strict=False):
        _draw(scene, at, above).set_title(f"epoch {scene.epochs[at]}")
        above.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", anchor="S")
        gram(scene.grams[at], below)
        name_classes(range(len(names)), below, names=names, rows=below is flat[0])
    flat[0].figure.legend(handles=_legend(names, classes), loc="outside lower center", ncols=4)
    flat[0].figure.colorbar(flat[0].images[0], ax=flat, label="cosine", shrink=0.9)
    return axes


def _legend(names: Sequence[str], classes: Sequence[int]) -> list[Line2D]:
    """What the legend of the stills holds, column by column: a class over a kind of mark."""
    line = {"color": COLOURS["grey"], "linewidth": 0.8}
    kinds = (
        Line2D([], [], marker="o", label="class means, joined", **line),
        Line2D([], [], marker="o", markersize=9, fillstyle="none", label="classifier", **line),
        Line2D([], [], marker="o", markersize=3, label="feature", **line | {"linestyle": "none"}),
        Line2D([], [], label="simplex", **line | {"linestyle": ":"}),
    )
    handles = []
    for c, (colour, marker), kind in zip(classes, LOOKS.items(), kinds, strict=True):
        of_class = Line2D(
            [], [], color=COLOURS[colour], marker=marker, markersize=6, linestyle="none", label=names[c]
        )
        handles += [of_class, kind]
    return handles


def _draw(scene: Scene, at: int, ax: Axes) -> Axes:
    """One epoch as seen from `VIEW`."""
    for points, style in ((CORNERS, ":"), (scene.means[at], "-")):
        for pair in combinations(on_page(points), 2):
            ax.plot(*np.stack(pair, axis=1), color=COLOURS["grey"], linewidth=0.8, linestyle=style)
    means, weights, features = (
        on_page(points) for points in (scene.means[at], scene.weights[at], scene.features[at])
    )
    for k, (name, marker) in enumerate(LOOKS.items()):
        colour = COLOURS[name]
        own = features[(scene.labels == k) & scene.shown(at)]
        ax.scatter(*own.T, s=9, marker=marker, color=colour, alpha=0.6, linewidth=0, zorder=3)
        stem = np.stack([np.zeros(2), weights[k]], axis=1)
        ax.plot(
            *stem, color=colour, marker=marker, markevery=[1], markersize=9, fillstyle="none", linewidth=0.8,
            zorder=4,
        )  # fmt: skip
        ax.plot(*means[k, :, None], color=colour, marker=marker, markersize=6, zorder=5)
    ax.set_axis_off()
    return ax


def panels(epochs: int) -> tuple[Figure, list[Axes]]:
    """A figure for `stills`: a row of axes for the tetrahedron above a row for the cosines, as a flat list."""
    return figure(2, epochs, width=2.2 * epochs + 1.2, height=2.2, layout="constrained")
