"""nclib.measure_model: what a slow reference gives on the classifier's inputs, and the model is left as it was."""

import math
import re
import subprocess
import sys
import warnings
from collections import UserDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reference
import torch
from asserts import assert_far_from_zero, assert_same, assert_vanishes
from own_networks import (
    LABELS,
    ConvNet,
    CosineHead,
    LowRankHead,
    OtherSteps,
    ScaledHead,
    TwoPartHead,
    features_in_eval_mode,
    images,
    loader,
    measure_or_fail,
    scripted,
    trained_a_little,
)
from samplers import generator, normal
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import nclib
from nclib import measure_model, tables

CLASSES = LABELS.tolist()


def by_reference(H, labels, W, b):
    """Every key from loops in numpy; labels are renumbered by looking them up."""
    y = [CLASSES.index(k) for k in labels.tolist()]
    H, W, b = (t.detach().double().numpy() for t in (H, W, b))
    values = reference.nc_metrics(H, y, W, b) | reference.shape_metrics(H, y, W)
    values["class_separation"] = reference.class_separation(H, y)
    return values | reference.classification(H, y, W, b)


@pytest.fixture
def model():
    return trained_a_little()


# The numbers


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"batch_size": 61}, {"batch_size": 1}])
def test_every_key_is_what_a_slow_reference_gives(model, options):
    x, y = images()
    H = features_in_eval_mode(model, x)
    expected = by_reference(H, y, model.fc.weight, model.fc.bias)
    values = measure_model(model, loader(**options), classes=CLASSES)
    assert_same(values, expected, 1e-6)
    assert values.keys() <= tables.METRICS.keys()
    assert nclib.measure_features(H, torch.searchsorted(LABELS, y)).keys() <= values.keys()
    assert values["error"] > 0 and len(x) % 8, "errors and an uneven last batch belong to the case"


def test_a_float32_model_agrees_to_its_own_precision(model):
    x, y = images()
    model = model.float()
    H = features_in_eval_mode(model, x.float())
    values = measure_model(model, loader(x.float(), y), classes=CLASSES)
    assert_same(values, by_reference(H, y, model.fc.weight, model.fc.bias), 1e-5)


def test_train_mode_and_another_classifier_would_give_other_numbers(model):
    x, y = images()
    values = measure_model(model, loader(), classes=CLASSES)
    model.train()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        in_train_mode = model.body(x)
    wrong_row_order = measure_model(model, loader(), classes=[7, 11, 3])
    others = {
        "train mode": by_reference(in_train_mode, y, model.fc.weight, model.fc.bias),
        "another classifier": by_reference(
            features_in_eval_mode(model, x), y, normal(3, 5, seed=8), model.fc.bias
        ),
        "rows in another order": wrong_row_order,
    }
    for what, other in others.items():
        assert abs(other["nc3_frobenius"] - values["nc3_frobenius"]) > 1e-3, what
        assert other["loss"] != pytest.approx(values["loss"], rel=1e-4), what


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16])
def test_labels_may_be_of_any_integer_type(model, dtype):
    x, y = images()
    data = [(x[:40], y[:40].to(dtype)), (x[40:], y[40:].to(dtype), "a third thing")]
    assert_same(measure_model(model, data, classes=CLASSES), measure_model(model, loader(), classes=CLASSES))


# Batches of other forms


class TwoViews(ConvNet):
    """A model of two arguments, the second nested, as models of text take their masks."""

    def forward(self, pixels, more=None, scale=1.0):
        return super().forward(pixels if more is None else pixels + more["noise"][0] * scale)


def noise():
    return 0.3 * normal(*images()[0].shape, seed=6)


def as_batches(form):
    """The data of `loader(shuffle=False)` with noise beside the images, batch by batch in this form."""
    x, y = images()
    return [form(*parts) for parts in zip(x.split(8), noise().split(8), y.split(8), strict=True)]


FORMS = {
    "a mapping": (lambda x, n, y: {"pixels": x, "more": {"noise": [n]}, "labels": y}, {}),
    "its other name": (
        lambda x, n, y: {"label": y.numpy(), "more": {"noise": (n,)}, "pixels": x.numpy()},
        {},
    ),
    "a mapping that is no dict": (
        lambda x, n, y: UserDict(targets=y, pixels=x, more=UserDict(noise=[n]), scale=1.0),
        {},
    ),
    "a tuple of arguments": (lambda x, n, y: ((x, {"noise": [n]}), y), {}),
    "a list of arguments": (lambda x, n, y: [[x, {"noise": (n,)}, 1.0], y, "a name"], {}),
    "labels first": (
        lambda x, n, y: (y, x, n),
        {"unpack": lambda batch: ((batch[1], {"noise": [batch[2]]}), batch[0])},
    ),
    "labels by another name": (
        lambda x, n, y: {"image": x, "noise": n, "kind": y},
        {"unpack": lambda b: ({"pixels": b["image"], "more": {"noise": [b["noise"]]}}, b["kind"])},
    ),
}


