"""The events of a subscription, and how they are written: as Server-Sent Events, or as messages of a WebSocket.

Law: an event with an id ends a whole state of the view; what belongs together and is large comes in parts, of which only the
last has the id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from bourne.limits import EVENT_BYTES, EVENT_ROWS
from bourne.serve.asked import Selected
from bourne.serve.encoding import columns_json, json_columns, rows_json
from bourne.views.catalog import ViewInfo


@dataclass(frozen=True)
class Event:
    """`data` is a JSON object in one line. What it is written as is made once, whoever gets it."""

    name: str
    data: str
    id: str | None = None

    @cached_property
    def sse(self) -> bytes:
        """It as a Server-Sent Event."""
        id_line = "" if self.id is None else f"id: {self.id}\n"
        return f"event: {self.name}\n{id_line}data: {self.data}\n\n".encode()

    @cached_property
    def message(self) -> str:
        """It as one JSON object."""
        id_member = "" if self.id is None else f', "id": "{self.id}"'
        return f'{{"event": "{self.name}"{id_member}, {self.data[1:]}'


def change_events(changes: Sequence[str], position: str, id_: str) -> list[Event]:
    """Return changes, each a JSON object, as events; the last one says the position after them."""
    parts = list(_parts(changes))
    found = []
    for number, part in enumerate(parts, 1):
        is_last = number == len(parts)
        head = _members({"position": position} if is_last else {})
        data = f'{{{head}"changes": [{", ".join(part)}], "more": {_json(not is_last)}}}'
        found.append(Event("change", data, id_ if is_last else None))
    return found


def position_event(position: str, id_: str) -> Event:
    """Return what says that records were taken in that changed nothing, or that all is well."""
    return Event("position", json.dumps({"position": position}), id_)


def snapshot_events(
    view: ViewInfo, selected: Selected, keys: Sequence[int] | None, table: pa.Table, position: str, id_: str
) -> Iterator[Event]:
    """Yield all rows, a part at a time."""
    columns = columns_json(view.schema, selected.columns)
    head: dict[str, Any] = {
        "view": view.name, "version": view.version, "position": position, "keyed": keys is not None, "columns": columns,
    }  # fmt: skip
    is_json = json_columns(view.schema) & set(table.column_names)
    start, is_last = 0, False
    while not is_last:
        rows = rows_json(table.slice(start, EVENT_ROWS), is_json)
        if keys is None:
            texts = [f'{{"row": {row}, "weight": 1}}' for row in rows]
        else:
            texts = [
                f'{{"key": {key}, "row": {row}}}'
                for key, row in zip(keys[start : start + EVENT_ROWS], rows, strict=True)
            ]
        start += EVENT_ROWS
        is_last = start >= table.num_rows
        data = f'{{{_members(head)}"rows": [{", ".join(texts)}], "more": {_json(not is_last)}}}'
        yield Event("snapshot", data, id_ if is_last else None)


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Cut texts into parts of about a size; at least one."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > EVENT_BYTES:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    yield part


def _members(found: dict[str, Any]) -> str:
    return "".join(f"{_json(name)}: {_json(value)}, " for name, value in found.items())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
