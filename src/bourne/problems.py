"""Errors as HTTP answers: problem details in the shape of RFC 9457 (`title`, `status`), with the members of our errors
(`where`, `expected`, `found`, `hint`). The table is in docs/serving.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from bourne.errors import (
    Behind,
    BodyTooLarge,
    BourneError,
    Closed,
    CorruptFrame,
    DefinitionError,
    InputError,
    JobCompleted,
    JobRunning,
    LogLocked,
    MalformedInput,
    QueryError,
    SourceFailed,
    StorageError,
    UnknownName,
)
from bourne.limits import HTTP_RETRY_AFTER_S

# What an error of ours is to a client; the first that fits.
_STATUSES: Final[tuple[tuple[type[BourneError], HTTPStatus], ...]] = (
    (BodyTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (MalformedInput, HTTPStatus.BAD_REQUEST),
    (SourceFailed, HTTPStatus.BAD_REQUEST),  # the body cannot be read
    (UnknownName, HTTPStatus.NOT_FOUND),
    (InputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (JobRunning, HTTPStatus.CONFLICT),
    (JobCompleted, HTTPStatus.CONFLICT),
    (Behind, HTTPStatus.SERVICE_UNAVAILABLE),
    (QueryError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (DefinitionError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Closed, HTTPStatus.SERVICE_UNAVAILABLE),
    (LogLocked, HTTPStatus.SERVICE_UNAVAILABLE),
    (StorageError, HTTPStatus.SERVICE_UNAVAILABLE),
    (CorruptFrame, HTTPStatus.INTERNAL_SERVER_ERROR),
)

_COME_AGAIN: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Refused(Exception):
    """A request is not taken: the status to answer, why, and headers."""

    def __init__(self, status: HTTPStatus, error: BourneError, **headers: str) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def busy(expected: str) -> Refused:
    """Return the refusal of who comes when too many are there."""
    error = InputError("too much is in work", expected=expected, found="more", hint="ask again in a moment")
    return Refused(HTTPStatus.TOO_MANY_REQUESTS, error)


def refusal(error: BourneError | Refused) -> Response:
    """Return the answer to a request that failed."""
    if isinstance(error, Refused):
        return problem(error.status, error.error, error.headers)
    return problem(_status(error), error)


def _status(error: BourneError) -> HTTPStatus:
    found = (status for kind, status in _STATUSES if isinstance(error, kind))
    return next(found, HTTPStatus.INTERNAL_SERVER_ERROR)


def problem_text(error: BourneError | Refused) -> str:
    """Return an error as a JSON object, for where no answer can begin any more."""
    inner, status = (error.error, error.status) if isinstance(error, Refused) else (error, _status(error))
    return json.dumps(_members(status, inner), ensure_ascii=False)


def problem(status: HTTPStatus, error: BourneError, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as an answer."""
    # Who has waited for a position already decides himself whether to wait for more.
    is_brief = status in _COME_AGAIN and not isinstance(error, Behind)
    retry = {"Retry-After": str(HTTP_RETRY_AFTER_S)} if is_brief else {}
    return JSONResponse(
        _members(status, error),
        int(status),
        {**retry, **(headers or {})},
        media_type="application/problem+json",
    )


def _members(status: HTTPStatus, error: BourneError) -> dict[str, Any]:
    members = {"where": error.where, "expected": error.expected, "found": error.found, "hint": error.hint}
    said = {name: str(value) for name, value in members.items() if value is not None}
    return {"title": error.what, "status": int(status), **said}
