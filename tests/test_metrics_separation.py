"""nclib.metrics.separation: collapse of other samples onto class means, and separation by cosine distance."""

import math
from functools import reduce
from operator import add

import pytest
import reference
import torch
from asserts import assert_close, assert_far_from_zero, assert_same, assert_vanishes
from samplers import at, class_means, clusters, collapsed, generator, isotropic, normal, unbalanced

from nclib.geometry import random_rotation, simplex_etf
from nclib.metrics.nc import nc1_trace_ratio
from nclib.metrics.separation import Directions, Onto
from nclib.stats import ClassStats

K, D = 4, 6
both_samples = pytest.mark.parametrize("make", [clusters, unbalanced])


def onto(train, H, y, batch=10_000):
    """(weak, strong) of test features on the means of training features."""
    stats = ClassStats.of(*train, K)
    parts = [Onto.of(stats, *part) for part in zip(H.split(batch), y.split(batch), strict=True)]
    values = reduce(add, parts).metrics(stats)
    assert list(values) == ["test_collapse_weak", "test_collapse_strong"]
    return tuple(values.values())


def separation(H, y, batch=10_000, classes=K):
    parts = [Directions.of(*part, classes) for part in zip(H.split(batch), y.split(batch), strict=True)]
    return reduce(add, parts).separation()


# Test features on training means


@both_samples
@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_collapse_is_what_every_distance_gives(make, batch):
    train, (H, y) = make(K, D), clusters(K, D, noise=2.0, seed=9)
    weak, strong = onto(train, H, y, batch)
    expected = reference.collapse_onto_means(train.H, train.y.tolist(), H, y.tolist())
    assert_same({"test_collapse_weak": weak, "test_collapse_strong": strong}, expected)
    assert weak < strong


@both_samples
def test_features_on_their_own_means_have_the_trace_ratio_for_strong_collapse(make):
    sample = make(K, D)
    assert_close(onto(sample, *sample)[1], nc1_trace_ratio(ClassStats.of(*sample, K)))


def test_both_vanish_on_the_training_means_and_not_beside_them():
    train = clusters(K, D)
    means = ClassStats.of(*train, K).mu
    assert onto(train, *at(means)) == (0, 0)
    shift = normal(K, D, seed=2)
    shift *= 0.1 / shift.norm(dim=1, keepdim=True)
    weak, strong = onto(train, *at(means + shift))
    assert_far_from_zero(weak)
    trace = float((means - means.mean(0)).square().sum()) / K
    assert_close(strong, 0.01 / trace)


def test_on_the_wrong_means_the_weak_one_vanishes_and_the_strong_one_does_not():
    train = clusters(K, D)
    H, y = at(ClassStats.of(*train, K).mu)
    exchanged = torch.tensor([1, 0, 2, 3])
    weak, strong = onto(train, H, exchanged[y])
    assert weak == 0
    assert_far_from_zero(strong, 0.1)


def test_they_are_equal_if_and_only_if_the_nearest_mean_is_the_right_one():
    train = clusters(K, D)
    means = ClassStats.of(*train, K).mu
    H, y = clusters(K, D, noise=0.3, seed=0)
    assert (torch.cdist(H, means).argmin(1) == y).all()
    weak, strong = onto(train, H, y)
    assert weak == strong > 1e-3
    H[0] = means[(y[0] + 1) % K]
    weak, strong = onto(train, H, y)
    assert strong > weak + 1e-3


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_an_offset_leaves_small_distances_as_they_are(offset):
    train = at(class_means(K, D))
    H, y = at(class_means(K, D) + 1e-3)
    moved = onto((train.H + offset, train.y), H + offset, y)
    # what adding the offset itself rounds off
    assert_close(moved[1], onto(train, H, y)[1], 1e-12 * offset)
    assert_close(moved[0], moved[1])


def test_rotation_scale_and_order_do_not_matter():
    train, (H, y) = unbalanced(K, D), clusters(K, D, seed=9)
    expected = onto(train, H, y)
    Q = 30 * random_rotation(D, generator(1))
    order = torch.randperm(len(y), generator=generator(2))
    assert onto((train.H @ Q, train.y), H @ Q, y) == pytest.approx(expected, rel=1e-10)
    assert onto(train, H[order], y[order]) == pytest.approx(expected, rel=1e-10)


