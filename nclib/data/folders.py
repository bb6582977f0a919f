"""Where data lies: the search order, and the folder that downloads go to."""

import os
from collections.abc import Sequence
from pathlib import Path

from nclib.data.dataset import DataError

EMBEDDED = Path(__file__).resolve().parents[2] / "data"
"""The repository's data folder: nclib runs from its checkout."""
SYSTEM = Path("/usr/share/datasets")
"""Where Debian's dataset packages install to."""


def chosen() -> Path | None:
    """The folder named by $NCLIB_DATA, or None if unset; DataError if it is not there.

    A folder asked for by name is never passed over in silence.
    """
    value = os.environ.get("NCLIB_DATA", "")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataError(f"NCLIB_DATA names {value}, which is not a folder; create it, correct it or unset it")
    return folder


def cache() -> Path:
    """The user's cache folder: $XDG_CACHE_HOME/nclib, by default ~/.cache/nclib."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "nclib"


def search_path(subfolders: Sequence[str]) -> list[Path]:
    """Folders to look in, in order: `subfolders` of $NCLIB_DATA, of the user cache and of the system."""
    roots = [root for root in (chosen(), cache(), SYSTEM) if root is not None]
    return [root / subfolder for root in roots for subfolder in subfolders]


def download_folder(subfolder: str) -> Path:
    """Where a download is kept: under $NCLIB_DATA if set, else under the user cache."""
    return (chosen() or cache()) / subfolder


def find(names: Sequence[str], subfolders: Sequence[str]) -> Path | None:
    """The first existing file with one of `names` along the search path, or None."""
    for folder in search_path(subfolders):
        for name in names:
            if (folder / name).exists():
                return folder / name
    return None
