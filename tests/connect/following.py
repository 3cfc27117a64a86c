"""A log that follows a table, in memory: takes in what a source hands over as a running app does, and folds it.

Each part is appended with its position, then the source is told, then the next one is asked for. A crash forgets the
source, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from bourne.connect.source import Taken
from bourne.errors import Unreachable
from bourne.log.catalog import LogInfo
from bourne.log.relation import check_records, relation_schema
from bourne.schema import conform, declare_schema
from waiting import until


def log(changes: str = "upsert", key: str | None = "id", **columns: str) -> LogInfo:
    """Return a log; of upserts with the tombstone `gone`, of pairs with these columns in them."""
    if changes == "before_after":
        from bourne.log.relation import stored_schema  # noqa: PLC0415

        return LogInfo(
            "t", stored_schema(declare_schema(columns, where="t")), key=key, changes="before_after"
        )
    if changes == "upsert":
        schema = declare_schema({**columns, "gone": "boolean"}, where="t")
        return LogInfo("t", schema, key=key, changes="upsert", tombstone="gone")
    return LogInfo("t", declare_schema(columns, where="t"), changes=changes)  # type: ignore[arg-type]


class Followed:
    """The log, what it holds, and the source that fills it. `make` makes a source, given this."""

    def __init__(self, info: LogInfo, make: Callable[[Followed], Any]) -> None:
        self.info = info
        self.position: Any = None
        self.records: list[dict[str, Any]] = []
        self.parts: list[Taken] = []
        self.state: dict[Any, dict[str, Any]] = {}  # by key
        self.contents: Counter[tuple[Any, ...]] = Counter()  # without one
        self.source: Any = None
        self._make = make
        self._reading: Iterator[Taken | None] | None = None

    def step(self) -> Taken | None:
        """Ask for one part, and take it in; None if nothing is there, or the server is not."""
        if self._reading is None:
            self.source = self._make(self)
            self._reading = self.source.read(self.position, {})
        try:
            taken = next(self._reading)
        except Unreachable:
            self.crash()
            return None
        except StopIteration:
            self._reading = None
            return None
        if taken is not None:
            self._append(taken)
            self.source.confirm(taken.position)
        return taken

    def crash(self) -> None:
        """Lose the source, as a killed process does."""
        if self._reading is not None:
            self._reading.close()
        self._reading = None

    def until(self, look: Callable[[], Any], what: str = "records") -> None:
        """Take parts until there is something true to see."""
        until(lambda: (self.step(), look())[1], what=what)

    def _append(self, taken: Taken) -> None:
        assert not taken.dead
        self.position = taken.position
        self.parts.append(taken)
        if taken.rows is None:
            return
        rows = conform(taken.rows, self.info.schema, log=self.info.name)
        check_records(self.info, rows)
        for record in rows.to_pylist():
            self.records.append(record)
            self._fold(record)

    def _fold(self, record: dict[str, Any]) -> None:
        if self.info.changes == "before_after":
            before, after = record["before"], record["after"]
            if self.info.key is None:
                self.contents[_flat(before)] -= before is not None
                self.contents[_flat(after)] += after is not None
                assert min(self.contents.values()) >= 0, record
                return
            key = (after or before)[self.info.key]
            if before is not None and any(
                value is not None for name, value in before.items() if name != self.info.key
            ):
                assert self.state.get(key) == before, (
                    record
                )  # whole old rows: each change follows from the one before
            self._set(key, after)
        elif self.info.changes == "upsert":
            is_gone = record.pop("gone")
            self._set(record[self.info.key], None if is_gone else record)
        else:
            self.contents[_flat(record)] += 1

    def _set(self, key: Any, row: dict[str, Any] | None) -> None:
        if row is None:
            assert key in self.state, f"{key!r} goes away twice"
            del self.state[key]
        else:
            self.state[key] = row

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the relation's rows, sorted by their text."""
        keyed = [tuple(row.values()) for row in self.state.values()]
        return sorted([*keyed, *self.contents.elements()], key=repr)

    def current(self, keys: pa.Table) -> pa.Table:
        """Return the newest rows of some keys."""
        wanted = keys.column(0).to_pylist()
        rows = [self.state[key] for key in wanted if key in self.state]
        return pa.Table.from_pylist(rows, relation_schema(self.info).to_arrow())

    def live_keys(self) -> pa.Table:
        """Return the keys of all rows; without a key the rows."""
        schema = relation_schema(self.info).to_arrow()
        if self.info.key is None:
            rows = [dict(zip(schema.names, row, strict=True)) for row in self.contents.elements()]
            return pa.Table.from_pylist(rows, schema)
        return pa.Table.from_pylist(list(self.state.values()), schema).select([self.info.key])


def _flat(row: dict[str, Any] | None) -> tuple[Any, ...]:
    return () if row is None else tuple(row.values())
