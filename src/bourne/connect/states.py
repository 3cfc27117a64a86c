"""How sources and sinks are, in small files, so that `bourne status` can say it from any process.

They are notes, not truth: a position is where the data is, and a note may be a second old. A file that cannot be written
stops nobody.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from bourne.connect.source import Lag
from bourne.errors import BourneError
from bourne.limits import STATUS_INTERVAL_S
from bourne.log.at_work import is_taken
from bourne.ports import Clock


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a source is: `running`, `waiting` for its other side, `failed`, `ended`, or `stopped` with its app.

    `records` and `dead_letters` count since its app was started, `lag_records` and `lag_bytes` say how far it is behind
    where it knows, `note` warns, `error` says why it waits or has failed. `at_us` is when this was so.
    """

    name: str
    url: str
    log: str
    delivery: str
    state: str = "stopped"
    records: int = 0
    dead_letters: int = 0
    lag_records: int | None = None
    lag_bytes: int | None = None
    note: str | None = None
    error: str | None = None
    at_us: int = 0

    def now(
        self, state: str, *, records: int, dead_letters: int, lag: Lag | None, error: BourneError | None
    ) -> SourceState:
        """Return how it is now; what is not known any more stays as it was."""
        behind = (
            self
            if lag is None
            else replace(self, lag_records=lag.records, lag_bytes=lag.bytes, note=lag.note)
        )
        why = None if error is None else error.what if error.found is None else f"{error.what}: {error.found}"
        return replace(behind, state=state, records=records, dead_letters=dead_letters, error=why)


@dataclass(frozen=True, slots=True)
class SinkState:
    """How a sink is; the words are those of `SourceState`. `position` is the offset after what it has, `lag_records` how
    many records of the view (or log) are still to be delivered."""

    name: str
    url: str
    view: str
    delivery: str
    state: str = "stopped"
    records: int = 0
    dead_letters: int = 0
    position: int = 0
    lag_records: int | None = None
    error: str | None = None
    at_us: int = 0


State = TypeVar("State", SourceState, SinkState)


class StateFile(Generic[State]):
    """The file of one source or sink."""

    def __init__(self, folder: Path, name: str, clock: Clock) -> None:
        self._folder = folder
        self.path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
        self._clock = clock
        self._written_s = 0.0

    def is_due(self) -> bool:
        """Say whether the last note is old."""
        return time.monotonic() - self._written_s >= STATUS_INTERVAL_S

    def write(self, state: State) -> None:
        """Replace the note."""
        self._written_s = time.monotonic()
        content = json.dumps(asdict(replace(state, at_us=self._clock.now_us())), ensure_ascii=False, indent=1)
        draft = self.path.with_suffix(f".{os.getpid()}.draft")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(content, encoding="utf-8")
            draft.replace(self.path)
        except OSError:
            return  # a full disk shows in what matters


def source_states(data: Path) -> tuple[SourceState, ...]:
    """Return how the sources of a data folder are, by name."""
    found = []
    for path, state in _read_states(data / "sources", SourceState):
        found.append(_if_alive(state, is_taken(path.with_suffix(".lock")), path))
    return tuple(found)


def sink_states(data: Path, ends: Mapping[str, Sequence[int]]) -> tuple[SinkState, ...]:
    """Return how the sinks of a data folder are, by name; `ends` says how much the logs and views hold now."""
    found = []
    for path, state in _read_states(data / "sinks", SinkState):
        alive = _if_alive(state, is_taken(path.with_suffix(".lock")), path)
        end = ends.get(state.view)
        lag = None if end is None else max(0, sum(end) - state.position)
        found.append(replace(alive, lag_records=lag))
    return tuple(found)


def _if_alive(state: State, is_at_work: bool, path: Path) -> State:
    """Return a state as it is now: whoever was killed could not say that it stopped."""
    if state.state in ("running", "waiting") and not is_at_work:
        return replace(state, state="stopped")
    return state


def _read_states(folder: Path, of: Callable[..., State]) -> list[tuple[Path, State]]:
    """Return all notes in a folder, by name; what is no note is passed over."""
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
            found.append((path, of(**content)))
        except (OSError, ValueError, TypeError):
            continue  # being replaced just now, or of another version
    return sorted(found, key=lambda each: each[1].name)
