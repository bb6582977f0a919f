"""Training: measuring changes nothing, a kill changes nothing, and optimisers do what their names say."""

import math
from itertools import chain, pairwise

import pytest
import torch
from torch import nn

from nclib.training import (
    OPTIMIZERS,
    SCHEDULES,
    Checkpoint,
    Diverged,
    learning_rate_factor,
    learning_rates,
    log_spaced,
    make_optimizer,
    train,
)

EPOCHS = 7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(d, k, kind=nn.Linear):
    """A layer that drew nothing from the global generator."""
    return nn.utils.skip_init(kind, d, k)


def fill(model, seed=0):
    generator = seeded(seed)
    for p in model.parameters():
        with torch.no_grad():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) / 3)
    return model


def network():
    """Batch normalisation and dropout: state and noise of their own, the two things a measurement could disturb."""
    parts = (linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), linear(8, 3))
    return fill(nn.Sequential(*parts))


X = torch.randn(22, 5, generator=seeded(1))
Y = torch.arange(22) % 3


def training(
    model, *, optimizer="sgd", schedule="cosine", pauses=(), generator=None, checkpoint=None, **more
):
    options = {"epochs": EPOCHS, "batch_size": 8} | more
    built = make_optimizer(model, optimizer, lr=0.05, weight_decay=1e-2)
    yield from train(
        model, X, Y, optimizer=built, schedule=schedule, generator=generator or seeded(2),
        pauses=pauses, checkpoint=checkpoint, **options,
    )  # fmt: skip


def trained(**options):
    model = network()
    for _ in training(model, **options):
        pass
    return model.state_dict()


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


# The generator and its pauses


def test_pauses_are_yielded_in_order_once_each():
    assert list(training(network(), pauses={0, 1, 3, EPOCHS, EPOCHS + 5})) == [0, 1, 3, EPOCHS]
    assert list(training(network(), pauses=())) == []


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_measuring_more_often_leaves_the_final_weights_bit_identical(optimizer):
    never = trained(optimizer=optimizer)
    model = network()
    for _ in training(model, optimizer=optimizer, pauses=range(EPOCHS + 1)):
        model.eval()
        with torch.random.fork_rng():
            torch.manual_seed(99)
            model(X)
    assert same(model.state_dict(), never)
    assert int(never["1.num_batches_tracked"]) == EPOCHS * 3


def test_the_control_training_elsewise_gives_other_weights():
    ours = trained()
    assert not same(ours, trained(generator=seeded(3)))
    assert not same(ours, trained(epochs=EPOCHS - 1))
    assert same(ours, trained())


def test_noise_of_dropout_is_owned_by_the_generator_and_not_by_the_global_stream():
    first = trained()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert same(trained(), first)
    # The same order and another noise: only through the generator.
    assert not same(trained(batch_size=22), trained(batch_size=22, generator=seeded(3)))


def test_no_global_random_number_is_consumed():
    before = torch.get_rng_state()
    for _ in training(network(), pauses=(1, EPOCHS)):
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_sample_is_seen_once_an_epoch_in_an_order_that_changes():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.append(x[:, 0].tolist())
            return super().forward(x)

    for _ in training(fill(linear(5, 3, Spy)), epochs=2):
        pass
    first, second = list(chain(*seen[:3])), list(chain(*seen[3:]))
    assert [len(batch) for batch in seen] == [8, 8, 6] * 2
    assert sorted(first) == sorted(second) == sorted(X[:, 0].tolist())
    assert first != second


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "expected"),
    [(8, True, [8, 8]), (8, False, [8, 8, 6]), (11, True, [11, 11]), (22, True, [22]), (30, True, [22])],
)
def test_drop_last_drops_only_an_incomplete_batch(batch_size, drop_last, expected):
    sizes = []
    model = network()
    model.register_forward_hook(lambda m, given, out: sizes.append(len(given[0])))
    for _ in training(model, epochs=1, batch_size=batch_size, drop_last=drop_last):
        pass
    assert sizes == expected


# Checkpoints


class Killed(Exception):
    pass


