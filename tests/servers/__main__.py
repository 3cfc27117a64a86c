"""Installs the servers that tests talk to, as far as this machine lets us, and says by name what is missing.

`python -m servers`, in `tests`. Tests of a server that is missing are skipped; in CI they fail.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from servers import chromium, kafka, postgres, redis


def main() -> None:
    """Install what is missing."""
    servers: list[tuple[str, Callable[[], object], Callable[[], object], str]] = [
        ("PostgreSQL", postgres.find, postgres.install, f"apt-get install {postgres.PACKAGE}"),
        ("Redis", redis.find, redis.install, "apt-get install redis-server"),
        ("Chromium", chromium.find, chromium.install, "apt-get install chromium"),
        ("Kafka", kafka.find, kafka.install, "install a JDK (17 or newer) and Maven"),
    ]
    for name, find, install, advice in servers:
        if find():
            continue
        print(f"{name} is not here yet: installing it for the tests", flush=True)
        try:
            reason = "" if install() else advice
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            reason = f"{error}; {advice}"
        if reason:
            print(f"{name} could not be installed, its tests are skipped: {reason}", flush=True)


if __name__ == "__main__":
    main()
