"""nclib.studies.clock: the steps and rates of a run, and what they let weight decay do."""

from types import SimpleNamespace

import pytest

from nclib import runs, tables
from nclib.studies import clock

RUN = SimpleNamespace(
    lr=0.5, schedule="constant", epochs=6, train_size=100, batch_size=30, weight_decay=0.1, momentum=0.0,
    optimizer="sgd",
)  # fmt: skip


def run(**changed):
    return SimpleNamespace(**vars(RUN) | changed)


def test_an_epoch_has_as_many_steps_as_whole_batches_and_at_least_one():
    assert clock.rates(RUN) == ([0.5] * 18, 3)
    assert clock.rates(run(train_size=20)) == ([0.5] * 6, 1)


def test_without_momentum_every_step_leaves_the_same_factor():
    left = clock.row_sum_factors(RUN)
    assert left.to_dict() == pytest.approx({epoch: 0.95 ** (3 * epoch) for epoch in range(1, 7)}, rel=1e-14)
    assert (clock.row_sum_factors(run(weight_decay=0.0)) == 1).all()


def test_a_step_schedule_spends_less_after_each_drop():
    assert clock.spent(RUN) == pytest.approx(0.5 * 0.1 * 18)
    assert clock.spent(run(schedule="step")) == pytest.approx(0.5 * 0.1 * 6 * 1.11)


def test_momentum_multiplies_what_sgd_spends_and_says_nothing_of_adamw():
    assert clock.spent(run(momentum=0.9)) == pytest.approx(10 * clock.spent(RUN))
    assert clock.spent(run(momentum=0.9, optimizer="adamw")) == pytest.approx(clock.spent(RUN))


def test_runs_in_float32_follow_it_and_those_of_adam_do_not():
    table = runs.published("terminal_phase")
    sums = tables.select(table[table.train_size == 10_000], metric="nc0_row_sum", architecture="resnet18")

    def away(**what):
        """Measured over predicted, from the first measured epoch to the last, less one: the largest of all seeds."""
        rows = tables.select(sums, loss="cross_entropy", label_noise=0.0, width=8, weight_decay=5e-4, **what)
        found = rows.pivot(index="seed", columns="epoch", values="value").astype(float)
        expected = clock.row_sum_factors(rows.iloc[0])
        first, last = found.columns[[0, -1]]
        assert len(found) >= 3
        return (found[last] / found[first] / (expected[last] / expected[first]) - 1).abs().max()

    assert away(optimizer="sgd", precision="float32") < 1e-5
    assert away(optimizer="adam", precision="bfloat16") > 0.1
