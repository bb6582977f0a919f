"""`nclib measure`: the numbers of `measure_model` for somebody's module, or one line and status 2."""

import sys

import pytest
import torch
from own_networks import LABELS, images, loader, trained_a_little

import nclib
from nclib import cli, tables

SOURCE = """
import torch
from own_networks import loader, images, trained_a_little

def model_and_loader(): return trained_a_little(), loader()
def both():
    x, y = images()
    return trained_a_little(), {"train": loader(x[:40], y[:40]), "test": loader(x[40:], y[40:])}
def wrong(): return trained_a_little()
def failing(): raise KeyError("no data here")
def broken():
    model = trained_a_little()
    return model, loader(images()[0][:, :, 0], images()[1])
number = 3

def of_triples():
    loads.append(1)
    return trained_a_little(), [(i, y, x) for i, (x, y) in enumerate(loader())]
def from_triple(batch): return batch[2], batch[1]
def nothing(batch): return None
loads = []
"""
CLASSES = ("--classes", "3,7,11")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with a module in it, a broken one, and checkpoints of three epochs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "net.py").write_text(SOURCE)
    (tmp_path / "unfinished.py").write_text("def model_and_loader(:\n")
    (tmp_path / "ckpt").mkdir()
    for epoch, name, wrap in (
        (2, "e2.pt", None),
        (10, "run7_epoch10.pt", "state_dict"),
        (1, "1.pt", "model"),
    ):
        weights = weights_of(epoch)
        torch.save(weights if wrap is None else {wrap: weights, "lr": 0.1}, tmp_path / "ckpt" / name)
    yield tmp_path
    for name in ("mine", "net", "inner", "inner.net", "unfinished"):  # the next folder has its own
        sys.modules.pop(name, None)


def weights_of(epoch):
    model = trained_a_little()
    with torch.no_grad():
        model.fc.weight.mul_(epoch)
    return model.state_dict()


def printed(capsys, *argv):
    assert cli.main(["measure", *argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("module", ["mine", "mine.py", "inner/net.py", "inner.net"])
def test_one_measurement_is_a_table_of_metric_value_and_label(capsys, module):
    header, *lines = printed(capsys, f"{module}:model_and_loader", *CLASSES)
    assert header.split() == ["metric", "train", "label"]
    expected = nclib.measure_model(trained_a_little(), loader(), classes=LABELS.tolist())
    assert [line.split()[0] for line in lines] == list(expected)
    for line, (name, value) in zip(lines, expected.items(), strict=True):
        assert float(line.split()[1]) == pytest.approx(value, rel=1e-5)
        assert line.endswith(f"  {tables.METRICS[name]}")
    assert len({line.rindex(tables.METRICS[line.split()[0]]) for line in lines}) == 1, "columns are aligned"


def test_splits_stand_side_by_side_and_a_metric_of_one_leaves_a_gap(capsys):
    header, *lines = printed(capsys, "mine:both", *CLASSES)
    assert header.split() == ["metric", "train", "test", "label"]
    of_train_means = next(line for line in lines if line.startswith("ncc_accuracy_train_means"))
    assert of_train_means[26:39].strip() == ""
    assert float(of_train_means[39:52]) <= 1


def test_checkpoints_give_a_line_each_in_order_of_epochs_and_the_whole_in_a_file(capsys, folder):
    argv = ("mine.py:both", "--checkpoints", "ckpt/*.pt", *CLASSES, "-o", "out.parquet")
    header, *lines = printed(capsys, *argv)
    assert header.split()[:4] == ["epoch", "split", "error", "loss"]
    assert [line.split()[:2] for line in lines] == [
        [e, s] for e in ("1", "2", "10") for s in ("train", "test")
    ]
    table = tables.read(folder / "out.parquet")
    assert set(table.epoch) == {1, 2, 10}
    model = trained_a_little()
    model.load_state_dict(weights_of(10))
    x, y = images()
    expected = nclib.measure_model(model, loader(x[:40], y[:40]), classes=LABELS.tolist())
    found = tables.select(table, epoch=10, split="train").set_index("metric").value.to_dict()
    assert found == pytest.approx(expected, rel=1e-6)
    assert float(lines[4].split()[3]) == pytest.approx(expected["loss"], rel=1e-5)
    losses = tables.select(table, metric="loss", split="train").value
    assert losses.nunique() == 3, "every checkpoint has its own weights"


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("epoch=3-step=1250.ckpt", 3),
        ("epoch=9-val_loss=0.12.ckpt", 9),
        ("best2-Epoch_07-acc97.pt", 7),
        ("run4-epoch-5.1.pt", 5),
        ("EPOCH12_of_20.pt", 12),
        ("epochs100_step20.pt", 20),
        ("epoch_step=8.pt", 8),
        ("resnet18-40.pt", 40),
    ],
)
def test_the_epoch_is_the_number_after_epoch_or_else_the_last(capsys, folder, name, epoch):
    torch.save(weights_of(2), folder / name)
    _, line = printed(capsys, "mine:model_and_loader", "--checkpoints", name, *CLASSES)
    assert line.split()[:2] == [str(epoch), "train"]