@pytest.fixture
def two_views(model):
    other = TwoViews().double()
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_any_form_reach_the_model(model, two_views, form):
    make, options = FORMS[form]
    x, y = images()
    expected = measure_model(model, loader(x + noise(), y, shuffle=False), classes=CLASSES)
    assert measure_model(two_views, as_batches(make), classes=CLASSES, **options) == expected
    without = measure_model(model, loader(shuffle=False), classes=CLASSES)
    assert_far_from_zero(abs(expected["loss"] - without["loss"]), 1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("form", FORMS)
def test_batches_of_any_form_reach_the_model_on_a_gpu(two_views, form):
    make, options = FORMS[form]
    options = options | {"classes": CLASSES}
    values = measure_model(two_views, as_batches(make), **options)
    assert_same(measure_model(two_views, as_batches(make), device="cuda", **options), values, 1e-9)


@pytest.mark.parametrize(
    "unpack", [lambda batch: batch[0], lambda batch: (*batch, 0), lambda batch: [*batch]]
)
def test_a_function_that_gives_no_pair_is_refused(model, unpack):
    with pytest.raises(ValueError, match=r"unpack must return \(inputs, labels\), got a (Tensor|tuple|list)"):
        measure_model(model, loader(), classes=CLASSES, unpack=unpack)


def test_the_labels_default_to_the_rows_numbers(model):
    x, y = images()
    renumbered = loader(x, torch.searchsorted(LABELS, y))
    assert_same(measure_model(model, renumbered), measure_model(model, loader(), classes=CLASSES))
    with pytest.raises(ValueError, match=r"label (3|7|11) is none of 0, 1, 2, which the 3 rows"):
        measure_model(model, loader())


@pytest.mark.parametrize("ignored", [-100, -1])
def test_samples_without_a_label_are_to_be_left_out_or_their_row_to_be_said(model, ignored):
    x, y = images()
    unlabelled = torch.where(torch.arange(len(y)) == 5, ignored, y)
    complaint = f"^label {ignored} is none of 3, 7, 11, .*: leave samples without a label out of the data, or say with "
    with pytest.raises(ValueError, match=complaint):
        measure_model(model, loader(x, unlabelled), classes=CLASSES)
    # Negative labels may be a class's.
    negative = loader(x, torch.where(y == 3, ignored, y))
    assert measure_model(model, negative, classes=[ignored, 7, 11]) == measure_model(
        model, loader(), classes=CLASSES
    )


def test_a_classifier_without_bias_has_no_bias_collapse(model):
    assert "bias_collapse" in measure_model(model, loader(), classes=CLASSES)
    model.fc.bias = None
    assert "bias_collapse" not in measure_model(model, loader(), classes=CLASSES)


# Some of the classes


def test_a_class_without_samples_is_named_and_the_others_can_be_measured(model):
    x, y = images()
    lacking = loader(x[y != 7], y[y != 7])
    with pytest.raises(
        ValueError, match=re.escape("no sample of class 7: give every class, or restrict with classes=")
    ):
        measure_model(model, lacking, classes=CLASSES)
    values = measure_model(model, lacking, classes={3: 0, 11: 2})
    H = features_in_eval_mode(model, x)
    whole = torch.searchsorted(LABELS, y)
    expected = nclib.measure_features(H, whole, model.fc.weight, model.fc.bias, classes=[0, 2])
    assert_same({name: values[name] for name in expected}, expected)
    # A sample of a class that is left out changes nothing, whether or not it is there.
    assert_same(measure_model(model, loader(), classes={11: 2, 3: 0}), values)
    # Where labels are row numbers, a list does: as for measure_features.
    assert_same(measure_model(model, loader(x, whole), classes=[0, 2]), values)


def test_the_keys_of_a_mapping_are_in_order(model):
    named = {3: "cat", 7: "dog", 11: "eel"}
    expected = measure_model(model, loader(), classes=CLASSES)
    assert measure_model(model, loader(), classes=named.keys()) == expected


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([3, 7], "name a label for each of the classifier's 3 rows, or some of these rows by number"),
        ([3, 7, 11, 15], "name a label for each of the classifier's 3 rows"),
        ([3, 7, 7], "classes must be distinct"),
        ({3: 0, 7: 0}, "classes must be distinct"),
        ({3: 0, 7: 3}, re.escape("their rows lie in [0, 3)")),
        ({3: 0}, "at least two classes, got 1"),
        ([1], "at least two classes, got 1"),
        (["a", "b", "c"], "classes must be labels, which are integers, got 'a'"),
        ({3: 0, 7: 1.5}, "classes must be labels, which are integers, got 1.5"),
        (3, "classes must be a list of labels, or a mapping of label to row, got 3"),
        ({3, 7, 11}, "classes must be a list of labels, or a mapping of label to row, got {"),
        (
            iter([3, 7, 11]),
            "classes must be a list of labels, or a mapping of label to row, got <list_iterator",
        ),
    ],
)
def test_classes_that_fit_no_rows_are_refused(model, classes, message):
    with pytest.raises(ValueError, match=message):
        measure_model(model, loader(), classes=classes)


