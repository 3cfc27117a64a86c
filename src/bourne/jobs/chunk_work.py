"""A chunk step at work, or one part of it: read, process, write, a chunk at a time.

Law: a chunk's rows and the position after them are one write of the target. So whatever ends this, and whoever goes on, each
row is written once. While a chunk is written, the next one is read and processed: at most two of them are in memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pyarrow as pa

from bourne.batch.chunk_size import ChunkSize
from bourne.batch.retry import Retry, Skip
from bourne.connect.ahead import read_ahead
from bourne.connect.dead_letters import DEAD_LETTERS
from bourne.connect.rejected import part_of, split_rejected
from bourne.connect.row_texts import json_rows
from bourne.connect.sink import Change
from bourne.connect.source import DeadLetter
from bourne.errors import BourneError, InputError, Rejected, SourceFailed
from bourne.jobs.differences import Differences
from bourne.jobs.last_rows import last_rows
from bourne.jobs.processing import Processing
from bourne.jobs.progress import Progress, read_progress
from bourne.jobs.reader import Piece, Reader, pieces
from bourne.jobs.targets import Target


class Fenced(BourneError):
    """A later run of the same instance is at work: this one has lost its lease."""

    exit_code = 5


class TooLong(BourneError):
    """A step has taken longer than it may."""

    exit_code = 12


@dataclass(frozen=True, slots=True)
class Terms:
    """How a step is to be done: by which run, until when, and what becomes of failures.

    `run` is the fencing number; `of` says which run of the instance (`Progress.of`). How much of all may be skipped is not known
    to what `is_part` of several.
    """

    name: str
    run: int
    of: str
    goes_on: bool
    size: ChunkSize
    retry: Retry
    skip: Skip
    rows_per_s: float | None
    deadline: float | None
    is_part: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """A chunk that is to be written: its rows as they go to the target, and those that cannot."""

    piece: Piece
    rows: pa.Table
    letters: tuple[DeadLetter, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk that was committed, for the history: from when to when, by which attempt, and what it added."""

    before: Progress
    after: Progress
    attempt: int
    started_s: float
    ended_s: float
    share: float | None
    error: str | None = None


