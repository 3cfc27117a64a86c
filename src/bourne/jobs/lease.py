"""The lease of a job's instance: one run of it at a time, and who died is seen to be dead.

Law: of two runs of one instance, the later one has the higher fencing number, and targets refuse a
write with a lower one than they hold. So it does no harm if somebody who was taken for dead goes on.

A run holds a file lock, which the system gives back however its process ends, and gives a sign of life every other second.
Dead is whose lock is free, or who has not given one for `LEASE_S`.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bourne.batch.job import Job
from bourne.batch.parameters import Parameters
from bourne.errors import BourneError, JobCompleted, JobRunning
from bourne.jobs.history import History, Run
from bourne.limits import HEARTBEAT_S, LEASE_S
from bourne.log.at_work import is_taken, take
from bourne.log.disk import disk_errors
from bourne.ports import Clock

# The last bits of a fencing number are the run's number: a million, and few enough for 53 bits, which every JSON has.
RUN_BITS = 20

DIED = "its process ended without a word"
SILENT = f"no sign of life for {LEASE_S:.0f} seconds"


class Lease:
    """The right to run an instance, from `taken` to `give_back`."""

    def __init__(self, history: History, clock: Clock, run: Run, descriptor: int, path: Path) -> None:
        self.run = run
        self.is_lost = False
        self._history = history
        self._clock = clock
        self._descriptor: int | None = descriptor
        self._path = path
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def fence(self) -> int:
        """The fencing number: of a later history it is higher than all of an earlier one that was deleted."""
        return (self._history.born_s << RUN_BITS) + self.run.id

    def keep(self, stop: Callable[[], Any]) -> None:
        """Give signs of life from now on. `stop` is called when the run is asked to stop, or has lost its lease."""

        def beat() -> None:
            while not self._is_over.wait(HEARTBEAT_S):
                try:
                    holds, is_asked = self._history.beat(self.run.id, self._clock.now_us())
                except BourneError:  # the disk is full, say: the next one may come through
                    continue
                self.is_lost = self.is_lost or not holds
                if is_asked or self.is_lost:
                    stop()

        self._thread = threading.Thread(target=beat, name=f"bourne-run-{self.run.id}", daemon=True)
        self._thread.start()

    def give_back(self) -> None:
        """Let the instance go. Safe to call twice."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()
        if self._descriptor is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None


def taken(
    history: History, clock: Clock, job: Job, parameters: Parameters, *, trigger: str, again: bool, version: str,
    parent: int | None = None, key: str | None = None,
) -> Lease:  # fmt: skip
    """Begin a run of an instance of a job. A run of it that died is noted as failed.

    Args:
        again: all of it is to be done once more, though it has completed.
        key: what a schedule calls it; the run is from the beginning then, whatever became of earlier ones.

    Raises:
        JobRunning: it is running.
        JobCompleted: it has completed, and is not to be done again.
        StorageError: the history cannot be written.
    """
    see_the_dead(history, clock)
    instance, now = parameters.text, clock.now_us()
    where = f"job {job.name!r}, {instance}"
    with history.transaction() as connection:
        last = next(iter(history.runs(job=job.name, instance=instance, most=1)), None)
        if last is not None and last.status == "STARTED":
            raise JobRunning(f"this instance of job {job.name!r} is running", run=last.id, where=where,
                             found=f"run {last.id} of process {last.pid} on {last.host}")  # fmt: skip
        if last is not None and last.status == "COMPLETED" and not again and key is None:
            raise JobCompleted(f"this instance of job {job.name!r} has completed", run=last.id, where=where)
        is_anew = key is not None or (again and last is not None and last.status == "COMPLETED")
        generation = 1 if last is None else last.generation + is_anew
        draft = Run(
            0, job.name, instance, generation, parameters.plain, "STARTED", trigger, parent, now, None, now, os.getpid(),
            socket.gethostname(), job.code, version, key=key,
        )  # fmt: skip
        number = history.insert_run(connection, draft)
        path = _lock_path(history, number)
        with disk_errors(path, f"cannot run job {job.name!r}"):
            path.parent.mkdir(exist_ok=True)
            descriptor = take(path)
        assert descriptor is not None  # nobody else has this number
    run = history.run(number)
    assert run is not None
    return Lease(history, clock, run, descriptor, path)


def see_the_dead(history: History, clock: Clock) -> list[Run]:
    """Note runs whose process died as failed; return them."""
    dead = []
    for run in history.runs(status="STARTED", most=1 << 20):
        why = _is_dead(history, run, clock.now_us())
        if why is not None:
            history.end_run(run.id, "FAILED", clock.now_us(), why, died=True)
            for step in history.steps(run.id):
                if step.ended_us is None:
                    history.put_step(replace(step, status="FAILED", ended_us=run.heartbeat_us, error=why))
            dead.append(run)
    return dead


def _is_dead(history: History, run: Run, now_us: int) -> str | None:
    if run.host == socket.gethostname() and not is_taken(_lock_path(history, run.id)):
        return DIED
    return SILENT if now_us - run.heartbeat_us > LEASE_S * 1e6 else None


def _lock_path(history: History, run: int) -> Path:
    return history.folder / "locks" / f"run-{run}.lock"
