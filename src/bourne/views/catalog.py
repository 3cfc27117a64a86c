"""The data folder: which logs and views there are, each described by a small file beside its data.

Invariant: a view's folder is named by its version; a changed definition is a new version, computed anew from the
log beside the old one, which stays as it is. Which version is served, `bourne.views.serving` says.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bourne.app import OnError
from bourne.engine.snapshot import ENGINE_VERSION
from bourne.errors import DefinitionError, StorageError
from bourne.evolution import check_evolution
from bourne.log.catalog import (
    FORMAT,
    Changes,
    LogInfo,
    log_info_from_json,
    read_json,
    read_log_info,
    write_log_info,
)
from bourne.log.disk import disk_errors
from bourne.log.relation import COUNT_COLUMN, KEY_COLUMN, WEIGHT_COLUMN
from bourne.ports import Files, make_folder_durably, write_durably
from bourne.schema import Column, Schema
from bourne.views.serving import Serving, ServingFile

# What an output log holds before the view's own columns, by its kind of changes.
_HIDDEN: dict[Changes, tuple[Column, ...]] = {
    "upsert": (KEY_COLUMN, WEIGHT_COLUMN),
    "weights": (COUNT_COLUMN,),
}


@dataclass(frozen=True, slots=True)
class ViewInfo:
    """One version of a view: its SQL, the logs and outputs of views that it reads, its rows' schema, its output's place.

    `functions` are the Python functions that it may call, each with what its answers depend on; `on_error` is what becomes
    of records that it cannot compute. `bounds` says how far its columns have come by its watermark.
    """

    name: str
    version: int
    sql: str
    inputs: tuple[LogInfo, ...]
    schema: Schema
    changes: Changes
    folder: Path
    id: bytes = field(default=bytes(16), compare=False)
    engine: int = ENGINE_VERSION
    functions: Mapping[str, str] = field(default_factory=dict)
    on_error: OnError = "fail"
    bounds: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """What tells it from all other versions of all views in its data folder."""
        return f"{self.name.casefold()}/{self.version}"

    @property
    def output(self) -> LogInfo:
        """The view's output as a log."""
        hidden = _HIDDEN.get(self.changes, ())
        return LogInfo(
            self.name,
            Schema((*hidden, *self.schema.columns)),
            key=KEY_COLUMN.name if self.changes == "upsert" else None,
            changes=self.changes,
            weight=WEIGHT_COLUMN.name if hidden else None,
            bounds=self.bounds,
            id=self.id,
        )