# The model and the data are left as they were


@pytest.mark.parametrize("fails", [False, True])
def test_modes_hooks_weights_and_gradients_are_left_as_they_were(model, fails):
    model.stem[1].eval()  # a frozen batch normalisation in a model that trains
    modes = {name: module.training for name, module in model.named_modules()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_or_fail(model, fails)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert any(modes.values()) and not all(modes.values())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model(images()[0]).requires_grad


@pytest.mark.parametrize("own_generator", [True, False])
def test_training_goes_on_as_if_nothing_had_been_measured(own_generator):
    def order_after(measured):
        torch.manual_seed(3)
        data = loader(generator=generator(5) if own_generator else None)
        if measured:
            measure_model(trained_a_little(), data, classes=CLASSES)
        return torch.cat([y for _, y in data]), torch.rand(1)

    with torch.random.fork_rng():
        plain, measured = order_after(False), order_after(True)
    assert torch.equal(plain[0], measured[0]) and torch.equal(plain[1], measured[1])
    assert not torch.equal(plain[0], torch.cat([y for _, y in loader(generator=generator(6))]))


def test_both_passes_draw_the_same_augmentation(model):
    x, y = images()

    def augmented(batch):
        xs, ys = zip(*batch, strict=True)
        return torch.stack(xs) + torch.randn(1, dtype=torch.float64), torch.stack(ys)

    seen = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    measure_model(model, loader(x, y, collate_fn=augmented), classifier="fc", classes=CLASSES)
    look, first, second = seen[0], seen[1:9], seen[9:]
    assert torch.equal(look, first[0])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    # Control: the same images without it differ, by one number that was drawn for each batch.
    added = [a - x for a, (x, _) in zip(first, loader(x, y), strict=True)]
    for noise in added:
        assert_vanishes((noise - noise.mean()).abs().max())
        assert_far_from_zero(noise.mean().abs())
    assert_far_from_zero(abs(added[0].mean() - added[1].mean()))


def test_generators_of_gpus_are_wound_back_too(model, monkeypatch):
    gpu = generator(9)  # stands for a GPU's, of which there is none before CUDA is initialised
    monkeypatch.setattr(torch.cuda, "default_generators", (gpu,))
    drawn = []
    model.register_forward_pre_hook(lambda *_: drawn.append(float(torch.rand(1, generator=gpu))))
    before = gpu.get_state()
    measure_model(model, loader(batch_size=61), classifier="fc", classes=CLASSES)
    assert len(drawn) == 3 and len(set(drawn)) == 1, "a look at the first batch, and two passes"
    assert torch.equal(gpu.get_state(), before)
    model(images()[0])
    assert not torch.equal(gpu.get_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_that_draws_on_a_gpu_leaves_its_generator_as_it_was(model):
    drawn = []
    model.register_forward_pre_hook(lambda *_: drawn.append(float(torch.rand(1, device="cuda"))))
    torch.rand(1, device="cuda")
    before = torch.cuda.get_rng_state_all()
    measure_model(model, loader(batch_size=61), classifier="fc", classes=CLASSES, device="cuda")
    assert len(drawn) == 3 and len(set(drawn)) == 1
    assert all(torch.equal(a, b) for a, b in zip(torch.cuda.get_rng_state_all(), before, strict=True))


def test_autocast_outside_does_not_reach_the_measurement(model):
    x, y = images()
    model, data = model.float().eval(), loader(x.float(), y)
    plain = measure_model(model, data, classes=CLASSES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x.float()).dtype == torch.bfloat16
        assert measure_model(model, data, classes=CLASSES) == plain


def test_a_compiled_model_is_measured_as_what_it_compiles(model):
    compiled = torch.compile(model, backend="eager")
    assert measure_model(compiled, loader(), classes=CLASSES) == measure_model(
        model, loader(), classes=CLASSES
    )


# What is refused


class Once:
    """Data that gives nothing when it is read again, though no iterator."""

    def __init__(self, batches):
        self.batches = list(batches)

    def __iter__(self):
        while self.batches:
            yield self.batches.pop()


class Shrinking(Once):
    """Data that lacks a batch whenever it is read again."""

    def __iter__(self):
        yield from self.batches
        self.batches = self.batches[:-1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: iter(loader()), "read twice, which a _SingleProcessDataLoaderIter does not allow"),
        (
            lambda: (batch for batch in loader()),
            "read twice, which a generator does not allow: give a DataLo",
        ),
        (lambda: 3, "read twice, which a int does not allow"),
        (lambda: Once(loader()), "gave no samples: it is empty, or can be read only once"),
        (lambda: Shrinking(loader()), "first pass gave 61 samples and the second 56"),
        (list, "the loader is empty: there are no samples"),
        (lambda: DataLoader(images()[0], batch_size=8), "must give .inputs, labels., got a Tensor"),
        (lambda: [(images()[0],)], "must give .inputs, labels., got a tuple"),
        (
            lambda: [{"x": images()[0], "kind": images()[1]}],
            "has x, kind, where one of labels, label, targets",
        ),
        (lambda: [{"labels": images()[1], "label": images()[1]}], "has labels, label, where one of"),
        (lambda: [("an image", images()[1])], "inputs must be a tensor, or a tuple or mapping .*, got a str"),
        (lambda: [(images()[0], ["cat"] * 61)], "labels must be integers .n,., got a list of others"),
        (lambda: [(images()[0], images()[1].float())], "labels must be integers .n,., got torch.float32"),
        (
            lambda: [(images()[0], torch.eye(61).long())],
            "make them so with unpack=.*, of one-hot rows by .*argmax",
        ),
        (
            lambda: [{"x": images()[0], "name": np.array(["a"] * 61), "label": images()[1]}],
            "the batch has x, name, and the model takes x: say",
        ),
        (lambda: [(images()[0], images()[1][:, None])], r"got torch.int64 \(61, 1\)"),
        (lambda: [(images()[0], images()[1][:-1])], "gives 60 labels to 61 rows of features"),
        (lambda: [(images()[0] * torch.inf, images()[1])], "features contain NaN or infinite values"),
    ],
)
def test_data_that_cannot_be_measured_is_refused_in_one_line(model, data, message):
    before = measure_model(model, loader(), classes=CLASSES)
    with pytest.raises(ValueError, match=message) as error:
        measure_model(model, data(), classifier="fc", classes=CLASSES)
    assert "\n" not in str(error.value)
    assert measure_model(model, loader(), classes=CLASSES) == before


