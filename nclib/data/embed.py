"""Make the embedded data again: `python -m nclib.data.embed`, from verified sources, byte for byte."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from nclib.data import folders, mnist1d
from nclib.data.fashion_mnist import FASHION_MNIST, FILES, load_family, locate
from nclib.data.idx import read_bytes, read_idx, to_gzip, to_idx
from nclib.data.mnist1d_generator import generate

PER_CLASS = {"train": 200, "test": 100}
"""Images of each class in the embedded FashionMNIST subset."""
DATA_SUFFIXES = (".gz", ".npz", ".csv")

ENTRIES: dict[str, dict[str, Any]] = {
    "fashion_mnist_subset": {
        "title": "FashionMNIST, class-balanced subset: the first 200 training, 100 test images of each class",
        "origin": "https://github.com/zalandoresearch/fashion-mnist",
        "citation": "Xiao, Rasul and Vollgraf (2017), arXiv 1708.07747",
        "licence": "MIT, Copyright (c) 2017 Zalando SE (fashion_mnist_subset/LICENSE)",
        "made_by": "python -m nclib.data.embed",
    },
    "mnist1d": {
        "title": "MNIST-1D: 4000 training and 1000 test samples of length 40, float32, with their labels",
        "origin": "https://github.com/greydanus/mnist1d, default parameters, seed 42",
        "citation": "Greydanus and Kobak (ICML 2024), arXiv 2011.14439",
        "licence": "Apache-2.0, as the generator it comes from",
        "made_by": "python -m nclib.data.embed",
    },
    "published": {
        "title": "Values read off published figures and tables",
        "origin": "see published/README.md, file by file",
        "licence": "facts, quoted with their sources",
        "made_by": "by hand",
    },
}


def first_of_each_class(labels: np.ndarray, per_class: int, num_classes: int) -> np.ndarray:
    """Positions of the first `per_class` points of each class, in file order."""
    chosen = [np.flatnonzero(labels == k)[:per_class] for k in range(num_classes)]
    return np.sort(np.concatenate(chosen))


def fashion_mnist_subset() -> dict[str, bytes]:
    """File name -> bytes of the subset, cut from the verified full dataset."""
    contents = {}
    for split, files in FILES.items():
        load_family(FASHION_MNIST, split)  # raises if the source is not intact
        images, labels = (read_idx(locate(FASHION_MNIST, name)) for name in files)
        index = first_of_each_class(labels, PER_CLASS[split], FASHION_MNIST.num_classes)
        for name, array in zip(files, (images, labels), strict=True):
            contents[f"fashion_mnist_subset/{name}.gz"] = to_gzip(to_idx(array[index]))
    return contents


def mnist1d_file() -> dict[str, bytes]:
    """File name -> bytes of the archive of MNIST-1D: stored without compression or time stamps."""
    raw, y = generate(mnist1d.TRAIN_SIZE + mnist1d.TEST_SIZE, mnist1d.SEED)
    x, y = mnist1d.standardised(raw), y.astype(np.uint8)
    x_train, x_test = np.split(x, [mnist1d.TRAIN_SIZE])
    y_train, y_test = np.split(y, [mnist1d.TRAIN_SIZE])
    buffer = io.BytesIO()
    np.savez(buffer, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return {"mnist1d/mnist1d.npz": buffer.getvalue()}


def write(folder: Path) -> None:
    """Write the embedded files and MANIFEST.json, which also covers `published/*.csv`, into `folder`."""
    for name, content in (fashion_mnist_subset() | mnist1d_file()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    manifest = {}
    for collection, entry in ENTRIES.items():
        paths = sorted(path for path in (folder / collection).iterdir() if path.suffix in DATA_SUFFIXES)
        files = {f"{collection}/{path.name}": hashlib.sha256(read_bytes(path)).hexdigest() for path in paths}
        manifest[collection] = {**entry, "files": files}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(folders.EMBEDDED)
