"""What became of each run of each job: runs, their steps, chunks and messages, in SQLite (`DATA/jobs/history.sqlite`).

Law: the history tells, it does not decide where a chunk step goes on: that is with the data, in the target. What a step
without a position did (a task, a check) is known from here alone, and durable before the next step begins.

Any process may read and write it. Times are microseconds since 1970 UTC. A run's number grows for ever; with `born_s` before
it, so that it does also after the history was deleted, it is the fencing number of its lease.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from bourne.connect.positions import check_held
from bourne.errors import FormatTooNew, StorageError
from bourne.limits import RUN_ERROR_CHARS_MAX
from bourne.log.disk import disk_errors

VERSION: Final = 1

# Numbers of runs are those that SQLite has.
_NUMBER_MAX: Final = (1 << 63) - 1

_TABLES: Final = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, instance TEXT NOT NULL, generation INTEGER NOT NULL,
    parameters TEXT NOT NULL, status TEXT NOT NULL, trigger TEXT NOT NULL, parent INTEGER, started_us INTEGER NOT NULL,
    ended_us INTEGER, heartbeat_us INTEGER NOT NULL, pid INTEGER NOT NULL, host TEXT NOT NULL, code TEXT NOT NULL,
    bourne TEXT NOT NULL, error TEXT, stop_asked INTEGER NOT NULL DEFAULT 0, died INTEGER NOT NULL DEFAULT 0,
    key TEXT UNIQUE
);
CREATE TABLE ends (number INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, run INTEGER NOT NULL, status TEXT NOT NULL);
CREATE INDEX ends_of_jobs ON ends (job, number);
CREATE INDEX runs_of_instances ON runs (job, instance, id);
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_of_jobs ON runs (job, id);
CREATE TABLE steps (
    run INTEGER NOT NULL, step TEXT NOT NULL, part TEXT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL,
    started_us INTEGER NOT NULL, ended_us INTEGER, attempts INTEGER NOT NULL, chunks INTEGER NOT NULL, read INTEGER NOT NULL,
    filtered INTEGER NOT NULL, written INTEGER NOT NULL, skipped INTEGER NOT NULL, share REAL, position_in TEXT,
    position_out TEXT, code TEXT NOT NULL, error TEXT, PRIMARY KEY (run, step, part)
) WITHOUT ROWID;
CREATE TABLE chunks (
    run INTEGER NOT NULL, step TEXT NOT NULL, part TEXT NOT NULL, number INTEGER NOT NULL, attempt INTEGER NOT NULL,
    started_us INTEGER NOT NULL, ended_us INTEGER NOT NULL, read INTEGER NOT NULL, filtered INTEGER NOT NULL,
    written INTEGER NOT NULL, skipped INTEGER NOT NULL, position TEXT, error TEXT,
    PRIMARY KEY (run, step, part, number, attempt)
) WITHOUT ROWID;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, step TEXT NOT NULL, at_us INTEGER NOT NULL, level TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX messages_of_runs ON messages (run, id);
CREATE TABLE born (at_s INTEGER NOT NULL);
CREATE TABLE positions (name TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at an instance of a job. `key` is what a schedule calls it; it `died` if its process did."""

    id: int
    job: str
    instance: str
    generation: int
    parameters: Mapping[str, Any]
    status: str
    trigger: str
    parent: int | None
    started_us: int
    ended_us: int | None
    heartbeat_us: int
    pid: int
    host: str
    code: str
    bourne: str
    error: str | None = None
    stop_asked: bool = False
    died: bool = False
    key: str | None = None


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step of a run, or one part of it. `share` of its input is done, where that is known."""

    run: int
    step: str
    part: str
    kind: str
    status: str
    started_us: int
    ended_us: int | None = None
    attempts: int = 1
    chunks: int = 0
    read: int = 0
    filtered: int = 0
    written: int = 0
    skipped: int = 0
    share: float | None = None
    position_in: Any = None
    position_out: Any = None
    code: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkRun:
    """One attempt at a chunk."""

    run: int
    step: str
    part: str
    number: int
    attempt: int
    started_us: int
    ended_us: int
    read: int = 0
    filtered: int = 0
    written: int = 0
    skipped: int = 0
    position: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What a run said."""

    id: int
    run: int
    step: str
    at_us: int
    level: str
    text: str


