"""Queries of strangers, in a process of their own, which may die of them; see `query_worker`.

Law: a query is answered, or refused with a reason, within its time, and who asks much takes no places from who asks little:
each client has a part of them. If the process dies, or has no memory left, the queries
that were in it are asked again, one after another, each alone: the one whose fault it was is refused, the others are answered.
A process that had no memory for what fits alone is spent (allocators do not give all of it back): it gets no more queries.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from bourne.errors import BourneError, QueryError
from bourne.limits import (
    QUERIES_AT_ONCE,
    QUERIES_AT_ONCE_OF_ONE,
    QUERIES_WAIT_S,
    QUERIES_WAITING_MAX,
    QUERIES_WAITING_OF_ONE,
    QUERY_S,
)
from bourne.problems import Refused, busy
from bourne.serve.query_worker import LENGTHS

# How long after its time a query may take to end by itself, in seconds, before its process is ended.
_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: a status, the body's media type if it is a problem, the position, the body.

    `is_memory`: there was not enough memory, for it or for those beside it.
    """

    status: int
    media_type: str | None
    position: str | None
    body: bytes
    is_memory: bool = False


class _Died(Exception):
    """The process has ended before it answered."""


class _Process:
    """One process, and the queries in it."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._is_leaving = self._is_over = False
        self.has_begun = False  # it has loaded the app

    async def start(self) -> None:
        """Start it; queries may be sent at once."""
        ours, its = socket.socketpair()
        with its:
            command = [sys.executable, "-m", "bourne.serve.query_worker", str(its.fileno()), *self._arguments]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[its.fileno()]
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._listening = asyncio.create_task(self._listen(reader))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                length, size = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
                head = json.loads(await reader.readexactly(length))
                body = await reader.readexactly(size)
                self.has_begun = True
                asked = self._asked.pop(head.get("id", -1), None)
                if asked is not None and not asked.done():
                    asked.set_result(_answer(head, body))
                if self._is_leaving and not self._asked:
                    self.kill()
        self._is_over = True
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(_Died())
        self._asked.clear()
        self.kill()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    @property
    def is_alive(self) -> bool:
        """Say whether it takes queries."""
        return self._listening is not None and not self._is_over

    async def ask(self, question: dict[str, Any], time_s: float) -> Answer:
        """Return the answer. Who is cancelled cancels the query.

        Raises:
            TimeoutError: it takes longer; it is cancelled.
            _Died: the process has ended.
        """
        assert self._writer is not None
        if not self.is_alive:
            raise _Died
        number = next(self._numbers)
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        asked.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # it may interest nobody any more
        self._write({"id": number, **question})
        try:
            async with asyncio.timeout(time_s):
                return await asyncio.shield(asked)
        except (TimeoutError, asyncio.CancelledError):
            self._write({"cancel": number})
            asyncio.get_running_loop().call_later(_GRACE_S, self._end_if_asked, number)
            raise

    def _end_if_asked(self, number: int) -> None:
        """End the process if a query in it did not heed that it was cancelled."""
        if number in self._asked:
            self.kill()

    def _write(self, message: dict[str, Any]) -> None:
        if self._writer is not None and self.is_alive:
            head = json.dumps(message).encode()
            self._writer.write(LENGTHS.pack(len(head), 0) + head)

    def leave(self) -> None:
        """End it as soon as the queries in it are answered."""
        self._is_leaving = True
        if not self._asked:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    async def close(self) -> None:
        """End it, and wait for that."""
        self.kill()
        if self._writer is not None:
            self._writer.close()
        if self._listening is not None:
            await self._listening


def _answer(head: dict[str, Any], body: bytes) -> Answer:
    return Answer(head["status"], head.get("type"), head.get("position"), body, head.get("memory", False))


class _Client:
    """What one client has of the places: its own queries wait for each other first."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(QUERIES_AT_ONCE_OF_ONE)
        self.waiting = 0