@pytest.mark.parametrize("batch_size", [8, 2000])
def test_a_sample_that_is_not_finite_is_named_by_its_place_in_the_data(model, batch_size):
    x, y = (part.repeat(40, *[1] * (part.ndim - 1)) for part in images())  # 2440: gathered more than once
    x[2105] = torch.nan
    x[2300] = torch.inf
    data = DataLoader(list(zip(x, y, strict=True)), batch_size=batch_size)
    with pytest.raises(
        ValueError, match=r"features contain NaN .* \(first in sample 2105 of the data, counted from 0"
    ):
        measure_model(model, data, classes=CLASSES)
    # A sample of a class that is left out may hold anything, and counts.
    others = {label: row for row, label in enumerate(CLASSES) if label != y[2105]}
    with pytest.raises(ValueError, match="sample 2300 of the data" if y[2300] != y[2105] else "no such"):
        measure_model(model, data, classes=others)
    x[2300] = x[0]
    assert_far_from_zero(measure_model(model, data, classes=others)["loss"])


def test_weights_that_are_not_finite_are_refused(model):
    with torch.no_grad():
        model.fc.bias[1] = torch.nan
    with pytest.raises(ValueError, match="the classifier's bias contains NaN"):
        measure_model(model, loader(), classes=CLASSES)


def test_a_device_that_is_not_there_is_refused_and_the_model_stays(model):
    with pytest.raises(ValueError, match="cannot be measured on meta: it holds no values"):
        measure_model(model, loader(), classes=CLASSES, device="meta")
    with pytest.raises(ValueError, match="cannot be measured on nowhere"):
        measure_model(model, loader(), classes=CLASSES, device="nowhere")
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    values = measure_model(model, loader(), classes=CLASSES)
    assert measure_model(model, loader(), classes=CLASSES, device="cpu") == values


