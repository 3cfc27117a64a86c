"""What a user declares: logs, views and sources. Pure data; nothing happens until `bourne.open`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from bourne.errors import DefinitionError
from bourne.limits import PARTITIONS_MAX
from bourne.schema import Schema, check_name, declare_schema, interval_us

Durability = Literal["fsync", "interval", "none"]


@dataclass(frozen=True, slots=True)
class LogDefinition:
    """A declared log. `watermark_us` is how late its records may be, in microseconds of event time."""

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


@dataclass(frozen=True, slots=True)
class ViewDefinition:
    """A declared view: a name for a SELECT."""

    name: str
    sql: str


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
        self.views: dict[str, ViewDefinition] = {}
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
            tombstone: a BOOLEAN column of such a log: a record in which it is true says that its key is gone. A day
                later, compaction drops it, too.

        All of that is done a segment (up to 256 MiB) at a time, by `Instance.maintain`, and by itself while the app
        runs; never to records that a reader or a view still needs. Offsets stay as they are.

        Raises:
            DefinitionError: something in this does not fit together.
        """
        where = f"log {name!r}"
        self._check_free(name, "log")
        declared = declare_schema(schema, where=where)
        for role, column in (
            ("key", key),
            ("time", time),
            ("request_id", request_id),
            ("tombstone", tombstone),
        ):
            found = declared.column(column) if column is not None else None
            if column is not None and found is None:
                raise DefinitionError(
                    f"the {role} column {column!r} is not in the schema",
                    where=where,
                    expected=", ".join(declared.names),
                    found=column,
                )
            if role == "time" and found is not None and not found.type.startswith("TIMESTAMP"):
                raise DefinitionError(
                    f"the time column {column!r} is a {found.type}",
                    where=where,
                    expected="a timestamp",
                    found=found.type,
                )
            if role == "tombstone" and found is not None and found.type != "BOOLEAN":
                raise DefinitionError(
                    f"the tombstone column {column!r} is a {found.type}",
                    where=where,
                    expected="a BOOLEAN",
                    found=found.type,
                )
        self._check_options(where, key, partitions, durability)
        self._check_retention(where, key, compact, tombstone, keep_bytes)
        for column in (key, request_id):
            if column is not None:
                declared = declared.with_not_null(column)
        watermark_us = interval_us(watermark, where=f"{where}, watermark")
        self.logs[name] = LogDefinition(
            name, declared, key, time, watermark_us, partitions, durability, request_id,
            _age_us(keep, where=f"{where}, keep"), keep_bytes, _age_us(cold_after, where=f"{where}, cold_after"),
            compact, tombstone,
        )  # fmt: skip

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
    def _check_retention(
        where: str, key: str | None, compact: bool, tombstone: str | None, keep_bytes: int | None
    ) -> None:
        """Refuse what cannot be, or not together."""
        if compact and key is None:
            raise DefinitionError(
                "compaction without a key",
                where=where,
                hint="name the column of which the newest is kept: key=…",
            )
        if tombstone is not None and not compact:
            raise DefinitionError(
                "a tombstone column without compaction", where=where, hint="add compact=True, or leave it out"
            )
        if keep_bytes is not None and (not isinstance(keep_bytes, int) or keep_bytes <= 0):
            raise DefinitionError(
                "no such number of bytes to keep",
                where=where,
                expected="a whole number above 0",
                found=keep_bytes,
            )

    def view(self, name: str, sql: str) -> None:
        """Declare a view: a SELECT over logs, in DuckDB's SQL with `TUMBLE`. It is checked when the app is opened.

        Raises:
            DefinitionError: the name cannot be used.
        """
        self._check_free(name, "view")
        self.views[name] = ViewDefinition(name, sql)

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
        taken = {other.casefold(): other for other in (*self.logs, *self.views)}
        if name.casefold() in taken:
            raise DefinitionError(
                f"the name {name!r} is taken (SQL ignores case)",
                where=f"app {self.name!r}",
                found=taken[name.casefold()],
                hint="choose another name",
            )


def _age_us(text: str | None, *, where: str) -> int | None:
    if text is None:
        return None
    age_us = interval_us(text, where=where)
    if age_us == 0:
        raise DefinitionError("an age of nothing", where=where, expected="more than 0 seconds", found=text)
    return age_us
