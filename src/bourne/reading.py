"""The rows of logs and views: each as it is now, or all together at one position.

Law: what is read together is one state of the world (`bourne.views.cut`): each view reflects exactly the records that the
logs and views beside it have. A fold only goes forward, so who was ahead waits until the others have come to it. Which versions of the views are served is looked up once for each answer: a
switch to others comes before it or after it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.errors import Behind, InputError
from bourne.limits import AT_LEAST_S_MAX
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.relation import relation_schema
from bourne.log.wake import Wake
from bourne.position import LogPosition, is_within, parse_position, position_text
from bourne.result import Result
from bourne.schema import Schema
from bourne.views.catalog import Catalog, ViewInfo
from bourne.views.cut import Cut, Trail, below, newest_cut
from bourne.views.fold import Fold
from bourne.views.query import Queries

# How long a wait for commits sleeps at most, for the case that the system does not tell of a write.
_LOOK_S: Final = 1.0

_Thing = TypeVar("_Thing")


# The served version of each view, all at one moment.
Served: TypeAlias = Mapping[str, ViewInfo]


@dataclass(frozen=True, slots=True)
class Together:
    """Tables of one position: of each name, its rows, and where its log (or output) ends in it. `views` were served."""

    tables: Mapping[str, pa.Table]
    ends: Mapping[str, tuple[int, ...]]
    position: LogPosition
    views: Served


class Reading:
    """Reads the logs and views of a data folder. From any thread."""

    def __init__(
        self,
        catalog: Catalog,
        views: Callable[[], Served],
        all_views: Callable[[], Served],
        log: Callable[[str], LogInfo],
        database: Callable[[], duckdb.DuckDBPyConnection],
    ) -> None:
        """`views` are those that are shown, `all_views` all that may be read; `log` returns a log or raises UnknownName;
        `database` computes queries."""
        self._catalog = catalog
        self.views = views
        self._look_up = all_views
        self._log = log
        self._folds: dict[Path, _Held[Fold]] = {}
        self._trails: dict[Path, _Held[Trail]] = {}
        self._older: dict[bytes, ViewInfo | None] = {}
        self._served_folders: set[Path] = set()
        self._mutex = threading.Lock()
        self._queries = Queries(database)

    def _all_views(self) -> Served:
        """Return all views; let go of what is kept of versions that are not served any more."""
        served = self._look_up()
        folders = {view.folder for view in served.values()}
        with self._mutex:
            if folders != self._served_folders:
                for folder in self._served_folders - folders:  # who reads there just now has it still
                    self._folds.pop(folder, None)
                    self._trails.pop(folder, None)
                self._served_folders = folders
        return served

    # --- what there is ---

    def schemas(self) -> dict[str, Schema]:
        """Return the columns of all logs and views."""
        return self._schemas(self._all_views())

    def _schemas(self, served: Served) -> dict[str, Schema]:
        schemas = {info.name: relation_schema(info) for info in self._catalog.logs()}
        return schemas | {name: view.schema for name, view in served.items()}

    def find_log(self, name: str) -> tuple[Path, LogInfo]:
        """Return where a log is, and what is in it.

        Raises:
            UnknownName: there is none.
        """
        info = self._log(name)
        return self._catalog.log_folder(info.name), info

    def logs(self) -> Sequence[LogInfo]:
        """Return all logs."""
        return self._catalog.logs()

    def all_folders(self) -> Sequence[Path]:
        """Return the folders of all partitions of all logs and served outputs."""
        served = self.views()
        return self._folders([*(info.name for info in self.logs()), *served], served)

    def _find(self, name: str, served: Served) -> tuple[Path, LogInfo]:
        """Return where a view's output, or a log, is, and what is in it. Raises: as `find_log`."""
        view = _view(name, served)
        return self.find_log(name) if view is None else (view.folder, view.output)

    # --- as it is now ---

    def rows(self, name: str) -> pa.Table:
        """Return the rows of a log or view as of now."""
        return self._rows(name, self._all_views())

    def _rows(self, name: str, served: Served) -> pa.Table:
        with self._fold(*self._find(name, served)) as fold:
            fold.refresh()
            return fold.table()

    def count(self, view: ViewInfo) -> int:
        """Return how many rows a view has now."""
        with self._fold(view.folder, view.output) as fold:
            fold.refresh()
            return fold.count()

    def entries(self, view: ViewInfo) -> tuple[NDArray[np.int64] | None, pa.Table, int]:
        """Return the rows of a view as of now, the key of each if it has keys, and the end of its output then."""
        with self._fold(view.folder, view.output) as fold:
            fold.refresh()
            keys, table = fold.entries()
            return keys, table, fold.positions[0]

    def query(self, sql: str, parameters: Any = None) -> Result:
        """Answer a SELECT over logs and views, each as of now. Raises: as `Queries.run`."""
        served = self._all_views()
        return self._queries.run(
            sql, parameters, self._schemas(served),
            lambda names: ({name: self._rows(name, served) for name in names}, None),
        )  # fmt: skip

    # --- together ---

    def query_together(
        self, sql: str, parameters: Any = None, *, at_least: str = "", wait_s: float = 0, bytes_max: int | None = None,
        started: Callable[[duckdb.DuckDBPyConnection], None] = lambda cursor: None,
    ) -> Result:  # fmt: skip
        """Answer a SELECT over logs and views, all at one position. `bytes_max` and `started`: as `Queries.run`.

        Raises:
            Behind: they have not come to that position, or not to one that they share, in that time.
            Others: as `Queries.run`.
        """
        wanted = parse_position(at_least)
        check_wait(wait_s)
        until = time.monotonic() + wait_s
        while True:
            served = self._all_views()

            def rows(
                names: Collection[str], served: Served = served
            ) -> tuple[Mapping[str, pa.Table], LogPosition]:
                found = self._wait(names, wanted, until, served)
                return found.tables, found.position

            try:
                return self._queries.run(
                    sql, parameters, self._schemas(served), rows, bytes_max=bytes_max, started=started
                )
            except _Switched:
                continue

    def wait(self, names: Collection[str], wanted: LogPosition, *, wait_s: float) -> Together:
        """Return the rows of some logs and views at one position that has the `wanted` records.

        Raises:
            Behind: not within that time.
            InputError: it is longer than one may wait.
        """
        check_wait(wait_s)
        until = time.monotonic() + wait_s
        while True:
            try:
                return self._wait(names, wanted, until, self._all_views())
            except _Switched:
                continue

    def _wait(self, names: Collection[str], wanted: LogPosition, until: float, served: Served) -> Together:
        """Wait for these versions.

        Raises:
            _Switched: others are served meanwhile: these may never come to the position.
            Behind: they have not come to it until then.
        """
        found = self._together(names, wanted, served)
        if found is None and until > time.monotonic():
            with Wake(self._folders(names, served)) as wake:
                while (found := self._together(names, wanted, served)) is None:
                    left_s = until - time.monotonic()
                    if left_s <= 0:
                        break
                    self._check_served(names, served)
                    wake.wait(min(left_s, _LOOK_S))
        if found is None:
            self._check_served(names, served)
            raise self.behind(names, wanted)
        return found

    def _check_served(self, names: Collection[str], served: Served) -> None:
        if not self.are_served(names, served):
            raise _Switched

    def are_served(self, names: Collection[str], views: Served) -> bool:
        """Say whether the versions that were served of some views still are."""
        now = self._all_views()
        return now is views or all(_view(name, now) == _view(name, views) for name in names)

    def together(self, names: Collection[str], wanted: LogPosition) -> Together | None:
        """Return the rows of some logs and views at the newest position that they share, if that has the `wanted` records.

        None: not (yet).
        """
        return self._together(names, wanted, self._all_views())

    def _together(self, names: Collection[str], wanted: LogPosition, served: Served) -> Together | None:
        known = {name: _view(name, served) for name in names}
        with contextlib.ExitStack() as held:
            folds = {
                name: held.enter_context(self._fold(*self._find(name, served))) for name in sorted(known)
            }
            least = {name: folds[name].positions[0] for name in known if known[name] is not None}
            cut = self._cut(names, served, least)
            if cut is None or not is_within(wanted, cut.logs):
                return None
            tables, ends, logs = dict[str, pa.Table](), dict[str, tuple[int, ...]](), dict(cut.logs)
            for name, fold in folds.items():
                until = (cut.views[name],) if known[name] is not None else logs.get(name)
                fold.refresh(until)
                ends[name] = fold.positions if until is None else until
                if known[name] is None:
                    logs[name] = ends[name]
                table = fold.table() if until is None else fold.table_until(until)
                if table is None or not is_within({name: wanted.get(name, ())}, {name: ends[name]}):
                    return None
                tables[name] = table
            return Together(tables, ends, logs, served)

    def _cut(
        self, names: Collection[str], served: Served, least: Mapping[str, int] | None = None
    ) -> Cut | None:
        """Return the newest cut through some logs and views and all that they read; None if there is none (yet)."""
        views = self._all_below(names, served)
        if views is None:
            return None
        places = {}
        for name in below(names, views):
            with self._trail(views[name]) as trail:
                places[name] = trail.refresh()
        return newest_cut(names, views, places, least or {})

    def _all_below(self, names: Collection[str], served: Served) -> dict[str, ViewInfo] | None:
        """Return the views among some names, and all that they read; None if two versions of one view are among them."""
        found = {name: view for name in names if (view := _view(name, served)) is not None}
        waiting = list(found.values())
        while waiting:
            for view in self._below(waiting.pop(), served):
                if view.name not in found:
                    found[view.name] = view
                    waiting.append(view)
                elif found[view.name].id != view.id:
                    return None
        return found

    def _below(self, view: ViewInfo, served: Served) -> list[ViewInfo]:
        """Return the versions of views that a version reads itself, whether they are served (still) or not."""
        found = (self._version(each, served) for each in view.inputs)
        return [each for each in found if each is not None]

    def _version(self, info: LogInfo, served: Served) -> ViewInfo | None:
        """Return the version of a view whose output this is; None if it is a log's."""
        view = served.get(info.name)
        if view is not None and view.id == info.id:
            return view
        if info.id not in self._older:
            numbers = self._catalog.version_numbers(info.name)
            versions = (self._catalog.version(info.name, number) for number in numbers)
            self._older[info.id] = next((each for each in versions if each and each.id == info.id), None)
        return self._older[info.id]

    def position_text(self, view: ViewInfo, end: int) -> str:
        """Return the position that the rows of a view reflect at that end of its output."""
        with self._trail(view) as trail:
            found = [place for place in trail.refresh() if place.end <= end]
        nothing = {each.name: (0,) * each.partitions for each in view.inputs}
        return self.position_text_of(view, found[-1].inputs if found else nothing)

    def position_text_of(self, view: ViewInfo, inputs: LogPosition) -> str:
        """Return the position of the logs that a view reflects with these positions of its inputs, or an earlier one."""
        return position_text(self._logs_of(view, inputs, self._all_views()))

    def _logs_of(self, view: ViewInfo, inputs: LogPosition, served: Served) -> LogPosition:
        views = {each.name: each for each in self._below(view, served)}
        found = dict[str, tuple[int, ...]]()
        for name, offsets in inputs.items():
            below = {name: offsets}
            if name in views:
                with self._trail(views[name]) as trail:
                    places = [place for place in trail.refresh() if place.end <= offsets[0]]
                nothing = {each.name: (0,) * each.partitions for each in views[name].inputs}
                reached = places[-1].inputs if places else nothing
                below = dict(self._logs_of(views[name], reached, served))
            for log, at in below.items():
                found[log] = tuple(map(min, found[log], at)) if log in found else at
        return found

    def behind(self, names: Collection[str], wanted: LogPosition) -> Behind:
        """Return what to say of logs and views that have not come to a position."""
        found = []
        for name in sorted(names):
            cut = self._cut([name], self._all_views())
            if cut is not None and cut.logs:
                found.append(f"{name} at {position_text(cut.logs)}")
        return Behind(
            f"{' and '.join(sorted(names))}: not there yet" if len(names) == 1 else "these are not at one position (yet)",
            where=", ".join(sorted(names)), expected=position_text(wanted) or "one position of all",
            found="; ".join(found) or None,
            hint="ask again; if it stays so, see whether the views run, and whether one has failed: bourne status",
        )  # fmt: skip

    def _folders(self, names: Collection[str], served: Served) -> Sequence[Path]:
        """Return the folders of the partitions in which something has to happen for these to go on."""
        views = self._all_below(names, served) or {
            name: view for name in names if (view := _view(name, served)) is not None
        }
        outputs = [partition_folder(view.folder, 0) for view in views.values()]
        logs = [self._find(name, served) for name in names if name not in views]
        return outputs + [
            partition_folder(folder, number) for folder, info in logs for number in range(info.partitions)
        ]

    # --- what is kept ---

    def _fold(self, folder: Path, info: LogInfo) -> contextlib.AbstractContextManager[Fold]:
        with self._mutex:
            if folder not in self._folds:
                self._folds[folder] = _Held(Fold(folder, info))
            return self._folds[folder].alone()

    def _trail(self, view: ViewInfo) -> contextlib.AbstractContextManager[Trail]:
        with self._mutex:
            if view.folder not in self._trails:
                self._trails[view.folder] = _Held(Trail(view))
            return self._trails[view.folder].alone()

    def closers(self) -> list[Callable[[], None]]:
        """Return what lets go of each file; tables that were given out stay valid."""
        with self._mutex:
            return [each.thing.close for each in self._folds.values()] + [
                each.thing.close for each in self._trails.values()
            ]


class _Switched(Exception):
    """Other versions are served than those that were asked for."""


def _view(name: str, served: Served) -> ViewInfo | None:
    """Return the served version of a view, ignoring case; None if there is none."""
    found = served.get(name)
    if found is None:
        found = next((view for view in served.values() if view.name.casefold() == name.casefold()), None)
    return found


class _Held(Generic[_Thing]):
    """Something that is one thread's at a time."""

    def __init__(self, thing: _Thing) -> None:
        self.thing = thing
        self._mutex = threading.Lock()

    @contextlib.contextmanager
    def alone(self) -> Iterator[_Thing]:
        """Have it for the block."""
        with self._mutex:
            yield self.thing


def check_wait(wait_s: float) -> None:
    """Refuse to wait for longer than one may.

    Raises:
        InputError: it is negative, or too long.
    """
    if not 0 <= wait_s <= AT_LEAST_S_MAX:
        raise InputError(
            "no such time to wait", expected=f"0 to {AT_LEAST_S_MAX:g} seconds", found=f"{wait_s:g}"
        )
