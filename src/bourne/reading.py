"""The rows of logs and views: each as it is now, or all together at one position.

Law: what is read together is one state of the world (`bourne.views.cut`): each view reflects exactly the records that the
logs and views beside it have. A fold only goes forward, so who was ahead waits until the others have come to it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

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


@dataclass(frozen=True, slots=True)
class Together:
    """Tables of one position: of each name, its rows, and where its log (or output) ends in it."""

    tables: Mapping[str, pa.Table]
    ends: Mapping[str, tuple[int, ...]]
    position: LogPosition


class Reading:
    """Reads the logs and views of a data folder. From any thread."""

    def __init__(
        self,
        catalog: Catalog,
        views: Callable[[], Mapping[str, ViewInfo]],
        log: Callable[[str], LogInfo],
        database: Callable[[], duckdb.DuckDBPyConnection],
    ) -> None:
        """`views` are all views, `log` returns a log or raises UnknownName, `database` computes queries."""
        self._catalog = catalog
        self.views = views
        self._log = log
        self._folds: dict[Path, _Held[Fold]] = {}
        self._trails: dict[Path, _Held[Trail]] = {}
        self._mutex = threading.Lock()
        self._queries = Queries(self.schemas, database)

    # --- what there is ---

    def schemas(self) -> dict[str, Schema]:
        """Return the columns of all logs and views."""
        schemas = {info.name: relation_schema(info) for info in self._catalog.logs()}
        schemas |= {view.name: view.schema for view in self._catalog.views()}
        return schemas | {view.name: view.schema for view in self.views().values()}

    def find(self, name: str) -> tuple[Path, LogInfo]:
        """Return where a view's output, or a log, is, and what is in it.

        Raises:
            UnknownName: there is neither.
        """
        view = self._view(name)
        if view is not None:
            return view.folder, view.output
        return self._catalog.log_folder(name), self._log(name)

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
        """Return the folders of all partitions of all logs and outputs."""
        return self.folders([*(info.name for info in self.logs()), *self.views()])

    def _view(self, name: str) -> ViewInfo | None:
        return self.views().get(name) or self._catalog.view(name)

    # --- as it is now ---

    def rows(self, name: str) -> pa.Table:
        """Return the rows of a log or view as of now."""
        with self._fold(name) as fold:
            fold.refresh()
            return fold.table()

    def count(self, name: str) -> int:
        """Return how many rows a log or view has now."""
        with self._fold(name) as fold:
            fold.refresh()
            return fold.count()

    def entries(self, view: ViewInfo) -> tuple[NDArray[np.int64] | None, pa.Table, int]:
        """Return the rows of a view as of now, the key of each if it has keys, and the end of its output then."""
        with self._fold(view.name) as fold:
            fold.refresh()
            keys, table = fold.entries()
            return keys, table, fold.positions[0]

    def query(self, sql: str, parameters: Any = None) -> Result:
        """Answer a SELECT over logs and views, each as of now. Raises: as `Queries.run`."""
        return self._queries.run(
            sql, parameters, lambda names: ({name: self.rows(name) for name in names}, None)
        )

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

        def rows(names: Collection[str]) -> tuple[Mapping[str, pa.Table], LogPosition]:
            found = self.wait(names, wanted, wait_s=wait_s)
            return found.tables, found.position

        return self._queries.run(sql, parameters, rows, bytes_max=bytes_max, started=started)

    def wait(self, names: Collection[str], wanted: LogPosition, *, wait_s: float) -> Together:
        """Return the rows of some logs and views at one position that has the `wanted` records.

        Raises:
            Behind: not within that time.
            InputError: it is longer than one may wait.
        """
        check_wait(wait_s)
        until = time.monotonic() + wait_s
        found = self.together(names, wanted)
        if found is None and wait_s:
            with Wake(self.folders(names)) as wake:
                while (found := self.together(names, wanted)) is None:
                    left_s = until - time.monotonic()
                    if left_s <= 0:
                        break
                    wake.wait(min(left_s, _LOOK_S))
        if found is None:
            raise self.behind(names, wanted)
        return found

    def together(self, names: Collection[str], wanted: LogPosition) -> Together | None:
        """Return the rows of some logs and views at the newest position that they share, if that has the `wanted` records.

        None: not (yet).
        """
        known = self._known(names)
        with contextlib.ExitStack() as held:
            folds = {name: held.enter_context(self._fold(name)) for name in sorted(known)}
            least = {name: folds[name].positions[0] for name in known if known[name] is not None}
            cut = self.cut(names, least)
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
            return Together(tables, ends, logs)

    def cut(self, names: Collection[str], least: Mapping[str, int] | None = None) -> Cut | None:
        """Return the newest cut through some logs and views and all that they read; None if there is none (yet)."""
        views = {name: view for name, view in self._known(names).items() if view is not None} | dict(
            self.views()
        )
        places = {}
        for name in below(names, views):
            with self._trail(views[name]) as trail:
                places[name] = trail.refresh()
        return newest_cut(names, views, places, least or {})

    def position_text(self, view: ViewInfo, end: int) -> str:
        """Return the position that the rows of a view reflect at that end of its output."""
        with self._trail(view) as trail:
            found = [place for place in trail.refresh() if place.end <= end]
        nothing = {each.name: (0,) * each.partitions for each in view.inputs}
        return self.position_text_of(view, found[-1].inputs if found else nothing)

    def position_text_of(self, view: ViewInfo, inputs: LogPosition) -> str:
        """Return the position of the logs that a view reflects with these positions of its inputs, or an earlier one."""
        return position_text(self._logs_of(view, inputs))

    def _logs_of(self, view: ViewInfo, inputs: LogPosition) -> LogPosition:
        views, found = self.views(), dict[str, tuple[int, ...]]()
        for name, offsets in inputs.items():
            below = {name: offsets}
            if name in views:
                with self._trail(views[name]) as trail:
                    places = [place for place in trail.refresh() if place.end <= offsets[0]]
                nothing = {each.name: (0,) * each.partitions for each in views[name].inputs}
                below = dict(self._logs_of(views[name], places[-1].inputs if places else nothing))
            for log, at in below.items():
                found[log] = tuple(map(min, found[log], at)) if log in found else at
        return found

    def behind(self, names: Collection[str], wanted: LogPosition) -> Behind:
        """Return what to say of logs and views that have not come to a position."""
        found = []
        for name in sorted(names):
            cut = self.cut([name])
            if cut is not None and cut.logs:
                found.append(f"{name} at {position_text(cut.logs)}")
        return Behind(
            f"{' and '.join(sorted(names))}: not there yet" if len(names) == 1 else "these are not at one position (yet)",
            where=", ".join(sorted(names)), expected=position_text(wanted) or "one position of all",
            found="; ".join(found) or None,
            hint="ask again; if it stays so, see whether the views run, and whether one has failed: bourne status",
        )  # fmt: skip

    def folders(self, names: Collection[str]) -> Sequence[Path]:
        """Return the folders of the partitions in which something has to happen for these to go on."""
        views = self.views()
        members = below(names, views)
        outputs = [partition_folder(views[name].folder, 0) for name in members]
        logs = [self.find(name) for name in names if name not in views]
        return outputs + [
            partition_folder(folder, number) for folder, info in logs for number in range(info.partitions)
        ]

    def _known(self, names: Collection[str]) -> dict[str, ViewInfo | None]:
        """Return the views among some names; None for logs."""
        return {name: self._view(name) for name in names}

    # --- what is kept ---

    def _fold(self, name: str) -> contextlib.AbstractContextManager[Fold]:
        folder, info = self.find(name)
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
