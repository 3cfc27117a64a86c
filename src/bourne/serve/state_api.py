"""How all is, over HTTP; and dead letters."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response

from bourne.limits import SERVED_ROWS, SERVED_ROWS_MAX
from bourne.serve import described, jobs_told
from bourne.serve.interface import NOT_READY, Chosen, service_of
from bourne.serve.metrics import metrics_text


def add_state(app: FastAPI) -> None:
    """Add the routes."""

    @app.get("/status", tags=["status"])
    async def status(request: Request) -> JSONResponse:
        """Say how logs, views, sources and sinks are."""
        service = service_of(request)
        return JSONResponse(await service.work(described.status, service))

    @app.get("/metrics", tags=["status"], response_class=Response,
             responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})  # fmt: skip
    async def metrics(request: Request) -> Response:
        """Say the same to Prometheus."""
        service = service_of(request)
        text = await service.work(
            lambda: metrics_text(service.instance.status(), service.subscribers) + jobs_told.metrics(service)
        )
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/dead-letters", tags=["status"])
    async def dead_letters(
        request: Request, limit: Annotated[int, Query(ge=1, le=SERVED_ROWS_MAX)] = SERVED_ROWS
    ) -> JSONResponse:
        """List what sources could not take in, and sinks refused."""
        service = service_of(request)
        return JSONResponse(await service.work(described.letters, service, limit))

    @app.post("/dead-letters/retry", tags=["status"])
    async def retry(request: Request, chosen: Chosen) -> JSONResponse:
        """Take letters in again; say of each why it still does not fit."""
        service = service_of(request)
        return JSONResponse(await service.work(described.retry, service, chosen.ids))

    @app.post("/dead-letters/discard", tags=["status"])
    async def discard(request: Request, chosen: Chosen) -> JSONResponse:
        """Give letters up."""
        service = service_of(request)
        return JSONResponse(await service.work(described.discard, service, chosen.ids))

    @app.get("/healthz", tags=["status"])
    async def healthz() -> JSONResponse:
        """Say that the server lives."""
        return JSONResponse({"status": "alive"})

    @app.get("/readyz", tags=["status"], responses=NOT_READY)
    async def readyz(request: Request) -> JSONResponse:
        """Say whether all views follow their logs."""
        service = service_of(request)
        problems = await service.work(described.not_ready, service)
        if problems:
            return JSONResponse({"status": "not ready", "why": problems}, HTTPStatus.SERVICE_UNAVAILABLE)
        return JSONResponse({"status": "ready"})