class Catalog:
    """What is in one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._serving = ServingFile(folder / "views")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from declaring anything in this folder, which is made if it is not there.

        Raises:
            StorageError: it cannot be made.
        """
        with disk_errors(self.folder, "cannot make the data folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with disk_errors(self.folder, "cannot lock the data folder"):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def create(self, app: str, files: Files) -> None:
        """Make the data folder, or check that an existing one is ours.

        Raises:
            StorageError: it cannot be made, or holds something else.
        """
        with disk_errors(self.folder, "cannot make the data folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.check() is not None:
                return
            ours = {"bourne.json.draft", "logs", "views"}
            if any(entry.name not in ours for entry in self.folder.iterdir()):
                raise StorageError(
                    "this folder holds something else",
                    where=str(self.folder),
                    expected="an empty folder, or one made by Bourne",
                    hint="choose another folder",
                )
            for name in ("logs", "views"):
                make_folder_durably(files, self.folder / name)
            content = json.dumps({"format": FORMAT, "app": app}, ensure_ascii=False)
            write_durably(files, self.folder / "bourne.json", content.encode())

    def check(self) -> dict[str, Any] | None:
        """Return what `bourne.json` says; None if this is not a data folder."""
        return read_json(self.folder / "bourne.json")

    # --- logs ---

    def log_folder(self, name: str) -> Path:
        """Return where a log's data is."""
        return self.folder / "logs" / name

    def log(self, name: str) -> LogInfo | None:
        """Return a log by its name, ignoring case."""
        folder = _child(self.folder / "logs", name)
        return read_log_info(folder) if folder else None

    def logs(self) -> list[LogInfo]:
        """Return all logs, by name."""
        infos = [read_log_info(folder) for folder in _folders(self.folder / "logs")]
        return [info for info in infos if info is not None]

    def declare_log(self, info: LogInfo, files: Files) -> LogInfo:
        """Make a log, or bring the existing one to this declaration; return it with its id.

        Columns may be added and types widened (`bourne.evolution`); lateness, durability, request ids and retention
        may change; anything else that says what a record means may not.

        Raises:
            DefinitionError: it is there with another definition.
        """
        existing = self.log(info.name)
        if existing is None:
            self._check_free(info.name, "log", "view", self.has_view(info.name))
        with disk_errors(self.folder, f"cannot make log {info.name!r}"):
            if existing is None:
                return write_log_info(self.log_folder(info.name), info, files)
            info = replace(info, id=existing.id)
            if existing != info:
                self._check_same(existing, info)
                write_log_info(self.log_folder(existing.name), info, files)
            return info

    def _check_free(self, name: str, kind: str, other: str, is_taken: bool) -> None:
        """Refuse a name that the folder already has for something else, which a query could not tell apart."""
        if is_taken:
            raise DefinitionError(
                f"{kind} {name!r} cannot be made: there is a {other} of that name",
                where=str(self.folder / f"{other}s"), expected="a name that is not used yet",
                hint=f"choose another name; or, if the {other} is not needed any more, delete its folder",
            )  # fmt: skip

    def _check_same(self, existing: LogInfo, info: LogInfo) -> None:
        """Refuse what cannot change in a log that exists."""
        old, new = existing.to_json(), info.to_json()
        fixed = ["name", "key", "time", "changes", "weight", "partitions"]
        if existing.changes != "append" and not _is_new_tombstone(existing, info):
            fixed.append("tombstone")
        differing = [key for key in fixed if new[key] != old[key]]
        if (existing.table is None) != (info.table is None):
            differing.append("table")
        where = str(self.log_folder(existing.name))
        if differing:
            raise DefinitionError(
                f"log {info.name!r} is declared differently from how it was made",
                where=where,
                expected=", ".join(f"{key} = {old[key]}" for key in differing),
                found=", ".join(f"{key} = {new[key]}" for key in differing),
                hint="declare it as it was, or give the changed log another name",
            )
        check_evolution(existing.schema, info.schema, where=f"log {info.name!r}, {where}")

    # --- views ---

    def view(self, name: str) -> ViewInfo | None:
        """Return the version of a view that is served, by its name, ignoring case. None: there is none (yet)."""
        return next((view for view in self.views() if view.name.casefold() == name.casefold()), None)

    def views(self) -> list[ViewInfo]:
        """Return the version of each view that is served, by name; all at one moment."""
        while True:
            serving = self.serving()
            found = [self._served(folder.name, serving) for folder in _folders(self.folder / "views")]
            if serving == self.serving():  # else some may be newer than others
                return [info for info in found if info is not None]

    def _served(self, name: str, serving: Serving) -> ViewInfo | None:
        number = serving.views.get(name.casefold())
        if number == 0:
            return None
        return (self.version(name, number) if number else None) or self.newest(name)

    def newest(self, name: str) -> ViewInfo | None:
        """Return the newest version of a view by its name, ignoring case, whether it is served or not."""
        for number in reversed(self.version_numbers(name)):
            if (found := self.version(name, number)) is not None:
                return found
        return None

    def version(self, name: str, number: int) -> ViewInfo | None:
        """Return one version of a view."""
        folder = _child(self.folder / "views", name)
        return None if folder is None else self._read_view(folder / str(number))

    def version_numbers(self, name: str) -> list[int]:
        """Return the numbers that versions of a view have, or had, from the oldest on. None is given twice."""
        folder = _child(self.folder / "views", name)
        names = [each.name for each in (_folders(folder) if folder is not None else [])]
        return sorted(int(each) for each in names if each.isascii() and each.isdigit())

    def has_view(self, name: str) -> bool:
        """Say whether there is any version of a view, served or not."""
        return self.newest(name) is not None

    def view_names(self) -> list[str]:
        """Return the names of all views' folders, without case."""
        return [folder.name.casefold() for folder in _folders(self.folder / "views")]

    def serving(self) -> Serving:
        """Return which versions are served and built.

        Raises:
            FormatTooNew, StorageError: that cannot be understood.
        """
        return self._serving.read()

    def serve(self, serving: Serving, files: Files) -> None:
        """Say durably which versions are served and built. Only within `alone`, from what `serving` says there."""
        self._serving.write(serving, files)

    def versions(self, name: str) -> dict[str, tuple[Path, LogInfo]]:
        """Return the log of this name, or all versions of the view: by the log's id, its folder, and itself."""
        log = self.log(name)
        if log is not None:
            return {log.id.hex(): (self.log_folder(log.name), log)}
        folder = _child(self.folder / "views", name)
        found = [(entry, read_log_info(entry)) for entry in (_folders(folder) if folder is not None else [])]
        return {info.id.hex(): (entry, info) for entry, info in found if info is not None}

    def make_version(self, draft: ViewInfo, files: Files) -> ViewInfo:
        """Make the next version of a view, with this definition; nobody reads it before it is served.

        Raises:
            DefinitionError: a log has its name.
            StorageError: its folder cannot be made.
        """
        self._check_free(draft.name, "view", "log", self.log(draft.name) is not None)
        version = max(self.version_numbers(draft.name), default=0) + 1
        folder = _child(self.folder / "views", draft.name) or self.folder / "views" / draft.name
        info = replace(draft, version=version, folder=folder / str(version), engine=ENGINE_VERSION)
        info = replace(info, id=bytes(16))
        with disk_errors(self.folder, f"cannot make view {draft.name!r}"):
            make_folder_durably(files, info.folder)
            info = replace(info, id=write_log_info(info.folder, info.output, files).id)
            content = {
                "format": FORMAT,
                "name": info.name,
                "version": version,
                "sql": info.sql,
                "engine": info.engine,
                "inputs": [each.to_json() for each in info.inputs],
                "columns": info.schema.to_json(),
                "changes": info.changes,
                "functions": dict(info.functions),
                "on_error": info.on_error,
                "bounds": [list(pair) for pair in info.bounds],
            }
            text = json.dumps(content, indent=1, ensure_ascii=False)
            write_durably(files, info.folder / "view.json", text.encode())
        return info

    def empty_version(self, name: str, number: int, files: Files) -> None:
        """Delete the files of a version that nobody reads or runs. Its folder stays, so that its number is not given again."""
        folder = _child(self.folder / "views", name)
        if folder is None or not (folder / str(number)).is_dir():
            return
        with disk_errors(folder, f"cannot delete version {number} of view {name!r}"):
            files.remove(folder / str(number) / "view.json")
            files.sync_folder(folder / str(number))
            for entry in (folder / str(number)).iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def forget_state(self, name: str, number: int, files: Files) -> None:
        """Delete the saved state of a version that is not going to run again. Its rows stay: a sink may still have them."""
        folder = _child(self.folder / "views", name)
        snapshots = None if folder is None else folder / str(number) / "snapshots"
        if snapshots is not None and snapshots.is_dir():
            with disk_errors(snapshots, f"cannot delete the state of version {number} of view {name!r}"):
                shutil.rmtree(snapshots)
                files.sync_folder(snapshots.parent)

    def _read_view(self, folder: Path) -> ViewInfo | None:
        content = read_json(folder / "view.json")
        if content is None:
            return None
        output = read_log_info(folder)
        return ViewInfo(
            name=content["name"],
            version=content["version"],
            sql=content["sql"],
            inputs=tuple(log_info_from_json(each) for each in content.get("inputs", [])),
            schema=Schema.from_json(content["columns"]),
            changes=content["changes"],
            folder=folder,
            id=output.id if output is not None else bytes(16),
            engine=content.get("engine", 0),
            functions=content.get("functions", {}),
            on_error=content.get("on_error", "fail"),
            bounds=tuple((name, text) for name, text in content.get("bounds", [])),
        )


def _is_new_tombstone(old: LogInfo, new: LogInfo) -> bool:
    """Say whether a tombstone column is only now added: NULL in all records so far, it takes no row away."""
    return old.tombstone is None and new.tombstone is not None and old.schema.column(new.tombstone) is None


def is_same_definition(old: ViewInfo, new: ViewInfo) -> bool:
    """Say whether a view's output goes on under its new definition."""
    definitions = [
        (
            view.name,  # which may differ in case
            view.sql,
            view.schema,
            view.changes,
            view.engine,
            [each.name for each in view.inputs],
            view.functions,
            view.on_error,
            view.bounds,
        )
        for view in (old, new)
    ]
    return definitions[0] == definitions[1] and all(map(is_fed_the_same, old.inputs, new.inputs))


def is_fed_the_same(old: LogInfo, new: LogInfo) -> bool:
    """Say whether an input goes on as it was. Columns that it has got meanwhile do not count."""
    has_all_columns = all(new.schema.column(column.name) == column for column in old.schema.columns)
    times = [
        (each.id, each.time, each.watermark_us, each.idle_us, each.punctuation, each.bounds)
        for each in (old, new)
    ]
    return has_all_columns and times[0] == times[1]


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def _child(folder: Path, name: str) -> Path | None:
    return next((entry for entry in _folders(folder) if entry.name.casefold() == name.casefold()), None)
