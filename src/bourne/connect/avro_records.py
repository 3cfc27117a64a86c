"""Avro datums as records, and their schemas as columns.

A datum comes bare, in the single-object encoding, or as Confluent writes it: a zero byte, the number of its schema in
four, and the datum. Schemas are files, as no registry is asked: one `file.avsc`, or a folder of them, named by number.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bourne.connect.json_text import to_json
from bourne.errors import DefinitionError, MalformedInput, SourceFailed
from bourne.schema import Schema, quote

_SINGLE_OBJECT: Final = b"\xc3\x01"

# What the library raises for bytes that are no datum of a schema, beside its own error.
_BROKEN: Final = (EOFError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError, struct.error)

_TYPES: Final = {
    "boolean": "BOOLEAN", "int": "INTEGER", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "bytes": "BLOB",
    "string": "VARCHAR", "enum": "VARCHAR", "fixed": "BLOB", "null": "VARCHAR",
}  # fmt: skip

_LOGICAL: Final = {
    "date": "DATE", "uuid": "UUID", "time-millis": "TIME", "time-micros": "TIME",
    "timestamp-millis": "TIMESTAMP WITH TIME ZONE", "timestamp-micros": "TIMESTAMP WITH TIME ZONE",
    "local-timestamp-millis": "TIMESTAMP", "local-timestamp-micros": "TIMESTAMP",
}  # fmt: skip


class AvroReader:
    """Reads datums. `schema` is what they are read as; `folder` has the schemas they were written with, by number."""

    def __init__(self, schema: Path | None, folder: Path | None, *, where: str) -> None:
        """Read the schema's file.

        Raises:
            DefinitionError: neither is given, fastavro is missing, or the schema is no record's.
            SourceFailed: the file cannot be read.
        """
        try:
            import fastavro
        except ImportError as error:
            raise DefinitionError(
                "Avro needs a library that is not installed", hint="pip install 'bourne[kafka]'"
            ) from error
        if schema is None and folder is None:
            raise DefinitionError(
                "Avro cannot be read without its schema", where=where,
                expected="&schema=FILE.avsc, or &schemas=FOLDER with a file ID.avsc for each number",
            )  # fmt: skip
        self._library = fastavro
        self._where = where
        self._folder = folder
        self._written: dict[int, Any] = {}
        self._schema = None if schema is None else self._load(schema)
        self._mark = b""
        if self._schema is not None:
            canonical = fastavro.schema.to_parsing_canonical_form(self._schema)
            number = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
            self._mark = _SINGLE_OBJECT + bytes.fromhex(number)

    def _load(self, path: Path) -> Any:
        try:
            parsed = self._library.parse_schema(json.loads(path.read_bytes()))
        except OSError as error:
            raise SourceFailed(f"cannot read {path}", where=self._where, found=error.strerror) from error
        except (ValueError, TypeError, LookupError, self._library.schema.SchemaParseException) as error:
            raise DefinitionError(
                "not an Avro schema", where=f"{self._where}, {path}", found=str(error)
            ) from error
        if not isinstance(parsed, Mapping) or parsed.get("type") != "record":
            raise DefinitionError("not the schema of a record", where=f"{self._where}, {path}", found=parsed)
        return parsed

    def _split(self, data: bytes) -> tuple[Any, int]:
        """Return the schema that a datum was written with, and where it begins."""
        if self._folder is not None:
            if len(data) < 5 or data[0] != 0:
                raise MalformedInput(
                    "no number of a schema", expected="a zero byte and four more", found=data[:5]
                )
            number = int.from_bytes(data[1:5], "big")
            if number not in self._written:
                self._written[number] = self._load(self._folder / f"{number}.avsc")
            return self._written[number], 5
        return self._schema, len(self._mark) if data.startswith(self._mark) else 0

    def read(self, data: bytes) -> dict[str, Any]:
        """Return the record that a datum is, whole.

        Raises:
            MalformedInput: it is none.
            SourceFailed, DefinitionError: the schema that it names cannot be read.
        """
        written, start = self._split(data)
        stream = io.BytesIO(data)
        stream.seek(start)
        reads_as = None if self._schema is written else self._schema
        try:
            record = self._library.schemaless_reader(stream, written, reads_as)
        except (*_BROKEN, self._library.read.SchemaResolutionError) as error:
            raise MalformedInput(
                "not Avro of that schema", found=f"{type(error).__name__}: {error}"
            ) from error
        if stream.tell() != len(data):
            raise MalformedInput(
                "not Avro of that schema", found=f"{len(data) - stream.tell()} bytes too many"
            )
        return dict(record)

    def columns(self, sample: bytes | None) -> dict[str, str] | None:
        """Return the columns of what is read: of the schema, or else of the one that a sample was written with."""
        schema = self._schema
        if schema is None and sample is not None:
            schema = self._split(sample)[0]
        return None if schema is None else {f["name"]: _type(f["type"]) for f in schema["fields"]}


def read_json_columns(record: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Return the record, with text for its columns of type JSON."""
    for column in schema.columns:
        if column.type == "JSON" and record.get(column.name) is not None:
            record[column.name] = to_json(record[column.name])
    return record


def _type(schema: Any) -> str:
    """Return DuckDB's type for an Avro schema; JSON for what has none."""
    if isinstance(schema, list):
        kinds = [kind for kind in schema if kind != "null"]
        return _type(kinds[0]) if len(kinds) == 1 else "JSON"
    if not isinstance(schema, Mapping):
        return _TYPES.get(schema, "JSON")  # JSON: a type named before
    kind, logical = schema["type"], schema.get("logicalType")
    if logical == "decimal":
        return f"DECIMAL({min(schema['precision'], 38)},{schema.get('scale', 0)})"
    if logical in _LOGICAL:
        return _LOGICAL[logical]
    if kind == "array":
        return _nested(f"{_type(schema['items'])}[]")
    if kind == "map":
        return _nested(f"MAP(VARCHAR, {_type(schema['values'])})")
    if kind == "record":
        return _nested(
            f"STRUCT({', '.join(quote(f['name']) + ' ' + _type(f['type']) for f in schema['fields'])})"
        )
    return _type(kind) if not isinstance(kind, str) else _TYPES.get(kind, "JSON")


def _nested(kind: str) -> str:
    return "JSON" if "JSON" in kind else kind
