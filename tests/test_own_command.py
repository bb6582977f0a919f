"""`nclib measure`: the numbers of `measure_model` for somebody's module, or one line and status 2."""

import argparse
import io
import sys

import numpy as np
import pytest
import torch
from own_networks import LABELS, images, loader, trained_a_little

import nclib
from nclib import cli, tables
from nclib.own import command

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

def lacking():
    x, y = images()
    return trained_a_little(), {"train": loader(), "test": loader(x[y != 7], y[y != 7])}
def numbered(): return trained_a_little(), {0: loader(), 1: loader()}
def by_name(): return trained_a_little(), [dict(zip(("image", "label"), images()))]
def on_meta(): return trained_a_little().to("meta"), loader()
def strange(): return trained_a_little(), [images()[0]]
class Folded(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.fold = trained_a_little(), torch.nn.Flatten(2)
    def forward(self, x):
        self.fold(x)
        return self.net(x)

def folded(): return Folded(), loader()

class Truncated(torch.utils.data.Dataset):
    kind = RuntimeError
    def __len__(self): return 61
    def __getitem__(self, i):
        if i == 20: raise self.kind("cannot read cat_20.png: truncated file")
        return images()[0][i], images()[1][i]
class Picky(Truncated): kind = ValueError
def of(kind): return trained_a_little(), torch.utils.data.DataLoader(kind(), batch_size=8, num_workers=1)
def workers(): return of(Truncated)
def picky_workers(): return of(Picky)
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
        (("mine:both", *CLASSES, "--checkpoints", "bad/8.pt"), "bad/8.pt is no checkpoint: "),
        (("mine:both", *CLASSES, "--checkpoints", "[bc]*/?.pt"), "bad/8.pt is no checkpoint: "),
        (
            ("mine:both", *CLASSES, "--checkpoints", "twice/a1.pt"),
            "twice/a1.pt is empty: save model.state_dict()",
        ),
        (
            ("mine:both", *CLASSES, "--checkpoints", "ckpt"),
            "ckpt is a folder: give a file or a pattern of files",
        ),
        (("mine:both", *CLASSES, "--checkpoints", "*"), " is a folder: give a file or a pattern of files"),
        (("mine:both", *CLASSES, "--checkpoints", "twice/*"), "a1.pt and b1.pt are both of epoch 1"),
        (("mine:both", "-o", "no/such/out.parquet"), "there is no folder no/such to write out.parquet into"),
        (("mine:both", "-o", "mine.py"), "mine.py is there already: name another file, or remove it"),
        (
            ("mine:both", "-o", "out.csv"),
            "out.csv does not end in .parquet, and a table is written as Parquet",
        ),
        (("mine:both", "--classes", "0:0,1:1,1:2"), "--classes: label 1 is there 2 times in '0:0,1:1,1:2'"),
        (("mine:both", "--classes", "3,7,7"), "--classes: label 7 is there 2 times in '3,7,7': name it once"),
        (("mine:both",), 'split "train": label'),
        (
            ("mine:both",),
            "say with --classes which label each row stands for, or with --classifier which nn.",
        ),
        (
            ("mine:lacking", *CLASSES),
            'split "test": no sample of class 7: give every class, or restrict with --classes',
        ),
        (("mine:numbered", *CLASSES), 'a split is named by a string, as "train" is, got 0'),
        (
            ("mine:by_name", *CLASSES),
            "has image, and the model takes x: say what is what with --unpack MODULE:FUNC",
        ),
        (("mine:on_meta", *CLASSES), "the model is on the meta device, where it holds no values"),
        (("mine:strange", *CLASSES), "say what is what with --unpack MODULE:FUNCTION"),
        (
            ("mine:folded", *CLASSES, "--layers", "fold"),
            "in Python with layers={'fold': lambda output: output.mean(1)}",
        ),
        (("mine:workers", *CLASSES), "measured: RuntimeError: cannot read cat_20.png: truncated file\n"),
        (("mine:picky_workers", *CLASSES), "measured: ValueError: cannot read cat_20.png: truncated file\n"),
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
    assert "5.pt cannot be loaded, as it holds more than tensors (builtins.print): save" in captured.err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda w: {"model": w, "args": argparse.Namespace(lr=0.1)}, "more than tensors (argparse.Namespace): save"),
        (lambda w: {"model": w, "lr": np.float64(0.1)}, "cannot be loaded, as it holds more than tensors (numpy"),
        (lambda w: trained_a_little(), "more than tensors (own_networks.ConvNet, torch."),
        (lambda w: [*w.values()], "8.pt holds a list: save model.state_dict()"),
        (lambda w: {"net": w}, 'none of its 11 weights is in the file, as it is or under "state_dict", "model", '),
        (lambda w: {"net": w}, "the file has 1 key (net)"),
        (lambda w: {n: t for n, t in w.items() if "fc" not in n}, "the model: 2 keys (fc.weight, ...) missing\n"),
        (lambda w: w | {"ema": torch.zeros(3)}, "the model: 1 key (ema) unexpected\n"),
        (lambda w: {"model." + n: t for n, t in w.items()} | {"loss.weight": torch.ones(3)}, "the file has 12 keys"),
        (lambda w: w | {"fc.weight": torch.zeros(4, 5)}, "fc.weight is (4, 5) in the file and (3, 5) in the model\n"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_a_short_line_that_says_why(capsys, folder, content, complaint):
    torch.save(content(weights_of(2)), folder / "8.pt")
    argv = ["measure", "mine:both", "--checkpoints", "8.pt", *CLASSES, "-o", "out.parquet"]
    assert cli.main(argv) == 2
    line = capsys.readouterr().err
    assert complaint in line and line.count("\n") == 1 and len(line) < 250
    assert not (folder / "out.parquet").exists()


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "_orig_mod.module.", "net.inner."])
def test_what_wrapped_a_model_is_taken_off_its_weights(capsys, folder, prefix):
    torch.save({"state_dict": {prefix + n: t for n, t in weights_of(2).items()}}, folder / "8.pt")
    torch.save(weights_of(2), folder / "plain8.pt")
    torch.save(weights_of(10), folder / "other8.pt")
    found, plain, other = (
        printed(capsys, "mine:both", "--checkpoints", name, *CLASSES)
        for name in ("8.pt", "plain8.pt", "other8.pt")
    )
    assert found == plain != other


