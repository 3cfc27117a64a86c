"""Bodies of requests, taken in with bounds: so large, and in so much time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from fastapi import Request
from starlette.requests import ClientDisconnect

from bourne.errors import BodyTooLarge, InputError, MalformedInput
from bourne.limits import SERVE_BODY_BYTES_MAX, SERVE_BODY_S
from bourne.problems import Refused


async def read_body(
    request: Request, bytes_max: int = SERVE_BODY_BYTES_MAX, take: Callable[[int], None] = lambda size: None
) -> bytes:
    """Return a body when all of it has come; `take` is told of the size of each piece, and may raise.

    Raises:
        BodyTooLarge: it is.
        Refused: it comes too slowly.
        MalformedInput: the client went away in the middle.
    """
    pieces, size = [], 0
    try:
        async with asyncio.timeout(SERVE_BODY_S + bytes_max / (1 << 20)):
            async for piece in request.stream():
                pieces.append(piece)
                size += len(piece)
                take(len(piece))
                if size > bytes_max:
                    raise BodyTooLarge(
                        "the body is too large", expected=f"at most {bytes_max:,} bytes", found="more",
                        hint="send it in parts",
                    )  # fmt: skip
    except TimeoutError as error:
        slow = InputError("the body comes too slowly", expected=f"all of it within {SERVE_BODY_S:g} s")
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, slow, Connection="close") from error
    except ClientDisconnect as error:
        raise MalformedInput("the body ended too early") from error
    return b"".join(pieces)
