"""What becomes of one view, for any number of subscribers: a snapshot, then each commit.

Law: each id stands for one whole state of the view; who has it and applies what follows has the view. The log is the
buffer: a subscriber is no more than an offset in the view's output. What was committed of late is kept ready for all, as far
as it is small; who is further behind reads it from the log. So a slow subscriber costs nothing, and gets several commits at once.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import pyarrow as pa

from bourne.errors import BourneError, InputError
from bourne.limits import (
    FEED_ASKED_MAX,
    FEED_BYTES_MAX,
    FEED_CATCH_UP_BYTES,
    FEED_COMMITS_MAX,
    FEED_PACE_S,
    FEED_POSITION_S,
    FEED_SIGN_S,
    FEED_SNAPSHOT_BYTES,
    FEED_SNAPSHOTS_BYTES,
)
from bourne.log.reader import Frame, LogReader
from bourne.log.relation import KEY_COLUMN
from bourne.problems import busy
from bourne.reading import Reading
from bourne.serve.asked import Selected, select
from bourne.serve.channels import Channel, ChannelIndex, Part
from bourne.serve.commits import Commits
from bourne.serve.delta import Delta, delta_of
from bourne.serve.events import Event, change_events, position_event, snapshot_events
from bourne.serve.selection import changes, together
from bourne.views.catalog import ViewInfo

_ID: Final = re.compile(r"([0-9a-f]{12})-([0-9]{1,18})")

_T = TypeVar("_T")

# What commits mean to channels.
Found: TypeAlias = dict[Channel, list[Part]]

# What a change takes in memory beside its text.
_CHANGE_BYTES: Final = 128


@dataclass
class _Commit:
    """What is kept of a commit, and by whom: about how many bytes."""

    delta: Delta
    size: int
    channels: list[Channel] = field(default_factory=list)


class Feed:
    """Follows one version of a view from its first subscriber on. Belongs to one event loop."""

    def __init__(self, view: ViewInfo, reading: Reading, commits: Commits, pool: Executor) -> None:
        self.view = view
        self._info = view.output
        self._reading = reading
        self._commits = commits
        self._pool = pool
        self._reader: LogReader | None = None
        self._recent: deque[_Commit] = deque()  # what came after `_first`
        self._bytes = 0
        self._first = self._end = 0
        self._position = ""  # of the newest commit, with or without rows
        self._channels: dict[Selected, Channel] = {}
        self._index = ChannelIndex()
        self._snapshots: dict[Selected, tuple[int, list[Event]]] = {}  # the newest last
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()  # the channels, or what they have
        self._failure: BourneError | None = None
        self._is_closed = False

    @property
    def subscribers(self) -> int:
        """How many follow it."""
        return sum(channel.subscribers for channel in self._channels.values())

    @property
    def has_failed(self) -> bool:
        """Say whether it stands still."""
        return self._failure is not None

    # --- following -----------------------------------------------------------------------------------------

    async def follow(
        self, selected: Selected, after: str | None, *, is_whole: bool, place: AbstractContextManager[object]
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Yield what becomes of some rows, one or more events at a time: from an id on; else all, then what changes.

        Without `is_whole`, and without an id, only what changes from now on. It has its `place` as long as it lasts.

        Raises:
            BourneError: the log cannot be read, or the condition not be evaluated.
            Whatever `place` does.
        """
        with place:
            channel = await self._join(selected)
            try:
                offset = await self._offset(after)
                if offset is None and not is_whole and after is None:
                    offset = self._end
                if offset is None:
                    async for end, events in self._snapshot(selected):
                        offset = end
                        yield events
                assert offset is not None
                async for events in self._changes(channel, offset):
                    yield events
            finally:
                channel.subscribers -= 1

    async def _changes(self, channel: Channel, offset: int) -> AsyncGenerator[Sequence[Event], None]:
        loop = asyncio.get_running_loop()
        told_s, told = -1e9, ""  # when a position was told last, and which
        while not self._is_closed:
            happened = channel.happened
            if failure := channel.failure or self._failure:
                raise failure
            if offset < channel.first:
                offset, position, found = await self._catch_up(channel.selected, offset, channel.first)
                if found:
                    yield change_events(found, position, self._id(offset))
            elif (batch := self._events(channel, offset))[1]:
                offset = batch[0]
                if offset == self._end:
                    told, told_s = self._position, loop.time()
                yield batch[1]
            else:
                if offset <= self._end:  # else the snapshot was newer
                    offset = self._end
                    if told != self._position or loop.time() >= told_s + FEED_SIGN_S:
                        told, told_s = self._position, loop.time()
                        yield [position_event(told, self._id(offset))]
                        continue
                await happened.wait()

    def _events(self, channel: Channel, offset: int) -> tuple[int, list[Event]]:
        """Return what came after an offset as events, the same ones for all who are there, and how far they go."""
        if offset not in channel.events:
            last, found = channel.after(offset)
            end, position = (self._end, self._position) if last is None else (last.end, last.position)
            channel.keep(offset, end, change_events(found, position, self._id(end)) if found else [])
        return channel.events[offset]

    async def _snapshot(self, selected: Selected) -> AsyncIterator[tuple[int, Sequence[Event]]]:
        """Yield all rows, a part at a time, and the offset that they are of. A small one is kept for who comes next."""
        kept = self._snapshots.get(selected)
        if kept is not None and kept[0] >= self._first:
            yield kept
            return
        keys, table, end = await self._in_pool(self._select, selected)
        position = await self._in_pool(self._reading.position_text, self.view, end)
        parts = snapshot_events(self.view, selected, keys, table, position, self._id(end))
        events: list[Event] = []
        size = 0
        while (event := await self._in_pool(next, parts, None)) is not None:
            size += len(event.data)
            if size <= FEED_SNAPSHOT_BYTES:
                events.append(event)
            yield end, [event]
        if size <= FEED_SNAPSHOT_BYTES and selected in self._channels:
            self._snapshots.pop(selected, None)
            self._snapshots[selected] = end, events
            sizes = [sum(len(event.data) for event in kept) for _, kept in self._snapshots.values()]
            while sum(sizes) > FEED_SNAPSHOTS_BYTES:
                del self._snapshots[next(iter(self._snapshots))], sizes[0]

    # --- channels --------------------------------------------------------------------------------------------

    async def _join(self, selected: Selected) -> Channel:
        """Return the channel of a selection, making it if need be."""
        async with self._changing:
            if self._task is None:
                await self._in_pool(self._open)
                self._task = asyncio.create_task(self._run())
            self._sweep()
            channel = self._channels.get(selected)
            if channel is None:
                if selected.is_asked and sum(each.is_asked for each in self._channels) >= FEED_ASKED_MAX:
                    raise busy(f"at most {FEED_ASKED_MAX} different conditions on view {self.view.name!r}")
                first, held = self._end, None
                if self.view.changes == "upsert" and (selected.filter or selected.where is not None):
                    keys, _, first = await self._in_pool(self._select, selected)
                    held = set(keys or ())
                channel = self._channels[selected] = Channel(selected, first, held)
                self._index.add(channel)
            channel.subscribers += 1
            return channel

    def _sweep(self) -> None:
        """Forget the channels that nobody follows any more. Nothing else may be looking at them."""
        for selected, channel in [each for each in self._channels.items() if not each[1].subscribers]:
            del self._channels[selected]
            self._snapshots.pop(selected, None)
            self._index.remove(channel)

    def _find_changes(self, deltas: Sequence[Delta]) -> Found:
        """Return what commits mean to the channels that they concern, which know then what they hold. In the pool."""
        found: Found = {}
        for delta in deltas:
            concerned = [
                each
                for each in self._index.concerned(delta)
                if delta.end > each.first and each.failure is None
            ]
            with delta.asked({each.selected.where for each in concerned if each.selected.where is not None}):
                for channel in concerned:
                    try:
                        texts = changes(delta, channel.selected, channel.held)
                        self._index.hold(channel, texts)
                    except BourneError as error:
                        channel.failure, texts = error, []
                    if texts or channel.failure is not None:
                        found.setdefault(channel, []).append(Part(delta.end, delta.position, texts))
        return found

    # --- reading -----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._reader = LogReader(self.view.folder, self._info, is_durable=True)
        last = self._reader.last_frame()
        self._first = self._end = 0 if last is None else last.next_offset
        self._position = self._reading.position_text(self.view, self._end)

    async def _run(self) -> None:
        """Take in commits as they come, not more often than subscribers can be told."""
        loop = asyncio.get_running_loop()
        count, told_s = -1, loop.time()
        try:
            while not self._is_closed:
                count = await self._commits.after(count, FEED_POSITION_S)
                began_s = loop.time()
                if began_s >= told_s + FEED_POSITION_S:  # let all see whether there is a position to tell
                    told_s = began_s
                    for channel in self._channels.values():
                        channel.wake()
                async with self._changing:
                    self._sweep()
                    deltas, found = await self._in_pool(self._read)
                    self._take(deltas, found)
                pace_s = FEED_PACE_S * self.subscribers - (loop.time() - began_s)
                if deltas and pace_s > 0:
                    await asyncio.sleep(pace_s)
        except BourneError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001  (told to all who follow)
            self._failure = BourneError(f"view {self.view.name!r} cannot be followed", found=repr(error))
        if self._failure is not None and self._reader is not None:
            self._reader.close()  # the next subscriber gets a new feed
        for channel in self._channels.values():
            channel.wake()

    def _read(self) -> tuple[list[Delta], Found]:
        """Return the next commits, and what they mean to the channels. In the pool."""
        assert self._reader is not None
        deltas = self._deltas(self._reader.read(bytes_max=FEED_CATCH_UP_BYTES))
        self._reader.rest()
        return deltas, self._find_changes(deltas)

    def _deltas(self, frames: Sequence[Frame]) -> list[Delta]:
        found = []
        for frame in frames:
            inputs = {name: tuple(offsets) for name, offsets in frame.meta.get("positions", {}).items()}
            position = self._reading.position_text_of(self.view, inputs)
            found.append(delta_of(self._info, frame, position))
        return found

    def _take(self, deltas: Sequence[Delta], found: Found) -> None:
        """Make commits known, all at once."""
        if not deltas:
            return
        self._position, self._end = deltas[-1].position, deltas[-1].end
        commits = {delta.end: _Commit(delta, delta.size_bytes) for delta in deltas if delta.table.num_rows}
        for channel, parts in found.items():
            channel.events.clear()
            channel.recent.extend(parts)
            for part in parts:
                commits[part.end].channels.append(channel)
                commits[part.end].size += sum(_CHANGE_BYTES + len(text) for _, text in part.changes)
        self._recent.extend(commits.values())
        self._bytes += sum(commit.size for commit in commits.values())
        # The last one stays, however large: made for each subscriber alone it would be larger.
        while len(self._recent) > 1 and (
            self._bytes > FEED_BYTES_MAX or len(self._recent) > FEED_COMMITS_MAX
        ):
            gone = self._recent.popleft()
            self._bytes -= gone.size
            self._first = gone.delta.end
            for channel in gone.channels:
                channel.skip(self._first)
        for channel in found:
            channel.wake()

    # --- from further back -----------------------------------------------------------------------------------

    async def _offset(self, after: str | None) -> int | None:
        """Return the offset that an id stands for; None if what came after it is not to be had."""
        match = _ID.fullmatch(after or "")
        if match is None or match[1] != self.view.id.hex()[:12]:
            return None
        offset = int(match[2])
        return offset if await self._in_pool(self._can_read, offset) else None

    def _can_read(self, offset: int) -> bool:
        """Say whether a commit ended at an offset, and all that came after it is there."""
        reader = LogReader(self.view.folder, self._info)
        try:
            reader.seek(offset)
            return offset in (0, reader.end_offset()) or reader.is_at_frame()
        except InputError:
            return False
        finally:
            reader.close()

    async def _catch_up(self, selected: Selected, offset: int, until: int) -> tuple[int, str, list[str]]:
        """Return what commits after an offset mean to a selection, after the offset and the position to which that goes."""
        if self._first <= offset and until <= self._end:
            near, size = list[Delta](), 0
            for delta in (commit.delta for commit in self._recent):
                if offset < delta.end <= until and size <= FEED_CATCH_UP_BYTES:
                    near.append(delta)
                    size += delta.size_bytes
            end = near[-1].end if size > FEED_CATCH_UP_BYTES else until
            texts = await self._in_pool(_texts, near, selected)
            return end, near[-1].position if near else "", texts
        return await self._in_pool(self._read_from, selected, offset, until)

    def _read_from(self, selected: Selected, offset: int, until: int) -> tuple[int, str, list[str]]:
        reader = LogReader(self.view.folder, self._info, is_durable=True)
        try:
            reader.seek(offset)
            deltas: list[Delta] = []
            while not any(delta.table.num_rows for delta in deltas):
                frames = reader.read(until=until, bytes_max=FEED_CATCH_UP_BYTES)
                deltas += self._deltas(frames)
                if not frames:
                    return until, "", []
        finally:
            reader.close()
        return deltas[-1].end, deltas[-1].position, _texts(deltas, selected)

    def _select(self, selected: Selected) -> tuple[list[int] | None, pa.Table, int]:
        """Return the selected rows as they are now, with their keys, and the offset that they are of."""
        keys, table, end = self._reading.entries(self.view)
        if keys is not None:
            table = table.append_column(KEY_COLUMN.name, pa.array(keys))
        table = select(table, self.view.schema, selected)
        found = None if keys is None else table.column(KEY_COLUMN.name).to_pylist()
        return found, table.select(list(selected.columns or self.view.schema.names)), end

    # --- small things ------------------------------------------------------------------------------------------

    def _id(self, offset: int) -> str:
        """Return the id of the state at an offset of the output."""
        return f"{self.view.id.hex()[:12]}-{offset}"

    async def _in_pool(self, work: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, functools.partial(work, *arguments)
        )

    async def close(self) -> None:
        """Let subscribers go, and the files. Safe to call twice."""
        self._is_closed = True
        if self._task is not None:
            self._commits.tell()
            await self._task
            self._task = None
        for channel in self._channels.values():
            channel.wake()
        if self._reader is not None:
            self._reader.close()


def _texts(deltas: Sequence[Delta], selected: Selected) -> list[str]:
    return together([changes(delta, selected, None) for delta in deltas])
