"""Golden values of every metric name, computed by the slow formulas of reference.py on inputs without a generator.

The numbers below are the contract: they were printed by reference.py, and nclib and reference.py must both still give
them. An input is sines of integers, the same on every machine and in every version of every library.
"""

import numpy as np
import pytest
import reference
import torch
from asserts import assert_close, assert_same, streamed

from nclib import cka, measure_features
from nclib.metrics.nc import Head
from nclib.stats import ClassStats
from nclib.streams import shape_metrics


def sines(rows, columns, step):
    """sin(1 step), sin(4 step), sin(9 step), ... row by row; without the squares every matrix would be of rank 2."""
    return np.sin(step * np.arange(1, rows * columns + 1) ** 2).reshape(rows, columns)


def problem(counts, d):
    """Unbalanced features with scatter, offset and a classifier: H, y, W, b."""
    K, N = len(counts), sum(counts)
    y = np.repeat(np.arange(K), counts)
    H = 0.7 * sines(N, d, 12.9898) + 1.5 * sines(K, d, 4.1414)[y] + 0.5
    return H, y, sines(K, d, 7.233), 0.3 * sines(1, K, 2.17)[0]


PROBLEMS = {"d > K - 1": ((3, 5, 4, 8), 6), "d < K - 1": ((4, 4, 7, 3, 5, 6), 3), "K = 2": ((6, 9), 4)}
GOLDEN = {
    "d > K - 1": {
        "nc1_pinv": 0.7304267241758724,
        "nc1_pinv_sample_centred": 0.6992214497877561,
        "nc1_pinv_weighted": 0.862867372641284,
        "nc1_trace_ratio": 0.2449664221342184,
        "nc1_trace_ratio_weighted": 0.23722881193369863,
        "sigma_b_rank": 3.0,
        "nc2_norm_cv_means": 0.11148406618017287,
        "nc2_cos_std_means": 0.725795006182025,
        "nc2_cos_dev_means": 0.609836318946591,
        "nc2_etf_means": 0.7685141076126538,
        "ncc_accuracy": 1.0,
        "cdnv": 0.14185796334649675,
        "nc2_norm_cv_weights": 0.18266054426161876,
        "nc2_cos_dev_weights": 0.2568015134293257,
        "nc2_etf_weights": 0.593606774275188,
        "nc3_frobenius": 1.4860492644809427,
        "nc3_etf": 1.5487049854722252,
        "nc3_cosine": 1.0974730334212734,
        "nc4_mismatch": 0.85,
        "bias_collapse": 1.408956095917388,
        "nc2_gram_frobenius": 2.25826287174878,
        "nc3_rows_uncentred": 2.941765439621461,
        "nc2_cos_std_weights": 0.29575325995646,
        "participation_ratio_means": 1.4897768131225386,
        "effective_rank_means": 1.7650332829636892,
        "global_mean_ratio": 0.6807888644464263,
    },
    "d < K - 1": {
        "nc1_pinv": 0.3030649005381036,
        "nc1_pinv_sample_centred": 0.2994521330465923,
        "nc1_pinv_weighted": 0.31829053686429826,
        "nc1_trace_ratio": 0.20845861652114445,
        "nc1_trace_ratio_weighted": 0.20666813782739962,
        "sigma_b_rank": 3.0,
        "nc2_norm_cv_means": 0.2674348727756287,
        "nc2_cos_std_means": 0.6557246426476069,
        "nc2_cos_dev_means": 0.5620592372534584,
        "nc2_etf_means": 0.9355195121988675,
        "ncc_accuracy": 0.8275862068965517,
        "cdnv": 0.265154077780425,
        "nc2_norm_cv_weights": 0.21219125464079303,
        "nc2_cos_dev_weights": 0.6204434916466225,
        "nc2_etf_weights": 1.0100958846431685,
        "nc3_frobenius": 1.5263531067031701,
        "nc3_etf": 1.5113500310247145,
        "nc3_cosine": 1.1696268430549266,
        "nc4_mismatch": 0.896551724137931,
        "bias_collapse": 1.6449494562243605,
        "nc2_gram_frobenius": 3.9315136482151156,
        "nc3_rows_uncentred": 4.124637599883388,
        "nc2_cos_std_weights": 0.6472912773348728,
        "participation_ratio_means": 1.581477917347224,
        "effective_rank_means": 1.9372607648095732,
        "global_mean_ratio": 0.46706642986851943,
    },
    "K = 2": {
        "nc1_pinv": 0.046185026429239384,
        "nc1_pinv_sample_centred": 0.044408679258884046,
        "nc1_pinv_weighted": 0.04810940253045771,
        "nc1_trace_ratio": 0.4230321259079796,
        "nc1_trace_ratio_weighted": 0.44065846448747875,
        "sigma_b_rank": 1.0,
        "nc2_norm_cv_means": 0.0,
        "nc2_cos_std_means": float("nan"),
        "nc2_cos_dev_means": 0.0,
        "nc2_etf_means": 0.0,
        "ncc_accuracy": 1.0,
        "cdnv": 0.1083285379996321,
        "nc2_norm_cv_weights": 0.05667721598030778,
        "nc2_cos_dev_weights": 0.4903866512952365,
        "nc2_etf_weights": 0.32166545491185083,
        "nc3_frobenius": 1.870894031265846,
        "nc3_etf": 1.991144863644431,
        "nc3_cosine": 1.757673740457017,
        "nc4_mismatch": 0.8666666666666667,
        "bias_collapse": 2.6142497160169165,
        "nc2_gram_frobenius": 3.8459253727671276e-16,
        "nc3_rows_uncentred": 2.259285157482545,
        "nc2_cos_std_weights": float("nan"),
        "participation_ratio_means": 1.0,
        "effective_rank_means": 1.0,
        "global_mean_ratio": 1.0979578892525093,
    },
}
GOLDEN_CKA = {
    "linear": 0.5060546669451645,
    "linear, debiased": 0.006002658325250297,
    "rbf": 0.593457230888083,
    "rbf, debiased": -0.011709378413954967,
    "rbf, offdiag, half": 0.7738436298284354,
    "rbf, offdiag, half, debiased": -0.0698439024251206,
    "rbf, wide": 0.5459995704364347,
}


