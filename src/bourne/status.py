"""How all in a data folder is."""

from __future__ import annotations

from dataclasses import dataclass

from bourne.connect.states import SinkState, SourceState
from bourne.views.status import LogStatus, ViewStatus


@dataclass(frozen=True, slots=True)
class Status:
    """All logs, views, sources and sinks of a data folder, by name."""

    logs: tuple[LogStatus, ...]
    views: tuple[ViewStatus, ...]
    sources: tuple[SourceState, ...] = ()
    sinks: tuple[SinkState, ...] = ()
