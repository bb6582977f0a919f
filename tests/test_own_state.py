"""What a measurement leaves as it was: an epoch that is going on, generators, merged weights, compiled code."""

import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from asserts import assert_far_from_zero
from own_networks import LABELS, ConvNet, images, loader, measure_or_fail, trained_a_little
from samplers import generator, normal
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

import nclib
from nclib import measure_model
from nclib.modes import in_eval_mode
from nclib.own import measuring
from nclib.own.draws import _parts, same_draws
from nclib.stats import ClassStats

CLASSES = LABELS.tolist()


@pytest.fixture
def model():
    return trained_a_little()


# An epoch that is going on


class Noisy(Dataset):
    """The images, with noise drawn when each is read."""

    def __init__(self, draw=torch.randn):
        self.x, self.y = images()
        self.draw = draw

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i] + float(self.draw(1)), self.y[i]


def with_workers(persistent, **options):
    options = {"batch_size": 8, "shuffle": True, "num_workers": 1, "generator": generator(5)} | options
    return DataLoader(Noisy(), persistent_workers=persistent, **options)


def an_epoch(data, after=lambda: None):
    """All that one epoch gives, where something is done after its third batch."""
    read = []
    for i, (x, _) in enumerate(data):
        read.append(x)
        if i == 2:
            after()
    return torch.cat(read)


forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@forks
@pytest.mark.parametrize("persistent", [True, False])
def test_an_epoch_goes_on_after_a_measurement_inside_it_and_so_do_those_that_follow(model, persistent):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        plain = with_workers(persistent)
        expected = [an_epoch(plain) for _ in range(2)]
        torch.manual_seed(3)
        data = with_workers(persistent)
        found = [an_epoch(data, lambda: measure_model(model, data, classes=CLASSES)) for _ in range(2)]
    assert [len(x) for x in found] == [61, 61]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not torch.equal(*found)
    # Control: reading the data inside an epoch ends it, where a loader keeps its workers.
    assert (len(an_epoch(data, lambda: list(data))) == 61) is not persistent


@forks
@pytest.mark.parametrize("persistent", [True, False])
def test_both_passes_draw_the_same_in_workers_that_are_kept_too(model, persistent):
    seen = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    data = with_workers(persistent)
    measure_model(model, data, classifier="fc", classes=CLASSES)
    look, first, second = seen[0], seen[1:9], seen[9:]
    assert torch.equal(look, first[0]) and len(second) == 8
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(an_epoch(data), an_epoch(data))


class ToDevice:
    """A loader around another one."""

    def __init__(self, inside):
        self.inside = inside

    def __iter__(self):
        yield from self.inside


@forks
def test_an_epoch_of_a_loader_inside_another_one_goes_on_and_both_passes_draw_the_same(model):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = an_epoch(with_workers(True))
        torch.manual_seed(3)
        data, seen = ToDevice(with_workers(True)), []

        def measure():
            handle = model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
            measure_model(model, data, classifier="fc", classes=CLASSES)
            handle.remove()

        assert torch.equal(an_epoch(data, measure), expected)
    assert len(seen) == 17
    assert all(torch.equal(a, b) for a, b in zip(seen[1:9], seen[9:], strict=True))


def test_no_part_is_looked_for_in_a_long_list():
    images = list(zip(*TensorDataset(normal(1000, 3), torch.arange(1000)).tensors, strict=True))
    data = DataLoader(ConcatDataset([images, Subset(Noisy(), range(61))]), sampler=list(range(1000)))
    parts = _parts(data)
    assert len(parts) < 12
    assert any(isinstance(part, Noisy) for part in parts)


@forks
def test_an_error_leaves_an_epoch_as_it_was(model):
    data = with_workers(True)

    def fail():
        with pytest.raises(ValueError, match="is none of"):
            measure_model(model, data)

    assert len(an_epoch(data, fail)) == 61


# Generators


