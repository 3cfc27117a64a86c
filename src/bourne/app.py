"""What a user declares: logs, tables, views and sources. Pure data; nothing happens until `bourne.open`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from bourne.errors import DefinitionError
from bourne.limits import PARTITIONS_MAX
from bourne.schema import Column, Schema, check_name, declare_schema, interval_us, is_storable
from bourne.udf import Udf, declare_udf

Durability = Literal["fsync", "interval", "none"]
Changes = Literal["append", "upsert", "before_after", "weights"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Whole numbers that 64 bits with a sign hold.
_WEIGHT_TYPES = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")


@dataclass(frozen=True, slots=True)
class LogDefinition:
    """A declared log. `watermark_us` is how late its records may be, in microseconds of event time.

    `schema` is as declared: that of the rows, where `changes` is `"before_after"`.
    """

    name: str
    schema: Schema
    key: str | None
    time: str | None
    watermark_us: int
    partitions: int = 1
    durability: Durability = "fsync"
    request_id: str | None = None
    keep_us: int | None = None
    keep_bytes: int | None = None
    cold_after_us: int | None = None
    is_compacted: bool = False
    tombstone: str | None = None
    changes: Changes = "append"
    weight: str | None = None


@dataclass(frozen=True, slots=True)
class ViewDefinition:
    """A declared view: a name for a SELECT."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """A declared static table: a name for a file's rows. Without a `schema` its columns are inferred."""

    name: str
    path: str
    schema: Schema | None


@dataclass(frozen=True, slots=True)
class SourceDefinition:
    """A declared source: where records come from, and the log that they go into."""

    url: str
    into: str


