"""nclib.metrics.nc: identities between metrics, and other people's code that knows one of them."""

import pytest
import torch
from asserts import assert_close
from samplers import classifier, clusters, generator, isotropic, means_of_rank, unbalanced
from sklearn.metrics import calinski_harabasz_score
from sklearn.neighbors import NearestCentroid

from nclib import measure_features
from nclib.geometry import orthoplex, random_rotation, regular_polygon, simplex_etf
from nclib.metrics import nc
from nclib.stats import ClassStats
from nclib.streams import shape_metrics

PINV = ["nc1_pinv", "nc1_pinv_sample_centred", "nc1_pinv_weighted"]
TRACE = ["nc1_trace_ratio", "nc1_trace_ratio_weighted"]
SHAPES = [(4, 6), (3, 2), (6, 3), (10, 30)]  # d >= K, d = K - 1, d < K - 1


@pytest.mark.parametrize("make", [clusters, unbalanced])
def test_weighted_trace_ratio_splits_the_total_variance(make):
    H, y = make(5, 7)
    total = float((H - H.mean(0)).square().sum() / len(H))
    within = float(ClassStats.of(H, y, 5).trace_Sigma_W)
    assert_close(measure_features(H, y)["nc1_trace_ratio_weighted"], within / (total - within))


@pytest.mark.parametrize(("K", "d"), [(2, 3), (4, 3), (10, 16)])
def test_cdnv_at_simplex_means_is_proportional_to_the_trace_ratio(K, d):
    values = measure_features(*isotropic(5 * simplex_etf(K, d, generator=generator())))
    assert_close(values["cdnv"], (K - 1) / (2 * K) * values["nc1_trace_ratio"])


@pytest.mark.parametrize(("K", "d"), [(3, 2), (4, 9)])
def test_pinv_form_at_simplex_means_is_bounded_by_the_trace_ratio(K, d):
    simplex = 5 * simplex_etf(K, d, generator=generator())
    values = measure_features(*isotropic(simplex))
    bound = (K - 1) / K * values["nc1_trace_ratio"]
    if d == K - 1:  # all scatter lies in the means' span
        assert_close(values["nc1_pinv"], bound)
    else:
        assert_close(values["nc1_pinv"], bound * (K - 1) / d)
        assert values["nc1_pinv"] < bound


@pytest.mark.parametrize("rank", [1, 2, 4, 5])
def test_pinv_form_at_equal_eigenvalues_is_the_scatter_over_them(rank):
    K, d = 6, 8
    values = measure_features(*isotropic(means_of_rank(rank, K, d), radius=0.5))
    assert values["sigma_b_rank"] == rank
    for name in PINV:  # eigenvalues 1/K of Sigma_B against radius^2/d of Sigma_W, over K
        assert_close(values[name], rank * 0.25 / d)


@pytest.mark.parametrize("make", [clusters, unbalanced])
def test_gram_distance_is_a_matter_of_participation_ratio_and_cosine_sum(make):
    H, y = make(5, 7)
    stats = ClassStats.of(H, y, 5)
    U = torch.nn.functional.normalize(stats.mu - stats.mu_S, dim=1)
    PR, s = 25 / (U @ U.T).square().sum(), (U @ U.T).sum()
    measured = shape_metrics(stats, nc.Head(classifier(5, 7).W))["nc2_gram_frobenius"]
    assert_close(measured**2, 25 * (1 / PR - 1 / 4) + 2 * s / 4)


@pytest.mark.parametrize(
    ("frame", "floor"), [(regular_polygon(10), 6.23609564), (orthoplex(10, 5), 2.98142397)]
)
def test_gram_distance_attains_its_floor(frame, floor):
    stats = ClassStats.of(*isotropic(frame @ random_rotation(frame.shape[1], generator())), 10)
    assert_close(shape_metrics(stats, nc.Head(frame))["nc2_gram_frobenius"], floor, 1e-8)


@pytest.mark.parametrize("make", [clusters, unbalanced])
def test_variants_agree_exactly_when_classes_are_balanced(make):
    values = measure_features(*make(4, 6))
    for names in (PINV, TRACE):
        for other in names[1:]:
            difference = abs(values[other] / values[names[0]] - 1)
            assert difference < 1e-12 if make is clusters else difference > 0.02


# Other people's code


@pytest.mark.parametrize("make", [clusters, unbalanced])
@pytest.mark.parametrize(("K", "d"), SHAPES)
def test_calinski_harabasz_knows_the_weighted_trace_ratio(make, K, d):
    H, y = make(K, d)
    score = calinski_harabasz_score(H.numpy(), y.numpy())
    assert_close(measure_features(H, y)["nc1_trace_ratio_weighted"], (len(y) - K) / (K - 1) / score)


@pytest.mark.parametrize("make", [clusters, unbalanced])
@pytest.mark.parametrize(("K", "d"), SHAPES)
def test_nearest_centroid_knows_the_accuracy(make, K, d):
    H, y = make(K, d)
    accuracy = NearestCentroid().fit(H.numpy(), y.numpy()).score(H.numpy(), y.numpy())
    assert_close(measure_features(H, y)["ncc_accuracy"], accuracy, 1e-14)