class Closed(io.StringIO):
    """A pipe whose reader leaves after a line."""

    def flush(self):
        if self.getvalue().count("\n") > 1:
            raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("checkpoints", [(), ("--checkpoints", "ckpt/*.pt")])
def test_a_table_is_written_though_nobody_reads_the_lines_to_their_end(monkeypatch, folder, checkpoints):
    argv = ["measure", "mine:both", *CLASSES, *checkpoints]
    monkeypatch.setattr(sys, "stdout", Closed())
    assert cli.main([*argv, "-o", "out.parquet"]) == 0
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert cli.main([*argv, "-o", "read.parquet"]) == 0
    assert tables.read(folder / "out.parquet").equals(tables.read(folder / "read.parquet"))
    # Control: without a file, there is nothing left to do.
    loads = []
    monkeypatch.setattr(command, "load", lambda _, path: loads.append(path))
    monkeypatch.setattr(sys, "stdout", Closed())
    assert cli.main(argv) == 0
    assert len(loads) == bool(checkpoints)


def test_each_line_is_printed_at_once(monkeypatch, folder):
    flushed = []
    monkeypatch.setattr(sys.stdout, "flush", lambda: flushed.append(len(loads)))
    loads = []
    monkeypatch.setattr(command, "load", lambda _, path: loads.append(path))
    assert cli.main(["measure", "mine:both", *CLASSES, "--checkpoints", "ckpt/*.pt"]) == 0
    assert flushed[:3] == [1, 2, 3]


def test_a_folder_that_cannot_be_written_is_noticed_before_measuring(capsys, monkeypatch, folder):
    def refused(*, dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(command, "TemporaryFile", refused)
    assert cli.main(["measure", "mine:of_triples", *CLASSES, "-o", "inner/out.parquet"]) == 2
    line = "nclib: nothing can be written into the folder inner (Permission denied): name another one\n"
    assert capsys.readouterr().err == line
    assert "mine" not in sys.modules, "nothing of the target was run"


def test_nothing_is_left_of_a_measurement_that_is_interrupted(capsys, monkeypatch, folder):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(nclib.Trajectory, "measure", interrupted)
    before = set(folder.iterdir())
    assert cli.main(["measure", "mine:both", *CLASSES, "-o", "out.parquet"]) == 130
    assert capsys.readouterr().err == "nclib: interrupted; nothing was written\n"
    assert {path for path in folder.iterdir() if path.name != "__pycache__"} == before
