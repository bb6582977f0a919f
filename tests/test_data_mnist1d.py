"""MNIST-1D: the embedded samples, the generator, and fresh samples."""

import numpy as np
import pytest
import torch

from nclib.data import load, mnist1d
from nclib.data.mnist1d_generator import generate, templates


@pytest.fixture(scope="module")
def published():
    """The dataset as its authors' package makes it."""
    package = pytest.importorskip("mnist1d.data", reason="the mnist1d package comes with the test extra")
    state = np.random.get_state()  # noqa: NPY002 - the package seeds numpy's global generator
    yield package.make_dataset()
    np.random.set_state(state)  # noqa: NPY002


def test_embedded_samples_are_those_of_the_package_bit_for_bit(published):
    for split, x, y in (("train", "x", "y"), ("test", "x_test", "y_test")):
        dataset = load("mnist1d", split)
        assert np.array_equal(dataset.x[:, 0].numpy(), published[x].astype(np.float32))
        assert np.array_equal(dataset.y.numpy(), published[y])


def test_the_generator_follows_the_package(published):
    raw, y = generate(5000, 42)
    assert np.array_equal(y, np.concatenate([published["y"], published["y_test"]]))
    standardised = (raw - raw.mean()) / raw.std()
    np.testing.assert_allclose(
        standardised, np.concatenate([published["x"], published["x_test"]]), atol=1e-12
    )
    np.testing.assert_allclose(templates(), published["templates"]["x"], atol=1e-15)


def test_the_constants_are_those_of_seed_42():
    raw, _ = generate(5000, 42)
    assert raw.mean() == pytest.approx(mnist1d.MEAN, abs=1e-14)
    assert raw.std() == pytest.approx(mnist1d.STD, abs=1e-14)


def test_fresh_samples_of_seed_42_are_the_published_ones():
    again = mnist1d.fresh(5000, 42)
    train, test = load("mnist1d", "train"), load("mnist1d", "test")
    torch.testing.assert_close(again.x, torch.cat([train.x, test.x]), rtol=0, atol=1e-6)
    assert torch.equal(again.y, torch.cat([train.y, test.y]))


def test_fresh_samples_of_another_seed_are_new_and_of_the_same_distribution():
    fresh, train = mnist1d.fresh(4000, 7), load("mnist1d", "train")
    assert fresh.x.shape == (4000, 1, 40) and fresh.x.dtype == torch.float32
    assert fresh.y.bincount().tolist() == [400] * 10
    # no fresh sample lies on a training sample (control: a training sample does)
    nearest = torch.cdist(fresh.x[:200, 0], train.x[:, 0]).min()
    assert nearest > 0.1
    assert torch.cdist(train.x[:10, 0], train.x[:, 0], compute_mode="donot_use_mm_for_euclid_dist").min() == 0
    # same class means within the error of a mean, which is 1/sqrt(400) for unit variance
    for k in range(10):
        gap = fresh.x[fresh.y == k].mean(0) - train.x[train.y == k].mean(0)
        assert gap.abs().max() < 0.35
    # standardised with seed 42's constants, not its own: mean and deviation are near 0 and 1, not on them
    assert 1e-6 < abs(fresh.x.double().mean()) < 0.02
    assert 1e-6 < abs(fresh.x.double().std(correction=0) - 1) < 0.02


def test_fresh_samples_are_reproducible_and_leave_global_generators_alone():
    numpy_state = np.random.get_state
    numpy_before, torch_before = numpy_state()[1].copy(), torch.random.get_rng_state()
    a, b, c = mnist1d.fresh(50, 3), mnist1d.fresh(50, 3), mnist1d.fresh(50, 4)
    assert torch.equal(a.x, b.x) and a.checksum == b.checksum
    assert not torch.equal(a.x, c.x) and a.checksum != c.checksum
    assert a.checksum != mnist1d.fresh(60, 3).checksum
    assert np.array_equal(numpy_before, numpy_state()[1])
    assert torch.equal(torch_before, torch.random.get_rng_state())


@pytest.mark.parametrize("n", [0, 15, -10])
def test_a_size_that_is_no_multiple_of_ten_is_named(n):
    with pytest.raises(ValueError, match=f"multiples of 10, not {n}"):
        mnist1d.fresh(n, 0)
