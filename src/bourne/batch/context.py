"""What a task gets to know of the run that it is a step of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Context:
    """The run of a task: where it is, and how it says something.

    `key` is a text that stays the same when the task is run again after a crash, and is another one for each instance: what
    an outside service takes as an idempotency key. `stopping` is set when the run is asked to stop. `app` is the app, opened: an `Instance`.
    """

    job: str
    step: str
    run: int
    attempt: int
    key: str
    parameters: Mapping[str, Any]
    app: Any
    stopping: threading.Event
    say: Callable[[str], None]
