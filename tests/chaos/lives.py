"""The lives of an app that is killed while another process's records come."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bourne
from chaos.test_kill import RUN, kill_after, start, wait_until_it_runs

# Appends some records, of which the first has this id; returns the id after the last one.
Append = Callable[[bourne.Instance, random.Random, int], int]


class Feeding(threading.Thread):
    """Appends until it is told to stop."""

    def __init__(self, data: Path, append: Append, dice: random.Random, first: int) -> None:
        super().__init__()
        self.data, self.append, self.dice, self.next_id = data, append, dice, first
        self.is_over = threading.Event()
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            with bourne.open(data=self.data) as it:
                while not self.is_over.wait(self.dice.uniform(0.01, 0.06)):
                    self.next_id = self.append(it, self.dice, self.next_id)
        except Exception as error:  # noqa: BLE001  (raised by who waits for it)
            self.failure = error


@contextmanager
def feeding(data: Path, append: Append, dice: random.Random, first: int) -> Iterator[Feeding]:
    """Append in the background; afterwards `next_id` is the id after the last one."""
    it = Feeding(data, append, dice, first)
    it.start()
    try:
        yield it
    finally:
        it.is_over.set()
        it.join()
    assert it.failure is None, it.failure


def live(app: Path, data: Path, dice: random.Random) -> None:
    """Run the app, with epochs of some dozen records, and kill it at some moment of its life; once or twice."""
    for _ in range(dice.choice([1, 2])):
        seconds, at_once = dice.uniform(0.1, 2.0), dice.random() < 0.1
        process = start(["env", "BOURNE_SMALL_EPOCHS=1", *RUN[:-2], str(app), "--data", str(data)])
        if not at_once:
            wait_until_it_runs(process)
        kill_after(process, seconds)