@pytest.mark.parametrize("named", [None, "fc"])
def test_names_that_the_model_does_not_take_are_shown_beside_those_it_takes(model, two_views, named):
    x, y = images()
    complaint = (
        r"^the batch has image, more, and the model takes pixels, more, scale: say what is what with unpack"
    )
    with pytest.raises(ValueError, match=complaint):
        measure_model(two_views, [{"image": x, "more": None, "label": y}], classes=CLASSES, classifier=named)
    with pytest.raises(ValueError, match=complaint):
        measure_model(
            nn.DataParallel(two_views, device_ids=[]),
            [{"image": x, "more": None, "label": y}],
            classes=CLASSES,
            classifier=named and f"module.{named}",
        )
    expected = measure_model(model, [(x, y)], classes=CLASSES)
    assert measure_model(two_views, [{"pixels": x, "more": None, "label": y}], classes=CLASSES) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda model: None, "the model must be an nn.Module, got a NoneType"),
        (lambda model: model.forward, "the model must be an nn.Module, got a method"),
        (
            lambda model: model.to("meta"),
            "the model is on the meta device, where it holds no values: load its weig",
        ),
        (
            scripted,
            "the model is scripted, which does not show its classifier's input: measure it before",
        ),
    ],
)
@pytest.mark.parametrize("named", [None, "fc"])
def test_what_is_no_model_that_can_be_measured_is_refused_in_one_line(model, given, message, named):
    with pytest.raises(ValueError, match=f"^{message}") as error:
        measure_model(given(model), loader(), classes=CLASSES, classifier=named)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_and_the_model_comes_back(model):
    values = measure_model(model, loader(), classes=CLASSES)
    assert_same(measure_model(model, loader(), classes=CLASSES, device="cuda"), values, 1e-9)
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert_same(measure_model(model.cuda(), loader(), classes=CLASSES), values, 1e-9)


# Memory

GROWTH = """
import sys, torch
from pathlib import Path
from torch import nn
import nclib

torch.set_num_threads(1)
d, K = 256, 4
class Stream:
    def __init__(self, batches): self.batches = batches
    def __iter__(self):
        g = torch.Generator().manual_seed(0)
        for _ in range(self.batches):
            yield torch.randn(1000, d, generator=g), torch.randint(K, (1000,), generator=g)

def peak():  # a child's ru_maxrss begins with its parent's: this one is its own
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
def in_memory(model, data):
    return nclib.measure_features(torch.cat([x for x, _ in data]), torch.cat([y for _, y in data]))
measure = {"streamed": nclib.measure_model, "in memory": in_memory}[sys.argv[1]]
model = nn.Sequential(nn.Identity(), nn.Linear(d, K))
measure(model, Stream(10))
before = peak()
measure(model, Stream(100))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_samples():
    def growth(route):
        done = subprocess.run(
            [sys.executable, "-c", GROWTH, route], capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    kept = growth("in memory")
    assert kept > 90  # MB: 100,000 features of 256 float32 are 98
    assert growth("streamed") < kept / 4  # an allocator keeps some MB for itself, seldom the same


# Which layer


@pytest.mark.parametrize("named", [None, "fc", "module"])
def test_the_classifier_may_be_named_or_found(model, named):
    given = model.fc if named == "module" else named
    expected = measure_model(model, loader(), classes=CLASSES)
    assert measure_model(model, loader(), classes=CLASSES, classifier=given) == expected


class Ambiguous(ConvNet):
    """Its last module is called before its classifier."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(5, 5)

    def forward(self, x):
        return self.fc(self.gate(self.body(x)))


class Unused(ConvNet):
    """Its last module is never called."""

    def __init__(self):
        super().__init__()
        self.auxiliary = nn.Linear(5, 3)


class Twice(ConvNet):
    def forward(self, x):
        return self.fc(self.body(x)) + self.fc(self.body(-x))


class Positions(ConvNet):
    def forward(self, x):
        return self.fc(self.stem(x).flatten(2).mT).mean(1)


class Functional(ConvNet):
    """Its classifier's weight gives the logits, but nothing calls the classifier."""

    def forward(self, x):
        return F.linear(self.body(x), self.fc.weight, self.fc.bias)


class FunctionalOutputs(Functional):
    """The same, with an output as models of Hugging Face have."""

    def forward(self, x):
        return SimpleNamespace(logits=super().forward(x))


class Beside(ConvNet):
    """Its logits are not all that it returns."""

    def forward(self, x):
        h = self.body(x)
        return torch.cat([self.fc(h), h], 1)


