"""What a job needs of the app that it runs in: its data folder, its logs, its views. An `Instance` is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from bourne.app import App
from bourne.log.embedded import EmbeddedLog
from bourne.ports import Clock, Files
from bourne.result import Result


class Host(Protocol):
    """An app, opened on a data folder."""

    app: App | None
    folder: Path
    clock: Clock
    files: Files

    def log(self, name: str) -> EmbeddedLog:
        """Return a log."""
        ...

    def query(
        self,
        sql: str,
        parameters: Any = None,
        *,
        together: bool = False,
        at_least: str = "",
        wait_s: float = 0,
    ) -> Result:
        """Answer a SELECT over logs and views."""
        ...

    def position_of(self, name: str) -> str:
        """Return the position of all that is in a view's logs now."""
        ...

    def standing(self, view: str) -> str | None:
        """Return why a view stands still, whatever comes; None if it does not."""
        ...

    def catch_up(self) -> int:
        """Let every view take in what is there."""
        ...
