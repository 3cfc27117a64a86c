"""Whether a view has taken in all that its logs held at some moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bourne.log.catalog import LogInfo
from bourne.log.reader import LogReader
from bourne.views.catalog import ViewInfo
from bourne.views.status import output_ends


class Reach:
    """Of one view, for the moment when this was made. Once reached, it stays so."""

    def __init__(
        self, view: ViewInfo, views: Mapping[str, ViewInfo], ends: Callable[[LogInfo], Sequence[int]]
    ) -> None:
        """`views` are all that it may read, `ends` says where a log ends now."""
        self._view = view
        below = [each.name for each in view.inputs if each.name in views]
        self._below = {name: Reach(views[name], views, ends) for name in below}
        self._views = views
        self._ends = {each.name: ends(each) for each in view.inputs if each.name not in views}

    def is_reached(self) -> bool:
        """Say whether it is, as committed. First the views that it reads have to, then it what they made of it."""
        for name, reach in list(self._below.items()):
            if not reach.is_reached():
                return False
            self._ends[name] = output_ends(self._views[name])
            self._below.pop(name, None)  # asked by several threads
        reader = LogReader(self._view.folder, self._view.output)
        try:
            last = reader.last_frame()
        finally:
            reader.close()
        reached: Mapping[str, Sequence[int]] = {} if last is None else last.meta["positions"]
        return all(
            at >= end
            for name, ends in self._ends.items()
            for at, end in zip(reached.get(name, [0] * len(ends)), ends, strict=True)
        )
