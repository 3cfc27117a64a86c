"""Connections to PostgreSQL: ordinary ones, and one that receives a replication stream.

psycopg knows no replication; its thin layer over libpq does what is needed. Every connection prints values in one way,
whatever the server's, the database's or the role's settings are. None waits for a server that is gone
(`bourne.connect.postgres_patience`). No error shows a password.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from bourne.connect import silence
from bourne.connect.silence import read_silence
from bourne.errors import BourneError, DefinitionError, SourceFailed, Unreachable
from bourne.limits import LET_GO_S

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

    from bourne.connect.postgres_patience import Patience, PatientConnection

T = TypeVar("T")

# How values are printed: a startup setting wins over those of the database and the role.
_SETTINGS = {
    "client_encoding": "UTF8", "datestyle": "ISO", "intervalstyle": "postgres", "timezone": "UTC", "bytea_output": "hex",
    "extra_float_digits": "1", "row_security": "off", "xmlbinary": "base64", "lc_monetary": "C",
    "statement_timeout": "0", "idle_in_transaction_session_timeout": "0",
}  # fmt: skip

# PostgreSQL counts time from here, in seconds since 1970.
_EPOCH_S = 946_684_800

# How often who waits looks whether it should stop, in seconds. `Source.read` has to yield every tenth of a second.
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Address:
    """Where a table is: what libpq is told (with the password), and the same without it, for people."""

    conninfo: str
    shown: str
    database: str
    options: dict[str, str]
    silence_s: float


def read_url(url: str, *, own: set[str]) -> Address:
    """Take `postgres://user:pw@host:port/db?table=...` apart; what is in `own` are options, the rest is for libpq.

    Raises:
        DefinitionError: it is none, or psycopg is not installed.
    """
    parts = urlsplit(url)
    if (
        "@" in parts.path or "@" in parts.query.partition("=")[0]
    ):  # then what is shown could hold the password
        raise DefinitionError(
            "the address of a PostgreSQL table cannot be read", expected="postgres://user:password@host:port/database?...",
            hint="write characters such as / @ ? # in the user or the password as %2F %40 %3F %23",
        )  # fmt: skip
    if parts.scheme not in ("postgres", "postgresql") or not parts.path.strip("/"):
        raise DefinitionError(
            "not the address of a PostgreSQL table", expected="postgres://user@host:port/database?table=schema.table",
            found=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
        )  # fmt: skip
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    own = {*own, silence.OPTION}
    options = {name: value for name, value in pairs if name in own}
    rest = urlencode([pair for pair in pairs if pair[0] not in own])
    conninfo = f"postgresql://{parts.netloc}{parts.path}" + (f"?{rest}" if rest else "")
    shown = f"postgres://{parts.netloc.rpartition('@')[2]}{parts.path}"
    psycopg = driver()
    try:
        psycopg.conninfo.conninfo_to_dict(conninfo)
    except psycopg.Error:  # its words may hold a part of the password
        raise DefinitionError(
            "the address of a PostgreSQL table cannot be read", expected="what libpq takes as a URI",
            hint="are host, port and parameters right?",
        ) from None  # fmt: skip
    return Address(
        conninfo, shown, unquote(parts.path.strip("/")), options, read_silence(options, where=shown)
    )


def driver() -> Any:
    """Import psycopg.

    Raises:
        DefinitionError: it is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise DefinitionError("PostgreSQL needs psycopg", hint="pip install 'bourne[postgres]'") from error
    return psycopg


