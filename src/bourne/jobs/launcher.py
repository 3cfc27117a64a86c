"""What the scheduler asks of whoever runs jobs.

Law: `start` is idempotent by its key, for ever, and `restart` by the run that is at work: so the scheduler may be killed
between asking for a run and noting its number, and ask again. That is all that exactly one run per fire takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

RunState = Literal["running", "completed", "failed", "stopped", "lost"]


class RunEnd(NamedTuple):
    """A run's end. `number` counts the ends of a job's runs in the order in which they were made durable.

    It is not the run's number: runs end in another order than they begin, and one that failed and was restarted ends twice.
    Who remembers the largest run would miss those.
    """

    number: int
    run: int
    status: str


class Launcher(Protocol):
    """Runs of jobs. None of its methods waits for a run.

    A run's key is durable before the run does anything: `begun` is believed.
    """

    def start(self, job: str, params: Mapping[str, Any], *, key: str) -> int:
        """Begin a run and return its number; if there is one of that key already, return its number and begin none.

        A run of that key whose process has died may be begun again by this, or be left for `restart`.

        Raises:
            InputError, DefinitionError, UnknownName: no such run can be: it is not asked for again.
            BourneError: it cannot be just now.
        """
        ...

    def begun(self, key: str) -> int | None:
        """Return the number of the run of a key, however it is; None if there is none."""
        ...

    def state(self, run: int) -> RunState:
        """Return how a run is, however often it was restarted. "lost": its process died, and it could go on."""
        ...

    def stop(self, run: int) -> None:
        """Ask a run to pause at its next chunk boundary; it is "stopped" then. Nothing if it does not run, or was asked."""
        ...

    def restart(self, run: int) -> int:
        """Go on with a run after its last committed chunk, and return its number. Nothing if it runs already."""
        ...

    def finished(self, job: str, after: int) -> Iterable[RunEnd]:
        """Return the ends of a job's runs whose number is above `after`, in their order."""
        ...
