"""A Redis of our own, on a free port, in a temporary folder: started, killed and started again by tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.ports import free_ports
from waiting import until


def find() -> str | None:
    """Return where the program is; None if it is not installed."""
    return shutil.which("redis-server")


def install() -> bool:
    """Install it, if this is Debian's kind of system and we are its root; say whether it is there now."""
    if find() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "redis-server"]):
            subprocess.run(
                ["apt-get", "-qq", *command], env=environment, stdout=subprocess.DEVNULL, check=False
            )
    return find() is not None


class RedisServer:
    """One server. What is written is synced before it is acknowledged (`appendfsync always`)."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start it."""
        program = find()
        assert program is not None
        [self.port] = free_ports(1)
        self.folder = folder
        self._command = [
            program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", "always", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until(self._answers, what="Redis")

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as its administrator would."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.kill()
        self.start()

    def client(self, **options: Any) -> Any:
        """Return a client; its answers are bytes."""
        import redis  # noqa: PLC0415  (an optional extra)

        return redis.Redis("127.0.0.1", **{"port": self.port, **options})

    def url(self, query: str, *, database: int = 0) -> str:
        """Return a sink's URL."""
        return f"redis://127.0.0.1:{self.port}/{database}?{query}"

    def log_files(self) -> list[Path]:
        """Return the files of what was written since the last rewrite, oldest first."""
        return sorted((self.folder / "appendonlydir").glob("*.incr.aof"))

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (
            self.folder / "redis.log"
        ).read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except OSError:
            return False

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for all tests, which tell their keys apart; who kills it starts it again."""
    if find() is None:
        reason = "redis-server is not installed (tests/servers/redis.py: install())"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()
