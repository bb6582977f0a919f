"""The long table: one row a number, and what each metric is called."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

SCHEMA = 1
"""Version of the columns below; part of every run's key."""

COLUMNS = ("run", "seed", "epoch", "split", "labels", "layer", "metric", "value")
_NAMES = ("run", "split", "labels", "layer", "metric")

METRICS = {
    "error": "classification error",
    "loss": "loss",
    "nc1_pinv": "NC1: Tr(Σ_W Σ_B⁺)/K",
    "nc1_pinv_sample_centred": "NC1: Tr(Σ_W Σ_B⁺)/K, sample-centred",
    "nc1_pinv_weighted": "NC1: Tr(Σ_W Σ_B⁺)/K, weighted by class size",
    "nc1_trace_ratio": "NC1: Tr Σ_W / Tr Σ_B",
    "nc1_trace_ratio_weighted": "NC1: Tr Σ_W / Tr Σ_B, weighted by class size",
    "sigma_b_rank": "rank of Σ_B",
    "nc2_norm_cv_means": "NC2: CV of ‖μ_c − μ_G‖",
    "nc2_norm_cv_weights": "NC2: CV of ‖w_c‖",
    "nc2_cos_std_means": "NC2: std of cos(μ_c, μ_c′)",
    "nc2_cos_std_weights": "NC2: std of cos(w_c, w_c′)",
    "nc2_cos_dev_means": "NC2: mean |cos(μ_c, μ_c′) + 1/(K−1)|",
    "nc2_cos_dev_weights": "NC2: mean |cos(w_c, w_c′) + 1/(K−1)|",
    "nc2_etf_means": "NC2: distance of the means' Gram from the simplex",
    "nc2_etf_weights": "NC2: distance of the classifiers' Gram from the simplex",
    "nc2_gram_frobenius": "NC2 as in the slide study: ‖cosine Gram − simplex‖_F",
    "nc3_frobenius": "NC3: ‖W/‖W‖ − M/‖M‖‖_F",
    "nc3_etf": "NC3: distance of W Mᵀ from the simplex",
    "nc3_cosine": "NC3: 1 − mean cos(w_c, μ_c − μ_G)",
    "nc3_rows_uncentred": "NC3 as in the slide study: unit rows, uncentred means",
    "nc4_mismatch": "NC4: classifier ≠ nearest class mean",
    "nc4_mismatch_train_means": "NC4 with the training means",
    "ncc_accuracy": "accuracy of the nearest class mean",
    "ncc_accuracy_train_means": "accuracy of the nearest training mean",
    "cdnv": "class-distance normalised variance",
    "class_separation": "class separation R² by cosine distance",
    "test_collapse_weak": "mean squared distance to the nearest training mean / Tr Σ_B",
    "test_collapse_strong": "mean squared distance to the own training mean / Tr Σ_B",
    "snr_spread": "ω₁/ω_{K−1} of Σ_W^{−1/2} M",
    "mse_total": "squared error with penalty",
    "mse_nc1": "squared error: L_NC1",
    "mse_nc23": "squared error: L_NC2/3",
    "mse_perp": "squared error: L_⊥",
    "bias_collapse": "‖W μ_S + b‖",
    "participation_ratio_means": "participation ratio of the means' Gram",
    "effective_rank_means": "effective rank of the means' Gram",
    "global_mean_ratio": "‖μ_G‖ / mean ‖μ_c − μ_G‖",
    "mean_feature_norm_squared": "mean ‖h‖²",
    "margin_mean": "mean one-versus-rest margin",
    "margin_min": "smallest one-versus-rest margin",
    "one_vs_rest_margin_means": "one-versus-rest margin of the means' directions",
    "one_vs_rest_margin_weights": "one-versus-rest margin of the classifiers' directions",
    "deepfool_relative_mean": "mean ‖r‖/‖x‖ by DeepFool",
    "deepfool_relative_median": "median ‖r‖/‖x‖ by DeepFool",
    "deepfool_norm_mean": "mean ‖r‖ by DeepFool",
    "deepfool_found": "share of inputs that DeepFool moved over a boundary",
    "weight_norm_squared": "‖W‖_F²",
    "nc0_row_sum": "NC0: ‖Wᵀ1‖, the sum of the classifier's rows",
    "parameter_norm": "norm of all parameters",
    "parameters": "number of parameters",
    "objective": "objective f(W, H, b)",
    "objective_gap": "relative gap to the optimum, (f − f*)/f*",
    "gradient_norm": "norm of ∇f",
    "certificate": "‖∇g‖₂ / √(λ_W λ_H)",
    "feature_norm_squared": "‖H‖_F²",
    "bias_spread": "‖b − mean b‖",
    "self_duality": "relative distance of H from √(λ_W/(nλ_H)) W",
    "curvature": "directional curvature ∇²f[Δ, Δ]",
    "curvature_predicted": "−2(‖∇g‖₂ − √(λ_W λ_H))",
    "curvature_error": "relative error of the predicted curvature",
    "objective_gap_max": "largest |f − f*|/f* of all restarts",
    "objective_gap_median": "median |f − f*|/f* of all restarts",
    "reached_share": "share of restarts with |f − f*|/f* < 1e-6",
    "gradient_norm_max": "largest norm of ∇f of all restarts",
    "certificate_error_max": "largest |‖∇g‖₂/√(λ_W λ_H) − 1| of all restarts",
    "global_minima": "restarts that end in a global minimum",
    "saddles": "restarts that end in a saddle",
    "other_minima": "restarts that end in another local minimum",
    "not_critical": "restarts that end in no critical point",
    "saddle_eigenvalue_max": "largest of the saddles' smallest eigenvalues of ∇²f",
    "violation_max": "largest violation over random instances",
    "cka_linear": "linear CKA, biased",
    "cka_linear_debiased": "linear CKA, debiased",
    "cka_rbf_debiased": "RBF CKA, debiased",
    "cka_linear_flattened": "linear CKA of flattened activations, biased",
    "cka_linear_flattened_debiased": "linear CKA of flattened activations, debiased",
    "cka_linear_permuted": "linear CKA with the samples of one side permuted, biased",
    "cka_linear_permuted_debiased": "linear CKA with the samples of one side permuted, debiased",
    "cka_linear_aligned": "linear CKA after the best rotation and scale, debiased",
    "cka_class_means": "linear CKA of the class means",
    "cka_residuals_debiased": "linear CKA of the residuals about class means, debiased",
    "procrustes_similarity": "orthogonal Procrustes similarity",
}
"""Every metric a table may hold, with its label for axes and legends."""


