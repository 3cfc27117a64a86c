"""What is asked of jobs over HTTP: runs begun, gone on with and stopped, and calls that schedules wait for.

Law: nothing here waits for a run; what it returns is in the history already. Runs begin where the app's jobs are at work, one
process of a data folder; elsewhere that is refused. Stopping is for all: the history carries it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request

from bourne.errors import BourneError, InputError, MalformedInput
from bourne.jobs.jobs import Scheduled
from bourne.limits import SERVED_RUNS_AT_WORK
from bourne.problems import Refused, busy
from bourne.serve.bodies import read_body
from bourne.serve.jobs_told import run_told
from bourne.serve.service import Service


async def json_object(request: Request) -> dict[str, Any]:
    """Return the JSON object that a body is; an empty body is an empty one.

    Raises:
        MalformedInput: it is no JSON. InputError: it is no object. Otherwise as `read_body`.
    """
    body = await read_body(request)
    if not body.strip():
        return {}
    try:
        found = json.loads(body, parse_constant=_no_number, object_pairs_hook=_once)
        json.dumps(found, ensure_ascii=False).encode()  # half a character cannot be stored
    except (ValueError, RecursionError) as error:
        raise MalformedInput(
            "the body is no JSON", expected='an object: {"day": "2026-01-31"}', found=str(error)[:200]
        ) from error
    if not isinstance(found, dict):
        raise InputError(
            "the body is no JSON object", expected='{"day": "2026-01-31"}', found=type(found).__name__
        )
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; one that says something twice is refused, as nobody knows which is meant."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found


def start(
    service: Service, job: str, parameters: Mapping[str, Any], *, again: bool, who: str
) -> dict[str, Any]:
    """Begin a run of a job, and say which.

    Raises:
        UnknownName, InputError, DefinitionError: there is no such job, or no such run of it can be.
        JobRunning, JobCompleted: this instance is running, or has completed.
        Refused: this process begins no runs, or too many are at work.
    """
    launching = _beginning(service).launching
    number = launching.begin(job, parameters, trigger=f"over HTTP by {who}", again=again)
    return {"run": run_told(service.instance.jobs.run(number))}


def restart(service: Service, run: int) -> dict[str, Any]:
    """Go on with a run as a new one, and say which. Raises: as `start`."""
    number = _beginning(service).launching.go_on(run)
    return {"run": run_told(service.instance.jobs.run(number))}


def stop(service: Service, run: int) -> dict[str, Any]:
    """Ask a run to stop after the chunks at hand, in whichever process it is; say how it is.

    Raises:
        UnknownName: there is no such run. Refused: it is not running.
    """
    jobs = service.instance.jobs
    try:
        jobs.stop(run)
    except InputError as error:
        raise Refused(HTTPStatus.CONFLICT, error) from error
    if service.jobs is not None:
        service.jobs.launching.stop_here(run)
    return {"run": run_told(jobs.run(run))}


def call(service: Service, name: str, key: str | None, details: Mapping[str, Any]) -> dict[str, Any]:
    """Note a call, which is durable then, and say what it has begun, or will.

    Raises:
        UnknownName: no schedule waits for it. InputError: its key was used for another call.
        Refused: this process begins no runs, or too many calls wait.
    """
    scheduler = _scheduled(service).scheduler
    request_id = key if key is not None else uuid.uuid4().hex
    try:
        fires = scheduler.call(name, request_id=request_id, details=details)
    except BourneError as error:
        if type(error) is not BourneError:
            raise
        raise Refused(HTTPStatus.TOO_MANY_REQUESTS, error) from error  # too many wait
    if any(fire.details != details for fire in fires):
        raise InputError(
            "this Idempotency-Key was used for another call", where=f"call {name!r}", found=request_id,
            hint="use a new key for each call, and the same one only to repeat it",
        )  # fmt: skip
    told = [{"schedule": fire.schedule, "state": fire.state, "run": fire.run} for fire in fires]
    return {"call": name, "id": request_id, "fires": told}


def _scheduled(service: Service) -> Scheduled:
    if service.jobs is None:
        error = InputError(
            "this process begins no runs", where="jobs", expected="the process that does, one of a data folder",
            found="another one", hint="ask the one that `bourne run app.py` began first; or: bourne jobs start app.py JOB",
        )  # fmt: skip
        raise Refused(HTTPStatus.CONFLICT, error)
    return service.jobs


def _beginning(service: Service) -> Scheduled:
    """Return what begins runs, if there is room for one more. Two that come at once may both be let in: it is no quota."""
    found = _scheduled(service)
    if found.launching.at_work >= SERVED_RUNS_AT_WORK:
        raise busy(f"at most {SERVED_RUNS_AT_WORK} runs at once")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")
