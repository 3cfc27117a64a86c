"""Waiting for PostgreSQL, however long it works, but not for a server that is gone.

Law: who has heard nothing for `silence_s` asks the server, over a new connection, what the old one is at. If it is at work,
it is waited for on and on. If nobody answers, or the server knows nothing of it, or waits for us on its part (what it sent,
or we sent, was lost), the connection is given up, and with it what it was at: whether a commit came through shows the
position that is read next.

The operating system's own means (`tcp_user_timeout`, keepalives) do not see a peer whose network still says that all has
arrived: a proxy, a load balancer, a machine that hangs. They are asked for beside this one.
"""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import generators
from psycopg.waiting import Ready, Wait

from bourne.connect.postgres_wire import LOOK_S, never
from bourne.limits import LET_GO_S, POSTGRES_CONNECT_S

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

T = TypeVar("T")

# A server process at work: not between two statements, and not waiting for its client to send or to take something.
_AT_WORK: Final = """SELECT state NOT LIKE 'idle%%' AND wait_event_type IS DISTINCT FROM 'Client'
FROM pg_stat_activity WHERE pid = %s"""

_POLL: Final = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, and until when, is waited. `conninfo` is how the server is asked; None: who is silent is gone."""

    silence_s: float
    is_over: Callable[[], bool] = never
    conninfo: str | None = None

    @property
    def connect_s(self) -> int:
        """How long connecting may take, in whole seconds: libpq knows no others, and none below 2."""
        return max(2, min(POSTGRES_CONNECT_S, math.ceil(self.silence_s)))

    def settings(self) -> dict[str, str]:
        """Return what the server is told: so that it notices, too, that we are gone, and gives back locks and slots.

        A stream's server hears from us every second. It looks at what we say, and answers, within half of its own bound.
        """
        seconds = max(1, math.ceil(self.silence_s))
        return {
            "tcp_keepalives_idle": str(seconds),
            "tcp_keepalives_interval": str(max(1, seconds // 3)),
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": str(seconds * 1000),
            "wal_sender_timeout": str(2 * seconds * 1000),
        }

    def parameters(self) -> dict[str, str]:
        """Return what libpq is told, for the same reason."""
        seconds = max(1, math.ceil(self.silence_s))
        return {
            "connect_timeout": str(self.connect_s),
            "keepalives_idle": str(seconds),
            "keepalives_interval": str(max(1, seconds // 3)),
            "keepalives_count": "3",
            "tcp_user_timeout": str(seconds * 1000),
        }


class PatientConnection(psycopg.Connection[Any]):
    """An ordinary connection. `patience` and `process` (its server's) are set once it is there."""

    patience = Patience(float(POSTGRES_CONNECT_S))
    process = 0

    @classmethod
    def open(cls, conninfo: str, patience: Patience, **options: Any) -> PatientConnection:
        """Connect. Raises what `psycopg.connect` does."""
        made: PatientConnection = cls.connect(conninfo, **options)
        try:
            made.patience = replace(patience, conninfo=None)
            row = made.execute("SELECT pg_backend_pid()").fetchone()
            assert row is not None
            made.process = int(row[0])
            made.rollback()
            if patience.is_over():
                raise psycopg.OperationalError("it was stopped")
        except BaseException:
            made.close()
            raise
        made.patience = patience
        return made

    def wait(self, gen: Generator[Any, Any, T], *_: Any, **__: Any) -> T:
        """Do what psycopg does on a connection: all of it comes by here."""
        return attend(gen, self.pgconn, self.patience, self.process)


def attend(work: Generator[Any, Any, T], connection: PGconn, patience: Patience, process: int) -> T:
    """Run one of psycopg's generators of a connection to its end, and return its result.

    Raises:
        psycopg.OperationalError: the connection was given up, and is closed: the other side is silent, or it is over.
    """
    try:
        wanted = next(work)
        heard = time.monotonic()
        while True:
            ready = _ready(connection.socket, wanted, LOOK_S)
            if not ready and patience.is_over():
                _cancel(connection)
                connection.finish()
                raise psycopg.OperationalError("it was stopped")
            if not ready and time.monotonic() - heard >= patience.silence_s:
                is_at_work = _ask(patience, process)
                ready = _ready(connection.socket, wanted, LOOK_S)  # it may have answered just now
                if not ready and not is_at_work:
                    connection.finish()
                    raise psycopg.OperationalError(f"no answer for {patience.silence_s:g} seconds")
                heard = time.monotonic()
            if ready:
                heard = time.monotonic()
                wanted = work.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


def _ready(number: int, wanted: Any, timeout_s: float) -> Any:
    """Wait until the socket can be read or written, as is wanted; 0 if it cannot within that time."""
    events = _events(number, _POLL[Wait(wanted)], timeout_s)
    if not events:
        return 0
    if events & ~(select.POLLIN | select.POLLOUT):  # it is lost: libpq says why
        return Ready.RW if wanted == Wait.RW else Ready.R if wanted == Wait.R else Ready.W
    is_readable, is_writable = bool(events & select.POLLIN), bool(events & select.POLLOUT)
    return Ready.RW if is_readable and is_writable else Ready.R if is_readable else Ready.W


def is_readable(connection: PGconn, timeout_s: float) -> bool:
    """Wait until something has come; False if nothing has within that time."""
    return bool(_events(connection.socket, select.POLLIN, timeout_s))


def _events(number: int, wanted: int, timeout_s: float) -> int:
    poll = select.poll()
    poll.register(number, wanted)
    found = poll.poll(timeout_s * 1000)
    return found[0][1] if found else 0


def _ask(patience: Patience, process: int) -> bool:
    """Ask the server whether a process of it is at work for us."""
    if patience.conninfo is None:
        return False
    conninfo, answers = patience.conninfo, list[bool]()

    def ask() -> None:
        with suppress(psycopg.Error), closing(PatientConnection.open(conninfo, patience)) as asking:
            asking.patience = replace(patience, conninfo=None)
            row = asking.execute(_AT_WORK, [process]).fetchone()
            answers.append(row is not None and row[0] is True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while thread.is_alive() and not patience.is_over():
        thread.join(LOOK_S)
    return bool(answers and answers[0])


def connect_for_replication(conninfo: str, patience: Patience) -> PGconn:
    """Return a connection as libpq has it. Its own way to connect would hold up all threads of Python.

    Raises:
        psycopg.OperationalError: it cannot be had in time.
    """
    made: PGconn = _connected(generators.connect(conninfo), patience.connect_s, patience.is_over)
    return made


def _connected(work: Generator[Any, Any, T], seconds: float, is_over: Callable[[], bool]) -> T:
    """Run one of psycopg's generators that connects, and says itself to what."""
    deadline = time.monotonic() + seconds
    try:
        number, wanted = next(work)
        while True:
            ready = _ready(number, wanted, LOOK_S)
            if ready:
                number, wanted = work.send(ready)
            elif is_over() or time.monotonic() >= deadline:
                work.close()
                raise psycopg.OperationalError(
                    "it was stopped" if is_over() else f"not connected within {seconds:g} seconds"
                )
    except StopIteration as end:
        result: T = end.value
        return result


def _cancel(connection: PGconn) -> None:
    """Let the server end what it is at, if it can be told soon."""
    with suppress(psycopg.Error):  # it may be gone
        asking = connection.cancel_conn()
        asking.start()
        _connected(generators.cancel(asking), LET_GO_S, never)