def test_a_layer_that_is_never_called_is_no_candidate():
    model = Unused().double()
    found = measure_model(model, loader(), classes=CLASSES)
    assert found == measure_model(model, loader(), classes=CLASSES, classifier="fc")
    model.fc, model.auxiliary = model.auxiliary, model.fc
    assert measure_model(model, loader(), classes=CLASSES) != found


@pytest.mark.parametrize(
    ("kind", "named", "message"),
    [
        (Ambiguous, None, "not clear, as the one called last is not the last .* attention, fc, gate$"),
        (Ambiguous, "head", "'head' is no nn.Linear of the model, which has attention, fc, gate$"),
        (Ambiguous, "stem.0", "'stem.0' is no nn.Linear of the model"),
        (Ambiguous, nn.Linear(5, 3), "the given Linear is no nn.Linear of the model"),
        (Unused, "auxiliary", "calls the classifier 0 times: its input"),
        (Twice, "fc", "calls the classifier 2 times"),
        (
            Functional,
            None,
            "^the model returns 3 columns, and the nn.Linear called last, attention, has 5 rows: name the one that "
            "gives the logits with classifier=..., one of attention; where none does, measure features alone",
        ),
        (FunctionalOutputs, None, "returns 3 columns, and the nn.Linear called last, attention, has 5 rows"),
        (Functional, "fc", "calls the classifier 0 times"),
        (Beside, None, "returns 8 columns, and the nn.Linear called last, fc, has 3 rows"),
        (Positions, "fc", r"features of shape \(8, 36, 5\), not \(n, d\): pool them"),
        (lambda: nn.Flatten(), None, "the model has no nn.Linear"),
    ],
)
def test_what_is_no_classifier_is_refused_with_the_names_to_choose_from(kind, named, message):
    with pytest.raises(ValueError, match=message) as error:
        measure_model(kind().double(), loader(), classifier=named, classes=CLASSES)
    assert "\n" not in str(error.value)


def test_naming_the_classifier_settles_it():
    model = Ambiguous().double()
    values = measure_model(model, loader(), classifier=model.fc, classes=CLASSES)
    assert_far_from_zero(values["nc1_pinv"])
    beside = trained_a_little(kind=Beside)
    expected = measure_model(trained_a_little(), loader(), classes=CLASSES)
    assert measure_model(beside, loader(), classifier="fc", classes=CLASSES) == expected


# What the classifier gives


def with_head(model, kind):
    """The model with a classifier of this class, of the same weights."""
    head = kind(5, 3).double()
    head.load_state_dict(model.fc.state_dict())
    model.fc = head
    return model


