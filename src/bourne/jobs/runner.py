"""A run of a job: the steps of its flow, each when its turn comes, side by side where the flow says so.

Law: a step that has ended well in an earlier run of the same instance is not done again; a chunk step goes on where its
target stands. Each step's end is in the history before the next one begins.
"""

from __future__ import annotations

import hashlib
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from bourne.batch.context import Context
from bourne.batch.flow import COMPLETED, FAILED, STOPPED, Flow
from bourne.batch.job import Job
from bourne.batch.parameters import Parameters
from bourne.batch.steps import Check, Chunk, Step, SubJob, Task, View
from bourne.errors import BourneError, JobFailed
from bourne.jobs.chunk_run import run_chunk_step
from bourne.jobs.chunk_work import Fenced
from bourne.jobs.history import History, StepRun
from bourne.jobs.host import Host
from bourne.jobs.lease import Lease
from bourne.jobs.pools import Pools
from bourne.jobs.task_run import run_check, run_task, run_view
from bourne.jobs.workplace import Workplace
from bourne.limits import STEPS_AT_ONCE_MAX
from bourne.log.wake import WakingEvent

# Begins a run of another job as a part of this one, under a key, waits for it, and returns its exit status.
RunJob = Callable[[Job, dict[str, Any], int, str, threading.Event], str]


class JobRun:
    """One run at work. `stop` may be called from any thread."""

    def __init__(
        self, job: Job, parameters: Parameters, flow: Flow, lease: Lease, host: Host, history: History, *, run_job: RunJob,
        random: Random, pools: Pools, open_host: Callable[[Path], Any],
    ) -> None:  # fmt: skip
        self.lease = lease
        self.stopping = WakingEvent()
        self._job = job
        self._parameters = parameters
        self._flow = flow
        self._host = host
        self._history = history
        self._run_job = run_job
        self._random = random
        self._pools = pools
        self._open_host = open_host
        self._errors: list[BaseException] = []

    @property
    def name(self) -> str:
        """What its positions begin with: app and job, the instance, and how many times that is done."""
        app = "" if self._host.app is None else f"{self._host.app.name}."
        return instance_name(f"{app}{self._job.name}", self._parameters, self.lease.run.generation)

    def stop(self) -> None:
        """Let it end after the chunks at hand."""
        self.stopping.set()

    def work(self, on_begin: Callable[[JobRun], None] | None = None) -> str:
        """Do all steps; return the run's status, which is in the history then. `on_begin` is called before the first.

        Raises:
            JobFailed: a step failed, and no arrow deals with that.
        """
        self.lease.keep(self.stop)
        error: BaseException | None = None
        status = FAILED
        try:
            if on_begin is not None:
                on_begin(self)
            status = self._steps()
            error = self._errors[0] if self._errors and status == FAILED else None
            if self.lease.is_lost:
                error = Fenced(
                    "this run was taken for dead", where=self.name, expected="a sign of life within its lease",
                    hint="see what goes on with it now: bourne jobs list",
                )  # fmt: skip
        except BaseException as unforeseen:
            error = unforeseen
            status = STOPPED if isinstance(unforeseen, KeyboardInterrupt) else FAILED
            raise
        finally:
            run = self.lease.run
            if not self.lease.is_lost:
                self._history.end_run(
                    run.id, status, self._host.clock.now_us(), None if error is None else str(error)
                )
            self.lease.give_back()
        if status == FAILED:
            raise JobFailed(
                f"run {self.lease.run.id} of job {self._job.name!r} failed", run=self.lease.run.id,
                where=f"instance {self._parameters.text}", found=_short(error),
                hint=f"mend it, then: bourne jobs restart {self.lease.run.id}",
            ) from error  # fmt: skip
        return status

    def _steps(self) -> str:
        run = self.lease.run
        flow = self._flow
        before = self._history.completed(run.job, run.instance, run.generation)
        ended: dict[str, str] = {step.name: before[step.name] for step in flow.steps if step.name in before}
        passed: set[str] = set()
        blocked: set[str] = set()
        working: dict[Future[str], str] = {}
        with ThreadPoolExecutor(STEPS_AT_ONCE_MAX, thread_name_prefix=f"bourne-{run.job}") as pool:
            try:
                while True:
                    self._begin(pool, working, ended, passed, blocked)
                    if not working:
                        break
                    for future in wait(working, return_when=FIRST_COMPLETED).done:
                        name = working.pop(future)
                        ended[name] = future.result()
            except BaseException:
                self.stop()  # Ctrl-C, say: the steps at work end after their chunk
                raise
        left = [
            step.name for step in flow.steps if step.name not in ended and step.name not in passed | blocked
        ]
        failed = [
            name for name, status in ended.items() if status == FAILED and not flow.deals_with(name, FAILED)
        ]
        if failed:
            return FAILED
        return STOPPED if STOPPED in ended.values() or left else COMPLETED

    def _begin(
        self, pool: ThreadPoolExecutor, working: dict[Future[str], str], ended: dict[str, str], passed: set[str],
        blocked: set[str],
    ) -> None:  # fmt: skip
        """Begin the steps whose turn has come; note those that will have none."""
        is_new = True
        while is_new:
            is_new = False
            for step in self._flow.steps:
                name = step.name
                if name in ended or name in passed or name in blocked or name in working.values():
                    continue
                fate = self._flow.fate(name, ended, passed, blocked)
                if fate == "passed over":
                    passed.add(name)
                    is_new = True
                elif fate == "blocked":
                    blocked.add(name)
                    is_new = True
                elif fate == "ready" and not self.stopping.is_set():
                    working[pool.submit(self._step, step)] = name

    def _step(self, step: Step) -> str:
        """Do one step; note it, and how it ended. Returns its exit status."""
        run, clock = self.lease.run, self._host.clock
        note = StepRun(run.id, step.name, "", _kind(step), "STARTED", clock.now_us())
        self._history.put_step(note)
        self._say(step.name, "info", "began")
        status, error = FAILED, None
        try:
            with self._pools.taken(step.pools, self.stopping):
                # Who was stopped while it waited for a pool holds none.
                status, note = (STOPPED, note) if self.stopping.is_set() else self._do(step, note)
        except Exception as failure:  # noqa: BLE001  (told in the history, and raised by the run)
            error = failure
            self._errors.append(failure)
            self._say(step.name, "error", _told(failure))
        if self.lease.is_lost:
            return FAILED
        told = next(
            (each for each in self._history.steps(run.id) if (each.step, each.part) == (step.name, "")), note
        )
        self._history.put_step(replace(
            told, status=status, ended_us=clock.now_us(), error=None if error is None else str(error),
        ))  # fmt: skip
        self._say(step.name, "info", f"ended: {status}")
        return status

    def _do(self, step: Step, note: StepRun) -> tuple[str, StepRun]:
        if isinstance(step, Chunk):
            place = Workplace(
                self.name, self.lease, self._host, self._history, self.stopping, self._random,
                lambda text: self._say(step.name, "warning", text), self._open_host,
            )  # fmt: skip
            return run_chunk_step(step, note, place), note
        if isinstance(step, SubJob):
            assert step.job is not None
            return self._run_job(
                step.job,
                dict(step.arguments or {}),
                self.lease.run.id,
                f"step {step.name} of {self.name}",
                self.stopping,
            ), note
        if isinstance(step, View):
            return run_view(step, self._host, self.stopping), note
        return self._try(step, note), note

    def _try(self, step: Step, note: StepRun) -> str:
        """Call a task until it succeeds, or is not to be tried again."""
        assert isinstance(step, Task)
        attempt, began = 1, time.monotonic()
        while True:
            context = Context(
                self._job.name, step.name, self.lease.run.id, attempt, f"{self.name} {step.name}", self._parameters.values,
                self._host, self.stopping, lambda text: self._say(step.name, "info", text),
            )  # fmt: skip
            try:
                return run_check(step, context) if isinstance(step, Check) else run_task(step, context)
            except Exception as error:
                elapsed = time.monotonic() - began
                delay = step.retry.delay(
                    error, attempt=attempt, elapsed_s=elapsed, random=self._random.random()
                )
                if delay is None or self.stopping.is_set():
                    raise
                self._say(step.name, "warning", f"attempt {attempt} failed: {_told(error)}")
                attempt += 1
                self._history.put_step(replace(note, attempts=attempt))
                self.stopping.wait(delay)

    def _say(self, step: str, level: str, text: str) -> None:
        self._history.say(self.lease.run.id, step, self._host.clock.now_us(), level, text)


