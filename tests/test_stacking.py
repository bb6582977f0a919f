"""Stacking: networks trained as one computation are each what they are alone, and no neighbour matters."""

import dataclasses
import importlib
from collections import OrderedDict
from functools import partial

import pytest
import torch
from asserts import assert_far_from_zero, assert_vanishes
from samplers import generator, normal
from stacked_networks import (
    CLASSES,
    LENGTH,
    NETWORKS,
    N,
    furthest,
    largest,
    network,
    perturbed,
    samples,
    state_of,
)
from torch import nn

from nclib import tables, training
from nclib.models import UnconstrainedFeatures, build
from nclib.models.network import Network, SpatialMean
from nclib.stacking import side_by_side
from nclib.studies import mnist1d, representations, smoke
from nclib.training import Checkpoint, Diverged, Stopped, make_optimizer, train

engine = importlib.import_module("nclib.stacking.side_by_side")  # as attribute of the package: its function

BATCH, EPOCHS = 8, 4  # the last batch of an epoch has 5 samples
CPU = torch.device("cpu")


# Pieces of work, side by side


@pytest.fixture
def stacks(monkeypatch):
    """How many networks each stack had that was made, in order."""
    sizes = []

    class Counted(engine._Stack):
        def __init__(self, requests):
            sizes.append(len(requests))
            super().__init__(requests)

    monkeypatch.setattr(engine, "_Stack", Counted)
    return sizes


@pytest.fixture(autouse=True)
def nobody_is_asked_to_stop():
    yield
    training.engine._stop.clear()


def work(
    kind="resnet1d",
    seed=0,
    *,
    model=None,
    data=None,
    optimizer="sgd",
    lr=0.05,
    weight_decay=1e-2,
    schedule="cosine",
    epochs=EPOCHS,
    batch_size=BATCH,
    pauses=(),
    body=None,
    **options,
):
    """Train one network as a study does; all that training changes, and what was seen on the way."""
    model = network(kind, seed) if model is None else model
    x, y = samples(seed) if data is None else data
    order = generator(70 + seed)
    built = make_optimizer(model, optimizer, lr=lr, weight_decay=weight_decay)
    state = partial(state_of, model, built)
    seen = {}
    for epoch in train(
        model, x, y, optimizer=built, schedule=schedule, epochs=epochs, batch_size=batch_size,
        generator=order, pauses=pauses, **options,
    ):  # fmt: skip
        assert epoch not in seen
        seen[epoch] = state()
        if body is not None:
            body(epoch, model)
    return state() | {"order": order.get_state()}, seen


def together(*works):
    """The results of works none of which may fail."""
    outcomes = side_by_side(works)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return [outcome.result for outcome in outcomes]


def final(*works):
    """The final states of works side by side."""
    return [state for state, _ in together(*works)]


def test_the_number_of_pieces_may_be_none():
    assert side_by_side([]) == []


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_seed_by_itself_in_a_stack_and_by_autograd_trains_alike(kind, optimizer, stacks):
    works = [partial(work, kind, seed, optimizer=optimizer, pauses=range(EPOCHS + 1)) for seed in range(3)]
    many = together(*works)
    assert stacks == [3]
    for one_work, (state, seen) in zip(works, many, strict=True):
        plain, seen_by_plain = one_work()
        ((single, seen_by_single),) = together(one_work)
        assert list(seen) == list(seen_by_single) == list(seen_by_plain) == list(range(EPOCHS + 1))
        assert torch.equal(state["order"], plain["order"])
        assert torch.equal(single["order"], plain["order"])
        for epoch in seen:
            assert_vanishes(largest(seen[epoch], seen_by_plain[epoch]), 1e-11)
            assert_vanishes(largest(seen_by_single[epoch], seen_by_plain[epoch]), 1e-11)
        assert largest({**state, "order": torch.zeros(1)}, {**seen[EPOCHS], "order": torch.zeros(1)}) == 0
        assert_far_from_zero(largest(seen[EPOCHS], {**seen[EPOCHS], **seen[EPOCHS - 1]}))
    assert_far_from_zero(furthest([many[0][0]], [many[1][0]]))
    assert stacks == [3, 1, 1, 1]


