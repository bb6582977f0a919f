"""The slider shows the run's own numbers, works without network, and leaves a picture where no script runs."""

import html
import json
import re
import shutil
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from samplers import generator, normal

from nclib.geometry import simplex_etf, simplex_points
from nclib.plots import animation, tetrahedron

K, E, m = 10, 6, 40
NAMES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"]
SIMPLEX = (K * np.eye(K) - 1) / (K - 1)


def run(collapsed_at, epochs=E, features=m):
    """A made-up run whose features, means and classifiers go from noise to an exact simplex at one of its epochs."""
    frame, noise = simplex_etf(K, 30, generator=generator(0)), normal(K, 30, seed=1)
    labels = np.resize(tetrahedron.CLASSES, features)
    points = []
    for e in range(epochs):
        left = max(0.0, 1 - e / collapsed_at)
        mu = frame + 0.4 * left * noise
        W = 2 * frame - left * normal(K, 30, seed=2)
        points.append(simplex_points(mu, W, mu[labels] + 0.2 * left * normal(features, 30, seed=3)))
    arrays = {name: np.stack([p[name].numpy() for p in points]).astype("float32") for name in points[0]}
    arrays["points_features"] = arrays["points_features"].astype("float16")
    error = np.maximum(0, 0.5 - 0.125 * np.arange(epochs))
    return arrays | {"epochs": 1 + 2 * np.arange(epochs), "error": error, "feature_labels": labels}


@pytest.fixture(scope="module")
def arrays():
    return run(collapsed_at=E - 1)


@pytest.fixture(scope="module")
def made(arrays):
    return animation.slider(arrays, names=NAMES, measures={"NC1": np.arange(E) / 8}, title="one <seed>")


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    plt.close("all")
    yield
    assert not plt.get_fignums()


def data(slider):
    (found,) = re.findall(r'<script type="application/json">(.*?)</script>', slider.html, re.DOTALL)
    return json.loads(found)


# The numbers


def test_four_vertices_are_a_regular_tetrahedron_and_every_other_direction_is_projected_away():
    vertices = np.eye(K) - 1 / K
    assert tetrahedron.in_space(vertices)[list(tetrahedron.CLASSES)] == pytest.approx(tetrahedron.CORNERS)
    gram = tetrahedron.CORNERS.T @ tetrahedron.CORNERS
    assert gram == pytest.approx(np.eye(3))
    gaps = np.linalg.norm(tetrahedron.CORNERS[:, None] - tetrahedron.CORNERS, axis=-1)
    assert gaps[~np.eye(4, dtype=bool)] == pytest.approx(np.full(12, 2**0.5))  # as far as in R^K
    others = [c for c in range(K) if c not in tetrahedron.CLASSES]
    assert tetrahedron.in_space(vertices)[others] == pytest.approx(np.zeros((6, 3)))


def test_the_numbers_in_the_page_are_the_arrays_to_three_decimals(arrays, made):
    found, four = data(made), list(tetrahedron.CLASSES)
    for name in ("means", "weights"):
        expected = tetrahedron.in_space(arrays[f"points_{name}"][:, four])
        assert np.array(found[name]) == pytest.approx(expected, abs=6e-4)
    assert np.array(found["features"]) == pytest.approx(
        tetrahedron.in_space(arrays["points_features"]), abs=6e-4
    )
    assert [four[k] for k in found["labels"]] == arrays["feature_labels"].tolist()
    assert found["epochs"] == arrays["epochs"].tolist()
    M = arrays["points_means"][0] / np.linalg.norm(arrays["points_means"][0], axis=1, keepdims=True)
    assert np.array(found["grams"][0]) == pytest.approx(M @ M.T, abs=6e-4)


def test_a_collapsed_epoch_shows_the_simplex_and_an_earlier_one_does_not(made):
    found = data(made)
    spread = [
        np.linalg.norm(np.array(found["features"][e]) - tetrahedron.CORNERS[found["labels"]], axis=1).max()
        for e in range(E)
    ]
    assert np.array(found["grams"][-1]) == pytest.approx(SIMPLEX, abs=6e-4)
    assert np.array(found["means"][-1]) == pytest.approx(tetrahedron.CORNERS, abs=1e-3)
    assert np.array(found["weights"][-1]) == pytest.approx(tetrahedron.CORNERS, abs=1e-3)
    assert spread[-1] < 2e-3
    assert np.abs(np.array(found["grams"][0]) - SIMPLEX).max() > 0.2
    assert np.abs(np.array(found["means"][0]) - tetrahedron.CORNERS).max() > 0.1
    assert spread[0] > 0.2


