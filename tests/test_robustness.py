"""nclib.robustness: DeepFool finds affine boundaries exactly, others closely, and touches nothing else."""

import math

import pytest
import torch
from asserts import assert_close, assert_far_from_zero
from samplers import generator, normal
from torch import nn

from nclib import robustness
from nclib.models import build
from nclib.robustness import deepfool, norms

K, D = 4, 6
X = normal(40, D, seed=3)


def affine(W, b):
    model = nn.Linear(W.shape[1], W.shape[0]).double()
    model.weight.data, model.bias.data = W.clone(), b.clone()
    return model


def mlp(seed=0, K=K):
    """A network with batch normalisation, in train mode, whose running statistics are no batch's own."""
    net = build("mlp", num_classes=K, in_features=D, width=16, depth=2, generator=generator(seed)).double()
    net.train()
    for batch in (2 * X + 1).split(10):
        net(batch)
    return net


def curved(seed=0):
    """A network whose gradient turns slowly: a step of DeepFool ends near the boundary that it aims at."""
    first, last = (
        affine(0.3 * normal(16, D, seed=seed), normal(16, seed=seed + 1)),
        affine(normal(K, 16, seed=seed + 2), normal(K, seed=seed + 3)),
    )
    return nn.Sequential(first, nn.Tanh(), last)


def evaluated(model, x):
    """Logits in eval mode."""
    model.eval()
    with torch.no_grad():
        logits = model(x)
    model.train()
    return logits


def textbook(model, x, overshoot, steps):
    """Algorithm 2 for one input, class by class; the model is in eval mode."""

    def logit(k, point):
        point = point.clone().requires_grad_()
        value = model(point[None])[0, k]
        value.backward()
        return float(value.detach()), point.grad

    start = int(model(x[None]).argmax())
    point = x.clone()
    for step in range(1, steps + 1):
        f_0, g_0 = logit(start, point)
        best = None
        for k in range(K):
            if k == start:
                continue
            f, g = logit(k, point)
            distance = abs(f - f_0) / float((g - g_0).norm())
            if best is None or distance < best[0]:
                best = distance, g - g_0
        point = point + (1 + overshoot) * best[0] * best[1] / best[1].norm()
        if int(model(point[None]).argmax()) != start:
            return point - x, step
    return None, steps


# An affine classifier, where the distance is known


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("overshoot", [1e-9, 0.02, 0.5])
def test_distance_to_an_affine_boundary_is_exact_in_one_step(seed, overshoot):
    W, b = normal(K, D, seed=seed), normal(K, seed=seed + 50)
    found = deepfool(affine(W, b), X, overshoot=overshoot)
    for i, x in enumerate(X):
        z = W @ x + b
        start = int(z.argmax())
        others = [k for k in range(K) if k != start]
        distance = min(float((z[start] - z[k]) / (W[k] - W[start]).norm()) for k in others)
        assert_close(found.norm[i] / (1 + overshoot), distance, 1e-10)
        assert_close(found.relative[i] / (1 + overshoot), distance / float(x.norm()), 1e-10)
        assert int((W @ (x + found.r[i]) + b).argmax()) != start
    assert found.found.all() and (found.steps == 1).all()


def test_without_overshoot_the_perturbation_ends_on_the_boundary():
    model = affine(normal(K, D, seed=1), normal(K, seed=2))
    end = X + deepfool(model, X, overshoot=1e-12).r
    first, second = model(end).topk(2, dim=1).values.T
    assert float((first - second).detach().abs().max()) < 1e-10
    assert float(torch.diff(model(X).topk(2, dim=1).values.detach()).abs().min()) > 1e-3


# Networks


def crossing(model, x, r):
    """The share of r after which the decision changes, by bisection, one column."""
    start = evaluated(model, x).argmax(1)
    inside, outside = torch.zeros(len(x), 1).double(), torch.ones(len(x), 1).double()
    for _ in range(40):
        middle = (inside + outside) / 2
        crossed = (evaluated(model, x + middle * r).argmax(1) != start)[:, None]
        inside, outside = torch.where(crossed, inside, middle), torch.where(crossed, middle, outside)
    return outside