class ChunkWork:
    """Does it. For one thread."""

    def __init__(
        self, terms: Terms, reader: Reader, processing: Processing, target: Target, *, put_letters: Callable[[tuple[DeadLetter, ...]], None],
        stop: threading.Event, note: Callable[[Done], None], random: Random, key: Sequence[str] = (),
        differences: Differences | None = None,
    ) -> None:  # fmt: skip
        """`put_letters` keeps dead letters, durably; `note` is told of each chunk. `stop` ends it after the chunk at hand.

        `key` is the target's; with `differences` only what is other than in the last load is written.
        """
        self._terms = terms
        self._reader = reader
        self._processing = processing
        self._target = target
        self._put_letters = put_letters
        self._stop = stop
        self._note = note
        self._random = random
        self._key = key
        self._differences = differences
        self._size = terms.size
        self._held: Any = None
        self._attempt = 1
        self._since = time.monotonic()

    def work(self, *, until: float | None = None) -> Progress:
        """Go on from where the target stands until there is no more, `stop` is set, or it is time (`time.monotonic()`).

        Returns: where it stands; `done` if there is no more.

        Raises: what is not to be tried again, or not any more; `Fenced`, `TooLong`.
        """
        while True:
            try:
                progress = self._open()
                if progress.done:
                    self._target.finish()  # a crash may have come between the last write and this
                while not progress.done and not self._stop.is_set() and not _is_past(until):
                    progress = self._go_on(progress, until)
                return progress
            except Exception as error:
                if isinstance(error, Fenced | TooLong):
                    raise
                elapsed = time.monotonic() - self._since
                delay = self._terms.retry.delay(
                    error, attempt=self._attempt, elapsed_s=elapsed, random=self._random.random()
                )
                if delay is None or self._stop.is_set():
                    raise
                self._note_failure(error)
                self._attempt += 1
                self._check_time()
                self._stop.wait(delay)

    def _open(self) -> Progress:
        self._held = self._target.open()
        terms = self._terms
        progress = read_progress(self._held, of=terms.of, run=terms.run, goes_on=terms.goes_on)
        if progress.run > terms.run:
            raise Fenced("a later run of the same instance is at work", where=terms.name, expected=f"fencing number {terms.run}",
                         found=f"{progress.run}", hint="nothing is to be done: the later run goes on")  # fmt: skip
        if self._differences is not None and not progress.done:
            progress = replace(progress, at=self._differences.begin(progress.at))
        return progress

    def _go_on(self, progress: Progress, until: float | None) -> Progress:
        """Write chunks until the end, or until it has to be looked at again whether to go on."""
        with closing(self._ready(progress)) as found, closing(read_ahead(found)) as chunks:
            while True:
                began = time.monotonic()
                chunk = next(chunks, None)
                if chunk is None:
                    return self._finish(progress)
                before, progress = progress, self._write(progress, chunk)
                ended = time.monotonic()
                self._size = self._size.after(chunk.piece.rows.num_rows, ended - began)
                self._note(
                    Done(before, progress, self._attempt, began, ended, self._reader.share(_place(progress)))
                )
                self._attempt, self._since = 1, ended
                self._throttle(progress.read - before.read, began)
                self._check_time()
                if self._stop.is_set() or _is_past(until):
                    return progress

    def _finish(self, progress: Progress) -> Progress:
        """Note in the target that all of it is there, and make it seen."""
        done, gone = replace(progress, run=self._terms.run, done=True), None
        if done.skipped and not self._terms.is_part:
            error = InputError(f"they are in the log {DEAD_LETTERS!r}", where=self._terms.name)
            self._check_skipped(error, done.skipped, done.read, is_for=True, is_all=True)
        if self._differences is not None:
            gone = self._differences.gone()
            done = replace(done, at={**done.at, "load": self._differences.noted(is_complete=True)})
        self._put(Change(self._processing.schema.to_arrow().empty_table(), gone), done)
        self._target.finish()
        return done

    # --- reading and processing: in the thread that is ahead ---------------------------------------------

    def _ready(self, progress: Progress) -> Generator[Ready, None, None]:
        read, skipped, first = progress.read, progress.skipped, progress.rows
        for piece in pieces(self._reader, progress.at, lambda: self._size):
            rows, letters = self._processed(piece, read, skipped, first)
            read += piece.rows.num_rows + len(piece.dead)
            skipped += len(letters)
            first += piece.rows.num_rows
            rows = last_rows(rows, self._key)
            if self._differences is not None:
                rows = self._differences.take(rows)
                piece = replace(piece, position={**piece.position, "load": self._differences.noted()})
            yield Ready(piece, rows, letters)

    def _processed(
        self, piece: Piece, read: int, skipped: int, first: int
    ) -> tuple[pa.Table, tuple[DeadLetter, ...]]:
        """Return what becomes of a piece, and of which rows nothing can; `first` is the number of its first row."""
        read += piece.rows.num_rows + len(piece.dead)
        letters = list(piece.dead)
        if letters:
            letter = letters[0]
            self._check_skipped(
                InputError(letter.reason, where=letter.origin),
                len(letters) + skipped,
                read,
            )
        try:
            return self._processing.apply(piece.rows), tuple(letters)
        except Exception as error:
            if not self._terms.skip.is_for(error):
                raise
        done = []
        for table, bad in self._halved(piece.rows, 0):
            if bad is None:
                done.append(table)
                continue
            number, why = bad
            letters.append(self._letter(table, f"row {first + number + 1}", why))
            self._check_skipped(why, len(letters) + skipped, read)
        empty = self._processing.schema.to_arrow().empty_table()
        return pa.concat_tables([empty, *done]), tuple(letters)

    def _halved(self, rows: pa.Table, first: int) -> Iterator[tuple[pa.Table, tuple[int, Exception] | None]]:
        """Yield what becomes of rows, in order, and each row that fails alone, with its number."""
        try:
            yield self._processing.apply(rows), None
        except Exception as error:
            if not self._terms.skip.is_for(error):
                raise
            if rows.num_rows <= 1:
                yield rows, (first, error)
                return
            middle = rows.num_rows // 2
            yield from self._halved(rows.slice(0, middle), first)
            yield from self._halved(rows.slice(middle), first + middle)

    def _letter(self, row: pa.Table, place: str, error: BaseException) -> DeadLetter:
        # The place is the same however the rows are cut into chunks: by it a letter that comes again is known.
        found = getattr(error, "found", None)
        what = error.what if isinstance(error, BourneError) else f"{type(error).__name__}: {error}"
        reason = what if found is None else f"{what} (found: {found})"
        data = "".join(json_rows(row)).encode()
        return DeadLetter(f"{self._terms.name}, {place}", reason, data)

    def _check_skipped(
        self,
        error: BaseException,
        skipped: int,
        read: int,
        *,
        is_for: bool | None = None,
        is_all: bool = False,
    ) -> None:
        """Refuse more skipped rows than were declared, or others; `is_for`: whether they are of those is known already."""
        skip = self._terms.skip
        is_for = skip.is_for(error) if is_for is None else is_for
        if is_for and skip.allows(skipped, read, is_all=is_all):
            return
        what = error.what if isinstance(error, BourneError) else str(error)
        raise SourceFailed(
            "rows cannot be processed" if not is_for else "too many rows cannot be processed",
            where=getattr(error, "where", None) or self._terms.name,
            expected="every row to fit" if not is_for else f"at most {skip} skipped",
            found=what if not is_for else f"{skipped:,}; the last one: {what}",
            hint="mend the input or the step; or let such rows be left out: skip=skip(100)",
        ) from error  # fmt: skip

    # --- writing -----------------------------------------------------------------------------------------

    def _write(self, progress: Progress, chunk: Ready) -> Progress:
        """Write a chunk; what the other side refuses may be left out."""
        change, letters = Change(chunk.rows, chunk.piece.gone), chunk.letters
        read = chunk.piece.rows.num_rows + len(chunk.piece.dead)
        if letters:  # what was refused of the chunk before was not known yet when this one was processed
            last = letters[-1]
            self._check_skipped(
                InputError(last.reason, where=last.origin), progress.skipped + len(letters), progress.read + read, is_for=True
            )  # fmt: skip
        try:
            self._put_letters(letters)
            return self._put(change, self._after(progress, chunk, read, change, letters))
        except Rejected as error:
            if not self._terms.skip.is_for(error):
                raise
            skip, terms, before = self._terms.skip, self._terms, progress.skipped + len(letters)
            kept, gone = split_rejected(
                self._target.sink, change, error, allows=lambda _, dead: skip.allows(before + dead, progress.read + read),
                name=terms.name, where=terms.name,
            )  # fmt: skip
            good = part_of(change, kept)
            refused = tuple(
                self._letter(
                    change.rows.slice(number, 1), f"row {progress.made + number + 1} of what was made", error
                )
                for number in gone
            )
            self._check_skipped(error, before + len(refused), progress.read + read)
            self._put_letters(refused)
            letters += refused
            return self._put(good, self._after(progress, chunk, read, good, letters))

    def _after(
        self, progress: Progress, chunk: Ready, read: int, change: Change, letters: tuple[DeadLetter, ...]
    ) -> Progress:
        return progress.after(
            chunk.piece.position,
            run=self._terms.run,
            read=read,
            written=change.rows.num_rows,
            skipped=len(letters),
            rows=chunk.piece.rows.num_rows,
            made=chunk.rows.num_rows,
        )

    def _put(self, change: Change, progress: Progress) -> Progress:
        position = progress.to_json()
        self._target.sink.write(change, position, self._held)
        self._held = position
        return progress

    # --- time --------------------------------------------------------------------------------------------

    def _throttle(self, rows: int, began: float) -> None:
        if self._terms.rows_per_s is not None:
            self._stop.wait(max(0.0, rows / self._terms.rows_per_s - (time.monotonic() - began)))

    def _check_time(self) -> None:
        if self._terms.deadline is not None and time.monotonic() > self._terms.deadline:
            raise TooLong("the step takes longer than it may", where=self._terms.name,
                          hint="declare a longer timeout, or go on: bourne jobs restart")  # fmt: skip

    def _note_failure(self, error: BaseException) -> None:
        now, terms = time.monotonic(), self._terms
        start = read_progress(self._held, of=terms.of, run=terms.run, goes_on=terms.goes_on)
        text = error.what if isinstance(error, BourneError) else f"{type(error).__name__}: {error}"
        self._note(Done(start, start, self._attempt, now, now, None, text))


def _place(progress: Progress) -> Any:
    return None if progress.at is None else progress.at["at"]


def _is_past(until: float | None) -> bool:
    return until is not None and time.monotonic() > until
