"""The steps of a job, as they are declared: pure data. `bourne.jobs` does what they say.

>>> from bourne.batch import chunk, task
>>> extract = chunk("extract", read="orders.csv", process="SELECT * FROM input WHERE amount > 0", write="good.csv")
>>> (extract >> task("mail", print)).last
('mail',)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bourne.batch.chunk_size import ChunkSize, chunk_size, rows_of
from bourne.batch.flow import Flow, Target, as_flow
from bourne.batch.increments import Overlap, check_increments, overlap_of
from bourne.batch.inputs import Input, Partitioning, Query, Records
from bourne.batch.retry import NEVER, Retry, Skip
from bourne.errors import DefinitionError
from bourne.limits import STEP_NAME_CHARS_MAX
from bourne.schema import Schema, declare_schema, interval_us

if TYPE_CHECKING:
    from bourne.batch.job import Job

Process: TypeAlias = str | Callable[..., Any]
Mode = Literal["append", "replace"]
ExecutorKind: TypeAlias = Literal["threads", "processes"] | Callable[[], Executor]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A step of a job. `a >> b`: b follows a. `a.on("EMPTY") >> b`: only if a ended so."""

    name: str
    retry: Retry = NEVER
    timeout_s: float | None = None
    pools: tuple[str, ...] = ()

    def __rshift__(self, following: Target) -> Flow:
        """Let something follow this."""
        return as_flow(self) >> following

    def __rrshift__(self, before: Sequence[Step | Flow]) -> Flow:
        """Let this follow several: `[a, b] >> step`."""
        return as_flow(before) >> self

    def on(self, status: str) -> Flow:
        """Let what follows this (by `>>`) do so only if it ends with such an exit status; `*` and `?` stand for anything."""
        return Flow((self,), (), (self.name,), (self.name,), {self.name: status})


