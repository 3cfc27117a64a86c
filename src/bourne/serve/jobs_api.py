"""Batch jobs over HTTP: which there are, what became of their runs; runs begun, stopped and gone on with; calls."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, Header, Path, Query, Request
from fastapi.responses import JSONResponse

from bourne.connect.http_requests import idempotency_key as checked_key
from bourne.limits import SERVED_RUNS, SERVED_RUNS_MAX
from bourne.serve import jobs_asked, jobs_told
from bourne.serve.guard import who_asks
from bourne.serve.interface import service_of
from bourne.serve.service import Service

_NUMBER_MAX: Final = 1 << 62

Number = Annotated[int, Path(ge=1, le=_NUMBER_MAX, description="The number of a run.")]
JobName = Annotated[str, Path(description="The name of a job.", max_length=200)]
CallName = Annotated[str, Path(description="What a schedule waits for: `http_call(NAME)`.", max_length=200)]
Most = Annotated[int, Query(ge=1, le=SERVED_RUNS_MAX, description="How many at most.")]
Status = Literal["STARTED", "COMPLETED", "FAILED", "STOPPED"]


def _body(what: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {"requestBody": {"required": False, "description": what, "content": content}}


PARAMETERS: Final = _body("The job's parameters, by name; what is text is read as the type that is wanted.")
DETAILS: Final = _body("What the schedule's `params` gets as the event's details.")


def add_jobs(app: FastAPI) -> None:
    """Add the routes."""
    _add_reads(app)
    _add_writes(app)


def _add_reads(app: FastAPI) -> None:
    @app.get("/jobs", tags=["jobs"])
    async def jobs(request: Request) -> JSONResponse:
        """Say which jobs there are, with their parameters, schedules and last runs."""
        service = service_of(request)
        return JSONResponse(await service.work(jobs_told.jobs, service))

    @app.get("/jobs/runs", tags=["jobs"])
    async def runs(
        request: Request,
        job: Annotated[str | None, Query(max_length=200, description="Of this job only.")] = None,
        status: Annotated[Status | None, Query(description="Only those that are so.")] = None,
        same_as: Annotated[int | None, Query(ge=1, le=_NUMBER_MAX, description="Only those of the instance of this run.")] = None,
        before: Annotated[int | None, Query(ge=1, le=_NUMBER_MAX, description="Only older ones than this: the next page.")] = None,
        limit: Most = SERVED_RUNS,
    ) -> JSONResponse:  # fmt: skip
        """List runs, the newest first."""
        service = service_of(request)
        return JSONResponse(await service.work(_runs, service, job, status, same_as, before, limit))

    @app.get("/jobs/runs/{run}", tags=["jobs"])
    async def run(request: Request, run: Number) -> JSONResponse:
        """Say how a run is: its steps and their parts, and how long they may still take."""
        service = service_of(request)
        return JSONResponse(await service.work(jobs_told.run_with_steps, service, run))

    @app.get("/jobs/runs/{run}/chunks", tags=["jobs"])
    async def chunks(
        request: Request, run: Number,
        step: Annotated[str | None, Query(max_length=200, description="Of this step only.")] = None,
        limit: Most = SERVED_RUNS,
    ) -> JSONResponse:  # fmt: skip
        """List the last chunks of a run, the newest first."""
        service = service_of(request)
        found = await service.work(lambda: service.instance.jobs.chunks(run, step=step, most=limit + 1))
        told = [jobs_told.chunk_told(each) for each in found[:limit]]
        return JSONResponse({"chunks": told, "more": len(found) > limit})

    @app.get("/jobs/runs/{run}/messages", tags=["jobs"])
    async def messages(
        request: Request, run: Number,
        after: Annotated[int | None, Query(ge=0, le=_NUMBER_MAX, description="Those behind the one of this id; by default the last ones.")] = None,
        limit: Most = SERVED_RUNS,
    ) -> JSONResponse:  # fmt: skip
        """Return what a run said, in order."""
        service = service_of(request)
        return JSONResponse(await service.work(_messages, service, run, after, limit))


def _add_writes(app: FastAPI) -> None:
    @app.post("/jobs/{job}/runs", tags=["jobs"], status_code=HTTPStatus.ACCEPTED, openapi_extra=PARAMETERS)
    async def start(
        request: Request, job: JobName,
        again: Annotated[bool, Query(description="Do all of it once more, though it has completed.")] = False,
    ) -> JSONResponse:  # fmt: skip
        """Begin a run; it is in the history when this answers."""
        service, who = service_of(request), who_asks(request)
        given = await jobs_asked.json_object(request)
        found = await service.work(lambda: jobs_asked.start(service, job, given, again=again, who=who))
        return JSONResponse(found, HTTPStatus.ACCEPTED)

    @app.post("/jobs/runs/{run}/stop", tags=["jobs"], status_code=HTTPStatus.ACCEPTED)
    async def stop(request: Request, run: Number) -> JSONResponse:
        """Ask a run to end after the chunks at hand."""
        service = service_of(request)
        return JSONResponse(await service.work(jobs_asked.stop, service, run), HTTPStatus.ACCEPTED)

    @app.post("/jobs/runs/{run}/restart", tags=["jobs"], status_code=HTTPStatus.ACCEPTED)
    async def restart(request: Request, run: Number) -> JSONResponse:
        """Go on with a run that failed or was stopped, after its last committed chunk, as a new run."""
        service = service_of(request)
        return JSONResponse(await service.work(jobs_asked.restart, service, run), HTTPStatus.ACCEPTED)

    @app.post("/jobs/calls/{name}", tags=["jobs"], status_code=HTTPStatus.ACCEPTED, openapi_extra=DETAILS)
    async def call(
        request: Request, name: CallName,
        idempotency_key: Annotated[str | None, Header(description="A repeat with the same key begins nothing.")] = None,
    ) -> JSONResponse:  # fmt: skip
        """Call the schedules that wait for it; the call is durable when this answers."""
        service, key = service_of(request), checked_key(request.headers)
        given = await jobs_asked.json_object(request)
        found = await service.work(jobs_asked.call, service, name, key, given)
        return JSONResponse(found, HTTPStatus.ACCEPTED)


def _runs(
    service: Service, job: str | None, status: str | None, same_as: int | None, before: int | None, limit: int
) -> dict[str, Any]:
    jobs = service.instance.jobs
    instance = None
    if same_as is not None:
        like = jobs.run(same_as)
        if job not in (None, like.job):
            return {"runs": [], "more": False}
        job, instance = like.job, like.instance
    found = jobs.runs(job=job, status=status, instance=instance, before=before, most=limit + 1)
    return {"runs": [jobs_told.run_in_list(each) for each in found[:limit]], "more": len(found) > limit}


def _messages(service: Service, run: int, after: int | None, limit: int) -> dict[str, Any]:
    jobs = service.instance.jobs
    jobs.run(run)  # raises if there is none
    history = jobs.history
    if after is None:
        found = history.last_messages(run, most=limit + 1)
        shown, is_more = found[-limit:], len(found) > limit
    else:
        found = history.messages(run, after=after, most=limit + 1)
        shown, is_more = found[:limit], len(found) > limit
    return {"messages": [jobs_told.message_told(each) for each in shown], "more": is_more}
