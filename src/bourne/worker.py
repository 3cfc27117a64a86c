"""A thread that works with another side: which may be away, and is then tried again, ever less often.

Law: a worker that fails stands still, says why, and stops nobody else. One whose other side is away waits; where the work is
to come to an end, for so long at most.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic

from bourne.connect.states import State, StateFile
from bourne.errors import BourneError, Unreachable
from bourne.limits import RETRY_S_MAX, RETRY_S_MIN, RETRY_UNTIL_CAUGHT_UP_S
from bourne.log.wake import WakingEvent


class Worker(ABC, Generic[State]):
    """One source or sink at work, from `start` to `stop`. `failure` says why it stands still, or waits."""

    retried: tuple[type[BourneError], ...] = (Unreachable,)
    """What is tried again."""

    def __init__(
        self, what: str, state: State, state_file: StateFile[State], *, is_patient: bool,
        on_state: Callable[[State], None] | None,
    ) -> None:  # fmt: skip
        """`what` it is, with its name. `is_patient`: the other side is waited for without end. `on_state` is told when the
        state changes."""
        self.failure: BourneError | None = None
        self._what = what
        self._state: State = state
        self._state_file: StateFile[State] = state_file
        self._is_patient = is_patient
        self._on_state: Callable[[State], None] | None = on_state
        self._stopping = WakingEvent()
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    # --- what each is to say ----------------------------------------------------------------------------

    @abstractmethod
    def _work(self) -> None:
        """Work until there is nothing more to do, ever, or `_stopping` is set."""

    @abstractmethod
    def _progress(self) -> object:
        """Return something that is another one whenever the work got on."""

    @abstractmethod
    def _now(self, state: str, error: BourneError | None) -> State:
        """Return how it is now."""

    @abstractmethod
    def _failed(self, found: str) -> BourneError:
        """Return the error of something unforeseen."""

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Keep out whoever would do the same."""
        return contextlib.nullcontext()

    # --- its thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with self._alone():
                self._work_again_and_again()
        except BourneError as error:
            self.failure = error
            self._show("failed", error)
        except Exception as error:  # noqa: BLE001  (a thread's failure is raised by the run)
            self.failure = self._failed(f"{type(error).__name__}: {error}")
            self.failure.__cause__ = error
            self._show("failed", self.failure)

    def _work_again_and_again(self) -> None:
        delay, waits_since = RETRY_S_MIN, None
        while not self._stopping.is_set():
            before = self._progress()
            try:
                self._work()
                break
            except self.retried as error:
                now = time.monotonic()
                if self._progress() != before:
                    delay, waits_since = RETRY_S_MIN, None
                waits_since = waits_since or now
                is_over = not self._is_patient and now - waits_since >= RETRY_UNTIL_CAUGHT_UP_S
                if is_over and not self._stopping.is_set():
                    raise
                self.failure = error
                self._show("waiting", error)
            # Spread a little, so that not everybody who was cut off comes back at the same moment.
            self._stopping.wait(delay * random.uniform(0.8, 1.2))
            delay = min(2 * delay, RETRY_S_MAX)
        self._show("stopped" if self._stopping.is_set() else "ended")

    def _show(self, state: str, error: BourneError | None = None) -> None:
        """Say how it is, for `bourne status`."""
        before, self._state = self._state.state, self._now(state, error)
        self._state_file.write(self._state)
        if self._on_state is not None and state != before:
            self._on_state(self._state)

    def _runs(self) -> None:
        """Say that it is at work: at once if it was not, else when it is time again."""
        self.failure = None
        if self._state.state != "running" or self._state_file.is_due():
            self._show("running")

    # --- from outside ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def has_failed(self) -> bool:
        """Say whether it stands still."""
        return self._state.state == "failed"

    @property
    def is_alive(self) -> bool:
        """Say whether it has not come to its end."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Let it end with what it has in hand. Does not wait."""
        self._stopping.set()

    def join(self, deadline: float) -> None:
        """Wait until it has ended, but no longer (`time.monotonic()`), if the other side holds it up."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