class QueryProcesses:
    """Answers queries. Belongs to one event loop."""

    def __init__(self, folder: Path, file: Path | None, name: str | None) -> None:
        """`file` declares the app whose functions queries may call."""
        self._arguments = [str(folder), "" if file is None else str(file), name or ""]
        self._process: _Process | None = None
        self._leaving: _Process | None = None
        self._starting = asyncio.Lock()
        self._places = asyncio.Semaphore(QUERIES_AT_ONCE)
        self._alone = asyncio.Lock()
        self._waiting = 0
        self._preparing: asyncio.Task[_Process] | None = None
        self._clients: dict[str, _Client] = {}

    def prepare(self) -> None:
        """Start the process if it is not there, so that the first query need not wait for it. Does not wait."""
        if self._process is None and self._preparing is None:
            self._preparing = asyncio.create_task(self._living())

    async def ask(self, question: dict[str, Any], who: str = "") -> Answer:
        """Return the answer to a query of a client.

        Raises:
            Refused: too many wait, or wait too long, or it takes too long, or more memory than there is.
        """
        client = self._clients.setdefault(who, _Client())
        if self._waiting >= QUERIES_WAITING_MAX or client.waiting >= QUERIES_WAITING_OF_ONE:
            raise busy(f"at most {QUERIES_WAITING_MAX} queries, {QUERIES_WAITING_OF_ONE} of one client")
        self._waiting += 1
        client.waiting += 1
        try:
            async with contextlib.AsyncExitStack() as held:
                await _within_bounds(held, QUERIES_WAIT_S, client.places, self._places)
                return await self._ask(question)
        finally:
            self._waiting -= 1
            client.waiting -= 1
            if not client.waiting:
                self._clients.pop(who, None)

    async def _ask(self, question: dict[str, Any]) -> Answer:
        time_s = QUERY_S + question["wait"]
        shared: _Process | None = None
        try:
            with contextlib.suppress(_Died):
                shared = await self._living()
                answer = await shared.ask(question, time_s)
                if not answer.is_memory:
                    return answer
            async with contextlib.AsyncExitStack() as held:  # whose fault was it?
                await _within_bounds(held, QUERIES_WAIT_S + QUERY_S, self._alone)
                process = _Process(self._arguments)
                try:
                    await process.start()
                    answer = await process.ask(question, time_s)
                    if not answer.is_memory and shared is not None:
                        await self._replace(shared)
                    return answer
                except _Died as error:
                    if not process.has_begun:
                        raise BourneError(
                            "the process that answers queries cannot begin", found="it has ended",
                            hint="see what the server writes to standard error",
                        ) from error  # fmt: skip
                    raise
                finally:
                    await process.close()
        except _Died as error:
            hog = QueryError(
                "the query takes more memory than there is",
                hint="ask for less at once: fewer rows, shorter texts",
            )
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, hog) from error
        except TimeoutError as error:
            slow = QueryError(
                "the query takes too long", expected=f"at most {QUERY_S:g} s",
                hint="make a view of it: what it computes is kept then",
            )  # fmt: skip
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, slow) from error

    async def _living(self) -> _Process:
        async with self._starting:
            if self._process is None or not self._process.is_alive:
                if self._process is not None:
                    await self._process.close()
                self._process = _Process(self._arguments)
                await self._process.start()
            return self._process

    async def _replace(self, spent: _Process) -> None:
        """Send no more queries to a process; of those that have some yet, one is left time to answer them."""
        async with self._starting:
            if self._process is spent:
                if self._leaving is not None:
                    await self._leaving.close()
                self._leaving, self._process = spent, None
                spent.leave()

    async def close(self) -> None:
        """End the processes. Safe to call twice."""
        if self._preparing is not None:
            with contextlib.suppress(OSError):
                await self._preparing
        for process in (self._process, self._leaving):
            if process is not None:
                await process.close()
        self._process = self._leaving = None


async def _within_bounds(
    held: contextlib.AsyncExitStack, wait_s: float, *places: asyncio.Semaphore | asyncio.Lock
) -> None:
    """Take places, to be given back when `held` ends.

    Raises:
        Refused: not within the time that one waits for them.
    """
    try:
        async with asyncio.timeout(wait_s):
            for place in places:
                await held.enter_async_context(place)
    except TimeoutError as error:
        raise busy(f"a place within {wait_s:g} s") from error
