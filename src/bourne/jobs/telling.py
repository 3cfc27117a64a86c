"""Tells the history what a chunk step and its parts do. Chunks that follow quickly are told together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bourne.jobs.chunk_work import Done
from bourne.jobs.history import ChunkRun, History, StepRun
from bourne.jobs.progress import Progress

# How long a chunk may wait to be told, in seconds: a dashboard looks about as often.
_TELL_S: Final = 0.5


class Telling:
    """What is known of one step of a run. For all threads."""

    def __init__(
        self,
        history: History,
        note: StepRun,
        parts: list[str],
        now_us: Callable[[], int],
        say: Callable[[str], None],
    ) -> None:
        """`note` is the step as a whole, `parts` are its parts' labels: one empty one, if it has none."""
        self._history = history
        self._now_us = now_us
        self._say = say
        self._mutex = threading.Lock()
        self._whole = note
        self._parts = {
            label: replace(note, part=label, status="WAITING" if label else note.status) for label in parts
        }
        self._waiting: list[ChunkRun] = []
        self._changed: set[str] = set(parts) - {""}
        self._told_s = 0.0

    def of(self, label: str) -> Callable[[Done], None]:
        """Return what is called with each chunk of a part."""
        return lambda done: self._note(label, done)

    def _note(self, label: str, done: Done) -> None:
        with self._mutex:
            now_us, note = self._now_us(), self._parts[label]
            before, after = done.before, done.after
            number = after.chunks + (done.error is not None)
            ended = now_us - int((time.monotonic() - done.ended_s) * 1e6)
            self._waiting.append(ChunkRun(
                note.run, note.step, label, number, done.attempt, ended - int((done.ended_s - done.started_s) * 1e6), ended,
                after.read - before.read, max(0, after.filtered - before.filtered), after.written - before.written,
                after.skipped - before.skipped, after.at, done.error,
            ))  # fmt: skip
            if done.error is not None:
                self._say(
                    f"{f'part {label}, ' if label else ''}chunk {number}, attempt {done.attempt} failed: {done.error}"
                )
            if note.status == "WAITING":  # a part begins with its first chunk, not with the step
                note = replace(
                    note, started_us=max(note.started_us, ended - int((done.ended_s - done.started_s) * 1e6))
                )
            if note.position_out is None and note.position_in is None:
                note = replace(note, position_in=before.at)
            self._put(label, replace(_counted(note, after), share=done.share, status="STARTED"))
            if done.error is not None or after.chunks == 1 or time.monotonic() - self._told_s >= _TELL_S:
                self._tell()

    def reached(self, label: str, progress: Progress, *, worker: str = "") -> None:
        """Take note of how far a part has come, for now or for good."""
        with self._mutex:
            note = _counted(self._parts[label], progress)
            if progress.done:
                note = replace(note, share=1.0, status="COMPLETED", ended_us=self._now_us())
            self._put(label, note)

    @property
    def skipped(self) -> tuple[int, int]:
        """How many rows all parts have skipped, of how many that they have read."""
        with self._mutex:
            parts = self._parts.values()
            return sum(each.skipped for each in parts), sum(each.read for each in parts)

    def flush(self) -> None:
        """Tell all that waits to be told."""
        with self._mutex:
            self._tell()

    def _put(self, label: str, note: StepRun) -> None:
        self._parts[label] = note
        self._changed.add(label)

    def _tell(self) -> None:
        notes = [self._parts[label] for label in sorted(self._changed - {""})]
        self._history.put_chunks([self._sum(), *notes], self._waiting)
        self._waiting, self._changed, self._told_s = [], set(), time.monotonic()

    def _sum(self) -> StepRun:
        """Return the step as a whole."""
        parts = list(self._parts.values())
        only = parts[0] if len(parts) == 1 else self._whole
        share = (
            sum(each.share or 0.0 for each in parts) / len(parts)
            if parts and any(each.share is not None for each in parts)
            else None
        )
        return replace(
            self._whole, chunks=sum(each.chunks for each in parts), read=sum(each.read for each in parts),
            filtered=sum(each.filtered for each in parts), written=sum(each.written for each in parts),
            skipped=sum(each.skipped for each in parts), share=share, position_in=only.position_in, position_out=only.position_out,
        )  # fmt: skip


def _counted(note: StepRun, progress: Progress) -> StepRun:
    return replace(
        note, chunks=progress.chunks, read=progress.read, filtered=progress.filtered, written=progress.written,
        skipped=progress.skipped, position_out=progress.at,
    )  # fmt: skip
