"""Studies: the recorded numbers still come out, whatever ran before, in whatever pieces, and only once."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nclib import data, publication, runs, studies, tables, training, upkeep
from nclib.studies import grids, mnist1d, representations, smoke, terminal_phase, unconstrained
from nclib.studies.params import ParameterError
from nclib.training import Checkpoint

CPU = torch.device("cpu")
TINY = {
    "unconstrained": unconstrained.SMOKE,
    "mnist1d": replace(mnist1d.SMOKE, fresh_size=20, width=2),
    "representations": representations.SMOKE,
}
"""Runs of a second; terminal_phase's smallest takes ten, and is run once, against its record."""


def rows_of(study, params, folder):
    folder.mkdir(parents=True, exist_ok=True)
    rows, arrays = studies.get(study).run(params, folder=folder, device=CPU)
    return tables.from_rows(rows, run="here", seed=params.seed), arrays


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("NCLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(runs, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(runs, "SMOKE", tmp_path / "smoke")
    return tmp_path


# Stale means the numbers moved


@pytest.mark.parametrize("study", studies.STUDIES)
def test_the_recorded_numbers_still_come_out(study):
    recorded, new = smoke.recorded(study), smoke.run(study)
    changed = smoke.moved(recorded, new)
    assert changed.empty, f"{len(changed)} numbers moved, the first being\n{changed.head().to_string()}"
    # what sums up many restarts or instances has a row each
    least = {"landscape": 9, "statements": 13}.get(study, 51)
    assert len(recorded) >= least
    note = json.loads((runs.SMOKE / f"{study}.json").read_text())
    assert note.pop("absent", {}) == smoke.absent_values(study) == runs.absent(study)
    assert note == {"generation": runs.generation(study), "params": runs.resolved(studies.get(study).SMOKE)}


def made_up(**changes):
    rows = [
        {"epoch": e, "split": "train", "labels": "clean", "layer": "features", "metric": m, "value": v}
        for e in (1, 2)
        for m, v in {"error": 0.25, "loss": 3e-12, "nc1_pinv": 4e5, "nc2_cos_std_means": float("nan")}.items()
    ]
    for (epoch, metric), value in changes.get("values", {}).items():
        for row in rows:
            if (row["epoch"], row["metric"]) == (epoch, metric):
                row["value"] = value
    rows += changes.get("more", [])
    rows = [row for row in rows if (row["epoch"], row["metric"]) not in changes.get("less", ())]
    return tables.from_rows(rows, run="smoke", seed=0)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 0),
        ({"values": {(1, "error"): 0.25 * (1 + 2e-6), (2, "loss"): 4e-12}}, 0),
        ({"values": {(1, "error"): 0.25 * (1 + 2e-5)}}, 1),
        ({"values": {(1, "error"): 0.25 * (1 - 2e-5), (2, "nc1_pinv"): 4.001e5}}, 2),
        ({"values": {(2, "nc1_pinv"): -4e5}}, 1),
        ({"values": {(2, "error"): float("nan")}}, 1),
        ({"values": {(2, "nc2_cos_std_means"): 0.1}}, 1),
        ({"less": [(1, "error"), (2, "nc2_cos_std_means")]}, 2),
    ],
)
def test_a_number_that_moved_is_detected_and_one_that_did_not_is_not(changes, count):
    assert len(smoke.moved(made_up(), made_up(**changes))) == count


def test_a_new_row_moves_nothing():
    new = {
        "epoch": 1,
        "split": "test",
        "labels": "clean",
        "layer": "features",
        "metric": "error",
        "value": 0.5,
    }
    assert smoke.moved(made_up(), made_up(more=[new])).empty


def test_the_generation_rises_only_when_a_number_moved(store, monkeypatch):
    new = {
        "epoch": 1,
        "split": "test",
        "labels": "clean",
        "layer": "features",
        "metric": "error",
        "value": 0.5,
    }
    for table, said, generation in (
        (made_up(), "first record", 1),
        (made_up(), "unchanged", 1),
        (made_up(more=[new]), "1 rows added", 1),
        (made_up(values={(1, "error"): 0.3}, more=[new]), "1 numbers moved", 2),
        (made_up(values={(1, "error"): 0.3}), "1 numbers moved", 3),
    ):
        monkeypatch.setattr(smoke, "run", lambda study, table=table: table)
        assert said in smoke.update("unconstrained")
        assert runs.generation("unconstrained") == generation
        assert smoke.moved(smoke.recorded("unconstrained"), table).empty


