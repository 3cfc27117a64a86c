"""What the server of a data folder has: its loop's watch over commits, feeds of views, queries, threads that read.

Law: reading is done by threads, waiting by the loop: who waits for a position holds no thread. When other versions of views
are served, whoever asks gets those from then on, and whoever follows a view gets a snapshot of its new version.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa

from bourne.connect.http_requests import Room
from bourne.errors import BourneError, Closed, UnknownName
from bourne.instance import Instance
from bourne.jobs.jobs import Scheduled
from bourne.limits import (
    SERVE_SUBSCRIBERS_MAX,
    SERVE_SUBSCRIBERS_OF_ONE,
    SERVE_WAITERS_MAX,
    SERVE_WORKERS,
)
from bourne.position import LogPosition, is_within
from bourne.problems import busy
from bourne.reading import Reading, Together, check_wait
from bourne.running import Progress
from bourne.serve.asked import Selected
from bourne.serve.commits import Commits
from bourne.serve.events import Event
from bourne.serve.feed import Feed
from bourne.serve.queries import QueryProcesses
from bourne.views.catalog import ViewInfo

_T = TypeVar("_T")

# How often it is looked whether other versions of views are served, in seconds.
_LOOK_S: Final = 0.2

# Names that are not asked for any more hold on to their last tables: so many at most.
_KEPT_MAX: Final = 64

# A table in more pieces than this is put together, if it is not large.
_PIECES_MAX: Final = 8
_WHOLE_BYTES_MAX: Final = 32 << 20


class Service:
    """Everything that requests use. Belongs to one event loop, in which it is made and closed."""

    def __init__(
        self, instance: Instance, *, file: Path | None = None, name: str | None = None,
        progress: Mapping[str, Progress] | None = None, jobs: Scheduled | None = None,
    ) -> None:  # fmt: skip
        """`file` declares the app, whose functions queries may call; `name` says which. `progress` is told of elsewhere.
        `jobs` begins runs; without it they can be looked at only."""
        self.jobs = jobs
        self.progress = {} if progress is None else progress
        self.instance = instance
        self.reading: Reading = instance.reading
        self.pool = ThreadPoolExecutor(SERVE_WORKERS, thread_name_prefix="bourne-serve")
        self.commits = Commits(self.reading.all_folders())
        self.queries = QueryProcesses(instance.folder, file, name)
        self.room = Room()  # of bodies with records
        self._feeds: dict[bytes, Feed] = {}
        self._subscribers = Counter[str]()
        self._waiting = 0
        self._latest: dict[tuple[str, ...], tuple[int, Together]] = {}
        self._is_ending = False
        self._served = {view.id for view in self.reading.views().values()}
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """See to it that a switch to other versions is noticed, whichever process made it."""
        while not self._is_ending:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(BourneError):  # said to who asks
                await self._follow_served()

    async def _follow_served(self) -> None:
        """Let go of versions that are not served any more; their subscribers come to those that are."""
        served = await self.work(self.reading.views)
        ids = {view.id for view in served.values()}
        if ids != self._served:
            self.commits.watch(await self.work(self.reading.all_folders))
            self._served = ids
            self._latest.clear()
        for id_ in [id_ for id_ in self._feeds if id_ not in ids]:
            await self._feeds.pop(id_).close()

    # --- reading -----------------------------------------------------------------------------------------------

    async def work(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Let a thread do it."""
        call = functools.partial(function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self.pool, call)

    async def together(self, names: list[str], wanted: LogPosition, wait_s: float) -> Together:
        """Return the rows of logs and views at one position that has the `wanted` records.

        Raises:
            Behind: not within that time.
            Refused: too many wait.
        """
        check_wait(wait_s)
        if (kept := self._kept(names, wanted)) is not None:
            return kept
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        is_waiting = False
        try:
            while True:
                count = self.commits.count
                found = await self.work(self.reading.together, names, wanted)
                left_s = until - loop.time()
                if found is not None:
                    found = replace(
                        found, tables={name: _whole(table) for name, table in found.tables.items()}
                    )
                    self._latest[tuple(names)] = count, found
                    return found
                if left_s <= 0:
                    raise await self.work(self.reading.behind, names, wanted)
                if not is_waiting:
                    if self._waiting >= SERVE_WAITERS_MAX:
                        raise busy(f"at most {SERVE_WAITERS_MAX} requests that wait for a position")
                    is_waiting = True
                    self._waiting += 1
                await self.commits.after(count, min(left_s, 1.0))
        finally:
            self._waiting -= is_waiting

    def _kept(self, names: list[str], wanted: LogPosition) -> Together | None:
        """Return what was read last, if nothing was committed since then. Only one reading of each is kept."""
        count, found = self._latest.get(tuple(names), (-1, None))
        is_old = count != self.commits.count or len(self._latest) > _KEPT_MAX
        if found is None or is_old or not self.reading.are_served(names, found.views):
            self._latest.clear() if len(self._latest) > _KEPT_MAX else self._latest.pop(tuple(names), None)
            return None
        position = {**found.position, **found.ends}
        return found if is_within(wanted, position) else None

    def view(self, name: str) -> ViewInfo:
        """Return a view.

        Raises:
            UnknownName: there is none of that name.
        """
        views = self.reading.views()
        if name not in views:
            raise UnknownName(
                f"there is no view {name!r}", expected=", ".join(sorted(views)) or "none", found=name,
                hint="GET /views says which there are",
            )  # fmt: skip
        return views[name]

    # --- following -----------------------------------------------------------------------------------------------

    @property
    def subscribers(self) -> int:
        """How many follow views."""
        return self._subscribers.total()

    def follow(
        self, view: ViewInfo, selected: Selected, select: Callable[[ViewInfo], Selected], who: str, *, after: str | None,
        is_whole: bool,
    ) -> AsyncGenerator[Sequence[Event], None]:  # fmt: skip
        """Return what becomes of some rows of a view; see `Feed.follow`. `select` says which they are of another version.

        Raises:
            Closed: the server ends.
            Refused: too many follow. It may also come to that later, before the first event.
        """
        if self._is_ending:
            raise Closed("the server ends", hint="come again")
        self._check_subscribers(who)
        return self._follow(view, selected, select, who, after, is_whole)

    async def _follow(
        self, view: ViewInfo, selected: Selected, select: Callable[[ViewInfo], Selected], who: str, after: str | None,
        is_whole: bool,
    ) -> AsyncGenerator[Sequence[Event], None]:  # fmt: skip
        """Follow the version of a view that is served, and then each one that takes its place."""
        with self._subscriber(who):
            while True:
                follower = self._feed(view).follow(selected, after, is_whole=is_whole, place=nullcontext())
                async with contextlib.aclosing(follower) as events:
                    async for some in events:
                        yield some
                if self._is_ending:
                    return
                served = await self.work(self.view, view.name)
                if served.id == view.id:
                    return  # its feed has ended
                view, after, is_whole = served, None, True
                selected = await self.work(select, view)

    @contextmanager
    def _subscriber(self, who: str) -> Iterator[None]:
        self._check_subscribers(who)
        self._subscribers[who] += 1
        try:
            yield
        finally:
            self._subscribers[who] -= 1
            if not self._subscribers[who]:
                del self._subscribers[who]

    def _check_subscribers(self, who: str) -> None:
        if self.subscribers >= SERVE_SUBSCRIBERS_MAX or self._subscribers[who] >= SERVE_SUBSCRIBERS_OF_ONE:
            raise busy(
                f"at most {SERVE_SUBSCRIBERS_MAX:,} subscriptions, {SERVE_SUBSCRIBERS_OF_ONE:,} of one client"
            )

    def _feed(self, view: ViewInfo) -> Feed:
        feed = self._feeds.get(view.id)
        if feed is None or feed.has_failed:
            feed = self._feeds[view.id] = Feed(view, self.reading, self.commits, self.pool)
        return feed

    async def end_streams(self) -> None:
        """Let all who follow go, and take in no more. Safe to call twice."""
        self._is_ending = True
        self._looking.cancel()
        for feed in list(self._feeds.values()):
            await feed.close()

    async def close(self) -> None:
        """Let all go. Safe to call twice."""
        await self.end_streams()
        await self.queries.close()
        self.commits.close()
        self.pool.shutdown(wait=True)


def _whole(table: pa.Table) -> pa.Table:
    """Return a table that is not in very many pieces: looking into each costs more than to put them together once."""
    is_torn = table.num_columns and table.column(0).num_chunks > _PIECES_MAX
    return table.combine_chunks() if is_torn and table.nbytes <= _WHOLE_BYTES_MAX else table