@contextmanager
def postgres_errors(where: str) -> Iterator[None]:
    """Turn psycopg's errors into ours.

    Raises:
        Unreachable: the server is not there, ends the connection, or another one holds what is needed.
        DefinitionError: a right is missing.
        SourceFailed: it refuses for another reason.
    """
    psycopg = driver()
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise DefinitionError(
            "PostgreSQL refuses: a right is missing",
            where=where,
            found=_words(error),
            hint="grant it, or use another user",
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Unreachable("PostgreSQL is not reachable", where=where, found=_words(error)) from error
    except psycopg.Error as error:
        raise SourceFailed("PostgreSQL refuses", where=where, found=_words(error)) from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def never() -> bool:
    """Say that there is no end yet."""
    return False


def connect(address: Address, is_over: Callable[[], bool] = never) -> PatientConnection:
    """Connect as usual, each statement for itself (autocommit). What is waited for is given up when it `is_over`.

    Raises as `postgres_errors`.
    """
    driver()
    from bourne.connect.postgres_patience import PatientConnection

    with postgres_errors(address.shown):
        patience = _patience(address, is_over)
        assert patience.conninfo is not None
        return PatientConnection.open(patience.conninfo, patience, autocommit=True, prepare_threshold=None)


def _patience(address: Address, is_over: Callable[[], bool]) -> Patience:
    from bourne.connect.postgres_patience import Patience

    patience = Patience(address.silence_s, is_over)
    return replace(patience, conninfo=_conninfo(address, patience))


def _conninfo(address: Address, patience: Patience) -> str:
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    given = conninfo_to_dict(address.conninfo)
    settings = {**_SETTINGS, **patience.settings()}
    options = " ".join(
        [str(given.get("options") or ""), *(f"-c {k}={v}" for k, v in settings.items())]
    ).strip()
    usual = {"application_name": "bourne", **patience.parameters()}
    wanted: dict[str, Any] = {**usual, **given, "options": options}
    return make_conninfo(**wanted)


class Replication:
    """A connection that receives a stream of changes. Used by one thread."""

    def __init__(self, address: Address, is_over: Callable[[], bool] = never) -> None:
        """Connect. Raises Unreachable."""
        self._pq = driver().pq
        from psycopg.conninfo import make_conninfo

        from bourne.connect.postgres_patience import connect_for_replication

        self._where = address.shown
        self._patience = _patience(address, is_over)
        conninfo = make_conninfo(self._patience.conninfo or "", replication="database")
        with postgres_errors(self._where):
            self._connection: PGconn = connect_for_replication(conninfo, self._patience)
        self._quiet_since: float | None = None

    def execute(self, command: str) -> list[str]:
        """Run a command and return its row, or nothing if it has begun a stream.

        Raises:
            Unreachable: somebody else is at the slot, or the connection is lost.
            SourceFailed: the server refuses.
        """
        from psycopg.generators import execute

        from bourne.connect.postgres_patience import attend

        connection = self._connection
        with postgres_errors(self._where):
            connection.send_query(command.encode())
            results = attend(execute(connection), connection, self._patience, connection.backend_pid)
        result = results[-1]
        if result.status == self._pq.ExecStatus.TUPLES_OK:
            return [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]
        if result.status in (self._pq.ExecStatus.COPY_BOTH, self._pq.ExecStatus.COMMAND_OK):
            return []
        raise self._refusal(result)

    def receive(self, messages: list[Any], *, bytes_max: int, rows_max: int) -> tuple[int, bool]:
        """Add the messages that are there to `messages`; return how many bytes, and whether there are no more just now.

        Waits for LOOK_S at most.

        Raises:
            Unreachable: the connection is lost, or the server has ended the stream.
        """
        take, size, waited, is_drained = self._connection.get_copy_data, 0, False, False
        while size < bytes_max and len(messages) < rows_max:
            try:
                count, data = take(1)
            except driver().Error as error:
                raise Unreachable(
                    "PostgreSQL has ended the stream", where=self._where, found=_words(error)
                ) from error
            if count > 0:
                messages.append(data)
                size += count
                continue
            if count < 0:
                self._end()
            if is_drained:
                self._listen(is_heard=size > 0)
                return size, True
            is_drained = not self._wait(0 if waited or size else LOOK_S)
            waited = True
        self._listen(is_heard=True)
        return size, False

    def _listen(self, *, is_heard: bool) -> None:
        """Notice that the server says nothing any more, though it was asked to."""
        self._quiet_since = None if is_heard else self._quiet_since or time.monotonic()
        if self._quiet_s() >= 2 * self._patience.silence_s:
            raise Unreachable(
                "PostgreSQL says nothing any more", where=self._where,
                found=f"no answer for {self._quiet_s():.1f} seconds",
            )  # fmt: skip

    def _quiet_s(self) -> float:
        return 0.0 if self._quiet_since is None else time.monotonic() - self._quiet_since

    def _end(self) -> NoReturn:
        result = self._connection.get_result()
        if result is not None and result.status == self._pq.ExecStatus.FATAL_ERROR:
            raise self._refusal(result)
        raise Unreachable("PostgreSQL has ended the stream", where=self._where, found=self._said())

    def _refusal(self, result: PGresult) -> BourneError:
        code = (result.error_field(self._pq.DiagnosticField.SQLSTATE) or b"").decode()
        is_ours = code[:2] in ("42", "22", "0A") or code == "55000"
        kind: type[BourneError] = SourceFailed if is_ours else Unreachable
        said = " ".join(result.error_message.decode(errors="replace").split())
        return kind("PostgreSQL refuses to send changes", where=self._where, found=said)

    def _wait(self, timeout_s: float) -> bool:
        """Take in what has come; False if nothing has within that time."""
        from bourne.connect.postgres_patience import is_readable

        is_there = is_readable(self._connection, timeout_s)
        try:  # in any case: what is encrypted may wait within libpq already
            self._connection.consume_input()
        except driver().Error as error:
            raise Unreachable("PostgreSQL is gone", where=self._where, found=_words(error)) from error
        return is_there

    def acknowledge(self, lsn: int) -> None:
        """Tell the server that all up to this WAL position is durable here; let it answer if it has been silent.

        Raises:
            Unreachable: the connection is lost.
        """
        now_us = int((time.time() - _EPOCH_S) * 1_000_000)
        is_asked = self._quiet_s() >= self._patience.silence_s / 2
        try:
            self._connection.put_copy_data(struct.pack(">cQQQqb", b"r", lsn, lsn, lsn, now_us, is_asked))
            self._connection.flush()
        except driver().Error as error:
            raise Unreachable("PostgreSQL is gone", where=self._where, found=_words(error)) from error

    def _said(self) -> str:
        return (
            " ".join(self._connection.error_message.decode(errors="replace").split())
            or "the connection ended"
        )

    def close(self) -> None:
        """Let go. Safe to call twice."""
        self._connection.finish()


def patiently(
    work: Callable[[], T], *, is_stopped: Callable[[], bool], give_up: Callable[[], None]
) -> Generator[None, None, T | None]:
    """Do what may take long in a thread, and yield None while it lasts; None as well if it was stopped.

    `give_up` makes the work end soon. What cannot (a name that is looked up, a connection that is being made) is left alone.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  (raised again by the one who waits)
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            thread.join(LOOK_S)
            if not thread.is_alive():
                return future.result()
            if is_stopped():
                return None
            yield None
    finally:
        if thread.is_alive():
            give_up()
            thread.join(2 * LET_GO_S)


def without_yielding(work: Generator[None, None, T]) -> T:
    """Return what such a generator returns. A source that is not connected yet is not at work: it yields nothing."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
