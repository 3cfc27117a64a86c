"""The scheduler: notes what is due, begins the runs of it, pauses them at the end of their window, goes on with them.

Law: each fire begins exactly one run, whenever the process is killed. The order of writes that gives that:

1. the fire is noted, with how far its schedule is decided, in one transaction (state "waiting");
2. that it is to begin is written ("starting");
3. the launcher is asked to start a run under the fire's key: idempotent;
4. the run's number is written ("started").

Killed between 1 and 2, the next scheduler finds it waiting; between 2 and 4, it asks the launcher whether there is a run of
that key. If not, the fire waits again. A run whose process died is restarted, not begun again. That a run is to pause is
written ("pausing") before it is asked to: so one that was stopped by somebody else is not mistaken for one that is to go on.

It does not run anything itself, and waits for nothing but the time of its next look.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from bourne.batch.scheduled import ScheduleDefinition, check_together, params_of
from bourne.errors import BourneError, Closed, DefinitionError, InputError, StorageError, UnknownName
from bourne.jobs.alone import Alone
from bourne.jobs.calls import note_call
from bourne.jobs.choosing import choose
from bourne.jobs.events import World
from bourne.jobs.fires import Fire, Fires
from bourne.jobs.launcher import Launcher, RunState
from bourne.jobs.noticing import Eye, event_of
from bourne.limits import (
    FIRE_LOST_MAX,
    FIRE_START_TRIES,
    FIRES_FORGET_S,
    FIRES_WAITING_MAX,
    SCHEDULED_RUNS,
    SCHEDULER_LOOK_S,
)
from bourne.ports import Clock

DATABASE: Final = "history.sqlite"


class Scheduler:
    """Schedules at work on a folder, from its making to `close`. One at a time on a folder, whatever the process."""

    def __init__(
        self, folder: Path, schedules: Sequence[ScheduleDefinition], launcher: Launcher, world: World, clock: Clock, *,
        runs_max: int = SCHEDULED_RUNS, rest: Callable[[float], object] | None = None,
    ) -> None:  # fmt: skip
        """`folder` is that of the jobs' history. `rest` is called with seconds between two looks, instead of waiting.

        Raises:
            DefinitionError: the schedules do not fit together.
            LogLocked: another scheduler is at work on the folder.
            StorageError: the disk refuses.
        """
        check_together(schedules)
        self.failure: BaseException | None = None
        self.troubles: dict[str, BourneError] = {}
        """Why schedules do not get on just now, by name. Only ever replaced, so that other threads may read it."""
        self._schedules = {each.name: each for each in schedules}
        self._launcher = launcher
        self._clock = clock
        self._runs_max = runs_max
        self._rest = rest
        self._lock = Alone(folder)
        try:
            self._fires = Fires(folder / DATABASE)
        except BaseException:
            self._lock.close()
            raise
        self._eyes = {each.name: Eye(each, self._fires, world, launcher) for each in schedules}
        self._tries: Counter[int] = Counter()
        self._full: set[str] = set()
        self._forgot_us = 0
        self._looking = threading.Lock()
        self._wake = threading.Event()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @property
    def fires(self) -> Fires:
        """What was due, and what became of it."""
        return self._fires

    # --- the loop -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look again and again, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking, and ask the runs that it began to pause: the next scheduler goes on with them.

        Whoever runs them is to be closed after this.
        """
        self._is_closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with self._looking:
            if self._lock.is_held:
                try:
                    self._pause(self._follow(), lambda _: True)
                finally:
                    self._fires.close()
                    self._lock.close()

    def wake(self) -> None:
        """Look now: whoever runs jobs calls it when a run has ended."""
        self._wake.set()

    def _run(self) -> None:
        try:
            while not self._is_closed:
                try:
                    self.look()
                    self.failure = None
                except StorageError as error:
                    self.failure = error  # nothing is lost by trying again: a full disk may have room later
                (self._rest or self._wait)(self.rest_s())
        except Exception as error:
            self.failure = error
            raise

    def _wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def rest_s(self) -> float:
        """Return for how long nothing is to be done: until something is due, and no longer than `SCHEDULER_LOOK_S`."""
        eyes = [
            eye for name, eye in self._eyes.items() if name not in self.troubles and name not in self._full
        ]
        next_us = min((eye.next_us for eye in eyes if eye.next_us is not None), default=None)
        if next_us is None or self.failure is not None:
            return SCHEDULER_LOOK_S
        return min(SCHEDULER_LOOK_S, max(0.0, (next_us - self._clock.now_us()) / 1e6))

    def look(self) -> None:
        """Do once all that is to be done now.

        Raises:
            StorageError: the history cannot be read or written.
        """
        with self._looking:
            if self._is_closed:
                raise Closed("this scheduler is closed", hint="make another one")
            now_us = self._clock.now_us()
            self.troubles = {}
            self._notice(now_us)
            is_open = cache(lambda name: self._is_open(name, now_us))
            states = self._follow()
            self._pause(states, lambda fire: not is_open(fire.schedule))
            self._begin(states, is_open)
            if abs(now_us - self._forgot_us) > FIRES_FORGET_S * 1e6:
                self._forgot_us = now_us
                for eye in self._eyes.values():
                    eye.forget()

    # --- what happens at a look ---------------------------------------------------------------------------

    def _notice(self, now_us: int) -> None:
        waiting = Counter(fire.schedule for fire in self._fires.open() if fire.state == "waiting")
        self._full = {name for name, count in waiting.items() if count >= FIRES_WAITING_MAX}
        for name, eye in self._eyes.items():
            if name not in self._full:
                with self._alone(name):
                    eye.look(now_us)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Keep to one schedule what fails of it: the others go on."""
        try:
            yield
        except StorageError:
            raise
        except BourneError as error:
            self._note_trouble(name, error)

    def _note_trouble(self, name: str, error: BourneError) -> None:
        self.troubles = {**self.troubles, name: error}

    def _follow(self) -> dict[int, RunState]:
        """See what became of the runs, and return how each is that was begun, by its fire."""
        states: dict[int, RunState] = {}
        for fire in self._fires.open():
            with self._alone(fire.schedule):
                known = self._known(fire) if fire.state == "starting" else fire
                if known is not None and known.run is not None:
                    states[fire.id] = self._launcher.state(known.run)
                    self._followed(known, known.run, states[fire.id])
        return states

    def _known(self, fire: Fire) -> Fire | None:
        """Find out what came of a fire that was to begin when something failed, or the last scheduler was killed."""
        run = self._launcher.begun(_run_key(fire))
        return self._fires.change(fire, "waiting" if run is None else "started", run=run)

    def _followed(self, fire: Fire, run: int, state: RunState) -> None:
        match state:
            case "completed":
                self._fires.change(fire, "done")
            case "failed":
                self._fires.change(fire, "failed", reason="the run failed")
            case "stopped" if fire.state == "started":
                self._fires.change(fire, "stopped", reason="the run was stopped by somebody")
            case "stopped" | "lost" if fire.state == "pausing":
                self._fires.change(fire, "paused")
            case "running" if fire.state == "paused":
                self._fires.change(fire, "started")  # somebody went on with it, or this did, and was killed
            case "running" if fire.state == "pausing":
                self._launcher.stop(run)  # whoever wrote that may have died before asking
            case "lost" if fire.state == "started" and fire.lost >= FIRE_LOST_MAX:
                self._fires.change(fire, "failed", reason=f"its process died {fire.lost + 1} times")

    def _pause(self, states: Mapping[int, RunState], is_to: Callable[[Fire], bool]) -> None:
        for fire in self._fires.open():
            is_running = fire.state == "started" and states.get(fire.id) == "running"
            if is_running and fire.run is not None and is_to(fire):
                with self._alone(fire.schedule):
                    self._fires.change(fire, "pausing")
                    self._launcher.stop(fire.run)

    def _begin(self, states: Mapping[int, RunState], is_open: Callable[[str], bool]) -> None:
        """Begin, and go on with, all that may."""
        busy: Counter[str] = Counter()
        candidates = []
        for fire in self._fires.open():
            if fire.state in ("waiting", "paused") or (
                fire.state == "started" and states.get(fire.id) == "lost"
            ):
                candidates.append(fire)
            else:
                busy[fire.schedule] += 1
        for fire in choose(
            candidates, busy, self._schedules, runs_max=self._runs_max, is_open=is_open, is_held=self._is_held
        ):
            # What was begun keeps its state until it goes on: only what is new has to be written first.
            begun = self._fires.change(fire, "starting") if fire.state == "waiting" else fire
            if begun is not None:  # else it was skipped meanwhile
                self._start(begun)

    def _start(self, fire: Fire) -> None:
        definition = self._schedules[fire.schedule]
        try:
            if fire.run is None:
                params = params_of(definition, fire.at_us, event_of(definition, fire))
                run = self._launcher.start(definition.job, params, key=_run_key(fire))
            else:
                run = self._launcher.restart(fire.run)
        except BourneError as error:
            self._note_trouble(fire.schedule, error)
            self._tries[fire.id] += 1
            is_final = isinstance(error, InputError | DefinitionError | UnknownName)
            if is_final or self._tries[fire.id] >= FIRE_START_TRIES:
                self._tries.pop(fire.id)
                self._fires.change(fire, "failed", reason=error.what)
        else:
            self._tries.pop(fire.id, None)
            self._fires.change(fire, "started", run=run, is_lost=fire.state == "started")

    def _is_open(self, name: str, now_us: int) -> bool:
        definition = self._schedules.get(name)
        return definition is None or definition.is_open(now_us)

    def _is_held(self, fire: Fire) -> bool:
        """Say whether a fire waits for another schedule's: the newest that is not later than itself.

        All schedules were looked at before, so that fire is noted; of one that is behind, the newest noted one still waits.
        """
        return any(not self._is_done(other, fire.at_us) for other in self._schedules[fire.schedule].after)

    def _is_done(self, name: str, at_us: int) -> bool:
        fire = self._fires.newest(name, at_us)
        if fire is not None and fire.state in ("failed", "stopped") and fire.run is not None:
            with self._alone(name):  # perhaps it was restarted by hand
                state = self._launcher.state(fire.run)
                if state in ("completed", "running"):
                    fire = self._fires.change(fire, "done" if state == "completed" else "started")
        return fire is None or fire.state == "done"

    # --- calls --------------------------------------------------------------------------------------------

    def call(self, name: str, *, request_id: str, details: Mapping[str, Any] | None = None) -> list[Fire]:
        """Note a call, and look for it at once: see `calls.note_call`."""
        now_us = self._clock.now_us()
        schedules = self._schedules.values()
        noted = note_call(self._fires, schedules, name, request_id=request_id, details=details, now_us=now_us)
        self.wake()
        return noted


def _run_key(fire: Fire) -> str:
    return f"{fire.schedule} {fire.key}"