def test_features_of_classes_that_are_not_shown_are_left_out(arrays):
    found = data(animation.slider(arrays, names=NAMES, classes=(6, 2, 3, 0)))
    assert set(found["labels"]) == {0, 3} and np.shape(found["features"]) == (E, m // 2, 3)
    assert np.shape(data(animation.slider(arrays, names=NAMES, classes=(2, 3, 4, 5)))["features"]) == (E, 0)


def test_each_epoch_is_said_in_words_and_a_missing_number_is_a_dash(arrays, made):
    lines = data(made)["status"]
    assert lines[0] == "Epoch 1, learning phase: training error 0.5, NC1 0"
    assert lines[3] == "Epoch 7, learning phase: training error 0.125, NC1 0.375"
    assert lines[4] == "Epoch 9, terminal phase: training error 0, NC1 0.5"
    gap = animation.slider(arrays, names=NAMES, measures={"NC1": [np.nan] * E})
    assert data(gap)["status"][0].endswith("NC1 –")


def test_without_a_terminal_phase_none_is_marked(arrays, made):
    never = animation.slider(arrays | {"error": np.full(E, 0.1)}, names=NAMES)
    assert "left:80.0%" in made.html and "display:none" in never.html.split("</style>")[1]
    assert all("learning phase" in line for line in data(never)["status"])


# The page


def test_the_page_is_complete_in_itself_small_and_the_same_every_time(arrays, made):
    assert not re.search(r"https?:|\bimport\b|\bfetch\b|XMLHttp", made.html)
    assert " id=" not in made.html  # so that several on a page cannot share one
    again = animation.slider(arrays, names=NAMES, measures={"NC1": np.arange(E) / 8}, title="one <seed>")
    assert (again.html, again.png) == (made.html, made.png)
    large = animation.slider(run(49, epochs=50), names=NAMES)
    assert len(large.html.encode()) < 300_000


def test_names_and_titles_are_text_and_not_markup(arrays, made):
    wild = ["</script><b>&", *NAMES[1:]]
    slider = animation.slider(arrays, names=wild)
    assert data(slider)["names"] == wild
    assert "</script><b>" not in slider.html
    assert "one &lt;seed&gt;" in made.html


def test_a_picture_with_words_stands_where_no_script_runs(made):
    assert made.png.startswith(b"\x89PNG") and made._repr_png_() is made.png
    assert made._repr_html_() is made.html
    (alt,) = re.findall(r'<img class="still" alt="([^"]+)"', made.html)
    assert html.unescape(alt) == made.text and "Boot" in alt and "at epochs 1, 5, 9, 11" in alt
    assert "html" not in repr(made), "the plain text of a notebook is the words, not the markup"


def test_the_package_brings_the_parts_of_the_page():
    root = Path(animation.__file__).parents[2]
    brought = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    there = {file.name for file in files("nclib.plots").iterdir() if file.name.startswith("slider.")}
    assert there == set(brought["nclib.plots"])


# The stills


def test_the_stills_show_the_cosines_and_means_of_their_epochs(arrays):
    figure, axes = tetrahedron.panels(2)
    tetrahedron.stills(arrays, axes, names=NAMES, epochs=[1, 11])
    first, last = (np.asarray(ax.images[0].get_array()) for ax in axes[2:])
    assert last == pytest.approx(SIMPLEX, abs=1e-5)
    assert np.abs(first - SIMPLEX).max() > 0.2
    drawn = [entry.get_xydata()[0] for entry in axes[1].lines if len(entry.get_xdata()) == 1]
    assert np.array(drawn) == pytest.approx(tetrahedron.on_page(tetrahedron.CORNERS), abs=1e-5)
    assert sum(len(c.get_offsets()) for c in axes[0].collections) == m
    plt.close(figure)


def marks(ax):
    """Every point of the lines and markers of a panel (n, 2)."""
    lines = [entry.get_xydata() for entry in ax.lines]
    return np.concatenate(lines + [np.asarray(entry.get_offsets()) for entry in ax.collections])


def test_every_mark_lies_within_the_one_frame_of_all_epochs_and_a_feature_far_out_has_none(arrays):
    far = {name: np.array(values, dtype=float) for name, values in arrays.items()}
    far["points_means"][0, 1] *= 4  # an early mean: however far, it is shown
    far["points_features"][0, 0] *= 50
    figure, axes = tetrahedron.panels(4)
    tetrahedron.stills(far, axes, names=NAMES)
    frames = {(ax.get_xlim(), ax.get_ylim()) for ax in axes[:4]}
    ((left, right), (bottom, top)) = frames.pop()
    assert not frames
    for ax in axes[:4]:
        assert (marks(ax) > (left, bottom)).all() and (marks(ax) < (right, top)).all()
    assert [sum(len(c.get_offsets()) for c in ax.collections) for ax in axes[:2]] == [m - 1, m]
    both = np.concatenate([marks(ax) for ax in axes[:4]])
    spans = np.ptp(both, axis=0) / (right - left, top - bottom)
    assert spans.max() > 0.85, "the drawing fills its panel in one direction"
    plt.close(figure)


def test_the_page_shows_lengths_across_the_view_and_none_along_it():
    e, a = np.radians([tetrahedron.VIEW["elev"], tetrahedron.VIEW["azim"]])
    towards = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    assert tetrahedron.on_page(towards) == pytest.approx([0, 0])
    assert tetrahedron.on_page([0, 0, 1]) == pytest.approx([0, np.cos(e)])
    assert tetrahedron.on_page([-np.sin(a), np.cos(a), 0]) == pytest.approx([1, 0])


def test_the_legend_of_the_stills_names_every_kind_of_mark_and_the_heat_maps_their_classes(arrays):
    figure, axes = tetrahedron.panels(2)
    tetrahedron.stills(arrays, axes, names=NAMES, epochs=[1, 11])
    (legend,) = figure.legends
    said = {text.get_text() for text in legend.get_texts()}
    assert said == {NAMES[c] for c in tetrahedron.CLASSES} | {
        "class means, joined", "classifier", "feature", "simplex"
    }  # fmt: skip
    rows = [[text.get_text() for text in ax.get_yticklabels()] for ax in axes[2:]]
    assert rows == [[f"{name} {c}" for c, name in enumerate(NAMES)], []]
    plt.close(figure)


def test_by_default_the_stills_include_the_beginning_of_the_terminal_phase(arrays):
    figure, axes = tetrahedron.panels(4)
    tetrahedron.stills(arrays, axes, names=NAMES)
    assert [ax.get_title() or ax.get_title(loc="left") for ax in axes[:4]] == [
        f"epoch {e}" for e in (1, 5, 9, 11)
    ]
    plt.close(figure)


@pytest.mark.parametrize(
    ("epochs", "message"),
    [([1, 2], "epoch 2 was not measured; measured were .*"), ([1], "1 epochs need 2 panels, got 4")],
)
def test_stills_of_epochs_that_cannot_be_shown_are_refused(arrays, epochs, message):
    figure, axes = tetrahedron.panels(2)
    with pytest.raises(ValueError, match=f"^{message}$"):
        tetrahedron.stills(arrays, axes, names=NAMES, epochs=epochs)
    plt.close(figure)


# Bad input


def spoilt(array, place, value):
    changed = np.array(array, dtype=float)
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"classes": (0, 1, 2)}, r"classes must be four different ones of 0 to 9, got \(0, 1, 2\)"),
        ({}, {"classes": (0, 1, 2, 2)}, r"classes must be four different ones of 0 to 9, got .*"),
        ({}, {"classes": (0, 1, 2, 10)}, r"classes must be four different ones of 0 to 9, got .*"),
        ({}, {"names": NAMES[:9]}, r"points_means must be \(6, 9, 9\) with 9 names of classes, got \(6, 10, 10\)"),
        ({}, {"measures": {"NC1": [0.1]}}, r"NC1 must be \(6,\), a number an epoch, got \(1,\)"),
        ({"error": lambda a: a[:-1]}, {}, r"error must be \(6,\) with 10 names of classes, got \(5,\)"),
        ({"points_means": lambda a: spoilt(a, (2, 1), np.nan)}, {}, "points_means has entries that are not finite"),
        ({"points_means": lambda a: 0 * a}, {}, "a class mean lies on the mean of all of them: .*"),
        ({"feature_labels": lambda a: a + 7}, {}, "feature_labels must be classes, 0 to 9"),
        ({"epochs": lambda a: a[::-1]}, {}, "epochs must increase, and be at least one"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_in_one_line(arrays, change, options, message):
    changed = arrays | {name: spoil(arrays[name]) for name, spoil in change.items()}
    with pytest.raises(ValueError, match=f"^{message}$"):
        animation.slider(changed, **({"names": NAMES} | options))


@pytest.mark.parametrize("K", [4, 9])
def test_of_fewer_than_ten_classes_the_first_four_are_shown(arrays, K):
    own = arrays["feature_labels"] < K
    fewer = arrays | {name: arrays[name][:, :K, :K] for name in ("points_means", "points_weights")}
    fewer |= {
        "points_features": arrays["points_features"][:, own, :K],
        "feature_labels": arrays["feature_labels"][own],
    }
    assert data(animation.slider(fewer, names=NAMES[:K]))["classes"] == [0, 1, 2, 3]
    assert data(animation.slider(arrays, names=NAMES))["classes"] == list(tetrahedron.CLASSES)


def test_three_classes_have_no_tetrahedron(arrays):
    with pytest.raises(
        ValueError, match=r"^a tetrahedron has four corners, and there are 3 classes: .*`grams`$"
    ):
        animation.slider(arrays, names=NAMES[:3])


def test_a_run_without_points_is_refused(arrays):
    with pytest.raises(
        ValueError, match=r"^the run has no array points_features: record it with its points$"
    ):
        animation.slider({k: v for k, v in arrays.items() if k != "points_features"}, names=NAMES)


# In a browser

PROBE = """<script>
const report = { faults: [] };
const before = new Set(Object.keys(window));
onerror = (message) => { report.faults.push(message); };
console.error = (...said) => { report.faults.push(said.join(" ")); };
</script>"""
STEPS = """<pre></pre><script>
const [one, two] = document.querySelectorAll(".nc-slider");
const look = (root) => ({
  text: root.querySelector(".status").textContent,
  value: root.querySelector("input").getAttribute("aria-valuetext"),
  space: root.querySelector(".space").innerHTML,
  gram: [...root.querySelectorAll(".cosine")].map((square) => square.getAttribute("fill")),
  play: root.querySelector(".play").textContent,
  still: getComputedStyle(root.querySelector(".still")).display,
});
const press = (key) => one.querySelector(".space").dispatchEvent(new KeyboardEvent("keydown", { key }));
report.start = look(one);
one.querySelector("input").value = LAST;
one.querySelector("input").dispatchEvent(new Event("input"));
report.end = look(one);
press("ArrowLeft");
report.turned = look(one);
press("ArrowRight");
report.back = look(one);
report.ways = ["left", "right", "up", "down"].map((way) => {
  const named = (name) => one.querySelector(`.turn[aria-label$="${name}"]`);
  const back = { left: "right", right: "left", up: "down", down: "up" }[way];
  const arrow = (name) => [1, 2, 3].forEach(() => press("Arrow" + name[0].toUpperCase() + name.slice(1)));
  return [() => named(way).click(), () => named(back).click(), () => arrow(way), () => arrow(back)].map((act) => {
    act();
    return look(one).space;
  });
});
report.clicked = look(one);
report.other = look(two);
two.querySelector(".play").click();
report.playing = look(two);
two.querySelector(".play").click();
report.paused = look(two);
report.globals = Object.keys(window).filter((name) => !before.has(name));
document.querySelector("pre").textContent = JSON.stringify(report);
</script>"""


def in_browser(body, folder):
    """What the page leaves in its <pre>."""
    page = folder / "page.html"
    page.write_text(f'<!doctype html><meta charset="utf-8">{body}', encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command = ["chromium", *flags, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    (found,) = re.findall(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    return html.unescape(found)


needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="there is no chromium here")


@needs_chromium
def test_in_a_browser_the_slider_moves_text_and_drawings_and_no_other_slider(tmp_path, arrays, made):
    other = animation.slider(arrays, names=NAMES, classes=(2, 3, 4, 5))
    steps = STEPS.replace("LAST", str(E - 1))
    seen = json.loads(in_browser(PROBE + made.html + other.html + steps, tmp_path))
    assert seen["faults"] == [] and seen["globals"] == []
    start, end = seen["start"], seen["end"]
    assert (start["text"], end["text"]) == (data(made)["status"][0], data(made)["status"][-1])
    assert (start["value"], end["value"]) == ("epoch 1", "epoch 11")
    assert start["space"] != end["space"]
    off_diagonal = [[c for i, c in enumerate(when["gram"]) if i % (K + 1)] for when in (start, end)]
    assert len(start["gram"]) == K * K
    assert len(set(off_diagonal[1])) == 1 and len(set(off_diagonal[0])) > 1
    assert start["still"] == "none"
    assert seen["turned"]["space"] != end["space"] and seen["back"]["space"] == end["space"]
    for clicked, clicked_back, pressed, pressed_back in seen["ways"]:
        assert clicked_back == pressed_back == end["space"] != clicked == pressed
    assert len({clicked for clicked, *_ in seen["ways"]}) == 4
    assert seen["clicked"]["text"] == end["text"]
    assert seen["other"]["text"] == data(other)["status"][0], "the second slider has not moved"
    assert [seen[when]["play"] for when in ("other", "playing", "paused")] == ["Play", "Pause", "Play"]


@needs_chromium
def test_in_a_browser_without_the_script_the_picture_stays(tmp_path, made):
    silent = re.sub(r"<script>.*?</script>", "", made.html, flags=re.DOTALL)
    look = """<pre></pre><script>
    const shown = (part) => getComputedStyle(document.querySelector(part)).display;
    document.querySelector("pre").textContent = [".still", ".panels", ".controls"].map(shown);
    </script>"""
    assert in_browser(silent + look, tmp_path) == "inline,none,none"
    assert in_browser(made.html + look, tmp_path) == "none,grid,flex"
