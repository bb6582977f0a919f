"""nclib.data: loading by name, balanced draws and label noise."""

import ast
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from nclib import data
from nclib.data import Dataset, class_balanced, embed, folders, load, with_label_noise
from nclib.data.idx import read_bytes, read_idx

REPOSITORY = Path(__file__).resolve().parents[1]
INCLUDING, EXCLUDING = "symmetric_including_true", "symmetric_excluding_true"
PERMUTED = "permuted"
needs_fashion_mnist = pytest.mark.skipif(
    not data.available("fashion_mnist"),
    reason="the full FashionMNIST is not here: `nclib data fetch`, or install dataset-fashion-mnist",
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(per_class=30, K=4):
    y = torch.arange(K).repeat(per_class)
    return Dataset(torch.arange(len(y), dtype=torch.float32)[:, None], y, y.clone(), K, "toy", "0" * 64)


# What load gives


@pytest.mark.parametrize(
    ("name", "split", "shape"),
    [
        ("fashion_mnist_subset", "train", (2000, 1, 28, 28)),
        ("fashion_mnist_subset", "test", (1000, 1, 28, 28)),
        ("mnist1d", "train", (4000, 1, 40)),
        ("mnist1d", "test", (1000, 1, 40)),
        pytest.param("fashion_mnist", "train", (60000, 1, 28, 28), marks=needs_fashion_mnist),
        pytest.param("fashion_mnist", "test", (10000, 1, 28, 28), marks=needs_fashion_mnist),
    ],
)
def test_load_gives_standardised_float32_with_clean_labels(name, split, shape):
    dataset = load(name, split)
    assert dataset.x.shape == shape and dataset.x.dtype == torch.float32
    assert dataset.name == name and dataset.num_classes == 10 and len(dataset) == shape[0]
    assert torch.equal(dataset.y, dataset.y_clean) and dataset.y.data_ptr() != dataset.y_clean.data_ptr()
    assert abs(dataset.x.double().mean()) < 0.02 and abs(dataset.x.double().std() - 1) < 0.02
    assert len(dataset.checksum) == 64


def test_subset_is_balanced_and_on_the_scale_of_the_full_dataset():
    for split, per_class, prefix in (("train", 200, "train"), ("test", 100, "t10k")):
        dataset = load("fashion_mnist_subset", split)
        assert dataset.y.bincount().tolist() == [per_class] * 10
        folder = REPOSITORY / "data" / "fashion_mnist_subset"
        pixels = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz").astype(np.float64)
        expected = (pixels / 255 - 0.2860405969887955) / 0.35302424451492254
        np.testing.assert_allclose(dataset.x[:, 0].double().numpy(), expected, atol=1e-6)


@needs_fashion_mnist
def test_fashion_mnist_training_split_has_mean_0_and_variance_1():
    x = load("fashion_mnist", "train").x.double()
    assert abs(x.mean()) < 1e-7
    assert abs(x.var(correction=0) - 1) < 1e-6
    # control: the test split is on the training split's scale, not on its own
    assert abs(load("fashion_mnist", "test").x.double().mean()) > 1e-4


@needs_fashion_mnist
def test_the_embedded_subset_is_cut_from_the_full_dataset():
    for split, per_class in (("train", 200), ("test", 100)):
        full, subset = load("fashion_mnist", split), load("fashion_mnist_subset", split)
        first = torch.cat([(full.y == k).nonzero()[:per_class, 0] for k in range(10)]).sort().values
        assert torch.equal(subset.x, full.x[first]) and torch.equal(subset.y, full.y[first])


@needs_fashion_mnist
def test_embedded_files_are_made_again_byte_for_byte():
    for name, content in (embed.fashion_mnist_subset() | embed.mnist1d_file()).items():
        path = folders.EMBEDDED / name
        if path.suffix == ".npz":
            assert path.read_bytes() == content
        else:  # the compressed bytes may differ between zlib versions, the contents may not
            assert read_bytes(path) == gzip.decompress(content)


def test_the_checksum_tells_contents_apart_and_survives_subset_and_noise():
    names = [("mnist1d", "train"), ("mnist1d", "test"), ("fashion_mnist_subset", "train")]
    sums = [load(*name).checksum for name in names]
    assert len(set(sums)) == 3
    assert sums == [load(*name).checksum for name in names]
    folder = REPOSITORY / "data" / "fashion_mnist_subset"
    content = b"".join(
        gzip.decompress((folder / f"train-{kind}-ubyte.gz").read_bytes())
        for kind in ("images-idx3", "labels-idx1")
    )
    assert sums[2] == hashlib.sha256(content).hexdigest()
    dataset = load("mnist1d", "test")
    assert with_label_noise(dataset, 0.5, INCLUDING, generator()).checksum == dataset.checksum
    assert dataset.subset(torch.arange(5)).checksum == dataset.checksum


@needs_fashion_mnist
def test_the_known_checksums_are_those_of_the_data():
    for split in ("train", "test"):
        assert data.checksum("fashion_mnist", split) == load("fashion_mnist", split).checksum


def test_checksums_need_no_fashion_mnist_on_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("NCLIB_DATA", str(tmp_path / "missing"))
    assert data.checksum("fashion_mnist", "train") != data.checksum("fashion_mnist", "test")
    assert data.checksum("mnist1d", "test") == load("mnist1d", "test").checksum
    with pytest.raises(ValueError, match="'validation'"):
        data.checksum("fashion_mnist", "validation")


def test_unknown_names_and_splits_are_named():
    with pytest.raises(ValueError, match=r"'fashion-mnist'.*fashion_mnist"):
        load("fashion-mnist")
    with pytest.raises(ValueError, match=r"'validation'.*train, test"):
        load("mnist1d", "validation")


def test_data_imports_nothing_else_of_nclib():
    for path in (REPOSITORY / "nclib" / "data").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in modules:
                root, *rest = module.split(".")
                assert root not in ("requests", "urllib3", "scipy", "pandas", "mnist1d"), path.name
                assert root != "nclib" or rest[:1] == ["data"], f"{path.name} imports {module}"


# Dataset


def test_subset_takes_positions_or_a_mask_and_copies():
    dataset = with_label_noise(toy(), 0.5, EXCLUDING, generator())
    index = torch.tensor([7, 3, 3])
    part = dataset.subset(index)
    assert part.x[:, 0].tolist() == [7, 3, 3]
    assert torch.equal(part.y, dataset.y[index]) and torch.equal(part.y_clean, dataset.y_clean[index])
    wrong = dataset.y != dataset.y_clean
    assert len(dataset.subset(wrong)) == wrong.sum() == 60
    part.x.zero_()
    assert dataset.x[7, 0] == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(4, 1, dtype=torch.float64)}, "x must be float32"),
        ({"y": torch.zeros(3, dtype=torch.int64)}, "y must be int64 of shape"),
        ({"y_clean": torch.zeros(4, dtype=torch.int64).int()}, "y_clean must be int64"),
        ({"y": torch.tensor([0, 1, 2, 1])}, r"y must lie in \[0, 2\)"),
        ({"y_clean": torch.tensor([0, 1, -1, 1])}, r"y_clean must lie in \[0, 2\)"),
    ],
)
def test_a_dataset_refuses_parts_that_disagree(change, message):
    y = torch.tensor([0, 1, 0, 1])
    parts = {"x": torch.zeros(4, 1), "y": y, "y_clean": y, "num_classes": 2, "name": "toy", "checksum": ""}
    Dataset(**parts)
    with pytest.raises((ValueError, TypeError), match=message):
        Dataset(**parts | change)


