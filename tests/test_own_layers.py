"""Layers of somebody's own network: what a slow reference gives on their outputs, in the passes of the features."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import reference
import torch
from asserts import assert_far_from_zero, assert_same
from own_networks import LABELS, ConvNet, images, loader, scripted, trained_a_little
from samplers import generator, normal
from torch import nn

import nclib
from nclib import cli, measure, models, plots, tables
from nclib.own import layers as own_layers
from nclib.own.layers import over_positions
from nclib.plots import anatomy

CLASSES = LABELS.tolist()


class Deep(nn.Module):
    """Layers of every form, each followed by an activation that works in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.down = nn.Conv2d(6, 8, 3, stride=2)
        self.hidden = nn.Linear(8, 7)
        self.relu = nn.ReLU(inplace=True)
        self.unused = nn.Linear(2, 2)
        self.pair = nn.Identity()
        self.fc = nn.Linear(7, 3)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x)))
        x = self.relu(self.down(x))
        self.pair((x, x))
        return self.fc(self.relu(self.hidden(x.mean((2, 3)))))


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Deep().double().train()


def rows_of(watch, layer, split="train"):
    return tables.select(watch.table, layer=layer, split=split).set_index("metric").value.to_dict()


def watched(model, layers, data=None, **options):
    watch = nclib.Trajectory(
        model, data or {"train": loader(), "test": loader()}, classes=CLASSES, layers=layers, **options
    )
    watch.measure(0)
    return watch


def by_reference(A, y):
    values = reference.nc_metrics(A.detach().double().numpy(), [CLASSES.index(k) for k in y.tolist()])
    return {name: values[name] for name in values if name in tables.METRICS}


@torch.no_grad()
def by_hand(model, x):
    """The layers' outputs in eval mode, positions averaged, without any hook."""
    model.eval()
    conv = model.norm(model.conv(x))
    down = model.down(conv.relu())
    hidden = model.hidden(down.relu().mean((2, 3)))
    model.train()
    return {"norm": conv.mean((2, 3)), "down": down.mean((2, 3)), "hidden": hidden}


# The numbers


def test_every_layer_is_measured_as_a_slow_reference_measures_its_output(model):
    x, y = images()
    watch = watched(model, ["norm", "down", "hidden"])
    for layer, A in by_hand(model, x).items():
        found = rows_of(watch, layer)
        assert_same(found, {name: v for name, v in by_reference(A, y).items() if name in found}, 1e-9)
        # what needs no classifier, all of it and nothing else
        assert found.keys() == nclib.measure_features(A, torch.searchsorted(LABELS, y)).keys()
    one, other = rows_of(watch, "norm"), rows_of(watch, "down")
    assert_far_from_zero(abs(one["nc1_trace_ratio"] / other["nc1_trace_ratio"] - 1))


def test_an_activation_in_place_does_not_change_what_was_seen(model):
    A = by_hand(model, images()[0])["hidden"]
    assert (A < 0).any(), "the activation changes something"
    after = by_reference(A.relu(), images()[1])
    found = rows_of(watched(model, ["hidden"]), "hidden")
    assert_far_from_zero(abs(found["nc1_trace_ratio"] / after["nc1_trace_ratio"] - 1))


def test_the_books_own_networks_give_what_its_studies_record():
    network = models.build("resnet18", num_classes=3, width=2, in_channels=1, generator=generator(3)).double()
    x, y = images()
    place = torch.searchsorted(LABELS, y)
    stages = ["stem", "stage1", "stage2", "stage3", "stage4"]
    watch = watched(network, [f"trunk.{stage}" for stage in stages], loader(x, y))
    recorded = {}
    for row in measure.measure_layers(network, "train", x, {"clean": place}, num_classes=3):
        recorded.setdefault(row["layer"], {})[row["metric"]] = row["value"]
    assert list(recorded) == stages
    for stage in stages:
        assert rows_of(watch, f"trunk.{stage}") == pytest.approx(recorded[stage], rel=1e-9, nan_ok=True)


