"""Which versions of views a process reads and runs, and how new ones come to be served.

Law: what is read comes from one reading of `serving.json`, what is changed in it is read and written under the folder's
lock. A version is run by whoever holds the lock of its output, so two processes never build the same one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bourne.errors import BourneError, DefinitionError
from bourne.log.at_work import is_taken
from bourne.log.catalog import LogInfo, partition_folder
from bourne.ports import Files
from bourne.sql.plan import BoundQuery
from bourne.views.catalog import Catalog, ViewInfo, is_fed_the_same
from bourne.views.compiling import Compiled, Compiling
from bourne.views.declaring import declare_views, is_held
from bourne.views.pins import check_can_go_on
from bourne.views.serving import Build, Outcome, Serving


@dataclass(frozen=True, slots=True)
class Building:
    """A build that this process can run: its versions by key, and for each the one that is served instead of it, if any."""

    build: Build
    views: Mapping[str, ViewInfo]
    served: Mapping[str, ViewInfo | None]


@dataclass(frozen=True, slots=True)
class Lineup:
    """What is to run: served versions and those of builds, by key. `standing` are served ones that cannot be run here, by
    name, and why; `refused` are builds that cannot."""

    views: Mapping[str, ViewInfo] = field(default_factory=dict)
    builds: tuple[Building, ...] = ()
    standing: Mapping[str, BourneError] = field(default_factory=dict)
    refused: tuple[tuple[Build, BourneError], ...] = ()

    def matters(self, key: str) -> bool:
        """Say whether a run has failed if this version has: not if another definition is about to take its place, nor if
        it was only tried."""
        for each in self.builds:
            if key in each.views:
                return each.build.why == "change"
            if each.build.why == "change" and self.views[key].name.casefold() in each.build.views:
                return False
        return True

    def is_new(self, key: str) -> bool:
        """Say whether a version is being built."""
        return any(key in each.views for each in self.builds)


class Versions:
    """The versions of a data folder's views, for one process. From any thread."""

    def __init__(self, catalog: Catalog, compiling: Compiling, files: Files) -> None:
        self.catalog: Final = catalog
        self._compiling = compiling
        self._files = files
        self._declared: dict[str, ViewInfo] = {}
        self._has_app = False
        self._names: set[str] = set()  # of the app's views
        self._running: set[str] = set()  # of those that run
        self._bound: dict[str, BoundQuery] = {}
        self._refused: dict[str, BourneError] = {}
        self._mutex = threading.RLock()
        self._known: tuple[Serving, dict[str, ViewInfo]] | None = None
        self._lineup: tuple[Serving, Lineup] | None = None

    # --- declared ---

    def declare(self, compiled: Iterable[Compiled], logs: Mapping[str, LogInfo]) -> None:
        """Take over the views of an app, which run here from now on. Only within `Catalog.alone`.

        Raises:
            DefinitionError, StorageError: as `declare_views`.
        """
        self._has_app, found = True, list(compiled)
        self._declared = declare_views(self.catalog, [each.info for each in found], logs, self._files)
        self._names = {name.casefold() for name in self._declared}
        self._running = self._names
        for each in found:
            self._bound[self._declared[each.info.name].key] = each.query

    @contextmanager
    def only(self, names: Iterable[str]) -> Iterator[None]:
        """Let only these views run while the block does, as the data folder describes those that are not declared."""
        with self._mutex:
            before = self._running
            self._running = {name.casefold() for name in names}
            self._lineup = None
        try:
            yield
        finally:
            with self._mutex:
                self._running = before
                self._lineup = None

    # --- served ---

    def served(self) -> Mapping[str, ViewInfo]:
        """Return the served version of each view that is to run here, else of each there is; all at one moment."""
        found = self.all_served()
        if not self._has_app:
            return found
        return {name: view for name, view in found.items() if name.casefold() in self._names}

    def all_served(self) -> Mapping[str, ViewInfo]:
        """Return the served version of each view in the data folder, all at one moment."""
        serving = self.catalog.serving()
        with self._mutex:
            # Without a declaration, somebody else may add views of which the file says nothing yet.
            if self._known is None or self._known[0] is not serving or not self._has_app:
                found = {view.name: self._as_declared(view) for view in self.catalog.views()}
                self._known = serving, found
            return self._known[1]

    def building(self) -> dict[str, tuple[Build, ViewInfo]]:
        """Return, by the names of views without case, the versions that are being built, and in which builds."""
        found = {}
        for build in self.catalog.serving().builds:
            for name, number in build.views.items():
                view = self.catalog.version(name, number)
                if view is not None and (not self._has_app or name in self._names):
                    found[name] = (build, self._as_declared(view))
        return found

    def standing(self, name: str) -> str | None:
        """Return why the served version of a view of the app stands still whatever comes; None if it does not."""
        error = self.lineup().standing.get(name) if self._names else None
        return None if error is None else f"{error.what} ({error.where}: {error.found})"

    def targets(self) -> dict[str, ViewInfo]:
        """Return the versions that the app's views are, or come to be: as declared, or what was rolled back to."""
        serving, served = self.catalog.serving(), self.all_served()
        by_name = {name.casefold(): view for name, view in served.items()}
        return {
            name: by_name.get(name.casefold(), view) if is_held(view, self._declared, serving) else view
            for name, view in self._declared.items()
        }

    def rolled_back(self) -> list[str]:
        """Return the views of the app that are not served as it declares them, because they were rolled back."""
        serving = self.catalog.serving()
        return [name for name, view in self._declared.items() if is_held(view, self._declared, serving)]

    def held(self) -> set[str]:
        """Return the names, without case, of views that are held back in the version before the declared one, as far as is
        known here: without an app, of all that were rolled back."""
        if self._has_app:
            return {name.casefold() for name in self.rolled_back()}
        return set(self.catalog.serving().held)

    def _as_declared(self, view: ViewInfo) -> ViewInfo:
        declared = self._declared.get(view.name)
        return declared if declared is not None and declared.id == view.id else view

    # --- run ---

    def query_of(self, view: ViewInfo) -> BoundQuery:
        """Return a version's query.

        Raises:
            BourneError: it cannot be run any more; says why.
        """
        with self._mutex:
            if view.key in self._refused:
                raise self._refused[view.key]
            if view.key not in self._bound:
                try:
                    self._bound[view.key] = self._compiling.bind_version(view)
                except BourneError as error:
                    self._refused[view.key] = error
                    raise
            return self._bound[view.key]

    def known_query(self, view: ViewInfo) -> BoundQuery | None:
        """Return a version's query, if it was bound before."""
        return self._bound.get(view.key)

    def lineup(self) -> Lineup:
        """Return what is to run here now."""
        serving = self.catalog.serving()
        with self._mutex:
            if self._lineup is None or self._lineup[0] is not serving:
                self._lineup = serving, self._line_up(serving)
            return self._lineup[1]

    def _line_up(self, serving: Serving) -> Lineup:
        views: dict[str, ViewInfo] = {}
        standing: dict[str, BourneError] = {}
        by_name: dict[str, ViewInfo] = {}
        for view in lower_first(self.all_served()):
            if view.name.casefold() not in self._running:
                continue
            by_name[view.name.casefold()] = view
            try:
                fed = self.fed(view)
                self._check_runs(fed, views)
                if view.name.casefold() in serving.held:  # it may have been served again as it is
                    check_can_go_on(self.catalog, fed)
                views[fed.key] = fed
            except BourneError as error:
                standing[view.name] = error
        builds, refused = [], []
        for build in serving.builds:
            if not build.views.keys() <= self._running:
                continue
            found = [self._version(name, number) for name, number in build.views.items()]
            if build.why == "change" and any(each not in self._declared.values() for each in found):
                continue  # somebody else's
            try:
                new: dict[str, ViewInfo] = {}
                for each in lower_first({view.name: view for view in found}):
                    fed = self.fed(each)
                    self._check_runs(fed, views | new)
                    new[fed.key] = fed
            except BourneError as error:
                new = {}
                if build.why != "change":
                    refused.append((build, error))
            if new:
                served = {key: by_name.get(view.name.casefold()) for key, view in new.items()}
                builds.append(Building(build, new, served))
                views |= new
        return Lineup(views, tuple(builds), standing, tuple(refused))

    def _version(self, name: str, number: int) -> ViewInfo:
        view = self.catalog.version(name, number)
        if view is None:
            raise DefinitionError(f"version {number} of view {name!r} is not there any more")
        return self._as_declared(view)

    def fed(self, view: ViewInfo) -> ViewInfo:
        """Return a version with its logs as they are now.

        Raises:
            DefinitionError: a log is another one, or is declared in another way, than when it was made.
        """
        if self._declared.get(view.name) is view:
            return view
        inputs = []
        for each in view.inputs:
            log = self.catalog.log(each.name)
            if log is None and each.id.hex() not in self.catalog.versions(each.name):
                raise _not_fed(view, each.name, "it is not there any more")
            if log is not None and not is_fed_the_same(each, log):
                raise _not_fed(view, each.name, "another one, or other columns, times or lateness")
            inputs.append(each if log is None else log)
        return replace(view, inputs=tuple(inputs))

    def _check_runs(self, view: ViewInfo, views: Mapping[str, ViewInfo]) -> None:
        """Refuse a version that cannot be run, or that reads one that is not among these, which run."""
        ids = {each.id for each in views.values()}
        for each in view.inputs:
            if self.catalog.log(each.name) is None and each.id not in ids:
                raise _not_fed(view, each.name, "the version of it that it reads does not run")
        self.query_of(view)

    def lock_of(self, build: Build) -> Path | None:
        """Return the lock of a served version that a build is to take the place of, if somebody holds it."""
        for view in self.all_served().values():
            lock = partition_folder(view.folder) / "lock"
            if view.name.casefold() in build.views and is_taken(lock):
                return lock
        return None

    # --- changed ---

    def end(self, outcome: Outcome) -> bool:
        """End a build: serve its versions from now on, or never. Returns False if it had ended already.

        What is to be served has to be durable, and to reflect at least what the served versions do.
        """
        with self.catalog.alone():
            serving = self.catalog.serving()
            build = serving.build(outcome.number)
            if build is None:
                return False
            after = serving.end(outcome)
            if outcome.is_served and not self._is_consistent(build.views, after):
                error = "a view that it reads is served in another version now"
                after = serving.end(replace(outcome, is_served=False, error=error))
            self.catalog.serve(after, self._files)
            return True

    def _is_consistent(self, names: Iterable[str], serving: Serving) -> bool:
        """Say whether these views read what is served."""
        by_name = {
            name: self.catalog.version(name, number) for name, number in serving.views.items() if number
        }
        ids = {view.id for view in by_name.values() if view is not None}
        for name in names:
            view = by_name.get(name)
            if view is None:
                return False
            for each in view.inputs:
                if self.catalog.log(each.name) is None and each.id not in ids:
                    return False
        return True

    def tidy(self) -> None:
        """Delete what nobody is going to read of the views that run here: versions that never were served, saved states of
        those that are older than the one before the served. Nobody may run them."""
        with self.catalog.alone():
            serving = self.catalog.serving()
            mine = [each for each in serving.given_up if each[0] in self._running]
            for name, number in mine:
                self.catalog.empty_version(name, number, self._files)
            if mine:
                kept = tuple(each for each in serving.given_up if each not in mine)
                self.catalog.serve(replace(serving, given_up=kept), self._files)
            for name in self._running & serving.views.keys():
                building = {build.views[name] for build in serving.builds if name in build.views}
                kept_numbers = {
                    serving.views[name],
                    serving.before.get(name),
                    serving.held.get(name),
                    *building,
                }
                for number in self.catalog.version_numbers(name):
                    if number not in kept_numbers:
                        self.catalog.forget_state(name, number, self._files)


def lower_first(views: Mapping[str, ViewInfo]) -> list[ViewInfo]:
    """Return views in an order in which each comes after those that it reads."""
    by_id = {view.id: view for view in views.values()}
    found: dict[bytes, ViewInfo] = {}

    def add(view: ViewInfo) -> None:
        if view.id not in found:
            for each in view.inputs:
                if each.id in by_id:
                    add(by_id[each.id])
            found[view.id] = view

    for view in views.values():
        add(view)
    return list(found.values())


def _not_fed(view: ViewInfo, log: str, found: str) -> DefinitionError:
    return DefinitionError(
        f"version {view.version} of view {view.name!r} cannot be run any more", where=f"its input {log!r}",
        expected="that input as it was when the version was made", found=found,
    )  # fmt: skip