# Balanced draws


def test_class_balanced_draws_equally_without_repetition_in_shuffled_order():
    dataset = toy(per_class=30, K=4)
    drawn = class_balanced(dataset, 40, generator())
    assert drawn.y_clean.bincount().tolist() == [10] * 4
    chosen = drawn.x[:, 0].long()
    assert len(chosen.unique()) == 40
    assert torch.equal(drawn.y, dataset.y[chosen])
    assert not torch.equal(chosen, chosen.sort().values)
    assert (drawn.y[:-1] > drawn.y[1:]).any(), "classes come in blocks"


def test_class_balanced_depends_on_its_generator_alone_and_nests():
    dataset = toy(per_class=30, K=4)
    torch.manual_seed(1)
    a = class_balanced(dataset, 40, generator(3)).x
    torch.manual_seed(2)
    assert torch.equal(a, class_balanced(dataset, 40, generator(3)).x)
    assert not torch.equal(a, class_balanced(dataset, 40, generator(4)).x)
    assert set(a[:, 0].tolist()) < set(class_balanced(dataset, 80, generator(3)).x[:, 0].tolist())


def test_class_balanced_equalises_an_unbalanced_dataset():
    dataset = load("mnist1d")
    assert dataset.y.bincount().unique().numel() > 1
    assert class_balanced(dataset, 1000, generator()).y.bincount().tolist() == [100] * 10


def test_class_balanced_says_what_is_wrong_with_a_size():
    dataset = toy(per_class=30, K=4)
    for size in (42, 0, -4):
        with pytest.raises(ValueError, match=f"multiple of the 4 classes, not {size}"):
            class_balanced(dataset, size, generator())
    with pytest.raises(ValueError, match=r"only 30 points of class 0.*need 31.*at most 120"):
        class_balanced(dataset, 124, generator())
    assert len(class_balanced(dataset, 120, generator())) == 120


# Label noise


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.333, 1.0])
def test_excluding_true_makes_exactly_the_rounded_share_wrong(rate):
    dataset = load("mnist1d")
    noisy = with_label_noise(dataset, rate, EXCLUDING, generator())
    assert (noisy.y != noisy.y_clean).sum() == round(rate * 4000)


