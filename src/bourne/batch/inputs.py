"""What a chunk step reads, and which parts of it side by side: pure data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import pyarrow as pa

from bourne.errors import DefinitionError
from bourne.limits import PARTITIONS_MAX

Rows: TypeAlias = Callable[[Any], Iterator[tuple[pa.Table, Any]]]
"""A function from a position (None: the beginning) to parts of rows, each with the position after it: plain JSON."""


@dataclass(frozen=True, slots=True)
class Query:
    """Rows of a database, in the order of a `key` whose values are unique."""

    url: str
    sql: str
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Records:
    """The rows of a log or view of the app: from a position on, up to where it is when the step begins."""

    name: str


Input: TypeAlias = str | Query | Records | Rows
"""A path or URL of files, or one of the above."""


@dataclass(frozen=True, slots=True)
class ByFile:
    """Each file is a part."""


@dataclass(frozen=True, slots=True)
class ByRange:
    """Each part is a range of a column; `bounds` are the values between them, or as many parts as `count` of a number."""

    column: str
    bounds: tuple[Any, ...] = ()
    count: int = 0


@dataclass(frozen=True, slots=True)
class ByHash:
    """Each part is the rows whose column has such a hash."""

    column: str
    count: int


Partitioning: TypeAlias = ByFile | ByRange | ByHash


def query(url: str, sql: str, *, key: str | Sequence[str]) -> Query:
    """Read rows of PostgreSQL, SQLite or DuckDB: `query("postgres://…", "SELECT * FROM orders", key="id")`.

    Args:
        url: `postgres://USER@HOST/DATABASE`, `sqlite:PATH` or `duckdb:PATH`.
        sql: a SELECT of that database.
        key: columns of the result that are never NULL, and together unique: the rows are read in their order, a chunk at a
            time, each from behind the last one. An index on them makes that quick.

    Raises:
        DefinitionError: there is no key.
    """
    columns = (key,) if isinstance(key, str) else tuple(key)
    if not columns:
        raise DefinitionError("a query without a key", where=sql, expected="columns that are unique together",
                              hint="rows are read in the order of the key, so that reading can go on in the middle")  # fmt: skip
    return Query(url, sql, columns)


def records(name: str) -> Records:
    """Read the rows of a log, or what became of a view's rows, by its positions: each run goes on where the last one ended."""
    return Records(name)


def by_file() -> ByFile:
    """Make each file a part of its own."""
    return ByFile()


def by_range(column: str, *, count: int = 0, bounds: Sequence[Any] = ()) -> ByRange:
    """Make ranges of a column the parts: so many of equal width between its least and largest value, or cut at `bounds`.

    Raises:
        DefinitionError: neither is said, or both; the bounds do not ascend, so that ranges would overlap.
    """
    if bool(count) == bool(bounds):
        raise DefinitionError(
            "ranges of what?", where=f"by_range({column!r})", expected="count=8, or bounds=[…]"
        )
    _check_count(count or len(bounds) + 1, f"by_range({column!r})")
    try:
        does_ascend = all(low < high for low, high in pairwise(bounds))
    except TypeError:
        does_ascend = False
    if not does_ascend:
        raise DefinitionError(
            "the bounds of ranges have to ascend", where=f"by_range({column!r})", expected="such as bounds=[1000, 2000]",
            found=repr(list(bounds)),
        )  # fmt: skip
    return ByRange(column, tuple(bounds), count)


def by_hash(column: str, count: int) -> ByHash:
    """Make so many parts of the rows, by the hash of a column.

    Raises:
        DefinitionError: that many cannot be.
    """
    _check_count(count, f"by_hash({column!r})")
    return ByHash(column, count)


def _check_count(count: int, where: str) -> None:
    if not 1 <= count <= PARTITIONS_MAX:
        raise DefinitionError(
            "no such number of parts", where=where, expected=f"1 to {PARTITIONS_MAX:,}", found=count
        )