@pytest.mark.parametrize("seed", range(3))
def test_a_curved_boundary_is_crossed_and_near_it_by_no_more_than_the_overshoot(seed):
    model = curved(seed)
    far = deepfool(model, X)
    share = crossing(model, X, far.r)
    close = X + 0.9999 * share * far.r  # what is left is so short that the curvature hardly counts
    found = deepfool(model, close)
    for x, r in ((X, far.r), (close, found.r)):
        assert (evaluated(model, x + r).argmax(1) != evaluated(model, x).argmax(1)).all()
    assert float(crossing(model, close, found.r).min()) > 0.98
    # the controls: steps twice as long, and a boundary so far away that it is not where its tangent points
    assert float(crossing(model, close, deepfool(model, close, overshoot=1.0).r).max()) < 0.6
    assert float(share.min()) < 0.9


@pytest.mark.parametrize("seed", range(3))
def test_every_sample_gets_what_the_textbook_gives_it(seed):
    model = mlp(seed)
    found = deepfool(model, X, overshoot=0.05)
    model.eval()
    for i, x in enumerate(X):
        r, steps = textbook(model, x, 0.05, 50)
        assert int(found.steps[i]) == steps
        torch.testing.assert_close(found.r[i], r, rtol=1e-10, atol=1e-12)
    assert int(found.steps.max()) > 1, "every instance was as good as affine"


def test_images_are_perturbed_as_they_are():
    model = build("resnet18", num_classes=3, width=2, generator=generator()).double()
    x = normal(6, 1, 8, 8, seed=4)
    found = deepfool(model, x)
    assert found.r.shape == x.shape
    assert found.found.any()
    start, end = (evaluated(model, points).argmax(1) for points in (x, x + found.r.nan_to_num()))
    assert torch.equal(start != end, found.found)
    norm = found.r.square().sum((1, 2, 3)).sqrt()
    torch.testing.assert_close(found.norm, norm, equal_nan=True)
    torch.testing.assert_close(found.relative, norm / x.flatten(1).norm(dim=1), equal_nan=True)


