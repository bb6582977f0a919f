"""Download one file from the first mirror that works: resumed, checked, renamed when whole."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from nclib.data.dataset import DataError
from nclib.data.idx import read_bytes

CHUNK = 1 << 18
TIMEOUT = 30
"""Seconds without an answer before the next mirror is tried."""


class _Failed(Exception):
    """One mirror failed; the next may not."""


def download(urls: Sequence[str], target: Path, *, sha256: str, timeout: float = TIMEOUT) -> Path:
    """Fetch `target` from the first of `urls` that delivers contents with this checksum.

    `sha256` is that of the decompressed contents. An interrupted transfer leaves `target`.part behind,
    which the next call, or the next mirror, resumes with an HTTP range. `target` appears only whole and
    verified, by a rename on the same file system. Raises DataError naming every mirror and its failure.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{target.parent} cannot be created ({error.strerror}); "
            "set NCLIB_DATA to a folder you may write to"
        ) from None
    failures = []
    for url in urls:
        try:
            resumed = _transfer(url, part, timeout)
            try:
                _check(part, sha256)
            except _Failed:
                if not resumed:
                    raise
                # The old part may have been the bad one: the mirror gets one try of its own.
                _transfer(url, part, timeout)
                _check(part, sha256)
        except (_Failed, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            failures.append(f"{urlsplit(url).netloc}: {reason}")
        else:
            os.replace(part, target)
            return target
    raise DataError(f"{target.name} could not be downloaded ({'; '.join(failures)})")


def _transfer(url: str, part: Path, timeout: float) -> bool:
    """Bring `part` to its full length; True if it continued an earlier transfer."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:
                return True  # nothing lies beyond what is here: it is whole, or the check will tell
            raise _Failed(f"HTTP {error.code} {error.reason}") from None
    with response:
        content_range = response.headers.get("Content-Range", "")
        resumed = response.status == 206 and content_range.startswith(f"bytes {have}-")
        if response.status == 206 and not resumed:
            part.unlink(missing_ok=True)
            raise _Failed("answered with another range than asked for")
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        size = part.stat().st_size
        if total is not None and size < total:
            raise _Failed(f"connection closed after {size} of {total} bytes")
    return resumed


def _check(part: Path, sha256: str) -> None:
    try:
        found = hashlib.sha256(read_bytes(part)).hexdigest()
    except DataError:
        found = "of no valid gzip file"
    if found != sha256:
        part.unlink()
        raise _Failed(f"delivered altered contents (sha256 {found[:12]}, expected {sha256[:12]})")
