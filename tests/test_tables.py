"""The long table: one row a number, named, and the same after a trip to disk."""

import numpy as np
import pandas as pd
import pytest

from nclib import tables


def row(**changes):
    plain = {
        "epoch": 1,
        "split": "train",
        "labels": "clean",
        "layer": "features",
        "metric": "error",
        "value": 0.5,
    }
    return plain | changes


def table(*rows, run="r", seed=0):
    return tables.from_rows(rows or [row()], run=run, seed=seed)


def test_rows_become_a_table_with_exactly_the_columns_in_order():
    made = table(row(value=1), row(metric="loss", value=0.25), run="abc", seed=3)
    assert tuple(made.columns) == tables.COLUMNS
    assert made.dtypes[["seed", "epoch", "value"]].tolist() == ["int64", "int64", "float64"]
    assert made.iloc[1].to_dict() == row(metric="loss", value=0.25) | {"run": "abc", "seed": 3}


def test_a_metric_without_a_label_is_refused_by_name():
    with pytest.raises(ValueError, match="metric 'nc1' has no label"):
        table(row(), row(metric="nc1"))


def test_a_row_that_says_too_much_or_too_little_is_refused():
    with pytest.raises(ValueError, match="exactly epoch, split, labels, layer, metric, value"):
        table(row(batch=3))
    short = row()
    del short["split"]
    with pytest.raises(ValueError, match="exactly epoch, split, labels, layer, metric, value"):
        table(short)


@pytest.mark.parametrize("column", ["epoch", "split", "labels", "layer", "metric"])
def test_a_number_that_is_there_twice_is_refused_and_one_that_differs_in_a_name_is_not(column):
    with pytest.raises(ValueError, match="error of train/clean/features at epoch 1 is there twice"):
        table(row(), row(value=0.6))
    other = {"epoch": 2, "split": "test", "labels": "noisy", "layer": "stem", "metric": "loss"}[column]
    assert len(table(row(), row(**{column: other}))) == 2


def test_a_table_without_a_column_is_refused_by_name():
    with pytest.raises(ValueError, match="lacks the column 'layer'"):
        tables.check(table().drop(columns="layer"))


def test_what_is_written_is_read_to_seven_digits_with_its_gaps(tmp_path):
    values = [1 / 3, 1e-30, -2.5e8, float("nan"), float("inf"), 0.0]
    before = table(*[row(epoch=i, value=v) for i, v in enumerate(values)])
    tables.write(before, tmp_path / "t.parquet")
    after = tables.read(tmp_path / "t.parquet")
    assert tuple(after.columns) == tables.COLUMNS
    np.testing.assert_array_equal(after.value, np.array(values, dtype=np.float32).astype(np.float64))
    pd.testing.assert_frame_equal(
        after.drop(columns="value"), before.drop(columns="value"), check_dtype=False
    )
    assert after.value.dtype == "float64"
    assert not any(isinstance(dtype, pd.CategoricalDtype) for dtype in after.dtypes)


def test_a_file_is_small(tmp_path):
    rows = [
        row(epoch=e, layer=f"layer{k}", metric=m)
        for e in range(20)
        for k in range(10)
        for m in tables.METRICS
    ]
    tables.write(table(*rows), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 2 * len(rows)


def test_a_file_of_another_schema_is_refused(tmp_path):
    table().drop(columns="seed").to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="lacks the column 'seed'"):
        tables.read(tmp_path / "t.parquet")


def test_select_keeps_the_rows_that_match_every_condition():
    made = table(row(), row(epoch=2), row(epoch=3), row(epoch=2, split="test"))
    assert list(tables.select(made, split="train").epoch) == [1, 2, 3]
    assert list(tables.select(made, split="train", epoch=[1, 3]).epoch) == [1, 3]
    assert tables.select(made, split="fresh").empty
    assert len(tables.select(made)) == 4
    with pytest.raises(KeyError, match="no column 'width'"):
        tables.select(made, width=3)


def test_labels_of_metrics_are_distinct_and_present():
    assert all(label.strip() for label in tables.METRICS.values())
    assert len(set(tables.METRICS.values())) == len(tables.METRICS)
