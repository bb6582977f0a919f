"""Networks: the papers' parameter counts, the layer contract, and weights that only the generator decides."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from nclib import models
from nclib.models import initialise

WIDTHS = (2, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64)
CASES = {
    "resnet18": ({"width": 4}, (6, 1, 20, 20)),
    "resnet18-d": ({"width": 4, "feature_dim": 10}, (6, 1, 20, 20)),
    "vgg11": ({"width": 4}, (6, 1, 28, 28)),
    "densenet40": ({"width": 2}, (6, 1, 20, 20)),
    "mlp": ({"width": 16, "depth": 3, "in_features": 40}, (6, 1, 40)),
    "resnet1d": ({"width": 8}, (6, 1, 40)),
    "resnet1d-d": ({"width": 8, "feature_dim": 3}, (6, 1, 40)),
    "cnn1d": ({"width": 8}, (6, 1, 40)),
}
each_network = pytest.mark.parametrize("case", CASES)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(case, seed=0, **more):
    options = CASES[case][0] | more
    return models.build(case.split("-")[0], num_classes=10, generator=seeded(seed), **options)


def inputs(case, dtype=torch.float32):
    return torch.randn(CASES[case][1], generator=seeded(1), dtype=dtype)


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("w", WIDTHS)
def test_one_dimensional_networks_have_the_published_parameter_counts(w):
    resnet = models.build("resnet1d", num_classes=10, width=w, generator=seeded())
    cnn = models.build("cnn1d", num_classes=10, width=w, generator=seeded())
    assert size(resnet) == 12 * w**2 + 23 * w
    assert size(cnn) == 21 * w**2 + 35 * w
    assert (resnet.feature_dim, cnn.feature_dim) == (w, 2 * w)


def test_projector_adds_its_own_weights_and_no_bias():
    projected = models.build("resnet1d", num_classes=10, width=64, feature_dim=9, generator=seeded())
    assert size(projected) == 12 * 64**2 + 13 * 64 + 64 * 9 + 9 * 10
    assert projected.feature_dim == 9
    assert projected.head.bias is None


def test_resnet18_has_the_papers_parameter_count():
    convolutions = 9 * 64 + 4 * 9 * 64**2  # stem, stage 1
    for c in (128, 256, 512):
        convolutions += 9 * (c // 2) * c + 3 * 9 * c**2 + (c // 2) * c
    normalisations = 2 * (5 * 64 + 5 * (128 + 256 + 512))
    expected = convolutions + normalisations + 512 * 10 + 10
    assert expected == 11_172_810
    gray = models.build("resnet18", num_classes=10, width=64, generator=seeded())
    assert size(gray) == expected
    colour = models.build("resnet18", num_classes=10, in_channels=3, width=64, generator=seeded())
    assert size(colour) == 11_173_962  # the count everyone quotes for CIFAR-10
    assert gray.feature_dim == 512


def test_resnet18_with_d_equal_K_and_a_fixed_classifier_saves_a_fifth():
    full = models.build("resnet18", num_classes=10, in_channels=3, generator=seeded())
    small = models.build("resnet18", num_classes=10, in_channels=3, feature_dim=10, generator=seeded())
    trainable = size(small) - small.head.weight.numel()
    assert trainable == 8_859_762
    assert 1 - trainable / size(full) == pytest.approx(0.2071, abs=5e-5)


def vgg11_size(w, in_channels):
    """By hand from configuration A: 64, M, 128, M, 256, 256, M, 512, 512, M, 512, 512, M, times w / 64."""
    channels = [in_channels, w, 2 * w, 4 * w, 4 * w, 8 * w, 8 * w, 8 * w, 8 * w]
    return sum(9 * a * b + 2 * b for a, b in pairwise(channels)) + 8 * w * 10 + 10


def densenet40_size(k, in_channels):
    """By hand from Huang et al.: a layer on c channels has 2 c + 9 c k parameters, a transition 2 c + c^2."""
    total, c = 9 * in_channels * 16, 16
    for block in range(3):
        for _ in range(12):
            total, c = total + 2 * c + 9 * c * k, c + k
        total += 2 * c + (c**2 if block < 2 else 0)
    return total + c * 10 + 10


@pytest.mark.parametrize(("w", "in_channels"), [(64, 3), (64, 1), (16, 1), (3, 2)])
def test_vgg11_has_the_parameter_count_of_its_configuration(w, in_channels):
    model = models.build("vgg11", num_classes=10, in_channels=in_channels, width=w, generator=seeded())
    assert size(model) == vgg11_size(w, in_channels)
    assert model.feature_dim == 8 * w


def test_vgg11_is_torchvisions_but_for_what_its_docstring_leaves_out():
    colour = models.build("vgg11", num_classes=10, in_channels=3, generator=seeded())
    biases = 64 + 128 + 2 * 256 + 4 * 512
    assert size(colour.trunk) + biases == 9_225_984  # torchvision's vgg11_bn().features
    assert colour.feature_dim == 512


@pytest.mark.parametrize(("k", "in_channels"), [(12, 3), (12, 1), (24, 3), (5, 2)])
def test_densenet40_has_the_parameter_count_of_its_configuration(k, in_channels):
    model = models.build("densenet40", num_classes=10, in_channels=in_channels, width=k, generator=seeded())
    assert size(model) == densenet40_size(k, in_channels)
    assert model.feature_dim == 16 + 36 * k


def test_densenet40_has_the_papers_parameter_count():
    colour = models.build("densenet40", num_classes=10, in_channels=3, generator=seeded())
    assert size(colour) == 1_019_722  # "1.0M" in the paper's table
    assert colour.feature_dim == 448


@each_network
def test_forward_is_the_head_of_the_features_and_the_last_layer_is_the_features(case):
    model, x = network(case).eval(), inputs(case)
    layers, features = model.layers(x), model.features(x)
    assert list(layers)[-1] == "features"
    assert torch.equal(layers["features"], features)
    assert features.shape == (6, model.feature_dim)
    assert torch.equal(model(x), model.head(features))


def test_layers_are_named_in_order():
    assert list(network("resnet18").layers(inputs("resnet18"))) == [
        "stem", "stage1", "stage2", "stage3", "stage4", "features",
    ]  # fmt: skip
    assert list(network("vgg11").layers(inputs("vgg11"))) == [
        "stage1", "stage2", "stage3", "stage4", "stage5", "features",
    ]  # fmt: skip
    assert list(network("densenet40").layers(inputs("densenet40"))) == [
        "stem", "block1", "transition1", "block2", "transition2", "block3", "features",
    ]  # fmt: skip
    assert list(network("resnet1d").layers(inputs("resnet1d"))) == ["stem", "block1", "block2", "features"]
    assert list(network("cnn1d").layers(inputs("cnn1d"))) == ["conv1", "conv2", "conv3", "conv4", "features"]
    assert list(network("mlp").layers(inputs("mlp"))) == ["hidden1", "hidden2", "features"]


def test_layers_have_the_documented_shapes():
    shapes = {k: tuple(v.shape) for k, v in network("resnet18").layers(inputs("resnet18")).items()}
    assert shapes == {
        "stem": (6, 4, 20, 20), "stage1": (6, 4, 20, 20), "stage2": (6, 8, 10, 10), "stage3": (6, 16, 5, 5),
        "stage4": (6, 32, 3, 3), "features": (6, 32),
    }  # fmt: skip
    shapes = {k: tuple(v.shape) for k, v in network("vgg11").layers(inputs("vgg11")).items()}
    assert shapes == {
        "stage1": (6, 4, 32, 32), "stage2": (6, 8, 16, 16), "stage3": (6, 16, 8, 8),
        "stage4": (6, 32, 4, 4), "stage5": (6, 32, 2, 2), "features": (6, 32),
    }  # fmt: skip
    shapes = {k: tuple(v.shape) for k, v in network("densenet40").layers(inputs("densenet40")).items()}
    assert shapes == {
        "stem": (6, 16, 20, 20), "block1": (6, 40, 20, 20), "transition1": (6, 40, 10, 10),
        "block2": (6, 64, 10, 10), "transition2": (6, 64, 5, 5), "block3": (6, 88, 5, 5), "features": (6, 88),
    }  # fmt: skip
    shapes = {k: tuple(v.shape) for k, v in network("cnn1d").layers(inputs("cnn1d")).items()}
    assert shapes == {
        "conv1": (6, 8, 20), "conv2": (6, 8, 10), "conv3": (6, 16, 10), "conv4": (6, 16, 10),
        "features": (6, 16),
    }  # fmt: skip
    assert network("resnet1d").layers(inputs("resnet1d"))["block2"].shape == (6, 8, 40)


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "densenet40"])
@pytest.mark.parametrize("side", [28, 32])
def test_image_networks_take_both_sizes_and_their_features_are_not_negative(name, side):
    model = models.build(name, num_classes=10, width=2, generator=seeded())
    features = model.features(torch.randn(4, 1, side, side, generator=seeded(1)))
    assert features.shape == (4, model.feature_dim)
    assert (features >= 0).all() and features.max() > 0
    assert model.head.bias is not None


def test_vgg11_pads_small_images_with_two_zeros_on_each_border_and_refuses_other_sizes():
    model, x = network("vgg11").eval(), inputs("vgg11")
    framed = torch.zeros(6, 1, 32, 32)
    framed[:, :, 2:30, 2:30] = x
    assert torch.equal(model(x), model(framed))
    framed[:, :, 0, 0] = 1.0
    assert not torch.equal(model(x), model(framed))  # the border is seen
    for height, width in ((30, 30), (28, 32), (64, 64)):
        with pytest.raises(ValueError, match=f"28 x 28 or 32 x 32 pixels, got {height} x {width}"):
            model(torch.zeros(2, 1, height, width))


@each_network
def test_no_later_stage_overwrites_an_activation(case):
    model, x = network(case).eval(), inputs(case)
    kept = {name: activation.clone() for name, activation in model.layers(x).items()}
    untouched, original = x.clone(), x
    for name, stage in model.trunk.named_children():
        x = stage(x)
        torch.testing.assert_close(kept[name].flatten(), x.flatten(), rtol=0, atol=0)
    assert torch.equal(original, untouched)


def test_pooled_second_block_is_the_feature_unless_there_is_a_projector():
    plain = network("resnet1d").layers(inputs("resnet1d"))
    torch.testing.assert_close(plain["block2"].mean(2), plain["features"])
    projected = network("resnet1d-d").layers(inputs("resnet1d-d"))
    assert projected["features"].shape != projected["block2"].mean(2).shape
    assert (projected["features"] < 0).any()  # no nonlinearity after the projector
    assert (plain["features"] >= 0).all()


def conv1d_bn(x, convolution, norm):
    x = functional.conv1d(x, convolution.weight.squeeze(2), padding=1)
    mean, variance = x.mean((0, 2), keepdim=True), x.var((0, 2), unbiased=False, keepdim=True)
    scale, shift = norm.weight[None, :, None], norm.bias[None, :, None]
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def test_resnet1d_is_the_one_dimensional_network_it_stands_for():
    model, x = network("resnet1d-d").double(), inputs("resnet1d-d", torch.float64)
    trunk = model.trunk
    h = conv1d_bn(x, *trunk.stem[2:4]).relu()
    for block in (trunk.block1, trunk.block2):
        inner = conv1d_bn(h, block.conv1, block.bn1).relu()
        h = (h + conv1d_bn(inner, block.conv2, block.bn2)).relu()
    logits = h.mean(2) @ trunk.features[1].weight.T @ model.head.weight.T
    torch.testing.assert_close(model(x), logits, rtol=1e-10, atol=1e-12)


def test_cnn1d_is_the_one_dimensional_network_it_stands_for():
    model, h = network("cnn1d").double(), inputs("cnn1d", torch.float64)
    logits = model(h)
    for k, stage in enumerate(list(model.trunk)[:4]):
        convolution, norm = stage[2:4] if k == 0 else stage[:2]
        h = conv1d_bn(h, convolution, norm).relu()
        if k < 2:
            h = torch.maximum(h[..., 0::2], h[..., 1::2])
    torch.testing.assert_close(logits, h.mean(2) @ model.head.weight.T, rtol=1e-10, atol=1e-12)


def test_resnet18_is_the_residual_network_of_its_description():
    model, x = network("resnet18-d").double().eval(), inputs("resnet18-d", torch.float64)

    def conv(x, layer, norm, stride, padding):  # running mean 0 and variance 1: the norm only divides
        assert norm.eps == 1e-5
        return functional.conv2d(x, layer.weight, stride=stride, padding=padding) / math.sqrt(1 + norm.eps)

    h = conv(x, model.trunk.stem[1], model.trunk.stem[2], 1, 1).relu()
    for k in range(4):
        for i, block in enumerate(model.trunk[k + 1]):
            stride = 2 if k > 0 and i == 0 else 1
            y = conv(h, block.conv1, block.bn1, stride, 1).relu()
            y = conv(y, block.conv2, block.bn2, 1, 1)
            changes = (k > 0 and i == 0) or (k == 3 and i == 1)  # the second: d differs from 8 w
            assert (block.shortcut is not None) == changes
            h = (y + (conv(h, *block.shortcut, stride, 0) if changes else h)).relu()
    logits = functional.linear(h.mean((2, 3)), model.head.weight, model.head.bias)
    torch.testing.assert_close(model(x), logits, rtol=1e-10, atol=1e-12)


def normalised(x, norm):
    """Batch normalisation with running mean 0 and variance 1 only divides; then ReLU."""
    assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()
    return (x / math.sqrt(1 + norm.eps)).relu()


def test_vgg11_is_the_network_of_its_configuration():
    model, x = network("vgg11").double().eval(), inputs("vgg11", torch.float64)
    modules = list(model.trunk.modules())
    convolutions = iter([m for m in modules if isinstance(m, torch.nn.Conv2d)])
    norms = iter([m for m in modules if isinstance(m, torch.nn.BatchNorm2d)])
    h = functional.pad(x, (2, 2, 2, 2))
    for step in (1, "M", 2, "M", 4, 4, "M", 8, 8, "M", 8, 8, "M"):
        if step == "M":
            h = torch.stack([h[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
        else:
            h = normalised(functional.conv2d(h, next(convolutions).weight, padding=1), next(norms))
            assert h.shape[1] == 4 * step
    logits = functional.linear(h[:, :, 0, 0], model.head.weight, model.head.bias)
    torch.testing.assert_close(model(x), logits, rtol=1e-10, atol=1e-12)


def test_densenet40_is_the_network_of_its_configuration():
    model, x = network("densenet40").double().eval(), inputs("densenet40", torch.float64)
    trunk = model.trunk
    h = functional.conv2d(x, trunk.stem[1].weight, padding=1)
    for k in (1, 2, 3):
        seen = [h]
        for layer in getattr(trunk, f"block{k}"):
            before = torch.cat(seen, 1)
            seen.append(functional.conv2d(normalised(before, layer.bn), layer.conv.weight, padding=1))
        h = torch.cat(seen, 1)
        if k < 3:
            norm, _, mix, _ = getattr(trunk, f"transition{k}")
            h = functional.conv2d(normalised(h, norm), mix.weight)
            h = sum(h[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    pooled = normalised(h, trunk.features[0]).mean((2, 3))
    logits = functional.linear(pooled, model.head.weight, model.head.bias)
    torch.testing.assert_close(model(x), logits, rtol=1e-10, atol=1e-12)


@each_network
def test_the_generator_alone_decides_the_initial_weights(case):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = network(case).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second, other = network(case).state_dict(), network(case, seed=1).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert all(torch.isfinite(v).all() for v in first.values())


def test_default_initialisation_is_pytorchs_law():
    model = models.build("resnet1d", num_classes=10, width=64, generator=seeded())
    for module, fan_in in ((model.trunk.block1.conv1, 3 * 64), (model.head, 64)):
        bound = 1 / math.sqrt(fan_in)
        assert 0.97 * bound < module.weight.abs().max() <= bound
        assert module.weight.square().mean().item() == pytest.approx(bound**2 / 3, rel=0.1)
    reference = torch.nn.Linear(64, 10, bias=False)
    with torch.no_grad():
        torch.nn.init.kaiming_uniform_(reference.weight, a=math.sqrt(5), generator=seeded(3))
    blank = initialise.blank(torch.nn.Linear, 64, 10, bias=False)
    initialise.torch_default(blank, seeded(3))
    torch.testing.assert_close(blank.weight, reference.weight)


def test_resnet18_initialisation_is_torchvisions_law():
    model = models.build("resnet18", num_classes=10, width=16, generator=seeded())
    for convolution in (model.trunk.stage2[0].conv1, model.trunk.stage4[1].conv2):
        out, _, *kernel = convolution.weight.shape
        assert convolution.weight.square().mean().item() == pytest.approx(
            2 / (out * math.prod(kernel)), rel=0.05
        )
    norm = model.trunk.stage3[0].bn1
    assert (norm.weight == 1).all() and (norm.bias == 0).all()
    assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()


def test_vgg11_initialisation_is_torchvisions_law():
    model = models.build("vgg11", num_classes=10, width=16, generator=seeded())
    convolution = model.trunk.stage4[1]
    assert convolution.weight.square().mean().item() == pytest.approx(2 / (9 * 128), rel=0.05)  # fan-out
    assert model.head.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert (model.head.bias == 0).all()


def test_densenet40_initialisation_is_torchvisions_law():
    model = models.build("densenet40", num_classes=10, generator=seeded())
    convolution = model.trunk.block3[11].conv
    fan_in = 9 * (448 - 12)
    assert convolution.weight.square().mean().item() == pytest.approx(2 / fan_in, rel=0.05)
    bound = 1 / math.sqrt(448)
    assert 0.97 * bound < model.head.weight.abs().max() <= bound
    assert (model.head.bias == 0).all()


def test_a_module_without_an_initialisation_is_refused():
    with pytest.raises(TypeError, match="LayerNorm"):
        initialise.torch_default(torch.nn.Sequential(torch.nn.LayerNorm(3)), seeded())


@each_network
def test_runs_in_float64_and_under_bfloat16_autocast(case):
    single, x = network(case).eval(), inputs(case)
    reference = network(case).double().eval()(x.double())
    assert reference.dtype == torch.float64
    torch.testing.assert_close(single(x).double(), reference, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rough = single(x)
    assert rough.dtype == torch.bfloat16
    assert (rough.double() - reference).norm() < 0.1 * reference.norm()


@each_network
def test_every_parameter_gets_a_contiguous_gradient(case):
    # L-BFGS flattens gradients as views, and fused optimisers walk weights and gradients side by side.
    model, x = network(case), inputs(case)
    functional.cross_entropy(model(x), torch.arange(6)).backward()
    for name, p in model.named_parameters():
        assert p.is_contiguous() and p.grad.is_contiguous(), name
        assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize("case", ["resnet18", "resnet18-d", "vgg11", "densenet40", "resnet1d", "cnn1d"])
def test_activations_are_channels_last_through_the_trunk(case):
    x = inputs(case)
    for stage in list(network(case).trunk)[:-1]:
        x = stage(x)
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert not x.is_contiguous()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet-18", "resnet18"), ("ResNet1D", "resnet1d"), ("cnn", "cnn1d"), ("densenet", "densenet40")],
)
def test_an_unknown_name_suggests_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'"):
        models.build(name, num_classes=10, generator=seeded())


@pytest.mark.parametrize("width", [0, -4, 2.5, True, "8"])
def test_a_bad_width_is_refused_by_name(width):
    with pytest.raises(ValueError, match="width must be a whole number of at least 1"):
        models.build("resnet1d", num_classes=10, width=width, generator=seeded())


def test_options_of_another_network_are_refused():
    for name, option in (
        ("cnn1d", {"feature_dim": 3}),
        ("vgg11", {"feature_dim": 3}),
        ("densenet40", {"feature_dim": 3}),
        ("densenet40", {"depth": 100}),
        ("vgg11", {"projector": True}),
        ("resnet18", {"depth": 2}),
        ("resnet1d", {"in_features": 9}),
    ):
        with pytest.raises(ValueError, match=f"{name} has no option {next(iter(option))}"):
            models.build(name, num_classes=10, generator=seeded(), **option)
    with pytest.raises(ValueError, match="mlp needs in_features"):
        models.build("mlp", num_classes=10, generator=seeded())


def unconstrained(**changes):
    options = {"num_classes": 3, "per_class": 4, "feature_dim": 5, "generator": seeded()} | changes
    return models.UnconstrainedFeatures(**options)


def test_unconstrained_features_are_rows_and_the_head_is_W_and_b():
    model = unconstrained()
    W, b, index = model.head.weight, model.head.bias, torch.tensor([7, 0, 11])
    assert (W.shape, b.shape, model.H.shape, model.feature_dim) == ((3, 5), (3,), (12, 5), 5)
    assert model.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    torch.testing.assert_close(model(index), model.H[index] @ W.T + b)
    assert torch.equal(model.features(index), model.H[index])
    assert torch.equal(model.layers(index)["features"], model.H[index])
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert unconstrained(bias=False).head.bias is None


def test_only_the_features_in_the_batch_get_a_gradient():
    model, index = unconstrained(), torch.tensor([7, 0])
    functional.cross_entropy(model(index), model.labels[index]).backward()
    touched = model.H.grad.abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [0, 7]


def test_unconstrained_start_has_the_asked_scale_and_comes_from_the_generator():
    big = {"per_class": 100, "feature_dim": 50}
    assert unconstrained(scale=0.1, **big).H.std().item() == pytest.approx(0.1, rel=0.03)
    assert unconstrained(scale=2.0, **big).H.std().item() == pytest.approx(2.0, rel=0.03)
    before = torch.get_rng_state()
    assert torch.equal(unconstrained().H, unconstrained().H)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(unconstrained().H, unconstrained(generator=seeded(1)).H)
    with pytest.raises(ValueError, match="per_class must be at least 1"):
        unconstrained(per_class=0)


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "densenet40", "mlp", "resnet1d", "cnn1d"])
@pytest.mark.parametrize("width", [2, 5])
def test_the_dimension_of_features_is_known_before_a_network_is_built(name, width):
    options = {"in_features": 7} if name == "mlp" else {}
    network = models.build(name, num_classes=3, width=width, generator=seeded(), **options)
    assert network.feature_dim == models.own_feature_dim(name, width)