# A run is its parameters


def test_a_parameter_added_later_changes_no_older_key_and_stands_in_every_table():
    old = runs.resolved(mnist1d.Params())
    assert not old.keys() & smoke.absent_values("mnist1d").keys()
    assert "train_size" in runs.resolved(mnist1d.Params(train_size=1000))
    shown = runs.published("mnist1d")
    assert set(shown.train_size.unique()) >= {4000}
    assert not shown[[*smoke.absent_values("mnist1d")]].isna().any(axis=None)


@pytest.mark.parametrize("study", ["unconstrained", "mnist1d"])
def test_a_run_gives_the_same_numbers_twice_and_others_under_another_seed(study, tmp_path):
    params = TINY[study]
    first, arrays = rows_of(study, params, tmp_path / "a")
    with torch.random.fork_rng():
        torch.manual_seed(1234)  # and whatever else happened before
        second, again = rows_of(study, params, tmp_path / "b")
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert arrays.keys() == again.keys()
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    other, _ = rows_of(study, replace(params, seed=params.seed + 1, **own_noise(params)), tmp_path / "c")
    assert len(other) == len(first)
    measured = ~first.metric.isin(["parameters", "sigma_b_rank", "error"]) & first.value.notna()
    assert (first.value != other.value)[measured].mean() > 0.9


def own_noise(params):
    """Keep the labels while the seed changes, where there are any to keep."""
    return {"noise_seed": params.noise_seed} if hasattr(params, "noise_seed") else {}


def test_no_result_depends_on_which_run_came_before(tmp_path):
    alone, _ = rows_of("unconstrained", TINY["unconstrained"], tmp_path / "a")
    rows_of("unconstrained", replace(TINY["unconstrained"], seed=5), tmp_path / "b")
    rows_of("mnist1d", TINY["mnist1d"], tmp_path / "c")
    after, _ = rows_of("unconstrained", TINY["unconstrained"], tmp_path / "d")
    pd.testing.assert_frame_equal(alone, after, check_exact=True)


@pytest.mark.parametrize(("study", "after"), [("unconstrained", 2), ("mnist1d", 2), ("representations", 4)])
def test_a_run_that_was_killed_goes_on_to_the_same_numbers(study, after, tmp_path, monkeypatch):
    expected, arrays = rows_of(study, TINY[study], tmp_path / "whole")
    module = studies.get(study)
    train, pauses = module.train, []

    class Killed(Exception):
        pass

    def dying(*args, **kwargs):
        for epoch in train(*args, **kwargs):
            if len(pauses) == after:
                raise Killed
            pauses.append(epoch)
            yield epoch

    monkeypatch.setattr(Checkpoint, "due", lambda self: True)
    with monkeypatch.context() as killed:
        killed.setattr(module, "train", dying)
        with pytest.raises(Killed):
            rows_of(study, TINY[study], tmp_path / "pieces")
    assert list((tmp_path / "pieces").glob("*.pt"))
    resumed, again = rows_of(study, TINY[study], tmp_path / "pieces")
    pd.testing.assert_frame_equal(resumed, expected, check_exact=True)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


def test_streams_of_different_purposes_and_seeds_share_nothing():
    purposes = ("init", "order", "noise", "subset")
    seeds = [studies.generator(p, s).initial_seed() for p in purposes for s in (0, 1, 2, 1_000_000)]
    assert len(set(seeds)) == len(seeds)
    assert studies.generator("init", 0).initial_seed() == 7885824881599989479


@pytest.mark.parametrize(
    ("study", "key"),
    [
        ("terminal_phase", "2a5270a94e43b683"),
        ("unconstrained", "afedf9e5da285eef"),
        ("landscape", "f8a0764f7139431c"),
        ("statements", "68fbea3318a56503"),
        ("mnist1d", "6c1c00f678296141"),
        ("representations", "5bbfb96f96f63214"),
    ],
)
def test_the_defaults_name_the_run_they_always_named(study, key):
    # A default, a name or a type that changes here orphans published records: give a new field `absent` instead.
    assert studies.key(study, studies.get(study).Params()) == key


# Recording through the store


