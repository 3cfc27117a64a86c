"""An app, opened on a data folder: append, follow, ask.

Invariants: opening takes no lock. The first append to a log takes that log's, the first `catch_up` or `run` those of
the views; both are held until `close`. Everything that a method has acknowledged is durable.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa

from bourne.app import App, TableDefinition, error_log_name, late_log_name
from bourne.connect.dead_letters import LOGS as DEAD_LETTER_LOGS
from bourne.connect.files_taken import files_log, files_log_name
from bourne.connect.source import Source
from bourne.connect.states import SinkState, SourceState, sink_states, source_states
from bourne.connect.tables import TableContent, read_table, store_table
from bourne.connectors import Connectors, check_sinks, side_logs, source_logs
from bourne.declaration import Durability, LogDefinition
from bourne.duck import connect
from bourne.engine.compile import compile_circuit
from bourne.engine.explain import Explanation, explain_circuit
from bourne.engine.kernels.stage import Databases
from bourne.engine.skipping import ErrorLog, SideLogs, error_log
from bourne.engine.watermark import check_punctuation
from bourne.errors import (
    BourneError,
    Closed,
    GrowingState,
    InputError,
    StorageError,
    UnknownName,
)
from bourne.housekeeping import Housekeeping
from bourne.html_table import html_table
from bourne.jobs.jobs import Jobs
from bourne.letters import Letters
from bourne.log.catalog import LogInfo, Retention
from bourne.log.causes import check_seen, with_seen
from bourne.log.embedded import EmbeddedLog
from bourne.log.partition import check_partition_key
from bourne.log.protocol import Appended
from bourne.log.reader import LogReader
from bourne.log.relation import relation_schema, stored_schema
from bourne.log.retention import Maintained
from bourne.ports import Clock, Files, OsFiles, SystemClock
from bourne.position import position_text
from bourne.reading import Reading
from bourne.rebuilding import Rebuilding
from bourne.result import Result
from bourne.running import Progress, Runners
from bourne.sql.bind import bind
from bourne.sql.plan import BoundQuery
from bourne.sql.zones import register_zones
from bourne.status import Status
from bourne.udf import register
from bourne.views.catalog import Catalog, ViewInfo
from bourne.views.compiling import Compiling, side_log_owners
from bourne.views.families import check_side_logs
from bourne.views.serving import Build, Outcome
from bourne.views.status import (
    BuildingStatus,
    building_status,
    output_ends,
    view_state,
    view_status,
)
from bourne.views.versions import Versions


def open_app(
    app: App | None = None, *, data: str | os.PathLike[str] = "data", clock: Clock | None = None,
    files: Files | None = None,
) -> Instance:  # fmt: skip
    """Open an app on a data folder, making the folder, its logs and views if they are not there.

    Without `app`, open an existing folder as it is: append, query, tail and status work, views are not run.

    Raises:
        DefinitionError, SqlError, NotMaintainable: the app is declared wrongly; names the place.
        StorageError: the folder cannot be used.

    Warns:
        GrowingState: what a view remembers grows for ever, and it was not declared with `grows=True`.
    """
    instance = Instance(app, Path(data), clock=clock or SystemClock(), files=files or OsFiles())
    with contextlib.ExitStack() as opened:
        opened.callback(instance.close)
        for growing in instance._growing:
            warnings.warn(growing, stacklevel=2)
        opened.pop_all()
    return instance


def open_data(folder: Path) -> Instance:
    """Open a data folder as it is, in a process that works for another one."""
    return open_app(data=folder)


class Instance:
    """What `bourne.open` returns. Use it as a context manager, or call `close`; calling it twice is fine."""

    def __init__(self, app: App | None, folder: Path, *, clock: Clock, files: Files) -> None:
        self.app = app
        self.folder = folder
        self._home = Path.cwd()  # of the tables' files
        self.clock = clock
        self.files = files
        self._catalog = Catalog(folder)
        self._logs: dict[str, EmbeddedLog] = {}
        self._open_connectors: Connectors | None = None
        self._open_jobs: Jobs | None = None
        self._mutex = threading.RLock()
        self._is_closed = False
        self._at_work = 0  # how many threads run the views here
        self._functions = app.functions if app is not None else {}
        self._databases = Databases(self._connect)
        self._compiling = Compiling(app or App("none"), folder, self._databases)
        self._versions = Versions(self._catalog, self._compiling, files)
        self._declared: dict[str, LogInfo] = {}
        self._growing: list[GrowingState] = []
        if app is None:
            if self._catalog.check() is None:
                raise StorageError(
                    "there is no data folder", where=str(folder), expected="a folder made by Bourne",
                    hint="name it with data=… or --data, or open it with an app first",
                )  # fmt: skip
        else:
            self._declare(app)
        self._runners = Runners(self._versions, self._databases, files, self.clock, self._side_logs)
        self._housekeeping = Housekeeping(self._versions, self.log, self._runners.release)
        self.reading = Reading(
            self._catalog, self._versions.served, self._versions.all_served, self._log, lambda: self._databases.linear
        )  # fmt: skip

    def _side_logs(self, view: ViewInfo, query: BoundQuery) -> SideLogs:
        """Return where records go that a view goes on without."""
        closes, takes_failures = query.emit.closes, view.on_error == "log"

        def log(name: str, is_wanted: bool) -> ErrorLog | None:
            return ErrorLog(view.version, self.log(name).append) if is_wanted else None

        errors = log(error_log_name(view.name), closes or takes_failures)
        return SideLogs(errors, log(late_log_name(view.name), closes), takes_failures)

    def _declare(self, app: App) -> None:
        """Check everything first, then make what is missing."""
        relations = {declared.name: _log_info(declared) for declared in app.logs.values()}
        relations |= source_logs(app, self._catalog.log)
        tables = [self._read_table(table) for table in app.tables.values()]
        relations |= {content.info.name: content.info for content in tables}
        owners = side_log_owners(app)
        relations |= {name: error_log(name) for name in owners}
        relations |= side_logs(app, relations)
        logs = list(relations.values())
        check_seen(relations)
        for log in logs:
            check_punctuation(log)
        compiled = self._compiling.views(relations)
        views = [each.info for each in compiled]
        self._growing = [each.growing for each in compiled if each.growing is not None]
        check_side_logs({view.name: view for view in views}, owners)
        check_sinks(app, relations | {view.name: view.output for view in views})
        with self._catalog.alone():
            self._catalog.create(app.name, self.files)
            self._declared = {log.name: self._catalog.declare_log(log, self.files) for log in logs}
            self._versions.declare(compiled, self._declared)
        for content in tables:
            self._store_table(content)

    def _read_table(self, table: TableDefinition, *, is_fixed: bool = False) -> TableContent:
        log = self._declared.get(table.name) or self._catalog.log(table.name)
        folder = self._catalog.log_folder(table.name)
        is_table = log is not None and log.table is not None
        return read_table(table, self._home, log if is_table else None, folder, is_fixed=is_fixed)

    def _store_table(self, content: TableContent) -> None:
        """Bring a table's log to what its file said."""
        info = self._declared[content.info.name]
        store_table(replace(content, info=info), self._catalog.log_folder(info.name), self.files, self.clock)

    def _take_over_tables(self) -> list[BourneError]:
        """Look at the tables' files again; return what is wrong with some, which then stay as they were."""
        errors = []
        for table in self.app.tables.values() if self.app is not None else ():
            try:
                self._store_table(self._read_table(table, is_fixed=True))
            except BourneError as error:
                errors.append(error)
        return errors

    # --- writing ---

    def log(self, name: str) -> EmbeddedLog:
        """Return a log, to append to it, to read it in batches or rows, from an offset or a time, and to follow it.

        It is closed with this object.

        Raises:
            UnknownName: there is no such log.
        """
        with self._mutex:
            info = self._log(name)
            if info.name not in self._logs:
                folder = self._catalog.log_folder(info.name)
                self._logs[info.name] = EmbeddedLog(folder, info, files=self.files, clock=self.clock)
            return self._logs[info.name]

    def append(
        self,
        log: str,
        rows: Any,
        *,
        durability: Durability | None = None,
        request_id: str | None = None,
        request_hash: str | None = None,
        seen: Mapping[str, int] | None = None,
    ) -> Appended:
        """Append records to a log; they are durable when this returns (or as durable as was asked for).

        Args:
            log: the log's name.
            rows: an Arrow, Polars or pandas table, anything else with the Arrow PyCapsule interface, or a
                list of dicts. All rows or none of each partition are taken.
            durability: `"fsync"`, `"interval"` or `"none"`; by default as the log was declared.
            request_id: an id of this call: a repeat writes nothing and returns the first offsets.
            request_hash: a hash of what the rows were made of, kept with the id: a call with the same id and another hash
                is refused. Without, only another number of rows is.
            seen: of other logs, the position (the offset after the last record) that the author of the rows had seen. It
                goes into the columns that the log declares for that (`App.log(seen=…)`).

        Returns: the records' offsets, in the order of `rows`.

        Raises:
            UnknownName: there is no such log.
            UnknownColumn, ValueMismatch, InputError: the data does not fit the log's schema.
            LogLocked: another process holds the log's lock and does not give it back.
            DiskFull, StorageError, CorruptFrame: the disk refuses.
        """
        found = self.log(log)
        self._check_writable(found.info)
        if seen:
            rows = with_seen(found.info, rows, seen)
        return found.append(rows, durability=durability, request_id=request_id, request_hash=request_hash)

    def _check_writable(self, info: LogInfo) -> None:
        """Refuse what would look like a record that a view goes on without, or a source has set aside or read."""
        if info in (*DEAD_LETTER_LOGS, files_log(info.name.removesuffix(files_log_name("")))):
            raise InputError(
                f"{info.name!r} is written to by sources and sinks only", where=f"log {info.name!r}",
                hint="append to a log of your own; to take dead letters in again: bourne dead-letters retry",
            )  # fmt: skip
        for view in (
            self._known_views() if info.name.endswith((error_log_name(""), late_log_name(""))) else ()
        ):
            names = (error_log_name(view.name), late_log_name(view.name))
            if info.name in names and info.schema == error_log(info.name).schema:
                raise InputError(
                    f"{info.name!r} is the log of what view {view.name!r} goes on without: only that view appends to it",
                    where=f"log {info.name!r}", hint="append to a log of your own, or to the one that the view reads",
                )  # fmt: skip

    def _log(self, name: str) -> LogInfo:
        self._check_open()
        info = self._declared.get(name) or self._catalog.log(name)
        if info is None:
            known = ", ".join(log.name for log in self._catalog.logs()) or "none"
            raise UnknownName(f"there is no log {name!r}", where=str(self.folder), expected=known, found=name)
        return info

    # --- following ---

    def catch_up(self, *, final: bool = False) -> int:
        """Let every view take in all that was appended before this call; committed when it returns.

        Args:
            final: nothing follows: the inputs end here, so that every window closes, as in batch. That is for ever: what
                is appended later is late for views that close (`EMIT FINAL`, `LATENESS`).

        Returns: how many records were taken in, over all views.

        Raises:
            LogLocked: another process runs these views.
            ViewFailed: a record cannot be computed, or a state not restored.
            SourceFailed: a static table's file cannot be read; the table stays as it was.
            DiskFull, StorageError, CorruptFrame: the disk refuses.

        Whatever is raised but LogLocked, the other views are caught up all the same.
        """
        self._check_open()
        errors = self._take_over_tables()
        rows = 0
        try:
            with self._working():
                rows = self._runners.catch_up(is_end=final)
        except BourneError as error:
            errors.insert(0, error)
        _raise_first(errors)
        return rows

    def start(self) -> None:
        """Take the views' locks and restore their states, as `catch_up` and `run` do first.

        What a view says before any record (`SELECT count(*)`: 0) is there when this returns, durably. A view that cannot be
        restored stands still; `run` tells why.

        Raises:
            LogLocked: another process runs a view.
            DefinitionError, StorageError: as of `run`.
        """
        self._check_open()
        self._runners.start()

    def run(
        self,
        *,
        until_caught_up: bool = False,
        final: bool = False,
        on_progress: Callable[[list[Progress]], None] | None = None,
        on_state: Callable[[SourceState | SinkState], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Open the sources and keep all views up to date, until `stop` is set (or Ctrl-C).

        Args:
            until_caught_up: return when the sources have ended, or have brought all that there was, and the views have taken
                in everything. A source that nobody knows the end of (TCP) never does.
            final: then nothing follows, as in `catch_up`: a bounded input, such as a file through a pipe, closes its windows.
            on_progress: called after each round that took something in, from this thread.
            on_state: called when a source or a sink starts, waits, fails, or ends; from its thread.
            stop: set it, from any thread, to end the run after the current epochs.

        A view or a source that fails stands still while the others go on; `on_progress` and `on_state` tell at once, and the
        first failure is raised when the run ends, or when nothing is left. A source whose other side is away waits for it.

        Raises: as `catch_up`.
        """
        self._check_open()
        if final and not until_caught_up:
            raise InputError(
                "final=True of a run without an end", expected="until_caught_up=True beside it", found="False",
                hint="what nothing follows has an end; or leave final out",
            )  # fmt: skip
        _raise_first(self._take_over_tables())
        stop = stop or threading.Event()
        with (
            self._housekeeping.now_and_then(),
            self._connectors(is_patient=not until_caught_up, on_state=on_state) as connectors,
        ):
            self._open_connectors = connectors
            with self._working():
                self._runners.run(
                    connectors.new_records, connectors.has_more, connectors.has_less, is_futile=connectors.have_failed,
                    until_caught_up=until_caught_up, on_progress=on_progress, stop=stop,
                )  # fmt: skip
            if final and not stop.is_set():
                connectors.raise_first()  # what a source still had is not to be late for ever
                self._runners.catch_up(is_end=True)
                connectors.drain(stop)
        connectors.raise_first()

    def _connectors(
        self, *, is_patient: bool, on_state: Callable[[SourceState | SinkState], None] | None
    ) -> Connectors:
        return Connectors(
            self.app, self.log, self._versions, self._catalog, self.reading.rows, files=self.files, clock=self.clock, is_patient=is_patient,
            on_state=on_state,
        )  # fmt: skip

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources that `run` has opened."""
        return () if self._open_connectors is None else self._open_connectors.sources

    @property
    def dead_letters(self) -> Letters:
        """What sources could not take in, and sinks refused: to be looked at, tried again, or given up."""
        self._check_open()
        return Letters(self.log, self.clock, self._deliver_again)

    def _deliver_again(self, sink: str, letters: Mapping[str, bytes]) -> Mapping[str, str | None]:
        return self._connectors(is_patient=False, on_state=None).deliver_again(sink, letters)

    @property
    def jobs(self) -> Jobs:
        """The app's batch jobs: to start, to go on with, to stop, and what became of them."""
        self._check_open()
        with self._mutex:
            if self._open_jobs is None:
                app = self.app or App("none")
                self._open_jobs = Jobs(self, app.jobs, app.pools, app.schedules, open_data)
            return self._open_jobs

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Note that a thread runs the views while the block does."""
        with self._mutex:
            self._at_work += 1
        try:
            yield
        finally:
            with self._mutex:
                self._at_work -= 1

    # --- versions ---

    def replay(
        self,
        view: str,
        *,
        accept_differences: bool = False,
        on_progress: Callable[[Build, bool], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Outcome | None:
        """Compute a view, and those that read it, again from the log, beside the versions that are served meanwhile.

        The rows of both are compared at one position. If they are the same, the new versions are served from then on, all at
        once, and those before are kept for `rollback`. Whoever runs the views does it: this call, or the process that does.

        Args:
            accept_differences: serve the new version also if its rows are others.
            on_progress: called now and then with the build, and whether it is done here.
            stop: set it, from any thread, to give up: what is served stays.

        Returns: how it ended, with the differences; None if it was stopped.

        Raises:
            UnknownName: there is no such view.
            DefinitionError: it is being built already, or cannot be run any more as it was declared.
            ViewFailed: records that it was computed from are not there any more, or it cannot come to an end.
            DiskFull, StorageError, CorruptFrame: the disk refuses.
        """
        self._check_open()
        return self._rebuilding().replay(view, accepts=accept_differences, on_progress=on_progress, stop=stop)

    def rollback(
        self,
        view: str,
        *,
        as_it_is: bool = False,
        on_progress: Callable[[Build, bool], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Outcome | None:
        """Serve the version of a view again that was served before, with those of the views that read it.

        It catches up first. Opening the app with the definition that was rolled back does not bring it back; another
        `rollback` does, and so does another definition.

        Args:
            as_it_is: serve it at once, without what came since; it stands still if it cannot be run any more.
            on_progress, stop: as of `replay`.

        Returns: how it ended; None if it was stopped.

        Raises:
            UnknownName: there is no such view.
            DefinitionError: no other version was served before, or it cannot be run any more, or does not fit the others.
            ViewFailed: records are gone that it has not taken in, or it cannot come to an end.
            DiskFull, StorageError, CorruptFrame: the disk refuses.
        """
        self._check_open()
        return self._rebuilding().rollback(view, as_it_is=as_it_is, on_progress=on_progress, stop=stop)

    def standing(self, view: str) -> str | None:
        """Return why a view is served as it stands, whatever comes, after `rollback(…, as_it_is=True)`; None if it goes on."""
        return self._versions.standing(view)

    @property
    def rolled_back(self) -> tuple[str, ...]:
        """The views of the app that are served in another version than it declares, because they were rolled back."""
        return tuple(self._versions.rolled_back())

    def _rebuilding(self) -> Rebuilding:
        return Rebuilding(self._versions, self._runners, self.files, lambda: self._at_work > 0)

    # --- keeping house ---

    def maintain(self) -> list[Maintained]:
        """Delete, compact, or make cold (Parquet) what the logs' retention says. `run` does it by itself.

        Records that a reader or a view may still need are left alone: the result says by whom they are held. Views that
        this object runs save their state where that frees records.

        Returns: what became of each partition of each log with a retention.

        Raises:
            CorruptFrame: a segment is damaged; it stays as it is.
            StorageError, DiskFull: the disk refuses; what was done before holds.
        """
        self._check_open()
        return self._housekeeping.maintain()

    # --- asking ---

    def query(
        self,
        sql: str,
        parameters: Any = None,
        *,
        together: bool = False,
        at_least: str = "",
        wait_s: float = 0,
    ) -> Result:
        """Answer a SELECT over views and logs, as far as they are committed now.

        Args:
            sql: DuckDB's SQL, with `TUMBLE`; `?` or `$name` stand for parameters.
            parameters: a list or a dict.
            together: all that it reads is read at one position, `Result.position`. Else each view is as new as it can be,
                and views that have not taken in the same records are not of one moment.
            at_least: a position (`Appended.position`, `Result.position`) whose records have to be in it; implies `together`.
            wait_s: how long to wait for that in seconds, while the views run; at most 30.

        Raises:
            QueryError, SqlError: the query is wrong.
            Behind: what it reads has not come to such a position in that time.
            CorruptFrame, StorageError: what it reads cannot be read.
        """
        self._check_open()
        if not together and not at_least:
            return self.reading.query(sql, parameters)
        return self.reading.query_together(sql, parameters, at_least=at_least, wait_s=wait_s)

    def tail(self, log: str, *, start: int | None = None, rows_max: int | None = None) -> pa.Table:
        """Return the records of a log from offset `start` on (from the first, if None).

        Raises:
            UnknownName, InputError: there is no such log, or no such offset.
        """
        found = self.log(log)
        with found.batches(start=start) as batches:
            tables, left = [], 1 << 62 if rows_max is None else rows_max
            for batch in batches:
                tables.append(batch.records.slice(0, left))
                left -= tables[-1].num_rows
                if left <= 0:
                    break
        return pa.Table.from_batches(tables, found.info.schema.to_arrow())

    def reader(self, log: str, *, partition: int = 0) -> LogReader:
        """Return a cursor over one partition of a log, for reading it in frames or following it. Close it.

        Raises:
            UnknownName, InputError: there is no such log, or no such partition.
        """
        found = self.log(log)
        found.check_partition(partition)
        return LogReader(found.folder, found.info, partition=partition)

    def position_of(self, name: str) -> str:
        """Return the position of all that is in a log now, or in the logs that a view follows, as `at_least` takes it.

        Raises:
            UnknownName: there is neither.
        """
        self._check_open()
        views, waiting, ends = self._versions.served(), [name], dict[str, tuple[int, ...]]()
        while waiting:
            each = waiting.pop()
            view = views.get(each)
            if view is not None:
                waiting += [below.name for below in view.inputs]
            else:
                ends[each] = tuple(self.log(each).end_offsets())
        return position_text(ends)

    def status(self) -> Status:
        """Return how much the logs hold and how far the views are, as committed."""
        self._check_open()
        logs = [self._housekeeping.status(info) for info in self._catalog.logs()]
        ends = {log.name: log.ends for log in logs} | {
            view.name: output_ends(view) for view in self._known_views()
        }
        records = {log.name: log.end for log in logs}
        building = self._versions.building()
        views = [
            view_status(
                view,
                late_records=records.get(late_log_name(view.name), 0),
                failed_records=records.get(error_log_name(view.name), 0),
                input_ends={each.name: ends[each.name] for each in view.inputs if each.name in ends},
                rows=self.reading.count(view),
                building=_building_status(building.get(view.name.casefold()), ends),
            )
            for view in self._known_views()
        ]
        return Status(
            tuple(logs),
            tuple(views),
            source_states(self._catalog.folder),
            sink_states(self._catalog.folder, ends),
        )

    def explain(self, view: str) -> Explanation:
        """Return what a view does and costs: its plan, its operators, what each remembers, now and for how long.

        Print it, or take its `text`, `mermaid` or `dot`.

        Raises:
            UnknownName: there is no such view.
            SqlError: without an app: the view calls Python functions, which only its app knows.
        """
        self._check_open()
        info = self._known_view(view)
        if info is None:
            known = ", ".join(each.name for each in self._known_views()) or "none"
            raise UnknownName(
                f"there is no view {view!r}", where=str(self.folder), expected=known, found=view
            )
        inputs = {each.name: each for each in info.inputs}
        schemas = {name: relation_schema(each) for name, each in inputs.items()}
        query = self._versions.known_query(info) or bind(info.sql, schemas, view=info.name)
        circuit = compile_circuit(query, self._databases, sql=info.sql, inputs=inputs, view=info.name)
        views = [each.name for each in self._known_views()]
        found = explain_circuit(info.name, query, circuit, sql=info.sql, inputs=inputs, views=views)
        state = view_state(info)
        return found if state is None else found.with_state(state[1], epoch=state[0])

    def _known_views(self) -> Iterable[ViewInfo]:
        return self._versions.served().values()

    def _known_view(self, name: str) -> ViewInfo | None:
        """Return the served version of a view; of one that is not served yet, what the app declares."""
        return (
            self._versions.served().get(name)
            or self._catalog.view(name)
            or self._versions.targets().get(name)
        )

    # --- ending ---

    def close(self) -> None:
        """Save the views' state where that pays, and give all locks back. Safe to call twice."""
        with self._mutex:
            if self._is_closed:
                return
            self._is_closed = True
            closing: list[Callable[[], None]] = [
                *([] if self._open_jobs is None else [self._open_jobs.close]),
                *self._runners.closers(),
                *(log.close for log in self._logs.values()),
                *self.reading.closers(),
                self._databases.close,
            ]
            errors = [error for close in closing if (error := _attempt(close)) is not None]
        _raise_first(errors)

    def __enter__(self) -> Instance:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = self.app.name if self.app else "no app"
        return f"<bourne {name} on {self.folder}{', closed' if self._is_closed else ''}>"

    def _repr_html_(self) -> str:
        """Return its logs, views, sources and sinks for a notebook, or why that cannot be."""
        try:
            tables, note = self.status()._repr_html_(), ""
        except BourneError as error:
            tables, note = "", error.what
        return f"<div>{html_table((), (), title=repr(self), note=note)}{tables}</div>"

    def _connect(self, threads: int) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB that knows the app's functions; without any, a cursor of the one that all such apps share."""
        if not self._functions:
            return _shared(threads).cursor()
        connection = _connect(threads)
        register(connection, self._functions.values())
        return connection

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed("this data folder is closed", where=str(self.folder), hint="open it again")


def _connect(threads: int) -> duckdb.DuckDBPyConnection:
    connection = connect(threads=threads)
    register_zones(connection)
    return connection


_shared = functools.cache(_connect)


def _log_info(declared: LogDefinition) -> LogInfo:
    """Return a declared log, as it is kept beside its data."""
    key = declared.schema.column(declared.key) if declared.key is not None else None
    if (declared.partitions > 1 or declared.is_compacted) and key is not None:
        check_partition_key(key, where=f"log {declared.name!r}")
    is_pair = declared.changes == "before_after"
    return LogInfo(
        declared.name, stored_schema(declared.schema) if is_pair else declared.schema, declared.key, declared.time,
        declared.watermark_us, declared.changes, declared.partitions, declared.durability, declared.request_id,
        Retention(declared.keep_us, declared.keep_bytes, declared.cold_after_us, declared.is_compacted),
        declared.tombstone, declared.weight, idle_us=declared.idle_us, punctuation=declared.punctuation,
        seen=declared.seen,
    )  # fmt: skip


def _building_status(
    found: tuple[Build, ViewInfo] | None, ends: Mapping[str, Sequence[int]]
) -> BuildingStatus | None:
    if found is None:
        return None
    return building_status(found[1], found[0].why, input_ends=ends)


def _attempt(action: Callable[[], None]) -> BaseException | None:
    try:
        action()
    except BaseException as error:  # noqa: BLE001  (every other thing has to be closed, too)
        return error
    return None


def _raise_first(errors: Sequence[BaseException]) -> None:
    """Raise the first error, if there is one, with a note of each other."""
    for other in errors[1:]:
        errors[0].add_note(str(other))
    if errors:
        raise errors[0]
