"""Making a file's records fit a log, and saying where those are that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa

from bourne.errors import InputError
from bourne.limits import MISFITS_MAX


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file something begins: line 12, or row 12 of one that has no lines, from 1.

    To go on from there, a text file is read from `byte` on, a CSV one with these `columns`.
    """

    unit: str
    number: int
    byte: int = 0
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class Misfit:
    """A record that does not fit: its line or row, its bytes (in a file without lines: an Arrow stream), and why."""

    number: int
    data: bytes
    error: InputError


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that fit the log, where in the file the next batch begins, and the records that were left out."""

    table: pa.Table
    next: Place
    misfits: tuple[Misfit, ...] = ()


def fit_records(
    records: Any,
    fit: Callable[[Any], pa.Table],
    place: Callable[[int], int],
    name: str,
    *,
    unit: str = "line",
    leave_out: Callable[[int, InputError], None] | None = None,
) -> pa.Table:
    """Fit records into the log.

    With `leave_out`, those that do not fit are left out, and it is called for each, in order: O(records) in all, and some
    conversions for each of them.

    Raises:
        InputError: one of them does not fit; names its place in the file. With `leave_out`: too many do not.
    """
    try:
        return fit(records)
    except InputError:
        if leave_out is not None:
            return _fit_most(records, fit, leave_out, f"{name}, {unit} {place(0)}")
        row = _first_misfit(records, fit)
        try:
            fit(_part(records, row, row + 1))
        except InputError as error:
            raise_at(error, f"{name}, {unit} {place(row)}")
        raise


def _fit_most(
    records: Any, fit: Callable[[Any], pa.Table], leave_out: Callable[[int, InputError], None], where: str
) -> pa.Table:
    fitted: list[pa.Table] = []
    waiting = [(0, _count(records))]
    count = 0
    while waiting:
        start, end = waiting.pop()
        try:
            fitted.append(fit(_part(records, start, end)))
        except InputError as error:
            if end - start > 1:
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]
                continue
            count += 1
            if count > MISFITS_MAX:
                raise InputError(
                    "too many records of one batch do not fit", where=f"from {where} on",
                    expected=f"at most {MISFITS_MAX:,}", found=str(error), hint="look at the first ones: is this the right file?",
                ) from error  # fmt: skip
            leave_out(start, error)
    return pa.concat_tables(fitted) if fitted else fit(_part(records, 0, 0))


def _first_misfit(records: Any, fit: Callable[[Any], pa.Table]) -> int:
    """Find the first record that does not fit, by halving: O(records) in all."""
    start, end = 0, _count(records)
    while end - start > 1:
        middle = (start + end) // 2
        try:
            fit(_part(records, start, middle))
            start = middle
        except InputError:
            end = middle
    return start


def _count(records: Any) -> int:
    return len(records) if isinstance(records, Sequence) else int(records.num_rows)


def _part(records: Any, start: int, end: int) -> Any:
    return records[start:end] if isinstance(records, Sequence) else records.slice(start, end - start)


def raise_at(error: InputError, where: str) -> NoReturn:
    """Raise the error again with its place in the file."""
    raise type(error)(
        error.what, where=where, expected=error.expected, found=error.found, hint=error.hint
    ) from error