_Row = TypeVar("_Row", Run, StepRun, ChunkRun, Message)

# Columns that hold JSON.
_JSON: Final = frozenset({"parameters", "position", "position_in", "position_out"})


class History:
    """The store, open. For all threads."""

    def __init__(self, folder: Path) -> None:
        """Open it in a data folder, and make it if it is not there.

        Raises:
            StorageError: it cannot be opened, or made.
        """
        self.folder = folder / "jobs"
        self.path = self.folder / "history.sqlite"
        self._mutex = threading.RLock()
        with disk_errors(self.folder, "cannot make the history of jobs"):
            self.folder.mkdir(exist_ok=True)
        with self._errors():
            self._connection = sqlite3.connect(
                self.path, timeout=30.0, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._make()
            self.born_s = int(self._connection.execute("SELECT at_s FROM born").fetchone()[0])

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Say whether a data folder has one."""
        return (folder / "jobs" / "history.sqlite").exists()

    def _make(self) -> None:
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise FormatTooNew("the history of jobs was written by a newer Bourne", where=str(self.path),
                                   expected=f"format {VERSION}", found=version, hint="use that version")  # fmt: skip
            if version == 0:
                for statement in _TABLES.split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
                connection.execute("INSERT INTO born SELECT CAST(strftime('%s', 'now') AS INTEGER)")
                connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do what the block does at once or not at all, beside all other processes; durable when it ends."""
        with self._mutex, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                "the history of jobs cannot be used", where=str(self.path), found=str(error),
                hint="is the disk full or read-only? the history may be deleted: what was written stays where it is",
            ) from error  # fmt: skip

    def close(self) -> None:
        """Close it. Safe to call twice."""
        with self._mutex:
            self._connection.close()

    # --- writing -----------------------------------------------------------------------------------------

    def insert_run(self, connection: sqlite3.Connection, run: Run) -> int:
        """Note a new run inside a `transaction`; return its number, which replaces the one that it says."""
        columns = [each.name for each in fields(Run) if each.name != "id"]
        cursor = connection.execute(
            f"INSERT INTO runs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [_plain(run, name) for name in columns],
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def end_run(
        self, run: int, status: str, at_us: int, error: str | None = None, *, died: bool = False
    ) -> None:
        """Note how a run ended, unless that is noted already."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO ends (job, run, status) SELECT job, id, ? FROM runs WHERE id = ? AND status = 'STARTED'",
                (status, run),
            )
            connection.execute(
                "UPDATE runs SET status = ?, ended_us = ?, error = ?, died = ? WHERE id = ? AND status = 'STARTED'",
                (status, at_us, _cut(error), died, run),
            )

    def beat(self, run: int, at_us: int) -> tuple[bool, bool]:
        """Give a sign of life; return whether the run still holds its lease, and whether it was asked to stop."""
        with self.transaction() as connection:
            found = connection.execute(
                "UPDATE runs SET heartbeat_us = max(heartbeat_us, ?) WHERE id = ? AND status = 'STARTED' RETURNING stop_asked",
                (at_us, run),
            ).fetchone()
        return found is not None, found is not None and bool(found[0])

    def ask_to_stop(self, run: int) -> bool:
        """Ask a run to stop after its chunk; return whether it is running."""
        with self.transaction() as connection:
            found = connection.execute(
                "UPDATE runs SET stop_asked = 1 WHERE id = ? AND status = 'STARTED'", (run,)
            )
            return found.rowcount == 1

    def put_step(self, step: StepRun) -> None:
        """Note how a step is, in place of what was noted of it in this run."""
        self.put_chunks([step], [])

    def put_chunks(self, steps: list[StepRun], chunks: list[ChunkRun]) -> None:
        """Note chunks, and how their steps and parts are after them."""
        with self.transaction() as connection:
            for kind, table, rows in ((ChunkRun, "chunks", chunks), (StepRun, "steps", steps)):
                names = [each.name for each in fields(kind)]
                connection.executemany(
                    f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                    [[_plain(row, name) for name in names] for row in rows],
                )

    def say(self, run: int, step: str, at_us: int, level: str, text: str) -> None:
        """Note a message."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO messages (run, step, at_us, level, text) VALUES (?, ?, ?, ?, ?)",
                (run, step, at_us, level, _cut(text)),
            )

    def put_position(self, name: str, position: Any) -> None:
        """Keep the position of a target that cannot do so itself."""
        with self.transaction():
            self.put_position_in(name, position)

    def put_position_in(self, name: str, position: Any) -> None:
        """As `put_position`, inside a `transaction`."""
        self._connection.execute(
            "INSERT OR REPLACE INTO positions VALUES (?, ?)", (name, json.dumps(position))
        )

    def move_position(self, name: str, position: Any, before: Any) -> None:
        """Keep the position of a target in place of the one `before` it.

        Raises:
            Unreachable: it is another one, as somebody else has moved it.
        """
        with self.transaction():
            check_held(self.position(name), before, where=name)
            self.put_position_in(name, position)

    def prune(self, before_us: int, job: str | None = None) -> int:
        """Forget runs, of one job or of all, that ended before then, but the last of each instance, and, if that is to be gone on with, those of which
        it is known which steps are done; return how many. The targets keep what they have.
        """
        ended, values = "runs.ended_us < ?", (before_us,) if job is None else (before_us, job)
        if job is not None:
            ended += " AND runs.job = ?"
        with self.transaction() as connection:
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS gone (id INTEGER PRIMARY KEY)")
            connection.execute("DELETE FROM gone")
            connection.execute(
                f"INSERT INTO gone SELECT id FROM runs WHERE {ended} AND EXISTS (SELECT 1 FROM runs later WHERE "
                "later.job = runs.job AND later.instance = runs.instance AND later.id > runs.id AND "
                "(later.status = 'COMPLETED' OR later.generation > runs.generation))", values
            )  # fmt: skip
            (count,) = connection.execute("SELECT count(*) FROM gone").fetchone()
            for table, column in (
                ("runs", "id"),
                ("steps", "run"),
                ("chunks", "run"),
                ("messages", "run"),
                ("ends", "run"),
            ):
                connection.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM gone)")
            # Chunks and messages are many; of what lies back so far only the sums are of interest.
            for table in ("chunks", "messages"):
                connection.execute(
                    f"DELETE FROM {table} WHERE run IN (SELECT id FROM runs WHERE {ended})", values
                )
            return int(count)

    # --- reading -----------------------------------------------------------------------------------------

    def runs(
        self,
        *,
        job: str | None = None,
        status: str | None = None,
        instance: str | None = None,
        before: int | None = None,
        most: int = 100,
    ) -> list[Run]:
        """Return runs, the newest first; only those before a number, if one is given."""
        wanted = {"job": job, "status": status, "instance": instance}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = [f"{name} = ?" for name in given] + (["id < ?"] if before is not None else []) or ["true"]
        values = (*given.values(), *(() if before is None else (before,)), min(most, _NUMBER_MAX))
        return self._rows(
            Run, f"SELECT * FROM runs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?", values
        )

    def run(self, number: int) -> Run | None:
        """Return a run; None if there is none of that number, whatever its size."""
        if abs(number) > _NUMBER_MAX:
            return None
        return next(iter(self._rows(Run, "SELECT * FROM runs WHERE id = ?", (number,))), None)

    def run_of_key(self, key: str) -> int | None:
        """Return the number of the run that a schedule calls so."""
        with self._mutex, self._errors():
            row = self._connection.execute("SELECT id FROM runs WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def last_of(self, run: int) -> Run:
        """Return the newest run that goes on with a run, or itself."""
        sql = (
            "SELECT later.* FROM runs JOIN runs later ON later.job = runs.job AND later.instance = runs.instance AND "
            "later.generation = runs.generation WHERE runs.id = ? ORDER BY later.id DESC LIMIT 1"
        )
        return self._rows(Run, sql, (run,))[0]

    def ends(self, job: str, after: int) -> list[tuple[int, int, str]]:
        """Return the ends of a job's runs behind a number, in the order in which they became durable."""
        with self._mutex, self._errors():
            sql = (
                "SELECT number, run, status FROM ends WHERE job = ? AND number > ? ORDER BY number LIMIT 1000"
            )
            return self._connection.execute(sql, (job, after)).fetchall()

    def children(self, run: int) -> list[Run]:
        """Return the runs that steps of a run have begun."""
        return self._rows(Run, "SELECT * FROM runs WHERE parent = ? ORDER BY id", (run,))

    def steps(self, run: int) -> list[StepRun]:
        """Return the steps of a run, in the order in which they began, each before its parts."""
        return self._rows(
            StepRun, "SELECT * FROM steps WHERE run = ? ORDER BY started_us, step, part", (run,)
        )

    def completed(self, job: str, instance: str, generation: int) -> dict[str, str]:
        """Return the steps of an instance that ended well in some run, with their exit status."""
        sql = (
            "SELECT step, s.status FROM steps s JOIN runs r ON r.id = s.run WHERE job = ? AND instance = ? AND generation = ? "
            "AND part = '' AND s.ended_us IS NOT NULL AND s.status NOT IN ('FAILED', 'STOPPED') ORDER BY r.id"
        )
        with self._mutex, self._errors():
            return dict(self._connection.execute(sql, (job, instance, generation)).fetchall())

    def chunks(self, run: int, step: str | None = None, *, most: int = 1000) -> list[ChunkRun]:
        """Return the last chunks of a run, or of a step of it, the newest first."""
        extra, values = ("", ()) if step is None else (" AND step = ?", (step,))
        return self._rows(
            ChunkRun, f"SELECT * FROM chunks WHERE run = ?{extra} ORDER BY ended_us DESC, number DESC LIMIT ?",
            (run, *values, most),
        )  # fmt: skip

    def select(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of a query over the tables: `counting` has those that nobody else needs."""
        with self._mutex, self._errors():
            return self._connection.execute(sql, values).fetchall()

    def last_messages(self, run: int, *, most: int) -> list[Message]:
        """Return the last of what a run said, in order."""
        found = self._rows(
            Message, "SELECT * FROM messages WHERE run = ? ORDER BY id DESC LIMIT ?", (run, most)
        )
        return found[::-1]

    def messages(self, run: int, *, after: int = 0, most: int = 10_000) -> list[Message]:
        """Return what a run said, from behind a message on."""
        return self._rows(
            Message, "SELECT * FROM messages WHERE run = ? AND id > ? ORDER BY id LIMIT ?", (run, after, most)
        )

    def position(self, name: str) -> Any:
        """Return the position of a target that cannot keep it itself."""
        with self._mutex, self._errors():
            row = self._connection.execute(
                "SELECT position FROM positions WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def _rows(self, kind: type[_Row], sql: str, values: tuple[Any, ...]) -> list[_Row]:
        with self._mutex, self._errors():
            cursor = self._connection.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [
                kind(**{name: _read(name, value) for name, value in zip(names, row, strict=True)})
                for row in cursor
            ]


def _plain(row: Any, name: str) -> Any:
    value = getattr(row, name)
    if name in _JSON:
        return None if value is None else json.dumps(value, ensure_ascii=False)
    return _cut(value) if name == "error" else value


def _read(name: str, value: Any) -> Any:
    if name in _JSON and value is not None:
        return json.loads(value)
    return bool(value) if name in ("stop_asked", "died") else value


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= RUN_ERROR_CHARS_MAX:
        return text
    return text[: RUN_ERROR_CHARS_MAX - 1] + "…"