def representations():
    x = sines(11, 4, 3.777)
    return x, np.concatenate([x[:, :2] ** 2 + 0.4 * x[:, 2:], sines(11, 13, 8.31)], axis=1) + 2.0


CKA_VARIANTS = {
    "linear": {},
    "linear, debiased": {"debiased": True},
    "rbf": {"kernel": "rbf"},
    "rbf, debiased": {"kernel": "rbf", "debiased": True},
    "rbf, offdiag, half": {"kernel": "rbf", "median": "offdiag", "bandwidth": 0.5},
    "rbf, offdiag, half, debiased": {
        "kernel": "rbf",
        "median": "offdiag",
        "bandwidth": 0.5,
        "debiased": True,
    },
    "rbf, wide": {"kernel": "rbf", "bandwidth": 1.5},
}


def tensors(counts, d):
    return tuple(torch.from_numpy(array) for array in problem(counts, d))


def split_golden(name):
    """What `measure_features` gives, and what `shape_metrics` gives."""
    shapes = (
        "nc2_cos_std_weights",
        "nc2_gram_frobenius",
        "nc3_rows_uncentred",
        "participation_ratio_means",
        "effective_rank_means",
    )
    golden = dict(GOLDEN[name])
    shape = {key: golden.pop(key) for key in (*shapes, "global_mean_ratio")}
    return golden, shape


each_problem = pytest.mark.parametrize("name", PROBLEMS)


@each_problem
def test_measure_features_gives_the_golden_values(name):
    H, y, W, b = problem(*PROBLEMS[name])
    golden, _ = split_golden(name)
    assert_same(measure_features(H, y, W, b), golden)
    assert_same(measure_features(*tensors(*PROBLEMS[name])), golden)


@each_problem
def test_a_stream_gives_the_golden_values(name):
    H, y, W, b = tensors(*PROBLEMS[name])
    golden, shape = split_golden(name)
    assert_same(streamed(H, y, W, b, len(W), batch=4), golden)
    assert_same(shape_metrics(ClassStats.of(H, y, len(W)), Head(W)), shape)


@each_problem
def test_the_slow_formulas_give_the_golden_values(name):
    H, y, W, b = problem(*PROBLEMS[name])
    assert_same(reference.nc_metrics(H, y, W, b) | reference.shape_metrics(H, y, W), GOLDEN[name])


@each_problem
def test_without_a_bias_all_but_the_decisions_stay(name):
    H, y, W, _ = problem(*PROBLEMS[name])
    values = measure_features(H, y, W)
    assert_same(values, reference.nc_metrics(H, y, W))
    golden, _ = split_golden(name)
    decided = ("nc4_mismatch", "bias_collapse")
    assert_same(
        {key: value for key, value in values.items() if key not in decided},
        {key: value for key, value in golden.items() if key not in decided},
    )


@pytest.mark.parametrize(("K", "d", "seed"), [(3, 5, 1), (5, 4, 2), (8, 3, 3), (6, 20, 4)])
def test_other_problems_agree_with_the_slow_formulas(K, d, seed):
    counts = [2 + (seed * k) % 7 for k in range(K)]
    H, y, W, b = problem(counts, d)
    H = H + 0.2 * sines(*H.shape, 5.1 * seed)
    assert_same(measure_features(H, y, W, b), reference.nc_metrics(H, y, W, b))
    assert_same(measure_features(H, y), reference.nc_metrics(H, y))


@pytest.mark.parametrize("variant", CKA_VARIANTS)
def test_cka_gives_the_golden_values(variant):
    x, y = representations()
    options = CKA_VARIANTS[variant]
    assert_close(cka(x, y, **options), GOLDEN_CKA[variant])
    assert_close(cka(torch.from_numpy(y), torch.from_numpy(x), **options), GOLDEN_CKA[variant])
    assert_close(reference.cka(x, y, **options), GOLDEN_CKA[variant])
