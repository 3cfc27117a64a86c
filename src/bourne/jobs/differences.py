"""Which rows of a full load are new, or other than in the last one, and which keys are gone: `chunk(…, changed=True)`.

Law: what the target holds is said by its position: of which files, and how much of each. A file has, for each row that was
looked at, its key and a digest of the row; it is durable before the target is written to, and what is behind the position
counts for nothing. So a crash at any point, and whoever goes on, gives what one clean run gives.

A load has files of its own, one for each run of it that worked on it (a run that was taken for dead and wakes up writes to
its own only). When it is complete, they are what the next load is compared with. A load that was given up has changed the
target, too: the next one is compared with what was there before, overlaid with what that one had got to.

Each key is in memory while this is at work, with its digest: about 100 bytes and the key. A row that the target refuses, and
that is skipped, counts as written.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.row_texts import text_columns
from bourne.duck import cursor
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.hash_index import HashIndex
from bourne.engine.kernels.row_hash import hash_rows
from bourne.errors import StorageError
from bourne.log.disk import disk_errors
from bourne.ports import Files, make_folder_durably
from bourne.schema import Schema

_DIGEST: Final = "bourne_digest"
_DIGEST_BYTES: Final = 16
# Before each part: how many bytes it has, and the beginning of their SHA-256.
_HEAD: Final = struct.Struct("<Q16s")


class Differences:
    """Compares a load with the one before. For one thread at a time."""

    def __init__(
        self, data: Path, files: Files, schema: Schema, key: Sequence[str], *, name: str, run: int, of: str
    ) -> None:
        """`name` is what the target's position is kept under, `run` the fencing number, `of` the instance."""
        self._folder = data / "jobs" / "state" / hashlib.sha256(name.encode()).hexdigest()[:20]
        self._files = files
        self._key = tuple(key)
        self._schema = schema.to_arrow()
        self._kinds = "".join(f"{field.name}\0{field.type}\0" for field in self._schema)
        self._own = str(run)
        self._of = of
        self._descriptor: int | None = None
        self._state: dict[str, Any] = {}
        self._forget()

    def _forget(self) -> None:
        self._index = HashIndex()
        self._digests = np.zeros((1024, 2), np.uint64)
        self._has = np.zeros(1024, np.bool_)
        self._is_seen = np.zeros(1024, np.bool_)
        self._rows = np.zeros(1024, np.int64)
        self._old: list[pa.Table] = []
        self._bytes = 0

    # --- a load ------------------------------------------------------------------------------------------

    def begin(self, at: Any) -> Any:
        """Go on with the load that a position is about, or begin one; return where reading goes on.

        Raises:
            StorageError: what is known of the last load is gone, or damaged.
        """
        self.close()
        self._forget()
        known = None if at is None else at["load"]
        old = [] if known is None else known["old"]
        if known is None or known["of"] != self._of:
            base = [] if known is None else [*([] if known["complete"] else known["base"]), *known["seen"]]
            known = {"of": self._of, "base": base, "seen": [], "old": [], "complete": False}
            at = {"at": None, "skip": 0}
        with disk_errors(self._folder, "the state of a job cannot be kept"):
            make_folder_durably(self._files, self._folder)
            # Whoever began before the last load was complete finds another position than it thinks, and begins again.
            for name in old:
                self._files.remove(self._folder / name)
        for name, size in known["base"]:
            for part in self._parts(name, size):
                self._take_old(part)
        for name, size in known["seen"]:
            for part in self._parts(name, size):
                self._take_seen(part)
        is_mine = bool(known["seen"]) and known["seen"][-1][0] == self._own
        self._bytes = known["seen"][-1][1] if is_mine else 0
        self._state = {**known, "seen": known["seen"][:-1] if is_mine else known["seen"]}
        with disk_errors(self._folder, "the state of a job cannot be kept"):
            self._descriptor = self._files.open(self._folder / self._own)
            self._files.truncate(self._descriptor, self._bytes)
            self._files.sync_folder(self._folder)
        return {**at, "load": self.noted()}

    def take(self, rows: pa.Table) -> pa.Table:
        """Return the rows that are new or other than they were. They are noted, durably, when this returns."""
        if not rows.num_rows:
            return rows
        digests = self._digests_of(rows)
        keys = rows.select(list(self._key))
        self._append(keys.append_column(_DIGEST, digests))
        numbers = self._numbers(keys)
        wanted = _words(digests)
        is_same = self._has[numbers] & (self._digests[numbers] == wanted).all(axis=1)
        self._put(numbers, wanted)
        self._is_seen[numbers] = True
        return rows.filter(pa.array(~is_same))

    def noted(self, *, is_complete: bool = False) -> dict[str, Any]:
        """Return what a position says of the rows taken until now."""
        seen = [*self._state["seen"], [self._own, self._bytes]]
        if not is_complete:
            return {**self._state, "seen": seen}
        old = [name for name, _ in self._state["base"]]
        return {**self._state, "seen": seen, "base": [], "old": old, "complete": True}

    def gone(self) -> pa.Table:
        """Return the keys that were there before, and were not seen in this load."""
        empty = pa.schema([self._schema.field(name) for name in self._key]).empty_table()
        old = pa.concat_tables([empty, *self._old])
        numbers = np.flatnonzero(self._has[: len(self._index)] & ~self._is_seen[: len(self._index)])
        return old.take(pa.array(self._rows[numbers]))

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._descriptor is not None:
            self._files.close(self._descriptor)
            self._descriptor = None

    # --- rows and keys -----------------------------------------------------------------------------------

    def _numbers(self, keys: pa.Table) -> Any:
        columns = [as_array(column) for column in keys.columns]
        numbers = self._index.assign(hash_rows(columns, keys.num_rows))
        size = len(self._index)
        self._digests, self._rows = grown(self._digests, size), grown(self._rows, size)
        self._has, self._is_seen = grown(self._has, size), grown(self._is_seen, size)
        return numbers

    def _put(self, numbers: Any, words: Any) -> None:
        self._digests[numbers] = words
        self._has[numbers] = True

    def _take_old(self, part: pa.Table) -> None:
        keys = part.select(list(self._key))
        numbers = self._numbers(keys)
        self._put(numbers, _words(part.column(_DIGEST)))
        before = sum(each.num_rows for each in self._old)
        self._rows[numbers] = before + np.arange(part.num_rows)
        self._old.append(keys)

    def _take_seen(self, part: pa.Table) -> None:
        numbers = self._numbers(part.select(list(self._key)))
        self._put(numbers, _words(part.column(_DIGEST)))
        self._is_seen[numbers] = True

    def _digests_of(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return a digest of each row: of its values as texts, each with its length, and of the columns' types."""
        texts: list[Any] = [pa.scalar(self._kinds)]
        for column in text_columns(rows):
            text = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            sized = pc.binary_join_element_wise(pc.binary_length(text).cast(pa.string()), text, ":")
            texts.append(pc.fill_null(sized, "-"))
        whole = pc.binary_join_element_wise(*texts, "\0")
        relation = cursor().from_arrow(pa.table({"x": whole}))
        found = relation.select("unhex(substr(sha256(x), 1, 32)) AS x").to_arrow_table().column(0)
        return found.cast(pa.binary(_DIGEST_BYTES))

    # --- files -------------------------------------------------------------------------------------------

    def _append(self, part: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, part.schema) as writer:
            writer.write_table(part)
        data = sink.getvalue()
        head = _HEAD.pack(data.size, hashlib.sha256(data).digest()[:_DIGEST_BYTES])
        assert self._descriptor is not None
        with disk_errors(self._folder, "the state of a job cannot be kept"):
            self._files.write(self._descriptor, [memoryview(head), memoryview(data)], self._bytes)
            self._files.sync(self._descriptor)
        self._bytes += _HEAD.size + data.size

    def _parts(self, name: str, size: int) -> list[pa.Table]:
        """Return what a file has up to a size.

        Raises:
            StorageError: it has not that much, or something else.
        """
        path = self._folder / name
        try:
            with path.open("rb") as file:
                data = file.read(size)
        except OSError as error:
            raise self._lost(path, error.strerror or str(error)) from error
        parts, at = [], 0
        while at < size:
            if len(data) < size:
                raise self._lost(path, f"{len(data):,} of {size:,} bytes")
            length, digest = _HEAD.unpack_from(data, at)
            body = data[at + _HEAD.size : at + _HEAD.size + length]
            if len(body) < length or hashlib.sha256(body).digest()[:_DIGEST_BYTES] != digest:
                raise self._lost(path, f"other bytes than were written, from byte {at:,} on")
            parts.append(pa.ipc.open_stream(body).read_all())
            at += _HEAD.size + length
        for part in parts:
            wanted = pa.schema([self._schema.field(each) for each in self._key])
            if part.select(part.column_names[:-1]).schema.remove_metadata() != wanted.remove_metadata():
                raise self._lost(path, f"the key {', '.join(part.column_names[:-1])}, or one of other types")
        return parts

    def _lost(self, path: Path, found: str) -> StorageError:
        return StorageError(
            "what was seen in the last load is not what it was", where=str(path), expected=f"rows by {', '.join(self._key)}",
            found=found, hint="make the target anew, and give the step another name: it then begins with nothing",
        )  # fmt: skip


def _words(digests: pa.ChunkedArray | pa.Array) -> Any:
    array = as_array(digests)
    data = np.frombuffer(array.buffers()[1], np.uint64)
    return data[2 * array.offset : 2 * (array.offset + len(array))].reshape(-1, 2)
