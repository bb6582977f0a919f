"""The MNIST family in IDX files: FashionMNIST (searched, downloaded, verified), MNIST and KMNIST (local)."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from nclib.data import folders, manifest
from nclib.data.dataset import DataError, Dataset
from nclib.data.download import download
from nclib.data.idx import parse_idx, read_bytes
from nclib.data.images import channel_constants, standardise

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
FASHION_MNIST_MEAN = 0.2860405969887955
"""Mean pixel of the 60,000 training images, on [0, 1]."""
FASHION_MNIST_STD = 0.35302424451492254
"""Standard deviation (ddof 0) of the pixels of the 60,000 training images, on [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One dataset of the family: where it lies, what it must contain, how it is standardised."""

    name: str
    subfolders: tuple[str, ...]
    num_classes: int = 10
    sha256: dict[str, str] = field(default_factory=dict)
    """File name to sha256 of its decompressed bytes; empty where no reference is known."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Split to the `checksum` of its Dataset, where the contents are known."""
    mirrors: tuple[str, ...] = ()
    mean: float | None = None
    std: float | None = None
    """Training constants; computed from the training images where None."""


FASHION_MNIST = Family(
    name="fashion_mnist",
    # Ours and Debian's, then torchvision's, then the files right in the folder.
    subfolders=("fashion-mnist", "FashionMNIST/raw", "."),
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    checksums={
        "train": "d9ef4273af5c2e360155dad0c06bd939447bf37a6620db007d69fc79e4732045",
        "test": "30214f3fe91405cb8ea60b11ecf0914a65dd6a6ca8e13c13a62eb434f2d9fe56",
    },
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    mean=FASHION_MNIST_MEAN,
    std=FASHION_MNIST_STD,
)
# All three use the same file names: without a checksum, only a folder of its own tells them apart.
MNIST = Family(name="mnist", subfolders=("mnist", "MNIST/raw"))
KMNIST = Family(name="kmnist", subfolders=("kmnist", "KMNIST/raw"))


def locate(family: Family, name: str, *, fetch: bool = True) -> Path:
    """The path of one file (gzipped or plain) along the search order, downloaded if need be and allowed."""
    path = folders.find((f"{name}.gz", name), family.subfolders)
    if path is not None:
        return path
    subfolder = family.subfolders[0]
    if not family.mirrors:
        raise DataError(
            f"{family.name}: {name}.gz was not found; put it into a folder {subfolder} and set NCLIB_DATA to "
            "the folder above it"
        )
    advice = (
        f"set NCLIB_DATA to a folder that holds its four files, install Debian's dataset-{subfolder}, "
        f"or use {family.name}_subset"
    )
    if not fetch:
        raise DataError(f"{family.name}: {name}.gz was not found; run `nclib data fetch`, {advice}")
    try:
        return download(
            [f"{mirror}{name}.gz" for mirror in family.mirrors],
            folders.download_folder(subfolder) / f"{name}.gz",
            sha256=family.sha256[name],
        )
    except DataError as error:
        raise DataError(f"{family.name}: {error}; {advice}") from None


def available(family: Family) -> bool:
    """Whether all files of both splits are here, without a download."""
    names = [name for pair in FILES.values() for name in pair]
    return all(folders.find((f"{name}.gz", name), family.subfolders) for name in names)


def load_family(family: Family, split: str, *, fetch: bool = True) -> Dataset:
    """Images (N, 1, height, width), verified where a sha256 is known, on the training images' scale."""
    paths = [locate(family, name, fetch=fetch) for name in FILES[split]]
    images, labels, checksum = _read_split(family, split, paths)
    if family.mean is not None and family.std is not None:
        mean, std = (family.mean,), (family.std,)
    else:
        train = images
        if split != "train":
            train_paths = [locate(family, name, fetch=fetch) for name in FILES["train"]]
            train, _, _ = _read_split(family, "train", train_paths)
        mean, std = channel_constants(train)
    return _dataset(family, images, labels, mean, std, family.name, checksum)


def load_subset(split: str) -> Dataset:
    """The embedded subset (200 train, 100 test images of each class), standardised as the full dataset is."""
    files = [manifest.embedded(f"fashion_mnist_subset/{name}.gz") for name in FILES[split]]
    images, labels, checksum = _parse_pair(FASHION_MNIST, files)
    mean, std = (FASHION_MNIST_MEAN,), (FASHION_MNIST_STD,)
    return _dataset(FASHION_MNIST, images, labels, mean, std, "fashion_mnist_subset", checksum)


def _read_split(family: Family, split: str, paths: list[Path]) -> tuple[np.ndarray, np.ndarray, str]:
    files = [(str(path), read_bytes(path)) for path in paths]
    images, labels, checksum = _parse_pair(family, files)
    # After the format's own checks: "truncated, so many bytes" says more than "another checksum".
    for name, path, (_, content) in zip(FILES[split], paths, files, strict=True):
        expected = family.sha256.get(name)
        found = hashlib.sha256(content).hexdigest()
        if expected is not None and found != expected:
            remedy = (
                f"reinstall dataset-{family.subfolders[0]}"
                if path.is_relative_to(folders.SYSTEM)
                else "delete it and run `nclib data fetch`"
            )
            raise DataError(
                f"{path} is altered or belongs to another dataset: its decompressed bytes have sha256 "
                f"{found[:12]}, {family.name} has {expected[:12]}; {remedy}"
            )
    return images, labels, checksum


def _parse_pair(family: Family, files: list[tuple[str, bytes]]) -> tuple[np.ndarray, np.ndarray, str]:
    """Images (N, 1, height, width), labels, and the sha256 over both files' decompressed bytes in turn."""
    (image_name, image_bytes), (label_name, label_bytes) = files
    images, labels = parse_idx(image_bytes, image_name), parse_idx(label_bytes, label_name)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise DataError(
            f"{image_name} holds {images.dtype} of shape {images.shape}, not 8-bit images; "
            "replace it by the original"
        )
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(
            f"{label_name} holds {labels.dtype} of shape {labels.shape}, not 8-bit labels; "
            "replace it by the original"
        )
    if len(images) != len(labels):
        raise DataError(
            f"{image_name} holds {len(images)} images but {label_name} {len(labels)} labels; "
            "replace both by the originals"
        )
    if len(labels) and labels.max() >= family.num_classes:
        raise DataError(
            f"{label_name} holds label {labels.max()}, expected 0 to {family.num_classes - 1}; "
            "replace it by the original"
        )
    return images[:, None], labels, hashlib.sha256(image_bytes + label_bytes).hexdigest()


def _dataset(
    family: Family,
    images: np.ndarray,
    labels: np.ndarray,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    name: str,
    checksum: str,
) -> Dataset:
    y = torch.from_numpy(labels.astype(np.int64))
    return Dataset(standardise(images, mean, std), y, y.clone(), family.num_classes, name, checksum)