def test_the_features_stay_what_they_are_and_no_pass_is_added(model):
    calls = []
    model.conv.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    with_layers = watched(model, ["norm", "hidden"])
    often = len(calls)
    alone = watched(model, ())
    assert rows_of(with_layers, "features") == rows_of(alone, "features")
    assert set(alone.table.layer) == {"features"}
    assert len(calls) == 2 * often


def test_layers_come_in_the_order_given_and_the_classifiers_input_last(model):
    watch = watched(model, ["hidden", "norm"])
    assert list(dict.fromkeys(watch.table.layer)) == ["hidden", "norm", "features"]
    assert set(watch.measure(1)["train"]) == set(rows_of(watch, "features")), (
        "the return is the features' alone"
    )


def test_samples_of_classes_left_out_are_left_out_of_every_layer(model):
    x, y = images()
    watch = nclib.Trajectory(model, loader(), classes={3: 0, 11: 2}, layers=["down"])
    watch.measure(0)
    kept = y != 7
    expected = nclib.measure_features(by_hand(model, x)["down"][kept], (y[kept] == 11).long())
    assert rows_of(watch, "down") == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_a_function_says_which_numbers_are_a_samples(model):
    x, y = images()
    corner = watched(
        model, {"down": lambda output: output[:, :, 0, 0], "pair": lambda output: output[1].mean(3)[..., 0]}
    )
    with torch.no_grad():
        model.eval()
        A = model.down(model.norm(model.conv(x)).relu())
    assert_same(rows_of(corner, "down"), _only(rows_of(corner, "down"), by_reference(A[:, :, 0, 0], y)), 1e-9)
    tail = by_reference(A.relu().mean(3)[..., 0], y)
    assert_same(rows_of(corner, "pair"), _only(rows_of(corner, "pair"), tail), 1e-9)


def _only(names, values):
    return {name: value for name, value in values.items() if name in names}


@pytest.mark.parametrize("shape", [(5, 3, 4, 2), (5, 3, 2, 4, 2)])
def test_positions_are_averaged(shape):
    A = normal(*shape)
    expected = np.array([[channel.mean() for channel in sample] for sample in A.numpy()])
    np.testing.assert_allclose(over_positions(A), expected, rtol=1e-12)
    assert over_positions(A.flatten(1)).shape == (5, A[0].numel())


def test_half_precision_is_averaged_in_float32():
    A = torch.full(
        (1, 1, 100, 100), 1.0009765625, dtype=torch.float16
    )  # 1 + 2^-10, the next number after one
    averaged = over_positions(A)
    assert averaged.dtype == torch.float32 and float(averaged) == 1.0009765625
    assert over_positions(A.double()).dtype == torch.float64


# Channels that stand last