class Batches:
    """A batch sampler that draws the order from a generator of its own."""

    def __init__(self):
        self.drawn_from = generator(8)

    def __iter__(self):
        for batch in torch.randperm(61, generator=self.drawn_from).split(8):
            yield batch.tolist()


class Holding(Noisy):
    """Data that holds what it draws from."""

    def __init__(self, held, draw):
        super().__init__(draw)
        self.held = held


def of_numpy(n):
    return np.random.normal(size=n).item()  # noqa: NPY002


class Jitter:
    """A transform that holds what it draws from."""

    def __init__(self):
        self.drawn_from = generator(4)

    def __call__(self, x):
        return x + torch.randn(1, generator=self.drawn_from)


class Transformed(Dataset):
    """The images, each given to a transform, as torchvision's data sets do."""

    def __init__(self, transform):
        self.x, self.y = images()
        self.transform = transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.transform(self.x[i]), self.y[i]


class Composed:
    """Transforms one after the other, as torchvision composes them."""

    def __init__(self, *transforms):
        self.transforms = list(transforms)

    def __call__(self, x):
        for transform in self.transforms:
            x = transform(x)
        return x


def holding(kind, method):
    def data():
        held = kind(1)
        return DataLoader(Holding(held, lambda _: getattr(held, method)(0, 1)), batch_size=8)

    return data


DRAWING = {
    "torch's": lambda: DataLoader(Noisy(), batch_size=8),
    "NumPy's": lambda: DataLoader(Noisy(of_numpy), batch_size=8),
    "Python's": lambda: DataLoader(Noisy(lambda _: random.gauss(0, 1)), batch_size=8),
    "a batch sampler's": lambda: DataLoader(TensorDataset(*images()), batch_sampler=Batches()),
    "NumPy's newer one, held by the data": holding(np.random.default_rng, "normal"),
    "NumPy's older one, held by the data": holding(np.random.RandomState, "normal"),
    "Python's, held by the data": holding(random.Random, "gauss"),
    "a transform's, in a subset": lambda: DataLoader(Subset(Transformed(Jitter()), range(61)), batch_size=8),
    "one of several transforms', in joined data": lambda: DataLoader(
        ConcatDataset([Transformed(Composed(abs, Jitter())), Transformed(abs)]), batch_size=8
    ),
}


