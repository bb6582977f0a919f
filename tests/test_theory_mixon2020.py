"""Strong neural collapse: where it is, what it costs, and that gradient descent from near zero ends there."""

import pytest
import torch
from asserts import assert_far_from_zero, assert_vanishes
from samplers import generator, normal

from nclib.geometry import simplex_gram
from nclib.theory import mixon2020

K, N_PER, D = 3, 5, 8
Y = torch.arange(K).repeat_interleave(N_PER)


def collapsed(d=D):
    return mixon2020.strong_collapse(num_classes=K, per_class=N_PER, d=d, generator=generator())


def apart(W, H, b):
    found = mixon2020.distances(W, H, b, Y)
    return torch.stack([found.W, found.H, found.b])


@pytest.mark.parametrize("d", [2, 3, 8])
def test_strong_collapse_has_no_loss_and_no_distance(d):
    point = collapsed(d)
    assert_vanishes(mixon2020.objective(*point, Y))
    assert_vanishes(apart(*point).max())
    W, H, b = point
    torch.testing.assert_close(W @ W.T, 5**0.5 * (torch.eye(3).double() - 1 / 3))
    torch.testing.assert_close(H @ H.T, (2 / 3) / 5**0.5 * simplex_gram(3)[Y][:, Y])
    torch.testing.assert_close(b, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_each_distance_sees_its_own_condition_alone():
    W, H, b = collapsed()
    assert_far_from_zero(apart(2 * W, 2 * H, b)[0])
    assert_vanishes(apart(2 * W, 2 * H, b)[1:].max())
    assert apart(W, H + 0.1, b)[1].item() == pytest.approx(0.1 * (15 * D) ** 0.5, rel=1e-12)
    assert_vanishes(apart(W, H + 0.1, b)[::2].max())
    assert apart(W, H, b + 0.1)[2].item() == pytest.approx(0.1 * 3**0.5, rel=1e-12)
    assert_vanishes(apart(W, H, b + 0.1)[:2].max())


def test_distances_of_a_stack_are_those_of_its_points():
    stack = [torch.stack([part, 2 * part + 1, part - 3]) for part in collapsed()]
    expected = torch.stack([apart(*point) for point in zip(*stack, strict=True)], dim=1)
    torch.testing.assert_close(apart(*stack), expected, rtol=1e-13, atol=1e-14)
    assert len(set(apart(*stack)[2].tolist())) == 3


def test_zero_loss_is_not_strong_collapse():
    # Any invertible mixing of feature space keeps the logits.
    W, H, b = collapsed()
    mix = torch.eye(D).double() + 0.3 * normal(D, D)
    other = W @ mix, H @ torch.linalg.inv(mix).T, b
    assert_vanishes(mixon2020.objective(*other, Y))
    assert apart(*other)[:2].min() > 0.1


def test_descent_from_near_zero_ends_at_strong_collapse_and_from_far_does_not():
    # The protocol of the reproduction: step 0.01, 40 000 steps, entries N(0, scale^2), mean of three seeds. Errors in
    # W W^T, H and b of an independent implementation with other draws; they scatter by a factor of a few.
    recorded = torch.tensor(
        [[1e-7, 9e-4, 3e-5], [1e-3, 9e-2, 3e-3], [0.10, 0.86, 0.024], [2.2, 9.9, 0.25]], dtype=torch.float64
    )
    scale = torch.tensor([1e-4, 1e-2, 0.1, 1.0], dtype=torch.float64).repeat_interleave(3)
    W, H, b = normal(12, K, D), normal(12, K * N_PER, D, seed=1), normal(12, K, seed=2)
    W, H, b = scale[:, None, None] * W, scale[:, None, None] * H, scale[:, None] * b
    for _ in range(40_000):
        by_W, by_H, by_b = mixon2020.gradient(W, H, b, Y)
        W, H, b = W - 0.01 * by_W, H - 0.01 * by_H, b - 0.01 * by_b
    assert mixon2020.objective(W, H, b, Y).max() < 1e-6  # the loss tells none of them from another
    errors = apart(W, H, b).view(3, 4, 3).mean(2).T
    assert (errors.diff(dim=0) > 0).all()
    assert ((errors / recorded).log().abs() < torch.tensor(5.0).log()).all()


def test_gradient_agrees_with_autograd_with_and_without_a_bias():
    W, H, b = normal(2, K, D), normal(2, 15, D, seed=1), normal(2, K, seed=2)
    for point in ((W, H, b), (W, H, None)):
        leaves = [None if part is None else part.clone().requires_grad_() for part in point]
        mixon2020.objective(*leaves, Y).sum().backward()
        for ours, leaf in zip(mixon2020.gradient(*point, Y), leaves, strict=True):
            if leaf is None:
                assert ours is None
            else:
                torch.testing.assert_close(ours, leaf.grad)


def test_bad_input_is_refused():
    W, H, b = collapsed()
    with pytest.raises(ValueError, match="classes of one size"):
        mixon2020.distances(W, H, b, Y.clamp(max=1))
    with pytest.raises(ValueError, match="classes of one size"):
        mixon2020.distances(W, H[:0], b, Y[:0])
    with pytest.raises(ValueError, match=r"H must be \(N, 8\)"):
        mixon2020.distances(W, H[:, :3], b, Y)
    with pytest.raises(ValueError, match="d >= 2"):
        collapsed(1)
