"""The HTTP interface, as docs/serving.md describes it: what is asked is read here, what is answered is made elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from bourne import __version__
from bourne.errors import BourneError, InputError
from bourne.problems import Refused, problem, refusal
from bourne.serve import session
from bourne.serve.interface import PROBLEM, Problem, Question, not_understood, service_of
from bourne.serve.jobs_api import add_jobs
from bourne.serve.logs_api import add_logs
from bourne.serve.query_api import add_query
from bourne.serve.service import Service
from bourne.serve.state_api import add_state
from bourne.serve.tokens import Tokens
from bourne.serve.views_api import add_views

STATIC: Final = Path(__file__).parent / "static"


def make_app(make_service: Callable[[], Service], tokens: Tokens) -> FastAPI:
    """Return the application; `make_service` is called in the server's loop."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = make_service()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="Bourne", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Asks and follows views and logs. Every answer says its position.", responses=PROBLEM,
        separate_input_output_schemas=False,
    )  # fmt: skip
    add_views(app)
    add_logs(app)
    add_query(app)
    add_jobs(app)
    add_state(app)
    _add_pages(app, tokens)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(BourneError, _on_error)
    app.add_exception_handler(Refused, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_fault)
    _describe_problems(app)
    return app


def _add_pages(app: FastAPI, tokens: Tokens) -> None:
    """Add the dashboard, and signing in to it."""

    @app.get("/session", tags=["session"])
    async def who(request: Request) -> JSONResponse:
        """Say whose token this is."""
        return await service_of(request).work(session.who, request, tokens)

    @app.post("/session", tags=["session"])
    async def sign_in(request: Request, given: session.SignIn) -> JSONResponse:
        """Sign in: the token is kept in a cookie."""
        return await service_of(request).work(session.sign_in, request, tokens, given.token)

    @app.delete("/session", tags=["session"])
    async def sign_out() -> JSONResponse:
        """Sign out."""
        return session.sign_out()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> RedirectResponse:
        return RedirectResponse("./#/api")

    @app.get("/", include_in_schema=False)
    async def dashboard(request: Request) -> FileResponse:
        service_of(request).queries.prepare()  # who looks may soon ask
        return FileResponse(STATIC / "index.html")


# --- errors ----------------------------------------------------------------------------------------------------


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BourneError | Refused)
    return refusal(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return refusal(not_understood(error.errors()[0]))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    what = InputError(
        status.phrase,
        where=request.url.path[:200],
        found=request.method,
        hint="what there is: GET /openapi.json",
    )
    return problem(status, what, error.headers)


async def _on_fault(request: Request, error: Exception) -> Response:
    what = BourneError("this has failed", found=type(error).__name__, hint="please report this")
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, what)


def _describe_problems(app: FastAPI) -> None:
    """Let the description name the shape of problems."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = make()
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema()
            schemas["Question"] = Question.model_json_schema()
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
