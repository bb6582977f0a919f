"""Whoever looks at a network in eval mode leaves each of its modules in the mode it was in."""

import pytest
import torch
from samplers import generator, normal

from nclib.measure import Split, features, flattened_layers, measure, pooled_layers
from nclib.models import build
from nclib.modes import in_eval_mode
from nclib.robustness import deepfool

X, Y = normal(12, 6), torch.arange(12) % 3
LOOKS = {
    "measure": lambda model, x: list(measure(model, Split("train", x, {"clean": Y}), num_classes=3)),
    "features": features,
    "pooled_layers": pooled_layers,
    "flattened_layers": flattened_layers,
    "deepfool": deepfool,
}


@pytest.fixture
def model():
    """A network that trains with one batch normalisation frozen."""
    net = build("mlp", num_classes=3, in_features=6, width=7, depth=2, generator=generator()).double()
    next(module for module in net.modules() if isinstance(module, torch.nn.BatchNorm1d)).eval()
    return net


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


def test_every_module_is_in_eval_mode_within_and_in_its_own_afterwards(model):
    before = modes(model)
    with in_eval_mode(model):
        assert not any(modes(model).values())
    assert modes(model) == before
    assert any(before.values()) and not all(before.values())
    # Control: the mode of the whole network does not say what its modules' are.
    model.train(model.training)
    assert modes(model) != before


def test_modes_are_restored_after_an_error_which_is_passed_on(model):
    before = modes(model)
    with pytest.raises(RuntimeError, match="lost"), in_eval_mode(model):
        raise RuntimeError("lost")
    assert modes(model) == before


@pytest.mark.parametrize("look", LOOKS)
def test_a_frozen_module_stays_frozen_and_the_rest_stays_in_training(model, look):
    before = modes(model)
    LOOKS[look](model, X)
    assert modes(model) == before
    with pytest.raises(RuntimeError):
        LOOKS[look](model, X[:, :3])
    assert modes(model) == before