def test_a_trajectory_is_trained_once_and_found_ever_after(store, monkeypatch):
    params = TINY["unconstrained"]
    assert studies.missing("unconstrained", [params]) == [params]
    run = unconstrained.trajectory(params)
    assert run.key == studies.key("unconstrained", params)
    assert (
        run.provenance["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
        or run.provenance["device"]
    )
    monkeypatch.setattr(unconstrained, "run", lambda *a, **k: pytest.fail("a recorded run was trained again"))
    again = unconstrained.trajectory(params)
    pd.testing.assert_frame_equal(again.table, run.table)
    assert studies.missing("unconstrained", [params]) == []
    assert (run.table.num_classes == 4).all()
    assert run.arrays["singular_values"].shape == (len(run.arrays["epochs"]), 2, 4)
    publication.publish("unconstrained")
    (store / "results").rename(store / "away")
    pd.testing.assert_frame_equal(unconstrained.trajectory(params).table, run.table)


def test_announcing_says_what_is_recorded_what_is_not_and_how_long_it_takes(store):
    cells = [replace(TINY["unconstrained"], seed=seed) for seed in range(3)]
    unconstrained.trajectory(cells[1])
    said = studies.announce("unconstrained", cells)
    assert said.startswith("1 of 3 runs recorded, 2 to train: about ")
    assert re.search(r"about [\d.]+ min on (1 CPU core|2 CPU cores)\.$", said)
    assert studies.announce("unconstrained", cells[1:2]) == "1 of 1 runs recorded: nothing to train."


def test_the_estimate_grows_with_the_work(store):
    def minutes(**changes):
        said = studies.announce("mnist1d", [mnist1d.Params(width=64, **changes)])
        return float(said.split("about ")[1].split()[0])

    assert minutes(epochs=3000) == pytest.approx(10 * minutes(epochs=300), rel=0.05)


def test_a_sweep_records_what_is_missing_and_a_failure_stops_only_itself(store):
    sound = [replace(TINY["unconstrained"], seed=seed) for seed in range(2)]
    unconstrained.trajectory(sound[0])
    diverging = replace(TINY["unconstrained"], optimizer="adam", lr=1e300, epochs=5, seed=7)
    with pytest.raises(runs.RecordError, match=r"1 of 2 runs failed: .*\(seed 7\)"):
        studies.sweep("unconstrained", [*sound, diverging], workers=1, progress=False)
    assert studies.missing("unconstrained", [*sound, diverging]) == [diverging]
    state = upkeep.unfinished("unconstrained")
    assert list(state) == [studies.key("unconstrained", diverging)]
    assert state[studies.key("unconstrained", diverging)].startswith("failed: ")
    table = studies.sweep("unconstrained", sound, progress=False)
    assert list(dict.fromkeys(table.seed)) == [0, 1]
    assert table.index.is_unique


# What each study measures on


class Captured(Exception):
    pass


def captured(study, params, monkeypatch, tmp_path):
    """What a study hands to `train`, without training."""
    seen = {}

    def stub(model, x, y, **options):
        seen.update(model=model, x=x, y=y, **options)
        raise Captured

    module = studies.get(study)
    with monkeypatch.context() as stubbed:
        stubbed.setattr(module, "train", stub)
        with pytest.raises(Captured):
            module.run(params, folder=tmp_path, device=CPU)
    return seen


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_mnist1d_redraws_exactly_800_labels_and_leaves_the_inputs(monkeypatch, tmp_path):
    clean = data.load("mnist1d", "train")
    excluding = mnist1d.Params(width=2, fresh_size=10, noise_model="symmetric_excluding_true")
    seen = captured("mnist1d", excluding, monkeypatch, tmp_path)
    assert torch.equal(seen["x"], clean.x)
    assert int((seen["y"] != clean.y_clean).sum()) == 800
    including = captured("mnist1d", mnist1d.Params(width=2, fresh_size=10), monkeypatch, tmp_path)
    wrong = including["y"] != clean.y_clean
    # The same 800 points, of which one in ten is redrawn to its true label.
    assert 680 < int(wrong.sum()) < 760
    assert not (wrong & (seen["y"] == clean.y_clean)).any()
    assert torch.equal(
        captured("mnist1d", mnist1d.Params(width=2, fresh_size=10, label_noise=0), monkeypatch, tmp_path)[
            "y"
        ],
        clean.y,
    )


def test_mnist1d_noise_has_a_seed_of_its_own(monkeypatch, tmp_path):
    def given(**changes):
        seen = captured("mnist1d", mnist1d.Params(width=2, fresh_size=10, **changes), monkeypatch, tmp_path)
        return seen["y"], weights(seen["model"]), seen["generator"].initial_seed()

    y, w, order = given(seed=0)
    y_1, w_1, order_1 = given(seed=1)
    assert not torch.equal(y, y_1)
    assert not torch.equal(w, w_1)
    assert order != order_1
    y_same, w_same, order_same = given(seed=1, noise_seed=0)
    assert torch.equal(y_same, y)
    assert torch.equal(w_same, w_1)
    assert order_same == order_1


def test_mnist1d_training_error_is_that_of_correct_and_mislabelled_points_together():
    table = smoke.recorded("mnist1d")
    errors = (
        tables.select(table, metric="error", layer="features").set_index(["epoch", "split", "labels"]).value
    )
    wrong = mnist1d.noisy_training_set(mnist1d.SMOKE)
    n = int((wrong.y != wrong.y_clean).sum())
    for epoch in (0, 1, 2):
        for labels in ("noisy", "clean"):
            parts = (4000 - n) * errors[epoch, "train_correct", labels] + n * errors[
                epoch, "train_mislabelled", labels
            ]
            assert parts / 4000 == pytest.approx(errors[epoch, "train", labels], abs=1e-6)
        assert errors[epoch, "train_correct", "noisy"] == errors[epoch, "train_correct", "clean"]
        assert (epoch, "test", "clean") in errors
        assert (epoch, "test", "noisy") not in errors


def test_mnist1d_fresh_points_are_neither_training_nor_test_points():
    fresh = data.mnist1d.fresh(1000, mnist1d.FRESH_SEED)
    known = {x.numpy().tobytes() for split in data.SPLITS for x in data.load("mnist1d", split).x}
    assert len(known) == 5000
    assert not any(x.numpy().tobytes() in known for x in fresh.x)


def test_a_pairs_networks_share_labels_and_nothing_else(monkeypatch, tmp_path):
    given = []

    def stub(params, seed, order, width, points, labels, pauses, name, checkpoint, *where):
        given.append((name, seed, order, width, labels["train"]["noisy"]))
        seen = {split: {"features": torch.randn(len(x), 3)} for split, x in points.items()}
        checkpoint |= {"rows": [], "activations": [seen] * len(pauses), "flattened": [{}, {}]}

    monkeypatch.setattr(representations, "_train_one", stub)
    params = representations.Params(seed=3, width=8, width_b=64)
    representations.run(params, folder=tmp_path, device=CPU)
    (a, seed_a, order_a, width_a, y_a), (b, seed_b, order_b, width_b, y_b) = given
    assert (a, width_a, b, width_b) == ("A", 8, "B", 64)
    assert torch.equal(y_a, y_b)
    assert torch.equal(y_a, mnist1d.noisy_training_set(mnist1d.Params(seed=3)).y)
    assert seed_a == order_a == 3
    assert seed_b == order_b == 3 + representations.PEER
    given.clear()
    representations.run(replace(params, width=64, shared_init=True), folder=tmp_path, device=CPU)
    (_, seed_a, order_a, *_), (_, seed_b, order_b, *_) = given
    assert seed_a == seed_b == 3, "the same weights to begin with"
    assert (order_a, order_b) == (3, 3 + representations.PEER)


def test_pairs_of_different_seeds_share_no_network():
    seeds = [s for seed in range(50) for s in (seed, seed + representations.PEER)]
    streams = {studies.generator(p, s).initial_seed() for p in ("init", "order") for s in seeds}
    assert len(streams) == 200
    a = mnist1d.network(representations.SMOKE, 0, 3)
    b = mnist1d.network(representations.SMOKE, representations.PEER, 3)
    assert not torch.equal(weights(a), weights(b))


def test_a_layer_compared_with_itself_at_the_same_epoch_is_the_same():
    table = smoke.recorded("representations")
    cka = tables.select(table, metric="cka_linear", split="test").set_index(["epoch", "layer"]).value
    for layer in ("stem", "block1", "block2", "features"):
        assert cka[0, f"{layer}@0|{layer}"] == pytest.approx(1, abs=1e-6)
        assert cka[1, f"{layer}@1|{layer}"] == pytest.approx(1, abs=1e-6)
        assert cka[1, f"{layer}@0|{layer}"] < 1 - 1e-6
        assert cka[2, f"{layer}|{layer}"] < 1 - 1e-3


def test_calibration_gives_an_untrained_network_the_statistics_of_the_data():
    x = data.load("mnist1d", "train").x[:1500].double()
    model = mnist1d.network(representations.SMOKE, 0, 4).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = representations.calibrated(model, x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(weights(seen), weights(model))
    assert not seen.training
    stem = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    calibrated = next(m for m in seen.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        inputs = [model.trunk.stem[:3](batch) for batch in x.split(500)]
    expected = torch.stack([h.mean((0, 2, 3)) for h in inputs]).mean(0)
    assert torch.allclose(calibrated.running_mean, expected, rtol=1e-9)
    assert not torch.allclose(stem.running_mean, expected, rtol=1e-9)


def test_terminal_phase_trains_every_seed_on_the_same_images_as_the_paper_does(monkeypatch, tmp_path):
    def given(**changes):
        params = terminal_phase.Params(dataset="fashion_mnist_subset", train_size=500, width=2, **changes)
        return captured("terminal_phase", params, monkeypatch, tmp_path)

    first, second = given(seed=0), given(seed=1)
    assert torch.equal(first["x"], second["x"])
    assert torch.bincount(first["y"]).tolist() == [50] * 10
    assert not torch.equal(weights(first["model"]), weights(second["model"]))
    assert first["generator"].initial_seed() != second["generator"].initial_seed()
    assert not torch.equal(given(data_seed=1)["x"], first["x"])
    assert (first["schedule"], first["epochs"], first["batch_size"], first["drop_last"]) == (
        "step",
        75,
        128,
        True,
    )
    group = first["optimizer"].param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.0679, 0.9, 5e-4)
    assert len(first["optimizer"].param_groups) == 1, "weight decay is on all parameters"
    assert len(first["pauses"]) >= 26
    assert first["autocast"] is torch.bfloat16
    assert given(precision="float64")["x"].dtype is torch.float64


# The theory, end to end


def final(table, metric):
    return tables.select(table, metric=metric, epoch=int(table.epoch.max())).value.item()


def test_descent_reaches_the_certified_closed_form(tmp_path):
    params = unconstrained.Params(num_classes=3, per_class=2, feature_dim=5, epochs=30, measurements=4)
    table, arrays = rows_of("unconstrained", params, tmp_path)
    assert abs(final(table, "objective_gap")) < 1e-8
    assert final(table, "certificate") == pytest.approx(1, abs=1e-4)
    assert final(table, "nc1_pinv") < 1e-8
    assert final(table, "self_duality") < 1e-4
    origin = tables.select(table, layer="origin").set_index("metric").value
    assert origin["curvature"] < 0
    assert origin["curvature_error"] < 1e-10
    assert list(arrays["epochs"]) == sorted({*table.epoch})
    start = tables.select(table, metric="objective_gap", epoch=0).value.item()
    assert start > 1e-2, "the control: it did not start there"
    # K - 1 equal singular values and no other.
    ends = arrays["singular_values"][-1]
    np.testing.assert_allclose(ends[:, 0], ends[:, 1], rtol=1e-4)
    assert (ends[:, 2] < 1e-3 * ends[:, 0]).all()


def test_beyond_the_threshold_everything_vanishes_and_the_origin_has_no_escape(tmp_path):
    params = unconstrained.Params(
        num_classes=3, per_class=2, feature_dim=5, epochs=30, lambda_W=0.5, lambda_H=0.5, measurements=4
    )
    table, _ = rows_of("unconstrained", params, tmp_path)
    assert final(table, "weight_norm_squared") < 1e-12
    assert tables.select(table, layer="origin").empty


# Experiment 1's controls


SHORT = replace(mnist1d.SMOKE, feature_dim=0, epochs=5, measurements=3, fresh_size=20)


def values(table, **where):
    """Values of a metric in order of rows, keyed by everything else."""
    rows = tables.select(table, **where)
    return rows.set_index(["epoch", "split", "labels", "metric"]).value


def test_averaging_the_weights_adds_rows_and_changes_none(tmp_path):
    plain, _ = rows_of("mnist1d", SHORT, tmp_path / "plain")
    both, _ = rows_of("mnist1d", replace(SHORT, averaged=True), tmp_path / "both")
    rest = both[both.layer != "averaged"].reset_index(drop=True)
    pd.testing.assert_frame_equal(plain, rest, check_exact=True)
    own, mean = values(both, layer="features"), values(both, layer="averaged")
    assert set(mean.index) <= set(own.index)
    late = [key for key in mean.index if key[0] == 5 and key[3] == "loss"]
    assert (mean[late] != own[late]).all()


def test_a_run_that_averages_goes_on_from_its_checkpoint_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setenv("NCLIB_CHECKPOINT_SECONDS", "0")
    params = replace(SHORT, averaged=True)
    whole, _ = rows_of("mnist1d", params, tmp_path / "whole")
    original = training.engine.Training.check

    def stop_at_3(self, loss, epoch):
        if epoch == 4:
            raise KeyboardInterrupt
        original(self, loss, epoch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.engine.Training, "check", stop_at_3)
        rows_of("mnist1d", params, tmp_path / "cut")
    again, _ = rows_of("mnist1d", params, tmp_path / "cut")
    pd.testing.assert_frame_equal(whole, again, check_exact=True)


@pytest.mark.parametrize("n", [1000, 4000, 4100])
def test_smaller_training_sets_are_contained_in_larger_ones(n):
    here, larger = (mnist1d.noisy_training_set(replace(SHORT, train_size=k)) for k in (n, n + 100))
    assert len(here) == n
    assert torch.equal(here.x, larger.x[:n])
    assert torch.equal(here.y_clean, larger.y_clean[:n])
    assert len(larger.x.unique(dim=0)) == n + 100, "a sample beyond the dataset's is none of it"
    assert 0.1 < (here.y != here.y_clean).double().mean() < 0.25


def test_samples_beyond_the_datasets_are_not_the_fresh_ones_of_the_test():
    more = mnist1d.noisy_training_set(replace(SHORT, train_size=4100)).x[4000:]
    assert not torch.isin(more[:, 0, 0], data.mnist1d.fresh(10_000, mnist1d.FRESH_SEED).x[:, 0, 0]).all()


def test_without_a_projector_the_last_block_gives_the_dimension():
    params = replace(SHORT, feature_dim=3, projector=False)
    model = mnist1d.network(params, 0, 4)
    assert model.feature_dim == 3
    assert model.features(torch.randn(5, 1, 40, dtype=torch.float32)).min() >= 0
    with_map = mnist1d.network(replace(params, projector=True), 0, 4)
    assert with_map.features(torch.randn(50, 1, 40)).min() < 0


@pytest.mark.parametrize(
    ("study", "changes", "message"),
    [
        (mnist1d, {"projector": False}, "projector = false needs a feature_dim"),
        (mnist1d, {"train_size": 16_001}, "at most 16000"),
        (mnist1d, {"train_size": 50}, "at least 100"),
        (representations, {"shared_init": True, "width": 8}, "shared_init needs networks of one width"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused_in_one_line(study, changes, message):
    with pytest.raises(ParameterError, match=message) as caught:
        study.Params(**changes)
    assert "\n" not in str(caught.value)


def test_a_pair_trained_again_from_its_seed_is_the_same_to_the_last_bit(tmp_path):
    first, _ = rows_of("representations", representations.SMOKE, tmp_path / "a")
    second, _ = rows_of("representations", representations.SMOKE, tmp_path / "b")
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_networks_of_shared_initial_weights_are_one_before_training_and_two_after(tmp_path):
    params = replace(representations.SMOKE, width=3, width_b=3, shared_init=True)
    rows, _ = rows_of("representations", params, tmp_path)
    same = tables.select(rows, layer="features|features", metric="cka_linear", split="test").set_index(
        "epoch"
    )
    assert same.value[0] == pytest.approx(1, abs=1e-12)
    assert same.value[params.epochs] < 1 - 1e-6


# Grids as pages read them


def test_a_grid_is_read_from_what_is_published_and_says_what_is_missing(store, monkeypatch):
    table, missing = grids.recorded("feature_dimension")
    assert (len(table), missing) == (
        0, "24 of 24 runs not recorded yet: nclib record --grid data/grids/feature_dimension.yml",
    )  # fmt: skip
    assert grids.coverage("mnist1d").loc["data/grids/feature_dimension.yml", "published"] == 0
    monkeypatch.undo()
    table, missing = grids.recorded("feature_dimension")
    assert (table.run.nunique(), missing) == (24, "")
    table, missing = grids.recorded("feature_dimension", feature_dim=9)
    assert set(table.feature_dim) == {9}
    shown = grids.coverage("mnist1d").loc["data/grids/feature_dimension.yml"]
    assert (shown["runs"], shown["published"], shown["core-hours left"]) == (24, 24, 0.0)
    assert not any("representations" in name for name in grids.coverage("mnist1d").index)
