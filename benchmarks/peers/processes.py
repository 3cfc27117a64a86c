"""Runs a peer as a process and watches its memory.

Memory is what the process and its children hold that is not pages of files (`RssAnon` of /proc), the highest that two
looks in a row saw, of 20 a second: a log that is read by memory map does not count, the JVM's heap does, and so does the
warming up before.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_LOOK_S: Final = 0.05

# More is not for one process of a run.
_BYTES_MAX: Final = int(0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


class PeerFailed(Exception):
    """A peer's process ended with an error; says which and shows the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class PeerTimes:
    """Seconds of one query in a peer: all of it; getting its rows alone; and its start, which does not count."""

    seconds: float
    rows_s: float
    start_s: float
    bytes_max: int

    @property
    def computing_s(self) -> float:
        """As if its rows had cost nothing; not a number if getting them alone took no less than all."""
        return self.seconds - self.rows_s if self.seconds > self.rows_s else math.nan


@dataclass(frozen=True, slots=True)
class Finished:
    """What a process answered (its last line, JSON), and the most memory that it held."""

    answer: dict[str, Any]
    bytes_max: int


def run(
    command: list[str],
    *,
    environment: dict[str, str],
    folder: Path,
    timeout_s: float,
    memory: int = _BYTES_MAX,
) -> Finished:
    """Run a command to its end, in that folder.

    Raises:
        PeerFailed: it exits with another code than 0, says nothing, or takes too long or too many bytes of memory (then
            it is killed).
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment, cwd=folder)
        bytes_max, bytes_before, looks = 0, 0, 0
        while process.poll() is None:
            bytes_now = anonymous_bytes(process.pid)
            # Seen twice: a process that forks has all its memory twice for a moment.
            bytes_max, bytes_before = max(bytes_max, min(bytes_before, bytes_now)), bytes_now
            looks += 1
            try:
                process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                if looks * _LOOK_S > timeout_s or bytes_max > memory:
                    end(process)
        out.seek(0)
        err.seek(0)
        said = out.read().decode(errors="replace")
        complained = err.read().decode(errors="replace")
    if process.returncode or not said.strip():
        raise PeerFailed(
            f"{' '.join(command[:4])} ended with {process.returncode}, expected 0 and an answer within "
            f"{timeout_s:.0f} s and {memory / 1e9:.1f} GB (it had {bytes_max / 1e9:.1f} GB)\n{said[-500:]}\n{complained[-4000:]}"
        )
    return Finished(json.loads(said.strip().splitlines()[-1]), bytes_max)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children."""
    children = children_of(process.pid)
    process.kill()
    for child in children:
        subprocess.run(["kill", "-KILL", str(child)], check=False)


def anonymous_bytes(pid: int) -> int:
    """Return what a process and its children hold in memory now, without pages of files."""
    total = 0
    for each in [pid, *children_of(pid)]:
        try:
            status = Path(f"/proc/{each}/status").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        total += sum(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:")
        )
    return total


def children_of(pid: int) -> list[int]:
    """Return the children of a process, and theirs."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in listing.read_text(encoding="utf-8").split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has just ended
        found += [each for child in children for each in (child, *children_of(child))]
    return found
