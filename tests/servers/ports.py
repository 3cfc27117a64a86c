"""Ports for servers that are told theirs before they listen, and that come back to them after they were killed.

Law: no connection or listener that asks the system for any port gets one of these meanwhile: they are outside its range.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

_FIRST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Return ports of this machine on which nobody listens, each another one."""
    first, last = map(int, _RANGE.read_text().split()) if _RANGE.exists() else (32_768, 65_535)
    ports = [port for port in range(_FIRST, 65_536) if not first <= port <= last] or [*range(_FIRST, 65_536)]
    random.SystemRandom().shuffle(ports)
    found: list[int] = []
    with ExitStack() as held:
        for port in ports:
            with suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")
