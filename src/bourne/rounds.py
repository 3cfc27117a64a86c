"""Rounds of steps: each view once, side by side, those that others read before those.

Law: views that read each other take in the same records of the logs in each round, in one commit each: so each of their
commits is one state of the world. A view that fails stands still, with those that read it; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from bourne.engine.runner import Positions, ViewRunner
from bourne.errors import BourneError
from bourne.limits import EPOCH_ROWS_MAX, EPOCH_ROWS_MIN
from bourne.views.catalog import ViewInfo
from bourne.views.families import families, levels, reads


class Rounds:
    """Steps all views once, those that others read before those. `failures` are what made views stand still, by their keys."""

    def __init__(
        self,
        views: Mapping[str, ViewInfo],
        runners: Mapping[str, ViewRunner],
        refused: Mapping[str, BourneError],
    ) -> None:
        self._views = views
        self._runners = runners
        self.names = {view.name for view in views.values()}
        self._below = reads(views)
        self._levels = levels(views)
        self._families = families(views)
        self._epoch_rows = dict.fromkeys(range(len(self._families)), EPOCH_ROWS_MIN)
        self.failures = dict(refused)
        # How far some views may go, in some of their logs.
        self.bounds: dict[str, Positions] = {}

    def step(
        self, pool: ThreadPoolExecutor, until: Positions | None, *, is_end: bool = False
    ) -> dict[str, int]:
        """Return how many records each view took in, of those of the logs up to `until`; `is_end`: nothing follows.

        Without `until`, it is where each log ends now: so views of one log come to one position, unless they lag behind.
        """
        until = self.ends() if until is None else until
        targets: dict[str, Positions] = {}
        for number, family in enumerate(self._families):
            names = [name for name in family if name not in self.failures]
            if len(family) > 1 and names:
                target = self._target(number, names, self._bounded(names, until), is_end=is_end)
                targets |= dict.fromkeys(names, target)
        taken: dict[str, int] = {}
        for level in self._levels:
            names = [name for name in level if not self.stands_still(name)]
            outcomes = pool.map(lambda name: self._step(name, targets.get(name), until, is_end=is_end), names)
            for name, outcome in zip(names, outcomes, strict=True):
                if isinstance(outcome, BourneError):
                    self.failures[name] = outcome
                else:
                    taken[name] = outcome
        return taken

    def ends(self) -> Positions:
        """Return where each log ends."""
        found: Positions = {}
        for name, runner in self._runners.items():
            if name not in self.failures:
                found = runner.ends() | found
        return {log: end for log, end in found.items() if log not in self.names}

    def furthest(self) -> Positions:
        """Return, of each log, how far the view has come that is ahead of all others."""
        found: Positions = {}
        for key, runner in self._runners.items():
            for log, at in runner.positions.items() if key not in self.failures else ():
                if log not in self.names:
                    found[log] = tuple(map(max, found[log], at)) if log in found else at
        return found

    def settle(self) -> None:
        """Wait until what the views took in is durable."""
        for name, runner in self._runners.items():
            try:
                runner.settle()
            except BourneError as error:
                self.failures.setdefault(name, error)

    def raise_first(self, matters: Callable[[str], bool]) -> None:
        """Raise the first failure of a view that matters, if there is one, with a note of the others."""
        found = [(self._views[key].name, failure) for key, failure in self.failures.items() if matters(key)]
        for name, other in found[1:]:
            found[0][1].add_note(f"view {name!r} stands still, too: {other.what}")
        if found:
            raise found[0][1]

    def stands_still(self, key: str) -> bool:
        """Say whether a view, or one that it reads, has failed."""
        return key in self.failures or any(self.stands_still(each) for each in self._below[key])

    def _step(
        self, name: str, target: Positions | None, until: Positions, *, is_end: bool
    ) -> int | BourneError:
        runner = self._runners[name]
        try:
            ends = runner.ends()
            if target is None:
                until = self._bounded([name], until)
                bounds = {log: until[log] for log in ends}
                return runner.step(until=bounds, is_end=is_end, may_run_ahead=True)
            reached = {log: target.get(log, end) for log, end in ends.items()}
            # In one commit: one state of the world.
            return runner.step(until=reached, is_whole=True, is_end=is_end)
        except BourneError as error:
            return error

    def _bounded(self, keys: Iterable[str], until: Positions) -> Positions:
        """Return how far some views may go together."""
        for key in keys:
            for log, bound in self.bounds.get(key, {}).items():
                until = {**until, log: tuple(map(min, until[log], bound))}
        return until

    @staticmethod
    def _within_causes(target: Positions, runners: Iterable[ViewRunner]) -> Positions:
        """Return a target that all views can reach together: none before what its author had seen."""
        before = None
        while target != before:
            before = target
            for runner in runners:
                own = {log: target[log] for log in runner.ends() if log in target}
                target = {**target, **runner.within_causes(own)}
        return target

    def _target(self, number: int, names: Sequence[str], until: Positions, *, is_end: bool) -> Positions:
        """Return the position in each log that all views of a family are to reach in this round.

        It is one epoch after the furthest of them: after a crash some are further than others.
        """
        runners = [self._runners[name] for name in names]
        reached: dict[str, list[tuple[int, ...]]] = {}
        ends: Positions = {}
        for runner in runners:
            for log, at in runner.positions.items():
                if log not in self.names:
                    reached.setdefault(log, []).append(at)
                    ends[log] = until[log]
        furthest = {
            log: tuple(map(max, *found)) if len(found) > 1 else found[0] for log, found in reached.items()
        }
        tables = {each.name for name in names for each in self._views[name].inputs if each.table is not None}
        share = max(1, self._epoch_rows[number] // max(1, sum(len(end) for end in ends.values())))
        target: Positions = {}
        for log, last in ends.items():
            parts = [max(at, min(at + share, end)) for at, end in zip(furthest[log], last, strict=True)]
            target[log] = last if log in tables else tuple(parts)  # a version of a table is never split
        target = target if is_end else self._within_causes(target, runners)
        is_full = any(
            to - at == share for log in target for to, at in zip(target[log], furthest[log], strict=True)
        )
        self._epoch_rows[number] = (
            min(2 * self._epoch_rows[number], EPOCH_ROWS_MAX) if is_full else EPOCH_ROWS_MIN
        )
        return target
