"""The client for asyncio: `AsyncClient`, and its `AsyncReplica`, which a task keeps current. Calls and laws are those of `Client`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx

from bourne.client.asking import WAIT_S, Answer, Asking, HasPosition, Request, Sent
from bourne.client.blocking import Tell, tls
from bourne.client.copy import Copied, ReplicaState, text_of
from bourne.client.cut import Cut
from bourne.client.following import Change, Following
from bourne.errors import BourneError, Closed, Unreachable

T = TypeVar("T")


class AsyncClient:
    """As `Client`. Belongs to one event loop."""

    def __init__(self, url: str, *, token: str | None = None, is_monotonic: bool = False) -> None:
        """As `Client`."""
        self._asking = Asking(url, token, is_monotonic=is_monotonic)
        self._streams: set[Cut] = set()
        self._ending = asyncio.Event()
        self._http = self._connect()

    async def append(self, log: str, rows: Any, *, request_id: str | None = None) -> Sent:
        """As `Client.append`."""
        return await self._ask(self._asking.append(log, rows, request_id))

    async def view(
        self, view: str, *, filter: Mapping[str, Any] | None = None, where: str | None = None,
        columns: Sequence[str] | None = None, order: Sequence[str] = (), limit: int | None = None, page: int | None = None,
        at_least: str | HasPosition | None = None, wait_s: float = WAIT_S,
    ) -> Answer:  # fmt: skip
        """As `Client.view`."""
        return await self._ask(
            self._asking.view(view, filter, where, columns, order, limit, page, at_least, wait_s)
        )

    async def query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, *,
        at_least: str | HasPosition | None = None, wait_s: float = WAIT_S,
    ) -> Answer:  # fmt: skip
        """As `Client.query`."""
        return await self._ask(self._asking.query(sql, parameters, at_least, wait_s))

    async def log(
        self, log: str, *, start: int | None = None, last: int | None = None, partition: int | None = None,
        limit: int | None = None, columns: Sequence[str] | None = None,
    ) -> Answer:  # fmt: skip
        """As `Client.log`."""
        return await self._ask(self._asking.log(log, start, last, partition, limit, columns))

    async def status(self) -> dict[str, Any]:
        """As `Client.status`."""
        return await self._ask(self._asking.status())

    def follow(
        self, view: str, *, filter: Mapping[str, Any] | None = None, where: str | None = None,
        columns: Sequence[str] | None = None, after: str | None = None, snapshot: bool = True, positions: bool = False,
    ) -> AsyncGenerator[Change, None]:  # fmt: skip
        """As `Client.follow`."""
        following = Following(
            self._asking, view, filter=filter, where=where, columns=columns, after=after, snapshot=snapshot,
            positions=positions,
        )  # fmt: skip
        return self._changes(following, lambda state: None)

    def replica(
        self, view: str, *, filter: Mapping[str, Any] | None = None, where: str | None = None,
        columns: Sequence[str] | None = None, on_change: Callable[[AsyncReplica], None] | None = None, wait_s: float = 30.0,
    ) -> AsyncReplica:  # fmt: skip
        """As `Client.replica`; `on_change` is called in the event loop."""
        following = Following(self._asking, view, filter=filter, where=where, columns=columns, positions=True)
        return AsyncReplica(lambda tell: self._changes(following, tell), on_change, wait_s)

    async def close(self) -> None:
        """End what follows, and the connections. Safe to call twice."""
        self._ending.set()
        for cut in list(self._streams):
            cut.close()
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- over the wire -----------------------------------------------------------------------------------------

    def _connect(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._asking.url, headers=self._asking.headers, verify=tls(self._asking)
        )

    async def _ask(self, request: Request[T]) -> T:
        for failures in itertools.count():
            self._check_open()
            try:
                return self._asking.read(request, await self._http.request(**request.arguments()))
            except (httpx.HTTPError, BourneError) as error:
                pause_s = self._asking.pause_s(error, failures)
            await self._wait(pause_s)
        raise AssertionError

    async def _changes(self, following: Following, tell: Tell) -> AsyncGenerator[Change, None]:
        self._check_open()
        cut = Cut()
        self._streams.add(cut)
        try:
            async with self._connect() as http:
                while not self._ending.is_set():
                    error: Exception = Unreachable("the server ended the stream", where=self._asking.url)
                    try:
                        async with contextlib.aclosing(self._stream(http, following, cut, tell)) as changes:
                            async for change in changes:
                                yield change
                    except (httpx.HTTPError, BourneError) as raised:
                        error = raised
                    tell("offline")
                    if not self._ending.is_set():
                        await self._wait(following.pause_s(error))
        finally:
            self._streams.discard(cut)

    async def _stream(
        self, http: httpx.AsyncClient, following: Following, cut: Cut, tell: Tell
    ) -> AsyncGenerator[Change, None]:
        """Yield what comes over one connection."""
        if (request := following.columns_request) is not None:
            response = await http.request(**request.arguments(), extensions={"trace": cut.note_async})
            following.take_columns(self._asking.read(request, response))
        trace = {"trace": cut.note_async}
        async with http.stream(**following.arguments(), extensions=trace) as response:
            if not response.is_success:
                await response.aread()
            following.check(response)
            tell("catching up")
            async for data in response.aiter_raw():
                for change in following.take(data):
                    yield change

    async def _wait(self, seconds: float) -> None:
        """Wait so long, or until the client is closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    def _check_open(self) -> None:
        if self._ending.is_set():
            raise Closed("the client is closed", where=self._asking.url)


class AsyncReplica(Copied):
    """A copy of a view that a task keeps current. `state` says how it is, `error` why it has ended."""

    def __init__(
        self, changes: Callable[[Tell], AsyncGenerator[Change, None]],
        on_change: Callable[[AsyncReplica], None] | None, wait_s: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self._changes = changes
        self._on_change = on_change
        self._wait_s = wait_s
        self._happened = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._fault: BaseException | None = None

    async def reaches(self, position: str | HasPosition, timeout_s: float = 30.0) -> None:
        """Wait until it reflects a position. Raises: as `Replica.reaches`."""
        wanted = text_of(position)
        if self._task is None:
            raise self._not_entered()
        try:
            async with asyncio.timeout(timeout_s):
                while self._fault is None and not self._has(wanted):
                    await self._happened.wait()
        except TimeoutError as error:
            raise self._late(wanted) from error
        if self._fault is not None:
            raise self._fault

    async def close(self) -> None:
        """Stop following; the copy stays as it is. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._become("closed")

    async def __aenter__(self) -> AsyncReplica:
        self._task = asyncio.create_task(self._run())
        try:
            await self.reaches("", self._wait_s)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self) -> None:
        try:
            async with contextlib.aclosing(self._changes(self._become)) as changes:
                async for change in changes:
                    self._copy.take(change)
                    self._become("live")
                    if self._on_change is not None and (change.raw or change.is_snapshot):
                        self._on_change(self)
        except BourneError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001  (raised where it is waited for)
            self._fault = error
        self._become("closed")

    def _become(self, state: ReplicaState) -> None:
        self.state = state
        happened, self._happened = self._happened, asyncio.Event()
        happened.set()
