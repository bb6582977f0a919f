"""CIFAR-10 and CIFAR-100 in their binary version: label bytes, then 3072 pixel bytes, record after record."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nclib.data import folders
from nclib.data.dataset import DataError, Dataset
from nclib.data.idx import read_bytes
from nclib.data.images import channel_constants, standardise

PIXELS = 3 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Files and records of one CIFAR dataset (https://www.cs.toronto.edu/~kriz/cifar.html)."""

    name: str
    subfolder: str
    files: dict[str, tuple[str, ...]]
    records: dict[str, int]
    """Images in each file of a split."""
    labels: tuple[int, ...]
    """Classes of each label byte, the last of which is the label."""


CIFAR10 = Layout(
    name="cifar10",
    subfolder="cifar-10-batches-bin",
    files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    records={"train": 10_000, "test": 10_000},
    labels=(10,),
)
CIFAR100 = Layout(
    name="cifar100",
    subfolder="cifar-100-binary",
    files={"train": ("train.bin",), "test": ("test.bin",)},
    records={"train": 50_000, "test": 10_000},
    labels=(20, 100),
)


def read_cifar(
    path: Path, labels: tuple[int, ...] = (10,), *, records: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) uint8, channels red, green, blue, and label bytes (N, len(labels)) of one file.

    `labels` gives the number of classes of each label byte: (10,) for CIFAR-10, (20, 100), coarse then
    fine, for CIFAR-100. Raises DataError if the file is no whole number of records, not `records` of them
    where given, or holds a label out of range, which is what reading the wrong layout looks like.
    """
    return _parse(read_bytes(path), str(path), labels, records)


def available(layout: Layout) -> bool:
    """Whether all files of both splits are here."""
    return all(
        folders.find((file,), (layout.subfolder,)) for files in layout.files.values() for file in files
    )


def load_cifar(layout: Layout, split: str) -> Dataset:
    """All batches of a split, in order, standardised per channel with the training images' constants."""
    images, labels, checksum = _read_split(layout, split)
    train = images if split == "train" else _read_split(layout, "train")[0]
    y = torch.from_numpy(labels.astype(np.int64))
    x = standardise(images, *channel_constants(train))
    return Dataset(x, y, y.clone(), layout.labels[-1], layout.name, checksum)


def _read_split(layout: Layout, split: str) -> tuple[np.ndarray, np.ndarray, str]:
    images, labels, checksum = [], [], hashlib.sha256()
    for file in layout.files[split]:
        path = folders.find((file,), (layout.subfolder,))
        if path is None:
            raise DataError(
                f"{layout.name}: {file} was not found; unpack the binary version into "
                f"{layout.subfolder} and set NCLIB_DATA to the folder above it"
            )
        content = read_bytes(path)
        checksum.update(content)
        batch, batch_labels = _parse(content, str(path), layout.labels, layout.records[split])
        images.append(batch)
        labels.append(batch_labels[:, -1])
    return np.concatenate(images), np.concatenate(labels), checksum.hexdigest()


def _parse(
    content: bytes, name: str, labels: tuple[int, ...], records: int | None
) -> tuple[np.ndarray, np.ndarray]:
    record = len(labels) + PIXELS
    expected = record * records if records is not None else record * max(1, len(content) // record)
    if len(content) != expected:
        fault = "truncated" if len(content) < expected else "too long"
        raise DataError(
            f"{name} is {fault}: expected {expected} bytes, records of {record}, found {len(content)}; "
            "unpack it again"
        )
    table = np.frombuffer(content, np.uint8).reshape(-1, record)
    for byte, classes in enumerate(labels):
        if table[:, byte].max() >= classes:
            raise DataError(
                f"{name} holds label {table[:, byte].max()}, expected 0 to {classes - 1}; "
                "check that it is the binary version of this dataset"
            )
    return table[:, len(labels) :].reshape(-1, 3, 32, 32), table[:, : len(labels)]