def interrupted(path, at, optimizer):
    """Train with a checkpoint after every epoch, and be killed while measuring epoch `at`."""
    model = network()
    checkpoint = Checkpoint(path, every=0.0)
    seen = checkpoint.setdefault("seen", [])
    with pytest.raises(Killed):
        for epoch in training(model, optimizer=optimizer, pauses=range(EPOCHS + 1), checkpoint=checkpoint):
            if epoch == at:
                raise Killed
            seen.append(epoch)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("at", [3, EPOCHS])
def test_resuming_is_bit_exact(tmp_path, optimizer, at):
    path = tmp_path / "checkpoint.pt"
    interrupted(path, at, optimizer)
    model = network()
    fill(model, seed=8)  # whatever it was before, the checkpoint decides
    generator = seeded(77)
    checkpoint = Checkpoint(path, every=0.0)
    seen = checkpoint["seen"]
    assert seen == list(range(at))
    for epoch in training(
        model, optimizer=optimizer, pauses=range(EPOCHS + 1), generator=generator, checkpoint=checkpoint
    ):
        seen.append(epoch)
    assert seen == list(range(EPOCHS + 1))
    assert same(model.state_dict(), trained(optimizer=optimizer))


def test_a_finished_checkpoint_trains_no_further(tmp_path):
    path = tmp_path / "checkpoint.pt"
    model = network()
    list(training(model, checkpoint=Checkpoint(path)))
    again = network()
    assert list(training(again, pauses=range(EPOCHS + 1), checkpoint=Checkpoint(path))) == []
    assert same(again.state_dict(), model.state_dict())


def test_lbfgs_resumes_bit_exactly(tmp_path):
    x, y = X.double(), Y
    results = []
    for stop in (None, 2):
        path = tmp_path / f"{stop}.pt"
        for _ in range(1 if stop is None else 2):
            model = fill(linear(5, 3).double())
            optimizer = make_optimizer(model, "lbfgs", lr=1.0, weight_decay=1e-3)
            for epoch in train(
                model, x, y, optimizer=optimizer, schedule="constant", epochs=4, batch_size=99,
                generator=seeded(), pauses=range(5), checkpoint=Checkpoint(path, every=0.0),
            ):  # fmt: skip
                if epoch == stop:
                    stop = None
                    break
        results.append(model.state_dict())
    assert same(*results)


def test_a_time_between_checkpoints_that_is_no_number_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("NCLIB_CHECKPOINT_SECONDS", "often")
    with pytest.raises(ValueError, match=r"^NCLIB_CHECKPOINT_SECONDS is a number of seconds, got 'often'$"):
        Checkpoint(tmp_path / "checkpoint.pt")


def test_a_damaged_checkpoint_is_set_aside_and_the_work_starts_over(tmp_path):
    path = tmp_path / "checkpoint.pt"
    interrupted(path, 5, "sgd")
    path.write_bytes(path.read_bytes()[:200])
    checkpoint = Checkpoint(path)
    assert dict(checkpoint) == {}
    assert (tmp_path / "checkpoint.damaged").exists()
    assert not path.exists()
    model = network()
    assert list(training(model, pauses=(0, EPOCHS), checkpoint=checkpoint)) == [0, EPOCHS]
    assert same(model.state_dict(), trained())


def test_a_checkpoint_is_written_when_due_and_after_the_last_epoch(tmp_path):
    path = tmp_path / "checkpoint.pt"
    present = [
        path.exists() for _ in training(network(), pauses=range(EPOCHS + 1), checkpoint=Checkpoint(path))
    ]
    assert present == [False] * (EPOCHS + 1)
    assert Checkpoint(path)["training"]["epoch"] == EPOCHS


