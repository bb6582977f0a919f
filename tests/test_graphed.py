"""Graphed steps: the numbers of the steps they stand for, and a plain step where a graph would be wrong.

What needs a GPU is skipped without one. The rest replaces the two functions that touch CUDA by stand-ins.
"""

import pytest
import torch
from torch import nn

from nclib import graphed, measure_model, models
from nclib.measure import Split, measure, pooled_layers
from nclib.training import Checkpoint, make_optimizer, train

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
N, B = 70, 16
X = torch.randn(N, 1, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(N) % 5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(width=4):
    return models.build("resnet18", num_classes=5, width=width, generator=seeded())


def linear(extra=None):
    """A linear classifier, `extra` before it."""
    layers = [nn.Flatten(), *([extra] if extra else []), nn.utils.skip_init(nn.Linear, 64, 5)]
    with torch.no_grad():
        layers[-1].weight.copy_(torch.randn(5, 64, generator=seeded(3)) / 8)
        layers[-1].bias.zero_()
    return nn.Sequential(*layers)


def training(model, *, device="cpu", optimizer="sgd", schedule="step", epochs=4, **more):
    model.to(device)
    x, y = X.to(device, next(model.parameters()).dtype), Y.to(device)
    built = make_optimizer(model, optimizer, lr=0.05, weight_decay=1e-3)
    options = {"batch_size": B, "pauses": (), "generator": seeded(2)} | more
    yield from train(model, x, y, optimizer=built, schedule=schedule, epochs=epochs, **options)


def trained(model, **options):
    for _ in training(model, **options):
        pass
    return {name: value.detach().cpu() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Without a GPU: which batches are replayed, and with what result


def stand_in(monkeypatch, model, refuses=None):
    """Instead of CUDA: the same work again, into the same memory. Returns a list of what is done how."""
    done = []

    def beside(work, device):
        done.append("beside")
        return work()

    def captured(work, device):
        if refuses:
            raise RuntimeError(f"{refuses}\nand more")
        result = work()
        gradients = [p.grad for p in model.parameters()]

        def replay():
            done.append("replay")
            found = [p.grad for p in model.parameters()]
            result.copy_(work())
            for p, gradient, before in zip(model.parameters(), gradients, found, strict=True):
                gradient.copy_(p.grad)
                p.grad = before  # a replay writes to memory and knows nothing of Python

        return replay, result

    monkeypatch.setattr(graphed, "beside", beside)
    monkeypatch.setattr(graphed, "captured", captured)
    monkeypatch.setattr(graphed, "_random_state", lambda device: (torch.get_rng_state(),))
    return done


SIZES = (16, 16, 16, 16, 6, 16, 16, 6, 16)


def steps(model, *, graph, sizes=SIZES):
    """Losses of SGD steps on batches of these sizes, and the weights afterwards."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def backward(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss.detach()

    step = graphed.Replayed(backward, optimizer) if graph else backward
    losses = []
    for i, size in enumerate(sizes):
        at = torch.arange(5 * i, 5 * i + size) % N
        losses.append(float(step(X[at], Y[at])))
        optimizer.step()
    return losses, {name: p.detach() for name, p in model.named_parameters()}


def test_replayed_steps_are_the_steps_themselves(monkeypatch, capsys):
    expected, weights = steps(linear(), graph=False)
    model = linear()
    done = stand_in(monkeypatch, model)
    losses, ours = steps(model, graph=True)
    assert losses == expected
    assert same(ours, weights)
    assert len(set(losses)) == len(losses)  # no loss is left over from another batch
    assert done == ["beside"] * graphed.WARM_UP + ["replay"] * 4  # and the two small batches as they come
    assert capsys.readouterr().err == ""


def test_a_network_that_draws_random_numbers_is_not_replayed(monkeypatch, capsys):
    model = linear(nn.Dropout(0.5))
    done = stand_in(monkeypatch, model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        losses, ours = steps(model, graph=True)
        torch.manual_seed(0)
        expected, weights = steps(linear(nn.Dropout(0.5)), graph=False)
    assert "replay" not in done
    assert losses == expected and same(ours, weights)
    said = capsys.readouterr().err
    assert said == "nclib: training without a CUDA graph: the network draws random numbers\n"


def test_a_capture_that_is_refused_costs_one_line(monkeypatch, capsys):
    model = linear()
    done = stand_in(monkeypatch, model, refuses="operation not permitted when stream is capturing")
    losses, ours = steps(model, graph=True)
    expected, weights = steps(linear(), graph=False)
    assert losses == expected and same(ours, weights)
    assert "replay" not in done
    said = capsys.readouterr().err
    assert said == (
        "nclib: training without a CUDA graph: operation not permitted when stream is capturing\n"
    )


def test_on_a_cpu_nothing_is_captured(monkeypatch):
    done = stand_in(monkeypatch, model := network())
    trained(model, epochs=1)
    assert done == []


# Without a GPU: settings and memory orders


def flags():
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32


@pytest.mark.parametrize("allowed", [True, False])
def test_fast_convolutions_are_for_training_only(allowed):
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
        before = flags()
        with graphed.fast_convolutions():
            assert flags() == (True, True, True, True)
        assert flags() == before
        with pytest.raises(KeyError), graphed.fast_convolutions():
            raise KeyError
        assert flags() == before


class Witness(nn.Identity):
    """Notes whether convolutions may use TF32 whenever something passes."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, x):
        self.seen.append(torch.backends.cudnn.allow_tf32)
        return x


def test_measuring_never_uses_tf32():
    seen, model = [], network()
    model.trunk.stem[0] = Witness(seen)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        list(measure(model, Split("train", X, {"clean": Y}), num_classes=5))
        pooled_layers(model, X)
        measure_model(model, [(X, Y)])
        assert seen and not any(seen)
        seen.clear()
        model(X)
    assert seen == [True]


def test_nothing_is_compiled_unless_asked_for(monkeypatch):
    model, other = network(), network()
    monkeypatch.setattr(torch, "compile", lambda given, dynamic: other if given is model else None)
    monkeypatch.delenv("NCLIB_COMPILE", raising=False)
    assert graphed.compiled(model) is model
    monkeypatch.setenv("NCLIB_COMPILE", "1")
    assert graphed.compiled(model) is other


def test_channels_last_changes_the_order_of_weights_and_nothing_else():
    model = network()
    held, values = dict(model.named_parameters()), trained_values(model)
    graphed.channels_last(model)
    assert all(p is held[name] for name, p in model.named_parameters())
    assert same(trained_values(model), values)
    weight = model.trunk.stage1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def trained_values(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_checkpoint_is_resumed_whatever_the_memory_order_of_its_convolutions(tmp_path, optimizer):
    whole = trained(network().double(), optimizer=optimizer)
    for first, second in ((True, False), (False, True)):
        path = tmp_path / f"{first}.pt"
        for order, pauses in ((first, (2,)), (second, ())):
            model = network().double()
            if order:
                graphed.channels_last(model)
            checkpoint = Checkpoint(path, every=0.0)
            for epoch in training(model, optimizer=optimizer, pauses=pauses, checkpoint=checkpoint):
                assert epoch == 2
                break
            if pauses:
                assert checkpoint["training"]["epoch"] == 1
        resumed = model.state_dict()
        for name, value in whole.items():
            torch.testing.assert_close(resumed[name], value, rtol=1e-7, atol=1e-9, msg=name)


# With a GPU


def plainly(monkeypatch):
    """Have every step done as it comes."""
    monkeypatch.setattr(graphed, "Replayed", lambda backward, optimizer: backward)


@needs_gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["step", "cosine"])
@pytest.mark.parametrize("drop_last", [True, False])
def test_on_a_gpu_replayed_training_is_plain_training(monkeypatch, capsys, optimizer, schedule, drop_last):
    options = {"device": "cuda", "optimizer": optimizer, "schedule": schedule, "drop_last": drop_last}
    ours = trained(network().double(), **options)
    assert capsys.readouterr().err == ""
    other_rates = trained(network().double(), **(options | {"schedule": "constant"}))
    plainly(monkeypatch)
    plain = trained(network().double(), **options)
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-7, atol=1e-9, msg=name)
    distance = sum(float((other_rates[n] - plain[n]).double().square().sum()) for n in plain if "conv" in n)
    assert distance > 1e-4  # another schedule is seen


@needs_gpu
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_on_a_gpu_resuming_and_pausing_are_bit_exact(tmp_path, autocast):
    options = {"device": "cuda", "autocast": autocast, "drop_last": True}
    whole = trained(network(), **options)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", every=0.0)
    model = network()
    for epoch in training(model, pauses=range(5), checkpoint=checkpoint, **options):
        model.eval()
        pooled_layers(model, X.cuda())
        model.zero_grad(set_to_none=True)
        if epoch == 3:
            break
    again = Checkpoint(tmp_path / "checkpoint.pt")
    assert again["training"]["epoch"] == 2
    assert same(trained(network(), checkpoint=again, **options), whole)
    assert not same(trained(network(), **(options | {"epochs": 3})), whole)


@needs_gpu
def test_on_a_gpu_steps_are_replayed_and_weights_channels_last(monkeypatch):
    replays, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(1), replay(graph)))
    model = network()
    trained(model, device="cuda", epochs=2)
    assert len(replays) == 2 * (N // B) - graphed.WARM_UP
    weight = model.trunk.stage1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.grad.stride() == weight.stride()


class Waits(nn.Module):
    """Asks the GPU for a number, which no graph can hold."""

    def forward(self, x):
        return x * float(x.square().mean().cpu() >= 0)


@needs_gpu
def test_on_a_gpu_what_cannot_be_captured_is_trained_plainly_with_one_line(monkeypatch, capsys):
    ours = trained(linear(Waits()), device="cuda")
    said = capsys.readouterr().err
    assert said.startswith("nclib: training without a CUDA graph: ") and said.count("\n") == 1
    plainly(monkeypatch)
    plain = trained(linear(Waits()), device="cuda")
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(torch.ones(3, device="cuda").sum())  # CUDA is still in order


@needs_gpu
def test_on_a_gpu_dropout_is_trained_plainly(capsys):
    first = trained(linear(nn.Dropout(0.5)), device="cuda")
    assert "draws random numbers" in capsys.readouterr().err
    assert same(trained(linear(nn.Dropout(0.5)), device="cuda"), first)


@needs_gpu
def test_on_a_gpu_lbfgs_trains_as_ever(capsys):
    model = linear().double()
    x, y = X.double().cuda(), Y.cuda()
    optimizer = make_optimizer(model.cuda(), "lbfgs", lr=1.0, weight_decay=1e-3)
    before = float(nn.functional.cross_entropy(model(x), y))
    for _ in train(
        model, x, y, optimizer=optimizer, schedule="constant", epochs=3, batch_size=N, generator=seeded(),
        pauses=(),
    ):  # fmt: skip
        pass
    assert float(nn.functional.cross_entropy(model(x), y)) < before
    assert capsys.readouterr().err == ""


@needs_gpu
def test_on_a_gpu_somebody_elses_network_is_measured_without_tf32():
    def measured(model, dtype):
        return measure_model(model.to("cuda", dtype), [(X.to(dtype), Y)])

    exact, precision = measured(network(), torch.float64), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        ours = measured(network(), torch.float32)
        with torch.no_grad():
            rough, model = network().cuda().eval(), network().cuda().double().eval()
            distance = (rough(X.cuda()) - model(X.cuda().double())).abs().max()
    finally:
        torch.set_float32_matmul_precision(precision)
    assert abs(ours["loss"] - exact["loss"]) < 1e-5 * exact["loss"]
    assert distance > 1e-5  # outside, torch goes on as the script wants it
