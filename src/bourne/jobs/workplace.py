"""What a chunk step needs of its run, whoever works on its parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from bourne.batch.steps import Chunk
from bourne.errors import SourceFailed
from bourne.jobs.history import History
from bourne.jobs.host import Host
from bourne.jobs.lease import Lease
from bourne.jobs.telling import Telling


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a chunk step needs of its run. `open_host` opens the data folder in another process."""

    instance: str
    lease: Lease
    host: Host
    history: History
    stop: threading.Event
    random: Random
    say: Callable[[str], None]
    open_host: Callable[[Path], Any]


def check_skipped(step: Chunk, telling: Telling, *, is_all: bool = False) -> None:
    """Refuse more skipped rows than were declared, over all parts: each alone knows only of its own."""
    skipped, read = telling.skipped
    if skipped and not step.skip.allows(skipped, read, is_all=is_all):
        raise SourceFailed("too many rows cannot be processed", where=f"step {step.name!r}", expected=f"at most {step.skip} skipped",
                           found=f"{skipped:,} over all parts", hint="mend the input or the step; what was skipped is in the log dead_letters")  # fmt: skip
