"""A part of a chunk step on any `concurrent.futures.Executor`: in slices of some seconds, each a call of its own.

Law: what a slice has committed is in the target; so it does no harm if a slice is lost with its worker, or runs twice, even at
once: the target takes a chunk only after the one before it. What is sent is bytes (cloudpickle), so that functions declared in
an app's file need not be importable where the work is done.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from bourne.errors import DefinitionError
from bourne.jobs.chunk_step import Part, PartWork
from bourne.jobs.chunk_work import Done
from bourne.jobs.history import History
from bourne.jobs.host import Host
from bourne.jobs.progress import Progress
from bourne.ports import Clock, Files, OsFiles, SystemClock

if TYPE_CHECKING:
    from bourne.app import App
    from bourne.log.embedded import EmbeddedLog
    from bourne.result import Result
    from bourne.udf import Udf


@dataclass(frozen=True, slots=True)
class Slice:
    """What a worker is sent: a part, for how long, and where the data folder is, for what needs it."""

    part: Part
    seconds: float
    deadline_s: float | None
    folder: Path
    home: Path
    job: str
    functions: tuple[Udf, ...]
    open_host: Callable[[Path], Any]


@dataclass(frozen=True, slots=True)
class SliceDone:
    """What a worker answers: how far the part is, and what it did, by the worker's own clock, which said `ended_s` at the end."""

    progress: Progress
    done: tuple[Done, ...]
    ended_s: float
    worker: str


def packed(piece: Slice) -> bytes:
    """Return a slice as bytes.

    Raises:
        DefinitionError: a function of the step holds something that cannot be sent.
    """
    import cloudpickle  # noqa: PLC0415  (only needed here)

    try:
        found: bytes = cloudpickle.dumps(piece)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise DefinitionError(
            "the step cannot be sent to another process", where=f"step {piece.part.step.name!r}", found=str(error),
            hint="let its functions make connections and locks themselves, or leave them as executor='threads'",
        ) from error  # fmt: skip
    return found


def work_slice(data: bytes) -> bytes:
    """Work on a part for some seconds, in the worker; return a `SliceDone` as bytes."""
    piece: Slice = pickle.loads(data)
    os.chdir(piece.home) if piece.home.is_dir() else None
    began = time.monotonic()
    done: list[Done] = []
    deadline = None if piece.deadline_s is None else began + piece.deadline_s
    part = replace(piece.part, terms=replace(piece.part.terms, deadline=deadline))
    with ExitStack() as opened:
        host = opened.enter_context(_WorkerHost(piece))
        with PartWork(
            part, host, host.history, stop=threading.Event(), note=done.append, random=Random(), log=piece.job,
            functions=piece.functions,
        ) as work:  # fmt: skip
            progress = work.work(until=began + piece.seconds)
            if progress.done:
                work.forget()
    return pickle.dumps(SliceDone(progress, tuple(done), time.monotonic(), f"process {os.getpid()}"))


class _WorkerHost:
    """The data folder as a worker sees it: opened only if the part needs it, which has to be on the same machine then."""

    app: App | None = None

    def __init__(self, piece: Slice) -> None:
        self.folder = piece.folder
        self.clock: Clock = SystemClock()
        self.files: Files = OsFiles()
        self._piece = piece
        self._opened = ExitStack()
        self._host: Host | None = None
        self._history: History | None = None

    def history(self) -> History:
        """Open the history."""
        if self._history is None:
            self._check()
            self._history = History(self.folder)
            self._opened.callback(self._history.close)
        return self._history

    def _check(self) -> None:
        if not self.folder.is_dir():
            raise DefinitionError(
                "the step needs the data folder, which this worker does not have", where=f"step {self._piece.part.step.name!r}",
                expected=str(self.folder), hint="workers of other machines write to databases or buckets, and skip nothing",
            )  # fmt: skip

    def _real(self) -> Host:
        if self._host is None:
            self._check()
            self._host = self._opened.enter_context(self._piece.open_host(self.folder))
        assert self._host is not None
        return self._host

    def log(self, name: str) -> EmbeddedLog:
        """Return a log."""
        return self._real().log(name)

    def query(
        self,
        sql: str,
        parameters: Any = None,
        *,
        together: bool = False,
        at_least: str = "",
        wait_s: float = 0,
    ) -> Result:
        """Answer a SELECT."""
        return self._real().query(sql, parameters, together=together, at_least=at_least, wait_s=wait_s)

    def position_of(self, name: str) -> str:
        """Return a position."""
        return self._real().position_of(name)

    def standing(self, view: str) -> str | None:
        """Return why a view stands still."""
        return self._real().standing(view)

    def catch_up(self) -> int:
        """Let every view take in what is there."""
        return self._real().catch_up()

    def __enter__(self) -> _WorkerHost:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def functions_of(host: Host) -> tuple[Udf, ...]:
    """Return the app's Python functions."""
    found: Iterable[Udf] = () if host.app is None else host.app.functions.values()
    return tuple(found)
