"""Han, Papyan & Donoho (2022): collapse under the mean-squared error, and the central path it stays close to."""

import pandas as pd

from nclib.claims.terminal_phase import THROUGH, TRAIN, Runs, end_over_start, falls, varied
from nclib.claims.terminal_phase import claim as _claim
from nclib.claims.verdict import Claim, Verdict, by_seed, final_epoch, judged, mean_over_seeds, per_run


def _off_the_central_path(runs: Runs):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        end = final_epoch(rows)
        nc1, nc23, perp = (per_run(rows, f"mse_{part}", end, **TRAIN) for part in ("nc1", "nc23", "perp"))
        return mean_over_seeds(by_seed(perp / (nc1 + nc23), rows), below=0.1, ratio=True)

    return judge


def _spread_of_the_snr(runs: Runs):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        return mean_over_seeds(
            by_seed(end_over_start(rows, "snr_spread", floor=1.0), rows), below=0.9, ratio=True
        )

    return judge


def _claims(runs: Runs, key: str = "", at: str = "") -> tuple[Claim, ...]:
    """What the paper claims, on these runs; `key` and `at` tell those of another length apart."""

    def claim(of: str, statement: str, place: str, measure: str, predicate: str, judge) -> Claim:
        return _claim(
            key + of, f"{statement[:-1]}{at}.", place, measure, predicate, judge,
            source="han2022", page="12_what_it_needs",
        )  # fmt: skip

    return (
        claim(
            "mse-nc1", "Under the mean-squared error within-class variability collapses, too (NC1).", "abstract",
            f"Tr(Σ_W Σ_B⁺)/K, {THROUGH}", "below 0.5", falls("nc1_pinv", 0.5, runs),
        ),
        claim(
            "mse-nc2", "Under the mean-squared error the class means approach the maximal angle (NC2).", "abstract",
            f"mean |cos + 1/(K−1)| of means, {THROUGH}", "below 0.9", falls("nc2_cos_dev_means", 0.9, runs),
        ),
        claim(
            "mse-nc3", "Under the mean-squared error classifiers and means converge to each other (NC3).", "abstract",
            f"‖W/‖W‖ − M/‖M‖‖_F, {THROUGH}", "below 0.9", falls("nc3_frobenius", 0.9, runs),
        ),
        claim(
            "central-path", "The classifier ends close to the least-squares optimal one of its features.",
            "abstract", "L_⊥ / (L_NC1 + L_NC2/3) at the last epoch", "below 0.1", _off_the_central_path(runs),
        ),
        claim(
            "equal-snr", "The singular values of the signal-to-noise matrix become equal.",
            "dynamics of the central path", f"largest over smallest of the K−1, minus 1, {THROUGH}", "below 0.9",
            _spread_of_the_snr(runs),
        ),
    )  # fmt: skip


CLAIMS = (
    *_claims(varied(loss="mse")),
    *_claims(
        varied(loss="mse", lr=0.0184, epochs=350), "long-", ", at the source's learning rate and length"
    ),
)