class App:
    """Names logs, the views that follow them, and the sources that feed them.

    >>> app = App("shop")
    >>> app.log("orders", schema={"user": "varchar", "amount": "decimal(10,2)", "at": "timestamp"}, time="at")
    >>> app.view("spend", "SELECT user, sum(amount) AS total FROM orders GROUP BY user")
    >>> app
    App('shop', logs=['orders'], views=['spend'])
    """

    def __init__(self, name: str) -> None:
        """Start an empty app.

        Raises:
            DefinitionError: the name cannot be used.
        """
        check_name(name, kind="app")
        self.name = name
        self.logs: dict[str, LogDefinition] = {}
        self.tables: dict[str, TableDefinition] = {}
        self.views: dict[str, ViewDefinition] = {}
        self.functions: dict[str, Udf] = {}
        self.sources: list[SourceDefinition] = []

    def __repr__(self) -> str:
        return f"App({self.name!r}, logs={list(self.logs)}, views={list(self.views)})"

    def log(
        self,
        name: str,
        *,
        schema: Mapping[str, str],
        key: str | None = None,
        time: str | None = None,
        watermark: str = "0 seconds",
        partitions: int = 1,
        durability: Durability = "fsync",
        request_id: str | None = None,
        keep: str | None = None,
        keep_bytes: int | None = None,
        cold_after: str | None = None,
        compact: bool = False,
        tombstone: str | None = None,
        changes: Changes = "append",
        weight: str | None = None,
    ) -> None:
        """Declare a log.

        Args:
            name: its name in SQL and on disk.
            schema: column names and DuckDB types, `"not null"` allowed: `{"user": "varchar not null"}`.
            key: the column that says what a record is about. May not be NULL.
            time: the column that says when it happened (event time): a timestamp.
            watermark: how late records may be, e.g. `"5 seconds"`.
            partitions: into how many sequences the records are split, by `key`. Fixed once the log is made.
            durability: when an append is acknowledged: `"fsync"`, when no power cut can take it; `"interval"`, when no
                crash of the process can (a power cut can take the last tenth of a second); `"none"`, the same without
                any sync (a power cut can take what the system had not yet written, often half a minute).
            request_id: the column that holds an id of each record: one that is there already is not stored again.
            keep: how long records are kept at least, e.g. `"30 days"` after they were appended. By default for ever.
            keep_bytes: how many bytes of the newest records are kept, about, in each partition.
            cold_after: when records become Parquet (zstd), e.g. `"1 day"` after they were appended: smaller, and read
                as before. What Parquet cannot hold exactly (INTERVAL) stays as it is.
            compact: keep only the newest record per `key` of what was not appended just now.
            tombstone: a BOOLEAN column of a log that is compacted or changes by `"upsert"`: a record in which it is true
                says that its key is gone. Compaction drops it, too, a day later.
            changes: what a record does to the rows that SQL sees. `"append"`: it is one more row. `"upsert"`: it takes
                the place of its key's row, or takes that row away, by `tombstone`. `"before_after"`: it has two columns,
                `before` and `after`, each a row of `schema` or NULL; with a `key`, `after` is the key's row from now on.
                `"weights"`: the row is there `weight` times more. Fixed once the log is made.
            weight: the column of whole numbers of a log that changes by `"weights"`. It may not be NULL; negative ones
                take rows back.

        All of that is done a segment (up to 256 MiB) at a time, by `Instance.maintain`, and by itself while the app
        runs; never to records that a reader or a view still needs. Offsets stay as they are.

        Raises:
            DefinitionError: something in this does not fit together.
        """
        where = f"log {name!r}"
        self._check_free(name, "log")
        declared = declare_schema(schema, where=where)
        roles = {"key": key, "time": time, "request_id": request_id, "tombstone": tombstone, "weight": weight}
        self._check_roles(where, declared, {role: name for role, name in roles.items() if name is not None})
        self._check_options(where, key, partitions, durability)
        self._check_retention(where, key, compact, keep_bytes)
        self._check_changes(where, changes, declared, roles, is_cut=keep is not None or keep_bytes is not None,
                            is_compacted=compact)  # fmt: skip
        for column in (key, request_id, weight):
            if column is not None:
                declared = declared.with_not_null(column)
        watermark_us = interval_us(watermark, where=f"{where}, watermark")
        self.logs[name] = LogDefinition(
            name, declared, key, time, watermark_us, partitions, durability, request_id,
            _age_us(keep, where=f"{where}, keep"), keep_bytes, _age_us(cold_after, where=f"{where}, cold_after"),
            compact, tombstone, changes, weight,
        )  # fmt: skip

    @staticmethod
    def _check_roles(where: str, declared: Schema, roles: Mapping[str, str]) -> None:
        """Refuse columns that are not there, or whose type is not that of their role."""
        for role, name in roles.items():
            found = declared.column(name)
            if found is None:
                raise DefinitionError(
                    f"the {role} column {name!r} is not in the schema", where=where,
                    expected=", ".join(declared.names), found=name,
                )  # fmt: skip
            expected, is_right = {
                "time": ("a timestamp", found.type.startswith("TIMESTAMP")),
                "tombstone": ("a BOOLEAN", found.type == "BOOLEAN"),
                "weight": ("a whole number: " + ", ".join(_WEIGHT_TYPES), found.type in _WEIGHT_TYPES),
            }.get(role, ("", True))
            if not is_right:
                raise DefinitionError(
                    f"the {role} column {name!r} is a {found.type}", where=where, expected=expected,
                    found=found.type,
                )  # fmt: skip

    @staticmethod
    def _check_changes(
        where: str, changes: str, declared: Schema, roles: Mapping[str, str | None], *, is_cut: bool,
        is_compacted: bool,
    ) -> None:  # fmt: skip
        """Refuse what does not go with how the log's records change its rows."""
        if changes not in get_args(Changes):
            raise DefinitionError(
                "no such changes", where=where, expected=", ".join(get_args(Changes)), found=changes
            )
        for problem, hint in _change_problems(changes, declared, roles, is_cut, is_compacted):
            raise DefinitionError(problem, where=where, found=f"changes={changes!r}", hint=hint)

    @staticmethod
    def _check_options(where: str, key: str | None, partitions: int, durability: str) -> None:
        """Refuse options that cannot be, or not together."""
        if not 1 <= partitions <= PARTITIONS_MAX:
            raise DefinitionError(
                "no such number of partitions",
                where=where,
                expected=f"1 to {PARTITIONS_MAX}",
                found=partitions,
            )
        if durability not in get_args(Durability):
            raise DefinitionError(
                "no such durability", where=where, expected=", ".join(get_args(Durability)), found=durability
            )
        if key is None and partitions > 1:
            raise DefinitionError(
                "several partitions without a key", where=where, hint="name a key column: key=…"
            )

    @staticmethod
    def _check_retention(where: str, key: str | None, compact: bool, keep_bytes: int | None) -> None:
        """Refuse what cannot be, or not together."""
        if compact and key is None:
            raise DefinitionError(
                "compaction without a key",
                where=where,
                hint="name the column of which the newest is kept: key=…",
            )
        if keep_bytes is not None and (not isinstance(keep_bytes, int) or keep_bytes <= 0):
            raise DefinitionError(
                "no such number of bytes to keep",
                where=where,
                expected="a whole number above 0",
                found=keep_bytes,
            )

    def table(
        self, name: str, path: str | os.PathLike[str], *, schema: Mapping[str, str] | None = None
    ) -> None:
        """Declare a static table: the rows of a file, to be joined in views and asked for in queries.

        When the app is opened, and when `catch_up` or `run` begin, a file that has changed is read again, and what is
        different in it goes through the views like any other change. Nobody else can append to a table.

        Args:
            name: its name in SQL and on disk.
            path: a CSV, JSON lines or Parquet file, by its ending; relative to the current directory.
            schema: column names and DuckDB types, as of a log; all columns of the file. By default they are inferred.

        Raises:
            DefinitionError: something in this does not fit together.
        """
        self._check_free(name, "table")
        declared = None if schema is None else declare_schema(schema, where=f"table {name!r}")
        self.tables[name] = TableDefinition(name, os.fspath(path), declared)

    def view(self, name: str, sql: str) -> None:
        """Declare a view: a SELECT over logs, in DuckDB's SQL with `TUMBLE`. It is checked when the app is opened.

        Raises:
            DefinitionError: the name cannot be used.
        """
        self._check_free(name, "view")
        self.views[name] = ViewDefinition(name, sql)

    def udf(
        self,
        *,
        returns: str,
        name: str | None = None,
        arguments: Sequence[str] | None = None,
        scalar: bool = False,
        nulls: bool = False,
        version: str | None = None,
    ) -> Callable[[_Function], _Function]:
        """Declare a Python function that any expression of a view or a query may call; a decorator.

        It has to be deterministic: the answer depends on the arguments alone, today and in a year. It is called with an
        Arrow array per argument, some thousand rows at a time, and returns an Arrow array, a NumPy array or a list of as
        many values. Bourne calls it when and as often as it likes, from several threads.

        Args:
            returns: the DuckDB type of its values.
            name: its name in SQL; by default the function's own.
            arguments: the DuckDB types of its arguments; by default what the annotations say: `bool`, `int`, `float`,
                `str`, `bytes`, `date`, `time`, `datetime`, `timedelta`, `UUID`, or a DuckDB type as a text.
            scalar: it is called with one row's Python values, and returns one. Slower, simpler.
            nulls: a scalar function is called with NULLs, too, as None; else NULL in gives NULL out.
            version: stands for the function's code: views that call it are computed anew when it changes, and only
                then. By default Bourne looks at the code, and at what it names in its own module.

        Raises:
            DefinitionError: it cannot be called from SQL like this.
        """

        def declare(function: _Function) -> _Function:
            udf = declare_udf(
                function, returns=returns, name=name, arguments=arguments, scalar=scalar, nulls=nulls,
                version=version,
            )  # fmt: skip
            if any(other.casefold() == udf.name.casefold() for other in self.functions):
                raise DefinitionError(
                    f"function {udf.name!r} is declared twice (SQL ignores case)", where=f"app {self.name!r}",
                    hint="give one another name: name=…",
                )  # fmt: skip
            self.functions[udf.name] = udf
            return function

        return declare

    def source(self, url: str, *, into: str) -> None:
        """Declare where records come from while the app runs.

        Args:
            url: `tcp://HOST:PORT` (lines of text from any number of clients) or `stdin:`.
            into: the log that they go into.

        Raises:
            DefinitionError: there is no such log (yet).
        """
        if into not in self.logs:
            raise DefinitionError(
                f"source {url!r} feeds a log {into!r} that is not declared",
                expected=", ".join(self.logs) or "a log, declared before",
                found=into,
            )
        self.sources.append(SourceDefinition(url, into))

    def _check_free(self, name: str, kind: str) -> None:
        check_name(name, kind=kind)
        taken = {other.casefold(): other for other in (*self.logs, *self.tables, *self.views)}
        if name.casefold() in taken:
            raise DefinitionError(
                f"the name {name!r} is taken (SQL ignores case)",
                where=f"app {self.name!r}",
                found=taken[name.casefold()],
                hint="choose another name",
            )