def test_neither_batches_nor_order_matter(monkeypatch):
    model = mlp()
    whole = deepfool(model, X)
    order = torch.randperm(len(X), generator=generator(5))
    shuffled = deepfool(model, X[order])
    monkeypatch.setattr(robustness, "_BATCH", 7)
    parts = deepfool(model, X)
    for name in ("r", "norm", "relative", "found", "steps"):
        expected = getattr(whole, name)
        torch.testing.assert_close(getattr(parts, name), expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(getattr(shuffled, name), expected[order], rtol=1e-10, atol=1e-12)


def test_the_names_of_the_classes_do_not_matter():
    model = mlp()
    expected = deepfool(model, X)
    order = torch.tensor([2, 0, 3, 1])
    model.head.weight.data, model.head.bias.data = model.head.weight[order].data, model.head.bias[order].data
    torch.testing.assert_close(deepfool(model, X).r, expected.r, rtol=1e-10, atol=1e-12)


def test_rotated_inputs_have_rotated_perturbations():
    W, b = normal(K, D, seed=1), normal(K, seed=2)
    Q = torch.linalg.qr(normal(D, D, seed=9)).Q
    rotated = deepfool(affine(W @ Q, b), X @ Q).r
    torch.testing.assert_close(rotated, deepfool(affine(W, b), X).r @ Q, rtol=1e-9, atol=1e-11)


def test_the_scale_of_the_logits_does_not_matter_and_that_of_the_inputs_does():
    model = mlp()
    expected = deepfool(model, X)
    model.head.weight.data *= 37
    model.head.bias.data *= 37
    torch.testing.assert_close(deepfool(model, X).r, expected.r, rtol=1e-10, atol=1e-12)
    steep = nn.Sequential(affine(3 * torch.eye(D).double(), torch.zeros(D).double()), mlp())
    assert_close(deepfool(steep, X / 3).norm.mean(), expected.norm.mean() / 3)


def test_a_classifier_with_a_smaller_margin_gets_smaller_distances():
    means = torch.eye(K, D).double() * 3
    y = torch.arange(40) % K
    x = means[y] + 0.1 * X
    robust = affine(means, torch.zeros(K).double())
    # The same decisions, by a direction along which the samples hardly differ.
    close = torch.cat([means[:, :K] / 30, torch.zeros(K, D - K)], 1).double()
    shortcut = normal(K, D - K, seed=8)
    fragile = affine(close + torch.cat([torch.zeros(K, K), shortcut], 1), torch.zeros(K).double())
    assert (robust(x).argmax(1) == y).all()
    assert float(deepfool(fragile, x).norm.mean()) < float(deepfool(robust, x).norm.mean()) / 3


# Ties

EYE = torch.eye(D).double()


def at_a_tie(model, x, **options):
    """What DeepFool finds at ties of two logits, checked to change the decision."""
    assert bool((torch.diff(evaluated(model, x).topk(2, dim=1).values) == 0).all())
    found = deepfool(model, x, **options)
    assert found.found.all()
    assert (evaluated(model, x + found.r).argmax(1) != evaluated(model, x).argmax(1)).all()
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("overshoot", [0.0, 0.02])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_at_a_tie_the_boundary_is_here(dtype, overshoot, scale):
    x = torch.tensor([[1.0, 1], [-3, -3], [0.1, 0.1]]).to(dtype) * scale
    found = at_a_tie(
        affine(*(t.to(dtype) for t in (torch.eye(2), torch.zeros(2)))).to(dtype), x, overshoot=overshoot
    )
    assert float(found.relative.max()) < 20 * torch.finfo(dtype).eps
    assert (found.steps == 51).all()
    away = deepfool(
        affine(torch.eye(2).double(), torch.zeros(2).double()),
        torch.tensor([[1.0, 1.1]], dtype=torch.float64),
    )
    assert_close(away.norm[0], 1.02 * 0.1 / math.sqrt(2))


def test_a_tie_far_out_or_at_the_origin_or_of_many_is_one_too():
    many = torch.full((1, D), 0.3).double()
    assert float(at_a_tie(affine(EYE, torch.zeros(D).double()), many).relative) < 1e-14
    origin = torch.zeros(1, D).double()
    assert float(at_a_tie(affine(EYE, torch.zeros(D).double()), origin).norm) < 1e-100
    assert float(at_a_tie(affine(EYE, torch.full((D,), 100.0).double()), origin).norm) < 1e-12


def test_a_boundary_nearer_than_the_inputs_precision_is_reached():
    W, b = torch.tensor([[0.0, 0], [1, 1]]), torch.tensor([0, -1e-12])
    ones = torch.ones(2)
    model = nn.Sequential(affine(torch.eye(2), -ones), affine(W, b)).float()
    found = deepfool(model, ones[None])
    assert found.found.all() and 0 < float(found.norm) < 1e-5
    far = deepfool(
        nn.Sequential(affine(torch.eye(2), -ones), affine(W, torch.tensor([0.0, -1]))).float(), ones[None]
    )
    assert_close(far.norm, 1.02 / math.sqrt(2), 1e-6)


def test_a_tie_that_opens_to_neither_side_is_not_left_over_a_boundary_far_away():
    class Ridge(nn.Module):
        def forward(self, x):
            return torch.stack([torch.zeros(len(x)).double(), -x[:, 0].abs() + 0 * x[:, 1]], 1)

    found = deepfool(Ridge(), torch.zeros(1, 2).double())
    assert not found.found.any() and found.r.isnan().all()


def test_a_tie_in_the_features_of_a_network_is_one_too():
    model = mlp(1)
    model.head.weight.data[:2] = 0
    model.head.weight.data[0] = normal(16, seed=6)
    model.head.bias.data[:2] = 0
    model.eval()
    start = X[:1]
    with torch.no_grad():  # classes 0 and 1 tie here, above the others
        model.head.bias.data[0] = -model.head.weight[0] @ model.features(start)[0]
        model.head.bias.data[2:] -= 1000
        model.head.bias.data[0] -= model(start)[0, 0]
    found = at_a_tie(model, start)
    assert float(found.relative) < 1e-12
    assert float(deepfool(model, X).relative[1:].nanquantile(0.5)) > 1e-3


def test_a_tie_elsewhere_in_the_batch_changes_nothing_for_the_others():
    W, b = normal(K, D, seed=1), normal(K, seed=2)
    W[1], b[1] = W[0], b[0]
    W[1, 0] += 1
    tied = X.clone()
    tied[:, 0] = 0
    model = affine(W, b)
    tied = tied[torch.diff(evaluated(model, tied).topk(2, dim=1).values)[:, 0] == 0][:3]
    assert len(tied) == 3
    both = deepfool(model, torch.cat([X, tied]))
    assert both.found.all() and float(both.relative[len(X) :].max()) < 1e-13
    assert torch.equal(both.r[: len(X)], deepfool(model, X).r)


def test_classes_that_differ_by_rounding_alone_are_the_same_and_no_tie():
    W, b = normal(K, D, seed=1), normal(K, seed=2)
    nearly = W * (1 + 2**-52)
    model = affine(torch.cat([W, nearly]), torch.cat([b, b]))
    first, second = evaluated(model, X).topk(2, dim=1).values.T
    x = X[first == second]
    assert len(x) > 5
    found = deepfool(model, x)
    torch.testing.assert_close(found.r, deepfool(affine(W, b), x).r)


def test_an_input_of_zeros_has_a_distance_and_no_relative_one():
    W, b = normal(K, D, seed=1), normal(K, seed=2)
    found = deepfool(affine(W, b), torch.cat([torch.zeros(1, D).double(), X[:2]]))
    assert found.found.all() and 0 < float(found.norm[0]) < math.inf
    assert found.relative.isnan().tolist() == [True, False, False]


# What is not found


def test_a_constant_classifier_has_no_boundary_and_none_is_invented():
    found = deepfool(affine(torch.zeros(K, D).double(), torch.arange(K).double()), X, steps=3)
    assert not found.found.any()
    assert (found.steps == 3).all()
    for values in (found.r, found.norm, found.relative):
        assert values.isnan().all()
    assert deepfool(affine(normal(K, D), torch.arange(K).double()), X, steps=3).found.all()


def test_too_few_steps_leave_some_samples_without_and_the_others_as_they_are():
    model = mlp()
    enough, few = deepfool(model, X), deepfool(model, X, steps=1)
    assert torch.equal(few.found, enough.steps == 1)
    assert 0 < int(few.found.sum()) < len(X)
    torch.testing.assert_close(few.r[few.found], enough.r[few.found])
    assert few.r[~few.found].isnan().all()


def test_a_class_that_never_differs_from_the_decided_one_is_not_attacked():
    W, b = normal(K, D, seed=1), normal(K, seed=2)
    twice = affine(torch.cat([W, W]), torch.cat([b, b]))
    torch.testing.assert_close(deepfool(twice, X).r, deepfool(affine(W, b), X).r)


# What is left as it was


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_network_is_measured_in_eval_mode_and_left_as_it_was(training, frozen):
    model = mlp().requires_grad_(not frozen)
    in_eval = deepfool(model.eval(), X)
    model.train(training)
    x = X.clone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        again = deepfool(model, x)
    torch.testing.assert_close(again.r, in_eval.r, rtol=0, atol=0)
    assert model.training is training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad is not frozen for p in model.parameters())
    assert torch.equal(x, X) and not x.requires_grad
    assert not again.r.requires_grad
    # batch statistics would have decided otherwise
    assert_far_from_zero((evaluated(model, X) - model.train()(X)).detach().abs().max())


