"""Resources that jobs share: a pool has so many slots, and a step holds one of each of its pools while it works.

Law: slots are taken in the order of the pools' names, whoever takes them; so nobody waits for somebody who waits for him. A
slot is a file lock: it is free when its holder is gone, however it went; and it counts for all processes on the data folder.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from bourne.errors import DefinitionError
from bourne.limits import POLL_INTERVAL_S
from bourne.log.at_work import take
from bourne.log.disk import disk_errors


class Pools:
    """The pools of an app, by name, with how many slots each has."""

    def __init__(self, folder: Path, sizes: Mapping[str, int]) -> None:
        self._folder = folder / "jobs" / "pools"
        self._sizes = sizes

    @contextmanager
    def taken(self, names: Sequence[str], stop: threading.Event) -> Iterator[None]:
        """Hold a slot of each pool for the block; waits for them, but not once `stop` is set.

        Raises:
            DefinitionError: there is no such pool.
        """
        held: list[int] = []
        try:
            for name in sorted(set(names)):
                descriptor = self._take(name, stop)
                if descriptor is not None:
                    held.append(descriptor)
            yield
        finally:
            for descriptor in held:
                os.close(descriptor)

    def _take(self, name: str, stop: threading.Event) -> int | None:
        if name not in self._sizes:
            raise DefinitionError(
                f"there is no pool {name!r}", expected=", ".join(self._sizes) or "app.pool(…)", found=name
            )
        with disk_errors(self._folder, f"cannot use pool {name!r}"):
            self._folder.mkdir(parents=True, exist_ok=True)
            while not stop.is_set():
                for number in range(self._sizes[name]):
                    descriptor = take(self._folder / f"{quote(name, safe='')}-{number}.lock")
                    if descriptor is not None:
                        return descriptor
                stop.wait(POLL_INTERVAL_S)
        return None
