"""Read CSV files, so that what is no table is told in one line with file and line."""

import csv
import io
import os
from collections.abc import Iterator

from plugins.errors import InputError
from plugins.utils.io import read_text


def read_csv(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file in UTF-8, the header too.

    Args:
        path: file to read.

    Yields:
        The line on which the row ends, from 1, and its cells; a blank line has none.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or a cell is longer than csv reads, as
            after a stray quote; the message names the line on which that row begins.
    """
    reader = csv.reader(io.StringIO(read_text(path, keep_line_ends=True), newline=""))
    first = 1
    try:
        for cells in reader:
            yield reader.line_num, cells
            first = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}:{first}: no row: {error}; a quote that opens there may not be closed"
        ) from error
