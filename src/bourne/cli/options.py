"""What several commands share: the data folder, and ending when asked to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from bourne.log.wake import WakingEvent

Data = Annotated[
    Path,
    typer.Option("--data", envvar="BOURNE_DATA", metavar="DIR", help="The data folder.", show_default=True),
]

DATA = Path("data")


@dataclass(slots=True)
class Stop:
    """Set when the process was asked to end, and by which signal. Who waits for appends with its event wakes at once."""

    event: WakingEvent = field(default_factory=WakingEvent)
    signal_number: int | None = None


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a `Stop`; a second one ends the process as usual."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal_number = number
        stop.event.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_reader() -> None:
    """End silently when the reader of the output goes away, as Unix programs do (`bourne tail LOG | head`)."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