@pytest.fixture
def seeded():
    """A function that seeds the generators of this process, which are as before afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002

    def seed():
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        torch.manual_seed(3)

    with torch.random.fork_rng():
        yield seed
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002


@pytest.mark.parametrize("whose", DRAWING)
def test_every_generator_is_wound_back_for_each_pass_and_afterwards(seeded, whose):
    seeded()
    plain = DRAWING[whose]()
    expected, later = ([x for x, _ in plain] for _ in range(2))
    seeded()
    data = DRAWING[whose]()
    with same_draws(
        data
    ) as begin:  # not measure_model, for what checks its types in a test draws from Python's too
        next(begin())
        passes = [[x for x, _ in begin()] for _ in range(2)]
    for found in (*passes, [x for x, _ in data]):
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    # Control: otherwise each pass draws anew.
    assert not torch.equal(expected[0], later[0])


def test_a_measurement_draws_nothing(model, seeded):
    def drawn_after(measured):
        seeded()
        data = DRAWING["NumPy's"]()
        if measured:
            measure_model(model, data, classes=CLASSES)
        return next(iter(data))[0]

    assert torch.equal(drawn_after(True), drawn_after(False))
    assert not torch.equal(drawn_after(False), next(iter(DRAWING["NumPy's"]()))[0])


def test_a_generator_of_the_system_which_has_no_state_is_let_be(model):
    system = random.SystemRandom()
    data = DataLoader(Holding(system, lambda _: 0.0), batch_size=8)
    expected = measure_model(model, loader(shuffle=False), classes=CLASSES)
    assert measure_model(model, data, classes=CLASSES) == expected


# What `train` and `eval` do besides setting a flag


class Merging(nn.Linear):
    """A layer with a low-rank update, which eval mode adds to its weight and train mode takes out again."""

    def __init__(self, d, K):
        super().__init__(d, K)
        self.A, self.B = nn.Parameter(torch.randn(2, d)), nn.Parameter(torch.randn(K, 2))
        self.merged = False

    def train(self, mode=True):
        if mode is self.merged:
            with torch.no_grad():
                self.weight.add_(self.B @ self.A, alpha=-1 if mode else 1)
            self.merged = not mode
        return super().train(mode)

    def forward(self, h):
        out = super().forward(h)
        return out if self.merged else out + h @ self.A.T @ self.B.T


class Frozen(nn.Sequential):
    """Its batch normalisation stays in eval mode."""

    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


class Adapted(ConvNet):
    def __init__(self, d=5, K=3):
        super().__init__(d, K)
        self.stem = Frozen(*self.stem)
        self.attention = Merging(d, d)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_what_eval_mode_merges_is_taken_apart_again_where_it_was(fails, frozen):
    model = trained_a_little(kind=Adapted).train()
    model.attention.train(not frozen)
    before = model.attention.weight.detach().clone()
    modes = {name: module.training for name, module in model.named_modules()}
    logits = model.eval()(images()[0])
    model.train()
    model.attention.train(not frozen)
    measure_or_fail(model, fails)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert not model.stem[1].training and model.training
    assert model.attention.merged is frozen
    torch.testing.assert_close(model.attention.weight, before)
    torch.testing.assert_close(model.eval()(images()[0]), logits)
    # Control: with the flag alone the update stays in the weight.
    model.attention.train()
    apart = model.attention.weight.detach().clone()
    for module in model.attention.eval().modules():
        module.training = True
    assert_far_from_zero((model.attention.weight.detach() - apart).abs().max())


class Fused(ConvNet):
    """Eval mode computes with weights that it puts together once."""

    fused = None

    def train(self, mode=True):
        super().train(mode)
        self.fused = None if mode else self.attention.weight + torch.eye(5, dtype=torch.float64)
        return self

    def body(self, x):
        h = self.stem(x).mean((2, 3))
        return F.linear(h, self.fused) if self.fused is not None else self.attention(h) + h


def test_weights_that_eval_mode_fuses_are_trained_on_after_a_measurement():
    model = trained_a_little(kind=Fused).train()
    watch = nclib.Trajectory(model, loader(), classes=CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    found = []
    for epoch in range(2):
        found.append(watch.measure(epoch)["train"]["loss"])
        assert model.fused is None
        optimizer.zero_grad()
        F.cross_entropy(model(images()[0]), torch.searchsorted(LABELS, images()[1])).backward()
        assert_far_from_zero(model.attention.weight.grad.abs().max())
        optimizer.step()
    assert_far_from_zero(abs(found[1] - found[0]))


def test_modes_are_put_back_where_eval_fails_half_way(model):
    def refuse(mode=True):
        raise NotImplementedError("no eval mode")

    model.dropout.train = refuse
    with pytest.raises(NotImplementedError, match="no eval mode"), in_eval_mode(model):
        pass
    assert all(module.training for module in model.modules())


# Compiled code, and replicas


class Around(nn.Module):
    """A network that has another one inside."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return self.inside(x)


def counting(compiled):
    """A backend that computes as written, and counts what it is given to compile."""

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    return backend


@pytest.fixture
def compiled():
    """What was compiled, in order; nothing of it is left afterwards."""
    yield []
    torch._dynamo.reset()


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("named", [None, "fc"])
def test_a_model_that_is_compiled_in_place_is_measured_as_it_is_written(model, compiled, used, named):
    expected = measure_model(model, loader(), classes=CLASSES)
    x = images()[0][:8]
    model.eval().compile(backend=counting(compiled))
    with torch.no_grad():
        if used:
            model(x)
        graphs = len(compiled)
        for _ in range(2):
            assert measure_model(model, loader(), classes=CLASSES, classifier=named) == expected
        assert len(compiled) == graphs and bool(graphs) is used
        model(x)
    assert len(compiled) == 1, "once, before a measurement or after it"


