"""Papyan, Han & Donoho (2020): what happens after the training error has vanished."""

import pandas as pd

from nclib.claims.terminal_phase import (
    NOTEBOOK_RATE,
    NOTEBOOK_RATE_IN_FULL,
    PROTOCOL_SCALE,
    SMALL,
    THROUGH,
    Runs,
    at_end,
    error_change,
    falls,
    largest,
    main_runs,
    stays,
    terminal_middle,
    through,
)
from nclib.claims.terminal_phase import claim as _claim
from nclib.claims.verdict import Claim, Missing, Verdict, final_epoch, judged, per_run, terminal_start

ATTACKED = {"split": "test", "labels": "none", "layer": "all"}
MOVED = 0.99
"""Share of the attacked images that DeepFool must move over a boundary: distances are a mean over these alone."""

_OTHERS = {
    "vgg11": ("VGG-11", main_runs(PROTOCOL_SCALE, SMALL, architecture="vgg11")),
    # Of a DenseNet the width is the growth rate.
    "densenet40": (
        "DenseNet-40",
        main_runs(PROTOCOL_SCALE | {"width": 12}, SMALL | {"width": 4}, architecture="densenet40"),
    ),
    "notebook-rate": (
        "ResNet-18 at the rate of the source's notebook",
        main_runs(NOTEBOOK_RATE_IN_FULL, NOTEBOOK_RATE),
    ),
}
"""The two other families of networks, and another learning rate, of which the same is claimed."""
LATE = ("loss", "nc2-equiangular-classifiers", "nc2-reached-classifiers", "nc3-reached")
"""Claims on the first network whose predicates were committed when its smaller runs were recorded."""
LATEST = ("loss-late", "stays-fitted", "nc1-reached")
"""Claims whose predicates were committed when runs of every network but DenseNet-40 were begun or recorded."""


def _farther(runs: Runs):
    """Judge DeepFool's distance through the terminal phase; Missing where it is not that of nearly all images."""
    ratio = through("deepfool_relative_mean", runs, ATTACKED, above=1.0)

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        epochs = terminal_start(rows), final_epoch(rows)
        least = min(per_run(rows, "deepfool_found", at, **ATTACKED).min() for at in epochs)
        if least < MOVED:
            raise Missing(f"DeepFool moved {least:.1%} of the images of a run, not {MOVED:.0%}")
        return ratio(table)

    return judge


