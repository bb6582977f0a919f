"""The embedded data's manifest: what lies in `data/`, where it comes from, and whether it is intact."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nclib.data import folders
from nclib.data.dataset import DataError
from nclib.data.idx import read_bytes


def read() -> dict[str, Any]:
    """The manifest: collection name -> title, origin, licence, and `files` (path in `data/` -> sha256)."""
    path = folders.EMBEDDED / "MANIFEST.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError(f"{path} is missing; run nclib from a complete clone of its repository") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}); restore it with git checkout") from None


def checksums() -> dict[str, str]:
    """Path in `data/` -> sha256 of the contents, decompressed where the file is gzip."""
    return {path: sha256 for entry in read().values() for path, sha256 in entry["files"].items()}


def embedded(name: str) -> tuple[str, bytes]:
    """The path and the (decompressed) contents of one embedded file; DataError if it is not intact."""
    path = folders.EMBEDDED / name
    expected = checksums().get(name)
    if expected is None:
        raise DataError(f"{folders.EMBEDDED / 'MANIFEST.json'} lacks {name}; restore it with git checkout")
    ok, message, content = _inspect(path, expected)
    if not ok:
        raise DataError(f"{path} {message}")
    return str(path), content


def verify() -> Iterator[tuple[str, bool, str]]:
    """(name, intact, message) for every file of the manifest, in its order."""
    for name, expected in checksums().items():
        ok, message, _ = _inspect(folders.EMBEDDED / name, expected)
        yield name, ok, message


def fetch(name: str) -> list[Path]:
    """Make a dataset's files available, downloading what is missing; their paths, every one verified.

    Embedded datasets need no download, so their paths come back at once. Raises DataError if no source
    works or a file found is not intact, ValueError for a name that nothing can be fetched for.
    """
    # Imported here: the loaders read the manifest themselves.
    from nclib.data import fashion_mnist

    embedded_files = {key: list(entry["files"]) for key, entry in read().items()}
    if name in embedded_files:
        return [Path(embedded(file)[0]) for file in embedded_files[name]]
    if name != "fashion_mnist":
        choices = ", ".join(["fashion_mnist", *embedded_files])
        raise ValueError(f"nothing can be fetched for {name!r}; choose one of {choices}")
    family = fashion_mnist.FASHION_MNIST
    paths = []
    for split, files in fashion_mnist.FILES.items():
        paths += [fashion_mnist.locate(family, file) for file in files]
        fashion_mnist.load_family(family, split, fetch=False)
    return paths


def _inspect(path: Path, expected: str) -> tuple[bool, str, bytes]:
    if not path.is_file():
        return False, "is missing; restore it with git checkout", b""
    try:
        content = read_bytes(path)
    except DataError:
        return False, "is not a valid gzip file; restore it with git checkout", b""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        message = f"is altered (sha256 {found[:12]}, expected {expected[:12]}); restore it with git checkout"
        return False, message, content
    return True, f"intact, {len(content)} bytes, sha256 {found[:12]}", content