@pytest.mark.parametrize("drop_last", [True, False])
def test_an_incomplete_batch_is_dropped_where_the_plain_engine_drops_it(drop_last):
    works = [partial(work, seed=seed, drop_last=drop_last) for seed in range(2)]
    assert_vanishes(furthest(final(*works), [w()[0] for w in works]))
    assert_far_from_zero(largest(final(works[0])[0], work(drop_last=not drop_last)[0]))


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_each_follows_its_own_schedule(schedule):
    works = [partial(work, seed=0, schedule=schedule), partial(work, seed=1, schedule="cosine", lr=0.01)]
    assert_vanishes(furthest(final(*works), [w()[0] for w in works]))


def test_what_a_network_becomes_does_not_depend_on_its_neighbours():
    neighbours = [
        [partial(work, seed=1), partial(work, seed=2)],
        [partial(work, seed=3, lr=0.2, schedule="step"), partial(work, seed=4, weight_decay=0.5)],
        [partial(work, seed=5, lr=1e200), partial(work, seed=6)],
        [partial(work, seed=7, pauses=(1, 2)), partial(work, seed=8, lr=0.0)],
    ]
    (plain,) = final(partial(work, seed=0))
    for position, others in enumerate(neighbours):
        works = list(others)
        works.insert(position % 3, partial(work, seed=0))
        outcome = side_by_side(works)[position % 3]
        assert_vanishes(largest(outcome.result[0], plain))
    assert_far_from_zero(largest(final(partial(work, seed=1))[0], plain))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_neighbours_leave_not_a_bit_different_whoever_and_however_many_they_are(kind, optimizer, stacks):
    one = partial(work, kind, optimizer=optimizer)
    others = [
        partial(work, kind, seed, optimizer=other, lr=0.01 * seed)
        for seed, other in enumerate((optimizer, "adam", "sgd", "adamw"), 1)
    ]
    (alone,) = final(one)
    for number in (1, 2, 4):
        assert largest(final(one, *others[:number])[0], alone) == 0
        assert largest(final(*others[-number:], one)[-1], alone) == 0
    assert max(stacks) == 5, "kinds of optimiser share a stack"
    assert_far_from_zero(largest(final(others[0])[0], alone))


def test_networks_that_differ_are_put_into_stacks_of_their_own(stacks):
    works = [
        *(partial(work, kind, seed) for seed in range(2) for kind in NETWORKS),
        *(partial(work, seed=seed, optimizer=kind) for seed, kind in enumerate(("adam", "adamw", "adam"))),
        partial(work, seed=4, epochs=EPOCHS - 1),
        partial(work, seed=5, batch_size=BATCH + 1),
        partial(work, seed=6, drop_last=True),
        partial(work, seed=7, data=tuple(part[:-1] for part in samples(7))),
    ]
    assert_vanishes(furthest(final(*works), [w()[0] for w in works]), 1e-11)
    assert sorted(stacks) == [1, 1, 1, 1, 2, 2, 5]


# What no stack takes is trained by the plain engine


def altered(kind, path, **attributes):
    """A network one module of which has other settings, in place."""
    model = network(kind)
    for name, value in attributes.items():
        setattr(model.get_submodule(path), name, value)
    return model


def without_normalisation():
    head = nn.Linear(1, CLASSES, bias=False)
    return perturbed(Network(nn.Sequential(OrderedDict(features=SpatialMean())), head).double(), 0)


def with_frozen_head():
    model = network()
    model.head.requires_grad_(False)
    return model


