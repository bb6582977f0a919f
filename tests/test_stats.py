"""nclib.stats: class statistics are exact, centred, and add up."""

import re
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from asserts import assert_close, assert_far_from_zero, assert_same_statistics, assert_vanishes
from samplers import class_means, clusters, collapsed, generator, isotropic, normal, unbalanced

from nclib.stats import ClassStats, as_tensor, check_labels


def in_batches(H, y, K, sizes):
    return [ClassStats.of(h, k, K) for h, k in zip(H.split(sizes), y.split(sizes), strict=True)]


# What the statistics are


def test_counts_means_and_scatter_are_those_of_the_definition():
    H, y = unbalanced(4, 6)
    stats = ClassStats.of(H, y, 4)
    for k in range(4):
        rows = H[y == k]
        assert stats.n[k] == len(rows)
        torch.testing.assert_close(stats.mu[k], rows.mean(0))
        assert_close(stats.within[k], (rows - rows.mean(0)).square().sum())
    scatter = sum(torch.cov(H[y == k].T, correction=0) * (y == k).sum() for k in range(4))
    torch.testing.assert_close(stats.S_W, scatter)
    torch.testing.assert_close(stats.Sigma_W, scatter / len(y))
    assert len(y) == stats.N and stats.K == 4


def test_isotropic_scatter_has_the_covariance_it_was_built_with():
    H, y = isotropic(class_means(4, 6), radius=0.5)
    stats = ClassStats.of(H, y, 4)
    torch.testing.assert_close(stats.Sigma_W, 0.25 / 6 * torch.eye(6).double())
    assert_close(stats.trace_Sigma_W, 0.25)


def test_class_centred_mean_ignores_class_sizes_and_sample_centred_mean_does_not():
    H, y = unbalanced(4, 6)
    stats = ClassStats.of(H, y, 4)
    torch.testing.assert_close(stats.mu_S, H.mean(0))
    torch.testing.assert_close(stats.mu_G, torch.stack([H[y == k].mean(0) for k in range(4)]).mean(0))
    assert_far_from_zero((stats.mu_S - stats.mu_G).norm(), 0.1)
    assert not stats.balanced and ClassStats.of(*clusters(4, 6), 4).balanced


@pytest.mark.parametrize("make", [clusters, unbalanced])
def test_within_and_weighted_between_variance_add_up_to_the_total(make):
    H, y = make(5, 7)
    stats = ClassStats.of(H, y, 5)
    between = (stats.n @ (stats.mu - stats.mu_S).square().sum(1)) / stats.N
    assert_close(stats.trace_Sigma_W + between, (H - H.mean(0)).square().sum() / len(H))


def test_scatter_vanishes_at_collapse_and_not_before():
    stats = ClassStats.of(*collapsed(4, 6), 4)
    assert_vanishes(stats.S_W.abs().max())
    assert_vanishes(stats.within.max())
    assert_far_from_zero(ClassStats.of(*clusters(4, 6, noise=0.1), 4).within.min())


@pytest.mark.parametrize("n", [255, 256, 257, 512, 700])
@pytest.mark.parametrize("K", [3, 64, 65, 100])
def test_blocks_of_rows_leave_no_seam(n, K):
    y = torch.arange(n) % K
    H = normal(n, 4, seed=n) + class_means(K, 4)[y]
    expected = torch.stack([H[y == k].mean(0) for k in range(K)])
    stats = ClassStats.of(H, y, K)
    torch.testing.assert_close(stats.mu, expected)
    torch.testing.assert_close(stats.S_W, (H - expected[y]).T @ (H - expected[y]))


# Adding


