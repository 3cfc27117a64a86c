"""Records that cannot be computed, left out of a view and named in a log of its errors (`on_error="log"`).

Law: the view is its SQL over the records that are not left out, and whether one is depends on that record alone. So only
what fails before any operator with state is left out: there each record is treated alone, and nothing was remembered
yet. What fails later, such as a sum that overflows, is not one record's mistake: it fails the view.

Exactly once: the errors are appended before the epoch is committed. After a crash in between they are appended again,
under the same ids, which the log has then. An epoch's frame says which records it went without; running it again goes
without the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.circuit import Circuit
from bourne.engine.operators.operator import ComputeError
from bourne.log.catalog import LogInfo
from bourne.log.cursor import Piece
from bourne.log.relation import SignedRows, relation_schema, signed_rows
from bourne.row_json import rows_as_json
from bourne.schema import Column, Schema
from bourne.udf import reason

FAILURES = (duckdb.Error, ComputeError)


class Places(NamedTuple):
    """The partition and the offset of each row."""

    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]


# Ranges of offsets, one after another in their partition: (partition, first, end).
Ranges = list[list[int]]

_SCHEMA = Schema(
    (
        Column("id", "VARCHAR", nullable=False),
        Column("version", "INTEGER", nullable=False),
        Column("input", "VARCHAR", nullable=False),
        Column("input_partition", "INTEGER", nullable=False),
        Column("input_offset", "BIGINT", nullable=False),
        Column("error", "VARCHAR", nullable=False),
        Column("record", "JSON", nullable=False),
    )
)


def error_log(name: str) -> LogInfo:
    """Return the log of this name that a view's errors go into."""
    return LogInfo(name, _SCHEMA, request_id="id")


@dataclass(frozen=True, slots=True)
class ErrorLog:
    """Where one version of a view puts its errors; `append` returns when they are durable, once per id."""

    version: int
    append: Callable[[pa.Table], object]

    def report(
        self, info: LogInfo, table: pa.Table, pieces: Sequence[Piece], failed: Mapping[int, str]
    ) -> None:
        """Append what is wrong with some records of a log. One that only takes a row back is no news."""
        signed = signed_rows(info, table)
        rows = [row for row in sorted(failed) if signed.weights is None or signed.weights[row] > 0]
        if not rows:
            return
        partitions, offsets = places(pieces)
        columns: dict[str, Sequence[object]] = {
            "id": [f"{self.version}/{info.name}/{partitions[row]}/{offsets[row]}" for row in rows],
            "version": [self.version] * len(rows),
            "input": [info.name] * len(rows),
            "input_partition": partitions[rows].tolist(),
            "input_offset": offsets[rows].tolist(),
            "error": [failed[row] for row in rows],
            "record": rows_as_json(signed.table.take(pa.array(rows)), relation_schema(info)),
        }
        self.append(pa.table(columns, schema=_SCHEMA.to_arrow()))


@dataclass(frozen=True, slots=True)
class SideLogs:
    """Where records go that a view goes on without.

    Into `errors` those whose time is none, and, if it `takes_failures`, those that cannot be computed; into `late` those
    that came too late.
    """

    errors: ErrorLog | None = None
    late: ErrorLog | None = None
    takes_failures: bool = False


def failing_rows(circuit: Circuit, relation: str, rows: SignedRows) -> dict[int, str]:
    """Return which rows of a relation's change fail alone before any state, and why, by halving.

    O(rows): each that fails costs some queries.
    """
    failed: dict[int, str] = {}
    waiting = [(0, rows.table.num_rows)]
    while waiting:
        start, end = waiting.pop()
        weights = None if rows.weights is None else rows.weights[start:end]
        try:
            circuit.before_state({relation: SignedRows(rows.table.slice(start, end - start), weights)})
        except FAILURES as error:
            middle = (start + end) // 2
            if end - start == 1:
                failed[start] = reason(error)
            else:
                waiting += [(middle, end), (start, middle)]
    return failed


def without(table: pa.Table, rows: Iterable[int]) -> pa.Table:
    """Return a table without some of its rows."""
    is_kept = np.ones(table.num_rows, np.bool_)
    is_kept[list(rows)] = False
    return table if is_kept.all() else table.filter(pa.array(is_kept))


def ranges_of(pieces: Sequence[Piece], rows: Iterable[int]) -> Ranges:
    """Return where rows of what was read of a log are in it."""
    partitions, offsets = places(pieces)
    ranges: Ranges = []
    for row in sorted(rows):
        partition, offset = int(partitions[row]), int(offsets[row])
        if ranges and ranges[-1][0] == partition and ranges[-1][2] == offset:
            ranges[-1][2] += 1
        else:
            ranges.append([partition, offset, offset + 1])
    return ranges


def rows_in(pieces: Sequence[Piece], ranges: Ranges) -> list[int]:
    """Return which rows of what was read of a log are in these ranges."""
    partitions, offsets = places(pieces)
    is_in = np.zeros(len(offsets), np.bool_)
    for partition, first, end in ranges:
        is_in |= (partitions == partition) & (offsets >= first) & (offsets < end)
    found: list[int] = np.flatnonzero(is_in).tolist()
    return found


def places(pieces: Sequence[Piece], skipped: Iterable[int] = ()) -> Places:
    """Return where each row of what was read of a log is in it, but for those that were skipped."""
    counts = [piece.frame.batch.num_rows for piece in pieces]
    partitions = np.repeat(np.array([piece.partition for piece in pieces], np.int64), counts)
    offsets = np.concatenate([piece.frame.offsets() for piece in pieces])
    return Places(np.delete(partitions, list(skipped)), np.delete(offsets, list(skipped)))