SIZES = {"num_classes": CLASSES, "generator": generator()}
DECLINED = {
    "resnet18": {
        "model": lambda: build("resnet18", width=2, **SIZES).double(),
        "data": (normal(N, 1, 8, 8), torch.arange(N) % CLASSES),
    },
    "mlp": {"model": lambda: build("mlp", in_features=LENGTH, width=4, depth=2, **SIZES).double()},
    "unconstrained": {
        "model": lambda: UnconstrainedFeatures(per_class=N, feature_dim=3, **SIZES),
        "data": (torch.arange(N), torch.arange(N) % CLASSES),
    },
    "lbfgs": {"optimizer": "lbfgs", "batch_size": N, "lr": 0.5},
    "the whole as a batch": {"batch_size": N},
    "batches larger than the whole": {"batch_size": N + 1},
    "autocast": {"autocast": torch.bfloat16},
    "another loss": {"loss": nn.functional.multi_margin_loss},
    "soft labels": {"data": (samples(0)[0], normal(N, CLASSES).softmax(1))},
    "two groups": {"weight_decay": {n: 0.1 * (p.ndim > 1) for n, p in network().named_parameters()}},
    "frozen head": {"model": with_frozen_head},
    "no normalisation": {"model": without_normalisation},
    "unlike normalisations": {"model": partial(altered, "resnet1d", "trunk.block1.bn1", eps=0.1)},
    "cumulative statistics": {"model": partial(altered, "resnet1d", "trunk.block1.bn1", momentum=None)},
    "dilation": {"model": partial(altered, "cnn1d", "trunk.conv2.0", dilation=(1, 2))},
    "circular": {
        "model": partial(
            altered,
            "cnn1d",
            "trunk.conv2.0",
            padding_mode="circular",
            _reversed_padding_repeated_twice=[1, 1, 0, 0],
        )
    },
    "overlapping pairs": {"model": partial(altered, "cnn1d", "trunk.conv2.3", stride=(1, 1))},
    "bias": {"model": lambda: altered("resnet1d", "head", bias=nn.Parameter(normal(CLASSES)))},
}


@pytest.mark.parametrize("what", DECLINED)
def test_what_has_no_stacked_form_is_trained_by_the_plain_engine_not_a_bit_different(what, stacks):
    def one():
        options = dict(DECLINED[what])
        if "model" in options:
            SIZES["generator"].manual_seed(0)
            options["model"] = options["model"]()
        return work(pauses=range(EPOCHS + 1), **options)

    (state, seen), (beside, _) = together(one, partial(work, seed=1))
    plain, seen_by_plain = one()
    assert stacks == [1]  # the other
    assert largest(state, plain) == 0
    assert list(seen) == list(seen_by_plain)
    assert_vanishes(largest(beside, work(seed=1)[0]))
    assert largest(seen[EPOCHS], {**seen[EPOCHS], **seen[0]}) > 0


# Pauses


def test_measuring_more_often_leaves_not_a_bit_different():
    def look(epoch, model):
        model.eval()
        with torch.no_grad():
            model(samples(9)[0])

    works = [partial(work, "cnn1d", seed, optimizer=kind) for kind in ("sgd", "adamw") for seed in range(2)]
    never = final(*works)
    often = final(*(partial(one, pauses=range(EPOCHS + 1), body=look) for one in works))
    assert furthest(never, often) == 0
    assert_far_from_zero(furthest(never, final(*(partial(one, lr=0.04) for one in works))))


def test_everyone_pauses_where_they_asked_to_and_sees_their_own_network_of_that_epoch():
    asked = [(), (0,), (0, 2), range(EPOCHS + 3), {3, 1}, (EPOCHS,)]
    works = [partial(work, seed=seed, pauses=pauses) for seed, pauses in enumerate(asked)]
    for (_, seen), one, pauses in zip(together(*works), works, asked, strict=True):
        _, seen_by_plain = one()
        assert list(seen) == list(seen_by_plain) == sorted(set(pauses) & set(range(EPOCHS + 1)))
        for epoch in seen:
            assert_vanishes(largest(seen[epoch], seen_by_plain[epoch]))
    at_two, at_three = together(*works)[3][1][2], together(*works)[3][1][3]
    assert_far_from_zero(largest(at_two, at_three))