def test_some_classes_and_the_classifier_can_be_named(capsys):
    lines = printed(
        capsys, "mine:model_and_loader", "--classes", "3:0,11:2", "--classifier", "fc", "--device", "cpu"
    )
    expected = nclib.measure_model(trained_a_little(), loader(), classes={3: 0, 11: 2})
    assert float(lines[1].split()[1]) == pytest.approx(expected["error"], rel=1e-5)


@pytest.mark.parametrize("module", ["mine", "mine.py"])
def test_a_function_says_what_is_what_in_a_batch(capsys, module):
    lines = printed(capsys, f"{module}:of_triples", *CLASSES, "--unpack", f"{module}:from_triple")
    expected = printed(capsys, f"{module}:model_and_loader", *CLASSES)
    assert lines == expected
    assert sys.modules["mine"].loads == [1], "one module holds both functions"
    # Control: without it, the second entry of three counts as labels, and the first as input.
    assert cli.main(["measure", f"{module}:of_triples", *CLASSES]) == 2


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("mine",), "'mine' is no MODULE:FUNCTION"),
        (("mine:",), "is no MODULE:FUNCTION"),
        (("nowhere:f",), "nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        (("nowhere.py:f",), "there is no file nowhere.py in"),
        (("unfinished.py:f",), "unfinished.py cannot be imported: SyntaxError"),
        (("mine:modle_and_loader",), "mine has no function modle_and_loader"),
        (("mine:number",), "mine has no function number"),
        (("mine:wrong",), "mine:wrong must return (model, loader) or (model, {split: loader})"),
        (("mine:failing",), "mine:failing failed: KeyError: 'no data here'"),
        (("mine:broken", *CLASSES), "mine:broken cannot be measured: RuntimeError"),
        (("mine:model_and_loader",), "is none of 0, 1, 2, which the 3 rows of the classifier stand for"),
        (("mine:model_and_loader", "--classes", "3,seven"), "--classes: cannot read '3,seven'"),
        (("mine:model_and_loader", "--classes", "3:0,7"), "--classes: cannot read '3:0,7'"),
        (("mine:model_and_loader", *CLASSES, "--classifier", "head"), "'head' is no nn.Linear of the model"),
        (("mine:model_and_loader", *CLASSES, "--device", "nowhere"), "cannot be measured on nowhere"),
        (("mine:both", *CLASSES, "--unpack", "unpack"), "'unpack' is no MODULE:FUNCTION"),
        (("mine:both", *CLASSES, "--unpack", "mine:unpack"), "mine has no function unpack"),
        (("mine:both", *CLASSES, "--unpack", "mine:nothing"), "unpack must return (inputs, labels)"),
        (("mine:both", "--checkpoints", "*.ckpt"), "no file matches *.ckpt"),
        (("mine:both", "--checkpoints", ""), "no file matches"),
        (("mine:both", "--checkpoints", "nowhere/*.pt"), "no file matches nowhere/*.pt"),
        (("mine:both", *CLASSES, "--checkpoints", "*.py"), "mine.py has no number in its name"),
        (("mine:both", *CLASSES, "--checkpoints", "bad/9.pt"), "bad/9.pt does not match the model"),
        (("mine:both", *CLASSES, "--checkpoints", "bad/8.pt"), "bad/8.pt does not match the model"),
        (("mine:both", *CLASSES, "--checkpoints", "[bc]*/?.pt"), "bad/8.pt does not match the model"),
        (("mine:both", *CLASSES, "--checkpoints", "twice/*"), "a1.pt and b1.pt are both of epoch 1"),
        (("mine:both", "-o", "no/such/out.parquet"), "there is no folder no/such to write out.parquet into"),
        (("mine:both", "-o", "mine.py"), "mine.py is there already: name another file, or remove it"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_writes_nothing(capsys, folder, argv, complaint):
    for name in ("bad", "twice"):
        (folder / name).mkdir()
    torch.save({"fc.weight": torch.zeros(3, 4)}, folder / "bad" / "9.pt")
    (folder / "bad" / "8.pt").write_text("no checkpoint")
    (folder / "twice" / "a1.pt").touch()
    (folder / "twice" / "b1.pt").touch()
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    output = () if "-o" in argv else ("-o", "out.parquet")
    assert cli.main(["measure", *argv, *output]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
    assert complaint in captured.err
    after = {p: p.read_bytes() for p in folder.rglob("*.*") if p.is_file() and p.suffix != ".pyc"}
    assert after == before


def test_a_checkpoint_that_would_run_code_is_not_loaded(capsys, folder):
    class Surprise:
        def __reduce__(self):
            return print, ("code was run",)

    torch.save({"state_dict": Surprise()}, folder / "5.pt")
    assert cli.main(["measure", "mine:both", "--checkpoints", "5.pt", *CLASSES]) == 2
    captured = capsys.readouterr()
    assert "code was run" not in captured.out
    assert "5.pt does not match the model, or is no checkpoint" in captured.err
