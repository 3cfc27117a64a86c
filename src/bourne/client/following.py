"""A subscription, read: what comes over the wire becomes whole states of a view, across any number of connections.

Law: each `Change` goes from one whole state to the next, the one that its `id` stands for; who applies them one after another
has the view, without gap and without repeat. A part of a state that no id has ended is forgotten with its connection.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import pyarrow as pa

from bourne.client.asking import Asking, Request, changes_path, pause_s, refused, selection
from bourne.client.texts import Columns, Row, Texts, number_of, parse
from bourne.errors import BourneError, QueryError, ServerRefused, Unreachable
from bourne.limits import CLIENT_CONNECT_S, CLIENT_SILENCE_S


class RowChange(NamedTuple):
    """What becomes of one row. With a key: it is `row` from now on, or, None, gone. Without: it is there `weight` times more."""

    key: Any
    row: dict[str, Any] | None
    weight: int


@dataclass(frozen=True)
class Change:
    """From one state of a view to the next: `position` is what the new one reflects, `id` is where to go on from.

    `is_snapshot`: it replaces all that was there; `is_keyed`: its rows have keys.
    """

    id: str
    position: str
    is_snapshot: bool
    is_keyed: bool
    texts: Texts
    raw: Sequence[tuple[Any, Row | None, int]]

    @functools.cached_property
    def changes(self) -> list[RowChange]:
        """What becomes of each row, in Python's values."""
        rows = iter(self.to_arrow().to_pylist())
        return [RowChange(key, None if row is None else next(rows), weight) for key, row, weight in self.raw]

    def to_arrow(self) -> pa.Table:
        """Return the rows of the changes; those of keys that are gone are not among them."""
        return self.texts.table(row for _, row, _ in self.raw if row is not None)

    def __len__(self) -> int:
        return len(self.raw)

    def __repr__(self) -> str:
        what = "snapshot" if self.is_snapshot else "change"
        return f"Change({what} of {len(self.raw)} rows, position={self.position!r}, id={self.id!r})"


