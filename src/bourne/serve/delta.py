"""What one commit of a view changed, ready to be sent: each row's JSON is made once, whoever gets it.

By key, a row is what its key's row is from now on, or None: it is gone. By content, it is there `weight` times more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.connect.row_texts import text_columns
from bourne.log.catalog import LogInfo
from bourne.log.reader import Frame
from bourne.log.relation import is_keyed, relation_schema, signed_rows
from bourne.position import LogPosition
from bourne.schema import Schema
from bourne.serve.encoding import json_columns, rows_json


@dataclass
class Delta:
    """A commit: the output's offsets before and after it, and its rows. `keys` are there if the view has keys."""

    start: int
    end: int
    inputs: LogPosition
    schema: Schema
    table: pa.Table
    weights: NDArray[np.int64]
    keys: NDArray[np.int64] | None

    @cached_property
    def key_rows(self) -> dict[int, int]:
        """The number of the row that counts of each key."""
        assert self.keys is not None
        return {key: number for number, key in enumerate(self.keys.tolist())}

    @cached_property
    def _texts(self) -> dict[str, list[str | None]]:
        return {}

    @cached_property
    def _places(self) -> dict[str, dict[str | None, list[int]]]:
        return {}

    @cached_property
    def _json(self) -> dict[tuple[str, ...], list[str]]:
        return {}

    def texts(self, column: str) -> list[str | None]:
        """Return the values of a column as DuckDB's texts."""
        if column not in self._texts:
            kind = self.schema.column(column)
            assert kind is not None
            self._texts[column] = text_columns(self.table.select([column]))[0].to_pylist()
        return self._texts[column]

    def places(self, column: str) -> dict[str | None, list[int]]:
        """Return the numbers of the rows that have each value of a column, by its text."""
        if column not in self._places:
            places: dict[str | None, list[int]] = {}
            for number, text in enumerate(self.texts(column)):
                places.setdefault(text, []).append(number)
            self._places[column] = places
        return self._places[column]

    def rows(self, columns: tuple[str, ...] = ()) -> list[str]:
        """Return each row as JSON, of some columns or, without, of all."""
        if columns not in self._json:
            table = self.table.select(list(columns)) if columns else self.table
            self._json[columns] = rows_json(table, json_columns(self.schema) & set(table.column_names))
        return self._json[columns]

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return 512 + 4 * int(self.table.nbytes)


def delta_of(info: LogInfo, frame: Frame) -> Delta:
    """Return what a frame of a view's output changed."""
    inputs = {name: tuple(offsets) for name, offsets in frame.meta.get("positions", {}).items()}
    change = signed_rows(info, frame.batch)
    weights = np.ones(change.table.num_rows, np.int64) if change.weights is None else change.weights
    keys = change.keys.to_numpy() if is_keyed(info) and change.keys is not None else None
    return Delta(
        frame.base_offset, frame.next_offset, inputs, relation_schema(info), change.table, weights, keys
    )