def instance_name(job: str, parameters: Parameters, generation: int) -> str:
    """Return what an instance is called in targets: readable, and one of a kind. Stays the same for ever."""
    text = ",".join(f"{name}={value}" for name, value in parameters.identity.items())
    digest = hashlib.sha256(parameters.text.encode()).hexdigest()[:12]
    # A value in which the marks between values stand could be read as several: two instances would have one name, and position.
    is_plain = not any(mark in str(value) for value in parameters.identity.values() for mark in ",=[]#")
    # So could a text that looks like what is none, where both may be: "None" and None.
    is_sure = not any(_looks_like_another(parameters.identity.get(name)) for name in parameters.mixed)
    if len(text) > _NAME_CHARS or not text.isprintable() or not is_plain or not is_sure:
        text = digest
    return f"{job}[{text}]" + (f"#{generation}" if generation > 1 else "")


def _looks_like_another(value: Any) -> bool:
    """Say whether a text is how None, a flag, a number or an object is written."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return value in ("None", "True", "False") or value.startswith("{")
    return True


# Longer parameters are a hash in the names of positions.
_NAME_CHARS = 80


def _kind(step: Step) -> str:
    return type(step).__name__.lower()


def _told(error: BaseException) -> str:
    if isinstance(error, BourneError):
        return str(error)
    return "".join(traceback.format_exception(error)).strip()


def _short(error: BaseException | None) -> str | None:
    if error is None:
        return None
    return str(error) if isinstance(error, BourneError) else f"{type(error).__name__}: {error}"
