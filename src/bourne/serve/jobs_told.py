"""What is said of jobs and their runs, as JSON.

Law: it is read from the history, so any process can say it; only what waits to begin is known where it is begun. Times are
microseconds since 1970 UTC, and each answer has the server's own (`now_us`): a client's clock may be another one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bourne.batch.cron import Cron
from bourne.batch.days import Calendar, GivenDays
from bourne.batch.job import Job
from bourne.batch.schedule import Every, Schedule
from bourne.batch.scheduled import ScheduleDefinition, When
from bourne.batch.triggers import FileArrived, HttpCall, JobEnded, ViewReached
from bourne.jobs.counting import rows_counted, rows_read, runs_counted
from bourne.jobs.history import ChunkRun, Message, Run, StepRun
from bourne.limits import RUN_ERROR_SHOWN_CHARS, RUNS_SHOWN
from bourne.serve.metrics import jobs_text
from bourne.serve.service import Service

_UNITS = (("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000), ("second", 1_000_000))


def jobs(service: Service) -> dict[str, Any]:
    """Say which jobs there are, when they begin, and how their last runs went."""
    found, now_us = service.instance.jobs, service.instance.clock.now_us()
    return {
        "now_us": now_us,
        "begins_here": service.jobs is not None,
        "jobs": [
            _job(service, job, found.runs(job=job.name, most=RUNS_SHOWN), now_us)
            for job in found.declared.values()
        ],
    }


def _job(service: Service, job: Job, runs: Sequence[Run], now_us: int) -> dict[str, Any]:
    schemas, texts = job.signature.schemas, job.signature.described()
    parameters = [
        {
            "name": name, "text": text, "required": name in job.signature.required,
            "identifies": name in job.signature.identifying, "schema": schemas[name],
        }
        for name, text in zip(job.signature.names, texts, strict=True)
    ]  # fmt: skip
    schedules = [
        _schedule(service, each, now_us)
        for each in service.instance.jobs.schedules.values()
        if each.job == job.name
    ]
    return {
        "name": job.name, "description": job.description, "parameters": plain(parameters), "schedules": schedules,
        "last_runs": [run_in_list(each) for each in runs],
    }  # fmt: skip


def _schedule(service: Service, definition: ScheduleDefinition, now_us: int) -> dict[str, Any]:
    when = definition.when
    scheduler = None if service.jobs is None else service.jobs.scheduler
    trouble = None if scheduler is None else scheduler.troubles.get(definition.name)
    return {
        "name": definition.name,
        "when": when_text(when),
        "next_us": when.next_after(now_us) if isinstance(when, Schedule) else None,
        "waiting": None if scheduler is None else scheduler.fires.waiting(definition.name),
        "trouble": None if trouble is None else trouble.what,
    }


def when_text(when: When) -> str:
    """Return when a schedule begins runs, for people."""
    match when:
        case Every(interval_us=interval_us):
            return f"every {_interval_text(interval_us)}"
        case Cron(expression=expression, zone=zone):
            return f"cron {expression} ({zone})"
        case Calendar(days=days, times=times, zone=zone):
            which = "on given days" if isinstance(days, GivenDays) else "on business days"
            if not isinstance(days, GivenDays) and days.nth is not None:
                which = f"on business day {days.nth} of the month"
            return f"{which} at {', '.join(each.isoformat('auto') for each in times)} ({zone})"
        case FileArrived(pattern=pattern):
            return f"when a file arrives: {pattern}"
        case ViewReached(view=view, rows=rows):
            return f"each {rows:,} records of view {view}"
        case JobEnded(job=job, status=status):
            return f"when job {job} has ended" + ("" if status is None else f" {status}")
        case HttpCall(name=name):
            return f"when it is called: POST /jobs/calls/{name}"
        case _:  # a schedule of the user's own
            return type(when).__name__


def _interval_text(interval_us: int) -> str:
    name, size = next((unit for unit in _UNITS if interval_us % unit[1] == 0), ("second", 1_000_000))
    number = interval_us / size
    return name if number == 1 else f"{number:g} {name}s"


def run_in_list(run: Run) -> dict[str, Any]:
    """Say of a run what a list says."""
    found = run_told(run)
    error: str | None = found["error"]
    if error is not None and len(error) > RUN_ERROR_SHOWN_CHARS:
        found["error"] = error[: RUN_ERROR_SHOWN_CHARS - 1] + "…"
    return found


def run_told(run: Run) -> dict[str, Any]:
    """Say how a run is."""
    found: dict[str, Any] = plain(asdict(run))
    return found


def run_with_steps(service: Service, number: int) -> dict[str, Any]:
    """Say how a run and its steps are, and how long those at work may still take.

    Raises:
        UnknownName: there is no such run.
    """
    found, now_us = service.instance.jobs, service.instance.clock.now_us()
    run = found.run(number)
    steps = found.steps(number)
    here = rows_read(found.history, number) if run.status == "STARTED" else {}
    told = [_step(each, here, now_us, is_running=run.status == "STARTED") for each in steps]
    wholes = [{**each, "parts": []} for each in told if not each["part"]]
    by_name = {each["step"]: each for each in wholes}
    for each in told:
        if each["part"] and each["step"] in by_name:
            by_name[each["step"]]["parts"].append(each)
    at_work = [each["left_us"] for each in wholes if each["ended_us"] is None and each["share"] is not None]
    is_known = bool(at_work) and all(each is not None for each in at_work)
    return {
        "now_us": now_us,
        "run": run_told(run),
        "left_us": max(at_work) if is_known else None,
        "steps": wholes,
        "children": [run_in_list(each) for each in found.history.children(number)],
    }


def _step(
    step: StepRun, here: Mapping[tuple[str, str], int], now_us: int, *, is_running: bool
) -> dict[str, Any]:
    read_here = sum(
        rows
        for (name, part), rows in here.items()
        if name == step.step and (not step.part or part == step.part)
    )
    left = left_us(step, read_here, now_us) if is_running else None
    return {**plain(asdict(step)), "left_us": left}


def left_us(step: StepRun, read_here: int, now_us: int) -> int | None:
    """Return how long a step may still take if it goes on as it did: None where nothing is known of that.

    `read_here`: the rows that this very run has read; a share that an earlier one had done took no time of this one.
    """
    if step.ended_us is not None or not step.share:
        return None
    done_here = step.share * (min(1.0, read_here / step.read) if step.read else 1.0)
    if not done_here:
        return None
    return int(max(0, now_us - step.started_us) * max(0.0, 1 - step.share) / done_here)


def metrics(service: Service) -> str:
    """Say how jobs are to Prometheus; nothing, where there are none."""
    found = service.instance.jobs
    if not found.has_history:
        return ""
    found.see_the_dead()
    waiting: list[tuple[str, int]] = []
    if service.jobs is not None:
        waiting = [(name, service.jobs.scheduler.fires.waiting(name)) for name in found.schedules]
    return jobs_text(runs_counted(found.history), rows_counted(found.history), waiting)


def chunk_told(chunk: ChunkRun) -> dict[str, Any]:
    """Say how an attempt at a chunk went."""
    found: dict[str, Any] = plain(asdict(chunk))
    return found


def message_told(message: Message) -> dict[str, Any]:
    """Say what a run said."""
    return asdict(message)


def plain(value: Any) -> Any:
    """Return a value as JSON can say it: what is no number in it is a text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