def test_a_network_is_in_train_mode_where_the_plain_engine_has_it_so():
    def modes(found):
        return work(pauses=(1, 3), body=lambda epoch, model: found.append(model.training) or model.eval())

    stacked_modes, plain_modes = [], []
    together(partial(modes, stacked_modes))
    modes(plain_modes)
    assert stacked_modes == plain_modes == [True, True]


# Checkpoints


def saved(folder, seed, **options):
    folder.mkdir(exist_ok=True)
    checkpoint = Checkpoint(folder / f"{seed}.pt", every=options.pop("every", 0.0))
    rows = checkpoint.setdefault("rows", [])
    body = options.pop("body", None)

    def note(epoch, model):
        if body is not None:
            body(epoch, model)
        rows.append(epoch)

    return *work(seed=seed, checkpoint=checkpoint, body=note, **options), rows


def stop_at(epoch):
    return lambda now, model: training.request_stop() if now == epoch else None


def interrupt(folder, seeds, at, **options):
    """Train these side by side, the last of them asking everyone to stop in its pause after epoch `at`."""
    works = [partial(saved, folder, seed, **options) for seed in seeds[:-1]]
    works.append(partial(saved, folder, seeds[-1], body=stop_at(at), **options))
    outcomes = side_by_side(works)
    training.engine._stop.clear()
    return outcomes


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("at", [1, 3])
def test_work_that_was_stopped_goes_on_as_if_it_never_had_been(tmp_path, optimizer, at):
    options = {"optimizer": optimizer, "pauses": range(EPOCHS + 1), "every": 1e9}
    seeds = (0, 1, 2)
    expected = final(*(partial(work, seed=s, optimizer=optimizer) for s in seeds))
    outcomes = interrupt(tmp_path, seeds, at, **options)
    assert [type(o.error) for o in outcomes] == [Stopped] * 3
    # who had already measured that epoch stops after the next, and whoever asked stops at once
    assert [str(o.error) for o in outcomes[:2]] == [f"stopped after epoch {at + 1}"] * 2
    assert str(outcomes[2].error) == f"stopped after epoch {at}"
    assert Checkpoint(tmp_path / "2.pt")["training"]["epoch"] == at
    again = together(*(partial(saved, tmp_path, seed, **options) for seed in seeds))
    for (state, _, rows), same in zip(again, expected, strict=True):
        assert rows == list(range(EPOCHS + 1))
        assert_vanishes(largest(state, same), 1e-11)


def test_a_stack_of_the_same_networks_goes_on_not_a_bit_different(tmp_path):
    options = {"optimizer": "adam", "pauses": range(EPOCHS + 1), "every": 1e9}
    expected = final(*(partial(work, seed=s, optimizer="adam") for s in range(3)))
    training.request_stop()
    outcomes = side_by_side([partial(saved, tmp_path, seed, **options) for seed in range(3)])
    assert [str(o.error) for o in outcomes] == ["stopped after epoch 1"] * 3
    training.engine._stop.clear()
    again = together(*(partial(saved, tmp_path, seed, **options) for seed in range(3)))
    assert furthest([state for state, _, _ in again], expected) == 0
    elsewise = final(*(partial(work, seed=s, optimizer="adam", lr=0.04) for s in range(3)))
    assert_far_from_zero(furthest(elsewise, expected))


