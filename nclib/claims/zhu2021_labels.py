"""Zhu et al. (2021), random labels: whether networks that memorise them collapse, and as far as on true ones."""

import pandas as pd

from nclib.claims.terminal_phase import NOISY, TRAIN, Runs, against
from nclib.claims.verdict import (
    Claim,
    Missing,
    Unrecorded,
    Verdict,
    final_epoch,
    judged,
    mean_over_seeds,
    per_run,
)
from nclib.claims.zhu2021_networks import COLLAPSED, PLACES, claim_at, collapse_at_end

WIDTHS = {"fashion-mnist": (2, 4, 8, 16), "mnist1d": (8, 16, 32, 64, 128, 256)}
"""Of the networks that are to memorise random labels."""
MEMORISED = 0.01
SOURCE = {"lr": 0.01, "batch_size": 64, "weight_decay": 1e-4, "depth": 6}
"""The source's own settings of this experiment, which differ from those of its others."""
_MEASURES = {
    "nc1": ("nc1_pinv", "NC1"),
    "nc2": ("nc2_etf_weights", "NC2 (classifiers)"),
    "nc3": ("nc3_etf", "NC3"),
}


def _memorised(rows: pd.DataFrame) -> pd.Series:
    """By run, whether the random labels are fitted at the last epoch."""
    return per_run(rows, "error", final_epoch(rows), **NOISY) <= MEMORISED


def _collapse_where_memorised(runs: Runs, widths: tuple[int, ...]):
    """Share of widths at which the random labels are memorised and collapsed, or neither."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        if absent := sorted(set(widths) - set(rows.width)):
            raise Unrecorded(f"no runs of width {', '.join(map(str, absent))} recorded yet")
        memorised = _memorised(rows)
        if memorised.all() or not memorised.any():
            raise Missing("the widths are all on one side: every network memorises, or none")
        agree = (collapse_at_end(rows, NOISY) < COLLAPSED) == memorised
        cells = rows.groupby("run")[["seed", "width"]].first()
        if cells.duplicated().any():
            raise Missing("a seed stands for several runs: the claim must say which")
        shares = agree.groupby(cells.seed).agg(["mean", "size"])
        return mean_over_seeds(shares["mean"][shares["size"] == len(widths)], above=0.8)

    return judge


def _as_on_true_labels(metric: str, random: Runs, true: Runs):
    """A measure on memorised random labels over that on true ones; Missing where a run does not memorise."""
    compared = against(metric, random, true, NOISY, TRAIN, below=1.0)

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        memorised = _memorised(random(table))
        if not memorised.all():
            raise Missing(f"{int((~memorised).sum())} runs do not memorise their labels to {MEMORISED:.0%}")
        return compared(table)

    return judge


def _of(place: str) -> tuple[Claim, ...]:
    runs, claim, widths = PLACES[place], claim_at(place), WIDTHS[place]
    widest = widths[-1]
    return (
        claim(
            "random-labels-widths", "random labels collapse at the widths that memorise them, and at no other.",
            "fig. 4", "share of widths memorised to 1 % and collapsed to 0.2, or neither", "above 0.8",
            _collapse_where_memorised(runs(label_noise=1.0, width=widths), widths),
        ),
        *(
            claim(
                f"random-labels-{name}-as-true",
                f"a network that memorises random labels collapses on them no less than on true ones ({symbol}).",
                "fig. 4", f"{symbol} at the last epoch on random labels over that on true labels, width {widest}",
                "below 1",
                _as_on_true_labels(metric, runs(label_noise=1.0, width=widest), runs(width=widest)), late=True,
            )
            for name, (metric, symbol) in _MEASURES.items()
        ),
    )  # fmt: skip


CLAIMS = (
    *_of("fashion-mnist"),
    *_of("mnist1d"),
    claim_at("mnist1d")(
        "random-labels-widths-source",
        "with the source's settings random labels collapse at the widths that memorise them, and at no other.",
        "fig. 4", "share of widths memorised to 1 % and collapsed to 0.2, or neither", "above 0.8",
        _collapse_where_memorised(
            PLACES["mnist1d"](label_noise=1.0, width=WIDTHS["mnist1d"], **SOURCE), WIDTHS["mnist1d"]
        ),
    ),
)  # fmt: skip
