"""The sources and sinks that an app declares, checked, and at work while the block of a `with` runs."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from bourne.app import App, SinkDefinition, SourceDefinition
from bourne.connect.dead_letters import LOGS as DEAD_LETTER_LOGS
from bourne.connect.dead_letters import DeadLetters, share
from bourne.connect.describe import describe_source
from bourne.connect.files_taken import FilesTaken, files_log, files_log_name
from bourne.connect.sink import Shape
from bourne.connect.sinks import check_delivery, open_sink, sink_name
from bourne.connect.source import Source
from bourne.connect.sources import Surroundings, open_source, reads_files, source_name
from bourne.connect.states import SinkState, SourceState, StateFile
from bourne.connect.urls import parse_url
from bourne.delivery import Delivering, Outlet
from bourne.errors import BourneError, DefinitionError, UnknownName
from bourne.intake import Feed, Intake
from bourne.limits import CLOSE_WAIT_S, POLL_INTERVAL_S
from bourne.log.catalog import LogInfo
from bourne.log.embedded import EmbeddedLog
from bourne.log.relation import is_keyed, only_grows, relation_schema
from bourne.ports import Clock, Files
from bourne.schema import quote
from bourne.views.catalog import Catalog
from bourne.views.reach import Reach
from bourne.views.versions import Versions

OnState = Callable[[SourceState | SinkState], None]
Followed = Callable[[], tuple[Path, LogInfo] | None]


def side_logs(app: App, relations: Mapping[str, LogInfo]) -> dict[str, LogInfo]:
    """Return the logs that an app's sources and sinks write to beside those that it declares.

    Raises:
        DefinitionError: a name is taken, two sources have the same, or one has no URL, or no share of dead letters.
    """
    named: set[tuple[str, str]] = set()
    for each in app.sources:
        name = source_name(each.url, each.name)
        share(each.dead_letters, where=f"source {name!r}")
        if (name, each.into) in named:
            raise DefinitionError(
                f"two sources of log {each.into!r} are called {name!r}", where=f"app {app.name!r}",
                hint="give one of them another name: name=…",
            )  # fmt: skip
        named.add((name, each.into))
    files = dict.fromkeys(each.into for each in app.sources if reads_files(each.url))
    logs = [*(DEAD_LETTER_LOGS if app.sources or app.sinks or app.jobs else ()), *map(files_log, files)]
    for log in logs:
        if log.name in relations or log.name in app.views:
            raise DefinitionError(
                f"the name {log.name!r} is taken", where=f"app {app.name!r}",
                expected="the log that sources and sinks write to", found="a declaration of that name",
                hint="choose another name",
            )  # fmt: skip
    return {log.name: log for log in logs}


def source_logs(app: App, log: Callable[[str], LogInfo | None]) -> dict[str, LogInfo]:
    """Return the logs that sources feed and nobody declared: as they are, by `log`, or as the sources say.

    Raises:
        DefinitionError: a source does not say which columns it has.
        Unreachable, SourceFailed, InputError: it cannot be asked.
    """
    found: dict[str, LogInfo] = {}
    for each in app.sources:
        if each.into not in app.logs and each.into not in found:
            found[each.into] = log(each.into) or describe_source(each.url, each.into)
    return found


def check_sinks(app: App, relations: Mapping[str, LogInfo]) -> None:
    """Refuse sinks that cannot be.

    Raises:
        DefinitionError: one has no URL, a key that is no column, a name that another one has, or follows a compacted log.
    """
    names = set()
    for each in app.sinks:
        shape = _shape(each, relations[each.view])
        _check_told(relations[each.view], shape.name)
        check_delivery(each.delivery, open_sink(each.url, shape), shape.name)
        share(each.dead_letters, where=f"sink {shape.name!r}")
        if shape.name in names:
            raise DefinitionError(
                f"two sinks are called {shape.name!r}", where=f"app {app.name!r}",
                hint="give one of them another name: name=…",
            )  # fmt: skip
        names.add(shape.name)


def _check_told(info: LogInfo, name: str) -> None:
    """Refuse a log whose rows change, and which forgets what they were: a sink could not know what to take back."""
    if is_keyed(info) and info.retention.is_compacted:
        raise DefinitionError(
            f"log {info.name!r} is compacted: it does not say what became of its rows since a sink got them",
            where=f"sink {name!r}", hint=f"let the sink follow a view: SELECT * FROM {quote(info.name)}",
        )  # fmt: skip


def _shape(declared: SinkDefinition, info: LogInfo) -> Shape:
    """Return what a sink is going to get.

    Raises:
        DefinitionError: its key is no column.
    """
    schema = relation_schema(info)
    name = sink_name(declared.url, declared.view, declared.name)
    key = []
    for wanted in declared.key:
        column = schema.column(wanted)
        if column is None:
            raise DefinitionError(
                f"the key {wanted!r} is no column of {info.name!r}", where=f"sink {name!r}",
                expected=", ".join(schema.names), found=wanted,
            )  # fmt: skip
        key.append(column.name)
    return Shape(name, schema, tuple(key), has_weights=not key and not only_grows(info))


class Connectors:
    """Sources and sinks at work, from entering to leaving. `raise_first` says afterwards what failed."""

    def __init__(
        self, app: App | None, log: Callable[[str], EmbeddedLog], versions: Versions,
        catalog: Catalog, rows: Callable[[str], pa.Table], *, files: Files, clock: Clock, is_patient: bool, on_state: OnState | None,
    ) -> None:  # fmt: skip
        """`rows` says what a log has now. `is_patient`: whoever is away is waited for without end."""
        self._log = log
        self._versions = versions
        self._targets = versions.targets()
        self._catalog = catalog
        self._rows_of = rows
        self._files = files
        self._clock = clock
        self._is_patient = is_patient
        self._on_state = on_state
        self._ending = ExitStack()
        self._deliveries = [self._delivery(each) for each in (app.sinks if app is not None else ())]
        self._intakes: list[Intake] = []
        self._declared = app.sources if app is not None else ()

    def _intake(self, declared: SourceDefinition) -> Intake:
        log = self._log(declared.into)
        around = Surroundings(
            log.info, self._clock, functools.partial(self._files_taken, declared.into),
            functools.partial(self._rows_of, declared.into), log.append,
        )  # fmt: skip
        source = open_source(declared.url, around, name=declared.name)
        letters = self._letters(source.name, declared.into, declared.dead_letters)
        note = StateFile[SourceState](
            self._catalog.folder / "sources", f"{source.name} -> {declared.into}", self._clock
        )
        return Intake(
            Feed(parse_url(declared.url).text, source, log, letters), note, files=self._files, is_patient=self._is_patient,
            on_state=self._on_state,
        )  # fmt: skip

    def _files_taken(self, into: str, source: str) -> FilesTaken:
        log = self._log(files_log_name(into))
        return FilesTaken(source, log.append, lambda: (batch.records for batch in log.batches()))

    def _delivery(self, declared: SinkDefinition) -> Delivering:
        if declared.view in self._targets:
            info = self._targets[declared.view].output
            followed: Followed = functools.partial(self._followed, declared.view)
        else:
            log = self._log(declared.view)
            info = log.info
            followed = lambda: (log.folder, log.info)  # noqa: E731
        shape = _shape(declared, info)
        sink = open_sink(declared.url, shape)
        outlet = Outlet(
            parse_url(declared.url).text, sink, shape, check_delivery(declared.delivery, sink, shape.name), info.name, followed,
            functools.partial(self._catalog.versions, info.name), functools.partial(self._reach, declared.view),
            self._letters(shape.name, info.name, declared.dead_letters),
        )  # fmt: skip
        folder = self._catalog.folder / "sinks"
        note = StateFile[SinkState](folder, shape.name, self._clock)
        return Delivering(
            outlet, note, folder, files=self._files, is_patient=self._is_patient, on_state=self._on_state
        )

    def _followed(self, view: str) -> tuple[Path, LogInfo] | None:
        """Return where the served version of a view is, and what is in it."""
        served = self._versions.served().get(view)
        return None if served is None else (served.folder, served.output)

    def _reach(self, view: str) -> Reach:
        served = self._versions.served()
        if (
            self._versions.standing(view) is not None
        ):  # it goes on no more: what it has is what there is to be had
            return Reach(served[view], {}, lambda log: (0,) * log.partitions)
        return Reach(served[view], served, lambda log: self._log(log.name).end_offsets())

    def _letters(self, origin: str, log: str, declared: float | str) -> DeadLetters:
        largest = share(declared, where=repr(origin))
        return DeadLetters(self._append, self._clock, origin=origin, log=log, share_max=largest)

    def _append(self, log: str, rows: pa.Table) -> object:
        return self._log(log).append(rows)

    def deliver_again(self, sink: str, letters: Mapping[str, bytes]) -> Mapping[str, str | None]:
        """Deliver rows once more that a sink's other side refused; see `Delivering.again`.

        Raises:
            UnknownName: the app has no such sink.
        """
        for delivery in self._deliveries:
            if delivery.name == sink:
                return delivery.again(letters)
        raise UnknownName(
            f"the rows were refused by sink {sink!r}, which the app does not declare" if self._deliveries else
            f"the rows were refused by sink {sink!r}: to deliver them again, the app has to be known that declares it",
            expected=", ".join(repr(each.name) for each in self._deliveries) or None,
            hint="bourne dead-letters retry --file app.py",
        )  # fmt: skip

    # --- at work -----------------------------------------------------------------------------------------

    @property
    def _workers(self) -> list[Intake | Delivering]:
        return [*self._intakes, *self._deliveries]

    def __enter__(self) -> Connectors:
        """Open the sources, and start.

        Raises:
            DefinitionError, SourceFailed: a source cannot be opened.
        """
        try:
            for declared in self._declared:
                self._intakes.append(self._intake(declared))
        except BaseException:
            for intake in self._intakes:
                intake.source.stop()
            raise
        self._ending.callback(self._join)
        for worker in self._workers:
            self._ending.callback(worker.stop)
        for worker in self._workers:
            worker.start()
        return self

    def _join(self) -> None:
        """Wait until all have ended, but for so long together."""
        deadline = time.monotonic() + CLOSE_WAIT_S
        for worker in self._workers:
            worker.join(deadline)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources that are open."""
        return tuple(intake.source for intake in self._intakes)

    def new_records(self) -> int:
        """Return how many records came into the logs since the last call."""
        return sum(intake.new_records() for intake in self._intakes)

    def has_more(self) -> bool:
        """Say whether a source has more to come that is there already, as far as is known."""
        return any(intake.has_more for intake in self._intakes)

    def has_less(self) -> bool:
        """Say whether a sink has less than its view has committed."""
        return any(delivery.is_behind() for delivery in self._deliveries)

    def have_failed(self) -> bool:
        """Say whether none of them works any more, if there are any."""
        return bool(self._workers) and all(worker.has_failed for worker in self._workers)

    def drain(self, stop: threading.Event) -> None:
        """Wait until the sinks have what the views have committed, or `stop` is set."""
        while self.has_less() and not stop.wait(POLL_INTERVAL_S):
            pass

    def raise_first(self) -> None:
        """Raise the first failure, if there is one, with a note of the others."""
        failures: list[BourneError] = [
            worker.failure for worker in self._workers if worker.has_failed and worker.failure is not None
        ]
        for other in failures[1:]:
            failures[0].add_note(str(other))
        if failures:
            raise failures[0]
