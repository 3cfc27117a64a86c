"""What a user declares: logs, tables, views and sources. Pure data; nothing happens until `bourne.open`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import pyarrow as pa

from bourne.batch.job import Job, declare_job
from bourne.batch.misfire import Policy
from bourne.batch.scheduled import Params, ScheduleDefinition, When, schedule
from bourne.batch.window import BatchWindow
from bourne.dataframes import sql_of, unbound_table
from bourne.declaration import Changes, Durability, LogDefinition, checked
from bourne.errors import DefinitionError
from bourne.limits import HISTORY_KEEP, POOL_SLOTS_MAX
from bourne.schema import Schema, check_name, declare_schema, interval_us
from bourne.table_function import TableFunction, declare_table_function
from bourne.udf import Udf, declare_udf

OnError = Literal["fail", "log"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ViewDefinition:
    """A declared view: a name for a SELECT, and what becomes of records that it cannot compute.

    With a `function`, the view is what that makes of the SELECT's rows.
    """

    name: str
    sql: str
    grows: bool = False
    on_error: OnError = "fail"
    function: TableFunction | None = None


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """A declared static table: a name for a file's rows. Without a `schema` its columns are inferred."""

    name: str
    path: str
    schema: Schema | None


@dataclass(frozen=True, slots=True)
class SourceDefinition:
    """A declared source: where records come from, and the log that they go into.

    `name` is what it is called, None: by its URL. `dead_letters` is the largest share of records that cannot be taken in.
    """

    url: str
    into: str
    name: str | None = None
    dead_letters: float | str = 0.01


