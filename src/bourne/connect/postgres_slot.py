"""Publications and replication slots: making them, and saying in words why one cannot be used.

A slot belongs to one source. One that exists while the source has no position yet is made anew: what it holds back is
in the copy of the table that comes first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bourne.connect.postgres_place import Place, lsn_text
from bourne.connect.postgres_tables import PgTable
from bourne.connect.postgres_wire import Address, Replication
from bourne.errors import DefinitionError, SourceFailed, Unreachable
from bourne.limits import POSTGRES_WAL_WARNING_BYTES

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

# PostgreSQL cuts names beyond this many bytes.
_NAME_BYTES_MAX = 63

_AGAIN = "a new copy of the table is needed: read it into a new log, or under a new source name"


def derived_name(database: str, table: str, source: str) -> str:
    """Return the name of a slot or a publication: the same for the same source of the same table, and for no other."""
    digest = hashlib.sha256("\0".join((database, table, source)).encode()).hexdigest()[:12]
    words = re.sub(r"[^a-z0-9_]+", "_", f"bourne_{database}_{table}_{source}".lower())
    return f"{words[: _NAME_BYTES_MAX - len(digest) - 1]}_{digest}"


def one_row(connection: Connection, query: str, *values: Any) -> dict[str, Any] | None:
    """Return the first row of a query, by column names."""
    cursor = connection.execute(query, list(values))
    row = cursor.fetchone()
    names = [column.name for column in cursor.description or ()]
    return None if row is None else dict(zip(names, row, strict=True))


def check_server(connection: Connection, *, where: str) -> str:
    """Return the server's id.

    Raises:
        DefinitionError: it does not write what replication needs.
    """
    found = one_row(
        connection,
        "SELECT current_setting('wal_level') AS wal_level, system_identifier::text AS id, pg_is_in_recovery() AS standby "
        "FROM pg_control_system()",
    )
    assert found is not None
    if found["wal_level"] != "logical":
        raise DefinitionError(
            "the server does not write what logical replication needs", where=where, expected="wal_level = logical",
            found=f"wal_level = {found['wal_level']}",
            hint="set wal_level = logical in postgresql.conf and restart the server",
        )  # fmt: skip
    if found["standby"]:
        raise DefinitionError(
            "the server is a standby", where=where, expected="a primary", hint="connect to its primary"
        )
    return str(found["id"])


def open_replication(connection: Connection, address: Address, is_over: Callable[[], bool]) -> Replication:
    """Connect for replication. What is waited for is given up when it `is_over`.

    Raises:
        DefinitionError: the user has no right to.
        Unreachable: it does not work for another reason.
    """
    try:
        return Replication(address, is_over)
    except Unreachable as error:
        role = one_row(
            connection,
            "SELECT rolname, rolreplication OR rolsuper AS may FROM pg_roles WHERE rolname = current_user",
        )
        if role is not None and not role["may"]:
            raise DefinitionError(
                "the user has no right to replicate", where=address.shown, expected="a role with REPLICATION",
                found=str(error.found), hint=f'ALTER ROLE "{role["rolname"]}" REPLICATION',
            ) from error  # fmt: skip
        raise


def ensure_publication(connection: Connection, name: str, table: PgTable, *, where: str) -> None:
    """Make the publication of a table if it is missing, and check it.

    Raises:
        DefinitionError: it does not publish every change of every row, or a right is missing.
    """
    from psycopg import sql

    full = sql.Identifier(table.space, table.name)
    make = sql.SQL(
        "CREATE PUBLICATION {} FOR TABLE ONLY {} WITH (publish = 'insert, update, delete, truncate')"
    ).format(sql.Identifier(name), full)
    found = one_row(connection, "SELECT * FROM pg_publication WHERE pubname = %s", name)
    if found is None:
        try:
            connection.execute(make)
        except _insufficient_privilege() as error:
            raise DefinitionError(
                "there is no publication, and no right to make one", where=where, found=" ".join(str(error).split()),
                hint=f"have the table's owner run: {make.as_string(connection)}",
            ) from error  # fmt: skip
        return
    missing = [kind for kind in ("insert", "update", "delete", "truncate") if not found[f"pub{kind}"]]
    if missing:
        raise DefinitionError(
            f"publication {name!r} does not publish everything", where=where, expected="insert, update, delete, truncate",
            found=f"not {', '.join(missing)}", hint="ALTER PUBLICATION ... SET (publish = 'insert, update, delete, truncate')",
        )  # fmt: skip
    member = one_row(
        connection, "SELECT * FROM pg_publication_tables WHERE pubname = %s AND schemaname = %s AND tablename = %s",
        name, table.space, table.name,
    )  # fmt: skip
    if member is None:
        raise DefinitionError(
            f"publication {name!r} is not about this table", where=where, expected=table.full_name,
            hint=f"ALTER PUBLICATION {name} ADD TABLE {full.as_string(connection)}",
        )  # fmt: skip
    columns = member.get("attnames")
    is_part = columns is not None and not {column.name for column in table.columns} <= set(columns)
    if member.get("rowfilter") is not None or is_part:
        raise DefinitionError(
            f"publication {name!r} leaves out rows or columns", where=where, expected="all of the table",
            hint="make one without WHERE and without a list of columns",
        )  # fmt: skip


def _insufficient_privilege() -> type[Exception]:
    import psycopg

    return psycopg.errors.InsufficientPrivilege


@dataclass(frozen=True, slots=True)
class NewSlot:
    """A slot that was just made: the stream begins at `lsn`, and `snapshot` (its name) shows the tables there."""

    lsn: str
    snapshot: str


def make_slot(connection: Connection, replication: Replication, name: str, *, where: str) -> NewSlot:
    """Make a slot, in place of one of this name. It waits for all running transactions that have written.

    Raises:
        Unreachable: somebody is reading from it.
        SourceFailed: the server refuses: no slot is free, for instance.
    """
    found = one_row(connection, "SELECT * FROM pg_replication_slots WHERE slot_name = %s", name)
    if found is not None:
        if found["active"]:
            raise Unreachable(
                "the replication slot is in use",
                where=f"slot {name!r} of {where}",
                found=f"process {found['active_pid']}",
            )
        if found["plugin"] != "pgoutput":
            raise DefinitionError(
                f"slot {name!r} is another program's", where=where, expected="pgoutput", found=found["plugin"]
            )
        connection.execute("SELECT pg_drop_replication_slot(%s)", [name])
    row = replication.execute(f'CREATE_REPLICATION_SLOT "{name}" LOGICAL pgoutput EXPORT_SNAPSHOT')
    return NewSlot(row[1], row[2])


def check_slot(connection: Connection, name: str, place: Place, *, where: str) -> None:
    """Check that a slot still has all that follows a position.

    Raises:
        SourceFailed: it has not; a new copy of the table is needed.
        Unreachable: somebody else reads from it just now.
    """
    found = one_row(connection, "SELECT * FROM pg_replication_slots WHERE slot_name = %s", name)
    where = f"slot {name!r} of {where}"
    if found is None:
        raise SourceFailed("the replication slot is gone", where=where, hint=_AGAIN)
    if found.get("wal_status") == "lost" or found["confirmed_flush_lsn"] is None:
        raise SourceFailed(
            "the replication slot is lost: the server has removed WAL that was not read yet", where=where,
            expected="wal_status reserved", found=f"wal_status {found.get('wal_status')}",
            hint=f"{_AGAIN}; drop the slot, and let max_slot_wal_keep_size be larger",
        )  # fmt: skip
    row = one_row(
        connection, "SELECT (%s::pg_lsn - '0/0'::pg_lsn)::int8 AS lsn", str(found["confirmed_flush_lsn"])
    )
    assert row is not None
    if row["lsn"] > place.lsn:
        raise SourceFailed(
            "the replication slot is past what was taken: it was made anew, or somebody else has read from it",
            where=where, expected=f"at most {lsn_text(place.lsn)}", found=str(found["confirmed_flush_lsn"]), hint=_AGAIN,
        )  # fmt: skip
    if found["active"]:
        raise Unreachable(
            "the replication slot is in use", where=where, found=f"process {found['active_pid']}"
        )


@dataclass(frozen=True, slots=True)
class Health:
    """The server's end of WAL, and a warning of what the slot holds back."""

    end: int
    note: str | None


def look_after(connection: Connection, name: str) -> Health:
    """Look how much WAL a slot holds back."""
    found = one_row(
        connection,
        """SELECT s.*, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8 AS wal_end,
                  (pg_current_wal_insert_lsn() - s.restart_lsn)::int8 AS kept
           FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots s ON slot_name = %s""",
        name,
    )
    assert found is not None
    notes = []
    status, kept, safe = found.get("wal_status"), found["kept"] or 0, found.get("safe_wal_size")
    if status in ("extended", "unreserved", "lost"):
        notes.append(f"slot {name} is {status}")
    if kept > POSTGRES_WAL_WARNING_BYTES:
        notes.append(f"slot {name} holds back {kept >> 20:,} MiB of WAL")
    if safe is not None and notes:
        notes.append(f"lost after {max(safe, 0) >> 20:,} MiB more")
    return Health(int(found["wal_end"]), "; ".join(notes) or None)
