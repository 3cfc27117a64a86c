"""What a chunk step tells the history of its parts."""

from __future__ import annotations

import time
from pathlib import Path

from bourne.jobs.chunk_work import Done
from bourne.jobs.history import History, StepRun
from bourne.jobs.progress import Progress
from bourne.jobs.telling import Telling

SECOND = 1_000_000


def test_a_part_begins_with_its_first_chunk(tmp_path: Path) -> None:
    history = History(tmp_path)
    now_us = 5 * SECOND
    step = StepRun(1, "copy", "", "chunk", "STARTED", 1 * SECOND)
    telling = Telling(history, step, ["a", "b"], lambda: now_us, lambda _: None)

    def chunk(before: Progress, ended_s: float) -> Progress:
        after = before.after({"at": 1, "skip": 0}, run=1, read=10, written=10, skipped=0, rows=10, made=10)
        telling.of("a")(Done(before, after, 1, ended_s - 0.5, ended_s, 0.5))
        return after

    ended_s = time.monotonic()
    progress = chunk(Progress(1, "copy"), ended_s)
    now_us = 9 * SECOND
    chunk(progress, ended_s + 4)
    telling.flush()
    parts = {each.part: each for each in history.steps(1)}
    assert (parts["b"].status, parts["b"].started_us) == ("WAITING", 1 * SECOND)
    assert parts["a"].status == "STARTED" and parts["a"].chunks == 2
    assert (
        abs(parts["a"].started_us - 4.5 * SECOND) < SECOND / 2
    )  # not the step's, and not the second chunk's
    assert parts[""].started_us == 1 * SECOND
    history.close()
