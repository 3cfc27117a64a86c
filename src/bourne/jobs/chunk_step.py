"""A chunk step from its declaration to its work: reader, processors and target of one part, opened, worked on, and closed.

All that is needed for that is in a `Part`, which can be sent to another process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

import pyarrow as pa

from bourne.batch.inputs import Query
from bourne.batch.steps import Chunk
from bourne.connect.dead_letters import DeadLetters
from bourne.connect.sink import Shape
from bourne.connect.source import DeadLetter
from bourne.errors import DefinitionError
from bourne.jobs.chunk_work import ChunkWork, Done, Terms
from bourne.jobs.differences import Differences
from bourne.jobs.duckdb_query import check_apart
from bourne.jobs.history import History
from bourne.jobs.host import Host
from bourne.jobs.inputs import open_reader
from bourne.jobs.parts import Narrowed, open_part, part_target
from bourne.jobs.processing import Processing
from bourne.jobs.progress import Progress
from bourne.jobs.reader import Reader
from bourne.jobs.targets import FileReplaced, Target, open_target
from bourne.schema import Schema
from bourne.udf import Udf


@dataclass(frozen=True, slots=True)
class Part:
    """A chunk step, what of it is read, and the terms of its work."""

    step: Chunk
    terms: Terms
    narrowed: Narrowed


class PartWork:
    """A part, opened. Use it as a context manager. For one thread."""

    def __init__(
        self, part: Part, host: Host, history: Callable[[], History], *, stop: threading.Event, note: Callable[[Done], None],
        random: Random, log: str, functions: Iterable[Udf],
    ) -> None:  # fmt: skip
        """Open what it reads and writes; `log` is what dead letters are noted under.

        Raises: what `open_reader`, `Processing` and `open_target` do.
        """
        step, where = part_target(part.step, part.narrowed), f"step {part.step.name!r}"
        self._opened = ExitStack()
        if isinstance(step.read, Query) and isinstance(step.write, str):
            check_apart(step.read.url, step.write, where=where)
        with ExitStack() as opening:
            self.reader: Reader = open_part(step, part.narrowed, host, where)
            opening.callback(self.reader.close)
            lookups = {name: _rows(path, host, where) for name, path in step.lookups}
            processing = Processing(
                step.process, self.reader.schema, functions=functions, lookups=lookups, result=step.result, clock=host.clock,
                where=where,
            )  # fmt: skip
            opening.callback(processing.close)
            shape = Shape(
                part.terms.name, processing.schema, _key(step, processing.schema, where), is_shared=True
            )
            # What is added to goes on to be there, also where the rest would replace it.
            mode = "append" if step.goes_on else step.mode
            self.target: Target = open_target(step.write, shape, mode=mode, host=host, history=history)
            opening.callback(self.target.close)
            letters = DeadLetters(
                lambda name, rows: host.log(name).append(rows),
                host.clock,
                origin=part.terms.name,
                log=log,
                share_max=1.0,
            )

            def put(found: tuple[DeadLetter, ...]) -> None:
                letters.put([DeadLetter(each.origin, each.reason, each.data) for each in found])

            differences = None
            if step.changed:
                terms = part.terms
                differences = Differences(
                    host.folder,
                    host.files,
                    shape.schema,
                    shape.key,
                    name=terms.name,
                    run=terms.run,
                    of=terms.of,
                )
                opening.callback(differences.close)
            self._work = ChunkWork(
                part.terms,
                self.reader,
                processing,
                self.target,
                put_letters=put,
                stop=stop,
                note=note,
                random=random,
                key=shape.key,
                differences=differences,
            )
            self._opened = opening.pop_all()

    def work(self, *, until: float | None = None) -> Progress:
        """As `ChunkWork.work`."""
        return self._work.work(until=until)

    def forget(self) -> None:
        """Take away what was kept to go on after a crash: that it is done is noted."""
        if isinstance(self.target, FileReplaced):
            self.target.forget()

    def __enter__(self) -> PartWork:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def _key(step: Chunk, schema: Schema, where: str) -> tuple[str, ...]:
    found = []
    for name in step.key:
        column = schema.column(name)
        if column is None:
            raise DefinitionError(f"the key {name!r} is no column of what is written", where=where,
                                  expected=", ".join(schema.names), found=name)  # fmt: skip
        found.append(column.name)
    return tuple(found)


def _rows(path: str, host: Host, where: str) -> pa.Table:
    """Return all rows of a lookup."""
    reader = open_reader(path, None, host=host, where=f"{where}, lookup {path}")
    parts = []
    for taken in reader.read(None):
        if taken.dead:
            raise DefinitionError("a lookup has rows that do not fit its columns", where=taken.dead[0].origin,
                                  found=taken.dead[0].reason, hint="mend the file")  # fmt: skip
        if taken.rows is not None:
            parts.append(taken.rows)
    return pa.concat_tables([reader.schema.to_arrow().empty_table(), *parts])
