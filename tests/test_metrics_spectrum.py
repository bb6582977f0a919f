"""nclib.metrics.spectrum: effective dimensions count directions, and lie between 1 and the rank."""

import math

import pytest
import torch
from asserts import assert_close
from samplers import generator, normal

from nclib.geometry import random_rotation, simplex_gram
from nclib.metrics.spectrum import effective_rank, participation_ratio

both = pytest.mark.parametrize("dimension", [effective_rank, participation_ratio])


def with_eigenvalues(*values):
    """A symmetric matrix with these eigenvalues in a random orientation."""
    Q = random_rotation(len(values), generator())
    return Q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ Q.T


@both
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_equal_eigenvalues_count_one_each(dimension, rank):
    assert_close(dimension(with_eigenvalues(*[2.5] * rank, *[0.0] * 3)), rank)
    assert_close(dimension(simplex_gram(rank + 1)), rank)


@both
def test_unequal_eigenvalues_count_for_less(dimension):
    for seed in range(5):
        A = normal(8, 5, seed=seed)
        assert 1 < float(dimension(A @ A.T)) < 4.99


def test_values_of_a_known_spectrum():
    A = with_eigenvalues(3.0, 1.0, 0.0)
    assert_close(participation_ratio(A), 16 / 10)
    assert_close(effective_rank(A), math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


@both
def test_scale_and_rotation_do_not_matter(dimension):
    A = with_eigenvalues(5.0, 2.0, 1.0, 0.1)
    Q = random_rotation(4, generator(1))
    assert_close(dimension(1e-6 * A), dimension(A))
    assert_close(dimension(Q @ A @ Q.T), dimension(A))


@both
def test_both_grams_of_one_matrix_have_one_dimension(dimension):
    X = normal(9, 4)
    assert_close(dimension(X @ X.T), dimension(X.T @ X))


def test_effective_rank_is_the_larger_of_the_two():
    # exp of Shannon's entropy against exp of Renyi's of order two.
    for seed in range(5):
        A = normal(6, 6, seed=seed)
        assert effective_rank(A @ A.T) > participation_ratio(A @ A.T)


@both
def test_rounding_below_zero_is_no_direction_and_nothing_is_undefined(dimension):
    assert_close(dimension(with_eigenvalues(1.0, 1.0, -1e-17, 0.0)), 2)
    assert torch.isnan(dimension(torch.zeros(3, 3)))


@both
def test_float32_is_computed_in_float64(dimension):
    A = with_eigenvalues(1.0, 1.0, 0.5).float()
    assert dimension(A).dtype == torch.float64
    assert_close(dimension(A), dimension(A.double()), 1e-14)
