"""Rows of a database as what a chunk step reads: in the order of a key, a page at a time, each from behind the last row.

Law: the key's values are never NULL, and tell the rows apart, as the database compares them: who breaks that is refused,
as a row could be lost. So any row is a place to go on from, and its key, which is in the position, says it exactly. Up to
which key is read is fixed when reading begins; a row that comes, changes or goes meanwhile is seen or not. No transaction
is held between pages.

With a column that comes before the key (`since`), a run goes on behind the last one's greatest pair. An `overlap` reads so
far back again each time, for rows that became visible late: the position stays where it is meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from bourne.batch.increments import Overlap
from bourne.connect.ahead import read_ahead
from bourne.connect.source import Position
from bourne.errors import DefinitionError, SourceFailed
from bourne.jobs.reader import Part
from bourne.limits import QUERY_PAGE_BYTES, QUERY_PAGE_ROWS, QUERY_PAGE_ROWS_FIRST
from bourne.schema import Column, Schema, declare_schema

Key: TypeAlias = tuple[Any, ...]
"""A row's place: a plain JSON value for each column that orders the rows."""


@dataclass(frozen=True, slots=True)
class Span:
    """Rows behind a key (or from a value of the first column on), up to and with another key."""

    after: Key | None
    last: Key
    first: Any = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows in the order of the key, and that: `keys` are the places, `equals` the same such that equal ones are equal."""

    rows: pa.Table
    keys: tuple[Sequence[Any] | pa.Array, ...]
    equals: tuple[pa.Array, ...]
    bytes: int


class Database(Protocol):
    """A query of one kind of database. For one thread at a time."""

    schema: Schema
    order: tuple[str, ...]
    """The columns that order the rows."""
    is_number: bool
    """Whether there is one such column, and it holds numbers."""

    def greatest(self) -> Key | None:
        """Return the greatest key; None if there are no rows."""
        ...

    def least(self) -> Key | None:
        """Return the least key."""
        ...

    def null(self, column: str, *, first: Any) -> bool:
        """Say whether a column is NULL in some row, of those from a value of the first column on (None: all)."""
        ...

    def page(self, span: Span, rows: int) -> Page:
        """Return the first so many rows of a span."""
        ...

    def back(self, value: Any, overlap: Overlap) -> Any:
        """Return what lies so much before a value of the first column. Raises SourceFailed if it is of another kind."""
        ...

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        ...


class QueryReader:
    """Reads a query."""

    def __init__(self, database: Database, *, where: str, overlap: Overlap | None = None) -> None:
        self.schema = database.schema
        self._database = database
        self._where = where
        self._overlap = overlap
        self._range: tuple[float, float] | None = None

    def read(self, position: Position | None) -> Iterator[Part]:
        """Yield the rows behind a position, up to the greatest key that there is now.

        Raises:
            SourceFailed: the key is NULL somewhere, or does not tell two rows apart; a value does not fit its column.
            Unreachable: the database is not there.
        """
        done = None if position is None else self._key(position)
        database = self._database
        first = None if done is None else done[0]
        if done is not None and self._overlap is not None:
            first = database.back(done[0], self._overlap)
        for column in database.order:
            if database.null(column, first=None if column == database.order[0] else first):
                raise self._null(column)
        last = database.greatest()
        if last is None:
            return
        if database.is_number and (least := database.least()) is not None:
            self._range = (float(least[0]), float(last[0]))
        if done is not None and self._overlap is not None:
            for page in self._pages(Span(None, done, first)):
                yield Part(page.rows, position, at=lambda _: position)
        for page in self._pages(Span(done, last)):
            yield Part(page.rows, self._at(page, page.rows.num_rows), at=partial(self._at, page))

    def _pages(self, span: Span) -> Iterator[Page]:
        """Yield the pages of a span; the next one is asked for while the last one is worked on."""
        stop = threading.Event()
        with closing(read_ahead(self._asked(span, stop))) as pages:
            try:
                yield from pages
            finally:
                stop.set()

    def _asked(self, span: Span, stop: threading.Event) -> Iterator[Page]:
        count, after = QUERY_PAGE_ROWS_FIRST, span.after
        while not stop.is_set():
            # One row more is read, and left out: it says whether there are more, and shows a key that is there twice.
            found = self._database.page(Span(after, span.last, span.first), count + 1)
            self._check(found)
            rows = found.rows.slice(0, count)
            if rows.num_rows:
                page = Page(rows, found.keys, found.equals, found.bytes)
                after = self._place(page, rows.num_rows - 1)
                yield page
            if found.rows.num_rows <= count:
                return
            per_row = max(1, found.bytes // found.rows.num_rows)
            count = max(1, min(QUERY_PAGE_ROWS, QUERY_PAGE_BYTES // per_row))

    def _check(self, page: Page) -> None:
        """Refuse keys that are NULL, or the same in two rows."""
        rows = page.rows.num_rows
        for column, values in zip(self._database.order, page.equals, strict=True):
            if values.null_count:
                raise self._null(column)
        if rows < 2:
            return
        same = None
        for values in page.equals:
            equal = pc.equal(values.slice(0, rows - 1), values.slice(1))
            same = equal if same is None else pc.and_(same, equal)
        where = pc.index(same, True).as_py()
        if where >= 0:
            raise SourceFailed(
                f"{', '.join(self._database.order)} is no key: two rows have the same", where=self._where, expected="one row",
                found=", ".join(map(str, self._place(page, where))),
                hint="name columns that are unique together: key=[…]",
            )  # fmt: skip

    def _null(self, column: str) -> SourceFailed:
        return SourceFailed(
            f"{column!r} is NULL in some row: it has no place in the order", where=self._where, expected="a value in each row",
            found="NULL", hint=f"leave such rows out (WHERE {column} IS NOT NULL), or give them a value (COALESCE)",
        )  # fmt: skip

    def _place(self, page: Page, row: int) -> Key:
        return tuple(
            values[row].as_py() if isinstance(values, pa.Array) else values[row] for values in page.keys
        )

    def _at(self, page: Page, row: int) -> Position:
        """Return the position after so many rows of a page."""
        return {"by": list(self._database.order), "key": list(self._place(page, row - 1))}

    def _key(self, position: Any) -> Key:
        if position.get("by") != list(self._database.order):
            raise SourceFailed(
                "the rows were read in another order before", where=self._where, expected=", ".join(self._database.order),
                found=", ".join(position.get("by") or ["something else"]),
                hint="give the step another name; or begin anew: bourne jobs start … --again",
            )  # fmt: skip
        return tuple(position["key"])

    def share(self, position: Position | None) -> float | None:
        """Return how far the key is between its least and its greatest value, if it is one number."""
        if self._range is None or self._overlap is not None:
            return None
        least, greatest = self._range
        if position is None or greatest <= least:
            return 0.0 if position is None else 1.0
        return min(1.0, max(0.0, (float(position["key"][0]) - least) / (greatest - least)))

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


# --- what the databases share ---------------------------------------------------------------------------


def typed_columns(
    found: Sequence[tuple[str, str]], declared: Schema | None, order: Sequence[str], *, where: str
) -> tuple[Schema, tuple[str, ...]]:
    """Return the columns of a query, with types as they were declared or found, and the order's columns by their names.

    Raises:
        DefinitionError: a name is there twice, or not at all; a type cannot be stored.
    """
    names = [name for name, _ in found]
    for number, name in enumerate(names):
        if name.casefold() in map(str.casefold, names[:number]):
            raise DefinitionError(
                f"two columns of the query are called {name!r}",
                where=where,
                hint="give one another name with AS",
            )
    known = declare_schema(dict(found), where=where)
    for column in () if declared is None else declared.columns:
        if known.column(column.name) is None:
            raise DefinitionError(f"the query has no column {column.name!r}", where=where, expected=", ".join(names),
                                  found=column.name)  # fmt: skip
    columns = [_declared(column, declared) for column in known.columns]
    ordered = []
    for name in order:
        there = known.column(name)
        if there is None:
            raise DefinitionError(f"the query has no column {name!r} to order its rows by", where=where,
                                  expected=", ".join(names), found=name)  # fmt: skip
        ordered.append(there.name)
    return Schema(tuple(columns)), tuple(ordered)


def _declared(column: Column, declared: Schema | None) -> Column:
    other = None if declared is None else declared.column(column.name)
    return column if other is None else Column(column.name, other.type, other.nullable)


_ZEROS: Final = r"^(-?[0-9]+\.[0-9]*[1-9])0+$|^(-?[0-9]+)\.0+$"


def plain_numbers(texts: pa.Array) -> pa.Array:
    """Return numbers' texts such that equal numbers have the same one: 1.50 and 1.5, -0 and 0."""
    short = pc.replace_substring_regex(texts, _ZEROS, r"\1\2")
    return pc.replace_substring_regex(short, r"^-0$", "0")


def no_overlap(column: str, kind: str, overlap: Overlap, *, where: str) -> SourceFailed:
    """Return the error of an overlap that a column does not have."""
    return SourceFailed(
        f"there is no such overlap of {column!r}", where=where, expected="a time of dates and times, a number of numbers",
        found=f"overlap={overlap} of {kind}", hint="overlap='5 minutes', or overlap=100; or leave it out",
    )  # fmt: skip
