"""Datasets by name, verified by checksum: `load("fashion_mnist", "train")`.

nclib.data imports nothing else of nclib.
"""

from collections.abc import Callable

from nclib.data import mnist1d
from nclib.data.cifar import CIFAR10, CIFAR100, load_cifar
from nclib.data.cifar import available as _cifar_available
from nclib.data.dataset import DataError, Dataset, class_balanced
from nclib.data.fashion_mnist import FASHION_MNIST, KMNIST, MNIST, load_family, load_subset
from nclib.data.fashion_mnist import available as _family_available
from nclib.data.noise import with_label_noise

__all__ = [
    "DataError",
    "Dataset",
    "available",
    "checksum",
    "class_balanced",
    "class_names",
    "load",
    "mnist1d",
    "names",
    "with_label_noise",
]

SPLITS = ("train", "test")
_LOADERS: dict[str, Callable[[str], Dataset]] = {
    "fashion_mnist": lambda split: load_family(FASHION_MNIST, split),
    "fashion_mnist_subset": load_subset,
    "mnist1d": mnist1d.load_mnist1d,
    "mnist": lambda split: load_family(MNIST, split),
    "kmnist": lambda split: load_family(KMNIST, split),
    "cifar10": lambda split: load_cifar(CIFAR10, split),
    "cifar100": lambda split: load_cifar(CIFAR100, split),
}


_CLOTHES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CLASS_NAMES = {
    "fashion_mnist": _CLOTHES,
    "fashion_mnist_subset": _CLOTHES,
    "cifar10": (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
}  # fmt: skip


def class_names(name: str) -> tuple[str, ...]:
    """The words for a dataset's ten classes, in the order of its labels: the source's, or the digits.

    Raises ValueError for a dataset with other than ten classes, and for an unknown name.
    """
    if name not in _LOADERS or name == "cifar100":
        raise ValueError(f"there are no names for ten classes of {name!r}")
    return _CLASS_NAMES.get(name, tuple("0123456789"))


def names() -> tuple[str, ...]:
    """The names `load` knows."""
    return tuple(_LOADERS)


def load(name: str, split: str = "train") -> Dataset:
    """A dataset by name, standardised per channel with the constants of its full training split.

    `fashion_mnist` is looked for in $NCLIB_DATA, the user cache and the system's folder, then downloaded;
    `fashion_mnist_subset` (2000/1000 images) and `mnist1d` are embedded; `mnist`, `kmnist`, `cifar10` and
    `cifar100` are read from $NCLIB_DATA or the user cache. `mnist1d` keeps its authors' own scale.
    Raises ValueError for an unknown name or split, DataError for data that is missing or not intact.
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown dataset {name!r}; choose one of {', '.join(_LOADERS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of {name}; choose one of {', '.join(SPLITS)}")
    return _LOADERS[name](split)


def checksum(name: str, split: str = "train") -> str:
    """The `checksum` that `load(name, split)` has, without needing the data where its contents are known.

    So a recorded run on FashionMNIST is found on a machine that does not have FashionMNIST.
    """
    if name == FASHION_MNIST.name and split in FASHION_MNIST.checksums:
        return FASHION_MNIST.checksums[split]
    return load(name, split).checksum


def available(name: str) -> bool:
    """Whether a dataset can be loaded without a download (present, not necessarily intact)."""
    families = {family.name: family for family in (FASHION_MNIST, MNIST, KMNIST)}
    if name in families:
        return _family_available(families[name])
    layouts = {layout.name: layout for layout in (CIFAR10, CIFAR100)}
    return _cifar_available(layouts[name]) if name in layouts else name in _LOADERS