def test_a_checkpoint_adds_up_the_seconds_of_all_sessions(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint = Checkpoint(path)
    checkpoint._begun -= 100
    checkpoint.save()
    again = Checkpoint(path)
    again._begun -= 20
    again.save()
    assert float((tmp_path / "seconds").read_text()) == pytest.approx(120, abs=5)
    assert [p.name for p in tmp_path.glob("*.tmp")] == []


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint = Checkpoint(path)
    checkpoint["rows"] = [1]
    checkpoint.save()
    checkpoint["rows"] = [1, lambda: None]
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save()
    assert Checkpoint(path)["rows"] == [1]


# Divergence and bad input


def test_divergence_names_the_epoch_and_the_learning_rate():
    model = network()
    optimizer = make_optimizer(model, "sgd", lr=0.5, weight_decay=0.0)
    with torch.no_grad():
        model[0].weight.fill_(math.nan)
    steps = train(
        model,
        X,
        Y,
        optimizer=optimizer,
        schedule="step",
        epochs=6,
        batch_size=8,
        generator=seeded(),
        pauses=(),
    )
    with pytest.raises(Diverged, match=r"nan in epoch 1 at learning rate 0\.5"):
        list(steps)


def test_divergence_reports_the_rate_of_its_own_epoch():
    model = network()
    optimizer = make_optimizer(model, "sgd", lr=0.5, weight_decay=0.0)
    for epoch in (
        steps := train(
            model, X, Y, optimizer=optimizer, schedule="step", epochs=6, batch_size=8,
            generator=seeded(), pauses=(3,),
        )
    ):  # fmt: skip
        assert epoch == 3
        with torch.no_grad():
            model[4].bias.fill_(math.inf)
        break
    with pytest.raises(Diverged, match=r"epoch 4 at learning rate 0\.05"):
        list(steps)


def test_unknown_names_are_refused_with_those_known():
    with pytest.raises(ValueError, match="unknown optimizer 'sdg': choose one of sgd, adam"):
        make_optimizer(network(), "sdg", lr=0.1, weight_decay=0.0)
    with pytest.raises(ValueError, match="unknown schedule 'linear': choose one of constant, step, cosine"):
        learning_rate_factor("linear", 10)
    with pytest.raises(ValueError, match=r"name each trainable parameter once; check 0\.wieght"):
        decay = {name: 0.0 for name, _ in network().named_parameters()} | {"0.wieght": 0.1}
        make_optimizer(network(), "sgd", lr=0.1, weight_decay=decay)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_and_schedule_lowers_the_loss(optimizer, schedule):
    model = fill(linear(5, 3))

    def loss():
        return float(nn.functional.cross_entropy(model(X), Y).detach())

    before = loss()
    size = 99 if optimizer == "lbfgs" else 8
    list(training(model, optimizer=optimizer, schedule=schedule, batch_size=size))
    assert loss() < before


# Schedules


def rates(schedule, epochs):
    """The learning rate of each epoch as the optimiser really has it."""
    model = fill(linear(5, 3))
    optimizer = make_optimizer(model, "sgd", lr=0.5, weight_decay={"weight": 0.1, "bias": 0.0})
    groups = optimizer.param_groups
    seen = []
    for _ in train(
        model, X, Y, optimizer=optimizer, schedule=schedule, epochs=epochs, batch_size=99,
        generator=seeded(), pauses=range(1, epochs + 1),
    ):  # fmt: skip
        assert groups[0]["lr"] == groups[1]["lr"]
        seen.append(groups[0]["lr"])
    return seen


def test_the_step_schedule_drops_at_epochs_116_and_233_of_350():
    factor = learning_rate_factor("step", 350)
    values = [factor(t) for t in range(350)]
    assert values[:116] == [1.0] * 116
    assert values[116:233] == [pytest.approx(0.1, rel=1e-15)] * 117
    assert values[233:] == [pytest.approx(0.01, rel=1e-15)] * 117


def test_the_optimizer_gets_the_scheduled_rate_in_every_group():
    assert rates("step", 6) == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005], rel=1e-14)
    assert rates("constant", 4) == [0.5] * 4
    half = math.sqrt(0.5) / 2
    assert rates("cosine", 4) == pytest.approx([0.5, 0.25 + half / 2, 0.25, 0.25 - half / 2], rel=1e-14)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_the_rates_of_every_step_are_those_that_a_run_has(schedule):
    assert learning_rates(0.5, schedule, 6, 3)[::3] == pytest.approx(rates(schedule, 6), rel=1e-14)
    assert learning_rates(0.5, schedule, 6, 3)[2::3] == learning_rates(0.5, schedule, 6, 1)


def test_the_cosine_schedule_starts_at_one_and_would_end_at_zero():
    factor = learning_rate_factor("cosine", 300)
    assert factor(0) == 1.0
    assert factor(150) == pytest.approx(0.5)
    assert factor(300) == pytest.approx(0.0, abs=1e-15)
    assert all(factor(t) > factor(t + 1) for t in range(300))