def _change_problems(
    changes: str, declared: Schema, roles: Mapping[str, str | None], is_cut: bool, is_compacted: bool
) -> Iterator[tuple[str, str]]:
    """Yield each thing that does not go with these changes, and what to do."""
    key, tombstone, weight = (roles[role] for role in ("key", "tombstone", "weight"))
    if changes == "upsert" and key is None:
        yield "upserts without a key", "name the column of which the newest record counts: key=…"
    if weight is not None and changes != "weights":
        yield "a weight column that nothing is done with", 'add changes="weights", or leave it out'
    if weight is None and changes == "weights":
        yield "weights without a column for them", "name a column of whole numbers: weight=…"
    if tombstone is not None and changes not in ("append", "upsert"):
        yield (
            "a tombstone column that nothing is done with",
            "leave it out: such a log takes rows back in its own way",
        )
    if tombstone is not None and changes == "append" and not is_compacted:
        yield (
            "a tombstone column without compaction",
            'add compact=True or changes="upsert", or leave it out',
        )
    for role in ("tombstone", "weight"):
        name = roles[role]
        others = {other.casefold() for at, other in roles.items() if other is not None and at != role}
        if name is not None and name.casefold() in others:
            yield f"the {role} column {name!r} has another role, too", "name two columns"
    if weight is not None and len(declared.columns) == 1:
        yield "rows of no columns: there is only the weight", "add the columns of the rows to `schema`"
    if is_cut and changes != "append":
        yield (
            "a log that changes its mind cannot forget its older records: what they did to its rows would be undone",
            "leave keep and keep_bytes out; a log of upserts can be compacted: compact=True",
        )
    if is_compacted and changes not in ("append", "upsert"):
        yield "only upserts and plain records can be compacted", 'leave compact out, or use changes="upsert"'
    if changes == "before_after":
        yield from _row_problems(declared.columns, roles["request_id"])


def _row_problems(columns: tuple[Column, ...], request_id: str | None) -> Iterator[tuple[str, str]]:
    """Yield what cannot be of rows that are kept as `before` and `after`."""
    if request_id is not None:
        yield "a request_id column in rows before and after", "give each append its request_id instead"
    for column in columns:
        if not column.nullable:
            yield (
                f"column {column.name!r} is declared not null, which rows before and after cannot promise",
                "leave `not null` out; the key may not be NULL anyway",
            )
        if not is_storable(f"STRUCT(x {column.type})"):
            yield (
                f"column {column.name!r} is a {column.type}, which rows before and after cannot hold",
                "store it as varchar and CAST it in the view",
            )


def _age_us(text: str | None, *, where: str) -> int | None:
    if text is None:
        return None
    age_us = interval_us(text, where=where)
    if age_us == 0:
        raise DefinitionError("an age of nothing", where=where, expected="more than 0 seconds", found=text)
    return age_us
