"""The jobs of an app, opened on its data folder: started, gone on with, stopped, and what became of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from bourne.batch.job import Job
from bourne.batch.parameters import Parameters
from bourne.batch.scheduled import ScheduleDefinition
from bourne.errors import InputError, JobCompleted, UnknownName
from bourne.jobs.backfill import Filled, backfill
from bourne.jobs.history import ChunkRun, History, Message, Run, StepRun
from bourne.jobs.host import Host
from bourne.jobs.launching import AppWorld, Launching
from bourne.jobs.lease import see_the_dead, taken
from bourne.jobs.pools import Pools
from bourne.jobs.runner import JobRun
from bourne.jobs.scheduler import Scheduler
from bourne.limits import HISTORY_FORGET_S, SCHEDULED_RUNS_MAX
from bourne.schema import interval_us


@dataclass(frozen=True, slots=True)
class Scheduled:
    """Schedules at work: `scheduler` decides what is to begin, `launching` begins it."""

    scheduler: Scheduler
    launching: Launching


class Jobs:
    """What `Instance.jobs` is. For all threads; closed with the instance."""

    def __init__(
        self,
        host: Host,
        jobs: Mapping[str, Job],
        pools: Mapping[str, int],
        schedules: Mapping[str, ScheduleDefinition],
        open_host: Callable[[Path], Any],
    ) -> None:
        """`open_host` opens the data folder in another process; it can be sent there."""
        self._host = host
        self._open_host = open_host
        self._jobs = jobs
        self._schedules = schedules
        self._pools = Pools(host.folder, pools)
        self._random = Random()
        self._forgot_us: dict[str, int] = {}
        self._open_history: History | None = None
        self._mutex = threading.Lock()

    @property
    def history(self) -> History:
        """The store of what became of runs."""
        with self._mutex:
            if self._open_history is None:
                self._open_history = History(self._host.folder)
            return self._open_history

    # --- running -----------------------------------------------------------------------------------------

    def start(
        self, job: str, parameters: Mapping[str, Any] | None = None, *, again: bool = False, trigger: str = "by hand",
        stop: threading.Event | None = None, on_begin: Callable[[JobRun], None] | None = None, **more: Any,
    ) -> Run:  # fmt: skip
        """Run a job to its end. An instance that failed or was stopped goes on after its last committed chunk.

        Args:
            job: the job's name.
            parameters: their values, or texts of them; `more` are others.
            again: do all of it once more, though this instance has completed.
            trigger: what the history says of why it began.
            stop: set it, from any thread, to end the run after the chunks at hand.
            on_begin: called with the run when it has begun.

        Returns: the run, ended: COMPLETED, or STOPPED.

        Raises:
            UnknownName, InputError: there is no such job, or its parameters do not fit.
            JobRunning: this instance is running. JobCompleted: it has completed.
            JobFailed: a step failed; what its chunks committed holds.
        """
        found = self._job(job)
        checked = found.check({**(parameters or {}), **more})
        return self._run(found, checked, again=again, trigger=trigger, stop=stop, on_begin=on_begin)

    def restart(
        self,
        run: int,
        *,
        stop: threading.Event | None = None,
        on_begin: Callable[[JobRun], None] | None = None,
    ) -> Run:
        """Go on with a run that failed or was stopped, after its last committed chunk, as a new run of the same instance.

        Raises: as `start`; JobCompleted: that run has completed.
        """
        job, parameters = self._goes_on(run)
        return self._run(
            job, parameters, again=False, trigger=f"restart of {run}", stop=stop, on_begin=on_begin
        )

    def check(self, job: str, parameters: Mapping[str, Any]) -> Parameters:
        """Return a job's parameters, checked.

        Raises:
            UnknownName, InputError: there is no such job, or they do not fit.
        """
        return self._job(job).check(parameters)

    def backfill(
        self, job: str, parameter: str, values: Sequence[Any], others: Mapping[str, Any] | None = None, *, at_once: int = 1,
        stop: threading.Event | None = None, on_end: Callable[[Filled], None] | None = None,
    ) -> list[Filled]:  # fmt: skip
        """Run an instance for each value of a parameter, such as the days of a month. Those that have completed are not run
        again, those that failed go on: the same call goes on with a backfill that was stopped.

        Args:
            job: the job's name.
            parameter: the identifying parameter that each instance has another value of.
            values: its values, in the order in which they begin.
            others: the values of the other parameters.
            at_once: how many run at once.
            stop: set it, from any thread, to end it after the chunks at hand.
            on_end: called with each instance when it has ended, from its thread.

        Returns: what became of each. One that fails does not hold up the others, and raises nothing here.

        Raises:
            UnknownName, InputError: there is no such job, or some value does not fit: then nothing has begun.
        """
        return backfill(
            self, job, parameter, values, others or {}, at_once=max(1, min(at_once, SCHEDULED_RUNS_MAX)),
            stop=stop or threading.Event(), tell=on_end or (lambda _: None),
        )  # fmt: skip

    def _goes_on(self, run: int) -> tuple[Job, Parameters]:
        before = self.run(run)
        if before.status == "COMPLETED":
            raise JobCompleted(
                f"run {run} has completed", run=run, where=f"job {before.job!r}, {before.instance}"
            )
        found = self._job(before.job)
        checked = found.check(before.parameters)
        if checked.text != before.instance:
            raise InputError(
                f"the parameters of job {before.job!r} have changed since run {run}", expected=before.instance, found=checked.text,
                hint="start it with the parameters that it has now",
            )  # fmt: skip
        return found, checked

    def _run(
        self, job: Job, parameters: Parameters, *, again: bool, trigger: str, stop: threading.Event | None,
        on_begin: Callable[[JobRun], None] | None = None, parent: int | None = None,
    ) -> Run:  # fmt: skip
        work = self._prepare(job, parameters, again=again, trigger=trigger, parent=parent)
        with _forwarded(stop, work.stop):
            work.work(on_begin)
        return self.run(work.lease.run.id)

    def _prepare(
        self, job: Job, parameters: Parameters, *, again: bool, trigger: str, parent: int | None = None, key: str | None = None
    ) -> JobRun:  # fmt: skip
        """Take the lease of an instance; return its run, which has not begun to work."""
        flow = job.flow(parameters)
        self._forget(job)
        lease = taken(
            self.history, self._host.clock, job, parameters, trigger=trigger, again=again, version=version("bourne"),
            parent=parent, key=key,
        )  # fmt: skip
        return JobRun(
            job, parameters, flow, lease, self._host, self.history, run_job=self._run_inner, random=self._random,
            pools=self._pools, open_host=self._open_host,
        )  # fmt: skip

    def prepare(
        self, job: str, parameters: Mapping[str, Any], *, trigger: str, key: str | None = None, again: bool = False
    ) -> JobRun:  # fmt: skip
        """Take the lease of an instance; return its run, for who has a thread to let it `work`.

        With a `key`, it is a run from the beginning, whatever became of earlier ones; `again` as in `start`.

        Raises: as `start`.
        """
        found = self._job(job)
        return self._prepare(found, found.check(parameters), again=again, trigger=trigger, key=key)

    def prepare_again(self, run: int) -> JobRun:
        """Take the lease of a run's instance, to go on with it; otherwise as `prepare`.

        Raises: as `restart`.
        """
        job, parameters = self._goes_on(run)
        return self._prepare(job, parameters, again=False, trigger=f"restart of {run}")

    def see_the_dead(self) -> None:
        """Note runs whose process died as failed."""
        see_the_dead(self.history, self._host.clock)

    def _run_inner(
        self, job: Job, arguments: dict[str, Any], parent: int, key: str, stop: threading.Event
    ) -> str:
        """Run a job as a step of a run, or go on with it, if that run goes on."""
        known = self.history.run_of_key(key)
        trigger = f"step of run {parent}"
        if known is None:
            checked = job.check(arguments)
            last = next(iter(self.history.runs(job=job.name, instance=checked.text, most=1)), None)
            if last is not None and last.status == "COMPLETED" and self.run(parent).generation == 1:
                return last.status  # by itself; what is done once more does its parts once more, too
            work = self._prepare(job, checked, again=False, trigger=trigger, parent=parent, key=key)
        else:
            last = self.history.last_of(known)
            if last.status == "COMPLETED":  # the run that it was a step of died before it could note that
                return last.status
            found, parameters = self._goes_on(last.id)
            work = self._prepare(found, parameters, again=False, trigger=trigger, parent=parent)
        with _forwarded(stop, work.stop):
            return work.work()

    # --- schedules ---------------------------------------------------------------------------------------

    @contextmanager
    def scheduled(self) -> Iterator[Scheduled]:
        """Begin what the app's schedules say, while the block runs, in threads of this process.

        At its end the runs at work pause after their chunks; the next scheduler goes on with them.

        Raises:
            LogLocked: another process does so for this data folder.
        """
        wake: list[Callable[[], None]] = []
        launching = Launching(self, lambda: [each() for each in wake])
        with closing(launching):
            scheduler = Scheduler(
                self.history.folder,
                list(self._schedules.values()),
                launching,
                AppWorld(self._host),
                self._host.clock,
            )
            wake.append(scheduler.wake)
            with closing(scheduler):
                scheduler.start()
                yield Scheduled(scheduler, launching)

    # --- from outside ------------------------------------------------------------------------------------

    def stop(self, run: int) -> None:
        """Ask a run, in whichever process, to stop after the chunks at hand. Does not wait.

        Raises:
            UnknownName: there is no such run. InputError: it is not running.
        """
        found = self.run(run)
        if not self.history.ask_to_stop(run):
            raise InputError(
                f"run {run} is not running",
                where=f"job {found.job!r}",
                expected="STARTED",
                found=found.status,
            )

    def runs(
        self, *, job: str | None = None, status: str | None = None, most: int = 100, instance: str | None = None,
        before: int | None = None,
    ) -> list[Run]:  # fmt: skip
        """Return runs, the newest first, those before a number if one is given. Whose process died is noted as failed first."""
        if not History.is_in(self._host.folder):
            return []
        see_the_dead(self.history, self._host.clock)
        return self.history.runs(job=job, status=status, instance=instance, before=before, most=most)

    def run(self, number: int) -> Run:
        """Return a run.

        Raises:
            UnknownName: there is none of that number.
        """
        if History.is_in(self._host.folder):
            see_the_dead(self.history, self._host.clock)
            found = self.history.run(number)
            if found is not None:
                return found
        raise UnknownName(f"there is no run {number}", where=str(self._host.folder), hint="bourne jobs list")

    def steps(self, run: int) -> list[StepRun]:
        """Return the steps of a run, and their parts."""
        return self.history.steps(self.run(run).id)

    def chunks(self, run: int, *, step: str | None = None, most: int = 1000) -> list[ChunkRun]:
        """Return the last chunks of a run, the newest first."""
        return self.history.chunks(self.run(run).id, step, most=most)

    def messages(self, run: int, *, after: int = 0) -> list[Message]:
        """Return what a run said, from behind a message on."""
        return self.history.messages(self.run(run).id, after=after)

    def _forget(self, job: Job) -> None:
        """Forget what a job says, if that has not been done just now."""
        now_us = self._host.clock.now_us()
        if (
            job.keep_us is not None
            and abs(now_us - self._forgot_us.get(job.name, 0)) > HISTORY_FORGET_S * 1e6
        ):
            self._forgot_us[job.name] = now_us
            self.history.prune(now_us - job.keep_us, job.name)

    def prune(self, older_than: str) -> int:
        """Forget runs that ended so long ago, of all jobs, but the last one of each instance; return how many. What a job
        says (`keep=`) is done by itself.

        Raises:
            DefinitionError: that is no interval.
        """
        age = interval_us(older_than, where="prune")
        return self.history.prune(self._host.clock.now_us() - age)

    @property
    def names(self) -> tuple[str, ...]:
        """The jobs that the app declares."""
        return tuple(self._jobs)

    @property
    def declared(self) -> Mapping[str, Job]:
        """The jobs that the app declares, by name."""
        return self._jobs

    @property
    def schedules(self) -> Mapping[str, ScheduleDefinition]:
        """The schedules that the app declares, by name."""
        return self._schedules

    @property
    def has_history(self) -> bool:
        """Whether anything was ever run in this data folder."""
        return History.is_in(self._host.folder)

    def _job(self, name: str) -> Job:
        if name not in self._jobs:
            raise UnknownName(
                f"the app declares no job {name!r}", expected=", ".join(self._jobs) or "@app.job", found=name
            )
        return self._jobs[name]

    def close(self) -> None:
        """Close the history. Safe to call twice."""
        with self._mutex:
            if self._open_history is not None:
                self._open_history.close()
                self._open_history = None


class _forwarded:
    """While the block runs, one event being set calls something."""

    def __init__(self, event: threading.Event | None, call: Callable[[], None]) -> None:
        self._event, self._call = event, call
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        if self._event is None:
            return
        event = self._event

        def wait() -> None:
            while not self._is_over.is_set():
                if event.wait(0.05):
                    self._call()
                    return

        self._thread = threading.Thread(target=wait, daemon=True, name="bourne-stop")
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()