@pytest.mark.parametrize(
    ("last", "count"), [(1, 2), (5, 9), (75, 26), (300, 10), (350, 50), (6000, 30), (27, 26)]
)
def test_log_spaced_epochs_are_distinct_increasing_and_reach_both_ends(last, count):
    epochs = log_spaced(last, count)
    assert epochs[0] == 1
    assert epochs[-1] == last
    assert list(epochs) == sorted(set(epochs))
    assert len(epochs) >= min(last, count)
    if (
        last > 4 * count
    ):  # room enough to be even: no ratio exceeds twice the ideal one, past the small numbers
        ideal = last ** (1 / (count - 1))
        assert all(b / a <= max(ideal**1.5, 2.0) for a, b in pairwise(epochs[2:]))


def test_log_spaced_takes_every_epoch_when_there_are_few_and_refuses_none():
    assert log_spaced(4, 9) == (1, 2, 3, 4)
    for last, count in ((0, 5), (5, 1)):
        with pytest.raises(ValueError, match="last >= 1 and count >= 2"):
            log_spaced(last, count)


# What weight decay means, by hand on one weight


class OneWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))

    def forward(self, x):
        return x * self.w


def one_epoch(name, lr=0.1, decay=0.5, epochs=1, **more):
    """w = 2 after `epochs` full-batch steps on the loss 3 w."""
    model = OneWeight()
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1)
    optimizer = make_optimizer(model, name, lr=lr, weight_decay=decay, **more)
    for _ in train(
        model, x, y, optimizer=optimizer, schedule="constant", epochs=epochs, batch_size=1, generator=seeded(),
        pauses=(), loss=lambda out, _: 3 * out.sum(),
    ):  # fmt: skip
        pass
    return float(model.w.detach())


def test_sgd_couples_decay_to_the_gradient_and_has_momentum():
    assert one_epoch("sgd") == pytest.approx(2 - 0.1 * (3 + 0.5 * 2), rel=1e-12)
    first = 2 - 0.1 * 4.0
    velocity = 0.9 * 4.0 + (3 + 0.5 * first)
    assert one_epoch("sgd", epochs=2) == pytest.approx(first - 0.1 * velocity, rel=1e-12)
    assert one_epoch("sgd", epochs=2, momentum=0.0) == pytest.approx(
        first - 0.1 * (3 + 0.5 * first), rel=1e-12
    )


def test_adam_couples_decay_to_the_gradient_and_adamw_does_not():
    # Adam's first step is lr g/|g|: a coupled decay disappears in the normalisation, a decoupled one does not.
    assert one_epoch("adam") == pytest.approx(2 - 0.1, rel=1e-7)
    assert one_epoch("adamw") == pytest.approx(2 * (1 - 0.1 * 0.5) - 0.1, rel=1e-7)
    first, g1 = 1.9, 3 + 0.5 * 2
    g2 = 3 + 0.5 * first
    m = (0.9 * 0.1 * g1 + 0.1 * g2) / (1 - 0.9**2)
    v = (0.999 * 0.001 * g1**2 + 0.001 * g2**2) / (1 - 0.999**2)
    assert one_epoch("adam", epochs=2) == pytest.approx(first - 0.1 * m / math.sqrt(v), rel=1e-7)


def test_lbfgs_minimises_the_loss_with_the_penalty_the_others_call_decay():
    # argmin 3 w + 0.5/2 w^2 = -6; without the penalty there is no minimum.
    assert one_epoch("lbfgs", lr=1.0, epochs=3) == pytest.approx(-6.0, rel=1e-9)


def test_decay_by_name_reaches_only_the_parameter_it_names():
    model = fill(linear(5, 3).double())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, "sgd", lr=0.1, weight_decay={"weight": 0.5, "bias": 0.0})
    for _ in train(
        model, X.double(), Y, optimizer=optimizer, schedule="constant", epochs=1, batch_size=99,
        generator=seeded(), pauses=(), loss=lambda out, _: 0.0 * out.sum(),
    ):  # fmt: skip
        pass
    assert torch.allclose(model.weight, before["weight"] * 0.95, rtol=1e-12, atol=0)
    assert torch.equal(model.bias, before["bias"])