def test_a_compiled_network_inside_another_one_is_measured(model, compiled):
    model.eval()
    around = Around(torch.compile(model, backend=counting(compiled)))
    with torch.no_grad():
        around(images()[0][:8])
    expected = measure_model(model, loader(), classes=CLASSES)
    assert measure_model(around, loader(), classes=CLASSES) == expected
    watch = nclib.Trajectory(around, loader(), classes=CLASSES, layers=["inside._orig_mod.stem"])
    watch.measure(0)
    assert set(watch.table.layer) == {"inside._orig_mod.stem", "features"}
    # Control: a hook of later is not called from what was compiled before.
    seen = []
    model.fc.register_forward_pre_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        around(images()[0][:8])
        assert compiled and not seen
        model(images()[0][:8])
    assert seen


class OnTwo(nn.DataParallel):
    """As on two devices, which are one here: every call is of replicas, on half of the batch each."""

    def __init__(self, module):
        super().__init__(module, device_ids=[])
        self.device_ids, self.output_device = [0, 1], 0
        self.src_device_obj = torch.device("cpu")

    def scatter(self, inputs, kwargs, device_ids):
        return [(half,) for half in inputs[0].chunk(len(device_ids))], [kwargs] * len(device_ids)

    def replicate(self, module, device_ids):
        return [self._replica(module) for _ in device_ids]

    def _replica(self, module):
        replica = module._replicate_for_data_parallel()
        for name, child in module._modules.items():
            replica._modules[name] = self._replica(child)
        for name, parameter in module._parameters.items():
            setattr(replica, name, None if parameter is None else parameter.detach())
        return replica

    def parallel_apply(self, replicas, inputs, kwargs):
        return [replica(*given) for replica, given in zip(replicas, inputs, strict=True)]

    def gather(self, outputs, output_device):
        return torch.cat(outputs)


@pytest.mark.parametrize("named", [None, "module.fc"])
def test_what_data_parallel_wraps_is_measured_itself(model, named):
    expected = measure_model(model, loader(), classes=CLASSES)
    parallel = OnTwo(model)
    assert measure_model(parallel, loader(), classifier=named, classes=CLASSES) == expected
    watch = nclib.Trajectory(parallel, loader(), classes=CLASSES, classifier=named, layers=["module.stem"])
    watch.measure(0)
    assert set(watch.table.layer) == {"module.stem", "features"}
    assert parallel.device_ids == [0, 1]
    # Control: what a hook is given is a replica, twice.
    seen = []
    model.fc.register_forward_pre_hook(lambda module, _: seen.append(module))
    assert len(parallel(images()[0])) == 61
    assert len(seen) == 2 and model.fc not in seen


