"""The parts of a chunk step on any `concurrent.futures.Executor`: processes of this machine, or workers of many.

Law: a slice that is lost with its worker, or asked for twice, does no harm (`bourne.jobs.slices`). So whoever does not answer is
not waited for without end: the slice is asked for again. Executors have no common word for a worker that died; some never
say so.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bourne.batch.steps import Chunk
from bourne.errors import BourneError, SourceFailed
from bourne.jobs.chunk_step import Part
from bourne.jobs.chunk_work import Done
from bourne.jobs.progress import Progress
from bourne.jobs.slices import Slice, SliceDone, functions_of, packed, work_slice
from bourne.jobs.telling import Telling
from bourne.jobs.workplace import Workplace, check_skipped
from bourne.limits import LOST_SLICES_MAX, PROCESSES_MAX, SLICE_PATIENCE_S, SLICE_S

_LOST: Final = frozenset({"BrokenExecutor", "KilledWorker", "CancelledError", "CommClosedError"})


@dataclass(slots=True)
class _Asked:
    """A part that is being worked on, or is to be: since when, how long is waited for it, and how often it was lost in a row."""

    part: Part
    since_s: float = 0.0
    patience_s: float = SLICE_PATIENCE_S
    lost: int = 0


def on_executor(parts: list[Part], workers: int, place: Workplace, telling: Telling) -> Iterator[Progress]:
    """Work on the parts in slices; yield how far each came, when it is done.

    Raises: what a slice raises; what tells that its worker was lost, if that happens again and again.
    """
    waiting = [_Asked(part) for part in parts]
    while waiting and not place.stop.is_set():
        executor, is_sound = _executor(parts[0].step, workers), False
        try:
            yield from _until_broken(executor, waiting, workers, place, telling)
            is_sound = True
        finally:
            # Who does not answer is not waited for at the end either.
            executor.shutdown(wait=is_sound)


def _until_broken(
    executor: Executor, waiting: list[_Asked], workers: int, place: Workplace, telling: Telling
) -> Iterator[Progress]:
    """Work with one executor until all is done, or it is broken; what is left to be done is in `waiting` then."""
    working: dict[Future[bytes], _Asked] = {}
    is_broken = False
    while working or (waiting and not is_broken and not place.stop.is_set()):
        while waiting and len(working) < workers and not is_broken and not place.stop.is_set():
            asked = waiting.pop(0)
            asked.since_s = time.monotonic()
            working[executor.submit(work_slice, packed(_slice(asked.part, place)))] = asked
        for future in wait(working, timeout=_LOOK_S, return_when=FIRST_COMPLETED).done:
            asked = working.pop(future)
            try:
                answer: SliceDone = pickle.loads(future.result())
            except BourneError:
                for other in working:
                    other.cancel()
                raise
            except Exception as error:
                if not _is_lost(error):
                    raise
                _ask_again(asked, waiting, place, f"was lost ({type(error).__name__})", error)
                is_broken = is_broken or isinstance(executor, ProcessPoolExecutor)
                continue
            _tell(asked, answer, telling)
            if answer.progress.done:
                yield answer.progress
            else:
                waiting.append(asked)
        now = time.monotonic()
        for future, asked in list(working.items()):
            if now - asked.since_s > asked.patience_s:
                del working[future]
                future.cancel()
                asked.patience_s *= 2
                silence = TimeoutError(f"no answer for {now - asked.since_s:.0f} seconds")
                _ask_again(asked, waiting, place, f"does not answer ({silence})", silence)


# How often is looked whether somebody does not answer, in seconds.
_LOOK_S: Final = 1.0


def _ask_again(asked: _Asked, waiting: list[_Asked], place: Workplace, what: str, error: Exception) -> None:
    asked.lost += 1
    if asked.lost > LOST_SLICES_MAX:
        raise error
    place.say(f"the worker of part {asked.part.narrowed.label!r} {what}: again")
    waiting.append(asked)


def _tell(asked: _Asked, answer: SliceDone, telling: Telling) -> None:
    label = asked.part.narrowed.label
    for done in answer.done:
        telling.of(label)(_here(done, answer))
    telling.reached(label, answer.progress, worker=answer.worker)
    check_skipped(asked.part.step, telling)
    if answer.done:
        asked.lost, asked.patience_s = 0, SLICE_PATIENCE_S


def _slice(part: Part, place: Workplace) -> Slice:
    deadline = part.terms.deadline
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    sent = replace(part, step=replace(part.step, executor="threads"))  # what makes the executor stays here
    return Slice(
        sent, SLICE_S, left, place.host.folder.absolute(), Path.cwd(), place.lease.run.job, functions_of(place.host),
        place.open_host,
    )  # fmt: skip


def _here(done: Done, answer: SliceDone) -> Done:
    """Return what was done in a worker by this process's clock: as if the slice had ended now."""
    shift = time.monotonic() - answer.ended_s
    return replace(done, started_s=done.started_s + shift, ended_s=done.ended_s + shift)


def _is_lost(error: BaseException) -> bool:
    """Say whether a worker died, and not the step failed in it."""
    return bool(_LOST & {each.__name__ for each in type(error).__mro__})


def end_with_parent() -> None:
    """Let this worker end when the process that began it does, however that ends: nobody would ask it for anything any more."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)  # as if it were killed, too: what its slice has committed holds

    threading.Thread(target=watch, name="bourne-worker-watch", daemon=True).start()


def _executor(step: Chunk, workers: int) -> Executor:
    if step.executor == "processes":
        # A forked process would share the threads' locks of this one, in whatever state they are.
        return ProcessPoolExecutor(
            min(workers, PROCESSES_MAX),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=end_with_parent,
        )
    assert callable(step.executor)
    found = step.executor()
    if not isinstance(found, Executor):
        raise SourceFailed("that is no executor", where=f"step {step.name!r}", expected="a concurrent.futures.Executor",
                           found=repr(found), hint="executor=lambda: client.get_executor()")  # fmt: skip
    return found
