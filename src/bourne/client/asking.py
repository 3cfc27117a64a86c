"""What is asked of a server, and what its answer means: no input, no output.

Law: only what does no harm twice is asked twice, and not for ever: questions, and appends, each with its own key.
"""

from __future__ import annotations

import dataclasses
import email.utils
import io
import json
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import quote

import httpx
import pyarrow as pa

from bourne.client.bodies import json_body, records_body, value_text
from bourne.errors import (
    Behind,
    BodyTooLarge,
    BourneError,
    InputError,
    MalformedInput,
    NotAllowed,
    QueryError,
    ServerRefused,
    UnknownName,
    Unreachable,
)
from bourne.limits import (
    AT_LEAST_S,
    CLIENT_ANSWER_S,
    CLIENT_ATTEMPTS,
    CLIENT_CONNECT_S,
    CLIENT_RETRY_AFTER_S_MAX,
    RETRY_S_MAX,
    RETRY_S_MIN,
)
from bourne.position import parse_position, position_text
from bourne.result import Result

T = TypeVar("T")

_BUSY: Final = frozenset({429, 502, 504})


class HasPosition(Protocol):
    """What says a position: what `append` returned, an answer, a change, a replica."""

    @property
    def position(self) -> str | None:
        """The position as text."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Where the records of an append are: the first and the last offset in each partition."""

    records: int
    offsets: Mapping[int, tuple[int, int]]
    is_repeat: bool
    position: str

    def __len__(self) -> int:
        return self.records


class Answer(Result):
    """Rows that a server has answered. `is_more`: there are more of them than were asked for."""

    def __init__(self, table: pa.Table, types: Sequence[str], position: str | None, *, is_more: bool) -> None:
        super().__init__(table, types, None if position is None else parse_position(position))
        self.is_more = is_more


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A request, and how to read its answer. `refusal` is what 422 means."""

    method: str
    path: str
    take: Callable[[httpx.Response], T]
    refusal: type[BourneError] = QueryError
    parameters: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    content: bytes | None = None
    wait_s: float = 0.0

    def arguments(self) -> dict[str, Any]:
        """Return what httpx is to be called with."""
        return {
            "method": self.method, "url": self.path, "params": self.parameters, "headers": dict(self.headers), "content": self.content,
            "timeout": httpx.Timeout(CLIENT_ANSWER_S + self.wait_s, connect=CLIENT_CONNECT_S),
        }  # fmt: skip


class Asking:
    """One client's questions. `position` is the last one it saw, if it is to read nothing older."""

    def __init__(self, url: str, token: str | None, *, is_monotonic: bool) -> None:
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise InputError(
                "this is no address", expected="http://127.0.0.1:8040", found=str(url)
            ) from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise InputError(
                "this is no address of a server", expected="http://… or https://…", found=str(url)
            )
        self.url = str(url).rstrip("/")
        self.is_https = parsed.scheme == "https"
        self.is_monotonic = is_monotonic
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.position = ""

    # --- what is asked ---------------------------------------------------------------------------------------

    def append(self, log: str, rows: Any, request_id: str | None) -> Request[Sent]:
        """Ask to append records."""
        kind, body = records_body(rows)
        headers = {
            "Content-Type": kind,
            "Idempotency-Key": uuid.uuid4().hex if request_id is None else request_id,
        }
        return Request("POST", f"/logs/{_name(log)}", self._sent, InputError, headers=headers, content=body)

    def view(
        self, view: str, filter: Mapping[str, Any] | None, where: str | None, columns: Sequence[str] | None,
        order: Sequence[str], limit: int | None, page: int | None, at_least: str | HasPosition | None, wait_s: float,
    ) -> Request[Answer]:  # fmt: skip
        """Ask for rows of a view."""
        found = selection(filter, where, columns)
        found += [("order", ",".join(order))] if order else []
        found += [
            (name, str(value)) for name, value in (("limit", limit), ("page", page)) if value is not None
        ]
        found += [("at_least", self.at_least(at_least)), ("wait", f"{wait_s:g}"), ("format", "arrow")]
        return Request("GET", f"/views/{_name(view)}", self._answer, parameters=tuple(found), wait_s=wait_s)

    def query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None, at_least: str | HasPosition | None, wait_s: float
    ) -> Request[Answer]:  # fmt: skip
        """Ask for the answer to a SELECT."""
        question = {
            "sql": sql, "parameters": parameters, "at_least": self.at_least(at_least), "wait": wait_s, "format": "arrow",
        }  # fmt: skip
        headers = {"Content-Type": "application/json"}
        return Request(
            "POST", "/query", self._answer, headers=headers, content=json_body(question), wait_s=wait_s
        )

    def log(
        self, log: str, start: int | None, last: int | None, partition: int | None, limit: int | None,
        columns: Sequence[str] | None,
    ) -> Request[Answer]:  # fmt: skip
        """Ask for records of a log."""
        given = {"start": start, "last": last, "partition": partition, "limit": limit}
        found = [(name, str(value)) for name, value in given.items() if value is not None]
        found += [("columns", ",".join(columns))] if columns else []
        found.append(("format", "arrow"))
        return Request("GET", f"/logs/{_name(log)}", self._answer, parameters=tuple(found))

    def status(self) -> Request[dict[str, Any]]:
        """Ask how all is."""
        return Request("GET", "/status", self._object)

    def columns(self, view: str, asked: Sequence[tuple[str, str]]) -> Request[list[tuple[str, str]]]:
        """Ask which columns, and of which types, a subscription has."""
        parameters = (*asked, ("limit", "1"), ("format", "json"))
        return Request("GET", f"/views/{_name(view)}", self._columns, parameters=parameters)

    def at_least(self, wanted: str | HasPosition | None) -> str:
        """Return the position that an answer has to reflect."""
        text = "" if wanted is None else wanted if isinstance(wanted, str) else wanted.position or ""
        return joined(text, self.position)

    # --- what an answer means ----------------------------------------------------------------------------------

    def _sent(self, response: httpx.Response) -> Sent:
        said = self._object(response)
        offsets = {each["partition"]: (each["first"], each["last"]) for each in said["offsets"]}
        self._see(said["position"])
        return Sent(said["records"], offsets, said["repeat"], said["position"])

    def _answer(self, response: httpx.Response) -> Answer:
        try:
            with pa.ipc.open_stream(io.BytesIO(response.content)) as reader:
                table = reader.read_all()
        except (pa.ArrowException, OSError) as error:
            raise _not_ours(response, "rows as Arrow") from error
        types = json.loads((table.schema.metadata or {}).get(b"bourne.types", b"[]"))
        position = response.headers.get("Bourne-Position")
        self._see(position or "")
        is_more = response.headers.get("Bourne-More") == "true"
        return Answer(table.replace_schema_metadata(), types, position, is_more=is_more)

    def _object(self, response: httpx.Response) -> dict[str, Any]:
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise _not_ours(response, "a JSON object")
        return found

    def _columns(self, response: httpx.Response) -> list[tuple[str, str]]:
        return [(each["name"], each["type"]) for each in self._object(response)["columns"]]

    def _see(self, position: str) -> None:
        if self.is_monotonic:
            self.position = joined(position, self.position)

    # --- when it does not come -----------------------------------------------------------------------------------

    def read(self, request: Request[T], response: httpx.Response) -> T:
        """Return what an answer says.

        Raises:
            BourneError: it is a refusal, or not a server of ours.
        """
        if response.is_success:
            return request.take(response)
        raise refused(response, request.refusal)

    def pause_s(self, error: Exception, failures: int) -> float:
        """Return how long to wait before asking once more.

        Raises:
            BourneError: it is not worth it.
        """
        found = self.understood(error)
        is_brief = isinstance(found, Unreachable) or (
            isinstance(found, ServerRefused)
            and (found.status in _BUSY or (found.status == 503 and found.retry_after_s is not None))
        )
        if not is_brief or failures + 1 >= CLIENT_ATTEMPTS:
            raise found from (None if found is error else error)
        return pause_s(found, failures)

    def understood(self, error: Exception) -> BourneError:
        """Return an error of the wire as one of ours."""
        if isinstance(error, BourneError):
            return error
        return Unreachable(
            "the server cannot be reached", where=self.url, found=f"{type(error).__name__} {error}".strip(),
            hint="is it running? bourne run app.py",
        )  # fmt: skip


