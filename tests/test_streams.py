"""Measuring features in batches: every number is a slow reference's, however the samples are cut into batches."""

import math

import pytest
import reference
import torch
from asserts import assert_far_from_zero, assert_same
from samplers import generator, normal

from nclib import streams
from nclib.metrics.nc import Head
from nclib.stats import ClassStats
from nclib.streams import first_of_each, gathered, measure_stream, sums

K, D, N = 12, 9, 150
Y = torch.randint(K, (N,), generator=generator(3))
H = normal(N, D, seed=1) + 2 * normal(K, D, seed=2)[Y]
HEAD = Head(normal(K, D, seed=4), normal(K, seed=5))


def batches(size):
    return zip(H.split(size), Y.split(size), strict=True)


@pytest.fixture
def few(monkeypatch):
    """Batches are gathered to K rows, which is fewer than there are samples."""
    monkeypatch.setattr(streams, "FEWEST_ROWS", 1)


def measured(size):
    return measure_stream(HEAD, lambda: batches(size), num_classes=K)[0]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("size", [1, 7, 11, 12, 13, 64, N])
def test_every_number_is_the_slow_references_whatever_the_size_of_a_batch(size):
    H_, W, b = (t.numpy() for t in (H, *vars(HEAD).values()))
    y = Y.tolist()
    expected = reference.nc_metrics(H_, y, W, b) | reference.shape_metrics(H_, y, W)
    expected |= reference.classification(H_, y, W, b) | {
        "class_separation": reference.class_separation(H_, y)
    }
    assert_same(measured(size), expected, 1e-10)
    other = reference.nc_metrics(H_[:-1], y[:-1], W, b)  # a single sample less is seen
    assert_far_from_zero(abs(other["nc1_pinv"] - expected["nc1_pinv"]), 1e-6)


@pytest.mark.parametrize("size", [1, 7, 20, 40, 500])
@pytest.mark.parametrize("rows", [1, 20, 1000])
def test_gathered_batches_are_the_same_samples_in_the_same_order_and_long_enough(size, rows):
    found = list(gathered(batches(size), rows))
    assert torch.equal(torch.cat([h for h, _ in found]), H)
    assert torch.equal(torch.cat([y for _, y in found]), Y)
    lengths = [len(y) for _, y in found]
    assert all(length >= rows for length in lengths[:-1])
    assert max(lengths) < rows + size, "no more is held than a batch beyond what is asked for"
    assert list(gathered(iter([]), rows)) == []


def test_batches_may_come_in_the_same_memory():
    def reused():
        h, y = torch.empty(10, D, dtype=H.dtype), torch.empty(10, dtype=Y.dtype)
        for rows, labels in batches(10):
            yield h.copy_(rows), y.copy_(labels)

    (ours,), (plain,) = (
        sums((ClassStats.of(h, y, K),) for h, y in gathered(source, 40)) for source in (reused(), batches(10))
    )
    assert torch.equal(ours.mu, plain.mu) and torch.equal(ours.S_W, plain.S_W)
    kept = torch.cat([h for h, _ in list(reused())])  # what holding on to them would give
    assert_far_from_zero(float((kept - H).abs().max()))


@pytest.mark.parametrize("size", [1, 7, N])
def test_the_first_of_each_class_are_taken_whatever_the_size_of_a_batch_and_no_more_is_read(size):
    read = []
    features, labels = first_of_each(((read.append(len(y)), (h, y))[1] for h, y in batches(size)), K, 2)
    places = [(k == Y).nonzero().flatten()[:2] for k in range(K)]
    assert torch.equal(features, H[torch.cat(places)])
    assert labels.tolist() == [k for k in range(K) for _ in range(2)]
    last = int(torch.cat(places).max())
    assert last < sum(read) <= last + size
    everything, labels = first_of_each(batches(size), K, 1000)  # what a class lacks is not made up
    assert len(everything) == N and torch.equal(torch.bincount(labels), torch.bincount(Y))


def test_means_that_coincide_have_no_shape_and_those_apart_have_one():
    y, head = torch.arange(30) % 3, Head(normal(3, 5, seed=1))
    spread = 0.1 + normal(30, 5, seed=2)
    for H, coincide in ((torch.full((30, 5), 0.1, dtype=torch.float64), True), (spread, False)):
        shape = streams.shape_metrics(ClassStats.of(H, y, 3), head)
        for name in ("nc2_gram_frobenius", "participation_ratio_means", "effective_rank_means"):
            assert math.isnan(shape[name]) == coincide
        assert math.isinf(shape["global_mean_ratio"]) == coincide
        assert math.isfinite(shape["nc2_cos_std_weights"])
