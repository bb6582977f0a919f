"""Whoever looks at a network sees it in eval mode and full precision, and leaves modes and settings as they were."""

import pytest
import torch
from samplers import generator, normal
from torch.backends import cuda, cudnn, mkldnn

from nclib.measure import Split, features, flattened_layers, measure, measure_robustness, pooled_layers
from nclib.models import build
from nclib.modes import in_eval_mode, in_full_precision
from nclib.robustness import deepfool

X, Y = normal(12, 6), torch.arange(12) % 3
LOOKS = {
    "measure": lambda model, x: list(measure(model, Split("train", x, {"clean": Y}), num_classes=3)),
    "features": features,
    "pooled_layers": pooled_layers,
    "flattened_layers": flattened_layers,
    "deepfool": deepfool,
}
MEASURED = LOOKS | {"deepfool": lambda model, x: list(measure_robustness(model, "test", x))}
"""The same, of which DeepFool alone leaves precision to its caller."""


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


OPERATIONS = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
SETTINGS = {
    "torch's own": lambda: None,
    "TF32 products": lambda: torch.set_float32_matmul_precision("high"),
    "bfloat16 products": lambda: torch.set_float32_matmul_precision("medium"),
    "TF32 products on a GPU": lambda: setattr(cuda.matmul, "allow_tf32", True),
    "no TF32 convolutions": lambda: setattr(cudnn, "allow_tf32", False),
    "everything in TF32, by the newer name": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "products in TF32, by the newer name": lambda: setattr(cuda.matmul, "fp32_precision", "tf32"),
    "exact convolutions, by the newer name": lambda: setattr(cudnn.conv, "fp32_precision", "ieee"),
}


def settings():
    """What every name says, the older ones too, which may refuse to say it."""
    found = [operation.fp32_precision for operation in OPERATIONS]
    for ask in (torch.get_float32_matmul_precision, lambda: cuda.matmul.allow_tf32, lambda: cudnn.allow_tf32):
        try:
            found.append(ask())
        except RuntimeError:
            found.append("refused")
    return found


@pytest.mark.usefixtures("undone")
def test_what_was_inherited_still_is_afterwards_and_what_was_not_is_not():
    torch.backends.fp32_precision = "tf32"
    cudnn.conv.fp32_precision = "ieee"
    before = [operation.fp32_precision for operation in OPERATIONS]
    assert before[0] == before[3] == "tf32"
    with in_full_precision():
        pass
    assert [operation.fp32_precision for operation in OPERATIONS] == before
    torch.backends.fp32_precision = "ieee"
    changed = [operation.fp32_precision for operation in OPERATIONS]
    assert changed[0] == changed[3] == "ieee"
    torch.backends.fp32_precision = "tf32"
    assert [operation.fp32_precision for operation in OPERATIONS] == before


EXACT = ["ieee"] * len(OPERATIONS) + ["highest", False, False]


@pytest.fixture
def undone():
    """Settings of torch are its own again afterwards."""
    before = settings()
    yield
    # `cudnn.flags` writes down what it inherits
    torch.backends.fp32_precision = cudnn.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = True
    for operation, precision in zip(OPERATIONS, before, strict=False):
        operation.fp32_precision = precision
    assert settings() == before


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("fails", [False, True])
def test_float32_is_exact_within_and_as_it_was_afterwards(setting, fails):
    SETTINGS[setting]()
    before = settings()
    try:
        with in_full_precision():
            assert settings() == EXACT
            with cudnn.flags(enabled=True, allow_tf32=True):  # as a network's own forward pass may do
                pass
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert settings() == before
    assert before != EXACT


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize("look", MEASURED)
def test_whoever_measures_a_network_of_the_book_does_so_in_full_precision(model, look):
    torch.set_float32_matmul_precision("high")
    seen = []
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_: seen.append(settings()))
    MEASURED[look](model, X)
    assert seen and all(found == EXACT for found in seen)
    assert settings() != EXACT


@pytest.mark.parametrize("fails", [False, True])
def test_autocast_is_off_within_and_as_it_was_afterwards(fails):
    x, W = normal(3, 4).float(), normal(4, 4).float()
    for outside, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with torch.autocast("cpu", torch.bfloat16, enabled=outside):
            try:
                with in_full_precision():
                    assert (x @ W).dtype == torch.float32
                    with torch.autocast("cpu", torch.bfloat16):  # as a network's own forward pass may do
                        assert (x @ W).dtype == torch.bfloat16
                    if fails:
                        raise KeyError
            except KeyError:
                assert fails
            assert (x @ W).dtype == dtype


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_autocast_is_off_within_on_a_gpu():
    x = normal(3, 4).float().cuda()
    with torch.autocast("cuda", torch.bfloat16):
        with in_full_precision():
            assert (x @ x.T).dtype == torch.float32
        assert (x @ x.T).dtype == torch.bfloat16


def values(found):
    """Of rows their numbers; what else was found is numbers already."""
    return [row["value"] for row in found] if isinstance(found, list) else found


@pytest.mark.parametrize("look", MEASURED)
def test_autocast_outside_does_not_reach_what_is_measured_of_a_network_of_the_book(model, look):
    model, x = model.float(), X.float()
    seen = []
    for module in model.modules():
        module.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    expected = MEASURED[look](model, x)
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        found = MEASURED[look](model, x)
        torch.testing.assert_close(values(found), values(expected), rtol=0, atol=0, equal_nan=True)
        assert set(seen) == {torch.float32}
        assert model(x).dtype == torch.bfloat16
