"""Where views stand in the logs, and where several of them stand together: a cut through logs and views.

Law: in a cut, each view stands at a frame that was made of exactly what its inputs have in the cut; so all that is read
at it is one state of the world. The newest such cut is found by going back: no view may be ahead of its inputs, no input
ahead of those who read it. Each step back is forced, so the first cut that holds is the newest.

Views step in rounds, up to where the logs ended when the round began, so they meet again and again. While some are
still behind (a new view, one that has failed), there may be no cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bourne.limits import CUT_FRAMES_MAX, CUT_READ_BYTES_MAX
from bourne.log.reader import LogReader
from bourne.position import LogPosition
from bourne.views.catalog import ViewInfo


@dataclass(frozen=True, slots=True)
class Cut:
    """Up to which offset each view's output counts, and what of the logs below them that reflects."""

    views: Mapping[str, int]
    logs: LogPosition


@dataclass(frozen=True, slots=True)
class _Place:
    """One frame of a view's output: the offset after it, and what its inputs had."""

    end: int
    inputs: LogPosition


class Trail:
    """The newest frames of a view's output. For one thread at a time."""

    def __init__(self, view: ViewInfo) -> None:
        self.view = view
        self._reader = LogReader(view.folder, view.output)
        nothing = {each.name: (0,) * each.partitions for each in view.inputs}
        self._places: deque[_Place] = deque([_Place(0, nothing)], maxlen=CUT_FRAMES_MAX)
        self._bytes = 0

    def refresh(self) -> list[_Place]:
        """Return the frames that are known, the newest last. O(new frames), or O(1) where they are very many."""
        size = self._reader.size_bytes()
        if size - self._bytes > CUT_READ_BYTES_MAX:
            frame = self._reader.last_frame()
            frames = [] if frame is None else [frame]
            self._places.clear()
        else:
            frames = self._reader.read()
        self._bytes = size
        self._reader.rest()
        for frame in frames:
            if "positions" in frame.meta:
                inputs = {name: tuple(offsets) for name, offsets in frame.meta["positions"].items()}
                self._places.append(_Place(frame.next_offset, inputs))
        return list(self._places)

    def close(self) -> None:
        """Let go of the files. Safe to call twice."""
        self._reader.close()


def newest_cut(
    names: Iterable[str],
    views: Mapping[str, ViewInfo],
    places: Mapping[str, list[_Place]],
    least: Mapping[str, int],
) -> Cut | None:
    """Return the newest cut through some views and all that they read; None if there is none (yet).

    Args:
        names: the views that are to be read together.
        views: all views, by name.
        places: the newest frames of these views and of the views below them.
        least: offsets that views are not to go back behind.
    """
    members = below(names, views)
    at = {name: len(places[name]) - 1 for name in members}
    logs: dict[str, tuple[int, ...]] = {}
    is_settled = False
    while not is_settled:
        is_settled = True
        for name in members:
            place = _place(places, at, name, least)
            if place is None:
                return None
            for source, offsets in place.inputs.items():
                behind: tuple[int, ...]
                if source in members:
                    has = _place(places, at, source, least)
                    if has is None:
                        return None
                    behind = (has.end,)
                else:
                    behind = logs.setdefault(source, offsets)
                if offsets == behind:
                    continue
                is_settled = False
                if any(mine > its for mine, its in zip(offsets, behind, strict=True)):
                    at[name] -= 1
                    break
                if source in members:
                    at[source] -= 1
                else:
                    logs[source] = offsets
    return Cut({name: places[name][at[name]].end for name in members}, logs)


def below(names: Iterable[str], views: Mapping[str, ViewInfo]) -> list[str]:
    """Return these views and all that they read, directly or not."""
    found: dict[str, None] = {}
    waiting = [name for name in names if name in views]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += [each.name for each in views[name].inputs if each.name in views]
    return list(found)


def _place(
    places: Mapping[str, list[_Place]], at: Mapping[str, int], name: str, least: Mapping[str, int]
) -> _Place | None:
    if at[name] < 0:
        return None
    place = places[name][at[name]]
    return place if place.end >= least.get(name, 0) else None