@dataclass(frozen=True, slots=True, eq=False)
class Chunk(Step):
    """Reads, processes and writes a chunk at a time; the rows and the position move together."""

    read: Input = ""
    process: tuple[Process, ...] = ()
    write: str | Callable[..., Any] = ""
    columns: Schema | None = None
    result: Schema | None = None
    key: tuple[str, ...] = ()
    mode: Mode | None = None
    since: str | None = None
    overlap: Overlap | None = None
    changed: bool = False
    size: ChunkSize = field(default_factory=ChunkSize)
    skip: Skip = field(default_factory=Skip)
    partition: Partitioning | None = None
    workers: int = 1
    executor: ExecutorKind = "threads"
    rows_per_s: float | None = None
    lookups: tuple[tuple[str, str], ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether each run goes on where the last one ended, whichever instance of the job that was of."""
        is_log = isinstance(self.read, Records) and self.mode != "replace"
        return self.since is not None or self.changed or is_log


@dataclass(frozen=True, slots=True, eq=False)
class Task(Step):
    """Calls a function."""

    function: Callable[..., Any] = print

    @property
    def wants_context(self) -> bool:
        """Whether the function takes a `Context`."""
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):  # of a builtin
            return False
        return any(
            each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
            for each in parameters
        )


@dataclass(frozen=True, slots=True, eq=False)
class View(Step):
    """Brings a view up to what its logs hold when the step begins."""

    view: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Check(Task):
    """A gate: fails if its query returns rows, or its function says no."""

    query: str | Query | None = None
    parameters: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class SubJob(Step):
    """Runs another job to its end."""

    job: Job | None = None
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """What a task returns to end with an exit status of its own, for `step.on(status)`."""

    status: str
    message: str = ""


def chunk(
    name: str,
    *,
    read: Input,
    write: str | Callable[..., Any],
    process: Process | Sequence[Process] = (),
    columns: Mapping[str, str] | None = None,
    result: Mapping[str, str] | None = None,
    key: str | Sequence[str] = (),
    mode: Mode | None = None,
    since: str | None = None,
    overlap: str | int | None = None,
    changed: bool = False,
    size: str | int | None = None,
    retry: Retry | None = None,
    skip: Skip | None = None,
    timeout: str | None = None,
    partition: Partitioning | None = None,
    workers: int = 1,
    executor: ExecutorKind = "threads",
    throttle: str | None = None,
    pools: str | Sequence[str] = (),
    lookups: Mapping[str, str] | None = None,
) -> Chunk:
    """Declare a step that reads, processes and writes a chunk at a time, and goes on after the last one when it is restarted.

    Args:
        name: what it is called in its job.
        read: files (`"in/*.csv"`, `s3://…`; CSV, JSON lines, Parquet, Arrow), a `query` of a database, the `records` of a log
            or view, or a function from a position to parts of rows (`bourne.batch.inputs.Rows`).
        write: a table, file or topic, as of `App.sink`; `log:NAME`, a log of the app; or a function that is called with an
            Arrow table and a text that is the same when a chunk comes again.
        process: SQL over `input`, or Python functions of an Arrow table, one after the other. Each row is treated by itself:
            the size of the chunks must not show in the result. SQL that could show it is refused; `now()` is the time of
            the chunk.
        columns: names and DuckDB types of what is read; by default as the input says, or its first file.
        result: names and DuckDB types of what the functions return; by default as they return for no rows.
        key: columns that rows are replaced by in the target: an upsert.
        mode: `"append"` adds to what is there (upserts, with a key); `"replace"` makes the target anew, seen only when it
            is complete. By default files are replaced, everything else is appended to.
        since: a column of a query that grows, such as `updated_at`: each run of the job takes only what is beyond the last one.
        overlap: how far before that each run begins, for rows that become visible late: `"5 minutes"`, or a number. Needs a key.
        changed: read everything, and write only rows that are new or other than in the last run; delete what is gone. Needs a
            key.
        size: of a chunk, in rows (`10_000`), bytes (`"8 MiB"`) or time (`"500 milliseconds"`, by default a second).
        retry: what is tried again; by default five times if the other side is away.
        skip: which rows may be left out, and how many; by default none.
        timeout: how long the step may take, looked at after each chunk.
        partition: parts that are read side by side: `by_file()`, `by_range(…)`, `by_hash(…)`.
        workers: how many of them at once.
        executor: `"threads"`, `"processes"`, or a function that returns a `concurrent.futures.Executor`.
        throttle: how fast at most: `"5000 rows"` a second.
        pools: of which resources it takes one each while it works (`App.pool`).
        lookups: files by the names under which SQL joins them: `{"rates": "rates.csv"}`.

    Raises:
        DefinitionError: something in this does not fit together.
    """
    where = f"step {name!r}"
    steps = (process,) if isinstance(process, str) or callable(process) else tuple(process)
    for each in steps:
        if not (isinstance(each, str) or callable(each)):
            raise DefinitionError(
                "nothing that processes rows", where=where, expected="SQL or a function", found=repr(each)
            )
    if workers < 1:
        raise DefinitionError("nobody would work", where=where, expected="workers >= 1", found=workers)
    if workers > 1 and partition is None:
        raise DefinitionError("one input cannot be read by several", where=where, found=f"workers={workers}",
                              hint="say how it is parted: partition=by_file(), by_range(…) or by_hash(…)")  # fmt: skip
    if mode not in (None, "append", "replace"):
        raise DefinitionError("no such mode", where=where, expected="'append' or 'replace'", found=repr(mode))
    check_increments(
        read, since=since, overlap=overlap, changed=changed, has_key=bool(key), mode=mode, is_parted=partition is not None,
        where=where,
    )  # fmt: skip
    rate = None if throttle is None else rows_of(throttle, where=where)
    return Chunk(
        _named(name), Retry() if retry is None else retry, _timeout(timeout, where), _names(pools), read, steps, write,
        None if columns is None else declare_schema(columns, where=where),
        None if result is None else declare_schema(result, where=where),
        _names(key), mode, since, overlap_of(overlap, where=where), changed, chunk_size(size, where=where), skip or Skip(), partition, workers, executor, rate,
        tuple((lookups or {}).items()),
    )  # fmt: skip


def task(
    name: str, function: Callable[..., Any], *, retry: Retry = NEVER, timeout: str | None = None,
    pools: str | Sequence[str] = (),
) -> Task:  # fmt: skip
    """Declare a step that calls a function: with a `Context` if it has a parameter for it.

    It may be called again after a crash: what it does has to bear that (`Context.key` is the same then). It returns nothing,
    or an `Exit`. A function that takes longer than `timeout` is left alone, and the step fails.

    Raises:
        DefinitionError: the name cannot be used.
    """
    return Task(_named(name), retry, _timeout(timeout, f"step {name!r}"), _names(pools), function)


def view(name: str, *, view: str | None = None, timeout: str | None = "1 hour") -> View:
    """Declare a step that brings a view (by default of the step's name) up to what its logs hold when the step begins.

    Raises:
        DefinitionError: the name cannot be used.
    """
    return View(_named(name), NEVER, _timeout(timeout, f"step {name!r}"), (), view or name)


def check(
    name: str, gate: str | Query | Callable[..., Any], *, parameters: Any = None, timeout: str | None = None
) -> Check:
    """Declare a step that fails if something is wrong: rows of a query, or a function that returns False.

    Args:
        name: what it is called in its job.
        gate: SQL over the app's logs and views, or a `query` of a database, that returns what is wrong; or a function.
        parameters: of the SQL over logs and views.
        timeout: of a function.

    Raises:
        DefinitionError: the name cannot be used.
    """
    seconds = _timeout(timeout, f"step {name!r}")
    if isinstance(gate, str | Query):
        return Check(_named(name), NEVER, seconds, (), print, gate, parameters)
    return Check(_named(name), NEVER, seconds, (), gate)


def subjob(name: str, job: Job, /, **arguments: Any) -> SubJob:
    """Declare a step that runs another job with these parameters, as a run of its own.

    Raises:
        DefinitionError: the name cannot be used.
    """
    return SubJob(_named(name), NEVER, None, (), job, arguments)


def _named(name: str) -> str:
    if not name or len(name) > STEP_NAME_CHARS_MAX or not name.isprintable() or "/" in name:
        raise DefinitionError(
            "that cannot be a step's name",
            expected=f"1 to {STEP_NAME_CHARS_MAX} characters, no /",
            found=repr(name),
        )
    return name


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _timeout(text: str | None, where: str) -> float | None:
    return None if text is None else interval_us(text, where=where) / 1e6