def test_gradients_and_mode_survive_a_failure():
    model = mlp()
    model(X).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    with pytest.raises(RuntimeError):
        deepfool(model, X[:, :3])
    assert model.training
    deepfool(model, X)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def test_float32_stays_float32_and_agrees():
    model = mlp()
    expected = deepfool(model, X)
    found = deepfool(model.float(), X.float())
    assert found.r.dtype == torch.float32
    assert float((found.norm.double() / expected.norm - 1).abs().median()) < 1e-4


# Norms and refusals


def test_norms_are_over_all_entries_and_scaled_by_channel():
    r = torch.tensor([[[[3.0]], [[4.0]]], [[[0.0]], [[2.0]]]]).double()
    assert norms(r).tolist() == [5, 2]
    std = torch.tensor([2.0, 0.5]).double()
    assert_close(norms(r, std)[0], math.sqrt(36 + 4))
    assert norms(r, std)[1] == 1
    image = normal(3, 2, 5, 5)
    assert_close(norms(image, torch.tensor([0.3, 0.3], dtype=torch.float64))[1], 0.3 * norms(image)[1])


@pytest.mark.parametrize("x", [X[:0], X.long(), X.clone().fill_(torch.nan), X / 0])
def test_inputs_that_cannot_be_attacked_are_refused(x):
    with pytest.raises(ValueError, match="floating point, finite, and at least one"):
        deepfool(mlp(), x)


@pytest.mark.parametrize("options", [{"overshoot": -0.1}, {"overshoot": math.nan}, {"steps": 0}])
def test_options_that_make_no_attack_are_refused(options):
    with pytest.raises(ValueError, match="overshoot must be at least 0 and steps at least 1"):
        deepfool(mlp(), X, **options)


def test_one_logit_decides_nothing():
    with pytest.raises(ValueError, match="at least two logits, got 1"):
        deepfool(affine(normal(1, D), normal(1)), X)