@pytest.mark.parametrize("size", [1, 7, 30, 1000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_add_up_to_the_whole(size, shuffled):
    H, y = unbalanced(5, 6)  # sorted by class: most batches lack most classes
    order = torch.randperm(len(y), generator=generator()) if shuffled else torch.arange(len(y))
    H, y = H[order], y[order]
    assert_same_statistics(reduce(add, in_batches(H, y, 5, size)), ClassStats.of(H, y, 5))


def test_addition_is_commutative_and_associative():
    a, b, c = in_batches(*clusters(4, 6), 4, 16)
    assert_same_statistics(a + b, b + a)
    assert_same_statistics((a + b) + c, a + (b + c))


def test_merging_keeps_the_digits_that_an_offset_would_eat():
    H, y = clusters(4, 6, noise=1e-3)
    merged = reduce(add, in_batches(H + 1e6, y, 4, 11))
    # At 1e6 a float64 resolves 1e-10, against a scatter of 1e-3: E[x^2] - mu^2 would leave nothing of it.
    torch.testing.assert_close(merged.within, ClassStats.of(H, y, 4).within, rtol=1e-6, atol=0)
    naive = (H + 1e6).float().square().mean() - (H + 1e6).float().mean().square()
    assert abs(float(naive) / float(H.var(correction=0)) - 1) > 0.1


def test_sums_are_taken_about_a_sample_so_that_an_offset_costs_no_digits():
    # At 2^50 float64 still holds every integer, but sums of a thousand such numbers it does not.
    y = torch.arange(1000) % 2
    H = torch.stack([y * 3 + torch.arange(1000) // 2 % 5, torch.arange(1000) // 2 % 5], 1).double()
    expected, shifted = ClassStats.of(H, y, 2), ClassStats.of(H + 2.0**50, y, 2)
    assert expected.mu.tolist() == [[2, 2], [5, 2]]
    assert torch.equal(shifted.mu - 2.0**50, expected.mu)
    assert torch.equal(shifted.within, expected.within) and expected.within.tolist() == [2000, 2000]


def test_statistics_that_do_not_fit_together_are_refused():
    a = ClassStats.of(*clusters(4, 6), 4)
    with pytest.raises(
        ValueError, match=re.escape("cannot add statistics of shapes (4, 6) and (4, 5): K and d")
    ):
        a + ClassStats.of(*clusters(4, 5), 4)
    projected = ClassStats.with_coordinates(*clusters(4, 6), 4)[0]
    for left, right in ((a, projected), (projected, a)):
        with pytest.raises(
            ValueError, match=r"class-mean space cannot be merged: build them with ClassStats\.of"
        ):
            left + right


# The same in the span of the class means


@pytest.mark.parametrize(("K", "d"), [(4, 30), (4, 3), (7, 2), (2, 1)])
def test_class_mean_space_holds_the_same_scatter_along_the_means(K, d):
    H, y = unbalanced(K, d)
    whole, projected = ClassStats.of(H, y, K), ClassStats.with_coordinates(H, y, K)[0]
    assert projected.basis.shape == (min(K, d), d)
    torch.testing.assert_close(projected.basis @ projected.basis.T, torch.eye(min(K, d)).double())
    torch.testing.assert_close(projected.mu, whole.mu)
    torch.testing.assert_close(projected.within, whole.within)
    torch.testing.assert_close(projected.within_along(whole.M), whole.within_along(whole.M))
    torch.testing.assert_close(whole.within_along(whole.M), whole.M @ whole.Sigma_W @ whole.M.T)


def test_coordinates_and_scores_are_those_of_the_samples():
    H, y = clusters(4, 9, counts=[200, 90, 3, 8])
    W = normal(4, 9, seed=5)
    stats, X, scores = ClassStats.with_coordinates(H, y, 4, W)
    torch.testing.assert_close(X, (H - stats.mu_G) @ stats.basis.T)
    torch.testing.assert_close(scores, H @ W.T)
    assert ClassStats.with_coordinates(H, y, 4)[2] is None


# Input


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_dtype_is_computed_in_float64(dtype):
    H, y = clusters(3, 5)
    H = H.to(dtype)
    assert_same_statistics(ClassStats.of(H, y, 3), ClassStats.of(H.double(), y, 3), 1e-14)
    assert ClassStats.of(H, y, 3).mu.dtype == torch.float64


def test_a_batch_may_lack_a_class_but_its_global_mean_is_refused():
    H, y = clusters(4, 6)
    part = ClassStats.of(H[y != 2], y[y != 2], 4)
    assert part.n.tolist() == [12, 12, 0, 12]
    torch.testing.assert_close(part.mu_S, H[y != 2].mean(0))
    message = re.escape("no sample of class 2: give every class, or restrict with classes=[...]")
    for refused in (part.require_every_class, lambda: part.mu_G, lambda: part.M):
        with pytest.raises(ValueError, match=message):
            refused()
    with pytest.raises(ValueError, match=message):
        ClassStats.with_coordinates(H[y != 2], y[y != 2], 4)
    whole = part + ClassStats.of(H[y == 2], y[y == 2], 4)
    assert whole.require_every_class() is whole


def test_many_missing_classes_are_named_in_short():
    with pytest.raises(
        ValueError, match=re.escape("no sample of class 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ...:")
    ):
        ClassStats.with_coordinates(*clusters(3, 2), 20)


@pytest.mark.parametrize(
    ("label", "message"), [(-1, "label -1 is out of range"), (4, "label 4 is out of range")]
)
def test_a_label_out_of_range_is_refused(label, message):
    H, y = clusters(4, 6)
    y[17] = label
    with pytest.raises(ValueError, match=message + re.escape(": labels must lie in [0, 4)")):
        ClassStats.of(H, y, 4)


def test_labels_in_range_pass_and_no_labels_do_not():
    check_labels(torch.tensor([0, 3]), 4)
    with pytest.raises(ValueError, match="there are no samples: features and labels are empty"):
        check_labels(torch.arange(0), 4)


@pytest.mark.parametrize(
    ("H", "y"), [(torch.zeros(3, 2), torch.zeros(4).long()), (torch.zeros(1, 1, 1), torch.zeros(1).long())]
)
def test_mismatched_shapes_are_refused(H, y):
    with pytest.raises(
        ValueError, match=re.escape(f"features must be (N, d) and labels (N,), got {tuple(H.shape)}")
    ):
        ClassStats.of(H, y, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("sample", [0, 5, 40])
def test_a_value_that_is_not_finite_is_named(value, sample):
    H, y = clusters(4, 6)
    H[sample, 2] = value
    with pytest.raises(
        ValueError, match=f"NaN or infinite values .first in sample {sample}.: remove or repair"
    ):
        ClassStats.of(H, y, 4)


def test_a_sum_beyond_float64_is_refused():
    H, y = clusters(2, 3)
    with pytest.raises(ValueError, match="their sum overflows float64"):
        ClassStats.of(H.sign() * 1.7e308, y, 2)


def test_numpy_arrays_that_torch_cannot_share_are_copied():
    array = np.arange(6.0).reshape(2, 3)
    shared = as_tensor(array)
    assert shared.data_ptr() == array.__array_interface__["data"][0]
    assert as_tensor(array[:, ::-1]).tolist() == [[2, 1, 0], [5, 4, 3]]
    array.flags.writeable = False
    assert as_tensor(array).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert as_tensor(np.broadcast_to(np.float32(2), (2, 1))).tolist() == [[2], [2]]
    assert not as_tensor(torch.zeros(2, requires_grad=True)).requires_grad