def pause_s(error: BourneError, failures: int) -> float:
    """Return how long to wait after so many failures: at random, so that not all come back at the same time."""
    grown = float(min(RETRY_S_MAX, RETRY_S_MIN * 2 ** min(failures, 30))) * random.uniform(0.5, 1)
    asked = error.retry_after_s if isinstance(error, ServerRefused) else None
    return grown if asked is None else min(CLIENT_RETRY_AFTER_S_MAX, asked + grown / 2)


def refused(response: httpx.Response, refusal: type[BourneError]) -> BourneError:
    """Return what a refusal says, as the error that it is here; `refusal` is what 422 means."""
    status = response.status_code
    is_ours = response.headers.get("Content-Type", "").startswith("application/problem+json")
    try:
        problem = response.json() if is_ours else {}
    except ValueError:
        problem = {}
    what = str(
        problem.get("title") or response.text[:500] or response.reason_phrase or "the server refused it"
    )
    said = {name: problem.get(name) for name in ("where", "expected", "found", "hint")}
    after_s = _seconds(response.headers.get("Retry-After"))
    if status in (401, 403):
        return NotAllowed(what, status=status, retry_after_s=after_s, **said)
    kinds: dict[int, type[BourneError]] = {
        400: MalformedInput,
        404: UnknownName,
        413: BodyTooLarge,
        422: refusal,
    }
    if is_ours and status in kinds:
        return kinds[status](what, **said)
    if is_ours and status == 503 and after_s is None:
        return Behind(what, **said)
    return ServerRefused(what, status=status, retry_after_s=after_s, **said)


def selection(
    filter: Mapping[str, Any] | None, where: str | None, columns: Sequence[str] | None
) -> list[tuple[str, str]]:
    """Return as parameters which rows and columns are asked for.

    Raises:
        InputError: a value cannot be one of a filter.
    """
    found = []
    for name, value in (filter or {}).items():
        if value is None:
            raise InputError("NULL equals nothing", where=f"filter {name}", hint=f'where="{name} IS NULL"')
        found.append((f"where.{name}", value_text(value)))
    found += [] if where is None else [("where", where)]
    return found + ([("columns", ",".join(columns))] if columns else [])


def joined(left: str, right: str) -> str:
    """Return the position that has all records of both."""
    return position_text(parse_position(f"{left},{right}")) if left and right else left or right


def changes_path(view: str) -> str:
    """Return where a view is followed."""
    return f"/views/{_name(view)}/changes"


def _name(name: str) -> str:
    return quote(name, safe="")


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    if retry_after.isdigit() and len(retry_after) < 10:
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def _not_ours(response: httpx.Response, expected: str) -> ServerRefused:
    found = response.headers.get("Content-Type", "nothing")
    return ServerRefused(
        "somebody else answered: this is no Bourne",
        status=response.status_code,
        expected=expected,
        found=found,
    )


WAIT_S: Final = AT_LEAST_S