class FirstNorm(nn.LayerNorm):
    """A norm of channels that takes and gives them first, as ConvNeXt's stem has."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Turned(nn.Module):
    """Channels last where layers of tokens are, as in Swin and ConvNeXt, and first elsewhere."""

    def __init__(self, p=7):
        super().__init__()
        self.conv = nn.Conv2d(1, p, 3, padding=1)
        self.first = FirstNorm(p)
        self.whole = nn.LayerNorm((p, 6, 6))
        self.last = nn.LayerNorm(p)
        self.mix = nn.Linear(p, p)
        self.block = nn.Sequential(nn.LayerNorm(p), nn.Linear(p, p), nn.GELU())
        self.wide = nn.Sequential(nn.Linear(p, 9), nn.Linear(9, 4))
        self.turned = nn.Sequential(nn.Linear(p, p), nn.Identity())
        self.turned.register_forward_hook(lambda _, __, output: output.movedim(-1, 1))
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.whole(self.first(self.conv(x))).movedim(1, -1)
        self.turned(x)
        return self.fc(self.wide(self.block(self.mix(self.last(x)))).mean((1, 2)))


@pytest.mark.parametrize("p", [7, 6])  # 6: as many as rows and columns
def test_channels_are_kept_wherever_they_stand(p):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = Turned(p).double()
    seen = {}
    names = ["conv", "first", "whole", "last", "mix"]
    for name in names:
        getattr(network, name).register_forward_hook(lambda _, __, A, name=name: seen.update({name: A}))
    network(images()[0])
    whole = dict(seen)  # as measuring calls the hooks too
    watch = watched(network, names, loader(shuffle=False))
    for name in names:
        where, wrong = ((1, 2), (2, 3)) if name in ("last", "mix") else ((2, 3), (1, 2))
        found = rows_of(watch, name)
        A = whole[name].detach()
        assert_same(found, _only(found, by_reference(A.mean(where), images()[1])), 1e-9)
        other = by_reference(A.mean(wrong), images()[1])
        assert_far_from_zero(abs(found["nc1_trace_ratio"] / other["nc1_trace_ratio"] - 1))


def test_a_block_whose_channels_may_stand_last_is_refused():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = Turned().double()
    complaint = (
        r"layer block gives \(8, 6, 6, 7\), and 0 in it has 7 channels, which may stand last here too: say which "
        r"numbers are a sample's, for example with layers=\{'block': lambda output: output.mean\(\(1, 2\)\)\}"
    )
    with pytest.raises(ValueError, match=complaint):
        watched(network, ["block"])
    last = watched(network, {"block": lambda output: output.mean((1, 2))})
    assert_far_from_zero(rows_of(last, "block")["nc1_trace_ratio"])
    # Control: a block that turns them to the front is no matter of doubt.
    turned = watched(network, {"turned": lambda output: output.mean((2, 3))})
    assert rows_of(watched(network, ["turned"]), "turned") == rows_of(turned, "turned")


# What is left, and what is refused


def test_no_hook_is_left_also_after_an_error(model):
    watched(model, ["norm", "hidden"])
    for wrong in ("relu", "nowhere"):
        with pytest.raises(ValueError, match=wrong):
            watched(model, ["norm", wrong])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("layers", "complaint"),
    [
        (["layer1"], "'layer1' is no module of the model, which has conv, norm, down, hidden, relu, unused, pair, fc"),
        (["relu"], "the forward pass calls layer relu 3 times: a layer is measured only where it is called once"),
        (["unused"], "the forward pass calls layer unused 0 times"),
        (["pair"], r"layer pair gives a tuple, not a tensor: say which .* layers=\{'pair': lambda output"),
        ("conv", r"layers must be a list of names: write \['conv'\]"),
        (["conv", "conv"], "a layer is named twice: conv, conv"),
        ({"conv": lambda output: output[0, 0, 0]}, r"layer conv has a function that returns no .* tensor \(n, p\)"),
        ({"conv": lambda output: output[:3].flatten(1)}, "labels to 3 rows of conv: one each"),
        ([""], "'' is no module of the model"),
        (None, "layers must be a list of names, or a mapping of names, got a NoneType"),
        ((name for name in ["conv"]), "layers must be a list of names, or a mapping of names, got a generator"),
        ([1], "layers must be dotted names of modules, got a int"),
        ([nn.ReLU()], "layers must be dotted names of modules, got a ReLU"),
        ({"conv": None}, "layer conv must have a function of its output, got a NoneType"),
    ],
)  # fmt: skip
def test_a_layer_that_cannot_be_measured_is_one_clear_line(model, layers, complaint):
    with pytest.raises(ValueError, match=complaint) as raised:
        watched(model, layers)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("also_features", [False, True])
def test_a_layer_that_is_not_finite_is_named_with_the_sample(model, also_features):
    x, y = images()
    x[11] = torch.nan
    if not also_features:
        model.down.register_forward_hook(lambda _, __, output: output.nan_to_num())
    data = {"train": loader(), "test": loader(x, y, shuffle=False)}
    complaint = (
        'split "test": outputs of layer norm contain NaN or infinite values .first in sample 11 of the data'
    )
    with pytest.raises(ValueError, match=complaint):
        watched(model, ["hidden", "norm"] if not also_features else ["norm"], data)
    if not also_features:
        watched(model, ["hidden"], data)  # Control: the others are finite


def test_a_scripted_layer_is_refused_and_the_others_can_be_measured():
    network = trained_a_little()
    network.stem = scripted(network.stem)
    for name in ("stem", "stem.1"):
        with pytest.raises(
            ValueError, match=f"layer {name} is scripted, which shows no outputs: measure the model"
        ):
            watched(network, [name])
    watched(network, ["attention"])


def test_tokens_are_not_taken_for_channels(model):
    model.pair.forward = lambda pair: pair[0].flatten(2)
    with pytest.raises(ValueError, match=r"layer pair gives torch.float64 \(8, 8, 4\), neither \(n, p\) nor"):
        watched(model, ["pair"])


def test_a_layer_too_large_for_a_scatter_matrix_is_refused(model, monkeypatch):
    monkeypatch.setattr(own_layers, "LARGEST", 7)
    watched(model, ["hidden"])
    with pytest.raises(ValueError, match=r"layer down has 8 dimensions, .* pool them to at most 7"):
        watched(model, ["down"])


def test_the_name_that_tables_have_for_the_classifiers_input_is_refused():
    class Named(ConvNet):
        def __init__(self, d=5, K=3):
            super().__init__(d, K)
            self.features = self.stem

    network = trained_a_little(kind=Named)
    with pytest.raises(ValueError, match="tables call the classifier's input features"):
        nclib.Trajectory(network, loader(), classes=CLASSES, layers=["features"]).measure(0)


# Where it is read


def test_the_books_figure_of_layers_draws_it(model):
    x, y = images()
    watch = watched(
        model, ["norm", "down"], {"train": loader(x[:40], y[:40]), "test": loader(x[40:], y[40:])}
    )
    watch.measure(5)
    _, (ax,) = plots.figure()
    anatomy.layers(watch.table, "nc1_trace_ratio", ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["norm", "down", "features"]
    drawn = [line for line in ax.lines if line.get_label().startswith("epoch 5, train")]
    expected = [rows_of(watch, name)["nc1_trace_ratio"] for name in ("norm", "down")]
    assert len(drawn) == 1 and drawn[0].get_ydata()[:2] == pytest.approx(expected[:2])
    plt.close("all")


SOURCE = """
from own_networks import loader, images, trained_a_little
def both():
    x, y = images()
    return trained_a_little(), {"train": loader(x[:40], y[:40]), "test": loader(x[40:], y[40:])}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_layers.py").write_text(SOURCE)
    for epoch in (1, 2):
        torch.save(trained_a_little().state_dict(), tmp_path / f"epoch{epoch}.pt")
    return tmp_path


