"""Fires: what is due, or has happened, and which run it began. A table in the jobs' SQLite database.

Law: a fire is there once, by its schedule and its key: a time, or an event's identity. What was decided of a schedule
(`through`: up to which time, which multiple, which end of a run) is written in one transaction with the fires that it
gave; so whatever is cut off is either decided, with its fires, or looked at again, and finds them there. Each change of
a state is one transaction that says from which state it goes; when it returns it is durable (`synchronous=FULL`).

It starts nothing, and knows neither clocks nor schedules.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from bourne.errors import StorageError
from bourne.limits import FIRES_LOCK_WAIT_S

State = Literal["waiting", "starting", "started", "pausing", "paused", "done", "failed", "stopped", "skipped"]

OPEN: Final[tuple[State, ...]] = ("waiting", "starting", "started", "pausing", "paused")
ENDED: Final[tuple[State, ...]] = ("done", "failed", "stopped", "skipped")

_TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS schedules (
    name TEXT PRIMARY KEY, declared TEXT NOT NULL, through INTEGER NOT NULL, kept_from INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS fires (
    id INTEGER PRIMARY KEY AUTOINCREMENT, schedule TEXT NOT NULL, key TEXT NOT NULL, at_us INTEGER NOT NULL,
    state TEXT NOT NULL, run INTEGER, lost INTEGER NOT NULL DEFAULT 0, reason TEXT, details TEXT,
    UNIQUE (schedule, key));
CREATE INDEX IF NOT EXISTS fires_by_time ON fires (schedule, at_us);
CREATE INDEX IF NOT EXISTS fires_open ON fires (state) WHERE state IN {OPEN};
CREATE TABLE IF NOT EXISTS passed_over (
    schedule TEXT NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, noted_us INTEGER NOT NULL);
"""

_COLUMNS: Final = "id, schedule, key, at_us, state, run, lost, reason, details"


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire. `at_us` is the time that it is for, or when its event was noticed; `lost`: how often its run's process died."""

    id: int
    schedule: str
    key: str
    at_us: int
    state: State
    run: int | None
    lost: int
    reason: str | None
    details: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class New:
    """A fire that is to be noted."""

    key: str
    at_us: int
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a schedule is decided; what is not after `kept_from` may have been forgotten."""

    through: int
    kept_from: int


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Times of a schedule that were missed for good: the first and the last of them."""

    schedule: str
    first_us: int
    last_us: int
    noted_us: int


def create(connection: sqlite3.Connection) -> None:
    """Make the tables that are missing."""
    connection.executescript(_TABLES)


