"""Files as what a chunk step reads: one, or those that match a pattern, in the order of their paths.

Law: which files are read is fixed when reading begins; a file that another run has begun to read has to be what it was then.
Records that do not fit are left out, and told of as dead letters: whether that is allowed is the step's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any, Final

import pyarrow as pa

from bourne.connect.ahead import read_ahead
from bourne.connect.files import Format, format_of, read_opened
from bourne.connect.fitting import Batch, Misfit, Place
from bourne.connect.source import DeadLetter, Position, Taken
from bourne.connect.stores import Entry, Store
from bourne.errors import InputError, SourceFailed
from bourne.limits import FILE_BATCH_BYTES
from bourne.schema import Schema

# The place before the first record of a file; None is the one behind the last.
BEGIN: Final = "begin"

_HEAD_BYTES: Final = 1 << 16

_LETTER_FORMATS: Final[dict[Format, str]] = {"jsonl": "jsonl", "parquet": "arrow", "arrow": "arrow"}


class FileReader:
    """Reads some files of a store one after the other."""

    def __init__(
        self, store: Store, entries: Sequence[Entry], schema: Schema, *, kind: Format | None, where: str
    ) -> None:
        """`kind` is the files' format, None: as their names say."""
        self.schema = schema
        self._store = store
        self._entries = sorted(entries, key=lambda entry: entry.path)
        self._kind = kind
        self._where = where

    def read(self, position: Position | None) -> Iterator[Taken]:
        """Yield the records of the files, from a position on."""
        place: Place | None = None
        if position is not None:
            self._check_same(position)
            place = None if position["place"] in (None, BEGIN) else _place(position["place"])
        for entry in self._entries:
            if position is not None and (
                entry.path < position["path"]
                or (entry.path == position["path"] and position["place"] is None)
            ):
                continue
            yield from self._read_file(
                entry, place if position is not None and entry.path == position["path"] else None
            )

    def _read_file(self, entry: Entry, place: Place | None) -> Iterator[Taken]:
        head = self._head(entry)
        kind = self._kind or format_of(entry.path)
        if place is None:  # so that a chunk that ends within the first batch says of which file
            yield Taken(None, {"path": entry.path, "head": head, "place": BEGIN})
        with closing(self._store.open(entry)) as file:
            found = read_opened(
                file, kind, self.schema, log="input", name=entry.path, start=place, leaves_out=True
            )
            with closing(read_ahead(found) if entry.size > FILE_BATCH_BYTES else found) as batches:  # type: ignore[type-var]
                while (batch := self._next(batches, entry)) is not None:
                    rows = pa.Table.from_arrays(batch.table.columns, schema=self.schema.to_arrow())
                    dead = tuple(_letter(entry, kind, each, batch) for each in batch.misfits)
                    yield Taken(
                        rows, {"path": entry.path, "head": head, "place": asdict(batch.next)}, dead=dead
                    )
        yield Taken(None, {"path": entry.path, "head": head, "place": None})

    def _next(self, batches: Iterator[Batch], entry: Entry) -> Batch | None:
        try:
            return next(batches, None)
        except InputError as error:
            raise SourceFailed(
                f"{entry.path} cannot be read: {error.what}", where=error.where, expected=error.expected, found=error.found,
                hint="mend the input, or take it away",
            ) from error  # fmt: skip

    def _check_same(self, position: Any) -> None:
        entry = next((entry for entry in self._entries if entry.path == position["path"]), None)
        if position["place"] is not None and (entry is None or self._head(entry) != position["head"]):
            raise SourceFailed(
                f"{position['path']} is gone, or has changed, since a part of it was read", where=self._where,
                expected="the content of before",
                found="no such file" if entry is None else "another content",
                hint="put it back; or begin anew: bourne jobs start … --again",
            )  # fmt: skip

    def _head(self, entry: Entry) -> str:
        """Return what tells a file from another one that has taken its place: its size, and how it begins."""
        with closing(self._store.open(entry)) as file:
            return f"{entry.size}-{hashlib.sha256(file.read(_HEAD_BYTES) or b'').hexdigest()[:16]}"

    def share(self, position: Position | None) -> float | None:
        """Return the share of the files' bytes that lie before a position."""
        total = sum(entry.size for entry in self._entries)
        if position is None or not total:
            return 0.0 if total else 1.0
        done = sum(entry.size for entry in self._entries if entry.path < position["path"])
        now = next((entry for entry in self._entries if entry.path == position["path"]), None)
        if now is not None:
            place = position["place"]
            done += now.size if place is None else 0 if place == BEGIN else min(place["byte"], now.size)
        return min(1.0, done / total)

    def close(self) -> None:
        """Nothing is held."""


def _place(found: dict[str, Any]) -> Place:
    return Place(**{**found, "columns": tuple(found["columns"])})


def _letter(entry: Entry, kind: Format, misfit: Misfit, batch: Batch) -> DeadLetter:
    unit = "line" if kind in ("csv", "jsonl") else "row"
    form = _LETTER_FORMATS.get(kind) or "csv:" + ",".join(batch.next.columns)
    error = misfit.error
    reason = error.what if error.found is None else f"{error.what} (found: {error.found})"
    return DeadLetter(f"{entry.path}, {unit} {misfit.number}", reason, misfit.data, form)