@dataclass(frozen=True, slots=True)
class SinkDefinition:
    """A declared sink: the view (or log) whose rows it gets, and where they go.

    `name` is what its position is kept under, None: the view and the URL. `delivery` is what is asked for, None: the best.
    """

    view: str
    url: str
    key: tuple[str, ...] = ()
    name: str | None = None
    delivery: str | None = None
    dead_letters: float | str = 0.01


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
        self.sinks: list[SinkDefinition] = []
        self.jobs: dict[str, Job] = {}
        self.pools: dict[str, int] = {}
        self.schedules: dict[str, ScheduleDefinition] = {}

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
        idle: str | None = None,
        punctuation: str | None = None,
        seen: Mapping[str, str] | None = None,
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
            watermark: how late records may be, e.g. `"5 seconds"`: behind the latest one of their partition.
            idle: after how long without records a partition does not hold the watermark back, e.g. `"1 minute"`. By
                default it does, for ever.
            punctuation: a column, or an SQL expression over columns, in place of `watermark`: a timestamp where a record
                says that no earlier ones follow in its partition, else NULL.
            seen: other logs, and for each the column (a whole number) that says which position in it the record's author
                had seen, NULL for none: a view that reads both takes the record in only when it has come to there. Those
                logs have one partition.
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
        if seen is not None and not isinstance(seen, Mapping):
            raise DefinitionError(
                "seen is no mapping", where=where, expected="{'other log': 'column'}", found=repr(seen),
                hint="say for each log that authors had seen in which column the position is",
            )  # fmt: skip
        watermark_us = interval_us(watermark, where=f"{where}, watermark")
        self.logs[name] = checked(LogDefinition(
            name, declared, key, time, watermark_us, partitions, durability, request_id,
            _age_us(keep, where=f"{where}, keep"), keep_bytes, _age_us(cold_after, where=f"{where}, cold_after"),
            compact, tombstone, changes, weight, _age_us(idle, where=f"{where}, idle"),
            punctuation, tuple((seen or {}).items()),
        ))  # fmt: skip

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

    def ibis(self, name: str, *, schema: Mapping[str, str] | None = None) -> Any:
        """Return a log, table or view as an Ibis table, to build the expression of a view on (needs `bourne[ibis]`).

        Args:
            name: the log's, table's or view's name.
            schema: column names and DuckDB types. A log's, and a table's if it was declared with them, are known.

        Raises:
            DefinitionError: there is no such name, or its columns are not known.
        """
        if schema is not None:
            return unbound_table(name, declare_schema(schema, where=f"ibis table {name!r}"))
        declared = self.logs.get(name) or self.tables.get(name)
        if declared is None or declared.schema is None:
            raise DefinitionError(
                f"the columns of {name!r} are not known", where=f"app {self.name!r}",
                expected=", ".join(self.logs) or "a log", found=name, hint="say which it has: schema={…}",
            )  # fmt: skip
        hidden = set[str]()
        if isinstance(declared, LogDefinition) and declared.changes != "append":
            hidden = {role.casefold() for role in (declared.tombstone, declared.weight) if role is not None}
        shown = tuple(column for column in declared.schema.columns if column.name.casefold() not in hidden)
        return unbound_table(name, Schema(shown))

    def view(
        self,
        name: str,
        query: str | Any = None,
        *,
        grows: bool = False,
        on_error: OnError = "fail",
        emit: str | None = None,
        inputs: str | Sequence[str] | None = None,
        fn: Callable[[pa.Table], Any] | None = None,
        schema: Mapping[str, str] | None = None,
        version: str | None = None,
    ) -> None:
        """Declare a view: a SELECT over logs, in DuckDB's SQL with `TUMBLE`. It is checked when the app is opened.

        Or a Python function of one relation's rows: `app.view("v", inputs="orders", fn=f, schema={…})`. It gets an Arrow
        table of new rows, and returns one (or anything with the Arrow PyCapsule interface) of as many or as few rows as it
        likes. It must be deterministic, and treat each row by itself.

        Args:
            name: its name in SQL and on disk.
            query: the SELECT, as a text or as an Ibis expression over tables from `ibis`.
            grows: it is known that its state grows for ever, where it does: opening does not warn then.
            emit: what follows EMIT in the query: `"FINAL"`, `"CHANGES LATENESS INTERVAL '1 hour'"`, … For Ibis expressions; in
                a text it may stand at the end itself.
            on_error: what becomes of a record that cannot be computed. `"fail"`: the view stands still before it, with
                an error. `"log"`: the record goes to the log `NAME_errors`, and the view goes on without it. That is for
                records that fail alone, before the view has to remember anything; whatever else fails stops the view.
            inputs: the log, table or view whose rows `fn` gets.
            fn: the function, in place of `query`.
            schema: column names and DuckDB types of the rows that `fn` returns.
            version: stands for the code of `fn`, as in `udf`.

        Raises:
            DefinitionError: the name, or that of its error log, cannot be used.
        """
        if on_error not in get_args(OnError):
            raise DefinitionError(
                "no such way to take errors", where=f"view {name!r}", expected=", ".join(get_args(OnError)),
                found=on_error,
            )  # fmt: skip
        self._check_free(name, "view")
        if on_error == "log":
            self._check_free(error_log_name(name), "log")
        if fn is None:
            given: dict[str, Any] = {"inputs": inputs, "schema": schema, "version": version}
            for option in (option for option, value in given.items() if value is not None):
                raise DefinitionError(f"{option}= is for a view of a function", where=f"view {name!r}",
                                      hint="leave it out, or give the function: fn=…")  # fmt: skip
            text = sql_of(query, where=f"view {name!r}")
            if emit is not None:
                text = f"{text.rstrip().removesuffix(';')} EMIT {emit}"
            self.views[name] = ViewDefinition(name, text, grows, on_error)
            return
        if emit is not None:
            raise DefinitionError("emit= is for a view of a query", where=f"view {name!r}",
                                  hint="leave it out: each row of a function comes out at once")  # fmt: skip
        if query is not None:
            raise DefinitionError("a view is a query or a function, not both", where=f"view {name!r}",
                                  hint="make two views of it: one reads the other")  # fmt: skip
        sql, function = declare_table_function(name, inputs, fn, schema, version)
        self.views[name] = ViewDefinition(name, sql, grows, on_error, function)

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

    def source(
        self, url: str, *, into: str, name: str | None = None, dead_letters: float | str = "1%"
    ) -> None:
        """Declare where records come from while the app runs (docs/connectors.md tells of each kind).

        Args:
            url: a path (of a file, a folder that is watched, or a pattern such as `in/*.csv`), `s3://BUCKET/PATH`,
                `postgres://USER@HOST/DATABASE?table=NAME` (its changes) or `?outbox=NAME`, `kafka://HOST:PORT/TOPIC`,
                `http://HOST:PORT` (pushes to `/logs/INTO`), `tcp://HOST:PORT` (lines from any number of clients), or
                `stdin:`. `${NAME}` in it stands for a variable of the environment.
            into: the log that they go into. If it is not declared, it is made when the app is first opened, of the columns
                that the source says: those of a table (with its key, as a log that changes by `"before_after"`), of a
                topic's first messages, of the first file.
            name: what the source is called: with its name, its position is found again. By default what the URL is about,
                without user, password and options; who moves a source to another address gives it a name.
            dead_letters: the largest share of records that cannot be taken in, of the last thousand or more: `"1%"`, 0.01,
                0 for none at all. They go to the log `dead_letters`; more of them stop the source.

        Raises:
            DefinitionError: the log's name cannot be used.
        """
        if into not in self.logs and into not in {source.into for source in self.sources}:
            self._check_free(into, "log")
        self.sources.append(SourceDefinition(url, into, name, dead_letters))

    def sink(
        self,
        view: str,
        url: str,
        *,
        key: str | Sequence[str] = (),
        name: str | None = None,
        delivery: Literal["exactly once", "at least once", "at most once"] | None = None,
        dead_letters: float | str = "1%",
    ) -> None:
        """Declare where the rows of a view go while the app runs (docs/connectors.md tells of each kind).

        Args:
            view: the view's (or log's) name.
            url: `postgres://USER@HOST/DATABASE?table=NAME`, `sqlite:PATH?table=NAME`, `duckdb:PATH?table=NAME`,
                `redis://HOST:PORT/0?prefix=NAME:`, `kafka://HOST:PORT/TOPIC`, `parquet:FOLDER/`, `jsonl:PATH`, `csv:PATH`, or
                `-` (standard output). `${NAME}` in it stands for a variable of the environment.
            key: the columns that say what a row is about, each at most once in the view: rows replace those of the same key.
                Without it rows are added; where the view also takes rows back, each has a weight, in `__weight`.
            name: what the sink's position is kept under. By default the view and what the URL is about.
            delivery: what is asked for; by default the best that the sink can. `bourne status` shows it.
            dead_letters: the largest share of rows that the other side refuses, as for `source`.

        Raises:
            DefinitionError: there is no such view or log (yet).
        """
        known = (*self.logs, *self.tables, *self.views, *(source.into for source in self.sources))
        if view not in known:
            raise DefinitionError(
                f"sink {url!r} is to get the rows of {view!r}, which is not declared", where=f"app {self.name!r}",
                expected=", ".join(known) or "a view, declared before", found=view,
            )  # fmt: skip
        columns = (key,) if isinstance(key, str) else tuple(key)
        self.sinks.append(SinkDefinition(view, url, columns, name, delivery, dead_letters))

    def job(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        keep: str | None = HISTORY_KEEP,
    ) -> Any:
        """Declare a batch job; a decorator of a function that returns its steps (docs/jobs.md).

        The function's parameters are the job's, checked by their types before a run begins. Those before a `*` identify an
        instance: one that has completed is not run again by accident, one that failed goes on where it was.

        Args:
            function: from parameters to steps: `return extract >> [load, report]`. It only declares: it is called for each run.
            name: the job's name; by default the function's.
            description: what it is for; by default the first line of the function's docstring.
            keep: how long the history remembers its runs after they ended, None for ever. The last run of each instance, and
                what has to be known to go on with it, are remembered for ever; of older ones not their chunks and messages.

        Raises:
            DefinitionError: its name or a parameter cannot be used.
        """
        keep_us = _age_us(keep, where=f"job {name or 'without a name'!r}, keep")

        def declare(function: Callable[..., Any]) -> Job:
            job = declare_job(function, name=name, description=description, keep_us=keep_us)
            if job.name in self.jobs:
                raise DefinitionError(f"job {job.name!r} is declared twice", where=f"app {self.name!r}",
                                      hint="give one another name: @app.job(name=…)")  # fmt: skip
            self.jobs[job.name] = job
            return job

        return declare if function is None else declare(function)

    def schedule(
        self,
        job: Job | str,
        when: When,
        *,
        name: str | None = None,
        params: Params | None = None,
        window: BatchWindow | None = None,
        misfire: Policy = "once",
        grace: str = "1 minute",
        catch_up: str | int | None = "7 days",
        parallel_max: int = 1,
        priority: int = 0,
        after: str | Sequence[str] = (),
    ) -> None:
        """Declare when runs of a job begin, while the app runs (`bourne run`; docs/jobs_schedule.md).

        Args:
            job: the job, or its name. Each fire is a run from the beginning.
            when: `cron(…)`, `every(…)`, `calendar(…)`, or an event: `file_arrived(…)`, `view_reached(…)`, `job_ended(…)`,
                `http_call(…)`, all of `bourne.batch`.
            name: what the schedule is called; by default as its job.
            params: the job's parameters, or a function that makes them, of the local datetime that a run is for, or of the
                `Event` that it follows: `lambda at: {"day": at.date()}`.
            window: outside of it runs do not begin, and those at work pause at its end, after their chunks.
            misfire: what becomes of times that were missed while nothing ran: one run for all of them (`"once"`), one each
                (`"all"`), or none (`"skip"`).
            grace: so late a run still counts as on time.
            catch_up: how far back, or how many missed times, are made up for at most.
            parallel_max: how many runs of it at once.
            priority: the highest begins first, where several wait.
            after: the names of schedules whose newest fire, at this one's time or before, has to be done first.

        Raises:
            DefinitionError: something in this does not fit together.
        """
        called = job.name if isinstance(job, Job) else job
        if called not in self.jobs:
            raise DefinitionError(f"there is no job {called!r}", where=f"app {self.name!r}", expected=", ".join(self.jobs) or "@app.job",
                                  found=called)  # fmt: skip
        found = schedule(
            name or called, called, when, params=params, window=window, misfire=misfire, grace=grace, catch_up=catch_up,
            parallel_max=parallel_max, priority=priority, after=(after,) if isinstance(after, str) else after,
        )  # fmt: skip
        if found.name in self.schedules:
            raise DefinitionError(f"schedule {found.name!r} is declared twice", where=f"app {self.name!r}",
                                  hint="give one another name: name=…")  # fmt: skip
        self.schedules[found.name] = found

    def pool(self, name: str, *, most: int) -> None:
        """Declare a resource that steps of jobs share, such as a database that bears two loads at once.

        Args:
            name: what steps call it: `chunk(…, pools="warehouse")`.
            most: how many steps may use it at once, over all jobs and processes of the data folder.

        Raises:
            DefinitionError: the name is taken, or nobody could use it.
        """
        check_name(name, kind="pool")
        if name in self.pools or not 1 <= most <= POOL_SLOTS_MAX:
            raise DefinitionError("that is no pool", where=f"pool {name!r}", expected=f"a new name, and 1 to {POOL_SLOTS_MAX} slots",
                                  found=f"most={most}" if name not in self.pools else "declared twice")  # fmt: skip
        self.pools[name] = most

    def _check_free(self, name: str, kind: str) -> None:
        check_name(name, kind=kind)
        errors = [error_log_name(view.name) for view in self.views.values() if view.on_error == "log"]
        taken = {other.casefold(): other for other in (*self.logs, *self.tables, *self.views, *errors)}
        if name.casefold() in taken:
            raise DefinitionError(
                f"the name {name!r} is taken (SQL ignores case)",
                where=f"app {self.name!r}",
                found=taken[name.casefold()],
                hint="choose another name",
            )


def error_log_name(view: str) -> str:
    """Return what the log of a view's errors is called."""
    return f"{view}_errors"


def late_log_name(view: str) -> str:
    """Return what the log of the records is called that came too late for a view."""
    return f"{view}_late"


def _age_us(text: str | None, *, where: str) -> int | None:
    if text is None:
        return None
    age_us = interval_us(text, where=where)
    if age_us == 0:
        raise DefinitionError("an age of nothing", where=where, expected="more than 0 seconds", found=text)
    return age_us
