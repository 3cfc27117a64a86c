"""What one commit of a view changed, ready to be sent: each row's JSON is made once, whoever gets it.

By key, a row is what its key's row is from now on, or None: it is gone. By content, it is there `weight` times more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.connect.row_texts import text_columns
from bourne.errors import QueryError
from bourne.log.catalog import LogInfo
from bourne.log.reader import Frame
from bourne.log.relation import is_keyed, relation_schema, signed_rows
from bourne.schema import Schema
from bourne.serve.asked import Selected, meeting, one_text, places
from bourne.serve.encoding import json_columns, rows_json


@dataclass
class Delta:
    """A commit: the output's offsets before and after it, the position after it, its rows; their keys if the view has keys."""

    start: int
    end: int
    position: str
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
    def _meeting(self) -> dict[str, NDArray[np.bool_]]:
        return {}

    @cached_property
    def _json(self) -> dict[tuple[str, ...], list[str]]:
        return {}

    def texts(self, column: str) -> list[str | None]:
        """Return the values of a column as DuckDB's texts."""
        if column not in self._texts:
            kind = self.schema.column(column)
            assert kind is not None
            texts = text_columns(self.table.select([column]))[0].to_pylist()
            self._texts[column] = [text if text is None else one_text(kind.type, text) for text in texts]
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

    @contextmanager
    def asked(self, conditions: Collection[str]) -> Iterator[None]:
        """Evaluate conditions all at once, and know which rows meet them while the block runs."""
        asked = list(conditions)
        try:
            if len(asked) > 1 and self.table.num_rows:
                # Where one fails on some row that perhaps nobody asks about, each is evaluated on those that it is asked about.
                with suppress(QueryError):
                    found = meeting(self.table, self.schema, asked)
                    self._meeting.update(zip(asked, found, strict=True))
            yield
        finally:
            self._meeting.clear()

    def meets(self, condition: str, numbers: Sequence[int]) -> list[int]:
        """Return those of some rows, by their numbers, that meet a condition.

        Raises:
            QueryError: it cannot be evaluated on them.
        """
        if (known := self._meeting.get(condition)) is not None:
            return [number for number, is_met in zip(numbers, known[numbers].tolist(), strict=True) if is_met]
        chosen = self.table.take(pa.array(numbers, pa.int64()))
        return [numbers[place] for place in places(chosen, self.schema, Selected(where=condition))]

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return 512 + 4 * int(self.table.nbytes)


def delta_of(info: LogInfo, frame: Frame, position: str) -> Delta:
    """Return what a frame of a view's output changed."""
    change = signed_rows(info, frame.batch)
    weights = np.ones(change.table.num_rows, np.int64) if change.weights is None else change.weights
    keys = change.keys.to_numpy() if is_keyed(info) and change.keys is not None else None
    return Delta(
        frame.base_offset, frame.next_offset, position, relation_schema(info), change.table, weights, keys
    )