@pytest.mark.parametrize("resumed_by", ["itself in a stack", "the plain engine", "a stack of others"])
def test_a_checkpoint_does_not_depend_on_who_was_in_the_stack(tmp_path, resumed_by):
    options = {"optimizer": "adamw", "pauses": range(EPOCHS + 1), "every": 1e9}
    interrupt(tmp_path, (0, 1, 2), 2, **options)
    one = partial(saved, tmp_path, 2, **options)
    if resumed_by == "the plain engine":
        state, _, rows = one()
    elif resumed_by == "itself in a stack":
        ((state, _, rows),) = together(one)
    else:
        interrupt(tmp_path, (7, 8), 2, **options)
        others = [partial(saved, tmp_path, seed, **options) for seed in (8, 9)]
        _, (state, _, rows), _ = together(others[0], one, others[1])
    assert rows == list(range(EPOCHS + 1))
    assert_vanishes(largest(state, work(seed=2, optimizer="adamw")[0]), 1e-11)


def test_a_stack_goes_on_from_what_the_plain_engine_saved(tmp_path):
    options = {"pauses": range(EPOCHS + 1), "optimizer": "adam"}
    with pytest.raises(Stopped, match="stopped after epoch 2"):
        saved(tmp_path, 0, body=stop_at(2), **options)
    training.engine._stop.clear()
    (state, _, rows), _ = together(
        partial(saved, tmp_path, 0, **options), partial(saved, tmp_path, 1, **options)
    )
    assert rows == list(range(EPOCHS + 1))
    assert_vanishes(largest(state, work(seed=0, optimizer="adam")[0]), 1e-11)


def test_every_epoch_that_is_due_is_saved_after_its_measurement_and_so_is_the_last(tmp_path):
    found = {}

    def look(every, epoch, model):
        path = tmp_path / f"{every}" / "0.pt"
        found.setdefault(every, []).append(Checkpoint(path)["training"]["epoch"] if path.exists() else None)

    for every in (0.0, 1e9):
        pauses = range(EPOCHS + 1)
        one = partial(saved, tmp_path / f"{every}", 0, every=every, pauses=pauses, body=partial(look, every))
        ((_, _, rows),) = together(one)
        checkpoint = Checkpoint(tmp_path / f"{every}" / "0.pt")
        assert checkpoint["rows"] == rows == list(pauses)
        assert checkpoint["training"]["epoch"] == EPOCHS
    assert found == {0.0: [None, None, 1, 2, 3], 1e9: [None] * (EPOCHS + 1)}


def test_a_finished_checkpoint_trains_no_further_nor_does_one_from_beyond_the_end(tmp_path, stacks):
    ((state, _, _),) = together(partial(saved, tmp_path, 0))
    (again, seen, _), _ = together(partial(saved, tmp_path, 0, pauses=range(9)), partial(work, seed=1))
    assert largest(again, state) == 0
    assert seen == {}
    (_, seen, _), _ = together(partial(saved, tmp_path, 0, pauses=range(9), epochs=2), partial(work, seed=1))
    assert seen == {}
    assert stacks == [1, 1, 1]


def test_a_damaged_checkpoint_starts_over(tmp_path):
    options = {"pauses": range(EPOCHS + 1)}
    interrupt(tmp_path, (0, 1), 2, **options)
    (tmp_path / "0.pt").write_bytes((tmp_path / "0.pt").read_bytes()[:200])
    resumed = together(*(partial(saved, tmp_path, seed, **options) for seed in (0, 1)))
    assert [list(seen) for _, seen, _ in resumed] == [[0, 1, 2, 3, 4], [3, 4]]
    assert (tmp_path / "0.damaged").exists()
    expected = final(*(partial(work, seed=seed) for seed in (0, 1)))
    assert_vanishes(furthest([state for state, _, _ in resumed], expected))


def test_a_checkpoint_that_cannot_be_written_ends_only_its_own_work(tmp_path):
    def unwritable(seed):
        checkpoint = Checkpoint(tmp_path / f"{seed}.pt")
        checkpoint["rows"] = [lambda: None]
        return work(seed=seed, checkpoint=checkpoint)

    outcomes = side_by_side([partial(unwritable, 0), partial(saved, tmp_path, 1)])
    assert "pickle" in str(outcomes[0].error)
    assert_vanishes(largest(outcomes[1].result[0], work(seed=1)[0]))


