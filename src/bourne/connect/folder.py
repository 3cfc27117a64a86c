"""Files as a source: one, those that match a pattern, or all in a folder, which is then watched for new ones.

Law: each content is taken in once, whatever name it comes under, and however often a file is copied, touched or moved.
A text file that has grown since it was taken in brings what was added. A file that changed otherwise is a new one.

A file that may be half-written is left alone: one whose name says so (`.x`, `x.tmp`, `x.part`, …), one that was written
to within the last `settle` seconds, and Parquet or Arrow without its end. Objects in a bucket are whole when they are seen.

The position says which file is being read, and how far; files that were read are noted in a log (`files_taken`). Files
are read in the order of their paths. Small ones share one append.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any, BinaryIO, Final

import pyarrow as pa

from bourne.connect.ahead import read_ahead
from bourne.connect.files import Format, format_of, read_opened
from bourne.connect.files_taken import FilesTaken, TakenFile
from bourne.connect.fitting import Batch, Misfit, Place
from bourne.connect.source import DeadLetter, Delivery, Lag, Position, Taken
from bourne.connect.stores import Entry, Store
from bourne.errors import BourneError, InputError, SourceFailed
from bourne.limits import FILE_BATCH_BYTES, FILES_PER_APPEND_MAX, FOLDER_LOOK_S, SOURCE_LOOK_S
from bourne.log.catalog import LogInfo
from bourne.ports import Clock

_LETTER_FORMATS: Final[dict[Format, str]] = {"jsonl": "jsonl", "parquet": "arrow", "arrow": "arrow"}

_HASH_BYTES: Final = 1 << 20


@dataclass(slots=True)
class _Part:
    """What is handed over next: records of one file, or of several small ones."""

    schema: pa.Schema
    tables: list[pa.Table] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    done: list[TakenFile] = field(default_factory=list)
    bytes: int = 0

    @property
    def is_large(self) -> bool:
        return self.bytes >= FILE_BATCH_BYTES or len(self.done) >= FILES_PER_APPEND_MAX

    @property
    def is_empty(self) -> bool:
        return not (self.tables or self.dead or self.done)

    def has_content(self, content: str) -> bool:
        return any(file.content == content for file in self.done)

    def taken(self, at: dict[str, Any] | None) -> Taken:
        rows = pa.concat_tables(self.tables) if self.tables else None
        position = {"done": [file.to_json() for file in self.done], "at": at}
        return Taken(rows, position, dead=tuple(self.dead))


class Files:
    """The source. `kind` is the files' format, None: as their names say."""

    delivery: Delivery = "exactly once"

    def __init__(
        self, name: str, store: Store, log: LogInfo, clock: Clock, taken: FilesTaken, *, kind: Format | None,
        is_watched: bool, settle_s: float,
    ) -> None:  # fmt: skip
        """`is_watched`: files that come later are taken in, too. `settle_s`: how long a file has to lie still."""
        self.name = name
        self._store = store
        self._log = log
        self._clock = clock
        self._files = taken
        self._kind = kind
        self._is_watched = is_watched
        self._settle_us = int(settle_s * 1e6) if store.has_halves else 0
        self._stopping = threading.Event()
        self._lag = Lag()
        self._unfinished: dict[
            tuple[str, str], str
        ] = {}  # files that lack their end, and what is wrong with them

    def read(self, position: Position | None, partitions: Mapping[int, Position]) -> Iterator[Taken | None]:
        """Yield the records of the files that are new, until there are no more (for ever, if they are watched)."""
        self._files.load()
        if position is not None:
            self._files.add([TakenFile(*each) for each in position["done"]])
            if position["at"] is not None:
                yield from self._go_on(position["at"])
        while not self._stopping.is_set():
            new = [
                each for each in self._store.entries() if not self._files.has_version(each.path, each.version)
            ]
            ready = [each for each in new if self._is_finished(each)]
            self._lag = Lag(bytes=sum(each.size for each in ready), note=self._note())
            yield from self._take(ready)
            if self._stopping.is_set():
                return
            waiting = [
                each
                for each in new
                if each not in ready and (each.path, each.version) not in self._unfinished
            ]
            self._lag = Lag(bytes=sum(each.size for each in waiting), note=self._note())
            if not waiting and not self._is_watched:
                return
            yield from self._pause(FOLDER_LOOK_S if not waiting else SOURCE_LOOK_S)

    def _pause(self, seconds: float) -> Iterator[None]:
        """Wait before looking again, saying that there is nothing."""
        for _ in range(max(1, round(seconds / SOURCE_LOOK_S))):
            yield None
            if self._stopping.wait(SOURCE_LOOK_S):
                return

    def _is_finished(self, entry: Entry) -> bool:
        is_still = self._clock.now_us() - entry.changed_us >= self._settle_us
        return is_still and (entry.path, entry.version) not in self._unfinished

    def _note(self) -> str | None:
        return "; ".join(self._unfinished.values()) or None

    # --- files -------------------------------------------------------------------------------------------

    def _take(self, entries: list[Entry]) -> Iterator[Taken]:
        part = _Part(self._log.schema.to_arrow())
        for entry in entries:
            if self._stopping.is_set():
                break
            content, place, records = self._content(entry)
            if self._files.has_content(content) or part.has_content(content):
                part.done.append(TakenFile(entry.path, entry.version, content, entry.size, 0, 0))
            else:
                part = yield from self._take_file(entry, content, place, records, part)
            if part.is_large:
                yield part.taken(None)
                part = self._next(part)
        if not part.is_empty:
            yield part.taken(None)
            self._next(part)

    def _next(self, part: _Part) -> _Part:
        """Begin the next part: the last one is durable by now."""
        self._files.add(part.done)
        return _Part(part.schema)

    def _content(self, entry: Entry) -> tuple[str, Place | None, int]:
        """Return what tells a file's content, and, if it has grown since it was taken in, where to go on."""
        before = self._files.newest(entry.path)
        kind = self._format(entry)
        if not self._store.has_halves or before is None or entry.size <= before.bytes:
            return self._store.content(entry), None, 0
        digest, last = hashlib.sha256(), b""
        with closing(self._store.open(entry)) as file:
            left = before.bytes
            while left and (piece := file.read(min(left, _HASH_BYTES))):
                digest.update(piece)
                left, last = left - len(piece), piece[-1:]
            is_same = digest.hexdigest() == before.content
            while piece := file.read(_HASH_BYTES):
                digest.update(piece)
        if not is_same or not before.bytes:
            return digest.hexdigest(), None, 0
        if last != b"\n" or kind not in ("csv", "jsonl"):
            raise SourceFailed(
                f"{entry.path} was taken in as finished, and has grown in the middle of a record", where=entry.path,
                expected="files that are finished when they have lain still for a while, or whose lines are written as a whole",
                hint="name files .tmp while they are written, or declare a longer ?settle=; then mend the log by hand, or give "
                "the source another name to take in all anew",
            )  # fmt: skip
        return digest.hexdigest(), self._place_after(entry, before), before.records

    def _place_after(self, entry: Entry, before: TakenFile) -> Place:
        columns: tuple[str, ...] = ()
        if self._format(entry) == "csv":
            with closing(self._store.open(entry)) as file:
                batches = read_opened(
                    file, "csv", self._log.schema, log=self._log.name, name=entry.path, leaves_out=True
                )
                first = next(batches, None)
                columns = first.next.columns if first is not None else ()
        return Place(
            "line", before.lines + 1, before.bytes if columns or self._format(entry) != "csv" else 0, columns
        )

    def _go_on(self, at: dict[str, Any]) -> Iterator[Taken]:
        """Go on in the middle of a file."""
        place = Place(**{**at["place"], "columns": tuple(at["place"]["columns"])})
        for entry in sorted(self._store.entries(), key=lambda entry: entry.path != at["path"]):
            if entry.path == at["path"] and entry.size > at["bytes"]:
                # It has grown meanwhile: first what it was; that is no version of its own, so what was added is seen later.
                entry = replace(
                    entry, size=at["bytes"], version=f"{entry.version}, {at['bytes']} bytes of it"
                )
            if entry.size == at["bytes"] and self._store.content(entry) == at["content"]:
                part = _Part(self._log.schema.to_arrow())
                part = yield from self._take_file(entry, at["content"], place, at["records"], part)
                if not part.is_empty:
                    yield part.taken(None)
                    self._next(part)
                return
        raise SourceFailed(
            f"{at['path']} is gone, or has changed, while it was being read", where=f"source {self.name!r}",
            expected=f"the content of before, from {place} on ({at['records']:,} records of it are in the log)",
            found="no such file", hint="put it back; or give the source another name to take in all anew",
        )  # fmt: skip

    def _take_file(
        self, entry: Entry, content: str, place: Place | None, records: int, part: _Part
    ) -> Generator[Taken, None, _Part]:
        """Yield large parts of a file; return the rest of it, behind what `part` holds."""
        kind = self._format(entry)
        lines = 0 if place is None else place.number - 1
        with (
            closing(self._store.open(entry)) as file,
            closing(self._batches(file, entry, kind, place)) as batches,
        ):
            while (batch := self._batch(batches, entry, kind, may_lack=records == 0)) is not None:
                # All of one schema: `conform` leaves it open what is said to be not null.
                part.tables.append(pa.Table.from_arrays(batch.table.columns, schema=part.schema))
                part.dead += [self._letter(entry, content, kind, each, batch) for each in batch.misfits]
                part.bytes += batch.table.nbytes
                records += batch.table.num_rows
                lines = batch.next.number - 1
                if part.is_large:
                    at = {
                        "path": entry.path,
                        "content": content,
                        "bytes": entry.size,
                        "place": asdict(batch.next),
                        "records": records,
                    }
                    yield part.taken(at)
                    part = self._next(part)
                    if self._stopping.is_set():
                        return part
        if (entry.path, entry.version) not in self._unfinished:
            self._check_unchanged(entry, content)
            part.done.append(TakenFile(entry.path, entry.version, content, entry.size, lines, records))
        return part

    def _batches(
        self, file: BinaryIO, entry: Entry, kind: Format, place: Place | None
    ) -> Generator[Batch, None, None]:
        """Yield the batches of a file; of one that has several, the next one is read while the last is appended."""
        batches = read_opened(
            file, kind, self._log.schema, log=self._log.name, name=entry.path, start=place, leaves_out=True
        )
        yield from read_ahead(batches) if entry.size > FILE_BATCH_BYTES else batches

    def _batch(self, batches: Iterator[Batch], entry: Entry, kind: Format, *, may_lack: bool) -> Batch | None:
        try:
            return next(batches, None)
        except InputError as error:
            if may_lack and kind in ("parquet", "arrow") and self._is_watched and "damaged" in error.what:
                self._unfinished[entry.path, entry.version] = f"{entry.path} is left alone: {error.what}"
                return None
            raise SourceFailed(
                f"{entry.path} cannot be taken in: {error.what}", where=error.where, expected=error.expected,
                found=error.found, hint="mend the input, or take it away",
            ) from error  # fmt: skip

    def _letter(self, entry: Entry, content: str, kind: Format, misfit: Misfit, batch: Batch) -> DeadLetter:
        unit = "row" if kind in _LETTER_FORMATS and kind != "jsonl" else "line"
        form = _LETTER_FORMATS.get(kind) or "csv:" + ",".join(batch.next.columns)
        origin = f"{entry.path}, {unit} {misfit.number} (content {content[:12]})"
        return DeadLetter(origin, _reason(misfit.error), misfit.data, form)

    def _check_unchanged(self, entry: Entry, content: str) -> None:
        """Refuse a file that was written to while it was read."""
        if not self._store.has_halves:
            return
        now = next((each for each in self._store.entries() if each.path == entry.path), None)
        if now is None or now.version == entry.version or now.size > entry.size:
            return  # gone by now; or it has grown, which the next look sees
        if self._store.content(now) != content:
            raise SourceFailed(
                f"{entry.path} was written to while it was read", where=f"source {self.name!r}",
                expected="files that are put in their place by renaming them", found="another content",
                hint="see what of it is in the log, and give the source another name to take in all anew",
            )  # fmt: skip

    def _format(self, entry: Entry) -> Format:
        return self._kind or format_of(entry.path)

    # --- the rest of the contract ------------------------------------------------------------------------

    def confirm(self, position: Position) -> None:
        """The files stay where they are."""

    def lag(self) -> Lag:
        """Return the bytes of the files that are still to be read, as of the last look."""
        return self._lag

    def stop(self) -> None:
        """Let `read` end after the part that is at hand."""
        self._stopping.set()


def _reason(error: BourneError) -> str:
    return error.what if error.found is None else f"{error.what} (found: {error.found})"
