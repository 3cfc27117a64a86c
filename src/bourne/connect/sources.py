"""The contract of a source, and which URL means which."""

from __future__ import annotations

import io
import sys
from typing import Any, Protocol
from urllib.parse import urlsplit

from bourne.connect.lines import StreamLines, TcpLines
from bourne.errors import DefinitionError
from bourne.log.catalog import LogInfo
from bourne.ports import Clock


class Source(Protocol):
    """Hands over records as they come. What it hands over is appended, durably, before it is asked again."""

    into: str

    @property
    def has_ended(self) -> bool:
        """Say whether nothing more can come."""
        ...

    def poll(self, log: LogInfo, clock: Clock) -> Any:
        """Return the records that have come, for `append`; None if there are none. Does not wait."""
        ...

    def close(self) -> None:
        """Stop. Safe to call twice."""
        ...


def open_source(url: str, log: LogInfo) -> Source:
    """Open the source that a URL names: `tcp://HOST:PORT` or `stdin:`.

    Raises:
        DefinitionError: no such kind of source, or the log cannot take its records.
        SourceFailed: the port cannot be listened on.
    """
    parts = urlsplit(url)
    if parts.scheme == "tcp" and parts.hostname:
        try:
            port = parts.port
        except ValueError:
            port = None
        if port is not None:
            return TcpLines(parts.hostname, port, log)
    elif parts.scheme == "stdin":
        return StreamLines(sys.stdin.buffer if sys.stdin is not None else io.BytesIO(), log)
    raise DefinitionError(
        f"{url!r} is not a source", where=f"log {log.name!r}", expected="tcp://HOST:PORT or stdin:", found=url
    )