COMMAND = ["measure", "of_layers.py:both", "--classes", "3,7,11", "--layers", "stem,attention"]


def test_the_command_prints_a_line_a_layer_and_writes_all(capsys, folder):
    assert cli.main([*COMMAND, "--checkpoints", "*.pt", "-o", "out.parquet"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["epoch", "split", "layer", "error", "loss"]
    places = [(s, layer) for s in ("train", "test") for layer in ("stem", "attention", "features")]
    assert [tuple(line.split()[:3]) for line in lines] == [(e, *place) for e in "12" for place in places]
    table = tables.read(folder / "out.parquet")
    for line in lines:
        epoch, split, layer, *_ = line.split()
        value = tables.select(
            table, epoch=int(epoch), split=split, layer=layer, metric="nc1_trace_ratio"
        ).value
        start = header.index("nc1_trace_ratio") + len("nc1_trace_ratio")
        assert float(line[start - 17 : start]) == pytest.approx(float(value.iloc[0]), rel=1e-5)


def test_one_measurement_prints_layers_below_the_features(capsys, folder):
    assert cli.main(COMMAND) == 0
    out = capsys.readouterr().out
    above, below = out.split("\n\n")
    assert above.startswith("metric") and below.split()[:3] == ["epoch", "split", "layer"]
    assert len(below.splitlines()) == 1 + 2 * 3


def test_a_typo_in_a_layer_is_one_line_and_status_2(capsys, folder):
    assert cli.main([*COMMAND[:-1], "stemm", "-o", "out.parquet"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (folder / "out.parquet").exists()