def from_rows(rows: Iterable[dict], *, run: str, seed: int) -> pd.DataFrame:
    """A long table from rows that give epoch, split, labels, layer, metric and value.

    Raises ValueError for a metric without a label, for a row that is there twice, and for columns unknown.
    """
    table = pd.DataFrame(list(rows))
    table["run"], table["seed"] = run, seed
    if set(table.columns) != set(COLUMNS):
        raise ValueError(f"a row must give exactly {', '.join(COLUMNS[2:])}; got {', '.join(table.columns)}")
    unknown = sorted(set(table.metric) - set(METRICS))
    if unknown:
        raise ValueError(f"metric {unknown[0]!r} has no label: add it to nclib.tables.METRICS")
    return check(table[list(COLUMNS)].astype({"seed": "int64", "epoch": "int64", "value": "float64"}))


def check(table: pd.DataFrame) -> pd.DataFrame:
    """The table, or ValueError when columns are missing or a number is there twice."""
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(f"the table lacks the column {missing[0]!r}")
    twice = table.duplicated(["run", "epoch", "split", "labels", "layer", "metric"])
    if twice.any():
        row = table[twice].iloc[0]
        raise ValueError(
            f"{row.metric} of {row.split}/{row.labels}/{row.layer} at epoch {row.epoch} is there twice"
        )
    return table


def write(table: pd.DataFrame, path: Path) -> None:
    """Write as Parquet with zstd: names dictionary-encoded, values as float32, seven digits of what was
    measured.

    What needs more digits than that is recorded as the difference or ratio that is small.
    """
    typed = table[list(COLUMNS)].astype(dict.fromkeys(_NAMES, "category") | {"value": "float32"})
    typed.to_parquet(path, compression="zstd", index=False)


def read(path: Path) -> pd.DataFrame:
    """Read what `write` wrote; names come back as plain strings, values as float64."""
    table = pd.read_parquet(path)
    return check(table.astype(dict.fromkeys(_NAMES, "object") | {"value": "float64"}))


def select(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows in which every named column has the given value (or one of a list of values).

    Raises KeyError naming a column that is not there, and returns an empty table when nothing matches.
    """
    keep = pd.Series(True, index=table.index)
    for column, value in where.items():
        keep &= matches(table, column, value)
    return table[keep]


def matches(table: pd.DataFrame, column: str, value: object) -> pd.Series:
    """Row by row, whether `column` has the given value (or one of a list of values).

    Raises KeyError naming a column that is not there.
    """
    if column not in table:
        raise KeyError(f"the table has no column {column!r}; it has {', '.join(table.columns)}")
    return table[column].isin(value) if isinstance(value, list | tuple | set) else table[column] == value