class Fires:
    """The tables, opened. Any thread may call; what one call does is one transaction."""

    def __init__(self, path: Path, *, lock_wait_s: float = FIRES_LOCK_WAIT_S) -> None:
        """Open the database, making it if it is missing.

        Raises:
            StorageError: the disk refuses, or it is no database.
        """
        self._path = path
        self._mutex = threading.RLock()
        with self._mapped():
            self._database = sqlite3.connect(
                path, timeout=lock_wait_s, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            create(self._database)

    def close(self) -> None:
        """Close the database."""
        with self._mutex:
            self._database.close()

    # --- what schedules have come to ----------------------------------------------------------------------

    def mark(self, schedule: str, declared: str) -> Mark | None:
        """Return how far a schedule is; None if it is not known, or was declared otherwise."""
        found = self._rows(
            "SELECT through, kept_from FROM schedules WHERE name = ? AND declared = ?", (schedule, declared)
        )
        return Mark(*found[0]) if found else None

    def note(
        self, schedule: str, declared: str, through: int, fires: Iterable[New] = (), *,
        passed: tuple[int, int] | None = None, now_us: int = 0,
    ) -> int:  # fmt: skip
        """Note fires that wait now, and up to where the schedule is decided, all or nothing; return how many are new."""
        with self._transaction() as database:
            count = 0
            for fire in fires:
                details = None if fire.details is None else json.dumps(fire.details, sort_keys=True)
                count += database.execute(
                    "INSERT OR IGNORE INTO fires (schedule, key, at_us, state, details) VALUES (?, ?, ?, 'waiting', ?)",
                    (schedule, fire.key, fire.at_us, details),
                ).rowcount
            if passed is not None:
                database.execute("INSERT INTO passed_over VALUES (?, ?, ?, ?)", (schedule, *passed, now_us))
            database.execute(
                "INSERT INTO schedules VALUES (?, ?, ?, 0) ON CONFLICT (name) DO UPDATE "
                "SET declared = excluded.declared, through = excluded.through",
                (schedule, declared, through),
            )
            return count

    # --- one fire -----------------------------------------------------------------------------------------

    def change(
        self,
        fire: Fire,
        state: State,
        *,
        run: int | None = None,
        reason: str | None = None,
        is_lost: bool = False,
    ) -> Fire | None:
        """Give a fire another state, and what is given; return it as it is then, None if another hand was quicker."""
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE fires SET state = ?, run = coalesce(?, run), reason = ?, lost = lost + ? WHERE id = ? AND state = ?",
                (state, run, reason, is_lost, fire.id, fire.state),
            )
            return self.fire(fire.id) if changed.rowcount else None

    def skip(self, fire_id: int, reason: str) -> bool:
        """Let a fire that waits, or whose run has failed or was stopped, count as passed over: nobody waits for it any more."""
        with self._transaction() as database:
            return bool(
                database.execute(
                    "UPDATE fires SET state = 'skipped', reason = ? WHERE id = ? AND state IN ('waiting', 'failed', 'stopped')",
                    (reason, fire_id),
                ).rowcount
            )

    def fire(self, fire_id: int) -> Fire | None:
        """Return a fire."""
        found = self._rows(f"SELECT {_COLUMNS} FROM fires WHERE id = ?", (fire_id,))
        return _fire(found[0]) if found else None

    def by_key(self, schedule: str, key: str) -> Fire | None:
        """Return a fire by its schedule and key."""
        found = self._rows(f"SELECT {_COLUMNS} FROM fires WHERE schedule = ? AND key = ?", (schedule, key))
        return _fire(found[0]) if found else None

    # --- many ---------------------------------------------------------------------------------------------

    def open(self) -> list[Fire]:
        """Return the fires that have not come to their end, in the order in which they were noted."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM fires WHERE state IN {OPEN} ORDER BY id", ())
        return [_fire(row) for row in rows]

    def waiting(self, schedule: str) -> int:
        """Return how many fires of a schedule wait."""
        where = "schedule = ? AND state = 'waiting'"
        return int(self._rows(f"SELECT count(*) FROM fires WHERE {where}", (schedule,))[0][0])

    def newest(self, schedule: str, until_us: int) -> Fire | None:
        """Return the newest fire of a schedule that is not after a time and was not skipped."""
        found = self._rows(
            f"SELECT {_COLUMNS} FROM fires WHERE schedule = ? AND at_us <= ? AND state <> 'skipped' "
            "ORDER BY at_us DESC, id DESC LIMIT 1",
            (schedule, until_us),
        )
        return _fire(found[0]) if found else None

    def listed(self, schedule: str | None = None, *, limit: int = 100) -> list[Fire]:
        """Return fires, the newest first."""
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM fires WHERE ? IS NULL OR schedule = ? ORDER BY id DESC LIMIT ?",
            (schedule, schedule, limit),
        )
        return [_fire(row) for row in rows]

    def passed_over(self, schedule: str | None = None, *, limit: int = 100) -> list[PassedOver]:
        """Return what was missed for good, the newest first."""
        rows = self._rows(
            "SELECT * FROM passed_over WHERE ? IS NULL OR schedule = ? ORDER BY rowid DESC LIMIT ?",
            (schedule, schedule, limit),
        )
        return [PassedOver(*row) for row in rows]

    def forget(self, schedule: str, keep: int) -> int:
        """Delete the finished fires of a schedule but the newest `keep`, and return how many there were.

        Of what was passed over as much is kept.
        """
        oldest = (
            f"schedule = ? AND state IN {ENDED} AND id <= (SELECT id FROM fires WHERE schedule = ? AND state IN {ENDED} "
            "ORDER BY id DESC LIMIT 1 OFFSET ?)"
        )
        which = (schedule, schedule, keep)
        with self._transaction() as database:
            database.execute(
                "DELETE FROM passed_over WHERE schedule = ? AND rowid <= "
                "(SELECT rowid FROM passed_over WHERE schedule = ? ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
                which,
            )
            latest = database.execute(f"SELECT max(at_us) FROM fires WHERE {oldest}", which).fetchone()[0]
            if latest is None:
                return 0
            database.execute(
                "UPDATE schedules SET kept_from = max(kept_from, ?) WHERE name = ?", (latest, schedule)
            )
            return database.execute(f"DELETE FROM fires WHERE {oldest}", which).rowcount

    # --- how it works -------------------------------------------------------------------------------------

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._mapped(), self._mutex:
            return self._database.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mapped(), self._mutex:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # some errors have taken it back already
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                "the history of jobs cannot be read or written", where=str(self._path), found=str(error),
                hint="see whether the disk is full, or another process holds the database",
            ) from error  # fmt: skip


def _fire(row: Any) -> Fire:
    number, schedule, key, at_us, state, run, lost, reason, details = row
    known = None if details is None else json.loads(details)
    return Fire(number, schedule, key, at_us, state, run, lost, reason, known)
