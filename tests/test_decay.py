"""Decay: what it falls on, the penalty on features as the model with free features has it, and the released no-op."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from nclib import decay
from nclib.models import build
from nclib.theory import unconstrained
from nclib.training import make_optimizer, train

K, N = 3, 30


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network():
    return build("mlp", num_classes=K, in_features=5, width=8, depth=2, generator=seeded()).double()


X = torch.randn(N, 5, generator=seeded(1), dtype=torch.float64)
Y = torch.arange(N) % K


def gradient_of(model, loss):
    model.zero_grad()
    loss(model(X), Y).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


# Parameters


def test_all_parameters_share_one_number_or_the_classifier_has_it_alone():
    model = network()
    assert decay.of_parameters(model, "all", 0.1) == 0.1
    by_name = decay.of_parameters(model, "last_layer", 0.1)
    assert {name for name, value in by_name.items() if value} == {"head.weight", "head.bias"}
    assert set(by_name) == {name for name, _ in model.named_parameters()}


def test_what_is_not_trained_is_not_decayed():
    model = network()
    model.head.weight.requires_grad_(False)
    by_name = decay.of_parameters(model, "last_layer", 0.1)
    assert "head.weight" not in by_name
    make_optimizer(model, "sgd", lr=0.1, weight_decay=by_name)  # names every trainable parameter once


@pytest.mark.parametrize("decayed", decay.DECAYED)
def test_without_a_gradient_only_what_is_decayed_shrinks(decayed):
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    weight_decay = decay.of_parameters(model, decayed, 0.5)
    optimizer = make_optimizer(model, "sgd", lr=0.1, weight_decay=weight_decay, momentum=0.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        shrinks = decayed == "all" or name.startswith("head.")
        torch.testing.assert_close(p.detach(), before[name] * (1 - 0.1 * 0.5 if shrinks else 1.0))


# Features


def test_the_penalty_is_that_of_the_unconstrained_feature_model():
    model, feature_decay = network(), 0.3
    loss = decay.with_features(model, cross_entropy, feature_decay)
    value = loss(model(X), Y)
    H, W, b = model.features(X), model.head.weight, model.head.bias
    expected = unconstrained.objective(W, H, b, Y, lambda_W=0.0, lambda_H=feature_decay / N)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    assert value > cross_entropy(model(X), Y)


def test_the_features_penalised_are_those_of_the_batch_at_hand():
    model = network()
    loss = decay.with_features(model, cross_entropy, 1.0)
    model.eval()  # so that a sample's features do not depend on its batch
    model(X[:4])
    value = loss(model(X[4:9]), Y[4:9]) - cross_entropy(model(X[4:9]), Y[4:9])
    torch.testing.assert_close(value, 0.5 * model.features(X[4:9]).square().sum(1).mean())


def test_normalised_features_make_the_penalty_a_constant_that_pulls_at_nothing():
    model = network()
    plain = gradient_of(model, cross_entropy)
    released = gradient_of(model, decay.with_features(model, cross_entropy, 0.3, normalised=True))
    largest = max(float(g.abs().max()) for g in plain.values())
    for name, g in plain.items():
        assert float((released[name] - g).abs().max()) < 1e-14 * largest


def test_raw_features_are_pulled_towards_zero():
    # The control: the same penalty on the features themselves has a gradient, and makes them shorter.
    plain, model = network(), network()
    before = gradient_of(plain, cross_entropy)
    loss = decay.with_features(model, cross_entropy, 0.3)
    after = gradient_of(model, loss)
    trunk = [name for name in before if name.startswith("trunk.")]
    assert max(float((after[name] - before[name]).abs().max()) for name in trunk) > 1e-3
    norms = {}
    for name, trained, criterion in (("plain", plain, cross_entropy), ("decayed", model, loss)):
        optimizer = make_optimizer(trained, "sgd", lr=0.05, weight_decay=0.0)
        for _ in train(
            trained, X, Y, optimizer=optimizer, schedule="constant", epochs=20, batch_size=10,
            generator=seeded(2), pauses=(), loss=criterion,
        ):  # fmt: skip
            pass
        norms[name] = float(trained.features(X).detach().square().sum(1).mean())
    assert norms["decayed"] < 0.8 * norms["plain"]


def test_half_precision_features_are_summed_in_single_precision():
    model = network().float()
    loss = decay.with_features(model, cross_entropy, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(X.float())
        value = loss(logits, Y)
        h = model.features(X.float())
    assert h.dtype == torch.bfloat16 and value.dtype == torch.float32
    penalty = 0.5 * h.float().square().sum(1).mean()
    torch.testing.assert_close(value - cross_entropy(logits.float(), Y), penalty, rtol=1e-5, atol=0)
