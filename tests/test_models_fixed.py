"""Fixed classifiers: they are polytopes, training leaves them alone, and features can follow them."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from nclib.geometry import simplex_gram
from nclib.models import build
from nclib.models.fixed import POLYTOPES, fix_classifier
from nclib.training import make_optimizer, train

K = 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(polytope=None, width=12, **options):
    model = build("mlp", num_classes=K, in_features=6, width=width, depth=2, generator=seeded(), **options)
    if polytope is not None:
        fix_classifier(model, polytope, seeded(1))
    return model.double()


Y = torch.arange(40) % K
X = 5 * torch.eye(K, 6, dtype=torch.float64)[Y] + torch.randn(40, 6, generator=seeded(2), dtype=torch.float64)


def trained(model, epochs=60):
    optimizer = make_optimizer(model, "sgd", lr=0.1, weight_decay=0.0)
    for _ in train(
        model, X, Y, optimizer=optimizer, schedule="constant", epochs=epochs, batch_size=10,
        generator=seeded(3), pauses=(),
    ):  # fmt: skip
        pass
    return model.eval()


@pytest.mark.parametrize(("polytope", "gram"), [
    ("etf", simplex_gram(K)),
    ("orthoplex", torch.tensor([[1, 0, -1, 0], [0, 1, 0, -1], [-1, 0, 1, 0], [0, -1, 0, 1]]).double()),
])  # fmt: skip
def test_the_classifiers_have_the_polytopes_gram_matrix(polytope, gram):
    W = network(polytope).head.weight
    torch.testing.assert_close((W @ W.T).detach(), gram, rtol=0, atol=1e-7)


@pytest.mark.parametrize("polytope", POLYTOPES)
def test_rows_are_unit_vectors_in_the_dimension_of_the_features(polytope):
    model = network(polytope)
    assert model.features(X).shape == (40, model.feature_dim)
    assert model.feature_dim == {"etf": 12, "orthoplex": 2, "hypercube": 2}[polytope]
    torch.testing.assert_close(model.head.weight.norm(dim=1), torch.ones(K).double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("polytope", POLYTOPES)
def test_training_moves_everything_but_the_classifiers_weights(polytope):
    before, after = network(polytope), dict(trained(network(polytope), epochs=2).named_parameters())
    # but for shifts in front of a batch normalisation, which takes them out again
    names = [name for name, _ in before.named_parameters() if name.endswith("weight") or name == "head.bias"]
    still = [name for name in names if torch.equal(before.get_parameter(name), after[name])]
    assert still == ["head.weight"] and len(names) >= 6


@pytest.mark.parametrize("polytope", POLYTOPES)
def test_features_learn_to_follow(polytope):
    model = trained(network(polytope))
    with torch.no_grad():
        assert cross_entropy(model(X), Y) < 0.1
        assert (model(X).argmax(1) == Y).all()
    with torch.no_grad():
        assert cross_entropy(network(polytope)(X), Y) > 1


def test_non_negative_features_could_not_follow_an_orthoplex():
    # Why a linear map stands before it: of an opposite pair, one class has no logit above the bias.
    W = network("orthoplex").head.weight
    H = torch.rand(1000, 2, generator=seeded(4), dtype=torch.float64)
    assert float((H @ W[2:].T).max()) <= 0 < float((H @ W[:2].T).max())
    aligned = network("etf").head.weight.clamp(min=0)  # the non-negative part of each class's own row
    assert ((aligned @ network("etf").head.weight.T).argmax(1) == torch.arange(K)).all()


def test_an_etf_of_d_is_K_is_symmetric_and_wider_ones_are_padded_with_zeros():
    W = network("etf", feature_dim=K).head.weight.detach()
    torch.testing.assert_close(W, W.T)
    wide = network("etf").head.weight.detach()
    torch.testing.assert_close(wide[:, :K], W)
    assert not wide[:, K:].any()


def test_without_a_bias_none_is_added():
    model = build("resnet1d", num_classes=K, width=8, generator=seeded())
    fix_classifier(model, "etf", seeded(1))
    assert model.head.bias is None
    assert network("etf").head.bias is not None


def test_the_rest_of_the_network_is_drawn_as_without():
    plain, fixed = network(), network("hypercube")
    for name, value in fixed.state_dict().items():
        if name.startswith("trunk.hidden1") or name == "head.bias":
            assert torch.equal(value, plain.state_dict()[name])


def test_too_few_dimensions_and_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"needs features of d >= 4 dimensions, not 3"):
        network("etf", feature_dim=3)
    with pytest.raises(ValueError, match="unknown polytope 'cube'; choose one of etf, orthoplex, hypercube"):
        network("cube")