@pytest.mark.parametrize("seed", range(3))
def test_including_true_leaves_a_tenth_of_the_redrawn_labels_right(seed):
    noisy = with_label_noise(load("mnist1d"), 0.2, INCLUDING, generator(seed))
    wrong = int((noisy.y != noisy.y_clean).sum())
    # 800 redrawn, 9 of 10 wrong: 720 expected, standard deviation 8.5
    assert 680 < wrong < 760


def test_the_share_is_rounded_not_cut():
    assert 0.29 * 100 < 29  # in floating point
    noisy = with_label_noise(toy(per_class=25, K=4), 0.29, EXCLUDING, generator())
    assert (noisy.y != noisy.y_clean).sum() == 29


def test_including_true_redraws_at_most_the_rounded_share():
    dataset = toy(per_class=1000, K=2)
    noisy = with_label_noise(dataset, 1.0, INCLUDING, generator())
    assert 900 < (noisy.y != noisy.y_clean).sum() < 1100


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_permuted_labels_keep_the_size_of_every_class(rate):
    dataset = toy(per_class=1000, K=4)
    noisy = with_label_noise(dataset, rate, PERMUTED, generator())
    assert noisy.y.bincount().tolist() == [1000] * 4
    assert with_label_noise(dataset, rate, INCLUDING, generator()).y.bincount().tolist() != [1000] * 4
    wrong = int((noisy.y != noisy.y_clean).sum())
    # a permutation leaves a quarter of the labels where they were: 5 standard deviations
    assert abs(wrong - 0.75 * 4000 * rate) < 5 * (4000 * rate * 0.1875) ** 0.5


def test_at_rate_one_the_label_says_nothing_about_the_point():
    noisy = with_label_noise(toy(per_class=1000, K=4), 1.0, PERMUTED, generator())
    table = torch.zeros(4, 4).index_put_((noisy.y_clean, noisy.y), torch.tensor(1.0), accumulate=True)
    assert (table - 250).abs().max() < 5 * (1000 * 0.1875) ** 0.5
    less = with_label_noise(toy(per_class=1000, K=4), 0.5, PERMUTED, generator())
    assert (less.y == less.y_clean).float().mean() > 0.6


@pytest.mark.parametrize("model", [INCLUDING, EXCLUDING])
def test_redrawn_labels_are_uniform_over_the_allowed_classes(model):
    K, n = 4, 8000
    y = torch.ones(n, dtype=torch.int64)
    dataset = Dataset(torch.zeros(n, 1), y, y.clone(), K, "ones", "")
    counts = with_label_noise(dataset, 1.0, model, generator()).y.bincount(minlength=K)
    allowed = [0, 1, 2, 3] if model == INCLUDING else [0, 2, 3]
    assert counts[allowed].sum() == n
    # five standard deviations of a multinomial count
    p = 1 / len(allowed)
    assert (counts[allowed] - n * p).abs().max() < 5 * (n * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("model", [INCLUDING, EXCLUDING, PERMUTED])
def test_noise_leaves_the_clean_labels_and_its_argument_alone(model):
    dataset = toy()
    before = dataset.y.clone()
    noisy = with_label_noise(dataset, 0.5, model, generator())
    assert torch.equal(dataset.y, before) and torch.equal(dataset.y_clean, before)
    assert torch.equal(noisy.y_clean, before) and not torch.equal(noisy.y, before)
    assert torch.equal(noisy.x, dataset.x)
    assert torch.equal(with_label_noise(dataset, 0.0, model, generator()).y, before)


@pytest.mark.parametrize("model", [INCLUDING, EXCLUDING])
def test_noise_depends_on_its_generator_alone_and_nests_in_the_rate(model):
    dataset = load("mnist1d", "test")
    torch.manual_seed(1)
    low = with_label_noise(dataset, 0.2, model, generator(5)).y
    torch.manual_seed(2)
    assert torch.equal(low, with_label_noise(dataset, 0.2, model, generator(5)).y)
    assert not torch.equal(low, with_label_noise(dataset, 0.2, model, generator(6)).y)
    high = with_label_noise(dataset, 0.4, model, generator(5)).y
    changed = low != dataset.y_clean
    assert torch.equal(low[changed], high[changed])


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_rate_outside_0_to_1_is_named(rate):
    with pytest.raises(ValueError, match=f"not {rate}"):
        with_label_noise(toy(), rate, INCLUDING, generator())


def test_an_unknown_noise_model_is_named():
    with pytest.raises(ValueError, match=f"'symmetric'.*{INCLUDING}, {EXCLUDING}"):
        with_label_noise(toy(), 0.1, "symmetric", generator())


def test_excluding_true_needs_another_class():
    with pytest.raises(ValueError, match="at least 2 classes"):
        with_label_noise(toy(K=1), 0.1, EXCLUDING, generator())


def test_every_dataset_of_ten_classes_has_a_name_for_each():
    for name in set(data.names()) - {"cifar100"}:
        assert len(set(data.class_names(name))) == 10
    assert data.class_names("fashion_mnist")[9] == "Ankle boot"
    for unknown in ("cifar100", "imagenet"):
        with pytest.raises(ValueError, match=unknown):
            data.class_names(unknown)
