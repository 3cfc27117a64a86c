"""Replays and rollbacks from their beginning to their end, whoever runs the views.

Law: whoever holds the locks of the views builds their versions. If nobody does, this process takes the locks and does it; if
another one does, it takes the build up by itself, and this one looks on; if that one ends before, this one takes over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Final

from bourne.errors import BourneError, LogLocked, ViewFailed
from bourne.ports import Files
from bourne.running import Runners
from bourne.views.replaying import begin_replay, begin_rollback, family
from bourne.views.serving import Build, Outcome
from bourne.views.versions import Versions

# How often it looks how far a build is, in seconds, and how often whether it could be done here.
_LOOK_S: Final = 0.2
_TAKE_OVER_S: Final = 2.0

OnBuild = Callable[[Build, bool], None]


class Rebuilding:
    """Builds versions of views that are there. `is_running` says whether another thread runs them here."""

    def __init__(
        self, versions: Versions, runners: Runners, files: Files, is_running: Callable[[], bool]
    ) -> None:
        self._versions = versions
        self._runners = runners
        self._files = files
        self._is_running = is_running

    def replay(
        self, view: str, *, accepts: bool, on_progress: OnBuild | None = None, stop: Event | None = None
    ) -> Outcome | None:
        """Compute a view again from the log, compare, serve the new version if that is equal; None if stopped before.

        Raises: as `begin_replay`.
        """
        build = begin_replay(self._versions, view, accepts=accepts, files=self._files)
        return self._carry_out(build, view, on_progress, stop or Event())

    def rollback(
        self, view: str, *, as_it_is: bool, on_progress: OnBuild | None = None, stop: Event | None = None
    ) -> Outcome | None:
        """Serve the version before again, when it has caught up, or at once `as_it_is`; None if stopped before.

        Raises: as `begin_rollback`.
        """
        build = begin_rollback(self._versions, view, files=self._files, as_it_is=as_it_is)
        return self._carry_out(build, view, on_progress, stop or Event())

    def _carry_out(self, build: Build, view: str, on_progress: OnBuild | None, stop: Event) -> Outcome | None:
        """Do it, or see it done."""
        # All views, so that what is read together goes on to stand at one position; else those that it is connected with.
        names = [each.name for each in self._versions.catalog.views()], family(self._versions.catalog, view)
        try:
            while (outcome := self._outcome(build)) is None and not stop.is_set():
                is_here = not self._is_running() and any(
                    self._runs(build, some, on_progress, stop) for some in names
                )
                until = time.monotonic() + (0.0 if is_here else _TAKE_OVER_S)
                while time.monotonic() < until and self._outcome(build) is None and not stop.wait(_LOOK_S):
                    if on_progress is not None:
                        on_progress(build, False)
            return outcome
        finally:
            self._give_up(build)

    def _outcome(self, build: Build) -> Outcome | None:
        """Return how the build has ended, if it has."""
        serving = self._versions.catalog.serving()
        if serving.build(build.number) is not None:
            return None
        return serving.outcome(build.number) or Outcome(
            build.number, build.views, build.why, is_served=False, error="others ended after it"
        )

    def _runs(self, build: Build, names: list[str], on_progress: OnBuild | None, stop: Event) -> bool:
        """Run the views here until the build has ended; False if another process runs them.

        Raises:
            ViewFailed: it cannot come to an end.
        """
        is_over = Event()
        told_s = time.monotonic()

        def look() -> int:
            nonlocal told_s
            if stop.is_set() or self._outcome(build) is not None:
                is_over.set()
            elif on_progress is not None and time.monotonic() >= told_s + _LOOK_S:
                told_s = time.monotonic()
                on_progress(build, True)
            return 0

        with self._versions.only(names):
            failure = None
            try:
                self._runners.run(look, lambda: False, until_caught_up=True, on_progress=None, stop=is_over)
            except LogLocked:
                return False
            except BourneError as error:  # of other views, or else told below
                failure = error
            finally:
                self._runners.end()
        if self._outcome(build) is None and not stop.is_set():
            raise failure or ViewFailed(
                "the new versions do not come to where the served ones are", where=", ".join(build.views),
                hint="see whether one of the views that they read stands still: bourne status",
            )  # fmt: skip
        return True

    def _give_up(self, build: Build) -> None:
        """Note that nobody waits for it any more, if it has not ended."""
        with self._versions.catalog.alone():
            serving = self._versions.catalog.serving()
            if serving.build(build.number) is not None:
                self._versions.catalog.serve(serving.give_up([build.number], "it was stopped"), self._files)