@pytest.mark.parametrize("named", [None, "fc"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [CosineHead, ScaledHead, LowRankHead, TwoPartHead])
def test_a_classifier_of_other_logits_is_refused(model, kind, dtype, named):
    x, y = images()
    data = [(x.to(dtype), y)]
    model = with_head(model, kind).to(dtype)
    with pytest.raises(
        ValueError, match=f"the classifier, a {kind.__name__}, gives other logits than"
    ) as error:
        measure_model(model, data, classifier=named, classes=CLASSES)
    assert "\n" not in str(error.value)
    assert not model.fc._forward_hooks and not model.fc._forward_pre_hooks
    # Control: W h + b in any other steps is the same classifier.
    plain, other = (
        measure_model(with_head(trained_a_little(), kind).to(dtype), data, classifier=named, classes=CLASSES)
        for kind in (nn.Linear, OtherSteps)
    )
    assert plain == other


def test_a_hook_that_changes_the_logits_is_refused(model):
    handle = model.fc.register_forward_hook(lambda _, __, logits: 2 * logits)
    with pytest.raises(ValueError, match="the classifier, a Linear, gives other logits than W h"):
        measure_model(model, loader(), classes=CLASSES)
    handle.remove()
    model.fc.register_forward_hook(lambda _, __, logits: logits.clone())
    expected = measure_model(trained_a_little(), loader(), classes=CLASSES)
    assert measure_model(model, loader(), classes=CLASSES) == expected


@pytest.mark.parametrize("kind", [nn.Linear, OtherSteps])
def test_sums_that_cancel_are_no_other_logits(model, kind):
    x, y = images()
    model, data = with_head(model, kind).float(), [(x.float(), y)]
    model.dropout.register_forward_hook(lambda _, __, h: h + 1e4)  # float32 leaves three digits of W h
    with torch.no_grad():
        model.fc.weight.sub_(model.fc.weight.mean(1, keepdim=True))
    assert_far_from_zero(measure_model(model, data, classes=CLASSES)["loss"])
    with pytest.raises(ValueError, match="gives other logits than"):
        measure_model(with_head(model, ScaledHead).float(), data, classes=CLASSES)


def test_a_classifier_of_zeros_is_measured(model):
    nn.init.zeros_(model.fc.weight)
    nn.init.zeros_(model.fc.bias)
    assert measure_model(model, loader(), classes=CLASSES)["loss"] == pytest.approx(math.log(3))


FOLLOWED = {
    "a temperature": lambda logits: logits / 3,
    "one in place": lambda logits: logits.div_(3),
    "log_softmax": lambda logits: logits.log_softmax(1),
    "a prior": lambda logits: logits + torch.tensor([0.0, 5, -5]),
    "a tuple": lambda logits: (logits, None),
    "a mapping": lambda logits: {"out": logits},
    "an object": lambda logits: SimpleNamespace(logits=logits, loss=None),
    "a class": lambda logits: logits.argmax(1),
}


@pytest.mark.parametrize("named", [None, "fc"])
@pytest.mark.parametrize("after", FOLLOWED)
def test_whatever_follows_the_classifier_changes_nothing(after, named):
    class Followed(ConvNet):
        def forward(self, x):
            return FOLLOWED[after](super().forward(x))

    values = measure_model(trained_a_little(kind=Followed), loader(), classifier=named, classes=CLASSES)
    assert values == measure_model(trained_a_little(), loader(), classes=CLASSES)


class Heads(ConvNet):
    """Two heads of as many rows; what is made of them is said later."""

    def __init__(self, d=5, K=3):
        super().__init__(d, K)
        self.second = nn.Linear(d, K)

    def forward(self, x):
        h = self.body(x)
        return self.made(self.fc(h), self.second(h))


SEVERAL = {
    "their mean": lambda a, b: (a + b) / 2,
    "their sum, nearly one of them": lambda a, b: a * 0.01 + b,
    "the first and another": lambda a, b: (a, b),
    "the first by name": lambda a, b: {"second": b, "logits": a},
    "the first as torchvision has it": lambda a, b: {"aux": b, "out": a},
    "the first as an attribute": lambda a, b: SimpleNamespace(logits=a, other=b),
    "softmax of the first": lambda a, b: a.softmax(1),
    "the last turned round": lambda a, b: -b,
}
"""What a model makes of two heads where the last is not its classifier."""
OF_THE_LAST = {
    "the last and another": lambda a, b: (b, a),
    "the last by name": lambda a, b: {"aux": a, "logits": b},
    "scaled": lambda a, b: b / 3,
    "in place": lambda a, b: b.mul_(3),
    "log_softmax": lambda a, b: b.log_softmax(1),
    "softmax of scaled": lambda a, b: (b / 2).softmax(1),
    "half precision": lambda a, b: b.bfloat16(),
    "a class": lambda a, b: b.argmax(1),
    "names of other things": lambda a, b: {"one": a, "other": b},
}


@pytest.mark.parametrize("made", SEVERAL)
def test_of_several_heads_none_is_chosen_that_does_not_give_the_logits(monkeypatch, made):
    monkeypatch.setattr(Heads, "made", staticmethod(SEVERAL[made]), raising=False)
    x, y = images()
    model, data = trained_a_little(kind=Heads).float(), [(x.float(), y)]
    complaint = (
        "which nn.Linear is the classifier is not clear, as .* than second, .* one of fc, second; where none"
    )
    with pytest.raises(ValueError, match=complaint) as error:
        measure_model(model, data, classes=CLASSES)
    assert "\n" not in str(error.value)
    # Control: naming one settles it, and makes a difference.
    one, other = (measure_model(model, data, classes=CLASSES, classifier=name) for name in ("fc", "second"))
    assert_far_from_zero(abs(one["nc3_frobenius"] - other["nc3_frobenius"]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("made", OF_THE_LAST)
def test_of_several_heads_the_last_is_chosen_where_the_logits_are_made_of_it(monkeypatch, made, dtype):
    monkeypatch.setattr(Heads, "made", staticmethod(OF_THE_LAST[made]), raising=False)
    x, y = images()
    model, data = trained_a_little(kind=Heads).to(dtype), [(x.to(dtype), y)]
    named = measure_model(model, data, classes=CLASSES, classifier="second")
    assert measure_model(model, data, classes=CLASSES) == named


def test_two_heads_that_agree_on_every_class_are_told_from_their_mean(monkeypatch):
    monkeypatch.setattr(Heads, "made", staticmethod(SEVERAL["their mean"]), raising=False)
    model = trained_a_little(kind=Heads).eval()
    with torch.no_grad():  # as two trained heads do
        model.second.weight.copy_(model.fc.weight + 0.01 * normal(3, 5, seed=11))
        model.second.bias.copy_(model.fc.bias)
        h = model.body(images()[0])
        assert torch.equal(model.fc(h).argsort(1), model.second(h).argsort(1))
    with pytest.raises(ValueError, match=r"which nn.Linear is the classifier is not clear"):
        measure_model(model, loader(), classes=CLASSES)
    model.second.load_state_dict(model.fc.state_dict())  # Control: their mean is each of them
    expected = measure_model(model, loader(), classes=CLASSES, classifier="fc")
    assert measure_model(model, loader(), classes=CLASSES) == expected


def test_a_low_rank_update_in_a_layer_of_its_own_is_no_classifier(model):
    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base
            self.A, self.B = nn.Linear(5, 2, bias=False), nn.Linear(2, 3, bias=False)

        def forward(self, h):
            return self.base(h) + self.B(self.A(h))

    model.fc = Adapted(model.fc).double()
    for scale in (1.0, 0.0):  # zero is where training begins
        model.fc.B.weight.data.mul_(scale)
        with pytest.raises(
            ValueError, match=r"is not clear, .* one of fc.base, fc.B; where none gives them alone"
        ):
            measure_model(model, loader(), classes=CLASSES)


def test_features_before_the_logits_are_not_taken_for_them():
    class Both(ConvNet):
        def __init__(self, d=5, K=3):
            super().__init__(d, K)
            del self.fc  # for it stands before what is made now
            self.narrow, self.fc = nn.Linear(d, K), nn.Linear(K, K)

        def forward(self, x):
            h = self.narrow(self.body(x))
            return h, self.fc(h)

    model = trained_a_little(kind=Both)
    named = measure_model(model, loader(), classes=CLASSES, classifier="fc")
    assert measure_model(model, loader(), classes=CLASSES) == named


def test_a_head_of_another_task_behind_is_not_chosen():
    class Rotations(ConvNet):
        def __init__(self, d=5, K=3):
            super().__init__(d, K)
            self.rotation = nn.Linear(d, 4)

        def forward(self, x):
            h = self.body(x)
            return self.fc(h), self.rotation(h)

    model = trained_a_little(kind=Rotations)
    with pytest.raises(
        ValueError, match=r"returns 3 columns, and the nn.Linear called last, rotation, has 4 rows"
    ):
        measure_model(model, loader(), classes=CLASSES)
    measure_model(model, loader(), classes=CLASSES, classifier="fc")
    with pytest.raises(
        ValueError, match=r"is none of 0, 1, 2, .* or with classifier=... which nn.Linear gives the"
    ):
        measure_model(model, loader(), classifier="fc")


@pytest.mark.parametrize("named", [None, "module.fc"])
def test_a_data_parallel_model_is_measured(model, named):
    expected = measure_model(model, loader(), classes=CLASSES)
    parallel = nn.DataParallel(model, device_ids=[])
    assert measure_model(parallel, loader(), classifier=named, classes=CLASSES) == expected


def test_features_are_those_that_the_classifier_saw_though_changed_in_place_later(model):
    class Later(ConvNet):
        def forward(self, x):
            h = self.body(x)
            logits = self.fc(h)
            h.square_()
            return logits

    class Earlier(ConvNet):
        def forward(self, x):
            return self.fc(self.body(x).square_())

    expected = measure_model(model, loader(), classes=CLASSES)
    assert measure_model(trained_a_little(kind=Later), loader(), classes=CLASSES) == expected
    other = measure_model(trained_a_little(kind=Earlier), loader(), classes=CLASSES)
    assert_far_from_zero(abs(other["nc1_pinv"] - expected["nc1_pinv"]))


@pytest.mark.parametrize("named", [None, "fc"])
@pytest.mark.parametrize("normed", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_weights_are_those_that_a_forward_pass_computes(model, normed, named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # their older form is deprecated, and in use
        normed(model.fc)
    stale = model.fc.weight.detach().clone()
    with torch.no_grad():
        for i, parameter in enumerate(model.fc.parameters()):
            parameter.add_(normal(*parameter.shape, seed=20 + i))
    values = measure_model(model, loader(), classifier=named, classes=CLASSES)
    x, y = images()
    H = features_in_eval_mode(model, x)
    model.fc.eval()(H)
    assert_same(values, by_reference(H, y, model.fc.weight, model.fc.bias), 1e-6)
    of_stale = by_reference(H, y, stale, model.fc.bias)
    assert_far_from_zero(abs(values["nc3_frobenius"] - of_stale["nc3_frobenius"]))
