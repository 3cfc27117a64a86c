"""Dead letters that are open: looked at, tried again, or given up.

Law: a letter that is tried again goes into its log once, however often that is repeated or interrupted: its id is the
append's request id. What became of it is noted after that, and it is not open any more. A row that a sink refused goes to
that sink once more; its position says so in the same write.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from bourne.connect.csv_files import read_csv
from bourne.connect.dead_letters import DEAD_LETTERS, DEAD_LETTERS_DONE, outcomes
from bourne.connect.fitting import Place
from bourne.connect.json_lines import read_jsonl
from bourne.connect.parquet_files import fit_rows
from bourne.connect.row_texts import json_rows
from bourne.connect.source import ROW
from bourne.errors import BourneError, InputError, UnknownName
from bourne.log.catalog import LogInfo
from bourne.log.embedded import EmbeddedLog
from bourne.ports import Clock

# Delivers rows, by the id of their letter, to the sink of that name; returns why it still refuses some, None if it does not.
Deliver = Callable[[str, Mapping[str, bytes]], Mapping[str, str | None]]

_NOT_AGAIN: Final = "it cannot be read again from its bytes"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter; `outcome` is None as long as it is open."""

    id: str
    at: Any
    origin: str
    place: str
    log: str
    reason: str
    format: str
    data: bytes
    outcome: str | None

    def text(self) -> str:
        """Return its bytes as text: what is not UTF-8 as `\\xff`, an Arrow stream as JSON lines."""
        if self.format not in (ROW, "arrow") or self.data.startswith(b"{"):
            return self.data.decode("utf-8", "backslashreplace")
        with pa.ipc.open_stream(self.data) as reader:
            return "\n".join(json_rows(reader.read_all()))


class Letters:
    """The dead letters of a data folder."""

    def __init__(self, log: Callable[[str], EmbeddedLog], clock: Clock, deliver: Deliver) -> None:
        self._log = log
        self._clock = clock
        self._deliver = deliver

    def all(self) -> list[Letter]:
        """Return all letters, the oldest first; none where nothing could write any."""
        try:
            letters, done = self._rows(DEAD_LETTERS), self._rows(DEAD_LETTERS_DONE)
        except UnknownName:
            return []
        outcomes = {row["id"]: row["outcome"] for row in done}
        return [Letter(**row, outcome=outcomes.get(row["id"])) for row in letters]

    def _rows(self, log: str) -> list[dict[str, Any]]:
        with self._log(log).batches() as batches:
            return [row for batch in batches for row in batch.records.to_pylist()]

    def chosen(self, ids: Sequence[str]) -> list[Letter]:
        """Return the open letters of these ids, or beginnings of ids; without any, all that are open.

        Raises:
            UnknownName: there is none, or none that is open, or several begin so.
        """
        letters = self.all()
        if not ids:
            return [letter for letter in letters if letter.outcome is None]
        found = []
        for wanted in ids:
            matching = [letter for letter in letters if letter.id.startswith(wanted)]
            if len(matching) != 1 or matching[0].outcome is not None:
                what = "no dead letter" if not matching else "more than one dead letter"
                if len(matching) == 1:
                    what = f"the dead letter is not open any more ({matching[0].outcome}):"
                raise UnknownName(
                    f"{what} {wanted!r}", expected="an id, or its beginning, as `bourne dead-letters list` shows it",
                    found=wanted,
                )  # fmt: skip
            found.append(matching[0])
        return found

    def retry(self, letters: Iterable[Letter]) -> list[tuple[Letter, str | None]]:
        """Take letters in again, or deliver them; return each with why it still does not fit, None if it does.

        Rows that a sink refused need the app that declares it, and that it is not at work. By key, what is delivered is the
        row that the key has now, if it has one: not what it had when it was refused.

        Raises:
            StorageError, LogLocked: as appending.
        """
        letters = list(letters)
        refused: dict[str, dict[str, bytes]] = {}
        for letter in letters:
            if letter.format == ROW:
                refused.setdefault(letter.origin, {})[letter.id] = letter.data
        delivered: dict[str, str | None] = {}
        for sink, rows in refused.items():
            try:
                delivered |= self._deliver(sink, rows)
            except BourneError as error:
                delivered |= dict.fromkeys(rows, _why(error))
        return [
            (letter, delivered[letter.id] if letter.format == ROW else self._take_in(letter))
            for letter in letters
        ]

    def _take_in(self, letter: Letter) -> str | None:
        try:
            log = self._log(letter.log)
            log.append(_read(letter, log.info), request_id=f"dead letter {letter.id}")
        except (InputError, UnknownName) as error:
            return _why(error)
        self._note(letter, "retried")
        return None

    def discard(self, letters: Iterable[Letter]) -> None:
        """Give letters up: they stay in the log, but are not open any more."""
        for letter in letters:
            self._note(letter, "discarded")

    def _note(self, letter: Letter, outcome: str) -> None:
        self._log(DEAD_LETTERS_DONE).append(outcomes([letter.id], outcome, self._clock.now_us()))


def _why(error: BourneError) -> str:
    return error.what if error.found is None else f"{error.what}: {error.found}"


def _read(letter: Letter, info: LogInfo) -> pa.Table:
    """Return what a letter says as records.

    Raises:
        InputError: it still does not fit.
    """
    stream = io.BytesIO(letter.data)
    kind, _, columns = letter.format.partition(":")
    if kind == "jsonl":
        batches = list(read_jsonl(stream, info.schema, info.name, "the letter"))
    elif kind == "csv":
        start = Place("line", 1, 0, tuple(columns.split(",")))
        batches = list(read_csv(stream, info.schema, info.name, "the letter", start=start))
    elif kind == "arrow":
        with pa.ipc.open_stream(stream) as reader:
            batches = [
                fit_rows(batch, 0, info.schema, info.name, "the letter", leaves_out=False) for batch in reader
            ]
    else:
        raise InputError(_NOT_AGAIN, hint="append what it should be by hand, and discard it")
    if not batches:
        raise InputError("it is empty", hint="discard it")
    schema = info.schema.to_arrow()
    return pa.concat_tables([pa.Table.from_arrays(batch.table.columns, schema=schema) for batch in batches])
