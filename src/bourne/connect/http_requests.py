"""What is the same for all requests that bring records: what their headers say, and the room that they have.

Law: what requests in work hold is bounded, in their number and in bytes; who comes when it is full is told so.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.datastructures import Headers

from bourne.connect.http_bodies import CONTENT_TYPES, BodyFormat, unzip
from bourne.errors import InputError
from bourne.limits import (
    HTTP_BODY_BYTES_MAX,
    HTTP_BYTES_MAX,
    HTTP_REQUESTS_MAX,
    HTTP_RETRY_AFTER_S,
    REQUEST_ID_CHARS_MAX,
)
from bourne.problems import Refused


def body_kind(headers: Headers) -> BodyFormat:
    """Return how a body is written.

    Raises:
        Refused: in no way that is known.
    """
    found = headers.get("content-type", "").partition(";")[0].strip().casefold()
    if found not in CONTENT_TYPES:
        error = InputError(
            "no such Content-Type" if found else "no Content-Type",
            expected=", ".join(CONTENT_TYPES),
            found=found or "none",
        )
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, error)
    return CONTENT_TYPES[found]


def is_zipped(headers: Headers) -> bool:
    """Say whether a body is compressed.

    Raises:
        Refused: in a way that is not known.
    """
    found = headers.get("content-encoding", "identity").strip().casefold()
    if found not in ("identity", "gzip"):
        error = InputError("no such Content-Encoding", expected="gzip, or none", found=found)
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, error, Accept_Encoding="gzip")
    return found == "gzip"


def idempotency_key(headers: Headers) -> str | None:
    """Return the id of a request, if it has one.

    Raises:
        Refused: it cannot be kept.
    """
    found = headers.get("idempotency-key")
    if found is not None and not 0 < len(found) <= REQUEST_ID_CHARS_MAX:
        error = InputError(
            "an Idempotency-Key has a length", expected=f"1 to {REQUEST_ID_CHARS_MAX} characters",
            found=f"{len(found)} characters", hint="use a UUID",
        )  # fmt: skip
        raise Refused(HTTPStatus.BAD_REQUEST, error)
    return found


class Room:
    """What all requests in work have: so many of them, so many bytes. From any thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._requests = self._bytes = 0

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Hold a place while the block runs.

        Raises:
            Refused: there is none.
        """
        self.change(1, 0)
        place = Place(self)
        try:
            yield place
        finally:
            self.change(-1, -place.held)

    def change(self, requests: int, size: int) -> None:
        """Take in, or give back.

        Raises:
            Refused: it is full.
        """
        with self._mutex:
            is_full = requests > 0 and self._requests >= HTTP_REQUESTS_MAX
            if is_full or (size > 0 and self._bytes + size > HTTP_BYTES_MAX):
                busy = InputError(
                    "too much is in work", expected=f"{HTTP_REQUESTS_MAX} requests and {HTTP_BYTES_MAX:,} bytes at once",
                    found="more", hint=f"send it again in {HTTP_RETRY_AFTER_S} s, or send less at once",
                )  # fmt: skip
                raise Refused(HTTPStatus.TOO_MANY_REQUESTS, busy)
            self._requests += requests
            self._bytes += size


class Place:
    """What one request has: `held` bytes, of which `size` count for the largest body there may be."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.held = self.size = 0

    def take(self, size: int) -> None:
        """Make room for so many more bytes.

        Raises:
            Refused: there is no room, or too much for one body.
        """
        if self.size + size > HTTP_BODY_BYTES_MAX:
            large = InputError(
                "the body is too large", expected=f"at most {HTTP_BODY_BYTES_MAX:,} bytes, also when it is unpacked",
                found="more", hint="send it in parts; or put it into a file, and declare a source of files",
            )  # fmt: skip
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, large)
        self._room.change(0, size)
        self.held += size
        self.size += size

    def unzip(self, body: bytes) -> bytes:
        """Return a body that was compressed as it was before, for which there has to be room, too.

        Raises: as `http_bodies.unzip`, and Refused where there is none.
        """
        self.size = 0  # it has a bound of its own, however small it came
        return unzip(body, self.take)