# Ends


class Refused(Exception):
    pass


def refuse_at(epoch):
    def body(now, model):
        if now == epoch:
            raise Refused

    return body


@pytest.mark.parametrize("at", [0, 2, EPOCHS])
def test_an_exception_ends_the_work_it_comes_from_and_no_other(at):
    seeds = range(3)
    works = [partial(work, seed=seed, pauses=range(EPOCHS + 1)) for seed in seeds]
    works[1] = partial(works[1], body=refuse_at(at))
    outcomes = side_by_side(works)
    assert [type(o.error) for o in outcomes] == [type(None), Refused, type(None)]
    for e in (0, 2):
        state, seen = outcomes[e].result
        assert list(seen) == list(range(EPOCHS + 1))
        assert_vanishes(largest(state, work(seed=e)[0]))


@pytest.mark.parametrize(
    ("place", "says"), [(0, "epoch 1 at learning rate 0.05"), (-1, "epoch 2 at learning rate 0.005")]
)
def test_who_diverges_says_when_and_at_which_rate_and_the_others_go_on(place, says):
    x, y = samples(1)
    x[torch.randperm(N, generator=generator(71))[place]] = float("nan")  # the last is dropped in epoch 1
    one = partial(work, seed=1, data=(x, y), schedule="step", drop_last=True)
    others = [partial(work, seed=seed, schedule="step", drop_last=True) for seed in (0, 2)]
    outcomes = side_by_side([others[0], one, others[1]])
    assert isinstance(outcomes[1].error, Diverged)
    assert str(outcomes[1].error) == f"the loss is nan in {says}"
    with pytest.raises(Diverged, match=says):
        one()
    for other, outcome in zip(others, outcomes[::2], strict=True):
        assert_vanishes(largest(outcome.result[0], other()[0]))


def test_what_breaks_a_stack_ends_those_in_it_and_nobody_else():
    x, y = samples(1)
    works = [partial(work, seed=1, data=(x, y + 1)), partial(work, seed=0), partial(work, "cnn1d", 2)]
    broken, beside, elsewhere = side_by_side(works)
    assert isinstance(broken.error, (IndexError, RuntimeError))
    assert beside.error is broken.error
    assert elsewhere.error is None
    assert_vanishes(largest(elsewhere.result[0], works[2]()[0]))


def test_who_fails_may_try_again_and_is_trained_again():
    def persistent(at):
        try:
            return work(seed=1, lr=1e200, pauses=(at,), body=refuse_at(at))
        except (Diverged, Refused):
            return work(seed=1, lr=0.01)

    for at in (1, EPOCHS):
        (state, _), (beside, _) = together(partial(persistent, at), partial(work, seed=0))
        assert_vanishes(largest(state, work(seed=1, lr=0.01)[0]))
        assert_vanishes(largest(beside, work(seed=0)[0]))


def test_work_that_does_not_train_ends_beside_work_that_does(stacks):
    outcomes = side_by_side([lambda: 7, partial(work, seed=0), refuse_now, partial(work, seed=1)])
    assert outcomes[0].result == 7
    assert isinstance(outcomes[2].error, Refused)
    assert stacks == [2]
    assert furthest([outcomes[1].result[0]], final(partial(work, seed=0), partial(work, seed=1))[:1]) == 0
    assert [o.result for o in side_by_side([lambda: 1, lambda: 2])] == [1, 2]


def refuse_now():
    raise Refused


# Several trainings in one work


