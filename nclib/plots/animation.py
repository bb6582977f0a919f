"""A slider over the epochs of one run, for the page: collapse as it happens, without network or kernel."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from nclib.plots.style import COLOURS
from nclib.plots.tetrahedron import CORNERS, LOOKS, VIEW, Scene, four_of, panels, stills


@dataclass(frozen=True)
class Slider:
    """What a notebook shows: HTML that moves, or a picture where nothing can."""

    text: str
    """What the picture shows, in words."""
    html: str = field(repr=False)
    """Markup with style, script, data and the picture in it."""
    png: bytes = field(repr=False)
    """The picture."""

    def _repr_html_(self) -> str:
        return self.html

    def _repr_png_(self) -> bytes:
        return self.png


def slider(
    arrays: Mapping[str, np.ndarray],
    *,
    names: Sequence[str],
    classes: Sequence[int] | None = None,
    measures: Mapping[str, Sequence[float]] | None = None,
    title: str = "",
) -> Slider:
    """A slider over the measured epochs of one run, complete in itself: it fetches nothing.

    On the left four classes beside the simplex's tetrahedron, which can be turned; on the right the cosines of all
    class means. `arrays`, `names` and `classes` are those of `nclib.plots.tetrahedron.stills`. `measures` are
    further numbers (E,) that the line below says of each epoch, by label and in their own units; training error is
    a share. Nothing is interpolated between epochs; coordinates and cosines are rounded to three decimals. Where no
    script runs, and in print, the stills stand in its place. ValueError as `stills` has it, and for measures that
    are not one number an epoch.
    """
    classes = four_of(len(names), classes)
    scene = Scene.of(arrays, names, classes)
    numbers = {"training error": scene.error}
    numbers |= {label: np.asarray(values, dtype=float) for label, values in (measures or {}).items()}
    for label, values in numbers.items():
        if values.shape != scene.error.shape:
            raise ValueError(f"{label} must be {scene.error.shape}, a number an epoch, got {values.shape}")
    shown = scene.four_epochs()
    four = ", ".join(names[c] for c in classes)
    text = (
        f"Features, class means and classifiers of {four} beside the simplex's tetrahedron, and the cosines of all "
        f"{len(names)} class means, at epochs {', '.join(map(str, shown))}"
    )
    fig, axes = panels(len(shown))
    stills(arrays, axes, names=names, classes=classes, epochs=shown)
    fig.suptitle(title, fontsize="small")
    picture = io.BytesIO()
    fig.savefig(picture, dpi=110, bbox_inches="tight")
    plt.close(fig)
    return Slider(
        text, _page(scene, numbers, names, classes, title, text, picture.getvalue()), picture.getvalue()
    )


def _data(
    scene: Scene, numbers: Mapping[str, np.ndarray], names: Sequence[str], classes: Sequence[int]
) -> dict[str, object]:
    """What the script draws from."""
    points = {name: getattr(scene, name) for name in ("means", "weights", "features", "grams")}
    return {name: np.round(values, 3).tolist() for name, values in points.items()} | {
        "corners": CORNERS.tolist(),
        "extent": scene.extent,
        "view": VIEW,
        "labels": scene.labels.tolist(),
        "names": list(names),
        "classes": [int(c) for c in classes],
        "epochs": scene.epochs,
        "status": [_status(scene, numbers, i) for i in range(len(scene.epochs))],
        "palette": [mpl.colors.to_hex(colour) for colour in mpl.colormaps["RdBu_r"](np.linspace(0, 1, 101))],
    }


def _status(scene: Scene, numbers: Mapping[str, np.ndarray], i: int) -> str:
    """One epoch in words; a number that is missing is a dash."""
    said = [
        f"{label} {values[i]:.3g}" if math.isfinite(values[i]) else f"{label} –"
        for label, values in numbers.items()
    ]
    phase = "terminal phase" if i >= scene.onset else "learning phase"
    return f"Epoch {scene.epochs[i]}, {phase}: {', '.join(said)}"


def _page(
    scene: Scene,
    numbers: Mapping[str, np.ndarray],
    names: Sequence[str],
    classes: Sequence[int],
    title: str,
    text: str,
    png: bytes,
) -> str:
    """`slider.html` filled in. It has no ids: the script finds each slider of a page by its class."""
    html, css, js = (
        files("nclib.plots").joinpath(f"slider.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    last = len(scene.epochs) - 1
    terminal = f"left:{100 * scene.onset / max(last, 1):.1f}%" if scene.onset <= last else "display:none"
    data = json.dumps(_data(scene, numbers, names, classes), separators=(",", ":"), ensure_ascii=False)
    return Template(html).substitute(
        {f"colour{k}": COLOURS[name] for k, name in enumerate(LOOKS)},
        style=css, script=js, title=escape(title), alt=escape(text), last=last, terminal=terminal,
        still=base64.b64encode(png).decode(), data=data.replace("<", "\\u003c"),  # no name may end the script
    )  # fmt: skip
