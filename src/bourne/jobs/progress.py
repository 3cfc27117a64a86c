"""What a target's position says of a chunk step: where reading goes on, and what came of it so far.

It is kept with the rows, in the same write, so that counts and rows never disagree. `run` is the fencing number of who
wrote it; `of` the run of the instance that it belongs to (its generation), for steps that go on from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from bourne.errors import SinkFailed


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a chunk step is, or a part of it. `at` is a position of `bourne.jobs.reader.pieces`.

    `rows` came out of the reader and `made` out of the processors, over all runs: the numbers by which dead letters are known.
    """

    run: int
    of: str
    at: Any = None
    chunks: int = 0
    read: int = 0
    filtered: int = 0
    written: int = 0
    skipped: int = 0
    done: bool = False
    rows: int = 0
    made: int = 0

    def after(
        self, at: Any, *, run: int, read: int, written: int, skipped: int, rows: int, made: int
    ) -> Progress:
        """Return where it is after one more chunk. What was read, not skipped, and not written was filtered; a processor
        may also make more rows of one, which counts as none filtered."""
        read, written, skipped = self.read + read, self.written + written, self.skipped + skipped
        return replace(
            self, run=run, at=at, chunks=self.chunks + 1, read=read, written=written, skipped=skipped,
            filtered=max(0, read - skipped - written),
            rows=self.rows + rows, made=self.made + made,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return it as a position."""
        return asdict(self)


def read_progress(position: Mapping[str, Any] | None, *, of: str, run: int, goes_on: bool) -> Progress:
    """Return what a target says; the beginning, if it holds nothing.

    `goes_on`: what another run of the job has done counts, and only what is new since is to be done.

    Raises:
        SinkFailed: it is no position of a job.
    """
    if position is None:
        return Progress(run, of)
    try:
        found = Progress(**position)
    except TypeError as error:
        raise SinkFailed("the target's position is not of a job", expected="what a job has written", found=str(position)[:200],
                         hint="let nobody else write it") from error  # fmt: skip
    if found.of != of and goes_on:
        return Progress(run, of, found.at, rows=found.rows, made=found.made)
    return found
