"""Queries over HTTP."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError

from bourne.serve.bodies import read_body
from bourne.serve.encoding import MEDIA_TYPES
from bourne.serve.guard import who_asks
from bourne.serve.interface import ANSWER, QUESTION, Question, kind_of, not_understood, service_of
from bourne.serve.streams import leaves


def add_query(app: FastAPI) -> None:
    """Add the route."""

    @app.post("/query", tags=["query"], openapi_extra=QUESTION, response_class=Response, responses=ANSWER)
    async def query(request: Request) -> Response:
        """Answer one SELECT over views and logs, all at one position."""
        try:
            question = Question.model_validate_json(await read_body(request))
        except ValidationError as error:
            raise not_understood(error.errors()[0]) from error
        kind = kind_of(request, question.format)
        asked = {**question.model_dump(exclude={"format"}), "format": kind}
        asking = asyncio.ensure_future(service_of(request).queries.ask(asked, who_asks(request)))
        leaving = asyncio.ensure_future(leaves(request.receive))
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody waits for it any more
        finally:
            leaving.cancel()
            asking.cancel()
        found = asking.result()
        headers = {} if found.position is None else {"Bourne-Position": found.position}
        return Response(found.body, found.status, headers, found.media_type or MEDIA_TYPES[kind])