def test_float32_features_are_measured_in_float64():
    train, (H, y) = clusters(K, D), clusters(K, D, seed=9)
    H = H.float()
    assert onto(train, H, y) == onto(train, H.double(), y)
    assert separation(H, y) == separation(H.double(), y)
    # Control: distances of float32 round elsewhere.
    stats = ClassStats.of(*train, K)
    single = (H - stats.mu.float()[y]).square().sum()
    assert single.item() != Onto.of(stats, H, y).strong.item()


def test_means_that_coincide_are_no_scale_to_measure_by():
    flat = ClassStats.of(*at(torch.ones(K, D).double()), K)
    values = Onto.of(flat, *clusters(K, D)).metrics(flat)
    assert all(value != value for value in values.values())


def test_a_label_that_is_no_class_is_refused():
    H, y = clusters(K, D)
    with pytest.raises(ValueError, match="label 4 is out of range"):
        onto((H, y), H, y + 1)
    with pytest.raises(ValueError, match="label -1 is out of range"):
        separation(H, y - 1)


# Cosine distances


@both_samples
@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_separation_is_what_every_pair_gives(make, batch):
    H, y = make(K, D)
    assert_close(separation(H, y, batch), reference.class_separation(H, y.tolist()))
    assert 0 < separation(H, y) < 1


@both_samples
def test_separation_is_a_trace_ratio_of_directions(make):
    H, y = make(K, D)
    stats = ClassStats.of(torch.nn.functional.normalize(H, dim=1), y, K)
    within, between = (stats.within / stats.n).mean(), stats.M.square().sum() / K
    assert_close(separation(H, y), between / (within + between))


def test_separation_is_one_when_classes_have_one_direction_each_and_not_before():
    H, y = collapsed(K, D)
    lengths = torch.rand(len(y), 1, generator=generator(), dtype=torch.float64) + 0.5
    assert_vanishes(1 - separation(lengths * H, y))
    assert_far_from_zero(1 - separation(*clusters(K, D, noise=0.1)))


def test_separation_vanishes_when_classes_share_their_mean_direction_and_not_otherwise():
    ring = torch.cat([torch.eye(D), -torch.eye(D)]).double()
    H, y = ring.repeat(K, 1), torch.arange(K).repeat_interleave(2 * D)
    assert_vanishes(separation(H, y))
    assert_far_from_zero(separation(*isotropic(simplex_etf(K, D))), 0.1)


def test_separation_ignores_rotation_and_lengths_and_class_sizes_but_not_a_shift():
    H, y = unbalanced(K, D)
    expected = separation(H, y)
    lengths = torch.rand(len(y), 1, generator=generator(), dtype=torch.float64) + 0.1
    assert_close(separation(lengths * H @ random_rotation(D, generator(1)), y), expected)
    again = torch.cat([torch.arange(len(y)), (y == 0).nonzero().flatten()])
    assert_close(separation(H[again], y[again]), expected)
    assert separation(H + 10, y) < 0.99 * expected


def test_a_feature_of_zero_is_as_far_as_an_orthogonal_one_and_a_tiny_one_keeps_its_direction():
    H, y = clusters(K, D)
    expected = separation(H, y)
    tiny = H.clone()
    tiny[5] *= 1e-100
    assert_close(separation(tiny, y), expected)
    tiny[5] = 0
    without = separation(tiny, y)
    assert_close(without, reference.class_separation(tiny, y.tolist()))
    assert without < expected - 1e-4
    tiny[5] = 1e-200 * H[5]  # its norm is 0 in float64
    assert_close(separation(tiny, y), without)


@pytest.mark.parametrize("n", [4, 4000])
def test_features_of_one_direction_are_not_separated_by_the_rounding_of_their_sums(n):
    y = torch.arange(n) % K
    H = normal(1, D) * torch.linspace(1, 2, n).double()[:, None]
    assert math.isnan(separation(H, y))
    assert_close(separation(H + 1e-4 * class_means(K, D)[y] * H.norm(dim=1, keepdim=True), y), 1, 1e-6)


def test_a_class_without_sample_is_refused():
    H, y = clusters(K, D)
    with pytest.raises(ValueError, match="no sample of class 2"):
        separation(H[y != 2], y[y != 2])