def _claims(runs: Runs, key: str = "", name: str = "") -> tuple[Claim, ...]:
    """What the paper claims of every network, on these runs; of those in `_OTHERS`, under their key and name."""

    def claim(of: str, statement: str, place: str, measure: str, predicate: str, judge) -> Claim:
        if not key:
            registered = "after" if of in LATE + LATEST else "before"
            return _claim(of, statement, place, measure, predicate, judge, registered=registered)
        registered = "after" if of in LATEST and key != "densenet40" else "before"
        statement = f"{name}: {statement[0].lower()}{statement[1:]}"
        return _claim(
            f"{key}-{of}", statement, place, measure, predicate, judge,
            registered=registered, page="12_what_it_needs",
        )  # fmt: skip

    return (
        claim(
            "loss", "After the training error has vanished the training loss goes on falling.", "abstract",
            f"training loss, {THROUGH}", "below 0.9", falls("loss", 0.9, runs),
        ),
        # A step down just after the beginning passes the one above.
        claim(
            "loss-late", "The training loss still falls in the second half of the terminal phase.", "abstract",
            "training loss, last epoch over first measured one of the terminal phase's second half", "below 1",
            through("loss", runs, since=terminal_middle, below=1.0),
        ),
        claim(
            "stays-fitted", "Once it has vanished the training error stays effectively zero.", "abstract",
            "largest training error at a measured epoch of the terminal phase", "below 0.001",
            stays("error", 1e-3, runs),
        ),
        claim(
            "nc1", "Within-class variability collapses during the terminal phase (NC1).",
            "abstract; fig. 6", f"Tr(Σ_W Σ_B⁺)/K, {THROUGH}", "below 0.5", falls("nc1_pinv", 0.5, runs),
        ),
        claim(
            "nc1-trace", "The collapse includes scatter that the class means do not span (trace-ratio NC1).",
            "abstract", f"Tr Σ_W / Tr Σ_B, {THROUGH}", "below 0.5", falls("nc1_trace_ratio", 0.5, runs),
        ),
        # The bound is that of the other levels.
        claim(
            "nc1-reached", "Within-class variability all but vanishes (NC1).", "abstract",
            "Tr Σ_W / Tr Σ_B at the last epoch", "below 0.1", at_end("nc1_trace_ratio", 0.1, runs),
        ),
        claim(
            "nc2-equinorm-means", "Centred class means become equinorm (NC2).", "fig. 2",
            f"CV of ‖μ_c − μ_G‖, {THROUGH}", "below 0.9", falls("nc2_norm_cv_means", 0.9, runs),
        ),
        claim(
            "nc2-equinorm-classifiers", "Classifier rows become equinorm (NC2).", "fig. 2",
            f"CV of ‖w_c‖, {THROUGH}", "below 0.9", falls("nc2_norm_cv_weights", 0.9, runs),
        ),
        claim(
            "nc2-equiangular", "Centred class means become equiangular (NC2).", "fig. 3",
            f"std of cos(μ_c, μ_c′), {THROUGH}", "below 0.9", falls("nc2_cos_std_means", 0.9, runs),
        ),
        claim(
            "nc2-equiangular-classifiers", "Classifier rows become equiangular (NC2).", "fig. 3",
            f"std of cos(w_c, w_c′), {THROUGH}", "below 0.9", falls("nc2_cos_std_weights", 0.9, runs),
        ),
        claim(
            "nc2-max-angle", "Class means approach the maximal angle, cosine −1/(K−1) (NC2).",
            "fig. 4", f"mean |cos + 1/(K−1)| of means, {THROUGH}", "below 0.9",
            falls("nc2_cos_dev_means", 0.9, runs),
        ),
        claim(
            "nc2-max-angle-classifiers", "Classifiers approach the maximal angle (NC2).", "fig. 4",
            f"mean |cos + 1/(K−1)| of classifiers, {THROUGH}", "below 0.9",
            falls("nc2_cos_dev_weights", 0.9, runs),
        ),
        claim(
            "nc2-reached", "The class means reach the simplex ETF (NC2).", "abstract",
            "distance of the means' Gram from the simplex at the last epoch", "below 0.1",
            at_end("nc2_etf_means", 0.1, runs),
        ),
        claim(
            "nc2-reached-classifiers", "The classifiers reach the simplex ETF (NC2).", "abstract",
            "distance of the classifiers' Gram from the simplex at the last epoch", "below 0.1",
            at_end("nc2_etf_weights", 0.1, runs),
        ),
        claim(
            "nc3", "Classifiers and class means converge to each other up to scale (NC3).", "fig. 5",
            f"‖W/‖W‖ − M/‖M‖‖_F, {THROUGH}", "below 0.9", falls("nc3_frobenius", 0.9, runs),
        ),
        claim(
            "nc3-reached", "Classifiers and class means come to be the same up to scale (NC3).", "abstract",
            "‖W/‖W‖ − M/‖M‖‖_F at the last epoch", "below 0.1", at_end("nc3_frobenius", 0.1, runs),
        ),
        claim(
            "nc4", "The classifier comes to choose the nearest class mean (NC4).", "fig. 7",
            "share of training samples decided otherwise at the last epoch", "below 0.001",
            at_end("nc4_mismatch", 1e-3, runs),
        ),
        claim(
            "generalisation", "Training on through the terminal phase improves test accuracy.",
            "abstract; table 1 (recalled)",
            "test error at the last epoch minus at the first of zero training error", "below 0",
            error_change(runs),
        ),
        claim(
            "robustness", "Training on through the terminal phase improves adversarial robustness.",
            "abstract; fig. 8 (recalled)", f"mean ‖r(x)‖/‖x‖ of DeepFool on test images, {THROUGH}", "above 1",
            _farther(runs),
        ),
    )  # fmt: skip


CLAIMS = (
    *_claims(largest),
    *(claim for key, (name, runs) in _OTHERS.items() for claim in _claims(runs, key, name)),
)