def test_work_that_trains_twice_meets_the_others_again(stacks):
    def twice(seed):
        return work(seed=seed, pauses=(0, 2)), work("cnn1d", seed + 10, optimizer="adam")

    found = together(*(partial(twice, seed) for seed in range(3)))
    assert stacks == [3, 3]
    for seed, results in enumerate(found):
        for (state, _), (plain, _) in zip(results, twice(seed), strict=True):
            assert_vanishes(largest(state, plain), 1e-11)


@pytest.mark.parametrize("at", [0, 2, EPOCHS])
def test_leaving_a_training_early_does_not_touch_the_next(tmp_path, at):
    def impatient(name):
        model, checkpoint = network(seed=5), Checkpoint(tmp_path / f"{name}.pt", every=0.0)
        for epoch in train(
            model, *samples(5), optimizer=make_optimizer(model, "sgd", lr=0.1, weight_decay=0.0),
            schedule="constant", epochs=EPOCHS, batch_size=BATCH, generator=generator(), pauses=(at,),
            checkpoint=checkpoint,
        ):  # fmt: skip
            assert epoch == at
            break
        return work(seed=6)[0], dict(model.state_dict())

    ours, (beside, _) = together(partial(impatient, "ours"), partial(work, seed=0))
    plain = impatient("plain")
    assert_vanishes(furthest(ours, plain))
    assert_vanishes(largest(beside, work(seed=0)[0]))
    epochs = [
        Checkpoint(tmp_path / f"{name}.pt").get("training", {}).get("epoch") for name in ("ours", "plain")
    ]
    assert epochs == [at - 1 if at > 1 else None] * 2


@pytest.mark.parametrize("at", [0, 2, EPOCHS])
def test_a_training_in_the_pause_of_another_is_done_there(at):
    def nested(seed):
        inner = []
        outer = work(
            seed=seed, pauses=range(EPOCHS + 1),
            body=lambda now, model: inner.append(work("cnn1d", seed, pauses=(0, 1))) if now == at else None,
        )  # fmt: skip
        return outer[0], inner[0][0], list(outer[1])

    for seed, (outer, inner, epochs) in enumerate(together(*(partial(nested, seed) for seed in range(2)))):
        assert epochs == list(range(EPOCHS + 1))
        assert_vanishes(largest(outer, work(seed=seed)[0]))
        assert_vanishes(largest(inner, work("cnn1d", seed)[0]))


def test_adam_counts_the_steps_of_every_training_of_its_network(stacks):
    def again(seed):
        model = network(seed=seed)
        optimizer = make_optimizer(model, "adam", lr=0.01, weight_decay=0.1)
        for _ in range(2):
            list(
                train(
                    model, *samples(seed), optimizer=optimizer, schedule="constant", epochs=2, pauses=(),
                    batch_size=BATCH, generator=generator(seed),
                )
            )  # fmt: skip
        return state_of(model, optimizer), {}

    def anew(seed):
        for _ in range(2):
            found = work(seed=seed, optimizer="adam", schedule="constant", epochs=2)
        return found

    works = [partial(again, 0), partial(anew, 1), partial(again, 2)]
    assert_vanishes(furthest(final(*works), [one()[0] for one in works]), 1e-11)
    assert stacks == [3, 2, 1]


# Whole studies


def table(rows):
    return tables.from_rows(rows, run="smoke", seed=0)


@pytest.mark.parametrize("study", [mnist1d, representations])
def test_a_study_side_by_side_measures_what_it_measures_alone(tmp_path, study):
    def one(folder, seed):
        (tmp_path / folder / str(seed)).mkdir(parents=True)
        params = dataclasses.replace(study.SMOKE, seed=seed, noise_seed=-1)
        return study.run(params, folder=tmp_path / folder / str(seed), device=CPU)

    ours, others = (table(rows) for rows, _ in together(partial(one, "stack", 0), partial(one, "stack", 1)))
    plain = table(one("plain", 0)[0])
    assert len(ours) == len(plain)
    assert smoke.moved(plain, ours).empty
    assert not smoke.moved(plain, others).empty
