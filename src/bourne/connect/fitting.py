"""Making a file's records fit a log, and saying where the first is that does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa

from bourne.errors import InputError


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that fit the log, and where in the file the next batch begins: `line 12` or `row 12`."""

    table: pa.Table
    next_place: str


def fit_records(
    records: Any,
    fit: Callable[[Any], pa.Table],
    place: Callable[[int], int],
    name: str,
    *,
    unit: str = "line",
) -> pa.Table:
    """Fit records into the log.

    Raises:
        InputError: one of them does not fit; names its place in the file.
    """
    try:
        return fit(records)
    except InputError:
        row = _first_misfit(records, fit)
        try:
            fit(_part(records, row, row + 1))
        except InputError as error:
            raise_at(error, f"{name}, {unit} {place(row)}")
        raise


def _first_misfit(records: Any, fit: Callable[[Any], pa.Table]) -> int:
    """Find the first record that does not fit, by halving: O(records) in all."""
    start, end = 0, len(records) if isinstance(records, Sequence) else records.num_rows
    while end - start > 1:
        middle = (start + end) // 2
        try:
            fit(_part(records, start, middle))
            start = middle
        except InputError:
            end = middle
    return start


def _part(records: Any, start: int, end: int) -> Any:
    return records[start:end] if isinstance(records, Sequence) else records.slice(start, end - start)


def raise_at(error: InputError, where: str) -> NoReturn:
    """Raise the error again with its place in the file."""
    raise type(error)(
        error.what, where=where, expected=error.expected, found=error.found, hint=error.hint
    ) from error
