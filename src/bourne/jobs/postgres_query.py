"""A query of PostgreSQL, read in the order of a key: values come as texts, and the server alone compares keys.

Law: a key's texts, cast to the column's type, are that key again; each page is a statement of its own, read-only. A page
comes as one value: the texts of its rows, as the server writes a row. By COPY each row would be a message, which the client
takes from libpq one by one: that is four times as long as all the rest.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from bourne.batch.increments import Overlap
from bourne.connect.postgres_tables import TypeInfo, read_types, stored_type
from bourne.connect.postgres_texts import read_values
from bourne.connect.postgres_wire import connect, postgres_errors, read_url
from bourne.errors import DefinitionError, SourceFailed, ValueMismatch
from bourne.jobs.query_reader import Key, Page, Span, no_overlap, plain_numbers, typed_columns
from bourne.schema import Schema

if TYPE_CHECKING:
    import psycopg

_INTEGERS: Final = {
    "int2": -(2**15),
    "int4": -(2**31),
    "int8": -(2**63),
    "oid": 0,
}  # and the least value of each
_FLOATS: Final = ("numeric", "float4", "float8")
_TEXTS: Final = ("text", "varchar", "bpchar", "name")
_MOMENTS: Final = ("date", "timestamp", "timestamptz")
# Of the others a value may be written in several ways, so that it is not seen from the texts that two are equal.
_KEYS: Final = (*_INTEGERS, *_FLOATS, *_TEXTS, *_MOMENTS, "time", "bool", "uuid", "bytea")


class PostgresQuery:
    """A query of PostgreSQL."""

    def __init__(
        self, url: str, query: str, order: tuple[str, ...], columns: Schema | None, *, where: str
    ) -> None:
        """Connect, and look at the columns.

        Raises:
            DefinitionError: the query is wrong, or cannot be ordered so.
            Unreachable: the server is not there.
        """
        from psycopg import sql  # noqa: PLC0415  (imported only where it is used)

        self._address = read_url(url, own=set())
        self._where = where
        self._opened: psycopg.Connection[Any] | None = None
        text = query.strip().removesuffix(";")
        self._from = sql.SQL("FROM ({}\n) AS q").format(sql.SQL(text))
        described = self._describe()
        self._types: list[TypeInfo] = [info for _, info, _, _ in described]
        self.schema, self.order = typed_columns(
            [(name, stored) for name, _, stored, _ in described], columns, order, where=where
        )
        self._places = [[name for name, *_ in described].index(name) for name in self.order]
        self._declared = [described[place][3] for place in self._places]
        self._key_types = [self._types[place].type.name for place in self._places]
        self._keys = [sql.SQL("q.") + sql.Identifier(name) for name in self.order]
        self.is_number = len(self.order) == 1 and self._key_types[0] in (*_INTEGERS, *_FLOATS)
        self._check_keys()

    # --- what there is -----------------------------------------------------------------------------------

    def _describe(self) -> list[tuple[str, TypeInfo, str, str]]:
        """Return the columns: name, type, the type that holds it here, and the type as SQL."""
        from psycopg import sql  # noqa: PLC0415

        connection = self._connection()
        try:
            with postgres_errors(self._where):
                found = connection.execute(sql.SQL("SELECT * {} LIMIT 0").format(self._from))
                result = found.pgresult
                assert result is not None
                kinds = [(result.ftype(place), result.fmod(place)) for place in range(result.nfields)]
                types = read_types(connection, {kind for kind, _ in kinds})
                spelled = [
                    connection.execute("SELECT format_type(%s, %s)", kind).fetchall()[0][0] for kind in kinds
                ]
                names = [column.name for column in found.description or ()]
        except SourceFailed as error:
            raise DefinitionError(
                "PostgreSQL does not take the query", where=self._where, found=error.found
            ) from error
        return [
            (name, types[kind], stored_type(types[kind], modifier), declared)
            for name, (kind, modifier), declared in zip(names, kinds, spelled, strict=True)
        ]

    def _check_keys(self) -> None:
        from psycopg import sql  # noqa: PLC0415

        for name, key, kind in zip(self.order, self._keys, self._key_types, strict=True):
            if kind not in _KEYS:
                raise DefinitionError(
                    f"rows cannot be read in the order of {name!r}", where=self._where, expected=", ".join(_KEYS), found=kind,
                    hint="order them by another column, or by a text: SELECT …::text",
                )  # fmt: skip
            if kind not in _TEXTS:
                continue
            with postgres_errors(self._where):
                collation = self._connection().execute(
                    sql.SQL("SELECT pg_collation_for((SELECT {} {} LIMIT 0))").format(key, self._from)
                ).fetchall()[0][0]  # fmt: skip
                found = self._connection().execute(
                    "SELECT collisdeterministic FROM pg_collation WHERE oid = to_regcollation(%s)::oid",
                    [collation],
                ).fetchone()  # fmt: skip
            if found is not None and not found[0]:
                raise DefinitionError(
                    f"different texts of {name!r} are the same to its collation {collation}", where=self._where,
                    expected="a deterministic collation", found=collation, hint=f'order by {name} COLLATE "C" AS …',
                )  # fmt: skip

    def greatest(self) -> Key | None:
        """Return the greatest key."""
        return self._end("DESC")

    def least(self) -> Key | None:
        """Return the least key."""
        return self._end("ASC")

    def _end(self, direction: str) -> Key | None:
        from psycopg import sql  # noqa: PLC0415

        ordered = sql.SQL(", ").join(key + sql.SQL(f" {direction}") for key in self._keys)
        keys = sql.SQL(", ").join(self._keys)
        query = sql.SQL("SELECT {} {} ORDER BY {} LIMIT 1").format(keys, self._from, ordered)
        columns, _ = self._texts(query, len(self._keys))
        return tuple(column[0].as_py() for column in columns) if len(columns[0]) else None

    def null(self, column: str, *, first: Any) -> bool:
        """Say whether a column is NULL somewhere."""
        from psycopg import sql  # noqa: PLC0415

        condition = sql.SQL("q.{} IS NULL").format(sql.Identifier(column))
        if first is not None:
            condition += sql.SQL(" AND {} >= {}").format(self._keys[0], self._typed(0, first))
        query = sql.SQL("SELECT 1 {} WHERE {} LIMIT 1").format(self._from, condition)
        with postgres_errors(self._where):
            return self._connection().execute(query).fetchone() is not None

    # --- pages -------------------------------------------------------------------------------------------

    def page(self, span: Span, rows: int) -> Page:
        """Return the first rows of a span."""
        from psycopg import sql  # noqa: PLC0415

        keys = sql.SQL(", ").join(self._keys)
        conditions = [sql.SQL("({}) <= ({})").format(keys, self._row(span.last))]
        if span.after is not None:
            conditions.append(sql.SQL("({}) > ({})").format(keys, self._row(span.after)))
        if span.first is not None:
            conditions.append(sql.SQL("{} >= {}").format(self._keys[0], self._typed(0, span.first)))
        query = sql.SQL("SELECT * {} WHERE {} ORDER BY {} LIMIT {}").format(
            self._from, sql.SQL(" AND ").join(conditions), keys, sql.Literal(rows)
        )
        texts, size = self._texts(query, len(self._types))
        try:
            read = [
                read_values(values, info.type, column, where=self._where)
                for values, info, column in zip(texts, self._types, self.schema.columns, strict=True)
            ]
        except ValueMismatch as error:
            raise SourceFailed(
                f"a row cannot be read: {error.what}", where=self._where, expected=error.expected, found=error.found,
                hint="name a type that says all of its values: columns={…}; or cast it in the query",
            ) from error  # fmt: skip
        table = pa.Table.from_arrays(read, schema=self.schema.to_arrow())
        places = tuple(texts[place] for place in self._places)
        equals = tuple(
            _comparable(values, kind) for values, kind in zip(places, self._key_types, strict=True)
        )
        return Page(table, places, equals, size)

    def _row(self, key: Key) -> Any:
        from psycopg import sql  # noqa: PLC0415

        return sql.SQL(", ").join(self._typed(number, value) for number, value in enumerate(key))

    def _typed(self, number: int, value: str) -> Any:
        from psycopg import sql  # noqa: PLC0415

        # A text has no length here: what a char(3) is cut to is what is there already.
        declared = re.sub(r"^(character varying|numeric)\(.*\)", r"\1", self._declared[number])
        return sql.SQL("CAST({} AS {})").format(sql.Literal(str(value)), sql.SQL(declared))

    def back(self, value: Any, overlap: Overlap) -> Any:
        """Return what lies before a value of the first column."""
        from psycopg import sql  # noqa: PLC0415

        kind = self._key_types[0]
        if kind not in (_MOMENTS if isinstance(overlap, timedelta) else (*_INTEGERS, *_FLOATS)):
            raise no_overlap(self.order[0], kind, overlap, where=self._where)
        if kind in _INTEGERS and isinstance(overlap, int):
            return str(max(_INTEGERS[kind], int(value) - overlap))
        unit = str(overlap)
        if isinstance(overlap, timedelta):
            unit = f"CAST('{overlap // timedelta(microseconds=1)} microseconds' AS interval)"
        typed = self._typed(0, value)
        if kind == "date":
            typed = sql.SQL("CAST({} AS timestamp)").format(typed)
        query = sql.SQL("SELECT {} - {}").format(typed, sql.SQL(unit))
        columns, _ = self._texts(query, 1)
        found: str = columns[0][0].as_py()
        return found

    def _texts(self, query: Any, width: int) -> tuple[tuple[pa.Array, ...], int]:
        """Return what a query says as columns of texts, and how many bytes that is."""
        from psycopg import sql  # noqa: PLC0415

        # The row begins and ends with a value of ours, so that no other one has a bracket beside it.
        form = sql.SQL("SELECT string_agg(r::text, E'\\n') FROM (SELECT 0, p.*, 0 FROM ({}) AS p) AS r")
        with postgres_errors(self._where):
            result = self._connection().execute(form.format(query)).pgresult
        data = None if result is None else result.get_value(0, 0)
        return _parsed(bytes(data or b""), width)

    # --- the connection ----------------------------------------------------------------------------------

    def _connection(self) -> psycopg.Connection[Any]:
        if self._opened is None or self._opened.closed:
            self._opened = connect(self._address)
            with postgres_errors(self._where):
                self._opened.execute("SET default_transaction_read_only = on")
        return self._opened

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _parsed(data: bytes, width: int) -> tuple[tuple[pa.Array, ...], int]:
    """Return the columns of rows as PostgreSQL writes them: nothing is NULL, in quotes both " and \\ are doubled."""
    if not data:
        return tuple(pa.array([], pa.string()) for _ in range(width)), 0
    names = [str(number) for number in range(width + 2)]
    table = csv.read_csv(
        pa.BufferReader(data),
        read_options=csv.ReadOptions(column_names=names, block_size=len(data) + 1, use_threads=False),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True,
            quoted_strings_can_be_null=False, include_columns=names[1:-1],
        ),
    )  # fmt: skip
    columns = [table.column(name).combine_chunks() for name in names[1:-1]]
    if b"\\" in data:
        columns = [pc.replace_substring(column, "\\\\", "\\") for column in columns]
    return tuple(columns), len(data)


def _comparable(texts: pa.Array, kind: str) -> pa.Array:
    """Return texts of which those are equal whose values are equal to the server."""
    if kind in _FLOATS:
        return plain_numbers(texts)
    return pc.utf8_rtrim(texts, " ") if kind == "bpchar" else texts
