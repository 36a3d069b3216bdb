"""Read cells of numbers from a MAT file of version 5, whatever damage it has.

``scipy.io.loadmat`` trusts the sizes in a file: some damaged ones end the process with a
segmentation fault. Here each size is compared with the bytes that are there.
"""

import struct
import zlib
from math import prod
from typing import Any

import numpy as np

from plugins.errors import InputError
from plugins.utils.io import read_bytes

HEADER = 128  # bytes
LARGEST = 1 << 27  # bytes of a variable, decompressed
DEEPEST = 4  # cells in cells
UINT32, INT32, MATRIX, COMPRESSED = 6, 5, 14, 15  # types of an element
CELL, NUMBERS = 1, range(6, 16)  # classes of an array
DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
DTYPES |= {12: "i8", 13: "u8"}


def read_cells(path: str, name: str) -> Any:
    """Read a variable: an array of numbers, or a list of the contents of its cells.

    Args:
        path: MAT file of version 5, that is MATLAB's -v6 or -v7.
        name: name of the variable.

    Returns:
        Cells as a list in MATLAB's order, columns first; numbers as an array of their shape.

    Raises:
        InputError: the file is missing, damaged or of another version, or lacks the variable.
    """
    data = read_bytes(path)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER])
    if order is None:
        raise InputError(f"{path}: expected a MAT file of version 5, as MATLAB saves with -v7")
    try:
        rest, names = memoryview(data)[HEADER:], []
        while rest:
            kind, contents, rest = _split_element(rest, order)
            if kind == COMPRESSED:
                kind, contents, _ = _split_element(_decompress(contents), order)
            if kind == MATRIX and contents:
                found, value = _read_array(contents, order, name)
                if value is not None:
                    return value
                names.append(found)
    except (ValueError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: damaged: {error}; copy it again") from error
    raise InputError(f"{path}: holds {', '.join(names) or 'nothing'}; expected {name}")


def _split_element(data: memoryview, order: str) -> tuple[int, memoryview, memoryview]:
    """Split the first element off: (type, contents, the rest)."""
    kind, size = struct.unpack_from(f"{order}II", data)
    if kind >> 16:  # a small element: type and size share four bytes
        kind, size = kind & 0xFFFF, kind >> 16
        start, end, following = 4, 4 + size, 8
        if size > 4:
            raise ValueError(f"a small element of {size} bytes, expected at most 4")
    else:
        start, end = 8, 8 + size
        following = end if kind == COMPRESSED else end + -size % 8
    if end > len(data):
        raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
    return kind, data[start:end], data[following:]


def _decompress(data: memoryview) -> memoryview:
    stream = zlib.decompressobj()
    whole = stream.decompress(data, LARGEST)
    if not stream.eof:  # the checksum is behind the end
        raise ValueError(f"a variable that is cut off, or has more than {LARGEST} bytes")
    return memoryview(whole)


def _read_array(data: memoryview, order: str, wanted: str = "", depth: int = 0) -> tuple[str, Any]:
    """Read the contents of an array.

    Args:
        data: contents of its element.
        order: "<" or ">", the order of bytes.
        wanted: name of the array to read; another one is not read. Arrays in cells have none.
        depth: number of cells around it.

    Returns:
        (name, value); the value is None for a variable that is not wanted.
    """
    kind, flags, data = _split_element(data, order)
    if kind != UINT32 or len(flags) != 8:
        raise ValueError("an array without flags")
    array_class, is_complex = flags[0 if order == "<" else 3], flags[1 if order == "<" else 2] & 8
    kind, sizes, data = _split_element(data, order)
    if kind != INT32 or len(sizes) < 8 or len(sizes) % 4:
        raise ValueError("an array without sizes")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    if min(shape) < 0:
        raise ValueError(f"an array of shape {shape}")
    _, letters, data = _split_element(data, order)
    name = bytes(letters).decode("latin-1")
    if name != wanted:
        if depth:
            raise ValueError(f"a cell with the name {name!r}, expected none")
        return name, None
    if array_class == CELL and depth < DEEPEST:
        cells: list[Any] = []
        for _ in range(prod(shape)):
            kind, contents, data = _split_element(data, order)
            if kind != MATRIX:
                raise ValueError(f"a cell of type {kind}, expected an array")
            empty = np.empty((0, 0))
            cells.append(_read_array(contents, order, "", depth + 1)[1] if contents else empty)
        return name, cells
    if array_class not in NUMBERS or is_complex:
        raise ValueError(f"an array of class {array_class}, expected cells or real numbers")
    kind, numbers, _ = _split_element(data, order)
    if kind not in DTYPES or prod(shape) * np.dtype(DTYPES[kind]).itemsize != len(numbers):
        raise ValueError(f"{len(numbers)} bytes of type {kind} in an array of shape {shape}")
    values = np.frombuffer(numbers, np.dtype(f"{order}{DTYPES[kind]}"))
    return name, values.reshape(shape, order="F")
