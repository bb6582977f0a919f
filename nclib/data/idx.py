"""IDX, the format of the MNIST family: a big-endian header, then one array, often gzipped."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from nclib.data.dataset import DataError

# The format's own table: http://yann.lecun.com/exdb/mnist/ (third byte of the magic number).
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path) -> bytes:
    """The contents of a file, decompressed if it is gzip (by its first bytes, not its name).

    A gzip stream that is cut short gives what it holds, so that the caller can count what is missing;
    one whose own check fails raises DataError.
    """
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    if not packed.startswith(_GZIP_MAGIC):
        return packed
    parts = []
    while packed:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            parts.append(member.decompress(packed))
        except zlib.error as error:
            raise DataError(f"{path} is altered ({error}); delete it and fetch it again") from None
        if not member.eof:
            break
        packed = member.unused_data.lstrip(b"\0")
    return b"".join(parts)


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or plain, in native byte order; DataError if it is not whole."""
    return parse_idx(read_bytes(path), str(path))


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """The array in the decompressed bytes of an IDX file; `name` is what an error calls the file.

    Raises DataError for a wrong magic number and for more or fewer bytes than the header announces.
    """
    if len(content) < 4:
        raise DataError(
            f"{name} is truncated: expected at least 4 bytes, found {len(content)}; "
            "delete it and fetch it again"
        )
    zero, code, ndim = struct.unpack(">HBB", content[:4])
    if zero or code not in DTYPES or not ndim:
        # 00 00 08 03 stored by a little-endian writer reads 03 08 00 00.
        swapped = content[2:4] == b"\0\0" and content[1] in DTYPES
        hint = "written little-endian" if swapped else "not an IDX file"
        raise DataError(f"{name} starts with {content[:4].hex(' ')}: {hint}; replace it by the original")
    dtype = np.dtype(DTYPES[code])
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(
            f"{name} is truncated: expected a header of {start} bytes, found {len(content)}; "
            "delete it and fetch it again"
        )
    shape = struct.unpack(f">{ndim}I", content[4:start])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        fault = "truncated" if len(content) < expected else "too long"
        raise DataError(
            f"{name} is {fault}: expected {expected} bytes for shape {shape}, found {len(content)}; "
            "delete it and fetch it again"
        )
    # Without the conversion, every 16-bit and wider value would be read with its bytes reversed.
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def to_idx(array: np.ndarray) -> bytes:
    """The IDX bytes of an array; ValueError for a dtype the format does not have."""
    stored = np.dtype(array.dtype).newbyteorder(">")
    codes = {np.dtype(text): code for code, text in DTYPES.items()}
    if stored not in codes or not 1 <= array.ndim <= 255:
        raise ValueError(f"IDX cannot store {array.dtype} arrays of {array.ndim} dimensions")
    header = struct.pack(">HBB", 0, codes[stored], array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(stored).tobytes()


def to_gzip(content: bytes) -> bytes:
    """Gzip without a time stamp or a file name: equal contents give equal files."""
    return gzip.compress(content, compresslevel=9, mtime=0)
