"""What the target of a sink has to hold: a model of it, to compare with.

Law: what a target holds is a function of the changes up to its position, whatever happened in between. Values are the
same if DuckDB writes them the same; 0.0 and -0.0, which SQL calls equal, are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.row_texts import text_columns
from bourne.connect.sink import Change, Shape
from bourne.schema import Schema
from bourne.testing.ledger import expect, expect_equal

Texts = tuple[str | None, ...]

WEIGHT = "__weight"

_SHOWN_ROWS = 3


class TargetModel:
    """The rows of a target, as texts: by key, or each with how often it is there."""

    def __init__(self, shape: Shape) -> None:
        """Start empty."""
        self._shape = shape
        self._counts: Counter[Texts] = Counter()
        self._rows: dict[Texts, Texts] = {}

    def apply(self, change: Change) -> None:
        """Do what a sink has to do with a change."""
        rows = _texts(change.rows)
        if self._shape.key:
            for key in _texts(change.gone) if change.gone is not None else ():
                self._rows.pop(key, None)
            places = [self._shape.schema.names.index(name) for name in self._shape.key]
            self._rows.update({tuple(row[place] for place in places): row for row in rows})
            return
        weights = [1] * len(rows) if change.weights is None else change.weights.to_pylist()
        for row, weight in zip(rows, weights, strict=True):
            self._counts[row] += weight

    def copy(self) -> TargetModel:
        """Return a model of the same rows."""
        other = TargetModel(self._shape)
        other._counts, other._rows = Counter(self._counts), dict(self._rows)
        return other

    def keys(self) -> list[Texts]:
        """Return the keys that are there."""
        return list(self._rows)

    def check(self, found: pa.Table, what: str) -> None:
        """Compare with what was read from the target: the columns of the shape, and weights if it has any.

        Raises:
            AssertionError: it holds something else.
        """
        names = list(self._shape.schema.names)
        counted: Counter[Texts] = Counter()
        expect_equal(set(found.column_names) - {WEIGHT}, set(names), f"{what}: the columns")
        weights = found.column(WEIGHT).to_pylist() if self._shape.has_weights else [1] * found.num_rows
        for row, weight in zip(_texts(found.select(names)), weights, strict=True):
            counted[row] += weight
        wanted = Counter(self._rows.values()) if self._shape.key else self._counts
        missing = [row for row, count in wanted.items() if count != counted[row]]
        extra = [row for row, count in counted.items() if count and count != wanted[row]]
        differing = [(wanted[row], counted[row], row) for row in (*missing, *extra)[:_SHOWN_ROWS]]
        expect(
            not differing,
            f"{what}: {len(missing)} rows are not there as often as they should, {len(extra)} too often or otherwise; "
            f"the first, with expected and found counts: {differing}",
        )


def _texts(table: pa.Table) -> list[Texts]:
    columns: list[Iterable[Any]] = []
    for column, texts in zip(table.columns, text_columns(table), strict=True):
        if pa.types.is_floating(column.type):
            texts = pc.if_else(pc.equal(texts, "-0.0"), "0.0", texts)
        columns.append(texts.to_pylist())
    return list(zip(*columns, strict=True)) if columns else []


def make_change(
    shape: Shape,
    rows: Sequence[dict[str, Any]] = (),
    *,
    gone: Sequence[dict[str, Any]] | None = None,
    weights: Sequence[int] | None = None,
) -> Change:
    """Return a change of these rows: with all that its shape wants, also where it is empty."""
    table = pa.Table.from_pylist(list(rows), shape.schema.to_arrow())
    if shape.key:
        return Change(table, gone=key_table(shape, gone or []))
    if shape.has_weights:
        return Change(table, weights=pa.array(weights or [1] * len(rows), pa.int64()))
    return Change(table)


def key_table(shape: Shape, keys: Sequence[dict[str, Any]]) -> pa.Table:
    """Return a table of keys."""
    columns = tuple(column for column in shape.schema.columns if column.name in shape.key)
    ordered = sorted(columns, key=lambda column: shape.key.index(column.name))
    return pa.Table.from_pylist(list(keys), Schema(tuple(ordered)).to_arrow())
