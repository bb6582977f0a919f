"""nclib.geometry: the simplex and other frames, and the floor that a small feature space puts under NC2."""

import math
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
import torch
from asserts import assert_close, assert_far_from_zero, assert_orthogonal, assert_simplex, assert_vanishes
from samplers import generator, normal
from scipy import optimize

from nclib.geometry import (
    hypercube,
    nc2_gram_floor,
    one_vs_rest_margin,
    orthoplex,
    random_rotation,
    regular_polygon,
    simplex_axes,
    simplex_etf,
    simplex_gram,
    simplex_picture,
    simplex_points,
)


def distance_from_simplex(V):
    """The norm that `nc2_gram_floor` bounds, of unit vectors."""
    return float(torch.linalg.matrix_norm(V @ V.T - simplex_gram(len(V))))


@pytest.mark.parametrize("K", [2, 3, 10, 100])
def test_simplex_gram_has_unit_diagonal_and_the_least_equal_cosine(K):
    G = simplex_gram(K)
    off_diagonal = G[~torch.eye(K, dtype=torch.bool)]
    assert G.dtype == torch.float64 and torch.equal(G.diagonal(), torch.ones(K).double())
    torch.testing.assert_close(off_diagonal, torch.full_like(off_diagonal, -1 / (K - 1)))
    assert_vanishes(G.sum(1).abs().max())
    assert_close(torch.linalg.matrix_norm(G), K / sqrt(K - 1))
    assert int(torch.linalg.matrix_rank(G)) == K - 1


@pytest.mark.parametrize(("K", "d"), [(2, None), (2, 1), (3, 2), (10, 9), (10, 64), (100, None)])
@pytest.mark.parametrize("rotated", [False, True])
def test_simplex_etf_is_a_simplex_in_any_dimension_that_holds_one(K, d, rotated):
    V = simplex_etf(K, d, generator=generator() if rotated else None)
    assert V.shape == (K, d or K - 1) and V.dtype == torch.float64
    assert_simplex(V)
    assert_vanishes(V.sum(0).abs().max())


