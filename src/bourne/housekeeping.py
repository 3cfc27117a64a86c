"""What the logs' retention says, done: segments deleted, compacted, made cold, but for what somebody may still need."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from bourne.limits import MAINTAIN_INTERVAL_S
from bourne.log.catalog import LogInfo, Retention
from bourne.log.embedded import EmbeddedLog
from bourne.log.retention import Maintained, Pin
from bourne.views.pins import view_pins
from bourne.views.status import LogStatus, log_status
from bourne.views.versions import Versions


class Housekeeping:
    """Keeps the logs of a data folder as small as they are to be."""

    def __init__(
        self, versions: Versions, log: Callable[[str], EmbeddedLog], release: Callable[[str], None]
    ) -> None:
        """`release` lets the views of a log that run here save their state, so that its older records may go."""
        self._versions = versions
        self._catalog = versions.catalog
        self._log = log
        self._release = release

    def maintain(self) -> list[Maintained]:
        """Do it; return what became of each partition of each log with a retention. Raises: as `Instance.maintain`."""
        result = []
        for info in self._catalog.logs():
            log = self._log(info.name)
            done = log.maintain(self._pins(info.name))
            if any(pin.holder.startswith("view ") for each in done for pin in each.held):
                self._release(info.name)
                again = log.maintain(self._pins(info.name))
                done = [before + after for before, after in zip(done, again, strict=True)]
            result += done
        return result

    @contextlib.contextmanager
    def now_and_then(self) -> Iterator[None]:
        """Maintain the logs while the block runs, on a thread; its failure is raised at the end."""
        if all(info.retention == Retention() for info in self._catalog.logs()):
            yield
            return
        is_over = threading.Event()
        failures: list[Exception] = []

        def work() -> None:
            while not failures and not is_over.wait(MAINTAIN_INTERVAL_S):
                try:
                    self.maintain()
                except Exception as error:  # noqa: BLE001  (raised at the end: a run does not stop for it)
                    failures.append(error)

        thread = threading.Thread(target=work, name="bourne-maintain", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
        for failure in failures:
            raise failure

    def status(self, info: LogInfo) -> LogStatus:
        """Return how much a log holds, and who keeps its retention from taking records."""
        log = self._log(info.name)
        is_kept_for_ever = log.info.retention == Retention()
        return log_status(log, [] if is_kept_for_ever else [*self._pins(info.name), *log.readers()])

    def _pins(self, log: str) -> list[Pin]:
        """Return which records of a log its views may have to read again."""
        building = (view for _, view in self._versions.building().values())
        views = [*self._versions.served().values(), *building]
        found = ((view, each) for view in views for each in view.inputs if each.name == log)
        return [pin for view, info in found for pin in view_pins(view, info)]