class Following:
    """Follows one view. Its owner connects, hands on what comes, and waits as long as it is told to."""

    def __init__(
        self, asking: Asking, view: str, *, filter: Mapping[str, Any] | None = None, where: str | None = None,
        columns: Sequence[str] | None = None, after: str | None = None, snapshot: bool = True, positions: bool = False,
    ) -> None:  # fmt: skip
        """`positions`: also of what changes nothing."""
        self._asking = asking
        self.view = view
        self._asked = selection(filter, where, columns)
        self.id = after
        self._is_whole = snapshot
        self._tells_positions = positions
        self._texts: Texts | None = None
        self._is_keyed = False
        self._position = ""
        self._lines = Lines()
        self._gathered: _Gathered | None = None
        self._failures = 0

    @property
    def columns_request(self) -> Request[list[tuple[str, str]]] | None:
        """What is to be asked first, because only a snapshot says the columns; then `take_columns`."""
        is_known = self._texts is not None or (self.id is None and self._is_whole)
        return None if is_known else self._asking.columns(self.view, self._asked)

    def take_columns(self, columns: list[tuple[str, str]]) -> None:
        """Know the columns."""
        self._texts = Texts(tuple(columns))

    def arguments(self) -> dict[str, Any]:
        """Return what httpx is to be called with for the next connection."""
        self._lines, self._gathered = Lines(), None
        parameters = [*self._asked, *([] if self._is_whole else [("snapshot", "false")])]
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        return {
            "method": "GET", "url": changes_path(self.view), "params": parameters,
            "headers": headers if self.id is None else {**headers, "Last-Event-ID": self.id},
            "timeout": httpx.Timeout(CLIENT_SILENCE_S, connect=CLIENT_CONNECT_S),
        }  # fmt: skip

    def check(self, response: httpx.Response) -> None:
        """Refuse an answer that is no stream; its body has been read if it is no success.

        Raises:
            BourneError: it is a refusal.
        """
        if not response.is_success:
            raise refused(response, QueryError)
        kind = response.headers.get("Content-Type", "")
        if not kind.startswith("text/event-stream"):
            raise ServerRefused(
                "somebody else answered: this is no stream of events", status=response.status_code, found=kind
            )

    def take(self, data: bytes) -> Iterator[Change]:
        """Take in what has come, and yield the whole states that are complete with it."""
        for name, id_, text in self._lines.take(data):
            try:
                change = self._event(name, id_, text)
            except (KeyError, TypeError, ValueError) as error:
                raise ServerRefused(
                    "an event is not understood", status=200, where=self.view, found=text[:200]
                ) from error
            if change is None:
                continue
            self.id, self._position, self._failures = change.id, change.position, 0
            if change.raw or change.is_snapshot or self._tells_positions:
                yield change

    def pause_s(self, error: Exception) -> float:
        """Return how long to wait before the next connection.

        Raises:
            BourneError: the server will refuse it again.
        """
        found = self._asking.understood(error)
        status = found.status if isinstance(found, ServerRefused) else 0
        may_come_back = isinstance(found, Unreachable) or status in (408, 425, 429) or status >= 500
        if not may_come_back:
            raise found from (None if found is error else error)
        self._failures += 1
        return pause_s(found, self._failures - 1)

    def _event(self, name: str, id_: str, text: str) -> Change | None:
        said = parse(text)
        if name == "error":
            raise _failed(said)
        if name == "position":
            if self._gathered is not None or self._texts is None or not id_:
                return None  # it is not about what is here
            return Change(id_, said["position"], False, self._is_keyed, self._texts, ())
        if name not in ("snapshot", "change"):
            return None  # of a newer server
        if self._gathered is None:
            self._gathered = _Gathered(name == "snapshot", [], "")
            if name == "snapshot":
                columns: Columns = tuple((each["name"], each["type"]) for each in said["columns"])
                self._is_keyed = said["keyed"]
                if self._texts is None or self._texts.columns != columns:
                    self._texts = Texts(columns)
        gathered, texts = self._gathered, self._texts
        if texts is None:
            raise ValueError("changes of what is not known")
        for each in said.get("rows") or said.get("changes") or ():
            if "key" in each:
                self._is_keyed = True
                is_there = each["row"] is not None
                row = texts.row(each["row"]) if is_there else None
                gathered.raw.append((number_of(each["key"]), row, 1 if is_there else -1))
            else:
                gathered.raw.append((None, texts.row(each["row"]), int(each.get("weight", 1))))
        gathered.position = said.get("position") or gathered.position
        if said["more"]:
            return None
        self._gathered = None
        position = gathered.position or self._position
        return Change(id_, position, gathered.is_snapshot, self._is_keyed, texts, gathered.raw)


@dataclass
class _Gathered:
    """The parts of a state that have come."""

    is_snapshot: bool
    raw: list[tuple[Any, Row | None, int]]
    position: str


class Lines:
    """Cuts bytes into Server-Sent Events: name, id, data. One without its end does not count."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._name = "message"
        self._id = ""
        self._data: list[str] = []

    def take(self, data: bytes) -> Iterator[tuple[str, str, str]]:
        """Yield the events that are complete with these bytes."""
        first, *others = data.split(b"\n")
        self._rest.append(first)
        for following in others:
            line = b"".join(self._rest).removesuffix(b"\r").decode("utf-8", "replace")
            self._rest = [following]
            if line:
                self._field(line)
                continue
            event = (self._name, self._id, "\n".join(self._data))
            is_event = bool(self._data)
            self._name, self._id, self._data = "message", "", []
            if is_event:
                yield event

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "id":
            self._id = value
        elif name == "data":
            self._data.append(value)


def _failed(said: Any) -> BourneError:
    members = {name: said.get(name) for name in ("where", "expected", "found", "hint")}
    return ServerRefused(str(said.get("title")), status=int(said.get("status", 500)), **members)