def test_simplex_etf_is_rotated_by_its_generator_alone():
    first, again = (simplex_etf(5, 8, generator=generator(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert_far_from_zero((first - simplex_etf(5, 8, generator=generator(4))).abs().max())


@pytest.mark.parametrize("d", [1, 2, 30])
def test_random_rotation_is_orthogonal(d):
    assert_orthogonal(random_rotation(d, generator()))


def test_random_rotation_favours_no_direction():
    # QR without the correction of signs would leave every diagonal entry negative: their mean would be near -0.2.
    draws = generator()
    entries = torch.stack([random_rotation(8, draws).diagonal() for _ in range(400)])
    assert abs(float(entries.mean())) < 4 / sqrt(8 * entries.numel())


@pytest.mark.parametrize(("K", "d"), [(2, 1), (4, 2), (10, 5), (9, None), (10, None), (6, 5), (3, 7)])
def test_orthoplex_has_distinct_unit_vertices_with_largest_cosine_zero(K, d):
    V = orthoplex(K, d)
    G = V @ V.T
    assert V.shape == (K, d or -(-K // 2))
    assert torch.equal(G.diagonal(), torch.ones(K).double())
    assert (G - torch.eye(K)).max() <= 0 and set(G.unique().tolist()) <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize(
    ("K", "d"), [(2, None), (3, None), (8, 3), (9, 4), (10, None), (10, 9), (16, 4), (100, None)]
)
def test_hypercube_has_distinct_unit_vertices_with_the_smallest_mean(K, d):
    V = hypercube(K, d)
    n = d or math.ceil(math.log2(K))
    assert V.shape == (K, n) and V.dtype == torch.float64
    torch.testing.assert_close(V.abs(), torch.full_like(V, 1 / sqrt(n)), rtol=1e-15, atol=0)
    assert len(V.unique(dim=0)) == K
    # each coordinate of an odd number of vertices sums to at least one of its units
    assert_close(V.mean(0).norm(), K % 2 / K)


def test_vertices_of_a_hypercube_are_binary_numbers_and_their_opposites():
    signs = torch.tensor([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, -1, -1], [-1, -1, 1]]).double()
    torch.testing.assert_close(hypercube(5), signs / sqrt(3))
    torch.testing.assert_close(hypercube(5, 7), torch.cat([signs, signs, signs[:, :1]], 1) / sqrt(7))


def test_vertices_of_a_cube_taken_one_after_another_have_another_mean():
    in_order = torch.cartesian_prod(*[torch.tensor([0.5, -0.5])] * 4)
    torch.testing.assert_close(hypercube(16).unique(dim=0), in_order.double().unique(dim=0))
    assert_far_from_zero(in_order[:10].mean(0).norm(), 0.1)


@pytest.mark.parametrize(("K", "m"), [(3, 2), (10, 4), (16, 4), (100, 7)])
def test_the_largest_cosine_of_a_hypercube_is_one_edge_and_survives_repetition(K, m):
    for d in (m, 3 * m):
        G = hypercube(K, d) @ hypercube(K, d).T
        assert_close((G - 2 * torch.eye(K)).max(), 1 - 2 / m)


def test_the_whole_cube_is_a_tight_frame_and_a_part_of_it_is_not():
    assert_vanishes(distance_from_simplex(hypercube(16)) - nc2_gram_floor(16, 4))
    assert_far_from_zero(distance_from_simplex(hypercube(10)) - nc2_gram_floor(10, 4))


@pytest.mark.parametrize("K", [2, 3, 10])
def test_regular_polygon_is_equally_spaced_on_the_unit_circle(K):
    V = regular_polygon(K)
    neighbours = (V * V.roll(1, 0)).sum(1)
    torch.testing.assert_close(
        neighbours, torch.full_like(neighbours, torch.cos(torch.tensor(2 * torch.pi / K)))
    )
    torch.testing.assert_close(V.norm(dim=1), torch.ones(K).double())
    assert_vanishes(V.sum(0).abs().max())


def test_a_triangle_and_a_pair_are_simplices_and_a_square_is_both_other_polytopes():
    assert_simplex(regular_polygon(3))
    assert_simplex(orthoplex(2))
    assert_simplex(hypercube(2))
    for square in (regular_polygon(4), orthoplex(4)):
        torch.testing.assert_close(
            (hypercube(4) @ hypercube(4).T).sort().values, (square @ square.T).sort().values
        )


@pytest.mark.parametrize(
    "frame", [regular_polygon(10), orthoplex(10, 5), simplex_etf(10)], ids=["d=2", "d=5", "d=9"]
)
def test_floor_is_attained_by_tight_frames_that_sum_to_zero(frame):
    K, d = frame.shape
    assert_vanishes(distance_from_simplex(frame) - nc2_gram_floor(K, d), 1e-11)


@pytest.mark.parametrize("d", [2, 3, 5, 8])
def test_nothing_lies_below_the_floor_and_random_vectors_lie_above(d):
    for seed in range(20):
        V = torch.nn.functional.normalize(normal(10, d, seed=seed), dim=1)
        assert distance_from_simplex(V) > nc2_gram_floor(10, d) + 0.01


def test_floor_falls_with_the_dimension_and_is_zero_from_K_minus_1_on():
    floors = [nc2_gram_floor(10, d) for d in range(1, 13)]
    assert all(a > b for a, b in pairwise(floors[:9]))
    assert floors[8:] == [0.0] * 4 and floors[7] > 1
    assert_close(nc2_gram_floor(10, 2), 10 * sqrt(1 / 2 - 1 / 9), 1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simplex_gram(1), "K must be an integer of at least 2, got 1"),
        (lambda: simplex_gram(2.0), "K must be an integer of at least 2, got 2.0"),
        (lambda: simplex_etf(True), "K must be an integer of at least 2, got True"),
        (lambda: regular_polygon(0), "K must be an integer of at least 2, got 0"),
        (lambda: simplex_etf(10, 8), "a simplex ETF of K=10 vectors needs d >= 9 dimensions, got d=8"),
        (lambda: orthoplex(10, 4), "an orthoplex with K=10 vertices needs d >= 5 dimensions, got d=4"),
        (lambda: hypercube(10, 3), "a hypercube with K=10 vertices needs d >= 4 dimensions, got d=3"),
        (lambda: hypercube(1), "K must be an integer of at least 2, got 1"),
        (lambda: nc2_gram_floor(10, 0), "d must be at least 1, got 0"),
    ],
)
def test_impossible_requests_say_what_is_possible(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


# One-versus-rest margin


@pytest.mark.parametrize(
    ("frame", "margin"),
    [
        (simplex_etf(10), 10 / 9),
        (simplex_etf(4, 7), 4 / 3),
        (orthoplex(10, 5), 1.0),
        (orthoplex(10, 8), 1.0),
        (regular_polygon(10), 1 - math.cos(2 * math.pi / 10)),
        (regular_polygon(3), 1.5),
    ],
)
def test_softmax_codes_have_the_margin_known_for_them(frame, margin):
    assert one_vs_rest_margin(frame) == pytest.approx(margin, abs=1e-9)
    stretched = frame * torch.arange(1, len(frame) + 1).unsqueeze(1)
    assert one_vs_rest_margin(stretched) == pytest.approx(margin, abs=1e-9), "directions alone count"


@pytest.mark.parametrize("d", [2, 3, 5, 9, 20])
def test_the_margin_is_that_of_quadratic_programming(d):
    for seed in range(5):
        V = normal(8, d, seed=seed) + 0.4
        U = (V / V.norm(dim=1, keepdim=True)).numpy()

        def distance(k, U=U):
            P = np.delete(U, k, axis=0) - U[k]
            # weights that sum to one, by a heavy row: the nearest point of the hull in least squares
            w, _ = optimize.nnls(np.vstack([P.T, 1e5 * np.ones((1, len(P)))]), np.r_[np.zeros(d), 1e5])
            return np.linalg.norm(P.T @ (w / w.sum()))

        expected = min(distance(k) for k in range(len(U)))
        assert one_vs_rest_margin(V) == pytest.approx(expected, abs=1e-6)


def test_no_ten_directions_in_the_plane_beat_the_decagon_and_one_inside_the_others_has_none():
    best = one_vs_rest_margin(regular_polygon(10))
    assert all(one_vs_rest_margin(normal(10, 2, seed=s)) < best for s in range(50))
    doubled = torch.cat([regular_polygon(5)] * 2)
    assert one_vs_rest_margin(doubled) == pytest.approx(0, abs=1e-12)
    assert math.isnan(one_vs_rest_margin(torch.zeros(3, 2)))


# Coordinates in the simplex's own axes


def vertices(K):
    """The standard simplex in R^K, a vertex a row."""
    return torch.eye(K, dtype=torch.float64) - 1 / K


def collapsed(K, d, seed=0):
    """Means, classifiers and three features a class, exactly collapsed, turned, shifted and scaled at random."""
    frame = simplex_etf(K, d, generator=generator(seed))
    mu = 7 * frame + 5 * normal(d, seed=seed)
    return mu, 0.03 * frame, mu.repeat_interleave(3, 0)


@pytest.mark.parametrize(("K", "d"), [(2, 1), (4, 3), (10, 9), (10, 64), (5, 5)])
def test_exactly_collapsed_features_means_and_classifiers_lie_on_the_vertices(K, d):
    points = simplex_points(*collapsed(K, d))
    assert_vanishes((points["points_means"] - vertices(K)).abs().max(), 1e-11)
    assert_vanishes((points["points_weights"] - vertices(K)).abs().max(), 1e-11)
    assert_vanishes((points["points_features"] - vertices(K).repeat_interleave(3, 0)).abs().max(), 1e-11)


def test_what_has_not_collapsed_does_not_lie_on_the_vertices():
    mu, W, H = collapsed(6, 20)
    uneven = simplex_points(mu * torch.arange(1, 7)[:, None], W, H)
    assert_far_from_zero((uneven["points_means"] - vertices(6)).abs().max(), 0.1)
    turned = simplex_points(mu, W @ random_rotation(20, generator(5)), H)
    assert_vanishes((turned["points_means"] - vertices(6)).abs().max(), 1e-11)
    assert_far_from_zero((turned["points_weights"] - vertices(6)).abs().max(), 0.1)
    noisy = simplex_points(mu, W, H + normal(18, 20, seed=4))
    assert_far_from_zero((noisy["points_features"] - vertices(6).repeat_interleave(3, 0)).abs().max(), 0.1)


def test_a_picture_is_means_classifiers_and_points_to_their_digits():
    mu, W, H = collapsed(6, 20)
    picture, points = simplex_picture(mu, W, H + normal(18, 20)), simplex_points(mu, W, H + normal(18, 20))
    assert torch.equal(picture.pop("means"), mu.float()) and torch.equal(picture.pop("weights"), W.float())
    assert {value.dtype for value in picture.values()} == {torch.float16}
    for name, value in points.items():
        torch.testing.assert_close(picture.pop(name).double(), value, rtol=1e-3, atol=1e-6)
    assert picture == {}


@pytest.mark.parametrize(("K", "d"), [(7, 3), (7, 6), (7, 30)])
def test_the_means_keep_their_gram_matrix_in_any_dimension(K, d):
    mu = normal(K, d, seed=1) + 2
    M = mu - mu.mean(0)
    Q = simplex_axes(mu)
    assert_vanishes(((M @ Q) @ (M @ Q).T - M @ M.T).abs().max(), 1e-11)
    assert_vanishes((Q @ torch.ones(K, dtype=torch.float64)).abs().max())
    along = torch.linalg.svdvals(Q)
    assert_vanishes((along[: min(d, K - 1)] - 1).abs().max())
    assert_vanishes(along[K - 1 :].sum())
    points = simplex_points(mu, mu, mu)
    assert_close(points["points_means"].square().sum(), K - 1)
    assert_far_from_zero((points["points_means"] - vertices(K)).abs().max(), 0.05)


def test_no_partial_isometry_lays_the_means_closer_to_the_vertices():
    K, d = 5, 8
    mu = normal(K, d, seed=2)
    Q = simplex_axes(mu)
    best = float(torch.trace(vertices(K) @ mu @ Q))
    assert_close(best, torch.linalg.svdvals(mu - mu.mean(0)).sum())
    inside = simplex_etf(K) * sqrt((K - 1) / K)  # orthonormal columns: a basis of the complement of 1
    for seed in range(50):
        other = random_rotation(d, generator(seed))[:, : K - 1] @ inside.T
        assert torch.trace(vertices(K) @ mu @ other) < best - 0.01


def test_a_classifier_in_training_gives_plain_numbers():
    mu, W, H = collapsed(4, 8)
    points = simplex_points(mu.float(), torch.nn.Parameter(W.float()), H.half())
    assert all(value.dtype == torch.float64 and not value.requires_grad for value in points.values())


def test_turning_shifting_and_scaling_feature_space_moves_no_point():
    mu, W, H = normal(6, 9, seed=0), normal(6, 9, seed=1), normal(20, 9, seed=2)
    R, t = random_rotation(9, generator(3)), 4 * normal(9, seed=4)
    points = simplex_points(mu, W, H)
    moved = simplex_points(3 * mu @ R + t, 0.1 * W @ R, 3 * H @ R + t)
    for name, value in points.items():
        torch.testing.assert_close(moved[name], value, rtol=1e-9, atol=1e-11)
    stretched = simplex_points(mu * torch.linspace(1, 3, 9), W, H)
    assert_far_from_zero((stretched["points_means"] - points["points_means"]).abs().max(), 0.01)


def test_scatter_outside_the_span_of_the_means_is_not_seen_and_scatter_inside_is():
    mu, W, H = collapsed(4, 8)
    basis = torch.linalg.svd(mu - mu.mean(0)).Vh
    for direction, seen in ((basis[0], True), (basis[5], False)):
        moved = simplex_points(mu, W, H + direction)["points_features"]
        gap = (moved - vertices(4).repeat_interleave(3, 0)).abs().max()
        (assert_far_from_zero if seen else assert_vanishes)(gap, 0.01 if seen else 1e-11)


def test_what_has_no_extent_along_the_means_lies_at_the_centre():
    mu, W, H = collapsed(4, 8)
    assert_vanishes(simplex_axes(mu[:1].expand(4, 8) / 3).abs().max())
    for points in simplex_points(mu[:1].expand(4, 8), W, H).values():
        assert_vanishes(points.abs().max())
    points = simplex_points(mu, 0 * W, H)
    assert_vanishes(points["points_weights"].abs().max())
    assert_far_from_zero(points["points_means"].abs().max())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda mu, W, H: (mu[:1], W, H), "K must be an integer of at least 2, got 1"),
        (lambda mu, W, H: (mu * math.nan, W, H), "class means contain NaN or infinite values"),
        (lambda mu, W, H: (mu, W * math.inf, H), "classifier or features contain NaN or infinite values"),
        (
            lambda mu, W, H: (mu, W[:3], H[:, :5]),
            r"with means \(4, 8\) the classifier must be \(4, 8\) and features \(m, 8\), got \(3, 8\) and \(12, 5\)",
        ),
    ],
)
def test_points_of_impossible_input_are_refused(spoil, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        simplex_points(*spoil(*collapsed(4, 8)))


# NC2 in the slide study's convention


@pytest.mark.parametrize(
    ("d", "value"), [(2, 6.2360956), (3, 4.7140452), (5, 2.9814240), (8, 1.1785113), (9, 0.0), (64, 0.0)]
)
def test_the_floor_has_these_values_for_ten_classes(d, value):
    assert nc2_gram_floor(10, d) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("d", [2, 5, 9, 40])
def test_nc2_is_effective_rank_and_what_the_means_do_not_sum_to(d):
    K = 10
    U = torch.nn.functional.normalize(normal(K, d, seed=d) + 0.3, dim=1)
    G = U @ U.T
    ratio = G.trace() ** 2 / G.square().sum()
    expected = K**2 * (1 / ratio - 1 / (K - 1)) + 2 * G.sum() / (K - 1)
    assert distance_from_simplex(U) ** 2 == pytest.approx(float(expected), rel=1e-9)
    without_the_sum = K**2 * (1 / ratio - 1 / (K - 1))
    assert abs(distance_from_simplex(U) ** 2 - float(without_the_sum)) > 1e-2, "the last term counts"
