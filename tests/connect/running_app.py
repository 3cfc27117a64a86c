"""An app at work in a thread, and how its sources and sinks are, as `on_state` tells it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import bourne
from bourne.connect.states import SinkState, SourceState
from waiting import until


class RunningApp:
    """Runs from entering to leaving. `instance` is for appending and asking meanwhile."""

    def __init__(self, app: bourne.App, data: Path) -> None:
        self.instance = bourne.open(app, data=data)
        self.seen: list[SourceState | SinkState] = []
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.instance.run(stop=self._stop, on_state=self.seen.append)
        except BaseException as error:  # noqa: BLE001  (raised by `stop`)
            self._failed.append(error)

    def until_waiting(self, name: str, *, after: int = 0) -> str:
        """Wait until a source or sink waits for its other side; return why."""

        def found() -> list[SourceState | SinkState]:
            self.check()
            return [each for each in self.seen[after:] if each.name == name and each.state == "waiting"]

        return until(found, what=f"{name} to notice")[-1].error or ""

    def until(self, look: Callable[[], Any], what: str) -> None:
        """Wait until there is something true to see; if that does not come, say how all are."""
        try:
            until(lambda: (self.check(), look())[1], what=what)
        except AssertionError as error:
            status = self.instance.status()
            for each in (*status.sources, *status.sinks):
                error.add_note(str(each))
            raise

    def check(self) -> None:
        """Raise what has failed, if something has."""
        failed = [each for each in self.seen if each.state == "failed"]
        assert not failed, failed
        if self._failed:
            raise self._failed[0]

    def stop(self) -> float:
        """End the run; return how many seconds that took."""
        began = time.monotonic()
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the run does not end"
        if self._failed:
            raise self._failed[0]
        return time.monotonic() - began

    def __enter__(self) -> RunningApp:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        self.instance.close()