@pytest.fixture
def alone(tmp_path):
    """A process group of this process."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("named", [None, "module.fc"])
def test_what_is_distributed_is_measured_in_one_process_without_the_others(alone, monkeypatch, model, named):
    expected = measure_model(model, loader(), classes=CLASSES)
    distributed = nn.parallel.DistributedDataParallel(model)
    waited = []
    monkeypatch.setattr(distributed, "_sync_buffers", lambda: waited.append(1))
    assert measure_model(distributed, loader(), classifier=named, classes=CLASSES) == expected
    assert not waited
    # Control: otherwise it waits for the others in every pass, in eval mode and without gradients too.
    distributed.eval()
    with torch.no_grad():
        distributed(images()[0][:8])
    assert waited and "forward" not in vars(distributed)
    # A `forward` set on the object is its own again.
    distributed.forward = own = lambda x: distributed.module(x)
    assert measure_model(distributed, loader(), classifier=named, classes=CLASSES) == expected
    assert distributed.forward is own


def test_a_classifier_whose_output_is_not_seen_is_one_clear_line(model, monkeypatch):
    class Caught(ConvNet):
        def forward(self, x):
            h = self.body(x)
            try:
                return self.fc(h)
            except RuntimeError:
                return h[:, :3]

    model = trained_a_little(kind=Caught)
    expected = measure_model(trained_a_little(), loader(), classes=CLASSES)
    assert measure_model(model, loader(), classifier="fc", classes=CLASSES) == expected

    def fail(_):
        raise RuntimeError("lost")

    monkeypatch.setattr(model.fc, "forward", fail)
    with pytest.raises(ValueError, match="its output is not seen: call it as a module") as error:
        measure_model(model, loader(), classifier="fc", classes=CLASSES)
    assert "\n" not in str(error.value)


# Memory, and types


def test_more_features_than_a_scatter_matrix_is_kept_of_are_refused(model, monkeypatch):
    expected = measure_model(model, loader(), classes=CLASSES)
    monkeypatch.setattr(measuring, "LARGEST", 5)
    assert measure_model(model, loader(), classes=CLASSES) == expected
    monkeypatch.setattr(measuring, "LARGEST", 4)
    for named in (None, "fc"):
        with pytest.raises(
            ValueError, match=r"given 5 features, .* of at most 4: take .* nclib.measure_features"
        ):
            measure_model(model, loader(), classes=CLASSES, classifier=named)


def test_sums_of_statistics_leave_what_they_are_of_and_take_one_matrix():
    a, b = (ClassStats.of(normal(20, 5, seed=seed), torch.arange(20) % 3, 3) for seed in (1, 2))
    before = a.S_W.clone(), b.S_W.clone()
    both = a + b
    assert torch.equal(a.S_W, before[0]) and torch.equal(b.S_W, before[1])
    torch.testing.assert_close(both.S_W, both.S_W.T)
    delta = b.mu - a.mu
    between = a.n * b.n / (a.n + b.n)
    torch.testing.assert_close(both.S_W, a.S_W + b.S_W + (delta * between[:, None]).T @ delta)
    assert_far_from_zero((both.S_W - a.S_W - b.S_W).abs().max())


class Pair(NamedTuple):
    one: object
    other: object


class ByName(ConvNet):
    """A model of a pair, whose entries it asks for by name."""

    def forward(self, pair):
        return super().forward(pair.one + pair.other)


class Recurrent(nn.Module):
    """A model of sequences of unequal length."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.fc = nn.Linear(5, 3)

    def forward(self, sequences):
        return self.fc(self.gru(sequences)[1][-1])


def test_a_named_tuple_keeps_its_names(model):
    x, y = images()
    by_name = ByName().double()
    by_name.load_state_dict(model.state_dict())
    expected = measure_model(model, loader(3 * x, y), classes=CLASSES)
    for inputs in ((Pair(x, 2 * x),), {"pair": Pair(x.numpy(), 2 * x)}, [Pair(x, 2 * x)]):
        found = measure_model(by_name, [(inputs, y)], classes=CLASSES)
        assert found == pytest.approx(expected)
    two = [((x, 2 * x), y)]  # Control: a plain tuple is two arguments.
    with pytest.raises(TypeError, match="positional arguments"):
        measure_model(by_name, two, classes=CLASSES)


def test_packed_sequences_reach_the_model_in_one_piece():
    x, y = images()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Recurrent().double().eval()
    lengths = 1 + torch.arange(61) % 6
    packed = pack_padded_sequence(x[:, 0], lengths, batch_first=True, enforce_sorted=False)
    with torch.no_grad():
        H = torch.stack(
            [model.gru(row[None, :length])[1][0, 0] for row, length in zip(x[:, 0], lengths, strict=True)]
        )
    expected = nclib.measure_features(H, torch.searchsorted(LABELS, y), model.fc.weight, model.fc.bias)
    for inputs in (packed, (packed,), {"sequences": packed}):
        batch = inputs | {"labels": y} if isinstance(inputs, dict) else (inputs, y)
        found = measure_model(model, [batch], classes=CLASSES)
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    whole = measure_model(model, [(x[:, 0], y)], classes=CLASSES)  # Control: the lengths matter.
    assert_far_from_zero(abs(whole["loss"] - found["loss"]))
