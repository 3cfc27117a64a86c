"""The subscribers of a view who asked for the same, and which of them a commit concerns.

Law: whom a commit does not concern it costs nothing. It concerns who selects one of its rows, and, by key, who holds a row
that it replaces. Who selects by a value is found by that value; who selects by a condition has to be asked, and so has who
holds more keys than are remembered.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bourne.errors import BourneError
from bourne.limits import FEED_BATCH_CHARS, FEED_BATCHES_MAX, FEED_KEYS_MAX
from bourne.serve.asked import Selected
from bourne.serve.delta import Delta
from bourne.serve.events import Event
from bourne.serve.selection import Change, together

_Entry = TypeVar("_Entry")


@dataclass(frozen=True, slots=True)
class Part:
    """What a commit means to a selection: the output's offset and the position after it, and the changes."""

    end: int
    position: str
    changes: list[Change]


@dataclass(eq=False)
class Channel:
    """The subscribers of one selection, and what the last commits mean to it."""

    selected: Selected
    first: int  # `recent` has all that came after it
    # The keys that are selected at the feed's end; None: it selects all, or there are no keys, or too many.
    held: set[int] | None
    recent: deque[Part] = field(default_factory=deque)
    events: dict[int, tuple[int, list[Event]]] = field(default_factory=dict)  # after an offset, and how far
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    subscribers: int = 0
    failure: BourneError | None = None
    is_asked: bool = False  # nothing says which commits concern it
    counted: int = 0  # of the keys held

    def keep(self, offset: int, end: int, events: list[Event]) -> None:
        """Keep what came after an offset for others who are as far: many that are small, or one."""
        is_large = sum(len(event.data) for event in events) > 2 * FEED_BATCH_CHARS
        if is_large or len(self.events) >= FEED_BATCHES_MAX:
            self.events.clear()
        self.events[offset] = end, events

    def skip(self, end: int) -> None:
        """Keep nothing up to an offset."""
        while self.recent and self.recent[0].end <= end:
            self.recent.popleft()
        self.first = max(self.first, end)

    def after(self, offset: int) -> tuple[Part | None, list[str]]:
        """Return what came after an offset, some of it at least, and the last part of that; None: it is all."""
        parts: list[Part] = []
        for part in reversed(self.recent):
            if part.end <= offset:
                break
            parts.append(part)
        taken: list[Part] = []
        size = 0
        while parts and size < FEED_BATCH_CHARS:
            taken.append(parts.pop())
            size += sum(len(text) for _, text in taken[-1].changes)
        return (taken[-1] if parts else None), together(part.changes for part in taken)

    def wake(self) -> None:
        """Let the subscribers look."""
        happened, self.happened = self.happened, asyncio.Event()
        happened.set()


class ChannelIndex:
    """Channels by what concerns them. From any thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._asked: dict[Channel, None] = {}
        self._by_value: dict[str, dict[str | None, dict[Channel, None]]] = {}
        self._by_key: dict[int, dict[Channel, None]] = {}
        self._keys = 0  # that are held by all

    def add(self, channel: Channel) -> None:
        """Take in a channel with what it holds."""
        with self._mutex:
            channel.is_asked = not channel.selected.filter
            self._add(channel)
            self._bound(channel)

    def remove(self, channel: Channel) -> None:
        """Forget a channel."""
        with self._mutex:
            self._remove(channel)

    def hold(self, channel: Channel, changes: Sequence[Change]) -> None:
        """Note what a channel holds after these changes."""
        if channel.held is None:
            return
        with self._mutex:
            if not channel.is_asked:
                for key, _ in changes:
                    if key is not None and key in channel.held:
                        self._by_key.setdefault(key, {})[channel] = None
                    elif key is not None:
                        _drop(self._by_key, key, channel)
            self._count(channel)
            self._bound(channel)

    def _add(self, channel: Channel) -> None:
        if channel.is_asked:
            self._asked[channel] = None
        else:
            (column, text), *_ = channel.selected.filter
            self._by_value.setdefault(column, {}).setdefault(text, {})[channel] = None
            for key in channel.held or ():
                self._by_key.setdefault(key, {})[channel] = None
        self._count(channel)

    def _remove(self, channel: Channel) -> None:
        self._asked.pop(channel, None)
        if not channel.is_asked:
            (column, text), *_ = channel.selected.filter
            _drop(self._by_value.get(column, {}), text, channel)
            for key in channel.held or ():
                _drop(self._by_key, key, channel)
        self._keys -= channel.counted

    def _count(self, channel: Channel) -> None:
        self._keys -= channel.counted
        channel.counted = len(channel.held or ())
        self._keys += channel.counted

    def _bound(self, channel: Channel) -> None:
        """Let a channel's keys go if all hold too many: it is told of every key then that it does not select."""
        if self._keys > FEED_KEYS_MAX and channel.held:
            self._remove(channel)
            channel.held, channel.is_asked, channel.counted = None, True, 0
            self._add(channel)

    def concerned(self, delta: Delta) -> list[Channel]:
        """Return the channels that a commit may concern, each once."""
        with self._mutex:
            found = dict(self._asked)
            for column, by_text in self._by_value.items():
                places = delta.places(column)
                few = places if len(places) < len(by_text) else by_text
                for text in few:
                    if text in places:
                        found.update(by_text.get(text, {}))
            if self._by_key and delta.keys is not None:
                for key in delta.key_rows:
                    found.update(self._by_key.get(key, {}))
            return list(found)


def _drop(index: dict[_Entry, dict[Channel, None]], entry: _Entry, channel: Channel) -> None:
    """Take a channel out of an entry, and the entry away with its last one."""
    channels = index.get(entry, {})
    channels.pop(channel, None)
    if not channels:
        index.pop(entry, None)
