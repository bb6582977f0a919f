"""IDX and CIFAR-binary readers, and the search order, on files made here, whole and faulty."""

import gzip
import struct

import numpy as np
import pytest
import torch

from nclib import data
from nclib.data import DataError, cifar, fashion_mnist, folders, load
from nclib.data.cifar import read_cifar
from nclib.data.idx import read_bytes, read_idx, to_gzip, to_idx
from nclib.data.images import channel_constants, standardise

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A user with an empty cache, no system package and NCLIB_DATA set to the empty folder returned."""
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("NCLIB_DATA", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(folders, "SYSTEM", tmp_path / "system")
    return root


def write_family(folder, images=IMAGES, labels=LABELS, compress=True):
    folder.mkdir(parents=True, exist_ok=True)
    for pair in fashion_mnist.FILES.values():
        for name, array in zip(pair, (images, labels), strict=True):
            content = to_idx(array)
            path = folder / (f"{name}.gz" if compress else name)
            path.write_bytes(to_gzip(content) if compress else content)


def one_line(error):
    return "\n" not in str(error.value)


# IDX


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("compress", [True, False])
def test_idx_arrays_of_every_type_survive_the_round_trip(tmp_path, dtype, compress):
    array = np.array([[0, 1, 2], [3, 100, 7]], dtype=dtype)
    if dtype in ("i2", "i4"):
        array[0, 0] = 258  # bytes 01 02: reversed, it would read 513
    path = tmp_path / "array"
    path.write_bytes(to_gzip(to_idx(array)) if compress else to_idx(array))
    read = read_idx(path)
    assert read.dtype == np.dtype(dtype) and read.dtype.isnative and np.array_equal(read, array)


def test_idx_is_big_endian_on_disk(tmp_path):
    path = tmp_path / "handmade"
    path.write_bytes(bytes([0, 0, 0x0B, 1, 0, 0, 0, 2, 0x01, 0x02, 0xFF, 0xFE]))
    assert read_idx(path).tolist() == [258, -2]
    assert to_idx(np.array([258, -2], dtype=np.int16)) == path.read_bytes()


def test_idx_keeps_rows_before_columns(tmp_path):
    path = tmp_path / "handmade"
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]))
    assert read_idx(path).tolist() == [[[1, 2, 3], [4, 5, 6]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated: expected at least 4 bytes, found 0"),
        (b"\0\0\x08", "truncated: expected at least 4 bytes, found 3"),
        (b"\0\0\x08\x03\0\0", "truncated: expected a header of 16 bytes, found 6"),
        (to_idx(IMAGES)[:-1], "truncated: expected 15696 bytes.*found 15695"),
        (to_idx(IMAGES) + b"\0", "too long: expected 15696 bytes.*found 15697"),
        (b"\0\1" + to_idx(IMAGES)[2:], "starts with 00 01 08 03: not an IDX file"),
        (b"\0\0\x07\x01" + to_idx(LABELS)[4:], "starts with 00 00 07 01: not an IDX file"),
        (b"\0\0\x08\x00", "not an IDX file"),
        (b"<html>404</html>", "not an IDX file"),
        (struct.pack("<IIII", 0x803, 20, 28, 28) + IMAGES.tobytes(), "written little-endian"),
        (b"\0\0\x08\x03" + struct.pack("<III", 20, 28, 28) + IMAGES.tobytes(), "truncated: expected"),
    ],
)
def test_a_faulty_idx_file_is_named_with_its_fault(tmp_path, content, message):
    for name, stored in (("plain", content), ("packed.gz", to_gzip(content))):
        path = tmp_path / name
        path.write_bytes(stored)
        with pytest.raises(DataError, match=rf"{path}.*{message}") as error:
            read_idx(path)
        assert one_line(error)


def test_a_gzip_file_cut_short_is_truncated_and_counted(tmp_path):
    whole = to_gzip(to_idx(IMAGES))
    path = tmp_path / "cut.gz"
    for size in (15, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.gz is truncated: expected .*found \d+"):
            read_idx(path)
    path.write_bytes(whole)
    assert np.array_equal(read_idx(path), IMAGES)


def test_a_flipped_bit_in_gzip_is_found_by_its_own_check(tmp_path):
    whole = bytearray(to_gzip(to_idx(IMAGES)))
    whole[len(whole) // 2] ^= 1
    path = tmp_path / "flipped.gz"
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"flipped\.gz is (altered|truncated)"):
        read_idx(path)


def test_gzip_in_several_members_and_without_its_suffix_is_read(tmp_path):
    path = tmp_path / "images"
    content = to_idx(IMAGES)
    path.write_bytes(gzip.compress(content[:100]) + gzip.compress(content[100:]) + b"\0" * 8)
    assert read_bytes(path) == content


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="gone cannot be read"):
        read_bytes(tmp_path / "gone")


def test_idx_refuses_what_it_cannot_store():
    with pytest.raises(ValueError, match="int64"):
        to_idx(np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="0 dimensions"):
        to_idx(np.uint8(3))


# Standardisation


def test_channel_constants_are_exact_and_per_channel():
    images = np.concatenate([IMAGES[:, None], IMAGES[:, None] // 2, 255 - IMAGES[:, None]], axis=1)
    mean, std = channel_constants(images)
    np.testing.assert_allclose(mean, images.mean((0, 2, 3)) / 255, rtol=1e-13)
    np.testing.assert_allclose(std, images.std((0, 2, 3)) / 255, rtol=1e-13)
    x = standardise(images, mean, std).double()
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(x.std((0, 2, 3), correction=0), 1, atol=1e-6)
    swapped = standardise(images, mean[::-1], std[::-1]).double()
    assert swapped.mean((0, 2, 3))[1].abs() < 1e-6 < swapped.mean((0, 2, 3))[0].abs()


def test_a_constant_channel_cannot_be_standardised():
    flat = np.zeros((3, 1, 2, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match="standard deviation"):
        standardise(flat, *channel_constants(flat))
    with pytest.raises(ValueError, match="3 constants for images of 1 channels"):
        standardise(flat, (0.0,) * 3, (1.0,) * 3)


# CIFAR


def cifar_file(path, labels):
    images = RNG.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    path.write_bytes(np.concatenate([np.asarray(labels, dtype=np.uint8), images], axis=1).tobytes())
    return images.reshape(-1, 3, 32, 32)


def test_cifar10_records_are_label_then_red_green_blue_rows(tmp_path):
    record = bytes([7]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes(range(32)) * 32
    path = tmp_path / "batch.bin"
    path.write_bytes(record * 2)
    images, labels = read_cifar(path)
    assert labels.tolist() == [[7], [7]]
    assert images.shape == (2, 3, 32, 32)
    assert (images[:, 0] == 1).all() and (images[:, 1] == 2).all()
    assert images[1, 2, 5].tolist() == list(range(32)), "the row runs along the last axis"


def test_cifar100_has_a_coarse_and_a_fine_label(tmp_path):
    path = tmp_path / "train.bin"
    images = cifar_file(path, [[19, 99], [0, 20], [3, 4]])
    read, labels = read_cifar(path, (20, 100))
    assert labels.tolist() == [[19, 99], [0, 20], [3, 4]] and np.array_equal(read, images)
    path.write_bytes(path.read_bytes()[:-3074] + bytes([20]) + bytes(3073))
    with pytest.raises(DataError, match=r"holds label 20, expected 0 to 19"):
        read_cifar(path, (20, 100))


def test_a_faulty_cifar_file_is_named_with_its_fault(tmp_path):
    path = tmp_path / "batch.bin"
    cifar_file(path, [[1], [2], [9]])
    whole = path.read_bytes()
    for content, records, message in [
        (whole[:-1], None, "too long|truncated"),
        (whole[:3000], None, "truncated: expected 3073 bytes, records of 3073, found 3000"),
        (b"", None, "truncated"),
        (whole[:-3073], 3, "truncated: expected 9219 bytes.*found 6146"),
        (whole, 2, "too long: expected 6146 bytes.*found 9219"),
        (bytes([10]) + whole[1:], None, "holds label 10, expected 0 to 9"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            read_cifar(path, records=records)
        assert str(path) in str(error.value) and one_line(error)
    path.write_bytes(whole)
    assert len(read_cifar(path, records=3)[0]) == 3


def test_cifar_loads_all_batches_in_order_on_the_training_scale(nowhere, monkeypatch):
    monkeypatch.setitem(cifar.CIFAR10.records, "train", 4)
    monkeypatch.setitem(cifar.CIFAR10.records, "test", 3)
    folder = nowhere / "cifar-10-batches-bin"
    folder.mkdir()
    with pytest.raises(DataError, match=r"data_batch_1\.bin was not found"):
        load("cifar10")
    assert not data.available("cifar10")
    batches = [cifar_file(folder / f"data_batch_{i}.bin", [[i], [0], [1], [2]]) for i in range(1, 6)]
    held_out = cifar_file(folder / "test_batch.bin", [[3], [4], [5]])
    assert data.available("cifar10")
    train, test = load("cifar10", "train"), load("cifar10", "test")
    assert train.y[::4].tolist() == [1, 2, 3, 4, 5] and test.y.tolist() == [3, 4, 5]
    pixels = np.concatenate(batches) / 255
    mean, std = pixels.mean((0, 2, 3), keepdims=True), pixels.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(train.x.numpy(), (pixels - mean) / std, atol=1e-5)
    np.testing.assert_allclose(test.x.numpy(), (held_out / 255 - mean) / std, atol=1e-5)
    (folder / "data_batch_3.bin").write_bytes((folder / "data_batch_3.bin").read_bytes()[: 2 * 3073])
    with pytest.raises(DataError, match=r"data_batch_3.bin is truncated: expected 12292 bytes.*found 6146"):
        load("cifar10", "test")


def test_cifar100_loads_its_fine_labels(nowhere, monkeypatch):
    for split in ("train", "test"):
        monkeypatch.setitem(cifar.CIFAR100.records, split, 2)
        (nowhere / "cifar-100-binary").mkdir(exist_ok=True)
        cifar_file(nowhere / "cifar-100-binary" / f"{split}.bin", [[3, 71], [4, 5]])
    dataset = load("cifar100", "test")
    assert dataset.num_classes == 100 and dataset.y.tolist() == [71, 5]


# The MNIST family and the search order


def test_a_family_without_known_checksums_is_read_from_its_own_folder(nowhere):
    with pytest.raises(DataError, match=r"mnist: train-images-idx3-ubyte.gz was not found.*NCLIB_DATA"):
        load("mnist")
    write_family(nowhere)  # right in $NCLIB_DATA it could be any of the three datasets
    with pytest.raises(DataError, match="was not found"):
        load("mnist")
    write_family(nowhere / "mnist", compress=False)
    write_family(nowhere / "kmnist", images=255 - IMAGES)
    mnist, kmnist = load("mnist", "test"), load("kmnist", "test")
    pixels = IMAGES / 255
    np.testing.assert_allclose(mnist.x[:, 0].numpy(), (pixels - pixels.mean()) / pixels.std(), atol=1e-5)
    assert mnist.y.tolist() == LABELS.tolist()
    torch.testing.assert_close(kmnist.x, -mnist.x, rtol=0, atol=1e-5)
    brighter = fashion_mnist.FILES["test"][0]
    (nowhere / "kmnist" / f"{brighter}.gz").write_bytes(to_gzip(to_idx(IMAGES // 2 + 128)))
    expected = ((IMAGES // 2 + 128) / 255 - (1 - pixels).mean()) / pixels.std()
    np.testing.assert_allclose(load("kmnist", "test").x[:, 0].numpy(), expected, atol=1e-5)
    assert mnist.checksum != kmnist.checksum
    write_family(nowhere / "mnist")
    assert load("mnist", "test").checksum == mnist.checksum, "the checksum is of the decompressed bytes"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:-1], LABELS, "holds 19 images but .* 20 labels"),
        (IMAGES, LABELS[:-1], "holds 20 images but .* 19 labels"),
        (IMAGES, LABELS + 1, "holds label 10, expected 0 to 9"),
        (LABELS, LABELS, "not 8-bit images"),
        (IMAGES.astype(np.float32), LABELS, "holds float32"),
        (IMAGES, LABELS.astype(np.int16), "not 8-bit labels"),
        (IMAGES, IMAGES, "not 8-bit labels"),
    ],
)
def test_images_and_labels_that_do_not_belong_together_are_refused(nowhere, images, labels, message):
    write_family(nowhere / "mnist", images, labels)
    with pytest.raises(DataError, match=message) as error:
        load("mnist")
    assert one_line(error)


def test_a_missing_folder_asked_for_by_name_is_an_error(nowhere, monkeypatch):
    monkeypatch.setenv("NCLIB_DATA", str(nowhere / "typo"))
    with pytest.raises(DataError, match=r"NCLIB_DATA names .*typo, which is not a folder") as error:
        load("fashion_mnist")
    assert one_line(error)
    (nowhere / "file").touch()
    monkeypatch.setenv("NCLIB_DATA", str(nowhere / "file"))
    with pytest.raises(DataError, match="not a folder"):
        load("fashion_mnist")
    assert len(load("fashion_mnist_subset", "test")) == 1000, "embedded data needs no folder"


def test_the_chosen_folder_comes_before_the_cache_and_the_cache_before_the_system(
    nowhere, tmp_path, monkeypatch
):
    name = fashion_mnist.FILES["train"][0]
    family = fashion_mnist.FASHION_MNIST
    roots = [tmp_path / "system" / "fashion-mnist", tmp_path / "cache" / "nclib" / "fashion-mnist", nowhere]
    roots += [nowhere / "FashionMNIST" / "raw", nowhere / "fashion-mnist"]
    for root in roots:  # from the last place looked at to the first
        write_family(root)
        assert fashion_mnist.locate(family, name) == root / f"{name}.gz"
    monkeypatch.setenv("NCLIB_DATA", "")
    assert fashion_mnist.locate(family, name) == roots[1] / f"{name}.gz"


def test_a_fashion_mnist_file_that_is_not_the_original_is_named_and_never_read(nowhere, monkeypatch):
    write_family(nowhere / "fashion-mnist")  # whole and valid, but other images
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is altered.*nclib data fetch") as error:
        load("fashion_mnist")
    assert one_line(error)
    path = nowhere / "fashion-mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz is truncated: expected.*found"):
        load("fashion_mnist")
    monkeypatch.setattr(folders, "SYSTEM", nowhere)
    monkeypatch.setenv("NCLIB_DATA", "")
    write_family(nowhere / "fashion-mnist")
    with pytest.raises(DataError, match="reinstall dataset-fashion-mnist"):
        load("fashion_mnist")
